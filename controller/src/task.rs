//! The one task that decides: takes in what the watches tell, and while this controller leads, sends what is decided.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use fairlead_crds::api::{BFDProfile, BGPAdvertisement, BGPPeer, Community, IPAddressPool, L2Advertisement};
use fairlead_crds::claim::Claim;
use fairlead_crds::config::Labels;
use fairlead_crds::resolve::{Kind, ObjectRef};
use fairlead_crds::service::ObjectKey;
use fairlead_runtime::http;
use fairlead_runtime::watch::Change;
use jiff::Timestamp;
use kube::Client;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::decide::objects::{Configuration, Configures, ObjectPatch, Part};
use crate::decide::pools::{POOL_STATUS_INTERVAL, RELEASED_INTERVAL};
use crate::decide::{Decision, Event, Index, Observed};
use crate::events::Events;
use crate::lease::Leadership;
use crate::metrics::Metrics;
use crate::secret::ensure_mesh_secret;
use crate::send::send;
use crate::writer::{Answer, Body, Target, Write, Writer};

/// What the watches tell.
pub enum Message {
    /// Of Services of type LoadBalancer.
    Services(Change<Seen>),
    /// Of claims.
    Claims(Change<Box<Claim>>),
    /// Of Namespaces, name and labels.
    Namespaces(Change<(String, Labels)>),
    /// Of pools.
    Pools(Change<IPAddressPool>),
    /// Of L2 advertisements.
    L2Advertisements(Change<L2Advertisement>),
    /// Of BGP advertisements.
    BgpAdvertisements(Change<BGPAdvertisement>),
    /// Of BGP peers.
    Peers(Change<BGPPeer>),
    /// Of BFD profiles.
    BfdProfiles(Change<BFDProfile>),
    /// Of communities.
    Communities(Change<Community>),
}

/// A Service; `ours` is `None` when it is of another class.
pub struct Seen {
    /// Namespace and name.
    pub key: ObjectKey,
    /// What decisions need of it.
    pub ours: Option<Box<Observed>>,
}

/// How a write went.
pub struct Done {
    target: Target,
    write: Write,
    answer: Answer,
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
    events: Events,
    /// Events that are not handed on yet: first of all it must be known whether writes wait.
    news: Vec<Event>,
    index: Index,
    configuration: Configuration,
    configured: bool,
    writer: Writer,
    in_flight: JoinSet<Done>,
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
            index: Index::default(),
            configuration: Configuration::default(),
            configured: false,
            writer: Writer::default(),
            in_flight: JoinSet::new(),
            background: JoinSet::new(),
            dirty_pools: BTreeSet::new(),
            unprotected_pools: BTreeSet::new(),
            pools_written: None,
            pools_urgent: false,
        }
    }

    /// Takes in what a watch tells.
    pub fn take_in(&mut self, message: Message, now: Timestamp) {
        let began = Instant::now();
        match message {
            Message::Services(change) => self.services(change, now),
            Message::Claims(Change::Apply(claim)) => self.index.claim_applied(*claim, now),
            Message::Claims(Change::Delete(claim)) => self.index.claim_deleted(&claim.key, now),
            Message::Claims(Change::Reset(list)) => {
                self.index.claims_reset(list.into_iter().map(|claim| *claim).collect(), now);
            }
            Message::Namespaces(Change::Apply((name, labels))) => {
                self.index.namespace_applied(name, labels, now)
            }
            Message::Namespaces(Change::Delete((name, _))) => self.index.namespace_deleted(&name),
            Message::Namespaces(Change::Reset(list)) => self.index.namespaces_reset(list, now),
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

    fn services(&mut self, change: Change<Seen>, now: Timestamp) {
        match change {
            Change::Apply(Seen { ours: Some(service), .. }) => self.index.service_applied(*service, now),
            // Not ours (any more).
            Change::Apply(Seen { key, ours: None }) | Change::Delete(Seen { key, .. }) => {
                self.index.service_deleted(&key, now);
            }
            Change::Reset(list) => {
                let ours = list.into_iter().filter_map(|seen| Some(*seen.ours?)).collect();
                self.index.services_reset(ours, now);
            }
        }
    }

    fn objects<K: Configures>(&mut self, change: Change<K>, now: Timestamp) {
        let seen = match &change {
            Change::Apply(object) => vec![object.clone()],
            Change::Reset(objects) => objects.clone(),
            Change::Delete(_) => Vec::new(),
        };
        let names: Vec<String> = seen.iter().filter_map(|object| object.metadata().name.clone()).collect();
        if self.configuration.change(change) {
            if let Some(resolution) = self.configuration.resolve() {
                self.index.set_config(resolution.config.clone(), now);
                self.configured = true;
                self.write_configuration(now);
            }
        } else if K::is_pool() {
            self.pools_changed(names);
        } else if self.index.is_deciding() {
            // Its status changed: by us, or it is put right.
            for object in &seen {
                let patch = self.configuration.patch(object, now);
                self.write(object.reference(), Part::Status, patch);
            }
        }
    }

    /// Writes what has changed with the configuration as a whole.
    fn write_configuration(&mut self, now: Timestamp) {
        self.pools_changed(self.configuration.pool_names().map(str::to_owned).collect());
        self.dirty_pools.extend(self.metrics.pools());
        if self.index.is_deciding() {
            for (object, patch) in self.configuration.patches(now) {
                self.write(object, Part::Status, patch);
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
        let time = self.writer.done(at, &target, &answer, rand::random());
        self.metrics.wrote(&answer, time);
        if let (Target::Finalizers(pool), Body::Object(body), Answer::Written(version)) =
            (&target, &*write.patch, &answer)
        {
            self.configuration.finalizers_written(&pool.name, body, version);
            self.dirty_pools.insert(pool.name.clone());
        }
        // After a write that was done, the watch shows what is there; after one without an answer, it may yet arrive.
        let settled = !matches!(answer, Answer::Written(_) | Answer::Unavailable(_));
        if let Target::Service(service) = &target
            && settled
            && !self.writer.is_busy(&target)
        {
            self.index.nothing_on_the_way(service, Timestamp::now());
        }
    }

    /// Does what is to be done now. `queued` messages are still to be taken in.
    pub fn act(&mut self, queued: usize) {
        self.follow_leadership();
        let now = Timestamp::now();
        if self.index.poll_timeout().is_some_and(|due| due <= now) {
            self.index.timeout(now);
        }
        self.enqueue();
        self.write_pools();
        self.send();
        self.publish();
        self.metrics.update(&self.index, &self.writer, queued);
        let decided = self.term.is_none() || self.index.is_deciding();
        if self.index.is_listed() && self.configured && decided && !self.health.is_ready() {
            let (services, waiting) = self.index.service_counts();
            tracing::info!(services, waiting, leading = self.term.is_some(), "ready");
            self.health.set_ready();
        }
    }

    /// Ends what it has begun: what is decided is written, nothing new is decided. Returns when all is answered.
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
        let pools = if self.dirty_pools.is_empty() { None } else { self.pools_due() };
        [pools, self.writer.poll_timeout(), expiry, lapse].into_iter().flatten().min()
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
        self.news.clear();
        self.writer = Writer::default();
        self.in_flight = JoinSet::new();
        self.background = JoinSet::new();
    }

    /// Hands on what was decided.
    fn enqueue(&mut self) {
        let mut decisions: VecDeque<Decision> = self.index.take_decisions().into();
        while let Some(decision) = decisions.pop_front() {
            match decision {
                Decision::Status { service, patch } => {
                    let target = Target::Service(service);
                    self.writer.put(target.clone(), patch.map(Write::from));
                    if let Target::Service(service) = &target
                        && !self.writer.is_busy(&target)
                    {
                        self.index.nothing_on_the_way(service, Timestamp::now());
                        decisions.extend(self.index.take_decisions());
                    }
                }
                Decision::Claim { claim, patch } => {
                    self.writer.put(Target::Claim(claim), patch.map(Write::from));
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
        self.events.hold(self.writer.is_behind());
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
            let Some((target, write)) = self.writer.poll(now) else { return };
            let client = self.client.clone();
            self.in_flight.spawn(async move {
                // Nothing is waited for beyond the end of leadership.
                let sent = send(&client, &target, &write);
                let answer = tokio::time::timeout_at(until.into(), sent).await;
                Done {
                    target,
                    write,
                    answer: answer.unwrap_or(Answer::Unavailable(None)),
                    at: Instant::now(),
                }
            });
        }
    }

    /// Writes the finalizers of pools that changed, and their status, that not more often than the interval says.
    fn write_pools(&mut self) {
        if !self.index.is_deciding() {
            return;
        }
        let touched = self.index.take_touched_pools();
        self.pools_changed(touched.iter().map(|name| name.to_string()).collect());
        self.pools_urgent |= self.index.take_newly_released();
        for name in std::mem::take(&mut self.unprotected_pools) {
            let patch = self.configuration.finalizer_patch(&name, self.index.ipam());
            if patch.is_some() {
                // Once it is written, the status follows.
                self.dirty_pools.remove(&name);
            }
            self.write(pool_named(name), Part::Main, patch);
        }
        let now = Instant::now();
        if self.dirty_pools.is_empty() || self.pools_due().is_some_and(|due| now < due) {
            return;
        }
        self.pools_written = Some(now);
        self.pools_urgent = false;
        for name in std::mem::take(&mut self.dirty_pools) {
            self.metrics.pool(&self.index, &name);
            let patch = self.configuration.pool_patch(&name, self.index.ipam(), Timestamp::now());
            self.write(pool_named(name), Part::Status, patch);
        }
    }

    /// Something about these pools is different, or what is held of them.
    fn pools_changed(&mut self, names: Vec<String>) {
        self.unprotected_pools.extend(names.iter().cloned());
        self.dirty_pools.extend(names);
    }

    fn pools_due(&self) -> Option<Instant> {
        let interval = if self.pools_urgent { RELEASED_INTERVAL } else { POOL_STATUS_INTERVAL };
        Some(self.pools_written? + interval)
    }

    /// What is to be written to a part of an object, or that nothing is (any more).
    fn write(&mut self, object: ObjectRef, part: Part, patch: Option<ObjectPatch>) {
        let target = match part {
            Part::Status => Target::Object(object),
            Part::Main => Target::Finalizers(object),
        };
        self.writer.put(target, patch.map(Write::from));
    }
}

fn pool_named(name: String) -> ObjectRef {
    ObjectRef { kind: Kind::IPAddressPool, name }
}
