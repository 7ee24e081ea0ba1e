//! The receiving half of a single peer connection: fills m-lines of a client's offers with what it subscribes to.
//!
//! In: the down tracks that a client should have ([`DownLines::add`], [`DownLines::remove`]) and its offers. Out: what goes
//! into each m-line of the answer, and what the client has to be asked for ([`DownLines::request`]), because only it can add
//! an m-line. Invariants: a track keeps its m-line as long as the client receives on it; an m-line whose track has ended is
//! answered as inactive once before another track gets it, or the client would not notice the change; payload types and
//! extension ids are the client's (RFC 3264 section 6.1).
//! Not here: the client's own tracks (`publisher`), when to ask.

use sfu_api::MediaKind;

use super::NegotiationError;
use super::codecs::{self, AnsweredCodec};
use super::extensions::{self, ExtensionLine};
use super::parse::{Description, Direction, Section, SectionKind};
use super::subscriber::{DownChoice, DownFormat, DownMedia, DownMediaState, configuration};
use super::wanted::Wanted;
use crate::limits;
use crate::media::Mid;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct DownLines {
    wanted: Wanted,
    /// M-lines that carry a track as the last answer has it; the track may have ended since.
    places: Vec<Place>,
    /// M-lines of the last offer that another track may have.
    free: Count,
    /// All m-lines of the last offer.
    total: usize,
    /// Asked for since the last answer.
    asked: Option<Count>,
    /// Something was added or removed since the last answer, and the client was not asked for an offer yet.
    is_due: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Place {
    mid: Mid,
    key: u64,
}

/// So many m-lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Count {
    /// Of audio.
    pub audio: usize,
    /// Of video.
    pub video: usize,
}

/// What goes into the m-lines of an answer.
#[derive(Default)]
pub(super) struct Plan {
    /// By m-line.
    fills: Vec<Option<Fill>>,
    /// The client takes nothing that these can be had in.
    refused: Vec<u64>,
    free: Count,
}

/// A track in an m-line.
pub(super) struct Fill {
    pub(super) media: DownMedia,
    pub(super) mid: Mid,
    /// What the client takes of its codecs, with the configuration of each.
    pub(super) codecs: Vec<(u8, AnsweredCodec)>,
    pub(super) extensions: Vec<ExtensionLine>,
    allows_mixed_extensions: bool,
}

impl Count {
    fn of(&mut self, kind: MediaKind) -> &mut usize {
        match kind {
            MediaKind::Audio => &mut self.audio,
            MediaKind::Video => &mut self.video,
        }
    }

    fn saturating_sub(self, other: Self) -> Self {
        Self { audio: self.audio.saturating_sub(other.audio), video: self.video.saturating_sub(other.video) }
    }

    fn sum(self) -> usize {
        self.audio + self.video
    }
}

impl DownLines {
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

    /// The m-lines that the client is to add to its next offer; `Some` of none asks for an offer with those that it has.
    /// What was asked for is not asked for again before the next answer.
    pub fn request(&mut self) -> Option<Count> {
        if self.total == 0 {
            // The first offer comes without asking, with m-lines that are not known yet.
            return None;
        }
        let asked = self.asked.unwrap_or_default();
        let homeless = self.homeless();
        let mut more = homeless.saturating_sub(self.free).saturating_sub(asked);
        // Beyond that the next offer would be refused as a whole.
        let room = limits::MAX_MEDIA_LINES.saturating_sub(self.total + asked.sum());
        more.audio = more.audio.min(room);
        more.video = more.video.min(room - more.audio);
        let can_fill = homeless.audio.min(self.free.audio) + homeless.video.min(self.free.video) > 0;
        let is_due = (self.is_due || can_fill) && self.asked.is_none();
        if more.sum() == 0 && !is_due {
            return None;
        }
        self.is_due = false;
        self.asked = Some(Count { audio: asked.audio + more.audio, video: asked.video + more.video });
        Some(more)
    }

    /// Tracks without an m-line.
    fn homeless(&self) -> Count {
        let mut count = Count::default();
        for media in self.wanted.iter() {
            if self.places.iter().all(|place| place.key != media.key) {
                *count.of(media.kind()) += 1;
            }
        }
        count
    }

    /// Decides what an offer's m-lines carry. `is_taken` says by index which RTP m-lines are answered at all.
    pub(super) fn plan(&self, offer: &Description, is_taken: impl Fn(usize) -> bool) -> Plan {
        let mut plan = Plan { fills: offer.sections.iter().map(|_| None).collect(), ..Plan::default() };
        let mut candidates: Vec<(usize, MediaKind)> = Vec::new();
        let mut is_placed: Vec<u64> = Vec::new();
        for (index, section) in offer.sections.iter().enumerate() {
            let (SectionKind::Rtp(kind), Some(mid), true) = (section.kind, section.mid, is_taken(index)) else { continue };
            if !section.direction.receives() {
                continue;
            }
            match self.places.iter().find(|place| place.mid == mid) {
                Some(place) => {
                    let media = self.wanted.iter().find(|m| m.key == place.key && m.kind() == kind);
                    match media.and_then(|media| Fill::new(media, mid, section)) {
                        Some(fill) => {
                            is_placed.push(fill.media.key);
                            plan.put(index, fill);
                        }
                        None => *plan.free.of(kind) += 1,
                    }
                }
                // What the client sends on is its own, even if it would receive there too.
                None if section.direction == Direction::RecvOnly => candidates.push((index, kind)),
                None => {}
            }
        }
        for media in self.wanted.iter().filter(|m| !is_placed.contains(&m.key)) {
            let kind = media.kind();
            let mut of_kind = candidates.iter().enumerate().filter(|(_, (_, other))| *other == kind).peekable();
            let has_any = of_kind.peek().is_some();
            let found = of_kind.find_map(|(place, &(index, _))| {
                let section = offer.sections.get(index)?;
                Some((place, index, Fill::new(media, section.mid?, section)?))
            });
            match found {
                Some((place, index, fill)) => {
                    candidates.remove(place);
                    plan.put(index, fill);
                }
                None if has_any => plan.refused.push(media.key),
                None => {}
            }
        }
        for (_, kind) in candidates {
            *plan.free.of(kind) += 1;
        }
        plan
    }

    /// The answer with this plan is given. What became of the tracks: those that have an m-line, and those that the client
    /// can't decode, which are forgotten.
    pub(super) fn commit(&mut self, plan: Plan) -> Vec<DownMediaState> {
        self.total = plan.fills.len();
        self.free = plan.free;
        (self.asked, self.is_due) = (None, false);
        self.places = plan.fills.iter().flatten().map(|fill| Place { mid: fill.mid, key: fill.media.key }).collect();
        self.wanted.retain(|m| !plan.refused.contains(&m.key));
        let refused = plan.refused.into_iter().map(DownMediaState::refused);
        plan.fills.iter().flatten().map(Fill::state).chain(refused).collect()
    }
}

impl Plan {
    pub(super) fn fill(&self, index: usize) -> Option<&Fill> {
        self.fills.get(index)?.as_ref()
    }

    fn put(&mut self, index: usize, fill: Fill) {
        if let Some(place) = self.fills.get_mut(index) {
            *place = Some(fill);
        }
    }
}

impl Fill {
    /// None if the m-line names no payload type for the track's codec.
    fn new(media: &DownMedia, mid: Mid, section: &Section) -> Option<Self> {
        let answered = media.codecs.iter().filter_map(|choice| {
            let answer = codecs::answer_down(choice.codec, &choice.fmtp, choice.has_red, &section.codecs)?;
            Some((configuration(choice.codec, &choice.fmtp), answer))
        });
        let codecs: Vec<_> = answered.collect();
        if codecs.is_empty() {
            return None;
        }
        let extensions = extensions::answer_down(media.kind(), &section.extensions);
        let allows_mixed_extensions = section.allows_mixed_extensions;
        Some(Self { media: media.clone(), mid, codecs, extensions, allows_mixed_extensions })
    }

    fn state(&self) -> DownMediaState {
        let format = |(configuration, codec): &(u8, AnsweredCodec)| DownFormat {
            configuration: *configuration,
            payload_type: codec.negotiated.payload_type,
            rtx_payload_type: codec.negotiated.rtx_payload_type.filter(|_| self.media.rtx_ssrc.is_some()),
            red_payload_type: codec.negotiated.red_payload_type,
        };
        DownMediaState {
            key: self.media.key,
            accepted: true,
            mid: self.mid,
            formats: self.codecs.iter().map(format).collect(),
            extensions: extensions::to_map(&self.extensions),
            allows_mixed_extensions: self.allows_mixed_extensions,
        }
    }
}
