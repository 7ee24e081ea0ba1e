//! One TCP port for everything: HTTP, HTTPS, ICE over TCP and TURN, told apart by what a connection begins with.
//!
//! In: a new connection. Out: what it is, with the bytes that were read to find out. A TLS record goes through a handshake first; what
//! is inside is told by ALPN or, since browsers name no protocol for TURN, by its first bytes. Nobody is recognised in vain: what
//! is not served here is closed. RFC 7983 (first bytes), RFC 4571 (frames of ICE over TCP), RFC 7443 (ALPN of TURN).

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::net::ClientStream;

/// Takes a connection and the bytes that were read from it.
pub type IceTcp = Arc<dyn Fn(std::net::TcpStream, Vec<u8>) + Send + Sync>;
/// Takes a connection, its TLS if it has one, and the plain bytes that were read from it.
pub type Turn = Arc<dyn Fn(std::net::TcpStream, Option<Box<ServerConnection>>, Vec<u8>) + Send + Sync>;

/// What else is served on the port of HTTP.
#[derive(Clone, Default)]
pub struct SharedPort {
    /// TLS, for HTTPS and for TURN in TLS. `None`: connections are in the clear.
    pub tls: Option<Arc<ServerConfig>>,
    /// ICE over TCP.
    pub ice_tcp: Option<IceTcp>,
    /// TURN, in TLS or not.
    pub turn: Option<Turn>,
}

impl SharedPort {
    /// False: there is only HTTP, and nothing is to be told apart.
    pub(crate) const fn is_shared(&self) -> bool {
        self.tls.is_some() || self.ice_tcp.is_some() || self.turn.is_some()
    }
}

impl fmt::Debug for SharedPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tls, ice_tcp, turn } = self;
        write!(f, "SharedPort {{ tls: {}, ice_tcp: {}, turn: {} }}", tls.is_some(), ice_tcp.is_some(), turn.is_some())
    }
}

/// What a connection is, by its first bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// More bytes are needed.
    Unclear,
    /// A TLS record with a handshake.
    Tls,
    /// A request line.
    Http,
    /// A STUN message.
    Turn,
    /// A frame with a STUN message in it, so many bytes long.
    IceTcp(usize),
    /// Nothing that is served.
    Foreign,
}

/// RFC 8489 section 5.
const STUN_COOKIE: [u8; 4] = 0x2112_A442_u32.to_be_bytes();
/// Longest first frame of ICE over TCP: a Binding request with a long user name.
const MAX_FRAME_BYTES: usize = 2_048;

/// Tells what begins with these bytes.
pub(crate) fn kind(bytes: &[u8]) -> Kind {
    let Some(&first) = bytes.first() else { return Kind::Unclear };
    match first {
        0x16 => Kind::Tls,
        // a method, or the preface of HTTP/2; blank lines before a request are let pass (RFC 9112 section 2.2)
        b'A'..=b'Z' | b'\r' | b'\n' => Kind::Http,
        0x00..=0x0F => {
            if bytes.get(4..8) == Some(&STUN_COOKIE) {
                return Kind::Turn;
            }
            let Some(cookie) = bytes.get(6..10) else { return Kind::Unclear };
            let length = usize::from(u16::from_be_bytes([first, bytes[1]]));
            if cookie == STUN_COOKIE && length <= MAX_FRAME_BYTES { Kind::IceTcp(2 + length) } else { Kind::Foreign }
        }
        _ => Kind::Foreign,
    }
}

/// What a connection turned out to be.
pub(crate) enum Recognised {
    /// HTTP in the clear.
    Http(ClientStream),
    /// HTTP in TLS.
    Https(Box<Begun<TlsStream<ClientStream>>>),
    /// It is somebody else's by now, or nobody's.
    Done,
}

/// Finds out what a connection is. Whoever does not say in time is closed.
pub(crate) async fn recognise(stream: ClientStream, peer: SocketAddr, shared: &SharedPort, limit: Duration) -> Recognised {
    match timeout(limit, look(stream, shared)).await {
        Ok(Ok(recognised)) => recognised,
        Ok(Err(error)) => {
            tracing::debug!(%peer, %error, "a connection was not recognised");
            Recognised::Done
        }
        Err(_) => Recognised::Done,
    }
}

async fn look(mut stream: ClientStream, shared: &SharedPort) -> io::Result<Recognised> {
    let mut first = [0];
    // left where it is: TLS and HTTP begin with it
    if stream.peek(&mut first).await? == 0 {
        return Ok(Recognised::Done);
    }
    match (kind(&first), &shared.tls) {
        (Kind::Tls, Some(tls)) => look_inside(TlsAcceptor::from(Arc::clone(tls)).accept(stream).await?, shared).await,
        (Kind::Http, None) => Ok(Recognised::Http(stream)),
        (Kind::Http, Some(_)) => Err(io::Error::other("HTTP in the clear on a port with TLS")),
        _ => {
            let mut begun = Vec::new();
            match (read_kind(&mut stream, &mut begun).await?, shared) {
                (Kind::IceTcp(_), SharedPort { ice_tcp: Some(take), .. }) => take(stream.into_std()?, begun),
                (Kind::Turn, SharedPort { turn: Some(take), .. }) => take(stream.into_std()?, None, begun),
                _ => return Err(io::Error::other("nothing that is served here")),
            }
            Ok(Recognised::Done)
        }
    }
}

/// What is in a TLS connection. Who names a protocol has said so.
async fn look_inside(mut tls: TlsStream<ClientStream>, shared: &SharedPort) -> io::Result<Recognised> {
    let mut begun = Vec::new();
    let kind = match tls.get_ref().1.alpn_protocol() {
        Some(b"http/1.1") => Kind::Http,
        Some(b"stun.turn" | b"stun.nat-discovery") => Kind::Turn,
        _ => read_kind(&mut tls, &mut begun).await?,
    };
    match (kind, &shared.turn) {
        (Kind::Http, _) => Ok(Recognised::Https(Box::new(Begun { begun, read: 0, inner: tls }))),
        (Kind::Turn, Some(take)) => {
            let (stream, tls) = tls.into_inner();
            take(stream.into_std()?, Some(Box::new(tls)), begun);
            Ok(Recognised::Done)
        }
        _ => Err(io::Error::other("nothing that is served here")),
    }
}

/// Reads until it is clear what begins here, and of a frame all of it: whoever takes it over finds its way by what is in it.
async fn read_kind(stream: &mut (impl AsyncRead + Unpin), begun: &mut Vec<u8>) -> io::Result<Kind> {
    loop {
        match kind(begun) {
            Kind::Unclear => {}
            Kind::IceTcp(length) if begun.len() < length => {}
            clear => return Ok(clear),
        }
        if stream.read_buf(begun).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// A connection with the bytes that were read from it already.
pub(crate) struct Begun<S> {
    begun: Vec<u8>,
    read: usize,
    inner: S,
}

impl<S: AsyncRead + Unpin> AsyncRead for Begun<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let rest = &self.begun[self.read..];
        if rest.is_empty() {
            return Pin::new(&mut self.inner).poll_read(cx, buf);
        }
        let taken = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..taken]);
        self.read += taken;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Begun<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_tell_the_protocol() {
        let stun = b"\x00\x01\x00\x08\x21\x12\xa4\x42aaaaaaaaaaaa";
        let framed = [&b"\x00\x1c"[..], stun, b"12345678"].concat();
        for (bytes, expected) in [
            (&b"\x16\x03\x01"[..], Kind::Tls),
            (b"GET / HTTP/1.1", Kind::Http),
            (b"P", Kind::Http),
            (b"\r\nGET /", Kind::Http),
            (stun, Kind::Turn),
            (&framed, Kind::IceTcp(30)),
            (b"\x17\x03\x03", Kind::Foreign),
            (b"\x80\x00", Kind::Foreign),
            (b"\x00\x01\x00\x08\x21\x12\xa4\x43aa", Kind::Foreign),
            (b"\x0f\xff\x00\x01\x00\x08\x21\x12\xa4\x42", Kind::Foreign),
        ] {
            assert_eq!(kind(bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn a_beginning_that_says_nothing_yet_is_waited_for() {
        for bytes in [&b""[..], b"\x00", b"\x00\x1c\x00\x01\x00\x08\x21\x12\xa4"] {
            assert_eq!(kind(bytes), Kind::Unclear, "{bytes:?}");
        }
    }
}
