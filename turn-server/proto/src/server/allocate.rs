//! Allocate (RFC 8656 section 7, RFC 6062 section 5.1): checks a request, takes a place and ports, waits for their sockets, answers.

use std::net::SocketAddr;
use std::time::Duration;

use arrayvec::ArrayVec;

use crate::allocation::{Allocation, Family, Opening, Pending, Relay, RelayProtocol};
use crate::bandwidth::Bucket;
use crate::counters::Allocated;
use crate::credentials::account;
use crate::limits::{DEFAULT_LIFETIME, MAX_LIFETIME, PORT_ATTEMPTS, RESERVATION_LIFETIME};
use crate::ports::Wanted;
use crate::quota::Exceeded;
use crate::wire::attribute;
use crate::wire::message::{Attributes, Message};

use super::auth::Authenticated;
use super::binding::canonical;
use super::{AllocationKey, Answer, Client, Moment, Output, RelayId, Transport, TurnServer};

/// IANA protocol numbers in REQUESTED-TRANSPORT.
const TCP: u8 = 6;
const UDP: u8 = 17;

/// What an Allocate request asks for, once its attributes make sense together.
#[derive(Debug)]
struct Request {
    protocol: RelayProtocol,
    /// The second one may fail.
    families: ArrayVec<Family, 2>,
    wanted: Wanted,
    /// A port that was reserved.
    token: Option<[u8; 8]>,
    lifetime: Duration,
    dont_fragment: bool,
}

impl TurnServer {
    pub(super) fn allocate(&mut self, at: Moment, who: &Authenticated, answer: Answer, message: &Message<'_>) {
        if let Some(key) = who.allocation {
            return self.allocate_again(at, key, who, &answer);
        }
        let request = match self.read(message, answer.client) {
            Ok(request) => request,
            Err(code) => return self.refuse_allocation(&answer, code, Allocated::Refused),
        };
        if !self.admission.covers(account(&who.user)) {
            return self.refuse_allocation(&answer, 508, Allocated::Draining);
        }
        if let Err(exceeded) = self.quota.take(&self.config.limits, account(&who.user), answer.client.remote.ip()) {
            self.counters.quota_rejections[exceeded as usize] += 1;
            return match exceeded {
                Exceeded::Total => self.refuse_allocation(&answer, 508, Allocated::Capacity),
                Exceeded::User | Exceeded::Address => self.refuse_allocation(&answer, 486, Allocated::Quota),
            };
        }
        self.open(at, who, answer, &request);
    }

    /// A client that has an allocation: the answer was lost (RFC 8656 section 7.2), or it forgot.
    fn allocate_again(&mut self, at: Moment, key: AllocationKey, who: &Authenticated, answer: &Answer) {
        let allocation = &self.allocations[key];
        let is_same = allocation.transaction == answer.transaction && *allocation.user == *who.user;
        if !is_same {
            self.refuse_allocation(answer, 437, Allocated::Refused);
        } else if allocation.pending.is_none() && allocation.expires_at > at.now {
            self.report_success(key, answer);
        }
    }

    fn read(&self, message: &Message<'_>, client: Client) -> Result<Request, u16> {
        let attributes = &message.attributes;
        let protocol = match attributes.requested_transport {
            None => return Err(400),
            Some(UDP) => RelayProtocol::Udp,
            Some(TCP) if self.config.tcp_relays => RelayProtocol::Tcp,
            Some(_) => return Err(442),
        };
        let has_token = attributes.reservation_token.is_some();
        let is_for_datagrams = has_token || attributes.even_port.is_some() || attributes.dont_fragment;
        if protocol == RelayProtocol::Tcp && (client.transport == Transport::Udp || is_for_datagrams) {
            return Err(400);
        }
        let families = self.families(attributes)?;
        let wanted = match attributes.even_port {
            Some(_) if has_token => return Err(400),
            // section 7.2: the next port can't be reserved for two families at once
            Some(true) if attributes.additional_family.is_some() => return Err(400),
            Some(true) => Wanted::Pair,
            Some(false) => Wanted::Even,
            None => Wanted::Any,
        };
        Ok(Request {
            protocol,
            families,
            wanted,
            token: attributes.reservation_token,
            lifetime: granted_lifetime(attributes.lifetime_seconds),
            dont_fragment: attributes.dont_fragment,
        })
    }

    fn families(&self, attributes: &Attributes<'_>) -> Result<ArrayVec<Family, 2>, u16> {
        let mut families = ArrayVec::new();
        let has_token = attributes.reservation_token.is_some();
        match (attributes.requested_family, attributes.additional_family) {
            (Some(_), Some(_)) => return Err(400),
            (Some(_), None) | (None, Some(_)) if has_token => return Err(400),
            (Some(number), None) => families.push(Family::from_number(number).ok_or(440_u16)?),
            (None, additional) => {
                families.push(Family::V4);
                // section 18.11: only IPv6 can be the additional one
                match additional {
                    None => {}
                    Some(2) => families.push(Family::V6),
                    Some(_) => return Err(400),
                }
            }
        }
        let is_any_served = families.iter().any(|family| self.relay_ip(*family).is_some());
        if is_any_served { Ok(families) } else { Err(440) }
    }

    fn open(&mut self, at: Moment, who: &Authenticated, answer: Answer, request: &Request) {
        let client = answer.client;
        let pending = Pending { answer, opening: ArrayVec::new(), failed: ArrayVec::new() };
        let mut allocation = Allocation::new(client, &who.user, who.key.clone(), who.algorithm, request.protocol, pending, at.now);
        allocation.dont_fragment = request.dont_fragment;
        allocation.lifetime = request.lifetime;
        allocation.expires_at = at.now + request.lifetime;
        let rate = self.config.limits.allocation_rate;
        allocation.to_peers = rate.map(|rate| Bucket::new(rate, at.now));
        allocation.to_client = rate.map(|rate| Bucket::new(rate, at.now));
        let key = self.allocations.insert(allocation);
        self.by_client.insert(client, key);
        self.by_account.entry(account(&who.user).into()).or_default().push(key);

        if let Some(token) = request.token {
            match self.reservations.iter().position(|reservation| reservation.token == token).and_then(|at| self.reservations.remove(at)) {
                Some(reservation) => self.open_relay(key, reservation.family, reservation.port, Wanted::Any, 0),
                None => self.fail(key, 508, Allocated::Capacity),
            }
            return;
        }
        for (index, &family) in request.families.iter().enumerate() {
            let wanted = if index == 0 { request.wanted } else { Wanted::Any };
            let port = self.relay_ip(family).map(|_| self.ports[request.protocol as usize][family as usize].take(wanted, &mut self.rng));
            match port {
                Some(Some(port)) => self.open_relay(key, family, port, wanted, PORT_ATTEMPTS),
                not_opened => self.note_failure(key, family, if not_opened.is_none() { 440 } else { 508 }),
            }
        }
        self.finish(at, key);
    }

    fn open_relay(&mut self, key: AllocationKey, family: Family, port: u16, wanted: Wanted, attempts_left: u8) {
        let relay = self.free_relays.pop().unwrap_or_else(|| {
            self.relays.push(None);
            RelayId(u32::try_from(self.relays.len() - 1).expect("allocations are bounded"))
        });
        self.relays[relay.0 as usize] = Some(key);
        let allocation = &mut self.allocations[key];
        let pending = allocation.pending.as_mut().expect("relays are opened while an allocation is made");
        pending.opening.push(Opening { id: relay, family, port, wanted, attempts_left });
        let (protocol, dont_fragment) = (allocation.protocol, allocation.dont_fragment);
        self.outputs.push_back(Output::OpenRelay { relay, protocol, family, port, dont_fragment });
    }

    /// What became of [`Output::OpenRelay`].
    pub fn relay_opened(&mut self, at: Moment, relay: RelayId, is_open: bool) {
        let Some(Some(key)) = self.relays.get(relay.0 as usize).copied() else { return };
        let Some(allocation) = self.allocations.get_mut(key) else { return };
        let protocol = allocation.protocol;
        let Some(pending) = &mut allocation.pending else { return };
        let Some(index) = pending.opening.iter().position(|opening| opening.id == relay) else { return };
        let opening = pending.opening.remove(index);
        if is_open {
            let ip = self.relay_ip(opening.family).expect("a relay is opened for a family that is served");
            let address = SocketAddr::new(ip, opening.port);
            let token =
                (opening.wanted == Wanted::Pair).then(|| self.reserve(opening.family, opening.port + 1, at.now + RESERVATION_LIFETIME));
            let allocation = &mut self.allocations[key];
            allocation.relays.push(Relay { id: relay, family: opening.family, address });
            allocation.token = allocation.token.or(token);
            return self.finish(at, key);
        }
        // somebody else has the port: it stays taken here while another is tried, so that it is not tried again
        let ports = &mut self.ports[protocol as usize][opening.family as usize];
        let next = (opening.attempts_left > 0).then(|| ports.take(opening.wanted, &mut self.rng)).flatten();
        ports.give_back(opening.port);
        if opening.wanted == Wanted::Pair {
            ports.give_back(opening.port + 1);
        }
        self.relays[relay.0 as usize] = None;
        self.free_relays.push(relay);
        match next {
            Some(port) => self.open_relay(key, opening.family, port, opening.wanted, opening.attempts_left - 1),
            None => {
                self.note_failure(key, opening.family, 508);
                self.finish(at, key);
            }
        }
    }

    fn note_failure(&mut self, key: AllocationKey, family: Family, code: u16) {
        if let Some(pending) = self.allocations.get_mut(key).and_then(|allocation| allocation.pending.as_mut()) {
            pending.failed.push((family, code));
        }
    }

    /// Answers once nothing is being opened any more.
    fn finish(&mut self, at: Moment, key: AllocationKey) {
        let allocation = &mut self.allocations[key];
        let Some(pending) = allocation.pending.take_if(|pending| pending.opening.is_empty()) else { return };
        if allocation.relays.is_empty() {
            let code = pending.failed.first().map_or(508, |(_, code)| *code);
            allocation.pending = Some(pending);
            return self.fail(key, code, Allocated::Capacity);
        }
        allocation.relays.sort_unstable_by_key(|relay| relay.family as u8);
        allocation.failed = pending.failed;
        allocation.expires_at = at.now + allocation.lifetime;
        self.counters.allocated[Allocated::Ok as usize] += 1;
        self.report_success(key, &pending.answer);
    }

    fn fail(&mut self, key: AllocationKey, code: u16, how: Allocated) {
        let answer = self.allocations[key].pending.as_ref().map(|pending| pending.answer.clone());
        self.remove(key);
        if let Some(answer) = answer {
            self.refuse_allocation(&answer, code, how);
        }
    }

    fn refuse_allocation(&mut self, answer: &Answer, code: u16, how: Allocated) {
        self.counters.allocated[how as usize] += 1;
        self.reply_error(answer, code);
    }

    fn report_success(&mut self, key: AllocationKey, answer: &Answer) {
        let allocation = &self.allocations[key];
        let (relays, failed) = (allocation.relays.clone(), allocation.failed.clone());
        let (lifetime, token) = (allocation.lifetime, allocation.token);
        self.reply_success(answer, |writer| {
            for relay in relays {
                writer.xor_address(attribute::XOR_RELAYED_ADDRESS, relay.address);
            }
            writer.attribute(attribute::LIFETIME, &seconds(lifetime).to_be_bytes());
            if let Some(token) = token {
                writer.attribute(attribute::RESERVATION_TOKEN, &token);
            }
            writer.xor_address(attribute::XOR_MAPPED_ADDRESS, canonical(answer.client.remote));
            for (family, code) in failed {
                let [class, number] = [(code / 100) as u8, (code % 100) as u8];
                writer.attribute(attribute::ADDRESS_ERROR_CODE, &[family.number(), 0, class, number]);
            }
        });
    }
}

/// RFC 8656 section 7.2: between the default and the longest.
pub(super) fn granted_lifetime(asked_seconds: Option<u32>) -> Duration {
    asked_seconds.map_or(DEFAULT_LIFETIME, |seconds| Duration::from_secs(seconds.into()).clamp(DEFAULT_LIFETIME, MAX_LIFETIME))
}

pub(super) fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}
