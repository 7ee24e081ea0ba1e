//! Parsers by themselves.

use turn_proto::wire::message::{Class, Integrity, Message};
use turn_proto::wire::stream::{Begin, MAX_MESSAGE_BYTES, begin};
use turn_proto::wire::write::Writer;
use turn_proto::wire::{HEADER_BYTES, attribute, channel};

/// A STUN message: what is found lies inside of it, and what is written of it reads back.
pub(crate) fn message(data: &[u8]) {
    let Some(message) = Message::parse(data) else { return };
    let attributes = &message.attributes;
    if let Some(range) = &attributes.data {
        assert!(range.start >= HEADER_BYTES && data.get(range.clone()).is_some());
    }
    assert!(!message.is_authentic(b"a key that nobody knows"), "a forgery");
    // a stream would cut it out whole
    assert_eq!(begin(data), Begin::Message { len: data.len(), padded: data.len() });

    let mut writer = Writer::new(message.method, message.class, &message.transaction);
    if let Some(user) = attributes.username {
        writer.attribute(attribute::USERNAME, user);
    }
    for peer in &attributes.peers {
        writer.xor_address(attribute::XOR_PEER_ADDRESS, *peer);
    }
    if let Some(seconds) = attributes.lifetime_seconds {
        writer.attribute(attribute::LIFETIME, &seconds.to_be_bytes());
    }
    let integrity = message.integrity().unwrap_or(Integrity::Sha1);
    let written = writer.signed(integrity, b"key");
    let read = Message::parse(&written).expect("what is written can be read");
    assert!(read.is_authentic(b"key"));
    assert_eq!((read.method, read.class, read.transaction), (message.method, message.class, message.transaction));
    assert_eq!(read.attributes.username, attributes.username);
    assert_eq!(read.attributes.peers, attributes.peers);
    assert_eq!(read.attributes.lifetime_seconds, attributes.lifetime_seconds);
    assert!(matches!(message.class, Class::Request | Class::Indication | Class::Success | Class::Error));
}

/// ChannelData: its payload is where its header says.
pub(crate) fn channel_data(data: &[u8]) {
    let Some((number, range)) = channel::parse(data) else { return };
    assert!(channel::is_channel_data(data[0]) && Message::parse(data).is_none());
    let length = u16::try_from(range.len()).expect("a 16-bit length");
    assert_eq!(channel::header(number, length), data[..channel::HEADER_BYTES]);
    assert!(range.end <= data.len());
}

/// A stream in pieces is cut as it is when it comes at once.
pub(crate) fn stream(data: &[u8]) {
    let mut rest = data;
    loop {
        let decided = begin(rest);
        for cut in 0..rest.len().min(12) {
            let early = begin(&rest[..cut]);
            assert!(
                early == Begin::Partial || early == decided || matches!((early, decided), (Begin::Message { .. }, Begin::Foreign)),
                "{cut}"
            );
        }
        match decided {
            Begin::Message { len, padded } => {
                assert!(len <= padded && padded <= MAX_MESSAGE_BYTES && len > 0);
                let Some(next) = rest.get(padded..) else { return };
                rest = next;
            }
            Begin::Partial | Begin::Foreign => return,
        }
    }
}
