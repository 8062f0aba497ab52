//! Sessions between link-local addresses: IPv4 routes with IPv6 next hops (RFC 8950), kept over a restart.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv6Addr};

use anyhow::{Result, ensure};
use fairlead_e2e::{SECOND, SOON};
use fairlead_lab::peers::{ExaBgp, Host, Path};
use fairlead_lab::{LAN_INTERFACE, wait_for};
use serde_json::json;

use crate::endings::is_end_of_rib;
use crate::setup::{PEERS, Setup, node_link_locals, turn};
use crate::tables::expect_all;

const OPEN: u8 = 1;
/// The BGPPeers of this test.
const LINK_LOCAL: [&str; 3] = ["ll-bird", "ll-gobgp", "ll-exabgp"];

/// Starts ExaBGP, which accepts sessions of the nodes at its link-local address.
fn exabgp(setup: &Setup, host: &Host) -> ExaBgp {
    let local = host.netns().link_local(LAN_INTERFACE).unwrap();
    let mut config =
        "process journal {\n run /bin/sh -c \"cat >>/var/log/exabgp.json\";\n encoder json;\n}\n".to_owned();
    for node in node_link_locals(&setup.lab).unwrap() {
        let _ = write!(
            config,
            "neighbor {node} {{\n router-id 192.0.2.3;\n local-address {local};\n local-as 64701;\n \
             peer-as 64513;\n passive true;\n capability {{ nexthop enable; graceful-restart 60; }}\n \
             nexthop {{ ipv4 unicast ipv6; }}\n family {{ ipv4 unicast; ipv6 unicast; }}\n api {{\n  \
             processes [ journal ];\n  neighbor-changes;\n  \
             receive {{ packets; parsed; open; update; notification; }}\n }}\n}}\n"
        );
    }
    ExaBgp::start_file(host, &config).unwrap()
}

fn apply(setup: &Setup, name: &str, asn: u32, address: Ipv6Addr) {
    let object = json!({
        "apiVersion": "fairlead.dev/v1beta1", "kind": "BGPPeer", "metadata": { "name": name },
        "spec": {
            "myASN": 64513, "peerASN": asn, "peerAddress": address, "interface": LAN_INTERFACE,
            "dualStackAddressFamily": true, "connectTime": "1s", "enableGracefulRestart": true,
        },
    });
    setup.lab.api().unwrap().apply_object(object).unwrap();
}

/// Returns the IPv4 prefixes of paths with an IPv6 next hop, and the last segment of the next hop.
fn over_ipv6(paths: BTreeSet<Path>) -> BTreeSet<String> {
    let paths = paths.into_iter().filter(|path| path.prefix.addr().is_ipv4() && path.next_hop.is_ipv6());
    paths.map(|path| format!("{} via {}", path.prefix, path.next_hop)).collect()
}

/// Returns the IPv4 routes that nodes announce over sessions between link-local addresses. The next hop is
/// the global address, which the LAN interface has.
fn expected(nodes: &[&str]) -> BTreeSet<String> {
    let routes = nodes.iter().map(|node| format!("198.51.100.10/32 via 2001:db8:1::{node}"));
    let local = nodes.iter().filter(|node| **node == "11");
    routes.chain(local.map(|node| format!("198.51.100.20/32 via 2001:db8:1::{node}"))).collect()
}

fn expect(router: &str, paths: impl Fn() -> Result<BTreeSet<Path>>, nodes: &[&str]) {
    wait_for(format!("IPv4 routes over IPv6 of {nodes:?} in {router}"), SOON, || {
        let seen = over_ipv6(paths()?);
        ensure!(seen == expected(nodes), "{seen:#?}");
        Ok(())
    })
    .unwrap();
}

#[test]
fn link_local_sessions_carry_ipv4_routes_and_survive_a_restart() {
    let setup = turn();
    let host = Host::plug(&setup.lab, "exabgp-ll", 3).unwrap();
    let exabgp = exabgp(&setup, &host);
    let recording = setup.lab.record_bgp_of("n2").unwrap();
    let of = |process: &fairlead_lab::Process| {
        let name = process.name();
        format!("{}-{name}", setup.lab.id())
    };
    let address =
        |name: &str| fairlead_lab::netns::Netns::open(name).unwrap().link_local(LAN_INTERFACE).unwrap();
    apply(&setup, LINK_LOCAL[0], 4_200_000_005, address(&of(setup.bird.process())));
    apply(&setup, LINK_LOCAL[1], 64600, address(&of(setup.gobgp.process())));
    apply(&setup, LINK_LOCAL[2], 64701, host.netns().link_local(LAN_INTERFACE).unwrap());
    setup.expect_sessions(&LINK_LOCAL).unwrap();
    for name in LINK_LOCAL {
        let offered = setup.session("n2", name).unwrap()["negotiated"]["capabilities"].to_string();
        assert!(offered.contains("extended next hop") && offered.contains("graceful restart"), "{offered}");
    }
    let all = ["11", "12"];
    expect("BIRD", || setup.bird.paths(), &all);
    expect("GoBGP", || setup.gobgp.paths(), &all);
    expect("ExaBGP", || exabgp.paths(), &all);

    // BIRD and GoBGP keep the routes of a speaker that is gone. ExaBGP has no table.
    let n2 = IpAddr::from(node_link_locals(&setup.lab).unwrap()[1]);
    let before = exabgp.messages(n2).unwrap().len();
    let speaker = setup.lab.node("n2").unwrap().speaker().unwrap();
    speaker.kill().unwrap();
    expect_all_but_link_local(&setup, &["11"]);
    expect("BIRD", || setup.bird.paths(), &all);
    expect("GoBGP", || setup.gobgp.paths(), &all);
    expect("ExaBGP", || exabgp.paths(), &["11"]);
    speaker.spawn_again().unwrap();
    setup.expect_sessions(&LINK_LOCAL).unwrap();
    expect("BIRD", || setup.bird.paths(), &all);
    expect("GoBGP", || setup.gobgp.paths(), &all);
    expect("ExaBGP", || exabgp.paths(), &all);
    // The new session begins with an OPEN and ends the graceful restart with an End-of-RIB of each family.
    wait_for("the End-of-RIB markers", SOON, || {
        let said = exabgp.messages(n2)?.split_off(before);
        let opens = said.iter().filter(|(kind, _)| *kind == OPEN).count();
        let markers = said.iter().filter(|(_, body)| is_end_of_rib(body)).count();
        ensure!((opens, markers) == (1, 2), "{said:?}");
        Ok(())
    })
    .unwrap();
    assert_eq!(recording.suspicious().unwrap(), Vec::<String>::new());

    for name in LINK_LOCAL {
        let peer =
            json!({ "apiVersion": "fairlead.dev/v1beta1", "kind": "BGPPeer", "metadata": { "name": name } });
        setup.lab.api().unwrap().delete(&peer.to_string()).unwrap();
    }
    exabgp.process().terminate(5 * SECOND).unwrap();
    // GoBGP 3.10 keeps the routes of n2 as stale ones until the restart time is over, although the session
    // ended with a Cease.
    setup.gobgp.process().restart().unwrap();
    setup.expect_sessions(&PEERS).unwrap();
    expect_all(&setup, &all);
}

/// Waits until the routers have the IPv4 routes of these nodes only, except over sessions between link-local
/// addresses.
fn expect_all_but_link_local(setup: &Setup, nodes: &[&str]) {
    wait_for(format!("the routes of {nodes:?} in GoBGP"), SOON, || {
        let paths = setup.gobgp.paths()?;
        let hops: BTreeSet<IpAddr> = paths.iter().map(|path| path.next_hop).filter(IpAddr::is_ipv4).collect();
        let expected = nodes.iter().map(|node| format!("192.0.2.{node}").parse().unwrap()).collect();
        ensure!(hops == expected, "{hops:?}");
        Ok(())
    })
    .unwrap();
}
