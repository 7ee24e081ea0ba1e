use livekit_protocol::request_response::Reason;
use prost::Message as _;
use signaling_api::ErrorCode;

use super::*;
use crate::limits::{FREE_PROFILE_BYTES, METADATA_BYTES};

/// Room for so many of the largest metadata.
fn world(large: usize) -> World {
    World::with(SignalingConfig { max_profile_bytes: large * METADATA_BYTES, ..SignalingConfig::default() })
}

fn large(identity: &str) -> Grants {
    Grants { metadata: "m".repeat(METADATA_BYTES), can_update_own_metadata: true, ..grants(identity) }
}

fn profile(bytes: usize) -> Request {
    Request::UpdateMetadata(proto::UpdateParticipantMetadata { metadata: "m".repeat(bytes), request_id: 7, ..Default::default() })
}

#[test]
fn profiles_of_a_room_have_a_bound_together_and_whoever_exceeds_it_is_refused() {
    let mut world = world(2);
    let first = world.join_as(large("first"), JoinParams::default());
    world.join_as(large("second"), JoinParams::default());
    let third = world.connect(large("third"), JoinParams::default());
    assert_eq!(world.closed[&third], CloseReason::Refused(ErrorCode::ProfileLimit));
    assert_eq!(leave(world.inbox(third)).unwrap().reason(), proto::DisconnectReason::JoinFailure);
    // Who comes again counts once, who is usual always comes in, and who leaves makes room.
    world.join_as(large("second"), JoinParams::default());
    world.join("usual");
    world.send(first.conn, Request::Leave(proto::LeaveRequest::default()));
    world.join_as(large("third"), JoinParams::default());
}

#[test]
fn a_profile_that_grows_beyond_the_bound_stays_as_it_was() {
    let mut world = world(1);
    let first = world.join_as(large("first"), JoinParams::default());
    let second = world.join_as(Grants { can_update_own_metadata: true, ..grants("second") }, JoinParams::default());
    world.send(second.conn, profile(METADATA_BYTES));
    let refused = reply(&world.take(second.conn)).unwrap();
    assert_eq!((refused.reason(), refused.message.as_str()), (Reason::LimitExceeded, ErrorCode::ProfileLimit.message()));
    let request = proto::UpdateParticipantRequest {
        room: ROOM.to_owned(),
        identity: "second".to_owned(),
        metadata: "m".repeat(METADATA_BYTES),
        ..Default::default()
    };
    assert_eq!(world.administer(AdminRequest::UpdateParticipant(request)).unwrap_err().code, ErrorCode::ProfileLimit);
    let seen = world.signaling.participants(ROOM).unwrap();
    assert!(seen.iter().all(|info| info.identity != "second" || info.metadata.is_empty()));
    // Smaller always works, and makes room.
    world.send(first.conn, profile(100));
    world.take(second.conn);
    world.send(second.conn, profile(METADATA_BYTES));
    assert_eq!(reply(&world.take(second.conn)).unwrap().reason(), Reason::Ok);
    assert_eq!(world.signaling.participants(ROOM).unwrap().iter().map(|info| info.metadata.len()).max(), Some(METADATA_BYTES));
}

#[test]
fn tracks_count_as_soon_as_they_are_announced() {
    let mut world = World::with(SignalingConfig { max_profile_bytes: 0, ..SignalingConfig::default() });
    let client = world.active("alice");
    let named = |number: usize| proto::AddTrackRequest { name: "n".repeat(250), ..camera(&format!("cam{number}")) };
    let mut added = 0;
    let refused = loop {
        world.send(client.conn, Request::AddTrack(named(added)));
        match reply(&world.take(client.conn)) {
            Some(refused) => break refused,
            None => added += 1,
        }
    };
    assert_eq!((refused.reason(), refused.message.as_str()), (Reason::LimitExceeded, ErrorCode::ProfileLimit.message()));
    assert!((2..FREE_PROFILE_BYTES / 250).contains(&added), "{added}");
    world.send(
        client.conn,
        Request::PublishDataTrackRequest(proto::PublishDataTrackRequest { pub_handle: 1, name: "d".repeat(250), ..Default::default() }),
    );
    assert_eq!(reply(&world.take(client.conn)).unwrap().reason(), Reason::LimitExceeded);
}

#[test]
fn nobody_is_moved_to_a_room_that_has_no_room_for_its_profile() {
    let mut world = world(1);
    world.join_as(Grants { room: "full".to_owned(), ..large("first") }, JoinParams::default());
    world.join_as(large("second"), JoinParams::default());
    let request =
        proto::MoveParticipantRequest { room: ROOM.to_owned(), identity: "second".to_owned(), destination_room: "full".to_owned() };
    assert_eq!(world.administer(AdminRequest::MoveParticipant(request)).unwrap_err().code, ErrorCode::ProfileLimit);
    assert_eq!(world.present(), ["second"]);
}

/// What `SignalingConfig::max_profile_bytes` promises.
#[test]
fn a_join_response_has_a_known_maximum() {
    const PEOPLE: usize = 40;
    let mut world = world(2);
    for number in 0..PEOPLE {
        let grants = Grants { metadata: "m".repeat(METADATA_BYTES / 8), ..grants(&format!("p{number}")) };
        world.connect(grants, JoinParams::default());
    }
    let newcomer = world.join("newcomer");
    let Some(Response::Join(join)) = world.inbox(newcomer.conn).first() else { panic!("not welcome") };
    assert!(join.other_participants.len() < PEOPLE, "some were refused");
    // Ids, times, rights and so on take less than so much of each.
    let others = join.other_participants.len() * (FREE_PROFILE_BYTES + 300);
    assert!(join.encoded_len() <= 2 * METADATA_BYTES + others + 10_000, "{}", join.encoded_len());
}
