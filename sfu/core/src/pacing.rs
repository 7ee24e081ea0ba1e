//! Where a subscriber's way is narrow, video waits for its turn: see [`crate::bandwidth::pacer`], which says what goes when.
//!
//! What waits is looked at every [`BURST`], as part of a flush, before what is fresh.

use std::time::Instant;

use slotmap::SlotMap;

use crate::audio::forms::Form;
use crate::bandwidth::pacer::{BURST, Pacer, Stream, Waiting};
use crate::egress::{Copying, Egress, FLUSH_BYTES, Planned, Progress, forward_run, group};
use crate::ids::{DownKey, PeerKey, UpKey};
use crate::peer::Peer;
use crate::publish::UpTrack;
use crate::publish::encoding::Encoding;
use crate::subscribe::DownTrack;
use crate::subscribe::retransmit::resend;
use crate::subscribe::selector::Cap;

/// The transports on which something waits.
#[derive(Default)]
pub(crate) struct Pacing {
    peers: Vec<PeerKey>,
    /// Next of them in a flush that was interrupted.
    cursor: usize,
    next: Option<Instant>,
    /// Packets resent after they had waited.
    pub(crate) resent: u64,
}

impl Pacing {
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.next
    }

    /// Something waits on a transport.
    pub(crate) fn list(&mut self, key: PeerKey, pacer: &mut Pacer, now: Instant) {
        if !std::mem::replace(&mut pacer.is_listed, true) {
            self.peers.push(key);
            self.next.get_or_insert(now + BURST);
        }
    }

    /// How many packets of a run go to a subscriber at once; the others wait from here on.
    pub(crate) fn admit(
        &mut self,
        run: &[Planned<'_>],
        (down_key, down): (DownKey, &DownTrack),
        encoding: usize,
        peer: &mut Peer,
        now: Instant,
    ) -> usize {
        let sent_bytes = peer.bandwidth.sent.sent_bytes;
        let Some(pacer) = peer.bandwidth.pacer.as_deref_mut().filter(|pacer| pacer.is_on()) else { return run.len() };
        let lens = run.iter().map(|planned| planned.stored.bytes.len());
        let count = pacer.admit(lens, sent_bytes, now).min(run.len());
        let (Ok(encoding), late) = (u8::try_from(encoding), &run[count..]) else { return run.len() };
        let stream = Stream { down: down_key, up: down.up, encoding, epoch: down.rewriter.epoch_id() };
        for planned in late {
            let len = u16::try_from(planned.stored.bytes.len()).unwrap_or(u16::MAX);
            pacer.wait(Waiting { stream, sequence: planned.stored.meta.sequence, len });
        }
        if !late.is_empty() {
            self.list(down.peer, pacer, now);
        }
        count
    }
}

impl Egress {
    /// Sends what has waited for long enough. On `More` the outbox has to be sent and cleared first.
    pub(crate) fn release(
        &mut self,
        ups: &SlotMap<UpKey, UpTrack>,
        downs: &mut SlotMap<DownKey, DownTrack>,
        peers: &mut SlotMap<PeerKey, Peer>,
        now: Instant,
    ) -> Progress {
        if self.pacing.next.is_none_or(|at| now < at) {
            return Progress::Done;
        }
        while let Some(&key) = self.pacing.peers.get(self.pacing.cursor) {
            let Some(peer) = peers.get_mut(key) else {
                self.pacing.peers.swap_remove(self.pacing.cursor);
                continue;
            };
            if self.release_to(peer, ups, downs, now) == Progress::More {
                return Progress::More;
            }
            match &mut peer.bandwidth.pacer {
                Some(pacer) if pacer.has_waiting() => self.pacing.cursor += 1,
                pacer => {
                    if let Some(pacer) = pacer {
                        pacer.is_listed = false;
                    }
                    self.pacing.peers.swap_remove(self.pacing.cursor);
                }
            }
        }
        self.pacing.cursor = 0;
        self.pacing.next = (!self.pacing.peers.is_empty()).then(|| now + BURST);
        Progress::Done
    }

    fn release_to(
        &mut self,
        peer: &mut Peer,
        ups: &SlotMap<UpKey, UpTrack>,
        downs: &mut SlotMap<DownKey, DownTrack>,
        now: Instant,
    ) -> Progress {
        let send_time = self.send_time(now);
        loop {
            if self.outbox.arena().len() >= FLUSH_BYTES {
                return Progress::More;
            }
            let sent_bytes = peer.bandwidth.sent.sent_bytes;
            let Some(pacer) = &mut peer.bandwidth.pacer else { return Progress::Done };
            if let Some((down, sequence)) = pacer.next_resend(sent_bytes, now) {
                if let Some(down) = downs.get_mut(down).filter(|down| down.share.cap != Cap::Paused)
                    && let Some(up) = ups.get(down.up)
                    && resend(sequence, up, down, peer, &mut self.outbox, send_time, now)
                {
                    self.pacing.resent += 1;
                }
                continue;
            }
            let Some((stream, sequences)) = pacer.next(sent_bytes, now) else { return Progress::Done };
            self.release_packets(stream, &sequences, peer, ups, downs, now);
        }
    }

    /// Sends what waits of a frame that has begun to be sent, because nothing behind it will be.
    pub(crate) fn finish_frame(&mut self, encoding: &Encoding, (key, down): (DownKey, &mut DownTrack), peer: &mut Peer, now: Instant) {
        while !down.flow.is_frame_complete
            && let Some(pacer) = &mut peer.bandwidth.pacer
            && let Some(begun) = down.rewriter.last_timestamp()
            && let Some(epoch) = down.rewriter.epoch()
        {
            let stream = Stream { down: key, up: down.up, encoding: epoch.encoding, epoch: down.rewriter.epoch_id() };
            let is_of_frame = |sequence| {
                let stored = encoding.ring.get(sequence);
                stored.is_some_and(|stored| stored.meta.timestamp.wrapping_add(epoch.timestamp_delta) == begun)
            };
            let sequences = pacer.take(stream, is_of_frame);
            if sequences.is_empty() {
                return;
            }
            self.send_stored(encoding, &sequences, down, peer, now);
        }
    }

    fn release_packets(
        &mut self,
        stream: Stream,
        sequences: &[u64],
        peer: &mut Peer,
        ups: &SlotMap<UpKey, UpTrack>,
        downs: &mut SlotMap<DownKey, DownTrack>,
        now: Instant,
    ) {
        let index = usize::from(stream.encoding);
        let still_flows =
            |down: &&mut DownTrack| down.up == stream.up && down.flow.live == Some(index) && down.rewriter.epoch_id() == stream.epoch;
        let Some(down) = downs.get_mut(stream.down).filter(still_flows) else { return };
        let Some(encoding) = ups.get(stream.up).and_then(|up| up.encodings.get(index)) else { return };
        self.send_stored(encoding, sequences, down, peer, now);
    }

    fn send_stored(&mut self, encoding: &Encoding, sequences: &[u64], down: &mut DownTrack, peer: &mut Peer, now: Instant) {
        let run = group(sequences.iter().filter_map(|&sequence| encoding.ring.get(sequence)));
        let copying = Copying { layers: &encoding.layers, send_time: self.send_time(now), form: Form::Plain, now };
        forward_run(&run, down, peer, &mut self.outbox, &mut self.forwarded, &copying);
    }
}
