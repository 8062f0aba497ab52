//! Lists and watches of the objects of one kind.
//!
//! Each change is one of the three operations of a store: apply, delete or reset. A failed list or watch is
//! retried with back-off and changes nothing: the known objects stay in use while the API server is
//! unreachable.
//!
//! The watcher of kube is not used, for three reasons: it waits without a limit for the response to a list
//! and for the start of a watch; it hides bookmarks, so that an idle watch cannot be distinguished from a
//! dead one; and it treats a watch that ends immediately as successful.

mod retry;
#[cfg(test)]
mod tests;

use std::fmt::Debug;
use std::time::Duration;

use fairlead_crds::store::ObjectChange;
use futures::{StreamExt, TryStreamExt};
use kube::api::{Api, ListParams, WatchEvent, WatchParams};
use kube::core::{ObjectList, Request, Resource};
use kube::{Client, Error};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use crate::client::chain;
use crate::request::{Failure, request, with_timeout};
use retry::RetryState;

/// The time limit of requests other than watches.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The number of objects in one page of a list, as in client-go.
const PAGE_SIZE: u32 = 500;
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

    fn list(&self, continue_token: Option<String>) -> ListParams {
        ListParams {
            label_selector: self.labels.clone(),
            field_selector: self.fields.clone(),
            limit: Some(PAGE_SIZE),
            continue_token,
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

/// Lists and watches the objects of one kind until the receiver of `sink` is dropped.
///
/// `trim` converts each object to the parts that the caller stores, immediately after it is decoded, so that
/// complete objects are never stored. `wrap` converts a change to the message of the caller.
pub async fn follow<K, T, M>(
    api: Api<K>,
    config: Config,
    trim: impl Fn(K) -> T,
    wrap: impl Fn(ObjectChange<T>) -> M,
    sink: mpsc::Sender<M>,
) where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let path = api.resource_url().to_owned();
    let client = api.clone().into_client();
    let mut retry = RetryState::default();
    // The resourceVersion to watch from; `None` means that a list is required.
    let mut version = None;
    loop {
        let end = match &mut version {
            None => match list(&client, &path, &config, &trim).await {
                Ok((objects, listed)) => {
                    version = Some(listed);
                    match sink.send(wrap(ObjectChange::Reset(objects))).await {
                        Ok(()) => End::Resume,
                        Err(_) => End::Closed,
                    }
                }
                Err(failure) => End::Failed(failure),
            },
            Some(version) => {
                let send = |change| sink.send(wrap(change));
                watch(&api, &config, version, &trim, send, &mut retry).await
            }
        };
        match end {
            End::Resume => {}
            End::Closed => return,
            End::Failed(failure) => {
                if is_expired(&failure) {
                    version = None;
                }
                back_off::<K>(&mut retry, &failure).await;
            }
        }
    }
}

/// The result of a list or watch.
enum End {
    /// It succeeded. A watch starts immediately.
    Resume,
    /// The receiver was dropped.
    Closed,
    /// It failed.
    Failed(Failure),
}

/// Reads all pages of a list. Returns the objects and the resourceVersion to watch from.
async fn list<K, T>(
    client: &Client,
    path: &str,
    config: &Config,
    trim: &impl Fn(K) -> T,
) -> Result<(Vec<T>, String), Failure>
where
    K: Clone + DeserializeOwned,
{
    let (mut objects, mut token) = (Vec::new(), None);
    loop {
        let page = Request::new(path).list(&config.list(token)).map_err(Error::BuildRequest)?;
        let ObjectList::<K> { items, metadata, .. } = request(client, page).await?;
        objects.extend(items.into_iter().map(trim));
        token = metadata.continue_.filter(|token| !token.is_empty());
        if token.is_none() {
            objects.shrink_to_fit();
            let version = metadata.resource_version.filter(|version| !version.is_empty());
            return match version {
                Some(version) => Ok((objects, version)),
                None => Err(Error::Service("the list has no resourceVersion".into()).into()),
            };
        }
    }
}

/// Runs one watch. `version` advances with each event.
async fn watch<K, T, S, E>(
    api: &Api<K>,
    config: &Config,
    version: &mut String,
    trim: &impl Fn(K) -> T,
    send: impl Fn(ObjectChange<T>) -> S,
    retry: &mut RetryState,
) -> End
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
    S: Future<Output = Result<(), E>>,
{
    let mut events = match with_timeout(api.watch(&config.watch(), version)).await {
        Ok(events) => events.boxed(),
        Err(error) => return End::Failed(error.into()),
    };
    let (mut since, mut is_working) = (Instant::now(), false);
    loop {
        let limit = if is_working { MAX_SILENCE } else { MIN_DURATION.saturating_sub(since.elapsed()) };
        let change = match timeout(limit, events.try_next()).await {
            Err(_) if is_working => {
                // No failure is known. If the API server is unreachable, the next start of the watch fails.
                tracing::debug!(kind = %K::kind(&()), "no events or bookmarks; resuming watch");
                return End::Resume;
            }
            Err(_) => {
                is_working = true;
                log_recovery::<K>(retry);
                continue;
            }
            Ok(Ok(None)) if is_working => return End::Resume,
            Ok(Ok(None)) => {
                let error = Error::Service("the watch ended immediately without an event".into());
                return End::Failed(error.into());
            }
            Ok(Ok(Some(WatchEvent::Bookmark(bookmark)))) => {
                *version = bookmark.metadata.resource_version;
                continue;
            }
            Ok(Ok(Some(WatchEvent::Error(status)))) => return End::Failed(Error::Api(status.boxed()).into()),
            Ok(Ok(Some(WatchEvent::Added(object) | WatchEvent::Modified(object)))) => {
                advance(version, &object);
                ObjectChange::Apply(trim(object))
            }
            Ok(Ok(Some(WatchEvent::Deleted(object)))) => {
                advance(version, &object);
                ObjectChange::Delete(trim(object))
            }
            // An event cannot be decoded. A resumed watch would return it again; the events after it are
            // still valid.
            Ok(Err(error)) if is_unreadable(&error) => {
                back_off::<K>(retry, &error.into()).await;
                (since, is_working) = (Instant::now(), false);
                continue;
            }
            Ok(Err(error)) => return End::Failed(error.into()),
        };
        is_working = true;
        log_recovery::<K>(retry);
        if send(change).await.is_err() {
            return End::Closed;
        }
    }
}

/// Sets the resourceVersion to resume from to that of this object.
fn advance(version: &mut String, object: &impl Resource) {
    if let Some(seen) = &object.meta().resource_version {
        version.clone_from(seen);
    }
}

/// Returns true if an event cannot be decoded. kube decodes an unknown event as a Status, and any JSON object
/// can be decoded as one; only a Status of the API server has a code.
fn is_unreadable(error: &Error) -> bool {
    match error {
        Error::SerdeError(_) => true,
        Error::Api(status) => status.code == 0,
        _ => false,
    }
}

/// Returns true if the API server no longer has the resourceVersion to resume from, so that a list is
/// required.
fn is_expired(failure: &Failure) -> bool {
    matches!(&failure.error, Error::Api(status) if status.code == 410)
}

/// Waits after a failure. Only the first failure of a series is logged.
async fn back_off<K: Resource<DynamicType = ()>>(retry: &mut RetryState, failure: &Failure) {
    let (wait, is_first) = retry.record_failure(failure.retry_after, rand::random());
    if is_first {
        let (kind, error) = (K::kind(&()), chain(failure));
        tracing::warn!(%kind, %error, "watch failed; retrying, known objects stay in use");
    }
    sleep(wait).await;
}

/// Records a success. Logs the end of a series of failures.
fn log_recovery<K: Resource<DynamicType = ()>>(retry: &mut RetryState) {
    if retry.record_success() {
        tracing::info!(kind = %K::kind(&()), "watch recovered");
    }
}
