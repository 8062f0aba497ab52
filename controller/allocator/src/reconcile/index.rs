//! What happens in the cluster, verb by verb.

use std::collections::{BTreeMap, BTreeSet};

use fairlead_crds::model::claim::Claim;
use fairlead_crds::model::config::{Config, Labels, Pool};
use fairlead_crds::model::selector::Selector;
use fairlead_crds::model::service::ObjectKey;
use jiff::Timestamp;

use super::service_records::Record;
use super::wait_queue::{Age, Asker, For, Waiting};
use super::{Index, Listed, Observed};
use crate::ipam::{Ipam, Released};

impl Index {
    /// From now on this controller leads: decides everything, if everything was listed. `released` are the addresses that
    /// are still kept for those who released them, by pool.
    pub fn begin(&mut self, released: Vec<(String, Released)>, now: Timestamp) {
        if self.deciding || !self.is_listed() {
            return;
        }
        self.deciding = true;
        self.advance(now);
        let services: Vec<ObjectKey> = self.services.keys().cloned().collect();
        let claims: Vec<ObjectKey> = self.claims.keys().cloned().collect();
        self.adopt_all(&services, &claims);
        for (pool, released) in &released {
            self.ipam.recall(pool, released);
        }
        for key in self.claims_by_age(&claims) {
            self.adopt_rest_of_claim(&key);
        }
        self.pass(services, claims, now);
    }

    /// Everything is to be listed anew before it begins to decide.
    pub fn forget_lists(&mut self) {
        self.listed = Listed::default();
    }

    /// This controller leads no longer: forgets all that was decided, and only takes note from now on. What is on the way
    /// may still arrive.
    pub fn step_down(&mut self) {
        self.deciding = false;
        self.ipam = Ipam::default();
        self.ipam.set_pools(&self.config.pools, &self.config.refused_pools);
        self.waiting = Waiting::default();
        self.decisions.clear();
        self.touched.clear();
        for record in self.services.values_mut() {
            let promised = std::mem::take(&mut record.promised);
            **record = Record { promised, ..Record::new(record.observed.clone()) };
        }
        for record in self.claims.values_mut() {
            record.forget();
        }
    }

    /// When something is to be done although nothing happens; then call [`Index::timeout`].
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        if self.deciding { self.ipam.next_expiry() } else { None }
    }

    /// What was kept for somebody only until `now` is given to whoever waits for it.
    pub fn timeout(&mut self, now: Timestamp) {
        if self.deciding {
            self.advance(now);
        }
    }

    /// A Service of ours is new or changed.
    pub fn service_applied(&mut self, observed: Observed, now: Timestamp) {
        let key = observed.balancer.key.clone();
        let is_another = |record: &Record| record.observed.balancer.uid != observed.balancer.uid;
        if self.services.get(&key).is_some_and(|record| is_another(record)) {
            // What the one before it held goes to whoever waits for it, not to this one before them.
            self.service_deleted(&key, now);
        }
        self.advance(now);
        let is_new = !self.services.contains_key(&key);
        let foreign = self.take_in(observed);
        if self.deciding {
            self.adopt(&key);
            self.depart(&key);
            if let Some(author) = foreign {
                self.heed(&key, author, now);
            }
            self.converge(&key, now);
            if is_new {
                self.tell_claims_of(&key, now);
            }
            self.settle(now);
        }
    }

    /// Nothing that was decided on a Service is waiting to be written any more or can still arrive.
    pub fn nothing_on_the_way(&mut self, key: &ObjectKey, now: Timestamp) {
        self.advance(now);
        let Some(record) = self.services.get_mut(key) else { return };
        if !record.promised.is_empty() {
            record.promised.clear();
            record.depart(&mut self.ipam);
            self.settle(now);
        }
    }

    /// A Service is gone, or is no longer ours.
    pub fn service_deleted(&mut self, key: &ObjectKey, now: Timestamp) {
        // Nothing is given to one that is gone.
        self.ipam.advance(now);
        self.forget(key);
        self.settle(now);
        if self.deciding {
            self.tell_claims_of(key, now);
            self.settle(now);
        }
    }

    /// All Services of ours.
    pub fn services_reset(&mut self, list: Vec<Observed>, now: Timestamp) {
        self.listed.services = true;
        self.ipam.advance(now);
        let there: BTreeSet<&ObjectKey> = list.iter().map(|observed| &observed.balancer.key).collect();
        let gone: Vec<ObjectKey> = self.services.keys().filter(|key| !there.contains(key)).cloned().collect();
        for key in &gone {
            self.forget(key);
        }
        let keys: Vec<ObjectKey> = list.iter().map(|observed| observed.balancer.key.clone()).collect();
        let mut foreign = Vec::new();
        for observed in list {
            let key = observed.balancer.key.clone();
            if let Some(author) = self.take_in(observed) {
                foreign.push((key, author));
            }
        }
        if self.deciding {
            self.adopt_all(&keys, &[]);
            for (key, author) in foreign {
                self.heed(&key, author, now);
            }
            for key in &gone {
                self.tell_claims_of(key, now);
            }
            // What became free meanwhile is for the claims that wait too.
            let waiting = self.claims.iter().filter(|(_, record)| record.refused().is_some());
            let waiting = waiting.map(|(key, _)| key.clone()).collect();
            self.pass(keys, waiting, now);
        }
    }

    /// A claim is new or changed.
    pub fn claim_applied(&mut self, claim: Claim, now: Timestamp) {
        self.advance(now);
        let key = claim.key.clone();
        let (foreign, left) = self.take_in_claim(claim);
        if self.deciding {
            if let Some(service) = left {
                self.converge_if_waiting(&service, now);
            }
            if foreign {
                self.heed_claim(&key, now);
            } else {
                self.converge_claim(&key, now);
            }
            self.settle(now);
        }
    }

    /// A claim is gone.
    pub fn claim_deleted(&mut self, key: &ObjectKey, now: Timestamp) {
        self.advance(now);
        let service = self.forget_claim(key);
        if self.deciding
            && let Some(service) = service
        {
            self.converge_if_waiting(&service, now);
        }
        self.settle(now);
    }

    /// All claims.
    pub fn claims_reset(&mut self, list: Vec<Claim>, now: Timestamp) {
        self.listed.claims = true;
        self.advance(now);
        let there: BTreeSet<&ObjectKey> = list.iter().map(|claim| &claim.key).collect();
        let gone: Vec<ObjectKey> = self.claims.keys().filter(|key| !there.contains(key)).cloned().collect();
        for key in gone {
            self.claim_deleted(&key, now);
        }
        let keys: Vec<ObjectKey> = list.iter().map(|claim| claim.key.clone()).collect();
        let (mut foreign, mut left) = (Vec::new(), Vec::new());
        for claim in list {
            let key = claim.key.clone();
            let (is_foreign, service) = self.take_in_claim(claim);
            left.extend(service);
            if is_foreign {
                foreign.push(key);
            }
        }
        if self.deciding {
            for service in left {
                self.converge_if_waiting(&service, now);
            }
            for key in foreign {
                self.heed_claim(&key, now);
            }
            self.pass(Vec::new(), keys, now);
        }
    }

    /// A Namespace is new or changed.
    pub fn namespace_applied(&mut self, name: String, labels: Labels, now: Timestamp) {
        self.advance(now);
        let old = self.namespaces.insert(name.clone(), labels);
        let new = &self.namespaces[&name];
        let matches = |s: &Selector| old.as_ref().is_none_or(|old| s.matches(old) != s.matches(new));
        // Only what a pool selects by makes a difference to anybody.
        if self.deciding && self.namespace_selectors().any(matches) {
            let first = ObjectKey { namespace: name.clone(), name: String::new() };
            let inside = |key: &&ObjectKey| key.namespace == name;
            let services = self.services.range(first.clone()..).map(|(key, _)| key);
            let services = services.take_while(inside).cloned().collect();
            let claims = self.claims.range(first..).map(|(key, _)| key).take_while(inside).cloned().collect();
            self.pass(services, claims, now);
        }
    }

    /// A Namespace is gone. Its Services went before it.
    pub fn namespace_deleted(&mut self, name: &str) {
        self.namespaces.remove(name);
    }

    /// All Namespaces.
    pub fn namespaces_reset(&mut self, list: Vec<(String, Labels)>, now: Timestamp) {
        self.listed.namespaces = true;
        let there: BTreeSet<&str> = list.iter().map(|(name, _)| name.as_str()).collect();
        self.namespaces.retain(|name, _| there.contains(name.as_str()));
        for (name, labels) in list {
            if self.namespaces.get(&name) != Some(&labels) {
                self.namespace_applied(name, labels, now);
            }
        }
    }

    /// The configuration is known, or another. Costs the holders of what differs, and those who wait.
    pub fn set_config(&mut self, config: Config, now: Timestamp) {
        self.listed.config = true;
        self.advance(now);
        let old = std::mem::replace(&mut self.config, config);
        let Config { pools, refused_pools, .. } = &self.config;
        let changes = self.ipam.set_pools(pools, refused_pools);
        if changes.any {
            self.touched.extend(pools.keys().chain(refused_pools.keys()).map(|name| name.as_str().into()));
        }
        if !self.deciding {
            self.ipam.take_changes();
            return;
        }
        let mut services: BTreeSet<ObjectKey> = BTreeSet::new();
        let mut claims: BTreeSet<ObjectKey> = changes.claims;
        if changes.any {
            let holders = changes.kept.into_iter().chain(changes.evicted);
            services.extend(holders.map(|key| ObjectKey::clone(&key)));
            for (_, asker) in self.waiting.on(&For::Config) {
                match asker {
                    Asker::Service(key) => services.insert(key.clone()),
                    Asker::Claim(key) => claims.insert(key.clone()),
                };
            }
        }
        for pool in self.config.pools.values().chain(self.config.refused_pools.values()) {
            if old.pool(&pool.name).is_none_or(|then| coverage(&old, then) != coverage(&self.config, pool)) {
                services.extend(self.ipam.holders_of(&pool.name).map(|key| ObjectKey::clone(key)));
            }
        }
        self.pass(services.into_iter().collect(), claims.into_iter().collect(), now);
    }

    /// Takes note of what each holds, oldest first, before anything is decided.
    fn adopt_all(&mut self, services: &[ObjectKey], claims: &[ObjectKey]) {
        // Who says two things on sharing comes last: it is for the others to show what is shared.
        let age = |key| {
            let record = self.services.get(key)?;
            let is_unclear = !record.observed.balancer.requested.sharing_keys.is_empty();
            Some((is_unclear, record.created(), key))
        };
        let mut by_age: Vec<(bool, i64, &ObjectKey)> = services.iter().filter_map(age).collect();
        by_age.sort();
        for (.., key) in by_age {
            self.adopt(key);
        }
        // Only now: who shares an address keeps it, although another that shows it may not.
        for key in services {
            self.depart(key);
        }
        for key in self.claims_by_age(claims) {
            self.adopt_claim(&key);
        }
    }

    fn claims_by_age(&self, claims: &[ObjectKey]) -> Vec<ObjectKey> {
        let mut by_age: Vec<(i64, &ObjectKey)> =
            claims.iter().filter_map(|key| Some((self.claims.get(key)?.claim.created, key))).collect();
        by_age.sort();
        by_age.into_iter().map(|(_, key)| key.clone()).collect()
    }

    /// Looks at several Services and claims: first takes note of what each holds, then decides, the oldest first. But a
    /// Service comes after all claims for it that have nothing yet: what it gets depends on them.
    fn pass(&mut self, services: Vec<ObjectKey>, claims: Vec<ObjectKey>, now: Timestamp) {
        self.adopt_all(&services, &[]);
        let claims: BTreeSet<Age> =
            claims.iter().filter_map(|key| Some(self.claims.get(key)?.age())).collect();
        let mut last_claim: BTreeMap<ObjectKey, i64> = BTreeMap::new();
        for (created, asker) in &claims {
            if let Asker::Claim(key) = asker
                && self.ipam.claimed(key).is_none()
                && let Some(record) = self.claims.get(key)
            {
                last_claim.insert(record.claim.service.clone(), *created);
            }
        }
        let services = services.iter().filter_map(|key| {
            let (created, asker) = self.services.get(key)?.age();
            Some((last_claim.get(key).copied().unwrap_or(created).max(created), asker))
        });
        let mut claimants: Vec<ObjectKey> = Vec::new();
        for (_, asker) in services.chain(claims.iter().cloned()).collect::<BTreeSet<Age>>() {
            match asker {
                Asker::Service(key) => self.converge(&key, now),
                Asker::Claim(key) => claimants.extend(self.reserve(&key)),
            }
        }
        for service in claimants {
            self.converge_if_waiting(&service, now);
        }
        for (_, asker) in claims {
            if let Asker::Claim(key) = asker {
                self.tell_claim(&key, now);
            }
        }
        self.settle(now);
    }
}

/// What decides which Services of a pool are covered by an advertisement.
fn coverage<'a>(config: &'a Config, pool: &'a Pool) -> BTreeSet<(bool, &'a str, Vec<String>)> {
    let selectors = |list: &[Selector]| list.iter().map(ToString::to_string).collect();
    let l2 = config.l2_advertisements.values().filter(|ad| ad.pools.covers(pool));
    let bgp = config.bgp_advertisements.values().filter(|ad| {
        ad.pools.covers(pool) && !config.lookup.withheld.contains(&(ad.name.clone(), pool.name.clone()))
    });
    let l2 = l2.map(|ad| (false, ad.name.as_str(), selectors(&ad.service_selectors)));
    l2.chain(bgp.map(|ad| (true, ad.name.as_str(), selectors(&ad.service_selectors)))).collect()
}
