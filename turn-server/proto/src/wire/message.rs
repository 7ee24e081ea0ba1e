//! A checked view of a STUN message, borrowing from the packet.
//!
//! In: a packet whose first two bits are zero. Out: [`Message`], with the attributes that a TURN server knows.
//! Invariants: of an attribute that comes twice only the first counts (RFC 8489 section 14), XOR-PEER-ADDRESS apart; what stands
//! behind MESSAGE-INTEGRITY is not read but for MESSAGE-INTEGRITY-SHA256 and FINGERPRINT (section 14.5), because nobody
//! vouches for it; a wrong FINGERPRINT makes it no message.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;

use arrayvec::ArrayVec;
use hmac::Hmac;
use sha1::Sha1;
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use super::channel::ChannelNumber;
use super::{HEADER_BYTES, MAGIC_COOKIE, TransactionId, attribute as at, fingerprint_of};

/// Peers that one CreatePermission may name.
pub const MAX_PEERS: usize = 16;
/// Unknown attributes that an error names.
pub const MAX_UNKNOWN: usize = 8;
/// Length of MESSAGE-INTEGRITY.
pub(crate) const SHA1_BYTES: usize = 20;
/// Length of a whole MESSAGE-INTEGRITY-SHA256; it may be cut down to 16.
pub(crate) const SHA256_BYTES: usize = 32;

/// Class of a message (RFC 8489 section 5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Class {
    Request,
    Indication,
    Success,
    Error,
}

/// Hash behind a message's integrity.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Integrity {
    /// MESSAGE-INTEGRITY.
    Sha1,
    /// MESSAGE-INTEGRITY-SHA256 with so many bytes.
    Sha256(usize),
}

/// A message that is well formed.
#[derive(Debug)]
pub struct Message<'a> {
    bytes: &'a [u8],
    /// What it is about; see [`super::method`].
    pub method: u16,
    /// Request, answer or neither.
    pub class: Class,
    /// Ties an answer to its request.
    pub transaction: TransactionId,
    /// Its attributes.
    pub attributes: Attributes<'a>,
}

/// The attributes that a TURN server reads. A value that has not the form of its attribute makes the message malformed.
#[derive(Debug, Default)]
#[allow(missing_docs)]
pub struct Attributes<'a> {
    pub username: Option<&'a [u8]>,
    pub userhash: Option<&'a [u8; 32]>,
    pub realm: Option<&'a [u8]>,
    pub nonce: Option<&'a [u8]>,
    pub password_algorithms: Option<&'a [u8]>,
    /// The algorithm's number; parameters are none for those that exist.
    pub password_algorithm: Option<u16>,
    pub lifetime_seconds: Option<u32>,
    pub peers: ArrayVec<SocketAddr, MAX_PEERS>,
    /// More peers than there is room for.
    pub has_too_many_peers: bool,
    /// Where in the packet the payload of DATA is.
    pub data: Option<Range<usize>>,
    /// As on the wire, valid or not.
    pub channel_number: Option<u16>,
    pub requested_transport: Option<u8>,
    pub requested_family: Option<u8>,
    pub additional_family: Option<u8>,
    /// EVEN-PORT with its R bit.
    pub even_port: Option<bool>,
    pub reservation_token: Option<[u8; 8]>,
    pub dont_fragment: bool,
    pub connection_id: Option<u32>,
    /// CHANGE-REQUEST: another address, another port.
    pub change_request: Option<(bool, bool)>,
    pub response_port: Option<u16>,
    /// ERROR-CODE of an answer.
    pub error_code: Option<u16>,
    /// XOR-MAPPED-ADDRESS of an answer.
    pub mapped: Option<SocketAddr>,
    /// XOR-RELAYED-ADDRESS of an answer: one, or one of each family.
    pub relayed: ArrayVec<SocketAddr, 2>,
    /// Comprehension-required ones that are not known here; the first few.
    pub unknown: ArrayVec<u16, MAX_UNKNOWN>,
    /// Offset and value.
    sha1: Option<(usize, &'a [u8])>,
    sha256: Option<(usize, &'a [u8])>,
}

impl<'a> Message<'a> {
    /// Reads a packet. `None`: it is no STUN message, or a malformed one.
    #[must_use]
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (header, body) = bytes.split_first_chunk::<HEADER_BYTES>()?;
        let [t0, t1, l0, l1, c0, c1, c2, c3, ..] = *header;
        let kind = u16::from_be_bytes([t0, t1]);
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let is_stun = kind & 0xC000 == 0 && u32::from_be_bytes([c0, c1, c2, c3]) == MAGIC_COOKIE;
        if !is_stun || length != body.len() || !length.is_multiple_of(4) {
            return None;
        }
        let transaction = *header.last_chunk()?;
        let attributes = Attributes::parse(bytes, &transaction)?;
        let (method, class) = split_kind(kind);
        Some(Self { bytes, method, class, transaction, attributes })
    }

    /// The strongest integrity attribute that it has.
    #[must_use]
    pub fn integrity(&self) -> Option<Integrity> {
        let sha256 = self.attributes.sha256.map(|(_, value)| Integrity::Sha256(value.len()));
        sha256.or(self.attributes.sha1.map(|_| Integrity::Sha1))
    }

    /// The strongest integrity attribute was made with this key.
    #[must_use]
    pub fn is_authentic(&self, key: &[u8]) -> bool {
        if let Some((offset, value)) = self.attributes.sha256 {
            return self.mac::<Hmac<Sha256>>(key, offset, value);
        }
        self.attributes.sha1.is_some_and(|(offset, value)| self.mac::<Hmac<Sha1>>(key, offset, value))
    }

    fn mac<M: hmac::Mac + hmac::KeyInit>(&self, key: &[u8], offset: usize, value: &[u8]) -> bool {
        let Ok(mut mac) = <M as hmac::KeyInit>::new_from_slice(key) else { return false };
        // RFC 8489 section 14.5: the length field counts up to and including this attribute.
        let counted = u16::try_from(offset + 4 + value.len() - HEADER_BYTES).ok();
        let (Some(signed), Some(counted)) = (self.bytes.get(..offset), counted) else { return false };
        let (Some(before), Some(after)) = (signed.get(..2), signed.get(4..)) else { return false };
        mac.update(before);
        mac.update(&counted.to_be_bytes());
        mac.update(after);
        mac.finalize().into_bytes().get(..value.len()).is_some_and(|made| made.ct_eq(value).into())
    }
}

impl<'a> Attributes<'a> {
    fn parse(bytes: &'a [u8], transaction: &TransactionId) -> Option<Self> {
        let mut found = Self::default();
        let mut at = HEADER_BYTES;
        while at < bytes.len() {
            let [k0, k1, l0, l1] = *bytes.get(at..)?.first_chunk::<4>()?;
            let kind = u16::from_be_bytes([k0, k1]);
            let value_at = at + 4..at + 4 + usize::from(u16::from_be_bytes([l0, l1]));
            let value = bytes.get(value_at.clone())?;
            match kind {
                at::FINGERPRINT => {
                    let is_last = value_at.end == bytes.len();
                    let is_right = is_last && *value.as_array::<4>()? == fingerprint_of(bytes.get(..at)?).to_be_bytes();
                    return is_right.then_some(found);
                }
                // RFC 8489 section 14.6: at least 16 bytes, at most 32, a multiple of 4
                at::MESSAGE_INTEGRITY_SHA256 if found.sha256.is_none() => {
                    let is_formed = (16..=SHA256_BYTES).contains(&value.len()) && value.len().is_multiple_of(4);
                    found.sha256 = is_formed.then_some((at, value));
                    found.sha256?;
                }
                _ if found.sha256.is_some() => {}
                at::MESSAGE_INTEGRITY if found.sha1.is_none() => {
                    found.sha1 = Some((at, value.as_array::<SHA1_BYTES>()?.as_slice()));
                }
                _ if found.sha1.is_some() => {}
                _ => found.read(kind, value, value_at.clone(), transaction)?,
            }
            at = value_at.end.next_multiple_of(4);
        }
        (at == bytes.len()).then_some(found)
    }

    fn read(&mut self, kind: u16, value: &'a [u8], range: Range<usize>, transaction: &TransactionId) -> Option<()> {
        match kind {
            // RFC 8489 section 14.3: fewer than 509 bytes
            at::USERNAME => set(&mut self.username, (value.len() < 509).then_some(value)?),
            at::USERHASH => set(&mut self.userhash, value.as_array()?),
            at::REALM => set(&mut self.realm, (value.len() < 764).then_some(value)?),
            at::NONCE => set(&mut self.nonce, (value.len() < 764).then_some(value)?),
            at::PASSWORD_ALGORITHMS => set(&mut self.password_algorithms, value),
            at::PASSWORD_ALGORITHM => set(&mut self.password_algorithm, u16::from_be_bytes(*value.first_chunk()?)),
            at::LIFETIME => set(&mut self.lifetime_seconds, u32::from_be_bytes(*value.as_array()?)),
            at::XOR_PEER_ADDRESS => {
                let peer = xor_address(value, transaction)?;
                self.has_too_many_peers |= self.peers.try_push(peer).is_err();
            }
            at::DATA => set(&mut self.data, range),
            at::CHANNEL_NUMBER => set(&mut self.channel_number, u16::from_be_bytes([value.as_array::<4>()?[0], value[1]])),
            at::REQUESTED_TRANSPORT => set(&mut self.requested_transport, value.as_array::<4>()?[0]),
            at::REQUESTED_ADDRESS_FAMILY => set(&mut self.requested_family, value.as_array::<4>()?[0]),
            at::ADDITIONAL_ADDRESS_FAMILY | at::ADDITIONAL_ADDRESS_FAMILY_OF_DRAFTS => {
                set(&mut self.additional_family, value.as_array::<4>()?[0])
            }
            at::EVEN_PORT => set(&mut self.even_port, value.first()? & 0x80 != 0),
            at::RESERVATION_TOKEN => set(&mut self.reservation_token, *value.as_array()?),
            at::DONT_FRAGMENT => self.dont_fragment = true,
            at::CONNECTION_ID => set(&mut self.connection_id, u32::from_be_bytes(*value.as_array()?)),
            at::CHANGE_REQUEST => {
                let flags = value.as_array::<4>()?[3];
                set(&mut self.change_request, (flags & 4 != 0, flags & 2 != 0));
            }
            at::RESPONSE_PORT => set(&mut self.response_port, u16::from_be_bytes(*value.first_chunk()?)),
            at::ERROR_CODE => {
                let [_, _, class, number] = *value.first_chunk()?;
                set(&mut self.error_code, u16::from(class & 7) * 100 + u16::from(number));
            }
            at::XOR_MAPPED_ADDRESS => set(&mut self.mapped, xor_address(value, transaction)?),
            at::XOR_RELAYED_ADDRESS => {
                let _ = self.relayed.try_push(xor_address(value, transaction)?);
            }
            at::PADDING | at::UNKNOWN_ATTRIBUTES => {}
            kind if kind < at::COMPREHENSION_OPTIONAL => {
                let _ = self.unknown.try_push(kind);
            }
            _ => {}
        }
        Some(())
    }
}

/// The first one counts.
fn set<T>(place: &mut Option<T>, value: T) {
    if place.is_none() {
        *place = Some(value);
    }
}

/// RFC 8489 section 5: the class's two bits stand between those of the method.
const fn split_kind(kind: u16) -> (u16, Class) {
    let method = kind & 0x000F | (kind & 0x00E0) >> 1 | (kind & 0x3E00) >> 2;
    let class = match (kind & 0x0100 != 0, kind & 0x0010 != 0) {
        (false, false) => Class::Request,
        (false, true) => Class::Indication,
        (true, false) => Class::Success,
        (true, true) => Class::Error,
    };
    (method, class)
}

/// Reads an XOR-*-ADDRESS (RFC 8489 section 14.2).
pub(crate) fn xor_address(value: &[u8], transaction: &TransactionId) -> Option<SocketAddr> {
    let ([_, family, p0, p1], address) = value.split_first_chunk::<4>()?;
    let port = u16::from_be_bytes([*p0, *p1]) ^ (MAGIC_COOKIE >> 16) as u16;
    let mut mask = [0; 16];
    mask[..4].copy_from_slice(&MAGIC_COOKIE.to_be_bytes());
    mask[4..].copy_from_slice(transaction);
    let ip = match family {
        1 => IpAddr::V4(Ipv4Addr::from_bits(u32::from_be_bytes(*address.as_array()?) ^ MAGIC_COOKIE)),
        2 => IpAddr::V6(Ipv6Addr::from_bits(u128::from_be_bytes(*address.as_array()?) ^ u128::from_be_bytes(mask))),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

impl Attributes<'_> {
    /// The channel that is named, if it is one that may be bound.
    #[must_use]
    pub fn channel(&self) -> Option<ChannelNumber> {
        self.channel_number.and_then(ChannelNumber::new)
    }
}
