//! `sluice token`: mints an access token and prints it.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use signaling_api::VideoGrant;
use signaling_server::auth::{TokenOptions, mint};

use crate::config::keys::{self, ApiKey};
use crate::output;
use crate::sources::Sources;

/// Who may do what, for how long.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Room that the token opens.
    #[arg(long)]
    room: String,
    /// Identity of the participant: one at a time in a room.
    #[arg(long)]
    identity: String,
    /// Name that others see.
    #[arg(long, default_value = "")]
    name: String,
    /// Time until the token expires.
    #[arg(long, default_value = "6h", value_parser = parse_ttl)]
    ttl: Duration,
    /// May publish audio and video.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    can_publish: bool,
    /// May receive audio and video.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    can_subscribe: bool,
    /// May send data messages; the same as --can-publish if not given.
    #[arg(long, value_name = "BOOL")]
    can_publish_data: Option<bool>,
    /// Sources that may be published, such as camera, microphone, screen_share; all if not given.
    #[arg(long, value_name = "SOURCE", value_delimiter = ',')]
    can_publish_sources: Vec<String>,
    /// May change their own name, metadata and attributes.
    #[arg(long)]
    can_update_own_metadata: bool,
    /// May moderate the room.
    #[arg(long)]
    room_admin: bool,
    /// Is not shown to others.
    #[arg(long)]
    hidden: bool,
    /// Initial metadata.
    #[arg(long, default_value = "")]
    metadata: String,
    /// Initial attribute; may be repeated.
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_attribute)]
    attribute: Vec<(String, String)>,
    /// API key to sign with; the first one of the configuration if not given.
    #[arg(long, value_name = "KEY")]
    api_key: Option<String>,
    #[command(flatten)]
    sources: Sources,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let key = signing_key(args)?;
    if key.is_development() {
        output::note("note: signed with the development key, for `sluice dev`; --config FILE or SLUICE_AUTH__KEYS name others");
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the system clock is before 1970")?;
    output::line(&mint(&key.name, &key.secret, &options(args), now)?)
}

fn signing_key(args: &Args) -> anyhow::Result<ApiKey> {
    let mut keys = keys::read(&args.sources.load()?.config.auth)?;
    if keys.is_empty() {
        if args.sources.config.is_some() {
            bail!("the configuration has no API keys: see `auth.keys_file` and SLUICE_AUTH__KEYS");
        }
        keys.push(ApiKey::development());
    }
    let wanted = args.api_key.as_deref();
    let key = keys.into_iter().find(|key| wanted.is_none_or(|name| name == key.name));
    key.with_context(|| format!("the configuration has no API key `{}`", wanted.unwrap_or_default()))
}

fn options(args: &Args) -> TokenOptions {
    TokenOptions {
        identity: args.identity.clone(),
        room: args.room.clone(),
        name: args.name.clone(),
        grants: VideoGrant {
            room_join: true,
            room_admin: args.room_admin,
            can_publish: Some(args.can_publish),
            can_subscribe: Some(args.can_subscribe),
            can_publish_data: Some(args.can_publish_data.unwrap_or(args.can_publish)),
            can_publish_sources: args.can_publish_sources.clone(),
            can_update_own_metadata: args.can_update_own_metadata.then_some(true),
            hidden: args.hidden,
            ..VideoGrant::default()
        },
        metadata: args.metadata.clone(),
        attributes: BTreeMap::from_iter(args.attribute.clone()),
        ttl: args.ttl,
        ..TokenOptions::default()
    }
}

fn parse_ttl(text: &str) -> Result<Duration, String> {
    let ttl = text.parse::<crate::config::units::Span>()?.0;
    if ttl.is_zero() { Err("a token must live for a while".to_owned()) } else { Ok(ttl) }
}

fn parse_attribute(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it as name=value")?;
    Ok((name.to_owned(), value.to_owned()))
}
