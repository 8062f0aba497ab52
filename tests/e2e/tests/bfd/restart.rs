//! A restart of the speaker, and the end of BFD, under graceful restart.

use fairlead_e2e::{SECOND, SOON, all_nodes, expect_next_hops, expect_sessions};
use fairlead_lab::{Lab, observe_for, wait_for};
use serde_json::{Value, json};

use crate::failures::announced;
use crate::frr::remove_profile;
use crate::observed::{expect_all_up, session};
use crate::{LAB, peer_object};

/// Enables graceful restart on all sessions, and waits until it is negotiated.
fn graceful_restart(lab: &Lab, enable: bool) {
    for peer in ["router-v4", "router-v6"] {
        let spec = if enable { json!(true) } else { Value::Null };
        let spec = json!({ "spec": { "enableGracefulRestart": spec } });
        lab.api().unwrap().merge(peer_object(peer), spec).unwrap();
        for node in lab.nodes() {
            wait_for(format!("graceful restart of {} with {peer}: {enable}", node.name()), 2 * SOON, || {
                let session = session(lab, node.name(), peer)?;
                let negotiated =
                    session["negotiated"]["capabilities"].to_string().contains("graceful restart");
                anyhow::ensure!(session["state"] == "Established" && negotiated == enable, "{session}");
                Ok(())
            })
            .unwrap();
        }
    }
    expect_all_up(lab, SOON).unwrap();
}

/// The router detects a failure within 150 ms, and the restart takes longer.
#[test]
fn restarted_speaker_and_removed_profile_cost_no_route() {
    let lab = LAB.turn();
    graceful_restart(&lab, true);
    let (service, ip) = announced(&lab, "bfd-restart");
    let routes = lab.router().monitor_routes().unwrap();
    let speaker = lab.node("n1").unwrap().speaker().unwrap();
    speaker.terminate(10 * SECOND).unwrap();
    // Longer than the router takes to detect a failure.
    observe_for(SECOND);
    speaker.spawn_again().unwrap();
    expect_sessions(&lab, 2 * SOON).unwrap();
    expect_all_up(&lab, SOON).unwrap();
    remove_profile(&lab);
    // The router deletes what was not announced until the End-of-RIB.
    observe_for(2 * SECOND);
    assert_eq!(routes.events().unwrap(), [], "route events in the kernel of the router");
    expect_next_hops(&lab, ip, &all_nodes(&lab), SOON).unwrap();
    service.delete(&lab).unwrap();
    graceful_restart(&lab, false);
}
