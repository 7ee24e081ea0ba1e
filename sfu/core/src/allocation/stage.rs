//! Who counts as the speaker of a room when bandwidth is divided: the dominant speaker, but not every interjection.

use std::time::{Duration, Instant};

/// Somebody else has to be dominant for so long.
const TAKEOVER: Duration = Duration::from_secs(1);
/// And nobody takes over sooner than this after the last time: every change costs some of the others a layer.
const DWELL: Duration = Duration::from_secs(10);

/// See the module. `T` names a participant.
#[derive(Clone, Copy, Debug)]
pub struct Stage<T> {
    speaker: Option<T>,
    since: Option<Instant>,
    challenger: Option<(T, Instant)>,
}

impl<T> Default for Stage<T> {
    fn default() -> Self {
        Self { speaker: None, since: None, challenger: None }
    }
}

impl<T: Copy + PartialEq> Stage<T> {
    /// Who it is.
    #[must_use]
    pub fn speaker(&self) -> Option<T> {
        self.speaker
    }

    /// Who is dominant now; true if the speaker is another one than before.
    pub fn look(&mut self, dominant: Option<T>, now: Instant) -> bool {
        let Some(dominant) = dominant.filter(|&who| self.speaker != Some(who)) else {
            self.challenger = None;
            return false;
        };
        let since = match self.challenger {
            Some((who, since)) if who == dominant => since,
            _ => now,
        };
        self.challenger = Some((dominant, since));
        let has_stayed = now.saturating_duration_since(since) >= TAKEOVER;
        let may_change = self.since.is_none_or(|at| now.saturating_duration_since(at) >= DWELL);
        if has_stayed && may_change {
            *self = Self { speaker: Some(dominant), since: Some(now), challenger: None };
        }
        has_stayed && may_change
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_speaker_is_who_stays_dominant_and_changes_are_rare() {
        let (start, mut stage) = (Instant::now(), Stage::default());
        let mut changes = Vec::new();
        for tenth in 0..400_u32 {
            // A and B take turns of two seconds; C interjects.
            let dominant = if tenth % 40 < 3 {
                'C'
            } else if tenth % 40 < 20 {
                'A'
            } else {
                'B'
            };
            if stage.look(Some(dominant), start + Duration::from_millis(100) * tenth) {
                changes.push((tenth, stage.speaker()));
            }
        }
        assert_eq!(changes, [(13, Some('A')), (113, Some('B')), (213, Some('A')), (313, Some('B'))]);
    }

    #[test]
    fn silence_leaves_the_last_speaker() {
        let (start, mut stage) = (Instant::now(), Stage::default());
        stage.look(Some('A'), start);
        assert!(stage.look(Some('A'), start + TAKEOVER));
        assert!(!stage.look(None, start + DWELL * 2));
        assert_eq!(stage.speaker(), Some('A'));
    }
}
