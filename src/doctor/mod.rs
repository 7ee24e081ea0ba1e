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
mod turn;
pub(crate) mod x509;

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use sfu_api::{Command, Event, ParticipantId, PeerMode, RoomId};
use sfu_node::Node;
use signaling_server::auth::{TokenOptions, mint};
use signaling_server::probe::{IceServer, Probe, ProbeError};

use self::finding::{Finding, Status};
use self::http::Target;
use crate::certificates;
use crate::output;
use crate::serve::{explain_node_error, node_config};
use crate::sources::{Checked, Sources, checked};

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
    findings.extend(checked.config.metrics.certificates.iter().map(|file| certificates::check(file)));
    let listen = checked.config.server.listen;
    let here = if listen.ip().is_unspecified() { loopback(listen.ip()) } else { listen.ip() };
    let target = Target { is_secure: false, host: here.to_string(), port: listen.port() };
    match target.get("/readyz") {
        // anything else may answer there too
        Ok(answer) if answer.body.trim() == "ok" || answer.body.contains("\"code\":\"unavailable\"") => {
            findings.push(readiness(&target, answer.status, &answer.body));
            call_server(&target, checked, findings);
        }
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

/// Joins a room of its own.
fn call_server(target: &Target, checked: &Checked, findings: &mut Vec<Finding>) {
    let Some(key) = checked.keys.first() else { return };
    let room = format!("doctor-{:016x}", rand::random::<u64>());
    let mut options = TokenOptions::join("doctor", &room);
    options.ttl = TOKEN_TTL;
    options.grants.room_create = true;
    let token = match mint(&key.name, &key.secret, &options, machine::unix_now()) {
        Ok(token) => token,
        Err(error) => return findings.push(Finding::failed("join", "token", error.to_string(), "check `auth.keys_file`")),
    };
    let authority = target.url().split_once("://").map(|(_, authority)| authority.to_owned()).unwrap_or_default();
    let connection = match target.connect() {
        Ok(connection) => connection,
        Err(error) => return findings.push(target.explain("join", &error)),
    };
    let joined = Probe::join(connection, &authority, &token).and_then(|mut probe| probe.offer().map(|offered| (probe, offered)));
    let (mut probe, offered) = match joined {
        Ok(joined) => joined,
        Err(error) => return findings.push(refusal(target, &token, &error)),
    };
    findings.push(Finding::ok("join", "the signal connection works"));
    let outcome = call::try_out(&offered.sdp, |answer| Ok(probe.answer(offered.id, answer)?));
    report(outcome, checked, findings);
    probe.leave();
    check_turn(&offered.ice_servers, findings);
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

fn check_turn(servers: &[IceServer], findings: &mut Vec<Finding>) {
    if servers.iter().all(|server| server.urls.iter().all(|url| !url.starts_with("turn"))) {
        findings.push(Finding::skipped("turn", "clients are told of no TURN server"));
    }
    for server in servers {
        findings.extend(
            server.urls.iter().filter(|url| url.starts_with("turn")).map(|url| turn::check(url, &server.username, &server.credential)),
        );
    }
}

/// Tries out the ports of a server that does not run.
fn call_node(checked: &Checked, findings: &mut Vec<Finding>) {
    let (node, mut events) = match Node::start(&node_config(checked)) {
        Ok(started) => started,
        Err(error) => {
            let error = explain_node_error(error);
            return findings.push(Finding::failed("node", "node-does-not-start", format!("{error:#}"), "see the options that it names"));
        }
    };
    let (room, participant) = (RoomId(rand::random()), ParticipantId(rand::random()));
    let offered = node
        .send(Command::Join { room, participant, can_subscribe: true, mode: PeerMode::Dual })
        .context("the node takes no commands")
        .and_then(|()| wait_for_offer(&mut events));
    let outcome = offered.and_then(|(id, sdp)| {
        call::try_out(&sdp, |answer| node.send(Command::Answer { participant, id, sdp: answer }).context("the node takes no commands"))
    });
    report(outcome, checked, findings);
    node.shutdown();
}

fn wait_for_offer(events: &mut tokio::sync::mpsc::Receiver<Event>) -> anyhow::Result<(u32, String)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    runtime.block_on(async {
        let offer = async {
            loop {
                match events.recv().await {
                    Some(Event::Offer { id, sdp, .. }) => return Ok((id, sdp)),
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
