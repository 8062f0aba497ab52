//! The key of the mesh, which every speaker reads from a Secret when it starts.

use std::time::Duration;

use fairlead_crds::names::{MESH_SECRET, MESH_SECRET_KEY};
use fairlead_crds::objects::Secret;
use fairlead_runtime::backoff::Backoff;
use fairlead_runtime::client::chain;
use fairlead_runtime::mesh_key::fingerprint;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// Longest time for the API server to return the Secret.
const SECRET_TIMEOUT: Duration = Duration::from_secs(5);

/// The key, as far as this speaker has read it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum MeshKey {
    /// The first attempt to read it has not ended.
    #[default]
    Unread,
    /// It cannot be read, for this reason. The speaker takes no part in the mesh.
    Missing(String),
    /// The speaker uses the key with this fingerprint.
    Read(String),
    /// The speaker takes no part in the mesh, because `--protocols` does not name l2.
    NotNeeded,
}

impl MeshKey {
    /// Returns the fingerprint of the key that the speaker uses.
    pub(crate) fn fingerprint(&self) -> Option<&str> {
        match self {
            Self::Read(fingerprint) => Some(fingerprint),
            Self::Unread | Self::Missing(_) | Self::NotNeeded => None,
        }
    }

    /// Returns what the speaker waits for; `None` if it has the key, or needs none.
    pub(crate) fn waiting_for(&self) -> Option<String> {
        match self {
            Self::Unread => Some(format!("the Secret {MESH_SECRET}")),
            Self::Missing(problem) => Some(format!("the Secret {MESH_SECRET}: {problem}")),
            Self::Read(_) | Self::NotNeeded => None,
        }
    }
}

/// Reads the key, and publishes how far that has come. Waits until the Secret contains a key.
pub(crate) async fn read_key(client: &Client, namespace: &str, state: &watch::Sender<MeshKey>) -> Vec<u8> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
    loop {
        let problem = match timeout(SECRET_TIMEOUT, secrets.get_opt(MESH_SECRET)).await {
            Ok(Ok(Some(secret))) => match secret.data.and_then(|mut data| data.remove(MESH_SECRET_KEY)) {
                Some(key) if !key.0.is_empty() => {
                    state.send_replace(MeshKey::Read(fingerprint(&key.0)));
                    return key.0;
                }
                Some(_) => format!("its entry {MESH_SECRET_KEY} is empty; remove the entry or set a key"),
                None => format!("it has no entry {MESH_SECRET_KEY}; {CREATED_BY}"),
            },
            Ok(Ok(None)) => format!("it does not exist in namespace {namespace}; {CREATED_BY}"),
            Ok(Err(error)) => chain(&error),
            Err(_) => "the API server does not respond".to_owned(),
        };
        state.send_if_modified(|state| {
            let new = MeshKey::Missing(problem);
            let differs = *state != new;
            *state = new;
            differs
        });
        sleep(backoff.fail(rand::random())).await;
    }
}

const CREATED_BY: &str = "the leading controller creates it unless other speakers still use an earlier key, \
                          which an Event reports";
