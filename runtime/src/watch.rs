//! Following the objects of one kind: list, then watch, for ever.
//!
//! What arrives is one of three verbs, the same three an index has. A failed list or watch is retried with
//! back-off and changes nothing: what was known stays known while the API server is away.
//!
//! kube's own watcher is not used: it waits for the answer to a list, and for the start of a watch, as long as it takes;
//! it does not show bookmarks, so that who uses it cannot tell a quiet watch from a dead one; and it takes a watch that
//! ends at once for one that has worked.

mod retry;
#[cfg(test)]
mod tests;

use fairlead_crds::store::ObjectChange;
use std::fmt::Debug;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use kube::api::{Api, ListParams, WatchEvent, WatchParams};
use kube::core::{ObjectList, Request, Resource};
use kube::{Client, Error};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use crate::client::chain;
use crate::request::{Failure, heard, request};
use retry::Outage;

/// How long a request that is not a watch may take.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Objects in a page of a list, as client-go has it.
const PAGE: u32 = 500;
/// Seconds after which the API server ends a watch, which is then resumed.
const LIFE: u32 = 290;
/// How long a watch may say nothing. An API server sends a bookmark about once a minute
/// (`DefaultBookmarkFrequency` in its watch cache), unless it has just started and nothing has changed since.
const QUIET: Duration = Duration::from_secs(90);
/// A watch that is this old works, even if nothing has come; one that ends earlier has failed. client-go has the same
/// (`VeryShortWatchError` of its reflector).
const PROOF: Duration = Duration::from_secs(1);

/// Which objects are followed.
#[derive(Clone, Debug, Default)]
pub struct Config {
    labels: Option<String>,
    fields: Option<String>,
}

impl Config {
    /// Only those with these labels, as `kubectl --selector` has it.
    #[must_use]
    pub fn labels(mut self, selector: &str) -> Self {
        self.labels = Some(selector.to_owned());
        self
    }

    /// Only those with these fields, as `kubectl --field-selector` has it.
    #[must_use]
    pub fn fields(mut self, selector: &str) -> Self {
        self.fields = Some(selector.to_owned());
        self
    }

    fn list(&self, continue_token: Option<String>) -> ListParams {
        ListParams {
            label_selector: self.labels.clone(),
            field_selector: self.fields.clone(),
            limit: Some(PAGE),
            continue_token,
            ..ListParams::default()
        }
    }

    fn watch(&self) -> WatchParams {
        WatchParams {
            label_selector: self.labels.clone(),
            field_selector: self.fields.clone(),
            timeout: Some(LIFE),
            bookmarks: true,
            send_initial_events: false,
        }
    }
}

/// All objects of a kind.
pub fn config() -> Config {
    Config::default()
}

/// Lists and watches until the receiver is dropped.
///
/// `trim` turns each object into what the caller keeps of it, at once, so that whole objects are never held;
/// `wrap` makes the caller's message out of a change.
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
    let mut outage = Outage::default();
    // Where the watch goes on; without it, a list is needed.
    let mut version = None;
    loop {
        let end = match &mut version {
            None => match list(&client, &path, &config, &trim).await {
                Ok((objects, listed)) => {
                    version = Some(listed);
                    match sink.send(wrap(ObjectChange::Reset(objects))).await {
                        Ok(()) => End::Resume,
                        Err(_) => End::Unwanted,
                    }
                }
                Err(failure) => End::Failed(failure),
            },
            Some(version) => {
                let hand_on = |change| sink.send(wrap(change));
                watch(&api, &config, version, &trim, hand_on, &mut outage).await
            }
        };
        match end {
            End::Resume => {}
            End::Unwanted => return,
            End::Failed(failure) => {
                if is_expired(&failure) {
                    version = None;
                }
                pause::<K>(&mut outage, &failure).await;
            }
        }
    }
}

/// How a list or watch ended.
enum End {
    /// It did its work; the (next) watch begins at once.
    Resume,
    /// Nobody wants to hear more.
    Unwanted,
    /// It did not work.
    Failed(Failure),
}

/// All pages of a list, and the resourceVersion that a watch goes on from.
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
                None => Err(Error::Service("a list without a resourceVersion".into()).into()),
            };
        }
    }
}

/// One watch. `version` moves on with what comes.
async fn watch<K, T, S, E>(
    api: &Api<K>,
    config: &Config,
    version: &mut String,
    trim: &impl Fn(K) -> T,
    hand_on: impl Fn(ObjectChange<T>) -> S,
    outage: &mut Outage,
) -> End
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
    S: Future<Output = Result<(), E>>,
{
    let mut events = match heard(api.watch(&config.watch(), version)).await {
        Ok(events) => events.boxed(),
        Err(error) => return End::Failed(error.into()),
    };
    let (mut since, mut works) = (Instant::now(), false);
    loop {
        let patience = if works { QUIET } else { PROOF.saturating_sub(since.elapsed()) };
        let change = match timeout(patience, events.try_next()).await {
            Err(_) if works => {
                // Nothing is known to have failed. If the API server is gone, the next start shows it.
                tracing::debug!(kind = %K::kind(&()), "watch is silent; resuming it");
                return End::Resume;
            }
            Err(_) => {
                works = true;
                say_over::<K>(outage);
                continue;
            }
            Ok(Ok(None)) if works => return End::Resume,
            Ok(Ok(None)) => {
                let at_once = Error::Service("the watch ended at once, and nothing had come".into());
                return End::Failed(at_once.into());
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
            // One event cannot be read. Resumed, the watch would bring the same again; after it others come.
            Ok(Err(error)) if is_unreadable(&error) => {
                pause::<K>(outage, &error.into()).await;
                (since, works) = (Instant::now(), false);
                continue;
            }
            Ok(Err(error)) => return End::Failed(error.into()),
        };
        works = true;
        say_over::<K>(outage);
        if hand_on(change).await.is_err() {
            return End::Unwanted;
        }
    }
}

/// The watch goes on after this object.
fn advance(version: &mut String, object: &impl Resource) {
    if let Some(seen) = &object.meta().resource_version {
        version.clone_from(seen);
    }
}

/// Whether an event was not understood. kube reads as a Status what is no event, and of any JSON object one can be read;
/// only one of the API server has a code.
fn is_unreadable(error: &Error) -> bool {
    match error {
        Error::SerdeError(_) => true,
        Error::Api(status) => status.code == 0,
        _ => false,
    }
}

/// Whether the API server has forgotten what was to be resumed, so that only a list helps.
fn is_expired(failure: &Failure) -> bool {
    matches!(&failure.error, Error::Api(status) if status.code == 410)
}

/// Waits after a failure. Said once per outage: the retries go on by themselves.
async fn pause<K: Resource<DynamicType = ()>>(outage: &mut Outage, failure: &Failure) {
    let (pause, is_first) = outage.failed(failure.retry_after, rand::random());
    if is_first {
        let (kind, error) = (K::kind(&()), chain(failure));
        tracing::warn!(%kind, %error, "watch failed; keeping what is known and retrying");
    }
    sleep(pause).await;
}

fn say_over<K: Resource<DynamicType = ()>>(outage: &mut Outage) {
    if outage.over() {
        tracing::info!(kind = %K::kind(&()), "watch works again");
    }
}
