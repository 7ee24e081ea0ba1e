//! Data messages between participants.

use sfu_api::{Command, Delivery, Event, RoomId, TrackId};
use sfu_core::error::Discard;
use sfu_sim::link::{Chance, LinkConfig, Loss};
use sfu_sim::world::{ROOM, Who, World};

use crate::{MS, SECOND, room};

#[test]
fn reliable_messages_arrive_in_order_over_lossy_links() {
    let (mut world, people) = connected(110, 3);
    for &who in &people {
        let lossy = LinkConfig { loss: Loss::Random(Chance::percent(5.0)), ..LinkConfig::delayed(10 * MS) };
        world.participant_mut(who).up.reconfigure(lossy);
        world.participant_mut(who).down.reconfigure(lossy);
    }
    let messages: Vec<Vec<u8>> = (0..60_u32).map(|n| n.to_be_bytes().repeat(100)).collect();
    for message in &messages {
        assert!(world.send_data(people[0], Delivery::Reliable, message));
        world.run_for(10 * MS);
    }
    for &who in &people[1..] {
        world.expect("everything arrived", 20 * SECOND, |world| world.participant(who).messages.len() == messages.len());
        let received: Vec<&Vec<u8>> = world.participant(who).messages.iter().map(|(_, message)| message).collect();
        assert_eq!(received, messages.iter().collect::<Vec<_>>());
    }
    assert!(world.participant(people[0]).messages.is_empty(), "a sender does not hear itself");
}

#[test]
fn lossy_messages_are_lost_but_not_late() {
    let (mut world, people) = connected(111, 2);
    let lossy = LinkConfig { loss: Loss::Random(Chance::percent(20.0)), ..LinkConfig::delayed(10 * MS) };
    world.participant_mut(people[1]).down.reconfigure(lossy);
    for number in 0..200_u32 {
        assert!(world.send_data(people[0], Delivery::Lossy, &number.to_be_bytes()));
        world.run_for(10 * MS);
    }
    world.run_for(SECOND);
    let received = world.participant(people[1]).messages.len();
    assert!((120..195).contains(&received), "{received} of 200");
    assert!(world.participant(people[1]).messages.iter().all(|(delivery, _)| *delivery == Delivery::Lossy));
}

#[test]
fn large_messages_arrive_whole() {
    let (mut world, people) = connected(112, 2);
    let message: Vec<u8> = (0..60_000_u32).map(|n| n.to_be_bytes()[3]).collect();
    assert!(world.send_data(people[0], Delivery::Reliable, &message));
    world.expect("it arrived", 10 * SECOND, |world| !world.participant(people[1]).messages.is_empty());
    assert_eq!(world.participant(people[1]).messages[0].1, message);
}

#[test]
fn deadlines_do_not_pile_up_with_messages() {
    let (mut world, people) = connected(113, 2);
    for number in 0..400_u32 {
        assert!(world.send_data(people[0], Delivery::Reliable, &number.to_be_bytes()));
        world.run_for(1500 * MS);
    }
    assert_eq!(world.participant(people[1]).messages.len(), 400);
    // Those that were overtaken by an earlier one are gone when their time comes: after a consent timeout at most.
    world.run_for(40 * SECOND);
    let deadlines = world.snapshot().deadlines;
    assert!(deadlines < 12, "{deadlines} deadlines of three transports");
}

fn connected(seed: u64, people: usize) -> (World, Vec<Who>) {
    let (mut world, people) = room(seed, people);
    world.open_publisher(people[0]);
    world.run_for(3 * SECOND);
    (world, people)
}

#[test]
fn reliable_messages_to_somebody_who_is_still_connecting_arrive_in_order() {
    let (mut world, people) = connected(114, 1);
    let late = world.join(ROOM);
    let to = vec![world.id(late)];
    for number in 0..50_u32 {
        let command = Command::SendData { to: to.clone(), delivery: Delivery::Reliable, payload: number.to_be_bytes().to_vec() };
        world.command(command);
        world.run_for(10 * MS);
    }
    world.run_for(3 * SECOND);
    let received: Vec<_> = world.participant(late).messages.iter().map(|(_, message)| message.clone()).collect();
    assert_eq!(received, (0..50_u32).map(|number| number.to_be_bytes().to_vec()).collect::<Vec<_>>());
    assert!(world.participant(people[0]).messages.is_empty());
}

#[test]
fn a_megabyte_in_pieces_arrives_whole_over_lossy_links() {
    let (mut world, people) = connected(115, 2);
    for &who in &people {
        let lossy = LinkConfig { loss: Loss::Random(Chance::percent(5.0)), ..LinkConfig::delayed(10 * MS) };
        world.participant_mut(who).up.reconfigure(lossy);
        world.participant_mut(who).down.reconfigure(lossy);
    }
    // As the SDKs cut byte streams: 15,000 bytes a piece.
    let bytes: Vec<u8> = (0..1_000_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let mut pieces = bytes.chunks(15_000);
    let mut sent = 0;
    while sent < bytes.len() {
        if let Some(piece) = pieces.next() {
            assert!(world.send_data(people[0], Delivery::Reliable, piece));
            sent += piece.len();
        }
        world.run_for(20 * MS);
    }
    world.expect("everything arrived", 120 * SECOND, |world| {
        world.participant(people[1]).messages.iter().map(|(_, message)| message.len()).sum::<usize>() >= bytes.len()
    });
    let received: Vec<u8> = world.participant(people[1]).messages.iter().flat_map(|(_, message)| message.clone()).collect();
    assert!(received == bytes, "not a byte differs");
}

#[test]
fn packets_of_a_data_track_reach_its_subscribers_under_their_own_handles() {
    let (mut world, people) = connected(116, 4);
    let (track, publisher) = (TrackId(900), world.id(people[0]));
    world.command(Command::PublishData { participant: publisher, track, handle: 7 });
    for (who, handle) in [(people[1], 1), (people[2], 0x1234)] {
        let participant = world.id(who);
        world.command(Command::SubscribeData { participant, track, handle });
    }
    world.run_for(100 * MS);
    let payload = b"sealed end to end";
    let packet = |handle: u16| [&[0x18, 0][..], &handle.to_be_bytes(), &[0, 1, 0, 2, 0, 0, 0, 3], payload].concat();
    assert!(world.send_data(people[0], Delivery::DataTrack, &packet(7)));
    assert!(world.send_data(people[0], Delivery::DataTrack, &packet(8)), "of which the engine knows nothing");
    assert!(world.send_data(people[0], Delivery::DataTrack, &[0xff; 3]));
    world.run_for(SECOND);
    let got = |world: &World, who: Who| world.participant(who).messages.clone();
    assert_eq!(got(&world, people[1]), [(Delivery::DataTrack, packet(1))]);
    assert_eq!(got(&world, people[2]), [(Delivery::DataTrack, packet(0x1234))]);
    assert_eq!(got(&world, people[3]), []);
    assert!(!world.log.iter().any(|event| matches!(event, Event::Data { .. })), "signaling has no part in it");
    assert_eq!((world.discarded(Discard::UnknownDataTrack), world.discarded(Discard::DataTrackMalformed)), (1, 1));

    let participant = world.id(people[1]);
    world.command(Command::UnsubscribeData { participant, track });
    world.run_for(100 * MS);
    assert!(world.send_data(people[0], Delivery::DataTrack, &packet(7)));
    world.run_for(SECOND);
    assert_eq!((got(&world, people[1]).len(), got(&world, people[2]).len()), (1, 2));

    world.command(Command::UnpublishData { participant: publisher, track });
    world.run_for(100 * MS);
    assert!(world.send_data(people[0], Delivery::DataTrack, &packet(7)));
    world.run_for(SECOND);
    assert_eq!(got(&world, people[2]).len(), 2);
}

#[test]
fn a_data_track_of_another_room_cannot_be_had() {
    let (mut world, people) = connected(117, 1);
    let stranger = world.join(RoomId(2));
    world.run_for(3 * SECOND);
    let (track, publisher, participant) = (TrackId(900), world.id(people[0]), world.id(stranger));
    world.command(Command::PublishData { participant: publisher, track, handle: 7 });
    world.command(Command::SubscribeData { participant, track, handle: 1 });
    world.run_for(100 * MS);
    assert!(world.send_data(people[0], Delivery::DataTrack, &[0x18, 0, 0, 7, 0, 1, 0, 2, 0, 0, 0, 3]));
    world.run_for(SECOND);
    assert!(world.participant(stranger).messages.is_empty());
}
