//! Kubernetes Events: best effort, never in the way of writes.

mod pacer;

use std::time::Duration;

use fairlead_runtime::client::chain;
use fairlead_runtime::request::{Failure, request};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ObjectReference, Service};
use k8s_openapi::api::events::v1::Event as Object;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::core::{Request, Resource};
use kube::{Client, Error};
use serde::de::IgnoredAny;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::api_client::FIELD_MANAGER;
use fairlead_allocator::reconcile::ServiceEvent;
use pacer::{Outcome, Pace};

/// Events that wait to be sent. What comes when as many wait is dropped: conditions tell the same. Decisions are made
/// much faster than anything is sent, so this is how many Services may get their first address at once.
const QUEUE: usize = 8192;
const TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of a note that the API takes (`NoteLengthLimit` in `pkg/apis/core/validation/events.go`).
const LONGEST_NOTE: usize = 1024;

/// Where events go.
#[derive(Clone, Debug)]
pub struct Events {
    queue: mpsc::Sender<ServiceEvent>,
    held: watch::Sender<bool>,
}

/// An event on its way.
#[derive(Clone, Debug)]
struct Letter {
    event: ServiceEvent,
    /// When it was first to be sent. It makes the name, so that what arrived although no answer came is not there twice.
    at: Timestamp,
    /// Refusals so far that were no fault of the event.
    refusals: u32,
}

impl Events {
    /// Starts sending.
    pub fn start(client: Client) -> Self {
        let (queue, events) = mpsc::channel(QUEUE);
        let (held, holds) = watch::channel(false);
        tokio::spawn(deliver(client, events, holds));
        Self { queue, held }
    }

    /// Holds events back, or lets them go: the API server is to do what is more important first.
    pub fn hold(&self, hold: bool) {
        self.held.send_if_modified(|held| std::mem::replace(held, hold) != hold);
    }

    /// Sends an event some time, or never. Returns whether there was room.
    pub fn send(&self, event: ServiceEvent) -> bool {
        self.queue.try_send(event).is_ok()
    }
}

/// Sends what comes. When nobody can send any more, what still waits is sent, unless there is something to wait for.
async fn deliver(client: Client, mut events: mpsc::Receiver<ServiceEvent>, mut holds: watch::Receiver<bool>) {
    let mut pace = Pace::default();
    let mut in_flight = JoinSet::new();
    // Those that came back, never more than may be in flight.
    let mut again: Vec<Letter> = Vec::new();
    let mut closed = false;
    loop {
        let now = Instant::now().into_std();
        let held = *holds.borrow_and_update();
        let pause = pace.paused_until(now).map(Instant::from_std);
        if closed && (held || pause.is_some()) {
            return;
        }
        let room = pace.may_send(now, in_flight.len()) && !held;
        if room && let Some(letter) = again.pop() {
            in_flight.spawn(publish(client.clone(), letter));
            continue;
        }
        tokio::select! {
            biased;
            Some(done) = in_flight.join_next() => {
                let Ok((mut letter, outcome)) = done else { continue };
                if pace.done(Instant::now().into_std(), outcome, &mut letter.refusals, rand::random()) {
                    again.push(letter);
                }
            }
            event = events.recv(), if room => {
                let Some(event) = event else { return };
                again.push(Letter { event, at: Timestamp::now(), refusals: 0 });
            }
            changed = holds.changed(), if !closed => closed = changed.is_err(),
            () = tokio::time::sleep_until(pause.unwrap_or_else(Instant::now)), if pause.is_some() => {}
        }
    }
}

async fn publish(client: Client, letter: Letter) -> (Letter, Outcome) {
    let object = object(&letter.event, letter.at);
    let outcome = match tokio::time::timeout(TIMEOUT, create(&client, &object)).await {
        Ok(Ok(())) => Outcome::Sent,
        Ok(Err(failure)) => {
            let outcome = Outcome::of(&failure);
            tracing::debug!(error = %chain(&failure), ?outcome, "event not sent");
            outcome
        }
        Err(_) => {
            tracing::debug!("event not sent in time");
            Outcome::Unavailable(None)
        }
    };
    (letter, outcome)
}

async fn create(client: &Client, object: &Object) -> Result<(), Failure> {
    let body = serde_json::to_vec(object).map_err(Error::SerdeError)?;
    let path = Request::new(Object::url_path(&(), object.metadata.namespace.as_deref()));
    let post = path.create(&PostParams::default(), body).map_err(Error::BuildRequest)?;
    let IgnoredAny = request(client, post).await?;
    Ok(())
}

/// What the API gets to see. Repetitions are not folded into series: ours are not repeated.
fn object(event: &ServiceEvent, at: Timestamp) -> Object {
    let ServiceEvent { service, uid, warning, reason, message } = event;
    Object {
        metadata: ObjectMeta {
            namespace: Some(service.namespace.clone()),
            // As client-go and kube name them.
            name: Some(format!("{}.{:x}", service.name, at.as_nanosecond())),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(at)),
        type_: Some(if *warning { "Warning" } else { "Normal" }.to_owned()),
        reason: Some(reason.to_string()),
        note: Some(note(message).to_owned()),
        action: Some("Allocate".to_owned()),
        regarding: Some(ObjectReference {
            api_version: Some(Service::api_version(&()).into_owned()),
            kind: Some(Service::kind(&()).into_owned()),
            namespace: Some(service.namespace.clone()),
            name: Some(service.name.clone()),
            uid: Some(uid.clone()),
            ..ObjectReference::default()
        }),
        reporting_controller: Some(FIELD_MANAGER.to_owned()),
        reporting_instance: Some(FIELD_MANAGER.to_owned()),
        ..Object::default()
    }
}

/// As much of a message as the API takes; whole characters.
fn note(message: &str) -> &str {
    let mut end = message.len().min(LONGEST_NOTE);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    &message[..end]
}

#[cfg(test)]
mod tests;
