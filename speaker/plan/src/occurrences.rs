//! What happens to Services and BGPPeers on this node, in words: for the Events in [`crate::event_queue`] and
//! for the log.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use fairlead_crds::model::service::ObjectKey;
use fairlead_crds::names;
use jiff::Timestamp;

use crate::conflicts::AddressConflict;
use crate::event_queue::{EventSubject, Occurrence};
use crate::node_status::{SessionPhase, Sessions};
use crate::takeover::Takeover;

/// A takeover that was carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakeoverReport {
    #[allow(missing_docs)]
    pub takeover: Takeover,
    /// The interfaces that announce the address.
    pub interfaces: Arc<str>,
    /// Time from the change that caused it to the announcement.
    pub duration: Duration,
    #[allow(missing_docs)]
    pub at: Timestamp,
}

/// A conflict about an address of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ConflictReport {
    pub service: Arc<ObjectKey>,
    pub conflict: AddressConflict,
    pub at: Timestamp,
}

impl TakeoverReport {
    /// Returns the address of the Service that the report is about.
    pub fn key(&self) -> (Arc<ObjectKey>, IpAddr) {
        (self.takeover.service.clone(), self.takeover.address)
    }

    /// Returns what happened to which part of which object. `node` is the name of this node.
    pub fn occurrence(&self, node: &str) -> (EventSubject, String, Occurrence) {
        let (address, interfaces) = (self.takeover.address, &self.interfaces);
        let (reason, message) = match self.takeover.cause.previous_owner() {
            None => ("Announced", format!("{address} by {node} (L2) on {interfaces}")),
            Some(from) => {
                let why = &self.takeover.cause;
                ("Moved", format!("{address} from {from} to {node} (L2) on {interfaces}: {why}"))
            }
        };
        let occurrence = Occurrence { is_warning: false, reason, message, at: self.at };
        (EventSubject::Service(self.takeover.service.clone()), address.to_string(), occurrence)
    }
}

impl ConflictReport {
    /// Returns the address of the Service that the report is about.
    pub fn key(&self) -> (Arc<ObjectKey>, IpAddr) {
        (self.service.clone(), self.conflict.address)
    }

    /// Returns what happened to which part of which object. `node` is the name of this node.
    pub fn occurrence(&self, node: &str) -> (EventSubject, String, Occurrence) {
        let conflict = &self.conflict;
        let address = conflict.address;
        let does = if conflict.is_left { "does not announce it" } else { "announces it nevertheless" };
        let message = format!("{conflict} uses {address}; {node} {does}");
        let occurrence =
            Occurrence { is_warning: true, reason: names::ADDRESS_CONFLICT, message, at: self.at };
        (EventSubject::Service(self.service.clone()), format!("{address} conflict"), occurrence)
    }
}

/// Finds the BGP sessions that were established or lost.
#[derive(Clone, Debug, Default)]
pub struct SessionChanges {
    /// Whether the session of each BGPPeer was established at the last call.
    established: BTreeMap<String, bool>,
}

impl SessionChanges {
    /// Returns what happened since the last call, at most one occurrence for each BGPPeer. `node` is the name
    /// of this node, `at` the current time.
    pub fn handle_sessions(
        &mut self,
        node: &str,
        sessions: &Sessions,
        at: Timestamp,
    ) -> Vec<(EventSubject, Occurrence)> {
        let mut changes = Vec::new();
        for (peer, view) in sessions {
            let is_up = view.phase == SessionPhase::Established;
            let was_up = self.established.get(peer).copied().unwrap_or_default();
            if self.established.get(peer) != Some(&is_up) {
                self.established.insert(peer.clone(), is_up);
            }
            let address = &view.address;
            let (is_warning, reason, message) = match (was_up, is_up) {
                (false, true) => {
                    (false, "SessionUp", format!("the session of {node} with {address} is established"))
                }
                (true, false) => {
                    let error = view.last_error.as_ref().map(|error| error.text.as_str());
                    let error = error.unwrap_or("the session ended");
                    (true, "SessionDown", format!("{node} has lost the session with {address}: {error}"))
                }
                _ => continue,
            };
            let occurrence = Occurrence { is_warning, reason, message, at };
            changes.push((EventSubject::BgpPeer(peer.as_str().into()), occurrence));
        }
        self.established.retain(|peer, _| sessions.contains_key(peer));
        changes
    }
}

#[cfg(test)]
mod tests {
    use fairlead_l2::InterfaceSet;
    use fairlead_test_support::key;

    use super::*;
    use crate::node_status::{Series, SessionView};
    use crate::takeover::TakeoverCause;

    const AT: Timestamp = Timestamp::UNIX_EPOCH;

    #[test]
    fn takeover_is_described_by_its_cause() {
        for (cause, expected) in [
            (TakeoverCause::First, "Announced 192.0.2.1 by n2 (L2) on eth0"),
            (
                TakeoverCause::Gone("n1".into()),
                "Moved 192.0.2.1 from n1 to n2 (L2) on eth0: n1 is not responding",
            ),
            (
                TakeoverCause::Left("n1".into()),
                "Moved 192.0.2.1 from n1 to n2 (L2) on eth0: the speaker of n1 was stopped",
            ),
            (
                TakeoverCause::Unusable("n1".into()),
                "Moved 192.0.2.1 from n1 to n2 (L2) on eth0: n1 may not announce addresses",
            ),
        ] {
            let report = TakeoverReport {
                takeover: Takeover {
                    service: Arc::new(key("web")),
                    address: [192, 0, 2, 1].into(),
                    interfaces: InterfaceSet::All,
                    cause,
                },
                interfaces: "eth0".into(),
                duration: Duration::ZERO,
                at: AT,
            };
            let (subject, part, occurrence) = report.occurrence("n2");
            assert_eq!(subject, EventSubject::Service(Arc::new(key("web"))));
            assert_eq!(part, "192.0.2.1");
            assert_eq!(format!("{} {}", occurrence.reason, occurrence.message), expected);
            assert!(!occurrence.is_warning);
        }
    }

    #[test]
    fn conflict_is_a_warning_that_says_what_this_node_does() {
        for (is_left, does) in [(false, "n2 announces it nevertheless"), (true, "n2 does not announce it")] {
            let conflict = AddressConflict {
                address: [192, 0, 2, 1].into(),
                mac: Some([2, 0, 0, 0, 0, 1]),
                interface: "eth0".to_owned(),
                is_left,
                since: AT,
            };
            let report = ConflictReport { service: Arc::new(key("web")), conflict, at: AT };
            let (_, part, occurrence) = report.occurrence("n2");
            let expected = format!("the host 02:00:00:00:00:01 on eth0 uses 192.0.2.1; {does}");
            assert_eq!((occurrence.is_warning, occurrence.reason), (true, "AddressConflict"));
            // A takeover of the same address is another part of the Service.
            assert_eq!((part.as_str(), occurrence.message), ("192.0.2.1 conflict", expected));
        }
    }

    #[test]
    fn session_changes_are_reported_once() {
        let mut changes = SessionChanges::default();
        let mut handle = |phase, error: Option<&str>| {
            let view = SessionView {
                address: "192.0.2.1".to_owned(),
                phase,
                last_error: error.map(|text| Series { text: text.to_owned(), ..Series::default() }),
                ..SessionView::default()
            };
            let changes = changes.handle_sessions("n1", &[("tor".to_owned(), view)].into(), AT);
            let text = |(subject, one): (EventSubject, Occurrence)| {
                assert_eq!(subject, EventSubject::BgpPeer("tor".into()));
                format!(
                    "{} {} {}",
                    if one.is_warning { "Warning" } else { "Normal" },
                    one.reason,
                    one.message
                )
            };
            changes.into_iter().map(text).collect::<Vec<_>>().join("\n")
        };
        let (up, connecting) = (SessionPhase::Established, SessionPhase::Connecting);
        let lost = "Warning SessionDown n1 has lost the session with 192.0.2.1";
        for (phase, error, expected) in [
            (connecting, Some("connection refused"), String::new()),
            (up, None, "Normal SessionUp the session of n1 with 192.0.2.1 is established".to_owned()),
            (up, None, String::new()),
            (connecting, Some("hold timer expired"), format!("{lost}: hold timer expired")),
            (connecting, Some("connection refused"), String::new()),
            (up, None, "Normal SessionUp the session of n1 with 192.0.2.1 is established".to_owned()),
            (SessionPhase::Shutdown, None, format!("{lost}: the session ended")),
        ] {
            assert_eq!(handle(phase, error), expected);
        }
    }

    #[test]
    fn session_of_a_bgppeer_that_is_created_again_is_new() {
        let mut changes = SessionChanges::default();
        let established = SessionView { phase: SessionPhase::Established, ..SessionView::default() };
        let sessions = Sessions::from([("tor".to_owned(), established)]);
        assert_eq!(changes.handle_sessions("n1", &sessions, AT).len(), 1);
        assert_eq!(changes.handle_sessions("n1", &Sessions::new(), AT), []);
        assert_eq!(changes.handle_sessions("n1", &sessions, AT).len(), 1);
    }
}
