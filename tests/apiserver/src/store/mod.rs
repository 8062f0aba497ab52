//! The objects and their recent history. Pure: no HTTP, no clock, no knowledge of kinds.
//!
//! One revision counts all changes of all kinds, as in etcd. Each kind keeps its last changes in order. A
//! watch is a position in them, so a slow watch costs nothing, and one that falls too far behind loses its
//! position.

mod object;
mod snapshot;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use serde_json::Value;

pub(crate) use object::{Key, Object};

/// Index of a kind's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Table(usize);

/// A change of one object. At least one of `old` and `new` is set.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub revision: u64,
    pub key: Key,
    /// State before the change; None for a creation.
    pub old: Option<Arc<Object>>,
    /// State after the change; None for a deletion, whose `last` is the object of the DELETED event.
    pub new: Option<Arc<Object>>,
    /// The deleted object with the revision of its deletion.
    pub last: Option<Arc<Object>>,
}

/// The requested history was discarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expired {
    pub asked: u64,
    pub oldest: u64,
}

#[derive(Debug, Default)]
struct Collection {
    objects: BTreeMap<Key, Arc<Object>>,
    changes: VecDeque<Change>,
    /// Changes up to and including this revision were discarded.
    forgotten: u64,
}

/// All objects of all kinds.
#[derive(Debug)]
pub(crate) struct Store {
    revision: u64,
    history: usize,
    tables: Vec<Collection>,
    names: HashMap<String, Table>,
    /// Objects by the uid of each owner.
    owned: HashMap<String, BTreeSet<(Table, Key)>>,
    touched: BTreeSet<Table>,
}

impl Store {
    /// Returns a store that keeps the last `history` changes of each kind.
    pub(crate) fn new(history: usize) -> Store {
        Store {
            revision: 1,
            history: history.max(1),
            tables: Vec::new(),
            names: HashMap::new(),
            owned: HashMap::new(),
            touched: BTreeSet::new(),
        }
    }

    /// Returns the table of this name, and creates it if missing.
    pub(crate) fn table(&mut self, name: &str) -> Table {
        if let Some(table) = self.names.get(name) {
            return *table;
        }
        let table = Table(self.tables.len());
        // The history of the table begins here.
        self.tables.push(Collection { forgotten: self.revision, ..Collection::default() });
        self.names.insert(name.to_owned(), table);
        table
    }

    /// Returns the last assigned revision.
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// Returns the current state of an object.
    pub(crate) fn get(&self, table: Table, key: &Key) -> Option<&Arc<Object>> {
        self.tables.get(table.0)?.objects.get(key)
    }

    /// Returns all objects of a kind, or of a namespace of it, in order.
    pub(crate) fn iter(
        &self,
        table: Table,
        namespace: Option<&str>,
    ) -> impl Iterator<Item = (&Key, &Arc<Object>)> {
        let from = namespace.map_or(Bound::Unbounded, |namespace| Bound::Included(Key::new(namespace, "")));
        let namespace = namespace.map(str::to_owned);
        self.tables
            .get(table.0)
            .into_iter()
            .flat_map(move |collection| collection.objects.range((from.clone(), Bound::Unbounded)))
            .take_while(move |(key, _)| {
                namespace.as_ref().is_none_or(|namespace| *namespace == key.namespace)
            })
    }

    /// Creates or replaces an object and sets its resourceVersion.
    pub(crate) fn put(&mut self, table: Table, key: Key, mut value: Value) -> Arc<Object> {
        self.revision += 1;
        value["metadata"]["resourceVersion"] = Value::String(self.revision.to_string());
        let object = Arc::new(Object::new(value, self.revision));
        let Some(collection) = self.tables.get_mut(table.0) else { return object };
        let old = collection.objects.insert(key.clone(), object.clone());
        if let Some(old) = &old {
            disown(&mut self.owned, old, table, &key);
        }
        for owner in object.owners() {
            self.owned.entry(owner.to_owned()).or_default().insert((table, key.clone()));
        }
        let change = Change { revision: self.revision, key, old, new: Some(object.clone()), last: None };
        self.remember(table, change);
        object
    }

    /// Deletes an object. The returned object carries the revision of the deletion.
    pub(crate) fn remove(&mut self, table: Table, key: &Key) -> Option<Arc<Object>> {
        let old = self.tables.get_mut(table.0)?.objects.remove(key)?;
        disown(&mut self.owned, &old, table, key);
        self.revision += 1;
        let mut value = old.value().clone();
        value["metadata"]["resourceVersion"] = Value::String(self.revision.to_string());
        let last = Arc::new(Object::new(value, self.revision));
        let change = Change {
            revision: self.revision,
            key: key.clone(),
            old: Some(old),
            new: None,
            last: Some(last.clone()),
        };
        self.remember(table, change);
        Some(last)
    }

    /// Returns the objects that list this uid as an owner.
    pub(crate) fn dependents(&self, uid: &str) -> Vec<(Table, Key)> {
        self.owned.get(uid).map(|set| set.iter().cloned().collect()).unwrap_or_default()
    }

    /// Returns the next changes of a kind after a revision, oldest first, at most `limit`.
    ///
    /// # Errors
    /// If some of them were discarded.
    pub(crate) fn changes(
        &self,
        table: Table,
        after: u64,
        limit: usize,
    ) -> Result<impl Iterator<Item = &Change>, Expired> {
        let collection = self.tables.get(table.0);
        if let Some(collection) = collection
            && after < collection.forgotten
        {
            return Err(Expired { asked: after, oldest: collection.forgotten });
        }
        Ok(collection.into_iter().flat_map(move |collection| {
            let start = collection.changes.partition_point(|change| change.revision <= after);
            collection.changes.range(start..).take(limit)
        }))
    }

    /// Discards all history up to now.
    pub(crate) fn compact(&mut self) {
        for collection in &mut self.tables {
            collection.changes.clear();
            collection.forgotten = self.revision;
        }
    }

    /// Returns the kinds that changed since the last call.
    pub(crate) fn take_touched(&mut self) -> BTreeSet<Table> {
        std::mem::take(&mut self.touched)
    }

    fn remember(&mut self, table: Table, change: Change) {
        self.touched.insert(table);
        let Some(collection) = self.tables.get_mut(table.0) else { return };
        collection.changes.push_back(change);
        if collection.changes.len() > self.history
            && let Some(oldest) = collection.changes.pop_front()
        {
            collection.forgotten = oldest.revision;
        }
    }
}

impl Table {
    /// Position among the tables, dense from 0.
    pub(crate) fn index(self) -> usize {
        self.0
    }
}

fn disown(owned: &mut HashMap<String, BTreeSet<(Table, Key)>>, object: &Object, table: Table, key: &Key) {
    for owner in object.owners() {
        if let Some(set) = owned.get_mut(owner) {
            set.remove(&(table, key.clone()));
            if set.is_empty() {
                owned.remove(owner);
            }
        }
    }
}

#[cfg(test)]
mod tests;
