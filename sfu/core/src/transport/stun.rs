//! STUN as an ICE-lite agent needs it: a checked view of a Binding request, and the answers to it.
//!
//! In: a datagram whose first byte says STUN (RFC 7983). Out: [`BindingRequest`], borrowing from the datagram, and
//! responses written into the outbox's arena. Invariant: whatever stands behind MESSAGE-INTEGRITY is not read (only
//! FINGERPRINT may follow it), because nobody vouches for it. RFC 8489 (messages), RFC 8445 section 7 (attributes).
//! Not here: what a request means ([`super::ice`]).

use std::net::{IpAddr, SocketAddr};

use arrayvec::ArrayVec;
use aws_lc_rs::{constant_time, hmac};

use crate::error::Discard;

/// The 96 bits that tie an answer to its request.
pub type TransactionId = [u8; 12];

/// What the sender of a request believes its role to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ClaimedRole {
    /// ICE-CONTROLLING, or no role attribute at all.
    Controlling,
    /// ICE-CONTROLLED, which can't be right: this side is lite and therefore controlled.
    Controlled,
}

/// A Binding request that is well formed and carries USERNAME, MESSAGE-INTEGRITY and a right FINGERPRINT. Whether the
/// integrity holds is for [`Self::is_authentic`] to say; until then nothing in it may be acted on.
#[derive(Debug)]
pub(crate) struct BindingRequest<'a> {
    /// Echoed in the answer.
    pub(crate) transaction: TransactionId,
    /// First part of USERNAME: our fragment.
    pub(crate) local_ufrag: &'a str,
    /// Second part of USERNAME: the sender's fragment.
    pub(crate) remote_ufrag: &'a str,
    /// USE-CANDIDATE is there.
    pub(crate) is_nomination: bool,
    /// Role attribute.
    pub(crate) role: ClaimedRole,
    /// Comprehension-required attributes that mean nothing here (RFC 8489 section 6.3.1); the first few.
    pub(crate) unknown: ArrayVec<u16, MAX_UNKNOWN>,
    /// Everything in front of MESSAGE-INTEGRITY.
    signed: &'a [u8],
    integrity: &'a [u8],
}

impl<'a> BindingRequest<'a> {
    /// Reads a datagram.
    ///
    /// # Errors
    /// [`Discard::StunMalformed`] if it is not a Binding request, [`Discard::StunIntegrity`] if MESSAGE-INTEGRITY or
    /// FINGERPRINT is absent or FINGERPRINT is wrong, [`Discard::StunUnknownUser`] without a usable USERNAME.
    pub(crate) fn parse(datagram: &'a [u8]) -> Result<Self, Discard> {
        let (header, body) = split_message(datagram, BINDING_REQUEST).ok_or(Discard::StunMalformed)?;
        let transaction = header.last_chunk::<12>().copied().ok_or(Discard::StunMalformed)?;
        let mut username = None;
        let mut integrity = None;
        let mut fingerprint = None;
        let mut is_nomination = false;
        let mut role = ClaimedRole::Controlling;
        let mut unknown = ArrayVec::new();
        for attribute in Attributes::new(body) {
            let Attribute { kind, value, offset } = attribute?;
            if kind == FINGERPRINT {
                fingerprint = Some((offset, value));
                break;
            }
            if integrity.is_some() {
                continue;
            }
            match kind {
                USERNAME => username = Some(value),
                MESSAGE_INTEGRITY => integrity = Some((offset, value)),
                USE_CANDIDATE => is_nomination = true,
                ICE_CONTROLLED => role = ClaimedRole::Controlled,
                PRIORITY | ICE_CONTROLLING | MESSAGE_INTEGRITY_SHA256 => {}
                kind if kind < COMPREHENSION_OPTIONAL => {
                    let _ = unknown.try_push(kind);
                }
                _ => {}
            }
        }
        let (integrity_at, integrity) = integrity.ok_or(Discard::StunIntegrity)?;
        let (fingerprint_at, fingerprint) = fingerprint.ok_or(Discard::StunIntegrity)?;
        let checked = datagram.get(..HEADER_LEN + fingerprint_at).ok_or(Discard::StunMalformed)?;
        if fingerprint != fingerprint_of(checked).to_be_bytes() || integrity.len() != INTEGRITY_LEN {
            return Err(Discard::StunIntegrity);
        }
        let username = username.and_then(|u| std::str::from_utf8(u).ok()).ok_or(Discard::StunUnknownUser)?;
        let (local_ufrag, remote_ufrag) = username.split_once(':').ok_or(Discard::StunUnknownUser)?;
        let signed = datagram.get(..HEADER_LEN + integrity_at).ok_or(Discard::StunMalformed)?;
        Ok(Self { transaction, local_ufrag, remote_ufrag, is_nomination, role, unknown, signed, integrity })
    }

    /// MESSAGE-INTEGRITY was made with this key.
    pub(crate) fn is_authentic(&self, key: &hmac::Key) -> bool {
        has_integrity(self.signed, self.integrity, key)
    }
}

/// The answer to a Binding request of ours, well formed and with a right FINGERPRINT. Nothing in it counts before
/// [`Self::is_authentic`] has said so.
#[derive(Debug)]
pub(crate) struct BindingSuccess<'a> {
    /// Of the request that it answers.
    pub(crate) transaction: TransactionId,
    /// Everything in front of MESSAGE-INTEGRITY.
    signed: &'a [u8],
    integrity: &'a [u8],
}

impl<'a> BindingSuccess<'a> {
    /// Reads a datagram.
    ///
    /// # Errors
    /// [`Discard::StunMalformed`] if it is not a Binding success response, [`Discard::StunIntegrity`] if MESSAGE-INTEGRITY or
    /// FINGERPRINT is absent or FINGERPRINT is wrong.
    pub(crate) fn parse(datagram: &'a [u8]) -> Result<Self, Discard> {
        let (header, body) = split_message(datagram, BINDING_SUCCESS).ok_or(Discard::StunMalformed)?;
        let transaction = header.last_chunk::<12>().copied().ok_or(Discard::StunMalformed)?;
        let (mut integrity, mut fingerprint) = (None, None);
        for attribute in Attributes::new(body) {
            let Attribute { kind, value, offset } = attribute?;
            match kind {
                MESSAGE_INTEGRITY if integrity.is_none() => integrity = Some((offset, value)),
                FINGERPRINT => {
                    fingerprint = Some((offset, value));
                    break;
                }
                _ => {}
            }
        }
        let (integrity_at, integrity) = integrity.ok_or(Discard::StunIntegrity)?;
        let (fingerprint_at, fingerprint) = fingerprint.ok_or(Discard::StunIntegrity)?;
        let checked = datagram.get(..HEADER_LEN + fingerprint_at).ok_or(Discard::StunMalformed)?;
        if fingerprint != fingerprint_of(checked).to_be_bytes() || integrity.len() != INTEGRITY_LEN {
            return Err(Discard::StunIntegrity);
        }
        let signed = datagram.get(..HEADER_LEN + integrity_at).ok_or(Discard::StunMalformed)?;
        Ok(Self { transaction, signed, integrity })
    }

    /// MESSAGE-INTEGRITY was made with this key.
    pub(crate) fn is_authentic(&self, key: &hmac::Key) -> bool {
        has_integrity(self.signed, self.integrity, key)
    }
}

fn has_integrity(signed: &[u8], integrity: &[u8], key: &hmac::Key) -> bool {
    // RFC 8489 section 14.5: the length field counts up to and including MESSAGE-INTEGRITY.
    let length = signed.len().checked_sub(HEADER_LEN).map(|len| len + ATTRIBUTE_HEADER_LEN + INTEGRITY_LEN);
    let Some(length) = length.and_then(|length| u16::try_from(length).ok()) else { return false };
    let (Some(before), Some(after)) = (signed.get(..2), signed.get(4..)) else { return false };
    let mut context = hmac::Context::with_key(key);
    context.update(before);
    context.update(&length.to_be_bytes());
    context.update(after);
    constant_time::verify_slices_are_equal(context.sign().as_ref(), integrity).is_ok()
}

/// The request that a Binding success response says it answers, found without checking anything else.
#[must_use]
pub fn answered_transaction(datagram: &[u8]) -> Option<TransactionId> {
    let (header, _) = split_message(datagram, BINDING_SUCCESS)?;
    header.last_chunk().copied()
}

/// Our ICE fragment in the USERNAME of a Binding request, found without checking anything else: enough to choose the
/// transport that will check it.
#[must_use]
pub fn username_ufrag(datagram: &[u8]) -> Option<&str> {
    let (_, body) = split_message(datagram, BINDING_REQUEST)?;
    for attribute in Attributes::new(body) {
        let attribute = attribute.ok()?;
        if attribute.kind == USERNAME {
            let (local, _) = std::str::from_utf8(attribute.value).ok()?.split_once(':')?;
            return Some(local);
        }
    }
    None
}

/// The key of short-term credentials (RFC 8489 section 9.1.1).
pub(crate) fn key(pwd: &str) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, pwd.as_bytes())
}

/// Writes a check of the controlled side (RFC 8445 section 7.2.2); `key` is of the other side's password.
pub(crate) fn write_request(out: &mut Vec<u8>, transaction: &TransactionId, username: &str, tie_breaker: u64, key: &hmac::Key) {
    let mut message = Writer::begin(out, BINDING_REQUEST, transaction);
    message.attribute(USERNAME, username.as_bytes());
    message.attribute(ICE_CONTROLLED, &tie_breaker.to_be_bytes());
    message.attribute(PRIORITY, &PEER_REFLEXIVE_PRIORITY.to_be_bytes());
    message.finish(key);
}

/// Writes the success response that tells the client its address.
pub(crate) fn write_success(out: &mut Vec<u8>, transaction: &TransactionId, mapped: SocketAddr, key: &hmac::Key) {
    let mut message = Writer::begin(out, BINDING_SUCCESS, transaction);
    let port = mapped.port() ^ (MAGIC_COOKIE >> 16) as u16;
    let mut value = ArrayVec::<u8, 20>::new();
    let mut push = |family: u8, address: &[u8]| {
        value.extend([0, family]);
        value.extend(port.to_be_bytes());
        let mask = MAGIC_COOKIE.to_be_bytes().into_iter().chain(transaction.iter().copied());
        value.extend(address.iter().zip(mask).map(|(a, m)| a ^ m));
    };
    match mapped.ip().to_canonical() {
        IpAddr::V4(ip) => push(1, &ip.octets()),
        IpAddr::V6(ip) => push(2, &ip.octets()),
    }
    message.attribute(XOR_MAPPED_ADDRESS, &value);
    message.finish(key);
}

/// Writes a 487 (RFC 8445 section 7.3.1.1).
pub(crate) fn write_role_conflict(out: &mut Vec<u8>, transaction: &TransactionId, key: &hmac::Key) {
    let mut message = Writer::begin(out, BINDING_ERROR, transaction);
    message.attribute(ERROR_CODE, b"\0\0\x04\x57Role Conflict");
    message.finish(key);
}

/// Writes a 420 with the attributes that were not understood (RFC 8489 section 6.3.1).
pub(crate) fn write_unknown_attributes(out: &mut Vec<u8>, transaction: &TransactionId, kinds: &[u16], key: &hmac::Key) {
    let mut message = Writer::begin(out, BINDING_ERROR, transaction);
    message.attribute(ERROR_CODE, b"\0\0\x04\x14Unknown Attribute");
    let list: ArrayVec<u8, { MAX_UNKNOWN * 2 }> = kinds.iter().take(MAX_UNKNOWN).flat_map(|kind| kind.to_be_bytes()).collect();
    message.attribute(UNKNOWN_ATTRIBUTES, &list);
    message.finish(key);
}

/// Header and attributes of a message of this kind.
fn split_message(datagram: &[u8], kind: u16) -> Option<(&[u8; HEADER_LEN], &[u8])> {
    let (header, body) = datagram.split_first_chunk::<HEADER_LEN>()?;
    let [t0, t1, l0, l1, c0, c1, c2, c3, ..] = *header;
    let is_of_kind = u16::from_be_bytes([t0, t1]) == kind && u32::from_be_bytes([c0, c1, c2, c3]) == MAGIC_COOKIE;
    let length = usize::from(u16::from_be_bytes([l0, l1]));
    (is_of_kind && length == body.len() && length.is_multiple_of(4)).then_some((header, body))
}

struct Attribute<'a> {
    kind: u16,
    value: &'a [u8],
    /// Of the attribute's header, from the end of the message's header.
    offset: usize,
}

/// Walks the attributes of a message body; ends at the first one that does not fit.
struct Attributes<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl<'a> Attributes<'a> {
    fn new(body: &'a [u8]) -> Self {
        Self { rest: body, offset: 0 }
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<Attribute<'a>, Discard>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let attribute = self.rest.split_first_chunk::<ATTRIBUTE_HEADER_LEN>().and_then(|(&[k0, k1, l0, l1], body)| {
            let length = usize::from(u16::from_be_bytes([l0, l1]));
            let padded = length.next_multiple_of(4);
            let attribute = Attribute { kind: u16::from_be_bytes([k0, k1]), value: body.get(..length)?, offset: self.offset };
            self.rest = body.get(padded..)?;
            self.offset += ATTRIBUTE_HEADER_LEN + padded;
            Some(attribute)
        });
        if attribute.is_none() {
            self.rest = &[];
        }
        Some(attribute.ok_or(Discard::StunMalformed))
    }
}

/// Builds one message at the end of a buffer.
struct Writer<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
}

impl<'a> Writer<'a> {
    fn begin(out: &'a mut Vec<u8>, kind: u16, transaction: &TransactionId) -> Self {
        let start = out.len();
        out.extend(kind.to_be_bytes());
        out.extend([0, 0]);
        out.extend(MAGIC_COOKIE.to_be_bytes());
        out.extend(transaction);
        Self { out, start }
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(value.len()).expect("our attributes are short, and a user name has 513 bytes at most");
        self.out.extend(kind.to_be_bytes());
        self.out.extend(length.to_be_bytes());
        self.out.extend(value);
        self.out.resize(self.out.len() + value.len().next_multiple_of(4) - value.len(), 0);
    }

    /// Sets the length field as if `extra` more bytes followed.
    fn set_length(&mut self, extra: usize) {
        let length = u16::try_from(self.out.len() - self.start - HEADER_LEN + extra).expect("our messages are small");
        self.out[self.start + 2..self.start + 4].copy_from_slice(&length.to_be_bytes());
    }

    fn finish(mut self, key: &hmac::Key) {
        self.set_length(ATTRIBUTE_HEADER_LEN + INTEGRITY_LEN);
        let tag = hmac::sign(key, &self.out[self.start..]);
        self.attribute(MESSAGE_INTEGRITY, tag.as_ref());
        self.set_length(ATTRIBUTE_HEADER_LEN + FINGERPRINT_LEN);
        let fingerprint = fingerprint_of(&self.out[self.start..]);
        self.attribute(FINGERPRINT, &fingerprint.to_be_bytes());
    }
}

/// RFC 8489 section 14.7: CRC-32 (ITU V.42) of everything in front of the attribute, XORed so that it differs from
/// the CRC of a protocol that has one itself.
fn fingerprint_of(bytes: &[u8]) -> u32 {
    let crc = bytes.iter().fold(u32::MAX, |crc, &byte| CRC_TABLE[usize::from(byte ^ crc.to_le_bytes()[0])] ^ (crc >> 8));
    !crc ^ FINGERPRINT_XOR
}

const CRC_TABLE: [u32; 256] = {
    let mut table = [0_u32; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

const MAGIC_COOKIE: u32 = 0x2112_A442;
const FINGERPRINT_XOR: u32 = 0x5354_554E;
const HEADER_LEN: usize = 20;
const ATTRIBUTE_HEADER_LEN: usize = 4;
const INTEGRITY_LEN: usize = 20;
const FINGERPRINT_LEN: usize = 4;
const MAX_UNKNOWN: usize = 8;
/// RFC 8445 section 5.1.2.1 with type preference 110, for the candidate that a check would reveal.
const PEER_REFLEXIVE_PRIORITY: u32 = (110 << 24) | (0xffff << 8) | 255;

const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const BINDING_ERROR: u16 = 0x0111;

// RFC 8489 section 18.3 and RFC 8445 section 16.1
const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const ERROR_CODE: u16 = 0x0009;
const UNKNOWN_ATTRIBUTES: u16 = 0x000A;
const MESSAGE_INTEGRITY_SHA256: u16 = 0x001C;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const PRIORITY: u16 = 0x0024;
const USE_CANDIDATE: u16 = 0x0025;
const COMPREHENSION_OPTIONAL: u16 = 0x8000;
const FINGERPRINT: u16 = 0x8028;
const ICE_CONTROLLED: u16 = 0x8029;
const ICE_CONTROLLING: u16 = 0x802A;

#[cfg(test)]
pub(crate) mod testing {
    //! Connectivity checks as a client would send them, put together by another STUN stack, right or wrong on request.
    #![allow(clippy::unwrap_used)]

    use super::*;
    use rtc_stun::attributes::AttrType;
    use rtc_stun::fingerprint::FingerprintAttr;
    use rtc_stun::message::{Message, Setter, TransactionId};

    /// One check; the default is a right one.
    #[derive(Clone)]
    pub(crate) struct Check {
        username: Option<String>,
        pwd: Option<String>,
        attributes: Vec<(u16, Vec<u8>)>,
        role: u16,
        has_fingerprint: bool,
    }

    impl Check {
        pub(crate) fn new(username: &str, pwd: &str) -> Self {
            let attributes = vec![(PRIORITY, vec![0x6e, 0, 1, 0xff])];
            Self { username: Some(username.into()), pwd: Some(pwd.into()), attributes, role: ICE_CONTROLLING, has_fingerprint: true }
        }

        pub(crate) fn username(self, username: &str) -> Self {
            Self { username: Some(username.into()), ..self }
        }

        pub(crate) fn pwd(self, pwd: &str) -> Self {
            Self { pwd: Some(pwd.into()), ..self }
        }

        pub(crate) fn priority(mut self, priority: u32) -> Self {
            self.attributes[0].1 = priority.to_be_bytes().to_vec();
            self
        }

        pub(crate) fn nominating(self) -> Self {
            self.attribute(USE_CANDIDATE, &[])
        }

        pub(crate) fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
            self.attributes.push((kind, value.to_vec()));
            self
        }

        pub(crate) fn controlled(self) -> Self {
            Self { role: ICE_CONTROLLED, ..self }
        }

        pub(crate) fn without_username(self) -> Self {
            Self { username: None, ..self }
        }

        pub(crate) fn without_integrity(self) -> Self {
            Self { pwd: None, ..self }
        }

        pub(crate) fn without_fingerprint(self) -> Self {
            Self { has_fingerprint: false, ..self }
        }

        pub(crate) fn encode(&self) -> Vec<u8> {
            let mut message = Message::new();
            TransactionId::new().add_to(&mut message).unwrap();
            rtc_stun::message::BINDING_REQUEST.add_to(&mut message).unwrap();
            if let Some(username) = &self.username {
                message.add(AttrType(USERNAME), username.as_bytes());
            }
            message.add(AttrType(self.role), &7_u64.to_be_bytes());
            for (kind, value) in &self.attributes {
                message.add(AttrType(*kind), value);
            }
            message.write_header();
            if let Some(pwd) = &self.pwd {
                let mut signed = message.raw.clone();
                let length = u16::try_from(signed.len() - HEADER_LEN + 24).unwrap();
                signed[2..4].copy_from_slice(&length.to_be_bytes());
                message.add(AttrType(MESSAGE_INTEGRITY), hmac::sign(&key(pwd), &signed).as_ref());
            }
            if self.has_fingerprint {
                FingerprintAttr.add_to(&mut message).unwrap();
            }
            message.write_header();
            message.raw
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use proptest::prelude::*;
    use rtc_stun::fingerprint::FingerprintAttr;
    use rtc_stun::message::{Getter, Message};
    use rtc_stun::xoraddr::XorMappedAddress;

    /// RFC 5769 section 2.1, password `VOkJxbRl1RmTxUk/WvJxBt`.
    const RFC5769_REQUEST: &str = "000100582112a442b7e7a701bc34d686fa87dfae802200105354554e207465737420636c69656e74\
        002400046e0001ff80290008932ff9b151263b36000600096576746a3a68367659202020000800149aeaa70cbfd8cb56781ef2b5b2d3f249\
        c1b571a280280004e57a3bcf";
    const RFC5769_PASSWORD: &str = "VOkJxbRl1RmTxUk/WvJxBt";

    #[test]
    fn rfc5769_2_1_sample_request_is_read_and_authentic() {
        let bytes = hex::decode(RFC5769_REQUEST).unwrap();
        let request = BindingRequest::parse(&bytes).unwrap();
        assert_eq!((request.local_ufrag, request.remote_ufrag), ("evtj", "h6vY"));
        assert_eq!(request.role, ClaimedRole::Controlled);
        assert!(!request.is_nomination && request.unknown.is_empty());
        assert!(request.is_authentic(&key(RFC5769_PASSWORD)));
        assert!(!request.is_authentic(&key("VOkJxbRl1RmTxUk/WvJxBT")));
        assert_eq!(username_ufrag(&bytes), Some("evtj"));
    }

    #[test]
    fn every_flipped_bit_of_a_request_is_noticed() {
        let bytes = hex::decode(RFC5769_REQUEST).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(!BindingRequest::parse(&changed).is_ok_and(|r| r.is_authentic(&key(RFC5769_PASSWORD))), "bit {bit}");
        }
    }

    #[test]
    fn attributes_behind_the_integrity_are_not_read() {
        let mut bytes = hex::decode(RFC5769_REQUEST).unwrap();
        bytes.truncate(bytes.len() - 8);
        let mut message = Writer { out: &mut bytes, start: 0 };
        message.attribute(USE_CANDIDATE, &[]);
        message.set_length(8);
        let fingerprint = fingerprint_of(message.out);
        message.attribute(FINGERPRINT, &fingerprint.to_be_bytes());
        let request = BindingRequest::parse(&bytes).unwrap();
        assert!(request.is_authentic(&key(RFC5769_PASSWORD)));
        assert!(!request.is_nomination);
    }

    #[test]
    fn another_stack_reads_our_requests_and_we_its_kind_of_answer() {
        let key = key("a-password-of-the-client");
        let (mut request, mut answer) = (Vec::new(), Vec::new());
        write_request(&mut request, &[7; 12], "theirs:ours", 1, &key);
        let mut message = rtc_stun::message::Message::new();
        message.raw = request.clone();
        message.decode().unwrap();
        rtc_stun::fingerprint::FingerprintAttr.check(&message).unwrap();
        assert_eq!(message.get(rtc_stun::attributes::ATTR_USERNAME).unwrap(), b"theirs:ours");
        assert_eq!(username_ufrag(&request), Some("theirs"));
        let parsed = BindingRequest::parse(&request).unwrap();
        assert!(parsed.is_authentic(&key) && parsed.role == ClaimedRole::Controlled && !parsed.is_nomination);

        write_success(&mut answer, &[7; 12], "192.0.2.1:7882".parse().unwrap(), &key);
        assert_eq!((answered_transaction(&answer), answered_transaction(&request)), (Some([7; 12]), None));
        assert!(BindingSuccess::parse(&answer).unwrap().is_authentic(&key));
        for bit in 0..answer.len() * 8 {
            let mut flipped = answer.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(!BindingSuccess::parse(&flipped).is_ok_and(|answer| answer.is_authentic(&key)), "bit {bit}");
        }
        for len in 0..answer.len() {
            assert!(BindingSuccess::parse(&answer[..len]).is_err());
        }
    }

    #[test]
    fn another_stack_reads_our_responses() {
        for mapped in ["192.0.2.1:32853", "[2001:db8:1234:5678:11:2233:4455:6677]:32853", "[::ffff:10.0.0.1]:9"] {
            let mapped: SocketAddr = mapped.parse().unwrap();
            let mut out = vec![7; 5];
            write_success(&mut out, &[9; 12], mapped, &key("pwd"));
            let message = decode(&out[5..]);
            let mut address = XorMappedAddress::default();
            address.get_from(&message).unwrap();
            assert_eq!((address.ip, address.port), (mapped.ip().to_canonical(), mapped.port()));
        }
        let mut out = Vec::new();
        write_role_conflict(&mut out, &[9; 12], &key("pwd"));
        assert_eq!(error_code(&decode(&out)), 487);
        out.clear();
        write_unknown_attributes(&mut out, &[9; 12], &[0x7777], &key("pwd"));
        assert_eq!(error_code(&decode(&out)), 420);
    }

    proptest! {
        #[test]
        fn arbitrary_datagrams_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = BindingRequest::parse(&bytes);
            let _ = username_ufrag(&bytes);
        }

        #[test]
        fn arbitrary_attributes_never_panic(body in prop::collection::vec(any::<u8>(), 0..50)) {
            let mut bytes = Vec::new();
            let mut message = Writer::begin(&mut bytes, BINDING_REQUEST, &[1; 12]);
            message.out.extend(body.iter().flat_map(|b| [0, b % 48, 0, b / 48]));
            message.set_length(0);
            let _ = BindingRequest::parse(&bytes);
            let _ = username_ufrag(&bytes);
        }
    }

    fn decode(bytes: &[u8]) -> Message {
        let mut message = Message::new();
        message.raw = bytes.to_vec();
        message.decode().unwrap();
        FingerprintAttr.check(&message).unwrap();
        let integrity = message.get(rtc_stun::attributes::ATTR_MESSAGE_INTEGRITY).unwrap();
        let end = bytes.len() - 8 - 24;
        let mut signed = bytes[..end].to_vec();
        signed[2..4].copy_from_slice(&u16::try_from(end - 20 + 24).unwrap().to_be_bytes());
        assert_eq!(hmac::sign(&key("pwd"), &signed).as_ref(), integrity);
        message
    }

    fn error_code(message: &Message) -> u16 {
        let mut code = rtc_stun::error_code::ErrorCodeAttribute::default();
        code.get_from(message).unwrap();
        code.code.0
    }
}
