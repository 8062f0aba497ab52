//! Which speakers of other nodes do not respond, and whether this node reports them in their `Speaker`
//! objects.
//!
//! A speaker that was killed, or whose node lost power, cannot write that it is gone. The members of the mesh
//! know it. Of those that respond, the one whose node has the first name reports each speaker once:
//!
//! ```text
//! handle_view ──┐                        ┌─▶ poll_report    the speaker to report now
//! handle_done ──┴──▶ SilentSpeakers ─────┴─▶ poll_timeout   when to call poll_report again
//! ```
//!
//! Nothing is reported while this node is isolated, nor if it is alone with several speakers that are not
//! reported yet: what fell silent at once may be this node. The controller decides then.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::NodeName;
use crate::membership_gate::Members;

/// Time from the end of a membership to the report. A speaker that restarts is a member again by then, and
/// one that stops has written so.
pub const HOLD_OFF: Duration = Duration::from_secs(2);

/// The same for a speaker that was never a member since this process started: it may be starting too.
pub const FIRST_HOLD_OFF: Duration = Duration::from_secs(10);

/// The speakers of other nodes that are not members of the mesh.
#[derive(Clone, Debug)]
pub struct SilentSpeakers {
    node: NodeName,
    /// True if this node may report.
    reports: bool,
    silent: BTreeMap<NodeName, Silence>,
    /// Listed nodes whose speakers were members.
    heard: BTreeSet<NodeName>,
}

/// The state of a silent speaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Silence {
    /// It is to be reported at this time.
    Due(Instant),
    /// Its object shows that it does not run.
    Reported,
}

impl SilentSpeakers {
    /// Creates the state of this node.
    pub fn new(node: &str) -> Self {
        Self { node: node.into(), reports: false, silent: BTreeMap::new(), heard: BTreeSet::new() }
    }

    /// Compares the nodes with a `Speaker` object that has an address of the mesh with the members. `None`
    /// while this node has not listed the objects, or takes no part in the mesh.
    pub fn handle_view<'a>(
        &mut self,
        now: Instant,
        listed: Option<impl Iterator<Item = &'a str>>,
        members: Option<&Members>,
    ) {
        self.reports = false;
        let (Some(listed), Some(members)) = (listed, members.filter(|members| !members.isolated)) else {
            // Whatever fell silent while this node could not know is waited for again.
            return self.silent.retain(|_, silence| *silence == Silence::Reported);
        };
        let listed: BTreeSet<&str> = listed.filter(|node| **node != *self.node).collect();
        self.heard.retain(|node| listed.contains(&**node));
        self.silent.retain(|node, _| listed.contains(&**node) && !members.alive.contains(node));
        for node in listed {
            if members.alive.contains(node) {
                if !members.doubted.contains(node) && !self.heard.contains(node) {
                    self.heard.insert(node.into());
                }
            } else if !self.silent.contains_key(node) {
                let wait = if self.heard.contains(node) { HOLD_OFF } else { FIRST_HOLD_OFF };
                self.silent.insert(node.into(), Silence::Due(now + wait));
            }
        }
        let mut responding = members.alive.difference(&members.doubted);
        let is_first = responding.next() == Some(&self.node);
        let is_alone = is_first && responding.next().is_none();
        self.reports = is_first && !(is_alone && self.pending().count() > 1);
    }

    /// Returns the node whose speaker this node must report now. The caller reports the result with
    /// [`Self::handle_done`] before it calls again.
    pub fn poll_report(&self, now: Instant) -> Option<NodeName> {
        let mut pending = self.pending().filter(|_| self.reports);
        pending.find(|(_, due)| *due <= now).map(|(node, _)| node.clone())
    }

    /// Handles the result of a report. After a failure it is repeated at `retry`.
    pub fn handle_done(&mut self, node: &str, retry: Option<Instant>) {
        if let Some(silence) = self.silent.get_mut(node) {
            *silence = retry.map_or(Silence::Reported, Silence::Due);
        }
    }

    /// Returns when to call [`Self::poll_report`] again; `None` if nothing waits.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.pending().filter(|_| self.reports).map(|(_, due)| due).min()
    }

    fn pending(&self) -> impl Iterator<Item = (&NodeName, Instant)> {
        self.silent.iter().filter_map(|(node, silence)| match silence {
            Silence::Due(due) => Some((node, *due)),
            Silence::Reported => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node, which lists the Speaker objects of n1 to n4, and the simulated time in milliseconds.
    struct Bench {
        start: Instant,
        silent: SilentSpeakers,
        reported: Vec<(u64, String)>,
    }

    impl Bench {
        fn new(node: &str) -> Self {
            Self { start: Instant::now(), silent: SilentSpeakers::new(node), reported: Vec::new() }
        }

        fn at(&self, ms: u64) -> Instant {
            self.start + Duration::from_millis(ms)
        }

        /// Sets the members, of which `?n2` is doubted, and `!` means that this node is isolated.
        fn mesh(&mut self, ms: u64, members: &str) {
            let names = members.trim_start_matches('!').split_whitespace();
            let alive = names.clone().map(|name| name.trim_start_matches('?').into()).collect();
            let doubted = names.filter_map(|name| name.strip_prefix('?')).map(NodeName::from).collect();
            let members = Members { alive, doubted, isolated: members.starts_with('!') };
            let listed = ["n1", "n2", "n3", "n4"].into_iter();
            self.silent.handle_view(self.at(ms), Some(listed), Some(&members));
        }

        /// Follows the timeouts until this time.
        fn run(&mut self, until: u64) {
            while let Some(due) = self.silent.poll_timeout().filter(|due| *due <= self.at(until)) {
                let node = self.silent.poll_report(due).expect("a report is due");
                self.silent.handle_done(&node, None);
                self.reported.push(((due - self.start).as_millis() as u64, node.to_string()));
            }
        }

        #[track_caller]
        fn expect(&self, reported: &[(u64, &str)]) {
            let seen: Vec<_> = self.reported.iter().map(|(ms, node)| (*ms, node.as_str())).collect();
            assert_eq!(seen, reported);
        }
    }

    #[test]
    fn first_node_that_responds_reports_once() {
        let mut nodes = ["n1", "n2", "n4"].map(Bench::new);
        for node in &mut nodes {
            node.mesh(0, "n1 n2 n3 n4");
            node.mesh(5_000, "n1 n2 n4");
            node.run(100_000);
        }
        nodes[0].expect(&[(7_000, "n3")]);
        nodes[1].expect(&[]);
        nodes[2].expect(&[]);
        // The first node dies too. Its successor reads the object of n3 again, which is reported already.
        nodes[1].mesh(100_000, "n2 n4");
        nodes[1].run(200_000);
        nodes[1].expect(&[(7_000, "n3"), (102_000, "n1")]);
    }

    #[test]
    fn speaker_that_returns_in_time_is_not_reported() {
        let mut node = Bench::new("n1");
        node.mesh(0, "n1 n2 n3 n4");
        node.mesh(5_000, "n1 n2 n4");
        node.run(6_999);
        node.mesh(6_999, "n1 n2 n3 n4");
        node.run(60_000);
        node.expect(&[]);
        // Each end of a membership is reported.
        for start in [60_000, 70_000] {
            node.mesh(start, "n1 n2 n4");
            node.run(start + 5_000);
            node.mesh(start + 5_000, "n1 n2 n3 n4");
        }
        node.expect(&[(62_000, "n3"), (72_000, "n3")]);
    }

    #[test]
    fn speaker_that_was_never_heard_gets_more_time() {
        let mut node = Bench::new("n1");
        node.mesh(0, "n1 n2 n4");
        node.run(60_000);
        node.expect(&[(10_000, "n3")]);
    }

    #[test]
    fn isolated_node_reports_nothing() {
        let mut node = Bench::new("n1");
        node.mesh(0, "n1 n2 n3 n4");
        node.mesh(5_000, "! n1 ?n2 ?n3 ?n4");
        node.run(60_000);
        node.expect(&[]);
        // Its link returns. What is silent then has the whole time to answer.
        node.mesh(60_000, "n1 n2 n4");
        node.run(61_999);
        node.expect(&[]);
        node.run(90_000);
        node.expect(&[(62_000, "n3")]);
    }

    #[test]
    fn doubted_member_neither_reports_nor_is_reported() {
        let mut node = Bench::new("n2");
        node.mesh(0, "n1 n2 n3 n4");
        node.mesh(5_000, "?n1 n2 n4");
        node.run(60_000);
        node.expect(&[(7_000, "n3")]);
    }

    #[test]
    fn node_alone_reports_only_if_the_others_fell_silent_one_by_one() {
        let mut at_once = Bench::new("n1");
        at_once.mesh(0, "n1 n2 n3 n4");
        at_once.mesh(5_000, "n1");
        at_once.run(600_000);
        at_once.expect(&[]);
        let mut one_by_one = Bench::new("n1");
        for (start, members) in [(0, "n1 n2 n3 n4"), (5_000, "n1 n2 n3"), (10_000, "n1 n2"), (15_000, "n1")] {
            one_by_one.mesh(start, members);
            one_by_one.run(start + 5_000);
        }
        one_by_one.expect(&[(7_000, "n4"), (12_000, "n3"), (17_000, "n2")]);
    }

    #[test]
    fn failed_report_is_repeated() {
        let mut node = Bench::new("n1");
        node.mesh(0, "n1 n2 n3 n4");
        node.mesh(5_000, "n1 n2 n4");
        assert_eq!(node.silent.poll_report(node.at(7_000)).as_deref(), Some("n3"));
        let retry = node.at(8_500);
        node.silent.handle_done("n3", Some(retry));
        assert_eq!(node.silent.poll_report(node.at(8_499)), None);
        node.run(60_000);
        node.expect(&[(8_500, "n3")]);
    }

    #[test]
    fn deleted_object_is_not_reported() {
        let mut node = Bench::new("n1");
        node.mesh(0, "n1 n2 n3 n4");
        node.mesh(5_000, "n1 n2 n4");
        let members = Members { alive: ["n1".into(), "n2".into()].into(), ..Members::default() };
        node.silent.handle_view(node.at(6_000), Some(["n1", "n2"].into_iter()), Some(&members));
        assert_eq!(node.silent.poll_timeout(), None);
    }
}
