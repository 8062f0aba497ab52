//! One lab for all tests here: two nodes, and FRR with neighbors that it connects to.

use anyhow::{Result, anyhow, ensure};
use fairlead_e2e::{SOON, Shared, VERSION, configure, expect_sessions};
use fairlead_lab::{Builder, Lab, wait_for};
use serde_json::{Value, json};

pub(crate) static LAB: Shared = Shared::new(builder, configure);

fn builder() -> Builder {
    Lab::builder().nodes(2).router_config(NEIGHBORS)
}

/// FRR connects to these neighbors every second. It also accepts their connections.
const NEIGHBORS: &str = "
 neighbor 192.0.2.11 remote-as 64513
 neighbor 192.0.2.11 timers connect 1
 neighbor 192.0.2.12 remote-as 64513
 neighbor 192.0.2.12 timers connect 1
 neighbor 2001:db8:1::11 remote-as 64513
 neighbor 2001:db8:1::11 timers connect 1
 neighbor 2001:db8:1::12 remote-as 64513
 neighbor 2001:db8:1::12 timers connect 1
 address-family ipv4 unicast
  neighbor 192.0.2.11 activate
  neighbor 192.0.2.12 activate
 exit-address-family
 address-family ipv6 unicast
  neighbor 2001:db8:1::11 activate
  neighbor 2001:db8:1::12 activate
 exit-address-family
";

const NODES: [&str; 2] = ["n1", "n2"];
/// The BGPPeers of FRR.
const PEERS: [&str; 2] = ["router-v4", "router-v6"];
/// The neighbors of FRR.
pub(crate) const NEIGHBORS_OF_FRR: [&str; 4] =
    ["192.0.2.11", "192.0.2.12", "2001:db8:1::11", "2001:db8:1::12"];

/// Changes fields of both BGPPeers of FRR.
pub(crate) fn set_frr(lab: &Lab, fields: Value) {
    PEERS.iter().for_each(|peer| set(lab, peer, fields.clone()));
}

/// Configures something for each neighbor of FRR, such as `neighbor ADDRESS bfd`.
pub(crate) fn configure_neighbors(lab: &Lab, line: impl Fn(&str) -> String) {
    let lines: Vec<String> =
        std::iter::once("router bgp 64512".to_owned()).chain(NEIGHBORS_OF_FRR.map(line)).collect();
    lab.router().configure(&lines.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
}

/// Waits until all sessions with FRR are established.
pub(crate) fn expect_all_established(lab: &Lab) {
    NODES.iter().for_each(|node| PEERS.iter().for_each(|peer| expect_established(lab, node, peer)));
    expect_sessions(lab, 2 * SOON).unwrap();
}

/// Asserts that FRR has opened its connections: the port of the speakers is 179.
pub(crate) fn expect_connections_of_frr(lab: &Lab) {
    for neighbor in NEIGHBORS_OF_FRR {
        let neighbors = lab.router().json(&format!("show bgp neighbors {neighbor} json")).unwrap();
        assert_eq!(neighbors[neighbor]["portForeign"], 179, "{neighbors}");
    }
}

/// Returns the BGPPeer with this name.
pub(crate) fn peer(name: &str) -> Value {
    json!({ "apiVersion": VERSION, "kind": "BGPPeer", "metadata": { "name": name } })
}

/// Changes fields of a BGPPeer.
pub(crate) fn set(lab: &Lab, name: &str, fields: Value) {
    lab.api().unwrap().merge(peer(name), json!({ "spec": fields })).unwrap();
}

/// Returns the session with `peer` in the Speaker object of `node`.
pub(crate) fn session(lab: &Lab, node: &str, peer: &str) -> Result<Value> {
    let speaker = lab.api()?.get(VERSION, "Speaker", None, node)?;
    let sessions = speaker.pointer("/status/sessions").and_then(Value::as_array);
    let session = sessions.into_iter().flatten().find(|session| session["peer"] == peer);
    session.cloned().ok_or_else(|| anyhow!("no session with {peer} in {speaker}"))
}

/// Waits until `node` reports that the session with `peer` is established.
pub(crate) fn expect_established(lab: &Lab, node: &str, peer: &str) {
    wait_for(format!("{node}'s session with {peer}"), 2 * SOON, || {
        let session = session(lab, node, peer)?;
        ensure!(session["state"] == "Established", "{session}");
        Ok(())
    })
    .unwrap();
}

/// Waits until `node` reports this error, and the phase Listening, for its session with `peer`.
pub(crate) fn expect_not_connected(lab: &Lab, node: &str, peer: &str, words: &[&str]) {
    wait_for(format!("{node} to report {words:?} for {peer}"), 2 * SOON, || {
        let session = session(lab, node, peer)?;
        let error = session["lastError"].as_str().unwrap_or_default();
        ensure!(session["phase"] == "Listening", "{session}");
        ensure!(words.iter().all(|word| error.contains(word)), "{session}");
        Ok(())
    })
    .unwrap();
}
