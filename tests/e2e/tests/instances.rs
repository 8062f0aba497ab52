//! Two instances of Fairlead in one cluster, one with a load balancer class.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use anyhow::Result;
use fairlead_e2e::{
    LbService, Ledger, SECOND, SOON, VERSION, all_nodes, expect_established, expect_mesh, expect_next_hops,
    reach, versions, wait_for_rest,
};
use fairlead_lab::{Lab, Process, Spec, binaries, ensure, state, wait_for};
use serde_json::{Value, json};

const CLASS: &str = "example.com/other";
const NAMESPACE: &str = "fairlead-other";
/// Not the ports of the first instance, since the speakers share the network of the node.
const MESH_PORT: &str = "7948";
const METRICS_PORT: u16 = 7482;

/// A pool and a BGPPeer for each instance, and advertisements, which have no class. The router would end the
/// sessions of two speakers that connect from one address of a node.
const CONFIG: &str = "
apiVersion: v1
kind: Namespace
metadata: { name: fairlead-other }
---
apiVersion: fairlead.dev/v1beta1
kind: IPAddressPool
metadata: { name: plain }
spec: { addresses: [192.0.2.200-192.0.2.209, 2001:db8:1::200-2001:db8:1::20f] }
---
apiVersion: fairlead.dev/v1beta1
kind: IPAddressPool
metadata: { name: classed }
spec:
  loadBalancerClass: example.com/other
  addresses: [192.0.2.210-192.0.2.219, 2001:db8:1::210-2001:db8:1::21f]
---
apiVersion: fairlead.dev/v1beta1
kind: L2Advertisement
metadata: { name: all }
spec: {}
---
apiVersion: fairlead.dev/v1beta1
kind: BGPAdvertisement
metadata: { name: all }
spec: {}
---
apiVersion: fairlead.dev/v1beta1
kind: BGPPeer
metadata: { name: plain }
spec: { myASN: 64513, peerASN: 64512, peerAddress: 192.0.2.1, connectTime: 1s }
---
apiVersion: fairlead.dev/v1beta1
kind: BGPPeer
metadata: { name: classed }
spec:
  loadBalancerClass: example.com/other
  myASN: 64513
  peerASN: 64512
  peerAddress: '2001:db8:1::1'
  connectTime: 1s
";

/// Starts the instance with the class. Returns its speakers.
fn start_instance(lab: &Lab) -> Result<Vec<Process>> {
    let start = |name: &str, program: &str, netns, args: &[&str]| {
        let spec = Spec::new(name, binaries::find(program)?)
            .args(["--namespace", NAMESPACE, "--lb-class", CLASS, "--kubeconfig"])
            .arg(lab.api_server()?.kubeconfig())
            .args(args.iter().copied())
            .env("FAIRLEAD_METRICS_ADDR", format!(":{METRICS_PORT}"))
            .http(METRICS_PORT);
        Process::start(spec, netns, &state::logs(lab.id()))
    };
    start("controller-other", "fairlead-controller", &lab.network().control_plane, &[])?;
    let nodes = lab.network().nodes.iter();
    let speakers = nodes.map(|node| {
        let name = format!("speaker-other-{}", node.name);
        let args = ["--node-name", &node.name, "--mesh-port", MESH_PORT];
        start(&name, "fairlead-speaker", &node.netns, &args)
    });
    speakers.collect()
}

/// Returns the node and the port of the mesh of each Speaker object, by class.
fn speakers(lab: &Lab, class: Option<&str>) -> Result<BTreeSet<(String, u64)>> {
    let list = lab.api()?.list(VERSION, "Speaker")?;
    let own = list.iter().filter(|speaker| speaker["spec"]["loadBalancerClass"].as_str() == class);
    let view = |speaker: &Value| {
        let owner = speaker["metadata"]["ownerReferences"][0]["name"].as_str().unwrap_or_default();
        (owner.to_owned(), speaker["spec"]["mesh"]["port"].as_u64().unwrap_or(0))
    };
    Ok(own.map(view).collect())
}

fn expect_speakers(lab: &Lab, class: Option<&str>, port: u64) {
    let expected: BTreeSet<_> = all_nodes(lab).into_iter().map(|node| (node, port)).collect();
    wait_for(format!("the Speaker objects of class {class:?}"), SOON, || {
        let seen = speakers(lab, class)?;
        ensure(seen == expected, format!("{seen:?}")).map_err(anyhow::Error::msg)
    })
    .unwrap();
}

/// Waits until each speaker has a session with the peer of its class only. Returns when each came up.
fn expect_own_sessions(lab: &Lab) -> BTreeMap<String, BTreeMap<String, String>> {
    let nodes = all_nodes(lab).into_iter();
    let speakers =
        nodes.flat_map(|node| [(node.clone(), "plain"), (format!("{node}.{NAMESPACE}"), "classed")]);
    speakers
        .map(|(speaker, peer)| {
            let since = expect_established(lab, &speaker, 1).unwrap();
            assert!(since.contains_key(peer), "{speaker}: {since:?}");
            (speaker, since)
        })
        .collect()
}

#[test]
fn instances_of_two_classes_serve_their_services_side_by_side() {
    let lab = Lab::builder().start().unwrap();
    lab.api().unwrap().apply(CONFIG).unwrap();
    let others = start_instance(&lab).unwrap();
    let ledger = Ledger::follow(&lab).unwrap();
    expect_mesh(&lab, SOON).unwrap();
    for speaker in &others {
        wait_for(format!("three members in the mesh of {}", speaker.name()), SOON, || {
            let members = speaker.metric("fairlead_speaker_mesh_members")?;
            ensure(members == 3, members).map_err(|members| anyhow::anyhow!("{members}"))
        })
        .unwrap();
    }
    expect_speakers(&lab, None, 7947);
    expect_speakers(&lab, Some(CLASS), 7948);

    let sessions = expect_own_sessions(&lab);
    let dropped = lab.router().dropped_sessions().unwrap();

    // Neither instance gives an address twice, nor one of the pool of the other.
    let services: Vec<LbService> = (0..10)
        .map(|n| {
            let service = LbService::new(&format!("s{n}"), "").any_pool();
            if n % 2 == 0 { service } else { service.class(CLASS) }
        })
        .collect();
    services.iter().for_each(|service| service.apply(&lab).unwrap());
    ledger.expect_served(&services, SOON).unwrap();
    let mut given = BTreeSet::new();
    for (n, service) in services.iter().enumerate() {
        let ips = service.up(&lab).unwrap();
        let last = |ip: &IpAddr| match ip {
            IpAddr::V4(v4) => u16::from(v4.octets()[3]) - 200,
            IpAddr::V6(v6) => v6.segments()[7] - 0x200,
        };
        let is_classed = |ip: &IpAddr| last(ip) >= if ip.is_ipv4() { 10 } else { 16 };
        assert!(ips.iter().all(|ip| is_classed(ip) == (n % 2 == 1)), "s{n}: {ips:?}");
        given.extend(ips);
    }
    assert_eq!(given.len(), 20, "{given:?}");
    for ip in &given {
        reach(&lab, *ip, 1).unwrap();
    }
    // Each announces its own addresses on its own session, which carries one family.
    for (service, ipv4) in [(&services[0], true), (&services[1], false)] {
        for ip in service.up(&lab).unwrap() {
            let expected = if ip.is_ipv4() == ipv4 { all_nodes(&lab) } else { BTreeSet::new() };
            expect_next_hops(&lab, ip, &expected, SOON).unwrap();
        }
    }
    let (first, second) = (services[0].up(&lab).unwrap()[0], services[1].up(&lab).unwrap()[0]);
    for (name, class, ip) in [("asks", None, second), ("asks-other", Some(CLASS), first)] {
        let service = LbService::new(name, "").any_pool().single("IPv4");
        let service = service.annotation("fairlead.dev/load-balancer-ips", &ip.to_string());
        class.map_or(service.clone(), |class| service.class(class)).apply(&lab).unwrap();
        wait_for(format!("{name} to be refused"), SOON, || {
            let condition = lab.api()?.condition(name, "fairlead.dev/Allocated")?;
            let refused = condition.as_ref().is_some_and(|(status, ..)| status == "False");
            ensure(refused, format!("{condition:?}")).map_err(anyhow::Error::msg)
        })
        .unwrap();
    }
    ledger.check().unwrap();

    // Neither rewrites what the other has written.
    let before = wait_for_rest(&lab).unwrap();
    std::thread::sleep(10 * SECOND);
    assert_eq!(versions(&lab).unwrap(), before, "ten seconds at rest");
    assert_eq!(expect_own_sessions(&lab), sessions, "the sessions are those of the start");
    assert_eq!(lab.router().dropped_sessions().unwrap(), dropped);
    for (name, class) in [("plain", None), ("classed", Some(CLASS))] {
        let pool = lab.api().unwrap().get(VERSION, "IPAddressPool", None, name).unwrap();
        assert_eq!(pool["spec"]["loadBalancerClass"].as_str(), class);
        assert_eq!(pool["status"]["assignedIPv4"], json!(5), "{pool}");
    }
    for ip in &given {
        reach(&lab, *ip, 1).unwrap();
    }
}
