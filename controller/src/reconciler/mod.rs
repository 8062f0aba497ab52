//! The one task that decides: takes in what the watches tell, and while this controller leads, sends what is decided.

mod in_doubt;
mod pool_writes;

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use fairlead_crds::store::ObjectChange;
use fairlead_runtime::http;
use jiff::Timestamp;
use kube::Client;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::api_client::send;
use crate::events::Events;
use crate::leader::Leadership;
use crate::mesh_secret::ensure_mesh_secret;
use crate::metrics::Metrics;
use crate::watches::{Message, News, Seen};
use crate::write_queue::{PatchBody, Write, WriteQueue, WriteResult, WriteTarget};
use fairlead_allocator::reconcile::objects::Configuration;
use fairlead_allocator::reconcile::{Decision, Index, ServiceEvent};

use in_doubt::Unanswered;

/// How a write went.
pub struct Done {
    target: WriteTarget,
    write: Write,
    answer: WriteResult,
    at: Instant,
}

/// See the head of this file.
pub struct Task {
    client: Client,
    namespace: String,
    health: http::Health,
    metrics: Metrics,
    leadership: watch::Receiver<Leadership>,
    /// The term in which it decides.
    term: Option<u64>,
    /// Which watches it listens to.
    round: u64,
    events: Events,
    /// Events that are not handed on yet: first of all it must be known whether writes wait.
    news: Vec<ServiceEvent>,
    index: Index,
    configuration: Configuration,
    configured: bool,
    queue: WriteQueue,
    in_flight: JoinSet<Done>,
    /// What was sent, and may still show. It outlives the term.
    unanswered: Unanswered,
    /// What runs beside.
    background: JoinSet<()>,
    /// Pools whose status may have to be written.
    dirty_pools: BTreeSet<String>,
    /// Pools whose finalizers may have to be written.
    unprotected_pools: BTreeSet<String>,
    pools_written: Option<Instant>,
    /// They are to be written soon.
    pools_urgent: bool,
}

impl Task {
    /// A task that knows nothing yet.
    pub fn new(
        client: Client,
        namespace: String,
        leadership: watch::Receiver<Leadership>,
        health: http::Health,
        metrics: Metrics,
    ) -> Self {
        Self {
            events: Events::start(client.clone()),
            news: Vec::new(),
            client,
            namespace,
            health,
            metrics,
            leadership,
            term: None,
            round: 0,
            index: Index::default(),
            configuration: Configuration::default(),
            configured: false,
            queue: WriteQueue::default(),
            in_flight: JoinSet::new(),
            unanswered: Unanswered::default(),
            background: JoinSet::new(),
            dirty_pools: BTreeSet::new(),
            unprotected_pools: BTreeSet::new(),
            pools_written: None,
            pools_urgent: false,
        }
    }

    /// The round of the watches that it listens to. When it is another, all kinds are to be listed anew.
    pub fn round(&self) -> u64 {
        self.round
    }

    /// Takes in what a watch tells.
    pub fn take_in(&mut self, News { round, message }: News, now: Timestamp) {
        if round != self.round {
            return;
        }
        let began = Instant::now();
        match message {
            Message::Services(change) => self.services(change, now),
            Message::Claims(ObjectChange::Apply(claim)) => self.index.claim_applied(*claim, now),
            Message::Claims(ObjectChange::Delete(claim)) => self.index.claim_deleted(&claim.key, now),
            Message::Claims(ObjectChange::Reset(list)) => {
                self.index.claims_reset(list.into_iter().map(|claim| *claim).collect(), now);
            }
            Message::Namespaces(ObjectChange::Apply((name, labels))) => {
                self.index.namespace_applied(name, labels, now)
            }
            Message::Namespaces(ObjectChange::Delete((name, _))) => self.index.namespace_deleted(&name),
            Message::Namespaces(ObjectChange::Reset(list)) => self.index.namespaces_reset(list, now),
            Message::Pools(change) => self.objects(change, now),
            Message::L2Advertisements(change) => self.objects(change, now),
            Message::BgpAdvertisements(change) => self.objects(change, now),
            Message::Peers(change) => self.objects(change, now),
            Message::BfdProfiles(change) => self.objects(change, now),
            Message::Communities(change) => self.objects(change, now),
        }
        if self.index.is_deciding() {
            self.metrics.decided(began.elapsed());
        }
    }

    fn services(&mut self, change: ObjectChange<Seen>, now: Timestamp) {
        match change {
            ObjectChange::Apply(Seen { ours: Some(service), .. }) => {
                self.index.service_applied(*service, now)
            }
            // Not ours (any more).
            ObjectChange::Apply(Seen { key, ours: None }) | ObjectChange::Delete(Seen { key, .. }) => {
                self.index.service_deleted(&key, now);
            }
            ObjectChange::Reset(list) => {
                let ours = list.into_iter().filter_map(|seen| Some(*seen.ours?)).collect();
                self.index.services_reset(ours, now);
            }
        }
    }

    /// The next write that comes back; never while none is on the way.
    pub async fn next_written(&mut self) -> Option<Done> {
        loop {
            match self.in_flight.join_next().await {
                Some(Ok(done)) => return Some(done),
                // Taken back when leadership was lost.
                Some(Err(_)) => {}
                None => return None,
            }
        }
    }

    /// A write came back.
    pub fn done(&mut self, Done { target, write, answer, at }: Done) {
        let time = self.queue.handle_write_result(at, &target, &answer, rand::random());
        self.metrics.wrote(&answer, time);
        self.unanswered.answered(&target, &write.resource_version, &answer, at);
        if let WriteTarget::ObjectFinalizers(pool) = &target {
            if let (PatchBody::Json(body), WriteResult::Written(version)) = (&*write.body, &answer) {
                self.configuration.finalizers_written(&pool.name, body, version);
            }
            // The status waited for it. Where it fails, whatever refuses it may still let the status through.
            self.dirty_pools.insert(pool.name.clone());
        }
        self.look_on_the_way(&target);
    }

    /// If nothing that was decided on a Service can show any more, the index knows.
    fn look_on_the_way(&mut self, target: &WriteTarget) {
        if let WriteTarget::ServiceStatus(service) = target
            && !self.queue.contains(target)
            && !self.unanswered.may_show(target, self.version(target))
        {
            self.index.nothing_on_the_way(service, Timestamp::now());
        }
    }

    /// The resourceVersion of an object as far as is known; `None` if there is no such object.
    fn version(&self, target: &WriteTarget) -> Option<&str> {
        match target {
            WriteTarget::ServiceStatus(service) => self.index.version_of_service(service),
            WriteTarget::ClaimStatus(claim) => self.index.version_of_claim(claim),
            WriteTarget::ObjectStatus(object) | WriteTarget::ObjectFinalizers(object) => {
                self.configuration.version(object)
            }
        }
    }

    /// Does what is to be done now. `queued` messages are still to be taken in.
    pub fn act(&mut self, queued: usize) {
        self.follow_leadership();
        let now = Timestamp::now();
        if self.index.poll_timeout().is_some_and(|due| due <= now) {
            self.index.timeout(now);
        }
        for target in self.unanswered.expire(Instant::now()) {
            self.look_on_the_way(&target);
        }
        self.enqueue();
        self.write_pools();
        self.send();
        self.publish();
        self.metrics.update(&self.index, &self.queue, queued);
        let decided = self.term.is_none() || self.index.is_deciding();
        if self.index.is_listed() && self.configured && decided && !self.health.is_ready() {
            let (services, waiting) = self.index.service_counts();
            tracing::info!(services, waiting, leading = self.term.is_some(), "ready");
            self.health.set_ready();
        }
    }

    /// Ends what it has begun: what is decided is written, nothing new is decided.
    pub async fn finish(&mut self) {
        self.pools_written = None;
        loop {
            self.enqueue();
            self.write_pools();
            self.send();
            match self.next_written().await {
                Some(done) => self.done(done),
                None => return,
            }
        }
    }

    /// Waits for the answers to what was sent. Returns whether nothing can arrive any more.
    pub async fn settle(&mut self) -> bool {
        while let Some(done) = self.next_written().await {
            self.done(done);
        }
        !self.unanswered.may_arrive(Instant::now(), |target| self.version(target))
    }

    /// When to act although nothing happens.
    pub fn wake_at(&self, now: Instant) -> Option<Instant> {
        let expiry = self.index.poll_timeout().map(|due| {
            let wait = Duration::try_from(due.duration_since(Timestamp::now())).unwrap_or_default();
            // The clocks differ in how fine they are.
            now + wait + Duration::from_millis(1)
        });
        self.term?;
        let lapse = match *self.leadership.borrow() {
            Leadership::Leading { until, .. } => Some(until),
            Leadership::Standby { .. } => None,
        };
        // Before it decides none is written, however long it is due.
        let pools = self.index.is_deciding() && !self.dirty_pools.is_empty();
        let pools = if pools { self.pools_due() } else { None };
        let lost = self.unanswered.poll_timeout();
        [pools, self.queue.poll_timeout(), expiry, lapse, lost].into_iter().flatten().min()
    }

    /// Begins to decide when this controller leads, and stops when it does no longer.
    fn follow_leadership(&mut self) {
        let term = self.leadership.borrow().term(Instant::now());
        if term != self.term {
            if self.term.is_some() {
                tracing::warn!("no longer leading: nothing is written any more");
                self.step_down();
            }
            self.term = term;
            self.metrics.leads(term.is_some());
            if term.is_some() {
                // The watches may be behind what was written in the term before.
                self.round += 1;
                self.index.forget_lists();
                self.configuration.forget_lists();
                self.configured = false;
            }
        }
        if term.is_some() && self.configured && self.index.is_listed() && !self.index.is_deciding() {
            let now = Timestamp::now();
            self.index.begin(self.configuration.released(), now);
            let (services, waiting) = self.index.service_counts();
            tracing::info!(services, waiting, "leading: first pass done");
            self.write_configuration(now);
            if self.background.is_empty() {
                self.background.spawn(ensure_mesh_secret(self.client.clone(), self.namespace.clone()));
            }
        }
    }

    fn step_down(&mut self) {
        self.index.step_down();
        self.metrics.forget_pools();
        (self.pools_written, self.pools_urgent) = (None, false);
        self.news.clear();
        // What waits there may tell of writes that are not made, and nobody knows which.
        self.events.hold(true);
        self.events = Events::start(self.client.clone());
        for (target, write) in std::mem::take(&mut self.queue).into_in_flight() {
            self.unanswered.lost(target, &write.resource_version, Instant::now());
        }
        self.in_flight = JoinSet::new();
        self.background = JoinSet::new();
    }

    /// Hands on what was decided.
    fn enqueue(&mut self) {
        let mut decisions: VecDeque<Decision> = self.index.take_decisions().into();
        while let Some(decision) = decisions.pop_front() {
            match decision {
                Decision::Status { service, patch } => {
                    let target = WriteTarget::ServiceStatus(service);
                    self.queue.replace(target.clone(), patch.map(Write::from));
                    self.look_on_the_way(&target);
                    decisions.extend(self.index.take_decisions());
                }
                Decision::Claim { claim, patch } => {
                    self.queue.replace(WriteTarget::ClaimStatus(claim), patch.map(Write::from));
                }
                Decision::Event(event) => {
                    tracing::info!(service = %event.service, reason = %event.reason, "{}", event.message);
                    self.news.push(*event);
                }
            }
        }
    }

    /// Hands on the events, which wait until no status waits.
    fn publish(&mut self) {
        self.events.hold(self.queue.has_backlog());
        for event in self.news.drain(..) {
            if !self.events.send(event) {
                self.metrics.event_dropped();
            }
        }
    }

    /// Sends what is to be written, while this controller leads.
    fn send(&mut self) {
        loop {
            let now = Instant::now();
            let Leadership::Leading { until, .. } = *self.leadership.borrow() else { return };
            if now >= until || self.term.is_none() {
                return;
            }
            let Some((target, write)) = self.queue.poll_transmit(now) else { return };
            let client = self.client.clone();
            self.in_flight.spawn(async move {
                // Nothing is waited for beyond the end of leadership.
                let sent = send(&client, &target, &write);
                let answer = tokio::time::timeout_at(until.into(), sent).await;
                Done {
                    target,
                    write,
                    answer: answer.unwrap_or(WriteResult::Unavailable(None)),
                    at: Instant::now(),
                }
            });
        }
    }
}
