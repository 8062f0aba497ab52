//! Records the holder of every address with every change of any Service, so that no intermediate state is
//! missed.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use fairlead_lab::{Lab, ensure, wait_for};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Service;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt as _};
use tokio::task::AbortHandle;

use crate::{LbService, SOON};

/// A record of all Services since it began. It requires that an address has one holder at a time and that a
/// Service keeps its addresses, so it does not fit tests with sharing or changed requests.
pub struct Ledger {
    book: Arc<Mutex<Book>>,
    task: AbortHandle,
}

#[derive(Default)]
struct Book {
    /// By UID.
    services: BTreeMap<String, Entry>,
    listing: Vec<String>,
    is_complete: bool,
    wrong: Vec<String>,
}

struct Entry {
    name: String,
    addresses: Vec<IpAddr>,
}

impl Ledger {
    /// Begins with the existing Services.
    pub fn follow(lab: &Lab) -> Result<Self> {
        let book = Arc::new(Mutex::new(Book::default()));
        let (api, writer) = (lab.api()?, book.clone());
        let client = api.client();
        let task = api.run(async move { tokio::spawn(write(client, writer)).abort_handle() });
        let ledger = Self { book, task };
        wait_for("the first list of Services", SOON, || ensure(ledger.book().is_complete, "no list"))?;
        Ok(ledger)
    }

    /// Returns an error if a rule was violated so far.
    pub fn check(&self) -> Result<()> {
        match self.book().wrong.as_slice() {
            [] => Ok(()),
            wrong => bail!("{}", wrong.join("; ")),
        }
    }

    /// Returns addresses by Service, for Services whose names begin with `prefix`.
    pub fn held(&self, prefix: &str) -> BTreeMap<String, Vec<IpAddr>> {
        let book = self.book();
        let entries = book.services.values().filter(|entry| entry.name.starts_with(prefix));
        entries.map(|entry| (entry.name.clone(), entry.addresses.clone())).collect()
    }

    /// Waits until all these Services have addresses.
    pub fn expect_served(&self, services: &[LbService], limit: Duration) -> Result<()> {
        wait_for(format!("addresses of {} Services", services.len()), limit, || {
            let held = self.held("");
            let mut waiting = services.iter().map(LbService::name);
            let none_yet = waiting.find(|name| held.get(*name).is_none_or(Vec::is_empty));
            none_yet.map_or(Ok(()), |name| Err(anyhow!("{name} has no address")))
        })
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        lock(&self.book)
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn write(client: Client, book: Arc<Mutex<Book>>) {
    let mut events = watcher(Api::<Service>::all(client), watcher::Config::default()).boxed();
    while let Some(event) = events.next().await {
        let mut book = lock(&book);
        match event {
            Ok(Event::Init) => book.listing.clear(),
            Ok(Event::InitApply(service)) => {
                book.listing.push(service.uid().unwrap_or_default());
                book.applied(&service);
            }
            Ok(Event::InitDone) => {
                book.is_complete = true;
                let listed = std::mem::take(&mut book.listing);
                book.services.retain(|uid, _| listed.contains(uid));
                // Checked at the end, because a deleted Service may still be in the record until here.
                listed.iter().for_each(|uid| book.expect_sole_holder(uid));
            }
            Ok(Event::Apply(service)) => {
                book.applied(&service);
                book.expect_sole_holder(&service.uid().unwrap_or_default());
            }
            Ok(Event::Delete(service)) => {
                book.services.remove(&service.uid().unwrap_or_default());
            }
            Err(error) => eprintln!("watch of Services: {error}"),
        }
    }
}

impl Book {
    fn applied(&mut self, service: &Service) {
        let (uid, name) = (service.uid().unwrap_or_default(), service.name_any());
        let addresses = addresses(service);
        let entry = self.services.entry(uid).or_insert_with(|| Entry { name, addresses: Vec::new() });
        if !entry.addresses.is_empty() && entry.addresses != addresses {
            self.wrong.push(format!("{} had {:?} and has {addresses:?}", entry.name, entry.addresses));
        }
        entry.addresses = addresses;
    }

    fn expect_sole_holder(&mut self, uid: &str) {
        let Some(holder) = self.services.get(uid) else { return };
        for ip in &holder.addresses {
            let other = self.services.iter().find(|(of, entry)| *of != uid && entry.addresses.contains(ip));
            if let Some((_, other)) = other {
                self.wrong.push(format!("{ip} is {}'s while it is {}'s", holder.name, other.name));
            }
        }
    }
}

fn addresses(service: &Service) -> Vec<IpAddr> {
    let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = balancer.and_then(|balancer| balancer.ingress.as_ref());
    ingress.into_iter().flatten().filter_map(|entry| entry.ip.as_ref()?.parse().ok()).collect()
}

fn lock(book: &Mutex<Book>) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn service(uid: &str, ips: &[&str]) -> Service {
        let ingress: Vec<_> = ips.iter().map(|ip| json!({ "ip": ip })).collect();
        serde_json::from_value(json!({
            "metadata": { "name": uid, "uid": uid },
            "status": { "loadBalancer": { "ingress": ingress } },
        }))
        .unwrap()
    }

    #[test]
    fn ledger_reports_second_holder_move_and_loss() {
        for (changes, is_wrong) in [
            (vec![("a", &[][..]), ("a", &["1.0.0.1"]), ("b", &["1.0.0.2"]), ("a", &["1.0.0.1"])], false),
            (vec![("a", &["1.0.0.1"]), ("b", &["1.0.0.1"])], true),
            (vec![("a", &["1.0.0.1"]), ("a", &["1.0.0.2"])], true),
            (vec![("a", &["1.0.0.1"]), ("a", &[])], true),
        ] {
            let mut book = Book::default();
            for (uid, ips) in &changes {
                book.applied(&service(uid, ips));
                book.expect_sole_holder(uid);
            }
            assert_eq!(!book.wrong.is_empty(), is_wrong, "{changes:?}: {:?}", book.wrong);
        }
    }
}
