//! Leader election against an API server: the built-in one, or a real kube-apiserver if `KUBEBUILDER_ASSETS`
//! is set.

#![allow(clippy::unwrap_used, reason = "test helpers may panic")]

use std::time::{Duration, Instant};

use fairlead_apiserver::{Cluster, Fault, Faults, Outage};
use fairlead_controller::leader::{self, Election, Leadership, Timing};
use fairlead_crds::names::CONTROLLER_LEASE;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::Namespace;
use kube::Client;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, ObjectMeta, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const NAMESPACE: &str = "fairlead-system";
const PATIENCE: Duration = Duration::from_secs(30);
/// Short, to keep the tests short.
const LEASE_DURATION: Duration = Duration::from_secs(3);
const RENEW_DEADLINE: Duration = Duration::from_secs(2);
const RETRY_PERIOD: Duration = Duration::from_millis(200);

struct World {
    cluster: Cluster,
    client: Client,
}

struct Candidate {
    identity: String,
    election: Election,
    leadership: watch::Receiver<Leadership>,
    stop: CancellationToken,
}

impl World {
    async fn start() -> Self {
        let world = Self::without_namespace().await;
        world.create_namespace().await;
        world
    }

    async fn without_namespace() -> Self {
        let cluster = Cluster::start().await.unwrap();
        let client = cluster.client().await.unwrap();
        Self { cluster, client }
    }

    async fn create_namespace(&self) {
        let name = Some(NAMESPACE.to_owned());
        let namespace =
            Namespace { metadata: ObjectMeta { name, ..ObjectMeta::default() }, ..Namespace::default() };
        Api::all(self.client.clone()).create(&PostParams::default(), &namespace).await.unwrap();
    }

    async fn candidate(&self, identity: &str) -> Candidate {
        // Each process has a client of its own.
        let client = self.cluster.client().await.unwrap();
        let timing = Timing::new(LEASE_DURATION, RENEW_DEADLINE, RETRY_PERIOD).unwrap();
        let stop = CancellationToken::new();
        let election =
            Election::start(client, NAMESPACE, leader::Candidate::named(identity), timing, stop.clone());
        Candidate { identity: identity.to_owned(), leadership: election.leadership(), election, stop }
    }

    /// Starts candidates and waits until one of them leads. The leader comes first in the list.
    async fn candidates(&self, count: usize) -> Vec<Candidate> {
        let mut candidates = Vec::new();
        for number in 0..count {
            candidates.push(self.candidate(&format!("c{number}")).await);
        }
        let leader = wait_for_leader(&candidates).await;
        candidates.swap(0, leader);
        candidates
    }

    fn leases(&self) -> Api<Lease> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    async fn spec(&self) -> LeaseSpec {
        self.leases().get(CONTROLLER_LEASE).await.unwrap().spec.unwrap()
    }

    fn faults(&self) -> Option<Faults> {
        let faults = self.cluster.as_built_in().map(|server| server.faults().clone());
        if faults.is_none() {
            eprintln!("skipped: only the built-in API server can inject faults");
        }
        faults
    }
}

impl Candidate {
    fn leads(&self) -> bool {
        self.leadership.borrow().leads(Instant::now())
    }

    fn term(&self) -> Option<u64> {
        self.leadership.borrow().term(Instant::now())
    }
}

/// Returns the indexes of the leaders at one instant. Asserts that there is at most one.
fn leaders(candidates: &[Candidate]) -> Vec<usize> {
    let now = Instant::now();
    let leads = |number: &usize| candidates[*number].leadership.borrow().leads(now);
    let leaders: Vec<usize> = (0..candidates.len()).filter(leads).collect();
    assert!(leaders.len() <= 1, "{leaders:?} lead");
    leaders
}

async fn wait_for_leader(candidates: &[Candidate]) -> usize {
    eventually("a candidate leads", || !leaders(candidates).is_empty()).await;
    eventually("the others name the leader", || {
        let leader = leaders(candidates).first().map(|leader| candidates[*leader].identity.clone());
        let names_leader = |candidate: &Candidate| {
            matches!(&*candidate.leadership.borrow(), Leadership::Standby { holder } if *holder == leader)
        };
        let others = candidates.iter().filter(|candidate| names_leader(candidate)).count();
        leader.is_some() && others == candidates.len() - 1
    })
    .await;
    leaders(candidates)[0]
}

async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Asserts that the same candidate leads in the same term for `time`.
async fn assert_steady(candidates: &[Candidate], leader: usize, time: Duration) {
    let (end, term) = (Instant::now() + time, candidates[leader].term());
    while Instant::now() < end {
        assert_eq!(leaders(candidates), [leader]);
        assert_eq!(candidates[leader].term(), term);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopped_leader_hands_over_before_lease_expires() {
    let world = World::start().await;
    let mut candidates = world.candidates(5).await;
    assert_steady(&candidates, 0, LEASE_DURATION).await;
    let spec = world.spec().await;
    assert_eq!(spec.holder_identity.as_ref(), Some(&candidates[0].identity));
    assert_eq!((spec.lease_duration_seconds, spec.lease_transitions), (Some(3), Some(0)));
    assert!(spec.renew_time.unwrap().0 > spec.acquire_time.unwrap().0);

    let mut transitions = 0;
    while candidates.len() > 1 {
        let first = candidates.remove(0);
        let stopped = Instant::now();
        first.stop.cancel();
        first.election.ended().await;
        assert!(!first.leadership.borrow().leads(Instant::now()));
        let leader = wait_for_leader(&candidates).await;
        candidates.swap(0, leader);
        // Waiting for the lease to expire would take at least its duration less the age of the last renewal.
        assert!(stopped.elapsed() < LEASE_DURATION * 3 / 4, "{:?}", stopped.elapsed());
        transitions += 1;
        assert_eq!(world.spec().await.lease_transitions, Some(transitions));
    }
    let last = candidates.remove(0);
    last.stop.cancel();
    last.election.ended().await;
    let spec = world.spec().await;
    assert_eq!((spec.holder_identity.as_deref(), spec.lease_duration_seconds), (Some(""), Some(1)));
    assert_eq!(spec.lease_transitions, Some(transitions));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crashed_leader_is_replaced_when_lease_expires() {
    let world = World::start().await;
    let mut candidates = world.candidates(3).await;
    let crashed = candidates.remove(0);
    drop(crashed.election);
    let at = Instant::now();
    let Leadership::Leading { until, .. } = *crashed.leadership.borrow() else {
        panic!("the candidate does not lead")
    };
    while leaders(&candidates).is_empty() {
        assert!(at.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(Instant::now() > until, "the term of the crashed leader lasted until {until:?}");
    assert!(at.elapsed() < LEASE_DURATION * 2, "{:?}", at.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_server_outage_ends_leadership_at_the_deadline() {
    let world = World::start().await;
    let Some(faults) = world.faults() else { return };
    for outage in [Outage::Refuse, Outage::Hang] {
        let candidates = world.candidates(3).await;
        let before = candidates[0].leadership.borrow().clone();
        faults.outage(outage, PATIENCE * 10);
        let began = Instant::now();
        while candidates[0].leads() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let took = began.elapsed();
        assert!(took < LEASE_DURATION, "{outage:?}: {took:?} {before:?}");
        assert!(took > RENEW_DEADLINE / 4, "{outage:?}: {took:?}: leadership ended before the deadline");
        eventually("the end of the term is published", || {
            matches!(&*candidates[0].leadership.borrow(), Leadership::Standby { .. })
        })
        .await;
        tokio::time::sleep(LEASE_DURATION).await;
        assert_eq!(leaders(&candidates), Vec::<usize>::new());
        faults.clear();
        let leader = wait_for_leader(&candidates).await;
        assert_steady(&candidates, leader, Duration::from_secs(1)).await;
        for candidate in candidates {
            candidate.stop.cancel();
            candidate.election.ended().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stop_while_api_server_hangs_ends_the_term_at_once() {
    let world = World::start().await;
    let Some(faults) = world.faults() else { return };
    let mut candidates = world.candidates(1).await;
    let candidate = candidates.remove(0);
    faults.outage(Outage::Hang, PATIENCE * 10);
    let at = Instant::now();
    candidate.stop.cancel();
    eventually("leadership ends", || !candidate.leads()).await;
    assert!(at.elapsed() < RENEW_DEADLINE / 2, "the term ends before its deadline");
    candidate.election.ended().await;
    assert!(at.elapsed() < RENEW_DEADLINE * 2, "{:?}", at.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn occasional_errors_do_not_end_leadership() {
    let world = World::start().await;
    let Some(faults) = world.faults() else { return };
    let candidates = world.candidates(3).await;
    for status in [500, 503, 429] {
        faults.fail(status, 0.05, &[], &["leases"]);
    }
    assert_steady(&candidates, 0, LEASE_DURATION * 2).await;
    faults.clear();
    faults.add(Fault { resources: vec!["leases".into()], latency_ms: 300, ..Fault::default() });
    assert_steady(&candidates, 0, LEASE_DURATION).await;
    assert_eq!(world.spec().await.lease_transitions, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conflict_is_read_again_and_the_term_continues() {
    let world = World::start().await;
    let Some(faults) = world.faults() else { return };
    let candidates = world.candidates(2).await;
    assert_eq!(candidates[0].term(), Some(1));
    faults.add(Fault {
        verbs: vec!["update".into()],
        resources: vec!["leases".into()],
        status: Some(409),
        times: Some(1),
        ..Fault::default()
    });
    eventually("a renewal is rejected", || faults.active().is_empty()).await;
    // Longer than a term without renewal.
    assert_steady(&candidates, 0, LEASE_DURATION).await;
    assert_eq!(world.spec().await.lease_transitions, Some(0), "no other candidate held the Lease");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_label_is_kept_and_deleted_lease_is_recreated() {
    let world = World::start().await;
    let candidates = world.candidates(2).await;
    let label = Patch::Merge(json!({ "metadata": { "labels": { "team": "net" } } }));
    world.leases().patch(CONTROLLER_LEASE, &PatchParams::default(), &label).await.unwrap();
    assert_steady(&candidates, 0, LEASE_DURATION).await;
    let lease = world.leases().get(CONTROLLER_LEASE).await.unwrap();
    assert_eq!(lease.metadata.labels.unwrap()["team"], "net");
    assert_eq!(lease.spec.unwrap().holder_identity.as_ref(), Some(&candidates[0].identity));

    world.leases().delete(CONTROLLER_LEASE, &DeleteParams::default()).await.unwrap();
    eventually("the Lease is created again", || candidates[0].term() == Some(2)).await;
    assert_eq!(wait_for_leader(&candidates).await, 0, "its holder creates it again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lease_of_another_writer_is_acquired_and_renewed() {
    let world = World::start().await;
    // The API server stores it as year 10000, and accepts no such year.
    let late = "9999-12-31T23:59:59.000000-12:00";
    let leases = Api::<DynamicObject>::namespaced_with(
        world.client.clone(),
        NAMESPACE,
        &ApiResource::erase::<Lease>(&()),
    );
    for (number, spec) in [
        json!(null),
        json!({ "holderIdentity": "other", "acquireTime": late, "renewTime": late, "leaseTransitions": 7,
            "leaseDurationSeconds": 1 }),
        json!({ "holderIdentity": "", "acquireTime": "0000-01-01T00:00:00.000000+12:00" }),
    ]
    .into_iter()
    .enumerate()
    {
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": { "name": CONTROLLER_LEASE }, "spec": spec,
        });
        leases.create(&PostParams::default(), &serde_json::from_value(lease).unwrap()).await.unwrap();
        let candidates = [world.candidate(&format!("c{number}")).await];
        eventually("the candidate leads", || candidates[0].leads()).await;
        let edit = Patch::Merge(json!({ "spec": { "acquireTime": late, "renewTime": late } }));
        leases.patch(CONTROLLER_LEASE, &PatchParams::default(), &edit).await.unwrap();
        assert_steady(&candidates, 0, LEASE_DURATION).await;
        for Candidate { election, stop, .. } in candidates {
            stop.cancel();
            election.ended().await;
        }
        leases.delete(CONTROLLER_LEASE, &DeleteParams::default()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_namespace_is_retried_until_it_exists() {
    let world = World::without_namespace().await;
    let candidate = world.candidate("early").await;
    eventually("the candidate reports the missing namespace", || {
        *candidate.leadership.borrow() == Leadership::NoNamespace
    })
    .await;
    assert!(!candidate.leads());
    world.create_namespace().await;
    eventually("the candidate leads", || candidate.leads()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unopposed_candidate_leads_until_stopped() {
    let stop = CancellationToken::new();
    let election = Election::unopposed(stop.clone());
    let leadership = election.leadership();
    assert_eq!(leadership.borrow().term(Instant::now() + Duration::from_secs(86_400 * 365)), Some(1));
    stop.cancel();
    election.ended().await;
    assert_eq!(*leadership.borrow(), Leadership::Standby { holder: None });
}
