//! Path attributes as a router receives them, and the distribution of traffic by link bandwidths.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, ensure};
use fairlead_e2e::{LbService, PORT, Policy, SECOND, SOON, Scene, Shared, VERSION, configure};
use fairlead_lab::{Family, Lab, Transport, wait_for};
use ipnet::IpNet;
use serde_json::{Value, json};

static LAB: Shared = Shared::new(|| Lab::builder().nodes(2).pods_per_node(3), configure);

/// Returns an object of the configuration without a spec.
fn object(kind: &str, name: &str) -> Value {
    json!({ "apiVersion": VERSION, "kind": kind, "metadata": { "name": name } })
}

/// Returns the paths to an address in the table of the router.
fn paths(lab: &Lab, ip: IpAddr) -> anyhow::Result<Vec<Value>> {
    let table = lab.router().json(&format!("show bgp ipv4 unicast {} json", IpNet::from(ip)))?;
    table["paths"].as_array().cloned().context("no path")
}

/// FRR is an eBGP peer, so it gets no LOCAL_PREF.
#[test]
fn router_learns_the_attributes_of_advertisement_and_service() {
    let lab = LAB.turn();
    let scene = Scene::new(&lab);
    let recording = lab.record_bgp().unwrap();
    let alias = json!([{ "name": "site", "value": "soo:192.0.2.1:7" }]);
    let mut names = object("Community", "attributes");
    names["spec"] = json!({ "communities": alias });
    scene.apply(&names);
    let mut ad = object("BGPAdvertisement", "attributes");
    ad["spec"] = json!({
        "ipAddressPools": ["bgp"],
        "serviceSelectors": [{ "matchLabels": { "attributes": "yes" } }],
        "med": 20,
        "asPathPrepend": 1,
        "communities": ["64513:7", "rt:64513:100", "rt:4200000001:5", "site", "no-peer", "large:64513:1:2"],
        "serviceAttributes": { "communities": ["no-export"], "maxASPathPrepend": 3, "med": true },
    });
    scene.apply(&ad);
    let service = LbService::new("attributes", "bgp")
        .single("IPv4")
        .label("attributes", "yes")
        .annotation("fairlead.dev/bgp-communities", "no-export, blackhole")
        .annotation("fairlead.dev/bgp-as-path-prepend", "3")
        .annotation("fairlead.dev/bgp-med", "30");
    scene.service(&service);
    let ip = lab.api().unwrap().wait_for_addresses("attributes", 1, SOON).unwrap()[0];
    wait_for("all attributes of both paths", SOON, || {
        let paths = paths(&lab, ip)?;
        ensure!(paths.len() == 2, "{paths:?}");
        for path in &paths {
            let text = |pointer: &str| path.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
            ensure!(path["metric"] == 30, "{path}");
            ensure!(text("/aspath/string") == "64513 64513 64513 64513", "{path}");
            ensure!(text("/community/string") == "64513:7 no-export no-peer", "{path}");
            let extended = text("/extendedCommunity/string");
            ensure!(extended == "RT:64513:100 SoO:192.0.2.1:7 RT:4200000001:5", "{path}");
            ensure!(text("/largeCommunity/string") == "64513:1:2", "{path}");
        }
        Ok(())
    })
    .unwrap();
    let message = scene.expect_condition(service.object(), "fairlead.dev/Covered", true);
    assert!(message.contains("permits community \"blackhole\""), "{message}");
    assert_eq!(recording.suspicious().unwrap(), Vec::<String>::new());
}

#[test]
fn aggregate_names_its_aggregator() {
    let lab = LAB.turn();
    let scene = Scene::new(&lab);
    let recording = lab.record_bgp().unwrap();
    let mut ad = object("BGPAdvertisement", "aggregate");
    ad["spec"] = json!({ "ipAddressPools": ["bgp"], "aggregationLength": 25, "aggregator": true });
    scene.apply(&ad);
    let service = LbService::new("aggregate", "bgp").single("IPv4");
    scene.service(&service);
    wait_for("the aggregator of both paths", SOON, || {
        let table = lab.router().json("show bgp ipv4 unicast 198.51.100.0/25 json")?;
        let paths = table["paths"].as_array().context("no path")?;
        let of = |field: &str| paths.iter().map(|path| path[field].clone()).collect::<Vec<_>>();
        ensure!(of("aggregatorAs") == [64513, 64513], "{table}");
        let mut ids = of("aggregatorId");
        ids.sort_by_key(Value::to_string);
        ensure!(ids == ["192.0.2.11", "192.0.2.12"], "{table}");
        ensure!(of("atomicAggregate").iter().all(Value::is_null), "{table}");
        Ok(())
    })
    .unwrap();
    assert_eq!(recording.suspicious().unwrap(), Vec::<String>::new());
}

/// Returns the prefixes in the pool `bgp` that the router learned, with the nodes that announce them.
fn announced(lab: &Lab) -> anyhow::Result<BTreeMap<String, Vec<String>>> {
    let routes = lab.router().bgp_routes(Family::V4)?.into_iter();
    let nodes = |hops: BTreeSet<IpAddr>| {
        let nodes = lab.nodes().iter().filter(|node| hops.contains(&node.addresses()[0]));
        nodes.map(|node| node.name().to_owned()).collect()
    };
    Ok(routes.map(|(prefix, hops)| (prefix.to_string(), nodes(hops))).collect())
}

fn expect_announced(lab: &Lab, expected: &[(String, &[&str])]) {
    let nodes = |nodes: &[&str]| nodes.iter().map(|node| (*node).to_owned()).collect::<Vec<_>>();
    let expected: BTreeMap<_, _> =
        expected.iter().map(|(prefix, names)| (prefix.clone(), nodes(names))).collect();
    wait_for(format!("routes {expected:?}"), SOON, || {
        let seen = announced(lab)?;
        ensure!(seen == expected, "{seen:?}");
        Ok(())
    })
    .unwrap();
}

#[test]
fn aggregate_attracts_no_traffic_for_local_services_of_other_nodes() {
    let lab = LAB.turn();
    let scene = Scene::new(&lab);
    let ad = object("BGPAdvertisement", "bgp");
    scene.merge(&ad, json!({ "spec": { "aggregationLength": 25 } }));
    let service = |name: &str| LbService::new(name, "bgp").single("IPv4");
    let whole = service("whole");
    let halves =
        [("half-1", "n1"), ("half-2", "n2")].map(|(name, node)| service(name).policy(Policy::Local).on(node));
    let [whole_ip, first_ip, second_ip] = [&whole, &halves[0], &halves[1]].map(|service| {
        scene.service(service);
        lab.api().unwrap().wait_for_addresses(service.name(), 1, SOON).unwrap()[0]
    });
    let host = |ip: IpAddr| format!("{ip}/32");
    let aggregate = "198.51.100.0/25".to_owned();
    expect_announced(
        &lab,
        &[(aggregate.clone(), &["n1", "n2"]), (host(first_ip), &["n1"]), (host(second_ip), &["n2"])],
    );
    for (ip, nodes) in [(whole_ip, ["n1", "n2"]), (first_ip, ["n1"; 2]), (second_ip, ["n2"; 2])] {
        for _ in 0..20 {
            let answer = lab.remote().ask(SocketAddr::new(ip, PORT), Transport::Tcp, 3 * SECOND).unwrap();
            assert!(nodes.contains(&&*answer.node), "{ip}: {answer:?}");
        }
    }
    halves.iter().for_each(|half| scene.delete(half.object()));
    expect_announced(&lab, &[(aggregate, &["n1", "n2"])]);
    scene.merge(&ad, json!({ "spec": { "aggregationLength": null } }));
}

/// Returns the weights of the nodes in the router's kernel, in percent.
fn weights(lab: &Lab, ip: IpAddr) -> anyhow::Result<BTreeMap<String, u64>> {
    let weights = lab.router().kernel_weights(IpNet::from(ip))?;
    let total: u64 = weights.values().sum();
    let of = |node: &fairlead_lab::LabNode| {
        let weight = weights.get(&node.addresses()[0])?;
        Some((node.name().to_owned(), (weight * 100 + total / 2) / total))
    };
    Ok(lab.nodes().iter().filter_map(of).collect())
}

fn expect_weights(lab: &Lab, ip: IpAddr, expected: [u64; 2]) {
    let expected = ["n1", "n2"].map(str::to_owned).into_iter().zip(expected).collect::<BTreeMap<_, _>>();
    wait_for(format!("weights {expected:?}"), SOON, || {
        let seen = weights(lab, ip)?;
        ensure!(seen == expected, "{seen:?}");
        Ok(())
    })
    .unwrap();
}

#[test]
fn router_distributes_traffic_by_endpoints() {
    let lab = LAB.turn();
    let scene = Scene::new(&lab);
    let peer = object("BGPPeer", "router-v4");
    let bandwidth = |value: Value| json!({ "spec": { "linkBandwidth": value } });
    lab.set_ready("n1", 2, false).unwrap();
    lab.set_ready("n1", 3, false).unwrap();
    let service = LbService::new("weighted", "bgp").policy(Policy::Local).single("IPv4");
    scene.service(&service);
    let ip = lab.api().unwrap().wait_for_addresses("weighted", 1, SOON).unwrap()[0];
    expect_weights(&lab, ip, [50, 50]);
    let since = fairlead_e2e::expect_established(&lab, "n1", 2).unwrap();
    let recording = lab.record_bgp().unwrap();
    scene.merge(&peer, bandwidth(json!({ "megabitsPerEndpoint": 100 })));
    expect_weights(&lab, ip, [25, 75]);
    assert_eq!(recording.suspicious().unwrap(), Vec::<String>::new());

    let client = lab.remote();
    let to = SocketAddr::new(ip, PORT);
    let answers = (0..200).map(|_| client.ask(to, Transport::Tcp, 3 * SECOND).unwrap().node);
    let of_n2 = answers.filter(|node| node == "n2").count();
    // 150 are expected. A binomial distribution leaves this range once in a million times.
    assert!((120..=180).contains(&of_n2), "n2 answered {of_n2} of 200 requests");

    lab.set_ready("n1", 2, true).unwrap();
    expect_weights(&lab, ip, [40, 60]);
    lab.set_ready("n1", 3, true).unwrap();
    expect_weights(&lab, ip, [50, 50]);
    scene.merge(&peer, bandwidth(Value::Null));
    assert_eq!(fairlead_e2e::established_since(&lab, "n1").unwrap(), since, "no session was reset");
}
