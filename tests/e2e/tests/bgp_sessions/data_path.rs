//! Advertisements with `announceWhen: DataPathReady`: a node announces an address when it forwards the
//! packets.

use std::net::SocketAddr;

use fairlead_e2e::{
    LbService, PACE, PORT, Policy, SECOND, SOON, VERSION, all_nodes, expect_next_hops, merge_service, nodes,
};
use fairlead_lab::{Lab, Transport, observe_for};
use serde_json::{Value, json};

use crate::setup::LAB;

/// Number of streams. There are more of them than paths, so that some take the new path.
const STREAMS: usize = 8;

fn set_announce_when(lab: &Lab, value: &Value) {
    let ad = json!({ "apiVersion": VERSION, "kind": "BGPAdvertisement", "metadata": { "name": "bgp" } });
    lab.api().unwrap().merge(ad, json!({ "spec": { "announceWhen": value } })).unwrap();
}

/// Returns the number of probes of all nodes that were answered.
fn probes(lab: &Lab) -> u64 {
    let probes = lab.nodes().iter().map(|node| {
        let speaker = node.speaker().unwrap();
        assert_eq!(speaker.metric("fairlead_speaker_data_path_timeouts_total").unwrap(), 0);
        // The series begins with the first probe.
        speaker.metric("fairlead_speaker_data_path_probes_total{result=\"ok\"}").unwrap_or_default()
    });
    probes.sum()
}

#[test]
fn late_proxy_loses_no_packet() {
    let lab = LAB.turn();
    assert_eq!(probes(&lab), 0, "no advertisement asks for probes");
    set_announce_when(&lab, &json!("DataPathReady"));
    // The rules of the nodes follow each change after two seconds.
    let service = LbService::new("data-path", "bgp").single("IPv4").policy(Policy::Local).on("n1");
    let service = service.annotation("fairlead-lab/proxy-delay-ms", "2000");
    let ip = service.up(&lab).unwrap()[0];
    let to = SocketAddr::new(ip, PORT);
    expect_next_hops(&lab, ip, &nodes(["n1"]), SOON).unwrap();
    lab.remote().ask(to, Transport::Tcp, SECOND).unwrap();

    let streams: Vec<_> = (0..STREAMS).map(|_| lab.remote().stream(to, PACE)).collect();
    streams.iter().for_each(|stream| stream.wait_for_sent(50, SOON).unwrap());
    merge_service(&lab, service.name(), json!({ "spec": { "selector": { "node": null } } })).unwrap();
    expect_next_hops(&lab, ip, &all_nodes(&lab), SOON).unwrap();
    streams.iter().for_each(|stream| stream.wait_for_more(100, SOON).unwrap());
    let reports: Vec<_> = streams.into_iter().map(|stream| stream.stop().unwrap()).collect();
    assert!(reports.iter().any(|report| report.pods.len() > 1), "no stream took the new path: {reports:?}");
    for report in &reports {
        assert_eq!(report.answered, report.sent, "{reports:?}");
    }

    let probed = probes(&lab);
    assert!(probed > 0);
    observe_for(SECOND);
    assert_eq!(probes(&lab), probed, "nothing waits");
    set_announce_when(&lab, &Value::Null);
    service.delete(&lab).unwrap();
}
