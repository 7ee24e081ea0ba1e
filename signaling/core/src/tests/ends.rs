//! Every way in which a stay ends has its own word, noted once and told in the close frame.

use sfu_api::FailReason;
use signaling_api::EndReason;

use super::*;
use crate::Happening;

/// What leads to an end, and its word.
type Case = (&'static str, fn(&mut World, &Client), EndReason);

#[test]
fn each_end_has_its_word_and_is_noted_once() {
    let failed =
        |world: &mut World, client: &Client, reason| world.transport(client, TransportRole::Subscriber, TransportState::Failed(reason));
    let before_media: [Case; 7] = [
        ("nothing comes of its media", |world, client| world.advance_alive(minutes(2), &[client]), EndReason::JoinTimeout),
        (
            "no check of it arrives",
            |world, client| {
                world.transport(client, TransportRole::Subscriber, TransportState::Failed(FailReason::IceNoPath));
                world.advance_alive(minutes(2), &[client]);
            },
            EndReason::IceNoPath,
        ),
        ("it leaves", |world, client| world.send(client.conn, Request::Leave(proto::LeaveRequest::default())), EndReason::ClientLeft),
        (
            "it gives up",
            |world, client| {
                world.advance_alive(Duration::from_secs(15), &[client]);
                world.send(client.conn, Request::Leave(proto::LeaveRequest::default()));
            },
            EndReason::GaveUp,
        ),
        (
            "its connection ends for good",
            |world, client| {
                world.close(client);
                world.advance(minutes(2));
            },
            EndReason::SignalLost,
        ),
        (
            "its offer can't be used",
            |world, client| {
                world.media(Event::NegotiationFailed { participant: client.id, role: TransportRole::Publisher, message: String::new() });
            },
            EndReason::NegotiationFailed,
        ),
        (
            "somebody has its identity",
            |world, client| {
                world.join(&client.grants.identity);
            },
            EndReason::DuplicateIdentity,
        ),
    ];
    for (what, happen, reason) in before_media {
        let mut world = World::new();
        let client = world.join("alice");
        happen(&mut world, &client);
        assert_eq!(ends(&world, &client), [(reason, false)], "{what}");
        if !matches!(reason, EndReason::SignalLost | EndReason::IceNoPath) {
            assert_eq!(world.closed[&client.conn], CloseReason::Ended(reason), "{what}");
        }
    }
    for reason in [FailReason::DtlsHandshake, FailReason::DtlsFingerprint, FailReason::DtlsSrtpProfile, FailReason::DataChannel] {
        let mut world = World::new();
        let client = world.active("alice");
        failed(&mut world, &client, reason);
        assert_eq!(ends(&world, &client).iter().map(|(end, _)| end.as_str()).collect::<Vec<_>>(), [reason.code()]);
    }
}

#[test]
fn who_was_connected_loses_media_and_has_not_failed_to_join() {
    let mut world = World::new();
    let client = world.active("alice");
    world.transport(&client, TransportRole::Subscriber, TransportState::Failed(FailReason::IceNoPath));
    world.advance_alive(minutes(2), &[&client]);
    assert_eq!(ends(&world, &client), [(EndReason::MediaLost, true)]);
    let happened: Vec<&Happening> = world.notes.iter().filter(|note| note.participant == client.id).map(|note| &note.what).collect();
    assert!(matches!(happened[..2], [Happening::Joined { .. }, Happening::Connected { .. }]), "{happened:?}");
}

fn ends(world: &World, client: &Client) -> Vec<(EndReason, bool)> {
    let end = |note: &crate::Note| match note.what {
        Happening::Ended { reason, was_connected, .. } if note.participant == client.id => Some((reason, was_connected)),
        _ => None,
    };
    world.notes.iter().filter_map(end).collect()
}

fn minutes(count: u64) -> Duration {
    Duration::from_secs(60 * count)
}
