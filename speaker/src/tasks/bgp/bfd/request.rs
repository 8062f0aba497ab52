//! The BFD session that a peer needs. Contains no I/O.

use std::net::IpAddr;
use std::time::Duration;

use fairlead_bfd::{HopMode, Role, SessionConfig, SessionKey};
use fairlead_crds::model::config::{BfdProfile, Peer};
use fairlead_net::links::Links;

use crate::tasks::bgp::connect::is_internal;
use crate::tasks::bgp::endpoint::Endpoint;

/// A session and its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub key: SessionKey,
    pub config: SessionConfig,
}

/// Returns the session with a peer at `endpoint` from the address `local` of this node.
pub(super) fn request(
    peer: &Peer,
    profile: &BfdProfile,
    local: IpAddr,
    endpoint: &Endpoint,
    links: &Links,
) -> Request {
    let Endpoint { remote, interface, .. } = *endpoint;
    let config = SessionConfig {
        role: if profile.passive_mode { Role::Passive } else { Role::Active },
        desired_min_tx: profile.transmit_interval,
        required_min_rx: profile.receive_interval,
        detect_multiplier: profile.detect_multiplier,
        required_min_echo_rx: Duration::ZERO,
        minimum_ttl: profile.minimum_ttl,
    };
    let hop_mode = match interface {
        Some(_) => HopMode::Single,
        None => hop_mode(peer, local, remote, links),
    };
    Request { key: SessionKey { local, remote, hop_mode, interface }, config }
}

/// Returns the hop mode: multihop for peers with ebgpMultiHop or ttlSecurity above 1, and for iBGP peers that
/// are not on a link of this node.
fn hop_mode(peer: &Peer, local: IpAddr, remote: IpAddr, links: &Links) -> HopMode {
    let on_link = || {
        links
            .holding(local)
            .is_some_and(|link| link.addresses.iter().any(|net| net.addr() == local && net.contains(&remote)))
    };
    let may_be_far = peer.ebgp_multi_hop || peer.ttl_security.is_some_and(|hops| hops > 1);
    if may_be_far || is_internal(peer) && !on_link() { HopMode::Multi } else { HopMode::Single }
}

/// Returns whether the interface of a single-hop session has a carrier. Multihop sessions may change to
/// another interface, and before the interfaces are known, nothing is lost.
pub(super) fn has_carrier(key: &SessionKey, links: &Links) -> bool {
    key.hop_mode == HopMode::Multi
        || links.by_index.is_empty()
        || match key.interface {
            Some(index) => links.by_index.get(&index).is_some_and(|link| link.up),
            None => links.holding(key.local).is_some_and(|link| link.up),
        }
}

#[cfg(test)]
mod tests {
    use fairlead_crds::model::config::PeerAsn;
    use fairlead_net::links::Link;
    use fairlead_test_support::links as support;

    use super::*;

    fn links(up: bool, address: &str) -> Links {
        support::links([Link { up, ..support::link(2, "eth0", &[address]) }])
    }

    fn profile() -> BfdProfile {
        BfdProfile {
            name: "fast".to_owned(),
            receive_interval: Duration::from_millis(100),
            transmit_interval: Duration::from_millis(50),
            echo_interval: Duration::from_millis(50),
            detect_multiplier: 5,
            echo_mode: true,
            passive_mode: true,
            minimum_ttl: 250,
        }
    }

    #[test]
    fn hop_mode_follows_the_kind_of_peer() {
        let links = links(true, "192.0.2.11/24");
        let local: IpAddr = "192.0.2.11".parse().unwrap();
        let (near, far) = ("192.0.2.254".parse().unwrap(), "198.51.100.1".parse().unwrap());
        let peer = |peer_asn, ebgp_multi_hop| Peer {
            peer_asn,
            ebgp_multi_hop,
            ..fairlead_test_support::peer("tor", "192.0.2.254")
        };
        let (ebgp, ibgp) = (PeerAsn::External, PeerAsn::Internal);
        let ttl_security = |hops| Peer { ttl_security: Some(hops), ..peer(ebgp, false) };
        for (name, peer, remote, expected) in [
            ("eBGP", peer(ebgp, false), near, HopMode::Single),
            ("eBGP with ebgpMultiHop on the link", peer(ebgp, true), near, HopMode::Multi),
            ("eBGP with ebgpMultiHop", peer(ebgp, true), far, HopMode::Multi),
            ("eBGP with ttlSecurity of 1", ttl_security(1), near, HopMode::Single),
            ("eBGP with ttlSecurity of 2", ttl_security(2), far, HopMode::Multi),
            ("iBGP on the link", peer(ibgp, false), near, HopMode::Single),
            ("iBGP", peer(ibgp, false), far, HopMode::Multi),
        ] {
            let endpoint = Endpoint { remote, interface: None, source: None };
            let request = request(&peer, &profile(), local, &endpoint, &links);
            assert_eq!(
                request.key,
                SessionKey { local, remote, hop_mode: expected, interface: None },
                "{name}"
            );
        }
    }

    #[test]
    fn parameters_are_those_of_the_profile_without_echo() {
        let links = links(true, "fe80::1/64");
        let peer = fairlead_test_support::peer("tor", "fe80::9");
        let [local, remote] = ["fe80::1", "fe80::9"].map(|address| address.parse().unwrap());
        let endpoint = Endpoint { remote, interface: Some(2), source: None };
        let request = request(&peer, &profile(), local, &endpoint, &links);
        assert_eq!(request.key.interface, Some(2), "a link-local address needs its interface");
        assert_eq!(
            request.config,
            SessionConfig {
                role: Role::Passive,
                desired_min_tx: Duration::from_millis(50),
                required_min_rx: Duration::from_millis(100),
                detect_multiplier: 5,
                required_min_echo_rx: Duration::ZERO,
                minimum_ttl: 250,
            }
        );
    }

    #[test]
    fn carrier_matters_on_a_single_hop() {
        let key = |hop_mode| SessionKey {
            local: "192.0.2.11".parse().unwrap(),
            remote: "192.0.2.254".parse().unwrap(),
            hop_mode,
            interface: None,
        };
        for (name, hop_mode, links, expected) in [
            ("up", HopMode::Single, links(true, "192.0.2.11/24"), true),
            ("no carrier", HopMode::Single, links(false, "192.0.2.11/24"), false),
            ("address deleted", HopMode::Single, links(true, "192.0.2.12/24"), false),
            ("multihop", HopMode::Multi, links(false, "192.0.2.11/24"), true),
            ("not known yet", HopMode::Single, Links::default(), true),
        ] {
            assert_eq!(has_carrier(&key(hop_mode), &links), expected, "{name}");
        }
    }
}
