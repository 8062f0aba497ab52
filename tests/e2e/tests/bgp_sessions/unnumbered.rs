//! Sessions between link-local addresses: unnumbered, and with the address of the router.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use fairlead_e2e::{LbService, PORT, SECOND, SOON, VERSION, nodes};
use fairlead_lab::{Lab, Transport, wait_for};
use serde_json::{Value, json};

use crate::setup::{LAB, expect_error, peer, session};

/// Ends of the cable between the router and n1.
const ROUTER_END: &str = "swp1";
const NODE_END: &str = "uplink";

/// A cable between the router and n1 without IPv4 and global addresses. Dropping it removes it, and with it
/// the neighbor of FRR.
struct Cable<'a> {
    lab: &'a Lab,
    neighbor: String,
}

impl<'a> Cable<'a> {
    /// Plugs the cable, with an FRR neighbor `name` on it. `options` are further lines for it.
    fn plug(lab: &'a Lab, name: &str, remote_as: &str, options: &[&str]) -> Self {
        let node = lab.network().nodes[0].netns.name();
        ip(lab, &format!("link add {ROUTER_END} type veth peer name {NODE_END} netns {node}")).unwrap();
        let up = ["link", "set", NODE_END, "up"];
        lab.network().nodes[0].netns.output(Command::new("ip").args(up)).unwrap();
        ip(lab, &format!("link set {ROUTER_END} up")).unwrap();
        let neighbor = format!("neighbor {name}");
        let mut lines = vec!["router bgp 64512".to_owned(), format!("{neighbor} {remote_as}")];
        lines.extend(options.iter().map(|option| format!("{neighbor} {option}")));
        for family in ["ipv4", "ipv6"] {
            lines.push(format!("address-family {family} unicast"));
            lines.extend([format!("{neighbor} activate"), "exit-address-family".to_owned()]);
        }
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        lab.router().configure(&lines).unwrap();
        Self { lab, neighbor }
    }
}

impl Drop for Cable<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let removed = self.lab.router().configure(&["router bgp 64512", &format!("no {}", self.neighbor)]);
        removed.and_then(|_| ip(self.lab, &format!("link del {ROUTER_END}"))).unwrap();
    }
}

/// Runs `ip` in the namespace of the router.
fn ip(lab: &Lab, arguments: &str) -> Result<String> {
    lab.network().router.output(Command::new("ip").args(arguments.split(' ')))
}

/// Waits until the session is established with this address of the router.
fn expect_session_at(lab: &Lab, name: &str, router: Ipv6Addr) {
    wait_for(format!("a session with {router}"), 2 * SOON, || {
        let session = session(lab, "n1", name)?;
        let address = session["address"].as_str().unwrap_or_default();
        ensure!(session["state"] == "Established", "{session}");
        ensure!(address == format!("{router}%{NODE_END}"), "{session}");
        Ok(())
    })
    .unwrap();
}

/// Waits until BFD between `fe80::11` and the router is Up on both sides.
fn expect_bfd(lab: &Lab, name: &str) {
    wait_for("BFD between link-local addresses", SOON, || {
        let bfd = session(lab, "n1", name)?["bfd"].clone();
        let shown = (&bfd["state"], &bfd["hopMode"], &bfd["localAddress"]);
        ensure!(shown == (&json!("Up"), &json!("SingleHop"), &json!("fe80::11")), "{bfd}");
        let peers = lab.router().json("show bfd peers json")?;
        let mut peers = peers.as_array().into_iter().flatten();
        let up = peers.any(|peer| peer["peer"] == "fe80::11" && peer["status"] == "up");
        ensure!(up, "the router has no session that is up");
        Ok(())
    })
    .unwrap();
}

/// Returns the gateways and devices of the routes to an address in the kernel of the router.
fn kernel_routes(lab: &Lab, ip: IpAddr) -> Result<String> {
    let family = if ip.is_ipv4() { "-4" } else { "-6" };
    lab.network().router.output(Command::new("ip").args([
        family,
        "route",
        "show",
        "proto",
        "bgp",
        &ip.to_string(),
    ]))
}

/// Waits until the router forwards to an address only over the cable, and a client reaches it.
fn expect_route(lab: &Lab, to: IpAddr, next_hop: Ipv6Addr) {
    wait_for(format!("{to} via {next_hop}"), SOON, || {
        let routes = kernel_routes(lab, to)?;
        ensure!(routes.contains(&next_hop.to_string()) && routes.contains(ROUTER_END), "{routes}");
        ensure!(routes.matches("via").count() == 1, "{routes}");
        Ok(())
    })
    .unwrap();
    let answer = wait_for(format!("an answer of {to}"), SOON, || {
        lab.remote().ask(SocketAddr::new(to, PORT), Transport::Tcp, 3 * SECOND)
    });
    assert!(nodes(["n1", "n2"]).contains(&answer.unwrap().node));
}

/// Sets whether the sessions over the LAN are shut down.
fn set_lan(lab: &Lab, shutdown: bool) {
    for name in ["router-v4", "router-v6"] {
        let shutdown = if shutdown { json!(true) } else { Value::Null };
        lab.api().unwrap().merge(peer(name), json!({ "spec": { "shutdown": shutdown } })).unwrap();
    }
}

fn apply(lab: &Lab, name: &str, spec: Value) {
    let mut object = json!({ "apiVersion": VERSION, "kind": "BGPPeer", "metadata": { "name": name } });
    object["spec"] = json!({
        "myASN": 64513, "dynamicASN": "external", "interface": NODE_END, "connectTime": "1s",
        "holdTime": "9s", "keepaliveTime": "3s",
        "nodeSelectors": [{ "matchLabels": { "kubernetes.io/hostname": "n1" } }],
    });
    for (field, value) in spec.as_object().unwrap() {
        object["spec"][field] = value.clone();
    }
    lab.api().unwrap().apply_object(object).unwrap();
}

#[test]
fn unnumbered_session_carries_both_families_and_follows_the_router() {
    let lab = LAB.turn();
    let service = LbService::new("unnumbered", "bgp");
    let addresses = service.up(&lab).unwrap();
    set_lan(&lab, true);
    apply(&lab, "unnumbered", json!({}));
    expect_error(&lab, "n1", "unnumbered", &["the node has no interface uplink"], SOON);
    let cable = Cable::plug(&lab, ROUTER_END, "interface remote-as external", &[]);
    let router = &lab.network().router;
    expect_session_at(&lab, "unnumbered", router.link_local(ROUTER_END).unwrap());
    let node = lab.network().nodes[0].netns.link_local(NODE_END).unwrap();
    for address in &addresses {
        expect_route(&lab, *address, node);
    }
    // The router is replaced by one with another MAC address.
    ip(&lab, &format!("link set {ROUTER_END} down")).unwrap();
    // The hold time is 9 s.
    expect_error(&lab, "n1", "unnumbered", &["interface uplink"], Duration::from_secs(5));
    ip(&lab, &format!("link set {ROUTER_END} address 02:00:00:00:77:01")).unwrap();
    ip(&lab, &format!("link set {ROUTER_END} up")).unwrap();
    let second = router.link_local(ROUTER_END).unwrap();
    expect_session_at(&lab, "unnumbered", second);
    for address in &addresses {
        expect_route(&lab, *address, node);
    }
    lab.api().unwrap().delete(&peer("unnumbered").to_string()).unwrap();
    drop(cable);
    set_lan(&lab, false);
    fairlead_e2e::expect_sessions(&lab, 2 * SOON).unwrap();
    service.delete(&lab).unwrap();
}

#[test]
fn link_local_peer_carries_ipv4_routes_with_ipv6_next_hops() {
    let lab = LAB.turn();
    let service = LbService::new("link-local", "bgp");
    let addresses = service.up(&lab).unwrap();
    set_lan(&lab, true);
    let node_netns = &lab.network().nodes[0].netns;
    // FRR needs the address of the node, which the cable has from its beginning.
    let options = ["interface swp1", "capability extended-nexthop", "bfd"];
    let cable = Cable::plug(&lab, "fe80::11", "remote-as 64513", &options);
    node_netns
        .output(Command::new("ip").args(["addr", "add", "fe80::11/64", "dev", NODE_END, "nodad"]))
        .unwrap();
    let router = lab.network().router.link_local(ROUTER_END).unwrap();
    let profile = json!({ "apiVersion": VERSION, "kind": "BFDProfile", "metadata": { "name": "link-local" }, "spec": {} });
    lab.api().unwrap().apply_object(profile.clone()).unwrap();
    let spec = json!({ "peerAddress": router, "sourceAddress": "fe80::11", "dualStackAddressFamily": true,
                       "bfdProfile": "link-local" });
    apply(&lab, "link-local", spec);
    expect_session_at(&lab, "link-local", router);
    expect_bfd(&lab, "link-local");
    for address in &addresses {
        expect_route(&lab, *address, "fe80::11".parse().unwrap());
    }
    lab.api().unwrap().delete(&peer("link-local").to_string()).unwrap();
    lab.api().unwrap().delete(&profile.to_string()).unwrap();
    drop(cable);
    set_lan(&lab, false);
    fairlead_e2e::expect_sessions(&lab, 2 * SOON).unwrap();
    service.delete(&lab).unwrap();
}
