//! The Secret with the key by which speakers authenticate each other.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use fairlead_crds::names::{CONTROLLER, MESH_SECRET, MESH_SECRET_KEY};
use fairlead_runtime::backoff::Backoff;
use fairlead_runtime::watch::REQUEST_TIMEOUT;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ObjectMeta, Patch, PatchParams};
use kube::{Client, Error};
use ring::rand::{SecureRandom, SystemRandom};
use tokio_util::task::AbortOnDropHandle;

/// The task that creates the key of the Secret if there is none.
pub(crate) struct MeshSecretTask {
    client: Client,
    namespace: String,
    task: Option<AbortOnDropHandle<()>>,
}

impl MeshSecretTask {
    /// Returns a task that is not started.
    pub(crate) fn new(client: Client, namespace: String) -> Self {
        Self { client, namespace, task: None }
    }

    /// Starts the task, once until [`MeshSecretTask::stop`].
    pub(crate) fn start(&mut self) {
        let (client, namespace) = (&self.client, &self.namespace);
        self.task.get_or_insert_with(|| {
            AbortOnDropHandle::new(tokio::spawn(ensure_mesh_secret(client.clone(), namespace.clone())))
        });
    }

    /// Aborts the task.
    pub(crate) fn stop(&mut self) {
        self.task = None;
    }
}

/// Creates the key, and the Secret if it does not exist. Retries until the key exists.
async fn ensure_mesh_secret(client: Client, namespace: String) {
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
    let api = Api::<Secret>::namespaced(client, &namespace);
    loop {
        let created = tokio::time::timeout(REQUEST_TIMEOUT, create_if_missing(&api)).await;
        match created.unwrap_or_else(|_| Err(anyhow::anyhow!("no response from the API server"))) {
            Ok(true) => {
                return tracing::info!(%namespace, secret = MESH_SECRET, "created the key of the Secret");
            }
            Ok(false) => return,
            Err(error) => {
                let error = format!("{error:#}");
                tracing::warn!(%namespace, secret = MESH_SECRET, error, "cannot create Secret; retrying");
            }
        }
        tokio::time::sleep(backoff.fail(rand::random())).await;
    }
}

/// Returns whether the key was created.
async fn create_if_missing(api: &Api<Secret>) -> anyhow::Result<bool> {
    let found = api.get_opt(MESH_SECRET).await.context("cannot read the Secret")?;
    if let Some(key) = found.as_ref().and_then(|secret| secret.data.as_ref()?.get(MESH_SECRET_KEY)) {
        if key.0.is_empty() {
            // A user set it. Replacing it could separate running speakers from those that start later.
            tracing::error!(
                secret = MESH_SECRET,
                entry = MESH_SECRET_KEY,
                "the entry of the Secret is empty; remove the entry to have it created again"
            );
        }
        return Ok(false);
    }
    let mut key = [0; 32];
    SystemRandom::new().fill(&mut key).map_err(|_| anyhow::anyhow!("no random numbers available"))?;
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(MESH_SECRET.to_owned()),
            // The manifests contain the Secret without an entry. If another writer changed it since, the API
            // server rejects the key.
            resource_version: found.and_then(|secret| secret.metadata.resource_version),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([(MESH_SECRET_KEY.to_owned(), ByteString(key.to_vec()))])),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    };
    // Server-side apply names the object, so RBAC can restrict the creation to this Secret. Every process is
    // a field manager of its own: of two that create the Secret at once, one gets a conflict.
    let parameters = PatchParams::apply(&format!("{CONTROLLER}-{:08x}", rand::random::<u32>()));
    match api.patch(MESH_SECRET, &parameters, &Patch::Apply(&secret)).await {
        Ok(_) => Ok(true),
        Err(Error::Api(status)) if status.is_conflict() => {
            anyhow::bail!("another writer changed the Secret in the meantime")
        }
        Err(error) => Err(error).context("cannot create the Secret"),
    }
}
