//! The status of the `Speaker` object of this node.

use std::collections::BTreeMap;
use std::sync::Arc;

use fairlead_bgp::Family;
use fairlead_crds::conditions::{NewCondition, RawCondition};
use fairlead_crds::model::address_list::AddressList;
use fairlead_crds::names::{ADDRESS_CONFLICT, DRAINED, ELIGIBLE, READY, reasons};
use fairlead_crds::text;
use fairlead_crds::v1beta1::{
    Announced, BFDSession, L2Conflict, L2Interface, L2Status, MAX_CONFLICTS, MAX_NOT_ANNOUNCED,
    NegotiatedSession, NotAnnounced, Session, SessionFamily, SessionNotification, SpeakerStatus,
};
use fairlead_l2::{ServedFamilies, ServedInterfaces};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::announced_lists::AnnouncedList;
use crate::conflicts::{AddressConflict, mac_text};
use crate::{DrainCause, DrainPhase, NotAnnouncedReason, Plan};

/// Maximum number of sessions in the status: the bound in the schema.
const MAX_SESSIONS: usize = 256;
/// Maximum number of messages of a session: the bound in the schema.
const MAX_MESSAGES: usize = 8;

/// Maximum length of an error text, in bytes. The text comes from a peer or from the kernel.
const MAX_ERROR_BYTES: usize = 256;

/// Address families, as Kubernetes names them.
const IPV4: &str = "IPv4";
const IPV6: &str = "IPv6";

/// The part of the status that follows from the plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// True once this speaker has seen the whole configuration and acts on it.
    pub ready: bool,
    /// Reason for which this node announces nothing at all; `None` if it is eligible.
    pub node: Option<NotAnnouncedReason>,
    /// Why this node is being drained, and how far that is; `None` if it is not.
    pub drain: Option<(DrainCause, DrainPhase)>,
    /// Number of addresses announced by L2.
    pub l2: usize,
    /// Number of prefixes announced by BGP.
    pub bgp: usize,
    /// The announced addresses.
    pub announced: Arc<AnnouncedList>,
    /// Addresses that this node should announce and does not, at most [`MAX_NOT_ANNOUNCED`].
    pub not_announced: Vec<NotAnnounced>,
    /// Number of such addresses, including those that are not listed.
    pub not_announced_count: usize,
    /// Conflicts about addresses of this node, at most [`MAX_CONFLICTS`].
    pub conflicts: Vec<AddressConflict>,
    /// Number of such conflicts, including those that are not listed.
    pub conflict_count: usize,
    /// How failures of other nodes are detected; `None` without L2.
    pub l2_detection: Option<&'static str>,
    /// The interfaces on which this node can announce by L2; `None` before they are known.
    pub l2_interfaces: Option<Vec<L2Interface>>,
}

impl Summary {
    /// Summarizes a plan, of which `announced` lists the announced addresses.
    pub fn new(plan: &Plan, announced: Arc<AnnouncedList>, ready: bool) -> Self {
        let problems = plan.problems();
        let not_announced_count = problems.len();
        let not_announced = problems.take(MAX_NOT_ANNOUNCED).map(|problem| NotAnnounced {
            service: problem.service.to_string(),
            address: problem.address.to_string(),
            protocol: problem.protocol.map(|protocol| protocol.to_string()),
            reason: problem.reason.to_string(),
            message: match plan.conflicts().get(problem.address) {
                Some(conflict) if problem.reason == NotAnnouncedReason::AddressInUse => {
                    format!("{}; it is {conflict}", problem.reason.message())
                }
                _ => problem.reason.message().to_owned(),
            },
        });
        Self {
            ready,
            node: plan.node_reason(),
            drain: plan.drain_cause().map(|cause| (cause, plan.drain_phase())),
            l2: announced.l2_count,
            bgp: announced.bgp_count,
            announced,
            not_announced: not_announced.collect(),
            not_announced_count,
            conflicts: plan.conflicts().iter().take(MAX_CONFLICTS).cloned().collect(),
            conflict_count: plan.conflicts().iter().len(),
            l2_detection: None,
            l2_interfaces: plan.own_interfaces().map(interfaces),
        }
    }
}

/// A BGP session as the status shows it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SessionView {
    /// Address of the peer, or the interface it is on.
    pub address: String,
    /// Description of the BGPPeer; empty if it has none.
    pub description: String,
    /// State by its name in RFC 4271. A session that keeps trying to connect is always `Active`: otherwise,
    /// each attempt would cause writes of the object.
    pub state: &'static str,
    /// What the session waits for.
    pub phase: SessionPhase,
    /// Time since which the session has been established, or has not been.
    pub since: Option<Timestamp>,
    /// Reason for which the session is not established.
    pub last_error: Option<Series>,
    /// Consecutive failed attempts.
    pub attempts: u64,
    /// Losses of the established session.
    pub flaps: u64,
    /// What both sides agreed on; `None` unless the session is established.
    pub negotiated: Option<NegotiatedSession>,
    /// Routes of each negotiated family. Empty unless the session is established.
    pub families: Vec<SessionFamily>,
    /// The last NOTIFICATION sent.
    pub notification_sent: Option<Series>,
    /// The last NOTIFICATION received.
    pub notification_received: Option<Series>,
    /// The BFD session with the peer. Its `lateness` is the exact count.
    pub bfd: Option<BFDSession>,
    /// Problems of the session: at most one line for each feature and address family.
    pub messages: Vec<String>,
}

/// What a session waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SessionPhase {
    /// The configuration of the peer does not permit a session.
    Stopped,
    /// The BGPPeer is shut down.
    Shutdown,
    /// BFD reports that the path to the router is down, or is not up yet.
    WaitingForBfd,
    /// The router, which connects to this node (passive BGPPeer), has not connected.
    Listening,
    /// The router does not accept the TCP connection.
    #[default]
    Connecting,
    /// The router accepts the connection, but not the session.
    Negotiating,
    #[allow(missing_docs)]
    Established,
}

/// A text that occurred several times in a row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Series {
    #[allow(missing_docs)]
    pub text: String,
    /// Time of the first occurrence.
    pub since: Timestamp,
    /// Number of occurrences.
    pub count: u64,
}

impl Series {
    /// Adds an occurrence: to this series if the text is the same, else a new series begins.
    pub fn add(series: &mut Option<Self>, text: String, time: Timestamp) {
        match series {
            Some(series) if series.text == text => series.count += 1,
            _ => *series = Some(Self { text, since: time, count: 1 }),
        }
    }
}

/// Sessions by name of the BGPPeer.
pub type Sessions = BTreeMap<String, SessionView>;

/// Builds the status. Conditions that are unchanged since the status `before` keep their transition time.
pub(crate) fn status(
    summary: &Summary,
    sessions: &Sessions,
    before: Option<&SpeakerStatus>,
    now: Timestamp,
) -> SpeakerStatus {
    let by_bgp = summary.announced.by_bgp(|peer, is_ipv4| carries(sessions.get(peer), is_ipv4));
    let drained = drained(summary, sessions, before, now);
    let established = sessions.values().filter(|view| view.phase == SessionPhase::Established).count();
    let established = (!sessions.is_empty()).then(|| format!("{established}/{}", sessions.len()));
    let sessions = sessions.iter().take(MAX_SESSIONS).map(|(peer, view)| session(peer, view));
    let mut conditions =
        vec![eligible(summary.node, before, now), drained, ready(summary.ready, before, now)];
    conditions.extend(address_conflict(summary, before, now));
    SpeakerStatus {
        version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        ready: Some(summary.ready),
        sessions: sessions.collect(),
        established_sessions: established,
        l2: Some(L2Status {
            announced: announced(summary.l2, &summary.announced.l2),
            interfaces: summary.l2_interfaces.clone(),
            conflicts: summary.conflicts.iter().map(conflict).collect(),
        }),
        l2_detection: summary.l2_detection.map(str::to_owned),
        bgp: Some(announced(summary.bgp, &by_bgp)),
        not_announced: summary.not_announced.clone(),
        not_announced_count: Some(count(summary.not_announced_count)),
        conditions,
    }
}

/// Returns the interfaces as the status lists them.
fn interfaces(served: &ServedInterfaces) -> Vec<L2Interface> {
    let interface = |(name, families): (&String, &ServedFamilies)| {
        let v4 = families.v4.then(|| IPV4.to_owned());
        L2Interface {
            name: name.clone(),
            families: v4.into_iter().chain(families.v6.then(|| IPV6.to_owned())).collect(),
        }
    };
    served.iter().map(interface).collect()
}

/// Reads the interfaces that [`SpeakerStatus::l2`] lists.
pub fn served_interfaces(listed: &[L2Interface]) -> ServedInterfaces {
    let interface = |interface: &L2Interface| {
        let has = |family: &str| interface.families.iter().any(|listed| listed == family);
        (interface.name.clone(), ServedFamilies { v4: has(IPV4), v6: has(IPV6) })
    };
    listed.iter().map(interface).collect()
}

fn announced(number: usize, addresses: &AddressList) -> Announced {
    let (addresses, complete) = addresses.encode();
    Announced { announced: count(number), addresses, complete: Some(complete) }
}

/// Returns true if a session is established and routes of this address family were sent.
fn carries(session: Option<&SessionView>, is_ipv4: bool) -> bool {
    let family = if is_ipv4 { Family::Ipv4Unicast } else { Family::Ipv6Unicast }.to_string();
    session.is_some_and(|view| {
        view.phase == SessionPhase::Established
            && view.families.iter().any(|sent| sent.sent > 0 && sent.family == family)
    })
}

fn session(peer: &str, view: &SessionView) -> Session {
    let error = view.last_error.as_ref();
    let notification = |series: &Series| SessionNotification {
        message: bounded(&series.text),
        since: Some(Time(series.since)),
    };
    Session {
        peer: peer.to_owned(),
        address: view.address.clone(),
        description: Some(bounded(&view.description)).filter(|description| !description.is_empty()),
        state: view.state.to_owned(),
        phase: format!("{:?}", view.phase),
        state_since: view.since.map(Time),
        uptime_since: view.since.filter(|_| view.phase == SessionPhase::Established).map(Time),
        last_error: error.map(|error| bounded(&error.text)),
        last_error_since: error.map(|error| Time(error.since)),
        last_error_count: error.map(|error| rounded(error.count)),
        attempts: (view.attempts > 0).then(|| rounded(view.attempts)),
        flaps: i64::try_from(view.flaps).unwrap_or(i64::MAX),
        negotiated: view.negotiated.clone(),
        bfd: view.bfd.clone().map(bfd),
        families: view.families.clone(),
        last_notification_sent: view.notification_sent.as_ref().map(notification),
        last_notification_received: view.notification_received.as_ref().map(notification),
        prefixes: view.families.iter().map(|family| family.sent).sum(),
        messages: view.messages.iter().take(MAX_MESSAGES).map(|message| bounded(message)).collect(),
    }
}

/// Returns the BFD session of a view as the status shows it.
fn bfd(view: BFDSession) -> BFDSession {
    BFDSession {
        message: view.message.as_deref().map(bounded),
        lateness: u64::try_from(view.lateness).map_or(0, rounded),
        ..view
    }
}

/// Rounds down to a power of two. For numbers that grow with each attempt or with the messages of a router:
/// a status that contained them would be written all the time.
pub fn rounded(n: u64) -> i64 {
    n.checked_ilog2().map_or(0, |bits| 1 << bits.min(62))
}

/// Returns the condition that is true once the node can be taken out of service: it announces nothing, and no
/// router has a route from it.
fn drained(
    summary: &Summary,
    sessions: &Sessions,
    before: Option<&SpeakerStatus>,
    now: Timestamp,
) -> RawCondition {
    let routes: i64 = sessions.values().flat_map(|view| &view.families).map(|family| family.sent).sum();
    let announces = summary.l2 > 0 || summary.bgp > 0 || routes > 0;
    let (status, reason, message) = match summary.drain {
        None => (false, reasons::NOT_DRAINING, "the node is not being drained".to_owned()),
        Some((cause, phase)) if phase < DrainPhase::Drained || announces => {
            (false, reasons::DRAINING, format!("{cause}: its addresses are moving to other nodes"))
        }
        Some((cause, _)) => (
            true,
            reasons::DRAINED,
            format!("{cause}: it announces no address, and can be taken out of service"),
        ),
    };
    let before = before.map_or(&[][..], |status| &status.conditions);
    NewCondition::new(DRAINED, status, reason, message).after(before, now)
}

/// Returns the condition that another host uses an address of this node; `None` if none does.
fn address_conflict(
    summary: &Summary,
    before: Option<&SpeakerStatus>,
    now: Timestamp,
) -> Option<RawCondition> {
    let first = summary.conflicts.first()?;
    let does = if first.is_left { "does not announce it" } else { "announces it nevertheless" };
    let mut message = format!("{first} uses {}; this node {does}", first.address);
    if summary.conflict_count > 1 {
        message += &format!("; and {} other addresses", summary.conflict_count - 1);
    }
    let before = before.map_or(&[][..], |status| &status.conditions);
    let condition = NewCondition::new(ADDRESS_CONFLICT, true, reasons::USED_BY_ANOTHER_HOST, message);
    Some(condition.after(before, now))
}

fn conflict(conflict: &AddressConflict) -> L2Conflict {
    L2Conflict {
        address: conflict.address.to_string(),
        mac: conflict.mac.map(mac_text),
        interface: conflict.interface.clone(),
        announced: !conflict.is_left,
        since: Some(Time(conflict.since)),
    }
}

fn eligible(
    node: Option<NotAnnouncedReason>,
    before: Option<&SpeakerStatus>,
    now: Timestamp,
) -> RawCondition {
    let reason = node.map_or(reasons::ELIGIBLE.to_owned(), |reason| reason.to_string());
    let message = node.map_or("this node may announce addresses", NotAnnouncedReason::message);
    let before = before.map_or(&[][..], |status| &status.conditions);
    NewCondition::new(ELIGIBLE, node.is_none(), reason, message).after(before, now)
}

fn ready(ready: bool, before: Option<&SpeakerStatus>, now: Timestamp) -> RawCondition {
    let (reason, message) = match ready {
        true => (reasons::RUNNING, "the speaker runs, and has received all objects that it depends on"),
        false => (reasons::PENDING, "the speaker waits for objects that it depends on"),
    };
    let before = before.map_or(&[][..], |status| &status.conditions);
    NewCondition::new(READY, ready, reason, message).after(before, now)
}

/// Returns a text of a peer or of the kernel for the status.
fn bounded(text: &str) -> String {
    text::printable(text, MAX_ERROR_BYTES).into_owned()
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn unchanged_summary_gives_equal_status_later() {
        let summary = Summary { ready: true, l2: 3, ..Summary::default() };
        let first = status(&summary, &Sessions::new(), None, at(1));
        assert_eq!(status(&summary, &Sessions::new(), Some(&first), at(99)), first);
    }

    #[test]
    fn condition_keeps_transition_time_until_status_changes() {
        let eligible = Summary::default();
        let excluded = Summary { node: Some(NotAnnouncedReason::NodeExcluded), ..Summary::default() };
        let unavailable =
            Summary { node: Some(NotAnnouncedReason::NodeNetworkUnavailable), ..Summary::default() };
        let mut before = None;
        for (summary, now, expected, reason, since) in [
            (&eligible, 1, "True", "Eligible", 1),
            (&eligible, 2, "True", "Eligible", 1),
            (&excluded, 3, "False", "NodeExcluded", 3),
            (&unavailable, 4, "False", "NodeNetworkUnavailable", 3),
            (&eligible, 5, "True", "Eligible", 5),
        ] {
            let status = status(summary, &Sessions::new(), before.as_ref(), at(now));
            let condition = &status.conditions[0];
            assert_eq!((condition.status(), condition.reason()), (expected, reason));
            assert_eq!(condition.last_transition_time(), Some(at(since)));
            before = Some(status);
        }
    }

    #[test]
    fn node_is_drained_when_no_router_has_its_routes() {
        let drain = |phase| Summary { drain: Some((DrainCause::Label, phase)), ..Summary::default() };
        let session = |sent| SessionView {
            families: vec![SessionFamily { sent, ..SessionFamily::default() }],
            ..SessionView::default()
        };
        let (withdrawn, with_route) = (session(0), session(1));
        for (summary, session, expected, reason) in [
            (Summary::default(), &with_route, "False", "NotDraining"),
            (drain(DrainPhase::Deprioritized), &with_route, "False", "Draining"),
            (drain(DrainPhase::Withdrawn), &withdrawn, "False", "Draining"),
            (drain(DrainPhase::Drained), &with_route, "False", "Draining"),
            (Summary { l2: 1, ..drain(DrainPhase::Drained) }, &withdrawn, "False", "Draining"),
            (drain(DrainPhase::Drained), &withdrawn, "True", "Drained"),
        ] {
            let sessions = Sessions::from([("tor".to_owned(), session.clone())]);
            let status = status(&summary, &sessions, None, at(1));
            let condition = &status.conditions[1];
            assert_eq!(condition.type_(), "Drained");
            assert_eq!((condition.status(), condition.reason()), (expected, reason), "{summary:?}");
        }
    }

    #[test]
    fn sessions_and_error_texts_are_bounded() {
        let error = Series { text: "ü".repeat(1000), ..Series::default() };
        let messages = vec!["ü".repeat(1000); 20];
        let view = SessionView { last_error: Some(error), messages, ..SessionView::default() };
        let sessions: Sessions = (0..1000).map(|n| (format!("peer-{n}"), view.clone())).collect();
        let status = status(&Summary::default(), &sessions, None, at(1));
        assert_eq!(status.sessions.len(), MAX_SESSIONS);
        assert!(status.sessions[0].last_error.as_ref().unwrap().len() <= MAX_ERROR_BYTES);
        assert_eq!(status.sessions[0].messages.len(), MAX_MESSAGES);
        assert!(status.sessions[0].messages.iter().all(|message| message.len() <= MAX_ERROR_BYTES));
    }

    #[test]
    fn number_of_attempts_is_rounded_down() {
        let shown = |count| {
            let mut error = None;
            (0..count).for_each(|n| Series::add(&mut error, "refused".to_owned(), at(n)));
            let view = SessionView { last_error: error, attempts: count as u64, ..SessionView::default() };
            let session = status(&Summary::default(), &[("tor".to_owned(), view)].into(), None, at(99));
            let session = session.sessions.into_iter().next().unwrap();
            (session.attempts, session.last_error_count, session.last_error_since)
        };
        let since = Some(Time(at(0)));
        assert_eq!(shown(0), (None, None, None));
        assert_eq!(shown(1), (Some(1), Some(1), since.clone()));
        assert_eq!(shown(7), (Some(4), Some(4), since.clone()));
        assert_eq!(shown(1000), (Some(512), Some(512), since));
        assert_eq!(rounded(u64::MAX), 1 << 62);
    }

    #[test]
    fn lateness_of_bfd_is_rounded_down() {
        for (lateness, shown) in [(0, 0), (1, 1), (7, 4), (1000, 512)] {
            let bfd = BFDSession { lateness, ..BFDSession::default() };
            let view = SessionView { bfd: Some(bfd), ..SessionView::default() };
            let status = status(&Summary::default(), &[("tor".to_owned(), view)].into(), None, at(9));
            assert_eq!(status.sessions[0].bfd.as_ref().map(|bfd| bfd.lateness), Some(shown), "{lateness}");
        }
    }

    #[test]
    fn other_text_begins_a_new_series() {
        let mut series = None;
        for (text, second) in [("a", 1), ("a", 2), ("b", 3)] {
            Series::add(&mut series, text.to_owned(), at(second));
        }
        assert_eq!(series, Some(Series { text: "b".to_owned(), since: at(3), count: 1 }));
    }
}
