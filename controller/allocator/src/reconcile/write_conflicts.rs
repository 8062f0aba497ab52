//! Another program that replaces what this controller writes into configuration objects and claims.
//!
//! The same as for Services (`status_conflict`): an edit is corrected at once, but a program that writes
//! whenever this controller writes gets an answer less and less often.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use fairlead_crds::names::{BFD_PROFILE_PROTECTION, COMMUNITY_PROTECTION, POOL_PROTECTION};
use jiff::Timestamp;
use serde_json::Value;

use super::claim_status::CLAIM_CONDITIONS;
use super::objects::OWN_CONDITIONS;
use super::pools::POOL_CONDITIONS;
use super::status_conflict::{ConflictTimers, StatusConflict};

/// The finalizers that this controller writes, at most one per kind.
const OWN_FINALIZERS: [&str; 3] = [POOL_PROTECTION, BFD_PROFILE_PROTECTION, COMMUNITY_PROTECTION];

/// The parts of objects that were written, each until it was not written for ten minutes. `K` identifies a
/// part of an object.
#[derive(Debug)]
pub struct WriteConflicts<K> {
    parts: BTreeMap<K, WrittenPart>,
    by_end: BTreeSet<(Timestamp, K)>,
    held: ConflictTimers<K>,
    replacements: Vec<Replacement<K>>,
}

/// A write that another program replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replacement<K> {
    /// The part of an object.
    pub part: K,
    /// True the first time that the next write is delayed.
    pub begins_conflict: bool,
}

#[derive(Debug)]
struct WrittenPart {
    /// The [`digest`] of the last patch.
    digest: u64,
    /// The resourceVersion on which it was decided.
    version: String,
    /// True if the API server has stored it.
    is_written: bool,
    conflict: StatusConflict,
}

impl<K> Default for WriteConflicts<K> {
    fn default() -> Self {
        Self {
            parts: BTreeMap::new(),
            by_end: BTreeSet::new(),
            held: ConflictTimers::default(),
            replacements: Vec::new(),
        }
    }
}

impl<K: Ord + Clone> WriteConflicts<K> {
    /// Returns whether a patch with this [`digest`], decided on this resourceVersion, may be sent now. If
    /// not, the part must be evaluated again when it is due.
    pub fn may_write(&mut self, part: &K, digest: u64, version: &str, now: Timestamp) -> bool {
        self.forget_ended(now);
        let written = self.parts.entry(part.clone()).or_insert_with(|| WrittenPart {
            digest,
            version: version.to_owned(),
            is_written: false,
            conflict: StatusConflict::new(now),
        });
        let end = written.conflict.end();
        let is_same = std::mem::replace(&mut written.digest, digest) == digest;
        // On the same version, the watch has not delivered the write yet.
        let is_observed = written.version != version;
        if is_same && written.is_written && is_observed {
            let begins_conflict = written.conflict.handle_replacement(now);
            self.replacements.push(Replacement { part: part.clone(), begins_conflict });
        }
        written.is_written = is_same && written.is_written && !is_observed;
        version.clone_into(&mut written.version);
        let next = written.conflict.next_write();
        self.by_end.remove(&(end, part.clone()));
        self.by_end.insert((written.conflict.end(), part.clone()));
        // A new decision is not delayed.
        let is_held = is_same && now < next;
        self.held.set(part, is_held.then_some(next));
        !is_held
    }

    /// Handles that the API server has stored the last patch.
    pub fn handle_written(&mut self, part: &K) {
        if let Some(written) = self.parts.get_mut(part) {
            written.is_written = true;
        }
    }

    /// Handles that nothing is to be written, because the part is as decided or does not exist.
    pub fn handle_settled(&mut self, part: &K) {
        self.handle_written(part);
        self.held.set(part, None);
    }

    /// Returns when to call [`WriteConflicts::take_due`].
    pub fn next_due(&self) -> Option<Timestamp> {
        self.held.next()
    }

    /// Removes and returns the parts whose delay has ended.
    pub fn take_due(&mut self, now: Timestamp) -> Vec<K> {
        self.held.take_due(now)
    }

    /// Removes and returns the replacements since the last call.
    pub fn take_replacements(&mut self) -> Vec<Replacement<K>> {
        std::mem::take(&mut self.replacements)
    }

    fn forget_ended(&mut self, now: Timestamp) {
        while let Some((end, _)) = self.by_end.first()
            && *end <= now
            && let Some((_, part)) = self.by_end.pop_first()
        {
            self.parts.remove(&part);
            self.held.set(&part, None);
        }
    }
}

/// Returns a digest of the parts of a merge patch that this controller decides: without times, and without
/// what others write and the patch only repeats.
pub fn digest(body: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    for (field, value) in body["status"].as_object().into_iter().flatten() {
        match field.as_str() {
            "recentlyReleased" => {}
            "conditions" => {
                let is_own = |condition: &&Value| condition["type"].as_str().is_some_and(is_own_condition);
                for condition in value.as_array().into_iter().flatten().filter(is_own) {
                    for part in ["type", "status", "reason", "message", "observedGeneration"] {
                        condition[part].to_string().hash(&mut hasher);
                    }
                }
            }
            _ => (field, value.to_string()).hash(&mut hasher),
        }
    }
    let finalizers = body["metadata"]["finalizers"].as_array();
    let is_own = |name: &&Value| OWN_FINALIZERS.map(Some).contains(&name.as_str());
    finalizers.map(|finalizers| finalizers.iter().any(|name| is_own(&name))).hash(&mut hasher);
    hasher.finish()
}

/// Returns true for the conditions that this controller writes into configuration objects and claims.
fn is_own_condition(type_: &str) -> bool {
    let all: [&[&str]; 3] = [&OWN_CONDITIONS, &POOL_CONDITIONS, &CLAIM_CONDITIONS];
    all.iter().any(|own| own.contains(&type_))
}

#[cfg(test)]
mod tests {
    use fairlead_crds::names::{
        ACCEPTED, BOUND, EXHAUSTED, IN_FORCE, IN_USE, READY, RESERVED, SESSIONS_ESTABLISHED, STALLED,
    };
    use jiff::SignedDuration;
    use serde_json::json;

    use super::*;

    /// A part that another program replaces whenever it is written.
    struct ReplacedPart {
        conflicts: WriteConflicts<&'static str>,
        now: Timestamp,
        version: u32,
    }

    impl ReplacedPart {
        fn new() -> Self {
            Self {
                conflicts: WriteConflicts::default(),
                now: "2026-01-01T00:00:00Z".parse().unwrap(),
                version: 1,
            }
        }

        fn advance(&mut self, milliseconds: i64) {
            self.now = self.now.checked_add(SignedDuration::from_millis(milliseconds)).unwrap();
        }

        /// Evaluates the part, which is not as decided. Returns whether it is written.
        fn evaluate(&mut self, digest: u64) -> bool {
            let writes = self.conflicts.may_write(&"a", digest, &self.version.to_string(), self.now);
            if writes {
                self.conflicts.handle_written(&"a");
                // Our write, and then that of the other program.
                self.version += 2;
            }
            writes
        }

        /// Runs for so many seconds, in steps of 100 ms. Returns the number of writes.
        fn run(&mut self, seconds: i64) -> usize {
            let mut writes = 0;
            for _ in 0..seconds * 10 {
                self.advance(100);
                let due = self.conflicts.take_due(self.now);
                if !due.is_empty() || self.conflicts.next_due().is_none() {
                    writes += usize::from(self.evaluate(7));
                }
            }
            writes
        }
    }

    #[test]
    fn replaced_part_is_written_less_and_less_often() {
        let mut replaced = ReplacedPart::new();
        let writes = replaced.run(10);
        assert!((4..=9).contains(&writes), "{writes} writes in 10 s");
        let replacements = replaced.conflicts.take_replacements();
        assert_eq!(replacements.iter().filter(|replacement| replacement.begins_conflict).count(), 1);
        assert!(replacements.len() >= 4, "{replacements:?}");
        let writes = replaced.run(3600);
        assert!((10..=20).contains(&writes), "{writes} writes in an hour");
        assert!(replaced.evaluate(8), "a new decision is not delayed");
    }

    #[test]
    fn edits_are_corrected_at_once() {
        let mut replaced = ReplacedPart::new();
        for _ in 0..20 {
            assert!(replaced.evaluate(7));
            replaced.conflicts.handle_settled(&"a");
            // Longer than a conflict lasts without another edit.
            replaced.advance(700_000);
        }
        assert_eq!(replaced.conflicts.parts.len(), 1);
        assert_eq!((replaced.conflicts.by_end.len(), replaced.conflicts.next_due()), (1, None));
    }

    #[test]
    fn own_writes_are_no_replacements() {
        let mut replaced = ReplacedPart::new();
        for n in 0..100 {
            assert!(replaced.evaluate(n), "another decision each time");
            let version = (replaced.version - 2).to_string();
            // The watch has not delivered the write.
            assert!(replaced.conflicts.may_write(&"a", n, &version, replaced.now));
        }
        // A write that failed.
        for _ in 0..100 {
            replaced.version += 1;
            assert!(replaced.conflicts.may_write(&"b", 7, &replaced.version.to_string(), replaced.now));
        }
        assert_eq!(replaced.conflicts.take_replacements(), []);
    }

    #[test]
    fn digest_depends_on_own_parts_only() {
        let body = |time: &str, other: &str, reason: &str, count: u32| {
            json!({
                "metadata": { "resourceVersion": time },
                "status": { "assignedIPv4": count, "recentlyReleased": [other], "conditions": [
                    { "type": "Other", "status": other },
                    { "type": "Accepted", "status": "True", "reason": reason, "lastTransitionTime": time },
                ] },
            })
        };
        let first = digest(&body("1", "a", "x", 1));
        assert_eq!(first, digest(&body("2", "b", "x", 1)));
        assert_ne!(first, digest(&body("1", "a", "y", 1)));
        assert_ne!(first, digest(&body("1", "a", "x", 2)));
        let condition = |type_: &str, reason: &str| {
            let condition = json!({ "type": type_, "status": "True", "reason": reason });
            digest(&json!({ "status": { "conditions": [condition] } }))
        };
        let own =
            [ACCEPTED, READY, STALLED, IN_FORCE, IN_USE, EXHAUSTED, RESERVED, BOUND, SESSIONS_ESTABLISHED];
        for own in own {
            assert_ne!(condition(own, "x"), condition(own, "y"), "{own}");
        }
        assert_eq!(condition("Other", "x"), condition("Other", "y"));
        let finalizers = |names: &[&str]| digest(&json!({ "metadata": { "finalizers": names } }));
        for own in OWN_FINALIZERS {
            assert_eq!(finalizers(&[own]), finalizers(&["a", own]));
            assert_ne!(finalizers(&[own]), finalizers(&["a"]), "{own}");
        }
    }
}
