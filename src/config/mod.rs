//! Configuration of the `sluice` binary: one typed tree, filled from defaults, a TOML file, the environment and `--set`.

pub(crate) mod advertise;
pub(crate) mod check;
pub(crate) mod examples;
pub(crate) mod explain;
pub(crate) mod keys;
pub(crate) mod load;
pub(crate) mod model;
mod section;
pub(crate) mod units;

pub(crate) use load::{Loaded, Loader};
pub(crate) use model::{Config, LogFormat};
