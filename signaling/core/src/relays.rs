//! TURN credentials for participants: time-limited user names (draft-uberti-behave-turn-rest-00) that hold the participant's id.
//!
//! In: what the operator set, who it is for, the time. Out: the ICE server that a JoinResponse carries. The server that checks them
//! knows the same secret; it refuses a participant's credentials once the participant is gone, whatever the time in them.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use livekit_protocol::IceServer;
use sha1::Sha1;
use signaling_api::Secret;

/// TURN servers whose credentials are made here.
#[derive(Clone, PartialEq, Debug)]
pub struct Relays {
    /// Their addresses (`turn:host:port?transport=udp`), best first.
    pub urls: Vec<String>,
    /// What their passwords follow from.
    pub secret: Secret,
    /// How long credentials are good for. Those of a participant that is gone end with it.
    pub ttl: Duration,
}

impl Relays {
    /// What a participant is told.
    pub(crate) fn ice_server(&self, participant_sid: &str, unix_now: Duration) -> IceServer {
        let username = format!("{}:{participant_sid}", (unix_now + self.ttl).as_secs());
        let mut mac = Hmac::<Sha1>::new_from_slice(self.secret.expose().as_bytes()).expect("HMAC takes keys of any length");
        mac.update(username.as_bytes());
        IceServer { urls: self.urls.clone(), credential: STANDARD.encode(mac.finalize().into_bytes()), username }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_follows_from_the_secret_and_the_name() {
        let relays = Relays { urls: vec!["turn:a".to_owned()], secret: Secret::new("north"), ttl: Duration::from_secs(60) };
        let server = relays.ice_server("PA_x", Duration::from_secs(1_000_000_000));
        assert_eq!(server.username, "1000000060:PA_x");
        // printf %s 1000000060:PA_x | openssl dgst -sha1 -hmac north -binary | base64
        assert_eq!(server.credential, "tu8Z89pZv7/UDvDr36C7GDMcbcE=");
    }
}
