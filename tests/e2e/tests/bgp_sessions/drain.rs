//! Planned leaves: a node that is drained, and a speaker that is stopped. Clients lose nothing.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::ensure;
use fairlead_e2e::{
    LbService, PORT, SECOND, SOON, VERSION, all_nodes, expect_next_hops, expect_owner, expect_sessions,
    nodes, reach,
};
use fairlead_lab::{Lab, Stream, wait_for};
use serde_json::{Value, json};

use crate::setup::LAB;

/// 500 packets per second: 3,000 in six seconds.
const PACE: Duration = Duration::from_millis(2);
const PACKETS: u64 = 3_000;
/// Packets before the leave, and after its last effect.
const LEAD: u64 = 500;
const LAG: u64 = 1_000;

/// Sets or removes the label that drains a node.
fn drain(lab: &Lab, node: &str, value: &Value) {
    let object = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": node } });
    let patch = json!({ "metadata": { "labels": { "fairlead.dev/drain": value } } });
    lab.api().unwrap().merge(object, patch).unwrap();
}

/// Waits until the condition `Drained` of a node's Speaker object has this status.
fn expect_drained(lab: &Lab, node: &str, status: &str) {
    wait_for(format!("Drained={status} of {node}"), SOON, || {
        let speaker = lab.api()?.get(VERSION, "Speaker", None, node)?;
        let conditions = speaker.pointer("/status/conditions").and_then(Value::as_array);
        let drained = conditions.into_iter().flatten().find(|condition| condition["type"] == "Drained");
        ensure!(drained.is_some_and(|condition| condition["status"] == status), "{drained:?}");
        Ok(())
    })
    .unwrap();
}

/// Waits until FRR has a path to `ip` from n2 with the community GRACEFUL_SHUTDOWN and LOCAL_PREF 0.
fn expect_graceful_shutdown(lab: &Lab, ip: IpAddr) {
    let command = format!("show bgp ipv4 unicast {ip}/32 json");
    wait_for("GRACEFUL_SHUTDOWN of n2", SOON, || {
        let route = lab.router().json(&command)?;
        let paths = route["paths"].as_array().cloned().unwrap_or_default();
        let marked = paths.iter().any(|path| {
            path["nexthops"][0]["ip"] == "192.0.2.12"
                && path["community"]["string"] == "graceful-shutdown"
                && path["locPrf"] == 0
        });
        ensure!(marked, "{route}");
        Ok(())
    })
    .unwrap();
}

/// Waits until the stream has sent [`PACKETS`] and [`LAG`] more, and checks that all were answered.
fn expect_no_loss(what: &str, stream: Stream) {
    stream.wait_for_more(LAG, SOON).unwrap();
    stream.wait_for_sent(PACKETS, SOON).unwrap();
    let report = stream.stop().unwrap();
    eprintln!("{what}: {report}");
    assert!(report.sent >= PACKETS, "{what}: {report}");
    assert_eq!(report.answered, report.sent, "{what}: {report}");
}

#[test]
fn drain_of_each_node_loses_no_packet() {
    let lab = LAB.turn();
    let (bgp, l2) =
        (LbService::new("drain-bgp", "bgp").single("IPv4"), LbService::new("drain-l2", "l2").single("IPv4"));
    let (bgp_ip, l2_ip) = (bgp.up(&lab).unwrap()[0], l2.up(&lab).unwrap()[0]);
    expect_next_hops(&lab, bgp_ip, &all_nodes(&lab), SOON).unwrap();
    let owner = lab.wait_for_owner(l2_ip, SOON).unwrap().to_owned();
    reach(&lab, bgp_ip, 3).unwrap();
    reach(&lab, l2_ip, 3).unwrap();
    // One of the nodes carries the stream.
    for node in ["n2", "n1"] {
        let other = if node == "n1" { "n2" } else { "n1" };
        let stream = lab.remote().stream(SocketAddr::new(bgp_ip, PORT), PACE);
        stream.wait_for_sent(LEAD, SOON).unwrap();
        drain(&lab, node, &json!(""));
        if node == "n2" {
            expect_graceful_shutdown(&lab, bgp_ip);
        }
        expect_drained(&lab, node, "True");
        expect_next_hops(&lab, bgp_ip, &nodes([other]), SECOND).unwrap();
        expect_owner(&lab, l2_ip, other, SECOND).unwrap();
        expect_no_loss(&format!("drain of {node}"), stream);
        drain(&lab, node, &Value::Null);
        expect_drained(&lab, node, "False");
        expect_next_hops(&lab, bgp_ip, &all_nodes(&lab), SOON).unwrap();
        expect_owner(&lab, l2_ip, &owner, SOON).unwrap();
    }
    bgp.delete(&lab).unwrap();
    l2.delete(&lab).unwrap();
}

#[test]
fn stop_of_each_speaker_loses_no_packet() {
    let lab = LAB.turn();
    let service = LbService::new("stopped", "bgp").single("IPv4");
    let ip = service.up(&lab).unwrap()[0];
    expect_next_hops(&lab, ip, &all_nodes(&lab), SOON).unwrap();
    reach(&lab, ip, 3).unwrap();
    for name in ["n1", "n2"] {
        let speaker = lab.node(name).unwrap().speaker().unwrap();
        let stream = lab.remote().stream(SocketAddr::new(ip, PORT), PACE);
        stream.wait_for_sent(LEAD, SOON).unwrap();
        speaker.terminate(10 * SECOND).unwrap();
        // The other node carries the traffic meanwhile.
        stream.wait_for_more(1_000, SOON).unwrap();
        speaker.spawn_again().unwrap();
        expect_sessions(&lab, 2 * SOON).unwrap();
        expect_next_hops(&lab, ip, &all_nodes(&lab), SOON).unwrap();
        expect_no_loss(&format!("stop of {name}"), stream);
    }
    service.delete(&lab).unwrap();
}
