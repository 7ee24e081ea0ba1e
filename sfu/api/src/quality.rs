//! How well a participant's media gets through, and what is the matter with it.

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

impl QualityDirection {
    /// The word used in logs and metric labels.
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

/// What ails a connection most.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub enum QualityCause {
    /// Nothing does.
    #[default]
    None,
    /// Packets are lost.
    Loss,
    /// The way takes long, or its delay varies.
    Delay,
    /// Bandwidth lacks: layers are left out.
    Bandwidth,
    /// Nothing is heard of the client.
    Silence,
}

impl QualityCause {
    /// The word used in logs and metric labels.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Loss => "loss",
            Self::Delay => "delay",
            Self::Bandwidth => "bandwidth",
            Self::Silence => "silence",
        }
    }
}
