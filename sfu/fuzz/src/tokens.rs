//! Access tokens.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use signaling_server::ApiKeys;
use signaling_server::auth::{check_join, verify};
use signaling_server::fuzzing::bearer_token;

use crate::signaling::World;

const SECRET: &str = "a secret that nobody can guess, even with a fuzzer";

/// The input as a token, and as the claims of a token that is signed with the right secret.
pub(crate) fn access_token(data: &[u8]) {
    let keys = ApiKeys::single("key", SECRET);
    let now = Duration::from_secs(1_700_000_000);
    let text = String::from_utf8_lossy(data);
    assert!(verify(&keys, &text, now).is_err(), "nobody knows the secret");
    if let Some(token) = bearer_token(&text) {
        assert!(text.ends_with(token) && !token.is_empty());
    }
    let Ok(grants) = verify(&keys, &signed(data), now) else { return };
    if check_join(&grants, None).is_ok() {
        assert!(!grants.identity.is_empty() && !grants.room.is_empty() && grants.room_join);
        World::check_join(grants);
    }
}

fn signed(claims: &[u8]) -> String {
    let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let message = format!("{}.{}", encode(br#"{"alg":"HS256","typ":"JWT"}"#), encode(claims));
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("a key of any length");
    mac.update(message.as_bytes());
    format!("{message}.{}", encode(&mac.finalize().into_bytes()))
}
