//! The interface that connects to the router of a session: when it ends the session (`fastExternalFailover`),
//! and when it is there again. Contains no I/O.

use std::fmt;
use std::net::IpAddr;

use fairlead_crds::model::config::Peer;
use fairlead_net::links::{Link, Links};

use super::endpoint::Endpoint;

/// The interface that connects to the router of an established connection on one link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SessionLink {
    index: u32,
    name: String,
    /// The local address of the connection.
    local: IpAddr,
    /// True if the interface was up when the session connected, or later. A session over an interface that
    /// never reports a carrier does not need one.
    was_up: bool,
}

impl SessionLink {
    /// Returns the interface whose carrier the session needs: that of a link-local address, or that of the
    /// local address of an eBGP session with a router on the link. `None` if the session needs none.
    pub(super) fn new(peer: &Peer, endpoint: &Endpoint, local: IpAddr, links: &Links) -> Option<Self> {
        let on_link =
            !peer.is_internal() && !peer.ebgp_multi_hop && peer.ttl_security.is_none_or(|hops| hops == 1);
        // The node may hold the local address on another interface than the one that leads to the router.
        let leads = |link: &&Link| on_link && !link.loopback && link.reaches(endpoint.remote);
        let link = match endpoint.interface {
            Some(index) => links.by_index.get(&index),
            None => links.holding(local).filter(leads),
        }?;
        Some(Self { index: link.index, name: link.name.clone(), local, was_up: link.up })
    }

    /// Handles a change of the interfaces. Returns why the interface cannot carry the session any more;
    /// `None` if it can.
    pub(super) fn update(&mut self, links: &Links) -> Option<SessionLinkFailure> {
        match links.by_index.get(&self.index) {
            // Before the interfaces are listed, nothing is lost.
            None if links.by_index.is_empty() => None,
            None => Some(SessionLinkFailure { name: self.name.clone(), deleted: true }),
            Some(link) if link.up => {
                self.was_up = true;
                None
            }
            Some(_) => self.was_up.then(|| SessionLinkFailure { name: self.name.clone(), deleted: false }),
        }
    }

    /// Returns whether a failed interface can carry a session again. An interface that was deleted and
    /// created again has another index. It must have the local address of the session, or any link-local
    /// address in the place of one.
    pub(super) fn has_returned(&self, links: &Links) -> bool {
        let link = links.named(&self.name).or_else(|| links.by_index.get(&self.index));
        let is_link_local = matches!(self.local, IpAddr::V6(v6) if v6.is_unicast_link_local());
        link.is_some_and(|link| {
            let addressed = if is_link_local { link.link_local().is_some() } else { link.holds(self.local) };
            link.up && addressed
        })
    }
}

/// Why an interface cannot carry a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SessionLinkFailure {
    name: String,
    deleted: bool,
}

impl fmt::Display for SessionLinkFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.deleted { "was deleted" } else { "went down or lost its carrier" };
        write!(f, "interface {} {what} (fastExternalFailover)", self.name)
    }
}

#[cfg(test)]
mod tests {
    use fairlead_crds::model::config::{PeerAddress, PeerAsn};

    use super::super::endpoint::tests::{at, ip, links};
    use super::*;

    #[test]
    fn carrier_matters_to_sessions_on_one_link() {
        let router = Endpoint { remote: ip("192.0.2.254"), interface: None, source: None };
        let elsewhere = Endpoint { remote: ip("198.51.100.254"), ..router };
        let fe80 = Endpoint { remote: ip("fe80::1"), interface: Some(3), source: None };
        let ebgp = at(PeerAddress::Ip(ip("192.0.2.254")));
        let ibgp = Peer { peer_asn: PeerAsn::Internal, ..ebgp.clone() };
        for (name, peer, endpoint, local, expected) in [
            ("eBGP", ebgp.clone(), &router, "192.0.2.11", Some(2)),
            ("router on another link", ebgp.clone(), &elsewhere, "192.0.2.11", None),
            ("multihop", Peer { ebgp_multi_hop: true, ..ebgp.clone() }, &router, "192.0.2.11", None),
            ("one hop", Peer { ttl_security: Some(1), ..ebgp.clone() }, &router, "192.0.2.11", Some(2)),
            ("two hops", Peer { ttl_security: Some(2), ..ebgp.clone() }, &router, "192.0.2.11", None),
            ("loopback", ebgp.clone(), &router, "192.0.2.99", None),
            ("iBGP", ibgp.clone(), &router, "192.0.2.11", None),
            // Two interfaces have the same link-local address.
            ("link-local iBGP", ibgp, &fe80, "fe80::11", Some(3)),
        ] {
            let link = SessionLink::new(&peer, endpoint, ip(local), &links());
            assert_eq!(link.map(|link| link.index), expected, "{name}");
        }
    }

    fn session_link(remote: &str, interface: Option<u32>, local: &str, links: &Links) -> SessionLink {
        let endpoint = Endpoint { remote: ip(remote), interface, source: None };
        SessionLink::new(&at(PeerAddress::Ip(ip(remote))), &endpoint, ip(local), links).unwrap()
    }

    #[test]
    fn failure_is_the_loss_of_carrier_or_interface() {
        let mut link = session_link("192.0.2.254", None, "192.0.2.11", &links());
        let mut failure = |links: &Links| link.update(links).map(|failure| failure.to_string());
        assert_eq!(failure(&links()), None);
        assert_eq!(failure(&Links::default()), None);
        let mut changed = links();
        changed.by_index.get_mut(&2).unwrap().up = false;
        assert!(failure(&changed).unwrap().starts_with("interface eth0 went down"));
        changed.by_index.remove(&2);
        assert!(failure(&changed).unwrap().starts_with("interface eth0 was deleted"));
    }

    #[test]
    fn interface_that_was_never_up_fails_only_after_it_was_up() {
        let with = |up| {
            let mut links = links();
            links.by_index.get_mut(&2).unwrap().up = up;
            links
        };
        let mut link = session_link("192.0.2.254", None, "192.0.2.11", &with(false));
        for (up, fails) in [(false, false), (true, false), (false, true)] {
            assert_eq!(link.update(&with(up)).is_some(), fails);
        }
    }

    #[test]
    fn created_again_interface_returns_with_its_address() {
        let global = session_link("192.0.2.254", None, "192.0.2.11", &links());
        let link_local = session_link("fe80::1", Some(3), "fe80::11", &links());
        // `links` with an interface under another index, and the addresses that remain.
        let created = |index: u32, up: bool, addresses: &str| {
            let mut links = links();
            let mut link = links.by_index.remove(&index).unwrap();
            link.index = 42;
            link.up = up;
            link.addresses = addresses.split_whitespace().map(|address| address.parse().unwrap()).collect();
            links.by_index.insert(42, link);
            links
        };
        let deleted = |index: u32| {
            let mut links = links();
            links.by_index.remove(&index);
            links
        };
        for (name, link, links, expected) in [
            ("same", &global, links(), true),
            ("deleted", &global, deleted(2), false),
            ("created", &global, created(2, true, "192.0.2.11/24"), true),
            ("down", &global, created(2, false, "192.0.2.11/24"), false),
            ("no address yet", &global, created(2, true, "fe80::11/64"), false),
            ("link-local deleted", &link_local, deleted(3), false),
            ("another link-local address", &link_local, created(3, true, "fe80::12/64"), true),
            ("tentative link-local address", &link_local, created(3, true, ""), false),
        ] {
            assert_eq!(link.has_returned(&links), expected, "{name}");
        }
    }
}
