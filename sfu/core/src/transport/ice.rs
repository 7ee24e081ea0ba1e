//! ICE-lite agent: answers connectivity checks and knows which paths the client may use.
//!
//! In: STUN datagrams with the [`Flow`] that they came by. Out: responses, and [`StunOutcome`] for the demultiplexer.
//! Invariants: a request changes nothing before its USERNAME, MESSAGE-INTEGRITY and FINGERPRINT are verified; the
//! selected path is a validated one; at most [`MAX_PATHS_PER_TRANSPORT`] paths are validated.
//! RFC 8445 section 2.5 (lite), section 7.3 (checks), section 9 (restart); RFC 7675 (consent). This side never sends a
//! check: the client's own checks, which have to be authentic, are its consent.
//!
//! The latest nomination wins, not the one with the best priority: a client that moves to another network nominates
//! its new path, whatever the old one's priority was.
//! Not here: which transport a request is for ([`super::username_ufrag`]).

use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use aws_lc_rs::hmac;
use rand::Rng;

use super::params::IceCredentials;
use super::stun::{self, BindingRequest, ClaimedRole};
use crate::error::Discard;
use crate::limits::{CONSENT_TIMEOUT, MAX_PATHS_PER_TRANSPORT};
use crate::net::{Flow, Outbox};

/// What a connectivity check changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StunOutcome {
    /// The flow is a validated path from here on and was not before.
    pub newly_valid: bool,
    /// The flow that lost its place to this one.
    pub evicted: Option<Flow>,
    /// The client nominated another path than the one that was in use.
    pub has_moved: bool,
    /// How long the client took to answer, if this side has asked.
    pub round_trip: Option<Duration>,
}

/// The lite side of one ICE session.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct IceAgent {
    /// First, because every packet that is sent needs it and nothing else.
    selected: Option<Flow>,
    prefix: String,
    current: Generation,
    /// Credentials from before a restart, accepted until the client nominates a path with the current ones.
    previous: Option<Generation>,
    paths: ArrayVec<Path, MAX_PATHS_PER_TRANSPORT>,
}

/// A path without a check for this long may be taken over by another client: a NAT gives its port to somebody else.
const HEARD_WITHIN: Duration = Duration::from_secs(8);

/// Credentials of both sides between two restarts.
#[derive(Debug, Clone)]
struct Generation {
    number: u32,
    local: IceCredentials,
    key: hmac::Key,
    /// Unknown until the client's description arrives; its checks may be faster.
    remote_ufrag: Option<String>,
}

#[derive(Debug, Clone, Copy)]
struct Path {
    flow: Flow,
    /// Of the latest authentic check.
    generation: u32,
    last_check: Instant,
}

impl IceAgent {
    /// Makes credentials whose fragment starts with `ufrag_prefix`. The randomness has to be cryptographic.
    pub(crate) fn new(ufrag_prefix: &str, rng: &mut impl Rng) -> Self {
        let current = Generation::new(0, ufrag_prefix, rng);
        Self { prefix: ufrag_prefix.to_owned(), current, previous: None, paths: ArrayVec::new(), selected: None }
    }

    /// What goes into our next description.
    pub(crate) fn local(&self) -> &IceCredentials {
        &self.current.local
    }

    /// Makes new credentials. Paths, the selected one too, stay until the client nominates one with them.
    pub(crate) fn restart(&mut self, rng: &mut impl Rng) {
        let next = Generation::new(self.current.number.wrapping_add(1), &self.prefix, rng);
        self.previous = Some(std::mem::replace(&mut self.current, next));
    }

    /// True if the client's fragment differs from the one it had in these credentials.
    pub(crate) fn is_restart(&self, remote_ufrag: &str) -> bool {
        self.current.remote_ufrag.as_deref().is_some_and(|known| known != remote_ufrag)
    }

    /// Takes the client's fragment from its description.
    pub(crate) fn set_remote(&mut self, remote_ufrag: &str) {
        if self.is_restart(remote_ufrag) {
            let next = Generation { number: self.current.number.wrapping_add(1), ..self.current.clone() };
            self.previous = Some(std::mem::replace(&mut self.current, next));
        }
        self.current.remote_ufrag = Some(remote_ufrag.to_owned());
    }

    /// Answers a connectivity check.
    ///
    /// # Errors
    /// The reason for dropping it unanswered and without any change.
    pub(crate) fn handle(&mut self, now: Instant, flow: Flow, datagram: &[u8], out: &mut Outbox) -> Result<StunOutcome, Discard> {
        let request = BindingRequest::parse(datagram)?;
        let generation = [Some(&self.current), self.previous.as_ref()]
            .into_iter()
            .flatten()
            .find(|generation| generation.is_meant_by(&request))
            .ok_or(Discard::StunUnknownUser)?;
        if !request.is_authentic(&generation.key) {
            return Err(Discard::StunIntegrity);
        }
        let number = generation.number;
        let start = out.arena().len();
        let mut outcome = StunOutcome::default();
        if request.role == ClaimedRole::Controlled {
            stun::write_role_conflict(out.arena(), &request.transaction, &generation.key);
        } else if !request.unknown.is_empty() {
            stun::write_unknown_attributes(out.arena(), &request.transaction, &request.unknown, &generation.key);
        } else {
            stun::write_success(out.arena(), &request.transaction, flow.remote, &generation.key);
            self.validate(now, flow, number, &mut outcome);
            if request.is_nomination {
                self.select(flow, number, &mut outcome);
            }
        }
        let length = out.arena().len() - start;
        out.close_train(flow, start, length);
        Ok(outcome)
    }

    /// The client has answered a check of ours on this path, by which its media comes: that is where it is.
    pub(crate) fn prove(&mut self, now: Instant, flow: Flow) -> StunOutcome {
        let mut outcome = StunOutcome::default();
        self.validate(now, flow, self.current.number, &mut outcome);
        outcome.has_moved = self.selected.is_some_and(|selected| selected != flow);
        self.selected = Some(flow);
        outcome
    }

    /// Drops paths without consent (RFC 7675 section 5.1). Returns one at a time, until there is none.
    pub(crate) fn expire(&mut self, now: Instant) -> Option<Flow> {
        let index = self.paths.iter().position(|path| now >= path.last_check + CONSENT_TIMEOUT)?;
        Some(self.remove(index))
    }

    /// Drops a path whose TCP connection has ended. False if it is none of ours.
    pub(crate) fn close(&mut self, flow: Flow) -> bool {
        let index = self.paths.iter().position(|path| path.flow == flow);
        index.map(|index| self.remove(index)).is_some()
    }

    /// When [`Self::expire`] has something to do.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.paths.iter().map(|path| path.last_check + CONSENT_TIMEOUT).min()
    }

    /// The path is validated.
    pub(crate) fn accepts_from(&self, flow: Flow) -> bool {
        self.paths.iter().any(|path| path.flow == flow)
    }

    /// An authentic check came by this path a moment ago. Clients check every 2.5 s or more often.
    pub(crate) fn is_heard_on(&self, flow: Flow, now: Instant) -> bool {
        let is_recent = |path: &Path| now.saturating_duration_since(path.last_check) < HEARD_WITHIN;
        self.paths.iter().any(|path| path.flow == flow && is_recent(path))
    }

    /// Where media goes.
    pub(crate) fn selected(&self) -> Option<Flow> {
        self.selected
    }

    /// Removes a path. Until the client nominates another one, media goes where it was heard last: it keeps that path because
    /// it can receive there.
    fn remove(&mut self, index: usize) -> Flow {
        let flow = self.paths.swap_remove(index).flow;
        if self.selected == Some(flow) {
            self.selected = self.paths.iter().max_by_key(|path| path.last_check).map(|path| path.flow);
        }
        flow
    }

    fn validate(&mut self, now: Instant, flow: Flow, generation: u32, outcome: &mut StunOutcome) {
        if let Some(path) = self.paths.iter_mut().find(|path| path.flow == flow) {
            path.last_check = now;
            path.generation = generation;
            return;
        }
        if self.paths.is_full() {
            let unused = self.paths.iter().enumerate().filter(|(_, path)| self.selected != Some(path.flow));
            if let Some((index, _)) = unused.min_by_key(|(_, path)| path.last_check) {
                outcome.evicted = Some(self.paths.swap_remove(index).flow);
            }
        }
        self.paths.push(Path { flow, generation, last_check: now });
        outcome.newly_valid = true;
    }

    fn select(&mut self, flow: Flow, generation: u32, outcome: &mut StunOutcome) {
        outcome.has_moved = self.selected.is_some_and(|selected| selected != flow);
        self.selected = Some(flow);
        if generation == self.current.number {
            self.previous = None;
        }
    }
}

impl Generation {
    fn new(number: u32, prefix: &str, rng: &mut impl Rng) -> Self {
        let mut random = [0_u8; UFRAG_RANDOM_CHARS + PWD_CHARS];
        rng.fill_bytes(&mut random);
        let text: String = random.iter().map(|byte| char::from(ICE_CHARS[usize::from(byte % 64)])).collect();
        let (ufrag, pwd) = text.split_at(UFRAG_RANDOM_CHARS);
        let local = IceCredentials { ufrag: format!("{prefix}{ufrag}"), pwd: pwd.to_owned() };
        Self { number, key: stun::key(&local.pwd), local, remote_ufrag: None }
    }

    fn is_meant_by(&self, request: &BindingRequest<'_>) -> bool {
        self.local.ufrag == request.local_ufrag && self.remote_ufrag.as_deref().is_none_or(|ufrag| ufrag == request.remote_ufrag)
    }
}

/// RFC 8839 section 5.4: `ice-char`.
const ICE_CHARS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// RFC 8445 section 5.3: at least 24 bits; these are 48, so that fragments don't collide on one shard either.
const UFRAG_RANDOM_CHARS: usize = 8;
/// RFC 8445 section 5.3: at least 128 bits; these are 144.
const PWD_CHARS: usize = 24;

#[cfg(test)]
mod tests {
    // Some instant has to be the start of virtual time.
    #![allow(clippy::unwrap_used, clippy::disallowed_methods)]

    use super::*;
    use crate::net::Protocol;
    use crate::transport::stun::testing::Check;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;
    use std::time::Duration;

    #[test]
    fn a_first_check_validates_and_a_nomination_selects() {
        let mut w = World::new();
        let outcome = w.check(1, |c| c).unwrap();
        assert_eq!(outcome, StunOutcome { newly_valid: true, ..StunOutcome::default() });
        assert!(w.agent.accepts_from(flow(1)) && w.agent.selected().is_none());
        let outcome = w.check(1, Check::nominating).unwrap();
        assert_eq!(outcome, StunOutcome::default());
        assert_eq!(w.agent.selected(), Some(flow(1)));
        assert!(!w.check(1, Check::nominating).unwrap().has_moved);
    }

    #[test]
    fn the_latest_nomination_wins_whatever_the_priority() {
        let mut w = World::new();
        w.check(1, |c| c.nominating().priority(u32::MAX)).unwrap();
        let outcome = w.check(2, |c| c.nominating().priority(1)).unwrap();
        assert!(outcome.has_moved);
        assert_eq!(w.agent.selected(), Some(flow(2)));
        assert!(w.agent.accepts_from(flow(1)));
    }

    #[test]
    fn forged_requests_change_nothing_and_get_no_answer() {
        let mut w = World::new();
        w.check(1, Check::nominating).unwrap();
        type Change = fn(Check) -> Check;
        let cases: [(Change, Discard); 7] = [
            (|c| c.pwd("wrong-password-wrong-password"), Discard::StunIntegrity),
            (|c| c.username("nobody:them"), Discard::StunUnknownUser),
            (|c| c.username("nocolon"), Discard::StunUnknownUser),
            (Check::without_username, Discard::StunUnknownUser),
            (Check::without_integrity, Discard::StunIntegrity),
            (Check::without_fingerprint, Discard::StunIntegrity),
            (|c| c.without_integrity().without_username().controlled(), Discard::StunIntegrity),
        ];
        for (change, reason) in cases {
            assert_eq!(w.check(2, |c| change(c.nominating())), Err(reason));
            assert!(w.out.trains().is_empty());
            assert!(!w.agent.accepts_from(flow(2)));
            assert_eq!(w.agent.selected(), Some(flow(1)));
        }
    }

    #[test]
    fn a_controlled_client_gets_487_and_no_path() {
        let mut w = World::new();
        let outcome = w.check(1, |c| c.controlled().nominating()).unwrap();
        assert_eq!(outcome, StunOutcome::default());
        assert!(!w.agent.accepts_from(flow(1)));
        assert_eq!(w.out.datagrams().count(), 1);
        assert!(w.out.datagrams().all(|(_, d)| d.windows(4).any(|w| w == [0, 0, 4, 87])));
    }

    #[test]
    fn an_attribute_that_must_be_understood_gets_420() {
        let mut w = World::new();
        assert_eq!(w.check(1, |c| c.attribute(0x7777, b"what")).unwrap(), StunOutcome::default());
        assert!(w.out.datagrams().all(|(_, d)| d.windows(4).any(|w| w == [0, 0, 4, 20])));
        assert!(w.check(1, |c| c.attribute(0xC057, b"cost")).unwrap().newly_valid);
    }

    #[test]
    fn the_least_recently_checked_path_makes_room_but_not_the_selected_one() {
        let mut w = World::new();
        w.check(0, Check::nominating).unwrap();
        for n in 1..MAX_PATHS_PER_TRANSPORT {
            w.now += Duration::from_secs(1);
            assert_eq!(w.check(n, |c| c).unwrap().evicted, None);
        }
        w.now += Duration::from_secs(1);
        w.check(1, |c| c).unwrap();
        w.now += Duration::from_secs(1);
        assert_eq!(w.check(100, |c| c).unwrap().evicted, Some(flow(2)));
        assert!(w.agent.accepts_from(flow(0)) && w.agent.accepts_from(flow(100)) && !w.agent.accepts_from(flow(2)));
    }

    #[test]
    fn rfc7675_5_1_consent_ends_30_seconds_after_the_last_check() {
        let mut w = World::new();
        w.check(1, Check::nominating).unwrap();
        w.now += Duration::from_secs(20);
        w.check(1, |c| c).unwrap();
        assert_eq!(w.agent.next_timeout(), Some(w.now + CONSENT_TIMEOUT));
        w.now += CONSENT_TIMEOUT - Duration::from_millis(1);
        assert_eq!(w.agent.expire(w.now), None);
        w.now += Duration::from_millis(1);
        assert_eq!(w.agent.expire(w.now), Some(flow(1)));
        assert_eq!((w.agent.expire(w.now), w.agent.selected(), w.agent.next_timeout()), (None, None, None));
        w.check(1, Check::nominating).unwrap();
        assert_eq!(w.agent.selected(), Some(flow(1)));
    }

    #[test]
    fn a_lost_path_hands_over_to_the_one_that_was_heard_last() {
        let mut w = World::new();
        w.check(1, Check::nominating).unwrap();
        for n in [2, 3] {
            w.now += Duration::from_secs(1);
            w.check(n, |c| c).unwrap();
        }
        assert!(!w.agent.close(flow(4)) && w.agent.close(flow(2)));
        assert_eq!(w.agent.selected(), Some(flow(1)), "another path than the selected one is gone");
        w.now += Duration::from_secs(1);
        w.check(2, |c| c).unwrap();
        assert!(w.agent.close(flow(1)) && !w.agent.close(flow(1)));
        assert_eq!((w.agent.selected(), w.agent.accepts_from(flow(1))), (Some(flow(2)), false));
        assert!(w.check(3, Check::nominating).unwrap().has_moved);
        w.now += CONSENT_TIMEOUT - Duration::from_secs(1);
        w.check(2, |c| c).unwrap();
        w.now += Duration::from_secs(1);
        assert_eq!((w.agent.expire(w.now), w.agent.selected()), (Some(flow(3)), Some(flow(2))));
        assert!(w.agent.close(flow(2)) && w.agent.selected().is_none());
    }

    #[test]
    fn after_a_restart_the_old_path_stays_until_the_new_credentials_nominate() {
        let mut w = World::new();
        w.agent.set_remote("them");
        w.check(1, Check::nominating).unwrap();
        let old = w.agent.local().clone();
        w.agent.restart(&mut w.rng);
        let new = w.agent.local().clone();
        assert!(new.ufrag.starts_with("s0") && new.ufrag != old.ufrag && new.pwd != old.pwd);
        let with = |creds: &IceCredentials, remote: &str| {
            let (name, pwd) = (format!("{}:{remote}", creds.ufrag), creds.pwd.clone());
            move |c: Check| c.username(&name).pwd(&pwd)
        };
        w.check(1, with(&old, "them")).unwrap();
        w.check(2, with(&new, "them2")).unwrap();
        assert_eq!(w.agent.selected(), Some(flow(1)));
        w.agent.set_remote("them2");
        assert_eq!(w.check(2, with(&new, "them")), Err(Discard::StunUnknownUser));
        assert!(w.check(2, |c| with(&new, "them2")(c).nominating()).unwrap().has_moved);
        assert_eq!(w.check(1, with(&old, "them")), Err(Discard::StunUnknownUser));
        assert!(w.agent.accepts_from(flow(1)), "packets in flight on the old path still count");
    }

    #[test]
    fn a_changed_remote_fragment_is_a_restart() {
        let mut w = World::new();
        assert!(!w.agent.is_restart("them"));
        w.agent.set_remote("them");
        assert!(w.agent.is_restart("them2") && !w.agent.is_restart("them"));
        w.agent.set_remote("them2");
        w.check(1, |c| c).unwrap();
        let name = format!("{}:them2", w.agent.local().ufrag);
        w.check(1, |c| c.username(&name).nominating()).unwrap();
        assert_eq!(w.check(1, |c| c), Err(Discard::StunUnknownUser));
    }

    #[test]
    fn the_answer_goes_back_on_the_flow_and_names_its_address() {
        let mut w = World::new();
        w.check(3, |c| c).unwrap();
        let (to, datagram) = w.out.datagrams().next().unwrap();
        assert_eq!(to, flow(3));
        assert_eq!(datagram[..2], [1, 1]);
    }

    proptest! {
        #[test]
        fn arbitrary_datagrams_change_nothing(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut w = World::new();
            prop_assert!(w.agent.handle(w.now, flow(1), &bytes, &mut w.out).is_err());
            prop_assert!(!w.agent.accepts_from(flow(1)) && w.out.trains().is_empty());
        }
    }

    struct World {
        now: Instant,
        rng: StdRng,
        agent: IceAgent,
        out: Outbox,
    }

    impl World {
        fn new() -> Self {
            let mut rng = StdRng::seed_from_u64(1);
            let agent = IceAgent::new("s0", &mut rng);
            Self { now: Instant::now(), rng, agent, out: Outbox::default() }
        }

        fn check(&mut self, from: usize, change: impl FnOnce(Check) -> Check) -> Result<StunOutcome, Discard> {
            let local = self.agent.local();
            let check = change(Check::new(&format!("{}:them", local.ufrag), &local.pwd));
            self.out.clear();
            self.agent.handle(self.now, flow(from), &check.encode(), &mut self.out)
        }
    }

    fn flow(n: usize) -> Flow {
        let port = 1000 + u16::try_from(n).unwrap();
        Flow { protocol: Protocol::Udp, local: ([127, 0, 0, 1], 7882).into(), remote: ([192, 0, 2, 1], port).into() }
    }
}
