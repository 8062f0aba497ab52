//! Whether the Secret of the mesh needs a key, and whether the speakers use the key that it contains. A value
//! without I/O:
//!
//! ```text
//! handle_secret(now, key) ───────────────┐              ┌─▶ poll_timeout  when to list the speakers
//! handle_speakers(now, speakers) ────────┼─▶ KeyCheck ──┴─▶ Action        what to do then
//! handle_failure(now, retry_after) ──────┘
//! ```
//!
//! Speakers read the key only when they start, and accept each other only if they use the same key. A new key
//! is therefore created only if no speaker uses an earlier one. Speakers are listed when the Secret changes
//! and while there is a problem; they are not watched.

use std::fmt;
use std::time::{Duration, Instant};

use fairlead_crds::names::{MESH_SECRET, MESH_SECRET_KEY};

/// Time from the loss of the key to the decision. A speaker that read the key just before publishes that
/// within this time.
const LOSS_DELAY: Duration = Duration::from_secs(5);
/// Interval at which the speakers are listed while there is a problem, and the time after which they are
/// listed once more when there is none, for speakers that started with an earlier key.
const INTERVAL: Duration = Duration::from_secs(5);
/// The maximum number of nodes that a message names.
const MAX_NODES: usize = 10;

/// The key in the Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum KeyState {
    /// The Secret has no key. `version` is its resourceVersion; `None` if it does not exist.
    Missing { version: Option<String> },
    /// A user has set an empty key.
    Empty,
    /// The Secret has the key with this fingerprint.
    Present(String),
}

/// A speaker that takes part in the mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SpeakerKey {
    pub node: String,
    /// The fingerprint of its key; `None` if it is of a version that does not publish it.
    pub fingerprint: Option<String>,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Create the key in the Secret with this resourceVersion; without one, create the Secret too.
    Create { version: Option<String> },
    /// Report a problem that only the operator can solve.
    Report(Problem),
    /// Report that the last problem is solved.
    ReportSolved,
}

/// The reason why the key is not created, or not used by all speakers. Displayed as the reason of the Event:
/// `MeshKeyInUse`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// There is no key, and speakers use an earlier one.
    InUse,
    /// There is a key, and speakers use another one.
    Differs,
    /// The key is empty.
    Empty,
}

/// A problem that only the operator can solve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub reason: Reason,
    /// The nodes whose speakers it concerns.
    pub nodes: Vec<String>,
}

/// The result of comparing the Secret with the speakers.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    /// The speakers use the key of the Secret, or wait for it.
    Consistent,
    /// The key can be created.
    Create {
        version: Option<String>,
    },
    Problem(Problem),
}

/// Compares the Secret with the speakers.
#[derive(Debug, Default)]
pub(super) struct KeyCheck {
    /// `None` before the Secret was listed.
    key: Option<KeyState>,
    /// When to list the speakers.
    due: Option<Instant>,
    /// Whether the speakers were listed without a problem since the Secret changed.
    is_consistent: bool,
    /// The problem that was reported last, and is not solved.
    reported: Option<Reason>,
}

impl KeyCheck {
    /// Handles the present state of the Secret.
    pub(super) fn handle_secret(&mut self, now: Instant, key: KeyState) {
        let due = match (&self.key, &key) {
            (Some(before), now) if before == now => return,
            (Some(KeyState::Present(_)), KeyState::Missing { .. }) => now + LOSS_DELAY,
            (Some(KeyState::Missing { .. }), KeyState::Missing { .. }) => self.due.unwrap_or(now),
            _ => now,
        };
        self.key = Some(key);
        self.due = Some(due);
        self.is_consistent = false;
    }

    /// Returns when to list the speakers; `None` while nothing has changed.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// Handles the list of the speakers that take part in the mesh. Returns what to do.
    pub(super) fn handle_speakers(&mut self, now: Instant, speakers: &[SpeakerKey]) -> Option<Action> {
        let verdict = verdict(self.key.as_ref()?, speakers);
        let is_settled = self.is_consistent;
        self.is_consistent = verdict == Verdict::Consistent;
        // The key is created again if the API server lost it, unless it is observed before.
        self.due = (!(self.is_consistent && is_settled)).then(|| now + INTERVAL);
        let reported = self.reported.take();
        match verdict {
            Verdict::Create { version } => Some(Action::Create { version }),
            Verdict::Consistent => reported.map(|_| Action::ReportSolved),
            Verdict::Problem(problem) => {
                self.reported = Some(problem.reason);
                (reported != Some(problem.reason)).then_some(Action::Report(problem))
            }
        }
    }

    /// Handles that the speakers could not be listed, or the key not be created.
    pub(super) fn handle_failure(&mut self, now: Instant, retry_after: Duration) {
        self.due = Some(now + retry_after);
    }
}

fn verdict(key: &KeyState, speakers: &[SpeakerKey]) -> Verdict {
    let nodes = |uses: &dyn Fn(&SpeakerKey) -> bool| -> Vec<String> {
        speakers.iter().filter(|speaker| uses(speaker)).map(|speaker| speaker.node.clone()).collect()
    };
    let problem = |reason, nodes| Verdict::Problem(Problem { reason, nodes });
    match key {
        KeyState::Empty => problem(Reason::Empty, Vec::new()),
        KeyState::Missing { version } => match nodes(&|_| true) {
            nodes if nodes.is_empty() => Verdict::Create { version: version.clone() },
            nodes => problem(Reason::InUse, nodes),
        },
        KeyState::Present(key) => {
            match nodes(&|speaker| speaker.fingerprint.as_ref().is_some_and(|used| used != key)) {
                nodes if nodes.is_empty() => Verdict::Consistent,
                nodes => problem(Reason::Differs, nodes),
            }
        }
    }
}

impl Problem {
    /// Returns what is wrong and what to do, for an installation in this namespace.
    pub(super) fn message(&self, namespace: &str) -> String {
        let mut nodes = self.nodes.iter().take(MAX_NODES).cloned().collect::<Vec<_>>().join(", ");
        if self.nodes.len() > MAX_NODES {
            nodes += &format!(" and {} more", self.nodes.len() - MAX_NODES);
        }
        match self.reason {
            Reason::InUse => format!(
                "the Secret {MESH_SECRET} has no key, and the speakers on {nodes} still use the earlier one; \
                 they would not accept speakers with a new key, so none is created. Restore the Secret, or \
                 restart all speakers: kubectl -n {namespace} delete pods -l \
                 app.kubernetes.io/component=speaker. The key is created when the last of them has \
                 restarted. If a node no longer runs a speaker, delete its Speaker object"
            ),
            Reason::Differs => format!(
                "the speakers on {nodes} use another key than the Secret {MESH_SECRET} has; they and the \
                 speakers with the present key do not accept each other. Restart them: kubectl -n \
                 {namespace} rollout restart daemonset fairlead-speaker. If a node no longer runs a \
                 speaker, delete its Speaker object"
            ),
            Reason::Empty => format!(
                "the entry {MESH_SECRET_KEY} of the Secret {MESH_SECRET} is empty, so no speaker can start; set \
                 a key, or remove the entry to have one created"
            ),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MeshKey{self:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing() -> KeyState {
        KeyState::Missing { version: None }
    }

    fn key(fingerprint: &str) -> KeyState {
        KeyState::Present(fingerprint.to_owned())
    }

    /// Returns speakers from `node=fingerprint`; those without a fingerprint are of an earlier version.
    fn speakers(list: &[&str]) -> Vec<SpeakerKey> {
        let parts = list.iter().map(|speaker| speaker.split_once('='));
        let speakers = parts.zip(list).map(|(parts, whole)| match parts {
            Some((node, used)) => SpeakerKey { node: node.into(), fingerprint: Some(used.into()) },
            None => SpeakerKey { node: (*whole).into(), fingerprint: None },
        });
        speakers.collect()
    }

    fn report(reason: Reason, nodes: &[&str]) -> Option<Action> {
        Some(Action::Report(Problem { reason, nodes: nodes.iter().map(ToString::to_string).collect() }))
    }

    #[test]
    fn key_is_created_only_if_no_speaker_uses_one() {
        let create = |version: Option<&str>| Some(Action::Create { version: version.map(str::to_owned) });
        let without_key = KeyState::Missing { version: Some("7".to_owned()) };
        for (name, secret, listed, expected) in [
            ("first start", missing(), &[][..], create(None)),
            ("Secret of the manifests", without_key.clone(), &[], create(Some("7"))),
            ("one in use", missing(), &["n1=a"], report(Reason::InUse, &["n1"])),
            ("two in use", missing(), &["n1=a", "n2=b"], report(Reason::InUse, &["n1", "n2"])),
            ("entry removed", without_key, &["n1=a"], report(Reason::InUse, &["n1"])),
            ("earlier version", missing(), &["n1"], report(Reason::InUse, &["n1"])),
            ("in use by all", key("a"), &["n1=a", "n2=a"], None),
            ("no speaker yet", key("a"), &[], None),
            ("in use by some", key("a"), &["n1=a", "n2=b"], report(Reason::Differs, &["n2"])),
            ("unknown to earlier versions", key("a"), &["n1", "n2=a"], None),
            ("empty", KeyState::Empty, &["n1=a"], report(Reason::Empty, &[])),
        ] {
            let (mut check, now) = (KeyCheck::default(), Instant::now());
            check.handle_secret(now, secret);
            assert_eq!(check.poll_timeout(), Some(now), "{name}");
            assert_eq!(check.handle_speakers(now, &speakers(listed)), expected, "{name}");
        }
    }

    /// A check and the simulated time, in seconds.
    struct Bench {
        check: KeyCheck,
        start: Instant,
    }

    impl Bench {
        fn new(key: KeyState) -> Self {
            let mut bench = Self { check: KeyCheck::default(), start: Instant::now() };
            bench.secret(0, key);
            bench
        }

        fn secret(&mut self, at: u64, key: KeyState) {
            self.check.handle_secret(self.start + Duration::from_secs(at), key);
        }

        /// Lists these speakers at this time, when a list must be due.
        fn list(&mut self, at: u64, listed: &[&str]) -> Option<Action> {
            assert_eq!(self.due(), Some(at));
            self.check.handle_speakers(self.start + Duration::from_secs(at), &speakers(listed))
        }

        fn due(&self) -> Option<u64> {
            self.check.poll_timeout().map(|due| (due - self.start).as_secs())
        }
    }

    #[test]
    fn lost_key_is_created_after_the_last_speaker_restarted() {
        let mut bench = Bench::new(key("a"));
        assert_eq!(bench.list(0, &["n1=a", "n2=a"]), None);
        assert_eq!(bench.list(5, &["n1=a", "n2=a"]), None);
        assert_eq!(bench.due(), None, "at rest");
        bench.secret(100, missing());
        assert_eq!(bench.list(105, &["n1=a", "n2=a"]), report(Reason::InUse, &["n1", "n2"]));
        assert_eq!(bench.list(110, &["n1=a", "n2=a"]), None, "reported once");
        assert_eq!(bench.list(115, &["n2=a"]), None, "reported once");
        assert_eq!(bench.list(120, &[]), Some(Action::Create { version: None }));
        bench.check.handle_failure(bench.start + Duration::from_secs(120), Duration::from_secs(1));
        assert_eq!(bench.list(121, &[]), Some(Action::Create { version: None }));
        bench.secret(121, key("b"));
        assert_eq!(bench.list(121, &[]), None);
        assert_eq!(bench.list(126, &["n1=b", "n2=b"]), None);
        assert_eq!(bench.due(), None);
    }

    #[test]
    fn restored_key_solves_the_problem() {
        let mut bench = Bench::new(missing());
        assert_eq!(bench.list(0, &["n1=a"]), report(Reason::InUse, &["n1"]));
        bench.secret(2, key("a"));
        assert_eq!(bench.list(2, &["n1=a"]), Some(Action::ReportSolved));
        assert_eq!(bench.list(7, &["n1=a"]), None);
        bench.secret(50, missing());
        bench.secret(51, key("a"));
        assert_eq!(bench.list(51, &["n1=a"]), None, "a Secret that is replaced is no problem");
    }

    #[test]
    fn speaker_that_publishes_late_is_reported() {
        let mut bench = Bench::new(key("a"));
        assert_eq!(bench.list(0, &["n1=a"]), None);
        assert_eq!(bench.list(5, &["n1=a", "n2=b"]), report(Reason::Differs, &["n2"]));
        assert_eq!(bench.list(10, &["n1=a", "n2=a"]), Some(Action::ReportSolved));
        assert_eq!(bench.list(15, &["n1=a", "n2=a"]), None);
        assert_eq!(bench.due(), None);
    }

    #[test]
    fn another_problem_is_reported_again() {
        let mut bench = Bench::new(missing());
        assert_eq!(bench.list(0, &["n1=a"]), report(Reason::InUse, &["n1"]));
        bench.secret(3, key("b"));
        assert_eq!(bench.list(3, &["n1=a"]), report(Reason::Differs, &["n1"]));
        bench.secret(4, KeyState::Missing { version: Some("9".to_owned()) });
        bench.secret(6, KeyState::Missing { version: Some("10".to_owned()) });
        assert_eq!(bench.list(9, &["n1=a"]), report(Reason::InUse, &["n1"]), "after the delay");
    }

    #[test]
    fn message_names_a_bounded_number_of_nodes() {
        let nodes = |count: usize| (1..=count).map(|n| format!("n{n}")).collect();
        for (count, text) in
            [(1, "speakers on n1 still"), (10, "n9, n10 still"), (12, "n10 and 2 more still use")]
        {
            let problem = Problem { reason: Reason::InUse, nodes: nodes(count) };
            let message = problem.message("fairlead-system");
            assert!(message.contains(text) && message.contains("-n fairlead-system"), "{message}");
        }
    }
}
