//! Writes that the API server denies because this controller lacks a permission (RBAC).
//!
//! A permission usually applies to all objects of a kind, at most within one namespace. So once two objects
//! were denied, all writes that need the same [`Permission`] are held, as in an outage: one of them is sent
//! from time to time, each time for another object, until the answer is another one. An authorizer may also
//! deny single objects by name (RBAC with `resourceNames`, a webhook). Such an object is delayed alone.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fairlead_crds::kinds::{Kind, ObjectRef};
use fairlead_crds::model::service::ObjectKey;
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
    /// The object of the last denied write.
    last: WriteTarget,
    /// True if writes of two objects were denied with no other answer in between: the permission is missing
    /// for all objects, as far as known.
    is_general: bool,
    /// True if [`Denials::take_new`] returned it.
    is_reported: bool,
    backoff: Backoff,
    pause: Duration,
    /// If it is general, no write is sent before.
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

impl Permission {
    /// Returns the lowest target that needs the permission. In the order of targets, all that need it follow.
    fn first_target(&self) -> WriteTarget {
        let key = || ObjectKey { namespace: self.namespace.clone(), name: String::new() };
        let object = |kind| ObjectRef { kind, name: String::new() };
        match self.part {
            Part::ServiceStatus => WriteTarget::ServiceStatus(key()),
            Part::ClaimStatus => WriteTarget::ClaimStatus(key()),
            Part::ObjectStatus(kind) => WriteTarget::ObjectStatus(object(kind)),
            Part::ObjectFinalizers(kind) => WriteTarget::ObjectFinalizers(object(kind)),
            Part::PoolCooldown => WriteTarget::PoolCooldown(String::new()),
        }
    }

    /// Returns whether one of `writes` needs the permission.
    fn is_needed<V>(&self, writes: &BTreeMap<WriteTarget, V>) -> bool {
        let next = writes.range(self.first_target()..).next();
        next.is_some_and(|(target, _)| Self::from(target) == *self)
    }
}

impl Denial {
    fn new(now: Instant, target: &WriteTarget, message: &str) -> Self {
        Self {
            message: message.to_owned(),
            last: target.clone(),
            is_general: false,
            is_reported: false,
            backoff: Backoff::new(super::PAUSE.0, super::PAUSE.1),
            pause: Duration::ZERO,
            until: now,
            is_probed: true,
        }
    }
}

impl Denials {
    /// Returns until when a write must wait. If it need not, others that need the same permission wait for
    /// its result.
    pub(super) fn hold(&mut self, now: Instant, target: &WriteTarget) -> Option<Instant> {
        if self.denials.is_empty() {
            return None;
        }
        let denial = self.denials.get_mut(&Permission::from(target)).filter(|denial| denial.is_general)?;
        if now < denial.until {
            return Some(denial.until);
        }
        denial.until = now + denial.pause;
        denial.is_probed = true;
        None
    }

    /// Handles the result of a write. If it was denied, returns when to retry it at the earliest.
    pub(super) fn handle_write_result(
        &mut self,
        now: Instant,
        target: &WriteTarget,
        result: &WriteResult,
        random: f64,
    ) -> Option<Instant> {
        match result {
            WriteResult::Denied(message) => {
                let permission = Permission::from(target);
                let denial =
                    self.denials.entry(permission).or_insert_with(|| Denial::new(now, target, message));
                if denial.last != *target {
                    denial.is_general = true;
                    denial.last = target.clone();
                }
                // Writes that were in flight together are denied together and count as one denial.
                if denial.is_general && std::mem::take(&mut denial.is_probed) {
                    denial.pause = denial.backoff.fail(random);
                    denial.until = now + denial.pause;
                }
                Some(denial.until)
            }
            // The API server checks permissions before everything else about the object.
            WriteResult::Written(_) | WriteResult::Conflict | WriteResult::Gone | WriteResult::Refused => {
                if !self.denials.is_empty() {
                    self.handle_permitted(now, target);
                }
                None
            }
            WriteResult::Failed | WriteResult::Unavailable(_) => None,
        }
    }

    /// Handles that a write was not denied. The last denied object may still be denied by its name.
    fn handle_permitted(&mut self, now: Instant, target: &WriteTarget) {
        let permission = Permission::from(target);
        let Some(denial) = self.denials.get_mut(&permission) else { return };
        if denial.last == *target {
            self.denials.remove(&permission);
        } else if denial.is_general {
            *denial =
                Denial { is_reported: denial.is_reported, ..Denial::new(now, &denial.last, &denial.message) };
        }
    }

    /// Drops the denial of the permission that `target` needs, if no write pending or in flight can show any
    /// more whether it lasts.
    pub(super) fn drop_unneeded<P, F>(
        &mut self,
        target: &WriteTarget,
        pending: &BTreeMap<WriteTarget, P>,
        in_flight: &BTreeMap<WriteTarget, F>,
    ) {
        if self.denials.is_empty() {
            return;
        }
        let permission = Permission::from(target);
        let Some(denial) = self.denials.get(&permission) else { return };
        let is_needed = if denial.is_general {
            permission.is_needed(pending) || permission.is_needed(in_flight)
        } else {
            pending.contains_key(&denial.last) || in_flight.contains_key(&denial.last)
        };
        if !is_needed {
            self.denials.remove(&permission);
        }
    }

    /// Describes the missing permissions; `None` if there are none.
    pub(super) fn describe(&self) -> Option<String> {
        describe(self.denials.values())
    }

    /// Describes the missing permissions that were not returned before; `None` if there are none.
    pub(super) fn take_new(&mut self) -> Option<String> {
        let description = describe(self.denials.values().filter(|denial| !denial.is_reported));
        self.denials.values_mut().for_each(|denial| denial.is_reported = true);
        description
    }
}

fn describe<'a>(mut denials: impl Iterator<Item = &'a Denial>) -> Option<String> {
    let first = denials.next()?;
    let others = match denials.count() {
        0 => String::new(),
        others => format!(", and {others} more"),
    };
    Some(format!("the controller lacks a permission: {}{others}; apply config/rbac", first.message))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use fairlead_crds::kinds::ObjectRef;
    use fairlead_test_support::key;
    use serde_json::json;

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
        let second = |target: &WriteTarget| match target.clone() {
            WriteTarget::ServiceStatus(key) => {
                WriteTarget::ServiceStatus(ObjectKey { name: "y".into(), ..key })
            }
            WriteTarget::ClaimStatus(key) => WriteTarget::ClaimStatus(ObjectKey { name: "y".into(), ..key }),
            WriteTarget::ObjectStatus(of) => WriteTarget::ObjectStatus(ObjectRef { name: "y".into(), ..of }),
            WriteTarget::ObjectFinalizers(of) => {
                WriteTarget::ObjectFinalizers(ObjectRef { name: "y".into(), ..of })
            }
            WriteTarget::PoolCooldown(_) => WriteTarget::PoolCooldown("y".to_owned()),
        };
        for denied_target in others.iter().cloned().chain([service("s")]) {
            let mut denials = Denials::default();
            for target in [denied_target.clone(), second(&denied_target)] {
                assert_eq!(denials.hold(now, &target), None, "one denial may be about one object");
                assert!(denials.handle_write_result(now, &target, &denied(), 1.0).is_some());
            }
            let permission = Permission::from(&denied_target);
            for target in others.iter().cloned().chain([service("s")]) {
                assert_eq!(denials.hold(now, &target).is_some(), target == denied_target, "{target:?}");
                let pending = BTreeMap::from([(target.clone(), ())]);
                assert_eq!(permission.is_needed(&pending), target == denied_target, "{target:?}");
            }
        }
        // Any other answer means that not all objects are denied.
        for result in [WriteResult::Refused, WriteResult::Conflict, WriteResult::Gone] {
            let mut denials = Denials::default();
            denials.handle_write_result(now, &service("s"), &denied(), 1.0);
            denials.handle_write_result(now, &service("t"), &denied(), 1.0);
            denials.handle_write_result(now, &service("u"), &WriteResult::Unavailable(None), 1.0);
            assert!(denials.hold(now, &service("u")).is_some());
            denials.handle_write_result(now, &service("u"), &result, 1.0);
            assert_eq!(denials.hold(now, &service("s")), None, "{result:?}");
            assert!(denials.describe().is_some(), "{result:?}: t may still be denied");
            denials.handle_write_result(now, &service("t"), &result, 1.0);
            assert_eq!(denials.describe(), None, "{result:?}");
        }
    }

    #[test]
    fn objects_denied_by_name_delay_others_only_briefly() {
        let mut now = Instant::now();
        let names: Vec<String> = (0..40).map(|n| format!("s{n:02}")).collect();
        let mut queue = queue(names.iter().map(|name| service(name)));
        // All are denied at first, then only the first three.
        let (granted, end) = (now + Duration::from_secs(60), now + Duration::from_secs(180));
        let (mut written, mut attempts) = (BTreeMap::new(), 0);
        while now < end {
            for target in sent(&mut queue, now) {
                let is_denied = now < granted || names[..3].iter().any(|name| service(name) == target);
                let result = if is_denied { denied() } else { WriteResult::Written("2".into()) };
                attempts += usize::from(is_denied && now >= granted);
                if !is_denied {
                    written.insert(target.clone(), now);
                }
                queue.handle_write_result(now, &target, &result, 1.0);
            }
            now = queue.poll_timeout().unwrap_or(now);
        }
        let last = *written.values().max().unwrap();
        assert!(written.len() == 37 && last < granted + Duration::from_secs(25), "{:?}", last - granted);
        assert!((20..=40).contains(&attempts), "{attempts} attempts in two minutes");
        assert!(queue.denials().is_some(), "the three are still denied");

        let write = Write { resource_version: "1".into(), body: Arc::new(PatchBody::Json(json!({}))) };
        for n in 0..100 {
            let target = service(&format!("t{n}"));
            queue.replace(target.clone(), Some(write.clone()));
            let replaced = now;
            while queue.contains(&target) {
                for sent in sent(&mut queue, now) {
                    let result = if sent == target { WriteResult::Written("2".into()) } else { denied() };
                    queue.handle_write_result(now, &sent, &result, 1.0);
                }
                now = queue.poll_timeout().unwrap_or(now);
            }
            assert!(
                now < replaced + super::super::PAUSE.1 + Duration::from_secs(1),
                "t{n}: {:?}",
                now - replaced
            );
        }
    }

    #[test]
    fn denial_ends_with_the_last_write_that_needs_it() {
        let now = Instant::now();
        for names in [&["s"][..], &["s", "t"]] {
            let mut queue = queue(names.iter().map(|name| service(name)));
            for target in sent(&mut queue, now) {
                queue.handle_write_result(now, &target, &denied(), 1.0);
            }
            for name in names {
                assert!(queue.denials().is_some(), "{name} is not written");
                queue.replace(service(name), None);
            }
            assert_eq!(queue.denials(), None, "{names:?}: nothing is left to write");
        }
        let mut queue = queue([service("s")]);
        let target = sent(&mut queue, now).remove(0);
        queue.replace(target.clone(), None);
        queue.handle_write_result(now, &target, &denied(), 1.0);
        assert_eq!(queue.denials(), None, "withdrawn while in flight");
    }

    #[test]
    fn each_missing_permission_is_reported_once() {
        let now = Instant::now();
        let mut queue = queue([service("s")]);
        let deny_all = |queue: &mut WriteQueue, now| {
            for target in sent(queue, now) {
                queue.handle_write_result(now, &target, &denied(), 1.0);
            }
            queue.take_new_denials()
        };
        assert!(deny_all(&mut queue, now).is_some());
        assert_eq!(deny_all(&mut queue, now + Duration::from_secs(1)), None, "denied again");
        let write = Write { resource_version: "1".into(), body: Arc::new(PatchBody::Json(json!({}))) };
        queue.replace(WriteTarget::PoolCooldown("p".to_owned()), Some(write));
        let second = deny_all(&mut queue, now + Duration::from_secs(2)).unwrap();
        assert!(!second.contains("more"), "only the new one: {second}");
        assert!(queue.denials().unwrap().contains("and 1 more"));
        assert_eq!(deny_all(&mut queue, now + Duration::from_secs(3)), None);
    }
}
