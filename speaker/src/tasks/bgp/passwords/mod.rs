//! Watches the Secrets with TCP-MD5 keys: one watch per Secret, which selects it by name, so that the rights
//! of the speaker can be limited to these names.

mod key;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use fairlead_crds::model::config::SecretRef;
use fairlead_crds::objects::Secret;
use fairlead_crds::store::ObjectChange;
use fairlead_runtime::watch::{self, Monitor};
use kube::{Api, Client};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch as channel};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

pub(super) use key::Key;
use key::{SecretState, name_of};

/// Longest time that a connection attempt waits for the first list of a Secret.
const FIRST_LIST_TIMEOUT: Duration = Duration::from_secs(3);

/// Changes that wait for [`follow_secret`]. One Secret changes rarely.
const CHANGES: usize = 4;

/// The Secrets that sessions of this node use. Sessions with the same Secret share a watch, which ends with
/// the last of them.
pub(crate) struct Passwords {
    client: Client,
    namespace: String,
    monitor: Monitor,
    /// Runtime of the client: its connections must not depend on the thread of the BGP sessions.
    runtime: Handle,
    watched: Mutex<BTreeMap<SecretRef, Weak<WatchTask>>>,
}

/// The watch of one Secret.
struct WatchTask {
    state: channel::Receiver<SecretState>,
    _task: AbortOnDropHandle<()>,
}

/// The key of a session. It follows the Secret.
pub(super) struct Password {
    /// `namespace/name` of the Secret.
    name: String,
    state: channel::Receiver<SecretState>,
    /// The last key that [`Password::changed`] returned.
    used: Option<Key>,
    message: Option<String>,
    _watch: Arc<WatchTask>,
}

/// A key that was read from a Secret.
#[derive(Debug)]
pub(super) struct NewKey {
    pub(super) key: Key,
    /// True if no key was known before.
    pub(super) is_first: bool,
}

impl Passwords {
    /// `namespace` is the namespace of Secrets whose reference has none. Must be called in the runtime of the
    /// client.
    pub(crate) fn new(client: Client, namespace: &str, monitor: Monitor) -> Self {
        Self {
            client,
            namespace: namespace.to_owned(),
            monitor,
            runtime: Handle::current(),
            watched: Mutex::default(),
        }
    }

    /// Follows the key in a Secret, and watches the Secret if no other session does.
    pub(super) fn follow(&self, secret: &SecretRef) -> Password {
        let mut watched = self.watched.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        watched.retain(|_, task| task.strong_count() > 0);
        let task = watched.get(secret).and_then(Weak::upgrade).unwrap_or_else(|| {
            let task = Arc::new(self.watch(secret));
            watched.insert(secret.clone(), Arc::downgrade(&task));
            task
        });
        let mut state = task.state.clone();
        state.mark_changed();
        Password { name: name_of(secret, &self.namespace), state, used: None, message: None, _watch: task }
    }

    fn watch(&self, secret: &SecretRef) -> WatchTask {
        let namespace = secret.namespace.as_deref().unwrap_or(&self.namespace);
        let api = Api::<Secret>::namespaced(self.client.clone(), namespace);
        let (sender, state) = channel::channel(SecretState::default());
        let task = follow_secret(api, secret.name.clone(), self.monitor.clone(), sender);
        WatchTask { state, _task: AbortOnDropHandle::new(self.runtime.spawn(task)) }
    }
}

impl Password {
    /// Takes over the key of an established connection from another Secret: it stays in use until this Secret
    /// has one.
    pub(super) fn replacing(mut self, earlier: Option<Self>) -> Self {
        self.used = earlier.and_then(|earlier| earlier.used);
        self
    }

    /// Returns the name of the Secret, and the key once it is known.
    pub(super) fn pending_key(&self) -> PendingKey {
        PendingKey { name: self.name.clone(), state: self.state.clone() }
    }

    /// Waits until the Secret, or what is known of it, changes. Returns the key if it differs from the one
    /// that was returned last. Cancel safe.
    pub(super) async fn changed(&mut self) -> Option<NewKey> {
        if self.state.changed().await.is_err() {
            // The task of the watch ends only with the runtime.
            std::future::pending::<()>().await;
        }
        let state = self.state.borrow_and_update();
        self.message = match state.result(&self.name) {
            Some(Err(problem)) if self.used.is_some() => {
                Some(format!("{problem}: the connection keeps its TCP-MD5 key"))
            }
            _ => state.message(&self.name),
        };
        let key = state.key().filter(|key| self.used.as_ref() != Some(key)).cloned()?;
        drop(state);
        let is_first = self.used.replace(key.clone()).is_none();
        Some(NewKey { key, is_first })
    }

    /// Returns what is wrong, or probably wrong, with the Secret although a key is in use.
    pub(super) fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }
}

/// The key for a connection attempt.
#[derive(Clone)]
pub(super) struct PendingKey {
    name: String,
    state: channel::Receiver<SecretState>,
}

impl PendingKey {
    /// Returns `namespace/name` of the Secret.
    pub(super) fn secret(&self) -> &str {
        &self.name
    }

    /// Waits for the first list of the Secret, up to a limit, and returns the key.
    ///
    /// # Errors
    /// Returns the problem, as a text for the operator.
    pub(super) async fn get(mut self) -> Result<Key, String> {
        let name = self.name;
        let known = self.state.wait_for(|state| state.result(&name).is_some());
        let result = match timeout(FIRST_LIST_TIMEOUT, known).await {
            Ok(Ok(state)) => state.result(&name),
            Ok(Err(_)) | Err(_) => None,
        };
        result
            .unwrap_or_else(|| Err(format!("Secret {name} cannot be read: the API server does not respond")))
    }
}

/// Watches a Secret and keeps its state in `state`. Ends with the receivers of `state`.
async fn follow_secret(
    api: Api<Secret>,
    name: String,
    monitor: Monitor,
    state: channel::Sender<SecretState>,
) {
    let (failure_sender, mut failures) = channel::channel(None);
    let (sender, mut changes) = mpsc::channel(CHANGES);
    let follow = watch::follow::<Secret, _, _>(
        api,
        watch::config().fields(&format!("metadata.name={name}")),
        monitor.reporting_failures(failure_sender),
        Key::of,
        |change| change,
        sender,
    );
    let apply = async {
        loop {
            tokio::select! {
                change = changes.recv() => match change {
                    Some(change) => apply(&state, change),
                    None => return,
                },
                Ok(()) = failures.changed() => {
                    let failure = failures.borrow_and_update().clone();
                    state.send_modify(|state| state.set_failure(failure));
                }
            }
        }
    };
    tokio::join!(follow, apply);
}

fn apply(state: &channel::Sender<SecretState>, change: ObjectChange<Result<Key, String>>) {
    let missing = || Err("does not exist".to_owned());
    let read = match change {
        ObjectChange::Apply(read) => read,
        // The selector matches at most one object.
        ObjectChange::Reset(all) => all.into_iter().next().unwrap_or_else(missing),
        ObjectChange::Delete(_) => missing(),
        // Every API server serves Secrets.
        ObjectChange::Missing => return,
    };
    state.send_modify(|state| state.set(read));
}
