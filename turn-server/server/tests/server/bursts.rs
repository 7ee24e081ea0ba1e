//! Datagrams that come in one train (UDP_GRO) leave in one (UDP_SEGMENT), and arrive as what they were.

use std::net::{SocketAddr, UdpSocket};

use quinn_udp::{Transmit, UdpSocketState};
use turn_proto::wire::channel::{ChannelNumber, header};
use turn_proto::wire::message::{Class, Message};
use turn_proto::wire::method;

use crate::client::{Client, StreamClient, for_channel, for_datagrams, outcome, socket};
use crate::process::Server;

const OPEN: &str = "allow = [\"127.0.0.0/8\"]\n";
const CHANNEL: u16 = 0x4001;
const TRAINS: usize = 4;
/// The last datagram of a train is shorter.
const LENGTHS: [usize; 8] = [1000, 1000, 1000, 1000, 1000, 1000, 1000, 300];

/// Datagrams that differ.
fn train(number: usize) -> Vec<Vec<u8>> {
    LENGTHS.iter().enumerate().map(|(index, len)| vec![u8::try_from(number * 16 + index).unwrap(); *len]).collect()
}

fn channel_data(payload: &[u8]) -> Vec<u8> {
    [&header(ChannelNumber::new(CHANNEL).unwrap(), u16::try_from(payload.len()).unwrap())[..], payload].concat()
}

/// Sends datagrams of one length, the last of which may be shorter, in one system call.
fn send_train(socket: &UdpSocket, to: SocketAddr, datagrams: &[Vec<u8>]) {
    let state = UdpSocketState::new(socket.into()).unwrap();
    let segment_size = Some(datagrams[0].len());
    let contents = &datagrams.concat();
    state.try_send(socket.into(), &Transmit { destination: to, ecn: None, contents, segment_size, src_ip: None }).unwrap();
    // it was made non-blocking
    socket.set_nonblocking(false).unwrap();
}

fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut datagram = [0; 2048];
    let length = socket.recv(&mut datagram).unwrap();
    datagram[..length].to_vec()
}

/// What `act` sends costs the server no more system calls than trains.
fn costs_one_send_each(server: &Server, direction: &str, act: impl FnOnce()) {
    let relayed = format!("turn_relayed_packets_total{{direction=\"{direction}\"}}");
    // with it the answers before have been counted
    server.await_metric("turn_permissions", |permissions| permissions == 1.0);
    let before = server.metric("turn_udp_sends_total");
    act();
    server.await_metric(&relayed, |packets| packets == (TRAINS * LENGTHS.len()) as f64);
    let sends = server.metric("turn_udp_sends_total") - before;
    assert!(sends <= TRAINS as f64, "{sends} system calls for {TRAINS} trains");
}

#[test]
fn a_train_of_a_client_goes_on_as_a_train() {
    let server = Server::start(OPEN);
    let (mut client, peer) = (Client::new(&server, "PA_1"), socket());
    client.relayed();
    assert_eq!(client.bind(CHANNEL, peer.local_addr().unwrap()), (Class::Success, None));
    costs_one_send_each(&server, "to-peer", || {
        for number in 0..TRAINS {
            send_train(&client.socket, server.address(), &train(number).iter().map(|payload| channel_data(payload)).collect::<Vec<_>>());
            for expected in train(number) {
                assert_eq!(receive(&peer), expected);
            }
        }
    });
}

#[test]
fn a_train_of_a_peer_goes_on_as_a_train_of_channel_data() {
    let server = Server::start(OPEN);
    let (mut client, peer) = (Client::new(&server, "PA_1"), socket());
    let relayed = client.relayed();
    assert_eq!(client.bind(CHANNEL, peer.local_addr().unwrap()), (Class::Success, None));
    costs_one_send_each(&server, "to-client", || {
        for number in 0..TRAINS {
            send_train(&peer, relayed, &train(number));
            for payload in train(number) {
                assert_eq!(receive(&client.socket), channel_data(&payload));
            }
        }
    });
}

#[test]
fn a_train_of_a_peer_without_channel_comes_as_indications() {
    let server = Server::start(OPEN);
    let (mut client, peer) = (Client::new(&server, "PA_1"), socket());
    let relayed = client.relayed();
    assert_eq!(client.permit(peer.local_addr().unwrap()), (Class::Success, None));
    costs_one_send_each(&server, "to-client", || {
        for number in 0..TRAINS {
            send_train(&peer, relayed, &train(number));
            for payload in train(number) {
                let received = receive(&client.socket);
                let message = Message::parse(&received).unwrap();
                assert_eq!((message.method, message.class), (method::DATA, Class::Indication));
                assert_eq!(message.attributes.peers.as_slice(), [peer.local_addr().unwrap()]);
                assert_eq!(&received[message.attributes.data.clone().unwrap()], payload);
            }
        }
    });
}

#[test]
fn a_train_of_a_peer_goes_down_a_stream_message_by_message() {
    let server = Server::start(OPEN);
    let (mut client, peer) = (StreamClient::new(&server, "PA_1"), socket());
    let relayed = client.ask(method::ALLOCATE, for_datagrams, |message| message.attributes.relayed[0]);
    let bound = client.ask(method::CHANNEL_BIND, for_channel(CHANNEL, peer.local_addr().unwrap()), outcome);
    assert_eq!(bound, (Class::Success, None));
    for number in 0..TRAINS {
        send_train(&peer, relayed, &train(number));
        for payload in train(number) {
            assert_eq!(client.read_message().unwrap(), channel_data(&payload));
        }
    }
}
