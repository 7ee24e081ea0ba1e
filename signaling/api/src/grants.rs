//! What an access token says: the JSON claims as LiveKit's server SDKs mint them, and the answer to "may they?".
//!
//! In: [`Claims`], decoded from the token's payload after its signature was verified. Out: [`Grants`], where every default
//! is resolved. Unknown claims and unknown source names are kept out, never an error: tokens outlive servers.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

/// Payload of an access token (JWT).
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Claims {
    /// API key that signed it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub iss: String,
    /// Identity of the participant.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sub: String,
    /// Unix second after which it is not valid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exp: Option<u64>,
    /// Unix second before which it is not valid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nbf: Option<u64>,
    /// Unique id of the token; older SDKs put the identity here.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub jti: String,
    /// Shown name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// `standard`, `agent`, `ingress`, `egress`, `sip`, `connector` or `bridge`; empty means standard.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Initial metadata.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub metadata: String,
    /// Initial attributes.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
    /// More on `kind`, in words of `ParticipantInfo.KindDetail` (any case).
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_as_default")]
    pub kind_details: Vec<String>,
    /// Rights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub video: Option<VideoGrant>,
    /// Settings of the room if this participant opens it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room_config: Option<RoomConfig>,
    /// Name of the server's settings that the room has if this participant opens it; `room_config` goes over them.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub room_preset: String,
    /// Base64 digest of a body that the token vouches for (webhooks).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sha256: String,
}

/// The `video` claim.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VideoGrant {
    /// May create and delete rooms.
    #[serde(skip_serializing_if = "is_false")]
    pub room_create: bool,
    /// May list rooms.
    #[serde(skip_serializing_if = "is_false")]
    pub room_list: bool,
    /// May record.
    #[serde(skip_serializing_if = "is_false")]
    pub room_record: bool,
    /// May moderate `room`.
    #[serde(skip_serializing_if = "is_false")]
    pub room_admin: bool,
    /// May join `room`.
    #[serde(skip_serializing_if = "is_false")]
    pub room_join: bool,
    /// Name of the room.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub room: String,
    /// Absent means true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_publish: Option<bool>,
    /// Absent means true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_subscribe: Option<bool>,
    /// Absent means the same as `can_publish`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_publish_data: Option<bool>,
    /// Sources that may be published; empty means all.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_as_default")]
    pub can_publish_sources: Vec<String>,
    /// Absent means false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_update_own_metadata: Option<bool>,
    /// May manage ingress.
    #[serde(skip_serializing_if = "is_false")]
    pub ingress_admin: bool,
    /// Is not shown to others.
    #[serde(skip_serializing_if = "is_false")]
    pub hidden: bool,
    /// Records the room.
    #[serde(skip_serializing_if = "is_false")]
    pub recorder: bool,
    /// May register as an agent worker.
    #[serde(skip_serializing_if = "is_false")]
    pub agent: bool,
    /// Absent means false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_subscribe_metrics: Option<bool>,
    /// Absent means false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_manage_agent_session: Option<bool>,
    /// Room into which this participant may be forwarded or moved.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub destination_room: String,
}

/// Settings of a room: the `roomConfig` claim of whoever opens it, a preset of the server, or what an administrator asks
/// for. 0, false and empty mean that nothing was said.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RoomConfig {
    /// Seconds until a room that nobody joined closes.
    #[serde(alias = "empty_timeout")]
    pub empty_timeout: u32,
    /// Seconds until a room closes after the last participant left.
    #[serde(alias = "departure_timeout")]
    pub departure_timeout: u32,
    /// How many participants may be in it.
    #[serde(alias = "max_participants")]
    pub max_participants: u32,
    /// Metadata of the room.
    pub metadata: String,
    /// Least delay of playback in milliseconds.
    #[serde(alias = "min_playout_delay")]
    pub min_playout_delay: u32,
    /// Largest delay of playback in milliseconds.
    #[serde(alias = "max_playout_delay")]
    pub max_playout_delay: u32,
    /// Tracks of one participant share a media stream, so that browsers keep them in lip sync.
    #[serde(alias = "sync_streams")]
    pub sync_streams: bool,
    /// Agents that are called into the room.
    #[serde(deserialize_with = "null_as_default")]
    pub agents: Vec<AgentConfig>,
    /// Words to find the room by.
    #[serde(deserialize_with = "null_as_default")]
    pub tags: BTreeMap<String, String>,
}

/// An agent that is called into a room.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AgentConfig {
    /// Under which its workers registered.
    #[serde(alias = "agent_name")]
    pub agent_name: String,
    /// What the agent is told.
    pub metadata: String,
    /// Which of its deployments; empty means the main one.
    pub deployment: String,
    /// What the agent is told, as pairs.
    #[serde(deserialize_with = "null_as_default")]
    pub attributes: BTreeMap<String, String>,
}

impl RoomConfig {
    /// These settings, and those of `preset` where they say nothing.
    #[must_use]
    pub fn or(self, preset: &Self) -> Self {
        fn first<T: Default + PartialEq + Clone>(own: T, preset: &T) -> T {
            if own == T::default() { preset.clone() } else { own }
        }
        Self {
            empty_timeout: first(self.empty_timeout, &preset.empty_timeout),
            departure_timeout: first(self.departure_timeout, &preset.departure_timeout),
            max_participants: first(self.max_participants, &preset.max_participants),
            metadata: first(self.metadata, &preset.metadata),
            min_playout_delay: first(self.min_playout_delay, &preset.min_playout_delay),
            max_playout_delay: first(self.max_playout_delay, &preset.max_playout_delay),
            sync_streams: first(self.sync_streams, &preset.sync_streams),
            agents: first(self.agents, &preset.agents),
            tags: first(self.tags, &preset.tags),
        }
    }
}

/// What a participant is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ParticipantKind {
    /// A person's app.
    #[default]
    Standard,
    /// Brings media from elsewhere.
    Ingress,
    /// Takes media elsewhere.
    Egress,
    /// A telephone call.
    Sip,
    /// A program that takes part.
    Agent,
    /// A connector to another calling service.
    Connector,
    /// A bridge to another media system.
    Bridge,
}

impl ParticipantKind {
    /// The word in a token; standard participants have none.
    #[must_use]
    pub const fn claim(self) -> &'static str {
        match self {
            Self::Standard => "",
            Self::Ingress => "ingress",
            Self::Egress => "egress",
            Self::Sip => "sip",
            Self::Agent => "agent",
            Self::Connector => "connector",
            Self::Bridge => "bridge",
        }
    }

    /// Unknown words are standard participants.
    #[must_use]
    pub fn from_claim(word: &str) -> Self {
        match word {
            "ingress" => Self::Ingress,
            "egress" => Self::Egress,
            "sip" => Self::Sip,
            "agent" => Self::Agent,
            "connector" => Self::Connector,
            "bridge" => Self::Bridge,
            _ => Self::Standard,
        }
    }
}

/// Where a published track comes from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PublishSource {
    /// Not said.
    Unknown,
    /// Camera.
    Camera,
    /// Microphone.
    Microphone,
    /// Picture of a screen or window.
    ScreenShare,
    /// Sound of a screen share.
    ScreenShareAudio,
}

impl PublishSource {
    /// The word in a token.
    #[must_use]
    pub const fn claim(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Camera => "camera",
            Self::Microphone => "microphone",
            Self::ScreenShare => "screen_share",
            Self::ScreenShareAudio => "screen_share_audio",
        }
    }

    /// From the word in a token; words that nobody knows are [`PublishSource::Unknown`].
    #[must_use]
    pub fn from_claim(word: &str) -> Self {
        match word.to_ascii_lowercase().as_str() {
            "camera" => Self::Camera,
            "microphone" => Self::Microphone,
            "screen_share" => Self::ScreenShare,
            "screen_share_audio" => Self::ScreenShareAudio,
            _ => Self::Unknown,
        }
    }
}

/// What a participant is and may do, every default resolved.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Grants {
    /// Unique name inside a room.
    pub identity: String,
    /// Shown name.
    pub name: String,
    /// Initial metadata.
    pub metadata: String,
    /// Initial attributes.
    pub attributes: BTreeMap<String, String>,
    /// What it is.
    pub kind: ParticipantKind,
    /// Name of the room.
    pub room: String,
    /// May join `room`.
    pub room_join: bool,
    /// May moderate `room`.
    pub room_admin: bool,
    /// May create rooms.
    pub room_create: bool,
    /// May list rooms.
    pub room_list: bool,
    /// May record.
    pub room_record: bool,
    /// May publish tracks.
    pub can_publish: bool,
    /// Sources that may be published; empty means all.
    pub can_publish_sources: Vec<PublishSource>,
    /// May subscribe to tracks.
    pub can_subscribe: bool,
    /// May send data messages.
    pub can_publish_data: bool,
    /// May change its own name, metadata and attributes.
    pub can_update_own_metadata: bool,
    /// May receive metrics messages.
    pub can_subscribe_metrics: bool,
    /// May manage an agent session.
    pub can_manage_agent_session: bool,
    /// Is not shown to others.
    pub hidden: bool,
    /// Records the room.
    pub recorder: bool,
    /// Is an agent worker.
    pub agent: bool,
    /// Settings of the room if this participant opens it.
    pub room_config: Box<RoomConfig>,
    /// Name of the server's settings that the room has if this participant opens it.
    pub room_preset: String,
    /// Start of the token's validity, counted from the Unix epoch; zero if it says none.
    pub not_before: Duration,
    /// End of the token's validity, counted from the Unix epoch; none if it has no end.
    pub expires_at: Option<Duration>,
    /// More on `kind`, in words of `ParticipantInfo.KindDetail` (any case).
    pub kind_details: Vec<String>,
    /// API key that signed the token; a fresh token is signed with the same. Empty if there was no token.
    pub api_key: String,
    /// May manage ingress.
    pub ingress_admin: bool,
    /// Room into which participants of `room` may be forwarded or moved.
    pub destination_room: String,
}

impl Grants {
    /// May it publish a track of this source?
    #[must_use]
    pub fn allows_source(&self, source: PublishSource) -> bool {
        self.can_publish && (self.can_publish_sources.is_empty() || self.can_publish_sources.contains(&source))
    }
}

impl From<Claims> for Grants {
    fn from(claims: Claims) -> Self {
        let video = claims.video.unwrap_or_default();
        let can_publish = video.can_publish.unwrap_or(true);
        Self {
            identity: if claims.sub.is_empty() { claims.jti } else { claims.sub },
            name: claims.name,
            metadata: claims.metadata,
            attributes: claims.attributes,
            kind: ParticipantKind::from_claim(&claims.kind),
            room: video.room,
            room_join: video.room_join,
            room_admin: video.room_admin,
            room_create: video.room_create,
            room_list: video.room_list,
            room_record: video.room_record,
            can_publish,
            can_publish_sources: video.can_publish_sources.iter().map(|word| PublishSource::from_claim(word)).collect(),
            can_subscribe: video.can_subscribe.unwrap_or(true),
            can_publish_data: video.can_publish_data.unwrap_or(can_publish),
            can_update_own_metadata: video.can_update_own_metadata.unwrap_or(false),
            can_subscribe_metrics: video.can_subscribe_metrics.unwrap_or(false),
            can_manage_agent_session: video.can_manage_agent_session.unwrap_or(false),
            hidden: video.hidden,
            recorder: video.recorder,
            agent: video.agent,
            room_config: Box::new(claims.room_config.unwrap_or_default()),
            room_preset: claims.room_preset,
            not_before: Duration::from_secs(claims.nbf.unwrap_or(0)),
            expires_at: claims.exp.map(Duration::from_secs),
            kind_details: claims.kind_details,
            api_key: claims.iss,
            ingress_admin: video.ingress_admin,
            destination_room: video.destination_room,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if passes a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

fn null_as_default<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn grants(json: &str) -> Grants {
        serde_json::from_str::<Claims>(json).unwrap().into()
    }

    #[test]
    fn a_token_as_the_node_sdk_mints_it_is_understood() {
        let grants = grants(
            r#"{"iss":"devkey","sub":"alice","nbf":1,"exp":1700000000,"name":"Alice","metadata":"m","attributes":{"a":"1"},
                "video":{"roomJoin":true,"room":"r","canPublishSources":["camera","screen_share"],"canUpdateOwnMetadata":true},"sip":{}}"#,
        );
        assert_eq!((grants.identity.as_str(), grants.name.as_str(), grants.room.as_str()), ("alice", "Alice", "r"));
        assert!(grants.room_join && grants.can_subscribe && grants.can_update_own_metadata);
        assert!(grants.allows_source(PublishSource::Camera) && !grants.allows_source(PublishSource::Microphone));
        assert_eq!(grants.expires_at, Some(Duration::from_secs(1_700_000_000)));
    }

    #[test]
    fn rights_that_a_token_does_not_name_have_livekits_defaults() {
        let grants = grants(r#"{"sub":"a","video":{"roomJoin":true,"room":"r"}}"#);
        assert!(grants.can_publish && grants.can_subscribe && grants.can_publish_data);
        assert!(!grants.can_update_own_metadata && !grants.hidden && !grants.room_admin);
    }

    #[test]
    fn a_token_that_may_not_publish_may_not_send_data_unless_it_says_so() {
        assert!(!grants(r#"{"video":{"canPublish":false}}"#).can_publish_data);
        assert!(grants(r#"{"video":{"canPublish":false,"canPublishData":true}}"#).can_publish_data);
    }

    #[test]
    fn a_list_of_unknown_sources_allows_no_known_source() {
        let grants = grants(r#"{"video":{"canPublishSources":["hologram"]}}"#);
        assert!(!grants.allows_source(PublishSource::Camera));
    }

    #[test]
    fn a_room_config_is_read_in_either_spelling() {
        let grants = grants(r#"{"roomConfig":{"maxParticipants":3,"empty_timeout":5,"agents":[]}}"#);
        assert_eq!((grants.room_config.max_participants, grants.room_config.empty_timeout), (3, 5));
    }

    #[test]
    fn agents_of_a_room_config_are_read_in_either_spelling() {
        let grants = grants(
            r#"{"roomPreset":"p","roomConfig":{"agents":[{"agentName":"echo","metadata":"m"},{"agent_name":"b","attributes":{"k":"v"}}],"tags":null}}"#,
        );
        let names: Vec<_> = grants.room_config.agents.iter().map(|agent| agent.agent_name.as_str()).collect();
        assert_eq!((names, grants.room_preset.as_str()), (vec!["echo", "b"], "p"));
    }

    #[test]
    fn a_preset_fills_only_what_was_not_said() {
        let preset = RoomConfig { max_participants: 5, empty_timeout: 9, metadata: "preset".to_owned(), ..RoomConfig::default() };
        let asked = RoomConfig { max_participants: 2, ..RoomConfig::default() }.or(&preset);
        assert_eq!((asked.max_participants, asked.empty_timeout, asked.metadata.as_str()), (2, 9, "preset"));
    }

    #[test]
    fn null_lists_and_absent_claims_are_empty() {
        assert!(grants(r#"{"video":{"canPublishSources":null}}"#).can_publish_sources.is_empty());
        assert_eq!(grants("{}").identity, "");
    }
}
