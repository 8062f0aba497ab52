//! What all watches of a process have in common: metrics, and the outages that were logged.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use fairlead_crds::v1beta1::GROUP;
use kube::Resource;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::http::Health;
use tokio::sync::watch;

/// The command that installs the CRDs, for messages.
const INSTALL_CRDS: &str = "kubectl apply --server-side -k config/crd";

/// What all watches of a process have in common. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Monitor {
    shared: Arc<Shared>,
    failure: Option<watch::Sender<Option<String>>>,
}

#[derive(Debug, Default)]
struct Shared {
    unreadable: Family<KindLabel, Gauge>,
    server: OnceLock<Server>,
    /// The kinds whose last request failed because of an outage of the API server.
    failing: Mutex<BTreeSet<String>>,
    /// The kinds of which the log says that the API server does not serve them. A controller watches each
    /// kind anew in each term.
    missing: Mutex<BTreeSet<String>>,
}

#[derive(Debug)]
struct Server {
    url: String,
    health: Health,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: String,
}

/// Returns a remark on kinds of Fairlead, in plural, that the API server does not serve; `None` if there are
/// none.
pub fn missing_kinds_note(kinds: impl Iterator<Item = String>) -> Option<String> {
    let kinds: Vec<String> = kinds.map(|kind| format!("{kind}.{GROUP}")).collect();
    (!kinds.is_empty()).then(|| {
        format!("the API server does not serve {}: install the CRDs with {INSTALL_CRDS}", kinds.join(", "))
    })
}

impl Monitor {
    /// Returns a monitor that registers its metrics.
    pub fn register(registry: &mut Registry) -> Self {
        let monitor = Self::default();
        registry.register(
            "unreadable_objects",
            "Objects in the API server of which a part cannot be read; the log names them",
            monitor.shared.unreadable.clone(),
        );
        monitor
    }

    /// Sets the URL of the API server, for the log, and the health that shows an outage of it.
    pub fn set_server(&self, url: &str, health: Health) {
        // Only the first value counts: a process has one API server.
        let _ = self.shared.server.set(Server { url: url.to_owned(), health });
    }

    /// Returns a monitor that also sends the cause of the current failure of its watch; `None` once the watch
    /// works again.
    #[must_use]
    pub fn reporting_failures(&self, to: watch::Sender<Option<String>>) -> Self {
        Self { shared: self.shared.clone(), failure: Some(to) }
    }

    /// Reports a failure of the watch, or with `None` that it works.
    pub(super) fn report(&self, failure: Option<&str>) {
        if let Some(sender) = &self.failure {
            sender.send_if_modified(|current| {
                let changed = current.as_deref() != failure;
                if changed {
                    *current = failure.map(str::to_owned);
                }
                changed
            });
        }
    }

    /// Sets the number of objects of a kind that cannot be read completely.
    pub(super) fn set_unreadable<K: Resource<DynamicType = ()>>(&self, number: usize) {
        let label = KindLabel { kind: K::kind(&()).into_owned() };
        self.shared.unreadable.get_or_create(&label).set(i64::try_from(number).unwrap_or(i64::MAX));
    }

    /// Logs that the API server does not serve a kind, once until [`Monitor::handle_served`].
    pub(super) fn log_missing<K: Resource<DynamicType = ()>>(&self) {
        let (kind, plural, group) = (K::kind(&()), K::plural(&()), K::group(&()));
        if !self.missing().insert(kind.to_string()) {
            return;
        }
        let remedy = if group == GROUP { INSTALL_CRDS } else { "check the version of Kubernetes" };
        tracing::warn!(%kind, remedy, "the API server does not serve {plural}.{group}");
    }

    /// Records that the API server serves a kind, so that its next absence is logged.
    pub(super) fn handle_served<K: Resource<DynamicType = ()>>(&self) {
        self.missing().remove(&*K::kind(&()));
    }

    /// Logs an outage of the API server, if no other kind has reported it. `/readyz` shows it.
    pub(super) fn log_outage(&self, kind: &str, error: &str) {
        let mut failing = self.failing();
        if failing.is_empty() {
            let server = self.shared.server.get();
            let url = server.map(|server| &*server.url);
            tracing::warn!(
                server = url,
                error,
                "the API server is unavailable; retrying, known objects stay in use"
            );
            if let Some(Server { url, health }) = server {
                health.set_outage(Some(format!("the API server {url} is unavailable: {error}")));
            }
        } else {
            tracing::debug!(%kind, %error, "watch failed; retrying");
        }
        failing.insert(kind.to_owned());
    }

    /// Logs that a kind is watched again, or, if it was the last in an outage, that the outage ended.
    pub(super) fn log_recovery(&self, kind: &str) {
        if !self.failing().contains(kind) {
            tracing::info!(%kind, "watch recovered");
        } else if self.forget(kind) {
            let server = self.shared.server.get().map(|server| &*server.url);
            tracing::info!(server, "the API server is available again");
        }
    }

    /// Removes a kind that is no longer watched, or is watched again, from the current outage. Returns true
    /// if that ends the outage.
    pub(super) fn forget(&self, kind: &str) -> bool {
        let mut failing = self.failing();
        let ended = failing.remove(kind) && failing.is_empty();
        if ended && let Some(server) = self.shared.server.get() {
            server.health.set_outage(None);
        }
        ended
    }

    fn missing(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.shared.missing.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn failing(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.shared.failing.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
