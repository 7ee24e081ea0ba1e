//! Clients over UDP and TCP, as far as these tests need them.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use turn_proto::client::User;
use turn_proto::wire::message::{Class, Message};
use turn_proto::wire::write::Writer;
use turn_proto::wire::{attribute, method};

use crate::process::Server;

pub(crate) struct Client<'a> {
    server: &'a Server,
    pub(crate) socket: UdpSocket,
    pub(crate) user: User,
}

/// Class and error code.
pub(crate) type Outcome = (Class, Option<u16>);

impl<'a> Client<'a> {
    /// With time-limited credentials of this name.
    pub(crate) fn new(server: &'a Server, name: &str) -> Self {
        let (name, password) = server.credentials(name);
        Self { server, socket: socket(), user: User::new(name, password) }
    }

    /// Asks until it is answered; twice if it is challenged.
    pub(crate) fn ask<T>(&mut self, method: u16, write: impl Fn(&mut Writer), read: impl Fn(&Message<'_>) -> T) -> T {
        loop {
            let request = self.user.request(method, &write);
            self.socket.send_to(&request, self.server.address()).unwrap();
            let mut answer = [0; 2048];
            let length = self.socket.recv(&mut answer).unwrap();
            let message = Message::parse(&answer[..length]).unwrap();
            if !self.user.learn(&message) {
                return read(&message);
            }
        }
    }

    pub(crate) fn allocate(&mut self) -> Outcome {
        self.ask(method::ALLOCATE, for_datagrams, outcome)
    }

    /// The relayed address.
    pub(crate) fn relayed(&mut self) -> SocketAddr {
        self.ask(method::ALLOCATE, for_datagrams, |message| message.attributes.relayed.first().copied()).expect("an allocation")
    }

    pub(crate) fn bind(&mut self, number: u16, peer: SocketAddr) -> Outcome {
        self.ask(method::CHANNEL_BIND, for_channel(number, peer), outcome)
    }

    pub(crate) fn permit(&mut self, peer: SocketAddr) -> Outcome {
        let write = |writer: &mut Writer| {
            writer.xor_address(attribute::XOR_PEER_ADDRESS, peer);
        };
        self.ask(method::CREATE_PERMISSION, write, outcome)
    }
}

/// One over TCP.
pub(crate) struct StreamClient {
    pub(crate) stream: TcpStream,
    user: User,
}

impl StreamClient {
    pub(crate) fn new(server: &Server, name: &str) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", server.tcp)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let (name, password) = server.credentials(name);
        Self { stream, user: User::new(name, password) }
    }

    /// Asks; twice if it is challenged.
    pub(crate) fn ask<T>(&mut self, method: u16, write: impl Fn(&mut Writer), read: impl Fn(&Message<'_>) -> T) -> T {
        loop {
            self.stream.write_all(&self.user.request(method, &write)).unwrap();
            let answer = self.read_message().unwrap();
            let message = Message::parse(&answer).unwrap();
            if !self.user.learn(&message) {
                return read(&message);
            }
        }
    }

    /// A STUN message, or ChannelData whose length is a multiple of four, so that there is no padding.
    pub(crate) fn read_message(&mut self) -> std::io::Result<Vec<u8>> {
        let mut message = vec![0; 4];
        self.stream.read_exact(&mut message)?;
        let length = usize::from(u16::from_be_bytes([message[2], message[3]]));
        let header = if message[0] & 0xC0 == 0 { 20 } else { 4 };
        message.resize(header + length, 0);
        self.stream.read_exact(&mut message[4..])?;
        Ok(message)
    }
}

/// A socket of loopback that does not wait forever.
pub(crate) fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket
}

pub(crate) fn for_datagrams(writer: &mut Writer) {
    writer.attribute(attribute::REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
}

pub(crate) fn for_channel(number: u16, peer: SocketAddr) -> impl Fn(&mut Writer) {
    move |writer| {
        let [a, b] = number.to_be_bytes();
        writer.attribute(attribute::CHANNEL_NUMBER, &[a, b, 0, 0]).xor_address(attribute::XOR_PEER_ADDRESS, peer);
    }
}

pub(crate) fn outcome(message: &Message<'_>) -> Outcome {
    (message.class, message.attributes.error_code)
}
