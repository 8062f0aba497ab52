//! What a watch of all Services shows: who holds which address, since when, and which rules were violated.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::{Result, bail};
use axum::http::Request;
use fairlead_e2e::SOON;
use fairlead_lab::{Lab, ensure, wait_for};
use futures::TryStreamExt as _;
use kube::Client;
use kube::api::WatchEvent;
use serde_json::Value;
use tokio::task::AbortHandle;

/// Addresses that only the adversary writes, into a status; they mean nothing.
const FORGED: &str = "203.0.113.";
const SHARING: [&str; 3] =
    ["fairlead.dev/allow-shared-ip", "metallb.io/allow-shared-ip", "metallb.universe.tf/allow-shared-ip"];

/// A record of all Services since it began.
pub(crate) struct Witness {
    book: Arc<Mutex<Book>>,
    task: AbortHandle,
}

#[derive(Default)]
struct Book {
    is_complete: bool,
    /// By `namespace/name`.
    services: BTreeMap<String, Seen>,
    holders: BTreeMap<String, BTreeSet<String>>,
    /// Services whose addresses must not change, with the addresses.
    fixed: BTreeMap<String, Vec<String>>,
    wrong: Vec<String>,
}

#[derive(Clone, Debug, Default)]
struct Seen {
    addresses: Vec<String>,
    /// When it appeared, and when it first had an address.
    appeared: Option<Instant>,
    served: Option<Instant>,
    key: String,
    ports: BTreeSet<(String, i64)>,
}

impl Witness {
    /// Begins with the existing Services.
    pub(crate) fn follow(lab: &Lab) -> Result<Witness> {
        let book = Arc::new(Mutex::new(Book::default()));
        let (api, writer) = (lab.api()?, book.clone());
        let client = api.client();
        let task = api.run(async move { tokio::spawn(write(client, writer)).abort_handle() });
        let witness = Witness { book, task };
        wait_for("the first list of Services", SOON, || ensure(witness.book().is_complete, "no list"))?;
        Ok(witness)
    }

    /// From now on, this Service must keep its addresses.
    pub(crate) fn expect_unmoved(&self, service: &str) {
        let mut book = self.book();
        let addresses = book.services.get(service).map(|seen| seen.addresses.clone()).unwrap_or_default();
        book.fixed.insert(service.to_owned(), addresses);
    }

    /// Returns when a Service appeared, and when it first had an address.
    pub(crate) fn served(&self, service: &str) -> Option<(Instant, Instant)> {
        let book = self.book();
        let seen = book.services.get(service)?;
        Some((seen.appeared?, seen.served?))
    }

    /// Returns an error if a rule was violated so far.
    pub(crate) fn check(&self) -> Result<()> {
        let book = self.book();
        match &book.wrong[..] {
            [] => Ok(()),
            wrong => bail!("{} violations, such as {}", wrong.len(), wrong[..wrong.len().min(5)].join("; ")),
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn write(client: Client, book: Arc<Mutex<Book>>) {
    let take = |event: &dyn Fn(&mut Book)| event(&mut book.lock().unwrap_or_else(PoisonError::into_inner));
    loop {
        let list: Value = match client.request(get("/api/v1/services")).await {
            Ok(list) => list,
            Err(error) => {
                eprintln!("list of Services: {error}");
                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
                continue;
            }
        };
        take(&|book| book.listed(&list));
        let version = list["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        let path = format!("/api/v1/services?watch=true&resourceVersion={version}");
        let Ok(events) = client.request_events::<Value>(get(&path)).await else { continue };
        let mut events = std::pin::pin!(events);
        while let Ok(Some(event)) = events.try_next().await {
            match event {
                WatchEvent::Added(service) | WatchEvent::Modified(service) => {
                    take(&|book| book.applied(&service))
                }
                WatchEvent::Deleted(service) => take(&|book| book.forget(&key(&service))),
                WatchEvent::Bookmark(_) => {}
                WatchEvent::Error(_) => break,
            }
        }
    }
}

impl Book {
    fn listed(&mut self, list: &Value) {
        let items: Vec<&Value> = list["items"].as_array().into_iter().flatten().collect();
        let keys: BTreeSet<String> = items.iter().map(|service| key(service)).collect();
        let gone: Vec<String> = self.services.keys().filter(|key| !keys.contains(*key)).cloned().collect();
        gone.iter().for_each(|key| self.forget(key));
        items.iter().for_each(|service| self.applied(service));
        self.is_complete = true;
    }

    fn applied(&mut self, service: &Value) {
        let key = key(service);
        let old = self.services.get(&key).cloned().unwrap_or_default();
        let seen = Seen::of(service, &old);
        for ip in old.addresses.iter().filter(|ip| !seen.addresses.contains(ip)) {
            self.release(ip, &key);
        }
        if self.fixed.get(&key).is_some_and(|fixed| *fixed != seen.addresses) {
            self.wrong.push(format!("{key} had {:?} and has {:?}", self.fixed[&key], seen.addresses));
        }
        for ip in seen.addresses.iter().filter(|ip| !old.addresses.contains(ip)) {
            let holders = self.holders.entry(ip.clone()).or_default();
            for other in holders.iter() {
                if !self.services.get(other).is_some_and(|other| other.shares_with(&seen)) {
                    self.wrong.push(format!("{ip} is given to {key} while {other} holds it"));
                }
            }
            holders.insert(key.clone());
        }
        self.services.insert(key, seen);
    }

    fn forget(&mut self, key: &str) {
        if let Some(seen) = self.services.remove(key) {
            seen.addresses.iter().for_each(|ip| self.release(ip, key));
        }
        if self.fixed.contains_key(key) {
            self.wrong.push(format!("{key} was deleted"));
        }
    }

    fn release(&mut self, ip: &str, key: &str) {
        if let Some(holders) = self.holders.get_mut(ip) {
            holders.remove(key);
        }
    }
}

impl Seen {
    fn of(service: &Value, old: &Seen) -> Seen {
        let ingress = service["status"]["loadBalancer"]["ingress"].as_array();
        let addresses: Vec<String> = ingress
            .into_iter()
            .flatten()
            .filter_map(|entry| entry["ip"].as_str())
            .filter(|ip| !ip.starts_with(FORGED))
            .map(str::to_owned)
            .collect();
        let annotations = &service["metadata"]["annotations"];
        let key = SHARING.iter().find_map(|key| annotations[*key].as_str()).unwrap_or_default().to_owned();
        let ports = service["spec"]["ports"].as_array().into_iter().flatten();
        let port = |port: &Value| {
            (port["protocol"].as_str().unwrap_or("TCP").to_owned(), port["port"].as_i64().unwrap_or_default())
        };
        let appeared = old.appeared.or_else(|| Some(Instant::now()));
        let served = old.served.or_else(|| (!addresses.is_empty()).then(Instant::now));
        Seen { addresses, appeared, served, key, ports: ports.map(port).collect() }
    }

    fn shares_with(&self, other: &Seen) -> bool {
        !self.key.is_empty() && self.key == other.key && self.ports.is_disjoint(&other.ports)
    }
}

fn get(path: &str) -> Request<Vec<u8>> {
    let mut request = Request::new(Vec::new());
    if let Ok(uri) = path.parse() {
        *request.uri_mut() = uri;
    }
    request
}

/// `namespace/name`.
fn key(service: &Value) -> String {
    let text = |field: &str| service["metadata"][field].as_str().unwrap_or_default();
    format!("{}/{}", text("namespace"), text("name"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn service(name: &str, ip: &str, key: &str, port: u16) -> Value {
        json!({
            "metadata": { "namespace": "n", "name": name, "annotations": { SHARING[0]: key } },
            "spec": { "ports": [{ "port": port }] },
            "status": { "loadBalancer": { "ingress": [{ "ip": ip }] } },
        })
    }

    #[test]
    fn witness_reports_second_holder_and_move() {
        for (second, is_wrong) in [
            (service("b", "10.0.0.2", "", 80), false),
            (service("b", "10.0.0.1", "", 80), true),
            (service("b", "10.0.0.1", "k", 81), false),
            (service("b", "10.0.0.1", "k", 80), true),
            (service("a", "10.0.0.3", "k", 80), true),
            (service("b", "203.0.113.1", "", 80), false),
        ] {
            let mut book = Book::default();
            book.applied(&service("a", "10.0.0.1", "k", 80));
            book.fixed.insert("n/a".into(), vec!["10.0.0.1".into()]);
            book.applied(&second);
            assert_eq!(!book.wrong.is_empty(), is_wrong, "{second}: {:?}", book.wrong);
        }
    }
}
