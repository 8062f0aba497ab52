//! Nodes with a second network, which only some of them have: each address there is answered by a node that
//! has the interface. The mesh uses the first network.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use fairlead_e2e::{LbService, SECOND, SOON, Shared, VERSION, configure};
use fairlead_lab::netns::Netns;
use fairlead_lab::{Lab, Mac, ensure, wait_for};
use serde_json::{Value, json};

static LAB: Shared = Shared::new(Lab::builder, configure_second_network);

/// The nodes of the second network, and the Ethernet address of each there.
const NODES: [(&str, &str); 2] = [("n1", "02:00:00:00:02:01"), ("n2", "02:00:00:00:02:02")];
/// The node that is not on it.
const OTHER: &str = "n3";
/// The bridge on n2 that holds the addresses of the second network.
const NODE_BRIDGE: &str = "lan2";

/// Longest time until another node answers for an address whose interface lost its carrier. It takes some
/// milliseconds. The kernel reports the carrier of a bridge up to a second late.
const BUDGET: Duration = Duration::from_millis(500);

const CONFIG: &str = "
apiVersion: fairlead.dev/v1beta1
kind: IPAddressPool
metadata: { name: second }
spec:
  autoAssign: false
  addresses: [198.18.0.200-198.18.0.250, '2001:db8:18::200-2001:db8:18::2ff']
---
apiVersion: fairlead.dev/v1beta1
kind: L2Advertisement
metadata: { name: second }
spec: { ipAddressPools: [second], interfaces: [eth1, lan2] }
";

/// Adds the second network: a bridge, the client and two nodes. On n2, the interface is a bridge with eth1 as
/// its port.
fn configure_second_network(lab: &Lab) -> Result<()> {
    configure(lab)?;
    let client = &lab.network().client;
    let mut lines = "link add name br1 type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n".to_owned();
    let mut plug = |port: &str, netns: &Netns, mac: &str| {
        lines += &format!(
            "link add name {port} type veth peer name eth1 address {mac} netns {}\n\
             link set {port} master br1 up\n",
            netns.name()
        );
    };
    plug("client-2", client, "02:00:00:00:02:64");
    for (name, mac) in NODES {
        plug(&port(name), node_netns(lab, name)?, mac);
    }
    ip(&lab.network().lan, &(lines + "link set br1 up\n"))?;
    ip(client, &interface("eth1", 100))?;
    // An entry is asked for again after 50 ms instead of a second.
    for family in ["ipv4", "ipv6"] {
        client.sysctl(&[(&format!("net/{family}/neigh/eth1/retrans_time_ms"), "50")])?;
    }
    ip(node_netns(lab, "n1")?, &interface("eth1", 11))?;
    let bridge = format!(
        "link add name {NODE_BRIDGE} address {} type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n\
         link set eth1 master {NODE_BRIDGE} up\n{}",
        NODES[1].1,
        interface(NODE_BRIDGE, 12)
    );
    ip(node_netns(lab, "n2")?, &bridge)?;
    lab.api()?.apply(CONFIG).map(drop)
}

fn port(node: &str) -> String {
    format!("{node}-2")
}

fn interface(name: &str, host: u8) -> String {
    format!(
        "link set {name} up\naddr add 198.18.0.{host}/24 dev {name}\n\
         addr add 2001:db8:18::{host}/64 dev {name} nodad\n"
    )
}

fn node_netns<'a>(lab: &'a Lab, node: &str) -> Result<&'a Netns> {
    let network = lab.network().nodes.iter().find(|network| network.name == node);
    Ok(&network.context("no such node")?.netns)
}

fn ip(netns: &Netns, lines: &str) -> Result<()> {
    netns.feed(Command::new("ip").args(["-batch", "-"]), lines).map(drop)
}

/// Returns the node that answers for an address on the second network.
fn owner(lab: &Lab, ip: IpAddr) -> Result<&'static str> {
    let mac = lab.client().resolve(ip)?.with_context(|| format!("no host answers for {ip}"))?;
    let node = NODES.iter().find(|(_, own)| Mac::parse(own) == Some(mac));
    node.map(|(name, _)| *name).with_context(|| format!("{ip} is at {mac}, which is no node's"))
}

fn expect_owner(lab: &Lab, ip: IpAddr, node: &str, limit: Duration) -> Duration {
    let start = Instant::now();
    wait_for(format!("{ip} at {node}"), limit, || {
        let seen = owner(lab, ip)?;
        ensure(seen == node, seen).map_err(|seen| anyhow!("at {seen}"))
    })
    .unwrap();
    start.elapsed()
}

/// Dual-stack Services, and the owners of their addresses.
fn services(lab: &Lab, name: &str, count: usize) -> (Vec<LbService>, BTreeMap<IpAddr, &'static str>) {
    let services: Vec<_> = (0..count).map(|n| LbService::new(&format!("{name}-{n}"), "second")).collect();
    for service in &services {
        service.apply(lab).unwrap();
    }
    let ips: Vec<IpAddr> = services.iter().flat_map(|service| addresses(lab, service)).collect();
    let seen = || ips.iter().map(|ip| Ok((*ip, owner(lab, *ip)?))).collect::<Result<BTreeMap<_, _>>>();
    // The interfaces come up one after the other, and a node that hands an address over answers for a while.
    let owners = wait_for("owners that stay", SOON, || {
        let first = seen()?;
        std::thread::sleep(SECOND / 2);
        let second = seen()?;
        if first == second { Ok(first) } else { Err(anyhow!("{first:?}, then {second:?}")) }
    })
    .unwrap();
    (services, owners)
}

fn addresses(lab: &Lab, service: &LbService) -> Vec<IpAddr> {
    wait_for(format!("the addresses of {}", service.name()), SOON, || {
        let object = lab.api()?.get("v1", "Service", Some(service.namespace()), service.name())?;
        let ingress = object.pointer("/status/loadBalancer/ingress").and_then(Value::as_array);
        let ips = ingress.into_iter().flatten().filter_map(|entry| entry["ip"].as_str()?.parse().ok());
        let ips: Vec<IpAddr> = ips.collect();
        if ips.len() == 2 { Ok(ips) } else { Err(anyhow!("{ips:?}")) }
    })
    .unwrap()
}

fn delete(lab: &Lab, services: &[LbService]) {
    services.iter().for_each(|service| service.delete(lab).unwrap());
}

/// Returns an address of each family of a node.
fn of_node(owners: &BTreeMap<IpAddr, &'static str>, node: &str) -> [IpAddr; 2] {
    [true, false].map(|v4| {
        let found = owners.iter().find(|(ip, owner)| ip.is_ipv4() == v4 && **owner == node);
        *found.unwrap_or_else(|| panic!("{node} owns an address of each family: {owners:?}")).0
    })
}

#[test]
fn every_address_is_answered_by_a_node_with_the_interface() {
    let lab = LAB.turn();
    let (services, owners) = services(&lab, "listed", 8);
    let nodes: BTreeSet<&str> = owners.values().copied().collect();
    assert_eq!((owners.len(), nodes.len()), (16, NODES.len()), "{owners:?}");
    // The election did not choose the node without the interface, which has nothing to report.
    wait_for("a Speaker without problems", SOON, || {
        let speaker = lab.api()?.get(VERSION, "Speaker", None, OTHER)?;
        let count = speaker.pointer("/status/notAnnouncedCount").cloned().unwrap_or(json!(0));
        ensure(count == json!(0), count).map_err(|count| anyhow!("{count} problems"))
    })
    .unwrap();
    delete(&lab, &services);
}

#[test]
fn carrier_lost_on_the_second_network_moves_its_addresses() {
    let lab = LAB.turn();
    let (services, owners) = services(&lab, "carrier", 8);
    for (cut, other) in [("n1", "n2"), ("n2", "n1")] {
        for ip_address in of_node(&owners, cut) {
            ip(&lab.network().lan, &format!("link set {} down\n", port(cut))).unwrap();
            let time = expect_owner(&lab, ip_address, other, BUDGET);
            eprintln!("{ip_address} of {cut}: answered by {other} after {time:?}");
            ip(&lab.network().lan, &format!("link set {} up\n", port(cut))).unwrap();
            expect_owner(&lab, ip_address, cut, SOON);
        }
    }
    delete(&lab, &services);
}

#[test]
fn interface_without_ipv6_moves_only_addresses_of_ipv6() {
    let lab = LAB.turn();
    let (services, owners) = services(&lab, "family", 8);
    let [v4, v6] = of_node(&owners, "n1");
    let netns = node_netns(&lab, "n1").unwrap();
    netns.sysctl(&[("net/ipv6/conf/eth1/disable_ipv6", "1")]).unwrap();
    expect_owner(&lab, v6, "n2", BUDGET);
    expect_owner(&lab, v4, "n1", BUDGET);
    netns.sysctl(&[("net/ipv6/conf/eth1/disable_ipv6", "0")]).unwrap();
    expect_owner(&lab, v6, "n1", SOON);
    delete(&lab, &services);
}
