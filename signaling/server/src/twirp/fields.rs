//! The fields of the messages that leave through Twirp as JSON: names and kinds as in LiveKit's `.proto` files.
//!
//! A field that is missing here is still written if it is set.

use livekit_protocol as proto;

use super::codec::Kind::{Choice, Flag, Long, Message, Messages, Number, Pairs, Text, Values};
use super::codec::{Field, Named};

impl Named for proto::Room {
    const FIELDS: &'static [Field] = ROOM;
}

impl Named for proto::ListRoomsResponse {
    const FIELDS: &'static [Field] = &[("rooms", Messages(ROOM))];
}

impl Named for proto::ParticipantInfo {
    const FIELDS: &'static [Field] = PARTICIPANT;
}

impl Named for proto::ListParticipantsResponse {
    const FIELDS: &'static [Field] = &[("participants", Messages(PARTICIPANT))];
}

impl Named for proto::MuteRoomTrackResponse {
    const FIELDS: &'static [Field] = &[("track", Message(TRACK))];
}

impl Named for proto::PerformRpcResponse {
    const FIELDS: &'static [Field] = &[("payload", Text)];
}

impl Named for proto::AgentDispatch {
    const FIELDS: &'static [Field] = DISPATCH;
}

impl Named for proto::ListAgentDispatchResponse {
    const FIELDS: &'static [Field] = &[("agent_dispatches", Messages(DISPATCH))];
}

/// Messages without fields.
macro_rules! empty {
    ($($message:ident),*) => {
        $(impl Named for proto::$message {
            const FIELDS: &'static [Field] = &[];
        })*
    };
}

empty!(
    DeleteRoomResponse,
    RemoveParticipantResponse,
    UpdateSubscriptionsResponse,
    SendDataResponse,
    MoveParticipantResponse,
    ForwardParticipantResponse
);

const ROOM: &[Field] = &[
    ("sid", Text),
    ("name", Text),
    ("empty_timeout", Number),
    ("departure_timeout", Number),
    ("max_participants", Number),
    ("creation_time", Long),
    ("creation_time_ms", Long),
    ("turn_password", Text),
    ("enabled_codecs", Messages(CODEC)),
    ("metadata", Text),
    ("num_participants", Number),
    ("num_publishers", Number),
    ("active_recording", Flag),
    ("version", Message(VERSION)),
];

const DISPATCH: &[Field] = &[
    ("id", Text),
    ("agent_name", Text),
    ("room", Text),
    ("metadata", Text),
    ("state", Message(&[("jobs", Messages(JOB)), ("created_at", Long), ("deleted_at", Long)])),
    ("restart_policy", Choice("JRP_ON_FAILURE")),
    ("deployment", Text),
    ("attributes", Pairs),
];

const JOB: &[Field] = &[
    ("id", Text),
    ("dispatch_id", Text),
    ("type", Choice("JT_ROOM")),
    ("room", Message(ROOM)),
    ("participant", Message(PARTICIPANT)),
    ("namespace", Text),
    ("metadata", Text),
    ("agent_name", Text),
    ("state", Message(JOB_STATE)),
    ("enable_recording", Flag),
    ("deployment", Text),
    ("attributes", Pairs),
];

const JOB_STATE: &[Field] = &[
    ("status", Choice("JS_PENDING")),
    ("error", Text),
    ("started_at", Long),
    ("ended_at", Long),
    ("updated_at", Long),
    ("participant_identity", Text),
    ("worker_id", Text),
    ("agent_id", Text),
];

const CODEC: &[Field] = &[("mime", Text), ("fmtp_line", Text)];

const VERSION: &[Field] = &[("unix_micro", Long), ("ticks", Number)];

const PARTICIPANT: &[Field] = &[
    ("sid", Text),
    ("identity", Text),
    ("state", Choice("JOINING")),
    ("tracks", Messages(TRACK)),
    ("metadata", Text),
    ("joined_at", Long),
    ("joined_at_ms", Long),
    ("name", Text),
    ("version", Number),
    ("permission", Message(PERMISSION)),
    ("region", Text),
    ("is_publisher", Flag),
    ("kind", Choice("STANDARD")),
    ("attributes", Pairs),
    ("disconnect_reason", Choice("UNKNOWN_REASON")),
    ("kind_details", Values),
    ("client_protocol", Number),
];

const PERMISSION: &[Field] = &[
    ("can_subscribe", Flag),
    ("can_publish", Flag),
    ("can_publish_data", Flag),
    ("can_publish_sources", Values),
    ("hidden", Flag),
    ("recorder", Flag),
    ("can_update_metadata", Flag),
    ("agent", Flag),
    ("can_subscribe_metrics", Flag),
];

const TRACK: &[Field] = &[
    ("sid", Text),
    ("type", Choice("AUDIO")),
    ("name", Text),
    ("muted", Flag),
    ("width", Number),
    ("height", Number),
    ("simulcast", Flag),
    ("disable_dtx", Flag),
    ("source", Choice("UNKNOWN")),
    ("layers", Messages(LAYER)),
    ("mime_type", Text),
    ("mid", Text),
    ("codecs", Messages(TRACK_CODEC)),
    ("stereo", Flag),
    ("disable_red", Flag),
    ("encryption", Choice("NONE")),
    ("stream", Text),
    ("version", Message(VERSION)),
    ("audio_features", Values),
];

const TRACK_CODEC: &[Field] = &[("mime_type", Text), ("mid", Text), ("cid", Text), ("layers", Messages(LAYER))];

const LAYER: &[Field] = &[("quality", Choice("LOW")), ("width", Number), ("height", Number), ("bitrate", Number), ("ssrc", Number)];
