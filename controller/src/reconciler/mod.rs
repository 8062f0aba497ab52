//! The reconcile loop: handles watch events and finished writes, and while this controller leads, writes the
//! decisions.
//!
//! One task owns the [`Reconciler`] and calls it turn by turn. A turn handles all inputs that are there
//! (watch events, or a finished write, or a timeout), then takes the decisions once and sends the writes that
//! are ready. A write that is resolved is an input of the next turn, like a watch event.
//!
//! | part | owns |
//! |---|---|
//! | [`CurrentTerm`] | the term of leadership and the number of the relist |
//! | [`ClusterState`] | the allocator and the configuration: all decisions, without I/O |
//! | [`Writes`] | the write queue, the requests in flight, the in-doubt writes |
//! | [`EventOutbox`] | events held back until status writes have drained |
//! | [`MeshSecretTask`] | the task that watches the Secret of the mesh |
//! | [`Departures`] | the task that removes statuses from Services that left |
//! | [`SpeakerReports`] | the decisions on speakers that do not respond, and the task that writes them |

mod cluster_state;
mod event_outbox;
mod in_doubt;
mod term;
mod unstored;
mod writes;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use fairlead_allocator::reconcile::EventObject;
use fairlead_allocator::reconcile::write_conflicts::Replacement;
use fairlead_runtime::http;
use fairlead_runtime::watch::missing_kinds_note;
use jiff::Timestamp;
use kube::Client;
use tokio::sync::watch;

use crate::departures::Departures;
use crate::leader::Leadership;
use crate::mesh_secret::MeshSecretTask;
use crate::metrics::Metrics;
use crate::run::Scope;
use crate::speaker_reports::SpeakerReports;
use crate::watches::{ClusterChange, WatchEvent};

use cluster_state::ClusterState;
use event_outbox::EventOutbox;
use term::CurrentTerm;
pub(crate) use writes::FinishedWrite;
use writes::Writes;

/// The reconcile loop, turn by turn.
pub(crate) struct Reconciler {
    term: CurrentTerm,
    state: ClusterState,
    writes: Writes,
    events: EventOutbox,
    /// The namespace of the Lease, for `/readyz`.
    namespace: String,
    /// `None` if the speakers use no mesh.
    mesh_secret: Option<MeshSecretTask>,
    departures: Departures,
    speaker_reports: SpeakerReports,
    metrics: Metrics,
    health: http::Health,
    /// True if the last turn ended with writes that the API server denied.
    lacks_permission: bool,
}

impl Reconciler {
    /// Returns a reconciler that has not observed any object. `health` becomes ready after the first pass, or
    /// on a standby after the first lists.
    pub(crate) fn new(
        client: Client,
        scope: Scope,
        leadership: watch::Receiver<Leadership>,
        health: http::Health,
        metrics: Metrics,
    ) -> Self {
        let reporter: Arc<str> = scope.instance.as_str().into();
        let instance = scope.fairlead_instance();
        let speaker_instance = instance.clone();
        let monitor = metrics.watches().clone();
        Self {
            term: CurrentTerm::new(leadership),
            state: ClusterState::new(&scope),
            writes: Writes::new(client.clone()),
            events: EventOutbox::new(client.clone(), reporter.clone()),
            namespace: scope.namespace,
            mesh_secret: scope
                .with_mesh
                .then(|| MeshSecretTask::new(client.clone(), instance, reporter, monitor)),
            departures: Departures::new(client.clone(), scope.class),
            speaker_reports: SpeakerReports::new(client, speaker_instance),
            metrics,
            health,
            lacks_permission: false,
        }
    }

    /// Returns the number of the relist whose watch events are handled. When it changes, all kinds must be
    /// listed again.
    pub(crate) fn relist(&self) -> u64 {
        self.term.relist()
    }

    /// Handles watch events that arrived together and removes them. Events of an earlier relist are ignored.
    pub(crate) fn handle_watch_events(&mut self, batch: &mut Vec<WatchEvent>, now: Timestamp) {
        // Different watches have no common order. Configuration objects come first, so that those of a batch
        // are resolved once.
        batch.sort_by_key(|event| !matches!(event.change, ClusterChange::Configuration(_)));
        for WatchEvent { relist, change } in batch.drain(..) {
            if relist != self.term.relist() {
                continue;
            }
            let began = Instant::now();
            self.speaker_reports.handle_change(&change, now);
            self.state.handle_change(change, now);
            if self.state.is_deciding() {
                self.metrics.observe_decision(began.elapsed());
            }
        }
    }

    /// Waits for the next write to finish. Returns `None` if none is in flight. Cancel safe.
    pub(crate) async fn next_finished_write(&mut self) -> Option<FinishedWrite> {
        self.writes.next_finished().await
    }

    /// Handles a finished write.
    pub(crate) fn handle_finished_write(&mut self, finished: &FinishedWrite) {
        let time = self.writes.handle_finished(finished);
        self.metrics.observe_write(&finished.result, time);
        self.state.handle_write_result(&finished.target, &finished.write, &finished.result);
    }

    /// Ends a turn: handles the term and timeouts, then takes the decisions and sends the writes that are
    /// ready. `queued` is the number of watch events that wait for the next turn.
    pub(crate) fn end_turn(&mut self, queued: usize) {
        self.state.resolve_configuration(Timestamp::now());
        self.follow_term();
        self.state.handle_timeout(Timestamp::now());
        self.speaker_reports.handle_timeout(Timestamp::now());
        self.writes.handle_timeout(Instant::now());
        self.write_decisions();
        let dropped = self.events.publish(self.writes.has_backlog());
        self.metrics.count_dropped_events(dropped);
        self.metrics.update(self.state.index(), self.writes.queue(), queued);
        self.metrics.update_resolutions(self.state.resolutions());
        self.update_health();
    }

    /// Writes all decisions that were made, without waiting for new watch events.
    pub(crate) async fn drain(&mut self) {
        self.state.resolve_configuration(Timestamp::now());
        self.state.skip_pool_interval();
        loop {
            self.write_decisions();
            if self.writes.has_resolved() {
                continue;
            }
            match self.next_finished_write().await {
                Some(finished) => self.handle_finished_write(&finished),
                None => return,
            }
        }
    }

    /// Waits for the responses to all writes in flight. Returns whether no write can be applied any more.
    pub(crate) async fn finish_writes(&mut self) -> bool {
        while let Some(finished) = self.next_finished_write().await {
            self.handle_finished_write(&finished);
        }
        !self.writes.may_be_applied(Instant::now(), |target| self.state.resource_version(target))
    }

    /// Returns when to end a turn although there is no input; `None` on a standby.
    pub(crate) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        if !self.term.leads() {
            return None;
        }
        let expiry = [self.state.poll_timeout(), self.speaker_reports.poll_timeout()];
        let expiry = expiry.into_iter().flatten().min().map(|due| {
            let wait = Duration::try_from(due.duration_since(Timestamp::now())).unwrap_or_default();
            // The resolutions of the two clocks differ.
            now + wait + Duration::from_millis(1)
        });
        let timeouts =
            [self.state.poll_pool_timeout(), self.writes.poll_timeout(now), expiry, self.term.poll_timeout()];
        timeouts.into_iter().flatten().min()
    }

    /// Follows the leadership: ends the term, requires a relist, and begins to decide once it is complete.
    fn follow_term(&mut self) {
        if let Some(change) = self.term.update(Instant::now()) {
            if change.ended {
                tracing::warn!("lost leadership; status writes stopped");
                self.step_down();
            }
            self.metrics.set_leading(change.began);
            if change.began {
                self.state.forget_lists();
                self.speaker_reports.forget_lists();
            }
        }
        if self.term.leads() && self.state.is_synced() && !self.state.is_deciding() {
            self.state.begin(Timestamp::now());
            let (services, waiting) = self.state.index().service_counts();
            tracing::info!(services, waiting, "first pass of this term complete");
            self.mesh_secret.iter_mut().for_each(MeshSecretTask::start);
            self.departures.start(self.state.unserved());
            self.speaker_reports.start();
        }
    }

    fn step_down(&mut self) {
        self.state.step_down();
        self.metrics.remove_pools();
        self.events.discard();
        self.writes.abandon(Instant::now());
        self.mesh_secret.iter_mut().for_each(MeshSecretTask::stop);
        self.departures.stop();
        self.speaker_reports.stop();
    }

    /// Handles resolved writes, takes the decisions, and sends the writes that are ready.
    fn write_decisions(&mut self) {
        for service in self.writes.take_resolved(|target| self.state.resource_version(target)) {
            self.state.handle_write_resolved(&service, Timestamp::now());
        }
        let decisions = self.state.take_decisions(Timestamp::now());
        for (target, write) in decisions.writes {
            self.writes.replace(target, write);
        }
        for departed in decisions.departed {
            self.departures.push(departed);
        }
        for event in decisions.events {
            tracing::info!(service = %event.service, reason = %event.reason, "{}", event.message);
            self.events.push(event.into());
        }
        self.write_pools();
        for event in self.state.take_object_events() {
            let EventObject { kind, namespace, name, .. } = &event.object;
            tracing::warn!(
                kind,
                namespace,
                name,
                reason = event.reason,
                cause = event.cause,
                "{}",
                event.message
            );
            self.events.push(event.into());
        }
        let now = Instant::now();
        if let Some(term_end) = self.term.write_deadline(now) {
            self.writes.send_ready(now, term_end);
        }
    }

    fn write_pools(&mut self) {
        for (pool, (target, write)) in self.state.poll_pool_finalizers(Timestamp::now()) {
            let queued = write.is_some();
            self.writes.replace(target.clone(), write);
            if queued {
                self.state.handle_finalizers_queued(&pool, self.writes.is_backing_off(&target));
            }
        }
        for (target, write) in self.state.poll_cooldowns(Instant::now()) {
            self.writes.replace(target, write);
        }
        for (pool, (target, write)) in self.state.poll_pool_statuses(Instant::now(), Timestamp::now()) {
            self.metrics.update_pool(self.state.index(), &pool);
            self.writes.replace(target, write);
        }
        for Replacement { part: target, begins_conflict } in self.state.take_replacements() {
            self.metrics.count_replacement(&target.kind());
            if begins_conflict {
                tracing::warn!(
                    object = %target,
                    "another program replaces what the controller writes; writing it less and less often. \
                     kubectl get --show-managed-fields names the program"
                );
            }
        }
    }

    fn update_health(&mut self) {
        let denials = self.writes.queue().denials();
        if let Some(denials) = self.writes.take_new_denials() {
            tracing::error!("{denials}; retrying");
        }
        if std::mem::replace(&mut self.lacks_permission, denials.is_some()) && denials.is_none() {
            tracing::info!("writes are no longer denied for a missing permission");
        }
        let notes: Vec<String> =
            missing_kinds_note(self.state.missing_kinds()).into_iter().chain(denials).collect();
        self.health.set_note(Some(notes.join("\n")).filter(|notes| !notes.is_empty()));
        if self.term.lacks_namespace() {
            let namespace = &self.namespace;
            let awaited = format!(
                "namespace {namespace}, which does not exist, so no controller can lead: create it, or set \
                 --namespace"
            );
            return self.health.set_awaiting(&awaited);
        }
        let decided = !self.term.leads() || self.state.is_deciding();
        if self.state.is_synced() && decided && !self.health.is_ready() {
            let (services, waiting) = self.state.index().service_counts();
            tracing::info!(services, waiting, leading = self.term.leads(), "ready");
            self.health.set_ready();
        }
    }
}
