//! Every bound of the signaling core, and what happens at it. Times are in [`crate::SignalingConfig`].

use std::time::Duration;

/// Identity of a participant. Longer: the join is refused (LiveKit: `limit.max_participant_identity_length`).
pub const IDENTITY_BYTES: usize = 256;
/// Shown name. Longer: join refused, update answered `LIMIT_EXCEEDED`.
pub const NAME_BYTES: usize = 256;
/// Name of a room. Longer: the join is refused.
pub const ROOM_NAME_BYTES: usize = 256;
/// Metadata of a room or participant. Larger: join refused, update answered `LIMIT_EXCEEDED` (LiveKit: 64,000).
pub const METADATA_BYTES: usize = 64_000;
/// Keys and values of all attributes of a participant together. Larger: as for metadata.
pub const ATTRIBUTES_BYTES: usize = 64_000;
/// What a participant may tell others of itself, in identity, name, metadata, attributes and tracks, however much the others of its room
/// tell: all of a usual one. What it has beyond counts towards [`crate::SignalingConfig::max_profile_bytes`].
pub const FREE_PROFILE_BYTES: usize = 4096;
/// A session description. Larger: the session is asked to start anew.
pub const SDP_BYTES: usize = 1 << 20;
/// Tracks of a participant, those without media included. More: answered `LIMIT_EXCEEDED`.
pub const TRACKS_PER_PARTICIPANT: usize = 64;
/// Tracks of a participant that have no media yet. More: the oldest older than [`PENDING_TRACK_AGE`] makes room, else
/// answered `LIMIT_EXCEEDED`.
pub const PENDING_TRACKS: usize = 20;
/// A track that has had no media for so long may be dropped to make room.
pub const PENDING_TRACK_AGE: Duration = Duration::from_secs(30);
/// Client's id, name and stream name of a track. Longer: answered `INVALID_REQUEST`.
pub const TRACK_TEXT_BYTES: usize = 256;
/// Simulcast or spatial layers of one codec of a track. More are not read.
pub const LAYERS_PER_TRACK: usize = 8;
/// Codecs of a track. More are not read.
pub const CODECS_PER_TRACK: usize = 4;
/// Features of a track. More are not read.
pub const FEATURES_PER_TRACK: usize = 16;
/// Track ids in one message. More are not read.
pub const SIDS_PER_MESSAGE: usize = 1024;
/// Subscriptions of a participant. More: answered with a `SubscriptionResponse`.
pub const SUBSCRIPTIONS_PER_PARTICIPANT: usize = 4096;
/// Participants named in a `SubscriptionPermission`; each with at most [`TRACKS_PER_PARTICIPANT`] tracks. More are not read.
pub const PERMISSION_ENTRIES: usize = 1024;
/// Departures that a room remembers for those who resume. More: who was away longer starts anew.
pub const DEPARTURES: usize = 4096;
/// Reliable messages are kept this long for clients that resume: clients know which ones they have for 30 s.
pub const RELIABLE_LOG_AGE: Duration = Duration::from_secs(25);
/// Bytes of one sender among these, addressees included. More: its oldest are forgotten.
pub const RELIABLE_LOG_BYTES_PER_SENDER: usize = 1024 * 1024;
/// Messages of one sender among these. More: its oldest are forgotten.
pub const RELIABLE_LOG_MESSAGES_PER_SENDER: usize = 4096;
/// Bytes of all senders of a room. More: the oldest of whoever has the most are forgotten.
pub const RELIABLE_LOG_BYTES_PER_ROOM: usize = 16 * 1024 * 1024;
/// Keys and contents of all data blobs of a participant together. More: answered `LIMIT_EXCEEDED` (LiveKit:
/// `limit.max_data_blobs_size`).
pub const BLOB_BYTES: usize = 64_000;
/// Encoded key of a data blob. Longer: answered `INVALID_REQUEST`.
pub const BLOB_KEY_BYTES: usize = 512;
/// Name of an encoding of a data track that is not a well-known one. Longer: answered `INVALID_REQUEST`.
pub const DATA_ENCODING_BYTES: usize = 32;
/// Data tracks that a participant may want. More are not subscribed.
pub const DATA_SUBSCRIPTIONS: usize = 1024;
/// Connection qualities are told after this time, if they are still another than before. The node takes four to five seconds to
/// find a change, and clients are to know within five.
pub const QUALITY_BEAT: Duration = Duration::from_millis(500);
/// An encoded data packet. Larger: counted and dropped (Chromium's largest data channel message).
pub const DATA_PACKET_BYTES: usize = 256 * 1024;
/// Addressees of a data packet. More: counted and dropped.
pub const DATA_ADDRESSEES: usize = 1024;
/// Messages that a client may send at once: one for each of its subscriptions, and some. One that names several tracks counts
/// as one for each of them. More: its connection is closed,
/// and it may resume.
pub const MESSAGE_BURST: u32 = 5000;
/// Messages per second that a client may send for long.
pub const MESSAGES_PER_SECOND: u32 = 200;
/// Track ends that a client that is away is told of when it resumes. It has no more tracks than this.
pub const UNTOLD_TRACK_ENDS: usize = TRACKS_PER_PARTICIPANT;
/// A client whose media ended is asked to resume after this time: one that leaves closes its transports at the same moment
/// as it says so, and the word comes later than the end of the media more often than not (Python SDK 1.2).
pub const MEDIA_LOSS_PATIENCE: Duration = Duration::from_secs(1);
/// Changes of one participant within this time make one message to the others, but for the first. In a large room it is longer:
/// [`UPDATE_BEAT_PER_PARTICIPANT`].
pub const UPDATE_BEAT: Duration = Duration::from_millis(50);
/// Each participant makes the beat of a large room so much longer, up to [`LONGEST_UPDATE_BEAT`]: then news cost 170
/// messages a second whatever the room's size, and a room of 500 has the beat that LiveKit has. A message is a system call and wakes its
/// reader: with six times as many they were most of what a join cost.
pub const UPDATE_BEAT_PER_PARTICIPANT: Duration = Duration::from_millis(6);
/// LiveKit tells of those who only listen every three seconds (`subscriberUpdateInterval`).
pub const LONGEST_UPDATE_BEAT: Duration = Duration::from_secs(3);
/// Participants in one message of news; more news are more messages.
pub const PARTICIPANTS_PER_UPDATE: usize = 128;
/// Bytes of one message of news, unless one participant alone has more to say.
pub const UPDATE_BYTES: usize = 64 * 1024;
/// What a participant's changes may cost the others at once: one for a message, and one for each
/// [`UPDATE_COST_BYTES`] of it. More: the others are told later of how it is then.
pub const UPDATE_BURST: u32 = 200;
/// The same per second, for long: ten small changes, or 40 kB to each of the others.
pub const UPDATES_PER_SECOND: u32 = 10;
/// See [`UPDATE_BURST`].
pub const UPDATE_COST_BYTES: usize = 4096;
/// Changes of its profile and its tracks that a participant may ask for at once, simulated speech among them. More: answered
/// `LIMIT_EXCEEDED`.
pub const CHANGE_REQUEST_BURST: u32 = 50;
/// The same per second, for long.
pub const CHANGE_REQUESTS_PER_SECOND: u32 = 10;
/// Changes of a room within this time make one `RoomUpdate`; in a large room it goes with the next beat, in the same write.
pub const ROOM_UPDATE_DELAY: Duration = Duration::from_millis(500);
/// A simulated loss of the signal connection happens at a resume within this time (LiveKit: `simulateDisconnectSignalTimeout`).
pub const SIMULATION_WINDOW: Duration = Duration::from_secs(5);
/// Identities of a room that asked for TCP in a simulation. More are not remembered.
pub const TCP_WISHES: usize = 256;
/// They are remembered so long: a full reconnect takes less.
pub const TCP_WISH_LIFE: Duration = Duration::from_secs(60);
/// A simulated speaker speaks at most this long.
pub const SIMULATED_SPEECH: Duration = Duration::from_secs(60);
/// Names of rooms in one request for a list. More are not read.
pub const NAMES_PER_LIST: usize = 1024;
/// Agents that are called into one room. More: the request is refused.
pub const DISPATCHES_PER_ROOM: usize = 64;
/// Tags of a room. More: the request is refused.
pub const TAGS_PER_ROOM: usize = 64;
/// Removed participants whose tokens are remembered as revoked. More: the oldest is forgotten.
pub const REVOCATIONS: usize = 16_384;
/// Messages of administrators that a room remembers, to send none twice. More: the oldest is forgotten.
pub const DATA_NONCES: usize = 1024;
/// Calls of administrators that wait for participants of one room. More: refused.
pub const OPEN_CALLS: usize = 1024;
/// Payload of such a call (LiveKit: `DataChannelRpcMaxPayloadBytes`). Larger: refused.
pub const RPC_PAYLOAD_BYTES: usize = 15_360;
/// Name of the method of such a call. Longer: refused.
pub const RPC_METHOD_BYTES: usize = 256;
/// A participant confirms a call within this time (LiveKit: `DataChannelRpcMaxRoundTripLatency` is 2 s; clients wait 7 s).
pub const RPC_ROUND_TRIP: Duration = Duration::from_secs(7);
/// And answers it within this, if the caller says nothing else.
pub const RPC_DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time that a caller may wait.
pub const RPC_MAX_TIMEOUT: Duration = Duration::from_secs(60);
/// Connections of agent workers. More: closed.
pub const WORKERS: usize = 4096;
/// A worker registers within this time (LiveKit: `RegisterTimeout`). Later: its connection is closed.
pub const REGISTER_TIME: Duration = Duration::from_secs(10);
/// A worker says within this time whether it takes a job (LiveKit: `AssignJobTimeout`). Later: the next one is asked.
pub const AVAILABILITY_TIME: Duration = Duration::from_secs(10);
/// An agent whose dispatch is taken back leaves within this time (LiveKit: the same). Later: it is removed.
pub const AGENT_LEAVE_TIME: Duration = Duration::from_secs(3);
/// Jobs of a dispatch, those that are over included. More: the oldest that is over is forgotten, or no new one is started.
pub const JOBS_PER_DISPATCH: usize = 256;
/// Jobs that workers asked for to try themselves. More: not started.
pub const SIMULATED_JOBS: usize = 64;

/// A client that leaves after so long without media has given up (livekit-client: `peerConnectionTimeout` of 15 s; people are
/// less patient).
pub const GIVES_UP_AFTER: Duration = Duration::from_secs(10);
