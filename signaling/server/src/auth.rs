//! Access tokens: who signed them, whether they are still good, and whether they open the door to a room.
//!
//! In: the token's text and the time. Out: [`Grants`], or an [`AuthError`] that says which of many things is wrong.
//! Invariants: nothing that a token says is believed before its signature is verified (except the name of the key to
//! verify it with); only HS256 is accepted (RFC 7518 §3.2), so a token can't choose a weaker way.
//! RFC 7519 §4.1 (claims). Not here: what grants allow inside a room (`signaling-core`).

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use signaling_api::{Claims, ErrorCode, Grants, ParticipantKind, Secret, VideoGrant};

use crate::config::ApiKeys;

/// Why a token does not open the door.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// There is none.
    #[error("no access token: pass it as Authorization: Bearer, or where a WebSocket is opened as access_token in the query")]
    Missing,
    /// The `Authorization` header is of another kind.
    #[error("the Authorization header must start with \"Bearer \"")]
    NotBearer,
    /// It can't be parsed.
    #[error("the access token is malformed: {0}")]
    Malformed(&'static str),
    /// `iss` names no key of this server.
    #[error("the access token was issued with an API key that this server does not know")]
    ForeignKey,
    /// Signed with another secret, or changed on the way.
    #[error("the signature of the access token does not match the secret of its API key")]
    BadSignature,
    /// `exp` has passed.
    #[error("the access token expired {0} s ago")]
    Expired(u64),
    /// `nbf` is to come.
    #[error("the access token becomes valid only in {0} s: compare the clocks of its issuer and of this server")]
    NotYetValid(u64),
    /// No `roomJoin`.
    #[error("the access token does not grant roomJoin")]
    NoJoinGrant,
    /// No `room`.
    #[error("the access token grants roomJoin but names no room")]
    NoRoom,
    /// No `sub`.
    #[error("the access token has no identity (sub)")]
    NoIdentity,
    /// The request names another room than the token.
    #[error("the access token is for another room than the one in the request")]
    RoomMismatch,
}

impl AuthError {
    /// The stable code that stands for it.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Missing => ErrorCode::TokenMissing,
            Self::NotBearer | Self::Malformed(_) | Self::ForeignKey | Self::BadSignature => ErrorCode::TokenInvalid,
            Self::Expired(_) | Self::NotYetValid(_) => ErrorCode::TokenExpired,
            Self::NoJoinGrant | Self::NoRoom | Self::NoIdentity | Self::RoomMismatch => ErrorCode::TokenGrant,
        }
    }
}

/// Finds the token of a request. The header wins, as in LiveKit's server.
pub(crate) fn find_token<'a>(authorization: Option<&'a str>, query: Option<&'a str>) -> Result<&'a str, AuthError> {
    let token = match authorization {
        Some(header) => header.strip_prefix("Bearer ").ok_or(AuthError::NotBearer)?,
        None => query.unwrap_or_default(),
    };
    if token.is_empty() { Err(AuthError::Missing) } else { Ok(token) }
}

/// Verifies a token. `unix_now` counts from the Unix epoch.
///
/// # Errors
/// Everything that is wrong with the token itself; its grants are not looked at.
pub fn verify(keys: &ApiKeys, token: &str, unix_now: Duration) -> Result<Grants, AuthError> {
    let unverified = jsonwebtoken::dangerous::insecure_decode::<Claims>(token)
        .map_err(|_| AuthError::Malformed("not a JSON web token with the claims of an access token"))?;
    if unverified.header.alg != Algorithm::HS256 {
        return Err(AuthError::Malformed("signed with an algorithm other than HS256"));
    }
    let secret = keys.secret(&unverified.claims.iss).ok_or(AuthError::ForeignKey)?;
    let key = DecodingKey::from_secret(secret.expose().as_bytes());
    let claims = jsonwebtoken::decode::<Claims>(token, &key, &signature_only()).map_err(|_| AuthError::BadSignature)?.claims;

    let now = unix_now.as_secs();
    let leeway = LEEWAY.as_secs();
    let expires = claims.exp.ok_or(AuthError::Malformed("it has no end (exp)"))?;
    if now > expires.saturating_add(leeway) {
        return Err(AuthError::Expired(now.saturating_sub(expires)));
    }
    if let Some(begins) = claims.nbf
        && begins > now.saturating_add(leeway)
    {
        return Err(AuthError::NotYetValid(begins.saturating_sub(now)));
    }
    Ok(Grants::from(claims))
}

/// Does this token open a room, and the one that the request names (if it names one)?
///
/// # Errors
/// The grant that is missing.
pub fn check_join(grants: &Grants, requested_room: Option<&str>) -> Result<(), AuthError> {
    if !grants.room_join {
        return Err(AuthError::NoJoinGrant);
    }
    if grants.room.is_empty() {
        return Err(AuthError::NoRoom);
    }
    if grants.identity.is_empty() {
        return Err(AuthError::NoIdentity);
    }
    if requested_room.is_some_and(|room| !room.is_empty() && room != grants.room) {
        return Err(AuthError::RoomMismatch);
    }
    Ok(())
}

/// What a token is to say.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct TokenOptions {
    /// Identity of the participant; a token without one can only call the API.
    pub identity: String,
    /// Room that the grants are about.
    pub room: String,
    /// Shown name.
    pub name: String,
    /// Rights; `room` is filled in from above.
    pub grants: VideoGrant,
    /// Initial metadata.
    pub metadata: String,
    /// Initial attributes.
    pub attributes: BTreeMap<String, String>,
    /// What the participant is.
    pub kind: ParticipantKind,
    /// Time until it expires.
    pub ttl: Duration,
    /// More on `kind`.
    pub kind_details: Vec<String>,
}

impl TokenOptions {
    /// A token that joins one room with the default rights for six hours, as LiveKit's server SDKs mint it.
    #[must_use]
    pub fn join(identity: impl Into<String>, room: impl Into<String>) -> Self {
        Self {
            identity: identity.into(),
            room: room.into(),
            grants: VideoGrant { room_join: true, ..VideoGrant::default() },
            ttl: Duration::from_secs(6 * 3600),
            ..Self::default()
        }
    }
}

/// Mints a token.
///
/// # Errors
/// The crypto library refuses the secret.
pub fn mint(key: &str, secret: &Secret, options: &TokenOptions, unix_now: Duration) -> Result<String, MintError> {
    let now = unix_now.as_secs();
    let claims = Claims {
        iss: key.to_owned(),
        sub: options.identity.clone(),
        nbf: Some(now),
        exp: Some(now.saturating_add(options.ttl.as_secs())),
        name: options.name.clone(),
        metadata: options.metadata.clone(),
        attributes: options.attributes.clone(),
        kind: options.kind.claim().to_owned(),
        kind_details: options.kind_details.clone(),
        video: Some(VideoGrant { room: options.room.clone(), ..options.grants.clone() }),
        ..Claims::default()
    };
    let key = EncodingKey::from_secret(secret.expose().as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).map_err(MintError::Sign)
}

/// Mints a token that says the same again and lasts a little longer, so that a client can come back with it.
pub(crate) fn refresh(keys: &ApiKeys, grants: &Grants, unix_now: Duration) -> Result<String, MintError> {
    let original = keys.secret(&grants.api_key).map(|secret| (grants.api_key.as_str(), secret));
    let (key, secret) = original.or_else(|| keys.signing()).ok_or(MintError::NoKey)?;
    mint_grants(key, secret, grants, unix_now)
}

/// Mints a token that says what these grants say.
pub(crate) fn mint_grants(key: &str, secret: &Secret, grants: &Grants, unix_now: Duration) -> Result<String, MintError> {
    let expires_at = grants.expires_at.unwrap_or_default().max(unix_now.saturating_add(REFRESHED_TTL));
    let options = TokenOptions {
        identity: grants.identity.clone(),
        room: grants.room.clone(),
        name: grants.name.clone(),
        grants: video_grant(grants),
        metadata: grants.metadata.clone(),
        attributes: grants.attributes.clone(),
        kind: grants.kind,
        kind_details: grants.kind_details.clone(),
        ttl: expires_at.saturating_sub(unix_now),
    };
    mint(key, secret, &options, unix_now)
}

/// The claim that resolves to these grants. Room settings are left out: the room is open by then.
fn video_grant(grants: &Grants) -> VideoGrant {
    VideoGrant {
        room: grants.room.clone(),
        room_join: grants.room_join,
        room_admin: grants.room_admin,
        room_create: grants.room_create,
        room_list: grants.room_list,
        room_record: grants.room_record,
        can_publish: Some(grants.can_publish),
        can_publish_sources: grants.can_publish_sources.iter().map(|source| source.claim().to_owned()).collect(),
        can_subscribe: Some(grants.can_subscribe),
        can_publish_data: Some(grants.can_publish_data),
        can_update_own_metadata: Some(grants.can_update_own_metadata),
        can_subscribe_metrics: Some(grants.can_subscribe_metrics),
        can_manage_agent_session: Some(grants.can_manage_agent_session),
        hidden: grants.hidden,
        recorder: grants.recorder,
        agent: grants.agent,
        ingress_admin: grants.ingress_admin,
        destination_room: grants.destination_room.clone(),
    }
}

/// A token could not be signed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MintError {
    /// There is no key to sign with.
    #[error("no API key is configured")]
    NoKey,
    /// The crypto library refuses.
    #[error("the token could not be signed: {0}")]
    Sign(#[from] jsonwebtoken::errors::Error),
}

/// Times are checked by [`verify`], which gets the clock from its caller.
fn signature_only() -> Validation {
    let mut validation = Validation::new(Algorithm::HS256);
    validation.required_spec_claims = HashSet::new();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation
}

/// A refreshed token lasts at least so long; LiveKit's server gives the same (pkg/service/roommanager.go, tokenDefaultTTL).
const REFRESHED_TTL: Duration = Duration::from_secs(600);
/// Clocks of issuer and server may differ by so much.
const LEEWAY: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    #[test]
    fn a_minted_token_is_verified_with_everything_it_says() {
        let options = TokenOptions {
            name: "Alice".into(),
            metadata: "m".into(),
            attributes: BTreeMap::from([("k".into(), "v".into())]),
            ..TokenOptions::join("alice", "room")
        };
        let grants = verify(&keys(), &minted(&options), NOW).unwrap();
        assert_eq!((grants.identity.as_str(), grants.room.as_str(), grants.name.as_str()), ("alice", "room", "Alice"));
        assert_eq!((grants.metadata.as_str(), grants.attributes["k"].as_str()), ("m", "v"));
        assert!(grants.room_join && grants.can_publish && grants.can_subscribe);
        check_join(&grants, Some("room")).unwrap();
        check_join(&grants, None).unwrap();
    }

    /// Minted with PyJWT 2: `jwt.encode({...}, "secret")`.
    #[test]
    fn a_token_minted_elsewhere_is_verified() {
        let header = URL_SAFE_NO_PAD.encode(r#"{"typ":"JWT","alg":"HS256"}"#);
        let payload = URL_SAFE_NO_PAD
            .encode(r#"{"sub":"bob","iss":"devkey","nbf":1699999000,"exp":1700021600,"video":{"roomJoin":true,"room":"r"}}"#);
        let signed = format!("{header}.{payload}");
        let tag = aws_hmac(&signed, b"secret");
        assert_eq!(verify(&keys(), &format!("{signed}.{tag}"), NOW).unwrap().identity, "bob");
    }

    #[test]
    fn each_fault_has_its_own_error() {
        let good = minted(&TokenOptions::join("alice", "room"));
        let (body, _) = good.rsplit_once('.').unwrap();
        let cases = [
            ("garbage", AuthError::Malformed("not a JSON web token with the claims of an access token")),
            ("a.b.c", AuthError::Malformed("not a JSON web token with the claims of an access token")),
            (&format!("{body}.AAAA"), AuthError::BadSignature),
            (&format!("{body}."), AuthError::BadSignature),
            (&mint("otherkey", &Secret::new("secret"), &TokenOptions::join("a", "r"), NOW).unwrap(), AuthError::ForeignKey),
            (&mint("devkey", &Secret::new("other"), &TokenOptions::join("a", "r"), NOW).unwrap(), AuthError::BadSignature),
        ];
        for (token, error) in cases {
            assert_eq!(verify(&keys(), token, NOW), Err(error), "{token}");
        }
    }

    #[test]
    fn a_token_that_names_no_algorithm_or_another_one_is_refused() {
        let payload = URL_SAFE_NO_PAD.encode(r#"{"sub":"bob","iss":"devkey","exp":1700021600,"video":{"roomJoin":true,"room":"r"}}"#);
        for algorithm in ["none", "HS512", "RS256"] {
            let header = URL_SAFE_NO_PAD.encode(format!(r#"{{"typ":"JWT","alg":"{algorithm}"}}"#));
            let signed = format!("{header}.{payload}");
            let tag = aws_hmac(&signed, b"secret");
            assert!(matches!(verify(&keys(), &format!("{signed}.{tag}"), NOW), Err(AuthError::Malformed(_))), "{algorithm}");
        }
    }

    #[test]
    fn a_changed_payload_breaks_the_signature() {
        let good = minted(&TokenOptions::join("alice", "room"));
        let mut parts = good.split('.');
        let (header, payload, tag) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap().replace("alice", "admin");
        let forged = format!("{header}.{}.{tag}", URL_SAFE_NO_PAD.encode(text));
        assert_eq!(verify(&keys(), &forged, NOW), Err(AuthError::BadSignature));
    }

    #[test]
    fn ten_seconds_of_clock_difference_are_forgiven_and_no_more() {
        let token = minted(&TokenOptions { ttl: Duration::from_secs(60), ..TokenOptions::join("a", "r") });
        let at = |offset: i64| verify(&keys(), &token, Duration::from_secs(NOW.as_secs().checked_add_signed(offset).unwrap()));
        assert!(at(0).is_ok() && at(60).is_ok() && at(70).is_ok() && at(-10).is_ok());
        assert_eq!(at(71), Err(AuthError::Expired(11)));
        assert_eq!(at(-11), Err(AuthError::NotYetValid(11)));
    }

    #[test]
    fn a_token_without_an_end_is_refused() {
        let claims = Claims { iss: "devkey".into(), sub: "a".into(), ..Claims::default() };
        let token = jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(b"secret")).unwrap();
        assert_eq!(verify(&keys(), &token, NOW), Err(AuthError::Malformed("it has no end (exp)")));
    }

    #[test]
    fn a_join_needs_the_grant_the_room_and_an_identity() {
        let good = Grants { room_join: true, room: "r".into(), identity: "a".into(), ..Grants::default() };
        assert_eq!(check_join(&good, Some("r")), Ok(()));
        assert_eq!(check_join(&good, Some("other")), Err(AuthError::RoomMismatch));
        assert_eq!(check_join(&Grants { room_join: false, ..good.clone() }, None), Err(AuthError::NoJoinGrant));
        assert_eq!(check_join(&Grants { room: String::new(), ..good.clone() }, Some("r")), Err(AuthError::NoRoom));
        assert_eq!(check_join(&Grants { identity: String::new(), ..good }, None), Err(AuthError::NoIdentity));
    }

    #[test]
    fn a_refreshed_token_says_the_same_and_ends_no_earlier() {
        let options = TokenOptions {
            kind: ParticipantKind::Agent,
            metadata: "m".into(),
            grants: VideoGrant {
                can_publish_sources: vec!["camera".into(), "screen_share".into()],
                can_publish_data: Some(false),
                hidden: true,
                ingress_admin: true,
                destination_room: "other".into(),
                ..TokenOptions::join("a", "r").grants
            },
            ..TokenOptions::join("alice", "room")
        };
        let first = verify(&keys(), &minted(&options), NOW).unwrap();
        let again = verify(&keys(), &refresh(&keys(), &first, NOW).unwrap(), NOW).unwrap();
        assert_eq!(again, first);

        let late = NOW + Duration::from_secs(6 * 3600);
        let extended = verify(&keys(), &refresh(&keys(), &first, late).unwrap(), late).unwrap();
        assert_eq!(extended.expires_at, Some(late + REFRESHED_TTL));
    }

    #[test]
    fn a_fresh_token_is_signed_with_the_key_of_the_old_one() {
        let keys: ApiKeys =
            [("a-first", "one"), ("other", "two")].map(|(key, secret)| (key.to_owned(), Secret::new(secret))).into_iter().collect();
        let options = TokenOptions { kind_details: vec!["cloud_agent".to_owned()], ..TokenOptions::join("alice", "room") };
        let token = mint("other", &Secret::new("two"), &options, NOW).unwrap();
        let first = verify(&keys, &token, NOW).unwrap();
        let again = verify(&keys, &refresh(&keys, &first, NOW).unwrap(), NOW).unwrap();
        assert_eq!((again.api_key.as_str(), again.kind_details.as_slice()), ("other", &["cloud_agent".to_owned()][..]));
        // A key that was taken away signs nothing any more.
        let orphan = Grants { api_key: "gone".to_owned(), ..first };
        assert_eq!(verify(&keys, &refresh(&keys, &orphan, NOW).unwrap(), NOW).unwrap().api_key, "a-first");
    }

    #[test]
    fn the_header_wins_over_the_query() {
        assert_eq!(find_token(Some("Bearer h"), Some("q")), Ok("h"));
        assert_eq!(find_token(None, Some("q")), Ok("q"));
        assert_eq!(find_token(Some("Basic h"), Some("q")), Err(AuthError::NotBearer));
        assert_eq!(find_token(None, None), Err(AuthError::Missing));
        assert_eq!(find_token(Some("Bearer "), None), Err(AuthError::Missing));
    }

    const NOW: Duration = Duration::from_secs(1_700_000_000);

    fn keys() -> ApiKeys {
        ApiKeys::single("devkey", "secret")
    }

    fn minted(options: &TokenOptions) -> String {
        mint("devkey", &Secret::new("secret"), options, NOW).unwrap()
    }

    /// HMAC-SHA256 tag as the third part of a token.
    fn aws_hmac(signed: &str, secret: &[u8]) -> String {
        jsonwebtoken::crypto::sign(signed.as_bytes(), &EncodingKey::from_secret(secret), Algorithm::HS256).unwrap()
    }
}
