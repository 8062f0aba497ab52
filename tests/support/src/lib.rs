//! Builders of pools, Services, BGP peers and keys, and a [`daemon`], that tests of several crates use.

#![allow(missing_docs, clippy::unwrap_used, reason = "builders for tests")]

pub mod daemon;
#[cfg(feature = "links")]
pub mod links;
pub mod metrics;
pub mod odd;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use fairlead_crds::model::config::{
    AnnounceWhen, BgpAdvertisement, Labels, Peer, PeerAddress, PeerAsn, Pool, PoolSelection, Reclaim,
    ServiceAllocation,
};
use fairlead_crds::model::range::IpRange;
use fairlead_crds::model::selector::Selector;
use fairlead_crds::model::service::{
    IpFamilyPolicy, LoadBalancer, ObjectKey, Port, Protocol, Requested, TrafficPolicy,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub fn ips(text: &[&str]) -> Vec<IpAddr> {
    text.iter().map(|text| ip(text)).collect()
}

/// Parses `first-last` or one address.
fn range(text: &str) -> IpRange {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    IpRange::new(ip(first), ip(last)).unwrap()
}

pub fn pool(name: &str, ranges: &[&str]) -> Pool {
    Pool {
        // Most tests follow tables of MetalLB, which reassigns addresses after an edit.
        reclaim: Reclaim::Reassign,
        ..Pool::new(name, ranges.iter().map(|text| range(text)).collect())
    }
}

/// Returns the pool with `reclaim: Retain`.
pub fn retaining(pool: Pool) -> Pool {
    Pool { reclaim: Reclaim::Retain, ..pool }
}

/// Returns the value of a refused pool.
pub fn refused(name: &str) -> Pool {
    Pool { auto_assign: false, ..pool(name, &[]) }
}

pub fn pools(pools: impl IntoIterator<Item = Pool>) -> BTreeMap<String, Pool> {
    pools.into_iter().map(|pool| (pool.name.clone(), pool)).collect()
}

/// Returns the pool with a `serviceAllocation` of this priority and these namespaces.
pub fn pinned(mut pool: Pool, priority: u32, namespaces: &[&str]) -> Pool {
    let namespaces = namespaces.iter().map(|n| (*n).to_owned()).collect();
    pool.allocation = Some(ServiceAllocation { priority, namespaces, ..ServiceAllocation::default() });
    pool
}

/// Parses `namespace/name`, or a name in the namespace `default`.
pub fn key(text: &str) -> ObjectKey {
    let (namespace, name) = text.split_once('/').unwrap_or(("default", text));
    ObjectKey { namespace: namespace.into(), name: name.into() }
}

pub fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

/// Returns an IPv4 Service.
pub fn service(name: &str) -> LoadBalancer {
    LoadBalancer {
        key: key(name),
        uid: format!("uid-of-{name}"),
        resource_version: "1".into(),
        created: 0,
        is_deleting: false,
        labels: Labels::new(),
        cluster_ips: ips(&["10.96.0.1"]),
        ip_family_policy: IpFamilyPolicy::SingleStack,
        requested: Requested::default(),
        sharing_key: None,
        ports: Default::default(),
        selector: Default::default(),
        traffic_policy: TrafficPolicy::Cluster,
        ingress: Vec::new(),
        allocated_from: None,
        route_request: None,
    }
}

/// Returns an IPv4 Service with this sharing key and these TCP ports.
pub fn sharing(name: &str, key: &str, ports: &[u16]) -> LoadBalancer {
    let ports: BTreeSet<u16> = ports.iter().copied().collect();
    LoadBalancer {
        sharing_key: Some(key.into()),
        ports: ports.into_iter().map(|number| Port { protocol: Protocol::Tcp, number }).collect(),
        ..service(name)
    }
}

/// Returns an advertisement of all pools by all nodes to all peers, without attributes.
pub fn bgp_advertisement(name: &str) -> BgpAdvertisement {
    BgpAdvertisement {
        name: name.to_owned(),
        pools: PoolSelection::default(),
        node_selectors: Vec::new(),
        service_selectors: Vec::new(),
        peers: BTreeSet::new(),
        aggregation_length: 32,
        aggregation_length_v6: 128,
        local_pref: None,
        created: None,
        med: None,
        as_path_prepend: 0,
        aggregator: false,
        service_attributes: None,
        communities: BTreeSet::new(),
        announce_when: AnnounceWhen::default(),
        reannounce_after: Duration::ZERO,
    }
}

/// Returns an eBGP peer with the default timers and ASNs 64512 (local) and 64513 (remote).
pub fn peer(name: &str, address: &str) -> Peer {
    Peer {
        name: name.to_owned(),
        class: None,
        my_asn: 64512,
        local_asn: None,
        peer_asn: PeerAsn::Number(64513),
        description: String::new(),
        shutdown: None,
        address: PeerAddress::Ip(ip(address)),
        port: 179,
        source_address: None,
        source_interface: None,
        passive: false,
        fast_external_failover: true,
        router_id: None,
        hold_time: Duration::from_secs(90),
        keepalive_time: Duration::from_secs(30),
        connect_time: Duration::from_secs(120),
        node_selectors: Vec::new(),
        password_secret: None,
        tcp_ao: None,
        bfd: None,
        bfd_strict: false,
        ebgp_multi_hop: false,
        ttl_security: None,
        graceful_restart: false,
        graceful_restart_time: Duration::from_secs(120),
        dual_stack_address_family: false,
        vrf: None,
        link_bandwidth: None,
    }
}

/// Returns a selector that matches objects with this label.
pub fn selector(key: &str, value: &str) -> Selector {
    let match_labels = Some(BTreeMap::from([(key.to_owned(), value.to_owned())]));
    Selector::try_from(&LabelSelector { match_labels, match_expressions: None }).unwrap()
}
