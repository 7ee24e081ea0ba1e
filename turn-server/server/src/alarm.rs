//! Who is to know when the server's thread ends though nobody told it to: by a panic, or because the system gives it no more events.
//!
//! A process whose relay is gone looks well, and clients that need it connect to nothing. So whoever embeds it is told, and ends as a whole.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

type Tell = Box<dyn FnOnce() + Send>;

/// See the module. Clones are of the same one.
#[derive(Clone, Default)]
pub(crate) struct Alarm(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    is_raised: bool,
    tell: Vec<Tell>,
}

/// Raises the alarm when it is dropped, by a panic as well.
pub(crate) struct Guard(Option<Alarm>);

impl Alarm {
    /// For the thread.
    pub(crate) fn guard(&self) -> Guard {
        Guard(Some(self.clone()))
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.state().is_raised
    }

    /// At once, if it was raised before.
    pub(crate) fn when_raised(&self, tell: Tell) {
        let mut state = self.state();
        if state.is_raised {
            drop(state);
            tell();
        } else {
            state.tell.push(tell);
        }
    }

    fn raise(&self) {
        tracing::error!("the TURN server has failed: nothing is relayed any more");
        let mut state = self.state();
        state.is_raised = true;
        let told = std::mem::take(&mut state.tell);
        drop(state);
        told.into_iter().for_each(|tell| tell());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Guard {
    /// The thread ends as it was told to.
    pub(crate) fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(alarm) = &self.0 {
            alarm.raise();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn a_thread_that_panics_is_told_of_once_to_everybody_who_asked_before_and_after() {
        let (alarm, (told, heard)) = (Alarm::default(), channel());
        let tell = |who: u8| {
            let told = told.clone();
            Box::new(move || told.send(who).expect("somebody listens"))
        };
        alarm.when_raised(tell(1));
        let guard = alarm.guard();
        let thread = std::thread::spawn(move || {
            let _guard = guard;
            panic!("a relay of this test panics");
        });
        assert!(thread.join().is_err() && alarm.has_failed());
        alarm.when_raised(tell(2));
        drop(told);
        assert_eq!(heard.iter().collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn a_thread_that_ends_as_it_was_told_to_raises_none() {
        let alarm = Alarm::default();
        alarm.when_raised(Box::new(|| panic!("nothing has failed")));
        alarm.guard().disarm();
        assert!(!alarm.has_failed());
    }
}
