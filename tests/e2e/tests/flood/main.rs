//! Routers that send as fast as TCP accepts, or do not read: each must cost only its own session.
//!
//! Two speakers have sessions with FRR and with a scripted router. While the scripted router misbehaves
//! towards both, the LAN client asks for an L2 address, the kubelet's probe is repeated, and the sessions
//! with FRR are watched.
//!
//! Each flood lasts [`DEFAULT_SECONDS`], or `FAIRLEAD_FLOOD_SECONDS`. With `FAIRLEAD_QUIET_MACHINE`, the
//! limits are those of a machine that does nothing else.

#![allow(clippy::unwrap_used)]

mod observation;
mod scripted;

use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use fairlead_e2e::{LbService, Pool, SOON, Shared, Turn, VERSION, configure, established_since};
use fairlead_lab::peers::Host;
use fairlead_lab::{Capture, Lab, wait_for};
use futures::{StreamExt as _, TryStreamExt as _};
use kube::Api;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, PostParams};
use serde_json::{Value, json};

use observation::{Bounds, Observation, observe};
use scripted::{Behavior, Script, ScriptedRouter, keepalive, route_refresh, update};

/// Duration of each flood, in seconds. One second shows the faults that a flood caused in the past.
const DEFAULT_SECONDS: u64 = 5;
/// Time of each observation without a flood. The best of [`QUIET_OBSERVATIONS`] sets the bounds.
const QUIET: Duration = Duration::from_secs(1);
const QUIET_OBSERVATIONS: usize = 3;
/// Longest time between two messages of a speaker on a session with a hold time of 9 s. It sends a KEEPALIVE
/// every 2.25 s to 3 s.
const MAX_SILENCE: Duration = Duration::from_millis(4500);
/// Longest time of an orderly stop: the limit of the BGP sessions, and what a busy machine adds.
const MAX_STOP: Duration = Duration::from_secs(4);
/// Name of the BGPPeer of the scripted router.
const PEER: &str = "scripted";

/// Services with an address in `fd00::/16`, and BGPAdvertisements that aggregate it to /24, /25, … /128:
/// together [`PREFIXES`]. With 64 communities each, their UPDATEs exceed the buffers of all sockets.
const SERVICES: u16 = 150;
const PREFIXES: usize = 105 * SERVICES as usize;

static LAB: Shared = Shared::new(|| Lab::builder().nodes(2), configure);

fn flood_time() -> Duration {
    let seconds = std::env::var("FAIRLEAD_FLOOD_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(DEFAULT_SECONDS))
}

/// Creates the Services and BGPAdvertisements of [`PREFIXES`], unless they exist.
fn announce_many(lab: &Lab) {
    let api = lab.api().unwrap();
    let pool = Pool::new("many", &["fd00::/16"]).with("autoAssign", json!(false));
    if api.get(VERSION, "IPAddressPool", None, "many").is_ok() {
        return;
    }
    api.apply_object(pool.object().clone()).unwrap();
    let communities: Vec<String> = (0..64).map(|n| format!("large:64513:0:{n}")).collect();
    let advertisements = (24..=128).map(|length| {
        json!({
            "apiVersion": VERSION, "kind": "BGPAdvertisement", "metadata": { "name": format!("many-{length}") },
            "spec": { "ipAddressPools": ["many"], "peers": [PEER], "aggregationLengthV6": length,
                      "communities": communities },
        })
    });
    create_all(lab, None, advertisements.collect());
    let services = (0..SERVICES).map(|n| {
        // The first 24 bits differ.
        let address = format!("fd00:{n:x}00::1");
        let service = LbService::new(&format!("many-{n}"), "many").single("IPv6");
        service.annotation("fairlead.dev/load-balancer-ips", &address).object().clone()
    });
    create_all(lab, Some("default"), services.collect());
    for n in 0..SERVICES {
        api.wait_for_addresses(&format!("many-{n}"), 1, 3 * SOON).unwrap();
    }
}

/// Creates objects of one kind, many at a time.
fn create_all(lab: &Lab, namespace: Option<&'static str>, objects: Vec<Value>) {
    let api = lab.api().unwrap();
    let client = api.client();
    let created = api.run(async move {
        let objects: Vec<DynamicObject> =
            objects.into_iter().map(serde_json::from_value).collect::<Result<_, _>>()?;
        let Some(types) = objects.first().and_then(|object| object.types.clone()) else { return Ok(()) };
        let resource = ApiResource::from_gvk(&GroupVersionKind::try_from(&types)?);
        let api = match namespace {
            Some(namespace) => Api::namespaced_with(client, namespace, &resource),
            None => Api::all_with(client, &resource),
        };
        let requests = objects.into_iter().map(move |object| {
            let api = api.clone();
            async move { api.create(&PostParams::default(), &object).await.map(drop) }
        });
        futures::stream::iter(requests).buffer_unordered(16).try_collect::<()>().await?;
        anyhow::Ok(())
    });
    created.unwrap();
}

/// Starts a scripted router with sessions to both speakers. It behaves well until told otherwise.
fn router(lab: &Turn<'_>, name: &str, n: u8, behavior: Behavior) -> ScriptedRouter {
    let host = Host::plug(lab, name, n).unwrap();
    let router = ScriptedRouter::start(&host, behavior).unwrap();
    let peer = json!({
        "apiVersion": VERSION, "kind": "BGPPeer", "metadata": { "name": PEER },
        "spec": { "myASN": 64513, "peerASN": scripted::ASN, "peerAddress": host.address().v4.to_string(),
                  "holdTime": "9s", "connectTime": "1s", "dualStackAddressFamily": true },
    });
    lab.api().unwrap().apply_object(peer).unwrap();
    wait_for("the sessions with the scripted router", SOON, || {
        let sessions = router.established();
        ensure!(sessions == lab.nodes().len(), "{sessions} sessions");
        Ok(())
    })
    .unwrap();
    router
}

/// Deletes the BGPPeer, and waits until the speakers report no session with it.
fn remove(lab: &Lab) {
    let peer = json!({ "apiVersion": VERSION, "kind": "BGPPeer", "metadata": { "name": PEER } });
    lab.api().unwrap().delete(&peer.to_string()).unwrap();
    for node in lab.nodes() {
        wait_for(format!("{} to close the session", node.name()), SOON, || {
            let since = established_since(lab, node.name())?;
            ensure!(!since.contains_key(PEER), "{since:?}");
            Ok(())
        })
        .unwrap();
    }
}

/// Returns when each node's sessions with FRR came up.
fn frr_uptimes(lab: &Lab) -> Vec<Vec<(String, String)>> {
    let of_node = |node: &str| {
        wait_for(format!("the sessions of {node} in its Speaker object"), SOON, || {
            let mut since = established_since(lab, node)?;
            since.remove(PEER);
            ensure!(since.len() == 2, "{since:?}");
            Ok(since.into_iter().collect())
        })
        .unwrap()
    };
    lab.nodes().iter().map(|node| of_node(node.name())).collect()
}

/// Returns the entry of the scripted router in the Speaker object of `node`.
fn session(lab: &Lab, node: &str) -> Result<Value> {
    let speaker = lab.api()?.get(VERSION, "Speaker", None, node)?;
    let sessions = speaker.pointer("/status/sessions").and_then(Value::as_array);
    let session = sessions.into_iter().flatten().find(|session| session["peer"] == PEER);
    session.cloned().ok_or_else(|| anyhow::anyhow!("no session with the scripted router: {speaker}"))
}

/// Checks that the speakers send to FRR in time.
fn expect_keepalives(lab: &Lab, capture: &Capture, period: &Range<Instant>) {
    let frames = capture.frames();
    for address in lab.nodes().iter().flat_map(|node| node.addresses()) {
        let sent = frames.iter().filter(|captured| match &captured.frame.message {
            fairlead_lab::Message::Bgp { from, messages, .. } => *from == address && !messages.is_empty(),
            _ => false,
        });
        let silence = observation::longest_silence(sent.map(|captured| captured.at), period.clone());
        assert!(silence < MAX_SILENCE, "{address} sent nothing to FRR for {silence:?}");
    }
}

/// Lets the scripted router misbehave, and checks that nobody else notices.
fn expect_undisturbed(lab: &Turn<'_>, router: &ScriptedRouter, script: Script) {
    let service = LbService::new("asked", "l2").single("IPv4");
    let ip = service.up(lab).unwrap()[0];
    lab.wait_for_owner(ip, SOON).unwrap();
    let uptimes = frr_uptimes(lab);
    let quiet: Vec<_> = (0..QUIET_OBSERVATIONS).map(|_| observe(lab, ip, QUIET).unwrap()).collect();
    let bounds = Bounds::from_quiet(&quiet);
    let capture = lab.capture_router().unwrap();
    let start = Instant::now();

    router.play(script);
    let flooded = observe(lab, ip, flood_time());
    router.rest();

    let flooded: Observation = flooded.unwrap();
    eprintln!("bounds:  {bounds}\nflooded: {flooded}\n{router}");
    bounds.check(&flooded);
    let period = start..Instant::now();
    expect_keepalives(lab, &capture, &period);
    if router.reads() {
        for (address, silence) in router.longest_silences(&period) {
            assert!(silence < MAX_SILENCE, "{address} sent nothing to the scripted router for {silence:?}");
        }
    }
    assert_eq!(router.established(), lab.nodes().len(), "the scripted router still has its sessions");
    assert_eq!(frr_uptimes(lab), uptimes, "no session with FRR was lost");
    service.delete(lab).unwrap();
}

/// Checks that every speaker names the scripted router as one that sends too fast: in its Speaker object, and
/// once in its log, of which `before` counts the lines of earlier tests.
fn expect_named(lab: &Lab, before: &[usize]) {
    for node in lab.nodes() {
        wait_for(format!("{} to name the flood", node.name()), SOON, || {
            let messages = session(lab, node.name())?["messages"].to_string();
            ensure!(messages.contains("10000 messages or 1 MiB per second"), "{messages}");
            Ok(())
        })
        .unwrap();
        let octets = format!("fairlead_speaker_bgp_received_octets_total{{peer=\"{PEER}\"}}");
        assert!(node.speaker().unwrap().metric(&octets).unwrap() > 1_000_000, "the flood is counted");
    }
    let once: Vec<usize> = before.iter().map(|lines| lines + 1).collect();
    assert_eq!(named_in_logs(lab), once);
}

/// Returns for each speaker how many lines of its log name a flood.
fn named_in_logs(lab: &Lab) -> Vec<usize> {
    let lines = |log: String| log.lines().filter(|line| line.contains("10000 messages")).count();
    let logs = lab.nodes().iter().map(|node| std::fs::read_to_string(node.speaker().unwrap().log()));
    logs.map(|log| lines(log.unwrap())).collect()
}

#[test]
fn keepalive_flood_costs_only_its_session() {
    let lab = LAB.turn();
    let router = router(&lab, "keepalives", 3, Behavior::Reads);
    expect_undisturbed(&lab, &router, Script::Flood(keepalive()));
    drop(router);
    remove(&lab);
}

#[test]
fn update_flood_costs_only_its_session() {
    let lab = LAB.turn();
    let before = named_in_logs(&lab);
    let router = router(&lab, "updates", 4, Behavior::Reads);
    expect_undisturbed(&lab, &router, Script::Flood(update(900)));
    expect_named(&lab, &before);
    drop(router);
    remove(&lab);
}

#[test]
fn route_refresh_flood_costs_only_its_session() {
    let lab = LAB.turn();
    announce_many(&lab);
    let router = router(&lab, "refreshes", 5, Behavior::Reads);
    expect_undisturbed(&lab, &router, Script::Flood(route_refresh()));
    drop(router);
    remove(&lab);
}

#[test]
fn peer_that_does_not_read_costs_only_its_session() {
    let lab = LAB.turn();
    announce_many(&lab);
    // The kernel may let the buffer of a connection grow until it holds all routes.
    for node in &lab.network().nodes {
        let limit = || std::fs::write("/proc/sys/net/ipv4/tcp_wmem", "4096 16384 65536");
        node.netns.run(limit).unwrap().unwrap();
    }
    let router = router(&lab, "deaf", 6, Behavior::DoesNotRead);
    expect_undisturbed(&lab, &router, Script::Keepalives);
    for node in lab.nodes() {
        let pending = format!("fairlead_speaker_bgp_pending_prefixes{{peer=\"{PEER}\"}}");
        let pending = node.speaker().unwrap().metric(&pending).unwrap();
        assert!(pending > 0, "{} has nothing left to send", node.name());
    }
    // Nothing is lost: the router gets all routes when it reads.
    router.read_now();
    for node in lab.nodes() {
        wait_for(format!("{} to send its routes", node.name()), SOON, || {
            let session = session(&lab, node.name())?;
            ensure!(session["prefixes"] == PREFIXES, "{session}");
            Ok(())
        })
        .unwrap();
    }
    drop(router);
    remove(&lab);
}

#[test]
fn flooded_speaker_stops_in_time() {
    let lab = LAB.turn();
    let router = router(&lab, "stops", 7, Behavior::Reads);
    router.play(Script::Flood(keepalive()));
    let node = lab.node("n2").unwrap();
    let status = node.speaker().unwrap().terminate(MAX_STOP).unwrap();
    assert!(status.success(), "{status}");
    wait_for("FRR to see the end of the sessions with n2", SOON, || {
        let sessions = lab.router().sessions()?;
        let state = |address| sessions.get(&address).map(|session| session.state.clone());
        let states: Vec<_> = node.addresses().into_iter().filter_map(state).collect();
        ensure!(!states.iter().any(|state| state == "Established"), "{states:?}");
        Ok(())
    })
    .unwrap();
    router.rest();
    node.speaker().unwrap().spawn_again().unwrap();
    drop(router);
    remove(&lab);
}
