//! Whether what the mesh says of the others can be acted on: not by a node that was cut off itself.
//!
//! A node without a link hears nobody, and must not conclude that everybody else is dead: when its cable comes back it
//! would claim addresses that others own by then. So it owns nothing while it has no link, and after that until it
//! has heard of another speaker, or waited for one in vain.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::plan::NodeName;

/// How long a node whose link came back listens for the others; the mesh heals faster.
pub const LISTEN: Duration = Duration::from_secs(2);

/// What is known about being connected.
#[derive(Clone, Debug, Default)]
pub struct Liveness {
    mesh: Option<BTreeSet<NodeName>>,
    others: bool,
    linked_since: Option<Instant>,
}

impl Liveness {
    /// These speakers live, this one included; `None` until the mesh has settled.
    pub fn set_mesh(&mut self, live: Option<BTreeSet<NodeName>>) {
        self.mesh = live;
    }

    /// Whether there should be other speakers.
    pub fn set_others(&mut self, expected: bool) {
        self.others = expected;
    }

    /// Whether there is a link that can carry announcements.
    pub fn set_linked(&mut self, now: Instant, linked: bool) {
        if linked != self.linked_since.is_some() {
            self.linked_since = linked.then_some(now);
        }
    }

    /// The speakers among which owners are chosen; `None` while nothing may be owned.
    pub fn live(&self, now: Instant) -> Option<&BTreeSet<NodeName>> {
        let mesh = self.mesh.as_ref()?;
        let heard = mesh.len() > 1 || !self.others;
        (heard && self.linked_since.is_some() || self.listened(now)).then_some(mesh)
    }

    /// When the answer may change by itself.
    pub fn timeout(&self, now: Instant) -> Option<Instant> {
        let since = self.linked_since.filter(|_| self.mesh.is_some() && self.live(now).is_none())?;
        Some(since + LISTEN)
    }

    fn listened(&self, now: Instant) -> bool {
        self.linked_since.is_some_and(|since| now >= since + LISTEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Option<BTreeSet<NodeName>> {
        Some(text.split(' ').map(NodeName::from).collect())
    }

    /// n1 among others: what happens, and among whom owners are chosen after it.
    #[test]
    fn a_node_that_was_cut_off_listens_before_it_claims() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut node = Liveness::default();
        node.set_others(true);
        node.set_linked(at(0), true);
        assert_eq!(node.live(at(0)), None, "the mesh has not settled");
        node.set_mesh(names("n1 n2"));
        assert_eq!(node.live(at(100)), names("n1 n2").as_ref());

        node.set_linked(at(5_000), false);
        assert_eq!(node.live(at(5_000)), None, "the cable is cut");
        node.set_mesh(names("n1"));
        assert_eq!((node.live(at(60_000)), node.timeout(at(60_000))), (None, None));

        node.set_linked(at(60_000), true);
        assert_eq!((node.live(at(60_000)), node.timeout(at(60_000))), (None, Some(at(62_000))));
        node.set_mesh(names("n1 n2"));
        assert_eq!(node.live(at(60_100)), names("n1 n2").as_ref(), "it hears another");
        assert_eq!(node.timeout(at(60_100)), None);
    }

    #[test]
    fn when_nobody_answers_it_claims_in_the_end() {
        let start = Instant::now();
        let mut node = Liveness::default();
        node.set_others(true);
        node.set_mesh(names("n1"));
        node.set_linked(start, true);
        assert_eq!(node.live(start), None);
        assert_eq!(node.live(start + LISTEN), names("n1").as_ref());
        // Those that die later are believed dead: the link was there all the time.
        node.set_mesh(names("n1 n2"));
        node.set_mesh(names("n1"));
        assert_eq!(node.live(start + LISTEN), names("n1").as_ref());
    }

    #[test]
    fn a_short_flap_does_not_wait_and_a_lone_speaker_never_does() {
        let start = Instant::now();
        let mut node = Liveness::default();
        node.set_others(true);
        node.set_mesh(names("n1 n2"));
        node.set_linked(start, false);
        node.set_linked(start, true);
        assert_eq!(node.live(start), names("n1 n2").as_ref());
        let mut lone = Liveness::default();
        lone.set_mesh(names("n1"));
        lone.set_linked(start, true);
        assert_eq!(lone.live(start), names("n1").as_ref());
    }
}
