//! Two controllers on one API server, with arbitrary delays of watch events and writes.

use std::collections::VecDeque;

use super::*;

/// The objects in the API server.
#[derive(Default)]
pub(super) struct Api {
    pub(super) services: BTreeMap<ObjectKey, Value>,
    pub(super) claims: BTreeMap<ObjectKey, v1beta1::IPClaim>,
    pub(super) config: Config,
    pub(super) version: u64,
}

/// A watch event.
#[derive(Clone)]
pub(super) enum WatchEvent {
    Service(ObjectKey, Option<Value>),
    Claim(ObjectKey, Option<Box<v1beta1::IPClaim>>),
    Config(Config),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Target {
    Service(ObjectKey),
    Claim(ObjectKey),
}

#[derive(Clone, Debug)]
pub(super) enum Write {
    Service(StatusPatch),
    Claim(ClaimPatch),
}

/// A controller: its watches, one per kind, and its writes.
#[derive(Default)]
pub(super) struct Leader {
    pub(super) index: Index,
    pub(super) watches: [VecDeque<WatchEvent>; 3],
    pub(super) queued: BTreeMap<Target, Write>,
    pub(super) in_flight: BTreeMap<Target, Write>,
}

pub(super) struct Cluster {
    pub(super) api: Api,
    pub(super) leaders: [Leader; 2],
    pub(super) now: Timestamp,
}

impl Api {
    pub(super) fn next(&mut self) -> String {
        self.version += 1;
        self.version.to_string()
    }

    /// Applies a patch like `PATCH …/status`. Returns `None` on a conflict, or if the object does not exist.
    pub(super) fn write(&mut self, write: &Write) -> Option<WatchEvent> {
        match write {
            Write::Service(patch) => {
                let mut service = self.services.get(&patch.service)?.clone();
                if service["metadata"]["resourceVersion"] != json!(patch.resource_version) {
                    return None;
                }
                merge(&mut service, &patch.body());
                service["metadata"]["resourceVersion"] = json!(self.next());
                self.services.insert(patch.service.clone(), service.clone());
                Some(WatchEvent::Service(patch.service.clone(), Some(service)))
            }
            Write::Claim(patch) => {
                let mut claim = self.claims.get(&patch.claim)?.clone();
                if claim.metadata.resource_version.as_ref() != Some(&patch.resource_version) {
                    return None;
                }
                claim.status = Some(patch.status.clone());
                claim.metadata.resource_version = Some(self.next());
                self.claims.insert(patch.claim.clone(), claim.clone());
                Some(WatchEvent::Claim(patch.claim.clone(), Some(Box::new(claim))))
            }
        }
    }

    /// Returns the index of a controller that starts now.
    pub(super) fn list(&self, now: Timestamp) -> Index {
        let mut index = Index::default();
        index.set_config(&self.config, now);
        index.namespaces_reset(vec![("default".into(), Labels::new())], now);
        index.services_reset(self.services.values().filter_map(observe).collect(), now);
        index.claims_reset(self.claims.values().map(Claim::from_object).collect(), now);
        index.begin(Vec::new(), now);
        index
    }

    /// Returns the addresses in the statuses.
    pub(super) fn displayed(&self) -> BTreeMap<ObjectKey, Vec<String>> {
        let ingress = |service: &Value| {
            let list = service["status"]["loadBalancer"]["ingress"].as_array().cloned().unwrap_or_default();
            list.iter().map(|one| one["ip"].as_str().unwrap().to_owned()).collect()
        };
        self.services.iter().map(|(key, service)| (key.clone(), ingress(service))).collect()
    }
}

impl Leader {
    pub(super) fn handle(&mut self, event: WatchEvent, now: Timestamp) {
        match event {
            WatchEvent::Service(key, service) => match service.as_ref().and_then(observe) {
                Some(observed) => self.index.service_applied(observed, now),
                None => self.index.service_deleted(&key, now),
            },
            WatchEvent::Claim(_, Some(claim)) => self.index.claim_applied(Claim::from_object(&claim), now),
            WatchEvent::Claim(key, None) => self.index.claim_deleted(&key, now),
            WatchEvent::Config(config) => self.index.set_config(&config, now),
        }
    }

    /// Moves decisions to the queue of writes, turn by turn: a write that is resolved is an input of the next
    /// turn.
    pub(super) fn queue(&mut self, now: Timestamp) {
        loop {
            let decisions = self.index.take_decisions();
            if decisions.is_empty() {
                break;
            }
            let mut without_write = Vec::new();
            for decision in decisions {
                let (target, write) = match decision {
                    Decision::Status { service, patch } => {
                        (Target::Service(service), patch.map(|patch| Write::Service(*patch)))
                    }
                    Decision::Claim { claim, patch } => {
                        (Target::Claim(claim), patch.map(|patch| Write::Claim(*patch)))
                    }
                    Decision::Event(_) | Decision::Departed(_) => continue,
                };
                match write {
                    Some(write) => drop(self.queued.insert(target, write)),
                    None => {
                        self.queued.remove(&target);
                        without_write.push(target);
                    }
                }
            }
            for target in without_write {
                self.report_resolved(&target, now);
            }
        }
        self.index.ipam().assert_invariants();
    }

    /// Reports a write as resolved to the index, if no write of the Service remains.
    pub(super) fn report_resolved(&mut self, target: &Target, now: Timestamp) {
        if let Target::Service(key) = target
            && !self.queued.contains_key(target)
            && !self.in_flight.contains_key(target)
        {
            self.index.write_resolved(key, now);
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.watches.iter().all(VecDeque::is_empty) && self.queued.is_empty() && self.in_flight.is_empty()
    }
}

impl Cluster {
    pub(super) fn new(config: Config) -> Self {
        let api = Api { config, ..Api::default() };
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let leader = || Leader { index: api.list(now), ..Leader::default() };
        let leaders = [leader(), leader()];
        Self { api, leaders, now }
    }

    /// Adds an event to the watches of both controllers.
    pub(super) fn broadcast(&mut self, event: &WatchEvent) {
        let kind = match event {
            WatchEvent::Service(..) => 0,
            WatchEvent::Claim(..) => 1,
            WatchEvent::Config(_) => 2,
        };
        for leader in &mut self.leaders {
            leader.watches[kind].push_back(event.clone());
        }
    }

    pub(super) fn apply(&mut self, mut service: Value) {
        let key = key_of(&service);
        // Like the API server, drop the status of a Service that is not a load balancer.
        if let Some(old) = self.api.services.get(&key)
            && service["spec"]["type"] == "LoadBalancer"
        {
            service["status"] = old["status"].clone();
            if let Some(pool) = old["metadata"]["annotations"].get(names::ALLOCATED_FROM_POOL) {
                service["metadata"]["annotations"][names::ALLOCATED_FROM_POOL] = pool.clone();
            }
        }
        service["metadata"]["resourceVersion"] = json!(self.api.next());
        self.api.services.insert(key.clone(), service.clone());
        self.broadcast(&WatchEvent::Service(key, Some(service)));
    }

    /// Merges an edit into an existing load balancer Service.
    pub(super) fn edit(&mut self, key: &ObjectKey, with: &Value) {
        let service = self.api.services.get(key).filter(|service| service["spec"]["type"] == "LoadBalancer");
        let Some(mut service) = service.cloned() else { return };
        merge(&mut service, with);
        service["metadata"]["resourceVersion"] = json!(self.api.next());
        self.api.services.insert(key.clone(), service.clone());
        self.broadcast(&WatchEvent::Service(key.clone(), Some(service)));
    }

    pub(super) fn delete(&mut self, key: &ObjectKey) {
        if self.api.services.remove(key).is_some() {
            self.broadcast(&WatchEvent::Service(key.clone(), None));
        }
    }

    pub(super) fn claim(&mut self, name: &str, spec: &Value) {
        let key = key(name);
        let claim: v1beta1::IPClaim = serde_json::from_value(json!({
            "apiVersion": "fairlead.dev/v1beta1", "kind": "IPClaim",
            "metadata": {
                "namespace": key.namespace, "name": key.name,
                "uid": format!("uid-{name}-{}", self.api.version),
                "creationTimestamp": "2026-01-01T00:00:00Z", "resourceVersion": self.api.next(),
            },
            "spec": spec,
        }))
        .unwrap();
        if !self.api.claims.contains_key(&key) {
            self.api.claims.insert(key.clone(), claim.clone());
            self.broadcast(&WatchEvent::Claim(key, Some(Box::new(claim))));
        }
    }

    pub(super) fn delete_claim(&mut self, key: &ObjectKey) {
        if self.api.claims.remove(key).is_some() {
            self.broadcast(&WatchEvent::Claim(key.clone(), None));
        }
    }

    pub(super) fn configure(&mut self, config: Config) {
        self.api.config = config.clone();
        self.broadcast(&WatchEvent::Config(config));
    }

    pub(super) fn wait(&mut self, seconds: i64) {
        self.now = Timestamp::from_second(self.now.as_second() + seconds).unwrap();
        for leader in &mut self.leaders {
            if leader.index.poll_timeout().is_some_and(|due| due <= self.now) {
                leader.index.handle_timeout(self.now);
            }
            leader.queue(self.now);
        }
    }

    /// Delivers one event of one watch.
    pub(super) fn deliver(&mut self, leader: usize, watch: usize) {
        let leader = &mut self.leaders[leader];
        if let Some(event) = leader.watches[watch].pop_front() {
            leader.handle(event, self.now);
            leader.queue(self.now);
        }
    }

    pub(super) fn send(&mut self, leader: usize, which: usize) {
        let Leader { queued, in_flight, .. } = &mut self.leaders[leader];
        let free: Vec<_> = queued.keys().filter(|target| !in_flight.contains_key(target)).cloned().collect();
        if !free.is_empty() {
            let target = free[which % free.len()].clone();
            let write = queued.remove(&target).unwrap();
            in_flight.insert(target, write);
        }
    }

    pub(super) fn arrive(&mut self, leader: usize, which: usize) {
        let sent = &mut self.leaders[leader].in_flight;
        if sent.is_empty() {
            return;
        }
        let target = sent.keys().nth(which % sent.len()).unwrap().clone();
        let write = sent.remove(&target).unwrap();
        match self.api.write(&write) {
            Some(event) => self.broadcast(&event),
            None => {
                self.leaders[leader].report_resolved(&target, self.now);
                self.leaders[leader].queue(self.now);
            }
        }
    }

    /// Restarts a leader. Its writes that were not applied are lost.
    pub(super) fn restart(&mut self, leader: usize) {
        self.leaders[leader] = Leader { index: self.api.list(self.now), ..Leader::default() };
        self.leaders[leader].queue(self.now);
    }

    /// Delivers all events and applies all writes until none is left. Returns the number of rounds, or `None`
    /// if that does not end.
    pub(super) fn run_until_idle(&mut self) -> Option<usize> {
        for round in 0..30 {
            if self.leaders.iter().all(Leader::is_idle) {
                return Some(round);
            }
            for leader in 0..2 {
                for watch in 0..3 {
                    while !self.leaders[leader].watches[watch].is_empty() {
                        self.deliver(leader, watch);
                    }
                }
            }
            for leader in 0..2 {
                while !self.leaders[leader].in_flight.is_empty() {
                    self.arrive(leader, 0);
                }
                while !self.leaders[leader].queued.is_empty() {
                    self.send(leader, 0);
                    self.arrive(leader, 0);
                }
            }
        }
        None
    }

    /// Checks that both leaders, and a third that starts now, agree with the API.
    pub(super) fn check(&mut self) {
        let rounds = self.run_until_idle();
        assert!(rounds.is_some(), "the leaders overwrite each other: {:?}", self.api.displayed());
        let mut third = Leader { index: self.api.list(self.now), ..Leader::default() };
        third.queue(self.now);
        assert!(third.queued.is_empty(), "a third leader would write {:?}", third.queued);
        let displayed = self.api.displayed();
        for leader in self.leaders.iter().chain([&third]) {
            for (key, ips) in &displayed {
                let held = leader.index.ipam().holding(key).map(|held| held.ips().map(|ip| ip.to_string()));
                assert_eq!(held.into_iter().flatten().collect::<Vec<_>>(), *ips, "{key}");
            }
            leader.index.ipam().assert_invariants();
        }
    }
}
