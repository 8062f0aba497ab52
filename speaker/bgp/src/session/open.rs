//! Our OPEN, and the negotiation that follows from the OPEN of the peer.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use super::event::Negotiated;
use crate::message::MessageError;
use crate::message::as_path::AS_TRANS;
use crate::message::capability::{Capability, GracefulRestart};
use crate::message::notification::code;
use crate::message::open::Open;
use crate::{Family, NextHops, Notification, PeerAs, SessionConfig};

/// Largest value of the 12-bit restart time field (RFC 4724 §3).
const MAX_RESTART_TIME: u16 = 0x0FFF;
/// Subcode of an OPEN Message Error (RFC 4271 §6.2).
const UNSUPPORTED_OPTIONAL_PARAMETER: u8 = 4;
/// IPv4 unicast routes with IPv6 next hops (RFC 8950 §4): AFI 1, SAFI 1, next hop AFI 2.
const IPV4_OVER_IPV6: (u16, u16, u16) = (1, 1, 2);

/// Whether our OPEN contains capabilities. A router older than RFC 5492 may answer them with NOTIFICATION
/// 2/4; the session then omits them (RFC 5492 §3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Capabilities {
    #[default]
    Offered,
    Omitted,
}

impl Capabilities {
    /// Returns the mode of the next connection after the peer refused our OPEN with this NOTIFICATION.
    /// Without capabilities only IPv4 unicast can be carried, so a session for IPv6 alone never omits them.
    pub(super) fn after_refusal(self, refusal: &Notification, config: &SessionConfig) -> Self {
        let unsupported = (refusal.code, refusal.subcode) == (code::OPEN, UNSUPPORTED_OPTIONAL_PARAMETER);
        match self {
            Self::Offered if unsupported && config.families.contains(&Family::Ipv4Unicast) => Self::Omitted,
            // The cause was not the capabilities.
            Self::Omitted if refusal.code == code::OPEN => Self::Offered,
            mode => mode,
        }
    }

    /// Returns the mode of the next connection after the peer sent this OPEN: a peer that offers capabilities
    /// may accept ours, for example after an upgrade.
    pub(super) fn after_open(self, open: &Open) -> Self {
        if open.capabilities.is_empty() { self } else { Self::Offered }
    }
}

/// What our OPEN says about routes that the peer may retain (RFC 4724 §3).
#[derive(Clone, Debug)]
pub(super) struct RestartState {
    /// The Restart State bit.
    restarting: bool,
    /// The families with the Forwarding State bit. The peer deletes what it retains of the others at once.
    forwarding: BTreeSet<Family>,
}

impl RestartState {
    /// The forwarding state of a family is preserved if that of the node is, and the node still has a next
    /// hop for the family.
    pub(super) fn new(config: &SessionConfig, next_hops: NextHops, restarting: bool) -> Self {
        let has_v6 = next_hops.v6.is_some() || next_hops.link_local.is_some();
        let has_next_hop = |family: &Family| match family {
            // RFC 8950 permits an IPv6 next hop.
            Family::Ipv4Unicast => next_hops.v4.is_some() || has_v6,
            Family::Ipv6Unicast => has_v6,
        };
        let families = config.families.iter().filter(|_| config.forwarding_preserved).copied();
        Self { restarting, forwarding: families.filter(has_next_hop).collect() }
    }
}

/// Returns our OPEN.
pub(super) fn local_open(
    config: &SessionConfig,
    mode: Capabilities,
    remote: IpAddr,
    restart: RestartState,
) -> Open {
    let capabilities = match mode {
        Capabilities::Offered => local_capabilities(config, remote, restart),
        Capabilities::Omitted => Vec::new(),
    };
    Open {
        // RFC 6793 §4.2.1: AS_TRANS stands for an AS number that needs four octets.
        my_as: u16::try_from(config.local_asn).unwrap_or(AS_TRANS),
        hold_time: u16::try_from(config.hold_time.as_secs()).unwrap_or(u16::MAX),
        router_id: config.router_id,
        capabilities,
    }
}

fn local_capabilities(config: &SessionConfig, remote: IpAddr, restart: RestartState) -> Vec<Capability> {
    let mut capabilities: Vec<_> = config.families.iter().copied().map(Capability::multi_protocol).collect();
    capabilities.extend([Capability::RouteRefresh, Capability::EnhancedRouteRefresh]);
    if offers_extended_next_hop(config, remote) {
        capabilities.push(Capability::ExtendedNextHop(vec![IPV4_OVER_IPV6]));
    }
    capabilities.push(Capability::ExtendedMessage);
    if let Some(time) = config.graceful_restart {
        let forwarding = |family: &Family| (family.afi(), family.safi(), restart.forwarding.contains(family));
        let families = config.families.iter().map(forwarding).collect();
        let time = u16::try_from(time.as_secs()).unwrap_or(MAX_RESTART_TIME);
        capabilities.push(Capability::GracefulRestart(GracefulRestart {
            restarting: restart.restarting,
            notification: true,
            time,
            families,
        }));
    }
    capabilities.push(Capability::FourOctetAs(config.local_asn));
    capabilities
}

/// Checks the OPEN of the peer (RFC 4271 §6.2) and returns the parameters of the session. `mode` is that of
/// our OPEN.
pub(super) fn negotiate(
    config: &SessionConfig,
    mode: Capabilities,
    remote: IpAddr,
    open: &Open,
) -> Result<Negotiated, MessageError> {
    let error = |subcode, data: Vec<u8>, detail: String| MessageError::new(code::OPEN, subcode, data, detail);
    let peer_asn = open.asn();
    let wrong_as = match config.peer_asn {
        // RFC 7607 §2: AS 0 is an error.
        _ if peer_asn == 0 => Some("a nonzero AS number".to_owned()),
        PeerAs::Exactly(asn) if peer_asn != asn => Some(format!("AS {asn}")),
        PeerAs::Internal if peer_asn != config.local_asn => {
            Some(format!("the local AS {}", config.local_asn))
        }
        PeerAs::External if peer_asn == config.local_asn => Some("an AS other than the local AS".to_owned()),
        _ => None,
    };
    if let Some(expected) = wrong_as {
        return Err(error(2, vec![], format!("the peer has AS {peer_asn}; expected {expected}")));
    }
    let ebgp = peer_asn != config.local_asn;
    // RFC 6286 §2.2: the identifier is nonzero, and within one AS it differs from ours.
    if open.router_id.is_unspecified() || (!ebgp && open.router_id == config.router_id) {
        return Err(error(3, vec![], format!("the peer has router ID {}", open.router_id)));
    }
    if matches!(open.hold_time, 1 | 2) {
        return Err(error(6, vec![], format!("the peer offers a hold time of {} s", open.hold_time)));
    }
    let offers = mode == Capabilities::Offered;
    let mut families: BTreeSet<_> = peer_families(open).intersection(&config.families).copied().collect();
    // RFC 4760 §8: both sides must offer a family other than IPv4 unicast.
    families.retain(|family| offers || *family == Family::Ipv4Unicast);
    if families.is_empty() {
        // RFC 5492 §5: the data field lists the capabilities that the peer lacks.
        let wanted = config.families.iter().flat_map(|family| {
            let [a, b] = family.afi().to_be_bytes();
            [1, 4, a, b, 0, family.safi()]
        });
        return Err(error(
            7,
            wanted.collect(),
            "the peer supports none of the configured address families".to_owned(),
        ));
    }

    let hold_time = Duration::from_secs(config.hold_time.as_secs().min(open.hold_time.into()));
    let peer_extended_next_hop = open.capabilities.iter().any(|capability| match capability {
        Capability::ExtendedNextHop(next_hops) => next_hops.contains(&IPV4_OVER_IPV6),
        _ => false,
    });
    // RFC 4724 §3: only the last instance of the capability counts.
    let restart = open.capabilities.iter().rev().find_map(|capability| match capability {
        Capability::GracefulRestart(restart) if offers => Some(restart),
        _ => None,
    });
    let peer_offers = |capability| offers && open.capabilities.contains(&capability);
    let malformed = open.capabilities.iter().filter(|capability| capability.is_malformed());
    Ok(Negotiated {
        peer_asn,
        peer_router_id: open.router_id,
        ebgp,
        hold_time,
        keepalive_time: keepalive_time(config, hold_time),
        families,
        four_octet_as: offers && open.four_octet_asn().is_some(),
        extended_messages: peer_offers(Capability::ExtendedMessage),
        extended_next_hop: offers && peer_extended_next_hop && offers_extended_next_hop(config, remote),
        route_refresh: peer_offers(Capability::RouteRefresh),
        enhanced_route_refresh: peer_offers(Capability::EnhancedRouteRefresh),
        graceful_restart: restart.map(|restart| Duration::from_secs(restart.time.into())),
        graceful_notification: config.graceful_restart.is_some()
            && restart.is_some_and(|restart| restart.notification),
        malformed_capabilities: malformed.map(Capability::code).collect(),
    })
}

/// Returns the time between KEEPALIVEs with this negotiated hold time.
pub(super) fn keepalive_time(config: &SessionConfig, hold_time: Duration) -> Duration {
    match config.keepalive_time {
        _ if hold_time.is_zero() => Duration::ZERO,
        Some(wanted) => wanted.clamp(Duration::from_secs(1), hold_time / 3),
        None => hold_time / 3,
    }
}

/// Returns the families of the multiprotocol capabilities. Without any, the peer speaks RFC 4271 only: IPv4
/// unicast.
fn peer_families(open: &Open) -> BTreeSet<Family> {
    let named = |capability: &Capability| match capability {
        Capability::MultiProtocol { afi, safi } => Some(Family::from_codes(*afi, *safi)),
        _ => None,
    };
    let mut families = open.capabilities.iter().filter_map(named).peekable();
    if families.peek().is_none() {
        return BTreeSet::from([Family::Ipv4Unicast]);
    }
    families.flatten().collect()
}

/// Returns whether to offer IPv4 routes with IPv6 next hops. A session over IPv4 always has an IPv4 next hop.
fn offers_extended_next_hop(config: &SessionConfig, remote: IpAddr) -> bool {
    remote.is_ipv6() && config.families.contains(&Family::Ipv4Unicast)
}
