//! Writes that the API server denies because this controller lacks a permission (RBAC).
//!
//! A permission applies to all objects of a kind, at most within one namespace. So the first denial holds
//! all writes that need the same [`Permission`], as in an outage: one of them is sent from time to time,
//! until the answer is another one.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fairlead_crds::kinds::Kind;
use fairlead_runtime::backoff::Backoff;

use super::write::{WriteResult, WriteTarget};

/// A permission that a write needs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Permission {
    part: Part,
    /// Empty for a kind without namespaces.
    namespace: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    ServiceStatus,
    ClaimStatus,
    ObjectStatus(Kind),
    ObjectFinalizers(Kind),
    PoolCooldown,
}

/// The missing permissions; at most one per kind and namespace.
#[derive(Debug, Default)]
pub(super) struct Denials {
    denials: BTreeMap<Permission, Denial>,
}

#[derive(Debug)]
struct Denial {
    /// What the API server says.
    message: String,
    backoff: Backoff,
    pause: Duration,
    /// No write is sent before.
    until: Instant,
    /// True while a write is in flight that was sent after the last denial.
    is_probed: bool,
}

impl From<&WriteTarget> for Permission {
    fn from(target: &WriteTarget) -> Self {
        let (part, namespace) = match target {
            WriteTarget::ServiceStatus(key) => (Part::ServiceStatus, key.namespace.as_str()),
            WriteTarget::ClaimStatus(key) => (Part::ClaimStatus, key.namespace.as_str()),
            WriteTarget::ObjectStatus(object) => (Part::ObjectStatus(object.kind), ""),
            WriteTarget::ObjectFinalizers(object) => (Part::ObjectFinalizers(object.kind), ""),
            WriteTarget::PoolCooldown(_) => (Part::PoolCooldown, ""),
        };
        Self { part, namespace: namespace.to_owned() }
    }
}

impl Denials {
    /// Returns until when a write must wait. If it need not, others that need the same permission wait for
    /// its result.
    pub(super) fn hold(&mut self, now: Instant, target: &WriteTarget) -> Option<Instant> {
        if self.denials.is_empty() {
            return None;
        }
        let denial = self.denials.get_mut(&Permission::from(target))?;
        if now < denial.until {
            return Some(denial.until);
        }
        denial.until = now + denial.pause;
        denial.is_probed = true;
        None
    }

    /// Handles the result of a write. Returns when to retry it if it was denied.
    pub(super) fn handle_write_result(
        &mut self,
        now: Instant,
        target: &WriteTarget,
        result: &WriteResult,
        random: f64,
    ) -> Option<Instant> {
        match result {
            WriteResult::Denied(message) => {
                let denial = self.denials.entry(Permission::from(target)).or_insert_with(|| Denial {
                    message: message.clone(),
                    backoff: Backoff::new(super::PAUSE.0, super::PAUSE.1),
                    pause: Duration::ZERO,
                    until: now,
                    is_probed: true,
                });
                // Writes that were in flight together are denied together and count as one denial.
                if std::mem::take(&mut denial.is_probed) {
                    denial.pause = denial.backoff.fail(random);
                    denial.until = now + denial.pause;
                }
                Some(denial.until)
            }
            // The API server checks permissions before everything else about the object.
            WriteResult::Written(_) | WriteResult::Conflict | WriteResult::Gone | WriteResult::Refused => {
                if !self.denials.is_empty() {
                    self.denials.remove(&Permission::from(target));
                }
                None
            }
            WriteResult::Failed | WriteResult::Unavailable(_) => None,
        }
    }

    /// Describes the missing permissions; `None` if there are none.
    pub(super) fn describe(&self) -> Option<String> {
        let first = self.denials.values().next()?;
        let others = match self.denials.len() - 1 {
            0 => String::new(),
            others => format!(", and {others} more"),
        };
        Some(format!("the controller lacks a permission: {}{others}; apply config/rbac", first.message))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use fairlead_crds::kinds::ObjectRef;
    use fairlead_test_support::key;

    use super::*;
    use crate::write_queue::{PatchBody, Write, WriteQueue};

    fn denied() -> WriteResult {
        WriteResult::Denied("User \"u\" cannot patch resource \"services/status\"".to_owned())
    }

    fn service(name: &str) -> WriteTarget {
        WriteTarget::ServiceStatus(key(name))
    }

    fn queue(targets: impl IntoIterator<Item = WriteTarget>) -> WriteQueue {
        let mut queue = WriteQueue::default();
        let body = Arc::new(PatchBody::Json(serde_json::Value::Null));
        let write = Write { resource_version: "1".into(), body };
        targets.into_iter().for_each(|target| queue.replace(target, Some(write.clone())));
        queue
    }

    fn sent(queue: &mut WriteQueue, now: Instant) -> Vec<WriteTarget> {
        std::iter::from_fn(|| queue.poll_transmit(now)).map(|(target, _)| target).collect()
    }

    #[test]
    fn missing_permission_is_probed_by_one_write_at_a_time() {
        let mut now = Instant::now();
        let mut queue = queue((0..1000).map(|n| service(&format!("s{n}"))));
        let first = sent(&mut queue, now);
        for target in &first {
            queue.handle_write_result(now, target, &denied(), 1.0);
        }
        assert_eq!(sent(&mut queue, now), [], "all others wait");
        let (end, mut probes) = (now + Duration::from_secs(60), 0);
        while now < end {
            now = queue.poll_timeout().unwrap();
            let targets = sent(&mut queue, now);
            assert!(targets.len() <= 1, "{targets:?}");
            probes += targets.len();
            for target in &targets {
                queue.handle_write_result(now, target, &denied(), 1.0);
            }
        }
        assert!((12..=20).contains(&probes), "{probes} probes in a minute");
        assert!(
            queue.denials().unwrap().contains("cannot patch resource \"services/status\"; apply config/rbac")
        );

        // Granted: all are sent within the longest pause.
        let (granted, mut written) = (now, 0);
        while written < 1000 {
            now = queue.poll_timeout().unwrap_or(now);
            for target in sent(&mut queue, now) {
                written += 1;
                queue.handle_write_result(now, &target, &WriteResult::Written("2".into()), 1.0);
            }
        }
        assert!(now <= granted + 2 * super::super::PAUSE.1, "{:?}", now - granted);
        assert_eq!(queue.denials(), None);
    }

    #[test]
    fn missing_permission_holds_only_writes_that_need_it() {
        let now = Instant::now();
        let pool = |kind| ObjectRef { kind, name: "x".to_owned() };
        let others = [
            WriteTarget::ServiceStatus(key("other/s")),
            WriteTarget::ClaimStatus(key("s")),
            WriteTarget::ObjectStatus(pool(Kind::IPAddressPool)),
            WriteTarget::ObjectFinalizers(pool(Kind::IPAddressPool)),
            WriteTarget::ObjectStatus(pool(Kind::BGPPeer)),
            WriteTarget::PoolCooldown("x".to_owned()),
        ];
        for denied_target in others.iter().cloned().chain([service("s")]) {
            let mut denials = Denials::default();
            assert!(denials.handle_write_result(now, &denied_target, &denied(), 1.0).is_some());
            for target in others.iter().cloned().chain([service("s")]) {
                assert_eq!(denials.hold(now, &target).is_some(), target == denied_target, "{target:?}");
            }
        }
        // Any other answer means that the permission is there.
        for result in [WriteResult::Refused, WriteResult::Conflict, WriteResult::Gone] {
            let mut denials = Denials::default();
            denials.handle_write_result(now, &service("s"), &denied(), 1.0);
            denials.handle_write_result(now, &service("t"), &WriteResult::Unavailable(None), 1.0);
            assert!(denials.describe().is_some());
            denials.handle_write_result(now, &service("t"), &result, 1.0);
            assert_eq!((denials.describe(), denials.hold(now, &service("s"))), (None, None), "{result:?}");
        }
    }
}
