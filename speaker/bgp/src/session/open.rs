//! The two OPENs: what ours says, and what follows from the peer's.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use super::event::Negotiated;
use crate::message::MessageError;
use crate::message::as_path::AS_TRANS;
use crate::message::capability::{Capability, GracefulRestart};
use crate::message::notification::code;
use crate::message::open::Open;
use crate::{Family, PeerAs, SessionConfig};

/// IPv4 unicast routes with IPv6 next hops (RFC 8950 §4): AFI 1, SAFI 1, next hop AFI 2.
const IPV4_OVER_IPV6: (u16, u16, u16) = (1, 1, 2);

/// Our OPEN. `restarting` sets the Restart State bit (RFC 4724 §3): this process has not had this session up yet.
pub(super) fn ours(config: &SessionConfig, remote: IpAddr, restarting: bool) -> Open {
    let mut capabilities: Vec<_> = config.families.iter().copied().map(Capability::multi_protocol).collect();
    capabilities.push(Capability::RouteRefresh);
    if offers_extended_next_hop(config, remote) {
        capabilities.push(Capability::ExtendedNextHop(vec![IPV4_OVER_IPV6]));
    }
    capabilities.push(Capability::ExtendedMessage);
    if let Some(time) = config.graceful_restart {
        // The data path of a node is the kernel's; it goes on forwarding whether this process runs or not.
        let families = config.families.iter().map(|family| (family.afi(), family.safi(), true)).collect();
        let time = u16::try_from(time.as_secs()).unwrap_or(0x0FFF);
        capabilities.push(Capability::GracefulRestart(GracefulRestart {
            restarting,
            notification: false,
            time,
            families,
        }));
    }
    capabilities.push(Capability::FourOctetAs(config.local_asn));
    Open {
        my_as: u16::try_from(config.local_asn).unwrap_or(AS_TRANS),
        hold_time: u16::try_from(config.hold_time.as_secs()).unwrap_or(u16::MAX),
        router_id: config.router_id,
        capabilities,
    }
}

/// Checks the peer's OPEN (RFC 4271 §6.2) and settles the session's parameters.
pub(super) fn negotiate(
    config: &SessionConfig,
    remote: IpAddr,
    open: &Open,
) -> Result<Negotiated, MessageError> {
    let error = |subcode, data: Vec<u8>, detail: String| MessageError::new(code::OPEN, subcode, data, detail);
    let peer_asn = open.asn();
    let wrong_as = match config.peer_asn {
        _ if peer_asn == 0 => Some("any but 0 (RFC 7607)".to_owned()),
        PeerAs::Exactly(asn) if peer_asn != asn => Some(format!("AS {asn}")),
        PeerAs::Internal if peer_asn != config.local_asn => Some(format!("our own, AS {}", config.local_asn)),
        PeerAs::External if peer_asn == config.local_asn => Some("any but our own".to_owned()),
        _ => None,
    };
    if let Some(expected) = wrong_as {
        return Err(error(2, vec![], format!("the peer is AS {peer_asn}, expected is {expected}")));
    }
    let ebgp = peer_asn != config.local_asn;
    // RFC 6286 §2.2: not zero, and within an AS not ours.
    if open.router_id.is_unspecified() || (!ebgp && open.router_id == config.router_id) {
        return Err(error(3, vec![], format!("the peer's router ID is {}", open.router_id)));
    }
    if matches!(open.hold_time, 1 | 2) {
        return Err(error(6, vec![], format!("the peer's hold time is {} s", open.hold_time)));
    }
    let families: BTreeSet<_> = peer_families(open).intersection(&config.families).copied().collect();
    if families.is_empty() {
        // RFC 5492 §5: the data lists the capabilities that are missed.
        let wanted = config.families.iter().flat_map(|family| {
            let [a, b] = family.afi().to_be_bytes();
            [1, 4, a, b, 0, family.safi()]
        });
        return Err(error(7, wanted.collect(), "the peer carries none of our address families".to_owned()));
    }

    let hold_time = Duration::from_secs(config.hold_time.as_secs().min(open.hold_time.into()));
    let keepalive_time = match config.keepalive_time {
        _ if hold_time.is_zero() => Duration::ZERO,
        Some(wanted) => wanted.clamp(Duration::from_secs(1), hold_time / 3),
        None => hold_time / 3,
    };
    let peer_extended_next_hop = open.capabilities.iter().any(
        |capability| matches!(capability, Capability::ExtendedNextHop(hops) if hops.contains(&IPV4_OVER_IPV6)),
    );
    Ok(Negotiated {
        peer_asn,
        peer_router_id: open.router_id,
        ebgp,
        hold_time,
        keepalive_time,
        families,
        four_octet_as: open.four_octet_asn().is_some(),
        extended_messages: open.capabilities.contains(&Capability::ExtendedMessage),
        extended_next_hop: peer_extended_next_hop && offers_extended_next_hop(config, remote),
        route_refresh: open.capabilities.contains(&Capability::RouteRefresh),
        graceful_restart: open.capabilities.iter().find_map(|capability| match capability {
            Capability::GracefulRestart(restart) => Some(Duration::from_secs(restart.time.into())),
            _ => None,
        }),
    })
}

/// Families of the peer's capabilities; IPv4 unicast where it names none (RFC 4760 §8 leaves it to RFC 4271).
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

/// Over IPv4 there is always an IPv4 next hop, so only sessions over IPv6 need the capability.
fn offers_extended_next_hop(config: &SessionConfig, remote: IpAddr) -> bool {
    remote.is_ipv6() && config.families.contains(&Family::Ipv4Unicast)
}
