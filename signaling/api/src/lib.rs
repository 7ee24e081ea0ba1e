//! Wire types of the signaling service that are not LiveKit's protobuf: access tokens and error codes.
//!
//! Plain values with serde, no behaviour beyond conversions, so that servers, tests and tools can share them.

pub mod demo;
pub mod error;
pub mod grants;
pub mod problem;
pub mod reason;
pub mod secret;

pub use demo::{DemoTokenRequest, DemoTokenResponse};
pub use error::ErrorCode;
pub use grants::{AgentConfig, Claims, Grants, ParticipantKind, PublishSource, RoomConfig, VideoGrant};
pub use problem::{PROBLEM_CONTENT_TYPE, Problem};
pub use reason::{EndReason, Fault, JoinResult};
pub use secret::Secret;
