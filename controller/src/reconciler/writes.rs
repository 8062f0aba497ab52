//! The write queue, the requests in flight and the in-doubt writes.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use fairlead_crds::model::service::ObjectKey;
use kube::Client;
use tokio::task::JoinSet;

use super::in_doubt::InDoubt;
use crate::api_client::send;
use crate::write_queue::{Write, WriteQueue, WriteResult, WriteTarget};

/// Queues writes, sends them and reports when the writes of a Service are resolved.
pub(super) struct Writes {
    client: Client,
    queue: WriteQueue,
    /// One task per write in flight: at most as many as the window of the queue allows.
    in_flight: JoinSet<FinishedWrite>,
    /// Outlives the term.
    in_doubt: InDoubt,
    /// Services whose last write may be resolved since the last [`Writes::take_resolved`].
    maybe_resolved: BTreeSet<ObjectKey>,
}

/// A write and its result.
#[derive(Debug)]
pub(crate) struct FinishedWrite {
    pub(super) target: WriteTarget,
    pub(super) write: Write,
    pub(super) result: WriteResult,
    pub(super) at: Instant,
}

impl Writes {
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            queue: WriteQueue::default(),
            in_flight: JoinSet::new(),
            in_doubt: InDoubt::default(),
            maybe_resolved: BTreeSet::new(),
        }
    }

    /// Returns the queue, for metrics.
    pub(super) fn queue(&self) -> &WriteQueue {
        &self.queue
    }

    /// Describes the permissions that the controller lacks and that were not returned before.
    pub(super) fn take_new_denials(&mut self) -> Option<String> {
        self.queue.take_new_denials()
    }

    /// Sets the write of an object to the newest decision.
    pub(super) fn replace(&mut self, target: WriteTarget, write: Option<Write>) {
        self.queue.replace(target.clone(), write);
        self.check_resolved(&target);
    }

    /// Returns whether the pending write of an object waits after a failure.
    pub(super) fn is_backing_off(&self, target: &WriteTarget) -> bool {
        self.queue.is_backing_off(target)
    }

    /// Returns whether writes wait for the window, besides background writes.
    pub(super) fn has_backlog(&self) -> bool {
        self.queue.has_foreground_backlog()
    }

    /// Sends the writes that are ready. No response is awaited beyond `term_end`.
    pub(super) fn send_ready(&mut self, now: Instant, term_end: Instant) {
        while let Some((target, write)) = self.queue.poll_transmit(now) {
            let (client, is_retry) = (self.client.clone(), self.queue.is_retry(&target));
            self.in_flight.spawn(async move {
                let sent = send(&client, &target, &write, is_retry);
                let result = tokio::time::timeout_at(term_end.into(), sent).await;
                let result = result.unwrap_or(WriteResult::Unavailable(None));
                FinishedWrite { target, write, result, at: Instant::now() }
            });
        }
    }

    /// Waits for the next write to finish. Returns `None` if none is in flight. Cancel safe: a finished write
    /// stays in the set until it is returned.
    pub(super) async fn next_finished(&mut self) -> Option<FinishedWrite> {
        loop {
            match self.in_flight.join_next().await {
                Some(Ok(finished)) => return Some(finished),
                // The task was aborted at the end of a term, and its write is in doubt.
                Some(Err(_)) => {}
                None => return None,
            }
        }
    }

    /// Handles a finished write. Returns how long it was in flight.
    pub(super) fn handle_finished(&mut self, finished: &FinishedWrite) -> Duration {
        let FinishedWrite { target, write, result, at } = finished;
        let time = self.queue.handle_write_result(*at, target, result, rand::random());
        self.in_doubt.handle_write_result(target, &write.resource_version, result, *at);
        self.check_resolved(target);
        time
    }

    /// Handles that time has passed.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        for target in self.in_doubt.handle_timeout(now) {
            self.check_resolved(&target);
        }
    }

    /// Returns when to call [`Writes::handle_timeout`], [`Writes::take_resolved`] or [`Writes::send_ready`].
    pub(super) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let resolved = (!self.maybe_resolved.is_empty()).then_some(now);
        [resolved, self.queue.poll_timeout(), self.in_doubt.poll_timeout()].into_iter().flatten().min()
    }

    /// Returns whether [`Writes::take_resolved`] must be called.
    pub(super) fn has_resolved(&self) -> bool {
        !self.maybe_resolved.is_empty()
    }

    /// Takes the Services of which no write is pending, in flight or in doubt any more. `version` returns the
    /// resourceVersion of an object as last observed.
    pub(super) fn take_resolved<'a>(
        &mut self,
        version: impl Fn(&WriteTarget) -> Option<&'a str>,
    ) -> Vec<ObjectKey> {
        let mut resolved = Vec::new();
        for service in std::mem::take(&mut self.maybe_resolved) {
            let target = WriteTarget::ServiceStatus(service.clone());
            if !self.queue.contains(&target) && !self.in_doubt.may_appear(&target, version(&target)) {
                resolved.push(service);
            }
        }
        resolved
    }

    /// Drops all writes at the end of a term. Those in flight are in doubt.
    pub(super) fn abandon(&mut self, now: Instant) {
        for (target, write) in std::mem::take(&mut self.queue).into_in_flight() {
            self.in_doubt.handle_abandoned(target, &write.resource_version, now);
        }
        self.in_flight = JoinSet::new();
    }

    /// Returns whether the API server may still apply a write. `version` returns the resourceVersion of an
    /// object as last observed.
    pub(super) fn may_be_applied<'a>(
        &self,
        now: Instant,
        version: impl Fn(&WriteTarget) -> Option<&'a str>,
    ) -> bool {
        self.in_doubt.may_be_applied(now, version)
    }

    fn check_resolved(&mut self, target: &WriteTarget) {
        if let WriteTarget::ServiceStatus(service) = target
            && !self.queue.contains(target)
        {
            self.maybe_resolved.insert(service.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use fairlead_test_support::key;
    use kube::Config;
    use serde_json::json;

    use super::*;
    use crate::write_queue::PatchBody;

    const VERSION: Option<&str> = Some("1");

    /// Returns writes to an API server that nothing listens for, and the write of the status of one Service.
    fn writes() -> (Writes, WriteTarget, Write) {
        let client = Client::try_from(Config::new("http://127.0.0.1:1".parse().unwrap())).unwrap();
        let write = Write { resource_version: "1".into(), body: Arc::new(PatchBody::Json(json!({}))) };
        (Writes::new(client), WriteTarget::ServiceStatus(key("s")), write)
    }

    #[tokio::test]
    async fn withdrawn_write_is_resolved_at_once() {
        let (mut writes, target, write) = writes();
        let now = Instant::now();
        writes.replace(target.clone(), Some(write));
        assert!(!writes.has_resolved() && writes.take_resolved(|_| VERSION).is_empty(), "it is pending");
        writes.replace(target, None);
        assert_eq!(writes.poll_timeout(now), Some(now), "the next turn begins at once");
        assert_eq!(writes.take_resolved(|_| VERSION), [key("s")]);
        assert_eq!(writes.poll_timeout(now), None);
    }

    #[tokio::test]
    async fn write_of_a_lost_term_is_resolved_when_it_expires() {
        let (mut writes, target, write) = writes();
        let now = Instant::now();
        writes.replace(target.clone(), Some(write));
        writes.send_ready(now, now + Duration::from_secs(10));
        writes.abandon(now);
        writes.replace(target, None);
        assert_eq!(writes.take_resolved(|_| VERSION), [], "the write is in doubt");
        assert!(writes.may_be_applied(now, |_| VERSION));
        let expiry = writes.poll_timeout(now).unwrap();
        writes.handle_timeout(expiry);
        assert_eq!(writes.take_resolved(|_| VERSION), [key("s")]);
    }

    #[tokio::test]
    async fn in_doubt_write_is_resolved_by_a_newer_version() {
        let (mut writes, target, write) = writes();
        let now = Instant::now();
        writes.replace(target.clone(), Some(write));
        writes.send_ready(now, now + Duration::from_secs(10));
        writes.abandon(now);
        writes.replace(target, None);
        assert_eq!(writes.take_resolved(|_| Some("2")), [key("s")]);
    }

    #[tokio::test]
    async fn finished_write_is_resolved_when_it_is_observed() {
        let (mut writes, target, write) = writes();
        let now = Instant::now();
        writes.replace(target.clone(), Some(write.clone()));
        writes.send_ready(now, now + Duration::from_secs(10));
        let result = WriteResult::Written("2".into());
        writes.handle_finished(&FinishedWrite { target: target.clone(), write, result, at: now });
        assert_eq!(writes.take_resolved(|_| VERSION), [], "the watch has not delivered version 2");
        writes.replace(target, None);
        assert_eq!(writes.take_resolved(|_| Some("2")), [key("s")]);
    }
}
