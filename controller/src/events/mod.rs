//! Kubernetes Events: best effort, and never ahead of status writes.

mod pacer;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use fairlead_allocator::reconcile::{AllocationReason, EventObject, ObjectEvent, ServiceEvent};
use fairlead_crds::{names, text, v1beta1};
use fairlead_runtime::client::chain;
use fairlead_runtime::request::{Failure, request};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ObjectReference, Secret, Service};
use k8s_openapi::api::events::v1::Event as Object;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::core::{Request, Resource};
use kube::{Client, Error};
use serde::de::IgnoredAny;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::timer::sleep_until;
use pacer::{EventPacer, EventResult};

/// Bound of the channel of events that wait to be sent; more are dropped, since conditions contain the same
/// information. Decisions are much faster than requests, so this is how many Services may get their first
/// address at once.
const QUEUE: usize = 8192;
const TIMEOUT: Duration = Duration::from_secs(5);
/// Longest name of an instance that the API accepts, in octets (`ReportingInstanceLengthLimit` in
/// `pkg/apis/core/validation/events.go`). Its limit of notes is that of all messages.
const MAX_INSTANCE: usize = 128;

/// The sending end of a task that sends events. The task ends when this value is dropped.
#[derive(Debug)]
pub(crate) struct EventSender {
    queue: mpsc::Sender<ControllerEvent>,
    /// A watch channel: it holds only the latest value.
    hold: watch::Sender<bool>,
}

/// An event about any object that the controller decides on.
#[derive(Clone, Debug)]
pub(crate) enum ControllerEvent {
    Service(ServiceEvent),
    /// About a configuration object or an IPClaim.
    Object(ObjectEvent),
}

impl From<ServiceEvent> for ControllerEvent {
    fn from(event: ServiceEvent) -> Self {
        Self::Service(event)
    }
}

impl From<ObjectEvent> for ControllerEvent {
    fn from(event: ObjectEvent) -> Self {
        Self::Object(event)
    }
}

/// An event that is not sent yet.
#[derive(Clone, Debug)]
struct PendingEvent {
    event: ControllerEvent,
    /// When it was taken from the queue. The name of the Event object contains it, so that a retry after a
    /// lost response does not create a second object.
    at: Timestamp,
    /// Errors of the API server so far.
    errors: u32,
}

impl EventSender {
    /// Starts the task. `instance` is the name of this process in Events.
    pub(crate) fn start(client: Client, instance: Arc<str>) -> Self {
        let (queue, events) = mpsc::channel(QUEUE);
        let (hold, held) = watch::channel(false);
        tokio::spawn(run_event_sender(client, instance, events, held));
        Self { queue, hold }
    }

    /// Holds events back, or releases them, so that status writes are sent first.
    pub(crate) fn set_hold(&self, hold: bool) {
        self.hold.send_if_modified(|held| std::mem::replace(held, hold) != hold);
    }

    /// Queues an event. Returns false if the queue is full; the event is then dropped.
    pub(crate) fn send(&self, event: impl Into<ControllerEvent>) -> bool {
        self.queue.try_send(event.into()).is_ok()
    }
}

/// Sends events from the queue. After the queue is closed, sends what is left in it, unless events are held
/// back or paused: then what is left is discarded.
async fn run_event_sender(
    client: Client,
    instance: Arc<str>,
    mut events: mpsc::Receiver<ControllerEvent>,
    mut hold: watch::Receiver<bool>,
) {
    let mut pacer = EventPacer::default();
    let mut in_flight = JoinSet::new();
    // Events to send next: failed ones, never more than may be in flight, and the one just received.
    let mut next: Vec<PendingEvent> = Vec::new();
    let mut closed = false;
    loop {
        let now = Instant::now().into_std();
        let held = *hold.borrow_and_update();
        let pause = pacer.poll_timeout(now);
        if closed && (held || pause.is_some()) {
            return;
        }
        let may_send = pacer.may_send(now, in_flight.len()) && !held;
        if may_send && let Some(event) = next.pop() {
            in_flight.spawn(send(client.clone(), instance.clone(), event));
            continue;
        }
        tokio::select! {
            // The timer comes last, because it only wakes the loop: the pause is checked in every turn.
            biased;
            Some(sent) = in_flight.join_next() => {
                let Ok((mut event, result)) = sent else { continue };
                let now = Instant::now().into_std();
                if pacer.handle_result(now, result, &mut event.errors, rand::random()) {
                    next.push(event);
                }
            }
            event = events.recv(), if may_send => {
                let Some(event) = event else { return };
                next.push(PendingEvent { event, at: Timestamp::now(), errors: 0 });
            }
            changed = hold.changed(), if !closed => closed = changed.is_err(),
            () = sleep_until(pause) => {}
        }
    }
}

async fn send(client: Client, instance: Arc<str>, event: PendingEvent) -> (PendingEvent, EventResult) {
    let object = match &event.event {
        ControllerEvent::Service(service) => object(service, &instance, event.at),
        ControllerEvent::Object(problem) => about_object(problem, &instance, event.at),
    };
    let result = match tokio::time::timeout(TIMEOUT, create(&client, &object)).await {
        Ok(Ok(())) => EventResult::Sent,
        Ok(Err(failure)) => {
            let result = EventResult::of(&failure);
            tracing::debug!(error = %chain(&failure), ?result, "cannot send an event");
            result
        }
        Err(_) => {
            tracing::debug!("no response to an event");
            EventResult::Unavailable(None)
        }
    };
    (event, result)
}

async fn create(client: &Client, object: &Object) -> Result<(), Failure> {
    let body = serde_json::to_vec(object).map_err(Error::SerdeError)?;
    let path = Request::new(Object::url_path(&(), object.metadata.namespace.as_deref()));
    let post = path.create(&PostParams::default(), body).map_err(Error::BuildRequest)?;
    let IgnoredAny = request(client, post).await?;
    Ok(())
}

/// A warning about a Secret.
pub(crate) struct SecretEvent {
    pub namespace: String,
    pub name: &'static str,
    /// A CamelCase word.
    pub reason: String,
    /// What the controller did or tried, as a verb.
    pub action: &'static str,
    pub message: String,
}

/// Sends an event about a Secret, once. The Secret need not exist.
pub(crate) async fn send_about_secret(client: &Client, instance: &str, event: SecretEvent) {
    let SecretEvent { namespace, name, reason, action, message } = event;
    let regarding = reference::<Secret>(&namespace, name, None);
    let object = Object {
        type_: Some("Warning".to_owned()),
        reason: Some(reason),
        action: Some(action.to_owned()),
        ..about(regarding, &message, instance, Timestamp::now())
    };
    match tokio::time::timeout(TIMEOUT, create(client, &object)).await {
        Ok(Ok(())) => {}
        Ok(Err(failure)) => tracing::debug!(error = %chain(&failure), "cannot send an event"),
        Err(_) => tracing::debug!("no response to an event"),
    }
}

/// Returns the Event object of an event about a Service.
fn object(event: &ServiceEvent, instance: &str, at: Timestamp) -> Object {
    let ServiceEvent { service, uid, warning, reason, message } = event;
    let regarding = reference::<Service>(&service.namespace, &service.name, Some(uid.clone()));
    Object {
        type_: Some(if *warning { "Warning" } else { "Normal" }.to_owned()),
        reason: Some(reason.to_string()),
        action: Some(action(*reason).to_owned()),
        ..about(regarding, message, instance, at)
    }
}

/// Returns the Event object of an event about a configuration object or an IPClaim.
fn about_object(event: &ObjectEvent, instance: &str, at: Timestamp) -> Object {
    let EventObject { kind, namespace, name, uid } = event.object.clone();
    let regarding = ObjectReference {
        api_version: Some(format!("{}/{}", v1beta1::GROUP, v1beta1::VERSION)),
        kind: Some(kind),
        namespace,
        name: Some(name),
        uid,
        ..ObjectReference::default()
    };
    let message = format!("{}: {}", event.cause, event.message);
    Object {
        type_: Some("Warning".to_owned()),
        reason: Some(event.reason.to_owned()),
        action: Some("Validate".to_owned()),
        ..about(regarding, &message, instance, at)
    }
}

/// Returns an Event object without type, reason and action. It is never part of a series, since the
/// controller does not repeat events.
fn about(regarding: ObjectReference, message: &str, instance: &str, at: Timestamp) -> Object {
    Object {
        metadata: ObjectMeta {
            // Events about objects without a namespace are in this one.
            namespace: regarding.namespace.clone().or_else(|| Some("default".to_owned())),
            // The naming scheme of client-go and kube.
            name: regarding.name.as_ref().map(|name| format!("{name}.{:x}", at.as_nanosecond())),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(at)),
        note: Some(text::message(message).into_owned()),
        regarding: Some(regarding),
        reporting_controller: Some(names::CONTROLLER.to_owned()),
        reporting_instance: Some(text::printable(instance, MAX_INSTANCE).into_owned()),
        ..Object::default()
    }
}

fn reference<K: Resource<DynamicType = ()>>(
    namespace: &str,
    name: &str,
    uid: Option<String>,
) -> ObjectReference {
    ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(K::kind(&()).into_owned()),
        namespace: Some(namespace.to_owned()),
        name: Some(name.to_owned()),
        uid,
        ..ObjectReference::default()
    }
}

/// Returns what the controller did or tried, as a verb.
fn action(reason: AllocationReason) -> &'static str {
    match reason {
        AllocationReason::Covered | AllocationReason::NoAdvertisement => "Advertise",
        AllocationReason::StatusConflict => "WriteStatus",
        _ => "Allocate",
    }
}
