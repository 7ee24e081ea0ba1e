//! The client's side of one TURN allocation (RFC 8656): requests with credentials, a relayed address, packets through it.
//!
//! In: a TURN URL (RFC 7065), user name, password, bytes for peers. Out: bytes of peers. Plain STUN messages (RFC 8489) over UDP,
//! TCP or TLS, written here: the server's own code would share its mistakes. Packets go in Send and Data indications.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _, UdpSocket};
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use md5::{Digest as _, Md5};
use sha1::Sha1;

use super::http::{ConnectError, Connection, Target};

const ALLOCATE: u16 = 0x0003;
const REFRESH: u16 = 0x0004;
const CREATE_PERMISSION: u16 = 0x0008;
const SEND_INDICATION: u16 = 0x0016;
const DATA_INDICATION: u16 = 0x0017;
const SUCCESS: u16 = 0x0100;
const ERROR: u16 = 0x0110;
const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const ERROR_CODE: u16 = 0x0009;
const LIFETIME: u16 = 0x000d;
const XOR_PEER_ADDRESS: u16 = 0x0012;
const DATA: u16 = 0x0013;
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
/// A look whether something has come.
const GLANCE: Duration = Duration::from_millis(1);
const MAX_MESSAGE: usize = 4096;

/// `turn:host:port?transport=tcp`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) transport: Transport,
}

/// Between client and TURN server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Tcp,
    Tls,
}

impl Url {
    pub(crate) fn parse(url: &str) -> Option<Self> {
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
        (!host.is_empty()).then(|| Self { host: host.trim_matches(['[', ']']).to_owned(), port, transport })
    }
}

/// Why there is no relay.
pub(super) enum Fault {
    Connect(Box<Target>, ConnectError),
    Silent(io::Error),
    /// An error response: its code and its reason.
    Refused(u16, String),
    Nonsense,
}

/// An allocation. It is given back when this goes.
pub(super) struct Relay {
    line: Line,
    address: SocketAddr,
    credentials: Credentials,
    /// Of a stream: what has come and is no whole message yet.
    received: Vec<u8>,
}

struct Credentials {
    username: String,
    realm: Vec<u8>,
    nonce: Vec<u8>,
    key: [u8; 16],
}

impl Relay {
    /// Allocates.
    pub(super) fn allocate(url: &Url, username: &str, password: &str) -> Result<Self, Fault> {
        let mut line = Line::open(url)?;
        // the first answer names realm and nonce; a nonce may be stale once more (438)
        let mut answer = line.ask(&message(ALLOCATE, &[(REQUESTED_TRANSPORT, &RELAY_UDP)], None))?;
        for _ in 0..2 {
            let (code, reason) = error(&answer).ok_or(Fault::Nonsense)?;
            let (Some(realm), Some(nonce), 401 | 438) = (attribute(&answer, REALM), attribute(&answer, NONCE), code) else {
                return Err(Fault::Refused(code, reason));
            };
            let key = Md5::digest([username.as_bytes(), b":", realm, b":", password.as_bytes()].concat()).into();
            let credentials = Credentials { username: username.to_owned(), realm: realm.to_vec(), nonce: nonce.to_vec(), key };
            answer = line.ask(&credentials.request(ALLOCATE, &[(REQUESTED_TRANSPORT, &RELAY_UDP)]))?;
            match error(&answer) {
                None => {
                    let address =
                        attribute(&answer, XOR_RELAYED_ADDRESS).and_then(|value| address(value, &answer)).ok_or(Fault::Nonsense)?;
                    return Ok(Self { line, address, credentials, received: Vec::new() });
                }
                Some((438, _)) => {}
                Some((code, reason)) => return Err(Fault::Refused(code, reason)),
            }
        }
        Err(Fault::Nonsense)
    }

    /// The relayed address.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets a peer in, whatever its port.
    pub(super) fn permit(&mut self, peer: SocketAddr) -> Result<(), Fault> {
        let answer = {
            let request = message_id();
            let peer = xor_address(peer, &request);
            self.line.ask(&self.credentials.request_with(request, CREATE_PERMISSION, &[(XOR_PEER_ADDRESS, &peer)]))?
        };
        error(&answer).map_or(Ok(()), |(code, reason)| Err(Fault::Refused(code, reason)))
    }

    /// What is lost is sent again by ICE and DTLS.
    pub(super) fn send(&mut self, peer: SocketAddr, bytes: &[u8]) {
        let id = message_id();
        let peer = xor_address(peer, &id);
        let _ = self.line.write(&message_with(id, SEND_INDICATION, &[(XOR_PEER_ADDRESS, &peer), (DATA, bytes)], None));
    }

    /// A packet of a peer, if one has come.
    pub(super) fn receive(&mut self, packet: &mut [u8]) -> Option<(SocketAddr, usize)> {
        loop {
            let message = self.line.look(&mut self.received)?;
            if kind(&message) != DATA_INDICATION {
                continue;
            }
            let (Some(peer), Some(data)) = (attribute(&message, XOR_PEER_ADDRESS), attribute(&message, DATA)) else { continue };
            let (Some(peer), Some(room)) = (address(peer, &message), packet.get_mut(..data.len())) else { continue };
            room.copy_from_slice(data);
            return Some((peer, data.len()));
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // a server that does not hear it forgets the allocation by itself
        let _ = self.line.write(&self.credentials.request(REFRESH, &[(LIFETIME, &[0; 4])]));
    }
}

impl Credentials {
    fn request(&self, kind: u16, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        self.request_with(message_id(), kind, attributes)
    }

    fn request_with(&self, id: [u8; 12], kind: u16, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let own: [(u16, &[u8]); 3] = [(USERNAME, self.username.as_bytes()), (REALM, &self.realm), (NONCE, &self.nonce)];
        message_with(id, kind, &[attributes, &own].concat(), Some(&self.key))
    }
}

/// The way to a server.
enum Line {
    Udp(UdpSocket),
    Stream(Box<dyn Connection>),
}

impl Line {
    fn open(url: &Url) -> Result<Self, Fault> {
        let target = Target { is_secure: url.transport == Transport::Tls, host: url.host.clone(), port: url.port, at: None };
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
            socket.connect(address)?;
            Ok(socket)
        };
        open().map(Self::Udp).map_err(Fault::Silent)
    }

    /// Sends a request until its answer comes.
    fn ask(&mut self, request: &[u8]) -> Result<Vec<u8>, Fault> {
        match self {
            Self::Udp(socket) => {
                let mut last = socket.set_read_timeout(Some(PATIENCE)).err().unwrap_or_else(|| io::ErrorKind::TimedOut.into());
                for _ in 0..TRIES {
                    let mut answer = [0; MAX_MESSAGE];
                    match socket.send(request).and_then(|_| socket.recv(&mut answer)) {
                        Ok(length) if is_answer(&answer[..length], request) => return Ok(answer[..length].to_vec()),
                        // of an earlier try
                        Ok(length) if is_stun(&answer[..length]) => {}
                        Ok(_) => return Err(Fault::Nonsense),
                        Err(error) => last = error,
                    }
                }
                Err(Fault::Silent(last))
            }
            Self::Stream(stream) => {
                let mut ask = || {
                    stream.wait_at_most(PATIENCE * 3)?;
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

    fn write(&mut self, message: &[u8]) -> io::Result<()> {
        match self {
            Self::Udp(socket) => socket.send(message).map(drop),
            Self::Stream(stream) => stream.write_all(message).and_then(|()| stream.flush()),
        }
    }

    /// The next message, if one has come.
    fn look(&mut self, received: &mut Vec<u8>) -> Option<Vec<u8>> {
        let mut chunk = [0; MAX_MESSAGE];
        match self {
            Self::Udp(socket) => {
                socket.set_read_timeout(Some(GLANCE)).ok()?;
                let length = socket.recv(&mut chunk).ok()?;
                chunk.get(..length).filter(|message| is_stun(message)).map(<[u8]>::to_vec)
            }
            Self::Stream(stream) => {
                stream.wait_at_most(GLANCE).ok()?;
                if let Ok(length) = stream.read(&mut chunk) {
                    received.extend_from_slice(chunk.get(..length)?);
                }
                let length = HEADER + usize::from(u16::from_be_bytes([*received.get(2)?, *received.get(3)?]));
                (received.len() >= length).then(|| received.drain(..length).collect())
            }
        }
    }
}

fn message_id() -> [u8; 12] {
    rand::random()
}

fn message(kind: u16, attributes: &[(u16, &[u8])], key: Option<&[u8]>) -> Vec<u8> {
    message_with(message_id(), kind, attributes, key)
}

fn message_with(id: [u8; 12], kind: u16, attributes: &[(u16, &[u8])], key: Option<&[u8]>) -> Vec<u8> {
    let mut message = [&kind.to_be_bytes()[..], &[0, 0], &COOKIE, &id].concat();
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

fn is_stun(message: &[u8]) -> bool {
    message.len() >= HEADER && message.get(4..8) == Some(&COOKIE)
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

/// What addresses are masked with: the cookie and, for IPv6, the transaction (RFC 8489 section 14.2).
fn mask(id: &[u8]) -> [u8; 16] {
    let mut mask = [0; 16];
    mask[..4].copy_from_slice(&COOKIE);
    mask[4..].iter_mut().zip(id).for_each(|(mask, id)| *mask = *id);
    mask
}

fn address(value: &[u8], message: &[u8]) -> Option<SocketAddr> {
    let mask = mask(message.get(8..HEADER)?);
    let [_, family, p, q, ip @ ..] = value else { return None };
    let port = u16::from_be_bytes([p ^ mask[0], q ^ mask[1]]);
    let plain = |length: usize| ip.iter().zip(mask).map(|(byte, mask)| byte ^ mask).take(length).collect::<Vec<u8>>();
    let ip: IpAddr = match family {
        1 => Ipv4Addr::from(<[u8; 4]>::try_from(plain(4)).ok()?).into(),
        2 => Ipv6Addr::from(<[u8; 16]>::try_from(plain(16)).ok()?).into(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

fn xor_address(address: SocketAddr, id: &[u8; 12]) -> Vec<u8> {
    let mask = mask(id);
    let [p, q] = address.port().to_be_bytes();
    let (family, octets) = match address.ip() {
        IpAddr::V4(ip) => (1, ip.octets().to_vec()),
        IpAddr::V6(ip) => (2, ip.octets().to_vec()),
    };
    let masked = octets.iter().zip(mask).map(|(byte, mask)| byte ^ mask);
    [0, family, p ^ mask[0], q ^ mask[1]].into_iter().chain(masked).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn urls_follow_rfc_7065() {
        let parsed = |url: &str| Url::parse(url).map(|url| (url.host, url.port, url.transport));
        assert_eq!(parsed("turn:turn.example.org"), Some(("turn.example.org".to_owned(), 3478, Transport::Udp)));
        assert_eq!(parsed("turn:10.0.0.4:443?transport=tcp"), Some(("10.0.0.4".to_owned(), 443, Transport::Tcp)));
        assert_eq!(parsed("turns:[::1]?transport=tcp"), Some(("::1".to_owned(), 5349, Transport::Tls)));
        assert_eq!((parsed("stun:x"), parsed("turns:x?transport=udp"), parsed("turn:x:y"), parsed("turn:")), (None, None, None, None));
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

    /// RFC 5769 sections 2.2 and 2.3.
    #[test]
    fn addresses_are_masked_as_in_the_rfcs_examples() {
        let id: [u8; 12] = hex("b7e7a701bc34d686fa87dfae").try_into().unwrap();
        for (text, value) in [
            ("192.0.2.1:32853", "0001a147e112a643"),
            ("[2001:db8:1234:5678:11:2233:4455:6677]:32853", "0002a1470113a9faa5d3f179bc25f4b5bed2b9d9"),
        ] {
            let plain: SocketAddr = text.parse().unwrap();
            assert_eq!(xor_address(plain, &id), hex(value));
            assert_eq!(address(&hex(value), &message_with(id, ALLOCATE, &[], None)), Some(plain));
        }
    }

    fn hex(text: &str) -> Vec<u8> {
        let digits: String = text.split_ascii_whitespace().collect();
        (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
    }
}
