//! What the thread reports about a session to its users. Contains no I/O.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fairlead_bfd::{Diagnostic, Event, State, View};
use fairlead_net::Scheduling;

/// How long a BGP session waits for a peer that sends no BFD packets after a failure.
const SILENCE: Duration = Duration::from_secs(5);

/// The state of the session of one user, without counters that grow at rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct BfdReport {
    /// The session; `None` until the thread has handled the request.
    pub session: Option<SessionReport>,
    /// Why the session cannot work, for the operator.
    pub problem: Option<Arc<str>>,
    /// The user whose parameters are in force, if it is another one.
    pub parameters_of: Option<Arc<str>>,
    /// How the thread is scheduled.
    pub scheduling: Option<Scheduling>,
}

/// The state of a session, and how often it changed in a way that matters to BGP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SessionReport {
    pub local_discriminator: NonZeroU32,
    pub state: State,
    pub state_since: Option<Instant>,
    pub diagnostic: Diagnostic,
    /// State and diagnostic in the last packet of the peer; `None` if no packet arrives.
    pub remote: Option<RemoteReport>,
    /// Interval in force between sent packets.
    pub transmit_interval: Option<Duration>,
    pub receive_interval: Duration,
    pub detect_multiplier: u8,
    pub detection_time: Option<Duration>,
    /// True if the interval was raised, because this node sends packets late.
    pub transmit_interval_raised: bool,
    pub transitions: Transitions,
    /// Changes from Up to Down.
    pub flaps: u64,
    /// Detections that waited one more interval, because this node was late.
    pub lateness: u64,
}

/// The part of the report that the packets of the peer contain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub(crate) struct RemoteReport {
    pub state: State,
    pub diagnostic: Diagnostic,
    pub transmit_interval: Duration,
    pub receive_interval: Duration,
    pub detect_multiplier: u8,
}

/// Transitions of a session. A user that misses reports sees from the numbers what happened in between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Transitions {
    /// Changes to Up.
    pub ups: u64,
    /// Changes from Up that mean a failure of the path (RFC 5882 §4.1).
    pub failures: u64,
    /// The diagnostic of the last failure.
    pub failure: Diagnostic,
    /// Times at which BFD stopped to say anything about the path: an operator disabled it on one side (RFC
    /// 5882 §4.2).
    pub releases: u64,
    /// True from a failure to the next Up or release.
    pub failed: bool,
}

impl Transitions {
    /// Counts an event of the session.
    pub(super) const fn count(&mut self, event: &Event) {
        let Event::StateChanged { from, to, local_diagnostic, remote_state, .. } = event else { return };
        match (from, to) {
            (_, State::Up) => {
                self.ups += 1;
                self.failed = false;
            }
            (State::Up, State::Down | State::Init) if !matches!(remote_state, State::AdminDown) => {
                self.failures += 1;
                self.failure = *local_diagnostic;
                self.failed = true;
            }
            (State::Up, _) | (_, State::AdminDown) => self.release(),
            _ => {}
        }
    }

    /// Looks at a session that failed. The peer may have disabled BFD since, without a change of state here.
    /// Or it is silent: a router with dynamic neighbors has a BFD session only while it has a BGP session, so
    /// each would wait for the other.
    pub(super) fn look_at(&mut self, view: &View, now: Instant) {
        let disabled = view.remote_discriminator.is_some() && view.remote_state == State::AdminDown;
        let heard = view.last_received.max(view.last_down);
        let silent = heard.is_none_or(|at| now.saturating_duration_since(at) >= SILENCE);
        if self.failed && (disabled || silent) {
            self.release();
        }
    }

    const fn release(&mut self) {
        self.releases += 1;
        self.failed = false;
    }
}

impl SessionReport {
    pub(super) fn new(view: &View, transitions: Transitions) -> Self {
        Self {
            local_discriminator: view.local_discriminator,
            state: view.state,
            state_since: view.state_since,
            diagnostic: view.local_diagnostic,
            remote: view.remote_discriminator.map(|_| RemoteReport {
                state: view.remote_state,
                diagnostic: view.remote_diagnostic,
                transmit_interval: view.remote_desired_min_tx,
                receive_interval: view.remote_required_min_rx,
                detect_multiplier: view.remote_detect_multiplier,
            }),
            transmit_interval: view.transmit_interval,
            receive_interval: view.required_min_rx,
            detect_multiplier: view.config.detect_multiplier,
            detection_time: view.detection_time,
            transmit_interval_raised: view.transmit_interval_raised,
            transitions,
            flaps: view.counters.downs,
            lateness: view.counters.own_lateness,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_failures_of_the_path_are_counted_as_such() {
        use State::{AdminDown, Down, Init, Up};
        let (expired, signaled) =
            (Diagnostic::CONTROL_DETECTION_TIME_EXPIRED, Diagnostic::NEIGHBOR_SIGNALED_SESSION_DOWN);
        let admin = Diagnostic::ADMINISTRATIVELY_DOWN;
        for (name, from, to, local_diagnostic, remote_state, ups, failures, releases) in [
            ("came up", Init, Up, Diagnostic::NONE, Init, 1, 0, 0),
            ("detection time expired", Up, Down, expired, Up, 0, 1, 0),
            ("peer went Down", Up, Down, signaled, Down, 0, 1, 0),
            ("carrier lost", Up, Down, Diagnostic::PATH_DOWN, Up, 0, 1, 0),
            ("disabled by the peer", Up, Down, signaled, AdminDown, 0, 0, 1),
            ("disabled here", Up, AdminDown, admin, Up, 0, 0, 1),
            ("never came up", Init, Down, expired, Init, 0, 0, 0),
        ] {
            let mut transitions = Transitions::default();
            let remote_diagnostic = Diagnostic::NONE;
            let at = Instant::now();
            transitions.count(&Event::StateChanged {
                at,
                from,
                to,
                local_diagnostic,
                remote_state,
                remote_diagnostic,
            });
            let counted = (transitions.ups, transitions.failures, transitions.releases);
            assert_eq!(counted, (ups, failures, releases), "{name}");
            assert_eq!(transitions.failed, failures == 1, "{name}");
        }
    }
}
