//! Audio: who speaks.

mod activity;
pub mod speaker;
