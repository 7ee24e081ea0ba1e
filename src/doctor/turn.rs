//! Tries out a TURN server as a client does (RFC 8656 section 7): an allocation with the credentials that clients are told.
//!
//! In: a TURN URL (RFC 7065), user name, password. Out: a finding. Plain STUN messages (RFC 8489) over UDP, TCP or TLS, written
//! here: the server's own code would share its mistakes.

use std::io::{self, Read as _, Write as _};
use std::net::{ToSocketAddrs as _, UdpSocket};
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use md5::{Digest as _, Md5};
use sha1::Sha1;

use super::finding::Finding;
use super::http::{ConnectError, Connection, Target};

const ALLOCATE: u16 = 0x0003;
const REFRESH: u16 = 0x0004;
const SUCCESS: u16 = 0x0100;
const ERROR: u16 = 0x0110;
const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const ERROR_CODE: u16 = 0x0009;
const LIFETIME: u16 = 0x000d;
const REALM: u16 = 0x0014;
const NONCE: u16 = 0x0015;
const XOR_RELAYED_ADDRESS: u16 = 0x0016;
const REQUESTED_TRANSPORT: u16 = 0x0019;
const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const HEADER: usize = 20;
/// UDP, as allocations relay it.
const RELAY_UDP: [u8; 4] = [17, 0, 0, 0];
const TRIES: usize = 3;
const PATIENCE: Duration = Duration::from_secs(1);

/// `turn:host:port?transport=tcp`.
#[derive(Debug, PartialEq, Eq)]
struct Url {
    host: String,
    port: u16,
    transport: Transport,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transport {
    Udp,
    Tcp,
    Tls,
}

impl Url {
    fn parse(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once(':')?;
        let (authority, query) = rest.split_once('?').unwrap_or((rest, ""));
        let transport = match (scheme, query) {
            ("turn", "" | "transport=udp") => Transport::Udp,
            ("turn", "transport=tcp") => Transport::Tcp,
            ("turns", "" | "transport=tcp") => Transport::Tls,
            _ => return None,
        };
        let default = if scheme == "turns" { 5349 } else { 3478 };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
            _ => (authority, default),
        };
        Some(Self { host: host.trim_matches(['[', ']']).to_owned(), port, transport })
    }
}

/// Why there is no allocation.
enum Fault {
    Connect(Box<Target>, ConnectError),
    Silent(io::Error),
    Refused(u16, String),
    Nonsense,
}

/// Checks one URL.
pub(super) fn check(url: &str, username: &str, password: &str) -> Finding {
    let Some(parsed) = Url::parse(url) else {
        return Finding::failed("turn", "turn-url-invalid", format!("{url} is no TURN URL"), "turn:host:port?transport=udp");
    };
    match Line::open(&parsed).and_then(|line| allocate(line, username, password)) {
        Ok(relayed) => Finding::ok("turn", format!("{url} relays by {relayed}")),
        Err(Fault::Connect(target, error)) => target.explain("turn", &error),
        Err(Fault::Silent(error)) => {
            let remedy = format!("start it, and open {:?} port {} to it in every firewall on the way", parsed.transport, parsed.port);
            Finding::failed("turn", "turn-unreachable", format!("{url} does not answer: {error}"), remedy)
        }
        Err(Fault::Refused(401 | 441, reason)) => Finding::failed(
            "turn",
            "turn-wrong-secret",
            format!("{url} does not take the credentials that clients are told: {reason}"),
            "the shared secret here and at the TURN server must be the same, and both clocks right",
        ),
        Err(Fault::Refused(code, reason)) => {
            Finding::failed("turn", "turn-refused", format!("{url} refuses: {code} {reason}"), "see the log of the TURN server")
        }
        Err(Fault::Nonsense) => {
            Finding::failed("turn", "turn-not-stun", format!("what answers at {url} is no TURN server"), "correct the URL")
        }
    }
}

/// The way to a server.
enum Line {
    Udp(UdpSocket),
    Stream(Box<dyn Connection>),
}

impl Line {
    fn open(url: &Url) -> Result<Self, Fault> {
        let target = Target { is_secure: url.transport == Transport::Tls, host: url.host.clone(), port: url.port };
        if url.transport != Transport::Udp {
            return target.connect().map(Self::Stream).map_err(|error| Fault::Connect(Box::new(target), error));
        }
        let addresses = (url.host.as_str(), url.port).to_socket_addrs().map(|mut addresses| addresses.next());
        let address = match addresses {
            Ok(Some(address)) => address,
            Ok(None) => return Err(Fault::Connect(Box::new(target), ConnectError::Name(io::ErrorKind::NotFound.into()))),
            Err(error) => return Err(Fault::Connect(Box::new(target), ConnectError::Name(error))),
        };
        let open = || {
            let socket = UdpSocket::bind(if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
            socket.set_read_timeout(Some(PATIENCE))?;
            socket.connect(address)?;
            Ok(socket)
        };
        open().map(Self::Udp).map_err(Fault::Silent)
    }

    /// Sends a request until its answer comes.
    fn ask(&mut self, request: &[u8]) -> Result<Vec<u8>, Fault> {
        match self {
            Self::Udp(socket) => {
                let mut last = io::Error::from(io::ErrorKind::TimedOut);
                for _ in 0..TRIES {
                    let mut answer = [0; 1500];
                    match socket.send(request).and_then(|_| socket.recv(&mut answer)) {
                        Ok(length) if is_answer(&answer[..length], request) => return Ok(answer[..length].to_vec()),
                        Ok(_) => return Err(Fault::Nonsense),
                        Err(error) => last = error,
                    }
                }
                Err(Fault::Silent(last))
            }
            Self::Stream(stream) => {
                let mut ask = || {
                    stream.write_all(request)?;
                    stream.flush()?;
                    let mut answer = vec![0; HEADER];
                    stream.read_exact(&mut answer)?;
                    let length = usize::from(u16::from_be_bytes([answer[2], answer[3]]));
                    answer.resize(HEADER + length, 0);
                    stream.read_exact(&mut answer[HEADER..])?;
                    Ok(answer)
                };
                let answer = ask().map_err(Fault::Silent)?;
                if is_answer(&answer, request) { Ok(answer) } else { Err(Fault::Nonsense) }
            }
        }
    }
}

/// Returns the relayed address as text.
fn allocate(mut line: Line, username: &str, password: &str) -> Result<String, Fault> {
    let mut answer = line.ask(&message(ALLOCATE, &[(REQUESTED_TRANSPORT, &RELAY_UDP)], None))?;
    // the first answer names realm and nonce; a nonce may be stale once more (438)
    for _ in 0..2 {
        if kind(&answer) == ALLOCATE | SUCCESS {
            break;
        }
        let (code, reason) = error(&answer).ok_or(Fault::Nonsense)?;
        let (Some(realm), Some(nonce)) = (attribute(&answer, REALM), attribute(&answer, NONCE)) else {
            return Err(Fault::Refused(code, reason));
        };
        if code != 401 && code != 438 {
            return Err(Fault::Refused(code, reason));
        }
        let (realm, nonce) = (realm.to_vec(), nonce.to_vec());
        let key: [u8; 16] = Md5::digest([username.as_bytes(), b":", &realm, b":", password.as_bytes()].concat()).into();
        let attributes: [(u16, &[u8]); 4] =
            [(REQUESTED_TRANSPORT, &RELAY_UDP), (USERNAME, username.as_bytes()), (REALM, &realm), (NONCE, &nonce)];
        answer = line.ask(&message(ALLOCATE, &attributes, Some(&key)))?;
        match error(&answer) {
            None => {
                // gives it back at once; a server that does not hear it forgets it by itself
                let release: [(u16, &[u8]); 4] = [(LIFETIME, &[0; 4]), (USERNAME, username.as_bytes()), (REALM, &realm), (NONCE, &nonce)];
                let _ = line.ask(&message(REFRESH, &release, Some(&key)));
            }
            Some((438, _)) => {}
            Some((code, reason)) => return Err(Fault::Refused(code, reason)),
        }
    }
    if kind(&answer) != ALLOCATE | SUCCESS {
        return Err(error(&answer).map_or(Fault::Nonsense, |(code, reason)| Fault::Refused(code, reason)));
    }
    attribute(&answer, XOR_RELAYED_ADDRESS).and_then(address).ok_or(Fault::Nonsense)
}

fn message(kind: u16, attributes: &[(u16, &[u8])], key: Option<&[u8]>) -> Vec<u8> {
    let mut message = [&kind.to_be_bytes()[..], &[0, 0], &COOKIE, &rand::random::<[u8; 12]>()].concat();
    for (name, value) in attributes {
        push(&mut message, *name, value);
    }
    if let Some(key) = key {
        // RFC 8489 section 14.5: the length counts the attribute that the code is in
        set_length(&mut message, 24);
        let mut mac = <Hmac<Sha1>>::new_from_slice(key).expect("HMAC takes keys of any length");
        mac.update(&message);
        let tag = mac.finalize().into_bytes();
        push(&mut message, MESSAGE_INTEGRITY, &tag);
    }
    set_length(&mut message, 0);
    message
}

fn push(message: &mut Vec<u8>, name: u16, value: &[u8]) {
    message.extend_from_slice(&name.to_be_bytes());
    message.extend_from_slice(&u16::try_from(value.len()).unwrap_or(0).to_be_bytes());
    message.extend_from_slice(value);
    message.resize(message.len().next_multiple_of(4), 0);
}

fn set_length(message: &mut [u8], more: usize) {
    let length = u16::try_from(message.len() - HEADER + more).unwrap_or(u16::MAX);
    message[2..4].copy_from_slice(&length.to_be_bytes());
}

fn kind(message: &[u8]) -> u16 {
    message.first_chunk::<2>().map_or(0, |kind| u16::from_be_bytes(*kind))
}

/// Same cookie and transaction.
fn is_answer(answer: &[u8], request: &[u8]) -> bool {
    answer.get(4..HEADER).is_some_and(|id| Some(id) == request.get(4..HEADER)) && matches!(kind(answer) & ERROR, SUCCESS | ERROR)
}

fn attribute(message: &[u8], wanted: u16) -> Option<&[u8]> {
    let mut rest = message.get(HEADER..)?;
    while let Some((head, after)) = rest.split_first_chunk::<4>() {
        let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let value = after.get(..length)?;
        if u16::from_be_bytes([head[0], head[1]]) == wanted {
            return Some(value);
        }
        rest = after.get(length.next_multiple_of(4)..)?;
    }
    None
}

/// None: it is no error.
fn error(message: &[u8]) -> Option<(u16, String)> {
    if kind(message) & ERROR != ERROR {
        return None;
    }
    let [_, _, class, number, reason @ ..] = attribute(message, ERROR_CODE)? else { return None };
    Some((u16::from(class & 7) * 100 + u16::from(*number), String::from_utf8_lossy(reason).into_owned()))
}

/// RFC 8489 section 14.2, IPv4; of IPv6 only the fact.
fn address(value: &[u8]) -> Option<String> {
    match value {
        [_, 1, p, q, ip @ ..] if ip.len() == 4 => {
            let port = u16::from_be_bytes([p ^ COOKIE[0], q ^ COOKIE[1]]);
            let ip: Vec<String> = ip.iter().zip(COOKIE).map(|(byte, mask)| (byte ^ mask).to_string()).collect();
            Some(format!("{}:{port}", ip.join(".")))
        }
        [_, 2, ..] => Some("an IPv6 address".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::thread;

    use super::*;

    #[test]
    fn urls_follow_rfc_7065() {
        let parsed = |url: &str| Url::parse(url).map(|url| (url.host, url.port, url.transport));
        assert_eq!(parsed("turn:turn.example.org"), Some(("turn.example.org".to_owned(), 3478, Transport::Udp)));
        assert_eq!(parsed("turn:10.0.0.4:443?transport=tcp"), Some(("10.0.0.4".to_owned(), 443, Transport::Tcp)));
        assert_eq!(parsed("turns:[::1]?transport=tcp"), Some(("::1".to_owned(), 5349, Transport::Tls)));
        assert_eq!((parsed("stun:x"), parsed("turns:x?transport=udp"), parsed("turn:x:y")), (None, None, None));
    }

    /// RFC 5769 section 2.4: a request with long-term authentication; its key is MD5 of user name, realm and password.
    #[test]
    fn the_key_is_that_of_the_rfcs_example() {
        let user = "\u{30de}\u{30c8}\u{30ea}\u{30c3}\u{30af}\u{30b9}";
        let key = Md5::digest(format!("{user}:example.org:TheMatrIX").as_bytes());
        let mut request = hex("000100602112a44278ad3433c6ad72c029da412e00060012e3839ee38388e383aae38383e382afe382b90000\
                               0015001c662f2f3439396b39353464364f4c33346f4c394653547679363473410014000b6578616d706c652e6f726700");
        let tag = {
            let mut mac = <Hmac<Sha1>>::new_from_slice(&key).unwrap();
            mac.update(&request);
            mac.finalize().into_bytes().to_vec()
        };
        assert_eq!(tag, hex("f67024656dd64a3e02b8e0712e85c9a28ca89666"));
        push(&mut request, MESSAGE_INTEGRITY, &tag);
        assert_eq!((attribute(&request, REALM), attribute(&request, 0x7777)), (Some(&b"example.org"[..]), None));
    }

    #[test]
    fn a_refusal_after_the_credentials_is_the_secrets_fault() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = server.local_addr().unwrap().port();
        let serving = thread::spawn(move || {
            for _ in 0..2 {
                let mut request = [0; 1500];
                let (_, from) = server.recv_from(&mut request).unwrap();
                let mut answer = [&(ALLOCATE | ERROR).to_be_bytes()[..], &[0, 0], &request[4..HEADER]].concat();
                push(&mut answer, ERROR_CODE, b"\0\0\x04\x01Unauthorized");
                push(&mut answer, REALM, b"sluice");
                push(&mut answer, NONCE, b"once");
                set_length(&mut answer, 0);
                server.send_to(&answer, from).unwrap();
            }
        });
        let finding = check(&format!("turn:127.0.0.1:{port}"), "1:me", "wrong");
        serving.join().unwrap();
        assert_eq!(finding.cause, "turn-wrong-secret", "{finding:?}");
    }

    #[test]
    fn what_is_no_stun_is_told_from_silence() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let url = format!("turn:127.0.0.1:{}", server.local_addr().unwrap().port());
        let serving = thread::spawn(move || {
            let (_, from) = server.recv_from(&mut [0; 1500]).unwrap();
            server.send_to(b"hello", from).unwrap();
        });
        assert_eq!(check(&url, "", "").cause, "turn-not-stun");
        serving.join().unwrap();
        assert_eq!(check(&url, "", "").cause, "turn-unreachable", "nobody is there any more");
    }

    fn hex(text: &str) -> Vec<u8> {
        let digits: String = text.split_ascii_whitespace().collect();
        (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
    }
}
