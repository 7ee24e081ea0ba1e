//! What can be set per room: by who opens it, by the server's defaults, and within the server's limits.

use std::collections::BTreeMap;
use std::time::Duration;

use sfu_api::PlayoutDelay;
use signaling_api::{AgentConfig, RoomConfig};

use crate::SignalingConfig;

/// What can be set per room.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct RoomSettings {
    /// 0 means no limit.
    pub(crate) max_participants: u32,
    pub(crate) empty_timeout: Duration,
    pub(crate) departure_timeout: Duration,
    pub(crate) metadata: String,
    /// Tracks of one participant share a media stream.
    pub(crate) sync_streams: bool,
    /// As asked for; 0 where nothing was.
    pub(crate) playout_delay_ms: (u32, u32),
    pub(crate) tags: BTreeMap<String, String>,
    /// Those that are to be called when it opens.
    pub(crate) agents: Vec<AgentConfig>,
}

impl RoomSettings {
    /// What the room's opener asked for, the server's defaults for the rest, the server's limit above all.
    pub(crate) fn new(config: &SignalingConfig, asked: &RoomConfig) -> Self {
        let mut settings = Self {
            max_participants: config.max_participants,
            empty_timeout: config.empty_timeout,
            departure_timeout: config.departure_timeout,
            metadata: String::new(),
            sync_streams: config.sync_streams,
            playout_delay_ms: (0, 0),
            tags: BTreeMap::new(),
            agents: asked.agents.clone(),
        };
        settings.update(config, asked);
        settings
    }

    /// What video is to be delayed by. None: nobody asked.
    pub(crate) fn playout_delay(&self) -> Option<PlayoutDelay> {
        match self.playout_delay_ms {
            (0, 0) => None,
            (min_ms, 0) => Some(PlayoutDelay { min_ms, max_ms: MAX_PLAYOUT_DELAY_MS.max(min_ms) }),
            (min_ms, max_ms) => Some(PlayoutDelay { min_ms, max_ms: max_ms.max(min_ms) }),
        }
    }

    /// Takes over what was asked for; what was not stays.
    pub(crate) fn update(&mut self, config: &SignalingConfig, asked: &RoomConfig) {
        if asked.max_participants > 0 {
            let limit = if config.max_participants > 0 { config.max_participants } else { u32::MAX };
            self.max_participants = asked.max_participants.min(limit);
        }
        for (asked, own) in [(asked.empty_timeout, &mut self.empty_timeout), (asked.departure_timeout, &mut self.departure_timeout)] {
            if asked > 0 {
                *own = Duration::from_secs(asked.into());
            }
        }
        if !asked.metadata.is_empty() {
            self.metadata.clone_from(&asked.metadata);
        }
        self.sync_streams |= asked.sync_streams;
        if asked.min_playout_delay > 0 || asked.max_playout_delay > 0 {
            self.playout_delay_ms = (asked.min_playout_delay, asked.max_playout_delay);
        }
        if !asked.tags.is_empty() {
            self.tags.clone_from(&asked.tags);
        }
    }
}

/// What the header extension can say (`playout-delay`: 12 bits of 10 ms), and what it says where only the least delay is asked for.
const MAX_PLAYOUT_DELAY_MS: u32 = 40_950;
