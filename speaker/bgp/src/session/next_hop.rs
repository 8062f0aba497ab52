//! The next hop of the routes that a peer receives (RFC 4271 §5.1.3, RFC 2545 §3, RFC 8950 §3).

use std::net::Ipv4Addr;

use super::event::Negotiated;
use crate::message::attribute::MpNextHop;
use crate::message::update::NlriEncoding;
use crate::{Family, NextHops};

/// The next hop of the routes of a family, and with it the encoding of their prefixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RouteNextHop {
    /// NEXT_HOP attribute; prefixes are in the NLRI field (RFC 4271 §4.3).
    Classic(Ipv4Addr),
    /// Next hop and prefixes are in MP_REACH_NLRI (RFC 4760 §3).
    MultiProtocol(MpNextHop),
}

impl RouteNextHop {
    /// Returns the next hop to send with the routes of a family, or `None` if the node has none that the peer
    /// accepts.
    pub(super) fn select(family: Family, next_hops: NextHops, negotiated: &Negotiated) -> Option<Self> {
        let v6 = match (next_hops.v6, next_hops.link_local) {
            (Some(global), Some(link_local)) => Some(MpNextHop::V6WithLinkLocal(global, link_local)),
            (Some(global), None) => Some(MpNextHop::V6(global)),
            // RFC 2545 §3 defines no form without a global address. Routers send and accept the link-local
            // address in both places.
            (None, Some(link_local)) => Some(MpNextHop::V6WithLinkLocal(link_local, link_local)),
            (None, None) => None,
        };
        let prefer_v6 = next_hops.over_link_local && negotiated.extended_next_hop;
        match (family, next_hops.v4.filter(|_| !prefer_v6 || v6.is_none())) {
            (Family::Ipv4Unicast, Some(v4)) => Some(Self::Classic(v4)),
            (Family::Ipv4Unicast, None) if !negotiated.extended_next_hop => None,
            _ => v6.map(Self::MultiProtocol),
        }
    }

    pub(super) const fn encoding(self) -> NlriEncoding {
        match self {
            Self::Classic(_) => NlriEncoding::Classic,
            Self::MultiProtocol(next_hop) => NlriEncoding::MultiProtocol(next_hop),
        }
    }
}
