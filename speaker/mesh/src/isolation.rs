//! [`Isolation`]: whether silence is the death of other speakers or the isolation of this node.
//!
//! SWIM takes a member that does not answer for dead. A node that is cut off would therefore consider all
//! others dead and take over every address. If only its incoming frames are lost, it would be heard, and
//! would take addresses from owners that are well. So a death that this node detected itself is doubted while
//! no member answers this node: the fault is more likely its own.
//!
//! A doubted member stays a member. When others have answered for [`SETTLE_TIME`], the doubt ends: the member
//! has answered too, or it is dead. When none is left that answers, this node is isolated, until evidence
//! from outside the mesh ([`Evidence`]) shows that the others are dead. What other members report, and the
//! leave message of a speaker, are never doubted.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Without an answer of any member for this time, this node doubts the deaths that it detects. If nobody
/// answers, 600 ms pass from the last answer to the first death that it detects. While one member of three
/// answers, its answers are at most 450 ms apart: it is probed at least in every third period.
const QUIET_TIME: Duration = Duration::from_millis(520);

/// Time after which a doubt ends while other members answer. Longer than the announce period, so that every
/// live speaker has been heard by then.
const SETTLE_TIME: Duration = Duration::from_millis(600);

/// A speaker whose node cannot be asked counts as alive for this time after a datagram from its address,
/// authentic or not. Three announce periods.
const SIGN_TIME: Duration = Duration::from_millis(1_500);

/// Time for which a refusal counts: the kernel of a node sends one a second.
const REFUSAL_TIME: Duration = Duration::from_secs(3);

/// Time before a speaker that starts asks for evidence: speakers that answer need less.
const FIRST_INQUIRY: Duration = Duration::from_millis(500);

/// Time between two inquiries of an isolated node.
const INQUIRY_INTERVAL: Duration = Duration::from_secs(1);

/// Time for which evidence counts that was sought before this node was isolated, from the request for it.
const EARLY_TIME: Duration = Duration::from_millis(400);

/// What an isolated node learned on its link, beside the mesh: which hosts answered ARP or neighbor
/// discovery.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Another host answered: frames of this node leave, and frames of others arrive.
    pub link: bool,
    /// Nodes whose kernel answered.
    pub present: BTreeSet<String>,
    /// Nodes on this link that were asked and did not answer.
    pub absent: BTreeSet<String>,
}

/// Why a node is isolated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IsolationCause {
    /// Not examined yet.
    Unknown,
    /// No host on the link answers.
    NothingAnswers,
    /// Other nodes are alive, but their speakers and this one do not hear each other: another key, a blocked
    /// port, or frames that are lost in one direction.
    OthersAlive,
}

/// The doubts of one node, and the evidence for and against them.
pub(crate) struct Isolation {
    /// When another speaker last answered a datagram of this one.
    answered: Instant,
    /// When a datagram from the address of each listed speaker last arrived.
    signs: BTreeMap<String, Instant>,
    /// When the kernel of each listed speaker's node last reported that no process listens on the port of the
    /// mesh.
    refusals: BTreeMap<String, Instant>,
    doubted: BTreeSet<String>,
    /// When the doubts end while others answer.
    settled: Option<Instant>,
    /// The others are dead: this node may act alone.
    proven: bool,
    cause: IsolationCause,
    next_inquiry: Option<Instant>,
    /// When evidence was last sought because all members may become silent.
    early: Option<Instant>,
    /// Evidence that came before this node was isolated.
    evidence: Option<Evidence>,
}

impl Isolation {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            answered: now,
            signs: BTreeMap::new(),
            refusals: BTreeMap::new(),
            doubted: BTreeSet::new(),
            settled: None,
            proven: false,
            cause: IsolationCause::Unknown,
            next_inquiry: None,
            early: None,
            evidence: None,
        }
    }

    /// Forgets speakers that are no longer listed.
    pub(crate) fn retain_listed(&mut self, listed: &BTreeMap<String, std::net::SocketAddr>) {
        self.signs.retain(|node, _| listed.contains_key(node));
        self.refusals.retain(|node, _| listed.contains_key(node));
    }

    /// Notes that another speaker has answered a datagram of this one.
    pub(crate) fn handle_answer(&mut self, now: Instant) {
        self.answered = now;
    }

    /// Notes any datagram from the address of a listed speaker.
    pub(crate) fn handle_sign(&mut self, now: Instant, node: &str) {
        self.refusals.remove(node);
        match self.signs.get_mut(node) {
            Some(last) => *last = now,
            None => drop(self.signs.insert(node.to_owned(), now)),
        }
    }

    /// Notes that the kernel of a listed speaker's node refused a datagram.
    pub(crate) fn handle_refusal(&mut self, now: Instant, node: &str) {
        self.refusals.insert(node.to_owned(), now);
    }

    /// Notes that the process was stalled for this time, in which it could not read datagrams.
    pub(crate) fn handle_stall(&mut self, now: Instant, stall: Duration) {
        self.answered = (self.answered + stall).min(now);
        self.signs.values_mut().for_each(|last| *last = (*last + stall).min(now));
    }

    /// Doubts the death of a member, which stays a member.
    pub(crate) fn doubt(&mut self, now: Instant, node: &str) {
        self.doubted.insert(node.to_owned());
        self.settled = Some(now + SETTLE_TIME);
    }

    /// Notes that a speaker is a member and answers. Returns true if it was doubted.
    pub(crate) fn handle_up(&mut self, now: Instant, node: &str) -> bool {
        self.proven = false;
        let doubted = self.doubted.remove(node);
        // The others need the same time to answer, from now on.
        self.settled = (!self.doubted.is_empty()).then_some(now + SETTLE_TIME);
        doubted
    }

    /// Notes that a member is dead beyond doubt, or left.
    pub(crate) fn handle_down(&mut self, node: &str) {
        self.doubted.remove(node);
    }

    /// Notes that the last member that answered has announced that it leaves: no member fell silent, so this
    /// node may act alone.
    pub(crate) fn handle_last_leave(&mut self) {
        self.proven = self.doubted.is_empty();
    }

    pub(crate) fn doubted(&self) -> &BTreeSet<String> {
        &self.doubted
    }

    /// Returns the doubted members that are dead, now that others have answered for a while. `connected` is
    /// true if there is a member that answers.
    pub(crate) fn handle_timeout(&mut self, now: Instant, connected: bool) -> Vec<String> {
        if !connected || self.settled.is_none_or(|settled| now < settled) {
            return Vec::new();
        }
        if self.is_quiet(now) {
            self.settled = Some(now + SETTLE_TIME);
            return Vec::new();
        }
        self.settled = None;
        self.doubted.iter().cloned().collect()
    }

    /// Returns why this node may not act as if it were the only one; `None` if a member answers, no other
    /// speaker is known, or the others are dead.
    pub(crate) fn cause(&self, connected: bool, others_known: bool) -> Option<IsolationCause> {
        (!connected && others_known && !self.proven).then_some(self.cause)
    }

    /// Schedules the inquiries of an isolated node. Returns true if evidence is needed now.
    pub(crate) fn inquires(&mut self, now: Instant, isolated: bool) -> bool {
        if !isolated {
            self.next_inquiry = None;
            self.cause = IsolationCause::Unknown;
            return false;
        }
        let first = match self.early {
            Some(early) if now < early + EARLY_TIME => early + INQUIRY_INTERVAL,
            _ if self.doubted.is_empty() => now + FIRST_INQUIRY,
            _ => now,
        };
        let due = *self.next_inquiry.get_or_insert(first) <= now;
        if due {
            self.next_inquiry = Some(now + INQUIRY_INTERVAL);
        }
        due
    }

    /// Returns true if evidence should be sought already, because no member answers at the moment.
    pub(crate) fn inquires_early(&mut self, now: Instant) -> bool {
        let due = self.early.is_none_or(|early| now >= early + INQUIRY_INTERVAL);
        if due {
            self.early = Some(now);
            self.evidence = None;
        }
        due
    }

    /// Keeps evidence that came before this node was isolated.
    pub(crate) fn keep_evidence(&mut self, now: Instant, evidence: Evidence) {
        self.evidence = self.early.filter(|early| now < *early + EARLY_TIME).map(|_| evidence);
    }

    /// Takes the evidence that is kept, if it is new enough.
    pub(crate) fn take_evidence(&mut self, now: Instant) -> Option<Evidence> {
        let evidence = self.evidence.take()?;
        self.early.is_some_and(|early| now < early + EARLY_TIME).then_some(evidence)
    }

    /// Decides on evidence. `known` are all other speakers, listed or doubted. Returns true if they are dead.
    pub(crate) fn handle_evidence<'a>(
        &mut self,
        now: Instant,
        known: impl IntoIterator<Item = &'a String>,
        evidence: &Evidence,
    ) -> bool {
        let (mut alive, mut signs, mut refusals) = (false, false, false);
        for node in known {
            let sign = self.has_sign(now, node);
            let refusal = self.refusals.get(node).is_some_and(|last| now < *last + REFUSAL_TIME);
            signs |= sign;
            refusals |= refusal;
            // A node that does not answer on a link that works is dead even if its datagrams arrive: it hears
            // nobody.
            alive |= if refusal || evidence.absent.contains(node) {
                false
            } else {
                evidence.present.contains(node) || sign
            };
        }
        let link = evidence.link || !evidence.present.is_empty() || refusals;
        self.proven = link && !alive;
        self.cause = match alive || signs {
            true => IsolationCause::OthersAlive,
            false => IsolationCause::NothingAnswers,
        };
        self.proven
    }

    /// Returns when to call the methods that take the time again.
    pub(crate) fn next_timeout(&self, connected: bool) -> Option<Instant> {
        [self.settled.filter(|_| connected), self.next_inquiry].into_iter().flatten().min()
    }

    /// Returns true if no member has answered for so long that a death which this node detects itself is
    /// doubtful.
    pub(crate) fn is_quiet(&self, now: Instant) -> bool {
        now >= self.answered + QUIET_TIME
    }

    fn has_sign(&self, now: Instant, node: &str) -> bool {
        self.signs.get(node).is_some_and(|last| now < *last + SIGN_TIME)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn evidence_decides_whether_others_are_dead() {
        use IsolationCause::{NothingAnswers, OthersAlive};
        // Whether another host answers; nodes that answer; nodes that do not; nodes whose port is closed;
        // nodes from which datagrams arrive.
        type Nodes = &'static [&'static str];
        type Row = (bool, Nodes, Nodes, Nodes, Nodes);
        let table: [(&str, Row, Option<IsolationCause>); 11] = [
            ("nothing answers", (false, &[], &["n2", "n3"], &[], &[]), Some(NothingAnswers)),
            ("another host answers", (true, &[], &["n2", "n3"], &[], &[]), None),
            ("one node answers", (true, &["n2"], &["n3"], &[], &[]), Some(OthersAlive)),
            ("all nodes answer", (false, &["n2", "n3"], &[], &[], &[]), Some(OthersAlive)),
            ("one port is closed, one node is silent", (false, &["n2"], &["n3"], &["n2"], &[]), None),
            (
                "one port is closed, one node answers",
                (true, &["n2", "n3"], &[], &["n2"], &[]),
                Some(OthersAlive),
            ),
            ("own frames are lost", (false, &[], &["n2", "n3"], &[], &["n3"]), Some(OthersAlive)),
            ("the other hears no node", (true, &[], &["n2", "n3"], &[], &["n3"]), None),
            ("behind a router, silent", (true, &[], &[], &[], &[]), None),
            ("behind a router, heard", (true, &[], &["n2"], &[], &["n3"]), Some(OthersAlive)),
            ("behind a router, ports closed", (false, &[], &[], &["n2", "n3"], &[]), None),
        ];
        for (name, (link, present, absent, refused, heard), expected) in table {
            let now = Instant::now();
            let mut isolation = Isolation::new(now);
            heard.iter().for_each(|node| isolation.handle_sign(now, node));
            refused.iter().for_each(|node| isolation.handle_refusal(now, node));
            let evidence = Evidence { link, present: names(present), absent: names(absent) };
            let now = now + Duration::from_secs(1);
            let dead = isolation.handle_evidence(now, &names(&["n2", "n3"]), &evidence);
            assert_eq!((dead, isolation.cause(false, true)), (expected.is_none(), expected), "{name}");
        }
    }

    #[test]
    fn sign_of_life_expires() {
        let start = Instant::now();
        let mut isolation = Isolation::new(start);
        isolation.handle_sign(start, "n2");
        let evidence = Evidence { link: true, ..Evidence::default() };
        for (ms, dead) in [(1_499, false), (1_500, true)] {
            let now = start + Duration::from_millis(ms);
            assert_eq!(isolation.handle_evidence(now, &names(&["n2"]), &evidence), dead, "after {ms} ms");
        }
    }

    #[test]
    fn node_without_other_speakers_is_not_isolated() {
        let isolation = Isolation::new(Instant::now());
        for (connected, others_known, isolated) in
            [(false, false, false), (true, false, false), (true, true, false), (false, true, true)]
        {
            assert_eq!(isolation.cause(connected, others_known).is_some(), isolated);
        }
    }
}
