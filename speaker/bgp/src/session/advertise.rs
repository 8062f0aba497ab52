//! Encoding of UPDATEs from the difference of an Adj-RIB-Out.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::Ipv6Net;

use super::event::Negotiated;
use super::next_hop::RouteNextHop;
use crate::message::as_path::AsPath;
use crate::message::attribute::{MpNextHop, PathAttributes};
use crate::message::update::{NlriEncoding, announcement_length, encode_announcement, encode_withdrawal};
use crate::message::{MAX_EXTENDED_LENGTH, MAX_LENGTH};
use crate::rib::{Announcements, RibTable};
use crate::{Attributes, Community, Family};

/// LOCAL_PREF towards iBGP peers of a route without [`Attributes::local_pref`]. Routers assume 100 by
/// default.
const DEFAULT_LOCAL_PREF: u32 = 100;

/// LOCAL_PREF of routes towards iBGP peers before a planned end of the session: lower than that of any other
/// path (RFC 8326 §4.2).
const GRACEFUL_SHUTDOWN_LOCAL_PREF: u32 = 0;

/// The sender of a route, as its path attributes show it.
#[derive(Clone, Copy, Debug)]
pub(super) struct RouteSender {
    pub(super) asn: u32,
    pub(super) router_id: Ipv4Addr,
    /// True before a planned end of the session: the peer should prefer other paths.
    pub(super) graceful_shutdown: bool,
}

/// How to encode the routes of one family.
#[derive(Clone, Copy, Debug)]
pub(super) struct UpdateEncoder<'a> {
    pub(super) family: Family,
    /// The next hop of the routes. `None` if the node has none that the peer accepts: then the family has
    /// only withdrawals.
    pub(super) next_hop: Option<RouteNextHop>,
    pub(super) sender: RouteSender,
    pub(super) negotiated: &'a Negotiated,
}

impl UpdateEncoder<'_> {
    /// Appends one UPDATE with the next announcements of a queue. Returns whether anything was appended.
    pub(super) fn announce(self, table: &mut RibTable, queue: Announcements, out: &mut Vec<u8>) -> bool {
        let Self { family, next_hop, sender, negotiated } = self;
        let Some(((attributes, prefixes), next_hop)) = table.announcements(queue).zip(next_hop) else {
            return false;
        };
        let mut encoded = Vec::new();
        path_attributes(attributes, next_hop, sender, negotiated.ebgp)
            .encode(negotiated.four_octet_as, &mut encoded);
        let count = encode_announcement(family, next_hop.encoding(), &encoded, prefixes, self.limit(), out);
        table.mark_announced(queue, count);
        count > 0
    }

    /// Appends one UPDATE with the next withdrawals. Returns whether anything was appended.
    pub(super) fn withdraw(self, table: &mut RibTable, out: &mut Vec<u8>) -> bool {
        if table.withdrawals().next().is_none() {
            return false;
        }
        let encoding = match (self.next_hop, self.family) {
            (Some(next_hop), _) => next_hop.encoding(),
            (None, Family::Ipv4Unicast) => NlriEncoding::Classic,
            (None, Family::Ipv6Unicast) => NlriEncoding::MultiProtocol(MpNextHop::V6(Ipv6Addr::UNSPECIFIED)),
        };
        let count = encode_withdrawal(self.family, encoding, table.withdrawals(), self.limit(), out);
        table.mark_withdrawn(count);
        count > 0
    }

    /// Returns the length of the longest message.
    const fn limit(self) -> usize {
        if self.negotiated.extended_messages { MAX_EXTENDED_LENGTH } else { MAX_LENGTH }
    }
}

/// Returns the length of the longest UPDATE that announces one prefix with these attributes: IPv6, with a
/// global and a link-local next hop, and AS numbers of four octets towards a peer that needs AS4_PATH.
pub(crate) fn largest_update(attributes: &Attributes) -> usize {
    let unspecified = Ipv6Addr::UNSPECIFIED;
    let next_hop = RouteNextHop::MultiProtocol(MpNextHop::V6WithLinkLocal(unspecified, unspecified));
    let sender = RouteSender { asn: u32::MAX, router_id: Ipv4Addr::UNSPECIFIED, graceful_shutdown: true };
    let length = |ebgp| {
        let mut encoded = Vec::new();
        path_attributes(attributes, next_hop, sender, ebgp).encode(false, &mut encoded);
        announcement_length(next_hop.encoding(), &encoded, &Ipv6Net::from(unspecified).into())
    };
    length(true).max(length(false))
}

/// Returns the path attributes that the peer receives for a route (RFC 4271 §5.1).
fn path_attributes(
    attributes: &Attributes,
    next_hop: RouteNextHop,
    sender: RouteSender,
    ebgp: bool,
) -> PathAttributes {
    // RFC 4271 §5.1.2: an originated route has our AS as its path towards eBGP peers, an empty path towards
    // iBGP peers. §5.1.5: LOCAL_PREF is mandatory towards iBGP peers and must not be sent to eBGP peers.
    let prepend = attributes.as_path_prepend.min(Attributes::MAX_PREPEND);
    let as_path = || AsPath::originated_with_prepend(sender.asn, prepend);
    let local_pref = match sender.graceful_shutdown {
        true => GRACEFUL_SHUTDOWN_LOCAL_PREF,
        false => attributes.local_pref.unwrap_or(DEFAULT_LOCAL_PREF),
    };
    let mut communities = attributes.communities.clone();
    if sender.graceful_shutdown {
        communities.insert(Community::GRACEFUL_SHUTDOWN);
    }
    PathAttributes {
        origin: Some(attributes.origin),
        as_path: Some(if ebgp { as_path() } else { AsPath::default() }),
        next_hop: match next_hop {
            RouteNextHop::Classic(next_hop) => Some(next_hop),
            RouteNextHop::MultiProtocol(_) => None,
        },
        med: attributes.med,
        local_pref: (!ebgp).then_some(local_pref),
        aggregator: attributes.aggregator.then_some((sender.asn, sender.router_id)),
        communities: communities.into_iter().collect(),
        extended_communities: attributes.extended_communities.iter().copied().collect(),
        large_communities: attributes.large_communities.iter().copied().collect(),
        ..PathAttributes::default()
    }
}
