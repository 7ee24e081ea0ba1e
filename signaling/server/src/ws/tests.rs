//! The loop with clients that are the other ends of their queues.
#![allow(clippy::unwrap_used)]

use std::net::IpAddr;

use livekit_protocol::signal_response::Message;
use rand::SeedableRng as _;
use tokio::time::timeout;

use super::outbox::{Outgoing, Queue};
use super::*;
use crate::config::ServerLimits;
use crate::holdings::{Held, Holdings};

/// Of metadata: two of a room are a large message.
const METADATA_BYTES: usize = 60_000;

struct World {
    signaling: SignalingLoop,
    limits: ServerLimits,
    registry: prometheus::Registry,
    came: u64,
}

impl World {
    fn new(all_large_messages_bytes: usize) -> Self {
        let limits = ServerLimits { all_large_messages_bytes, ..ServerLimits::default() };
        let registry = prometheus::Registry::new();
        let metrics = Metrics::register(&registry).unwrap();
        let (_, events) = mpsc::channel(1);
        let shared = Shared {
            metrics: metrics.clone(),
            heartbeat: Heartbeat::new(),
            timelines: Arc::new(Mutex::new(Timelines::new(0))),
            drain: watch::channel(DrainStatus::default()).0,
            traces: None,
            failed: Arc::default(),
            large_messages: Holdings::new(&limits, &metrics).messages,
        };
        let (signaling, keys) = (Signaling::new(signaling_core::SignalingConfig::default()), ApiKeys::single("devkey", "secret"));
        let media = MediaLink::new(|commands| commands.clear(), events);
        Self { signaling: SignalingLoop::new(signaling, media, keys, StdRng::seed_from_u64(1), shared), limits, registry, came: 0 }
    }

    /// Joins, or resumes what it joined; each comes from an address of its own.
    fn come(&mut self, identity: &str, reconnect: bool) -> Queue {
        self.came += 1;
        let (conn, remote_ip) = (ConnId(self.came), IpAddr::from([192, 0, 2, u8::try_from(self.came).unwrap()]));
        let grants = Grants {
            identity: identity.to_owned(),
            metadata: "m".repeat(METADATA_BYTES),
            room: "lobby".to_owned(),
            room_join: true,
            can_subscribe: true,
            ..Grants::default()
        };
        let request = JoinParams { reconnect, ..JoinParams::default() };
        let (outbox, queue) = Outbox::open(&self.limits, self.signaling.large_messages.share_of(remote_ip), None);
        let newcomer = Newcomer { conn, grants, request, remote_ip, outbox, asked_at: Instant::now() };
        self.signaling.receive(ToLoop::Connect(Box::new(newcomer)));
        self.signaling.deliver();
        queue
    }

    /// Of all that may be held.
    fn take(&self, bytes: usize) -> Held {
        self.signaling.large_messages.share_of(IpAddr::from([198, 51, 100, 1])).take(bytes).unwrap()
    }

    fn counted(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let families = self.registry.gather();
        let metrics = families.iter().filter(|family| family.name() == name).flat_map(|family| family.get_metric());
        let is_meant = |metric: &&prometheus::proto::Metric| {
            labels.iter().all(|(name, value)| metric.get_label().iter().any(|label| label.name() == *name && label.value() == *value))
        };
        metrics.filter(is_meant).map(|metric| metric.get_counter().get_value()).sum()
    }
}

/// Everything that waits to be written, as long as it is not the end.
fn messages(queue: &mut Queue) -> (Vec<Arc<Response>>, Option<SocketEnd>) {
    let mut messages = Vec::new();
    while let Ok(next) = queue.messages.try_recv() {
        match next {
            Outgoing::Message(response) => messages.push(response),
            Outgoing::Close(end) => return (messages, Some(end)),
        }
    }
    (messages, None)
}

#[test]
fn who_can_not_be_welcomed_does_not_stand_in_the_room() {
    let mut world = World::new(200_000);
    let mut people = ["alice", "bob"].map(|identity| world.come(identity, false));
    people.iter_mut().for_each(|queue| drop(messages(queue)));
    let held = world.take(150_000);
    let mut newcomer = world.come("carol", false);
    let (told, end) = messages(&mut newcomer);
    assert_eq!((told.len(), end), (0, Some(SocketEnd::Overloaded)));
    assert_eq!(world.signaling.signaling.census().participants, 2);
    drop(held);
    let mut again = world.come("carol", false);
    assert!(matches!(messages(&mut again).0[0].message().message, Some(Message::Join(_))));
}

#[tokio::test]
async fn a_resume_is_counted_when_there_is_room_for_what_it_is_told() {
    let mut world = World::new(300_000);
    let mut people = ["alice", "bob", "carol"].map(|identity| world.come(identity, false));
    people.iter_mut().for_each(|queue| drop(messages(queue)));
    let resumes = |world: &World| {
        [("ok", "none"), ("refused", "overloaded")]
            .map(|(result, reason)| world.counted("signaling_resumes_total", &[("result", result), ("reason", reason)]))
    };
    let held = world.take(250_000);
    assert_eq!(messages(&mut world.come("alice", true)).1, Some(SocketEnd::Overloaded));
    assert_eq!(resumes(&world), [0.0, 1.0]);
    drop(held);
    assert_eq!(messages(&mut world.come("alice", true)).1, None);
    assert_eq!(resumes(&world), [1.0, 1.0]);
}

#[tokio::test]
async fn a_connection_that_has_a_successor_does_not_keep_what_it_was_to_be_told_for_long() {
    let mut world = World::new(usize::MAX);
    let mut people = ["alice", "bob"].map(|identity| world.come(identity, false));
    for reconnect in [true, false] {
        let successor = world.come("bob", reconnect);
        let stuck = std::mem::replace(&mut people[1], successor);
        timeout(Duration::from_secs(20), stuck.is_dropped.notified()).await.expect("it is written to no more");
    }
}
