//! Writes whose effect the watch may still show: in-doubt writes, which got no response and may still be
//! applied, and applied writes that the watch has not delivered yet.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::write_queue::{WriteResult, WriteTarget};

/// Longest time that an API server takes to apply a request: the default of kube-apiserver's
/// `--request-timeout` is 60 s, plus transmission time.
const MAX_REQUEST_TIME: Duration = Duration::from_secs(65);
/// Minimum time between two searches for expired writes: each search visits all of them.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(5);

/// The last such write of each object. At most one per object, so bounded by the number of objects.
#[derive(Debug, Default)]
pub(super) struct InDoubt {
    writes: BTreeMap<WriteTarget, UnobservedWrite>,
    /// When to search for expired writes; `None` if there are no writes.
    next_expiry: Option<Instant>,
}

#[derive(Debug)]
struct UnobservedWrite {
    /// The resourceVersion on which the write was decided. The write has no effect once the object has
    /// another one.
    version: String,
    at: Instant,
    /// True if the API server confirmed the write.
    applied: bool,
}

impl InDoubt {
    /// Handles the result of a write that was decided on `version`.
    pub(super) fn handle_write_result(
        &mut self,
        target: &WriteTarget,
        version: &str,
        result: &WriteResult,
        now: Instant,
    ) {
        match result {
            // Its addresses stay reserved until the watch delivers them.
            WriteResult::Written(new)
                if matches!(target, WriteTarget::ServiceStatus(_)) && new != version =>
            {
                self.insert(target.clone(), version, now, true);
            }
            // No earlier write was decided on the current version of the object.
            WriteResult::Written(_) | WriteResult::Conflict | WriteResult::Gone => {
                self.writes.remove(target);
            }
            // Contains no information about an earlier write.
            WriteResult::Refused | WriteResult::Denied(_) => {}
            // Includes 500, which is also the response to a request to etcd that timed out.
            WriteResult::Failed | WriteResult::Unavailable(_) => {
                self.handle_abandoned(target.clone(), version, now);
            }
        }
    }

    /// Stores a write, decided on `version`, whose response is not awaited any more.
    pub(super) fn handle_abandoned(&mut self, target: WriteTarget, version: &str, now: Instant) {
        self.insert(target, version, now, false);
    }

    /// Returns whether the watch may still show the effect of a write. `version` is the resourceVersion of
    /// the object as last observed, `None` if it does not exist.
    pub(super) fn may_appear(&self, target: &WriteTarget, version: Option<&str>) -> bool {
        self.writes.get(target).is_some_and(|write| version == Some(&*write.version))
    }

    /// Returns whether the API server may still apply a write. `version` returns the resourceVersion of an
    /// object as last observed.
    pub(super) fn may_be_applied<'a>(
        &self,
        now: Instant,
        version: impl Fn(&WriteTarget) -> Option<&'a str>,
    ) -> bool {
        let ended = |write: &UnobservedWrite| {
            write.applied || now.saturating_duration_since(write.at) >= MAX_REQUEST_TIME
        };
        self.writes.iter().any(|(target, write)| !ended(write) && self.may_appear(target, version(target)))
    }

    /// Returns when to call [`InDoubt::handle_timeout`].
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.next_expiry
    }

    /// Forgets writes that the API server cannot apply any more, and returns their targets.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Vec<WriteTarget> {
        if self.next_expiry.is_none_or(|due| now < due) {
            return Vec::new();
        }
        let expires = |write: &UnobservedWrite| write.at + MAX_REQUEST_TIME;
        let expired = self.writes.iter().filter(|(_, write)| expires(write) <= now);
        let expired: Vec<WriteTarget> = expired.map(|(target, _)| target.clone()).collect();
        for target in &expired {
            self.writes.remove(target);
        }
        self.next_expiry = self.writes.values().map(expires).min().map(|due| due.max(now + EXPIRY_INTERVAL));
        expired
    }

    fn insert(&mut self, target: WriteTarget, version: &str, at: Instant, applied: bool) {
        self.writes.insert(target, UnobservedWrite { version: version.to_owned(), at, applied });
        self.next_expiry.get_or_insert(at + MAX_REQUEST_TIME);
    }
}

#[cfg(test)]
mod tests {
    use fairlead_crds::model::service::ObjectKey;

    use super::*;

    fn target() -> WriteTarget {
        WriteTarget::ServiceStatus(ObjectKey { namespace: "a".into(), name: "b".into() })
    }

    fn unavailable() -> WriteResult {
        WriteResult::Unavailable(None)
    }

    #[test]
    fn in_doubt_write_may_appear_and_may_be_applied() {
        let written = || WriteResult::Written("2".into());
        for (results, version, appears, applies) in [
            (vec![unavailable()], Some("1"), true, true),
            (vec![WriteResult::Failed], Some("1"), true, true),
            // Another write on the same version fails, or proves that the object has changed.
            (vec![unavailable(), WriteResult::Refused], Some("1"), true, true),
            (vec![unavailable(), WriteResult::Failed], Some("1"), true, true),
            (vec![unavailable(), WriteResult::Conflict], Some("1"), false, false),
            (vec![unavailable(), WriteResult::Gone], Some("1"), false, false),
            (vec![unavailable(), written()], Some("1"), true, false),
            // Applied, and not observed yet; then observed.
            (vec![written()], Some("1"), true, false),
            (vec![written()], Some("2"), false, false),
            (vec![WriteResult::Written("1".into())], Some("1"), false, false),
            // The object has changed, or does not exist.
            (vec![unavailable()], Some("2"), false, false),
            (vec![unavailable()], None, false, false),
        ] {
            let (mut in_doubt, now) = (InDoubt::default(), Instant::now());
            for result in &results {
                in_doubt.handle_write_result(&target(), "1", result, now);
            }
            assert_eq!(in_doubt.may_appear(&target(), version), appears, "{results:?} {version:?}");
            assert_eq!(in_doubt.may_be_applied(now, |_| version), applies, "{results:?} {version:?}");
        }
    }

    #[test]
    fn in_doubt_write_expires_after_max_request_time() {
        let (mut in_doubt, start) = (InDoubt::default(), Instant::now());
        in_doubt.handle_abandoned(target(), "1", start);
        assert!(in_doubt.may_be_applied(start + MAX_REQUEST_TIME / 2, |_| Some("1")));
        assert_eq!(in_doubt.handle_timeout(start + MAX_REQUEST_TIME / 2), []);
        assert_eq!(in_doubt.poll_timeout(), Some(start + MAX_REQUEST_TIME));
        assert!(!in_doubt.may_be_applied(start + MAX_REQUEST_TIME, |_| Some("1")));
        assert_eq!(in_doubt.handle_timeout(start + MAX_REQUEST_TIME), [target()]);
        assert_eq!(in_doubt.poll_timeout(), None);
    }

    #[test]
    fn expiry_searches_do_not_grow_with_in_doubt_writes() {
        let (mut in_doubt, start) = (InDoubt::default(), Instant::now());
        let mut now = start;
        for n in 0..1000 {
            let service = ObjectKey { namespace: "a".into(), name: format!("s{n}") };
            in_doubt.handle_abandoned(WriteTarget::ServiceStatus(service), "1", now);
            now += Duration::from_millis(10);
        }
        let (mut forgotten, mut searches) = (0, 0);
        while let Some(due) = in_doubt.poll_timeout() {
            forgotten += in_doubt.handle_timeout(due).len();
            searches += 1;
            assert!(due < now + MAX_REQUEST_TIME + EXPIRY_INTERVAL);
        }
        assert_eq!((forgotten, searches), (1000, 3), "the first write, then those of five seconds each");
    }
}
