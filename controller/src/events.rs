//! Kubernetes Events: best effort, never in the way of writes.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ObjectReference, Service};
use kube::Client;
use kube::core::Resource;
use kube::runtime::events::{Event as KubeEvent, EventType, Recorder, Reporter};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::decide::Event;
use crate::send::FIELD_MANAGER;

/// Events that wait to be sent. What comes when as many wait is dropped: conditions tell the same. Decisions are made
/// much faster than anything is sent, so this is how many Services may get their first address at once.
const QUEUE: usize = 8192;
/// Events on the way at a time: far fewer than writes, so that they never take what writes need.
const MAX_IN_FLIGHT: usize = 8;
const TIMEOUT: Duration = Duration::from_secs(5);

/// Where events go.
#[derive(Clone, Debug)]
pub struct Events {
    queue: mpsc::Sender<Event>,
    held: watch::Sender<bool>,
}

impl Events {
    /// Starts sending.
    pub fn start(client: Client) -> Self {
        let (queue, mut events) = mpsc::channel::<Event>(QUEUE);
        let (held, mut holds) = watch::channel(false);
        let reporter = Reporter { controller: FIELD_MANAGER.to_owned(), instance: None };
        tokio::spawn(async move {
            let mut in_flight = JoinSet::new();
            while let Some(event) = events.recv().await {
                if holds.wait_for(|held| !held).await.is_err() {
                    return;
                }
                while in_flight.try_join_next().is_some() {}
                if in_flight.len() >= MAX_IN_FLIGHT {
                    in_flight.join_next().await;
                }
                // One recorder each: a shared one looks through all it sent in six minutes, to fold repetitions into
                // series. Ours are not repeated.
                in_flight.spawn(publish(Recorder::new(client.clone(), reporter.clone()), event));
            }
        });
        Self { queue, held }
    }

    /// Holds events back, or lets them go: the API server is to do what is more important first.
    pub fn hold(&self, hold: bool) {
        self.held.send_if_modified(|held| std::mem::replace(held, hold) != hold);
    }

    /// Sends an event some time, or never. Returns whether there was room.
    pub fn send(&self, event: Event) -> bool {
        self.queue.try_send(event).is_ok()
    }
}

async fn publish(recorder: Recorder, event: Event) {
    let (event, about) = convert(event);
    match tokio::time::timeout(TIMEOUT, recorder.publish(&event, &about)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "event not sent"),
        Err(_) => tracing::debug!("event not sent in time"),
    }
}

fn convert(event: Event) -> (KubeEvent, ObjectReference) {
    let about = ObjectReference {
        api_version: Some(Service::api_version(&()).into_owned()),
        kind: Some(Service::kind(&()).into_owned()),
        namespace: Some(event.service.namespace),
        name: Some(event.service.name),
        uid: Some(event.uid),
        ..ObjectReference::default()
    };
    let event = KubeEvent {
        type_: if event.warning { EventType::Warning } else { EventType::Normal },
        reason: event.reason.to_string(),
        note: Some(event.message.chars().take(1024).collect()),
        action: "Allocate".to_owned(),
        secondary: None,
    };
    (event, about)
}
