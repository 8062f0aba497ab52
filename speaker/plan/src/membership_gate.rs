//! Whether what the mesh says of the others can be acted on: not by a node that has just come, or was cut off itself.
//!
//! A node that hears nobody must not conclude that everybody else is dead. A fresh speaker would claim every address;
//! one whose cable comes back would claim what others own by then. So a node owns nothing while it has no link, and
//! after that until it has heard of all speakers there should be, or of one and, by that one, of the others that
//! live, or has listened in vain.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::NodeName;

/// How long a node listens for others when none answers.
pub const LISTEN: Duration = Duration::from_secs(2);

/// How long it takes, after the first answer, to hear of all who live. Shorter than a handover: by then they have
/// heard of this node too and are about to leave it the addresses that are its own.
pub const GATHER: Duration = Duration::from_millis(200);

/// What is known about being connected.
#[derive(Clone, Debug, Default)]
pub struct Liveness {
    mesh: Option<BTreeSet<NodeName>>,
    mesh_since: Option<Instant>,
    /// Since when there has always been another one.
    heard_since: Option<Instant>,
    linked_since: Option<Instant>,
    /// The others there should be; `None` until they were listed.
    others: Option<BTreeSet<String>>,
    settled: bool,
}

impl Liveness {
    /// These speakers live, this one included; `None` while this one takes no part in the mesh.
    pub fn set_mesh(&mut self, now: Instant, live: Option<BTreeSet<NodeName>>) {
        let heard = live.as_ref().is_some_and(|live| live.len() > 1);
        self.heard_since = heard.then(|| self.heard_since.unwrap_or(now));
        self.mesh_since = live.is_some().then(|| self.mesh_since.unwrap_or(now));
        self.settled &= live.is_some();
        self.mesh = live;
    }

    /// Whether there is a link that can carry announcements.
    pub fn set_linked(&mut self, now: Instant, linked: bool) {
        self.linked_since = linked.then(|| self.linked_since.unwrap_or(now));
        self.settled &= linked;
    }

    /// These other speakers there should be, as their objects say; `None` until they were listed.
    pub fn set_others(&mut self, others: Option<BTreeSet<String>>) {
        self.others = others;
    }

    /// Decides whether to act on what the mesh says. True when that changed to yes.
    pub fn settle(&mut self, now: Instant) -> bool {
        if self.settled || self.timeouts().is_empty() {
            return false;
        }
        let (mesh, others) = (self.mesh.iter().flatten(), self.others.iter().flatten());
        let (heard, expected): (BTreeSet<&str>, BTreeSet<&str>) =
            (mesh.map(|name| &**name).collect(), others.map(String::as_str).collect());
        let all = !expected.is_empty() && expected.is_subset(&heard);
        self.settled = all || self.timeouts().iter().any(|then| *then <= now);
        self.settled
    }

    /// The speakers among which owners are chosen; `None` while nothing may be owned.
    pub fn live(&self) -> Option<&BTreeSet<NodeName>> {
        self.mesh.as_ref().filter(|_| self.settled)
    }

    /// When [`Liveness::settle`] must be asked again.
    pub fn timeout(&self) -> Option<Instant> {
        if self.settled { None } else { self.timeouts().into_iter().min() }
    }

    /// When it goes on with those it has heard of; empty while it is not connected.
    fn timeouts(&self) -> Vec<Instant> {
        let (Some(link), Some(mesh), Some(others)) = (self.linked_since, self.mesh_since, &self.others)
        else {
            return Vec::new();
        };
        // In a cluster that starts, others that nobody has listed yet come at the same time.
        let listen = if others.is_empty() { GATHER } else { LISTEN };
        let gathered = self.heard_since.map(|heard| heard + GATHER);
        gathered.into_iter().chain([link.max(mesh) + listen]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Option<BTreeSet<NodeName>> {
        Some(text.split(' ').map(NodeName::from).collect())
    }

    /// n1, where n2 and n3 should be, too.
    struct Node {
        start: Instant,
        liveness: Liveness,
    }

    impl Node {
        fn new() -> Self {
            let mut liveness = Liveness::default();
            liveness.set_others(Some(["n2".to_owned(), "n3".to_owned()].into()));
            Self { start: Instant::now(), liveness }
        }

        fn at(&self, ms: u64) -> Instant {
            self.start + Duration::from_millis(ms)
        }

        fn linked(&mut self, ms: u64, linked: bool) {
            self.liveness.set_linked(self.at(ms), linked);
        }

        fn mesh(&mut self, ms: u64, live: &str) {
            self.liveness.set_mesh(self.at(ms), names(live));
        }

        /// Among whom owners are chosen.
        fn live(&mut self, ms: u64) -> String {
            self.liveness.settle(self.at(ms));
            let live = self.liveness.live().into_iter().flatten();
            live.map(|name| name.to_string()).collect::<Vec<_>>().join(" ")
        }

        fn timeout(&self) -> Option<u128> {
            self.liveness.timeout().map(|then| (then - self.start).as_millis())
        }
    }

    #[test]
    fn a_fresh_node_waits_for_all_or_gathers_or_listens_in_vain() {
        let fresh = || {
            let mut node = Node::new();
            assert_eq!((node.live(0), node.timeout()), (String::new(), None));
            node.linked(0, true);
            node.mesh(100, "n1");
            assert_eq!((node.live(100), node.timeout()), (String::new(), Some(2100)));
            node
        };
        let mut node = fresh();
        node.mesh(110, "n1 n2 n3");
        assert_eq!((node.live(110), node.timeout()), ("n1 n2 n3".to_owned(), None));
        let mut node = fresh();
        node.mesh(110, "n1 n2");
        assert_eq!((node.live(110), node.timeout()), (String::new(), Some(310)));
        assert_eq!(node.live(310), "n1 n2");
        let mut node = fresh();
        assert_eq!(node.live(2099), "");
        assert_eq!(node.live(2100), "n1");
    }

    #[test]
    fn what_was_settled_stays_so_when_the_others_die() {
        let mut node = Node::new();
        node.linked(0, true);
        node.mesh(0, "n1 n2 n3");
        assert_eq!(node.live(0), "n1 n2 n3");
        node.mesh(9_000, "n1");
        assert_eq!((node.live(9_000), node.timeout()), ("n1".to_owned(), None));
    }

    #[test]
    fn a_node_that_was_cut_off_listens_before_it_claims() {
        let mut node = Node::new();
        node.linked(0, true);
        node.mesh(0, "n1 n2 n3");
        assert_eq!(node.live(0), "n1 n2 n3");
        node.linked(5_000, false);
        assert_eq!((node.live(5_000), node.timeout()), (String::new(), None));
        node.mesh(5_700, "n1");
        assert_eq!((node.live(60_000), node.timeout()), (String::new(), None));
        node.linked(60_000, true);
        assert_eq!((node.live(60_000), node.timeout()), (String::new(), Some(62_000)));
        node.mesh(60_300, "n1 n2");
        assert_eq!((node.live(60_300), node.timeout()), (String::new(), Some(60_500)));
        node.mesh(60_310, "n1 n2 n3");
        assert_eq!(node.live(60_310), "n1 n2 n3");
    }

    #[test]
    fn after_a_short_flap_it_goes_on_at_once_even_when_one_is_missing() {
        let mut node = Node::new();
        node.linked(0, true);
        node.mesh(0, "n1 n2");
        assert_eq!(node.live(200), "n1 n2");
        node.linked(5_000, false);
        assert_eq!(node.live(5_000), "");
        node.linked(5_100, true);
        assert_eq!(node.live(5_100), "n1 n2");
    }

    #[test]
    fn one_that_starts_when_no_others_are_listed_gathers_those_that_start_with_it() {
        let mut node = Node::new();
        node.liveness.set_others(None);
        node.linked(0, true);
        node.mesh(0, "n1");
        assert_eq!((node.live(9_000), node.timeout()), (String::new(), None), "others were not listed yet");
        node.liveness.set_others(Some(BTreeSet::new()));
        assert_eq!(node.timeout(), Some(200));
        node.mesh(150, "n1 n2");
        assert_eq!(node.live(199), "");
        assert_eq!(node.live(200), "n1 n2");
    }
}
