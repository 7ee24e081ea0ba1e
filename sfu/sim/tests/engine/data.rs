//! Data messages between participants.

use sfu_api::Delivery;
use sfu_sim::link::{Chance, LinkConfig, Loss};
use sfu_sim::world::{Who, World};

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
