//! Lists and watches of the objects of one kind.
//!
//! Each change is one of the three operations of a store: apply, delete or reset. A failed list or watch is
//! retried with back-off and changes nothing: the known objects stay in use while the API server is
//! unreachable.
//!
//! Objects are read one by one, each as far as possible ([`fairlead_crds::read`]): an object that cannot be
//! read completely affects no other object, and a deletion needs only the metadata.
//!
//! The watcher of kube is not used: it fails if one object cannot be decoded; it waits without a limit for
//! the response to a list and for the start of a watch; it hides bookmarks, so that an idle watch cannot be
//! distinguished from a dead one; and it treats a watch that ends immediately as successful.

mod lines;
mod monitor;
mod retry;
#[cfg(test)]
mod tests;
mod unreadable;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use axum::http::{HeaderValue, header};
use fairlead_crds::model::service::ObjectKey;
use fairlead_crds::objects::Namespace;
use fairlead_crds::read::{Decoded, ReadObject, decode};
use fairlead_crds::store::ObjectChange;
use kube::api::{Api, ListParams, WatchParams};
use kube::client::Body;
use kube::core::{Request, Status};
use kube::{Client, Error};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use crate::client::chain;
use crate::pages::for_each_listed;
use crate::request::{Failure, send};
use lines::Lines;
pub use monitor::{Monitor, missing_kinds_note};
use retry::RetryState;
use unreadable::Unreadable;

/// The time limit of requests other than watches.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The time, in seconds, after which the API server ends a watch. The watch is then resumed.
const WATCH_SECONDS: u32 = 290;
/// The maximum time without an event of a watch. The API server sends a bookmark about once a minute
/// (`DefaultBookmarkFrequency` in its watch cache), except shortly after a start without any changes.
const MAX_SILENCE: Duration = Duration::from_secs(90);
/// A watch of this age works, even without an event; a watch that ends earlier without an event has failed.
/// client-go does the same (`VeryShortWatchError` in its reflector).
const MIN_DURATION: Duration = Duration::from_secs(1);

/// The selection of objects.
#[derive(Clone, Debug, Default)]
pub struct Config {
    labels: Option<String>,
    fields: Option<String>,
}

impl Config {
    /// Selects objects by label, in the format of `kubectl get --selector`.
    #[must_use]
    pub fn labels(mut self, selector: &str) -> Self {
        self.labels = Some(selector.to_owned());
        self
    }

    /// Selects objects by field, in the format of `kubectl get --field-selector`.
    #[must_use]
    pub fn fields(mut self, selector: &str) -> Self {
        self.fields = Some(selector.to_owned());
        self
    }

    fn list(&self) -> ListParams {
        ListParams {
            label_selector: self.labels.clone(),
            field_selector: self.fields.clone(),
            ..ListParams::default()
        }
    }

    fn watch(&self) -> WatchParams {
        WatchParams {
            label_selector: self.labels.clone(),
            field_selector: self.fields.clone(),
            timeout: Some(WATCH_SECONDS),
            bookmarks: true,
            send_initial_events: false,
        }
    }
}

/// Returns the selection of all objects.
pub fn config() -> Config {
    Config::default()
}

/// Returns the objects of one kind, each read as far as possible.
///
/// # Errors
/// See [`Failure`].
pub async fn list<K: ReadObject>(api: Api<K>, config: Config) -> Result<Vec<K>, Failure> {
    let path = api.resource_url().to_owned();
    let watch = Watch { path, client: api.into_client(), config, trim: |object: K| object };
    Ok(watch.pages().await?.objects)
}

/// Lists and watches the objects of one kind until the receiver of `sink` is dropped.
///
/// `trim` converts each object to the parts that the caller stores, immediately after it is read, so that
/// complete objects are never stored. `wrap` converts a change to the message of the caller.
pub async fn follow<K: ReadObject, T, M>(
    api: Api<K>,
    config: Config,
    monitor: Monitor,
    trim: impl Fn(K) -> T,
    wrap: impl Fn(ObjectChange<T>) -> M,
    sink: mpsc::Sender<M>,
) {
    let watch = Watch { path: api.resource_url().to_owned(), client: api.into_client(), config, trim };
    let mut state = WatchState {
        kind: K::kind(&()),
        monitor,
        retry: RetryState::default(),
        unreadable: Unreadable::default(),
        version: None,
        is_missing: false,
    };
    let send = |change| async { sink.send(wrap(change)).await.is_ok() };
    loop {
        let end = match state.version {
            None => watch.list(&mut state, &send).await,
            Some(_) => watch.watch(&mut state, &send).await,
        };
        match end {
            End::Resume => {}
            End::Closed => return,
            End::Failed(failure) => {
                if is_status(&failure, 410) || is_status(&failure, 404) {
                    state.version = None;
                }
                state.back_off::<K>(&failure).await;
            }
            End::Missing(failure) => {
                if !std::mem::replace(&mut state.is_missing, true) {
                    state.monitor.log_missing::<K>();
                    if !send(ObjectChange::Missing).await {
                        return;
                    }
                }
                let (wait, _) = state.retry.record_failure(failure.retry_after, rand::random());
                sleep(wait).await;
            }
        }
    }
}

/// The parameters of [`follow`] that stay the same.
struct Watch<F> {
    client: Client,
    path: String,
    config: Config,
    trim: F,
}

/// The state of [`follow`].
struct WatchState {
    kind: Cow<'static, str>,
    monitor: Monitor,
    retry: RetryState,
    unreadable: Unreadable,
    /// The resourceVersion to watch from; `None` means that a list is required.
    version: Option<String>,
    /// True from when the API server stated that it does not serve the kind until a list succeeds.
    is_missing: bool,
}

/// The result of a list or watch.
enum End {
    /// It succeeded. A watch starts immediately.
    Resume,
    /// The receiver was dropped.
    Closed,
    /// It failed.
    Failed(Failure),
    /// The API server does not serve the kind.
    Missing(Failure),
}

/// A complete list.
struct Listed<T> {
    objects: Vec<T>,
    /// The objects that cannot be read completely, with their problems.
    unreadable: BTreeMap<ObjectKey, String>,
    /// The resourceVersion to watch from.
    version: String,
}

/// An event of a watch.
#[derive(Deserialize)]
struct Event<'a> {
    #[serde(rename = "type", borrow)]
    type_: Cow<'a, str>,
    #[serde(borrow)]
    object: &'a RawValue,
}

impl<F> Watch<F> {
    /// Lists the objects and sends them.
    async fn list<K: ReadObject, T, S: Future<Output = bool>>(
        &self,
        state: &mut WatchState,
        send: &impl Fn(ObjectChange<T>) -> S,
    ) -> End
    where
        F: Fn(K) -> T,
    {
        let Listed { objects, unreadable, version } = match self.pages().await {
            Ok(listed) => listed,
            Err(failure) if is_status(&failure, 404) => return End::Missing(failure),
            Err(failure) => return End::Failed(failure),
        };
        state.version = Some(version);
        state.is_missing = false;
        state.monitor.handle_served::<K>();
        state.unreadable.replace(&K::kind(&()), unreadable);
        state.monitor.set_unreadable::<K>(state.unreadable.len());
        if send(ObjectChange::Reset(objects)).await { End::Resume } else { End::Closed }
    }

    /// Reads all pages of a list.
    async fn pages<K: ReadObject, T>(&self) -> Result<Listed<T>, Failure>
    where
        F: Fn(K) -> T,
    {
        let (mut objects, mut unreadable) = (Vec::new(), BTreeMap::new());
        let selection = self.config.list();
        let version = for_each_listed(&self.client, &self.path, &selection, |item| {
            if let Some((object, key, problem)) = read_object::<K>(item) {
                objects.push((self.trim)(object));
                unreadable.extend(problem.map(|problem| (key, problem)));
            }
        });
        let Some(version) = version.await? else {
            return Err(Error::Service("the list has no resourceVersion".into()).into());
        };
        objects.shrink_to_fit();
        Ok(Listed { objects, unreadable, version })
    }

    /// Runs one watch. The version advances with each event.
    async fn watch<K: ReadObject, T, S: Future<Output = bool>>(
        &self,
        state: &mut WatchState,
        send: &impl Fn(ObjectChange<T>) -> S,
    ) -> End
    where
        F: Fn(K) -> T,
    {
        let mut lines = match self.start(state.version.as_deref().unwrap_or_default()).await {
            Ok(lines) => lines,
            Err(failure) => return End::Failed(failure),
        };
        let (since, mut is_working) = (Instant::now(), false);
        loop {
            let limit = if is_working { MAX_SILENCE } else { MIN_DURATION.saturating_sub(since.elapsed()) };
            let line = match timeout(limit, lines.next()).await {
                Err(_) if is_working => {
                    // No failure is known. If the API server is unreachable, the next start of the watch
                    // fails.
                    tracing::debug!(kind = %K::kind(&()), "no events or bookmarks; resuming watch");
                    return End::Resume;
                }
                Err(_) => {
                    is_working = true;
                    state.log_recovery::<K>();
                    continue;
                }
                Ok(Ok(Some(line))) => line,
                Ok(Ok(None)) if is_working => return End::Resume,
                Ok(Ok(None)) => {
                    let error = Error::Service("the watch ended immediately without an event".into());
                    return End::Failed(error.into());
                }
                // The rest of the events is unknown.
                Ok(Err(failure)) => {
                    state.version = None;
                    return End::Failed(failure);
                }
            };
            let Event { type_, object } = match serde_json::from_slice(&line) {
                Ok(event) => event,
                Err(error) => {
                    state.version = None;
                    return End::Failed(Error::SerdeError(error).into());
                }
            };
            let change = match &*type_ {
                "BOOKMARK" => {
                    state.advance(object.get());
                    continue;
                }
                "ERROR" => return End::Failed(Error::Api(status(object.get()).boxed()).into()),
                "ADDED" | "MODIFIED" => {
                    state.advance(object.get());
                    read_object::<K>(object.get()).map(|(object, key, problem)| {
                        state.unreadable.record(&K::kind(&()), key, problem.as_deref());
                        ObjectChange::Apply((self.trim)(object))
                    })
                }
                "DELETED" => {
                    let key = state.advance(object.get());
                    state.unreadable.remove(&key);
                    (!key.name.is_empty()).then_some(ObjectChange::Delete(key))
                }
                _ => None,
            };
            state.monitor.set_unreadable::<K>(state.unreadable.len());
            is_working = true;
            state.log_recovery::<K>();
            if let Some(change) = change
                && !send(change).await
            {
                return End::Closed;
            }
        }
    }

    async fn start(&self, version: &str) -> Result<Lines<Body>, Failure> {
        let watch = Request::new(&self.path).watch(&self.config.watch(), version);
        let mut watch = watch.map_err(Error::BuildRequest)?;
        // Kubernetes 1.37 compresses each event on its own, and only the first would be decoded.
        watch.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        Ok(Lines::new(send(&self.client, watch).await?))
    }
}

impl WatchState {
    /// Sets the resourceVersion to resume from to that of this object. Returns its namespace and name.
    fn advance(&mut self, object: &str) -> ObjectKey {
        let Namespace { metadata } = decode(object).value;
        if metadata.resource_version.is_some() {
            self.version = metadata.resource_version;
        }
        ObjectKey {
            namespace: metadata.namespace.unwrap_or_default(),
            name: metadata.name.unwrap_or_default(),
        }
    }

    /// Waits after a failure. Logs the first failure of a series, unless it is that of other watches too.
    async fn back_off<K: ReadObject>(&mut self, failure: &Failure) {
        let (wait, is_first) = self.retry.record_failure(failure.retry_after, rand::random());
        let (kind, error) = (K::kind(&()), chain(failure));
        self.monitor.report(Some(&error));
        if is_status(failure, 410) {
            // A normal event for a watch that was interrupted, or that the API server ended.
            tracing::debug!(%kind, %error, "listing again: the API server no longer has the events since");
        } else if is_outage(failure) {
            self.monitor.log_outage(&kind, &error);
        } else if is_first {
            tracing::warn!(%kind, %error, "watch failed; retrying, known objects stay in use");
        }
        sleep(wait).await;
    }

    /// Records a success. Logs the end of a series of failures.
    fn log_recovery<K: ReadObject>(&mut self) {
        self.monitor.report(None);
        if self.retry.record_success() {
            self.monitor.log_recovery(&K::kind(&()));
        }
    }
}

impl Drop for WatchState {
    /// A watch that ends during an outage does not report its end.
    fn drop(&mut self) {
        self.monitor.forget(&self.kind);
    }
}

/// Reads an object as far as possible. Returns the object, its key and the first part that cannot be read;
/// `None` if it has no name.
fn read_object<K: ReadObject>(json: &str) -> Option<(K, ObjectKey, Option<String>)> {
    let Decoded { value, problem } = K::read(json);
    let metadata = value.meta();
    let Some(name) = metadata.name.clone().filter(|name| !name.is_empty()) else {
        let problem = problem.unwrap_or_else(|| "metadata.name is not set".to_owned());
        tracing::warn!(kind = %K::kind(&()), problem, "skipped an object without a name");
        return None;
    };
    let key = ObjectKey { namespace: metadata.namespace.clone().unwrap_or_default(), name };
    Some((value, key, problem))
}

/// Reads the Status of an event of type ERROR.
fn status(json: &str) -> Status {
    serde_json::from_str(json)
        .unwrap_or_else(|_| Status::failure("the API server ended the watch", "Unknown"))
}

fn is_status(failure: &Failure, code: u16) -> bool {
    matches!(&failure.error, Error::Api(status) if status.code == code)
}

/// Returns true for a failure that is the same for all kinds: the API server is unreachable or overloaded.
fn is_outage(failure: &Failure) -> bool {
    match &failure.error {
        Error::Api(status) => status.code == 429 || status.code >= 500,
        _ => true,
    }
}
