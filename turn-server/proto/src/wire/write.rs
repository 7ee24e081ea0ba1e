//! Writes STUN messages.

use std::net::{IpAddr, SocketAddr};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;
use sha2::Sha256;

use super::message::{Class, Integrity, SHA1_BYTES};
use super::{HEADER_BYTES, MAGIC_COOKIE, TransactionId, attribute, fingerprint_of};

/// A message in the making.
#[derive(Debug)]
pub struct Writer {
    bytes: Vec<u8>,
    transaction: TransactionId,
}

impl Writer {
    /// Begins a message.
    #[must_use]
    pub fn new(method: u16, class: Class, transaction: &TransactionId) -> Self {
        let class_bits = match class {
            Class::Request => 0,
            Class::Indication => 0x0010,
            Class::Success => 0x0100,
            Class::Error => 0x0110,
        };
        let kind = method & 0x000F | (method & 0x0070) << 1 | (method & 0x0F80) << 2 | class_bits;
        let mut bytes = Vec::with_capacity(160);
        bytes.extend(kind.to_be_bytes());
        bytes.extend([0, 0]);
        bytes.extend(MAGIC_COOKIE.to_be_bytes());
        bytes.extend(transaction);
        Self { bytes, transaction: *transaction }
    }

    /// Adds an attribute.
    ///
    /// # Panics
    /// When the value is longer than an attribute can be; no value of ours is.
    pub fn attribute(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = u16::try_from(value.len()).expect("values are short, and payloads are bounded by a datagram");
        self.bytes.extend(kind.to_be_bytes());
        self.bytes.extend(length.to_be_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        let body = u16::try_from(self.bytes.len() - HEADER_BYTES).unwrap_or(u16::MAX);
        self.bytes[2..4].copy_from_slice(&body.to_be_bytes());
        self
    }

    /// Adds an XOR-*-ADDRESS.
    pub fn xor_address(&mut self, kind: u16, address: SocketAddr) -> &mut Self {
        let (value, length) = xor_address(address, &self.transaction);
        self.attribute(kind, &value[..length])
    }

    /// Adds an address in the clear (RFC 5780 section 7.3 and 7.4).
    pub fn address(&mut self, kind: u16, address: SocketAddr) -> &mut Self {
        let mut value = vec![0, if address.is_ipv4() { 1 } else { 2 }];
        value.extend(address.port().to_be_bytes());
        match address.ip() {
            IpAddr::V4(ip) => value.extend(ip.octets()),
            IpAddr::V6(ip) => value.extend(ip.octets()),
        }
        self.attribute(kind, &value)
    }

    /// Adds ERROR-CODE.
    pub fn error_code(&mut self, code: u16, reason: &str) -> &mut Self {
        let mut value = vec![0, 0, u8::try_from(code / 100).unwrap_or(5), u8::try_from(code % 100).unwrap_or(0)];
        value.extend(reason.as_bytes());
        self.attribute(attribute::ERROR_CODE, &value)
    }

    /// Ends with integrity of the kind that the request had.
    #[must_use]
    pub fn signed(mut self, integrity: Integrity, key: &[u8]) -> Vec<u8> {
        let length = match integrity {
            Integrity::Sha1 => SHA1_BYTES,
            Integrity::Sha256(length) => length,
        };
        let body = u16::try_from(self.bytes.len() - HEADER_BYTES + 4 + length).unwrap_or(u16::MAX);
        self.bytes[2..4].copy_from_slice(&body.to_be_bytes());
        match integrity {
            Integrity::Sha1 => {
                let mut mac = Hmac::<Sha1>::new_from_slice(key).expect("HMAC takes keys of any length");
                mac.update(&self.bytes);
                self.attribute(attribute::MESSAGE_INTEGRITY, &mac.finalize().into_bytes());
            }
            Integrity::Sha256(length) => {
                let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
                mac.update(&self.bytes);
                let whole = mac.finalize().into_bytes();
                self.attribute(attribute::MESSAGE_INTEGRITY_SHA256, whole.get(..length).unwrap_or(&whole));
            }
        }
        self.bytes
    }

    /// Ends without integrity.
    #[must_use]
    pub fn unsigned(self) -> Vec<u8> {
        self.bytes
    }

    /// Ends with FINGERPRINT.
    #[must_use]
    pub fn fingerprinted(mut self) -> Vec<u8> {
        let body = u16::try_from(self.bytes.len() - HEADER_BYTES + 8).unwrap_or(u16::MAX);
        self.bytes[2..4].copy_from_slice(&body.to_be_bytes());
        let fingerprint = fingerprint_of(&self.bytes);
        self.attribute(attribute::FINGERPRINT, &fingerprint.to_be_bytes());
        self.bytes
    }
}

/// The value of an XOR-*-ADDRESS and its length.
fn xor_address(address: SocketAddr, transaction: &TransactionId) -> ([u8; 20], usize) {
    let mut value = [0; 20];
    value[2..4].copy_from_slice(&(address.port() ^ (MAGIC_COOKIE >> 16) as u16).to_be_bytes());
    match address.ip() {
        IpAddr::V4(ip) => {
            value[1] = 1;
            value[4..8].copy_from_slice(&(ip.to_bits() ^ MAGIC_COOKIE).to_be_bytes());
            (value, 8)
        }
        IpAddr::V6(ip) => {
            value[1] = 2;
            let mut mask = [0; 16];
            mask[..4].copy_from_slice(&MAGIC_COOKIE.to_be_bytes());
            mask[4..].copy_from_slice(transaction);
            value[4..].copy_from_slice(&(ip.to_bits() ^ u128::from_be_bytes(mask)).to_be_bytes());
            (value, 20)
        }
    }
}

/// Longest [`data_indication_header`].
pub const MAX_DATA_INDICATION_HEADER: usize = HEADER_BYTES + 24 + 4;

/// Everything of a Data indication but its payload and the payload's padding. The payload is the last attribute, so that it can
/// stay where it is. Returns the bytes and how many of them count.
#[must_use]
pub fn data_indication_header(
    peer: SocketAddr,
    payload_len: u16,
    transaction: &TransactionId,
) -> ([u8; MAX_DATA_INDICATION_HEADER], usize) {
    let mut header = [0; MAX_DATA_INDICATION_HEADER];
    let (address, address_len) = xor_address(peer, transaction);
    let data_at = HEADER_BYTES + 4 + address_len;
    let body = data_at + 4 - HEADER_BYTES + usize::from(payload_len).next_multiple_of(4);
    // method 0x007, indication
    header[..2].copy_from_slice(&0x0017_u16.to_be_bytes());
    header[2..4].copy_from_slice(&u16::try_from(body).unwrap_or(u16::MAX).to_be_bytes());
    header[4..8].copy_from_slice(&MAGIC_COOKIE.to_be_bytes());
    header[8..20].copy_from_slice(transaction);
    header[20..22].copy_from_slice(&attribute::XOR_PEER_ADDRESS.to_be_bytes());
    header[23] = u8::try_from(address_len).unwrap_or(20);
    header[24..24 + address_len].copy_from_slice(&address[..address_len]);
    header[data_at..data_at + 2].copy_from_slice(&attribute::DATA.to_be_bytes());
    header[data_at + 2..data_at + 4].copy_from_slice(&payload_len.to_be_bytes());
    (header, data_at + 4)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::message::Message;
    use super::super::method;
    use super::*;

    const TRANSACTION: TransactionId = *b"transactionn";

    #[test]
    fn a_data_indication_is_a_message_that_reads_back() {
        for peer in ["192.0.2.1:7", "[2001:db8::1]:65535"] {
            let peer: SocketAddr = peer.parse().unwrap();
            for payload in [&b""[..], b"a", b"abcd", b"abcde"] {
                let (header, length) = data_indication_header(peer, u16::try_from(payload.len()).unwrap(), &TRANSACTION);
                let mut bytes = [&header[..length], payload].concat();
                bytes.resize(bytes.len().next_multiple_of(4), 0);
                let message = Message::parse(&bytes).unwrap();
                assert_eq!((message.method, message.class), (method::DATA, Class::Indication));
                assert_eq!(message.attributes.peers.as_slice(), [peer]);
                assert_eq!(&bytes[message.attributes.data.unwrap()], payload);
            }
        }
    }

    #[test]
    fn what_is_signed_is_authentic_with_the_same_key_only() {
        for integrity in [Integrity::Sha1, Integrity::Sha256(16), Integrity::Sha256(32)] {
            let mut writer = Writer::new(method::REFRESH, Class::Request, &TRANSACTION);
            writer.attribute(attribute::USERNAME, b"user").attribute(attribute::LIFETIME, &600_u32.to_be_bytes());
            let mut bytes = writer.signed(integrity, b"key");
            let message = Message::parse(&bytes).unwrap();
            assert_eq!(message.integrity(), Some(integrity));
            assert!(message.is_authentic(b"key") && !message.is_authentic(b"kez"));
            assert_eq!(message.attributes.lifetime_seconds, Some(600));
            bytes[25] ^= 1;
            assert!(!Message::parse(&bytes).unwrap().is_authentic(b"key"));
        }
    }

    #[test]
    fn a_wrong_fingerprint_is_no_message() {
        let mut bytes = Writer::new(method::BINDING, Class::Request, &TRANSACTION).fingerprinted();
        assert!(Message::parse(&bytes).is_some());
        *bytes.last_mut().unwrap() ^= 1;
        assert!(Message::parse(&bytes).is_none());
    }

    #[test]
    fn methods_and_classes_survive_their_interleaving() {
        for method in [0x001, 0x003, 0x00C, 0x07F, 0x080, 0xFFF] {
            for class in [Class::Request, Class::Indication, Class::Success, Class::Error] {
                let bytes = Writer::new(method, class, &TRANSACTION).unsigned();
                let message = Message::parse(&bytes).unwrap();
                assert_eq!((message.method, message.class), (method, class));
            }
        }
    }
}
