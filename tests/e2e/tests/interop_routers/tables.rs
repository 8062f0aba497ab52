//! The routes that every router has learned, with their attributes.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fairlead_e2e::{SECOND, SOON};
use fairlead_lab::peers::Path;
use fairlead_lab::wait_for;
use ipnet::IpNet;
use serde_json::{Value, json};

use crate::setup::{Setup, service, turn};

/// Attributes of the advertisement `single` at every eBGP peer.
const TAGS: &str = "communities 64513:100 65535:65281 large 4200000001:0:4294967295 64513:1:2";

/// Returns the expected table of a router: the announcements of each node for the standing Services, with
/// `attributes`.
fn table(node: &str, single: &str, whole: Option<&str>) -> BTreeSet<String> {
    let mut prefixes = vec![("198.51.100.10/32", single), ("2001:db8:100::10/128", single)];
    if node == "11" {
        prefixes.extend([("198.51.100.20/32", single), ("2001:db8:100::20/128", single)]);
    }
    if let Some(whole) = whole {
        prefixes.extend([("198.51.101.0/24", whole), ("2001:db8:101::/64", whole)]);
    }
    let via = |prefix: &str| if prefix.contains(':') { "2001:db8:1::" } else { "192.0.2." };
    prefixes.into_iter().map(|(prefix, rest)| format!("{prefix} via {}{node} {rest}", via(prefix))).collect()
}

/// Returns the expected announcements of both nodes.
fn tables(single: &str, whole: Option<&str>) -> BTreeSet<String> {
    ["11", "12"].into_iter().flat_map(|node| table(node, single, whole)).collect()
}

/// Waits until `router` has exactly the paths `expected`.
pub(crate) fn expect(router: &str, paths: impl Fn() -> Result<BTreeSet<Path>>, expected: &BTreeSet<String>) {
    wait_for(format!("exactly {} paths in {router}", expected.len()), SOON, || {
        let seen: BTreeSet<String> = paths()?.iter().map(Path::to_string).collect();
        let missing: Vec<_> = expected.difference(&seen).collect();
        let more: Vec<_> = seen.difference(expected).collect();
        ensure!(missing.is_empty() && more.is_empty(), "missing {missing:#?}, unexpected {more:#?}");
        Ok(())
    })
    .unwrap();
}

/// Returns the expected standing tables of all routers that peer with only some of the `nodes` (by the end of
/// their addresses).
pub(crate) fn expect_all(setup: &Setup, nodes: &[&str]) {
    let of = |single: &str, whole: Option<&str>| {
        nodes.iter().flat_map(|node| table(node, single, whole)).collect::<BTreeSet<_>>()
    };
    // BIRD assigns its default LOCAL_PREF to paths of eBGP peers.
    let (own, default) = ("path 4200000001 pref 100", format!("path 64513 {TAGS}"));
    expect("BIRD", || setup.bird.paths(), &of(&format!("{own} {TAGS}"), Some(own)));
    expect("GoBGP", || setup.gobgp.paths(), &of(&default, None));
    // ExaBGP shows the wire: no LOCAL_PREF for an eBGP peer, although the advertisement sets one.
    expect("ExaBGP", || setup.exabgp.paths(), &of(&default, None));
    expect("FRR", || frr_paths(setup), &of(&default, None));
    // An IPv4-only session. AS_PATH was [23456] and AS4_PATH [4200000001] (RFC 6793).
    let v4 = of(&format!("{own} {TAGS}"), None).into_iter().filter(|line| line.starts_with("198."));
    expect("BIRD with AS numbers of two octets", || setup.old.paths(), &v4.collect());
}

/// Returns the paths in FRR's table.
fn frr_paths(setup: &Setup) -> Result<BTreeSet<Path>> {
    let router = setup.lab.router();
    let mut paths = BTreeSet::new();
    for family in ["ipv4", "ipv6"] {
        let table = router.json(&format!("show bgp {family} unicast json"))?;
        for prefix in table["routes"].as_object().into_iter().flat_map(|routes| routes.keys()) {
            let detail = router.json(&format!("show bgp {family} unicast {prefix} json"))?;
            for path in detail["paths"].as_array().into_iter().flatten() {
                paths.insert(frr_path(prefix.parse()?, path).with_context(|| path.to_string())?);
            }
        }
    }
    Ok(paths)
}

fn frr_path(prefix: IpNet, path: &Value) -> Result<Path> {
    let words = |pointer: &str| -> BTreeSet<String> {
        let text = path.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        // FRR prints well-known communities by name.
        text.split_whitespace().map(|word| word.replace("no-export", "65535:65281")).collect()
    };
    let hops = path["nexthops"].as_array().into_iter().flatten();
    let hop = hops.filter(|hop| hop["scope"] != "link-local").find_map(|hop| hop["ip"].as_str());
    let mut read = Path::new(prefix, hop.context("no next hop")?.parse()?);
    read.as_path = path.pointer("/aspath/string").and_then(Value::as_str).unwrap_or_default().to_owned();
    if let Some(med) = path["metric"].as_u64() {
        read.other.insert(format!("med {med}"));
    }
    read.communities = words("/community/string");
    read.large_communities = words("/largeCommunity/string");
    Ok(read)
}

#[test]
fn every_router_has_expected_routes_and_attributes() {
    let setup = turn();
    expect_all(&setup, &["11", "12"]);
    // iBGP: an empty AS_PATH, and LOCAL_PREF from the advertisement, else 100.
    expect("iBGP BIRD", || setup.ibgp.paths(), &tables(&format!("pref 250 {TAGS}"), Some("pref 100")));
}

#[test]
fn every_router_reads_prepended_paths_and_med() {
    let setup = turn();
    let recording = setup.lab.record_bgp_of("n1").unwrap();
    let set = |prepend: Value, med: Value| {
        let ad = json!({ "apiVersion": "fairlead.dev/v1beta1", "kind": "BGPAdvertisement",
                         "metadata": { "name": "single" } });
        setup
            .lab
            .api()
            .unwrap()
            .merge(ad, json!({ "spec": { "asPathPrepend": prepend, "med": med } }))
            .unwrap();
    };
    set(json!(2), json!(30));
    let own = |path: &str| tables(&format!("path {path} pref 100 {TAGS} also med 30"), None);
    let other = tables(&format!("path 64513 64513 64513 {TAGS} also med 30"), None);
    let own = own("4200000001 4200000001 4200000001");
    // The aggregates have an advertisement of their own.
    let single = |paths: BTreeSet<Path>| -> BTreeSet<Path> {
        paths.into_iter().filter(|path| matches!(path.prefix.prefix_len(), 32 | 128)).collect()
    };
    expect("BIRD", || Ok(single(setup.bird.paths()?)), &own);
    let v4 = own.iter().filter(|line| line.starts_with("198.")).cloned().collect();
    expect("BIRD with AS numbers of two octets", || setup.old.paths(), &v4);
    expect("GoBGP", || setup.gobgp.paths(), &other);
    expect("ExaBGP", || setup.exabgp.paths(), &other);
    expect("FRR", || frr_paths(&setup), &other);
    // No prepending towards iBGP peers.
    let ibgp = tables(&format!("pref 250 {TAGS} also med 30"), None);
    expect("iBGP BIRD", || Ok(single(setup.ibgp.paths()?)), &ibgp);
    assert_eq!(recording.suspicious().unwrap(), Vec::<String>::new());
    set(Value::Null, Value::Null);
    expect_all(&setup, &["11", "12"]);
}

#[test]
fn both_sides_report_same_session_values() {
    let setup = turn();
    for (router, name, kind, hold_time) in [
        // The lower offer of both sides applies: speaker 30 s, BIRD 6 s; speaker 9 s, BIRD 90 s.
        (&setup.bird, "BIRD", "external AS4", 6),
        (&setup.ibgp, "iBGP BIRD", "internal AS4", 9),
        (&setup.old, "old BIRD", "external", 9),
    ] {
        for (node, router_id) in [("n1", "192.0.2.11"), ("n2", "192.0.2.12")] {
            let session = router.session(node).unwrap();
            assert_eq!(session.kind, kind, "{name} {node}");
            assert_eq!(session.router_id, router_id, "{name} {node}");
            assert_eq!(session.hold_time, Some(Duration::from_secs(hold_time)), "{name} {node}");
        }
    }
    for (peer, expected) in [
        ("bird", json!({ "peerASN": 4_200_000_005_i64, "holdTime": "6s", "keepaliveTime": "2s" })),
        ("ibgp", json!({ "peerASN": 64513, "peerRouterID": "192.0.2.7", "holdTime": "9s" })),
        (
            "old",
            json!({
                "peerASN": 64900,
                "capabilities": ["IPv4 unicast", "route refresh", "enhanced route refresh"],
            }),
        ),
    ] {
        let session = setup.session("n1", peer).unwrap();
        for (field, value) in expected.as_object().unwrap() {
            assert_eq!(session["negotiated"][field], *value, "{peer}: {session}");
        }
        assert_eq!(session["phase"], "Established", "{peer}");
    }
    wait_for("the routes of BIRD in the status", SOON, || {
        let families = setup.session("n1", "bird")?["families"].clone();
        // 500 routes of one family, rounded down to a power of two.
        let v4 = json!({ "family": "IPv4 unicast", "sent": 3, "received": 256, "endOfRIBSent": true,
            "endOfRIBReceived": true });
        ensure!(families[0] == v4, "{families}");
        Ok(())
    })
    .unwrap();
    for node in setup.lab.nodes() {
        for address in node.addresses() {
            let session = setup.gobgp.session(address).unwrap();
            assert!(session.established, "GoBGP {address}");
            assert_eq!(session.hold_time, 3 * SECOND, "GoBGP {address}");
        }
        let open = setup.exabgp.open(node.addresses()[0]).unwrap();
        let offered: Vec<&str> = open["capabilities"]
            .as_object()
            .unwrap()
            .values()
            .filter_map(|capability| capability["name"].as_str())
            .collect();
        assert_eq!(
            offered,
            ["multiprotocol", "route-refresh", "extended-message", "asn4", "enhanced-route-refresh"],
            "{open}"
        );
        assert_eq!(open["hold_time"], 9, "{open}");
    }
}

#[test]
fn deleted_service_withdraws_only_its_routes() {
    let setup = turn();
    let standing = tables(&format!("path 4200000001 pref 100 {TAGS}"), Some("path 4200000001 pref 100"));
    expect("BIRD", || setup.bird.paths(), &standing);
    let before = setup.bird.session("n1").unwrap().received;

    let extra = service("extra", "single", "198.51.100.30,2001:db8:100::30");
    extra.up(&setup.lab).unwrap();
    let prefixes: [IpNet; 2] =
        ["198.51.100.30/32", "2001:db8:100::30/128"].map(|prefix| prefix.parse().unwrap());
    let everywhere = |expected: usize| {
        type Table<'a> = (&'a str, Box<dyn Fn() -> Result<BTreeSet<Path>> + 'a>);
        let routers: [Table<'_>; 6] = [
            ("BIRD", Box::new(|| setup.bird.paths())),
            ("iBGP BIRD", Box::new(|| setup.ibgp.paths())),
            ("old BIRD", Box::new(|| setup.old.paths())),
            ("GoBGP", Box::new(|| setup.gobgp.paths())),
            ("ExaBGP", Box::new(|| setup.exabgp.paths())),
            ("FRR", Box::new(|| frr_paths(&setup))),
        ];
        for (name, paths) in routers {
            // The router `old` has no IPv6.
            let expected = if name == "old BIRD" { expected / 2 } else { expected };
            wait_for(format!("{expected} paths to {prefixes:?} in {name}"), SOON, || {
                let seen: Vec<_> =
                    paths()?.into_iter().filter(|path| prefixes.contains(&path.prefix)).collect();
                ensure!(seen.len() == expected, "{seen:?}");
                Ok(())
            })
            .unwrap();
        }
    };
    everywhere(4);
    extra.delete(&setup.lab).unwrap();
    everywhere(0);
    expect("BIRD", || setup.bird.paths(), &standing);
    // One UPDATE and one withdrawal of each family; the other routes did not change.
    let after = setup.bird.session("n1").unwrap().received;
    assert_eq!((after.0 - before.0, after.1 - before.1), (2, 2), "updates and withdrawals at BIRD");
}

#[test]
fn route_refresh_returns_all_routes() {
    let setup = turn();
    expect_all(&setup, &["11", "12"]);
    let standing = setup.bird.session("n1").unwrap();
    let since = setup.session("n1", "bird").unwrap()["uptimeSince"].clone();
    setup.bird.birdc("reload in n1").unwrap();
    wait_for("n1 to send its routes again", SOON, || {
        let session = setup.bird.session("n1")?;
        // Three prefixes of each family.
        ensure!(session.received.0 == standing.received.0 + 6, "{session:?}");
        Ok(())
    })
    .unwrap();
    setup.gobgp.gobgp(&["neighbor", "192.0.2.11", "softresetin"]).unwrap();
    let frr = || -> Result<[u64; 3]> {
        let neighbor = setup.lab.router().json("show bgp neighbors 192.0.2.11 json")?["192.0.2.11"].clone();
        let count =
            |field: &str| neighbor["messageStats"][field].as_u64().with_context(|| neighbor.to_string());
        let dropped = neighbor["connectionsDropped"].as_u64().unwrap_or_default();
        Ok([count("routeRefreshSent")?, count("updatesRecv")?, dropped])
    };
    let before = frr().unwrap();
    setup.lab.router().vtysh("clear bgp ipv4 unicast 192.0.2.11 soft in").unwrap();
    wait_for("n1 to send its routes to FRR again", SOON, || {
        let [requests, updates, dropped] = frr()?;
        ensure!((requests, dropped) == (before[0] + 1, before[2]) && updates > before[1], "{before:?}");
        Ok(())
    })
    .unwrap();
    expect_all(&setup, &["11", "12"]);
    assert_eq!(setup.session("n1", "bird").unwrap()["uptimeSince"], since, "the session was not reset");
}

#[test]
fn inbound_routes_do_not_change_node() {
    let setup = turn();
    let table = setup.bird.birdc("show protocols all n1").unwrap();
    assert!(table.contains("500 exported"), "BIRD announces its 500 routes: {table}");
    for node in &setup.lab.network().nodes {
        let lookup = |args: &[&str]| node.netns.output(std::process::Command::new("ip").args(args)).unwrap();
        let routes =
            lookup(&["route", "show", "proto", "bgp"]) + &lookup(&["route", "show", "root", "10.0.0.0/15"]);
        assert_eq!(routes, "", "{}", node.name);
    }
}

/// The pools of the addresses.
pub(crate) fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}
