//! DTLS over validated paths: profiles, certificates, loss, fragments, both other stacks.

use std::time::Duration;

use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile as Offer;
use sfu_api::{Delivery, FailReason};
use sfu_core::transport::params::Fingerprint;
use sfu_core::transport::srtp::{InboundStream, SrtpProfile};
use sfu_core::transport::{DtlsVersion, RemoteError, TransportEvent};
use sfu_sim::client::{ClientEvent, ClientTransport, DimplClient};

use crate::rtc_dtls_client::RtcDtlsClient;
use crate::world::{Network, World, server_path};

#[test]
fn a_client_connects_within_three_round_trips() {
    let world = World::new(1, Network::GOOD).connected();
    // ICE check, then ClientHello, then the client's second flight; nothing asks for a cookie.
    assert!(world.now - world.start <= Duration::from_millis(60), "{:?}", world.now - world.start);
    assert!(world.server.accepts_from(server_path(1)));
    assert_eq!(world.server.selected(), Some(server_path(1)));
    assert!(world.discards.is_empty());
}

#[test]
fn aes_128_gcm_is_chosen_although_the_client_prefers_aes_256() {
    let world = World::new(1, Network::GOOD).connected();
    assert_eq!(world.profile(), Some(SrtpProfile::AeadAes128Gcm));
}

#[test]
fn each_offer_gets_the_cheapest_profile() {
    let [cm80, cm32] = [Offer::Srtp_Aes128_Cm_Hmac_Sha1_80, Offer::Srtp_Aes128_Cm_Hmac_Sha1_32];
    let [gcm128, gcm256] = [Offer::Srtp_Aead_Aes_128_Gcm, Offer::Srtp_Aead_Aes_256_Gcm];
    for (offers, chosen) in [
        (vec![cm80, gcm256, gcm128], SrtpProfile::AeadAes128Gcm),
        (vec![gcm128], SrtpProfile::AeadAes128Gcm),
        (vec![gcm128, gcm256, cm80, cm32], SrtpProfile::AeadAes128Gcm),
        (vec![cm80, gcm256], SrtpProfile::AeadAes256Gcm),
        (vec![gcm256], SrtpProfile::AeadAes256Gcm),
        (vec![cm32, cm80], SrtpProfile::Aes128CmHmacSha1_80),
    ] {
        let mut world = with_rtc_dtls(1, Network::GOOD, &offers).connected();
        assert_eq!(world.profile(), Some(chosen), "{offers:?}");
        media_opens_on_both_sides(&mut world);
    }
}

#[test]
fn dtls_1_3_takes_two_round_trips_and_prefers_aes_128_gcm() {
    for make in [DimplClient::dtls13, DimplClient::either] {
        let client = |now, rng: &mut _| ClientTransport::with_dtls(Box::new(make(now, 1, 1200)), rng).opening_channels();
        let mut world = World::with_client(1, Network::GOOD, client).connected();
        // ICE check, then ClientHello; the client is done with the server's flight, the server half a round trip later.
        assert!(world.now - world.start <= Duration::from_millis(50), "{:?}", world.now - world.start);
        assert_eq!((world.server.dtls_version(), world.profile()), (Some(DtlsVersion::Dtls13), Some(SrtpProfile::AeadAes128Gcm)));
        media_opens_on_both_sides(&mut world);
        world.run(Duration::from_millis(200));
        world.client_sends(Delivery::Reliable, b"up");
        world.server_sends(Delivery::Reliable, b"down");
        world.run(Duration::from_millis(100));
        assert_eq!(
            (world.server_data(), world.client_data()),
            (vec![(Delivery::Reliable, &b"up"[..])], vec![(Delivery::Reliable, &b"down"[..])])
        );
        assert!(world.discards.is_empty(), "{:?}", world.discards);
    }
}

#[test]
fn dtls_1_3_survives_loss_reordering_and_a_client_hello_in_many_datagrams() {
    for seed in 0..40 {
        let mtu = if seed % 3 == 0 { 120 } else { 1200 };
        let make = if seed % 5 == 0 { DimplClient::either } else { DimplClient::dtls13 };
        let network = if seed % 2 == 0 { Network::lossy(0.2) } else { Network::reordering(0.2) };
        let client = |now, rng: &mut _| ClientTransport::with_dtls(Box::new(make(now, seed, mtu)), rng);
        let mut world = World::with_client(seed, network, client).connected();
        assert_eq!(world.server.dtls_version(), Some(DtlsVersion::Dtls13), "seed {seed}");
        media_opens_on_both_sides(&mut world);
    }
}

#[test]
fn media_sealed_by_one_side_opens_on_the_other() {
    media_opens_on_both_sides(&mut World::new(1, Network::GOOD).connected());
}

#[test]
fn no_common_profile_fails_with_its_name() {
    let mut world = with_rtc_dtls(1, Network::GOOD, &[Offer::Srtp_Aes128_Cm_Hmac_Sha1_32]).signal();
    world.run(Duration::from_secs(20));
    assert_eq!(world.server_events, [TransportEvent::Failed(FailReason::DtlsSrtpProfile)]);
}

#[test]
fn a_client_hello_in_many_datagrams_in_any_order_works() {
    for (seed, mtu) in [(1, 80), (2, 120), (3, 150), (4, 200)] {
        let client = |now, rng: &mut _| ClientTransport::with_dtls(Box::new(DimplClient::with_mtu(now, seed, mtu)), rng);
        let world = World::with_client(seed, Network::reordering(0.0), client).connected();
        assert_eq!(world.profile(), Some(SrtpProfile::AeadAes128Gcm), "{mtu}");
    }
}

#[test]
fn a_handshake_survives_every_fifth_datagram_lost() {
    let mut slowest = Duration::ZERO;
    for seed in 0..60 {
        let network = if seed % 2 == 0 { Network::lossy(0.2) } else { Network::reordering(0.2) };
        let mut world = if seed % 3 == 0 {
            let client = |now, rng: &mut _| ClientTransport::with_dtls(Box::new(DimplClient::with_mtu(now, seed, 120)), rng);
            World::with_client(seed, network, client)
        } else {
            World::new(seed, network)
        }
        .connected();
        slowest = slowest.max(world.now - world.start);
        media_opens_on_both_sides(&mut world);
    }
    assert!(slowest < Duration::from_secs(15), "{slowest:?}");
}

#[test]
fn rtc_dtls_survives_loss_too() {
    let mut connected = 0;
    for seed in 0..10 {
        let mut world =
            with_rtc_dtls(seed, Network::lossy(0.2), &[Offer::Srtp_Aes128_Cm_Hmac_Sha1_80, Offer::Srtp_Aead_Aes_128_Gcm]).signal();
        world.run_until(Duration::from_secs(25), |w| w.client_is_connected() && w.server_is_connected());
        // Its randomness is not ours, and about one in a hundred times it gives up by itself when a flight is lost.
        if world.client_events.iter().any(|event| matches!(event, ClientEvent::Failed(_))) {
            continue;
        }
        assert!(world.server_is_connected(), "seed {seed}: {:?} {:?}", world.client_events, world.server_events);
        assert_eq!(world.profile(), Some(SrtpProfile::AeadAes128Gcm));
        media_opens_on_both_sides(&mut world);
        connected += 1;
    }
    assert!(connected >= 7, "{connected} of 10");
}

#[test]
fn another_certificate_than_described_fails_with_its_name_and_gives_no_keys() {
    let mut world = World::new(1, Network::GOOD);
    world.tell_client();
    let mut params = world.client.params();
    params.fingerprint = Fingerprint([7; 32]);
    world.server.set_remote(world.now, &params).unwrap();
    world.client.add_path(world.now, crate::world::path(1));
    world.run(Duration::from_secs(5));
    assert_eq!(world.server_events, [TransportEvent::Failed(FailReason::DtlsFingerprint)]);
    assert!(world.server.srtp().is_none() && !world.server.accepts_from(server_path(1)) && world.server.next_timeout().is_none());
}

#[test]
fn a_handshake_before_the_description_is_held_until_the_fingerprint_is_known() {
    let mut world = World::with_client(1, Network::GOOD, |now, rng| ClientTransport::new(now, rng).opening_channels());
    world.tell_client();
    world.client.add_path(world.now, crate::world::path(1));
    world.run(Duration::from_secs(2));
    assert!(world.client_is_connected());
    assert!(world.server_events.is_empty() && world.server.srtp().is_none());
    world.tell_server();
    world.run(Duration::from_millis(100));
    assert!(world.server_is_connected());
    let opened = |event: &&TransportEvent| matches!(event, TransportEvent::DataChannelOpen { .. });
    assert_eq!(world.server_events.iter().filter(opened).count(), 3, "SCTP that came early was kept");
}

#[test]
fn a_wrong_fingerprint_that_arrives_after_the_handshake_still_fails() {
    let mut world = World::new(1, Network::GOOD);
    world.tell_client();
    world.client.add_path(world.now, crate::world::path(1));
    world.run(Duration::from_secs(1));
    let mut params = world.client.params();
    params.fingerprint = Fingerprint([7; 32]);
    world.server.set_remote(world.now, &params).unwrap();
    world.run(Duration::ZERO);
    assert_eq!(world.server_events, [TransportEvent::Failed(FailReason::DtlsFingerprint)]);
}

#[test]
fn the_fingerprint_of_a_connected_transport_can_not_change() {
    let mut world = World::new(1, Network::GOOD).connected();
    let mut params = world.client.params();
    params.fingerprint = Fingerprint([7; 32]);
    assert_eq!(world.server.set_remote(world.now, &params), Err(RemoteError::FingerprintChanged));
    assert!(world.server.srtp().is_some());
}

#[test]
fn a_client_that_never_speaks_dtls_fails_after_the_connect_timeout() {
    let mut world = World::new(1, Network::GOOD).signal();
    world.run_until(Duration::from_secs(1), |w| w.server.selected().is_some());
    world.network.loss = 1.0;
    world.run(Duration::from_secs(31));
    assert_eq!(world.server_events.last(), Some(&TransportEvent::Failed(FailReason::DtlsHandshake)));
}

#[test]
fn a_client_that_never_checks_fails_for_lack_of_a_path() {
    let mut world = World::new(1, Network::lossy(1.0)).signal();
    world.run(Duration::from_secs(31));
    assert_eq!(world.server_events, [TransportEvent::Failed(FailReason::IceNoPath)]);
}

#[test]
fn close_tells_the_client() {
    let mut world = World::new(1, Network::GOOD).connected();
    world.act_as_server(|w, out| w.server.close(w.now, out));
    world.run(Duration::from_millis(20));
    assert_eq!(world.client_events.last(), Some(&sfu_sim::client::ClientEvent::Closed));
    assert!(world.server.selected().is_none() && world.server.srtp().is_none());
}

#[test]
fn a_client_that_closes_is_disconnected_at_once() {
    let mut world = World::new(1, Network::GOOD).connected();
    world.act(|w, out| w.client.close(w.now, out));
    world.run(Duration::from_millis(20));
    assert_eq!(world.server_events.last(), Some(&TransportEvent::Disconnected));
    assert!(!world.server.accepts_from(server_path(1)));
}

fn with_rtc_dtls(seed: u64, network: Network, offers: &[Offer]) -> World {
    World::with_client(seed, network, |_, rng| ClientTransport::with_dtls(Box::new(RtcDtlsClient::new(offers)), rng))
}

/// Seals RTP and RTCP on each side and opens it on the other.
fn media_opens_on_both_sides(world: &mut World) {
    let (server, client) = (world.server.srtp().unwrap(), world.client.srtp().unwrap());
    let mut packet = vec![0x80, 96, 0, 1, 0, 0, 0, 9, 0, 0, 0, 5];
    packet.extend([42; 100]);
    let plain = packet.clone();
    packet.resize(plain.len() + server.profile().rtp_tag_len(), 0);
    let mut from_server = packet.clone();
    assert_eq!(server.sender.seal_rtp(5, 1, &mut from_server, 12), packet.len());
    assert_eq!(client.sender.seal_rtp(5, 1, &mut packet, 12), packet.len());
    for (receiver, mut sealed) in [(&mut client.receiver, from_server), (&mut server.receiver, packet)] {
        assert_ne!(sealed[12..112], plain[12..]);
        let opened = receiver.open_rtp(&mut InboundStream::default(), &mut sealed, 12).unwrap();
        assert_eq!((opened.payload_len, &sealed[..112]), (100, &plain[..]));
    }
    let report = vec![0x80, 201, 0, 1, 0, 0, 0, 5];
    for (sender, receiver) in [(&mut server.sender, &mut client.receiver), (&mut client.sender, &mut server.receiver)] {
        let mut sealed = report.clone();
        assert!(sender.seal_rtcp(&mut sealed, 0));
        let length = receiver.open_rtcp(&mut sealed).unwrap();
        assert_eq!(sealed[..length], report);
    }
}
