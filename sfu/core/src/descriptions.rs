//! Offers and answers: what [`crate::negotiate`] agrees on becomes tracks and subscriptions.
//!
//! Invariant: a description that can't be used changes no track and no subscription.

use std::time::{Duration, Instant};

use sfu_api::{Event, ParticipantId, PublishRequest, TrackId, TransportRole};

use crate::control::Found;
use crate::error::Discard;
use crate::ids::{DownKey, ParticipantKey, PeerKey, UpKey};
use crate::media::{Extension, NegotiatedCodec};
use crate::negotiate::{AnnouncedTrack, DownLines, DownMediaState, NegotiationError, PublisherSession, UpMedia, ice_ufrag};
use crate::net::Protocol;
use crate::peer::Carries;
use crate::publish::encoding::Encoding;
use crate::publish::{UpTrack, announced};
use crate::rtp::extension::{Renumbering, SendStamp};
use crate::shard::Shard;
use crate::subscribe::Reads;
use crate::transport::params::{Candidate, LocalParams};

/// Offers written in one flush; the others follow in the next, so that media does not wait for hundreds of them.
const OFFERS_PER_FLUSH: usize = 8;
/// What a client gets on a transport that is up begins so long after our answer, because a packet that comes before the
/// client has applied the answer is lost, and with it a keyframe. A browser takes 10 to 50 ms.
const ANSWER_TIME: Duration = Duration::from_millis(80);

impl Shard {
    pub(crate) fn offer(&mut self, now: Instant, id: ParticipantId, offer_id: u32, sdp: &str) -> Found {
        let key = self.participant(id)?;
        if self.participants[key].publisher.is_none() {
            self.open_publisher(key, PublisherSession::new(), now);
        }
        let Some(side) = &self.participants[key].publisher else { return Err(Discard::UnknownEntity) };
        let peer = side.peer;
        if ice_ufrag(sdp).is_some_and(|ufrag| side.remote_ufrag.as_deref().is_some_and(|known| known != ufrag)) {
            self.restart_peer(peer);
        }
        let local = self.local_params(peer);
        let participant = &mut self.participants[key];
        let known = participant.ups.iter().filter_map(|&up| self.ups.get(up)).map(UpTrack::announced);
        let announced: Vec<AnnouncedTrack> = known.chain(participant.pending.iter().map(|(_, request)| announced(request))).collect();
        let Some(side) = &mut participant.publisher else { return Err(Discard::UnknownEntity) };
        let before = side.session.clone();
        let answer = match side.session.answer(sdp, &local, &announced) {
            Ok(answer) => answer,
            Err(error) => return self.negotiation_failed(id, TransportRole::Publisher, error.to_string()),
        };
        if let Err(error) = self.peers[peer].transport.set_remote(now, &answer.remote) {
            side.session = before;
            return self.negotiation_failed(id, TransportRole::Publisher, error.to_string());
        }
        side.remote_ufrag = Some(answer.remote.ice.ufrag.clone());
        let subscribed = self.subscribed(&answer.downs);
        self.events.push_back(Event::Answer { participant: id, id: offer_id, sdp: answer.sdp, subscribed });
        self.peers[peer].inbound.takes_reduced_rtcp = answer.takes_reduced_rtcp;
        self.apply_media(key, peer, &answer.media, now);
        self.apply_downs(peer, &answer.downs, now);
        // What found no m-line has to be asked for.
        self.unnegotiated.insert(key);
        self.peer_changed(peer, now);
        Ok(())
    }

    pub(crate) fn answer(&mut self, now: Instant, id: ParticipantId, offer_id: u32, sdp: &str) -> Found {
        let key = self.participant(id)?;
        let side = self.participants[key].subscriber.as_mut().ok_or(Discard::UnknownEntity)?;
        let peer = side.peer;
        let answer = match side.session.apply_answer(offer_id, sdp) {
            Ok(answer) => answer,
            // The answer to an offer that was abandoned in a restart: the right one is on its way.
            Err(NegotiationError::WrongAnswer { .. } | NegotiationError::NothingOutstanding) => return Ok(()),
            Err(error) => return self.negotiation_failed(id, TransportRole::Subscriber, error.to_string()),
        };
        self.unnegotiated.insert(key);
        if let Err(error) = self.peers[peer].transport.set_remote(now, &answer.remote) {
            return self.negotiation_failed(id, TransportRole::Subscriber, error.to_string());
        }
        self.apply_downs(peer, &answer.media, now);
        self.peer_changed(peer, now);
        Ok(())
    }

    /// Takes over what was agreed on a client's subscriptions.
    fn apply_downs(&mut self, peer: PeerKey, downs: &[DownMediaState], now: Instant) {
        let Some(peer) = self.peers.get(peer) else { return };
        let is_answerer = peer.role == TransportRole::Publisher;
        // The client learns of new streams by our answer. On a transport that is up their packets would overtake it.
        let hold_until = Some(now + ANSWER_TIME).filter(|_| is_answerer && peer.transport.selected().is_some());
        for media in downs {
            let key = down_key(media);
            let Some(down) = self.downs.get_mut(key) else { continue };
            down.reads = reads(media);
            if is_answerer {
                down.renumbering = Renumbering::new(&media.extensions);
            }
            let formats = if media.accepted { media.formats.clone() } else { Vec::new() };
            if !down.is_accepted {
                down.hold_until = hold_until;
            } else if down.formats == formats {
                continue;
            }
            down.formats = formats;
            self.subscription_answered(key, now);
        }
    }

    /// Which m-line carries which track.
    fn subscribed(&self, downs: &[DownMediaState]) -> Vec<(String, TrackId)> {
        let accepted = downs.iter().filter(|media| media.accepted);
        accepted.filter_map(|media| Some((media.mid.to_string(), self.downs.get(down_key(media))?.track))).collect()
    }

    pub(crate) fn restart_ice(&mut self, id: ParticipantId) -> Found {
        let key = self.participant(id)?;
        if self.participants[key].is_single() {
            return Ok(());
        }
        let side = self.participants[key].subscriber.as_mut().ok_or(Discard::UnknownEntity)?;
        // An offer whose answer was lost with the signaling connection would block the new one.
        side.session.abandon_offer();
        side.session.request_offer();
        let peer = side.peer;
        self.restart_peer(peer);
        self.unnegotiated.insert(key);
        Ok(())
    }

    /// Emits the offers that have become necessary; a session with an unanswered offer is skipped until the answer. Clients
    /// with one peer connection are asked for theirs.
    pub(crate) fn send_offers(&mut self, now: Instant) {
        if self.unnegotiated.is_empty() {
            return;
        }
        let keys: Vec<ParticipantKey> = self.unnegotiated.iter().copied().take(OFFERS_PER_FLUSH).collect();
        for key in keys {
            self.unnegotiated.remove(&key);
            if let Some(participant) = self.participants.get_mut(key)
                && let Some(more) = participant.publisher.as_mut().and_then(|side| side.session.downs()).and_then(DownLines::request)
            {
                let line_count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
                let (audio, video) = (line_count(more.audio), line_count(more.video));
                self.events.push_back(Event::MediaSections { participant: participant.id, audio, video });
            }
            let Some(peer) = self.participants.get(key).and_then(|p| p.subscriber.as_ref()).map(|side| side.peer) else { continue };
            let local = self.local_params(peer);
            let participant = &mut self.participants[key];
            let Some(offer) = participant.subscriber.as_mut().and_then(|side| side.session.offer(&local)) else { continue };
            self.events.push_back(Event::Offer { participant: participant.id, id: offer.id, sdp: offer.sdp });
            self.peer_changed(peer, now);
        }
    }

    /// Takes over what an answered offer says about the client's tracks.
    pub(crate) fn apply_media(&mut self, key: ParticipantKey, peer_key: PeerKey, media: &[UpMedia], now: Instant) {
        for media in media {
            let known = self.peers[peer_key].inbound.tracks.iter().find(|(mid, _)| *mid == media.mid).map(|&(_, up)| up);
            if media.is_sending {
                for (extension, id) in media.extensions.iter() {
                    self.peers[peer_key].inbound.extensions.set(extension, id);
                }
            }
            let Some(participant) = self.participants.get_mut(key) else { return };
            let announced = participant.pending.iter().position(|(_, request)| Some(request.cid.as_str()) == media.track_cid.as_deref());
            match (media.is_sending, announced) {
                (true, Some(index)) => {
                    let (track, request) = participant.pending.remove(index);
                    if let Some(old) = known {
                        self.end_up(old, now);
                    }
                    self.start_up(key, peer_key, track, &request, media, now);
                }
                (false, Some(index)) if media.codecs.is_empty() => {
                    // None of its codecs can be forwarded: it will never be ready.
                    let (track, _) = participant.pending.remove(index);
                    if !self.directory.tracks.contains_key(&track) {
                        self.events.push_back(Event::TrackEnded { participant: participant.id, track });
                    }
                }
                (true, None) if known.is_none() => tracing::debug!(mid = ?media.mid, "m-line without an announced track"),
                (true, None) => {
                    let codec = media.codecs.first();
                    if let Some(up_key) = known
                        && let Some(up) = self.ups.get(up_key)
                        && let Some(codec) = codec.filter(|codec| codec.codec == up.codec.codec)
                    {
                        // A later offer may give the same codec other numbers.
                        let codec = codec.clone();
                        self.change_numbers(up_key, codec, now);
                    }
                }
                (false, _) => {
                    if let Some(old) = known {
                        self.end_up(old, now);
                    }
                }
            }
        }
    }

    pub(crate) fn start_up(
        &mut self,
        key: ParticipantKey,
        peer_key: PeerKey,
        track: TrackId,
        request: &PublishRequest,
        media: &UpMedia,
        now: Instant,
    ) {
        let Some(mut up) = UpTrack::new(track, key, peer_key, media, request) else { return };
        let room = self.participants.get(key).and_then(|participant| self.rooms.get(participant.room));
        up.set_playout_delay(room.and_then(|room| room.playout_delay));
        let (mime, is_simulcast) = (up.mime().to_owned(), up.is_simulcast());
        let up_key = self.ups.insert(up);
        let primary = self.directory.tracks.get(&track).copied();
        if primary.is_none() {
            self.directory.tracks.insert(track, up_key);
        }
        let inbound = &mut self.peers[peer_key].inbound;
        inbound.tracks.push((media.mid, up_key));
        if !is_simulcast {
            // Clients without the mid extension are bound by the SSRCs of their description.
            // A stream that is known keeps its rollover counter: the client may go on with the same SSRC.
            for &(primary, rtx) in media.ssrcs.iter().take(1) {
                let carries = |is_rtx| Carries { up: up_key, encoding: 0, is_rtx };
                if inbound.announce(primary, carries(false)) {
                    self.ups[up_key].encodings[0].ssrc = Some(primary);
                }
                if let Some(rtx) = rtx {
                    inbound.announce(rtx, carries(true));
                }
            }
        }
        let participant = &mut self.participants[key];
        participant.ups.push(up_key);
        let (participant, mid, simulcast) = (participant.id, media.mid.to_string(), is_simulcast);
        if let Some(primary) = primary {
            self.events.push_back(Event::CodecReady { participant, track, mid, mime, simulcast });
            self.join_codecs(primary, up_key, now);
        } else {
            self.events.push_back(Event::TrackReady { participant, track, mid, mime, simulcast });
        }
        self.wake_up(up_key);
        self.announce_track(up_key);
    }

    /// The same codec goes on under other payload types.
    pub(crate) fn change_numbers(&mut self, key: UpKey, codec: NegotiatedCodec, now: Instant) {
        let Some(up) = self.ups.get_mut(key) else { return };
        let changes_form = up.codec.red_payload_type.is_some() != codec.red_payload_type.is_some();
        up.codec = codec;
        if !changes_form {
            return;
        }
        let downs = up.downs.clone();
        self.tell_form(key);
        for &down in &downs {
            self.stop_flow(down);
        }
        if let Some(up) = self.ups.get_mut(key) {
            // What is stored has the other form.
            up.close_form();
            up.encodings.iter_mut().for_each(Encoding::forget_unsent);
        }
        for down in downs {
            self.retarget(down, now);
        }
    }

    pub(crate) fn local_params(&self, key: PeerKey) -> LocalParams {
        let owner = self.participants.get(self.peers[key].participant);
        LocalParams {
            ice: self.peers[key].transport.local_ice().clone(),
            fingerprint: self.config.certificate.fingerprint(),
            candidates: told(&self.config.candidates, owner.is_some_and(|owner| owner.prefers_tcp)),
        }
    }

    pub(crate) fn negotiation_failed(&mut self, participant: ParticipantId, role: TransportRole, message: String) -> Found {
        self.events.push_back(Event::NegotiationFailed { participant, role, message });
        Ok(())
    }
}

/// The addresses that a client is told. Without any for TCP it is told those that there are.
fn told(candidates: &[Candidate], prefers_tcp: bool) -> Vec<Candidate> {
    let tcp: Vec<_> = candidates.iter().filter(|candidate| candidate.protocol == Protocol::Tcp).copied().collect();
    if prefers_tcp && !tcp.is_empty() { tcp } else { candidates.to_vec() }
}

fn down_key(media: &DownMediaState) -> DownKey {
    DownKey::from(slotmap::KeyData::from_ffi(media.key))
}

/// What a subscriber's answer means for the headers of its packets.
fn reads(media: &DownMediaState) -> Reads {
    let has = |extension| media.extensions.id(extension).is_some();
    Reads {
        stamp: match (has(Extension::TransportCc), has(Extension::AbsSendTime)) {
            (true, _) => SendStamp::TransportCc,
            (false, true) => SendStamp::AbsSendTime,
            (false, false) => SendStamp::Nothing,
        },
        descriptors: has(Extension::DependencyDescriptor) && media.allows_mixed_extensions,
        playout_delay: has(Extension::PlayoutDelay),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_prefers_tcp_is_told_nothing_else_unless_there_is_nothing() {
        let [udp, tcp] = [Protocol::Udp, Protocol::Tcp].map(|protocol| Candidate { protocol, address: ([192, 0, 2, 1], 7881).into() });
        assert_eq!(told(&[udp, tcp], false), [udp, tcp]);
        assert_eq!(told(&[udp, tcp], true), [tcp]);
        assert_eq!(told(&[udp], true), [udp]);
    }
}
