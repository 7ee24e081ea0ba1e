//! A real WebRTC client: joins as a client would, checks every address that it is told, and completes DTLS over one of them.
//!
//! In: an offer, from a running server or from a node that is started for it; the way to its addresses, direct or through a TURN
//! server. Out: which addresses answered. The client is the one of the simulations (`sfu_sim`), whose ICE and STUN are other
//! implementations than the server's.

use std::collections::HashMap;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use sfu_core::net::{Flow, Outbox, Protocol};
use sfu_core::transport::params::{Candidate, LocalParams};
use sfu_sim::client::{ClientEvent, ClientTransport};
use sfu_sim::sdp::{local_params, subscriber_answer};

use super::finding::Finding;
use super::relay::Relay;

/// Time for all addresses to answer; the handshake takes what is left.
const PATIENCE: Duration = Duration::from_secs(6);
/// Once one address works, the others get so much more.
const LATECOMERS: Duration = Duration::from_millis(1500);
const CONNECT_PATIENCE: Duration = Duration::from_secs(2);
/// Between looks at sockets without anything to read.
const PAUSE: Duration = Duration::from_millis(5);
const MAX_DATAGRAM: usize = 2048;

/// What came of a call.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Each address that the client was told, and whether it answered.
    pub(super) candidates: Vec<(Candidate, bool)>,
    /// DTLS was completed.
    pub(super) is_connected: bool,
    /// What the client's transport said of itself.
    pub(super) failure: Option<String>,
}

/// How packets get to the server.
pub(super) enum Way {
    /// From this machine.
    Direct,
    /// From an address of a TURN server, over UDP alone.
    Relayed(Relay),
}

/// Answers an offer by `answer` and tries it out.
pub(super) fn try_out(offer: &str, way: Way, answer: impl FnOnce(String) -> anyhow::Result<()>) -> anyhow::Result<Outcome> {
    let server = local_params(offer).ok_or_else(|| anyhow::anyhow!("the offer can't be read"))?;
    let mut rng = StdRng::from_rng(&mut rand::rng());
    let mut client = ClientTransport::new(Instant::now(), &mut rng).with_data();
    answer(subscriber_answer(offer, &client.params(), &[], &[]))?;
    client.set_remote(&server);
    let mut sockets = match way {
        Way::Direct => Sockets::open(&server),
        Way::Relayed(relay) => Sockets::relayed(relay, &server),
    };
    for flow in sockets.flows() {
        client.add_path(Instant::now(), flow);
    }
    Ok(run(&mut client, &mut sockets, &server))
}

fn run(client: &mut ClientTransport, sockets: &mut Sockets, server: &LocalParams) -> Outcome {
    let (mut out, mut outcome) = (Outbox::default(), Outcome::default());
    let mut answered: HashMap<Flow, Instant> = HashMap::new();
    let began = Instant::now();
    let mut until = began + PATIENCE;
    let mut datagram = [0; MAX_DATAGRAM];
    while Instant::now() < until {
        let now = Instant::now();
        client.handle_timeout(now, &mut out);
        let mut is_idle = true;
        while let Some((flow, length)) = sockets.receive(&mut datagram) {
            is_idle = false;
            client.handle(Instant::now(), flow, &datagram[..length], &mut out);
        }
        sockets.send_all(&out);
        out.clear();
        while let Some(event) = client.poll_event() {
            match event {
                ClientEvent::PathValid(flow) => {
                    answered.insert(flow, Instant::now());
                }
                ClientEvent::Connected { .. } => {
                    outcome.is_connected = true;
                    until = until.min(Instant::now() + LATECOMERS);
                }
                ClientEvent::Failed(reason) => outcome.failure = Some(reason),
                ClientEvent::CheckRefused(code) => outcome.failure = Some(format!("a check was refused with {code}")),
                ClientEvent::Closed | ClientEvent::DataChannelOpen { .. } | ClientEvent::Data { .. } => {}
            }
        }
        if outcome.is_connected && answered.len() == sockets.flows().count() {
            break;
        }
        if is_idle {
            std::thread::sleep(PAUSE);
        }
    }
    client.close(Instant::now(), &mut out);
    sockets.send_all(&out);
    let has_answered =
        |candidate: &Candidate| answered.keys().any(|flow| flow.remote == candidate.address && flow.protocol == candidate.protocol);
    outcome.candidates = server.candidates.iter().map(|candidate| (*candidate, has_answered(candidate))).collect();
    outcome
}

/// A socket for every address, or one relay for all of them.
enum Sockets {
    Direct(Vec<Socket>),
    Relayed { relay: Relay, flows: Vec<Flow> },
}

struct Socket {
    flow: Flow,
    link: Link,
}

enum Link {
    Udp(UdpSocket),
    /// RFC 4571: two bytes of length before each packet.
    Tcp {
        stream: TcpStream,
        received: Vec<u8>,
    },
}

impl Sockets {
    fn open(server: &LocalParams) -> Self {
        Self::Direct(server.candidates.iter().filter_map(|candidate| Socket::open(*candidate).ok()).collect())
    }

    fn relayed(relay: Relay, server: &LocalParams) -> Self {
        let local = relay.address();
        let over_udp = server.candidates.iter().filter(|candidate| candidate.protocol == Protocol::Udp);
        let flows = over_udp.map(|candidate| Flow { protocol: Protocol::Udp, local, remote: candidate.address }).collect();
        Self::Relayed { relay, flows }
    }

    fn flows(&self) -> impl Iterator<Item = Flow> {
        let (direct, relayed) = match self {
            Self::Direct(sockets) => (sockets.as_slice(), [].as_slice()),
            Self::Relayed { flows, .. } => ([].as_slice(), flows.as_slice()),
        };
        direct.iter().map(|socket| socket.flow).chain(relayed.iter().copied())
    }

    fn receive(&mut self, datagram: &mut [u8]) -> Option<(Flow, usize)> {
        match self {
            Self::Direct(sockets) => sockets.iter_mut().find_map(|socket| Some((socket.flow, socket.receive(datagram)?))),
            Self::Relayed { relay, flows } => {
                let (peer, length) = relay.receive(datagram)?;
                flows.iter().find(|flow| flow.remote == peer).map(|flow| (*flow, length))
            }
        }
    }

    fn send_all(&mut self, out: &Outbox) {
        for (flow, bytes) in out.datagrams() {
            match self {
                Self::Direct(sockets) => {
                    if let Some(socket) = sockets.iter_mut().find(|socket| socket.flow == flow) {
                        socket.send(bytes);
                    }
                }
                Self::Relayed { relay, .. } => relay.send(flow.remote, bytes),
            }
        }
    }
}

impl Socket {
    fn open(candidate: Candidate) -> io::Result<Self> {
        let remote = candidate.address;
        let (link, local) = match candidate.protocol {
            Protocol::Udp => {
                let socket = UdpSocket::bind(if remote.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
                // not connected: an answer from another address, as a wrong NAT makes it, shall not look like an error
                socket.set_nonblocking(true)?;
                let local = socket.local_addr()?;
                (Link::Udp(socket), local)
            }
            Protocol::Tcp => {
                let stream = TcpStream::connect_timeout(&remote, CONNECT_PATIENCE)?;
                stream.set_nodelay(true)?;
                stream.set_nonblocking(true)?;
                let local = stream.local_addr()?;
                (Link::Tcp { stream, received: Vec::new() }, local)
            }
        };
        Ok(Self { flow: Flow { protocol: candidate.protocol, local, remote }, link })
    }

    /// Nothing to read and a broken socket are the same here: no answer.
    fn receive(&mut self, datagram: &mut [u8]) -> Option<usize> {
        match &mut self.link {
            Link::Udp(socket) => socket.recv_from(datagram).ok().filter(|(_, from)| *from == self.flow.remote).map(|(length, _)| length),
            Link::Tcp { stream, received } => {
                let mut chunk = [0; MAX_DATAGRAM];
                if let Ok(length) = stream.read(&mut chunk) {
                    received.extend_from_slice(chunk.get(..length)?);
                }
                let (length, rest) = received.split_first_chunk::<2>()?;
                let packet = rest.get(..usize::from(u16::from_be_bytes(*length)))?.to_vec();
                received.drain(..2 + packet.len());
                datagram.get_mut(..packet.len())?.copy_from_slice(&packet);
                Some(packet.len())
            }
        }
    }

    /// What is lost is sent again by ICE and DTLS.
    fn send(&mut self, bytes: &[u8]) {
        let _ = match &mut self.link {
            Link::Udp(socket) => socket.send_to(bytes, self.flow.remote).map(drop),
            Link::Tcp { stream, .. } => {
                let length = u16::try_from(bytes.len()).unwrap_or(0).to_be_bytes();
                stream.write_all(&[&length, bytes].concat())
            }
        };
    }
}

/// What the outcome means; `advertised` says that the operator wrote the addresses down.
pub(super) fn explain(outcome: &Outcome, is_own: impl Fn(IpAddr) -> bool, is_advertised: bool) -> Vec<Finding> {
    let mut findings: Vec<Finding> =
        outcome.candidates.iter().map(|(candidate, answers)| explain_one(outcome, candidate, *answers, &is_own, is_advertised)).collect();
    findings.push(if outcome.is_connected {
        Finding::ok("call", "a WebRTC client connected: ICE and DTLS work")
    } else if outcome.candidates.iter().any(|(_, answers)| *answers) {
        let detail = format!("ICE works, DTLS does not: {}", outcome.failure.as_deref().unwrap_or("no answer in time"));
        Finding::failed(
            "call",
            "dtls-handshake",
            detail,
            "packets of about 1,200 bytes may be lost: check the MTU and firewalls on the way",
        )
    } else {
        Finding::failed("call", "ice-no-path", "no address that clients are told answers", "see the addresses above: clients can't connect")
    });
    findings
}

fn explain_one(outcome: &Outcome, candidate: &Candidate, answers: bool, is_own: &impl Fn(IpAddr) -> bool, is_advertised: bool) -> Finding {
    let (check, protocol, option) = match candidate.protocol {
        Protocol::Udp => ("udp", "UDP", "media.udp_port"),
        Protocol::Tcp => ("tcp", "TCP", "media.tcp_port"),
    };
    let address = candidate.address;
    if answers {
        return Finding::ok(check, format!("{protocol} {address} answers"));
    }
    let detail = format!("{protocol} {address}, which clients are told, does not answer");
    let others_work =
        |same_ip: bool| outcome.candidates.iter().any(|(other, answers)| *answers && (!same_ip || other.address.ip() == address.ip()));
    let is_alone = !outcome.candidates.iter().any(|(other, answers)| *answers && other.address.ip() == address.ip());
    if is_alone && !is_own(address.ip()) {
        let whence = if is_advertised { "`media.advertise`" } else { "the public address that was found" };
        let remedy = format!(
            "{whence} is no address of this machine: correct it, or forward the ports to this machine. A NAT that does not lead back inside looks like this \
             too: then run `sluice doctor --url` from outside"
        );
        return Finding::failed(check, "wrong-advertised-address", detail, remedy);
    }
    let remedy = format!("a firewall drops {protocol} on port {} (`{option}`): open it for everybody", address.port());
    let cause = if candidate.protocol == Protocol::Udp { "udp-blocked" } else { "tcp-blocked" };
    if candidate.protocol == Protocol::Tcp && others_work(false) {
        return Finding::warning(check, cause, detail, format!("{remedy}; clients without UDP can't connect"));
    }
    Finding::failed(check, cause, detail, remedy)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn candidate(protocol: Protocol, address: &str) -> Candidate {
        Candidate { protocol, address: address.parse().unwrap() }
    }

    fn causes(candidates: &[(Candidate, bool)], is_connected: bool) -> Vec<&'static str> {
        let outcome = Outcome { candidates: candidates.to_vec(), is_connected, failure: None };
        explain(&outcome, |ip| ip.to_string().starts_with("10."), true).iter().map(|finding| finding.cause).collect()
    }

    #[test]
    fn each_silence_has_its_cause() {
        let (udp, tcp) = (candidate(Protocol::Udp, "10.0.0.4:7882"), candidate(Protocol::Tcp, "10.0.0.4:7881"));
        let far = candidate(Protocol::Udp, "203.0.113.9:7882");
        assert_eq!(causes(&[(udp, true), (tcp, true)], true), ["", "", ""]);
        assert_eq!(causes(&[(udp, false), (tcp, true)], true), ["udp-blocked", "", ""]);
        assert_eq!(causes(&[(udp, true), (tcp, false)], true), ["", "tcp-blocked", ""]);
        assert_eq!(causes(&[(far, false)], false), ["wrong-advertised-address", "ice-no-path"]);
        assert_eq!(causes(&[(udp, true)], false), ["", "dtls-handshake"]);
    }
}
