//! The steps of the tests: objects, edits, and what the router has after them.

use std::net::IpAddr;

use anyhow::anyhow;
use fairlead_e2e::{LbService, SOON, Scene, VERSION, all_nodes, expect_next_hops, expect_sessions};
use fairlead_lab::{Lab, RouteEvent, ensure, wait_for};
use ipnet::IpNet;
use serde_json::{Value, json};

use crate::witness::Witness;

/// Starts a Service whose route has every node as next hop, until the end of the scene.
pub(crate) fn announced(scene: &Scene<'_>, name: &str) -> IpAddr {
    let lab = scene.lab();
    scene.service(&LbService::new(name, "bgp").single("IPv4"));
    let ip = lab.api().unwrap().wait_for_addresses(name, 1, SOON).unwrap()[0];
    expect_next_hops(lab, ip, &all_nodes(lab), SOON).unwrap();
    ip
}

/// Edits the IPv4 peer, and waits until each node has replaced its session. Returns the changes of the route
/// meanwhile.
pub(crate) fn replace_sessions(lab: &Lab, ip: IpAddr, spec: Value) -> Vec<RouteEvent> {
    let mut witness = Witness::new(lab);
    edit(lab, "BGPPeer", "router-v4", spec);
    witness.expect_new_sessions();
    expect_sessions(lab, SOON).unwrap();
    let events = witness.last_route_events();
    expect_next_hops(lab, ip, &all_nodes(lab), SOON).unwrap();
    events.into_iter().filter(|event| event.prefix == IpNet::from(ip)).collect()
}

/// Returns a reference to an object of the lab's configuration.
pub(crate) fn object(kind: &str, name: &str) -> Value {
    json!({ "apiVersion": VERSION, "kind": kind, "metadata": { "name": name } })
}

/// Merges a patch into the spec of an object.
pub(crate) fn edit(lab: &Lab, kind: &str, name: &str, spec: Value) {
    lab.api().unwrap().merge(object(kind, name), json!({ "spec": spec })).unwrap();
}

/// Waits until the router has this community in the paths of all nodes to an address.
pub(crate) fn expect_community(lab: &Lab, ip: IpAddr, community: &str) {
    let command = format!("show bgp ipv4 unicast {ip}/32 json");
    wait_for(format!("community {community} on {ip}"), SOON, || {
        let route = lab.router().json(&command)?;
        let paths = route["paths"].as_array().cloned().unwrap_or_default();
        let has = |path: &&Value| path["community"]["string"] == community;
        let count = paths.iter().filter(has).count();
        ensure(count == lab.nodes().len(), route).map_err(|seen| anyhow!("{seen}"))
    })
    .unwrap();
}

/// Deletes an object and creates it again with the same spec, as `kubectl replace --force` does. Waits until
/// the new one is accepted.
pub(crate) fn replace(scene: &Scene<'_>, kind: &str, name: &str) {
    let mut replaced = object(kind, name);
    replaced["spec"] = scene.read(&replaced)["spec"].clone();
    scene.delete(&replaced);
    scene.lab().api().unwrap().apply_object(replaced.clone()).unwrap();
    scene.expect_condition(&replaced, "Accepted", true);
}
