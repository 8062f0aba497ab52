//! The Secret with the key by which speakers authenticate each other: its creation, and the Event that tells
//! why a key is not created or not used.

mod key_check;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use fairlead_crds::model::instance::Instance;
use fairlead_crds::names::{CONTROLLER, MESH_SECRET, MESH_SECRET_KEY};
use fairlead_crds::objects::{Secret, Speaker};
use fairlead_crds::store::ObjectChange;
use fairlead_runtime::backoff::Backoff;
use fairlead_runtime::mesh_key::fingerprint;
use fairlead_runtime::watch::{self, Monitor, REQUEST_TIMEOUT};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1 as core;
use kube::api::{Api, ObjectMeta, Patch, PatchParams};
use kube::{Client, Error};
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::events::{self, SecretEvent};
use crate::timer::sleep_until;
use key_check::{Action, KeyCheck, KeyState, Problem, Reason, SpeakerKey};

/// Bound of the channel of the watch, which selects one object.
const WATCH_EVENTS: usize = 4;

/// The task that watches the Secret while this controller leads.
pub(crate) struct MeshSecretTask {
    parameters: Parameters,
    task: Option<AbortOnDropHandle<()>>,
}

#[derive(Clone)]
struct Parameters {
    client: Client,
    instance: Instance,
    /// Name of this process in Events.
    reporter: Arc<str>,
    monitor: Monitor,
}

impl MeshSecretTask {
    /// Returns a task that is not started.
    pub(crate) fn new(client: Client, instance: Instance, reporter: Arc<str>, monitor: Monitor) -> Self {
        Self { parameters: Parameters { client, instance, reporter, monitor }, task: None }
    }

    /// Starts the task, once until [`MeshSecretTask::stop`].
    pub(crate) fn start(&mut self) {
        let parameters = &self.parameters;
        self.task.get_or_insert_with(|| AbortOnDropHandle::new(tokio::spawn(parameters.clone().run())));
    }

    /// Aborts the task.
    pub(crate) fn stop(&mut self) {
        self.task = None;
    }
}

impl Parameters {
    async fn run(self) {
        let (sink, mut changes) = mpsc::channel(WATCH_EVENTS);
        let secrets = Api::<Secret>::namespaced(self.client.clone(), &self.instance.namespace);
        // With this selection, RBAC can restrict the watch to the Secret.
        let selection = watch::config().fields(&format!("metadata.name={MESH_SECRET}"));
        let follow = watch::follow(secrets, selection, self.monitor.clone(), key_of, |change| change, sink);
        let _watch = AbortOnDropHandle::new(tokio::spawn(follow));
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        let mut check = KeyCheck::default();
        loop {
            tokio::select! {
                biased;
                // The timer comes first, because another program can cause watch events all the time.
                () = sleep_until(check.poll_timeout()) => match self.check(&mut check).await {
                    Ok(()) => backoff.succeed(),
                    Err(error) => {
                        let (namespace, error) = (&self.instance.namespace, format!("{error:#}"));
                        tracing::warn!(%namespace, secret = MESH_SECRET, error, "cannot check the key; retrying");
                        check.handle_failure(Instant::now(), backoff.fail(rand::random()));
                    }
                },
                change = changes.recv() => {
                    // The watch ends only with this task.
                    let Some(change) = change else { return };
                    if let Some(key) = key_after(change) {
                        check.handle_secret(Instant::now(), key);
                    }
                }
            }
        }
    }

    /// Lists the speakers and does what follows.
    async fn check(&self, check: &mut KeyCheck) -> anyhow::Result<()> {
        let speakers = self.list_speakers().await.context("cannot list the Speaker objects")?;
        let (namespace, secret) = (&self.instance.namespace, MESH_SECRET);
        match check.handle_speakers(Instant::now(), &speakers) {
            None => {}
            Some(Action::Create { version }) => {
                let key = self.create(version).await?;
                tracing::info!(%namespace, secret, "created the key of the Secret");
                check.handle_secret(Instant::now(), key);
            }
            Some(Action::Report(problem)) => {
                tracing::warn!(%namespace, secret, reason = %problem.reason, "{}", problem.message(namespace));
                self.send_event(&problem).await;
            }
            Some(Action::ReportSolved) => {
                tracing::info!(%namespace, secret, "all speakers use the key of the Secret");
            }
        }
        Ok(())
    }

    /// Returns the speakers of this instance that take part in the mesh. An API server that does not serve
    /// the kind has none.
    async fn list_speakers(&self) -> Result<Vec<SpeakerKey>, Error> {
        let speakers = Api::<Speaker>::all(self.client.clone());
        let listed = match watch::list(speakers, watch::config()).await {
            Ok(listed) => listed,
            Err(failure) => match failure.error {
                Error::Api(status) if status.code == 404 => Vec::new(),
                error => return Err(error),
            },
        };
        let speaker = |speaker: Speaker| {
            let class = speaker.spec.load_balancer_class.as_deref();
            let node = self.instance.node_of_speaker(speaker.metadata.name.as_deref()?, class)?.to_owned();
            speaker.spec.mesh.map(|mesh| SpeakerKey { node, fingerprint: mesh.key_fingerprint })
        };
        Ok(listed.into_iter().filter_map(speaker).collect())
    }

    /// Creates the key, and the Secret if there is none with this resourceVersion. Returns the new state.
    async fn create(&self, version: Option<String>) -> anyhow::Result<KeyState> {
        let mut key = [0; 32];
        SystemRandom::new().fill(&mut key).map_err(|_| anyhow::anyhow!("no random numbers available"))?;
        let secret = core::Secret {
            metadata: ObjectMeta {
                name: Some(MESH_SECRET.to_owned()),
                // The manifests contain the Secret without an entry. If another writer changed it since, the
                // API server rejects the key.
                resource_version: version,
                ..ObjectMeta::default()
            },
            data: Some(BTreeMap::from([(MESH_SECRET_KEY.to_owned(), ByteString(key.to_vec()))])),
            type_: Some("Opaque".to_owned()),
            ..core::Secret::default()
        };
        // Server-side apply names the object, so RBAC can restrict the creation to this Secret. Every process
        // is a field manager of its own: of two that create the Secret at once, one gets a conflict.
        let parameters = PatchParams::apply(&format!("{CONTROLLER}-{:08x}", rand::random::<u32>()));
        let api = Api::<core::Secret>::namespaced(self.client.clone(), &self.instance.namespace);
        let patch = Patch::Apply(&secret);
        let applied =
            tokio::time::timeout(REQUEST_TIMEOUT, api.patch(MESH_SECRET, &parameters, &patch)).await;
        match applied.map_err(|_| anyhow::anyhow!("no response from the API server"))? {
            Ok(_) => Ok(KeyState::Present(fingerprint(&key))),
            Err(Error::Api(status)) if status.is_conflict() => {
                anyhow::bail!("another writer changed the Secret in the meantime")
            }
            Err(error) => Err(error).context("cannot create the key"),
        }
    }

    /// Sends an Event about the Secret, which may not exist. The log has the same text.
    async fn send_event(&self, problem: &Problem) {
        let event = SecretEvent {
            namespace: self.instance.namespace.clone(),
            name: MESH_SECRET,
            reason: problem.reason.to_string(),
            action: match problem.reason {
                Reason::InUse | Reason::Empty => "CreateKey",
                Reason::Differs => "CompareKeys",
            },
            message: problem.message(&self.instance.namespace),
        };
        events::send_about_secret(&self.client, &self.reporter, event).await;
    }
}

/// Returns the key in a Secret. The key itself is not kept.
fn key_of(secret: Secret) -> KeyState {
    match secret.data.and_then(|mut data| data.remove(MESH_SECRET_KEY)) {
        None => KeyState::Missing { version: secret.metadata.resource_version },
        Some(key) if key.0.is_empty() => KeyState::Empty,
        Some(key) => KeyState::Present(fingerprint(&key.0)),
    }
}

/// Returns the key after a change. The watch selects one object.
fn key_after(change: ObjectChange<KeyState>) -> Option<KeyState> {
    match change {
        ObjectChange::Apply(key) => Some(key),
        ObjectChange::Delete(_) => Some(KeyState::Missing { version: None }),
        ObjectChange::Reset(list) => {
            Some(list.into_iter().next().unwrap_or(KeyState::Missing { version: None }))
        }
        // Every API server serves Secrets.
        ObjectChange::Missing => None,
    }
}
