//! One participant's stay: who it is, what it may do, how far it is, what it subscribes to.

use std::time::{Duration, Instant};

use livekit_protocol as proto;
use livekit_protocol::participant_info::State;
use sfu_api::{FailReason, ParticipantId, PeerMode, TransportRole};
use signaling_api::{EndReason, ErrorCode, Grants};

use crate::{
    JoinParams, blobs::Blobs, budget::Budget, data_tracks::DataSubscriptions, ids, journal, limits, members::Tally, permissions,
    permissions::TrackGate, roster::Shown, session::Session, subscriptions::Subscriptions,
};

/// See the module.
#[derive(Debug)]
pub(crate) struct Participant {
    pub(crate) id: ParticipantId,
    pub(crate) sid: String,
    /// Identity, name, metadata, attributes and rights as they are at present.
    pub(crate) grants: Grants,
    pub(crate) state: State,
    /// Grows with every change that others see.
    pub(crate) version: u32,
    /// Since the Unix epoch.
    pub(crate) joined_at: Duration,
    pub(crate) is_publisher: bool,
    /// One of its tracks was ready once.
    pub(crate) has_published: bool,
    pub(crate) auto_subscribe: bool,
    pub(crate) adaptive_stream: bool,
    /// One peer connection or two.
    pub(crate) mode: PeerMode,
    /// Which transport must be connected for it to be active.
    pub(crate) primary: TransportRole,
    pub(crate) session: Session,
    pub(crate) subscriptions: Subscriptions,
    /// Its say on who may subscribe to its tracks.
    pub(crate) gate: TrackGate,
    /// Highest sequence number of its reliable data packets.
    pub(crate) last_data_sequence: u32,
    pub(crate) entered_at: Instant,
    /// Since when it is in some room of this server, whichever.
    pub(crate) stays_since: Instant,
    /// When its media was connected for the first time.
    pub(crate) connected_at: Option<Instant>,
    /// Why its media is not connected, as far as the node knows.
    pub(crate) media_failure: Option<FailReason>,
    pub(crate) data_subscriptions: DataSubscriptions,
    pub(crate) blobs: Blobs,
    /// What its changes may cost the others.
    pub(crate) update_budget: Budget,
    /// The changes that it may ask for.
    pub(crate) change_requests: Budget,
    /// What newcomers are told of it.
    pub(crate) shown: Shown,
    pub(crate) tally: Tally,
}

/// Why a change of name, metadata or attributes is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ProfileError {
    Name,
    Metadata,
    Attributes,
    /// With it the profiles of the room would be larger than they may be together.
    Room,
}

impl Participant {
    pub(crate) fn new(
        id: ParticipantId,
        grants: Grants,
        request: &JoinParams,
        session: Session,
        joined_at: Duration,
        now: Instant,
    ) -> Self {
        // Clients since protocol 3 take the server's offer first, if they are to receive at all.
        let subscriber_first =
            request.mode == PeerMode::Dual && request.client.protocol > PROTOCOL_BEFORE_SUBSCRIBER_PRIMARY && grants.can_subscribe;
        Self {
            id,
            sid: ids::participant_sid(id),
            grants,
            state: State::Joining,
            version: 0,
            joined_at,
            is_publisher: false,
            has_published: false,
            auto_subscribe: request.auto_subscribe,
            adaptive_stream: request.adaptive_stream,
            mode: request.mode,
            primary: if subscriber_first { TransportRole::Subscriber } else { TransportRole::Publisher },
            session,
            subscriptions: Subscriptions::default(),
            gate: TrackGate::default(),
            last_data_sequence: 0,
            entered_at: now,
            stays_since: now,
            connected_at: None,
            media_failure: None,
            data_subscriptions: DataSubscriptions::default(),
            blobs: Blobs::default(),
            update_budget: Budget::new(limits::UPDATE_BURST, limits::UPDATES_PER_SECOND, now),
            change_requests: Budget::new(limits::CHANGE_REQUEST_BURST, limits::CHANGE_REQUESTS_PER_SECOND, now),
            shown: Shown::default(),
            tally: Tally::default(),
        }
    }

    pub(crate) fn identity(&self) -> &str {
        &self.grants.identity
    }

    pub(crate) fn is_hidden(&self) -> bool {
        self.grants.hidden
    }

    pub(crate) fn is_dependent(&self) -> bool {
        permissions::is_dependent(&self.grants)
    }

    pub(crate) fn info(&self, region: &str, tracks: Vec<proto::TrackInfo>) -> proto::ParticipantInfo {
        proto::ParticipantInfo {
            sid: self.sid.clone(),
            identity: self.grants.identity.clone(),
            name: self.grants.name.clone(),
            state: self.state.into(),
            tracks,
            metadata: self.grants.metadata.clone(),
            joined_at: i64::try_from(self.joined_at.as_secs()).unwrap_or(i64::MAX),
            joined_at_ms: i64::try_from(self.joined_at.as_millis()).unwrap_or(i64::MAX),
            version: self.version,
            permission: Some(permissions::to_proto(&self.grants)),
            region: region.to_owned(),
            is_publisher: self.is_publisher,
            kind: permissions::kind_to_proto(self.grants.kind).into(),
            kind_details: permissions::kind_details_to_proto(&self.grants),
            attributes: self.grants.attributes.clone().into_iter().collect(),
            client_protocol: self.session.client.client_protocol,
            capabilities: self.session.client.capabilities.clone(),
            ..Default::default()
        }
    }

    /// Clients without media say goodbye by themselves, sooner than the server gives up; that is no wish to leave.
    pub(crate) fn precisely(&self, reason: EndReason, now: Instant) -> EndReason {
        if self.connected_at.is_some() || !matches!(reason, EndReason::ClientLeft | EndReason::SignalLost) {
            return reason;
        }
        match self.media_failure {
            Some(failure) => journal::of_media(failure),
            None if reason == EndReason::ClientLeft && now.saturating_duration_since(self.stays_since) >= limits::GIVES_UP_AFTER => {
                EndReason::GaveUp
            }
            None => reason,
        }
    }

    /// The last that others see of it.
    pub(crate) fn farewell(&self, reason: proto::DisconnectReason, region: &str) -> proto::ParticipantInfo {
        proto::ParticipantInfo { state: State::Disconnected.into(), disconnect_reason: reason.into(), ..self.info(region, Vec::new()) }
    }

    /// Empty name and metadata stay as they are; an empty attribute is removed. True if something changed. `has_room` is asked whether
    /// the whole may have so many bytes.
    pub(crate) fn update_profile(
        &mut self,
        update: &proto::UpdateParticipantMetadata,
        has_room: impl FnOnce(usize) -> bool,
    ) -> Result<bool, ProfileError> {
        if update.name.len() > limits::NAME_BYTES {
            return Err(ProfileError::Name);
        }
        if update.metadata.len() > limits::METADATA_BYTES {
            return Err(ProfileError::Metadata);
        }
        let mut attributes = self.grants.attributes.clone();
        for (key, value) in &update.attributes {
            if value.is_empty() {
                attributes.remove(key);
            } else {
                attributes.insert(key.clone(), value.clone());
            }
        }
        if attributes_bytes(&attributes) > limits::ATTRIBUTES_BYTES {
            return Err(ProfileError::Attributes);
        }
        let or_before = |new: &String, before: &String| if new.is_empty() { before.len() } else { new.len() };
        let bytes = self.grants.identity.len()
            + or_before(&update.name, &self.grants.name)
            + or_before(&update.metadata, &self.grants.metadata)
            + attributes_bytes(&attributes);
        if !has_room(bytes) {
            return Err(ProfileError::Room);
        }
        let before = (self.grants.name.clone(), self.grants.metadata.clone());
        let attributes_changed = attributes != self.grants.attributes;
        self.grants.attributes = attributes;
        if !update.name.is_empty() {
            self.grants.name.clone_from(&update.name);
        }
        if !update.metadata.is_empty() {
            self.grants.metadata.clone_from(&update.metadata);
        }
        Ok(attributes_changed || before.0 != self.grants.name || before.1 != self.grants.metadata)
    }
}

impl ProfileError {
    pub(crate) fn message(self) -> &'static str {
        match self {
            Self::Name => "exceeds name length limit",
            Self::Metadata => "exceeds metadata size limit",
            Self::Attributes => "exceeds attributes size limit",
            Self::Room => ErrorCode::ProfileLimit.message(),
        }
    }
}

pub(crate) fn attributes_bytes<'a>(attributes: impl IntoIterator<Item = (&'a String, &'a String)>) -> usize {
    attributes.into_iter().map(|(key, value)| key.len().saturating_add(value.len())).sum()
}

const PROTOCOL_BEFORE_SUBSCRIBER_PRIMARY: i32 = 2;
