//! The list of `PoolCooldown` objects at the start and at the begin of a term. They are not watched: only the
//! leading controller writes them.

use std::collections::BTreeMap;
use std::time::Duration;

use fairlead_allocator::reconcile::RecordedCooldown;
use fairlead_crds::v1beta1::PoolCooldown;
use fairlead_runtime::backoff::Backoff;
use fairlead_runtime::client::chain;
use fairlead_runtime::pages::for_each_listed;
use fairlead_runtime::request::Failure;
use kube::api::ListParams;
use kube::{Client, Error, Resource};
use serde_json::Value;

/// Minimum and maximum time between two attempts.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// Returns all objects, by name. Retries until the list succeeds.
pub(crate) async fn list(client: &Client) -> BTreeMap<String, RecordedCooldown> {
    let mut backoff = Backoff::new(RETRY.0, RETRY.1);
    let mut is_logged = false;
    loop {
        let error = match read(client).await {
            Ok(list) => return list,
            Err(Failure { error: Error::Api(status), .. }) if status.code == 404 => {
                tracing::warn!(
                    "the kind PoolCooldown is not installed: addresses in cool-down are forgotten at a restart; \
                     run kubectl apply -k config/crd"
                );
                return BTreeMap::new();
            }
            Err(error) => error,
        };
        if !std::mem::replace(&mut is_logged, true) {
            tracing::warn!(error = %chain(&error), "cannot list PoolCooldown objects; retrying");
        }
        tokio::time::sleep(backoff.fail(rand::random())).await;
    }
}

async fn read(client: &Client) -> Result<BTreeMap<String, RecordedCooldown>, Failure> {
    let mut all = BTreeMap::new();
    let path = PoolCooldown::url_path(&(), None);
    for_each_listed(client, &path, &ListParams::default(), |object| {
        // Each object is read leniently: one that a person edited must not hide the others.
        let object: Value = serde_json::from_str(object).unwrap_or_default();
        all.extend(object["metadata"]["name"].as_str().map(|name| (name.to_owned(), recorded(&object))));
    })
    .await?;
    Ok(all)
}

fn recorded(object: &Value) -> RecordedCooldown {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let entries = object["spec"]["released"].as_array().into_iter().flatten();
    RecordedCooldown {
        owner: text(&object["metadata"]["ownerReferences"][0]["uid"]),
        entries: entries.filter_map(text).collect(),
    }
}
