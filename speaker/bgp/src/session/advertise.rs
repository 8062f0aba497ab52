//! Encoding of UPDATEs from the difference of an Adj-RIB-Out.

use std::net::Ipv6Addr;

use super::event::Negotiated;
use super::next_hop::RouteNextHop;
use crate::message::as_path::AsPath;
use crate::message::attribute::{MpNextHop, PathAttributes};
use crate::message::update::{NlriEncoding, encode_announcement, encode_withdrawal};
use crate::rib::RibTable;
use crate::{Attributes, Family};

/// LOCAL_PREF towards iBGP peers of a route without [`Attributes::local_pref`]. Routers assume 100 by
/// default.
const DEFAULT_LOCAL_PREF: u32 = 100;

/// Appends one UPDATE of at most `limit` octets with the next part of the difference of `table`: withdrawals
/// first. Returns whether anything was appended.
pub(super) fn encode_next_update(
    table: &mut RibTable,
    family: Family,
    next_hop: Option<RouteNextHop>,
    local_asn: u32,
    negotiated: &Negotiated,
    limit: usize,
    out: &mut Vec<u8>,
) -> bool {
    if table.withdrawals().next().is_some() {
        let encoding = match (next_hop, family) {
            (Some(next_hop), _) => next_hop.encoding(),
            (None, Family::Ipv4Unicast) => NlriEncoding::Classic,
            (None, Family::Ipv6Unicast) => NlriEncoding::MultiProtocol(MpNextHop::V6(Ipv6Addr::UNSPECIFIED)),
        };
        let count = encode_withdrawal(family, encoding, table.withdrawals(), limit, out);
        table.mark_withdrawn(count);
        return count > 0;
    }
    let (Some((attributes, prefixes)), Some(next_hop)) = (table.announcements(), next_hop) else {
        return false;
    };
    let mut encoded = Vec::new();
    path_attributes(attributes, next_hop, local_asn, negotiated)
        .encode(negotiated.four_octet_as, &mut encoded);
    let count = encode_announcement(family, next_hop.encoding(), &encoded, prefixes, limit, out);
    table.mark_announced(count);
    count > 0
}

/// Returns the path attributes that the peer receives for a route (RFC 4271 §5.1).
fn path_attributes(
    attributes: &Attributes,
    next_hop: RouteNextHop,
    local_asn: u32,
    negotiated: &Negotiated,
) -> PathAttributes {
    let ebgp = negotiated.ebgp;
    // RFC 4271 §5.1.2: an originated route has our AS as its path towards eBGP peers, an empty path towards
    // iBGP peers. §5.1.5: LOCAL_PREF is mandatory towards iBGP peers and must not be sent to eBGP peers.
    PathAttributes {
        origin: Some(attributes.origin),
        as_path: Some(if ebgp { AsPath::originated_by(local_asn) } else { AsPath::default() }),
        next_hop: match next_hop {
            RouteNextHop::Classic(next_hop) => Some(next_hop),
            RouteNextHop::MultiProtocol(_) => None,
        },
        med: attributes.med,
        local_pref: (!ebgp).then(|| attributes.local_pref.unwrap_or(DEFAULT_LOCAL_PREF)),
        communities: attributes.communities.iter().copied().collect(),
        large_communities: attributes.large_communities.iter().copied().collect(),
        ..PathAttributes::default()
    }
}
