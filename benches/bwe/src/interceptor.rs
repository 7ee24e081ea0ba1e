//! `rtc-interceptor`: its `Gcc` estimator, fed with transport-wide feedback. Packets are numbered zeros; nothing is resent.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rtc_interceptor::{BandwidthEstimator, Gcc as Estimator, PacketReport};
use sfu_core::publish::twcc::TwccReceiver;
use sfu_core::rtp::rtcp::{RtcpPacket, TransportCcTime, packets};

use super::Pair;

/// RTP header, extension and SRTP tag.
const OVERHEAD: usize = 12 + 8 + 16;

pub(crate) struct Gcc {
    estimator: Estimator,
    sent: HashMap<u16, (u64, Instant, usize)>,
    next: u64,
    receiver: TwccReceiver,
    clock: Option<(TransportCcTime, i64)>,
    out: Vec<Vec<u8>>,
}

impl Pair for Gcc {
    fn new(_: Instant) -> Self {
        Self {
            estimator: Estimator::new(300_000.0, 30_000.0, 50_000_000.0),
            sent: HashMap::new(),
            next: 1,
            receiver: TwccReceiver::default(),
            clock: None,
            out: Vec::new(),
        }
    }

    fn frame(&mut self, now: Instant, payload_lens: &[usize]) -> anyhow::Result<()> {
        for len in payload_lens {
            let mut packet = vec![0; len + OVERHEAD];
            let sequence = self.next as u16;
            packet[..2].copy_from_slice(&sequence.to_be_bytes());
            self.sent.insert(sequence, (self.next, now, packet.len()));
            self.next += 1;
            self.out.push(packet);
        }
        Ok(())
    }

    fn wants(&mut self, _: u64, _: u64) {}

    fn receive(&mut self, now: Instant, is_back: bool, datagram: &[u8]) -> anyhow::Result<()> {
        if !is_back {
            self.receiver.record(u16::from_be_bytes([datagram[0], datagram[1]]), now);
            return Ok(());
        }
        let mut reports = Vec::new();
        for packet in packets(datagram).flatten() {
            let RtcpPacket::TransportCc(feedback) = packet else { continue };
            for status in feedback.statuses() {
                let arrival = status.arrival.map(|time| {
                    // The clock begins an hour before the first arrival, so that none is negative.
                    let us = self.clock.map_or(3_600_000_000, |(last, us)| us + time.us_since(last));
                    self.clock = Some((time, us));
                    Duration::from_micros(us as u64)
                });
                let Some(&(id, departure, size)) = self.sent.get(&status.sequence) else { continue };
                if arrival.is_some() {
                    self.sent.remove(&status.sequence);
                }
                reports.push(PacketReport {
                    ssrc: 1,
                    id,
                    rtp_sequence_number: status.sequence,
                    is_twcc: true,
                    twcc_sequence_number: status.sequence,
                    size,
                    arrived: arrival.is_some(),
                    departure,
                    arrival,
                    ecn: Default::default(),
                });
            }
        }
        self.estimator.on_reports(now, &reports);
        Ok(())
    }

    fn poll(&mut self, now: Instant) -> anyhow::Result<[Vec<Vec<u8>>; 2]> {
        let mut back = Vec::new();
        let mut compound = Vec::new();
        while self.receiver.write_feedback(&mut compound, 1, 1, now) {
            back.push(std::mem::take(&mut compound));
        }
        Ok([std::mem::take(&mut self.out), back])
    }

    fn estimate_bps(&self) -> u64 {
        self.estimator.target_bitrate() as u64
    }

    fn is_connected(&self) -> bool {
        true
    }
}
