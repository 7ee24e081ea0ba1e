use livekit_protocol::DataPacket;
use proptest::prelude::*;
use prost::Message;
use sfu_api::Delivery;

use super::*;

fn text() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), Just("TR_VC222222222222".to_owned()), Just("PA_222222222222".to_owned()), Just(String::new())]
}

/// Requests whose every field may be anything.
fn request() -> impl Strategy<Value = Request> {
    let texts = || proptest::collection::vec(text(), 0..5);
    prop_oneof![
        (text(), any::<u32>(), text()).prop_map(|(sdp, id, r#type)| Request::Offer(proto::SessionDescription {
            sdp,
            id,
            r#type,
            ..Default::default()
        })),
        (text(), any::<u32>()).prop_map(|(sdp, id)| Request::Answer(proto::SessionDescription { sdp, id, ..Default::default() })),
        (text(), any::<i32>()).prop_map(|(candidate_init, target)| Request::Trickle(proto::TrickleRequest {
            candidate_init,
            target,
            r#final: true
        })),
        (text(), text(), any::<i32>(), any::<i32>(), any::<bool>(), text()).prop_map(|(cid, name, kind, source, muted, codec)| {
            let layer = proto::VideoLayer { quality: kind, rid: cid.clone(), ..Default::default() };
            Request::AddTrack(proto::AddTrackRequest {
                simulcast_codecs: vec![proto::SimulcastCodec { codec, cid: cid.clone(), video_layer_mode: source, layers: vec![layer; 3] }],
                layers: vec![layer_of(kind); 20],
                r#type: kind.rem_euclid(4),
                cid,
                name,
                source,
                muted,
                ..Default::default()
            })
        }),
        (text(), any::<bool>()).prop_map(|(sid, muted)| Request::Mute(proto::MuteTrackRequest { sid, muted })),
        (texts(), any::<bool>()).prop_map(|(track_sids, subscribe)| Request::Subscription(proto::UpdateSubscription {
            track_sids,
            subscribe,
            ..Default::default()
        })),
        (texts(), any::<i32>(), any::<u32>(), any::<u32>(), any::<u32>()).prop_map(|(track_sids, quality, width, height, fps)| {
            Request::TrackSetting(proto::UpdateTrackSettings { track_sids, quality, width, height, fps, ..Default::default() })
        }),
        (text(), texts(), any::<bool>()).prop_map(|(participant_sid, track_sids, all_participants)| {
            let entry = proto::TrackPermission { participant_sid, track_sids, ..Default::default() };
            Request::SubscriptionPermission(proto::SubscriptionPermission { all_participants, track_permissions: vec![entry] })
        }),
        texts().prop_map(|sids| Request::SyncState(proto::SyncState { track_sids_disabled: sids, ..Default::default() })),
        any::<i64>().prop_map(Request::Ping),
        (any::<i64>(), any::<i64>()).prop_map(|(timestamp, rtt)| Request::PingReq(proto::Ping { timestamp, rtt })),
        (text(), text(), any::<u32>()).prop_map(|(name, metadata, request_id)| {
            Request::UpdateMetadata(proto::UpdateParticipantMetadata { name, metadata, request_id, ..Default::default() })
        }),
        (any::<u32>(), text(), text()).prop_map(|(pub_handle, name, custom)| {
            let value = Some(proto::data_track_frame_encoding::Value::Custom(custom));
            let frame_encoding = Some(proto::DataTrackFrameEncoding { value });
            Request::PublishDataTrackRequest(proto::PublishDataTrackRequest {
                pub_handle: pub_handle % 0x2_0000,
                name,
                frame_encoding,
                ..Default::default()
            })
        }),
        any::<u32>()
            .prop_map(|handle| Request::UnpublishDataTrackRequest(proto::UnpublishDataTrackRequest { pub_handle: handle % 0x2_0000 })),
        (texts(), any::<bool>()).prop_map(|(sids, subscribe)| {
            let update = |track_sid| proto::update_data_subscription::Update { track_sid, subscribe, options: None };
            Request::UpdateDataSubscription(proto::UpdateDataSubscription { updates: sids.into_iter().map(update).collect() })
        }),
        (texts(), any::<u32>()).prop_map(|(sids, last_seq)| {
            let state = |publisher_sid| proto::DataChannelReceiveState { publisher_sid, last_seq };
            let datachannel_receive_states = sids.into_iter().map(state).collect();
            Request::SyncState(proto::SyncState { datachannel_receive_states, ..Default::default() })
        }),
        (text(), any::<Vec<u8>>(), any::<u32>()).prop_map(|(name, contents, request_id)| {
            let key = Some(proto::DataBlobKey { key: Some(proto::data_blob_key::Key::Generic(name)) });
            Request::StoreDataBlobRequest(proto::StoreDataBlobRequest { request_id, blob: Some(proto::DataBlob { key, contents }) })
        }),
        any::<i32>().prop_map(|seconds| {
            Request::Simulate(proto::SimulateScenario { scenario: Some(proto::simulate_scenario::Scenario::SpeakerUpdate(seconds)) })
        }),
        (text(), proptest::collection::vec(any::<i32>(), 0..40))
            .prop_map(|(track_sid, features)| { Request::UpdateAudioTrack(proto::UpdateLocalAudioTrack { track_sid, features }) }),
        (text(), any::<u32>(), any::<u32>()).prop_map(|(track_sid, width, height)| {
            Request::UpdateVideoTrack(proto::UpdateLocalVideoTrack { track_sid, width, height })
        }),
    ]
}

fn layer_of(quality: i32) -> proto::VideoLayer {
    proto::VideoLayer { quality, width: u32::MAX, height: u32::MAX, ..Default::default() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_request_makes_the_server_panic_or_forget_others(requests in proptest::collection::vec(request(), 1..60)) {
        let mut world = World::new();
        let bob = world.active("bob");
        let mut alice = world.join_as(Grants { can_update_own_metadata: true, ..grants("alice") }, JoinParams::default());
        for request in requests {
            if world.closed.contains_key(&alice.conn) {
                alice = world.join("alice");
            }
            world.send(alice.conn, request);
            let pending: Vec<_> = world.take_commands().into_iter().filter_map(|command| match command {
                Command::Publish { track, .. } => Some(track),
                _ => None,
            }).collect();
            for track in pending {
                world.ready(&alice, track);
            }
        }
        prop_assert!(world.present().contains(&"bob".to_owned()));
        world.send(bob.conn, Request::Ping(1));
        prop_assert!(matches!(world.inbox(bob.conn).last(), Some(Response::Pong(_))));
    }

    #[test]
    fn no_bytes_that_are_a_request_or_a_packet_make_the_server_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut world = World::new();
        let alice = world.active("alice");
        world.active("bob");
        if let Ok(request) = proto::SignalRequest::decode(bytes.as_slice()) {
            world.input(Input::Message { conn: alice.conn, request: Box::new(request) });
        }
        let _ = DataPacket::decode(bytes.as_slice());
        world.media(Event::Data { participant: alice.id, delivery: Delivery::Reliable, payload: bytes });
    }
}
