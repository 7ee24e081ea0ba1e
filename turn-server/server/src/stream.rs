//! A TCP connection, in TLS or not, with a bounded queue of what is to be sent.
//!
//! Plaintext waits here and goes into TLS only when TLS has nothing left to write, so that one bound holds for both.

use std::io::{self, ErrorKind, Read as _, Write as _};

use mio::net::TcpStream;
use rustls::ServerConnection;

/// Plaintext given to TLS at once: one record.
const RECORD_BYTES: usize = 16 * 1024;

/// A connection.
#[derive(Debug)]
pub(crate) struct ByteStream {
    socket: TcpStream,
    tls: Option<Box<ServerConnection>>,
    output: Vec<u8>,
    /// Bytes at the beginning of `output` that are sent.
    sent: usize,
}

impl ByteStream {
    pub(crate) const fn new(socket: TcpStream, tls: Option<Box<ServerConnection>>) -> Self {
        Self { socket, tls, output: Vec::new(), sent: 0 }
    }

    /// True while TLS is being agreed on, which is what costs: what comes then is signed for.
    pub(crate) fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    pub(crate) const fn source(&mut self) -> &mut TcpStream {
        &mut self.socket
    }

    pub(crate) const fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Reads plaintext. `Ok(0)`: the other end has closed. `WouldBlock`: nothing is left.
    pub(crate) fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else {
            return retry(|| self.socket.read(into));
        };
        loop {
            match tls.reader().read(into) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                done => return done,
            }
            if retry(|| tls.read_tls(&mut self.socket))? == 0 {
                return Ok(0);
            }
            if let Err(error) = tls.process_new_packets() {
                // the alert that says why
                let _ = tls.write_tls(&mut self.socket);
                return Err(io::Error::new(ErrorKind::InvalidData, error));
            }
        }
    }

    /// Appends to what is to be sent, if no more than `bound` bytes then wait.
    pub(crate) fn queue(&mut self, parts: &[&[u8]], bound: usize) -> bool {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        if self.waiting() + len > bound {
            return false;
        }
        for part in parts {
            self.output.extend_from_slice(part);
        }
        true
    }

    /// Bytes that wait to be sent.
    pub(crate) const fn waiting(&self) -> usize {
        self.output.len() - self.sent
    }

    /// Sends what the network takes. An error means that the connection is gone.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        match self.write() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            done => done,
        }
    }

    fn write(&mut self) -> io::Result<()> {
        loop {
            if let Some(tls) = &mut self.tls {
                while tls.wants_write() {
                    retry(|| tls.write_tls(&mut self.socket))?;
                }
            }
            let rest = &self.output[self.sent..];
            if rest.is_empty() {
                self.output.clear();
                self.sent = 0;
                return Ok(());
            }
            let written = match &mut self.tls {
                Some(tls) => tls.writer().write(&rest[..rest.len().min(RECORD_BYTES)])?,
                None => retry(|| self.socket.write(rest))?,
            };
            if written == 0 {
                return Err(ErrorKind::WriteZero.into());
            }
            self.sent += written;
            if self.sent >= RECORD_BYTES * 4 {
                self.output.drain(..self.sent);
                self.sent = 0;
            }
        }
    }

    /// Tells the other end that nothing more comes.
    pub(crate) fn shut_down(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            let _ = tls.write_tls(&mut self.socket);
        }
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
    }
}

/// A signal is no reason to give up.
fn retry(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}
