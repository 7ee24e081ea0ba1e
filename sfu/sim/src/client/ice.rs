//! A full, controlling ICE agent of the simplest kind: it checks every path it is given and nominates one.
//!
//! Messages are made and read by `rtc-stun`; only the HMAC is computed here.

use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use rand::{Rng, RngExt};
use rtc_stun::attributes::{
    ATTR_ICE_CONTROLLED, ATTR_ICE_CONTROLLING, ATTR_MESSAGE_INTEGRITY, ATTR_PRIORITY, ATTR_USE_CANDIDATE, ATTR_USERNAME,
    ATTR_XORMAPPED_ADDRESS,
};
use rtc_stun::error_code::ErrorCodeAttribute;
use rtc_stun::fingerprint::FingerprintAttr;
use rtc_stun::message::{BINDING_ERROR, BINDING_REQUEST, BINDING_SUCCESS, Getter, Message, Setter, TransactionId};
use rtc_stun::xoraddr::XorMappedAddress;
use sfu_core::net::{Flow, Outbox};
use sfu_core::transport::params::IceCredentials;

use super::ClientEvent;

pub(super) struct IceClient {
    local: IceCredentials,
    remote: Option<IceCredentials>,
    tie_breaker: u64,
    paths: Vec<Path>,
    nominated: Option<Flow>,
    /// See [`super::ClientTransport::ignore_checks`].
    pub(super) ignored: Option<u64>,
}

struct Path {
    flow: Flow,
    is_valid: bool,
    next_check: Instant,
    /// Latest checks without an answer.
    pending: Vec<TransactionId>,
}

impl IceClient {
    pub(super) fn new(rng: &mut impl Rng) -> Self {
        Self { local: credentials(rng), remote: None, tie_breaker: rng.next_u64(), paths: Vec::new(), nominated: None, ignored: None }
    }

    pub(super) fn local(&self) -> &IceCredentials {
        &self.local
    }

    pub(super) fn set_remote(&mut self, remote: IceCredentials) {
        self.remote = Some(remote);
    }

    pub(super) fn restart(&mut self, rng: &mut impl Rng) {
        self.local = credentials(rng);
        self.paths.iter_mut().for_each(|path| path.pending.clear());
    }

    pub(super) fn add_path(&mut self, now: Instant, flow: Flow) {
        self.paths.push(Path { flow, is_valid: false, next_check: now, pending: Vec::new() });
    }

    pub(super) fn remove_path(&mut self, flow: Flow) {
        self.paths.retain(|path| path.flow != flow);
        if self.nominated == Some(flow) {
            self.nominated = None;
        }
    }

    pub(super) fn nominate(&mut self, now: Instant, flow: Flow) {
        self.nominated = Some(flow);
        self.paths.iter_mut().filter(|path| path.flow == flow).for_each(|path| path.next_check = now);
    }

    pub(super) fn selected(&self) -> Option<Flow> {
        self.paths.iter().find(|path| path.is_valid && self.nominated == Some(path.flow)).map(|path| path.flow)
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.remote.as_ref()?;
        self.paths.iter().map(|path| path.next_check).min()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, rng: &mut impl Rng, out: &mut Outbox) {
        let Some(remote) = &self.remote else { return };
        for path in self.paths.iter_mut().filter(|path| path.next_check <= now) {
            let is_nominated = self.nominated == Some(path.flow);
            let transaction = TransactionId(rng.random());
            out.push(path.flow, &check(transaction, &self.local, remote, self.tie_breaker, is_nominated));
            path.next_check = now + if path.is_valid { KEEPALIVE } else { RETRY };
            path.pending.push(transaction);
            if path.pending.len() > MAX_PENDING {
                path.pending.remove(0);
            }
        }
    }

    pub(super) fn handle(&mut self, now: Instant, flow: Flow, datagram: &[u8], out: &mut Outbox) -> Option<ClientEvent> {
        let remote = self.remote.as_ref()?;
        let mut message = Message::new();
        message.raw = datagram.to_vec();
        message.decode().ok()?;
        FingerprintAttr.check(&message).ok()?;
        if message.typ == BINDING_REQUEST {
            match &mut self.ignored {
                Some(ignored) => *ignored += 1,
                None => self.answer(flow, &message, out),
            }
            return None;
        }
        let path = self.paths.iter_mut().find(|path| path.flow == flow)?;
        let index = path.pending.iter().position(|&transaction| transaction == message.transaction_id)?;
        if !is_authentic(&message, &remote.pwd) {
            return None;
        }
        path.pending.remove(index);
        if message.typ == BINDING_ERROR {
            let mut code = ErrorCodeAttribute::default();
            code.get_from(&message).ok()?;
            return Some(ClientEvent::CheckRefused(code.code.0));
        }
        if message.typ != BINDING_SUCCESS || !message.contains(ATTR_XORMAPPED_ADDRESS) {
            return None;
        }
        let is_new = !std::mem::replace(&mut path.is_valid, true);
        if self.nominated.is_none() {
            self.nominate(now, flow);
        }
        is_new.then_some(ClientEvent::PathValid(flow))
    }
}

impl IceClient {
    /// Answers a check of the server (RFC 8445 section 7.3), as every full agent does.
    fn answer(&self, flow: Flow, request: &Message, out: &mut Outbox) {
        let Some(remote) = &self.remote else { return };
        let expected = format!("{}:{}", self.local.ufrag, remote.ufrag);
        let is_for_us = request.get(ATTR_USERNAME).is_ok_and(|username| username == expected.as_bytes());
        if !is_for_us
            || !request.contains(ATTR_ICE_CONTROLLED)
            || !request.contains(ATTR_PRIORITY)
            || !is_authentic(request, &self.local.pwd)
        {
            return;
        }
        let mut message = Message::new();
        message.transaction_id = request.transaction_id;
        message.set_type(BINDING_SUCCESS);
        message.write_header();
        let mapped = XorMappedAddress { ip: flow.remote.ip(), port: flow.remote.port() };
        let _ = mapped.add_to(&mut message);
        let tag = integrity(&message.raw, &self.local.pwd);
        message.add(ATTR_MESSAGE_INTEGRITY, tag.as_ref());
        let _ = FingerprintAttr.add_to(&mut message);
        message.write_header();
        out.push(flow, &message.raw);
    }
}

fn check(transaction: TransactionId, local: &IceCredentials, remote: &IceCredentials, tie_breaker: u64, is_nominated: bool) -> Vec<u8> {
    let mut message = Message::new();
    message.transaction_id = transaction;
    message.set_type(BINDING_REQUEST);
    message.write_header();
    message.add(ATTR_USERNAME, format!("{}:{}", remote.ufrag, local.ufrag).as_bytes());
    message.add(ATTR_ICE_CONTROLLING, &tie_breaker.to_be_bytes());
    message.add(ATTR_PRIORITY, &PEER_REFLEXIVE_PRIORITY.to_be_bytes());
    if is_nominated {
        message.add(ATTR_USE_CANDIDATE, &[]);
    }
    let tag = integrity(&message.raw, &remote.pwd);
    message.add(ATTR_MESSAGE_INTEGRITY, tag.as_ref());
    let _ = FingerprintAttr.add_to(&mut message);
    message.write_header();
    message.raw
}

/// HMAC over what precedes MESSAGE-INTEGRITY, with the length field counting that attribute too.
fn integrity(before: &[u8], pwd: &str) -> hmac::Tag {
    let mut signed = before.to_vec();
    let length = u16::try_from(before.len() - HEADER_LEN + INTEGRITY_ATTRIBUTE_LEN).unwrap_or_default();
    signed[2..4].copy_from_slice(&length.to_be_bytes());
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, pwd.as_bytes()), &signed)
}

fn is_authentic(message: &Message, pwd: &str) -> bool {
    let Ok(tag) = message.get(ATTR_MESSAGE_INTEGRITY) else { return false };
    let mut at = HEADER_LEN;
    for attribute in &message.attributes.0 {
        if attribute.typ == ATTR_MESSAGE_INTEGRITY {
            return integrity(&message.raw[..at], pwd).as_ref() == tag;
        }
        at += 4 + attribute.value.len().next_multiple_of(4);
    }
    false
}

fn credentials(rng: &mut impl Rng) -> IceCredentials {
    let mut text = |length: usize| (0..length).map(|_| char::from(rng.random_range(b'a'..=b'z'))).collect();
    IceCredentials { ufrag: text(4), pwd: text(24) }
}

/// Between checks of a path that has not answered.
const RETRY: Duration = Duration::from_millis(200);
/// Between checks of a path that has; libwebrtc's interval for a stable, strong connection.
const KEEPALIVE: Duration = Duration::from_millis(2500);
const MAX_PENDING: usize = 16;
const PEER_REFLEXIVE_PRIORITY: u32 = (110 << 24) | (65_535 << 8) | 255;
const HEADER_LEN: usize = 20;
const INTEGRITY_ATTRIBUTE_LEN: usize = 24;
