//! Doors for `sfu/fuzz` to what this crate reads of a client. Nothing else goes through them.

use std::net::IpAddr;

use livekit_protocol::SignalRequest;
use signaling_api::Grants;
use signaling_core::JoinParams;

use crate::codec::Encoding;
use crate::proxy::IpPrefix;
use crate::query::RtcQuery;
use crate::twirp::codec::Form;

/// A frame of the signal connection: text or binary.
#[must_use]
pub fn decode(is_text: bool, payload: &[u8]) -> Option<SignalRequest> {
    if is_text { Encoding::Json } else { Encoding::Protobuf }.decode(payload)
}

/// The query of `/rtc`: the token in it, and what it asks for.
#[must_use]
pub fn join_query(query: &str) -> (Option<String>, JoinParams) {
    let query = RtcQuery::parse(query);
    (query.access_token.clone(), query.into_join_params())
}

/// The parameter of `/rtc/v1`, from a client with these grants: what it asks for, and the grants with its own profile.
#[must_use]
pub fn join_request(parameter: &str, mut grants: Grants) -> Option<(JoinParams, Grants)> {
    let (params, profile) = crate::join_request::decode(parameter).ok()?;
    profile.apply(&mut grants).then_some((params, grants))
}

/// The token in an `Authorization` header.
#[must_use]
pub fn bearer_token(authorization: &str) -> Option<&str> {
    crate::auth::find_token(Some(authorization), None).ok()
}

/// The client's address behind proxies.
#[must_use]
pub fn client_ip(tcp_peer: IpAddr, forwarded_for: &str, trusted: &[IpPrefix]) -> IpAddr {
    crate::proxy::client_ip(tcp_peer, forwarded_for, trusted)
}

/// The body of a Twirp request.
#[must_use]
pub fn decode_request<M: prost::Message + Default + serde::de::DeserializeOwned>(is_json: bool, body: &[u8]) -> Option<M> {
    if is_json { Form::Json } else { Form::Protobuf }.decode(body).ok()
}
