//! A `sluice-turn` on free ports of loopback, with its files in a folder of its own.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use turn_proto::credentials::SharedSecret;

pub(crate) const SECRET: &str = "north";
/// Options of a server with TLS.
pub(crate) const WITH_CERTIFICATE: &str = "tls_port = 0\ncertificate = \"FOLDER/certificate.pem\"\nkey = \"FOLDER/key.pem\"\n";

pub(crate) struct Server {
    process: Child,
    pub(crate) folder: TempDir,
    pub(crate) udp: u16,
    pub(crate) tcp: u16,
    pub(crate) tls: Option<u16>,
    pub(crate) metrics: u16,
}

impl Server {
    /// `options`: lines of the configuration.
    pub(crate) fn start(options: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let (users, secret) = (file("users", "anna: secret\n"), file("secret", SECRET));
        let metrics = free_port();
        let tls = if options.contains("tls_port") { "" } else { "tls_port = 0\n" };
        let options = options.replace("FOLDER", &folder.path().display().to_string());
        let text = format!(
            "udp_port = 0\ntcp_port = 0\n{tls}users_file = {users:?}\nsecret_file = {secret:?}\nmetrics = \"127.0.0.1:{metrics}\"\nrealm = \"test\"\n{}{options}",
            if options.contains("listen") { "" } else { "listen = [\"127.0.0.1\"]\n" }
        );
        if options.contains("certificate") {
            write_certificate(&folder, "localhost");
        }
        let config = file("config.toml", &text);
        let mut process = Command::new(env!("CARGO_BIN_EXE_sluice-turn"))
            .args(["serve", "--config", &config])
            .stdout(Stdio::piped())
            .stderr(Stdio::from(fs::File::create(folder.path().join("log")).unwrap()))
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let Some(ports) = line.strip_prefix("listening ") else {
            panic!("{line}{}", fs::read_to_string(folder.path().join("log")).unwrap());
        };
        let ports: serde_json::Value = serde_json::from_str(ports).unwrap();
        let port = |name: &str| ports[name].as_u64().map(|port| u16::try_from(port).unwrap());
        Self { process, folder, udp: port("udp").unwrap(), tcp: port("tcp").unwrap(), tls: port("tls"), metrics }
    }

    pub(crate) fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.metrics)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics");
        let line = text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
        line.unwrap_or_else(|| panic!("{name} is missing in\n{text}")).rsplit_once(' ').unwrap().1.parse().unwrap()
    }

    /// Waits until a metric, which is renewed every second, has a value.
    pub(crate) fn await_metric(&self, name: &str, is_right: impl Fn(f64) -> bool) {
        until(name, || is_right(self.metric(name)));
    }

    pub(crate) fn credentials(&self, name: &str) -> (String, String) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        SharedSecret::new(SECRET).issue(name, now + Duration::from_secs(600))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.udp).into()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.process.id()).unwrap()), signal).unwrap();
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.process.try_wait().unwrap().is_some()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A certificate for a name, with its key, where the configuration expects them.
pub(crate) fn write_certificate(folder: &TempDir, name: &str) -> Vec<u8> {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let write = |file: &str, text: String| {
        let new: PathBuf = folder.path().join(format!("{file}.new"));
        fs::write(&new, text).unwrap();
        fs::rename(new, folder.path().join(file)).unwrap();
    };
    write("key.pem", made.signing_key.serialize_pem());
    write("certificate.pem", made.cert.pem());
    made.cert.der().to_vec()
}

/// Looks again and again; what does not come in a while is a failure.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..200 {
        if is_so() {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(100));
    }
    panic!("{what}: not in 20 s");
}

/// A port that nobody has at the moment.
pub(crate) fn free_port() -> u16 {
    let (udp, tcp) = (UdpSocket::bind("127.0.0.1:0").unwrap(), std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    drop(udp);
    tcp.local_addr().unwrap().port()
}
