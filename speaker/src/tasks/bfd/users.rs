//! The users of the sessions, and the reports to them.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Instant;

use fairlead_bfd::{Counters, SessionKey, Sessions, TableEvent};
use fairlead_net::Scheduling;
use tokio::sync::watch;

use super::report::{BfdReport, SessionReport, Transitions};
use super::sockets::Sockets;
use crate::metrics::{BfdMetrics, Metrics};

/// Users by name: the peers with BFD.
pub(super) struct Users {
    by_name: BTreeMap<Arc<str>, User>,
    /// Transitions of each session.
    transitions: HashMap<NonZeroU32, Transitions>,
    metrics: Metrics,
    scheduling: Scheduling,
}

struct User {
    key: SessionKey,
    /// `None` if the core refused the session.
    session: Option<NonZeroU32>,
    problem: Option<Arc<str>>,
    parameters_of: Option<Arc<str>>,
    reports: watch::Sender<BfdReport>,
    metrics: BfdMetrics,
    /// Counters of the session that the metrics include.
    counted: Counters,
}

impl Users {
    pub(super) fn new(metrics: Metrics, scheduling: Scheduling) -> Self {
        Self { by_name: BTreeMap::new(), transitions: HashMap::new(), metrics, scheduling }
    }

    /// Adds or changes a user. `session` is its session, or why it has none.
    pub(super) fn set(
        &mut self,
        name: Arc<str>,
        key: SessionKey,
        session: Result<NonZeroU32, String>,
        reports: watch::Sender<BfdReport>,
    ) {
        let id = session.as_ref().ok().copied();
        let before = self.by_name.remove(&name).filter(|user| user.session == id && id.is_some());
        let counted = before.map_or_else(Counters::default, |user| user.counted);
        self.transitions.extend(
            id.filter(|id| !self.transitions.contains_key(id)).map(|id| (id, Transitions::default())),
        );
        let user = User {
            key,
            session: id,
            problem: session.err().map(Into::into),
            parameters_of: None,
            reports,
            metrics: self.metrics.bfd_session(&name),
            counted,
        };
        self.by_name.insert(name, user);
    }

    /// Removes a user and returns the key of its session.
    pub(super) fn remove(&mut self, name: &str) -> Option<SessionKey> {
        let user = self.by_name.remove(name)?;
        self.metrics.forget_bfd_session(name);
        user.reports.send_replace(BfdReport::default());
        Some(user.key)
    }

    /// Returns the key of a user's session.
    pub(super) fn key(&self, name: &str) -> Option<SessionKey> {
        self.by_name.get(name).map(|user| user.key)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Removes all users.
    pub(super) fn clear(&mut self) {
        while let Some((name, _)) = self.by_name.pop_first() {
            self.metrics.forget_bfd_session(&name);
        }
    }

    /// Looks up the user whose profile the session with this key uses.
    pub(super) fn update_sharing(&mut self, key: &SessionKey, sessions: &Sessions) {
        let fastest = sessions.users(key).map(|users| Arc::<str>::from(users.fastest));
        for (name, user) in self.by_name.iter_mut().filter(|(_, user)| user.key == *key) {
            user.parameters_of = fastest.clone().filter(|fastest| fastest != name);
        }
    }

    /// Counts an event, and logs it.
    pub(super) fn handle_event(&mut self, event: &TableEvent) {
        match event {
            TableEvent::Removed { session, .. } => drop(self.transitions.remove(session)),
            TableEvent::Session { session, key, event } => {
                if let Some(transitions) = self.transitions.get_mut(session) {
                    transitions.count(event);
                }
                let users = self.by_name.values().filter(|user| user.session == Some(*session));
                users.for_each(|user| user.metrics.count_event(event));
                log(key, event);
            }
        }
    }

    /// Reports the sessions that changed and updates the metrics. Allocates nothing if none changed.
    pub(super) fn report(&mut self, sessions: &Sessions, sockets: &Sockets) {
        let now = Instant::now();
        for user in self.by_name.values_mut() {
            let view = user.session.and_then(|_| sessions.view(&user.key));
            let mut transitions = Transitions::default();
            if let Some(view) = &view {
                if let Some(of_session) = self.transitions.get_mut(&view.local_discriminator) {
                    of_session.look_at(view, now);
                    transitions = *of_session;
                }
                user.metrics.update(view.state, &user.counted, &view.counters);
                user.counted = view.counters;
            }
            let report = BfdReport {
                session: view.map(|view| SessionReport::new(&view, transitions)),
                problem: user.problem.clone().or_else(|| sockets.problem(user.session?)),
                parameters_of: user.parameters_of.clone(),
                scheduling: Some(self.scheduling),
            };
            user.reports.send_if_modified(|current| {
                let changed = *current != report;
                if changed {
                    *current = report;
                }
                changed
            });
        }
    }
}

fn log(key: &SessionKey, event: &fairlead_bfd::Event) {
    use fairlead_bfd::{Event, State};
    let SessionKey { local, remote, hop_mode, .. } = key;
    match event {
        Event::StateChanged { from, to: to @ State::Up, .. } => {
            tracing::info!(%local, %remote, %hop_mode, %from, %to, "BFD session up");
        }
        Event::StateChanged {
            from: from @ State::Up,
            to,
            local_diagnostic,
            remote_state,
            remote_diagnostic,
            ..
        } => tracing::warn!(
            %local,
            %remote,
            %hop_mode,
            %from,
            %to,
            diagnostic = %local_diagnostic,
            %remote_state,
            %remote_diagnostic,
            "BFD session down"
        ),
        Event::StateChanged { from, to, .. } => {
            tracing::debug!(%local, %remote, %hop_mode, %from, %to, "BFD session changed its state");
        }
        Event::OwnLateness { late_by, extended_by, .. } => tracing::warn!(
            %local,
            %remote,
            ?late_by,
            ?extended_by,
            "this node was too late to detect a failure of the BFD session; waiting for another packet"
        ),
        Event::TransmitIntervalRaised { desired_min_tx, .. } => tracing::warn!(
            %local,
            %remote,
            interval = ?desired_min_tx,
            "this node sends BFD packets late; raised the transmit interval"
        ),
        Event::TransmitIntervalRestored { desired_min_tx, .. } => {
            tracing::info!(%local, %remote, interval = ?desired_min_tx, "restored the BFD transmit interval");
        }
    }
}
