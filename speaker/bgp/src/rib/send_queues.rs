//! Prefixes that wait to be announced or withdrawn.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;

use crate::Attributes;

/// The prefixes that wait, by queue. The queues are in the order in which they are sent.
#[derive(Debug, Default)]
pub(super) struct SendQueues {
    pub(super) changed: Buckets,
    pub(super) withdrawn: BTreeSet<IpNet>,
    pub(super) repeated: Buckets,
    /// Number of prefixes in all queues.
    length: usize,
}

/// The difference between the route that the peer should have and the route that it has. It decides the queue
/// of the prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Difference {
    /// The route is new, or the peer has it in another form.
    Changed(Arc<Attributes>),
    /// The peer has a route that it should not have.
    Withdrawn,
    /// The peer has the route, and requested it once more.
    Repeated(Arc<Attributes>),
}

impl SendQueues {
    pub(super) fn insert(&mut self, prefix: IpNet, difference: Difference) {
        match difference {
            Difference::Changed(attributes) => self.changed.insert(prefix, attributes),
            Difference::Withdrawn => drop(self.withdrawn.insert(prefix)),
            Difference::Repeated(attributes) => self.repeated.insert(prefix, attributes),
        }
        self.length += 1;
    }

    /// Removes a prefix that was inserted with this difference.
    pub(super) fn remove(&mut self, prefix: &IpNet, difference: Difference) {
        match difference {
            Difference::Changed(attributes) => self.changed.remove(prefix, attributes),
            Difference::Withdrawn => drop(self.withdrawn.remove(prefix)),
            Difference::Repeated(attributes) => self.repeated.remove(prefix, attributes),
        }
        self.length -= 1;
    }

    /// Removes the first changed prefixes of one bucket.
    pub(super) fn pop_changed(&mut self, count: usize) -> Vec<IpNet> {
        let popped = self.changed.pop_first(count);
        self.length -= popped.len();
        popped
    }

    /// Removes the first repeated prefixes of one bucket.
    pub(super) fn pop_repeated(&mut self, count: usize) -> Vec<IpNet> {
        let popped = self.repeated.pop_first(count);
        self.length -= popped.len();
        popped
    }

    /// Removes the first prefixes to withdraw.
    pub(super) fn pop_withdrawn(&mut self, count: usize) -> Vec<IpNet> {
        let popped: Vec<_> = std::iter::from_fn(|| self.withdrawn.pop_first()).take(count).collect();
        self.length -= popped.len();
        popped
    }

    pub(super) const fn len(&self) -> usize {
        self.length
    }
}

/// Prefixes in buckets of one length and one set of attributes: less specific prefixes are sent first, and
/// the prefixes of a bucket share UPDATEs.
#[derive(Debug, Default)]
pub(super) struct Buckets(BTreeMap<(u8, Arc<Attributes>), BTreeSet<IpNet>>);

impl Buckets {
    fn insert(&mut self, prefix: IpNet, attributes: Arc<Attributes>) {
        self.0.entry((prefix.prefix_len(), attributes)).or_default().insert(prefix);
    }

    fn remove(&mut self, prefix: &IpNet, attributes: Arc<Attributes>) {
        let key = (prefix.prefix_len(), attributes);
        if let Some(bucket) = self.0.get_mut(&key) {
            bucket.remove(prefix);
            if bucket.is_empty() {
                self.0.remove(&key);
            }
        }
    }

    /// Returns the prefixes of the first bucket, with the attributes that they share.
    pub(super) fn first(&self) -> Option<(&Arc<Attributes>, impl Iterator<Item = &IpNet>)> {
        self.0.first_key_value().map(|((_, attributes), prefixes)| (attributes, prefixes.iter()))
    }

    /// Removes the first `count` of [`Buckets::first`].
    fn pop_first(&mut self, count: usize) -> Vec<IpNet> {
        let Some(mut bucket) = self.0.first_entry() else { return Vec::new() };
        let popped = std::iter::from_fn(|| bucket.get_mut().pop_first()).take(count).collect();
        if bucket.get().is_empty() {
            bucket.remove();
        }
        popped
    }
}
