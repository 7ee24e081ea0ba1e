//! The built binary as a person uses it: output, exit codes and messages of each command that ends by itself.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use signaling_server::ApiKeys;
use signaling_server::auth::{check_join, verify};
use tempfile::TempDir;

const STRONG_KEYS: (&str, &str) = ("SLUICE_AUTH__KEYS", "mykey: 0123456789abcdef0123456789abcdef");
const FREE_MEDIA_PORTS: [(&str, &str); 4] =
    [("SLUICE_MEDIA__UDP_PORT", "0"), ("SLUICE_MEDIA__TCP_PORT", "0"), ("SLUICE_TURN__UDP_PORT", "0"), ("SLUICE_TURN__TCP_PORT", "0")];

#[test]
fn token_prints_one_line_that_opens_the_room() {
    let output = sluice(&["token", "--room", "lobby", "--identity", "alice", "--name", "Alice", "--attribute", "team=red"], &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stdout(&output).lines().count(), 1);
    let grants = verify(&ApiKeys::single("devkey", "secret"), stdout(&output).trim(), signaling_server::unix_now()).unwrap();
    check_join(&grants, Some("lobby")).unwrap();
    assert_eq!((grants.identity.as_str(), grants.name.as_str(), grants.attributes["team"].as_str()), ("alice", "Alice", "red"));
    assert!(grants.can_publish && grants.can_subscribe && grants.can_publish_data);
    assert!(stderr(&output).contains("development key"), "{}", stderr(&output));
}

#[test]
fn token_can_take_rights_away() {
    let output = sluice(&["token", "--room", "lobby", "--identity", "bob", "--can-publish=false", "--hidden"], &[]);
    let grants = verify(&ApiKeys::single("devkey", "secret"), stdout(&output).trim(), signaling_server::unix_now()).unwrap();
    assert!(!grants.can_publish && !grants.can_publish_data && grants.can_subscribe && grants.hidden);
}

#[test]
fn token_is_signed_with_the_key_of_the_configuration() {
    let output = sluice(&["token", "--room", "r", "--identity", "i"], &[STRONG_KEYS]);
    let keys = ApiKeys::single("mykey", "0123456789abcdef0123456789abcdef");
    assert_eq!(verify(&keys, stdout(&output).trim(), signaling_server::unix_now()).unwrap().room, "r");
    assert_eq!(stderr(&output), "");
}

#[test]
fn token_expires_after_its_ttl() {
    let output = sluice(&["token", "--room", "r", "--identity", "i", "--ttl", "1m"], &[]);
    let later = signaling_server::unix_now() + std::time::Duration::from_secs(120);
    assert!(verify(&ApiKeys::single("devkey", "secret"), stdout(&output).trim(), later).is_err());
}

#[test]
fn token_refuses_a_key_that_is_not_there() {
    let output = sluice(&["token", "--room", "r", "--identity", "i", "--api-key", "other"], &[STRONG_KEYS]);
    assert!(!output.status.success());
    assert_eq!(stderr(&output).trim(), "error: the configuration has no API key `other`");
}

#[test]
fn turn_credentials_follow_from_the_configured_secret() {
    let own = [STRONG_KEYS, ("SLUICE_TURN__SECRET", "north")];
    let output = sluice(&["turn-credentials", "--user", "anna", "--ttl", "2h", "--json"], &own);
    let printed: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    let username = printed["username"].as_str().unwrap();
    assert!(username.ends_with(":anna") && printed["ttl"] == 7_200, "{printed}");
    let left = username.split(':').next().unwrap().parse::<u64>().unwrap() - signaling_server::unix_now().as_secs();
    assert!((7_190..=7_200).contains(&left), "{left}");
    assert_eq!(printed["password"].as_str().unwrap(), turn_server::SharedSecret::new("north").password(username.as_bytes()));
    // without a secret of its own it follows from the first key, and so it is the same at every start
    let derived = |keys| stdout(&sluice(&["turn-credentials", "--json"], &[("SLUICE_AUTH__KEYS", keys)])).len();
    assert_eq!(derived("a: 0123456789abcdef0123456789abcdef"), derived("b: 0123456789abcdef0123456789abcdeg"));
    let line = stdout(&sluice(&["turn-credentials"], &[STRONG_KEYS]));
    assert_eq!(line.trim().split(' ').count(), 2, "{line}");
}

#[test]
fn keys_come_from_the_file_that_the_configuration_names() {
    let folder = Folder::new();
    let keys = folder.write("keys", "# production\nfilekey: abcdefghijklmnopqrstuvwxyz012345\n");
    let config = folder.write("sluice.toml", &format!("[auth]\nkeys_file = {:?}\n", keys));
    let output = sluice(&["token", "--room", "r", "--identity", "i", "--config", config.to_str().unwrap()], &[]);
    let keys = ApiKeys::single("filekey", "abcdefghijklmnopqrstuvwxyz012345");
    assert!(verify(&keys, stdout(&output).trim(), signaling_server::unix_now()).is_ok(), "{}", stderr(&output));
}

#[test]
fn config_check_names_file_line_and_the_nearest_option() {
    let folder = Folder::new();
    let config = folder.write("sluice.toml", "[media]\nudp_prot = 9000\n");
    let output = sluice(&["config", "check", "--config", config.to_str().unwrap()], &[STRONG_KEYS]);
    assert!(!output.status.success());
    let expected = format!("error: {}:2: unknown option `media.udp_prot`, did you mean `media.udp_port`?", config.display());
    assert_eq!(stderr(&output).trim(), expected);
}

#[test]
fn config_check_reports_relations_and_fails() {
    let environment = [("SLUICE_AUTH__KEYS", "devkey: secret"), ("SLUICE_SERVER__LISTEN", "0.0.0.0:7881")];
    let output = sluice(&["config", "check"], &environment);
    assert!(!output.status.success());
    assert!(stdout(&output).contains("Development keys are refused on a public address"), "{}", stdout(&output));
    assert!(stdout(&output).contains("`server.listen` and `media.tcp_port` both use TCP port 7881"), "{}", stdout(&output));
    assert_eq!(stderr(&output).trim(), "error: the configuration has 2 errors");
}

#[test]
fn config_check_accepts_a_good_configuration() {
    let output = sluice(&["config", "check", "--set", "server.listen=0.0.0.0:7880"], &[STRONG_KEYS]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stdout(&output).trim(), "the configuration is good");
}

#[test]
fn config_explain_says_where_each_value_came_from_and_shows_no_secret() {
    let folder = Folder::new();
    let config = folder.write("sluice.toml", "[media]\nudp_port = 9000\n");
    let output = sluice(
        &["config", "explain", "--config", config.to_str().unwrap(), "--set", "log.level=debug"],
        &[STRONG_KEYS, ("SLUICE_MEDIA__SHARDS", "3")],
    );
    let text = stdout(&output);
    for (value, origin) in [
        ("auth.keys = <secret>", "environment SLUICE_AUTH__KEYS"),
        ("media.shards = 3", "environment SLUICE_MEDIA__SHARDS"),
        ("media.udp_port = 9000", &format!("{}:2", config.display())),
        ("log.level = \"debug\"", "--set"),
        ("media.tcp_port = 7881", "default"),
    ] {
        let line = text.lines().find(|line| line.starts_with(value)).unwrap_or_else(|| panic!("no {value} in\n{text}"));
        assert!(line.ends_with(&format!("# {origin}")), "{line}");
    }
    assert!(!text.contains("0123456789"));
}

#[test]
fn pages_made_from_the_code_are_fresh() {
    for (page, path) in [("metrics", "docs/metrics.md"), ("reasons", "docs/reasons.md")] {
        let printed = stdout(&sluice(&["docs", page], &[]));
        let kept = std::fs::read_to_string(path).unwrap_or_default();
        assert_eq!(kept, printed, "`sluice docs {page} > {path}` makes it");
    }
}

#[test]
fn the_doctor_fails_with_json_and_an_exit_code_when_the_configuration_is_wrong() {
    let output = sluice(&["doctor", "--json"], &[]);
    assert_eq!(output.status.code(), Some(1));
    let document: serde_json::Value = serde_json::from_str(stdout(&output).trim()).unwrap();
    assert_eq!((document["ok"].as_bool(), document["checks"][0]["cause"].as_str()), (Some(false), Some("configuration-invalid")));
    assert!(document["checks"][0]["detail"].as_str().unwrap().contains("no API keys"));
}

#[test]
fn config_print_is_a_file_that_config_check_accepts() {
    let folder = Folder::new();
    let config = folder.write("sluice.toml", &stdout(&sluice(&["config", "print"], &[])));
    let output = sluice(&["config", "check", "--config", config.to_str().unwrap()], &[STRONG_KEYS]);
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn serve_without_keys_says_how_to_give_them() {
    let output = sluice(&["serve"], &[]);
    assert!(!output.status.success());
    assert!(stderr(&output).contains("`auth.keys_file`") && stderr(&output).contains("SLUICE_AUTH__KEYS"), "{}", stderr(&output));
}

#[test]
fn dev_refuses_a_public_address() {
    let output = sluice(&["dev"], &[("SLUICE_SERVER__LISTEN", "0.0.0.0:0")]);
    assert!(!output.status.success());
    assert!(stderr(&output).starts_with("error: Development keys are refused on a public address"), "{}", stderr(&output));
}

#[test]
fn dev_prints_one_url_that_answers_and_stops_on_sigterm() {
    let mut dev = Dev::start();
    assert!(dev.url.starts_with("http://127.0.0.1:"), "{}", dev.url);
    let mut connection = TcpStream::connect(dev.url.strip_prefix("http://").unwrap()).unwrap();
    connection.write_all(b"GET /livez HTTP/1.1\r\nHost: sluice\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");

    let kill = Command::new("kill").args(["-TERM", &dev.process.id().to_string()]).status().unwrap();
    assert!(kill.success());
    assert!(dev.process.wait().unwrap().success());
    assert_eq!(dev.rest_of_stdout(), "");
}

#[test]
fn a_port_that_is_taken_is_named_with_its_option() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let output = sluice(&["dev", "--set", &format!("server.listen={address}")], &FREE_MEDIA_PORTS);
    assert!(!output.status.success());
    let expected = format!("port {} (tcp) is in use on 127.0.0.1: stop what listens there, or change `server.listen`", address.port());
    assert!(stderr(&output).contains(&expected), "{}", stderr(&output));
}

#[test]
fn version_is_the_one_of_the_package() {
    assert_eq!(stdout(&sluice(&["version"], &[])).trim(), concat!("sluice ", env!("CARGO_PKG_VERSION")));
}

/// Runs the binary to its end, with nothing of this process's own configuration.
fn sluice(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.env_clear().envs(environment.iter().copied()).args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A running `sluice dev` on ports that the system chose.
struct Dev {
    process: Child,
    stdout: BufReader<ChildStdout>,
    url: String,
}

impl Dev {
    fn start() -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_sluice"))
            .args(["dev", "--set", "server.listen=127.0.0.1:0"])
            .env_clear()
            .envs(FREE_MEDIA_PORTS)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(process.stdout.take().unwrap());
        let mut url = String::new();
        stdout.read_line(&mut url).unwrap();
        Self { process, stdout, url: url.trim().to_owned() }
    }

    fn rest_of_stdout(&mut self) -> String {
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        rest
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A folder that is gone when the test is.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}
