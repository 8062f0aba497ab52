//! Sends hostile requests for a limited time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use axum::http::Request;
use fairlead_lab::Lab;
use kube::Client;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::hostile::{self, Hostility};

/// Number of requests at one time.
const WORKERS: usize = 3;
/// Interval of the requests of a worker.
const PACE: Duration = Duration::from_millis(60);
/// Limit for one request.
const PATIENCE: Duration = Duration::from_secs(10);

/// Attempts to release an object that others change.
const ATTEMPTS: usize = 20;

/// An attack in progress. It ends by itself.
pub(crate) struct Attack {
    hostility: Arc<Mutex<Hostility>>,
    counts: Arc<Mutex<Counts>>,
    workers: Arc<Mutex<JoinSet<()>>>,
}

/// Number of requests by kind: accepted, refused.
pub(crate) type Counts = BTreeMap<&'static str, (usize, usize)>;

impl Attack {
    /// Begins.
    pub(crate) fn start(lab: &Lab, seed: u64, duration: Duration) -> Result<Attack> {
        let attack = Attack {
            hostility: Arc::new(Mutex::new(Hostility::new(seed)?)),
            counts: Arc::default(),
            workers: Arc::default(),
        };
        let (hostility, counts, workers) =
            (attack.hostility.clone(), attack.counts.clone(), attack.workers.clone());
        let api = lab.api()?;
        let client = api.client();
        api.run(async move {
            let end = Instant::now() + duration;
            for _ in 0..WORKERS {
                let (client, hostility, counts) = (client.clone(), hostility.clone(), counts.clone());
                lock(&workers).spawn(async move {
                    let mut pace = interval(PACE);
                    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
                    while Instant::now() < end {
                        pace.tick().await;
                        let request = lock(&hostility).next();
                        send(&client, request, &counts).await;
                    }
                });
            }
        });
        Ok(attack)
    }

    /// Waits for the end, and returns the counts.
    pub(crate) fn finish(&self, lab: &Lab) -> Result<Counts> {
        let mut workers = std::mem::take(&mut *lock(&self.workers));
        lab.api()?.run(async move { while workers.join_next().await.is_some() {} });
        Ok(lock(&self.counts).clone())
    }

    /// Removes everything that the attack left.
    pub(crate) fn clean_up(&self, lab: &Lab) -> Result<()> {
        let (requests, held) = lock(&self.hostility).clean_up();
        let (api, counts) = (lab.api()?, self.counts.clone());
        let client = api.client();
        api.run(async move {
            for request in requests {
                send(&client, request, &counts).await;
            }
            for path in held {
                release(&client, &path).await;
            }
            // A deletion during the attack may have overtaken the creation of its object.
            for path in services_of_adversary(&client).await? {
                let delete = Request::delete(&path).body(Vec::new())?;
                let _gone_or_held = client.request_text(delete).await;
                release(&client, &path).await;
            }
            anyhow::Ok(())
        })?;
        Ok(())
    }
}

/// Returns the paths of the Services in the namespaces of the adversary.
async fn services_of_adversary(client: &Client) -> Result<Vec<String>> {
    let list: Value = client.request(Request::get("/api/v1/services").body(Vec::new())?).await?;
    let text = |service: &Value, field: &str| service["metadata"][field].as_str().map(str::to_owned);
    let services = list["items"].as_array().into_iter().flatten();
    let named = services.filter_map(|service| Some((text(service, "namespace")?, text(service, "name")?)));
    let hostile = named.filter(|(namespace, _)| hostile::NAMESPACES.contains(&namespace.as_str()));
    Ok(hostile.map(|(namespace, name)| format!("/api/v1/namespaces/{namespace}/services/{name}")).collect())
}

/// Removes the finalizers of an object if it exists. The API server refuses a patch of an object with a time
/// that it cannot read again, so the object is replaced; its status is not part of that.
async fn release(client: &Client, path: &str) {
    let request = |method: &str, body: Vec<u8>| {
        Request::builder().method(method).uri(path).header("content-type", "application/json").body(body)
    };
    for _ in 0..ATTEMPTS {
        let Ok(get) = request("GET", Vec::new()) else { return };
        let Ok(mut object) = client.request::<Value>(get).await else { return };
        if let Some(fields) = object.as_object_mut() {
            fields.remove("status");
        }
        object["metadata"]["finalizers"] = Value::Null;
        object["metadata"]["managedFields"] = Value::Null;
        let Ok(put) = request("PUT", object.to_string().into_bytes()) else { return };
        match client.request_text(put).await {
            Ok(_) => return,
            Err(error) => eprintln!("release {path}: {:.200}", error.to_string()),
        }
    }
}

async fn send(client: &Client, request: hostile::Request, counts: &Mutex<Counts>) {
    let kind = request.kind;
    let built = Request::builder()
        .method(request.method)
        .uri(&request.path)
        .header("content-type", request.media)
        .body(request.body);
    let accepted = match built {
        Ok(built) => matches!(timeout(PATIENCE, client.request_text(built)).await, Ok(Ok(_))),
        Err(_) => false,
    };
    let mut counts = lock(counts);
    let (good, bad) = counts.entry(kind).or_default();
    *(if accepted { good } else { bad }) += 1;
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
