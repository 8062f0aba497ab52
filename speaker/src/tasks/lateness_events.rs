//! Events about a Node that is too late for its BFD sessions. The status counts each case, and `kubectl
//! describe node` shows the Events. `fairlead_plan::bfd_lateness` decides when they are sent.

use std::time::Instant;

use fairlead_crds::{names, text};
use fairlead_plan::bfd_lateness::{BfdLateness, Wait};
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
        let mut lateness = BfdLateness::default();
        loop {
            let wait = {
                let sessions = self.sessions.borrow_and_update();
                lateness.handle_sessions(&sessions);
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
    use super::*;

    #[test]
    fn event_regards_the_node_as_the_kubelet_does() {
        let event = event("n1", "late", Timestamp::UNIX_EPOCH);
        let regarding = event.regarding.unwrap();
        assert_eq!((regarding.kind.as_deref(), regarding.uid.as_deref()), (Some("Node"), Some("n1")));
        assert_eq!(event.metadata.namespace.as_deref(), Some("default"));
    }
}
