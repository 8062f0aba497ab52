//! Lists at any revision: a page of a list must show the revision of the first page.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::{Expired, Key, Object, Store, Table};

/// Part of a list.
#[derive(Debug)]
pub(crate) struct Page {
    pub objects: Vec<Arc<Object>>,
    /// The key after which to continue, if there are more objects.
    pub next: Option<Key>,
    /// Number of matching objects after this page; only counted for lists without a filter.
    pub remaining: usize,
}

impl Store {
    /// Returns the objects of a kind at a revision (None: now), in order, after a key, at most `limit` that
    /// match.
    ///
    /// # Errors
    /// If the history back to that revision was discarded.
    pub(crate) fn list(
        &self,
        table: Table,
        namespace: Option<&str>,
        revision: Option<u64>,
        after: Option<&Key>,
        limit: Option<usize>,
        passes: impl Fn(&Object) -> bool,
    ) -> Result<Page, Expired> {
        let past = match revision {
            Some(revision) if revision < self.revision => self.past(table, revision)?,
            _ => BTreeMap::new(),
        };
        let mut page = Page { objects: Vec::new(), next: None, remaining: 0 };
        let Some(collection) = self.tables.get(table.0) else { return Ok(page) };

        let from = match (after, namespace) {
            (Some(key), _) => Bound::Excluded(key.clone()),
            (None, Some(namespace)) => Bound::Included(Key::new(namespace, "")),
            (None, None) => Bound::Unbounded,
        };
        let mut now = collection.objects.range((from.clone(), Bound::Unbounded)).peekable();
        let mut then = past.range((from, Bound::Unbounded)).peekable();
        let mut last = None;
        loop {
            // The past state of a key replaces its present state.
            let (key, object) = match (now.peek(), then.peek()) {
                (None, None) => break,
                (Some((key, _)), Some((past_key, _))) if key < past_key => match now.next() {
                    Some((key, object)) => (key, Some(object)),
                    None => break,
                },
                (Some(_), None) => match now.next() {
                    Some((key, object)) => (key, Some(object)),
                    None => break,
                },
                (present, Some((past_key, _))) => {
                    if present.is_some_and(|(key, _)| *key == **past_key) {
                        now.next();
                    }
                    match then.next() {
                        Some((key, object)) => (*key, object.as_ref()),
                        None => break,
                    }
                }
            };
            if namespace.is_some_and(|namespace| namespace != key.namespace) {
                break;
            }
            let Some(object) = object.filter(|object| passes(object)) else { continue };
            if limit.is_some_and(|limit| page.objects.len() >= limit) {
                page.next.clone_from(&last);
                page.remaining += 1;
                continue;
            }
            page.objects.push(object.clone());
            last = Some(key.clone());
        }
        Ok(page)
    }

    /// Returns the state of the changed keys at a revision.
    fn past(&self, table: Table, revision: u64) -> Result<BTreeMap<&Key, Option<Arc<Object>>>, Expired> {
        let mut past = BTreeMap::new();
        for change in self.changes(table, revision, usize::MAX)? {
            past.entry(&change.key).or_insert_with(|| change.old.clone());
        }
        Ok(past)
    }
}
