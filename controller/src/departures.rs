//! The last patch of Services that are no longer load balancers of this controller: it removes what the
//! controller has written into them.
//!
//! The watch selects `spec.type=LoadBalancer`, so a change of type arrives as a deletion. Only the Service
//! itself shows whether it exists: the task reads each departed Service that carries a status of this
//! controller. That costs one request for each deleted Service, at most [`CONCURRENT`] at once. What departed
//! while no controller led is found once per term, by a list of all Services of other types in pages.

use std::time::Duration;

use fairlead_allocator::reconcile::DepartedService;
use fairlead_crds::names::CONTROLLER;
use fairlead_runtime::backoff::Backoff;
use fairlead_runtime::client::chain;
use fairlead_runtime::pages::for_each_listed;
use fairlead_runtime::request::{Failure, request};
use fairlead_runtime::watch::REQUEST_TIMEOUT;
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Service;
use kube::api::{ListParams, Patch, PatchParams};
use kube::core::{Request, Resource};
use kube::{Client, Error};
use serde::de::IgnoredAny;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

/// The maximum number of Services that are read or patched at once.
const CONCURRENT: usize = 4;
/// The maximum number of attempts for one Service. The next term lists what remains.
const ATTEMPTS: usize = 8;

/// The task that patches departed Services while this controller leads.
pub(crate) struct Departures {
    client: Client,
    class: Option<String>,
    /// The queue and the task of the current term. The queue contains each departed Service once, so the
    /// number of Services bounds it.
    running: Option<(mpsc::UnboundedSender<DepartedService>, AbortOnDropHandle<()>)>,
}

impl Departures {
    /// Returns a task that is not started, for the instance with this load balancer class.
    pub(crate) fn new(client: Client, class: Option<String>) -> Self {
        Self { client, class, running: None }
    }

    /// Starts the task, once until [`Departures::stop`].
    pub(crate) fn start(&mut self) {
        self.running.get_or_insert_with(|| {
            let (sender, receiver) = mpsc::unbounded_channel();
            let task = run(self.client.clone(), self.class.clone(), receiver);
            (sender, AbortOnDropHandle::new(tokio::spawn(task)))
        });
    }

    /// Aborts the task.
    pub(crate) fn stop(&mut self) {
        self.running = None;
    }

    /// Adds a departed Service.
    pub(crate) fn push(&self, departed: DepartedService) {
        if let Some((queue, _)) = &self.running {
            // The task ends only with its queue.
            let _ = queue.send(departed);
        }
    }
}

async fn run(client: Client, class: Option<String>, queue: mpsc::UnboundedReceiver<DepartedService>) {
    let patch_listed = async {
        for departed in list_departed(&client).await {
            clean(client.clone(), class.clone(), departed).await;
        }
    };
    let queue = stream::unfold(queue, |mut queue| async move { Some((queue.recv().await?, queue)) });
    let patch_queued =
        queue.for_each_concurrent(CONCURRENT, |departed| clean(client.clone(), class.clone(), departed));
    tokio::join!(patch_listed, patch_queued);
}

/// Lists the Services of other types that carry a status of this controller.
async fn list_departed(client: &Client) -> Vec<DepartedService> {
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
    let selection = ListParams::default().fields("spec.type!=LoadBalancer");
    let path = Service::url_path(&(), None);
    loop {
        let mut departed = Vec::new();
        // The Services stay JSON: what others have written into them cannot fail to be read.
        let listed = for_each_listed(client, &path, &selection, |service| {
            let service: Option<Value> = serde_json::from_str(service).ok();
            departed.extend(service.as_ref().and_then(DepartedService::listed));
        });
        match listed.await {
            Ok(_) => return departed,
            // Perhaps an expired token: the list begins again.
            Err(failure) => {
                let error = chain(&failure);
                tracing::debug!(error, "cannot list the Services of other types; retrying");
                tokio::time::sleep(backoff.fail(rand::random())).await;
            }
        }
    }
}

/// Removes what this controller has written into a Service. Gives up after [`ATTEMPTS`].
async fn clean(client: Client, class: Option<String>, departed: DepartedService) {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(60));
    let mut attempts = 0;
    while attempts < ATTEMPTS {
        attempts += 1;
        let attempt = try_clean(&client, class.as_deref(), &departed);
        match tokio::time::timeout(REQUEST_TIMEOUT, attempt).await {
            Ok(Ok(false)) => return,
            Ok(Ok(true)) => {
                return tracing::info!(service = %departed.key, "removed the status of a Service that left");
            }
            Ok(Err(failure)) => {
                // The cause is not the Service. `/readyz` shows it when a status is written.
                attempts -= usize::from(failure.missing_permission().is_some());
                let error = chain(&failure);
                tracing::debug!(service = %departed.key, error, "cannot remove the status; retrying");
            }
            Err(_) => tracing::debug!(service = %departed.key, "no response from the API server; retrying"),
        }
        tokio::time::sleep(backoff.fail(rand::random())).await;
    }
    tracing::warn!(
        service = %departed.key,
        "cannot remove the status of a Service that left; the next leader retries"
    );
}

/// Reads and patches a Service. Returns whether there was something to remove.
async fn try_clean(
    client: &Client,
    class: Option<&str>,
    departed: &DepartedService,
) -> Result<bool, Failure> {
    let path = Request::new(Service::url_path(&(), Some(&departed.key.namespace)));
    let get = path.get(&departed.key.name, &Default::default()).map_err(Error::BuildRequest)?;
    let service: Value = match request(client, get).await {
        Err(failure) if is_gone(&failure) => return Ok(false),
        result => result?,
    };
    let Some(body) = departed.patch(&service, class) else { return Ok(false) };
    let parameters = PatchParams { field_manager: Some(CONTROLLER.to_owned()), ..PatchParams::default() };
    let patch = path.patch_subresource("status", &departed.key.name, &parameters, &Patch::Merge(()));
    let mut patch = patch.map_err(Error::BuildRequest)?;
    *patch.body_mut() = body.to_string().into_bytes();
    match request::<IgnoredAny>(client, patch).await {
        Err(failure) if is_gone(&failure) => Ok(false),
        result => result.map(|_| true),
    }
}

fn is_gone(failure: &Failure) -> bool {
    matches!(&failure.error, Error::Api(status) if status.code == 404)
}
