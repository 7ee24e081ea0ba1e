//! Keys by which the engine's entities refer to each other: `Copy`, generational, never a pointer.

slotmap::new_key_type! {
    /// A room on this shard.
    pub struct RoomKey;
    /// A participant on this shard.
    pub struct ParticipantKey;
    /// A peer connection of a participant.
    pub struct PeerKey;
    /// A published track.
    pub struct UpKey;
    /// A subscription.
    pub struct DownKey;
}
