//! A node that is cut off takes no address of others over. A node whose only neighbors die takes all over.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Error, Result, anyhow};
use fairlead_e2e::{
    LbService, PACE, PORT, SECOND, SOON, Shared, VERSION, configure, expect_mesh, expect_owner, rounds,
    service_off_its_owner, streams,
};
use fairlead_lab::{Capture, Carrier, Lab, Lost, NAMESPACE, Outage, Questions, ensure, wait_for};
use serde_json::json;

static LAB: Shared = Shared::new(Lab::builder, configure);

/// The node that is cut off.
const CUT: &str = "n2";
/// Where the pods are.
const BACKEND: &str = "n1";

/// Time between two questions for the owner of an address.
const QUESTION_PACE: Duration = Duration::from_millis(20);

/// Longest gap when an owner dies.
const CUT_BUDGET: Duration = Duration::from_secs(2);

/// Longest time for which an address of a node without mesh has two owners, or none.
const REPLACED_BUDGET: Duration = Duration::from_secs(3);

/// A packet that the busy machine loses or delays. A wrong claim costs a client seconds, and is seen on the
/// wire.
const BLINK: Duration = Duration::from_millis(50);

/// Services whose pods are not on the node to be cut off, and their owners.
struct Owned {
    services: Vec<LbService>,
    owners: BTreeMap<IpAddr, String>,
}

impl Owned {
    /// Six Services with IPv4 addresses.
    fn new(lab: &Lab, name: &str) -> Self {
        let service = |n| LbService::new(&format!("{name}-{n}"), "l2").single("IPv4").on(BACKEND);
        Self::of(lab, (0..6).map(service).collect())
    }

    /// Four Services with addresses of both families.
    fn dual_stack(lab: &Lab, name: &str) -> Self {
        let service = |n| LbService::new(&format!("{name}-{n}"), "l2").on(BACKEND);
        let owned = Self::of(lab, (0..4).map(service).collect());
        let families: BTreeSet<bool> = owned.of_cut().map(|ip| ip.is_ipv4()).collect();
        assert_eq!(families.len(), 2, "{CUT} has addresses of both families: {:?}", owned.owners);
        owned
    }

    fn of(lab: &Lab, services: Vec<LbService>) -> Self {
        let ips = services.iter().flat_map(|service| service.up(lab).unwrap());
        let owners: BTreeMap<_, _> =
            ips.map(|ip| (ip, lab.wait_for_owner(ip, SOON).unwrap().to_owned())).collect();
        let own = owners.values().filter(|owner| *owner == CUT).count();
        assert!(own > 0 && own < owners.len(), "{owners:?}");
        Self { services, owners }
    }

    /// Addresses of the node that is cut off.
    fn of_cut(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.owners.iter().filter(|(_, owner)| *owner == CUT).map(|(ip, _)| *ip)
    }

    /// Returns the nodes that answer for each address of the node that is cut off, when asked for this time.
    fn answering(&self, lab: &Lab, time: Duration) -> BTreeMap<IpAddr, BTreeSet<String>> {
        let start = |ip| (ip, Questions::start(lab, ip, QUESTION_PACE).unwrap());
        let questions: Vec<_> = self.of_cut().map(start).collect();
        std::thread::sleep(time);
        let stop = |(ip, questions): (IpAddr, Questions)| {
            let report = questions.stop().unwrap();
            let nodes = report.answers().map(|(_, mac)| lab.node_of(mac).unwrap().to_owned());
            (ip, nodes.collect())
        };
        questions.into_iter().map(stop).collect()
    }

    /// Waits until exactly one other node answers for each address of the node that is cut off, and verifies
    /// that this stays so.
    fn expect_one_replacement(&self, lab: &Lab) {
        let replaced = |answering: BTreeMap<IpAddr, BTreeSet<String>>| {
            let one = answering.values().all(|nodes| nodes.len() == 1 && !nodes.contains(CUT));
            ensure(one, answering).map_err(|seen| anyhow!("{seen:?}"))
        };
        let start = Instant::now();
        wait_for("one other owner of each address", REPLACED_BUDGET, || {
            replaced(self.answering(lab, SECOND / 5))
        })
        .unwrap();
        eprintln!("one owner each after {:?}", start.elapsed());
        replaced(self.answering(lab, 3 * SECOND)).unwrap();
    }

    /// Addresses of the nodes that are not cut off.
    fn of_others(&self) -> Vec<IpAddr> {
        self.owners.iter().filter(|(_, owner)| *owner != CUT).map(|(ip, _)| *ip).collect()
    }

    /// Runs `fault`. The clients of addresses of others lose nothing, and nobody else claims them.
    fn lose_nothing(&self, lab: &Lab, what: &str, fault: impl FnOnce()) {
        let others = self.of_others();
        for ip in &others {
            expect_owner(lab, *ip, &self.owners[ip], SOON).unwrap();
        }
        let streams: Vec<_> =
            others.iter().map(|ip| (*ip, lab.client().stream(SocketAddr::new(*ip, PORT), PACE))).collect();
        let capture = lab.capture_client().unwrap();
        std::thread::sleep(SECOND);
        fault();
        for (ip, stream) in streams {
            let report = stream.stop().unwrap();
            eprintln!("{what}: {ip} of {}: {report}", self.owners[&ip]);
            assert!(report.sent > 100 && report.longest_gap <= BLINK, "{what}: {ip}: {report}");
        }
        assert_eq!(self.foreign_claims(lab, &capture), Vec::<String>::new(), "{what}");
    }

    fn foreign_claims(&self, lab: &Lab, capture: &Capture) -> Vec<String> {
        let by_cut = |mac| lab.node_of(mac) == Some(CUT);
        let frames = capture.frames().into_iter().filter(|seen| by_cut(seen.frame.source));
        let others = self.of_others();
        let claims = frames.filter(|seen| others.iter().any(|ip| seen.frame.message.claims(*ip)));
        claims.map(|seen| seen.frame.to_string()).collect()
    }

    fn expect_owners(&self, lab: &Lab) {
        for (ip, owner) in &self.owners {
            expect_owner(lab, *ip, owner, SOON).unwrap();
        }
    }

    fn delete(self, lab: &Lab) {
        self.services.iter().for_each(|service| service.delete(lab).unwrap());
    }
}

/// Waits until every address of the node that is cut off has another owner.
fn expect_replaced(lab: &Lab, owned: &Owned) {
    let own = owned.owners.iter().filter(|(_, owner)| *owner == CUT);
    for (ip, _) in own {
        wait_for(format!("another owner of {ip}"), SOON, || match lab.owner(*ip) {
            Ok(Some(owner)) if owner != CUT => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .unwrap();
    }
}

fn one_way_cut(lost: Lost) {
    let lab = LAB.turn();
    let owned = Owned::new(&lab, &format!("{lost:?}").to_lowercase());
    for round in 1..=rounds(3) {
        owned.lose_nothing(&lab, &format!("{lost:?}, round {round}"), || {
            lab.cut_one_way(CUT, lost).unwrap();
            std::thread::sleep(3 * SECOND);
            if round == 1 {
                expect_replaced(&lab, &owned);
            }
            lab.mend().unwrap();
            std::thread::sleep(3 * SECOND);
        });
        expect_mesh(&lab, SOON).unwrap();
        owned.expect_owners(&lab);
    }
    owned.delete(&lab);
}

#[test]
fn node_that_hears_nothing_claims_nothing() {
    one_way_cut(Lost::Incoming);
}

#[test]
fn node_that_is_not_heard_claims_nothing() {
    one_way_cut(Lost::Outgoing);
}

#[test]
fn node_with_blocked_mesh_port_claims_nothing() {
    let lab = LAB.turn();
    let owned = Owned::dual_stack(&lab, "blocked");
    owned.lose_nothing(&lab, "blocked while it runs", || {
        lab.block_mesh(CUT).unwrap();
        owned.expect_one_replacement(&lab);
        expect_yielded(&lab, owned.of_cut().count());
        lab.unblock_mesh(CUT).unwrap();
        expect_mesh(&lab, SOON).unwrap();
    });
    owned.expect_owners(&lab);
    let speaker = lab.node(CUT).unwrap().speaker().unwrap();
    owned.lose_nothing(&lab, "blocked when it starts", || {
        speaker.terminate(10 * SECOND).unwrap();
        lab.block_mesh(CUT).unwrap();
        speaker.spawn_again().unwrap();
        speaker.wait_until_ready(SOON).unwrap();
        std::thread::sleep(4 * SECOND);
        lab.unblock_mesh(CUT).unwrap();
        expect_mesh(&lab, SOON).unwrap();
    });
    owned.expect_owners(&lab);
    owned.delete(&lab);
}

/// Waits until the Speaker object of the node that is cut off lists this many addresses that it withdrew.
fn expect_yielded(lab: &Lab, count: usize) {
    wait_for("ClaimedByAnotherHost in the Speaker object", SOON, || {
        let speaker = lab.api()?.get(VERSION, "Speaker", None, CUT)?;
        let listed = speaker["status"]["notAnnounced"].as_array().cloned().unwrap_or_default();
        let yielded = listed.iter().filter(|entry| entry["reason"] == "ClaimedByAnotherHost").count();
        ensure(yielded == count, listed).map_err(|listed| anyhow!("{listed:?}"))
    })
    .unwrap();
}

#[test]
fn node_with_another_mesh_key_claims_nothing() {
    let lab = LAB.turn();
    let owned = Owned::new(&lab, "key");
    let set_key = |key: &str| {
        let secret = json!({ "apiVersion": "v1", "kind": "Secret",
                             "metadata": { "name": "fairlead-mesh", "namespace": NAMESPACE } });
        lab.api().unwrap().merge(secret, json!({ "data": { "key": key } })).unwrap();
    };
    let present = mesh_key(&lab).unwrap();
    let speaker = lab.node(CUT).unwrap().speaker().unwrap();
    owned.lose_nothing(&lab, "another key", || {
        set_key("YW5vdGhlciBrZXk=");
        speaker.restart().unwrap();
        speaker.wait_until_ready(SOON).unwrap();
        std::thread::sleep(4 * SECOND);
        set_key(&present);
        speaker.restart().unwrap();
        expect_mesh(&lab, SOON).unwrap();
    });
    owned.expect_owners(&lab);
    owned.delete(&lab);
}

/// Returns the key of the mesh in its Secret, as Base64.
fn mesh_key(lab: &Lab) -> Result<String> {
    let secret = lab.api()?.get("v1", "Secret", Some(NAMESPACE), "fairlead-mesh")?;
    Ok(secret["data"]["key"].as_str().context("no key")?.to_owned())
}

#[test]
fn deleted_mesh_key_is_created_after_the_last_speaker_restarted() {
    let lab = LAB.turn();
    let owned = Owned::new(&lab, "deleted");
    let first = mesh_key(&lab).unwrap();
    let secret = json!({ "apiVersion": "v1", "kind": "Secret",
                         "metadata": { "name": "fairlead-mesh", "namespace": NAMESPACE } });
    lab.api().unwrap().delete(&secret.to_string()).unwrap();
    let speaker = lab.node(CUT).unwrap().speaker().unwrap();
    owned.lose_nothing(&lab, "without a key", || {
        speaker.restart().unwrap();
        wait_for("the speaker to wait for the key", SOON, || {
            let answer = speaker.readyz()?;
            ensure(answer.contains("waiting for the Secret fairlead-mesh"), answer).map_err(Error::msg)
        })
        .unwrap();
        wait_for("the Event about the other speakers", SOON, || {
            let events = lab.api()?.list("events.k8s.io/v1", "Event")?;
            let about = events.iter().find(|event| event["reason"] == "MeshKeyInUse").context("none")?;
            ensure(about["note"].as_str().is_some_and(|note| note.contains("n1")), about)
                .map_err(|event| anyhow!("{event}"))
        })
        .unwrap();
        expect_replaced(&lab, &owned);
        assert!(mesh_key(&lab).is_err(), "the others use the deleted key");
    });
    for node in lab.nodes().iter().filter(|node| node.name() != CUT) {
        node.speaker().unwrap().restart().unwrap();
    }
    let second = wait_for("a key", SOON, || mesh_key(&lab)).unwrap();
    assert_ne!(second, first);
    expect_mesh(&lab, SOON).unwrap();
    owned.expect_owners(&lab);
    owned.delete(&lab);
}

/// The last node takes over within the budget although nobody in the mesh confirms the death.
fn last_node_takes_over(nodes: usize, what: &str, fault: impl Fn(&Lab, &[&str])) {
    let _alone = LAB.turn();
    let lab = Lab::builder().nodes(nodes).start().unwrap();
    configure(&lab).unwrap();
    let (_, ip, owner) = service_off_its_owner(&lab, "last", "IPv4").unwrap();
    // The pod is on the first node that is not the owner.
    let last = lab.nodes().iter().map(|node| node.name()).find(|name| *name != owner).unwrap();
    let dying: Vec<&str> = lab.nodes().iter().map(|node| node.name()).filter(|name| *name != last).collect();
    let streams = streams(&lab, ip);
    fault(&lab, &dying);
    std::thread::sleep(4 * SECOND);
    for (client, stream) in streams {
        let report = stream.stop().unwrap();
        eprintln!("{what}, {client}: {report}");
        assert!(report.answered > 100 && report.longest_gap <= CUT_BUDGET, "{what}, {client}: {report}");
    }
    expect_owner(&lab, ip, last, SOON).unwrap();
}

#[test]
fn last_of_two_nodes_takes_over() {
    last_node_takes_over(2, "one of two without carrier", |lab, dying| {
        dying.iter().for_each(|node| lab.cut(node, Carrier::Lost).unwrap());
    });
}

#[test]
fn last_of_two_nodes_takes_over_without_api_server() {
    last_node_takes_over(2, "one of two, silent, no API server", |lab, dying| {
        lab.api_server().unwrap().outage(Outage::Hang).unwrap();
        dying.iter().for_each(|node| lab.cut(node, Carrier::Kept).unwrap());
    });
}

#[test]
fn last_of_two_speakers_takes_over() {
    last_node_takes_over(2, "one of two speakers killed", |lab, dying| {
        dying.iter().for_each(|node| lab.node(node).unwrap().speaker().unwrap().kill().unwrap());
    });
}

#[test]
fn last_of_three_nodes_takes_over() {
    last_node_takes_over(3, "two of three at once", |lab, dying| {
        dying.iter().for_each(|node| lab.cut(node, Carrier::Kept).unwrap());
    });
}
