//! Asks a STUN server under which address the internet sees this machine: once, before a node starts.
//!
//! In: `stun:host:port`. Out: one address per family that the server has and this machine can reach it by, with the local end
//! that it was seen from. Only the address is used: media has other ports, which a one-to-one NAT leaves as they are. Behind any
//! other kind of NAT a server can't be reached without port forwarding, and then `AdvertisedAddress` says what was forwarded.
//! RFC 8489 sections 5, 6.2.1 and 14.2. Blocks for [`WAITS`] at most per family.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::time::Duration;

use crate::addresses::AdvertisedAddress;

/// How long each of the requests is waited for (RFC 8489 section 6.2.1: 500 ms, doubling).
const WAITS: [Duration; 3] = [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2)];
/// RFC 7064 section 3.2.
const DEFAULT_PORT: u16 = 3478;
const MAGIC_COOKIE: [u8; 4] = 0x2112_A442_u32.to_be_bytes();
const BINDING_REQUEST: [u8; 2] = [0, 1];
const BINDING_SUCCESS: [u8; 2] = [1, 1];
const XOR_MAPPED_ADDRESS: [u8; 2] = [0, 0x20];

/// Where this machine is seen, by each family that works; IPv4 first.
///
/// # Errors
/// The server's name is malformed or unknown, or nothing came back by either family.
pub(crate) fn public_addresses(server: &str) -> io::Result<Vec<AdvertisedAddress>> {
    let servers = resolve(server)?;
    let mut found = Vec::new();
    let mut last_error = io::Error::new(ErrorKind::NotFound, "the name has no address");
    for is_ipv4 in [true, false] {
        let Some(&server) = servers.iter().find(|address| address.is_ipv4() == is_ipv4) else { continue };
        match ask(server) {
            Ok(address) => found.push(address),
            Err(error) => last_error = error,
        }
    }
    if found.is_empty() { Err(last_error) } else { Ok(found) }
}

/// `stun:host`, `stun:host:port`; an IPv6 address in brackets.
fn resolve(server: &str) -> io::Result<Vec<SocketAddr>> {
    let malformed = || io::Error::new(ErrorKind::InvalidInput, "write it as stun:host:port");
    let host_and_port = server.strip_prefix("stun:").filter(|rest| !rest.is_empty()).ok_or_else(malformed)?;
    let has_port = host_and_port.rsplit_once(':').is_some_and(|(host, port)| port.parse::<u16>().is_ok() && !host.ends_with(':'));
    let with_port = if has_port { host_and_port.to_owned() } else { format!("{host_and_port}:{DEFAULT_PORT}") };
    Ok(with_port.to_socket_addrs()?.collect())
}

fn ask(server: SocketAddr) -> io::Result<AdvertisedAddress> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(server)?;
    let local = socket.local_addr()?.ip();
    let transaction: [u8; 12] = rand::random();
    let request = [&BINDING_REQUEST[..], &[0, 0], &MAGIC_COOKIE, &transaction].concat();
    let mut buffer = [0; 1500];
    for wait in WAITS {
        socket.set_read_timeout(Some(wait))?;
        socket.send(&request)?;
        match socket.recv(&mut buffer) {
            Ok(len) => {
                // Anything else is not an answer to this; the next request will be.
                if let Some(public) = buffer.get(..len).and_then(|answer| mapped_address(answer, &transaction)) {
                    return Ok(AdvertisedAddress { public, local: Some(local) });
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::new(ErrorKind::TimedOut, format!("no answer from {server}")))
}

/// XOR-MAPPED-ADDRESS of a success response.
fn mapped_address(answer: &[u8], transaction: &[u8; 12]) -> Option<IpAddr> {
    let (header, mut rest) = answer.split_first_chunk::<20>()?;
    if header[..2] != BINDING_SUCCESS || header[4..8] != MAGIC_COOKIE || header[8..] != *transaction {
        return None;
    }
    let mask: Vec<u8> = [&MAGIC_COOKIE[..], transaction].concat();
    while let Some((&[k0, k1, l0, l1], body)) = rest.split_first_chunk::<4>() {
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let value = body.get(..length)?;
        if [k0, k1] == XOR_MAPPED_ADDRESS {
            let (&[_, family, _, _], address) = value.split_first_chunk::<4>()?;
            let plain: Vec<u8> = address.iter().zip(mask).map(|(a, m)| a ^ m).collect();
            return match family {
                1 => <[u8; 4]>::try_from(plain).ok().map(IpAddr::from),
                2 => <[u8; 16]>::try_from(plain).ok().map(IpAddr::from),
                _ => None,
            };
        }
        rest = body.get(length.next_multiple_of(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_server_tells_where_it_sees_us() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let url = format!("stun:{}", server.local_addr().unwrap());
        let answering = std::thread::spawn(move || {
            let mut request = [0; 100];
            let (len, client) = server.recv_from(&mut request).unwrap();
            assert_eq!(len, 20);
            server.send_to(&answer(&request[8..20], [203, 0, 113, 9]), client).unwrap();
        });
        let found = public_addresses(&url).unwrap();
        answering.join().unwrap();
        assert_eq!(found, ["203.0.113.9=>127.0.0.1".parse().unwrap()]);
    }

    #[test]
    fn an_answer_to_somebody_else_is_none() {
        let transaction = [7; 12];
        assert_eq!(mapped_address(&answer(&transaction, [203, 0, 113, 9]), &transaction), Some(IpAddr::from([203, 0, 113, 9])));
        assert_eq!(mapped_address(&answer(&[8; 12], [203, 0, 113, 9]), &transaction), None);
        let whole = answer(&transaction, [203, 0, 113, 9]);
        for len in 0..whole.len() {
            assert_eq!(mapped_address(&whole[..len], &transaction), None, "{len} bytes");
        }
    }

    #[test]
    fn a_name_without_a_port_gets_the_usual_one() {
        let resolved = |text: &str| resolve(text).unwrap();
        assert_eq!(resolved("stun:127.0.0.1"), ["127.0.0.1:3478".parse().unwrap()]);
        assert_eq!(resolved("stun:127.0.0.1:99"), ["127.0.0.1:99".parse().unwrap()]);
        assert_eq!(resolved("stun:[::1]:99"), ["[::1]:99".parse().unwrap()]);
        assert_eq!(resolved("stun:[::1]"), ["[::1]:3478".parse().unwrap()]);
        for text in ["", "127.0.0.1", "stun:", "turn:127.0.0.1"] {
            assert_eq!(resolve(text).unwrap_err().kind(), ErrorKind::InvalidInput, "{text}");
        }
    }

    /// A success response with SOFTWARE in front, so that the walk has something to skip.
    fn answer(transaction: &[u8], address: [u8; 4]) -> Vec<u8> {
        let xored: Vec<u8> = address.iter().zip(MAGIC_COOKIE).map(|(a, m)| a ^ m).collect();
        let software = [0x80, 0x22, 0, 3, b'a', b'b', b'c', 0];
        let attributes = [&software[..], &XOR_MAPPED_ADDRESS, &[0, 8, 0, 1, 0x11, 0x22], &xored].concat();
        [&BINDING_SUCCESS[..], &[0, u8::try_from(attributes.len()).unwrap()], &MAGIC_COOKIE, transaction, &attributes].concat()
    }
}
