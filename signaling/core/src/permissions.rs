//! Who may do what: grants in the protocol's words, and a publisher's own say on who may subscribe to its tracks.

use std::collections::{BTreeMap, BTreeSet};

use livekit_protocol as proto;
use livekit_protocol::TrackSource;
use sfu_api::{ParticipantId, TrackId};
use signaling_api::{Grants, ParticipantKind, PublishSource};

use crate::{ids, limits};

/// A publisher's say on who may subscribe to its tracks.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) enum TrackGate {
    /// Everybody.
    #[default]
    Open,
    /// Those identities, each to all tracks (none) or to some.
    Listed(BTreeMap<String, Option<BTreeSet<TrackId>>>),
}

impl TrackGate {
    /// `identity_of` resolves participants that are named by sid; those that are not here are left out.
    pub(crate) fn from_proto(permission: &proto::SubscriptionPermission, identity_of: impl Fn(ParticipantId) -> Option<String>) -> Self {
        if permission.all_participants {
            return Self::Open;
        }
        let entries = permission.track_permissions.iter().take(limits::PERMISSION_ENTRIES).filter_map(|entry| {
            let identity = if entry.participant_identity.is_empty() {
                identity_of(ids::parse_participant_sid(&entry.participant_sid)?)?
            } else {
                entry.participant_identity.clone()
            };
            let tracks = (!entry.all_tracks)
                .then(|| entry.track_sids.iter().take(limits::TRACKS_PER_PARTICIPANT).filter_map(|sid| either_track(sid)).collect());
            Some((identity, tracks))
        });
        Self::Listed(entries.collect())
    }

    pub(crate) fn allows(&self, subscriber: &Grants, track: TrackId) -> bool {
        match self {
            // A recorder has no one who could ask for it (LiveKit: exempt from track permissions).
            _ if subscriber.recorder => true,
            Self::Open => true,
            Self::Listed(entries) => {
                entries.get(&subscriber.identity).is_some_and(|tracks| tracks.as_ref().is_none_or(|tracks| tracks.contains(&track)))
            }
        }
    }
}

/// Tracks of both sorts are named in one list; their ids are never the same.
fn either_track(sid: &str) -> Option<TrackId> {
    ids::parse_track_sid(sid).or_else(|| ids::parse_data_track_sid(sid))
}

pub(crate) fn is_agent(grants: &Grants) -> bool {
    grants.kind == ParticipantKind::Agent || grants.agent
}

/// Agents and recorders: they don't keep a room open and don't count.
pub(crate) fn is_dependent(grants: &Grants) -> bool {
    is_agent(grants) || grants.kind == ParticipantKind::Egress || grants.recorder
}

#[expect(deprecated, reason = "older clients read the flags, newer ones the kind")]
pub(crate) fn to_proto(grants: &Grants) -> proto::ParticipantPermission {
    proto::ParticipantPermission {
        can_subscribe: grants.can_subscribe,
        can_publish: grants.can_publish,
        can_publish_data: grants.can_publish_data,
        can_publish_sources: grants.can_publish_sources.iter().map(|source| source_to_proto(*source).into()).collect(),
        hidden: grants.hidden,
        recorder: grants.recorder,
        can_update_metadata: grants.can_update_own_metadata,
        agent: grants.agent,
        can_subscribe_metrics: grants.can_subscribe_metrics,
        can_manage_agent_session: grants.can_manage_agent_session,
    }
}

/// Takes over an administrator's word. Being a recorder or an agent is not for changing.
pub(crate) fn apply(grants: &mut Grants, permission: &proto::ParticipantPermission) {
    grants.can_subscribe = permission.can_subscribe;
    grants.can_publish = permission.can_publish;
    grants.can_publish_data = permission.can_publish_data;
    grants.can_publish_sources = permission.can_publish_sources().map(source_from_proto).collect();
    grants.hidden = permission.hidden;
    grants.can_update_own_metadata = permission.can_update_metadata;
    grants.can_subscribe_metrics = permission.can_subscribe_metrics;
    grants.can_manage_agent_session = permission.can_manage_agent_session;
}

pub(crate) fn source_from_proto(source: TrackSource) -> PublishSource {
    match source {
        TrackSource::Unknown => PublishSource::Unknown,
        TrackSource::Camera => PublishSource::Camera,
        TrackSource::Microphone => PublishSource::Microphone,
        TrackSource::ScreenShare => PublishSource::ScreenShare,
        TrackSource::ScreenShareAudio => PublishSource::ScreenShareAudio,
    }
}

fn source_to_proto(source: PublishSource) -> TrackSource {
    match source {
        PublishSource::Unknown => TrackSource::Unknown,
        PublishSource::Camera => TrackSource::Camera,
        PublishSource::Microphone => TrackSource::Microphone,
        PublishSource::ScreenShare => TrackSource::ScreenShare,
        PublishSource::ScreenShareAudio => TrackSource::ScreenShareAudio,
    }
}

pub(crate) fn kind_to_proto(kind: ParticipantKind) -> proto::participant_info::Kind {
    use proto::participant_info::Kind;
    match kind {
        ParticipantKind::Standard => Kind::Standard,
        ParticipantKind::Ingress => Kind::Ingress,
        ParticipantKind::Egress => Kind::Egress,
        ParticipantKind::Sip => Kind::Sip,
        ParticipantKind::Agent => Kind::Agent,
        ParticipantKind::Connector => Kind::Connector,
        ParticipantKind::Bridge => Kind::Bridge,
    }
}

/// Details of a kind; words that nobody knows are left out.
pub(crate) fn kind_details_to_proto(grants: &Grants) -> Vec<i32> {
    use proto::participant_info::KindDetail;
    grants.kind_details.iter().filter_map(|word| KindDetail::from_str_name(&word.to_ascii_uppercase())).map(i32::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscriber(identity: &str) -> Grants {
        Grants { identity: identity.to_owned(), ..Default::default() }
    }

    #[test]
    fn a_gate_lets_in_those_on_its_list_only() {
        let (track, other) = (TrackId(7), TrackId(8));
        let permission = proto::SubscriptionPermission {
            all_participants: false,
            track_permissions: vec![
                proto::TrackPermission { participant_identity: "all".to_owned(), all_tracks: true, ..Default::default() },
                proto::TrackPermission {
                    participant_sid: ids::participant_sid(ParticipantId(1)),
                    track_sids: vec![ids::track_sid(track, "VC"), "nonsense".to_owned()],
                    ..Default::default()
                },
                proto::TrackPermission { participant_sid: ids::participant_sid(ParticipantId(2)), all_tracks: true, ..Default::default() },
            ],
        };
        let gate = TrackGate::from_proto(&permission, |id| (id == ParticipantId(1)).then(|| "some".to_owned()));
        assert!(gate.allows(&subscriber("all"), other));
        assert!(gate.allows(&subscriber("some"), track) && !gate.allows(&subscriber("some"), other));
        assert!(!gate.allows(&subscriber("nobody"), track));
        assert!(gate.allows(&Grants { recorder: true, ..subscriber("nobody") }, track));
    }

    #[test]
    fn an_administrator_changes_rights_but_not_what_a_participant_is() {
        let mut grants = Grants { recorder: true, can_publish: true, ..Default::default() };
        apply(&mut grants, &proto::ParticipantPermission { can_subscribe: true, ..Default::default() });
        assert!(grants.recorder && grants.can_subscribe && !grants.can_publish);
    }
}
