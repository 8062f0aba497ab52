//! Events about the L2 addresses that this node takes over, and about its BGP sessions, and the same in the
//! log. `fairlead_plan::occurrences` decides what they say, `fairlead_plan::event_queue` when they are sent.

use std::fmt::Debug;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fairlead_crds::model::service::ObjectKey;
use fairlead_crds::v1beta1::BGPPeer;
use fairlead_crds::{names, objects, text};
use fairlead_plan::Takeover;
use fairlead_plan::event_queue::{EventQueue, EventSubject, QueuedEvent};
use fairlead_plan::node_status::Sessions;
use fairlead_plan::occurrences::{ConflictReport, SessionChanges, TakeoverReport};
use fairlead_runtime::backoff::Backoff;
use fairlead_runtime::client::chain;
use fairlead_runtime::watch::REQUEST_TIMEOUT;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client, Error, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::command_queue::{CommandReceiver, CommandSender, command_queue};
use super::sleep_until_or_forever;

/// Namespace of Events about objects that have none.
const CLUSTER_NAMESPACE: &str = "default";
/// Number of log lines that are written before other tasks get their turn.
const LINES_PER_TURN: usize = 16;

type Key = (Arc<ObjectKey>, IpAddr);

/// The sending end. It holds one report for each address of a Service.
#[derive(Debug)]
pub(crate) struct TakeoverSender(CommandSender<Key, TakeoverReport>);

/// The sending end of conflicts. It holds one report for each address of a Service.
#[derive(Debug)]
pub(crate) struct ConflictSender(CommandSender<Key, ConflictReport>);

/// The receiving end of conflicts.
#[derive(Debug)]
pub(crate) struct ConflictReceiver(CommandReceiver<Key, ConflictReport>);

/// Returns a channel of conflicts.
pub(crate) fn conflict_channel() -> (ConflictSender, ConflictReceiver) {
    let (sender, receiver) = command_queue();
    (ConflictSender(sender), ConflictReceiver(receiver))
}

impl ConflictSender {
    /// Reports a conflict, in place of one about the same address that was not handled yet.
    pub(crate) fn send(&self, report: ConflictReport) {
        self.0.send(report.key(), report);
    }
}

/// The receiving end.
#[derive(Debug)]
pub(crate) struct TakeoverReceiver(CommandReceiver<Key, TakeoverReport>);

/// Returns a channel of takeovers.
pub(crate) fn takeover_channel() -> (TakeoverSender, TakeoverReceiver) {
    let (sender, receiver) = command_queue();
    (TakeoverSender(sender), TakeoverReceiver(receiver))
}

impl TakeoverSender {
    /// Reports a takeover, in place of one of the same address that was not handled yet.
    pub(crate) fn send(&self, report: TakeoverReport) {
        self.0.send(report.key(), report);
    }
}

/// The task that logs and sends the Events.
pub(crate) struct EventsTask {
    pub client: Client,
    /// Name of this node.
    pub node: String,
    pub takeovers: TakeoverReceiver,
    pub conflicts: ConflictReceiver,
    pub sessions: watch::Receiver<Sessions>,
    /// Ends the task.
    pub stop: CancellationToken,
}

impl EventsTask {
    /// Sends Events until stopped. One request is in flight at a time.
    pub(crate) async fn run(mut self) {
        let mut queue = EventQueue::default();
        let mut session_changes = SessionChanges::default();
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        let mut in_flight: JoinSet<(QueuedEvent, Result<(), Error>)> = JoinSet::new();
        let mut lines: usize = 0;
        loop {
            if in_flight.is_empty()
                && let Some(event) = queue.poll_event(Instant::now())
            {
                in_flight.spawn(send(self.client.clone(), self.node.clone(), event));
            }
            let due = queue.poll_timeout(Instant::now()).filter(|_| in_flight.is_empty());
            tokio::select! {
                () = self.stop.cancelled() => return,
                Some(sent) = in_flight.join_next() => match sent {
                    Ok((event, Err(error))) => {
                        let retry = Instant::now() + backoff.fail(rand::random());
                        tracing::debug!(error = %chain(&error), "cannot send an Event");
                        if is_transient(&error) {
                            queue.handle_failure(event, retry);
                        }
                    }
                    Ok((_, Ok(()))) | Err(_) => backoff.succeed(),
                },
                report = self.takeovers.0.recv() => {
                    // The sender ends with the speaker.
                    let Some(report) = report else { return };
                    self.log(&report);
                    let (subject, part, occurrence) = report.occurrence(&self.node);
                    queue.push(subject, part, occurrence);
                    lines += 1;
                    if lines.is_multiple_of(LINES_PER_TURN) {
                        tokio::task::yield_now().await;
                    }
                }
                report = self.conflicts.0.recv() => {
                    let Some(report) = report else { return };
                    let (subject, part, occurrence) = report.occurrence(&self.node);
                    queue.push(subject, part, occurrence);
                }
                changed = self.sessions.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let sessions = self.sessions.borrow_and_update();
                    let changes = session_changes.handle_sessions(&self.node, &sessions, Timestamp::now());
                    for (subject, occurrence) in changes {
                        queue.push(subject, String::new(), occurrence);
                    }
                }
                () = sleep_until_or_forever(due) => {}
            }
        }
    }

    fn log(&self, report: &TakeoverReport) {
        let Takeover { service, address, cause, .. } = &report.takeover;
        tracing::info!(
            %service,
            %address,
            interfaces = &*report.interfaces,
            %cause,
            from = cause.previous_owner().map(|from| &**from),
            duration = ?report.duration,
            "announcing an address by L2"
        );
    }
}

/// Returns true if a retry may succeed: there was no response, or the API server is overloaded or fails.
fn is_transient(error: &Error) -> bool {
    match error {
        Error::Api(status) => status.code == 429 || status.code >= 500,
        Error::SerdeError(_) => false,
        _ => true,
    }
}

/// Sends an Event, and returns it with the result.
async fn send(client: Client, node: String, event: QueuedEvent) -> (QueuedEvent, Result<(), Error>) {
    let sent = match &event.subject {
        EventSubject::Service(key) => {
            let api: Api<objects::Service> = Api::namespaced(client.clone(), &key.namespace);
            create(&client, api, &key.namespace, &key.name, &node, &event).await
        }
        EventSubject::BgpPeer(peer) => {
            let api: Api<BGPPeer> = Api::all(client.clone());
            create(&client, api, CLUSTER_NAMESPACE, peer, &node, &event).await
        }
    };
    (event, sent)
}

/// Reads the object for its UID, without which `kubectl describe` does not show the Event, and creates the
/// Event.
async fn create<K>(
    client: &Client,
    objects: Api<K>,
    namespace: &str,
    name: &str,
    node: &str,
    event: &QueuedEvent,
) -> Result<(), Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let timed_out = |late| Error::Service(Box::new(late));
    let read = timeout(REQUEST_TIMEOUT, objects.get_metadata_opt(name)).await.map_err(timed_out)??;
    // It was deleted.
    let Some(object) = read else { return Ok(()) };
    let regarding = ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(K::kind(&()).into_owned()),
        namespace: object.metadata.namespace,
        name: Some(name.to_owned()),
        uid: object.metadata.uid,
        ..ObjectReference::default()
    };
    let object = event_object(event, regarding, namespace, node);
    let api: Api<Event> = Api::namespaced(client.clone(), namespace);
    timeout(REQUEST_TIMEOUT, api.create(&PostParams::default(), &object)).await.map_err(timed_out)??;
    Ok(())
}

fn event_object(event: &QueuedEvent, regarding: ObjectReference, namespace: &str, node: &str) -> Event {
    let at = event.at();
    Event {
        metadata: ObjectMeta {
            namespace: Some(namespace.to_owned()),
            // The naming scheme of client-go.
            name: regarding.name.as_ref().map(|name| format!("{name}.{:x}", at.as_nanosecond())),
            ..ObjectMeta::default()
        },
        type_: Some(if event.is_warning() { "Warning" } else { "Normal" }.to_owned()),
        reason: Some(event.reason().to_owned()),
        action: Some("Announce".to_owned()),
        event_time: Some(MicroTime(at)),
        note: Some(text::message(event.message()).into_owned()),
        regarding: Some(regarding),
        reporting_controller: Some(names::SPEAKER.to_owned()),
        reporting_instance: Some(node.chars().take(128).collect()),
        ..Event::default()
    }
}
