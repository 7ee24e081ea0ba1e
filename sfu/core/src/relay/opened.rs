//! A published track as shards without its publisher have to know it.

use arrayvec::ArrayVec;
use sfu_api::{BackupPolicy, ParticipantId, RoomId, TrackId};

use super::fields::{Reader, Writer};
use super::message::Handle;
use crate::limits::{MAX_BACKUP_CODECS, MAX_ENCODINGS};
use crate::media::{Codec, Rid};
use crate::rtp::payload::dependency_descriptor::MAX_SPATIAL_LAYERS;

/// A published track as the other side has to know it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Opened {
    /// Its name from here on.
    pub handle: Handle,
    /// Where.
    pub room: RoomId,
    /// Whose.
    pub participant: ParticipantId,
    /// As signaling knows it.
    pub track: TrackId,
    /// Handle of the preferred codec of the same track, if this is another one.
    pub primary: Option<Handle>,
    /// Codec.
    pub codec: Codec,
    /// See [`crate::media::NegotiatedCodec::fmtp`].
    pub fmtp: String,
    /// Its packets have redundancy (RFC 2198).
    pub has_red: bool,
    /// The client's wishes: stereo, discontinuous transmission, redundancy allowed.
    pub stereo: bool,
    /// See `stereo`.
    pub dtx: bool,
    /// See `stereo`.
    pub red: bool,
    /// Muted.
    pub is_muted: bool,
    /// Its encodings, smallest first.
    pub encodings: ArrayVec<OpenedEncoding, MAX_ENCODINGS>,
    /// Further codecs that the client is ready to send.
    pub announced_backups: ArrayVec<Codec, MAX_BACKUP_CODECS>,
    /// What happens to the preferred codec once a backup is there.
    pub backup_policy: BackupPolicy,
    /// It shows a screen.
    pub is_screen: bool,
}

/// One encoding of a track.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OpenedEncoding {
    /// Name in a simulcast track.
    pub rid: Option<Rid>,
    /// Announced size in pixels.
    pub size: (u32, u32),
    /// Announced sizes of its spatial layers.
    pub layers: ArrayVec<(u32, u32), MAX_SPATIAL_LAYERS>,
}

impl Opened {
    pub(super) fn write<'w, 'o>(&self, w: &'w mut Writer<'o>) -> &'w mut Writer<'o> {
        w.u64(self.handle.0).u64(self.room.0).u64(self.participant.0).u64(self.track.0);
        w.flag(self.primary.is_some()).u64(self.primary.map_or(0, |primary| primary.0));
        w.codec(self.codec).string(&self.fmtp);
        let is_simulcast = self.backup_policy == BackupPolicy::Simulcast;
        for flag in [self.has_red, self.stereo, self.dtx, self.red, self.is_muted, is_simulcast, self.is_screen] {
            w.flag(flag);
        }
        w.count(self.encodings.len());
        for encoding in &self.encodings {
            w.string(encoding.rid.as_deref().unwrap_or_default()).u32(encoding.size.0).u32(encoding.size.1).count(encoding.layers.len());
            encoding.layers.iter().for_each(|size| {
                w.u32(size.0).u32(size.1);
            });
        }
        w.count(self.announced_backups.len());
        self.announced_backups.iter().fold(w, |w, codec| w.codec(*codec))
    }

    pub(super) fn read(r: &mut Reader<'_>) -> Option<Self> {
        let handle = r.handle()?;
        let (room, participant, track) = (RoomId(r.u64()?), ParticipantId(r.u64()?), TrackId(r.u64()?));
        let has_primary = r.flag()?;
        let primary = Some(r.handle()?).filter(|_| has_primary);
        let (codec, fmtp) = (r.codec()?, r.string()?.to_owned());
        let [has_red, stereo, dtx, red, is_muted, is_simulcast, is_screen] =
            [r.flag()?, r.flag()?, r.flag()?, r.flag()?, r.flag()?, r.flag()?, r.flag()?];
        let encodings = r.list(|r| {
            let rid = r.string()?;
            let rid = if rid.is_empty() { None } else { Some(Rid::from(rid).ok()?) };
            Some(OpenedEncoding { rid, size: (r.u32()?, r.u32()?), layers: r.list(|r| Some((r.u32()?, r.u32()?)))? })
        })?;
        let announced_backups = r.list(Reader::codec)?;
        let backup_policy = if is_simulcast { BackupPolicy::Simulcast } else { BackupPolicy::Regress };
        let opened = Self {
            handle,
            room,
            participant,
            track,
            primary,
            codec,
            fmtp,
            has_red,
            stereo,
            dtx,
            red,
            is_muted,
            is_screen,
            encodings,
            announced_backups,
            backup_policy,
        };
        (!opened.encodings.is_empty()).then_some(opened)
    }
}
