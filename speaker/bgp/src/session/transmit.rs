//! What to send: messages of the FSM first, then the difference of the Adj-RIB-Out.

use std::time::Instant;

use super::timers::Timer;
use super::{Negotiated, Session, State};
use crate::message::as_path::AsPath;
use crate::message::attribute::{MpNextHop, PathAttributes};
use crate::message::open::Open;
use crate::message::update::{Carriage, Update, encode_announcement, encode_withdrawal};
use crate::message::{MAX_EXTENDED_LENGTH, MAX_LENGTH, encode_keepalive};
use crate::rib::Table;
use crate::{Attributes, Family, NextHops, Notification};

/// LOCAL_PREF of a route that names none, towards iBGP peers.
const DEFAULT_LOCAL_PREF: u32 = 100;

/// Messages of the FSM that wait to be pulled; at most one of each.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    pub(super) open: Option<Open>,
    pub(super) keepalive: bool,
    pub(super) notification: Option<Notification>,
}

impl Outbox {
    const fn is_empty(&self) -> bool {
        self.open.is_none() && !self.keepalive && self.notification.is_none()
    }
}

/// The next hop of a family's routes, with the fields it travels in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// NEXT_HOP, with prefixes in the fields of RFC 4271.
    Classic(std::net::Ipv4Addr),
    /// MP_REACH_NLRI.
    MultiProtocol(MpNextHop),
}

impl Reach {
    /// How this peer reaches the routes of a family, if at all.
    pub(super) fn of(family: Family, next_hops: NextHops, negotiated: &Negotiated) -> Option<Self> {
        let v6 = match (next_hops.v6, next_hops.link_local) {
            (Some(global), Some(link_local)) => Some(MpNextHop::V6WithLinkLocal(global, link_local)),
            (Some(global), None) => Some(MpNextHop::V6(global)),
            // Without a global address the link-local one stands in its place too: RFC 2545 knows no other
            // form, and this is what routers send and take.
            (None, Some(link_local)) => Some(MpNextHop::V6WithLinkLocal(link_local, link_local)),
            (None, None) => None,
        };
        match (family, next_hops.v4) {
            (Family::Ipv4Unicast, Some(v4)) => Some(Self::Classic(v4)),
            (Family::Ipv4Unicast, None) if !negotiated.extended_next_hop => None,
            _ => v6.map(Self::MultiProtocol),
        }
    }

    const fn carriage(self) -> Carriage {
        match self {
            Self::Classic(_) => Carriage::Classic,
            Self::MultiProtocol(next_hop) => Carriage::MultiProtocol(next_hop),
        }
    }
}

impl Session {
    pub(super) fn transmit(&mut self, now: Instant, max: usize, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        for family in std::mem::take(&mut self.refresh) {
            self.rib.table_mut(family).resend();
        }
        while out.len() - start < max.max(1) && self.next_message(now, out) {}
        let sent = out.len() > start;
        if sent {
            self.timers.stop(Timer::SendHold);
            self.send_blocked = false;
        }
        sent
    }

    pub(super) fn has_something_to_send(&self) -> bool {
        !self.outbox.is_empty()
            || !self.refresh.is_empty()
            || (self.state == State::Established
                && Family::ALL.into_iter().any(|family| self.rib.table(family).has_something_to_send()))
    }

    fn next_message(&mut self, now: Instant, out: &mut Vec<u8>) -> bool {
        if let Some(open) = self.outbox.open.take() {
            open.encode(out);
        } else if let Some(notification) = self.outbox.notification.take() {
            notification.encode(out);
            self.statistics.notifications_sent += 1;
            // It is the last message of the connection (RFC 4271 §6).
            self.outbox = Outbox::default();
        } else if std::mem::take(&mut self.outbox.keepalive) {
            encode_keepalive(out);
            self.restart_keepalive_timer(now);
        } else if self.state == State::Established && self.next_update(out) {
            self.statistics.updates_sent += 1;
            self.restart_keepalive_timer(now);
        } else {
            return false;
        }
        true
    }

    fn next_update(&mut self, out: &mut Vec<u8>) -> bool {
        let Some(negotiated) = &self.negotiated else { return false };
        for family in Family::ALL {
            let table = self.rib.table_mut(family);
            if !table.has_something_to_send() {
                continue;
            }
            let reach = Reach::of(family, self.next_hops, negotiated);
            let limit = if negotiated.extended_messages { MAX_EXTENDED_LENGTH } else { MAX_LENGTH };
            if next_routes(table, family, reach, self.config.local_asn, negotiated, limit, out) {
                return true;
            }
            if table.take_end_of_rib() {
                Update::end_of_rib(family).encode(negotiated.four_octet_as, out);
                return true;
            }
        }
        false
    }
}

/// Appends an UPDATE with the next part of a family's difference. Returns whether there was one.
fn next_routes(
    table: &mut Table,
    family: Family,
    reach: Option<Reach>,
    local_asn: u32,
    negotiated: &Negotiated,
    limit: usize,
    out: &mut Vec<u8>,
) -> bool {
    if table.withdrawals().next().is_some() {
        let carriage = match (reach, family) {
            (Some(reach), _) => reach.carriage(),
            (None, Family::Ipv4Unicast) => Carriage::Classic,
            (None, Family::Ipv6Unicast) => {
                Carriage::MultiProtocol(MpNextHop::V6(std::net::Ipv6Addr::UNSPECIFIED))
            }
        };
        let count = encode_withdrawal(family, carriage, table.withdrawals(), limit, out);
        table.withdrawn(count);
        return count > 0;
    }
    let (Some((attributes, prefixes)), Some(reach)) = (table.announcements(), reach) else { return false };
    let mut encoded = Vec::new();
    path_attributes(attributes, reach, local_asn, negotiated).encode(negotiated.four_octet_as, &mut encoded);
    let count = encode_announcement(family, reach.carriage(), &encoded, prefixes, limit, out);
    table.announced(count);
    count > 0
}

/// The attributes of a route as this peer gets them (RFC 4271 §5.1).
fn path_attributes(
    attributes: &Attributes,
    reach: Reach,
    local_asn: u32,
    negotiated: &Negotiated,
) -> PathAttributes {
    let ebgp = negotiated.ebgp;
    PathAttributes {
        origin: Some(attributes.origin),
        as_path: Some(if ebgp { AsPath::originated_by(local_asn) } else { AsPath::default() }),
        next_hop: match reach {
            Reach::Classic(next_hop) => Some(next_hop),
            Reach::MultiProtocol(_) => None,
        },
        med: attributes.med,
        local_pref: (!ebgp).then(|| attributes.local_pref.unwrap_or(DEFAULT_LOCAL_PREF)),
        communities: attributes.communities.iter().copied().collect(),
        large_communities: attributes.large_communities.iter().copied().collect(),
        ..PathAttributes::default()
    }
}
