//! What the routers see of an edit: for every field of the kinds that BGP sessions and routes depend on.

use std::collections::BTreeSet;

use fairlead_crds::kinds::{Kind, Objects};
use fairlead_crds::manifests;
use fairlead_crds::model::route_request::RouteRequest;
use fairlead_crds::resolve::{ObjectVerdict, resolve};
use serde_json::{Value, json};

use super::*;
use On::{NewSession, Nothing, Shutdown, Update};

/// What an edit causes on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum On {
    Nothing,
    /// UPDATE messages on the established session.
    Update,
    NewSession,
    /// The session ends, on all nodes at once.
    Shutdown,
}

/// Given an edit of a field, as a merge patch of the spec: what the router sees.
fn table() -> Vec<(Kind, &'static str, Value, On)> {
    let node = |name: &str| json!([{ "matchLabels": { "name": name } }]);
    let labels = |name: &str, value: &str| json!([{ "matchLabels": { name: value } }]);
    let community = |name: &str, value: &str| json!({ "communities": [{ "name": "used", "value": "64512:1" }, { "name": name, "value": value }] });
    let bandwidth = |rate: u32, transitive: bool| json!({ "linkBandwidth": { "megabitsPerEndpoint": rate, "transitive": transitive } });
    let tcp_ao = |options: Value| json!({ "tcpAO": options });
    let permit = |attributes: Value| json!({ "serviceAttributes": attributes });
    let peer = |field, spec, on| (Kind::BGPPeer, field, spec, on);
    let profile = |field, spec, on| (Kind::BFDProfile, field, spec, on);
    let ad = |field, spec, on| (Kind::BGPAdvertisement, field, spec, on);
    vec![
        peer("myASN", json!({ "myASN": 64999 }), NewSession),
        peer("localASN", json!({ "localASN": 64999 }), NewSession),
        peer("peerASN", json!({ "peerASN": 64999 }), NewSession),
        peer("dynamicASN", json!({ "peerASN": null, "dynamicASN": "external" }), NewSession),
        peer("peerAddress", json!({ "peerAddress": "203.0.113.9" }), NewSession),
        peer("interface", json!({ "peerAddress": null, "interface": "eth0" }), NewSession),
        peer("shutdown", json!({ "shutdown": true }), Shutdown),
        peer("shutdown", json!({ "shutdown": true, "holdTime": "30s" }), Shutdown),
        peer("shutdown", json!({ "shutdown": false }), Nothing),
        // It is sent with the next shutdown.
        peer("shutdownMessage", json!({ "shutdownMessage": "maintenance" }), Nothing),
        peer("description", json!({ "description": "rack 7, left" }), Nothing),
        peer("peerPort", json!({ "peerPort": 1179 }), NewSession),
        peer("sourceAddress", json!({ "sourceAddress": "203.0.113.8" }), NewSession),
        peer("sourceInterface", json!({ "sourceInterface": "lo" }), NewSession),
        peer("passive", json!({ "passive": true, "tcpAO": null }), NewSession),
        peer("fastExternalFailover", json!({ "fastExternalFailover": false }), Nothing),
        peer("routerID", json!({ "routerID": "203.0.113.7" }), NewSession),
        peer("holdTime", json!({ "holdTime": "180s" }), NewSession),
        peer("keepaliveTime", json!({ "keepaliveTime": "10s" }), Nothing),
        // The hold time that the OPEN offers derives from it.
        peer("keepaliveTime", json!({ "holdTime": null, "keepaliveTime": "10s" }), NewSession),
        peer("connectTime", json!({ "connectTime": "9s" }), Nothing),
        peer("nodeSelectors", json!({ "nodeSelectors": node("n1") }), Nothing),
        peer("nodeSelectors", json!({ "nodeSelectors": node("n2") }), NewSession),
        // The key of the connection is replaced.
        peer("passwordSecret.name", json!({ "passwordSecret": { "name": "b" } }), Nothing),
        peer("passwordSecret.namespace", json!({ "passwordSecret": { "namespace": "b" } }), Nothing),
        peer("passwordSecret.name", json!({ "passwordSecret": null, "tcpAO": null }), NewSession),
        peer("tcpAO.sendID", tcp_ao(json!({ "sendID": 1 })), NewSession),
        peer("tcpAO.receiveID", tcp_ao(json!({ "receiveID": 1 })), NewSession),
        peer("tcpAO.algorithm", tcp_ao(json!({ "algorithm": "AES-128-CMAC-96" })), NewSession),
        peer("bfdProfile", json!({ "bfdProfile": "slow" }), Nothing),
        // FRR ends the session at the AdminDown of BFD, so the nodes take turns.
        peer("bfdProfile", json!({ "bfdProfile": null }), NewSession),
        peer("bfdStrict", json!({ "bfdStrict": true }), Nothing),
        peer("ttlSecurity", json!({ "ttlSecurity": 1 }), NewSession),
        peer("ebgpMultiHop", json!({ "ebgpMultiHop": true }), NewSession),
        peer("enableGracefulRestart", json!({ "enableGracefulRestart": true }), NewSession),
        // Without enableGracefulRestart it has no effect.
        peer("gracefulRestartTime", json!({ "gracefulRestartTime": "300s" }), Nothing),
        peer(
            "gracefulRestartTime",
            json!({ "enableGracefulRestart": true, "gracefulRestartTime": "300s" }),
            NewSession,
        ),
        peer("dualStackAddressFamily", json!({ "dualStackAddressFamily": false }), NewSession),
        peer("disableMP", json!({ "disableMP": true }), Nothing),
        peer("vrf", json!({ "vrf": "red" }), NewSession),
        // The session ends; the speakers of the other instance open theirs.
        peer("loadBalancerClass", json!({ "loadBalancerClass": "example.org/x" }), NewSession),
        peer("linkBandwidth.megabitsPerEndpoint", bandwidth(100, false), Update),
        peer("linkBandwidth.transitive", bandwidth(10, true), Update),
        profile("receiveInterval", json!({ "receiveInterval": 100 }), Nothing),
        profile("transmitInterval", json!({ "transmitInterval": 100 }), Nothing),
        profile("detectMultiplier", json!({ "detectMultiplier": 5 }), Nothing),
        profile("echoInterval", json!({ "echoInterval": 100 }), Nothing),
        profile("echoMode", json!({ "echoMode": true }), Nothing),
        profile("passiveMode", json!({ "passiveMode": true }), Nothing),
        profile("minimumTtl", json!({ "minimumTtl": 200 }), Nothing),
        (Kind::Community, "communities[].name", community("renamed", "64512:9"), Nothing),
        (Kind::Community, "communities[].value", community("unused", "64512:8"), Nothing),
        (
            Kind::Community,
            "communities[].value",
            json!({ "communities": [{ "name": "used", "value": "64512:2" }] }),
            Update,
        ),
        ad("aggregationLength", json!({ "aggregationLength": 24 }), Update),
        ad("aggregationLengthV6", json!({ "aggregationLengthV6": 120 }), Update),
        // The peer is an eBGP peer.
        ad("localPref", json!({ "localPref": 200 }), Nothing),
        ad("med", json!({ "med": 10 }), Update),
        ad("asPathPrepend", json!({ "asPathPrepend": 2 }), Update),
        ad("aggregator", json!({ "aggregator": true }), Nothing),
        ad("aggregator", json!({ "aggregator": true, "aggregationLength": 24 }), Update),
        ad("serviceAttributes.communities", permit(json!({ "communities": ["64512:7"] })), Update),
        ad("serviceAttributes.maxASPathPrepend", permit(json!({ "maxASPathPrepend": 3 })), Update),
        ad("serviceAttributes.med", permit(json!({ "med": true })), Update),
        ad("serviceAttributes.communities", permit(json!({ "communities": ["64512:8"] })), Nothing),
        ad("communities", json!({ "communities": ["64512:3"] }), Update),
        ad("ipAddressPools", json!({ "ipAddressPools": ["main"] }), Nothing),
        ad("ipAddressPools", json!({ "ipAddressPools": ["other"] }), Update),
        ad("ipAddressPoolSelectors", json!({ "ipAddressPoolSelectors": labels("pool", "main") }), Nothing),
        ad("ipAddressPoolSelectors", json!({ "ipAddressPoolSelectors": labels("pool", "other") }), Update),
        ad("nodeSelectors", json!({ "nodeSelectors": node("n1") }), Nothing),
        ad("nodeSelectors", json!({ "nodeSelectors": node("n2") }), Update),
        ad("serviceSelectors", json!({ "serviceSelectors": labels("app", "web") }), Nothing),
        ad("serviceSelectors", json!({ "serviceSelectors": labels("app", "other") }), Update),
        ad("announceWhen", json!({ "announceWhen": "DataPathReady" }), Nothing),
        ad("reannounceAfter", json!({ "reannounceAfter": "10s" }), Nothing),
        ad("peers", json!({ "peers": ["tor"] }), Nothing),
        ad("peers", json!({ "peers": ["other"] }), Update),
    ]
}

/// Returns the objects before an edit. All fields that the table changes in part are set.
fn objects() -> Vec<(Kind, Value)> {
    let object = |name: &str, spec: Value| {
        let labels = json!({ "pool": name });
        let metadata = json!({ "name": name, "labels": labels, "creationTimestamp": "2026-01-01T00:00:00Z" });
        json!({ "metadata": metadata, "spec": spec })
    };
    let peer = json!({
        "myASN": 64512, "peerASN": 64513, "peerAddress": "203.0.113.1", "holdTime": "90s",
        "passwordSecret": { "name": "a" }, "tcpAO": { "sendID": 7, "receiveID": 7 }, "bfdProfile": "fast", "dualStackAddressFamily": true,
    });
    let aliases = json!([{ "name": "used", "value": "64512:1" }, { "name": "unused", "value": "64512:9" }]);
    vec![
        (Kind::IPAddressPool, object("main", json!({ "addresses": ["192.0.2.0/24", "2001:db8::/112"] }))),
        (Kind::IPAddressPool, object("other", json!({ "addresses": ["198.51.100.0/24"] }))),
        (Kind::BFDProfile, object("fast", json!({ "receiveInterval": 50 }))),
        (Kind::BFDProfile, object("slow", json!({ "receiveInterval": 1000 }))),
        (Kind::BGPPeer, object("tor", peer)),
        (Kind::Community, object("names", json!({ "communities": aliases }))),
        (Kind::BGPAdvertisement, object("ad", json!({ "communities": ["used"] }))),
    ]
}

/// Returns the attributes that the Service requests.
fn route_request() -> RouteRequest {
    RouteRequest {
        communities: ["64512:7".to_owned()].into(),
        as_path_prepend: Some(3),
        med: Some(7),
        ..RouteRequest::default()
    }
}

/// Resolves objects, all of which must be accepted, for the instance without a class.
fn config(list: &[(Kind, Value)]) -> Config {
    let mut objects = Objects::default();
    for (kind, object) in list {
        objects.push_json(*kind, object.clone()).unwrap();
    }
    let mut resolution = resolve(&objects);
    resolution.config.peers.retain(|_, peer| peer.class.is_none());
    assert!(resolution.verdicts.values().all(|v| *v == ObjectVerdict::Accepted), "{:?}", resolution.verdicts);
    resolution.config
}

/// Applies a merge patch (RFC 7396).
fn merge(target: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else { return *target = patch.clone() };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, value) in fields {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(name);
        } else {
            merge(&mut target[name], value);
        }
    }
}

#[test]
fn edit_of_each_field_costs_no_more_than_it_must() {
    for (kind, field, patch, expected) in table() {
        let what = format!("{kind} {field}: {patch}");
        let mut list = objects();
        let mut world = World::of(2).service("web", TrafficPolicy::Local, "192.0.2.1 2001:db8::1", "n1");
        world.services.get_mut("web").unwrap().route_request = Some(route_request().into());
        world.config = config(&list);
        let (mut plan, mut announced) = world.plan_of("n1");
        assert_eq!(announced.routes.len(), 2);
        let open = announced.peers["tor"].clone();
        // The first object of each kind is the one in use.
        let (_, object) = list.iter_mut().find(|(known, _)| *known == kind).unwrap();
        merge(&mut object["spec"], &patch);
        world.config = config(&list);
        plan.set_config(&world.config);
        let changes = plan.changes();
        let on = |change: &AnnouncementChange| match change {
            AnnouncementChange::PeerOpen(_) | AnnouncementChange::PeerClose { .. } => NewSession,
            AnnouncementChange::PeerUpdate { wanted, .. } if wanted.shutdown.is_some() => Shutdown,
            AnnouncementChange::PeerUpdate { wanted, .. } => {
                if PeerEdit::between(&open, wanted) == PeerEdit::NewSession { NewSession } else { Nothing }
            }
            AnnouncementChange::RouteAnnounce { .. } | AnnouncementChange::RouteWithdraw { .. } => Update,
            AnnouncementChange::GracefulShutdown(_)
            | AnnouncementChange::L2Announce { .. }
            | AnnouncementChange::L2Withdraw { .. } => {
                panic!("{what}: {change:?}")
            }
        };
        assert_eq!(changes.iter().map(on).max().unwrap_or(Nothing), expected, "{what}: {changes:?}");
        announced.carry_out(changes);
        assert_eq!(announced, world.plan_of("n1").1, "{what}");
    }
}

/// Collects the paths of the fields below a schema. Label selectors count as one field.
fn fields(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    let properties = schema["properties"].as_object().filter(|_| !path.ends_with("electors[]"));
    match (properties, schema["items"].is_object()) {
        (Some(properties), _) => {
            let prefix = if path.is_empty() { String::new() } else { format!("{path}.") };
            properties.iter().for_each(|(name, schema)| fields(schema, &format!("{prefix}{name}"), found));
        }
        (None, true) if schema["items"]["type"] == "object" => {
            fields(&schema["items"], &format!("{path}[]"), found);
        }
        (None, _) => drop(found.insert(path.trim_end_matches("[]").to_owned())),
    }
}

#[test]
fn table_of_edits_has_every_field_of_the_schemas() {
    for kind in [Kind::BGPPeer, Kind::BFDProfile, Kind::Community, Kind::BGPAdvertisement] {
        let definitions = manifests::definitions();
        let definition = definitions.iter().find(|d| d.spec.names.kind == kind.to_string()).unwrap();
        let schema = definition.spec.versions[0].schema.as_ref().unwrap();
        let schema = serde_json::to_value(schema).unwrap();
        let mut expected = BTreeSet::new();
        fields(&schema["openAPIV3Schema"]["properties"]["spec"], "", &mut expected);
        let table = table();
        let rows = table.iter().filter(|(known, ..)| *known == kind);
        let rows: BTreeSet<String> = rows.map(|(_, field, ..)| (*field).to_owned()).collect();
        assert_eq!(rows, expected, "{kind}: add an edit of each new field to the table");
    }
}
