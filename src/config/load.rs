//! Puts the effective configuration together: defaults, then the file, then the environment, then `--set`.
//!
//! In: texts. Out: a typed [`Config`] and, per option, where its value came from; or every mistake at once, each with
//! its place. Invariant: an option that the types don't know is an error that names the nearest one that they do.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::model::{Config, ENVIRONMENT_ONLY};

/// Where the value of an option came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Origin {
    /// `impl Default`.
    Default,
    /// What `sluice dev` changes in the defaults.
    Development,
    /// A line of the configuration file.
    File(PathBuf, usize),
    /// An environment variable.
    Environment(String),
    /// `--set`.
    CommandLine,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Development => f.write_str("development default"),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::CommandLine => f.write_str("--set"),
        }
    }
}

/// One mistake in the configuration.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum Mistake {
    /// The file can't be read.
    #[error("{}: {message}", path.display())]
    Unreadable { path: PathBuf, message: String },
    /// The file is not TOML.
    #[error("{origin}: {message}")]
    Syntax { origin: Origin, message: String },
    /// No such option.
    #[error("{origin}: unknown option `{key}`{}", hint(nearest))]
    UnknownKey { origin: Origin, key: String, nearest: Option<String> },
    /// The option can't have this value.
    #[error("{origin}: `{key}`: {message}")]
    BadValue { origin: Origin, key: String, message: String },
    /// Not of the form `section.option=value`.
    #[error("--set {0}: write it as section.option=value")]
    BadAssignment(String),
}

fn hint(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|key| format!(", did you mean `{key}`?")).unwrap_or_default()
}

/// All mistakes that were found, one a line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Mistakes(pub(crate) Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, mistake) in self.0.iter().enumerate() {
            write!(f, "{}{mistake}", if i == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

/// The effective configuration.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    /// Typed values.
    pub(crate) config: Config,
    /// Where each came from, by `section.option`.
    pub(crate) origins: BTreeMap<String, Origin>,
    /// Lines of the file that say something else than what holds.
    pub(crate) replaced: Vec<Replaced>,
}

/// An option, the line that names it in vain, and what won over that.
pub(crate) type Replaced = (String, Origin, Origin);

/// Collects sources in the order of their precedence, lowest first.
pub(crate) struct Loader {
    values: BTreeMap<String, toml::Value>,
    origins: BTreeMap<String, Origin>,
    replaced: BTreeMap<String, (Origin, toml::Value)>,
    mistakes: Vec<Mistake>,
}

impl Loader {
    /// Begins with the defaults of `serve` and the tools.
    pub(crate) fn new() -> Self {
        let mut values = leaves(&Config::default());
        for key in ENVIRONMENT_ONLY {
            // serialized secrets are placeholders
            values.insert((*key).to_owned(), toml::Value::String(String::new()));
        }
        let origins = values.keys().map(|key| (key.clone(), Origin::Default)).collect();
        Self { values, origins, replaced: BTreeMap::new(), mistakes: Vec::new() }
    }

    /// Begins with the defaults of `dev`.
    pub(crate) fn development() -> Self {
        let mut loader = Self::new();
        let development = Config::development();
        for (key, value) in leaves(&development) {
            if !ENVIRONMENT_ONLY.contains(&key.as_str()) && loader.values.get(&key) != Some(&value) {
                loader.set(key, value, Origin::Development);
            }
        }
        let keys = toml::Value::String(development.auth.keys.expose().to_owned());
        loader.set("auth.keys".to_owned(), keys, Origin::Development);
        loader
    }

    /// Adds a configuration file.
    pub(crate) fn file(mut self, path: &Path) -> Self {
        match std::fs::read_to_string(path) {
            Ok(text) => self.text(path, &text),
            Err(e) => self.mistakes.push(Mistake::Unreadable { path: path.to_owned(), message: e.to_string() }),
        }
        self
    }

    /// Adds the variables named `SLUICE_SECTION__KEY`. Others are not ours: orchestrators set names such as
    /// `SLUICE_PORT` for a service called "sluice".
    pub(crate) fn environment(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        for (name, text) in variables {
            let Some((section, option)) = name.strip_prefix("SLUICE_").and_then(|rest| rest.split_once("__")) else { continue };
            let key = format!("{section}.{option}").to_lowercase();
            self.assign(key, &text, Origin::Environment(name));
        }
        self
    }

    /// Adds `section.option=value` from the command line.
    pub(crate) fn assignments<'a>(mut self, assignments: impl IntoIterator<Item = &'a String>) -> Self {
        for assignment in assignments {
            match assignment.split_once('=') {
                Some((key, text)) => self.assign(key.trim().to_owned(), text.trim(), Origin::CommandLine),
                None => self.mistakes.push(Mistake::BadAssignment(assignment.clone())),
            }
        }
        self
    }

    /// The typed result.
    pub(crate) fn finish(self) -> Result<Loaded, Mistakes> {
        if !self.mistakes.is_empty() {
            return Err(Mistakes(self.mistakes));
        }
        let config = typed(self.values.iter()).map_err(|message| {
            let (key, origin) = ("configuration".to_owned(), Origin::Default);
            Mistakes(vec![Mistake::BadValue { origin, key, message }])
        })?;
        let is_in_vain = |(key, (line, value)): (String, (Origin, toml::Value))| {
            let winner = self.origins.get(&key)?.clone();
            (self.values.get(&key)? != &value).then_some((key, line, winner))
        };
        let replaced = self.replaced.into_iter().filter_map(is_in_vain).collect();
        Ok(Loaded { config, origins: self.origins, replaced })
    }

    fn text(&mut self, path: &Path, text: &str) {
        let place = |offset: usize| Origin::File(path.to_owned(), line_of(text, offset));
        let document = match DeTable::parse(text) {
            Ok(document) => document,
            Err(e) => {
                let origin = place(e.span().map_or(0, |span| span.start));
                self.mistakes.push(Mistake::Syntax { origin, message: e.message().to_owned() });
                return;
            }
        };
        for (section, value) in document.get_ref() {
            let section_name = section.get_ref().as_ref();
            let origin = place(section.span().start);
            let Some(options) = value.get_ref().as_table() else {
                self.unknown_or_section(section_name, origin);
                continue;
            };
            if options.is_empty() && !self.is_section(section_name) {
                self.unknown_or_section(section_name, origin);
            }
            for (option, value) in options {
                let key = format!("{section_name}.{}", option.get_ref());
                self.set_checked(key, plain(value.get_ref()), place(option.span().start));
            }
        }
    }

    /// A name where a section was expected.
    fn unknown_or_section(&mut self, name: &str, origin: Origin) {
        let key = name.to_owned();
        self.mistakes.push(if self.is_section(name) {
            Mistake::BadValue { origin, key, message: format!("is a section: write [{name}] and its options below") }
        } else {
            let nearest = self.nearest(name);
            Mistake::UnknownKey { origin, key, nearest }
        });
    }

    fn is_section(&self, name: &str) -> bool {
        self.values.keys().any(|key| key.split_once('.').is_some_and(|(section, _)| section == name))
    }

    /// Takes a value that came as text; the type of the option decides how it is read.
    fn assign(&mut self, key: String, text: &str, origin: Origin) {
        let value = match self.values.get(&key) {
            Some(toml::Value::Array(_)) if !text.trim_start().starts_with('[') => {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                toml::Value::Array(items.map(|item| toml::Value::String(item.to_owned())).collect())
            }
            Some(toml::Value::Array(_) | toml::Value::Integer(_) | toml::Value::Boolean(_) | toml::Value::Float(_)) => {
                text.trim().parse().unwrap_or_else(|_| toml::Value::String(text.to_owned()))
            }
            _ => toml::Value::String(text.to_owned()),
        };
        self.set_checked(key, value, origin);
    }

    fn set_checked(&mut self, key: String, value: toml::Value, origin: Origin) {
        if !self.values.contains_key(&key) {
            return self.unknown_or_section(&key, origin);
        }
        let is_secret = ENVIRONMENT_ONLY.contains(&key.as_str());
        if is_secret && !matches!(origin, Origin::Environment(_)) {
            let message = "secrets are not read from here: use the environment, or a file that `auth.keys_file` names".to_owned();
            self.mistakes.push(Mistake::BadValue { origin, key, message });
            return;
        }
        match typed([(&key, &value)]) {
            Ok(_) => self.set(key, value, origin),
            Err(message) => {
                let message = if is_secret { "is not usable".to_owned() } else { message };
                self.mistakes.push(Mistake::BadValue { origin, key, message });
            }
        }
    }

    fn set(&mut self, key: String, value: toml::Value, origin: Origin) {
        let before = (self.origins.insert(key.clone(), origin), self.values.insert(key.clone(), value));
        if let (Some(line @ Origin::File(..)), Some(value)) = before {
            self.replaced.insert(key, (line, value));
        }
    }

    /// The known option (or section, for a name without a dot) that looks most like `key`.
    fn nearest(&self, key: &str) -> Option<String> {
        let alone = |k: &str| k.rsplit('.').next().unwrap_or_default().to_owned();
        let similarity = |known: &String| {
            let whole = strsim::normalized_damerau_levenshtein(key, known);
            // the right name in the wrong section
            let name = strsim::normalized_damerau_levenshtein(&alone(key), &alone(known)) * 0.95;
            whole.max(name)
        };
        let mut known: Vec<String> = self.values.keys().cloned().collect();
        if !key.contains('.') {
            known.extend(self.values.keys().filter_map(|k| k.split_once('.')).map(|(section, _)| section.to_owned()));
        }
        let best = known.into_iter().max_by(|a, b| similarity(a).total_cmp(&similarity(b)))?;
        (similarity(&best) >= NEAR_ENOUGH).then_some(best)
    }
}

/// Below this the names have so little in common that a suggestion would mislead.
const NEAR_ENOUGH: f64 = 0.6;

/// `section.option` → value.
pub(crate) fn leaves(config: &Config) -> BTreeMap<String, toml::Value> {
    let table = toml::Table::try_from(config).expect("plain values have a TOML form");
    let sections = table.into_iter().filter_map(|(section, value)| match value {
        toml::Value::Table(options) => Some((section, options)),
        _ => None,
    });
    sections.flat_map(|(section, options)| options.into_iter().map(move |(option, value)| (format!("{section}.{option}"), value))).collect()
}

/// Types some options; those not given have their defaults.
fn typed<'a>(values: impl IntoIterator<Item = (&'a String, &'a toml::Value)>) -> Result<Config, String> {
    let mut table = toml::Table::new();
    for (key, value) in values {
        let Some((section, option)) = key.split_once('.') else { continue };
        let entry = table.entry(section).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        if let toml::Value::Table(options) = entry {
            options.insert(option.to_owned(), value.clone());
        }
    }
    table.try_into().map_err(|e: toml::de::Error| e.message().to_owned())
}

/// A parsed value without its places.
fn plain(value: &DeValue<'_>) -> toml::Value {
    match value {
        DeValue::Array(items) => toml::Value::Array(items.iter().map(|item| plain(item.get_ref())).collect()),
        DeValue::Table(table) => {
            toml::Value::Table(table.iter().map(|(key, value)| (key.get_ref().to_string(), plain(value.get_ref()))).collect())
        }
        DeValue::String(text) => toml::Value::String(text.to_string()),
        DeValue::Boolean(value) => toml::Value::Boolean(*value),
        DeValue::Datetime(value) => toml::Value::Datetime(*value),
        // numbers are kept as text by the parser; one that does not fit stays text and fails as the wrong type
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or_else(|_| toml::Value::String(number.to_string()), toml::Value::Integer),
        DeValue::Float(number) => number.as_str().parse().map_or_else(|_| toml::Value::String(number.to_string()), toml::Value::Float),
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_unknown_option_names_its_line_and_the_nearest_one() {
        let mistakes = from_text("[server]\nlisten = \"127.0.0.1:1\"\n\n[media]\nudp_prt = 1\n").unwrap_err();
        assert_eq!(mistakes.to_string(), "sluice.toml:5: unknown option `media.udp_prt`, did you mean `media.udp_port`?");
    }

    #[test]
    fn an_option_in_the_wrong_section_finds_the_right_one() {
        let mistakes = from_text("[server]\nshards = 1\n").unwrap_err();
        assert!(mistakes.to_string().ends_with("did you mean `media.shards`?"), "{mistakes}");
    }

    #[test]
    fn an_option_outside_of_a_section_finds_its_section() {
        let mistakes = from_text("keys_file = \"x\"\n").unwrap_err();
        assert!(mistakes.to_string().ends_with("did you mean `auth.keys_file`?"), "{mistakes}");
    }

    #[test]
    fn a_section_that_is_assigned_to_is_called_one() {
        let set = ["media=1".to_owned()];
        let mistakes = Loader::new().assignments(&set).finish().unwrap_err();
        assert!(mistakes.to_string().starts_with("--set: `media`: is a section"), "{mistakes}");
    }

    #[test]
    fn a_misspelt_section_is_named_even_if_it_is_empty() {
        let mistakes = from_text("[medai]\n").unwrap_err();
        assert_eq!(mistakes.to_string(), "sluice.toml:1: unknown option `medai`, did you mean `media`?");
    }

    #[test]
    fn a_name_like_no_other_gets_no_suggestion() {
        let mistakes = from_text("[server]\nzzzzzzzzzzzz = 1\n").unwrap_err();
        assert_eq!(mistakes.to_string(), "sluice.toml:2: unknown option `server.zzzzzzzzzzzz`");
    }

    #[test]
    fn all_mistakes_are_reported_at_once() {
        let mistakes = from_text("[server]\nlissen = 1\nmetrics = 3\n[media]\nudp_port = 70000\n").unwrap_err();
        assert_eq!(mistakes.0.len(), 3, "{mistakes}");
    }

    #[test]
    fn a_value_of_the_wrong_type_names_its_line() {
        let mistakes = from_text("[demo]\ntoken_ttl = \"soon\"\n").unwrap_err();
        assert!(mistakes.to_string().starts_with("sluice.toml:2: `demo.token_ttl`: \"soon\" is not a time"), "{mistakes}");
    }

    #[test]
    fn broken_toml_names_its_line() {
        let mistakes = from_text("[server]\nlisten = \n").unwrap_err();
        assert!(mistakes.to_string().starts_with("sluice.toml:2: "), "{mistakes}");
    }

    #[test]
    fn the_environment_wins_over_the_file_and_set_over_both() {
        let mut loader = Loader::new();
        loader.text(Path::new("sluice.toml"), "[media]\nudp_port = 1\ntcp_port = 2\nshards = 3\n");
        let environment = [("SLUICE_MEDIA__TCP_PORT", "20"), ("SLUICE_MEDIA__SHARDS", "30"), ("SLUICE_PORT", "tcp://10.0.0.1")];
        let set = ["media.shards = 300".to_owned()];
        let loaded = loader.environment(pairs(&environment)).assignments(&set).finish().unwrap();
        let media = &loaded.config.media;
        assert_eq!((media.udp_port, media.tcp_port, media.shards), (1, 20, 300));
        assert_eq!(loaded.origins["media.udp_port"], Origin::File("sluice.toml".into(), 2));
        assert_eq!(loaded.origins["media.tcp_port"], Origin::Environment("SLUICE_MEDIA__TCP_PORT".into()));
        assert_eq!(loaded.origins["media.shards"], Origin::CommandLine);
        assert_eq!(loaded.origins["media.loopback"], Origin::Default);
    }

    #[test]
    fn a_line_of_the_file_that_has_no_effect_is_named_with_what_won() {
        let mut loader = Loader::new();
        loader.text(Path::new("sluice.toml"), "[server]\ndrain_timeout = \"1h\"\nregion = \"eu\"\n[media]\nshards = 3\nudp_port = 1\n");
        let environment = [("SLUICE_SERVER__DRAIN_TIMEOUT", "120s"), ("SLUICE_SERVER__REGION", "eu"), ("SLUICE_MEDIA__SHARDS", "4")];
        let set = ["media.shards = 5".to_owned()];
        let loaded = loader.environment(pairs(&environment)).assignments(&set).finish().unwrap();
        let shown: Vec<String> = loaded.replaced.iter().map(|(key, line, winner)| format!("{key} {line} {winner}")).collect();
        assert_eq!(
            shown,
            ["media.shards sluice.toml:5 --set", "server.drain_timeout sluice.toml:2 environment SLUICE_SERVER__DRAIN_TIMEOUT"]
        );
    }

    #[test]
    fn a_list_in_the_environment_is_separated_by_commas_or_toml() {
        for text in ["192.0.2.1, 2001:db8::1", "[\"192.0.2.1\", \"2001:db8::1\"]"] {
            let loaded = Loader::new().environment(pairs(&[("SLUICE_MEDIA__ADVERTISE", text)])).finish().unwrap();
            let advertised: Vec<String> = loaded.config.media.advertise.iter().map(|each| each.0.to_string()).collect();
            assert_eq!(advertised, ["192.0.2.1", "2001:db8::1"]);
        }
    }

    #[test]
    fn an_advertised_address_can_have_a_local_end() {
        let loaded = from_text("[media]\nadvertise = [\"203.0.113.9=>10.0.0.4\", \"2001:db8::9\"]\n").unwrap();
        let locals: Vec<Option<std::net::IpAddr>> = loaded.config.media.advertise.iter().map(|each| each.0.local).collect();
        assert_eq!(locals, [Some(std::net::IpAddr::from([10, 0, 0, 4])), None]);
        let mistakes = from_text("[media]\nadvertise = [\"203.0.113.9->10.0.0.4\"]\n").unwrap_err();
        assert!(mistakes.to_string().contains("is not an IP address"), "{mistakes}");
    }

    #[test]
    fn an_unknown_variable_is_an_error_with_a_suggestion() {
        let mistakes = Loader::new().environment(pairs(&[("SLUICE_LOG__LEVLE", "debug")])).finish().unwrap_err();
        assert_eq!(mistakes.to_string(), "environment SLUICE_LOG__LEVLE: unknown option `log.levle`, did you mean `log.level`?");
    }

    #[test]
    fn a_secret_in_the_file_is_refused_without_repeating_it() {
        let mistakes = from_text("[auth]\nkeys = \"key: hunter2\"\n").unwrap_err();
        assert!(mistakes.to_string().contains("`auth.keys`: secrets are not read from here"), "{mistakes}");
        assert!(!mistakes.to_string().contains("hunter2"));
    }

    #[test]
    fn a_secret_comes_from_the_environment_and_is_not_shown() {
        let loaded = Loader::new().environment(pairs(&[("SLUICE_AUTH__KEYS", "key: hunter2")])).finish().unwrap();
        assert_eq!(loaded.config.auth.keys.expose(), "key: hunter2");
        assert!(!format!("{loaded:?}").contains("hunter2"));
    }

    #[test]
    fn development_defaults_say_so() {
        let loaded = Loader::development().finish().unwrap();
        assert_eq!(loaded.config, Config::development());
        assert_eq!(loaded.origins["demo.tokens"], Origin::Development);
        assert_eq!(loaded.origins["auth.keys"], Origin::Development);
    }

    fn from_text(text: &str) -> Result<Loaded, Mistakes> {
        let mut loader = Loader::new();
        loader.text(Path::new("sluice.toml"), text);
        loader.finish()
    }

    fn pairs(variables: &[(&str, &str)]) -> Vec<(String, String)> {
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }
}
