//! `sluice doctor`: looks for what keeps clients from connecting, and says what to do about it.
//!
//! On the server's machine it reads the configuration and tries out the server that runs with it, or, if none does, starts a
//! media node on the same ports for a moment. With `--url` it tries out a server from wherever it is, with the keys of the
//! configuration. Exit code 0: nothing failed; 1: something did; 2 (by `clap`): wrong arguments.

mod call;
pub(crate) mod finding;
mod http;
pub(crate) mod machine;
mod ports;
pub(crate) mod relay;
mod turn;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, bail};
use sfu_api::{Command, Event, ParticipantId, PeerMode, RoomId};
use sfu_node::{Node, NodeHandle};
use signaling_server::auth::{TokenOptions, mint};
use signaling_server::probe::{Offered, Probe, ProbeError};
use tokio::sync::mpsc;

use self::call::Way;
use self::finding::{Finding, Status};
use self::http::{Connection, Target};
use self::turn::Told;
use crate::certificates;
use crate::config::keys::ApiKey;
use crate::output;
use crate::serve::{explain_node_error, node_config};
use crate::sources::{Checked, Sources, checked};
use crate::turn::secret;

/// Time that a token of the doctor is good for.
const TOKEN_TTL: Duration = Duration::from_secs(60);
/// Time for a node that was started to make an offer.
const OFFER_PATIENCE: Duration = Duration::from_secs(5);

/// What is to be looked at.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    sources: Sources,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
    /// Try out the server at this URL (wss://call.example.org), from here.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Time server (host or host:port) to compare this machine's clock with. Without it the server at --url is asked.
    #[arg(long, value_name = "HOST")]
    ntp: Option<String>,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let findings = findings(args);
    let worst = findings.iter().map(|finding| finding.status).max().unwrap_or(Status::Ok);
    if args.json {
        output::line(&serde_json::json!({ "ok": worst < Status::Failed, "checks": findings }).to_string())?;
    } else {
        for finding in &findings {
            output::line(&finding.text())?;
        }
    }
    match findings.iter().filter(|finding| finding.status == Status::Failed).count() {
        0 => Ok(()),
        1 => bail!("1 check failed"),
        failed => bail!("{failed} checks failed"),
    }
}

fn findings(args: &Args) -> Vec<Finding> {
    let checked = match args.sources.load().and_then(checked) {
        Ok(checked) => checked,
        Err(error) => {
            return vec![Finding::failed(
                "configuration",
                "configuration-invalid",
                format!("{error:#}"),
                "`sluice config check` lists every mistake",
            )];
        }
    };
    let mut findings = vec![Finding::ok("configuration", "is good")];
    findings.extend(checked.warnings.iter().map(|warning| Finding::warning("configuration", "configuration-weak", &warning.message, "")));
    if let Some(server) = &args.ntp {
        findings.push(machine::ntp(server));
    }
    match &args.url {
        Some(url) => from_outside(url, &checked, args.ntp.is_none(), &mut findings),
        None => from_inside(&checked, &mut findings),
    }
    findings
}

/// Somebody else's view.
fn from_outside(url: &str, checked: &Checked, is_clock_unknown: bool, findings: &mut Vec<Finding>) {
    let Some(target) = Target::parse(url) else {
        findings.push(Finding::failed("url", "url-invalid", format!("{url} is no ws, wss, http or https URL"), "wss://call.example.org"));
        return;
    };
    findings.extend(target.certificate());
    let asked = machine::unix_now();
    match target.get("/readyz") {
        Ok(answer) => {
            if let Some(theirs) = answer.date_s.filter(|_| is_clock_unknown) {
                findings.push(machine::clock(&target.host, Duration::from_secs(theirs), asked));
            }
            findings.push(readiness(&target, answer.status, &answer.body));
        }
        // the certificate has said it already
        Err(http::ConnectError::Tls(_))
            if findings.iter().any(|finding| finding.check == "certificate" && finding.status == Status::Failed) =>
        {
            return;
        }
        Err(error) => {
            findings.push(target.explain("http", &error));
            return;
        }
    }
    call_server(&target, checked, findings);
}

fn from_inside(checked: &Checked, findings: &mut Vec<Finding>) {
    findings.push(machine::descriptors(checked));
    findings.push(machine::buffers());
    findings.extend(machine::disks(checked));
    findings.extend(checked.config.certificates().map(certificates::check));
    let listen = checked.config.server.listen;
    let here = if listen.ip().is_unspecified() { loopback(listen.ip()) } else { listen.ip() };
    // with one port and a certificate there is HTTPS only, and the certificate is for a name
    let is_secure = checked.config.server.one_port && !checked.config.tls.certificate.as_os_str().is_empty();
    let name = &checked.config.turn.domain;
    if is_secure && name.is_empty() {
        findings.push(Finding::skipped("http", "HTTPS is for the name of the certificate: run `sluice doctor --url wss://NAME`"));
        return;
    }
    let host = if is_secure { name.clone() } else { here.to_string() };
    let target = Target { is_secure, host, port: listen.port(), at: Some(SocketAddr::new(here, listen.port())) };
    match target.get("/readyz") {
        // anything else may answer there too
        Ok(answer) if answer.body.trim() == "ok" || answer.body.contains("\"code\":\"unavailable\"") => {
            findings.push(readiness(&target, answer.status, &answer.body));
            call_server(&target, checked, findings);
        }
        Err(error @ http::ConnectError::Tls(_)) => findings.push(target.explain("http", &error)),
        _ => {
            findings.push(Finding::skipped("http", format!("no server answers at {}: its ports are tried out without it", target.url())));
            findings.extend(ports::check(checked));
            if findings.iter().all(|finding| finding.check != "port" || finding.status == Status::Ok) {
                call_node(checked, findings);
            }
        }
    }
}

fn loopback(unspecified: IpAddr) -> IpAddr {
    if unspecified.is_ipv4() { std::net::Ipv4Addr::LOCALHOST.into() } else { std::net::Ipv6Addr::LOCALHOST.into() }
}

fn readiness(target: &Target, status: u16, body: &str) -> Finding {
    match status {
        200 => Finding::ok("http", format!("{} answers and takes new sessions", target.url())),
        503 => Finding::warning(
            "http",
            "not-ready",
            format!("{} takes no new sessions: {}", target.url(), body.trim()),
            "see whether it drains: GET /v1/nodes/self",
        ),
        other => Finding::failed(
            "http",
            "not-this-server",
            format!("{} answers {other} to /readyz", target.url()),
            "see what the proxy in front of it does with /readyz",
        ),
    }
}

/// Joins a room of its own, once as most clients do and once by every TURN server.
fn call_server(target: &Target, checked: &Checked, findings: &mut Vec<Finding>) {
    let Some(key) = checked.keys.first() else { return };
    let room = format!("doctor-{:016x}", rand::random::<u64>());
    let (mut probe, offered) = match join(target, key, &room) {
        Ok(joined) => joined,
        Err(finding) => return findings.push(finding),
    };
    findings.push(Finding::ok("join", "the signal connection works"));
    let outcome = call::try_out(&offered.sdp, Way::Direct, |answer| Ok(probe.answer(offered.id, answer)?));
    report(outcome, checked, findings);
    probe.leave();
    let urls: Vec<&String> = offered.ice_servers.iter().flat_map(|server| &server.urls).filter(|url| url.starts_with("turn")).collect();
    if urls.is_empty() {
        findings.push(Finding::skipped("turn", "clients are told of no TURN server"));
    }
    for url in urls {
        // credentials end with the participant that they were made for
        let (mut probe, offered) = match join(target, key, &room) {
            Ok(joined) => joined,
            Err(finding) => return findings.push(finding),
        };
        let Some(server) = offered.ice_servers.iter().find(|server| server.urls.contains(url)) else { continue };
        let told = Told { url, username: &server.username, password: &server.credential };
        findings.push(turn::check(&told, Ok(offered.sdp.clone()), |answer| Ok(probe.answer(offered.id, answer)?)));
        probe.leave();
    }
}

/// A participant that has an offer to answer.
fn join(target: &Target, key: &ApiKey, room: &str) -> Result<(Probe<Box<dyn Connection>>, Offered), Finding> {
    let mut options = TokenOptions::join("doctor", room);
    options.ttl = TOKEN_TTL;
    options.grants.room_create = true;
    let token = mint(&key.name, &key.secret, &options, machine::unix_now())
        .map_err(|error| Finding::failed("join", "token", error.to_string(), "check `auth.keys_file`"))?;
    let authority = target.url().split_once("://").map(|(_, authority)| authority.to_owned()).unwrap_or_default();
    let connection = target.connect().map_err(|error| target.explain("join", &error))?;
    let joined = Probe::join(connection, &authority, &token).and_then(|mut probe| probe.offer().map(|offered| (probe, offered)));
    joined.map_err(|error| refusal(target, &token, &error))
}

fn refusal(target: &Target, token: &str, error: &ProbeError) -> Finding {
    // the WebSocket's refusal has no body; this path says the same with one
    let why = target.get(&format!("/rtc/validate?access_token={token}")).map(|answer| answer.body).unwrap_or_default();
    let word = why.split(':').next().unwrap_or_default().to_owned();
    let (cause, remedy) = match word.as_str() {
        "token-invalid" => ("token-invalid", "the keys of this configuration are not those of the server: compare `auth.keys_file`"),
        "token-expired" => ("clock-skew", "the clocks of this machine and of the server differ: synchronize both"),
        "unavailable" => ("not-ready", "see whether it drains: GET /v1/nodes/self"),
        _ => ("join-refused", "a proxy in front must let WebSockets through (Upgrade, Connection)"),
    };
    Finding::failed("join", cause, format!("{error} {why}").trim().to_owned(), remedy)
}

/// Tries out the ports of a server that does not run, and the TURN servers that its clients would be told of.
fn call_node(checked: &Checked, findings: &mut Vec<Finding>) {
    let (node, mut events) = match Node::start(&node_config(checked)) {
        Ok(started) => started,
        Err(error) => {
            let error = explain_node_error(error);
            return findings.push(Finding::failed("node", "node-does-not-start", format!("{error:#}"), "see the options that it names"));
        }
    };
    let (participant, offered) = join_node(&node, &mut events);
    let outcome = offered.and_then(|(id, sdp)| call::try_out(&sdp, Way::Direct, |answer| answer_node(&node, participant, id, answer)));
    report(outcome, checked, findings);
    for url in &checked.config.turn.servers {
        let Ok(Some(secret)) = secret(&checked.config.turn, &checked.keys) else { continue };
        let (username, password) = turn_server::SharedSecret::new(secret.expose()).issue("doctor", machine::unix_now() + TOKEN_TTL);
        let (participant, offered) = join_node(&node, &mut events);
        let id = offered.as_ref().map_or(0, |(id, _)| *id);
        let told = Told { url, username: &username, password: &password };
        findings.push(turn::check(&told, offered.map(|(_, sdp)| sdp), |answer| answer_node(&node, participant, id, answer)));
    }
    node.shutdown();
}

fn join_node(node: &NodeHandle, events: &mut mpsc::Receiver<Event>) -> (ParticipantId, anyhow::Result<(u32, String)>) {
    let (room, participant) = (RoomId(rand::random()), ParticipantId(rand::random()));
    let asked = node.send(Command::Join { room, participant, can_subscribe: true, mode: PeerMode::Dual });
    (participant, asked.context("the node takes no commands").and_then(|()| wait_for_offer(events, participant)))
}

fn answer_node(node: &NodeHandle, participant: ParticipantId, id: u32, sdp: String) -> anyhow::Result<()> {
    node.send(Command::Answer { participant, id, sdp }).context("the node takes no commands")
}

fn wait_for_offer(events: &mut mpsc::Receiver<Event>, joined: ParticipantId) -> anyhow::Result<(u32, String)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    runtime.block_on(async {
        let offer = async {
            loop {
                match events.recv().await {
                    Some(Event::Offer { participant, id, sdp }) if participant == joined => return Ok((id, sdp)),
                    Some(_) => {}
                    None => bail!("the node has stopped"),
                }
            }
        };
        tokio::time::timeout(OFFER_PATIENCE, offer).await.context("the node makes no offer")?
    })
}

fn report(outcome: anyhow::Result<call::Outcome>, checked: &Checked, findings: &mut Vec<Finding>) {
    match outcome {
        Ok(outcome) => {
            let own = sfu_node::interface_addresses().unwrap_or_default();
            let is_own = |ip: IpAddr| ip.is_loopback() || own.contains(&ip);
            findings.extend(call::explain(&outcome, is_own, !checked.config.media.advertise.is_empty()));
        }
        Err(error) => findings.push(Finding::failed("call", "call-impossible", format!("{error:#}"), "see the log of the server")),
    }
}
