//! The BGP sessions of this node.

use std::collections::BTreeMap;

use fairlead_bgp::Family;
use fairlead_crds::text;
use fairlead_crds::v1beta1::{BFDSession, NegotiatedSession, Session, SessionFamily, SessionNotification};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// Maximum number of sessions in the status: the bound in the schema.
pub(super) const MAX_SESSIONS: usize = 256;
/// Maximum number of messages of a session: the bound in the schema.
const MAX_MESSAGES: usize = 8;

/// Maximum length of an error text, in bytes. The text comes from a peer or from the kernel.
const MAX_ERROR_BYTES: usize = 256;

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

/// Returns true if a session is established and routes of this address family were sent.
pub(super) fn carries(session: Option<&SessionView>, is_ipv4: bool) -> bool {
    let family = if is_ipv4 { Family::Ipv4Unicast } else { Family::Ipv6Unicast }.to_string();
    session.is_some_and(|view| {
        view.phase == SessionPhase::Established
            && view.families.iter().any(|sent| sent.sent > 0 && sent.family == family)
    })
}

pub(super) fn session(peer: &str, view: &SessionView) -> Session {
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

/// Returns a text of a peer or of the kernel for the status.
fn bounded(text: &str) -> String {
    text::printable(text, MAX_ERROR_BYTES).into_owned()
}

#[cfg(test)]
mod tests {
    use super::super::{Summary, status};
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
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
