//! Events about a Node that is too late for its BFD sessions. The status counts each case, and `kubectl
//! describe node` shows the Events.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fairlead_crds::{names, text};
use fairlead_plan::node_status::Sessions;
use fairlead_runtime::client::chain;
use fairlead_runtime::watch::REQUEST_TIMEOUT;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::timeout;

use super::sleep_until_or_forever;

/// Shortest time between two Events.
const PAUSE: Duration = Duration::from_secs(600);
/// Namespace of Events about objects that have none, such as Nodes.
const NAMESPACE: &str = "default";

/// The task that sends the Events.
pub(crate) struct LatenessEventsTask {
    pub client: Client,
    /// Name of the node.
    pub node: String,
    pub sessions: watch::Receiver<Sessions>,
}

impl LatenessEventsTask {
    /// Sends Events until the sender of the sessions is dropped.
    pub(crate) async fn run(mut self) {
        let api: Api<Event> = Api::namespaced(self.client.clone(), NAMESPACE);
        let mut lateness = Lateness::default();
        loop {
            let wait = {
                let sessions = self.sessions.borrow_and_update();
                lateness.look_at(&sessions);
                lateness.wait(Instant::now())
            };
            if wait == Wait::Now {
                let note = lateness.take(Instant::now());
                let event = event(&self.node, &note, Timestamp::now());
                match timeout(REQUEST_TIMEOUT, api.create(&PostParams::default(), &event)).await {
                    Ok(Ok(_)) => {}
                    // The status contains the same information.
                    Ok(Err(error)) => {
                        tracing::debug!(error = %chain(&error), "cannot create the Event BFDLate");
                    }
                    Err(_) => tracing::debug!("no response to the creation of the Event BFDLate"),
                }
                continue;
            }
            let until = if let Wait::Until(at) = wait { Some(at) } else { None };
            tokio::select! {
                changed = self.sessions.changed() => if changed.is_err() { return },
                () = sleep_until_or_forever(until) => {}
            }
        }
    }
}

/// The time of the next Event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    Now,
    Until(Instant),
    /// No session was late since the last Event.
    Forever,
}

/// The number of times that each session was late, and the sessions for the next Event. Contains no I/O.
#[derive(Debug, Default)]
struct Lateness {
    /// The count of each peer in the status, as observed last.
    seen: BTreeMap<String, i64>,
    /// Peers whose count increased since the last Event.
    late: Vec<String>,
    /// The earliest time of the next Event; `None` before the first.
    next: Option<Instant>,
}

impl Lateness {
    /// Records the counts of the sessions.
    fn look_at(&mut self, sessions: &Sessions) {
        let counts: BTreeMap<String, i64> = sessions
            .iter()
            .filter_map(|(peer, session)| Some((peer.clone(), session.bfd.as_ref()?.lateness)))
            .collect();
        for (peer, count) in &counts {
            let before = self.seen.get(peer).copied().unwrap_or_default();
            if *count > before && !self.late.contains(peer) {
                self.late.push(peer.clone());
            }
        }
        self.seen = counts;
    }

    fn wait(&self, now: Instant) -> Wait {
        match self.next {
            _ if self.late.is_empty() => Wait::Forever,
            Some(at) if at > now => Wait::Until(at),
            _ => Wait::Now,
        }
    }

    /// Returns the text of the Event that is sent at `now`.
    fn take(&mut self, now: Instant) -> String {
        self.next = now.checked_add(PAUSE);
        let peers = std::mem::take(&mut self.late).join(", ");
        format!(
            "the speaker was too late to detect a failure by BFD, and waited for another packet (BGPPeer \
             {peers}); grant it the capability SYS_NICE, raise its request of processor time, or use longer intervals"
        )
    }
}

fn event(node: &str, note: &str, at: Timestamp) -> Event {
    Event {
        metadata: ObjectMeta {
            namespace: Some(NAMESPACE.to_owned()),
            name: Some(format!("{node}.{:x}", at.as_nanosecond())),
            ..ObjectMeta::default()
        },
        type_: Some("Warning".to_owned()),
        reason: Some("BFDLate".to_owned()),
        action: Some("Detect".to_owned()),
        event_time: Some(MicroTime(at)),
        note: Some(text::message(note).into_owned()),
        regarding: Some(ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Node".to_owned()),
            name: Some(node.to_owned()),
            // The kubelet also uses the name as the UID, and `kubectl describe node` shows only such Events.
            uid: Some(node.to_owned()),
            ..ObjectReference::default()
        }),
        reporting_controller: Some(names::SPEAKER.to_owned()),
        reporting_instance: Some(node.chars().take(128).collect()),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use fairlead_crds::v1beta1::BFDSession;
    use fairlead_plan::node_status::SessionView;

    use super::*;

    fn sessions(counts: &[(&str, i64)]) -> Sessions {
        let view = |lateness| SessionView {
            bfd: Some(BFDSession { lateness, ..BFDSession::default() }),
            ..SessionView::default()
        };
        counts.iter().map(|(peer, lateness)| ((*peer).to_owned(), view(*lateness))).collect()
    }

    #[test]
    fn events_are_paced_and_name_the_late_sessions() {
        let start = Instant::now();
        let mut lateness = Lateness::default();
        lateness.look_at(&sessions(&[("a", 0), ("b", 0)]));
        assert_eq!(lateness.wait(start), Wait::Forever);
        lateness.look_at(&sessions(&[("a", 1), ("b", 0)]));
        assert_eq!(lateness.wait(start), Wait::Now);
        assert!(lateness.take(start).contains("(BGPPeer a)"));
        assert_eq!(lateness.wait(start), Wait::Forever);

        lateness.look_at(&sessions(&[("a", 2), ("b", 4)]));
        assert_eq!(lateness.wait(start), Wait::Until(start + PAUSE));
        let later = start + PAUSE;
        assert_eq!(lateness.wait(later), Wait::Now);
        assert!(lateness.take(later).contains("(BGPPeer a, b)"));
        // A session that was created again counts from zero.
        lateness.look_at(&sessions(&[("a", 0)]));
        lateness.look_at(&sessions(&[("a", 0)]));
        assert_eq!(lateness.wait(later), Wait::Forever);
    }

    #[test]
    fn event_regards_the_node_as_the_kubelet_does() {
        let event = event("n1", "late", Timestamp::UNIX_EPOCH);
        let regarding = event.regarding.unwrap();
        assert_eq!((regarding.kind.as_deref(), regarding.uid.as_deref()), (Some("Node"), Some("n1")));
        assert_eq!(event.metadata.namespace.as_deref(), Some("default"));
    }
}
