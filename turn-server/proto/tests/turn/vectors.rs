//! Messages that others wrote: the samples of RFC 5769, and what `rtc-stun` makes and reads.

use rtc_stun::message::{Getter as _, Setter as _};
use turn_proto::credentials::{Algorithm, Key};
use turn_proto::wire::message::{Class, Message};
use turn_proto::wire::write::Writer;
use turn_proto::wire::{attribute, method};

/// RFC 5769 section 2.1: a Binding request with short-term credentials.
const REQUEST: &str = "000100582112a442b7e7a701bc34d686fa87dfae802200105354554e207465737420636c69656e74002400046e0001ff80290008932ff9b151263b36000600096576746a3a68367659202020000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a280280004e57a3bcf";
/// Section 2.2: the answer, from an IPv4 server.
const RESPONSE_V4: &str = "0101003c2112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000080001a147e112a643000800142b91f599fd9e90c38c7489f92af9ba53f06be7d780280004c07d4c96";
/// Section 2.3: the answer, from an IPv6 server.
const RESPONSE_V6: &str = "010100482112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d900080014a382954e4be67bf11784c97c8292c275bfe3ed4180280004c8fb0b4c";
/// Section 2.4: a request with long-term credentials.
const LONG_TERM: &str = "000100602112a44278ad3433c6ad72c029da412e00060012e3839ee38388e383aae38383e382afe382b90000001500 1c662f2f3439396b39353464364f4c33346f4c3946535476793634734100 14000b6578616d706c652e6f72670000080014f67024656dd64a3e02b8e0712e85c9a28ca89666";

const PASSWORD: &[u8] = b"VOkJxbRl1RmTxUk/WvJxBt";

fn bytes(text: &str) -> Vec<u8> {
    hex::decode(text.replace(' ', "")).unwrap()
}

#[test]
fn rfc5769_2_1_the_request_is_authentic() {
    let packet = bytes(REQUEST);
    let message = Message::parse(&packet).unwrap();
    assert_eq!((message.method, message.class), (method::BINDING, Class::Request));
    assert_eq!(message.attributes.username, Some(&b"evtj:h6vY"[..]));
    assert!(message.is_authentic(PASSWORD) && !message.is_authentic(b"other"));
}

#[test]
fn rfc5769_2_2_and_2_3_the_answers_hold_the_addresses() {
    for (text, mapped) in [(RESPONSE_V4, "192.0.2.1:32853"), (RESPONSE_V6, "[2001:db8:1234:5678:11:2233:4455:6677]:32853")] {
        let packet = bytes(text);
        let message = Message::parse(&packet).unwrap();
        assert!(message.is_authentic(PASSWORD));
        assert_eq!(message.attributes.mapped, Some(mapped.parse().unwrap()));
    }
}

#[test]
fn rfc5769_2_4_the_long_term_key_is_that_of_the_sample() {
    let packet = bytes(LONG_TERM);
    let message = Message::parse(&packet).unwrap();
    let user = "\u{30DE}\u{30C8}\u{30EA}\u{30C3}\u{30AF}\u{30B9}";
    let key = Key::derive(Algorithm::Md5, user.as_bytes(), "example.org", b"TheMatrIX");
    assert!(message.is_authentic(key.as_bytes()));
    assert_eq!(message.attributes.nonce, Some(&b"f//499k954d6OL34oL9FSTvy64sA"[..]));
}

#[test]
fn a_sample_with_any_bit_changed_is_not_authentic() {
    let packet = bytes(REQUEST);
    // what follows MESSAGE-INTEGRITY is not covered by it: FINGERPRINT with its eight bytes
    for bit in 0..(packet.len() - 8) * 8 {
        let mut changed = packet.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(Message::parse(&changed).is_none_or(|message| !message.is_authentic(PASSWORD)), "bit {bit}");
    }
}

#[test]
fn rtc_stun_reads_what_is_written_here() {
    let mut writer = Writer::new(method::ALLOCATE, Class::Success, b"transactionn");
    writer.xor_address(attribute::XOR_MAPPED_ADDRESS, "[2001:db8::7]:4711".parse().unwrap());
    let packet = writer.fingerprinted();
    let mut read = rtc_stun::message::Message::new();
    read.unmarshal_binary(&packet).unwrap();
    let mut mapped = rtc_stun::xoraddr::XorMappedAddress::default();
    mapped.get_from(&read).unwrap();
    assert_eq!((mapped.ip.to_string(), mapped.port), ("2001:db8::7".to_owned(), 4711));
    assert_eq!((read.typ.method, read.typ.class), (rtc_stun::message::METHOD_ALLOCATE, rtc_stun::message::CLASS_SUCCESS_RESPONSE));
    rtc_stun::fingerprint::FINGERPRINT.check(&read).unwrap();
}

#[test]
fn what_rtc_stun_writes_is_read_here() {
    let mut written = rtc_stun::message::Message::new();
    written.typ = rtc_stun::message::MessageType { method: rtc_stun::message::METHOD_REFRESH, class: rtc_stun::message::CLASS_REQUEST };
    written.transaction_id = rtc_stun::message::TransactionId(*b"transactionn");
    written.write_header();
    rtc_stun::textattrs::Username::new(rtc_stun::attributes::ATTR_USERNAME, "anna".to_owned()).add_to(&mut written).unwrap();
    rtc_stun::fingerprint::FINGERPRINT.add_to(&mut written).unwrap();
    let message = Message::parse(&written.raw).unwrap();
    assert_eq!((message.method, message.class), (method::REFRESH, Class::Request));
    assert_eq!(message.attributes.username, Some(&b"anna"[..]));
}
