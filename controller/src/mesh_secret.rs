//! The key with which speakers authenticate to each other.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use fairlead_runtime::backoff::Backoff;
use fairlead_runtime::watch::REQUEST_TIMEOUT;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::{Client, Error};
use ring::rand::{SecureRandom, SystemRandom};

use crate::api_client::FIELD_MANAGER;

/// Name of the Secret, in Fairlead's namespace.
pub const MESH_SECRET: &str = "fairlead-mesh";
/// Its entry: 32 random bytes.
pub const MESH_KEY: &str = "key";

/// Creates the Secret if there is none. Tries until that is so.
pub async fn ensure_mesh_secret(client: Client, namespace: String) {
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
    let api = Api::<Secret>::namespaced(client, &namespace);
    loop {
        match tokio::time::timeout(REQUEST_TIMEOUT, create_if_missing(&api)).await {
            Ok(Ok(true)) => return tracing::info!(%namespace, "created Secret {MESH_SECRET}"),
            Ok(Ok(false)) => return,
            Ok(Err(error)) => {
                tracing::warn!(%namespace, error = format!("{error:#}"), "no Secret {MESH_SECRET} yet; retrying");
            }
            Err(_) => tracing::warn!(%namespace, "no Secret {MESH_SECRET} yet: no answer; retrying"),
        }
        tokio::time::sleep(backoff.fail(rand::random())).await;
    }
}

/// Returns whether it was created.
async fn create_if_missing(api: &Api<Secret>) -> anyhow::Result<bool> {
    if let Some(secret) = api.get_opt(MESH_SECRET).await.context("cannot read it")? {
        let key = secret.data.as_ref().and_then(|data| data.get(MESH_KEY));
        if key.is_none_or(|key| key.0.is_empty()) {
            // Somebody made it by hand. Replacing it could cut speakers that run from those that start.
            tracing::error!("Secret {MESH_SECRET} has no entry {MESH_KEY}; delete it to have it made anew");
        }
        return Ok(false);
    }
    let mut key = [0; 32];
    SystemRandom::new().fill(&mut key).map_err(|_| anyhow::anyhow!("no random numbers"))?;
    let secret = Secret {
        metadata: ObjectMeta { name: Some(MESH_SECRET.to_owned()), ..ObjectMeta::default() },
        data: Some(BTreeMap::from([(MESH_KEY.to_owned(), ByteString(key.to_vec()))])),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    };
    let parameters = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    match api.create(&parameters, &secret).await {
        Ok(_) => Ok(true),
        Err(Error::Api(status)) if status.is_already_exists() => Ok(false),
        Err(error) => Err(error).context("cannot create it"),
    }
}
