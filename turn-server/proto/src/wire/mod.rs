//! Bytes on the wire: STUN messages, ChannelData, and both on a stream.

pub mod channel;
pub mod message;
pub mod stream;
pub mod write;

/// Header of a STUN message in bytes (RFC 8489 section 5).
pub const HEADER_BYTES: usize = 20;
/// RFC 8489 section 5.
pub const MAGIC_COOKIE: u32 = 0x2112_A442;

/// The 96 bits that tie an answer to its request.
pub type TransactionId = [u8; 12];

/// Methods (RFC 8489 section 18.2, RFC 8656 section 17, RFC 6062 section 6.1).
pub mod method {
    /// Binding.
    pub const BINDING: u16 = 0x001;
    /// Allocate.
    pub const ALLOCATE: u16 = 0x003;
    /// Refresh.
    pub const REFRESH: u16 = 0x004;
    /// Send; an indication.
    pub const SEND: u16 = 0x006;
    /// Data; an indication to the client.
    pub const DATA: u16 = 0x007;
    /// CreatePermission.
    pub const CREATE_PERMISSION: u16 = 0x008;
    /// ChannelBind.
    pub const CHANNEL_BIND: u16 = 0x009;
    /// Connect.
    pub const CONNECT: u16 = 0x00A;
    /// ConnectionBind.
    pub const CONNECTION_BIND: u16 = 0x00B;
    /// ConnectionAttempt; an indication to the client.
    pub const CONNECTION_ATTEMPT: u16 = 0x00C;
}

/// Attributes (RFC 8489 section 18.3, RFC 8656 section 18, RFC 6062 section 6.2, RFC 5780 section 7).
pub mod attribute {
    #![allow(missing_docs)]
    pub const CHANGE_REQUEST: u16 = 0x0003;
    pub const USERNAME: u16 = 0x0006;
    pub const MESSAGE_INTEGRITY: u16 = 0x0008;
    pub const ERROR_CODE: u16 = 0x0009;
    pub const UNKNOWN_ATTRIBUTES: u16 = 0x000A;
    pub const CHANNEL_NUMBER: u16 = 0x000C;
    pub const LIFETIME: u16 = 0x000D;
    pub const XOR_PEER_ADDRESS: u16 = 0x0012;
    pub const DATA: u16 = 0x0013;
    pub const REALM: u16 = 0x0014;
    pub const NONCE: u16 = 0x0015;
    pub const XOR_RELAYED_ADDRESS: u16 = 0x0016;
    pub const REQUESTED_ADDRESS_FAMILY: u16 = 0x0017;
    pub const EVEN_PORT: u16 = 0x0018;
    pub const REQUESTED_TRANSPORT: u16 = 0x0019;
    pub const DONT_FRAGMENT: u16 = 0x001A;
    pub const MESSAGE_INTEGRITY_SHA256: u16 = 0x001C;
    pub const PASSWORD_ALGORITHM: u16 = 0x001D;
    pub const USERHASH: u16 = 0x001E;
    pub const XOR_MAPPED_ADDRESS: u16 = 0x0020;
    pub const RESERVATION_TOKEN: u16 = 0x0022;
    pub const PADDING: u16 = 0x0026;
    pub const RESPONSE_PORT: u16 = 0x0027;
    pub const CONNECTION_ID: u16 = 0x002A;
    pub const ADDITIONAL_ADDRESS_FAMILY: u16 = 0x8000;
    /// The number that the drafts had, and coturn's clients still have.
    pub const ADDITIONAL_ADDRESS_FAMILY_OF_DRAFTS: u16 = 0x8032;
    pub const ADDRESS_ERROR_CODE: u16 = 0x8001;
    pub const PASSWORD_ALGORITHMS: u16 = 0x8002;
    pub const FINGERPRINT: u16 = 0x8028;
    pub const RESPONSE_ORIGIN: u16 = 0x802B;
    pub const OTHER_ADDRESS: u16 = 0x802C;
    /// From here on an attribute that is not understood may be ignored.
    pub const COMPREHENSION_OPTIONAL: u16 = 0x8000;
}

/// CRC-32 of everything in front of FINGERPRINT, masked (RFC 8489 section 14.7).
fn fingerprint_of(message: &[u8]) -> u32 {
    crc32fast::hash(message) ^ 0x5354_554E
}
