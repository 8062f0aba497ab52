//! Tests of the index: typed objects in, patches out. [`World`] applies the patches like an API server until
//! none is left.

mod adversary;
mod announcements;
mod assignment;
mod claims;
mod cluster;
mod cooldown;
mod cost;
mod departed;
mod draining;
mod dual_stack;
mod explain;
mod finalizers;
mod health;
mod hostile_text;
mod instances;
mod manual_edits;
mod mutation;
mod nodes;
mod objects;
mod other_writers;
mod pool_changes;
mod refused_pools;
mod regressions;
mod replay;
mod retained;
mod retained_claims;
mod sharing;
mod standby;
mod two_leaders;
mod waiting;
mod writes;

use std::collections::BTreeMap;

use fairlead_crds::model::claim::Claim;
use fairlead_crds::model::config::{Config, L2Advertisement, Labels, Pool, PoolSelection};
use fairlead_crds::model::service::ObjectKey;
use fairlead_crds::names;
use fairlead_crds::v1beta1;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Service;
use serde_json::{Value, json};

use super::announcement::ObservedSpeaker;
use super::*;
use crate::ipam::{NodeNetwork, Released};
use fairlead_test_support::{key, labels, pools};

/// Annotation that requests addresses.
pub(super) const REQUEST_IPS: &str = "fairlead.dev/load-balancer-ips";
/// Annotation that requests a pool.
pub(super) const REQUEST_POOL: &str = "fairlead.dev/address-pool";
/// Annotation with the sharing key.
pub(super) const SHARING_KEY: &str = "fairlead.dev/allow-shared-ip";
/// Cluster IPs of a dual-stack Service.
pub(super) const DUAL: &[&str] = &["10.96.0.1", "fd00::1"];

/// A cluster: the objects in the API server, and an index that observes them.
pub(super) struct World {
    services: BTreeMap<ObjectKey, Value>,
    pub(super) config: Config,
    namespaces: BTreeMap<String, Labels>,
    nodes: BTreeMap<String, NodeNetwork>,
    pub(super) claims: BTreeMap<ObjectKey, v1beta1::IPClaim>,
    pub(super) speakers: BTreeMap<String, v1beta1::Speaker>,
    /// The released addresses that the pool statuses list, by pool.
    pub(super) released: Vec<(String, Released)>,
    pub(super) index: Index,
    version: u64,
    pub(super) now: Timestamp,
    /// The Services and claims whose status was written, in order.
    pub(super) writes: Vec<ObjectKey>,
    pub(super) events: Vec<ServiceEvent>,
    /// The Services that left, in order.
    pub(super) departed: Vec<DepartedService>,
    /// True to check the invariants of the allocator after each step. The cost depends on the number of
    /// Services.
    pub(super) checked: bool,
}

impl World {
    /// Returns a world with these pools, an advertisement that covers them all, and a started index.
    pub(super) fn new(list: impl IntoIterator<Item = Pool>) -> Self {
        let mut world = Self::stopped();
        world.config = Config { pools: pools(list), ..Config::default() };
        world.config.l2_advertisements.insert("all".into(), advertisement("all", &[]));
        world.restart();
        world
    }

    fn stopped() -> Self {
        Self {
            services: BTreeMap::new(),
            config: Config::default(),
            namespaces: [("default".to_owned(), Labels::new())].into(),
            nodes: BTreeMap::new(),
            claims: BTreeMap::new(),
            speakers: BTreeMap::new(),
            released: Vec::new(),
            index: Index::default(),
            version: 1,
            now: Timestamp::from_second(1_700_000_000).unwrap(),
            writes: Vec::new(),
            events: Vec::new(),
            departed: Vec::new(),
            checked: true,
        }
    }

    /// Replaces the index by that of a new process, and applies its patches.
    pub(super) fn restart(&mut self) {
        self.start();
        self.sync();
    }

    /// Replaces the index by that of a new process, without applying its patches.
    pub(super) fn start(&mut self) {
        self.record_released();
        self.index = Index::default();
        self.index.set_config(&self.config, self.now);
        self.index.namespaces_reset(self.namespaces.clone().into_iter().collect(), self.now);
        self.index.nodes_reset(self.nodes.clone().into_iter().collect(), self.now);
        self.index.services_reset(self.observed(), self.now);
        self.index.claims_reset(self.claims.values().map(Claim::from_object).collect(), self.now);
        self.index.speakers_reset(self.observed_speakers(), self.now);
        self.index.begin(self.released.clone(), self.now);
    }

    /// Stores the released addresses like the pool statuses.
    fn record_released(&mut self) {
        let ipam = self.index.ipam();
        let of = |pool: &String| -> Vec<_> { ipam.released(pool).map(|r| (pool.clone(), r)).collect() };
        self.released =
            self.config.pools.keys().chain(self.config.refused_pools.keys()).flat_map(of).collect();
    }

    pub(super) fn observed_speakers(&self) -> Vec<(String, ObservedSpeaker)> {
        let observed = |speaker| ObservedSpeaker::of(speaker, None);
        self.speakers.iter().filter_map(|(name, speaker)| Some((name.clone(), observed(speaker)?))).collect()
    }

    fn observed(&self) -> Vec<ObservedService> {
        self.services.values().filter_map(observe).collect()
    }

    /// Creates or replaces a Service, except its status and the annotations that the controller writes, and
    /// applies all patches.
    pub(super) fn apply(&mut self, service: Value) {
        self.apply_silently(service);
        self.sync();
    }

    /// Creates or replaces a Service without applying patches.
    pub(super) fn apply_silently(&mut self, mut service: Value) {
        let key = key_of(&service);
        if let Some(old) = self.services.get(&key) {
            if service["status"].is_null() {
                service["status"] = old["status"].clone();
            }
            if let Some(pool) = old["metadata"]["annotations"].get(names::ALLOCATED_FROM_POOL) {
                service["metadata"]["annotations"][names::ALLOCATED_FROM_POOL] = pool.clone();
            }
        }
        self.store(key, service);
    }

    fn store(&mut self, key: ObjectKey, mut service: Value) {
        self.version += 1;
        service["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let observed = observe(&service);
        self.services.insert(key.clone(), service);
        match observed {
            Some(observed) => self.index.service_applied(observed, self.now),
            None => self.index.service_deleted(&key, self.now),
        }
    }

    pub(super) fn delete(&mut self, name: &str) {
        self.services.remove(&key(name));
        self.index.service_deleted(&key(name), self.now);
        self.sync();
    }

    pub(super) fn set_pools(&mut self, list: impl IntoIterator<Item = Pool>) {
        self.config.pools = pools(list);
        self.reconfigure();
    }

    /// Sets the pools in force and the refused pools.
    pub(super) fn set_pools_and_refused(&mut self, list: impl IntoIterator<Item = Pool>, refused: &[&str]) {
        self.config.refused_pools = pools(refused.iter().map(|name| fairlead_test_support::refused(name)));
        self.set_pools(list);
    }

    pub(super) fn reconfigure(&mut self) {
        self.index.set_config(&self.config, self.now);
        self.sync();
    }

    pub(super) fn namespace(&mut self, name: &str, pairs: &[(&str, &str)]) {
        self.namespaces.insert(name.to_owned(), labels(pairs));
        self.index.namespace_applied(name.to_owned(), labels(pairs), self.now);
        self.sync();
    }

    /// Sets the network of a Node; the default removes the Node.
    pub(super) fn node(&mut self, name: &str, network: NodeNetwork) {
        self.nodes.insert(name.to_owned(), network.clone());
        self.index.node_applied(name, network, self.now);
        self.sync();
    }

    /// Applies patches and reports them to the index, until there are none.
    pub(super) fn sync(&mut self) {
        for round in 0.. {
            assert!(round < 10, "writes do not end: {:?}", self.writes);
            let mut patches: BTreeMap<ObjectKey, StatusPatch> = BTreeMap::new();
            let mut claims: BTreeMap<ObjectKey, ClaimPatch> = BTreeMap::new();
            for decision in self.index.take_decisions() {
                match decision {
                    Decision::Status { service, patch: Some(patch) } => drop(patches.insert(service, *patch)),
                    Decision::Status { service, patch: None } => drop(patches.remove(&service)),
                    Decision::Claim { claim, patch: Some(patch) } => drop(claims.insert(claim, *patch)),
                    Decision::Claim { claim, patch: None } => drop(claims.remove(&claim)),
                    Decision::Departed(departed) => self.departed.push(*departed),
                    Decision::Event(event) => self.events.push(*event),
                }
            }
            if self.checked {
                self.index.ipam().assert_invariants();
            }
            if patches.is_empty() && claims.is_empty() {
                return;
            }
            for (key, patch) in patches {
                self.write(key, &patch);
            }
            for patch in claims.into_values() {
                self.write_claim(&patch);
            }
        }
    }

    /// Applies a patch like `PATCH …/status`. Returns false on a conflict.
    pub(super) fn write(&mut self, key: ObjectKey, patch: &StatusPatch) -> bool {
        let Some(service) = self.services.get(&key) else { return false };
        if service["metadata"]["resourceVersion"] != json!(patch.resource_version) {
            return false;
        }
        let mut service = service.clone();
        let before = service.clone();
        merge(&mut service, &patch.body());
        assert_ne!(service, before, "{key}: a write without a change");
        self.writes.push(key.clone());
        self.store(key, service);
        true
    }

    /// Creates or replaces a claim, except its status.
    pub(super) fn claim(&mut self, name: &str, spec: Value) {
        self.claim_of(name, spec, "2026-01-01T00:00:00Z");
    }

    /// Creates or replaces a claim with this creation time, except its status.
    pub(super) fn claim_of(&mut self, name: &str, spec: Value, created: &str) {
        let key = key(name);
        self.version += 1;
        let mut claim: v1beta1::IPClaim = serde_json::from_value(json!({
            "apiVersion": "fairlead.dev/v1beta1", "kind": "IPClaim",
            "metadata": {
                "namespace": key.namespace, "name": key.name, "uid": format!("uid-{name}"),
                "creationTimestamp": created, "resourceVersion": self.version.to_string(),
            },
            "spec": spec,
        }))
        .unwrap();
        claim.status = self.claims.get(&key).and_then(|old| old.status.clone());
        self.index.claim_applied(Claim::from_object(&claim), self.now);
        self.claims.insert(key, claim);
        self.sync();
    }

    pub(super) fn delete_claim(&mut self, name: &str) {
        self.claims.remove(&key(name));
        self.index.claim_deleted(&key(name), self.now);
        self.sync();
    }

    fn write_claim(&mut self, patch: &ClaimPatch) {
        let Some(claim) = self.claims.get_mut(&patch.claim) else { return };
        assert_ne!(claim.status.as_ref(), Some(&patch.status), "{}: a write without a change", patch.claim);
        self.version += 1;
        claim.metadata.resource_version = Some(self.version.to_string());
        claim.status = Some(patch.status.clone());
        self.writes.push(patch.claim.clone());
        let claim = Claim::from_object(claim);
        self.index.claim_applied(claim, self.now);
    }

    /// Returns the addresses and the conditions in the status of a claim, without its health.
    pub(super) fn claimed(&self, name: &str) -> String {
        let status = self.claims[&key(name)].status.clone().unwrap_or_default();
        let conditions: Vec<String> = status
            .conditions
            .iter()
            .filter(|c| ![names::READY, names::STALLED].contains(&c.type_()))
            .map(|c| format!("{} {}/{}", c.type_(), c.status(), c.reason()))
            .collect();
        format!("{} {}", status.addresses.join(" "), conditions.join(" ")).trim().to_owned()
    }

    /// Returns the result of [`World::claimed`] for every claim.
    pub(super) fn claim_results(&self) -> Vec<String> {
        self.claims.keys().map(|claim| self.claimed(&claim.to_string())).collect()
    }

    /// Advances the clock.
    pub(super) fn wait(&mut self, seconds: i64) {
        self.now = Timestamp::from_second(self.now.as_second() + seconds).unwrap();
        if self.index.poll_timeout().is_some_and(|due| due <= self.now) {
            self.index.handle_timeout(self.now);
        }
        self.sync();
    }

    /// Restarts the controller and checks that this changes no status and emits no event.
    #[track_caller]
    pub(super) fn check_restart(&mut self, what: &str) {
        let before = (self.results(), self.claim_results());
        let events = self.events.len();
        self.take_writes();
        self.restart();
        assert_eq!((self.results(), self.claim_results()), before, "{what}: statuses after a restart");
        let writes_and_events = (self.take_writes(), self.events.len());
        assert_eq!(writes_and_events, (0, events), "{what}: writes and events after a restart");
    }

    pub(super) fn service(&self, name: &str) -> Service {
        serde_json::from_value(self.services[&key(name)].clone()).unwrap()
    }

    /// Returns the addresses in the status of a Service, or else the reason of its condition.
    pub(super) fn result(&self, name: &str) -> String {
        let service = self.service(name);
        let status = service.status.unwrap_or_default();
        // Entries without an address belong to other programs.
        let mut ingress = status.load_balancer.and_then(|lb| lb.ingress).unwrap_or_default();
        ingress.retain(|entry| entry.ip.is_some());
        let condition =
            status.conditions.unwrap_or_default().into_iter().find(|c| c.type_ == names::ALLOCATED);
        let annotation =
            service.metadata.annotations.and_then(|a| a.get(names::ALLOCATED_FROM_POOL).cloned());
        let Some(condition) = condition else { return String::new() };
        assert_eq!(condition.status == "True", !ingress.is_empty(), "condition agrees with ingress");
        assert_eq!(annotation.is_some(), !ingress.is_empty(), "annotation agrees with ingress");
        if ingress.is_empty() {
            return condition.reason;
        }
        assert!(ingress.iter().all(|i| i.ip_mode.as_deref() == Some("VIP")));
        ingress.into_iter().map(|i| i.ip.unwrap()).collect::<Vec<_>>().join(" ")
    }

    pub(super) fn message(&self, name: &str, type_: &str) -> String {
        let conditions = self.service(name).status.unwrap().conditions.unwrap();
        let condition = conditions.into_iter().find(|c| c.type_ == type_).unwrap();
        format!("{}/{}: {}", condition.status, condition.reason, condition.message)
    }

    pub(super) fn pool_of(&self, name: &str) -> Option<String> {
        self.service(name).metadata.annotations?.get(names::ALLOCATED_FROM_POOL).cloned()
    }

    pub(super) fn results(&self) -> BTreeMap<String, String> {
        self.services.keys().map(|key| (key.to_string(), self.result(&key.to_string()))).collect()
    }

    /// Returns the number of status writes since the last call.
    pub(super) fn take_writes(&mut self) -> usize {
        std::mem::take(&mut self.writes).len()
    }
}

fn observe(service: &Value) -> Option<ObservedService> {
    ObservedService::of(&serde_json::from_value(service.clone()).unwrap(), None)
}

fn key_of(service: &Value) -> ObjectKey {
    let text = |field: &str| service["metadata"][field].as_str().unwrap().to_owned();
    ObjectKey { namespace: text("namespace"), name: text("name") }
}

/// Merges a patch according to RFC 7386.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, value) in patch {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(name);
        } else {
            merge(&mut target[name], value);
        }
    }
}

/// Returns an IPv4 Service with TCP port 80 into which `with` is merged.
pub(super) fn service(name: &str, with: Value) -> Value {
    let key = key(name);
    let mut service = json!({
        "metadata": {
            "namespace": key.namespace, "name": key.name, "uid": format!("uid-{name}"),
            "creationTimestamp": "2026-01-01T00:00:00Z", "annotations": {}, "labels": {},
        },
        "spec": {
            "type": "LoadBalancer", "clusterIPs": ["10.96.0.1"], "ipFamilyPolicy": "SingleStack",
            "externalTrafficPolicy": "Cluster", "selector": { "app": "web" },
            "ports": [{ "port": 80, "protocol": "TCP" }],
        },
    });
    merge(&mut service, &with);
    service
}

/// Returns a sharing key and a TCP port, for a Service that shares its address.
pub(super) fn shared(port: u16) -> Value {
    let ports = json!({ "spec": { "ports": [{ "port": port, "protocol": "TCP" }] } });
    both(annotated(SHARING_KEY, "k"), ports)
}

/// Returns cluster IPs and an `ipFamilyPolicy`.
pub(super) fn families(cluster_ips: &[&str], policy: &str) -> Value {
    json!({ "spec": { "clusterIPs": cluster_ips, "ipFamilyPolicy": policy } })
}

pub(super) fn annotated(key: &str, value: &str) -> Value {
    json!({ "metadata": { "annotations": { key: value } } })
}

/// Returns a creation time `seconds` after that of other Services.
pub(super) fn aged(seconds: u32) -> Value {
    let (hours, minutes, seconds) = (1 + seconds / 3600, seconds / 60 % 60, seconds % 60);
    let created = format!("2026-01-01T{hours:02}:{minutes:02}:{seconds:02}Z");
    json!({ "metadata": { "creationTimestamp": created } })
}

pub(super) fn both(mut a: Value, b: Value) -> Value {
    merge(&mut a, &b);
    a
}

pub(super) fn advertisement(name: &str, pools: &[&str]) -> L2Advertisement {
    L2Advertisement {
        name: name.into(),
        pools: PoolSelection {
            names: pools.iter().map(|pool| (*pool).to_owned()).collect(),
            selectors: Vec::new(),
        },
        node_selectors: Vec::new(),
        preferred_nodes: Vec::new(),
        service_selectors: Vec::new(),
        interfaces: Default::default(),
        on_conflict: Default::default(),
    }
}
