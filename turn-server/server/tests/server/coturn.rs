//! coturn's own client tools against this server (Debian package `coturn`; `tools/setup.sh test` installs it).

use std::process::{Child, Command, Output, Stdio};

use crate::process::{Server, free_port};

/// `turnutils_peer`: sends back what it gets, over UDP and TCP.
struct Echo(Child, u16);

impl Echo {
    fn start() -> Self {
        let port = free_port();
        let mut command = Command::new("turnutils_peer");
        command.args(["-L", "127.0.0.1", "-L", "::1", "-p", &port.to_string()]).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().expect("turnutils_peer: tools/setup.sh test installs coturn"), port)
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs one of the tools; its outcome, and all that it said.
fn run(tool: &str, arguments: &str) -> (Output, String) {
    let mut command = Command::new("timeout");
    command.args(["60", tool]).args(arguments.split_ascii_whitespace());
    let output = command.output().expect("tools/setup.sh test installs coturn");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output, text)
}

const OPEN: &str = "allow = [\"127.0.0.0/8\", \"::1\"]\ntcp_relays = true\n";
const WITH_TLS: &str = "allow = [\"127.0.0.0/8\", \"::1\"]\ntcp_relays = true\ntls_port = 0\ncertificate = \"FOLDER/certificate.pem\"\nkey = \"FOLDER/key.pem\"\n";

/// Two clients send messages to a peer, or to each other, through the server and get all of them back.
fn nothing_is_lost(server: &Server, port: u16, options: &str) {
    let echo = Echo::start();
    let has = |option: &str| options.split_ascii_whitespace().any(|own| own == option);
    let mut all = format!("-m 2 -n 8 -l 170 -z 5 -p {port} -u anna {options}");
    if !has("-W") {
        all += " -w secret";
    }
    if !has("-y") {
        all += &format!(" -e {} -r {}", if has("-x") { "::1" } else { "127.0.0.1" }, echo.1);
    }
    all += if has("-X") { " ::1" } else { " 127.0.0.1" };
    let (output, text) = run("turnutils_uclient", &all);
    assert!(output.status.success(), "{all}\n{text}\n{}", server.log());
    assert!(text.contains("Total lost packets 0 (0.0"), "{all}\n{text}\n{}", server.log());
}

#[test]
fn uclient_over_udp_with_channels() {
    let server = Server::start(OPEN);
    nothing_is_lost(&server, server.udp, "");
    server.await_metric("turn_relayed_packets_total{direction=\"to-peer\"}", |packets| packets >= 16.0);
}

#[test]
fn uclient_over_udp_with_indications_and_unfragmented() {
    let server = Server::start(OPEN);
    nothing_is_lost(&server, server.udp, "-s -g");
}

#[test]
fn uclient_over_tcp_with_channels_and_with_indications() {
    let server = Server::start(OPEN);
    nothing_is_lost(&server, server.tcp, "-t");
    nothing_is_lost(&server, server.tcp, "-t -s");
}

#[test]
fn uclient_over_tls() {
    let server = Server::start(WITH_TLS);
    nothing_is_lost(&server, server.tls.unwrap(), "-t -S");
}

#[test]
fn uclient_from_client_to_client_through_relays_on_both_sides() {
    let server = Server::start(OPEN);
    nothing_is_lost(&server, server.udp, "-y -c");
}

#[test]
fn uclient_with_tcp_relays() {
    let server = Server::start(OPEN);
    nothing_is_lost(&server, server.tcp, "-t -T");
    nothing_is_lost(&server, server.tcp, "-t -T -y -c");
}

#[test]
fn uclient_with_ipv6_relays() {
    let server = Server::start(&format!("{OPEN}listen = [\"127.0.0.1\", \"::1\"]\n"));
    nothing_is_lost(&server, server.udp, "-x");
}

#[test]
fn uclient_with_both_families_in_one_allocation() {
    let server = Server::start(&format!("{OPEN}listen = [\"127.0.0.1\", \"::1\"]\n"));
    // ADDITIONAL-ADDRESS-FAMILY: one request, two relayed addresses; the clients send from one and from the other
    nothing_is_lost(&server, server.udp, "-Z");
    nothing_is_lost(&server, server.tcp, "-Z -t");
}

#[test]
fn uclient_that_breaks_the_protocol_breaks_nothing() {
    let server = Server::start(OPEN);
    let echo = Echo::start();
    for odd in ["-N", "-O"] {
        run("turnutils_uclient", &format!("-m 2 -n 5 -z 5 -u anna -w secret -p {} -e 127.0.0.1 -r {} {odd} 127.0.0.1", server.udp, echo.1));
    }
    nothing_is_lost(&server, server.udp, "");
}

#[test]
fn uclient_over_ipv6() {
    let server = Server::start(&format!("{OPEN}listen = [\"127.0.0.1\", \"::1\"]\n"));
    nothing_is_lost(&server, server.udp, "-X -x");
}

#[test]
fn uclient_with_time_limited_credentials() {
    let server = Server::start(OPEN);
    nothing_is_lost(&server, server.udp, &format!("-W {}", crate::process::SECRET));
}

#[test]
fn uclient_that_asks_odd_things_and_goes_away_at_random() {
    let server = Server::start(OPEN);
    let echo = Echo::start();
    let options = format!("-G -B -m 2 -n 5 -z 5 -u anna -w secret -p {} -e 127.0.0.1 -r {} 127.0.0.1", server.udp, echo.1);
    let (output, text) = run("turnutils_uclient", &options);
    assert!(output.status.success(), "{text}");
}

#[test]
fn uclient_with_a_wrong_password_gets_nothing() {
    let server = Server::start(OPEN);
    let options = format!("-u anna -w wrong -p {} -e 127.0.0.1 -r 9 127.0.0.1", server.udp);
    let (output, text) = run("turnutils_uclient", &options);
    assert!(!output.status.success() && text.contains("Cannot complete Allocation"), "{text}");
    server.await_metric("turn_auth_failures_total{reason=\"wrong-password\"}", |failures| failures > 0.0);
}

#[test]
fn uclient_is_denied_a_peer_that_nobody_has_allowed() {
    let server = Server::start("");
    let echo = Echo::start();
    let options = format!("-m 1 -n 2 -z 5 -c -u anna -w secret -p {} -e 127.0.0.1 -r {} 127.0.0.1", server.udp, echo.1);
    let (output, text) = run("turnutils_uclient", &options);
    assert!(!output.status.success() || !text.contains("Total lost packets 0 ("), "{text}");
    server.await_metric("turn_denied_peers_total{reason=\"reserved\"}", |denied| denied > 0.0);
    assert_eq!(server.metric("turn_relayed_packets_total{direction=\"to-peer\"}"), 0.0);
    assert!(server.log().contains("peer denied") && server.log().contains("anna"), "{}", server.log());
}

#[test]
fn stunclient_and_natdiscovery_find_out_what_there_is() {
    // four addresses of this machine: loopback has many
    let second = free_port();
    let server = Server::start(&format!("discovery = \"127.0.0.2:{second}\"\n"));
    let (output, text) = run("turnutils_stunclient", &format!("-p {} 127.0.0.1", server.udp));
    assert!(output.status.success() && text.contains("UDP reflexive addr: 127.0.0.1:"), "{text}");
    assert!(text.contains(&format!("Other addr: : 127.0.0.2:{second}")), "{text}");
    let (output, text) = run("turnutils_natdiscovery", &format!("-m -f -p {} 127.0.0.1", server.udp));
    assert!(output.status.success() && text.contains("NAT with Endpoint Independent Filtering"), "{text}");
    assert!(text.contains("Endpoint Independent Mapping") || text.contains("No NAT"), "{text}");
}
