//! An entry of `media.advertise`: an address, alone or with the local one that a NAT translates it to.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use sfu_node::AdvertisedAddress;

/// `"203.0.113.9"` or `"203.0.113.9=>10.0.0.4"`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Advertise(pub(crate) AdvertisedAddress);

impl From<IpAddr> for Advertise {
    fn from(public: IpAddr) -> Self {
        Self(public.into())
    }
}

impl TryFrom<String> for Advertise {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map(Self)
    }
}

impl From<Advertise> for String {
    fn from(Advertise(address): Advertise) -> Self {
        address.to_string()
    }
}
