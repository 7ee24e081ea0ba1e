//! Makes offers to a subscriber and reads its answers.
//!
//! In: the down tracks that a client should have ([`SubscriberSession::add`], [`SubscriberSession::remove`]). Out: an offer
//! when one is due, and what the answer agreed for each of them. Invariants: at most one offer is outstanding and changes
//! wait for its answer; m-lines keep their place; an m-line that became free is used again for the same kind, one that was
//! closed (port 0) for any kind under a new mid (RFC 8829 section 5.2.2); mids are never used twice; a track that comes back
//! gets another m-line than the one it had last, because native SDKs do not report a stream twice on one.
//! Not here: when to send an offer, timeouts.

use sfu_api::{MediaKind, MediaLabel};

use super::NegotiationError;
use super::codecs::DownCodec;
use super::extensions;
use super::parse::{Description, Section, is_token};
use super::wanted::Wanted;
use super::write::{self, SectionWriter, SessionVersion};
use crate::limits;
use crate::media::{Codec, ExtensionMap, Mid};
use crate::transport::params::{LocalParams, RemoteParams};

/// A track that a subscriber should get.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DownMedia {
    /// The caller's name for it.
    pub key: u64,
    /// What the publisher sends or may send, the best first; at least one.
    pub codecs: Vec<DownChoice>,
    /// SSRC of the stream that we send.
    pub ssrc: u32,
    /// SSRC of its RTX; `None`: no RTX is offered.
    pub rtx_ssrc: Option<u32>,
    /// Names in `msid`.
    pub label: MediaLabel,
}

/// A codec in which a down track may come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DownChoice {
    /// Codec.
    pub codec: Codec,
    /// The publisher's `a=fmtp` for it; empty if it does not send it yet.
    pub fmtp: String,
    /// It may come with redundancy (RFC 2198).
    pub has_red: bool,
}

/// How a client takes one of the codecs of a down track.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DownFormat {
    /// Which of them: see [`configuration`].
    pub configuration: u8,
    /// Payload type on this transport; that of the configuration, if the offer is ours.
    pub payload_type: u8,
    /// `None`: no RTX.
    pub rtx_payload_type: Option<u8>,
    /// `None`: no redundancy.
    pub red_payload_type: Option<u8>,
}

/// The payload type under which our offers name a codec that a publisher describes by this `a=fmtp`: one for each
/// configuration that a decoder has to know.
#[must_use]
pub fn configuration(codec: Codec, publisher_fmtp: &str) -> u8 {
    DownCodec::new(codec, publisher_fmtp).payload_type
}

impl DownMedia {
    pub(super) fn kind(&self) -> MediaKind {
        if self.codecs.iter().any(|choice| choice.codec.is_video()) { MediaKind::Video } else { MediaKind::Audio }
    }
}

/// Our offer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Offer {
    /// To be echoed in the answer; starts at 1 and grows.
    pub id: u32,
    /// SDP.
    pub sdp: String,
}

/// What an answer agreed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SubscriberAnswer {
    /// The client's transport parameters.
    pub remote: RemoteParams,
    /// Every down track of the offer that is still wanted.
    pub media: Vec<DownMediaState>,
}

/// A down track after an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DownMediaState {
    /// The caller's name for it.
    pub key: u64,
    /// The client takes it. If not, the session has forgotten it and the other fields say nothing.
    pub accepted: bool,
    /// Its name in the `mid` header extension.
    pub mid: Mid,
    /// The codecs that the client takes, in the order of [`DownMedia::codecs`].
    pub formats: Vec<DownFormat>,
    /// Agreed header extensions.
    pub extensions: ExtensionMap,
    /// The client reads one-byte and two-byte extension blocks of one stream (RFC 8285 section 6).
    pub allows_mixed_extensions: bool,
}

impl DownMediaState {
    /// The client does not take it.
    pub(super) fn refused(key: u64) -> Self {
        let (mid, extensions) = (Mid::new(), ExtensionMap::default());
        Self { key, accepted: false, mid, formats: Vec::new(), extensions, allows_mixed_extensions: false }
    }
}

/// A subscriber's side of offer and answer.
#[derive(Clone, Debug, Default)]
pub struct SubscriberSession {
    wanted: Wanted,
    wants_data: bool,
    lines: Vec<Line>,
    next_mid: u32,
    version: SessionVersion,
    last_id: u32,
    outstanding: Option<u32>,
    is_due: bool,
}

/// One m-line.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Line {
    mid: Mid,
    use_: LineUse,
    state: LineState,
    /// Whose stream it carried last.
    last: Option<MediaLabel>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum LineUse {
    Data,
    /// `None`: free.
    Media(MediaKind, Option<DownMedia>),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum LineState {
    Open,
    /// Offered with port 0, to be used for another kind after that.
    Closing,
    /// Port 0 on both sides.
    Closed,
}

impl SubscriberSession {
    /// Without anything to offer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Wants a down track; one with the same key is replaced. Fails if there are as many as m-lines are allowed.
    pub fn add(&mut self, media: DownMedia) -> Result<(), NegotiationError> {
        self.is_due |= self.wanted.add(media)?;
        Ok(())
    }

    /// A down track may come in other codecs than before.
    pub fn set_codecs(&mut self, key: u64, codecs: Vec<DownChoice>) {
        self.is_due |= self.wanted.set_codecs(key, codecs);
    }

    /// Wants a down track no longer.
    pub fn remove(&mut self, key: u64) {
        self.is_due |= self.wanted.remove(key);
    }

    /// Wants data channels, from the next offer on and for good.
    pub fn enable_data(&mut self) {
        self.is_due |= !self.wants_data;
        self.wants_data = true;
    }

    /// Makes an offer due though nothing changed here (new ICE credentials).
    pub fn request_offer(&mut self) {
        self.is_due = true;
    }

    /// Forgets the outstanding offer, because its answer will not come or could not be used; another one becomes due.
    pub fn abandon_offer(&mut self) {
        self.is_due |= self.outstanding.take().is_some();
    }

    /// Something changed and no answer is awaited.
    #[must_use]
    pub fn needs_offer(&self) -> bool {
        self.is_due && self.outstanding.is_none()
    }

    /// The next offer, if [`Self::needs_offer`].
    pub fn offer(&mut self, local: &LocalParams) -> Option<Offer> {
        if !self.needs_offer() {
            return None;
        }
        let is_complete = self.assign_lines();
        self.is_due = !is_complete;
        self.version = self.version.next(local);
        self.last_id = self.last_id.wrapping_add(1).max(1);
        self.outstanding = Some(self.last_id);
        let first_open = self.lines.iter().position(|line| line.state == LineState::Open);
        let lines = self.lines.iter().enumerate();
        let sections = lines.map(|(index, line)| line.write(local, first_open == Some(index)));
        Some(Offer { id: self.last_id, sdp: write::session(self.version, sections.collect()) })
    }

    /// Takes the answer to the outstanding offer. `id` 0 means that the client does not echo ids.
    pub fn apply_answer(&mut self, id: u32, answer: &str) -> Result<SubscriberAnswer, NegotiationError> {
        let outstanding = self.outstanding.ok_or(NegotiationError::NothingOutstanding)?;
        if id != 0 && id != outstanding {
            return Err(NegotiationError::WrongAnswer { got: id, outstanding });
        }
        let answer = Description::parse(answer)?;
        self.check_lines(&answer)?;
        let is_open = |index: usize| answer.sections.get(index).is_some_and(|s| !s.is_closed);
        let has_data = self.lines.iter().zip(&answer.sections).any(|(line, section)| line.use_ == LineUse::Data && !section.is_closed);
        let remote = answer.remote_params(has_data, is_open)?;

        let mut media = Vec::new();
        for (line, section) in self.lines.iter_mut().zip(&answer.sections) {
            let state = line.take_answer(section);
            // What was removed meanwhile is of no interest, and becomes free in the next offer.
            media.extend(state.filter(|state| self.wanted.iter().any(|m| m.key == state.key)));
        }
        self.wanted.retain(|m| media.iter().all(|state| state.accepted || state.key != m.key));
        self.outstanding = None;
        Ok(SubscriberAnswer { remote, media })
    }

    /// Gives every wanted track an m-line. False if the bound on m-lines allows that only after some were closed.
    fn assign_lines(&mut self) -> bool {
        if self.wants_data && !self.lines.iter().any(|line| line.use_ == LineUse::Data) {
            self.open_line(LineUse::Data);
        }
        for line in &mut self.lines {
            if let LineUse::Media(kind, occupant) = &mut line.use_ {
                let Some(previous) = occupant.take() else { continue };
                *occupant = self.wanted.iter().find(|m| m.key == previous.key && m.kind() == *kind).cloned();
                line.last = Some(previous.label);
            }
        }
        let is_placed = |lines: &[Line], key| lines.iter().any(|line| line.key() == Some(key));
        let homeless: Vec<DownMedia> = self.wanted.iter().filter(|m| !is_placed(&self.lines, m.key)).cloned().collect();
        let mut missing = 0;
        for media in homeless {
            let kind = media.kind();
            let is_free = |line: &Line| line.state == LineState::Open && line.use_ == LineUse::Media(kind, None);
            let had_it = |line: &Line| line.last.as_ref() == Some(&media.label);
            if let Some(line) = self.lines.iter_mut().find(|line| is_free(line) && !had_it(line)) {
                line.use_ = LineUse::Media(kind, Some(media));
                continue;
            }
            // The one that it had makes room for the next track, so that no more than one line more is there for each.
            if let Some(line) = self.lines.iter_mut().find(|line| is_free(line) && had_it(line)) {
                line.state = LineState::Closing;
            }
            if !self.open_line(LineUse::Media(kind, Some(media))) {
                missing += 1;
            }
        }
        let is_idle = |line: &&mut Line| line.state == LineState::Open && matches!(line.use_, LineUse::Media(_, None));
        self.lines.iter_mut().filter(is_idle).take(missing).for_each(|line| line.state = LineState::Closing);
        missing == 0
    }

    /// Puts a new m-line in the place of a closed one, or at the end. False if there is no room.
    fn open_line(&mut self, use_: LineUse) -> bool {
        let closed = self.lines.iter().position(|line| line.state == LineState::Closed);
        if closed.is_none() && self.lines.len() >= limits::MAX_MEDIA_LINES {
            return false;
        }
        let Ok(mid) = Mid::from(&self.next_mid.to_string()) else { return false };
        self.next_mid = self.next_mid.wrapping_add(1);
        let line = Line { mid, use_, state: LineState::Open, last: None };
        match closed.and_then(|index| self.lines.get_mut(index)) {
            Some(place) => *place = line,
            None => self.lines.push(line),
        }
        true
    }

    fn check_lines(&self, answer: &Description) -> Result<(), NegotiationError> {
        let count = self.lines.len();
        if answer.sections.len() != count {
            return Err(NegotiationError::LinesChanged(count.min(answer.sections.len())));
        }
        for (index, (line, section)) in self.lines.iter().zip(&answer.sections).enumerate() {
            let is_same = section.media == line.media() && (section.mid == Some(line.mid) || (section.is_closed && section.mid.is_none()));
            // What we closed must stay closed.
            if !is_same || (line.state != LineState::Open && !section.is_closed) {
                return Err(NegotiationError::LinesChanged(index));
            }
            if !section.is_closed && !answer.is_bundled(section) {
                return Err(NegotiationError::NotBundled(line.mid.to_string()));
            }
        }
        Ok(())
    }
}

impl Line {
    fn key(&self) -> Option<u64> {
        match &self.use_ {
            LineUse::Media(_, Some(media)) => Some(media.key),
            LineUse::Media(_, None) | LineUse::Data => None,
        }
    }

    fn media(&self) -> &'static str {
        match self.use_ {
            LineUse::Data => "application",
            LineUse::Media(MediaKind::Audio, _) => "audio",
            LineUse::Media(MediaKind::Video, _) => "video",
        }
    }

    fn write(&self, local: &LocalParams, has_candidates: bool) -> SectionWriter {
        let protocol = if self.use_ == LineUse::Data { "UDP/DTLS/SCTP" } else { "UDP/TLS/RTP/SAVPF" };
        if self.state != LineState::Open {
            let format = if self.use_ == LineUse::Data { "webrtc-datachannel" } else { "0" };
            return SectionWriter::closed(self.media(), protocol, format, Some(&self.mid));
        }
        let mut section = SectionWriter::open(self.media(), protocol, &self.mid);
        section.transport(local, "actpass", has_candidates);
        match &self.use_ {
            LineUse::Data => section.sctp(),
            LineUse::Media(kind, occupant) => write_media(&mut section, *kind, occupant.as_ref()),
        }
        section
    }

    /// Updates the m-line; the state of its down track, if it had one.
    fn take_answer(&mut self, answer: &Section) -> Option<DownMediaState> {
        if answer.is_closed {
            self.state = LineState::Closed;
        }
        let LineUse::Media(kind, occupant) = &mut self.use_ else { return None };
        let media = occupant.as_ref()?;
        let takes = |payload_type: &u8| answer.codecs.iter().any(|c| c.payload_type == *payload_type);
        let format = |choice: &DownChoice| {
            let codec = DownCodec::new(choice.codec, &choice.fmtp);
            codec.is_taken_by(choice.codec, &answer.codecs).then_some(DownFormat {
                configuration: codec.payload_type,
                payload_type: codec.payload_type,
                rtx_payload_type: codec.rtx_payload_type.filter(|rtx| media.rtx_ssrc.is_some() && takes(rtx)),
                red_payload_type: codec.red_payload_type.filter(|red| choice.has_red && takes(red)),
            })
        };
        let formats: Vec<DownFormat> = media.codecs.iter().filter_map(format).collect();
        let state = DownMediaState {
            key: media.key,
            accepted: !answer.is_closed && answer.direction.receives() && !formats.is_empty(),
            mid: self.mid,
            formats,
            extensions: extensions::accepted(*kind, answer),
            allows_mixed_extensions: answer.allows_mixed_extensions,
        };
        if !state.accepted {
            *occupant = None;
        }
        Some(state)
    }
}

fn write_media(section: &mut SectionWriter, media_kind: MediaKind, occupant: Option<&DownMedia>) {
    section.rtp(if occupant.is_some() { "sendonly" } else { "inactive" }, &extensions::offer(media_kind));
    section.flag("rtcp-rsize");
    if media_kind == MediaKind::Video {
        // A dependency descriptor with its structure is longer than a one-byte element can be.
        section.flag("extmap-allow-mixed");
    }
    let Some(media) = occupant else {
        // An m-line has to name some codec.
        let codec = if media_kind == MediaKind::Audio { Codec::Opus } else { Codec::Vp8 };
        return write_codec(section, &DownChoice { codec, fmtp: String::new(), has_red: false }, false);
    };
    for choice in &media.codecs {
        write_codec(section, choice, media.rtx_ssrc.is_some());
    }
    write_streams(section, media);
}

/// What we send on an m-line, under which names.
pub(super) fn write_streams(section: &mut SectionWriter, media: &DownMedia) {
    let (stream_id, track_id) = (label(&media.label.stream_id), label(&media.label.track_id));
    section.value("msid", format_args!("{stream_id} {track_id}"));
    if let Some(rtx) = media.rtx_ssrc {
        section.value("ssrc-group", format_args!("FID {} {rtx}", media.ssrc));
    }
    for ssrc in [Some(media.ssrc), media.rtx_ssrc].into_iter().flatten() {
        section.value("ssrc", format_args!("{ssrc} cname:{stream_id}"));
        section.value("ssrc", format_args!("{ssrc} msid:{stream_id} {track_id}"));
    }
}

fn write_codec(section: &mut SectionWriter, choice: &DownChoice, has_rtx: bool) {
    let down = DownCodec::new(choice.codec, &choice.fmtp);
    let rtx = down.rtx_payload_type.filter(|_| has_rtx);
    section.codec(down.payload_type, super::encoding_name(choice.codec), &down.fmtp, down.feedback, rtx);
    if let Some(red) = down.red_payload_type.filter(|_| choice.has_red) {
        section.red(red, down.payload_type);
    }
}

/// A name from outside, fit for a place between spaces (RFC 8830 section 2).
fn label(text: &str) -> String {
    if is_token(text) {
        return text.to_owned();
    }
    let fit: String = text.chars().map(|c| if c.is_ascii_graphic() { c } else { '_' }).collect();
    if fit.is_empty() { "-".to_owned() } else { fit }
}
