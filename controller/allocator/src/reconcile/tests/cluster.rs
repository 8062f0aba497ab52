//! Two controllers over one API server, with watches and writes as late as one likes.

use std::collections::VecDeque;

use super::*;

/// What the API server has.
#[derive(Default)]
pub(super) struct Api {
    pub(super) services: BTreeMap<ObjectKey, Value>,
    pub(super) claims: BTreeMap<ObjectKey, v1beta1::IPClaim>,
    pub(super) config: Config,
    pub(super) version: u64,
}

/// What a watch brings.
#[derive(Clone)]
pub(super) enum Seen {
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

/// A controller: its watches, one for each kind, and its writes, none of which is in a hurry.
#[derive(Default)]
pub(super) struct Leader {
    pub(super) index: Index,
    pub(super) watches: [VecDeque<Seen>; 3],
    pub(super) waiting: BTreeMap<Target, Write>,
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

    /// As `PATCH …/status` does; `None` on a conflict, or when the object is gone.
    pub(super) fn write(&mut self, write: &Write) -> Option<Seen> {
        match write {
            Write::Service(patch) => {
                let mut service = self.services.get(&patch.service)?.clone();
                if service["metadata"]["resourceVersion"] != json!(patch.resource_version) {
                    return None;
                }
                merge(&mut service, &patch.body());
                service["metadata"]["resourceVersion"] = json!(self.next());
                self.services.insert(patch.service.clone(), service.clone());
                Some(Seen::Service(patch.service.clone(), Some(service)))
            }
            Write::Claim(patch) => {
                let mut claim = self.claims.get(&patch.claim)?.clone();
                if claim.metadata.resource_version.as_ref() != Some(&patch.resource_version) {
                    return None;
                }
                claim.status = Some(patch.status.clone());
                claim.metadata.resource_version = Some(self.next());
                self.claims.insert(patch.claim.clone(), claim.clone());
                Some(Seen::Claim(patch.claim.clone(), Some(Box::new(claim))))
            }
        }
    }

    /// A controller that starts now.
    pub(super) fn list(&self, now: Timestamp) -> Index {
        let mut index = Index::default();
        index.set_config(self.config.clone(), now);
        index.namespaces_reset(vec![("default".into(), Labels::new())], now);
        index.services_reset(self.services.values().filter_map(observe).collect(), now);
        index.claims_reset(self.claims.values().map(Claim::from_object).collect(), now);
        index.begin(Vec::new(), now);
        index
    }

    /// What the statuses show.
    pub(super) fn shown(&self) -> BTreeMap<ObjectKey, Vec<String>> {
        let ingress = |service: &Value| {
            let list = service["status"]["loadBalancer"]["ingress"].as_array().cloned().unwrap_or_default();
            list.iter().map(|one| one["ip"].as_str().unwrap().to_owned()).collect()
        };
        self.services.iter().map(|(key, service)| (key.clone(), ingress(service))).collect()
    }
}

impl Leader {
    pub(super) fn see(&mut self, seen: Seen, now: Timestamp) {
        match seen {
            Seen::Service(key, service) => match service.as_ref().and_then(observe) {
                Some(observed) => self.index.service_applied(observed, now),
                None => self.index.service_deleted(&key, now),
            },
            Seen::Claim(_, Some(claim)) => self.index.claim_applied(Claim::from_object(&claim), now),
            Seen::Claim(key, None) => self.index.claim_deleted(&key, now),
            Seen::Config(config) => self.index.set_config(config, now),
        }
    }

    /// Puts what was decided in the queue of writes.
    pub(super) fn queue(&mut self, now: Timestamp) {
        loop {
            let decisions = self.index.take_decisions();
            if decisions.is_empty() {
                break;
            }
            for decision in decisions {
                let (target, write) = match decision {
                    Decision::Status { service, patch } => {
                        (Target::Service(service), patch.map(|patch| Write::Service(*patch)))
                    }
                    Decision::Claim { claim, patch } => {
                        (Target::Claim(claim), patch.map(|patch| Write::Claim(*patch)))
                    }
                    Decision::Event(_) => continue,
                };
                match write {
                    Some(write) => drop(self.waiting.insert(target, write)),
                    None => {
                        self.waiting.remove(&target);
                        self.is_done(&target, now);
                    }
                }
            }
        }
        self.index.ipam().assert_invariants();
    }

    /// If nothing is on the way to a Service any more, the index knows.
    pub(super) fn is_done(&mut self, target: &Target, now: Timestamp) {
        if let Target::Service(key) = target
            && !self.waiting.contains_key(target)
            && !self.in_flight.contains_key(target)
        {
            self.index.write_resolved(key, now);
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.watches.iter().all(VecDeque::is_empty) && self.waiting.is_empty() && self.in_flight.is_empty()
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

    /// Both watches bring it, sooner or later.
    pub(super) fn tell(&mut self, seen: &Seen) {
        let kind = match seen {
            Seen::Service(..) => 0,
            Seen::Claim(..) => 1,
            Seen::Config(_) => 2,
        };
        for leader in &mut self.leaders {
            leader.watches[kind].push_back(seen.clone());
        }
    }

    pub(super) fn apply(&mut self, mut service: Value) {
        let key = key_of(&service);
        // Who is no longer a load balancer loses its status, as in the API server.
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
        self.tell(&Seen::Service(key, Some(service)));
    }

    /// Somebody edits a load balancer that is there.
    pub(super) fn edit(&mut self, key: &ObjectKey, with: &Value) {
        let service = self.api.services.get(key).filter(|service| service["spec"]["type"] == "LoadBalancer");
        let Some(mut service) = service.cloned() else { return };
        merge(&mut service, with);
        service["metadata"]["resourceVersion"] = json!(self.api.next());
        self.api.services.insert(key.clone(), service.clone());
        self.tell(&Seen::Service(key.clone(), Some(service)));
    }

    pub(super) fn delete(&mut self, key: &ObjectKey) {
        if self.api.services.remove(key).is_some() {
            self.tell(&Seen::Service(key.clone(), None));
        }
    }

    pub(super) fn claim(&mut self, name: &str, spec: &Value) {
        let key = key(name);
        let claim: v1beta1::IPClaim = serde_json::from_value(json!({
            "apiVersion": "fairlead.dev/v1beta1", "kind": "IPClaim",
            "metadata": {
                "namespace": key.namespace, "name": key.name, "uid": format!("uid-{name}-{}", self.api.version),
                "creationTimestamp": "2026-01-01T00:00:00Z", "resourceVersion": self.api.next(),
            },
            "spec": spec,
        }))
        .unwrap();
        if !self.api.claims.contains_key(&key) {
            self.api.claims.insert(key.clone(), claim.clone());
            self.tell(&Seen::Claim(key, Some(Box::new(claim))));
        }
    }

    pub(super) fn delete_claim(&mut self, key: &ObjectKey) {
        if self.api.claims.remove(key).is_some() {
            self.tell(&Seen::Claim(key.clone(), None));
        }
    }

    pub(super) fn configure(&mut self, config: Config) {
        self.api.config = config.clone();
        self.tell(&Seen::Config(config));
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

    /// One watch brings one thing.
    pub(super) fn deliver(&mut self, leader: usize, watch: usize) {
        let leader = &mut self.leaders[leader];
        if let Some(seen) = leader.watches[watch].pop_front() {
            leader.see(seen, self.now);
            leader.queue(self.now);
        }
    }

    pub(super) fn send(&mut self, leader: usize, which: usize) {
        let Leader { waiting, in_flight, .. } = &mut self.leaders[leader];
        let free: Vec<_> = waiting.keys().filter(|target| !in_flight.contains_key(target)).cloned().collect();
        if !free.is_empty() {
            let target = free[which % free.len()].clone();
            let write = waiting.remove(&target).unwrap();
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
            Some(seen) => self.tell(&seen),
            None => {
                self.leaders[leader].is_done(&target, self.now);
                self.leaders[leader].queue(self.now);
            }
        }
    }

    /// A leader dies with all writes that have not arrived, and starts again.
    pub(super) fn restart(&mut self, leader: usize) {
        self.leaders[leader] = Leader { index: self.api.list(self.now), ..Leader::default() };
        self.leaders[leader].queue(self.now);
    }

    /// All is delivered and written, until nothing is left. Returns how many rounds that took, or `None` if it does not end.
    pub(super) fn come_to_rest(&mut self) -> Option<usize> {
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
                while !self.leaders[leader].waiting.is_empty() {
                    self.send(leader, 0);
                    self.arrive(leader, 0);
                }
            }
        }
        None
    }

    /// Both agree with the API, and so does a third that starts now.
    pub(super) fn check(&mut self) {
        let rounds = self.come_to_rest();
        assert!(rounds.is_some(), "they fight: {:?}", self.api.shown());
        let mut third = Leader { index: self.api.list(self.now), ..Leader::default() };
        third.queue(self.now);
        assert!(third.waiting.is_empty(), "a third would write {:?}", third.waiting);
        let shown = self.api.shown();
        for leader in self.leaders.iter().chain([&third]) {
            for (key, ips) in &shown {
                let held = leader.index.ipam().holding(key).map(|held| held.ips().map(|ip| ip.to_string()));
                assert_eq!(held.into_iter().flatten().collect::<Vec<_>>(), *ips, "{key}");
            }
            leader.index.ipam().assert_invariants();
        }
    }
}
