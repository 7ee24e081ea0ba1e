//! Requests about an allocation that is there: Refresh, CreatePermission, ChannelBind (RFC 8656 sections 8, 10 and 12).

use std::net::SocketAddr;
use std::time::Instant;

use crate::allocation::{Family, NotBound};
use crate::wire::attribute;
use crate::wire::message::Message;

use super::allocate::{granted_lifetime, seconds};
use super::auth::Authenticated;
use super::{Answer, TurnServer};

impl TurnServer {
    pub(super) fn refresh(&mut self, now: Instant, who: &Authenticated, answer: &Answer, message: &Message<'_>) {
        let Some(key) = self.own_allocation(who, answer) else { return };
        let allocation = &mut self.allocations[key];
        let family = message.attributes.requested_family;
        let is_ours = family.is_none_or(|number| Family::from_number(number).is_some_and(|family| allocation.relay_of(family).is_some()));
        if !is_ours {
            return self.reply_error(answer, 443);
        }
        if message.attributes.lifetime_seconds == Some(0) {
            // of two families the named one ends, and the other stays
            let ends = Family::from_number(family.unwrap_or_default()).filter(|_| allocation.relays.len() > 1);
            match ends.and_then(|family| allocation.relays.iter().position(|relay| relay.family == family)) {
                Some(index) => {
                    let relay = allocation.relays.remove(index);
                    let protocol = allocation.protocol;
                    allocation.forget_relay(relay.id);
                    self.close_relay(relay.id, protocol, relay.family, relay.address.port());
                    self.outputs.push_back(super::Output::CloseRelay(relay.id));
                }
                None => self.remove(key),
            }
            return self.reply_success(answer, |writer| {
                writer.attribute(attribute::LIFETIME, &0_u32.to_be_bytes());
            });
        }
        let lifetime = granted_lifetime(message.attributes.lifetime_seconds);
        allocation.lifetime = lifetime;
        allocation.expires_at = now + lifetime;
        self.reply_success(answer, |writer| {
            writer.attribute(attribute::LIFETIME, &seconds(lifetime).to_be_bytes());
        });
    }

    pub(super) fn create_permission(&mut self, now: Instant, who: &Authenticated, answer: &Answer, message: &Message<'_>) {
        let Some(key) = self.own_allocation(who, answer) else { return };
        let peers = &message.attributes.peers;
        if peers.is_empty() || message.attributes.has_too_many_peers {
            return self.reply_error(answer, if peers.is_empty() { 400 } else { 508 });
        }
        // all or nothing (section 10.2)
        for &peer in peers {
            if self.allocations[key].relay_of(Family::of(peer.ip())).is_none() {
                return self.reply_error(answer, 443);
            }
            if let Err(reason) = self.config.policy.permit(peer.ip()) {
                self.deny(answer.client, &who.user, peer, answer.method, reason);
                return self.reply_error(answer, 403);
            }
        }
        let allocation = &mut self.allocations[key];
        if !allocation.has_room_for(peers.iter().map(SocketAddr::ip), now) {
            return self.reply_error(answer, 508);
        }
        for peer in peers {
            allocation.permit(peer.ip(), now);
        }
        self.reply_success(answer, |_| {});
    }

    pub(super) fn channel_bind(&mut self, now: Instant, who: &Authenticated, answer: &Answer, message: &Message<'_>) {
        let Some(key) = self.own_allocation(who, answer) else { return };
        let (Some(number), [peer]) = (message.attributes.channel(), message.attributes.peers.as_slice()) else {
            return self.reply_error(answer, 400);
        };
        let Some(relay) = self.allocations[key].relay_of(Family::of(peer.ip())).map(|relay| relay.id) else {
            return self.reply_error(answer, 443);
        };
        let reached_at = match self.config.policy.reach(*peer) {
            Ok(reached_at) => reached_at,
            Err(reason) => {
                self.deny(answer.client, &who.user, *peer, answer.method, reason);
                return self.reply_error(answer, 403);
            }
        };
        let allocation = &mut self.allocations[key];
        if allocation.protocol == crate::allocation::RelayProtocol::Tcp {
            // RFC 6062 section 4.3: no channels there
            return self.reply_error(answer, 400);
        }
        if !allocation.has_room_for([peer.ip()].into_iter(), now) {
            return self.reply_error(answer, 508);
        }
        match allocation.bind(number, *peer, reached_at, relay, now) {
            Ok(()) => {
                allocation.permit(peer.ip(), now);
                self.reply_success(answer, |_| {});
            }
            Err(NotBound::Conflict) => self.reply_error(answer, 400),
            Err(NotBound::Full) => self.reply_error(answer, 508),
        }
    }
}
