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
use fairlead_runtime::request::{Failure, request};
use fairlead_runtime::watch::REQUEST_TIMEOUT;
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Service;
use kube::api::{ListParams, Patch, PatchParams};
use kube::core::{Request, Resource};
use kube::{Client, Error};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

/// The maximum number of Services that are read or patched at once.
const CONCURRENT: usize = 4;
/// The number of Services in one page of the list.
const PAGE_SIZE: u32 = 500;
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
    let (mut departed, mut token) = (Vec::new(), None);
    loop {
        match list_page(client, token.take()).await {
            Ok(Page { items, metadata }) => {
                departed.extend(items.iter().filter_map(DepartedService::listed));
                match metadata.next.filter(|next| !next.is_empty()) {
                    Some(next) => token = Some(next),
                    None => return departed,
                }
            }
            Err(failure) => {
                // An expired token: the list begins again.
                departed.clear();
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
    for _ in 0..ATTEMPTS {
        let attempt = try_clean(&client, class.as_deref(), &departed);
        match tokio::time::timeout(REQUEST_TIMEOUT, attempt).await {
            Ok(Ok(false)) => return,
            Ok(Ok(true)) => {
                return tracing::info!(service = %departed.key, "removed the status of a Service that left");
            }
            Ok(Err(failure)) => {
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
    match request::<Value>(client, patch).await {
        Err(failure) if is_gone(&failure) => Ok(false),
        result => result.map(|_| true),
    }
}

fn is_gone(failure: &Failure) -> bool {
    matches!(&failure.error, Error::Api(status) if status.code == 404)
}

/// A page of a list. The Services stay JSON: what others have written into them cannot fail to be read.
#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    items: Vec<Value>,
    #[serde(default)]
    metadata: PageMetadata,
}

#[derive(Default, Deserialize)]
struct PageMetadata {
    #[serde(rename = "continue")]
    next: Option<String>,
}

async fn list_page(client: &Client, continue_token: Option<String>) -> Result<Page, Failure> {
    let parameters = ListParams { limit: Some(PAGE_SIZE), continue_token, ..ListParams::default() };
    let parameters = parameters.fields("spec.type!=LoadBalancer");
    let list = Request::new(Service::url_path(&(), None)).list(&parameters).map_err(Error::BuildRequest)?;
    request(client, list).await
}
