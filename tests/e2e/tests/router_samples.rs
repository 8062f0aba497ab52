//! The configuration files of docs/routers work as they are: each router learns the addresses of Services
//! from every node, and nothing else.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Result, anyhow};
use fairlead_e2e::{LbService, SOON};
use fairlead_lab::peers::{Bird, ExaBgp, GoBgp, Host, Path};
use fairlead_lab::{Family, Lab, ensure, wait_for};
use ipnet::IpNet;

/// An address pool that the routers must not accept.
const FOREIGN: &str = "
apiVersion: fairlead.dev/v1beta1
kind: IPAddressPool
metadata: { name: foreign }
spec: { addresses: [203.0.113.0/28, '2001:db8:113::/64'], autoAssign: false }
---
apiVersion: fairlead.dev/v1beta1
kind: BGPAdvertisement
metadata: { name: foreign }
spec: { ipAddressPools: [foreign] }
";

/// Waits until the router has exactly the addresses of the Service, each from both nodes.
fn expect_routes(lab: &Lab, router: &str, routes: impl Fn() -> Result<BTreeSet<(IpNet, IpAddr)>>) {
    let services =
        ["198.51.100.10/32", "2001:db8:100::10/128"].map(|prefix| prefix.parse::<IpNet>().unwrap());
    let hops = lab.nodes().iter().flat_map(|node| node.addresses());
    let expected: BTreeSet<(IpNet, IpAddr)> = hops
        .flat_map(|hop| services.map(|prefix| (prefix, hop)))
        .filter(|(prefix, hop)| prefix.addr().is_ipv4() == hop.is_ipv4())
        .collect();
    wait_for(format!("{router} to have the routes of every node"), 2 * SOON, || {
        let seen = routes()?;
        let speaker = lab.api()?.get("fairlead.dev/v1beta1", "Speaker", None, "n1")?;
        ensure(seen == expected, seen).map_err(|seen| anyhow!("{seen:?}; {}", speaker["status"]["sessions"]))
    })
    .unwrap();
}

fn pairs(paths: BTreeSet<Path>) -> BTreeSet<(IpNet, IpAddr)> {
    paths.into_iter().map(|path| (path.prefix, path.next_hop)).collect()
}

fn frr_pairs(lab: &Lab) -> Result<BTreeSet<(IpNet, IpAddr)>> {
    let tables = Family::BOTH.map(|family| lab.router().bgp_routes(family));
    let tables = tables.into_iter().collect::<Result<Vec<_>>>()?;
    let routes = tables.into_iter().flatten();
    Ok(routes.flat_map(|(prefix, hops)| hops.into_iter().map(move |hop| (prefix, hop))).collect())
}

#[test]
fn router_samples_accept_only_addresses_of_services() {
    let lab = Lab::builder().nodes(2).start().unwrap();
    let frr = include_str!("../../../docs/routers/frr.conf").lines();
    let lines = ["no router bgp 64512"].into_iter().chain(frr.filter(|line| !line.trim().starts_with('!')));
    lab.router().configure(&lines.collect::<Vec<_>>()).unwrap();
    let host = |name, n| Host::plug(&lab, name, n).unwrap();
    let bird = Bird::start_file(&host("bird", 5), include_str!("../../../docs/routers/bird.conf")).unwrap();
    let gobgp = GoBgp::start(&host("gobgp", 6), include_str!("../../../docs/routers/gobgp.toml")).unwrap();
    let exabgp = include_str!("../../../docs/routers/exabgp.conf");
    let exabgp = ExaBgp::start_file(&host("exabgp", 8), exabgp).unwrap();

    lab.api().unwrap().apply(include_str!("../../../docs/routers/bgppeers.yaml")).unwrap();
    lab.api().unwrap().apply(FOREIGN).unwrap();
    let addresses = "198.51.100.10,2001:db8:100::10";
    let shop = LbService::new("shop", "services").annotation("fairlead.dev/load-balancer-ips", addresses);
    shop.up(&lab).unwrap();
    let foreign = LbService::new("foreign", "foreign").up(&lab).unwrap();

    // ExaBGP has no filter: it records everything.
    expect_routes(&lab, "ExaBGP", || {
        let (foreign, services) =
            pairs(exabgp.paths()?).into_iter().partition(|(prefix, _)| foreign.contains(&prefix.addr()));
        ensure(BTreeSet::len(&foreign) == 4, foreign).map_err(|foreign| anyhow!("{foreign:?}"))?;
        Ok(services)
    });
    expect_routes(&lab, "FRR", || frr_pairs(&lab));
    expect_routes(&lab, "BIRD", || Ok(pairs(bird.paths()?)));
    expect_routes(&lab, "GoBGP", || Ok(pairs(gobgp.paths()?)));
}
