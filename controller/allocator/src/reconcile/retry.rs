//! What becomes free goes to those who wait for it, without anybody asking again and again.

use std::collections::BTreeSet;
use std::sync::Arc;

use fairlead_crds::model::service::ObjectKey;
use jiff::Timestamp;

use super::Index;
use super::wait_queue::{Age, Asker, For};
use crate::ipam::Family;

/// Addresses of this family became free in this pool.
type Freed = (Arc<str>, Family);

impl Index {
    /// Lets those try again who wait for something that has happened, until nothing more happens.
    pub(super) fn settle(&mut self, now: Timestamp) {
        if !self.deciding {
            self.ipam.take_changes();
            return;
        }
        loop {
            let changes = self.ipam.take_changes();
            if changes.is_empty() {
                return;
            }
            let mut again: BTreeSet<Age> = BTreeSet::new();
            let mut freed: BTreeSet<Freed> = BTreeSet::new();
            for change in changes {
                self.touched.insert(change.pool.clone());
                again.extend(self.waiting.on(&For::Address(change.address)).cloned());
                if let Some(group) = change.shared {
                    again.extend(self.waiting.on(&For::Join(change.pool.clone(), group)).cloned());
                }
                if let Some(service) = &change.kept_for {
                    let free = For::Free(change.pool.clone(), Family::of(change.address));
                    again.extend(self.askers_for(service).filter(|age| self.waiting.is_on(&free, age)));
                }
                if change.free {
                    freed.insert((change.pool, Family::of(change.address)));
                }
            }
            self.hand_out(again, freed, now);
        }
    }

    /// Lets those in `again` and who waits for one of what is free in some pools try it, the oldest first, each once.
    fn hand_out(&mut self, again: BTreeSet<Age>, freed: BTreeSet<Freed>, now: Timestamp) {
        let mut next: BTreeSet<(Age, Option<Freed>)> = again.into_iter().map(|age| (age, None)).collect();
        for (pool, family) in freed {
            let first = self.waiting.after(&For::Free(pool.clone(), family), None);
            next.extend(first.map(|age| (age.clone(), Some((pool, family)))));
        }
        let mut last: Option<Age> = None;
        while let Some((age, of)) = next.pop_first() {
            if of.as_ref().is_some_and(|(pool, family)| self.ipam.counts(pool, *family).available == 0) {
                continue;
            }
            if last.as_ref() != Some(&age) {
                self.converge_asker(&age.1, now);
            }
            if let Some((pool, family)) = of {
                let younger = self.waiting.after(&For::Free(pool.clone(), family), Some(&age));
                next.extend(younger.map(|age| (age.clone(), Some((pool, family)))));
            }
            last = Some(age);
        }
    }

    /// A Service and the claims for it.
    fn askers_for(&self, service: &ObjectKey) -> impl Iterator<Item = Age> {
        let claims = self.claims_of.get(service).into_iter().flatten();
        let claims = claims.map(|(created, key)| (*created, Asker::Claim(key.clone())));
        claims.chain(self.services.get(service).map(|record| record.age()))
    }

    pub(super) fn converge_asker(&mut self, asker: &Asker, now: Timestamp) {
        match asker {
            Asker::Service(key) => self.converge(key, now),
            Asker::Claim(key) => self.converge_claim(key, now),
        }
    }
}
