//! str0m: two peer connections of it in RTP mode, through its public API.

use std::net::SocketAddr;
use std::sync::Once;
use std::time::Instant;

use str0m::bwe::{Bitrate, BweKind};
use str0m::format::Codec;
use str0m::media::{MediaKind, Mid, Pt};
use str0m::net::{Protocol, Receive};
use str0m::rtp::{RtpWrite, Ssrc};
use str0m::{Candidate, Event, Input, Output, Rtc};

use super::Pair;

const START: u64 = 300_000;
static CRYPTO: Once = Once::new();

pub(crate) struct Str0m {
    ends: [Rtc; 2],
    pt: Pt,
    ssrc: Ssrc,
    start: Instant,
    next_sequence: u64,
    estimate_bps: u64,
    wanted_bps: u64,
    out: [Vec<Vec<u8>>; 2],
}

fn addresses() -> [SocketAddr; 2] {
    [([1, 1, 1, 1], 1000).into(), ([2, 2, 2, 2], 2000).into()]
}

impl Str0m {
    fn drain(&mut self, end: usize) -> anyhow::Result<()> {
        loop {
            match self.ends[end].poll_output()? {
                Output::Timeout(_) => return Ok(()),
                Output::Transmit(transmit) => self.out[end].push(transmit.contents.to_vec()),
                Output::Event(Event::EgressBitrateEstimate(BweKind::Twcc { estimate, .. })) if end == 0 => {
                    self.estimate_bps = estimate.as_u64();
                }
                Output::Event(_) => {}
            }
        }
    }
}

impl Pair for Str0m {
    fn new(start: Instant) -> Self {
        CRYPTO.call_once(|| str0m_aws_lc_rs::default_provider().install_process_default());
        let sender = Rtc::builder().set_rtp_mode(true).enable_bwe(Some(Bitrate::from(START))).build(start);
        let receiver = Rtc::builder().set_rtp_mode(true).build(start);
        let mut ends = [sender, receiver];
        let candidates = addresses().map(|address| Candidate::host(address, "udp").expect("an address"));
        let fingerprints = [0, 1].map(|end: usize| ends[end].direct_api().local_dtls_fingerprint().clone());
        let credentials = [0, 1].map(|end: usize| ends[end].direct_api().local_ice_credentials());
        let (mid, ssrc, rtx): (Mid, Ssrc, Ssrc) = ("vid".into(), 42.into(), 44.into());
        for (end, rtc) in ends.iter_mut().enumerate() {
            rtc.add_local_candidate(candidates[end].clone());
            rtc.add_remote_candidate(candidates[1 - end].clone());
            let mut api = rtc.direct_api();
            api.set_remote_fingerprint(fingerprints[1 - end].clone());
            api.set_remote_ice_credentials(credentials[1 - end].clone());
            api.set_ice_controlling(end == 0);
            api.start_dtls(end == 0).expect("DTLS starts");
            api.declare_media(mid, MediaKind::Video);
        }
        ends[0].direct_api().declare_stream_tx(ssrc, Some(rtx), mid, None);
        ends[1].direct_api().expect_stream_rx(ssrc, Some(rtx), mid, None);
        ends[1].direct_api().enable_twcc_feedback();
        let pt = ends[0].codec_config().find(|params| params.spec().codec == Codec::Vp8).expect("VP8").pt();
        let out = [Vec::new(), Vec::new()];
        Self { ends, pt, ssrc, start, next_sequence: 1_000, estimate_bps: START, wanted_bps: 0, out }
    }

    fn frame(&mut self, now: Instant, payload_lens: &[usize]) -> anyhow::Result<()> {
        let timestamp = ((now - self.start).as_micros() * 9 / 100) as u32;
        for (place, &len) in payload_lens.iter().enumerate() {
            let payload = vec![0_u8; len];
            let mut api = self.ends[0].direct_api();
            let Some(stream) = api.stream_tx(&self.ssrc) else { return Ok(()) };
            let is_last = place + 1 == payload_lens.len();
            let write = RtpWrite::new(self.pt, self.next_sequence.into(), timestamp, now, &payload[..]).marker(is_last).nackable(true);
            stream.write_rtp(write);
            self.next_sequence += 1;
            self.drain(0)?;
        }
        Ok(())
    }

    fn wants(&mut self, wanted_bps: u64, _sending_bps: u64) {
        if wanted_bps != self.wanted_bps {
            self.wanted_bps = wanted_bps;
            self.ends[0].bwe().set_bitrate(Bitrate::ZERO, Bitrate::from(wanted_bps));
        }
    }

    fn receive(&mut self, now: Instant, is_back: bool, datagram: &[u8]) -> anyhow::Result<()> {
        let (end, [first, second]) = (usize::from(!is_back), addresses());
        let (source, destination) = if is_back { (second, first) } else { (first, second) };
        let contents = datagram.try_into()?;
        self.ends[end].handle_input(Input::Receive(now, Receive { proto: Protocol::Udp, source, destination, contents }))?;
        self.drain(end)
    }

    fn poll(&mut self, now: Instant) -> anyhow::Result<[Vec<Vec<u8>>; 2]> {
        for end in 0..2 {
            self.ends[end].handle_input(Input::Timeout(now))?;
            self.drain(end)?;
        }
        Ok(std::mem::take(&mut self.out))
    }

    fn estimate_bps(&self) -> u64 {
        self.estimate_bps
    }

    fn is_connected(&self) -> bool {
        self.ends.iter().all(Rtc::is_connected)
    }
}
