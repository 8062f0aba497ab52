//! Writes that may still show: whose end nobody told, and those that were done and that the watch has not shown yet.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::write_queue::{WriteResult, WriteTarget};

/// How long an API server works on a request at most: kube-apiserver's `--request-timeout` is 60 s, and something for the
/// way.
const ENDS: Duration = Duration::from_secs(65);
/// All are looked at to find those that are over, so not for each of them.
const CHECKS: Duration = Duration::from_secs(5);

/// The last such write of each object.
#[derive(Debug, Default)]
pub(super) struct Unanswered {
    writes: BTreeMap<WriteTarget, Sent>,
    /// When to look for those that may be forgotten; `None` while there are none.
    check: Option<Instant>,
}

/// A write that may still show.
#[derive(Debug)]
struct Sent {
    /// The resourceVersion it was decided on. Of no effect where the object has another by now.
    version: String,
    at: Instant,
    /// Whether the API server said that it is done.
    done: bool,
}

impl Unanswered {
    /// A write that was decided on `version` was answered so at `now`.
    pub(super) fn answered(
        &mut self,
        target: &WriteTarget,
        version: &str,
        answer: &WriteResult,
        now: Instant,
    ) {
        match answer {
            // Addresses in it are promised until the watch shows them.
            WriteResult::Written(new)
                if matches!(target, WriteTarget::ServiceStatus(_)) && new != version =>
            {
                self.insert(target.clone(), version, now, true);
            }
            // The object has another version than any write before was decided on.
            WriteResult::Written(_) | WriteResult::Conflict | WriteResult::Gone => {
                drop(self.writes.remove(target))
            }
            // Says nothing of a write before.
            WriteResult::Invalid => {}
            // A 500 too: it is also what becomes of a request to etcd that took too long.
            WriteResult::Failed | WriteResult::Unavailable(_) => self.lost(target.clone(), version, now),
        }
    }

    /// A write that was decided on `version` is not waited for any more.
    pub(super) fn lost(&mut self, target: WriteTarget, version: &str, now: Instant) {
        self.insert(target, version, now, false);
    }

    /// Whether a write of this object may still show, which has `version` as far as is known; `None` if it is gone.
    pub(super) fn may_show(&self, target: &WriteTarget, version: Option<&str>) -> bool {
        self.writes.get(target).is_some_and(|sent| version == Some(&*sent.version))
    }

    /// Whether a write may still arrive at the API server. `version` says what is known of an object.
    pub(super) fn may_arrive<'a>(
        &self,
        now: Instant,
        version: impl Fn(&WriteTarget) -> Option<&'a str>,
    ) -> bool {
        let ends = |sent: &Sent| sent.done || now.saturating_duration_since(sent.at) >= ENDS;
        self.writes.iter().any(|(target, sent)| !ends(sent) && self.may_show(target, version(target)))
    }

    /// When to call [`Unanswered::expire`].
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.check
    }

    /// Forgets what the API server has long ended; what that was.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<WriteTarget> {
        if self.check.is_none_or(|check| now < check) {
            return Vec::new();
        }
        let ends = |sent: &Sent| sent.at + ENDS;
        let over = self.writes.iter().filter(|(_, sent)| ends(sent) <= now);
        let over: Vec<WriteTarget> = over.map(|(target, _)| target.clone()).collect();
        over.iter().for_each(|target| drop(self.writes.remove(target)));
        self.check = self.writes.values().map(ends).min().map(|end| end.max(now + CHECKS));
        over
    }

    fn insert(&mut self, target: WriteTarget, version: &str, at: Instant, done: bool) {
        self.writes.insert(target, Sent { version: version.to_owned(), at, done });
        self.check.get_or_insert(at + ENDS);
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
    fn what_may_still_show_and_what_may_still_arrive() {
        let written = || WriteResult::Written("2".into());
        for (answers, version, shows, arrives) in [
            (vec![unavailable()], Some("1"), true, true),
            (vec![WriteResult::Failed], Some("1"), true, true),
            // What comes after it on the same version says nothing of it, or that it is too late for it.
            (vec![unavailable(), WriteResult::Invalid], Some("1"), true, true),
            (vec![unavailable(), WriteResult::Failed], Some("1"), true, true),
            (vec![unavailable(), WriteResult::Conflict], Some("1"), false, false),
            (vec![unavailable(), WriteResult::Gone], Some("1"), false, false),
            (vec![unavailable(), written()], Some("1"), true, false),
            // Done, and not seen yet; then seen.
            (vec![written()], Some("1"), true, false),
            (vec![written()], Some("2"), false, false),
            (vec![WriteResult::Written("1".into())], Some("1"), false, false),
            // The object has changed, or is gone.
            (vec![unavailable()], Some("2"), false, false),
            (vec![unavailable()], None, false, false),
        ] {
            let (mut unanswered, now) = (Unanswered::default(), Instant::now());
            for answer in &answers {
                unanswered.answered(&target(), "1", answer, now);
            }
            assert_eq!(unanswered.may_show(&target(), version), shows, "{answers:?} {version:?}");
            assert_eq!(unanswered.may_arrive(now, |_| version), arrives, "{answers:?} {version:?}");
        }
    }

    #[test]
    fn no_api_server_works_on_a_request_for_longer_than_a_minute() {
        let (mut unanswered, start) = (Unanswered::default(), Instant::now());
        unanswered.lost(target(), "1", start);
        assert!(unanswered.may_arrive(start + ENDS / 2, |_| Some("1")));
        assert_eq!(unanswered.expire(start + ENDS / 2), []);
        assert_eq!(unanswered.poll_timeout(), Some(start + ENDS));
        assert!(!unanswered.may_arrive(start + ENDS, |_| Some("1")));
        assert_eq!(unanswered.expire(start + ENDS), [target()]);
        assert_eq!(unanswered.poll_timeout(), None);
    }

    #[test]
    fn how_often_all_are_looked_at_does_not_depend_on_how_many_there_are() {
        let (mut unanswered, start) = (Unanswered::default(), Instant::now());
        let mut now = start;
        for n in 0..1000 {
            let service = ObjectKey { namespace: "a".into(), name: format!("s{n}") };
            unanswered.lost(WriteTarget::ServiceStatus(service), "1", now);
            now += Duration::from_millis(10);
        }
        let (mut forgotten, mut looks) = (0, 0);
        while let Some(check) = unanswered.poll_timeout() {
            forgotten += unanswered.expire(check).len();
            looks += 1;
            assert!(check < now + ENDS + CHECKS);
        }
        assert_eq!((forgotten, looks), (1000, 3), "the first, and those of five seconds each");
    }
}
