//! What somebody would try who wants more than relaying, or wants others to get less.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use turn_proto::wire::message::Class;
use turn_proto::wire::write::Writer;
use turn_proto::wire::{attribute, method};

use crate::client::{Client, StreamClient, for_channel, for_datagrams, outcome, socket};
use crate::process::{Server, WITH_CERTIFICATE, until};
use crate::tls::{Unfinished, certificate_of};

#[test]
fn connections_that_say_nothing_are_bounded_and_keep_nobody_out_for_good() {
    let server = Server::start("max_streams_per_address = 8\n");
    let silent: Vec<TcpStream> = (0..8).map(|_| TcpStream::connect(("127.0.0.1", server.tcp)).unwrap()).collect();
    server.await_metric("turn_streams", |streams| streams == 8.0);
    let mut one_more = TcpStream::connect(("127.0.0.1", server.tcp)).unwrap();
    one_more.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    assert!(matches!(one_more.read(&mut [0; 8]), Ok(0) | Err(_)), "it is closed");
    server.await_metric("turn_streams_total{result=\"refused\"}", |refused| refused >= 1.0);
    assert_eq!(Client::new(&server, "PA_1").allocate().0, Class::Success, "UDP is not concerned");
    drop(silent);
    server.await_metric("turn_streams", |streams| streams == 0.0);
    let mut client = StreamClient::new(&server, "PA_2");
    assert_eq!(client.ask(method::BINDING, |_| {}, outcome).0, Class::Success);
}

#[test]
fn a_stranger_may_not_begin_a_long_message_and_who_has_an_allocation_may() {
    let server = Server::start("allow = [\"127.0.0.0/8\"]\n");
    let mut stranger = StreamClient::new(&server, "PA_1");
    let begin = |length: u16| [&[0, 1][..], &length.to_be_bytes(), &[0x21, 0x12, 0xA4, 0x42], &[0; 4_000]].concat();
    stranger.stream.write_all(&begin(60_000)).unwrap();
    assert!(matches!(stranger.stream.read(&mut [0; 8]), Ok(0) | Err(_)), "it is closed");
    server.await_metric("turn_streams_total{result=\"expelled\"}", |expelled| expelled == 1.0);

    let (mut client, peer) = (StreamClient::new(&server, "PA_1"), socket());
    assert_eq!(client.ask(method::ALLOCATE, for_datagrams, outcome), (Class::Success, None));
    let bound = client.ask(method::CHANNEL_BIND, for_channel(0x4001, peer.local_addr().unwrap()), outcome);
    assert_eq!(bound, (Class::Success, None));
    let message = [&[0x40, 1][..], &20_000_u16.to_be_bytes(), &[7; 20_000]].concat();
    for part in message.chunks(5_000) {
        client.stream.write_all(part).unwrap();
        client.stream.flush().unwrap();
    }
    let mut received = vec![0; 65_536];
    assert_eq!(peer.recv(&mut received).unwrap(), 20_000);
}

#[test]
fn a_crowd_in_its_handshakes_gets_through_and_so_does_everybody_else() {
    let server = Server::start(WITH_CERTIFICATE);
    let certificate = certificate_of(&server);
    // all at once, and as many that never go on
    let mut crowd: Vec<Unfinished> = (0..80).map(|_| Unfinished::begin(&server, &certificate)).collect();
    let stuck = crowd.split_off(40);
    assert_eq!(Client::new(&server, "PA_1").allocate().0, Class::Success);
    for each in crowd {
        each.finish().expect("a handshake that waited its turn is finished");
    }
    drop(stuck);
}

#[test]
fn a_tcp_relay_does_not_lead_to_the_operators_own_ports() {
    let server = Server::start("allow = [\"127.0.0.0/8\"]\ntcp_relays = true\n");
    let mut client = StreamClient::new(&server, "PA_1");
    let for_streams = |writer: &mut Writer| {
        writer.attribute(attribute::REQUESTED_TRANSPORT, &[6, 0, 0, 0]);
    };
    assert_eq!(client.ask(method::ALLOCATE, for_streams, outcome), (Class::Success, None));
    for port in [server.metrics, server.tcp, server.udp] {
        let to = SocketAddr::from(([127, 0, 0, 1], port));
        let connect = move |writer: &mut Writer| {
            writer.xor_address(attribute::XOR_PEER_ADDRESS, to);
        };
        assert_eq!(client.ask(method::CONNECT, connect, outcome), (Class::Error, Some(403)), "{to}");
    }
    assert!(server.log().contains("peer denied"), "and it is in the audit log");
}

#[test]
fn a_server_on_all_addresses_is_a_peer_by_none_of_them() {
    let addresses: Vec<IpAddr> = if_addrs::get_if_addrs().unwrap().iter().map(if_addrs::Interface::ip).filter(IpAddr::is_ipv4).collect();
    let server = Server::start(&format!(
        "listen = [\"0.0.0.0\"]\nrelay = [\"127.0.0.1\"]\nallow = {:?}\n",
        addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>()
    ));
    let mut client = Client::new(&server, "PA_1");
    client.relayed();
    for (number, ip) in (0x4000..).zip(addresses) {
        for port in [server.udp, server.tcp] {
            assert_eq!(client.bind(number, SocketAddr::new(ip, port)), (Class::Error, Some(403)), "{ip}:{port}");
        }
        assert_eq!(client.bind(number, SocketAddr::new(ip, 9)), (Class::Success, None), "{ip} itself is allowed");
    }
}

#[test]
fn who_hoards_ports_gets_no_more_than_a_user_may_have() {
    let server = Server::start("max_allocations_per_user = 4\nmax_allocations_per_address = 6\n");
    let mut clients: Vec<Client<'_>> = (0..10).map(|_| Client::new(&server, "PA_1")).collect();
    let outcomes: Vec<_> = clients.iter_mut().map(Client::allocate).collect();
    assert_eq!(outcomes.iter().filter(|(class, _)| *class == Class::Success).count(), 4);
    assert!(outcomes[4..].iter().all(|outcome| *outcome == (Class::Error, Some(486))), "{outcomes:?}");
    let mut others: Vec<Client<'_>> = (2..6).map(|number| Client::new(&server, &format!("PA_{number}"))).collect();
    let got = others.iter_mut().map(|client| client.allocate().0).filter(|class| *class == Class::Success).count();
    assert_eq!(got, 2, "six from one address");
    server.await_metric("turn_quota_rejections_total{quota=\"user\"}", |rejections| rejections == 6.0);
    server.await_metric("turn_quota_rejections_total{quota=\"address\"}", |rejections| rejections == 2.0);
    drop(clients);
    until("the used ports are those of six", || (server.metric("turn_allocations{transport=\"udp\",family=\"ipv4\"}") - 6.0).abs() < 0.5);
}
