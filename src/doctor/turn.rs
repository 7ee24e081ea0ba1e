//! Tries out a TURN server as a client does: an allocation with the credentials that clients are told, and a call through it.
//!
//! In: a TURN URL, credentials, an offer of the media node for a client that comes this way. Out: a finding.

use anyhow::Context as _;
use sfu_core::net::Protocol;
use sfu_sim::sdp::local_params;

use super::call::{self, Way};
use super::finding::Finding;
use super::http::ConnectError;
use super::relay::{Fault, Relay, Url};

/// A TURN server as clients are told.
pub(super) struct Told<'a> {
    pub(super) url: &'a str,
    pub(super) username: &'a str,
    pub(super) password: &'a str,
}

/// Checks one URL; `answer` answers the offer.
pub(super) fn check(told: &Told<'_>, offer: anyhow::Result<String>, answer: impl FnOnce(String) -> anyhow::Result<()>) -> Finding {
    let relay = match allocate(told) {
        Ok(relay) => relay,
        Err(finding) => return finding,
    };
    let url = told.url;
    let relayed = relay.address();
    let outcome = offer.and_then(|offer| {
        let server = local_params(&offer).context("the offer can't be read")?;
        let mut relay = relay;
        for candidate in server.candidates.iter().filter(|candidate| candidate.protocol == Protocol::Udp) {
            match relay.permit(candidate.address) {
                Err(Fault::Refused(code, reason)) => {
                    let detail = format!("{url} does not relay to {}, where media is: {code} {reason}", candidate.address);
                    let remedy = "the TURN server must allow this peer: see its lists of allowed and denied peers";
                    return Ok(Err(Finding::failed("turn", "turn-peer-denied", detail, remedy)));
                }
                Err(_) => return Ok(Err(silent(url, &std::io::ErrorKind::TimedOut.into()))),
                Ok(()) => {}
            }
        }
        call::try_out(&offer, Way::Relayed(relay), answer).map(Ok)
    });
    match outcome {
        Ok(Ok(outcome)) if outcome.is_connected => {
            Finding::ok("turn", format!("{url} relays by {relayed}, and a WebRTC client connected through it"))
        }
        Ok(Ok(outcome)) => {
            let told: Vec<String> = outcome.candidates.iter().map(|(candidate, _)| candidate.address.to_string()).collect();
            let detail = format!("{url} relays by {relayed}, but nothing comes back from {}", told.join(", "));
            let remedy = "the TURN server must reach these addresses over UDP: see the firewalls between both, and `media.advertise`";
            Finding::failed("turn", "turn-no-path", detail, remedy)
        }
        Ok(Err(finding)) => finding,
        Err(error) => Finding::failed("turn", "call-impossible", format!("{error:#}"), "see the log of the server"),
    }
}

fn allocate(told: &Told<'_>) -> Result<Relay, Finding> {
    let url = told.url;
    let Some(parsed) = Url::parse(url) else {
        return Err(Finding::failed("turn", "turn-url-invalid", format!("{url} is no TURN URL"), "turn:host:port?transport=udp"));
    };
    Relay::allocate(&parsed, told.username, told.password).map_err(|fault| match fault {
        Fault::Connect(_, ConnectError::Tcp(_, error)) => silent(url, &error),
        Fault::Connect(target, error) => target.explain("turn", &error),
        Fault::Silent(error) => silent(url, &error),
        Fault::Refused(401 | 441, reason) => Finding::failed(
            "turn",
            "turn-wrong-secret",
            format!("{url} does not take the credentials that clients are told: {reason}"),
            "the shared secret here (`turn.secret_file`) and at the TURN server must be the same, and both clocks right",
        ),
        Fault::Refused(code, reason) => {
            Finding::failed("turn", "turn-refused", format!("{url} refuses: {code} {reason}"), "see the log of the TURN server")
        }
        Fault::Nonsense => Finding::failed("turn", "turn-not-stun", format!("what answers at {url} is no TURN server"), "correct the URL"),
    })
}

fn silent(url: &str, error: &std::io::Error) -> Finding {
    let way = Url::parse(url).map_or_else(String::new, |url| format!(" {:?} port {}", url.transport, url.port));
    let remedy = format!("start it, and open{way} to it in every firewall on the way");
    Finding::failed("turn", "turn-unreachable", format!("{url} does not answer: {error}"), remedy)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::UdpSocket;
    use std::thread;

    use super::*;

    fn cause(url: &str) -> &'static str {
        allocate(&Told { url, username: "1:me", password: "wrong" }).map_or_else(|finding| finding.cause, |_| "")
    }

    #[test]
    fn a_refusal_after_the_credentials_is_the_secrets_fault() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = server.local_addr().unwrap().port();
        let serving = thread::spawn(move || {
            for _ in 0..2 {
                let mut request = [0; 1500];
                let (_, from) = server.recv_from(&mut request).unwrap();
                // an error response with ERROR-CODE 401, REALM "sluice" and NONCE "once"
                let attributes = b"\x00\x09\x00\x10\0\0\x04\x01Unauthorized\x00\x14\x00\x06sluice\0\0\x00\x15\x00\x04once";
                let answer = [&[0x01, 0x13, 0, u8::try_from(attributes.len()).unwrap()], &request[4..20], attributes].concat();
                server.send_to(&answer, from).unwrap();
            }
        });
        assert_eq!(cause(&format!("turn:127.0.0.1:{port}")), "turn-wrong-secret");
        serving.join().unwrap();
    }

    #[test]
    fn what_is_no_stun_is_told_from_silence() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let url = format!("turn:127.0.0.1:{}", server.local_addr().unwrap().port());
        let serving = thread::spawn(move || {
            let (_, from) = server.recv_from(&mut [0; 1500]).unwrap();
            server.send_to(b"hello", from).unwrap();
        });
        assert_eq!(cause(&url), "turn-not-stun");
        serving.join().unwrap();
        assert_eq!(cause(&url), "turn-unreachable", "nobody is there any more");
        assert_eq!(cause("turn:x?transport=sctp"), "turn-url-invalid");
    }
}
