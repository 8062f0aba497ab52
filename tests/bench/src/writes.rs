//! Counts writes to the API by author and object, from watches on all kinds.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::StreamExt as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, DynamicObject};
use kube::core::PartialObjectMeta;
use kube::discovery::{ApiResource, Discovery, verbs};
use kube::runtime::watcher::{self, Event, watcher};

use fairlead_lab::Lab;
use fairlead_lab::api;

/// Limit for listing all kinds.
const LISTED_WITHIN: Duration = Duration::from_secs(60);

/// Writes by author (field manager) and kind.
pub(crate) type Counts = BTreeMap<(String, String), u64>;

/// Watches on all kinds. They run on the LAN client's host, so that their packets do not count as packets of
/// nodes or of the controller.
#[derive(Debug)]
pub(crate) struct Writes {
    // The runtime owns the tasks of the watches.
    _runtime: tokio::runtime::Runtime,
    changes: Receiver<(String, String)>,
}

impl Writes {
    /// Lists and watches all kinds that the API server serves.
    ///
    /// # Errors
    /// If the API server refuses.
    pub(crate) fn watch(lab: &Lab) -> Result<Self> {
        let runtime = api::runtime_in(&lab.network().client)?;
        let kubeconfig = lab.api_server()?.kubeconfig().to_owned();
        let (sink, changes) = channel();
        let (listed, lists) = channel();
        let count = runtime.block_on(runtime.spawn(async move {
            let client = api::connect(&kubeconfig).await?;
            let discovery = Discovery::new(client.clone()).run().await?;
            let resources = discovery.groups().flat_map(|group| group.recommended_resources());
            let watched: Vec<ApiResource> = resources
                .filter(|(_, can)| {
                    can.supports_operation(verbs::LIST) && can.supports_operation(verbs::WATCH)
                })
                .map(|(resource, _)| resource)
                // The API server serves Events twice; these are those of events.k8s.io.
                .filter(|resource| !(resource.group.is_empty() && resource.plural == "events"))
                .collect();
            let count = watched.len();
            for resource in watched {
                let api = Api::<PartialObjectMeta<DynamicObject>>::all_with(client.clone(), &resource);
                tokio::spawn(follow(api, resource.plural, sink.clone(), listed.clone()));
            }
            anyhow::Ok(count)
        }))??;
        for _ in 0..count {
            lists.recv_timeout(LISTED_WITHIN).context("a resource could not be listed")?;
        }
        let writes = Self { _runtime: runtime, changes };
        writes.count();
        Ok(writes)
    }

    /// Returns the writes since the last call.
    pub(crate) fn count(&self) -> Counts {
        let mut counts = Counts::new();
        for change in self.changes.try_iter() {
            *counts.entry(change).or_default() += 1;
        }
        counts
    }
}

async fn follow(
    api: Api<PartialObjectMeta<DynamicObject>>,
    what: String,
    sink: Sender<(String, String)>,
    listed: Sender<()>,
) {
    let mut stream = watcher(api, watcher::Config::default()).boxed();
    while let Some(event) = stream.next().await {
        let who = match event {
            Ok(Event::Apply(object)) => author(&object.metadata),
            Ok(Event::Delete(_)) => "unknown (deleted)".to_owned(),
            Ok(Event::InitDone) => {
                // Nothing waits for a second list.
                let _ = listed.send(());
                continue;
            }
            Ok(Event::Init | Event::InitApply(_)) => continue,
            Err(error) => {
                tracing::warn!(%error, "watch of {what}");
                continue;
            }
        };
        if sink.send((who, what.clone())).is_err() {
            return;
        }
    }
}

/// Returns the author of the last write.
fn author(metadata: &ObjectMeta) -> String {
    let entries = metadata.managed_fields.iter().flatten();
    let last = entries.max_by_key(|entry| entry.time.as_ref().map(|time| time.0));
    last.and_then(|entry| entry.manager.clone()).unwrap_or_else(|| "unknown".to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn author_is_manager_of_last_write() {
        let metadata = json!({ "managedFields": [
            { "manager": "kubectl", "time": "2026-01-01T00:00:02Z" },
            { "manager": "fairlead-controller", "time": "2026-01-01T00:00:03Z" },
            { "manager": "fairlead-speaker", "time": "2026-01-01T00:00:01Z" },
        ] });
        assert_eq!(author(&from_value(metadata).unwrap()), "fairlead-controller");
        assert_eq!(author(&ObjectMeta::default()), "unknown");
    }
}
