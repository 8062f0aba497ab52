//! The Secret with the key by which speakers authenticate each other.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use fairlead_crds::names::{CONTROLLER, MESH_SECRET, MESH_SECRET_KEY};
use fairlead_runtime::backoff::Backoff;
use fairlead_runtime::watch::REQUEST_TIMEOUT;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::{Client, Error};
use ring::rand::{SecureRandom, SystemRandom};
use tokio_util::task::AbortOnDropHandle;

/// The task that creates the Secret if it does not exist.
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

/// Creates the Secret if it does not exist. Retries until it exists.
async fn ensure_mesh_secret(client: Client, namespace: String) {
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
    let api = Api::<Secret>::namespaced(client, &namespace);
    loop {
        let created = tokio::time::timeout(REQUEST_TIMEOUT, create_if_missing(&api)).await;
        match created.unwrap_or_else(|_| Err(anyhow::anyhow!("no response from the API server"))) {
            Ok(true) => return tracing::info!(%namespace, secret = MESH_SECRET, "created Secret"),
            Ok(false) => return,
            Err(error) => {
                let error = format!("{error:#}");
                tracing::warn!(%namespace, secret = MESH_SECRET, error, "cannot create Secret; retrying");
            }
        }
        tokio::time::sleep(backoff.fail(rand::random())).await;
    }
}

/// Returns whether the Secret was created.
async fn create_if_missing(api: &Api<Secret>) -> anyhow::Result<bool> {
    if let Some(secret) = api.get_opt(MESH_SECRET).await.context("cannot read the Secret")? {
        let key = secret.data.as_ref().and_then(|data| data.get(MESH_SECRET_KEY));
        if key.is_none_or(|key| key.0.is_empty()) {
            // A user created it. Replacing it could separate running speakers from those that start later.
            tracing::error!(
                secret = MESH_SECRET,
                entry = MESH_SECRET_KEY,
                "Secret lacks its entry; delete the Secret to have it created again"
            );
        }
        return Ok(false);
    }
    let mut key = [0; 32];
    SystemRandom::new().fill(&mut key).map_err(|_| anyhow::anyhow!("no random numbers available"))?;
    let secret = Secret {
        metadata: ObjectMeta { name: Some(MESH_SECRET.to_owned()), ..ObjectMeta::default() },
        data: Some(BTreeMap::from([(MESH_SECRET_KEY.to_owned(), ByteString(key.to_vec()))])),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    };
    let parameters = PostParams { field_manager: Some(CONTROLLER.to_owned()), ..PostParams::default() };
    match api.create(&parameters, &secret).await {
        Ok(_) => Ok(true),
        Err(Error::Api(status)) if status.is_already_exists() => Ok(false),
        Err(error) => Err(error).context("cannot create the Secret"),
    }
}
