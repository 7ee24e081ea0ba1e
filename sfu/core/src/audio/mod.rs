//! Audio: who speaks, and in which form Opus goes to whom.

mod activity;
pub mod forms;
pub mod redundancy;
pub mod speaker;
