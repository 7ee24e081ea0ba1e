//! Several codecs of one track: how clients add them, and what they are told of who wants which.
//!
//! LiveKit: a client announces all codecs of a track, publishes the first, and the others when a `SubscribedQualityUpdate`
//! names them: by an `AddTrackRequest` with the `sid` of the track and one codec, whose media has a `cid` of its own.

use livekit_protocol as proto;
use livekit_protocol::{BackupCodecPolicy, VideoQuality, request_response::Reason, signal_response::Message};
use prost::Message as _;
use sfu_api::{BackupPolicy, Command, MediaKind, ParticipantId, PublishRequest, TrackId, WantedCodec};

use crate::{
    limits,
    room::Room,
    tracks,
    tracks::{MediaFound, Stage, Track},
    turn::Turn,
};

impl Room {
    /// A client adds a codec to a track of its own.
    pub(crate) fn add_codec(
        &mut self,
        id: ParticipantId,
        request: &proto::AddTrackRequest,
        turn: &mut Turn<'_>,
    ) -> Result<(), (Reason, &'static str)> {
        self.check_profile(id, request.encoded_len(), turn)?;
        let own: Vec<(TrackId, bool)> = self.tracks.of(id).map(|track| (track.id, track.uses_cid(&request.cid))).collect();
        let track = self.tracks.own_mut(id, &request.sid).filter(|track| track.stage == Stage::Ready);
        let track = track.ok_or((Reason::NotFound, "no such track"))?;
        let is_taken = own.iter().any(|&(other, uses_cid)| uses_cid && other != track.id);
        if track.kind != MediaKind::Video || is_taken || track.cid == request.cid {
            return Err((Reason::InvalidRequest, "not video, or its media belongs to another track"));
        }
        let publish = track.add_codec(request)?;
        let (track_id, info) = (track.id, track.info.clone());
        // Who joins before the media is there is told of the codec too.
        if let Some(member) = self.members.get_mut(id) {
            member.shown.forget();
        }
        self.weigh(id);
        let response = proto::TrackPublishedResponse { cid: request.cid.clone(), track: Some(info) };
        turn.out.media(Command::PublishCodec { participant: id, track: track_id, request: publish });
        self.tell(id, Message::TrackPublished(response), turn);
        Ok(())
    }

    /// The media node has the media of a further codec.
    pub(crate) fn codec_ready(&mut self, owner: ParticipantId, id: TrackId, found: MediaFound, turn: &mut Turn<'_>) {
        let Some(track) = self.tracks.get_mut(id).filter(|track| track.owner == owner && track.stage == Stage::Ready) else {
            turn.counters.stale_events += 1;
            return;
        };
        if track.codec_found(found) {
            self.announce_soon(owner, false, turn);
        }
    }

    /// Other codecs or layers of a track are wanted than before.
    pub(crate) fn wanted_layers(&mut self, owner: ParticipantId, id: TrackId, codecs: Vec<WantedCodec>, turn: &mut Turn<'_>) {
        let Some(track) = self.tracks.get_mut(id).filter(|track| track.owner == owner) else {
            turn.counters.stale_events += 1;
            return;
        };
        track.wanted = codecs;
        let update = track.quality_update();
        self.tell(owner, Message::SubscribedQualityUpdate(update), turn);
    }
}

impl Track {
    fn uses_cid(&self, cid: &str) -> bool {
        self.cid == cid || self.info.codecs.iter().any(|codec| codec.cid == cid)
    }

    fn add_codec(&mut self, request: &proto::AddTrackRequest) -> Result<PublishRequest, (Reason, &'static str)> {
        let added = tracks::codecs(request, self.kind, &tracks::sorted_layers(&request.layers)).into_iter().next();
        let added = added.filter(|codec| !codec.mime_type.is_empty()).ok_or((Reason::InvalidRequest, "no codec"))?;
        let added = proto::SimulcastCodecInfo { cid: request.cid.clone(), ..added };
        let place = self.info.codecs.iter().position(|codec| codec.mime_type.eq_ignore_ascii_case(&added.mime_type));
        match place {
            Some(0) => return Err((Reason::InvalidRequest, "the track has this codec")),
            Some(place) => {
                let known = &mut self.info.codecs[place];
                known.cid = added.cid;
                known.layers = added.layers;
            }
            None if self.info.codecs.len() >= limits::CODECS_PER_TRACK => return Err((Reason::LimitExceeded, "too many codecs")),
            None => self.info.codecs.push(added),
        }
        let place = place.unwrap_or(self.info.codecs.len() - 1);
        let codec = &self.info.codecs[place];
        Ok(PublishRequest {
            cid: codec.cid.clone(),
            preferred_codec: codec.mime_type.clone(),
            layers: tracks::layer_infos(&codec.layers),
            backup_codecs: Vec::new(),
            ..self.publish_request()
        })
    }

    /// True if that changed something.
    fn codec_found(&mut self, found: MediaFound) -> bool {
        let Some(codec) = self.info.codecs.iter_mut().find(|codec| codec.mime_type.eq_ignore_ascii_case(&found.mime)) else {
            return false;
        };
        let before = codec.clone();
        codec.mime_type = found.mime;
        codec.mid = found.mid;
        *codec != before
    }

    /// What a publisher is told of the wishes of others. Older clients read the qualities of the first codec only.
    pub(crate) fn quality_update(&self) -> proto::SubscribedQualityUpdate {
        let codecs: Vec<proto::SubscribedCodec> = self.wanted.iter().map(|wanted| self.subscribed_codec(wanted)).collect();
        #[expect(deprecated, reason = "older clients read it")]
        proto::SubscribedQualityUpdate {
            track_sid: self.info.sid.clone(),
            subscribed_qualities: codecs.first().map(|codec| codec.qualities.clone()).unwrap_or_default(),
            subscribed_codecs: codecs,
        }
    }

    fn subscribed_codec(&self, wanted: &WantedCodec) -> proto::SubscribedCodec {
        let described = self.info.codecs.iter().find(|codec| codec.mime_type.eq_ignore_ascii_case(&wanted.mime));
        let highest = wanted.max_spatial.map(|spatial| {
            let layer = described.and_then(|codec| codec.layers.get(usize::from(spatial)));
            layer.map_or(i32::from(spatial), |layer| layer.quality)
        });
        let enabled = |quality: VideoQuality| highest.is_some_and(|highest| i32::from(quality) <= highest);
        proto::SubscribedCodec {
            // Clients compare it with what they were configured with.
            codec: wanted.mime.rsplit('/').next().unwrap_or_default().to_ascii_lowercase(),
            qualities: [VideoQuality::Low, VideoQuality::Medium, VideoQuality::High]
                .map(|quality| proto::SubscribedQuality { quality: quality.into(), enabled: enabled(quality) })
                .to_vec(),
        }
    }
}

/// LiveKit prefers to regress too, if all clients can change the codec of a track; those that can't are gone for years.
pub(crate) fn policy(policy: BackupCodecPolicy) -> BackupPolicy {
    match policy {
        BackupCodecPolicy::Simulcast => BackupPolicy::Simulcast,
        BackupCodecPolicy::PreferRegression | BackupCodecPolicy::Regression => BackupPolicy::Regress,
    }
}
