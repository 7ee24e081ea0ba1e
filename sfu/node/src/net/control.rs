//! The control messages of a send (`cmsg(3)`): bytes of each segment of a train, and the address that it leaves from.
//!
//! Written by hand, because what libraries add costs: a type of service, which is zero anyway, is 90 ns of 2,750 for a datagram
//! on loopback, and a message without any control data can go by `sendto`, which is another 100 ns less
//! (benches/results/hotpath.md).

use std::net::IpAddr;

use nix::libc;

/// Room for both messages on any architecture.
const CAPACITY: usize = 96;
/// Control messages begin at multiples of this.
const ALIGN: usize = size_of::<usize>();
/// Bytes of length, level and type in front of the data.
const HEADER: usize = (size_of::<usize>() + 8).next_multiple_of(ALIGN);

/// Control messages as the kernel reads them.
pub(crate) struct Control {
    bytes: [u8; CAPACITY],
    len: usize,
}

impl Control {
    /// Cuts the message into segments of this length, unless it is one; sends it from this address, unless the socket has but one.
    pub(crate) fn new(segment_len: Option<u16>, from: Option<IpAddr>) -> Self {
        let mut control = Self { bytes: [0; CAPACITY], len: 0 };
        if let Some(len) = segment_len {
            control.push(libc::SOL_UDP, libc::UDP_SEGMENT, &len.to_ne_bytes());
        }
        match from {
            // struct in_pktinfo: the interface (0: any), the source address, and one that is for receiving.
            Some(IpAddr::V4(ip)) => {
                let mut info = [0; 12];
                info[4..8].copy_from_slice(&ip.octets());
                control.push(libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
            }
            // struct in6_pktinfo: the source address, the interface.
            Some(IpAddr::V6(ip)) => {
                let mut info = [0; 20];
                info[..16].copy_from_slice(&ip.octets());
                control.push(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info);
            }
            None => {}
        }
        control
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn push(&mut self, level: libc::c_int, kind: libc::c_int, data: &[u8]) {
        let message = &mut self.bytes[self.len..];
        let len = HEADER + data.len();
        message[..ALIGN].copy_from_slice(&len.to_ne_bytes());
        message[ALIGN..ALIGN + 4].copy_from_slice(&level.to_ne_bytes());
        message[ALIGN + 4..ALIGN + 8].copy_from_slice(&kind.to_ne_bytes());
        message[HEADER..len].copy_from_slice(data);
        self.len += len.next_multiple_of(ALIGN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_control_data_has_room() {
        let control = Control::new(Some(1_200), Some(IpAddr::V6(std::net::Ipv6Addr::LOCALHOST)));
        assert!(control.bytes().len() <= CAPACITY && control.bytes().len().is_multiple_of(ALIGN));
    }

    #[test]
    fn without_anything_to_say_there_is_no_control_data() {
        assert!(Control::new(None, None).bytes().is_empty());
    }
}
