//! `join_request`: the one parameter of `/rtc/v1`, in which newer SDKs put everything that they ask for.
//!
//! In: base64 of a `WrappedJoinRequest`, whose content may be compressed. Out: what the rooms are asked, and the profile that
//! the client gives itself. Invariant: what is decompressed is bounded before it is read.
//! A tolerant reader of values, as for the query of `/rtc`, but not of the form: what can't be decoded is refused.

use std::collections::HashMap;
use std::io::Read as _;

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use flate2::read::GzDecoder;
use livekit_protocol::signal_request::Message as Request;
use livekit_protocol::wrapped_join_request::Compression;
use livekit_protocol::{ConnectionSettings, JoinRequest, ReconnectReason, SyncState, UpdateSubscription, WrappedJoinRequest};
use prost::Message as _;
use sfu_api::PeerMode;
use signaling_api::Grants;
use signaling_core::{JoinParams, limits};

use crate::query::tamed;

/// Why a parameter can't be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum JoinRequestError {
    /// `/rtc/v1` has nothing to go by without it.
    #[error("join_request is missing")]
    Missing,
    /// Not base64url.
    #[error("join_request is not base64url")]
    Base64,
    /// The wrapping or the content is no such message.
    #[error("join_request is not a join request")]
    Message,
    /// A way of compression that is not known here.
    #[error("join_request is compressed in an unknown way")]
    Compression,
    /// Not gzip, or cut short.
    #[error("join_request can't be decompressed")]
    Gzip,
    /// Longer than [`MAX_BYTES`].
    #[error("join_request is too long")]
    TooLong,
    /// Its `sync_state` names more than a session can have.
    #[error("join_request lists too much")]
    TooMany,
}

/// What the client says of itself; it may overwrite what the token says, if the token allows that.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Profile {
    metadata: String,
    attributes: HashMap<String, String>,
}

/// Decodes the parameter.
pub(crate) fn decode(parameter: &str) -> Result<(JoinParams, Profile), JoinRequestError> {
    let wrapped = BASE64.decode(parameter).map_err(|_| JoinRequestError::Base64)?;
    let wrapped = WrappedJoinRequest::decode(wrapped.as_slice()).map_err(|_| JoinRequestError::Message)?;
    let content = match Compression::try_from(wrapped.compression) {
        Ok(Compression::None) => wrapped.join_request,
        Ok(Compression::Gzip) => decompress(&wrapped.join_request)?,
        Err(_) => return Err(JoinRequestError::Compression),
    };
    if content.len() > MAX_BYTES {
        return Err(JoinRequestError::TooLong);
    }
    let request = JoinRequest::decode(content.as_slice()).map_err(|_| JoinRequestError::Message)?;
    if !request.sync_state.as_ref().is_none_or(is_within_limits) {
        return Err(JoinRequestError::TooMany);
    }
    Ok(read(request))
}

/// An entry of a list takes two bytes here, and a hundred times that in memory for as long as the join takes.
fn is_within_limits(state: &SyncState) -> bool {
    let subscribed = |update: &UpdateSubscription| {
        update.track_sids.len() + update.participant_tracks.iter().map(|tracks| 1 + tracks.track_sids.len()).sum::<usize>()
    };
    state.publish_tracks.len() <= limits::TRACKS_PER_PARTICIPANT
        && state.publish_data_tracks.len() <= limits::TRACKS_PER_PARTICIPANT
        && [
            state.track_sids_disabled.len(),
            state.datachannel_receive_states.len(),
            state.subscription.as_ref().map_or(0, subscribed),
            state.data_subscription.as_ref().map_or(0, |subscription| subscription.updates.len()),
        ]
        .into_iter()
        .all(|length| length <= limits::SUBSCRIPTIONS_PER_PARTICIPANT)
}

fn decompress(bytes: &[u8]) -> Result<Vec<u8>, JoinRequestError> {
    let mut content = Vec::new();
    let limit = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    GzDecoder::new(bytes).take(limit).read_to_end(&mut content).map_err(|_| JoinRequestError::Gzip)?;
    Ok(content)
}

fn read(request: JoinRequest) -> (JoinParams, Profile) {
    let settings: ConnectionSettings = request.connection_settings.unwrap_or_default();
    // What the client believes, then what it publishes, then how: an answer to the offer needs the former.
    let mut messages: Vec<Request> = request.sync_state.map(Request::SyncState).into_iter().collect();
    messages.extend(request.add_track_requests.into_iter().take(MAX_TRACKS).map(Request::AddTrack));
    messages.extend(request.publisher_offer.filter(|offer| !offer.sdp.is_empty()).map(Request::Offer));
    let params = JoinParams {
        auto_subscribe: settings.auto_subscribe,
        adaptive_stream: settings.adaptive_stream,
        reconnect: request.reconnect,
        participant_sid: Some(request.participant_sid).filter(|sid| !sid.is_empty()),
        reconnect_reason: ReconnectReason::try_from(request.reconnect_reason).unwrap_or(ReconnectReason::RrUnknown),
        client: tamed(request.client_info.unwrap_or_default()),
        mode: PeerMode::Single,
        messages,
    };
    (params, Profile { metadata: request.metadata, attributes: request.participant_attributes })
}

impl Profile {
    /// Puts the profile over what the token says. False if the token does not allow that; then nothing is changed.
    /// An empty value takes nothing away (LiveKit: `ValidateConnectRequest`).
    pub(crate) fn apply(self, grants: &mut Grants) -> bool {
        if self.metadata.is_empty() && self.attributes.is_empty() {
            return true;
        }
        if !grants.can_update_own_metadata {
            return false;
        }
        if !self.metadata.is_empty() {
            grants.metadata = self.metadata;
        }
        grants.attributes.extend(self.attributes.into_iter().filter(|(_, value)| !value.is_empty()));
        true
    }
}

/// Browsers pad, others may not.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&URL_SAFE, GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent));
/// A decompressed request: a large offer with metadata and attributes at their bounds. LiveKit's own is 1 MiB, what its HTTP
/// server takes as headers; a request that large becomes many times that in memory.
const MAX_BYTES: usize = 256 * 1024;
/// Tracks that are announced with the join; further ones can be announced after it.
const MAX_TRACKS: usize = 32;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write as _;

    use flate2::Compression as Level;
    use flate2::write::GzEncoder;
    use livekit_protocol::{AddTrackRequest, ClientInfo, DataChannelReceiveState, SessionDescription, TrackPublishedResponse, client_info};
    use proptest::prelude::*;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Level::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn parameter(compression: i32, join_request: Vec<u8>) -> String {
        base64::engine::general_purpose::URL_SAFE.encode(WrappedJoinRequest { compression, join_request }.encode_to_vec())
    }

    fn request() -> JoinRequest {
        JoinRequest {
            client_info: Some(ClientInfo { sdk: client_info::Sdk::Js.into(), protocol: 17, os: "x".repeat(1000), ..ClientInfo::default() }),
            connection_settings: Some(ConnectionSettings { auto_subscribe: true, adaptive_stream: true, ..ConnectionSettings::default() }),
            add_track_requests: vec![AddTrackRequest { cid: "cam".to_owned(), ..AddTrackRequest::default() }],
            publisher_offer: Some(SessionDescription { r#type: "offer".to_owned(), sdp: "v=0".to_owned(), id: 1, ..Default::default() }),
            sync_state: Some(SyncState::default()),
            ..JoinRequest::default()
        }
    }

    #[test]
    fn a_plain_and_a_compressed_request_say_the_same() {
        let bytes = request().encode_to_vec();
        let (plain, _) = decode(&parameter(0, bytes.clone())).unwrap();
        assert_eq!(decode(&parameter(1, gzip(&bytes))).unwrap().0, plain);
        assert!(plain.auto_subscribe && plain.adaptive_stream && !plain.reconnect);
        assert_eq!((plain.mode, plain.participant_sid.as_deref()), (PeerMode::Single, None));
        assert_eq!((plain.client.protocol, plain.client.os.len()), (17, 128), "long values are cut");
        assert!(matches!(
            plain.messages.as_slice(),
            [Request::SyncState(_), Request::AddTrack(track), Request::Offer(offer)] if track.cid == "cam" && offer.id == 1
        ));
    }

    #[test]
    fn padding_is_a_matter_of_taste() {
        let padded = parameter(0, request().encode_to_vec());
        assert_eq!(decode(padded.trim_end_matches('=')).unwrap(), decode(&padded).unwrap());
    }

    #[test]
    fn what_is_not_said_is_off() {
        let (params, profile) = decode(&parameter(0, Vec::new())).unwrap();
        assert!(!params.auto_subscribe && !params.adaptive_stream && params.messages.is_empty());
        assert_eq!(profile, Profile::default());
    }

    #[test]
    fn each_kind_of_nonsense_is_named() {
        let cut = |bytes: Vec<u8>| bytes[..bytes.len() / 2].to_vec();
        let cases = [
            ("%%%".to_owned(), JoinRequestError::Base64),
            ("AAAA".to_owned(), JoinRequestError::Message),
            (parameter(0, vec![0xff; 9]), JoinRequestError::Message),
            (parameter(7, Vec::new()), JoinRequestError::Compression),
            (parameter(1, b"no gzip".to_vec()), JoinRequestError::Gzip),
            (parameter(1, cut(gzip(&request().encode_to_vec()))), JoinRequestError::Gzip),
            (parameter(0, vec![0; MAX_BYTES + 1]), JoinRequestError::TooLong),
        ];
        for (parameter, error) in cases {
            assert_eq!(decode(&parameter).unwrap_err(), error);
        }
    }

    #[test]
    fn a_bomb_is_not_inflated_beyond_the_bound() {
        let bomb = gzip(&vec![0; 64 * MAX_BYTES]);
        assert!(bomb.len() < MAX_BYTES / 8);
        assert_eq!(decompress(&bomb).unwrap().len(), MAX_BYTES + 1);
        assert_eq!(decode(&parameter(1, bomb)).unwrap_err(), JoinRequestError::TooLong);
    }

    #[test]
    fn a_session_that_lists_more_than_it_can_have_is_refused() {
        let tracks = |number| SyncState { publish_tracks: vec![TrackPublishedResponse::default(); number], ..SyncState::default() };
        let heard =
            |number| SyncState { datachannel_receive_states: vec![DataChannelReceiveState::default(); number], ..SyncState::default() };
        let disabled = |number| SyncState { track_sids_disabled: vec![String::new(); number], ..SyncState::default() };
        let says = |state| {
            let request = JoinRequest { sync_state: Some(state), ..JoinRequest::default() };
            decode(&parameter(0, request.encode_to_vec())).map(|(params, _)| params.messages.len())
        };
        for state in [tracks(64), heard(4096), disabled(4096)] {
            assert_eq!(says(state), Ok(1));
        }
        for state in [tracks(65), heard(4097), disabled(4097)] {
            assert_eq!(says(state), Err(JoinRequestError::TooMany));
        }
    }

    #[test]
    fn a_profile_goes_over_the_tokens_only_with_its_leave() {
        let profile = || Profile {
            metadata: "mine".to_owned(),
            attributes: [("a", "1"), ("b", "")].map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        };
        let token = Grants { metadata: "theirs".to_owned(), attributes: [("b".to_owned(), "2".to_owned())].into(), ..Grants::default() };
        let mut refused = token.clone();
        assert!(!profile().apply(&mut refused));
        assert_eq!(refused, token);
        assert!(Profile::default().apply(&mut refused), "nothing is always allowed");
        let mut grants = Grants { can_update_own_metadata: true, ..token };
        assert!(profile().apply(&mut grants));
        assert_eq!(grants.metadata, "mine");
        assert_eq!(grants.attributes.get("a").map(String::as_str), Some("1"));
        assert_eq!(grants.attributes.get("b").map(String::as_str), Some("2"), "an empty value takes nothing away");
    }

    proptest! {
        #[test]
        fn no_parameter_makes_it_panic(text: String, compression in 0..3_i32, bytes: Vec<u8>) {
            let _ = decode(&text);
            let _ = decode(&parameter(compression, bytes.clone()));
            let _ = decode(&parameter(1, gzip(&bytes)));
        }
    }
}
