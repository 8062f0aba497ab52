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
    secret: FollowedSecret,
    /// The Secret before an edit of the BGPPeer. Its key is used until `secret` has one.
    earlier: Option<FollowedSecret>,
    /// The last key that [`Password::changed`] returned.
    used: Option<Key>,
    message: Option<String>,
}

/// A Secret that a session follows.
struct FollowedSecret {
    /// `namespace/name` of the Secret.
    name: String,
    state: channel::Receiver<SecretState>,
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
        let secret = FollowedSecret { name: name_of(secret, &self.namespace), state, _watch: task };
        Password { secret, earlier: None, used: None, message: None }
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
    /// Takes the place of the key from another Secret. That is still followed, and its key stays in use,
    /// until this Secret has one.
    pub(super) fn replacing(mut self, earlier: Option<Self>) -> Self {
        let Some(earlier) = earlier else { return self };
        self.used = earlier.used;
        self.earlier = match earlier.earlier {
            // Of several edits, the last Secret that had a key counts.
            Some(first) if !earlier.secret.has_key() => Some(first),
            _ => Some(earlier.secret),
        };
        self
    }

    /// Returns `namespace/name` of the Secret.
    pub(super) fn name(&self) -> &str {
        &self.secret.name
    }

    /// Returns the key for connections that the router opens, or why there is none, as a text for the
    /// operator; `None` before the first list of the Secret.
    pub(super) fn known_key(&self) -> Option<Result<Key, String>> {
        let result = self.secret.state.borrow().result(&self.secret.name);
        let earlier = || self.earlier.as_ref()?.state.borrow().key().cloned();
        match result {
            Some(Ok(key)) => Some(Ok(key)),
            problem => earlier().map(Ok).or(problem),
        }
    }

    /// Returns the key for a connection attempt.
    pub(super) fn pending_key(&self) -> PendingKey {
        let of = |secret: &FollowedSecret| (secret.name.clone(), secret.state.clone());
        PendingKey { secret: of(&self.secret), earlier: self.earlier.as_ref().map(of) }
    }

    /// Waits until a Secret, or what is known of it, changes. Returns the key to use if it differs from the
    /// one that was returned last. Cancel safe.
    pub(super) async fn changed(&mut self) -> Option<NewKey> {
        let earlier_changed = async {
            match &mut self.earlier {
                Some(earlier) => earlier.state.changed().await,
                None => std::future::pending().await,
            }
        };
        let changed = tokio::select! {
            changed = self.secret.state.changed() => changed,
            changed = earlier_changed => changed,
        };
        if changed.is_err() {
            // The task of the watch ends only with the runtime.
            std::future::pending::<()>().await;
        }
        if self.secret.has_key() {
            self.earlier = None;
        }
        let state = self.secret.state.borrow_and_update();
        let in_use = self.earlier.as_mut().map(|earlier| (&earlier.name, earlier.state.borrow_and_update()));
        let in_use = in_use.as_ref().and_then(|(name, state)| Some((name, state.key()?)));
        self.message = match (state.result(&self.secret.name), in_use) {
            (Some(Err(problem)), Some((earlier, _))) => {
                Some(format!("{problem}: the key in Secret {earlier} stays in use"))
            }
            _ => state.message(&self.secret.name),
        };
        let key = state.key().or(in_use.map(|(_, key)| key));
        let key = key.filter(|key| self.used.as_ref() != Some(key)).cloned()?;
        let is_first = self.used.replace(key.clone()).is_none();
        Some(NewKey { key, is_first })
    }

    /// Returns what is wrong, or probably wrong, with the Secret although a key is in use.
    pub(super) fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }
}

impl FollowedSecret {
    fn has_key(&self) -> bool {
        self.state.borrow().key().is_some()
    }
}

/// The key for a connection attempt: that of a Secret, or without one that of an earlier Secret. Each is
/// `namespace/name` and the state.
#[derive(Clone)]
pub(super) struct PendingKey {
    secret: (String, channel::Receiver<SecretState>),
    earlier: Option<(String, channel::Receiver<SecretState>)>,
}

impl PendingKey {
    /// Waits for the first list of the Secret, up to a limit. Returns the key, and `namespace/name` of its
    /// Secret.
    ///
    /// # Errors
    /// Returns the problem, as a text for the operator.
    pub(super) async fn get(self) -> Result<(String, Key), String> {
        let (name, mut state) = self.secret;
        let known = state.wait_for(|state| state.result(&name).is_some());
        let result = match timeout(FIRST_LIST_TIMEOUT, known).await {
            Ok(Ok(state)) => state.result(&name),
            Ok(Err(_)) | Err(_) => None,
        };
        let problem = match result {
            Some(Ok(key)) => return Ok((name, key)),
            Some(Err(problem)) => problem,
            None => format!("Secret {name} cannot be read: the API server does not respond"),
        };
        let earlier = self.earlier.and_then(|(name, state)| Some((name, state.borrow().key()?.clone())));
        earlier.ok_or(problem)
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
