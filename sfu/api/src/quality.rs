//! How well a participant's media gets through: a class, and what it follows from.

use serde::{Deserialize, Serialize};

/// Class of a participant's connection, worst first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Quality {
    /// Nothing is heard of it.
    Lost,
    /// Disturbs the conversation.
    Poor,
    /// Noticeable.
    Good,
    /// Not noticeable.
    Excellent,
}

impl Quality {
    /// The word used in REST, logs and metric labels.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Poor => "poor",
            Self::Good => "good",
            Self::Excellent => "excellent",
        }
    }
}

/// Direction of what ails a connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub enum QualityDirection {
    /// Nothing ails it.
    #[default]
    Neither,
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
    /// Both alike, as delay.
    Both,
}

/// What ails a connection most.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub enum QualityCause {
    /// Nothing does.
    #[default]
    None,
    /// Packets are lost.
    Loss,
    /// The way takes long.
    Delay,
    /// Bandwidth lacks: layers are left out.
    Bandwidth,
    /// Nothing is heard of the client (up), or nothing that is sent to it arrives (down).
    Silence,
    /// The delay of packets varies.
    Jitter,
    /// No path to the client is left. Not said by the node here, which tells of transports.
    Transport,
    /// The client's signal connection is gone. Not said by the node, which knows nothing of it.
    Signal,
}

impl QualityDirection {
    /// The word used in REST, logs and metric labels.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Neither => "neither",
            Self::Up => "up",
            Self::Down => "down",
            Self::Both => "both",
        }
    }
}

impl QualityCause {
    /// The word used in REST, logs and metric labels.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Loss => "loss",
            Self::Delay => "delay",
            Self::Bandwidth => "bandwidth",
            Self::Silence => "silence",
            Self::Jitter => "jitter",
            Self::Transport => "transport",
            Self::Signal => "signal",
        }
    }

    /// A sentence for people.
    #[must_use]
    pub const fn explanation(self) -> &'static str {
        match self {
            Self::None => "nothing is the matter",
            Self::Loss => "packets are lost on the way",
            Self::Delay => "the way to the participant and back takes long",
            Self::Bandwidth => "there is too little bandwidth for all layers that are wanted",
            Self::Silence => "nothing has come through for seconds",
            Self::Jitter => "packets take now shorter, now longer, so that its jitter buffer has to be long",
            Self::Transport => "no path to the participant works any more, and it is to look for another",
            Self::Signal => "the participant's signal connection is gone, and it may come back",
        }
    }
}
