//! When this node may act on the mesh's view of the other speakers.
//!
//! A node that receives nothing from the others must not conclude that they are dead. A fresh speaker would
//! claim every address, and a node whose cable is plugged in again would claim addresses that others own by
//! then. The gate is therefore closed while the node has no link or takes no part in the mesh. It opens when
//! the mesh lists all expected speakers, or [`GATHER_TIME`] after it lists the first one, or [`LISTEN_TIME`]
//! after the node was connected. While it is closed, the node owns no address. It does not open while the
//! mesh reports that this node is isolated. An open gate stays open then: the mesh goes on listing the
//! members that it doubts, so the node keeps its addresses, and [`MembershipGate::may_claim`] forbids others.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::NodeName;

/// Time for which a node waits for other speakers when none answers.
pub const LISTEN_TIME: Duration = Duration::from_secs(2);

/// Time from the first answer until the mesh lists all live speakers. It is shorter than a handover: by then
/// the others list this node too, and hand over the addresses that it is to own.
pub const GATHER_TIME: Duration = Duration::from_millis(200);

/// The members of the mesh.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// Nodes whose speakers are alive, this one included.
    pub alive: BTreeSet<NodeName>,
    /// Those of `alive` that do not answer, where the cause may be this node.
    pub doubted: BTreeSet<NodeName>,
    /// No other speaker answers, and it is not known that they are dead.
    pub isolated: bool,
}

/// Passes on the members of the mesh once this node may act on them.
#[derive(Clone, Debug, Default)]
pub struct MembershipGate {
    members: Option<Members>,
    /// Since when this node has taken part in the mesh without being isolated.
    mesh_since: Option<Instant>,
    /// Since when the mesh has always listed another speaker.
    others_since: Option<Instant>,
    link_since: Option<Instant>,
    /// Names of the other speakers; `None` until they were listed.
    expected: Option<BTreeSet<String>>,
    open: bool,
}

impl MembershipGate {
    /// Replaces the live members, this node included; `None` while it takes no part in the mesh.
    pub fn handle_members(&mut self, now: Instant, members: Option<Members>) {
        let others = members.as_ref().is_some_and(|members| members.alive.len() > 1 + members.doubted.len());
        self.others_since = others.then(|| self.others_since.unwrap_or(now));
        let settled = members.as_ref().is_some_and(|members| !members.isolated);
        self.mesh_since = settled.then(|| self.mesh_since.unwrap_or(now));
        self.open &= members.is_some();
        self.members = members;
    }

    /// Notes whether the interface that holds the address of the mesh is up.
    pub fn handle_link(&mut self, now: Instant, up: bool) {
        self.link_since = up.then(|| self.link_since.unwrap_or(now));
        self.open &= up;
    }

    /// Replaces the names of the other speakers that have a `Speaker` object; `None` until they were listed.
    pub fn handle_expected(&mut self, expected: Option<BTreeSet<String>>) {
        self.expected = expected;
    }

    /// Opens the gate if it is time. Returns true if it opened.
    pub fn handle_timeout(&mut self, now: Instant) -> bool {
        if self.open || self.deadlines().is_empty() {
            return false;
        }
        let answering = self.members.iter().flat_map(|members| members.alive.difference(&members.doubted));
        let answering: BTreeSet<&str> = answering.map(|name| &**name).collect();
        let expected: BTreeSet<&str> = self.expected.iter().flatten().map(String::as_str).collect();
        let complete = !expected.is_empty() && expected.is_subset(&answering);
        self.open = complete || self.deadlines().iter().any(|then| *then <= now);
        self.open
    }

    /// Returns the members among which owners are elected; `None` while the gate is closed.
    pub fn members(&self) -> Option<&BTreeSet<NodeName>> {
        self.members.as_ref().filter(|_| self.open).map(|members| &members.alive)
    }

    /// Returns false if this node may announce only the addresses that it announces already, because it is
    /// isolated: others may own the rest.
    pub fn may_claim(&self) -> bool {
        self.members.as_ref().is_none_or(|members| !members.isolated)
    }

    /// Returns when to call [`Self::handle_timeout`] again.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.open { None } else { self.deadlines().into_iter().min() }
    }

    /// Returns when the gate opens without all expected speakers; empty while this node is not connected or
    /// is isolated.
    fn deadlines(&self) -> Vec<Instant> {
        if !self.may_claim() {
            return Vec::new();
        }
        let (Some(link), Some(mesh), Some(expected)) = (self.link_since, self.mesh_since, &self.expected)
        else {
            return Vec::new();
        };
        // In a cluster that starts, speakers without an object yet start at the same time.
        let listen = if expected.is_empty() { GATHER_TIME } else { LISTEN_TIME };
        let gathered = self.others_since.map(|since| since + GATHER_TIME);
        gathered.into_iter().chain([link.max(mesh) + listen]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Members in the order of the text; `?n2` is a doubted one.
    fn names(text: &str, isolated: bool) -> Option<Members> {
        let alive = text.split(' ').map(|name| name.trim_start_matches('?').into()).collect();
        let doubted = text.split(' ').filter_map(|name| name.strip_prefix('?')).map(NodeName::from).collect();
        Some(Members { alive, doubted, isolated })
    }

    /// The gate of n1, which expects n2 and n3.
    struct Node {
        start: Instant,
        gate: MembershipGate,
    }

    impl Node {
        fn new() -> Self {
            let mut gate = MembershipGate::default();
            gate.handle_expected(Some(["n2".to_owned(), "n3".to_owned()].into()));
            Self { start: Instant::now(), gate }
        }

        fn at(&self, ms: u64) -> Instant {
            self.start + Duration::from_millis(ms)
        }

        fn link(&mut self, ms: u64, up: bool) {
            self.gate.handle_link(self.at(ms), up);
        }

        fn mesh(&mut self, ms: u64, members: &str) {
            self.gate.handle_members(self.at(ms), names(members, false));
        }

        fn isolated(&mut self, ms: u64, members: &str) {
            self.gate.handle_members(self.at(ms), names(members, true));
        }

        /// The members among which owners are elected at this time.
        fn members(&mut self, ms: u64) -> String {
            self.gate.handle_timeout(self.at(ms));
            let members = self.gate.members().into_iter().flatten();
            members.map(|name| name.to_string()).collect::<Vec<_>>().join(" ")
        }

        fn timeout(&self) -> Option<u128> {
            self.gate.poll_timeout().map(|then| (then - self.start).as_millis())
        }
    }

    #[test]
    fn fresh_node_waits_for_all_or_for_a_deadline() {
        let fresh = || {
            let mut node = Node::new();
            assert_eq!((node.members(0), node.timeout()), (String::new(), None));
            node.link(0, true);
            node.mesh(100, "n1");
            assert_eq!((node.members(100), node.timeout()), (String::new(), Some(2100)));
            node
        };
        let mut node = fresh();
        node.mesh(110, "n1 n2 n3");
        assert_eq!((node.members(110), node.timeout()), ("n1 n2 n3".to_owned(), None));
        let mut node = fresh();
        node.mesh(110, "n1 n2");
        assert_eq!((node.members(110), node.timeout()), (String::new(), Some(310)));
        assert_eq!(node.members(310), "n1 n2");
        let mut node = fresh();
        assert_eq!(node.members(2099), "");
        assert_eq!(node.members(2100), "n1");
    }

    #[test]
    fn open_gate_stays_open_when_others_die() {
        let mut node = Node::new();
        node.link(0, true);
        node.mesh(0, "n1 n2 n3");
        assert_eq!(node.members(0), "n1 n2 n3");
        node.mesh(9_000, "n1");
        assert_eq!((node.members(9_000), node.timeout()), ("n1".to_owned(), None));
    }

    #[test]
    fn node_without_link_listens_again_when_link_returns() {
        let mut node = Node::new();
        node.link(0, true);
        node.mesh(0, "n1 n2 n3");
        assert_eq!(node.members(0), "n1 n2 n3");
        node.link(5_000, false);
        assert_eq!((node.members(5_000), node.timeout()), (String::new(), None));
        node.mesh(5_700, "n1");
        assert_eq!((node.members(60_000), node.timeout()), (String::new(), None));
        node.link(60_000, true);
        assert_eq!((node.members(60_000), node.timeout()), (String::new(), Some(62_000)));
        node.mesh(60_300, "n1 n2");
        assert_eq!((node.members(60_300), node.timeout()), (String::new(), Some(60_500)));
        node.mesh(60_310, "n1 n2 n3");
        assert_eq!(node.members(60_310), "n1 n2 n3");
    }

    #[test]
    fn isolated_node_keeps_members_and_claims_nothing() {
        let mut node = Node::new();
        node.link(0, true);
        node.mesh(0, "n1 n2 n3");
        assert_eq!((node.members(0).as_str(), node.gate.may_claim()), ("n1 n2 n3", true));
        node.isolated(9_000, "n1 ?n2 ?n3");
        assert_eq!((node.members(9_000).as_str(), node.gate.may_claim()), ("n1 n2 n3", false));
        assert_eq!(node.timeout(), None);
        node.mesh(15_000, "n1");
        assert_eq!(
            (node.members(15_000).as_str(), node.gate.may_claim()),
            ("n1", true),
            "the others are dead"
        );
    }

    #[test]
    fn isolated_node_never_opens_closed_gate() {
        let mut node = Node::new();
        node.link(0, true);
        node.isolated(0, "n1");
        assert_eq!((node.members(60_000), node.timeout()), (String::new(), None));
        node.mesh(60_000, "n1 n2");
        assert_eq!((node.members(60_199), node.timeout()), (String::new(), Some(60_200)));
        assert_eq!(node.members(60_200), "n1 n2");
    }

    #[test]
    fn returning_node_waits_for_doubted_members() {
        let mut node = Node::new();
        node.link(0, true);
        node.mesh(0, "n1 n2 n3");
        assert_eq!(node.members(0), "n1 n2 n3");
        node.link(5_000, false);
        node.isolated(5_700, "n1 ?n2 ?n3");
        node.link(60_000, true);
        assert_eq!((node.members(70_000), node.timeout()), (String::new(), None));
        node.mesh(70_000, "n1 n2 ?n3");
        assert_eq!((node.members(70_199), node.timeout()), (String::new(), Some(70_200)));
        node.mesh(70_050, "n1 n2 n3");
        assert_eq!(node.members(70_050), "n1 n2 n3");
    }

    #[test]
    fn short_link_flap_reopens_at_once_with_one_missing() {
        let mut node = Node::new();
        node.link(0, true);
        node.mesh(0, "n1 n2");
        assert_eq!(node.members(200), "n1 n2");
        node.link(5_000, false);
        assert_eq!(node.members(5_000), "");
        node.link(5_100, true);
        assert_eq!(node.members(5_100), "n1 n2");
    }

    #[test]
    fn first_node_gathers_those_that_start_with_it() {
        let mut node = Node::new();
        node.gate.handle_expected(None);
        node.link(0, true);
        node.mesh(0, "n1");
        assert_eq!(
            (node.members(9_000), node.timeout()),
            (String::new(), None),
            "speakers are not listed yet"
        );
        node.gate.handle_expected(Some(BTreeSet::new()));
        assert_eq!(node.timeout(), Some(200));
        node.mesh(150, "n1 n2");
        assert_eq!(node.members(199), "");
        assert_eq!(node.members(200), "n1 n2");
    }
}
