//! An external client reaches a pod: by L2 and by BGP address, IPv4 and IPv6, TCP and UDP, from the LAN and
//! from behind the router.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use fairlead_e2e::{
    LbService, PORT, PodState, Policy, SECOND, SOON, Shared, VERSION, all_nodes, clients, configure,
    expect_next_hops, expect_owner, next_hops, nodes, reach,
};
use fairlead_lab::{Lab, Transport, addresses, ensure, wait_for};
use serde_json::Value;

static LAB: Shared = Shared::new(Lab::builder, configure);

#[test]
fn l2_address_reaches_every_pod() {
    let lab = LAB.turn();
    let service = LbService::new("reach-l2", "l2");
    for ip in service.up(&lab).unwrap() {
        assert_eq!(reach(&lab, ip, 15).unwrap(), all_nodes(&lab), "pods that answered at {ip}");
    }
    service.delete(&lab).unwrap();
}

#[test]
fn bgp_address_reaches_every_pod() {
    let lab = LAB.turn();
    let service = LbService::new("reach-bgp", "bgp");
    for ip in service.up(&lab).unwrap() {
        assert_eq!(reach(&lab, ip, 15).unwrap(), all_nodes(&lab), "pods that answered at {ip}");
    }
    service.delete(&lab).unwrap();
}

#[test]
fn local_policy_preserves_client_address() {
    let lab = LAB.turn();
    for pool in ["l2", "bgp"] {
        let service = LbService::new(&format!("local-{pool}"), pool).policy(Policy::Local).on("n2");
        for ip in service.up(&lab).unwrap() {
            assert_eq!(reach(&lab, ip, 5).unwrap(), nodes(["n2"]));
            let expected = [addresses::client().of(ip), addresses::remote_client().of(ip)];
            for ((name, client), expected) in clients(&lab).into_iter().zip(expected) {
                for transport in Transport::BOTH {
                    let answer = client.ask(SocketAddr::new(ip, PORT), transport, 3 * SECOND).unwrap();
                    assert_eq!(answer.client, expected, "{name}, {transport} to {ip}");
                }
            }
        }
        service.delete(&lab).unwrap();
    }
}

#[test]
fn local_policy_elects_node_with_pod() {
    let lab = LAB.turn();
    // The same address each time, so that an election that ignores pods would elect the same node.
    for node in ["n1", "n2", "n3"] {
        let service = LbService::new("local-owner", "l2")
            .policy(Policy::Local)
            .on(node)
            .annotation("fairlead.dev/load-balancer-ips", "192.0.2.230,2001:db8:1::2ff");
        for ip in service.up(&lab).unwrap() {
            expect_owner(&lab, ip, node, SOON).unwrap();
        }
        service.delete(&lab).unwrap();
    }
}

#[test]
fn node_with_terminating_endpoints_is_left_once_another_is_ready() {
    let lab = LAB.turn();
    let pod = |node: &str| lab.node(node).unwrap().pod_addresses(1)[0];
    let (n1, n2) = (pod("n1"), pod("n2"));
    for pool in ["l2", "bgp"] {
        let service = LbService::new(&format!("ending-{pool}"), pool)
            .policy(Policy::Local)
            .single("IPv4")
            .without_selector();
        let ip = service.up(&lab).unwrap()[0];
        let expect_at = |node: &str| match pool {
            "l2" => expect_owner(&lab, ip, node, SOON).unwrap(),
            _ => expect_next_hops(&lab, ip, &nodes([node]), SOON).unwrap(),
        };
        // A terminating endpoint is used while no endpoint is ready.
        service.apply_pods(&lab, "IPv4", &[("n1", n1, PodState::Terminating)]).unwrap();
        expect_at("n1");
        service.apply_pods(&lab, "IPv4", &[("n1", n1, PodState::Ready)]).unwrap();
        expect_at("n1");
        service
            .apply_pods(&lab, "IPv4", &[("n1", n1, PodState::Terminating), ("n2", n2, PodState::Ready)])
            .unwrap();
        expect_at("n2");
        service.delete(&lab).unwrap();
    }
}

/// Returns the addresses that every speaker lists with this reason.
fn not_announced(lab: &Lab, reason: &str) -> anyhow::Result<BTreeSet<IpAddr>> {
    let mut common: Option<BTreeSet<IpAddr>> = None;
    for node in lab.nodes() {
        let speaker = lab.api()?.get(VERSION, "Speaker", None, node.name())?;
        let entries = speaker.pointer("/status/notAnnounced").and_then(Value::as_array);
        let listed = entries.into_iter().flatten().filter(|entry| entry["reason"] == reason);
        let listed: BTreeSet<IpAddr> =
            listed.filter_map(|entry| entry["address"].as_str()?.parse().ok()).collect();
        common = Some(match common {
            Some(known) => &known & &listed,
            None => listed,
        });
    }
    Ok(common.unwrap_or_default())
}

#[test]
fn family_without_endpoints_is_not_announced() {
    let lab = LAB.turn();
    let pods = lab.node("n1").unwrap().pod_addresses(1);
    for pool in ["l2", "bgp"] {
        let service = LbService::new(&format!("one-family-{pool}"), pool).without_selector();
        let ips = service.up(&lab).unwrap();
        let expect_silence = |ip: IpAddr| {
            wait_for(format!("every speaker to report {ip}"), SOON, || {
                let reported = not_announced(&lab, "NoEndpointsOfFamily")?;
                ensure(reported == [ip].into(), reported).map_err(|seen| anyhow::anyhow!("{seen:?}"))
            })
            .unwrap();
            wait_for(format!("silence about {ip}"), SOON, || {
                let (owner, hops) = (lab.owner(ip)?, next_hops(&lab, ip)?);
                ensure(owner.is_none() && hops.is_empty(), (owner, hops))
                    .map_err(|seen| anyhow::anyhow!("{seen:?}"))
            })
            .unwrap();
        };
        service.apply_endpoints(&lab, "IPv4", "n1", &pods[..1]).unwrap();
        assert_eq!(reach(&lab, ips[0], 2).unwrap(), nodes(["n1"]));
        expect_silence(ips[1]);
        service.apply_endpoints(&lab, "IPv6", "n1", &pods[1..]).unwrap();
        assert_eq!(reach(&lab, ips[1], 2).unwrap(), nodes(["n1"]));
        service.apply_endpoints(&lab, "IPv4", "n1", &[]).unwrap();
        expect_silence(ips[0]);
        service.delete(&lab).unwrap();
    }
}

#[test]
fn l2_address_has_exactly_one_owner() {
    let lab = LAB.turn();
    let service = LbService::new("one-owner", "l2");
    let ips = service.up(&lab).unwrap();
    for ip in &ips {
        lab.wait_for_owner(*ip, SOON).unwrap();
    }
    let capture = lab.capture_client().unwrap();
    for ip in ips {
        for _ in 0..10 {
            assert!(lab.client().resolve(ip).unwrap().is_some());
        }
        wait_for("answers in the capture", SECOND, || match capture.claimants(ip).as_slice() {
            [one] => Ok(*one),
            other => Err(format!("{other:?}")),
        })
        .unwrap();
    }
    service.delete(&lab).unwrap();
}

#[test]
fn deleted_service_stops_answering_and_frees_address() {
    let lab = LAB.turn();
    let service = LbService::new("gone", "l2");
    let ips = service.up(&lab).unwrap();
    for ip in &ips {
        lab.wait_for_owner(*ip, SOON).unwrap();
    }
    service.delete(&lab).unwrap();
    for ip in &ips {
        wait_for(format!("no answer for {ip}"), SOON, || match lab.owner(*ip)? {
            None => Ok(()),
            Some(node) => Err(anyhow::anyhow!("{node} answers")),
        })
        .unwrap();
    }
    let wish: Vec<String> = ips.iter().map(ToString::to_string).collect();
    let next = LbService::new("next", "l2").annotation("fairlead.dev/load-balancer-ips", &wish.join(","));
    assert_eq!(next.up(&lab).unwrap(), ips);
    next.delete(&lab).unwrap();
}

#[test]
fn single_stack_service_gets_one_address() {
    let lab = LAB.turn();
    for (family, v4) in [("IPv4", true), ("IPv6", false)] {
        let service = LbService::new("single", "l2").single(family);
        let ips = service.up(&lab).unwrap();
        assert!(matches!(ips.as_slice(), [ip] if ip.is_ipv4() == v4), "{family}: {ips:?}");
        reach(&lab, ips[0], 2).unwrap();
        service.delete(&lab).unwrap();
    }
}

#[test]
fn flow_before_service_is_answered_afterwards() {
    let lab = LAB.turn();
    let up = || {
        let service = LbService::new("again", "l2").single("IPv4");
        let ip = service.up(&lab).unwrap()[0];
        reach(&lab, ip, 1).unwrap();
        (service, ip)
    };
    // From the same port each time, which is one flow for connection tracking.
    let ask = |ip: IpAddr| {
        let asked = lab.client().netns().run(|| {
            let socket = UdpSocket::bind("0.0.0.0:40000")?;
            socket.connect((ip, PORT))?;
            socket.set_read_timeout(Some(SECOND))?;
            socket.send(b"?")?;
            socket.recv(&mut [0; 2048])
        });
        asked.unwrap()
    };
    let (service, ip) = up();
    service.delete(&lab).unwrap();
    let other_port = || lab.client().ask(SocketAddr::new(ip, PORT), Transport::Udp, SECOND);
    // Twice, because a single missing answer may be slowness.
    let silent = || (0..2).all(|_| other_port().is_err());
    wait_for("silence", SOON, || ensure(silent(), "an answer")).unwrap();
    ask(ip).unwrap_err();
    let (service, same) = up();
    assert_eq!(same, ip);
    wait_for("an answer", SOON, || ask(ip)).unwrap();
    service.delete(&lab).unwrap();
}
