//! Addresses that no host on the link can use: assigned, because the controller does not know the link, but
//! not announced there.

use std::net::IpAddr;
use std::process::Command;
use std::time::Duration;

use fairlead_e2e::{LbService, SOON, Scene, VERSION};
use fairlead_lab::{Frame, Lab, Message, Questions, addresses, binaries, wait_for};

use crate::{LAB, asking, lan};

/// Interval of the questions of the LAN client.
const ASKED: Duration = Duration::from_millis(50);

/// Returns what `fairlead explain service` prints.
fn explain(lab: &Lab, service: &LbService) -> String {
    let mut command = Command::new(binaries::find("fairlead").unwrap());
    command.args(["explain", "service", service.name(), "--kubeconfig"]).arg(lab.dir().join("kubeconfig"));
    lab.network().control_plane.output(&mut command).unwrap()
}

/// Waits until the Speaker object of a node lists an address, with this reason for L2. Returns the node.
fn expect_listed(lab: &Lab, ip: IpAddr, reason: &str) -> String {
    wait_for(format!("a Speaker object with {reason} for {ip}"), SOON, || {
        for node in ["n1", "n2"] {
            let object = lab.api()?.get(VERSION, "Speaker", None, node)?;
            let listed = object["status"]["notAnnounced"].as_array().into_iter().flatten();
            let mut of_l2 = listed.filter(|entry| entry["protocol"] != "BGP");
            if of_l2.any(|entry| entry["address"] == ip.to_string() && entry["reason"] == reason) {
                return Ok(node.to_owned());
            }
        }
        Err(anyhow::anyhow!("no Speaker object lists it"))
    })
    .unwrap()
}

#[test]
fn address_that_is_unusable_on_the_link_is_not_announced() {
    let lab = LAB.turn();
    let scene = Scene::new(&lab);
    let gateway = IpAddr::from(addresses::router().v4);
    // The network and broadcast address, the gateway of the nodes, and the subnet-router anycast address.
    let pool = lan("edges", &["192.0.2.0/32", "192.0.2.255/32", "192.0.2.1/32", "2001:db8:1::/128"]);
    scene.pools([&pool]);
    let services = [
        asking("network", "192.0.2.0"),
        asking("gateway", &gateway.to_string()),
        LbService::new("both", "edges")
            .annotation("fairlead.dev/load-balancer-ips", "192.0.2.255,2001:db8:1::"),
    ];
    let ips =
        ["192.0.2.0", "192.0.2.1", "192.0.2.255", "2001:db8:1::"].map(|ip| ip.parse::<IpAddr>().unwrap());
    let questions = ips.map(|ip| (ip, Questions::start(&lab, ip, ASKED).unwrap()));
    scene.serve(&services[0], &["192.0.2.0"], "edges");
    scene.serve(&services[1], &["192.0.2.1"], "edges");
    scene.serve(&services[2], &["192.0.2.255", "2001:db8:1::"], "edges");
    // An address of the same link that can be used is announced meanwhile.
    let usable = lan("usable", &["192.0.2.203/32"]);
    scene.pools([&usable]);
    scene.serve(&asking("usable", "192.0.2.203"), &["192.0.2.203"], "usable");
    lab.wait_for_owner("192.0.2.203".parse().unwrap(), SOON).unwrap();

    for (service, ip) in [(0, ips[0]), (1, ips[1]), (2, ips[2]), (2, ips[3])] {
        let node = expect_listed(&lab, ip, "UnusableOnLink");
        let text = explain(&lab, &services[service]);
        assert!(text.contains(&format!("  {ip} by L2, on {node}: UnusableOnLink: ")), "{text}");
    }
    for (ip, questions) in questions {
        let frames = questions.frames();
        let claims: Vec<&Frame> = frames
            .iter()
            .map(|seen| &seen.frame)
            .filter(|frame| claims(&frame.message, ip) && lab.node_of(frame.source).is_some())
            .collect();
        assert!(claims.is_empty(), "{ip}: {claims:?}");
        let answered = questions.stop().unwrap().answers().count() > 0;
        assert!(answered || ip != gateway, "the router answers for its address");
    }
}

/// Returns true if a speaker sent the message: the kernel of a node, which is a router, answers for the
/// subnet-router anycast address too, without the override flag (RFC 4861 §7.2.7).
fn claims(message: &Message, ip: IpAddr) -> bool {
    message.claims(ip) && !matches!(message, Message::NeighborAdvertisement { overriding: false, .. })
}
