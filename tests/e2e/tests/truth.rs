//! What the API says of speakers that stop, are killed, or are cut off.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use fairlead_e2e::{LbService, SECOND, SOON, Shared, VERSION, configure, expect_sessions};
use fairlead_lab::addresses::ROUTER_ASN;
use fairlead_lab::{Lab, NAMESPACE, wait_for};
use serde_json::{Value, json};

static LAB: Shared = Shared::new(Lab::builder, configure);
/// One node, whose speaker has no other that could report it.
static SINGLE: Shared = Shared::new(|| Lab::builder().nodes(1), configure);

/// Longest time from the death of a speaker to `READY false` in `kubectl get speakers`.
const KILLED_BUDGET: Duration = Duration::from_secs(5);
/// Time for which the controller waits before it trusts the readiness of a Pod, and a margin.
const POD_BUDGET: Duration = Duration::from_secs(15);
/// A BGPPeer is updated at most every five seconds.
const PEER_BUDGET: Duration = Duration::from_secs(10);

fn speaker(lab: &Lab, node: &str) -> Result<Value> {
    lab.api()?.get(VERSION, "Speaker", None, node)
}

fn condition<'a>(object: &'a Value, type_: &str) -> Option<&'a Value> {
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array)?;
    conditions.iter().find(|condition| condition["type"] == type_)
}

/// Returns `status.ready` and the reason of the condition `Ready`, as `false/Stopped`.
fn readiness(object: &Value) -> String {
    let reason = condition(object, "Ready").and_then(|ready| ready["reason"].as_str());
    format!("{}/{}", object["status"]["ready"], reason.unwrap_or("-"))
}

fn expect_readiness(lab: &Lab, node: &str, expected: &str, limit: Duration) -> Value {
    wait_for(format!("the Speaker {node} to be {expected}"), limit, || {
        let object = speaker(lab, node)?;
        let seen = readiness(&object);
        if seen == expected { Ok(object) } else { Err(anyhow!("{seen}")) }
    })
    .unwrap()
}

fn expect_peers(lab: &Lab, sessions: &str, limit: Duration) {
    for peer in ["router-v4", "router-v6"] {
        wait_for(format!("{sessions} sessions of {peer}"), limit, || {
            let object = lab.api()?.get(VERSION, "BGPPeer", None, peer)?;
            let seen = &object["status"]["establishedSessions"];
            ensure!(*seen == sessions, "{seen}");
            Ok(())
        })
        .unwrap();
    }
}

fn expect_advertised(lab: &Lab, service: &LbService, expected: &str, limit: Duration) {
    wait_for(format!("{} to be {expected}", service.name()), limit, || {
        let condition = lab.api()?.condition(service.name(), "fairlead.dev/Advertised")?;
        let seen = condition.map(|(status, reason, _)| format!("{status}/{reason}"));
        ensure!(seen.as_deref() == Some(expected), "{seen:?}");
        Ok(())
    })
    .unwrap();
}

/// Fails if the object shows an announcement or an established session.
fn expect_nothing_announced(object: &Value) {
    let status = &object["status"];
    for protocol in ["l2", "bgp"] {
        let announced = &status[protocol];
        assert_eq!((&announced["announced"], &announced["addresses"]), (&json!(0), &Value::Null), "{object}");
    }
    let sessions = status["sessions"].as_array().into_iter().flatten();
    assert!(sessions.into_iter().all(|session| session["state"] == "Idle"), "{object}");
    let generation = &object["metadata"]["generation"];
    assert_eq!(condition(object, "Ready").unwrap()["observedGeneration"], *generation, "{object}");
}

#[test]
fn stopped_speaker_shows_so_when_its_process_ends() {
    let lab = LAB.turn();
    let service = LbService::new("stopped", "bgp");
    service.up(&lab).unwrap();
    expect_peers(&lab, "3/3", SOON);
    let process = lab.node("n2").unwrap().speaker().unwrap();
    let status = process.terminate(10 * SECOND).unwrap();
    assert!(status.success(), "{status}");
    let object = speaker(&lab, "n2").unwrap();
    assert_eq!(readiness(&object), "false/Stopped");
    expect_nothing_announced(&object);
    assert_eq!(object["status"]["establishedSessions"], "0/2");
    expect_peers(&lab, "2/3", PEER_BUDGET);
    // No other speaker writes anything into it.
    std::thread::sleep(4 * SECOND);
    assert_eq!(speaker(&lab, "n2").unwrap(), object);

    process.spawn_again().unwrap();
    expect_readiness(&lab, "n2", "true/Running", SOON);
    expect_peers(&lab, "3/3", SOON);
    service.delete(&lab).unwrap();
}

/// Sets or removes the label that drains a node, and waits until its speaker shows it.
fn drain(lab: &Lab, node: &str, value: Value, status: &str) {
    let object = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": node } });
    let patch = json!({ "metadata": { "labels": { "fairlead.dev/drain": value } } });
    lab.api().unwrap().merge(object, patch).unwrap();
    wait_for(format!("Drained={status} of {node}"), SOON, || {
        let object = speaker(lab, node)?;
        ensure!(condition(&object, "Drained").is_some_and(|drained| drained["status"] == status), "{object}");
        Ok(())
    })
    .unwrap();
}

#[test]
fn stopped_speaker_of_a_drained_node_is_not_wanted() {
    let lab = LAB.turn();
    expect_peers(&lab, "3/3", SOON);
    drain(&lab, "n2", json!("true"), "True");
    expect_peers(&lab, "3/3", SOON);
    let process = lab.node("n2").unwrap().speaker().unwrap();
    process.terminate(10 * SECOND).unwrap();
    let object = speaker(&lab, "n2").unwrap();
    assert_eq!(readiness(&object), "false/Stopped");
    expect_nothing_announced(&object);
    assert_eq!(object["status"]["sessions"], Value::Null);
    expect_peers(&lab, "2/2", PEER_BUDGET);
    process.spawn_again().unwrap();
    drain(&lab, "n2", Value::Null, "False");
    expect_peers(&lab, "3/3", SOON);
}

#[test]
fn killed_speaker_is_reported_by_another_one() {
    let lab = LAB.turn();
    let (l2, bgp) = (LbService::new("killed-l2", "l2"), LbService::new("killed-bgp", "bgp"));
    for service in [&l2, &bgp] {
        service.up(&lab).unwrap();
        expect_advertised(&lab, service, "True/Announced", SOON);
    }
    // The first node by name, which reports the others, and the last one.
    for node in ["n1", "n3"] {
        expect_peers(&lab, "3/3", SOON);
        let process = lab.node(node).unwrap().speaker().unwrap();
        let start = Instant::now();
        process.kill().unwrap();
        let object = expect_readiness(&lab, node, "false/NotResponding", KILLED_BUDGET);
        eprintln!("{node} was reported after {:?}", start.elapsed());
        expect_nothing_announced(&object);
        expect_peers(&lab, "2/3", PEER_BUDGET);
        // The other nodes announce the addresses.
        for service in [&l2, &bgp] {
            expect_advertised(&lab, service, "True/Announced", SOON);
        }
        assert_eq!(speaker(&lab, node).unwrap(), object, "it was reported once");
        process.spawn_again().unwrap();
        expect_readiness(&lab, node, "true/Running", SOON);
        expect_sessions(&lab, SOON).unwrap();
    }
    expect_peers(&lab, "3/3", SOON);
    for service in [l2, bgp] {
        service.delete(&lab).unwrap();
    }
}

/// Returns the Events about an object with one of these reasons, as `reason note`.
fn events(lab: &Lab, kind: &str, name: &str, reasons: &[&str]) -> Result<Vec<String>> {
    let events = lab.api()?.list("events.k8s.io/v1", "Event")?;
    let about = events.iter().filter(|event| {
        event["regarding"]["kind"] == kind
            && event["regarding"]["name"] == name
            && event["regarding"]["uid"].is_string()
            && event["reason"].as_str().is_some_and(|reason| reasons.contains(&reason))
    });
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(about.map(|event| format!("{} {}", text(&event["reason"]), text(&event["note"]))).collect())
}

#[test]
fn takeover_is_an_event_and_a_line_in_the_log() {
    let lab = LAB.turn();
    let service = LbService::new("event", "l2").single("IPv4");
    let ip = service.up(&lab).unwrap()[0];
    let seen = || events(&lab, "Service", "event", &["Announced", "Moved"]);
    let owner = lab.wait_for_owner(ip, SOON).unwrap().to_owned();
    wait_for("the Event of the first owner", SOON, || {
        let seen = seen()?;
        let expected = format!("Announced {ip} by {owner} (L2) on ");
        ensure!(seen.len() == 1 && seen[0].starts_with(&expected), "{seen:?}");
        Ok(())
    })
    .unwrap();
    lab.node(&owner).unwrap().speaker().unwrap().kill().unwrap();
    let next = wait_for("another owner", SOON, || {
        let next = lab.wait_for_owner(ip, SOON)?.to_owned();
        ensure!(next != owner, "{next}");
        Ok(next)
    })
    .unwrap();
    let moved = format!("{ip} from {owner} to {next} (L2) on ");
    wait_for("the Event of the next owner", SOON, || {
        let seen = seen()?;
        let cause = format!(": {owner} is not responding");
        let is_expected =
            |event: &String| event.starts_with(&format!("Moved {moved}")) && event.ends_with(&cause);
        ensure!(seen.len() == 2 && seen.iter().any(is_expected), "{seen:?}");
        Ok(())
    })
    .unwrap();
    let log = std::fs::read_to_string(lab.node(&next).unwrap().speaker().unwrap().log()).unwrap();
    let line =
        log.lines().find(|line| line.contains("announcing an address") && line.contains(&ip.to_string()));
    let line = line.unwrap_or_else(|| panic!("no line about {ip}"));
    for part in ["default/event", "interfaces", "is not responding", "duration"] {
        assert!(line.contains(part), "{line}");
    }
    service.delete(&lab).unwrap();
}

#[test]
fn lost_and_established_sessions_are_events() {
    let lab = LAB.turn();
    expect_peers(&lab, "3/3", SOON);
    wait_for("Events about established sessions", SOON, || {
        let seen = events(&lab, "BGPPeer", "router-v4", &["SessionUp"])?;
        ensure!(
            ["n1", "n2", "n3"].iter().all(|node| seen.iter().any(|event| event.contains(node))),
            "{seen:?}"
        );
        Ok(())
    })
    .unwrap();
    let shutdown = |line: &str| {
        lab.router().configure(&[&format!("router bgp {ROUTER_ASN}"), line]).unwrap();
    };
    shutdown("neighbor speakers shutdown");
    let ended = wait_for("Events about lost sessions", 2 * SOON, || {
        let seen = events(&lab, "BGPPeer", "router-v4", &["SessionDown"])?;
        for node in ["n1", "n2", "n3"] {
            let lost = format!("SessionDown {node} has lost the session with 192.0.2.1: ");
            ensure!(seen.iter().any(|event| event.starts_with(&lost)), "{seen:?}");
        }
        Ok(())
    });
    shutdown("no neighbor speakers shutdown");
    ended.unwrap();
    expect_sessions(&lab, 2 * SOON).unwrap();
}

/// The speaker runs, and its mesh is blocked: the others report it, and it contradicts once.
#[test]
fn speaker_that_the_mesh_does_not_hear_remains_ready() {
    let lab = LAB.turn();
    let since = |node: &str| {
        let object = speaker(&lab, node).unwrap();
        condition(&object, "Ready").unwrap()["lastTransitionTime"].clone()
    };
    // Times have whole seconds.
    std::thread::sleep(SECOND);
    let before = ["n1", "n2", "n3"].map(since);
    lab.block_mesh("n2").unwrap();
    wait_for("the report about n2, and its answer", SOON, || {
        let object = speaker(&lab, "n2")?;
        ensure!(readiness(&object) == "true/Running" && since("n2") != before[1], "{object}");
        Ok(())
    })
    .unwrap();
    let versions =
        || ["n1", "n2", "n3"].map(|node| speaker(&lab, node).unwrap()["metadata"]["resourceVersion"].clone());
    let answered = versions();
    std::thread::sleep(8 * SECOND);
    assert_eq!(versions(), answered, "neither is repeated");
    // The isolated node reports nobody.
    assert_eq!([since("n1"), since("n3")], [before[0].clone(), before[2].clone()]);
    lab.mend().unwrap();
}

#[test]
fn services_are_not_advertised_while_all_speakers_are_stopped() {
    let lab = LAB.turn();
    let service = LbService::new("all-stopped", "l2");
    service.up(&lab).unwrap();
    expect_advertised(&lab, &service, "True/Announced", SOON);
    for node in lab.nodes() {
        node.speaker().unwrap().terminate(10 * SECOND).unwrap();
        assert_eq!(readiness(&speaker(&lab, node.name()).unwrap()), "false/Stopped");
    }
    expect_advertised(&lab, &service, "False/NoSpeaker", SOON);
    expect_peers(&lab, "0/3", PEER_BUDGET);
    for node in lab.nodes() {
        node.speaker().unwrap().spawn_again().unwrap();
    }
    expect_advertised(&lab, &service, "True/Announced", SOON);
    expect_sessions(&lab, SOON).unwrap();
    expect_peers(&lab, "3/3", PEER_BUDGET);
    service.delete(&lab).unwrap();
}

/// Writes the endpoints of the Service of the speakers, as Kubernetes derives them from the probes of a Pod.
fn write_endpoint(lab: &Lab, ready: bool) {
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": { "name": "fairlead-speaker-a", "namespace": NAMESPACE,
                      "labels": { "kubernetes.io/service-name": "fairlead-speaker" } },
        "addressType": "IPv4",
        "endpoints": [{ "addresses": ["192.0.2.11"], "nodeName": "n1", "conditions": { "ready": ready } }],
    });
    lab.api().unwrap().apply_object(slice).unwrap();
}

fn write_node_condition(lab: &Lab, ready: &str) {
    let node = lab.api().unwrap().get("v1", "Node", None, "n1").unwrap();
    let status = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "n1" },
                         "status": { "addresses": node["status"]["addresses"],
                                     "conditions": [{ "type": "Ready", "status": ready, "reason": "Lab",
                                                      "message": "" }] } });
    lab.api().unwrap().apply_status(status).unwrap();
}

#[test]
fn last_speaker_is_reported_by_the_controller() {
    let lab = SINGLE.turn();
    let service = LbService::new("last", "bgp");
    service.up(&lab).unwrap();
    write_endpoint(&lab, true);
    expect_advertised(&lab, &service, "True/Announced", SOON);
    expect_peers(&lab, "1/1", SOON);
    let process = lab.node("n1").unwrap().speaker().unwrap();
    type Change = fn(&Lab);
    let fail: [(&str, Change, Change); 2] = [
        ("the Pod is not ready", |lab| write_endpoint(lab, false), |lab| write_endpoint(lab, true)),
        (
            "the Node does not respond",
            |lab| write_node_condition(lab, "Unknown"),
            |lab| write_node_condition(lab, "True"),
        ),
    ];
    for (what, begin, end) in fail {
        eprintln!("{what}");
        process.kill().unwrap();
        begin(&lab);
        let object = expect_readiness(&lab, "n1", "false/NotResponding", POD_BUDGET);
        expect_nothing_announced(&object);
        expect_advertised(&lab, &service, "False/NoSpeaker", SOON);
        expect_peers(&lab, "0/1", PEER_BUDGET);
        process.spawn_again().unwrap();
        end(&lab);
        expect_readiness(&lab, "n1", "true/Running", SOON);
        expect_advertised(&lab, &service, "True/Announced", SOON);
        expect_peers(&lab, "1/1", SOON);
    }
    service.delete(&lab).unwrap();
}
