//! What becomes free goes to those who wait for it, without anybody asking again and again.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;

use super::Index;
use super::waiting::{Age, Asker, For};
use crate::ipam::Family;

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
            let mut freed: BTreeSet<(Arc<str>, Family)> = BTreeSet::new();
            for change in changes {
                self.touched.insert(change.pool.clone());
                again.extend(self.waiting.on(&For::Address(change.address)).cloned());
                if let Some(group) = change.shared {
                    again.extend(self.waiting.on(&For::Join(change.pool.clone(), group)).cloned());
                }
                if change.free {
                    freed.insert((change.pool, Family::of(change.address)));
                }
            }
            for (_, asker) in again {
                self.converge_asker(&asker, now);
            }
            for (pool, family) in freed {
                self.hand_out(&pool, family, now);
            }
        }
    }

    /// Gives what is free in a pool to those who wait for it, oldest first. Each is tried once.
    fn hand_out(&mut self, pool: &Arc<str>, family: Family, now: Timestamp) {
        let mut last: Option<Age> = None;
        while self.ipam.counts(pool, family).available > 0 {
            let Some(next) = self.waiting.after(&For::Free(pool.clone(), family), last.as_ref()).cloned()
            else {
                return;
            };
            self.converge_asker(&next.1, now);
            last = Some(next);
        }
    }

    pub(super) fn converge_asker(&mut self, asker: &Asker, now: Timestamp) {
        match asker {
            Asker::Service(key) => self.converge(key, now),
            Asker::Claim(key) => self.converge_claim(key, now),
        }
    }
}
