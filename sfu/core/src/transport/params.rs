//! What the two sides of a transport tell each other in their session descriptions.

use std::net::SocketAddr;

use crate::net::Protocol;

/// `a=ice-ufrag` and `a=ice-pwd`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IceCredentials {
    /// User name fragment, 4 to 256 characters.
    pub ufrag: String,
    /// Password, 22 to 256 characters.
    pub pwd: String,
}

/// SHA-256 of a certificate (`a=fingerprint:sha-256 AB:CD:...`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fingerprint(pub [u8; 32]);

/// A host candidate of ours; ICE-lite has no other kinds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Candidate {
    /// UDP, or passive TCP (RFC 6544).
    pub protocol: Protocol,
    /// Address as advertised (behind a NAT not the one that is bound).
    pub address: SocketAddr,
}

/// Our side of a transport, as it goes into our descriptions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LocalParams {
    /// Our ICE credentials.
    pub ice: IceCredentials,
    /// Of our certificate.
    pub fingerprint: Fingerprint,
    /// Best first.
    pub candidates: Vec<Candidate>,
}

/// The client's side of a transport, as its description says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RemoteParams {
    /// The client's ICE credentials; a change is an ICE restart.
    pub ice: IceCredentials,
    /// Of the client's certificate.
    pub fingerprint: Fingerprint,
    /// The description has an `m=application` line with SCTP.
    pub has_data: bool,
}
