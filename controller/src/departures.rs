//! The last patch of Services that are no longer load balancers of this controller: it removes what the
//! controller has written into them.
//!
//! The watch selects `spec.type=LoadBalancer`, so a change of type arrives as a deletion. Only the Service
//! itself shows whether it exists: the task reads each departed Service that carries a status of this
//! controller. That costs one request for each deleted Service, at most [`CONCURRENT`] at once. What departed
//! while no controller led is found once per term, by a list of all Services of other types in pages. Load
//! balancers of other classes are watched. One list of Speaker objects per term shows which of these classes
//! have an instance without pools and peers. A Service that cannot be patched is retried every [`LATER`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fairlead_allocator::reconcile::DepartedService;
use fairlead_crds::model::service::ObjectKey;
use fairlead_crds::names::CONTROLLER;
use fairlead_crds::v1beta1::Speaker;
use fairlead_runtime::backoff::Backoff;
use fairlead_runtime::client::chain;
use fairlead_runtime::pages::for_each_listed;
use fairlead_runtime::request::{Failure, request, response_without_object};
use fairlead_runtime::watch::REQUEST_TIMEOUT;
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Service;
use kube::api::{ListParams, Patch, PatchParams};
use kube::core::{Request, Resource};
use kube::{Client, Error};
use serde::de::IgnoredAny;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::task::AbortOnDropHandle;

/// The maximum number of Services that are read or patched at once.
const CONCURRENT: usize = 4;
/// The number of attempts for one Service before it is left for later, so that it does not delay others.
const ATTEMPTS: usize = 8;
/// The time between two later attempts for a Service.
const LATER: Duration = Duration::from_secs(300);

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

    /// Starts the task, once until [`Departures::stop`]. `unserved` are load balancers of classes that have
    /// neither pools nor peers; those of a class with a Speaker object stay unchanged.
    pub(crate) fn start(&mut self, unserved: Vec<DepartedService>) {
        self.running.get_or_insert_with(|| {
            let (sender, receiver) = mpsc::unbounded_channel();
            let task = run(self.client.clone(), self.class.clone(), unserved, receiver);
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

async fn run(
    client: Client,
    class: Option<String>,
    unserved: Vec<DepartedService>,
    queue: mpsc::UnboundedReceiver<DepartedService>,
) {
    // Read at once into the map.
    let (later, mut delayed) = mpsc::unbounded_channel();
    let clean_or_delay = |departed| clean_or_delay(client.clone(), class.clone(), later.clone(), departed);
    let patch_listed = async {
        for departed in list_departed(&client).await {
            clean_or_delay(departed).await;
        }
    };
    let patch_unserved = async {
        if unserved.is_empty() {
            return;
        }
        let served = list_speaker_classes(&client).await;
        for departed in unserved.into_iter().filter(|departed| !departed.is_served(&served)) {
            clean_or_delay(departed).await;
        }
    };
    let queue = stream::unfold(queue, |mut queue| async move { Some((queue.recv().await?, queue)) });
    let patch_queued = queue.for_each_concurrent(CONCURRENT, clean_or_delay);
    let retry_later = async {
        let mut waiting = Later::default();
        loop {
            let due = waiting.first_due();
            let next = tokio::select! {
                // Does not end: `later` exists.
                Some(departed) = delayed.recv() => {
                    waiting.insert(Instant::now() + LATER, departed);
                    continue;
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => waiting.pop_first(),
            };
            if let Some(departed) = next
                && !attempt(&client, class.as_deref(), &departed).await
            {
                waiting.insert(Instant::now() + LATER, departed);
            }
        }
    };
    tokio::join!(patch_listed, patch_unserved, patch_queued, retry_later);
}

/// The Services to retry later. It contains each Service once, as it departed last, so the number of Services
/// bounds it.
#[derive(Default)]
struct Later {
    services: BTreeMap<ObjectKey, (Instant, DepartedService)>,
    by_due: BTreeSet<(Instant, ObjectKey)>,
}

impl Later {
    fn insert(&mut self, due: Instant, departed: DepartedService) {
        let key = departed.key.clone();
        self.by_due.insert((due, key.clone()));
        if let Some((earlier, _)) = self.services.insert(key.clone(), (due, departed))
            && earlier != due
        {
            self.by_due.remove(&(earlier, key));
        }
    }

    fn first_due(&self) -> Option<Instant> {
        self.by_due.first().map(|(due, _)| *due)
    }

    fn pop_first(&mut self) -> Option<DepartedService> {
        let (_, key) = self.by_due.pop_first()?;
        self.services.remove(&key).map(|(_, departed)| departed)
    }
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

/// Lists the load balancer classes of the Speaker objects: those of the instances that run. An API server
/// that does not serve the kind has none.
async fn list_speaker_classes(client: &Client) -> BTreeSet<Option<String>> {
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
    let (path, selection) = (Speaker::url_path(&(), None), ListParams::default());
    loop {
        let mut classes = BTreeSet::new();
        let listed = for_each_listed(client, &path, &selection, |speaker| {
            // Only the class is read: another part that cannot be read must not hide the instance.
            let speaker: Value = serde_json::from_str(speaker).unwrap_or_default();
            let class = speaker["spec"]["loadBalancerClass"].as_str().filter(|class| !class.is_empty());
            classes.insert(class.map(str::to_owned));
        });
        match listed.await {
            Ok(_) => return classes,
            Err(failure) if is_gone(&failure) => return BTreeSet::new(),
            Err(failure) => {
                let error = chain(&failure);
                tracing::debug!(error, "cannot list the Speaker objects; retrying");
                tokio::time::sleep(backoff.fail(rand::random())).await;
            }
        }
    }
}

/// Removes what this controller has written into a Service, or leaves it for later.
async fn clean_or_delay(
    client: Client,
    class: Option<String>,
    later: mpsc::UnboundedSender<DepartedService>,
    departed: DepartedService,
) {
    if !clean(&client, class.as_deref(), &departed).await {
        tracing::warn!(
            service = %departed.key,
            "cannot remove the status of a Service that left; retrying every {LATER:?}"
        );
        // The receiver lives as long as the task.
        let _ = later.send(departed);
    }
}

/// Removes what this controller has written into a Service. Returns false after [`ATTEMPTS`] failures.
async fn clean(client: &Client, class: Option<&str>, departed: &DepartedService) -> bool {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(60));
    for _ in 0..ATTEMPTS {
        if attempt(client, class, departed).await {
            return true;
        }
        tokio::time::sleep(backoff.fail(rand::random())).await;
    }
    false
}

/// Returns whether nothing is left to remove. A missing permission is a failure like others: it may concern
/// one namespace only. `/readyz` shows it when a status is written.
async fn attempt(client: &Client, class: Option<&str>, departed: &DepartedService) -> bool {
    match tokio::time::timeout(REQUEST_TIMEOUT, try_clean(client, class, departed)).await {
        Ok(Ok(removed)) => {
            if removed {
                tracing::info!(service = %departed.key, "removed the status of a Service that left");
            }
            true
        }
        Ok(Err(failure)) => {
            let error = chain(&failure);
            tracing::debug!(service = %departed.key, error, "cannot remove the status; retrying");
            false
        }
        Err(_) => {
            tracing::debug!(service = %departed.key, "no response from the API server; retrying");
            false
        }
    }
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
    match request::<IgnoredAny>(client, response_without_object(patch)?).await {
        Err(failure) if is_gone(&failure) => Ok(false),
        result => result.map(|_| true),
    }
}

fn is_gone(failure: &Failure) -> bool {
    matches!(&failure.error, Error::Api(status) if status.code == 404)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::http::{Method, Response, StatusCode};
    use fairlead_allocator::reconcile::MarkedService;
    use kube::client::Body;
    use serde_json::json;
    use tower::service_fn;

    use super::*;

    const REFUSED: (u16, &str) = (422, "no");
    const FORBIDDEN: (u16, &str) =
        (403, "services \"s\" is forbidden: User \"u\" cannot patch resource \"services/status\"");

    fn service(spec: Value) -> Value {
        json!({
            "metadata": { "namespace": "a", "name": "s", "uid": "u", "resourceVersion": "1",
                          "annotations": { "fairlead.dev/ip-allocated-from-pool": "p" } },
            "spec": spec,
        })
    }

    /// Returns a client whose API server has this Service under every name and a Speaker object of each of
    /// these classes, and answers so many patches with this code and message. It counts the patches.
    fn server(
        service: Value,
        speakers: &[&str],
        refused: usize,
        (code, message): (u16, &'static str),
    ) -> (Client, Arc<AtomicUsize>) {
        let patches = Arc::new(AtomicUsize::new(0));
        let counted = patches.clone();
        let list = |items: Vec<Value>| json!({ "metadata": {}, "items": items });
        let speaker = |class: &&str| json!({ "spec": { "loadBalancerClass": class } });
        let speakers = list(speakers.iter().map(speaker).collect());
        let service = service_fn(move |request: axum::http::Request<Body>| {
            let path = request.uri().path();
            let is_patch = request.method() == Method::PATCH;
            let refuse = is_patch && counted.fetch_add(1, Ordering::SeqCst) < refused;
            let body = match path.rsplit('/').next() {
                Some("services") => list(Vec::new()),
                Some("speakers") => speakers.clone(),
                _ if refuse => {
                    json!({ "kind": "Status", "code": code, "status": "Failure", "message": message })
                }
                _ => service.clone(),
            };
            let status = if refuse { StatusCode::from_u16(code).unwrap() } else { StatusCode::OK };
            let response = Response::builder().status(status).body(axum::body::Body::from(body.to_string()));
            async move { Ok::<_, Infallible>(response.unwrap()) }
        });
        (Client::new(service, "default"), patches)
    }

    fn departed(name: &str) -> DepartedService {
        let mut service = service(json!({ "type": "ClusterIP" }));
        service["metadata"]["name"] = name.into();
        DepartedService::listed(&service).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn service_that_cannot_be_patched_is_retried_slowly() {
        for answer in [REFUSED, FORBIDDEN] {
            let (client, patches) =
                server(service(json!({ "type": "ClusterIP" })), &[], ATTEMPTS + 3, answer);
            let mut departures = Departures::new(client, None);
            departures.start(Vec::new());
            departures.push(departed("s"));
            tokio::time::sleep(LATER / 2).await;
            assert_eq!(patches.load(Ordering::SeqCst), ATTEMPTS, "{answer:?}: at once");
            for later in 1..=4 {
                tokio::time::sleep(LATER).await;
                assert_eq!(
                    patches.load(Ordering::SeqCst),
                    ATTEMPTS + later,
                    "{answer:?}: one attempt each time"
                );
            }
            tokio::time::sleep(4 * LATER).await;
            assert_eq!(patches.load(Ordering::SeqCst), ATTEMPTS + 4, "{answer:?}: the last one succeeded");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn forbidden_services_do_not_delay_others() {
        let (client, patches) = server(service(json!({ "type": "ClusterIP" })), &[], usize::MAX, FORBIDDEN);
        let mut departures = Departures::new(client, None);
        departures.start(Vec::new());
        (0..=CONCURRENT).for_each(|n| departures.push(departed(&format!("s{n}"))));
        tokio::time::sleep(LATER / 2).await;
        assert_eq!(patches.load(Ordering::SeqCst), ATTEMPTS * (CONCURRENT + 1));
    }

    #[tokio::test(start_paused = true)]
    async fn service_that_departs_again_is_retried_once() {
        let (client, patches) = server(service(json!({ "type": "ClusterIP" })), &[], usize::MAX, FORBIDDEN);
        let mut departures = Departures::new(client, None);
        departures.start(Vec::new());
        for _ in 0..3 {
            departures.push(departed("s"));
        }
        tokio::time::sleep(LATER / 2).await;
        assert_eq!(patches.load(Ordering::SeqCst), 3 * ATTEMPTS, "at once");
        tokio::time::sleep(LATER).await;
        assert_eq!(patches.load(Ordering::SeqCst), 3 * ATTEMPTS + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn service_of_a_class_with_speakers_is_left_to_its_instance() {
        for (class, speakers, expected) in [
            (json!("x"), &["", "x"][..], 0),
            (json!("x"), &["", "y"], 1),
            (json!("x"), &[], 1),
            (Value::Null, &[""], 0),
            (Value::Null, &["x"], 1),
        ] {
            let service = service(json!({ "type": "LoadBalancer", "loadBalancerClass": class }));
            let marked = serde_json::from_value(service.clone()).unwrap();
            let marked = MarkedService::of(&marked, Some("own")).unwrap();
            let (client, patches) = server(service, speakers, 0, REFUSED);
            let mut departures = Departures::new(client, Some("own".to_owned()));
            departures.start(marked.departed(&BTreeSet::new()).into_iter().collect());
            tokio::time::sleep(LATER).await;
            assert_eq!(patches.load(Ordering::SeqCst), expected, "class {class}, speakers of {speakers:?}");
        }
    }
}
