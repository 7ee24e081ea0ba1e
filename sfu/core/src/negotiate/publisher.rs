//! Answers the offers of a publisher.
//!
//! In: the client's SDP and what signaling knows of its tracks. Out: our SDP and what the packet path has to know of each
//! m-line. Invariants: an offer that can't be used changes nothing; m-lines keep their place (RFC 3264 section 8);
//! everything is on one BUNDLE transport; we only receive, unless it is the client's only peer connection: then the m-lines
//! on which it receives carry what [`DownLines`] puts there.
//! RFC 8829 section 5.3 (answers), RFC 8843 (BUNDLE), RFC 8853 (simulcast).

use sfu_api::MediaKind;

use super::NegotiationError;
use super::codecs::{self, AnsweredCodec, EncodingWish};
use super::extensions::{self, ExtensionLine};
use super::parse::{Description, Section, SectionKind};
use super::single::{DownLines, Fill, Plan};
use super::subscriber::{self, DownMediaState};
use super::write::{self, SectionWriter, SessionVersion};
use crate::limits;
use crate::media::{ExtensionMap, Mid, NegotiatedCodec, Rid};
use crate::transport::params::{LocalParams, RemoteParams};

/// A track that the client has announced in signaling.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AnnouncedTrack {
    /// The client's id for it: as a rule the track part of its `msid`.
    pub cid: String,
    /// Audio or video.
    pub kind: MediaKind,
    /// How it should be encoded.
    pub wish: EncodingWish,
}

/// What an offer became.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PublisherAnswer {
    /// Our answer.
    pub sdp: String,
    /// The client's transport parameters.
    pub remote: RemoteParams,
    /// RTP m-lines in order, without those that the client closed (port 0).
    pub media: Vec<UpMedia>,
    /// Feedback may come without a report in front of it (RFC 5506): every RTP m-line says so, since they share one transport.
    pub takes_reduced_rtcp: bool,
    /// What became of the down tracks, if this is the client's only peer connection.
    pub downs: Vec<DownMediaState>,
}

/// One RTP m-line of a publisher.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UpMedia {
    /// Its name in the `mid` header extension.
    pub mid: Mid,
    /// Audio or video.
    pub kind: MediaKind,
    /// The announced track that it carries; the id in the SDP where no announcement fits.
    pub track_cid: Option<String>,
    /// The client sends here, and we can take it. False with `codecs` empty: we support none of its codecs.
    pub is_sending: bool,
    /// The agreed codec; empty if the client offers none that can be forwarded.
    pub codecs: Vec<NegotiatedCodec>,
    /// Agreed header extensions.
    pub extensions: ExtensionMap,
    /// Agreed simulcast encodings, smallest first; empty without rids.
    pub rids: Vec<Rid>,
    /// Announced SSRCs with their RTX; empty where only rids are used.
    pub ssrcs: Vec<(u32, Option<u32>)>,
}

/// A publisher's side of offer and answer.
#[derive(Clone, Debug, Default)]
pub struct PublisherSession {
    lines: Vec<Line>,
    version: SessionVersion,
    downs: Option<DownLines>,
}

/// What has to be remembered of an m-line.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Line {
    kind: SectionKind,
    mid: Option<Mid>,
    is_closed: bool,
    binding: Option<Binding>,
}

/// Which announced track an m-line carries, as long as it sends the same track.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Binding {
    track_id: Option<String>,
    cid: String,
}

/// What is done with an m-line.
enum Decision {
    Refuse,
    Data,
    Rtp(RtpDecision),
}

struct RtpDecision {
    kind: MediaKind,
    mid: Mid,
    codecs: Vec<AnsweredCodec>,
    extensions: Vec<ExtensionLine>,
}

impl PublisherSession {
    /// Before the first offer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Before the first offer on the only peer connection of a client.
    #[must_use]
    pub fn both_ways() -> Self {
        Self { downs: Some(DownLines::default()), ..Self::default() }
    }

    /// What the client receives here, if this is its only peer connection.
    pub fn downs(&mut self) -> Option<&mut DownLines> {
        self.downs.as_mut()
    }

    /// This is the client's only peer connection.
    #[must_use]
    pub fn is_both_ways(&self) -> bool {
        self.downs.is_some()
    }

    /// Answers an offer. `announced` are all tracks of the client that signaling knows, in the order of announcement.
    pub fn answer(&mut self, offer: &str, local: &LocalParams, announced: &[AnnouncedTrack]) -> Result<PublisherAnswer, NegotiationError> {
        let offer = Description::parse(offer)?;
        self.check_continuity(&offer)?;
        check_mids(&offer)?;

        let bindings = self.bind(&offer, announced);
        let decisions = decide(&offer, &bindings, announced)?;
        let has_data = decisions.iter().any(|d| matches!(d, Decision::Data));
        let is_used = |index: usize| decisions.get(index).is_some_and(|d| !matches!(d, Decision::Refuse));
        let remote = offer.remote_params(has_data, is_used)?;

        let is_rtp = |index: usize| matches!(decisions.get(index), Some(Decision::Rtp(_)));
        let plan = self.downs.as_ref().map(|downs| downs.plan(&offer, is_rtp));

        let version = self.version.next(local);
        let first_used = (0..decisions.len()).find(|&index| is_used(index));
        let pairs = offer.sections.iter().zip(&decisions).enumerate();
        let sections = pairs.map(|(index, (section, decision))| {
            let fill = plan.as_ref().and_then(|plan| plan.fill(index));
            write_section(section, decision, fill, local, first_used == Some(index))
        });
        let sdp = write::session(version, sections.collect());
        let media = up_media(&offer, &decisions, &bindings);
        let mut rtp = offer.sections.iter().enumerate().filter(|&(index, _)| is_rtp(index));
        let takes_reduced_rtcp = rtp.all(|(_, section)| section.has_rtcp_rsize);

        self.version = version;
        let downs = self.downs.as_mut().zip(plan).map(|(downs, plan): (_, Plan)| downs.commit(plan)).unwrap_or_default();
        let lines = offer.sections.iter().zip(bindings);
        self.lines = lines.map(|(s, binding)| Line { kind: s.kind, mid: s.mid, is_closed: s.is_closed, binding }).collect();
        Ok(PublisherAnswer { sdp, remote, media, takes_reduced_rtcp, downs })
    }

    fn check_continuity(&self, offer: &Description) -> Result<(), NegotiationError> {
        for (index, line) in self.lines.iter().enumerate() {
            let section = offer.sections.get(index).ok_or(NegotiationError::LinesChanged(index))?;
            // RFC 8829 section 5.2.2: a closed m-line may come back as another one.
            if !line.is_closed && (section.kind != line.kind || section.mid != line.mid) && !section.is_closed {
                return Err(NegotiationError::LinesChanged(index));
            }
        }
        Ok(())
    }

    /// Binds each sending m-line to an announced track: by id; else, because Firefox names its tracks in SDP differently from
    /// the page, by kind in the order of announcement.
    fn bind(&self, offer: &Description, announced: &[AnnouncedTrack]) -> Vec<Option<Binding>> {
        let sending = |section: &Section| !section.is_closed && section.direction.sends();
        let kept = |(index, section): (usize, &Section)| {
            let line = self.lines.get(index).filter(|l| l.mid == section.mid && sending(section))?;
            line.binding.clone().filter(|b| b.track_id == section.track_id)
        };
        let mut bindings: Vec<Option<Binding>> = offer.sections.iter().enumerate().map(kept).collect();
        for is_by_id in [true, false] {
            for (index, section) in offer.sections.iter().enumerate() {
                let SectionKind::Rtp(kind) = section.kind else { continue };
                if !sending(section) || bindings.get(index).is_none_or(Option::is_some) {
                    continue;
                }
                let is_free = |track: &&AnnouncedTrack| bindings.iter().flatten().all(|b| b.cid != track.cid);
                let is_named = |track: &&AnnouncedTrack| section.track_id.as_deref() == Some(track.cid.as_str());
                let track = announced.iter().filter(|t| t.kind == kind).filter(is_free).find(|t| !is_by_id || is_named(t));
                if let (Some(track), Some(binding)) = (track, bindings.get_mut(index)) {
                    *binding = Some(Binding { track_id: section.track_id.clone(), cid: track.cid.clone() });
                }
            }
        }
        bindings
    }
}

fn check_mids(offer: &Description) -> Result<(), NegotiationError> {
    for (index, section) in offer.sections.iter().enumerate() {
        match section.mid {
            // A closed m-line needs no mid (RFC 8829 section 5.2.2).
            None if !section.is_closed => return Err(NegotiationError::Mid(index)),
            Some(mid) if offer.sections.iter().take(index).any(|s| s.mid == Some(mid)) => {
                return Err(NegotiationError::DuplicateMid(mid.to_string()));
            }
            _ => {}
        }
    }
    Ok(())
}

fn decide(offer: &Description, bindings: &[Option<Binding>], announced: &[AnnouncedTrack]) -> Result<Vec<Decision>, NegotiationError> {
    let mut senders = 0;
    let mut has_data = false;
    let mut decisions = Vec::with_capacity(offer.sections.len());
    for (section, binding) in offer.sections.iter().zip(bindings) {
        let (Some(mid), false) = (section.mid, section.is_closed || !offer.is_bundled(section)) else {
            decisions.push(Decision::Refuse);
            continue;
        };
        decisions.push(match section.kind {
            SectionKind::Unknown => Decision::Refuse,
            SectionKind::Data if has_data => Decision::Refuse,
            SectionKind::Data => {
                has_data = true;
                Decision::Data
            }
            SectionKind::Rtp(kind) => {
                let track = binding.as_ref().and_then(|b| announced.iter().find(|t| t.cid == b.cid));
                let codecs = codecs::select(kind, &section.codecs, track.map(|t| t.wish).unwrap_or_default());
                senders += usize::from(section.direction.sends());
                let is_over_limit = section.direction.sends() && senders > limits::MAX_TRACKS_PER_PARTICIPANT;
                if codecs.is_empty() || is_over_limit {
                    Decision::Refuse
                } else if section.has_rtcp_mux {
                    Decision::Rtp(RtpDecision { kind, mid, codecs, extensions: extensions::answer(&section.extensions) })
                } else {
                    return Err(NegotiationError::NoRtcpMux(mid.to_string()));
                }
            }
        });
    }
    Ok(decisions)
}

fn write_section(offer: &Section, decision: &Decision, fill: Option<&Fill>, local: &LocalParams, has_candidates: bool) -> SectionWriter {
    let open = |mid: &str| {
        let mut section = SectionWriter::open(&offer.media, &offer.protocol, mid);
        section.transport(local, "passive", has_candidates);
        section
    };
    match decision {
        Decision::Refuse => {
            let format = offer.formats.first().map_or("0", String::as_str);
            SectionWriter::closed(&offer.media, &offer.protocol, format, offer.mid.as_deref())
        }
        Decision::Data => {
            let mut section = open(offer.mid.as_deref().unwrap_or_default());
            section.sctp();
            section
        }
        Decision::Rtp(rtp) => {
            let mut section = open(&rtp.mid);
            let is_sending = offer.direction.sends();
            let direction = match (is_sending, fill.is_some()) {
                (true, true) => "sendrecv",
                (true, false) => "recvonly",
                (false, true) => "sendonly",
                (false, false) => "inactive",
            };
            section.rtp(direction, fill.filter(|_| !is_sending).map_or(&rtp.extensions, |fill| &fill.extensions));
            if offer.has_rtcp_rsize {
                section.flag("rtcp-rsize");
            }
            if offer.allows_mixed_extensions {
                section.flag("extmap-allow-mixed");
            }
            // An m-line that carries something both ways names the client's codec first: it sends that one.
            let sent = rtp.codecs.iter().filter(|_| is_sending || fill.is_none());
            let is_other = |codec: &&AnsweredCodec| {
                !is_sending || rtp.codecs.iter().all(|c| c.negotiated.payload_type != codec.negotiated.payload_type)
            };
            for codec in sent.chain(fill.into_iter().flat_map(|fill| &fill.codecs).map(|(_, codec)| codec).filter(is_other)) {
                let negotiated = &codec.negotiated;
                let encoding = super::encoding_name(negotiated.codec);
                // Listed first, redundancy is what the client sends.
                if let Some(red) = negotiated.red_payload_type {
                    section.red(red, negotiated.payload_type);
                }
                section.codec(negotiated.payload_type, encoding, &codec.fmtp, &codec.feedback, negotiated.rtx_payload_type);
            }
            write_simulcast(&mut section, offer);
            if let Some(fill) = fill {
                subscriber::write_streams(&mut section, &fill.media);
            }
            section
        }
    }
}

fn write_simulcast(section: &mut SectionWriter, offer: &Section) {
    let rids = offer.rids.as_offered();
    for rid in rids {
        section.value("rid", format_args!("{rid} recv"));
    }
    if offer.rids.is_simulcast() {
        let list: Vec<&str> = rids.iter().map(Rid::as_str).collect();
        section.value("simulcast", format_args!("recv {}", list.join(";")));
    }
}

fn up_media(offer: &Description, decisions: &[Decision], bindings: &[Option<Binding>]) -> Vec<UpMedia> {
    let mut media = Vec::new();
    for ((section, decision), binding) in offer.sections.iter().zip(decisions).zip(bindings) {
        let (SectionKind::Rtp(kind), Some(mid), false) = (section.kind, section.mid, section.is_closed) else { continue };
        let track_cid = binding.as_ref().map(|b| b.cid.clone()).or_else(|| section.track_id.clone());
        let refused = UpMedia {
            mid,
            kind,
            track_cid,
            is_sending: false,
            codecs: Vec::new(),
            extensions: ExtensionMap::default(),
            rids: Vec::new(),
            ssrcs: Vec::new(),
        };
        media.push(match decision {
            Decision::Rtp(rtp) => UpMedia {
                kind: rtp.kind,
                is_sending: section.direction.sends(),
                codecs: rtp.codecs.iter().map(|c| c.negotiated.clone()).collect(),
                extensions: extensions::to_map(&rtp.extensions),
                rids: section.rids.smallest_first(),
                ssrcs: section.ssrcs.clone(),
                ..refused
            },
            Decision::Refuse | Decision::Data => refused,
        });
    }
    media
}
