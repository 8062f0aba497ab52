//! The list of `PoolCooldown` objects at the start and at the begin of a term. They are not watched: only the
//! leading controller writes them.

use std::collections::BTreeMap;
use std::time::Duration;

use fairlead_allocator::reconcile::RecordedCooldown;
use fairlead_crds::v1beta1::PoolCooldown;
use fairlead_runtime::backoff::Backoff;
use fairlead_runtime::client::chain;
use fairlead_runtime::request::with_timeout;
use kube::api::{Api, ApiResource, DynamicObject, ListParams};
use kube::{Client, Error, ResourceExt};

/// Minimum and maximum time between two attempts.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// Objects in one page of the list. One may have 1,024 entries.
const PAGE_SIZE: u32 = 50;

/// Returns all objects, by name. Retries until the list succeeds.
pub(crate) async fn list(client: &Client) -> BTreeMap<String, RecordedCooldown> {
    let mut backoff = Backoff::new(RETRY.0, RETRY.1);
    let mut is_logged = false;
    loop {
        let error = match pages(client).await {
            Ok(list) => return list,
            Err(Error::Api(status)) if status.code == 404 => {
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

async fn pages(client: &Client) -> kube::Result<BTreeMap<String, RecordedCooldown>> {
    // Each object is read leniently: one that a person edited must not hide the others.
    let api = Api::<DynamicObject>::all_with(client.clone(), &ApiResource::erase::<PoolCooldown>(&()));
    let (mut all, mut token) = (BTreeMap::new(), None);
    loop {
        let page = ListParams { limit: Some(PAGE_SIZE), continue_token: token, ..ListParams::default() };
        let list = with_timeout(api.list(&page)).await?;
        all.extend(list.items.iter().map(|object| (object.name_any(), recorded(object))));
        token = list.metadata.continue_.filter(|token| !token.is_empty());
        if token.is_none() {
            return Ok(all);
        }
    }
}

fn recorded(object: &DynamicObject) -> RecordedCooldown {
    let entries = object.data["spec"]["released"].as_array().into_iter().flatten();
    RecordedCooldown {
        owner: object.owner_references().first().map(|owner| owner.uid.clone()),
        entries: entries.filter_map(|entry| entry.as_str().map(str::to_owned)).collect(),
    }
}
