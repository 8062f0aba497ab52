//! The next hop of the routes that a peer receives (RFC 4271 §5.1.3, RFC 2545 §3, RFC 8950 §3).

use std::net::Ipv4Addr;

use super::event::Negotiated;
use crate::message::attribute::MpNextHop;
use crate::message::update::NlriEncoding;
use crate::{Family, NextHops};

/// The next hop of a family's routes, with the fields it travels in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RouteNextHop {
    /// NEXT_HOP, with prefixes in the fields of RFC 4271.
    Classic(Ipv4Addr),
    /// MP_REACH_NLRI.
    MultiProtocol(MpNextHop),
}

impl RouteNextHop {
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

    pub(super) const fn encoding(self) -> NlriEncoding {
        match self {
            Self::Classic(_) => NlriEncoding::Classic,
            Self::MultiProtocol(next_hop) => NlriEncoding::MultiProtocol(next_hop),
        }
    }
}
