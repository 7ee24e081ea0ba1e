//! Sockets of subscribers that nobody reads: what comes is queued until their buffers are full, then dropped by the kernel.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// A socket at each address.
///
/// # Errors
/// An address is taken, or the process may not open as many sockets.
pub fn open(addresses: impl ExactSizeIterator<Item = SocketAddr>) -> io::Result<Vec<UdpSocket>> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    addresses.map(UdpSocket::bind).collect()
}
