//! Makes AEAD_AES_128_GCM win although the DTLS library prefers others.
//!
//! In DTLS 1.2 the library takes the first of a fixed order (AES-256-GCM, AES-128-GCM, AES-CM-80) that the client offers, in
//! DTLS 1.3 the first of the client's, which in browsers is AES-CM-80. AES-128-GCM costs a fifth of AES-CM, has fewer rounds than
//! AES-256 and is as good for media, and every browser offers all three. So the library must not see what is dearer than the best
//! offer: the numbers of those are exchanged for unassigned ones in the ClientHello that the library is fed, and exchanged back
//! wherever the library hashes or verifies the handshake ([`super::transcript`]). What both sides sign and authenticate is
//! therefore exactly what the client sent; the library merely acts as if it did not know the other profiles.
//!
//! Invariants: [`exchange_profiles`] is its own inverse for every input, so a strange offer can only spoil its own
//! sender's handshake; a ClientHello reaches the library whole, in one record, however it was fragmented (RFC 6347
//! section 4.2.3; Chromium's needs two datagrams), because a profile's number can straddle fragments.

/// What to do with a datagram from the client.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum HelloInput {
    /// Something else: feed it as it is.
    Other,
    /// Part of a ClientHello; more is needed.
    Incomplete,
    /// Feed this.
    Complete(Vec<u8>),
    /// A ClientHello without an SRTP profile that this side has.
    NoProfile,
}

/// Puts fragments of a ClientHello together. Holds at most [`MAX_FRAGMENTS`] fragments of [`MAX_HELLO`] bytes.
#[derive(Debug, Default)]
pub(super) struct HelloAssembler {
    fragments: Vec<Fragment>,
}

#[derive(Debug)]
struct Fragment {
    message: MessageHeader,
    offset: usize,
    bytes: Vec<u8>,
}

/// What all fragments of one message agree on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct MessageHeader {
    length: usize,
    sequence: [u8; 2],
}

impl HelloAssembler {
    /// Looks at a datagram.
    pub(super) fn handle(&mut self, datagram: &[u8]) -> HelloInput {
        if !Records(datagram).all(|record| record.is_some_and(|(_, body)| parse_fragment(body).is_some())) || datagram.is_empty() {
            return HelloInput::Other;
        }
        let mut input = HelloInput::Incomplete;
        for (header, body) in Records(datagram).flatten() {
            if let Some(fragment) = parse_fragment(body)
                && let Some(message) = self.push(fragment)
            {
                input = if has_profile(&message) { HelloInput::Complete(record(header, message)) } else { HelloInput::NoProfile };
            }
        }
        input
    }

    /// Adds a fragment; returns the message, with its handshake header, when it is complete.
    fn push(&mut self, fragment: Fragment) -> Option<Vec<u8>> {
        let message = fragment.message;
        if self.fragments.first().is_some_and(|first| first.message != message) || self.fragments.len() >= MAX_FRAGMENTS {
            self.fragments.clear();
        }
        self.fragments.push(fragment);
        self.fragments.sort_by_key(|fragment| fragment.offset);
        let mut body = Vec::with_capacity(message.length);
        for fragment in &self.fragments {
            let known = body.len().checked_sub(fragment.offset)?;
            body.extend_from_slice(fragment.bytes.get(known..).unwrap_or_default());
        }
        if body.len() != message.length {
            return None;
        }
        self.fragments.clear();
        let length = u32::try_from(message.length).ok()?.to_be_bytes();
        let mut whole = Vec::with_capacity(HANDSHAKE_HEADER_LEN + body.len());
        whole.push(CLIENT_HELLO);
        whole.extend_from_slice(&length[1..]);
        whole.extend_from_slice(&message.sequence);
        whole.extend_from_slice(&[0; 3]);
        whole.extend_from_slice(&length[1..]);
        whole.append(&mut body);
        exchange_profiles(&mut whole);
        Some(whole)
    }
}

/// False for a ClientHello that parses and offers nothing of use. One that does not parse is for the library to judge.
fn has_profile(message: &[u8]) -> bool {
    let mut copy = message.to_vec();
    let Some(profiles) = dtls12_hello_mut(&mut copy).and_then(profiles_mut) else { return true };
    let (profiles, _) = profiles.as_chunks::<2>();
    [AEAD_AES_128_GCM, AEAD_AES_256_GCM, AES_CM_80].iter().any(|known| profiles.contains(known))
}

/// Exchanges the profiles that are to lose for their [hidden](HIDDEN_AES_256_GCM) numbers, and those for them, in the `use_srtp`
/// offer of each ClientHello of a transcript: AEAD_AES_256_GCM where AEAD_AES_128_GCM is offered, AES-CM-80 where either of them
/// is. Anything else stays as it is. Returns whether there was something to exchange.
pub(super) fn exchange_profiles(transcript: &mut [u8]) -> bool {
    if let Some(body) = dtls12_hello_mut(transcript) {
        return exchange_in_hello(body);
    }
    let mut has_changed = false;
    let mut rest = transcript;
    while let Some((kind, body, tail)) = split_tls_message(rest) {
        has_changed |= kind == CLIENT_HELLO && exchange_in_hello(body);
        rest = tail;
    }
    has_changed
}

fn exchange_in_hello(body: &mut [u8]) -> bool {
    let Some(profiles) = profiles_mut(body) else { return false };
    let (profiles, _) = profiles.as_chunks_mut::<2>();
    let has_128 = profiles.contains(&AEAD_AES_128_GCM);
    let has_256 = profiles.contains(&AEAD_AES_256_GCM);
    let mut has_changed = false;
    // What the conditions ask for is not exchanged under them, so a second exchange undoes the first.
    for profile in profiles {
        let other = match *profile {
            AEAD_AES_256_GCM if has_128 => HIDDEN_AES_256_GCM,
            HIDDEN_AES_256_GCM if has_128 => AEAD_AES_256_GCM,
            AES_CM_80 if has_128 || has_256 => HIDDEN_AES_CM_80,
            HIDDEN_AES_CM_80 if has_128 || has_256 => AES_CM_80,
            _ => continue,
        };
        *profile = other;
        has_changed = true;
    }
    has_changed
}

/// Body of the ClientHello, not fragmented, that a transcript of DTLS 1.2 begins with (RFC 6347 section 4.2.6: with the DTLS
/// header).
fn dtls12_hello_mut(transcript: &mut [u8]) -> Option<&mut [u8]> {
    let (header, rest) = transcript.split_at_mut_checked(HANDSHAKE_HEADER_LEN)?;
    let &[CLIENT_HELLO, a, b, c, _, _, 0, 0, 0, d, e, f] = &*header else { return None };
    if [a, b, c] != [d, e, f] {
        return None;
    }
    rest.get_mut(..length_of([a, b, c])?)
}

/// Splits the first message off a transcript of DTLS 1.3, whose messages have TLS headers (RFC 9147 section 5.2).
fn split_tls_message(transcript: &mut [u8]) -> Option<(u8, &mut [u8], &mut [u8])> {
    let (&mut [kind, a, b, c], rest) = transcript.split_first_chunk_mut()?;
    let (body, tail) = rest.split_at_mut_checked(length_of([a, b, c])?)?;
    Some((kind, body, tail))
}

fn length_of([a, b, c]: [u8; 3]) -> Option<usize> {
    usize::try_from(u32::from_be_bytes([0, a, b, c])).ok()
}

/// The list of SRTP protection profiles in the body of a ClientHello (RFC 5246 section 7.4.1.2, RFC 6347 section 4.2.1, RFC 5764
/// section 4.1.1).
fn profiles_mut(body: &mut [u8]) -> Option<&mut [u8]> {
    let (_version_and_random, rest) = body.split_at_mut_checked(2 + 32)?;
    let (_session_id, rest) = split_vector::<1>(rest)?;
    let (_cookie, rest) = split_vector::<1>(rest)?;
    let (_cipher_suites, rest) = split_vector::<2>(rest)?;
    let (_compression, rest) = split_vector::<1>(rest)?;
    let (mut extensions, _) = split_vector::<2>(rest)?;
    while !extensions.is_empty() {
        let (kind, rest) = extensions.split_first_chunk_mut::<2>()?;
        let (data, rest) = split_vector::<2>(rest)?;
        if *kind == USE_SRTP {
            return Some(split_vector::<2>(data)?.0);
        }
        extensions = rest;
    }
    None
}

/// Splits off a vector with a length of `N` bytes in front (RFC 5246 section 4.3).
fn split_vector<const N: usize>(bytes: &mut [u8]) -> Option<(&mut [u8], &mut [u8])> {
    let (length, rest) = bytes.split_first_chunk_mut::<N>()?;
    let length = length.iter().fold(0, |length, &byte| length << 8 | usize::from(byte));
    rest.split_at_mut_checked(length)
}

/// Plaintext handshake records of a datagram: header in front of the length field, and body. `None` for a record of
/// another kind, or for a broken one, which also ends the walk.
struct Records<'a>(&'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = Option<(&'a [u8], &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let datagram = std::mem::take(&mut self.0);
        let record = datagram.split_first_chunk::<RECORD_HEADER_LEN>().and_then(|(header, rest)| {
            let (front, &length) = header.split_last_chunk::<2>()?;
            let (body, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(length)))?;
            self.0 = rest;
            matches!(front, [HANDSHAKE, _, _, 0, 0, ..]).then_some((front, body))
        });
        Some(record)
    }
}

fn parse_fragment(body: &[u8]) -> Option<Fragment> {
    let (header, bytes) = body.split_first_chunk::<HANDSHAKE_HEADER_LEN>()?;
    let &[CLIENT_HELLO, l0, l1, l2, s0, s1, o0, o1, o2, n0, n1, n2] = header else { return None };
    let (length, offset, count) = (length_of([l0, l1, l2])?, length_of([o0, o1, o2])?, length_of([n0, n1, n2])?);
    let fits = count == bytes.len() && offset + count <= length && length <= MAX_HELLO;
    fits.then(|| Fragment { message: MessageHeader { length, sequence: [s0, s1] }, offset, bytes: bytes.to_vec() })
}

fn record(header: &[u8], message: Vec<u8>) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap_or_default();
    [header, &length.to_be_bytes(), &message].concat()
}

/// Of one ClientHello. Chromium's with post-quantum key shares is 1.4 kB.
const MAX_HELLO: usize = 8 * 1024;
/// Of one ClientHello; with more the first ones are forgotten and the client's retransmission starts over.
const MAX_FRAGMENTS: usize = 16;

const RECORD_HEADER_LEN: usize = 13;
const HANDSHAKE_HEADER_LEN: usize = 12;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const USE_SRTP: [u8; 2] = [0, 14];
const AES_CM_80: [u8; 2] = [0, 1];
const AEAD_AES_128_GCM: [u8; 2] = [0, 7];
const AEAD_AES_256_GCM: [u8; 2] = [0, 8];
/// Both are not assigned in the IANA registry "DTLS-SRTP Protection Profiles".
const HIDDEN_AES_256_GCM: [u8; 2] = [0xFF, 0x08];
const HIDDEN_AES_CM_80: [u8; 2] = [0xFF, 0x01];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_dearer_than_the_best_offer_is_hidden() {
        for (offered, seen) in [
            (&[1, 8, 7][..], &[0xFF01, 0xFF08, 7][..]),
            (&[7, 8], &[7, 0xFF08]),
            (&[1, 8], &[0xFF01, 8]),
            (&[1, 2], &[1, 2]),
            (&[1], &[1]),
            (&[7, 0xFF08, 8], &[7, 8, 0xFF08]),
            (&[7, 0xFF01, 1], &[7, 1, 0xFF01]),
        ] {
            for is_dtls13 in [false, true] {
                let transcript = |profiles: &[u16]| match is_dtls13 {
                    false => hello(profiles),
                    true => dtls13_transcript(profiles),
                };
                let mut changed = transcript(offered);
                exchange_profiles(&mut changed);
                assert_eq!(changed, transcript(seen));
                exchange_profiles(&mut changed);
                assert_eq!(changed, transcript(offered));
            }
        }
    }

    #[test]
    fn a_hello_is_put_together_from_fragments_in_any_order() {
        let whole = hello(&[1, 8, 7]);
        let expected = hello(&[0xFF01, 0xFF08, 7]);
        let body = &whole[HANDSHAKE_HEADER_LEN..];
        for cut in 0..=body.len() {
            for is_reversed in [false, true] {
                let mut parts = [fragment(&whole, 0..cut), fragment(&whole, cut..body.len())];
                if is_reversed {
                    parts.reverse();
                }
                let mut assembler = HelloAssembler::default();
                let complete: Vec<_> = parts.iter().filter_map(|p| complete(assembler.handle(p))).collect();
                assert_eq!(complete.len(), 1, "cut at {cut}");
                assert_eq!(complete[0][RECORD_HEADER_LEN..], expected);
                assert_eq!(assembler.handle(&parts[0]) == HelloInput::Incomplete, cut != (if is_reversed { 0 } else { body.len() }));
            }
        }
    }

    #[test]
    fn fragments_that_overlap_or_repeat_or_share_a_datagram_do_no_harm() {
        let whole = hello(&[7, 8]);
        let length = whole.len() - HANDSHAKE_HEADER_LEN;
        let mut assembler = HelloAssembler::default();
        assert_eq!(assembler.handle(&fragment(&whole, 0..30)), HelloInput::Incomplete);
        assert_eq!(assembler.handle(&fragment(&whole, 0..30)), HelloInput::Incomplete);
        let rest = [fragment(&whole, 20..40), fragment(&whole, 40..length)].concat();
        assert_eq!(complete(assembler.handle(&rest)).unwrap()[RECORD_HEADER_LEN..], hello(&[7, 0xFF08]));
    }

    #[test]
    fn a_flood_of_fragments_is_bounded_and_the_next_hello_still_works() {
        let whole = hello(&[7, 8]);
        let mut assembler = HelloAssembler::default();
        for n in 0..1000_usize {
            let at = n % 20;
            assert_eq!(assembler.handle(&fragment(&whole, at + 1..at + 2)), HelloInput::Incomplete);
            assert!(assembler.fragments.len() <= MAX_FRAGMENTS);
        }
        let length = whole.len() - HANDSHAKE_HEADER_LEN;
        assert!(complete(assembler.handle(&fragment(&whole, 0..length))).is_some());
    }

    #[test]
    fn other_records_pass_unchanged() {
        let mut assembler = HelloAssembler::default();
        let whole = hello(&[7]);
        let mut application_data = fragment(&whole, 0..10);
        application_data[0] = 23;
        let mut encrypted = fragment(&whole, 0..10);
        encrypted[4] = 1;
        let mut client_key_exchange = fragment(&whole, 0..10);
        client_key_exchange[RECORD_HEADER_LEN] = 16;
        for datagram in [application_data, encrypted, client_key_exchange, vec![], vec![22; 5]] {
            assert_eq!(assembler.handle(&datagram), HelloInput::Other);
        }
    }

    proptest! {
        #[test]
        fn exchanging_twice_changes_nothing(bytes in prop::collection::vec(any::<u8>(), 0..200), profiles in prop::collection::vec(prop_oneof![Just(7_u16), Just(8), Just(0xFF08), any::<u16>()], 0..6)) {
            for message in [bytes, hello(&profiles), dtls13_transcript(&profiles)] {
                let mut changed = message.clone();
                exchange_profiles(&mut changed);
                exchange_profiles(&mut changed);
                prop_assert_eq!(changed, message);
            }
        }

        #[test]
        fn arbitrary_datagrams_never_panic(datagrams in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..100), 0..5), at in 0..60_usize, byte: u8) {
            let mut assembler = HelloAssembler::default();
            for datagram in datagrams {
                assembler.handle(&datagram);
            }
            let whole = hello(&[7, 8]);
            let mut damaged = fragment(&whole, 0..whole.len() - HANDSHAKE_HEADER_LEN);
            damaged[at] = byte;
            assembler.handle(&damaged);
        }
    }

    fn complete(input: HelloInput) -> Option<Vec<u8>> {
        match input {
            HelloInput::Complete(datagram) => Some(datagram),
            _ => None,
        }
    }

    /// A ClientHello message with these SRTP profiles.
    fn hello(profiles: &[u16]) -> Vec<u8> {
        let list: Vec<u8> = profiles.iter().flat_map(|p| p.to_be_bytes()).collect();
        let srtp = [vector(2, &list), vec![0]].concat();
        let extensions = [&[0, 23, 0, 0][..], &USE_SRTP, &vector(2, &srtp), &[0xFF, 1, 0, 1, 0]].concat();
        let random = [3; 34];
        let body = [&random[..], &[0, 0], &vector(2, &[0xC0, 0x2B]), &[1, 0], &vector(2, &extensions)].concat();
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        [&[CLIENT_HELLO][..], &length[1..], &[0, 0], &[0, 0, 0], &length[1..], &body].concat()
    }

    /// What DTLS 1.3 hashes after a HelloRetryRequest: the first ClientHello's hash, the retry, the second ClientHello, the
    /// ServerHello.
    fn dtls13_transcript(profiles: &[u16]) -> Vec<u8> {
        let hello = hello(profiles);
        let message = |kind: u8, body: &[u8]| [&[kind][..], &u32::try_from(body.len()).unwrap().to_be_bytes()[1..], body].concat();
        [message(254, &[9; 32]), message(2, &[7; 60]), message(CLIENT_HELLO, &hello[HANDSHAKE_HEADER_LEN..]), message(2, &[8; 90])].concat()
    }

    fn vector(width: usize, bytes: &[u8]) -> Vec<u8> {
        let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
        [&length[4 - width..], bytes].concat()
    }

    /// One record with a part of a message.
    fn fragment(message: &[u8], part: std::ops::Range<usize>) -> Vec<u8> {
        let number = |n: usize| u32::try_from(n).unwrap().to_be_bytes()[1..].to_vec();
        let bytes = &message[HANDSHAKE_HEADER_LEN..][part.clone()];
        let handshake = [&message[..6], &number(part.start), &number(part.len()), bytes].concat();
        let header = [HANDSHAKE, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, 9];
        [&header[..], &vector(2, &handshake)].concat()
    }
}
