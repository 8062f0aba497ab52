//! Following the objects of one kind: list, then watch, for ever.
//!
//! What arrives is one of three verbs, the same three an index has. A failed list or watch is retried with
//! back-off and changes nothing: what was known stays known while the API server is away.

use std::fmt::Debug;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use kube::api::Api;
use kube::core::Resource;
use kube::runtime::WatchStreamExt;
use kube::runtime::utils::Backoff as WatchBackoff;
use kube::runtime::watcher::{self, Event};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use crate::backoff::Backoff;
use crate::client::chain;

/// A change to what is known of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change<T> {
    /// The object is new or changed.
    Apply(T),
    /// The object is gone, or no longer selected. Its last known state.
    Delete(T),
    /// A complete list: what is not in it is gone.
    Reset(Vec<T>),
}

/// Lists and watches until the receiver is dropped.
///
/// `trim` turns each object into what the caller keeps of it, at once, so that whole objects are never held;
/// `wrap` makes the caller's message out of a change.
pub async fn follow<K, T, M>(
    api: Api<K>,
    config: watcher::Config,
    trim: impl Fn(K) -> T,
    wrap: impl Fn(Change<T>) -> M,
    sink: mpsc::Sender<M>,
) where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let kind = K::kind(&());
    let mut listed = Vec::new();
    let mut failing = false;
    let mut stream = watcher::watcher(api, config).backoff(retries()).into_stream().boxed();
    loop {
        let change = match stream.try_next().await {
            Ok(Some(Event::Init)) => {
                listed.clear();
                continue;
            }
            Ok(Some(Event::InitApply(object))) => {
                listed.push(trim(object));
                continue;
            }
            Ok(Some(Event::InitDone)) => {
                if failing {
                    tracing::info!(%kind, "watch works again");
                }
                failing = false;
                listed.shrink_to_fit();
                Change::Reset(std::mem::take(&mut listed))
            }
            Ok(Some(Event::Apply(object))) => Change::Apply(trim(object)),
            Ok(Some(Event::Delete(object))) => Change::Delete(trim(object)),
            // The stream has no end of its own.
            Ok(None) => return,
            Err(error) => {
                // Said once per outage: the retries go on by themselves.
                if !failing {
                    tracing::warn!(%kind, error = %chain(&error), "watch failed; keeping what is known and retrying");
                }
                failing = true;
                continue;
            }
        };
        if sink.send(wrap(change)).await.is_err() {
            return;
        }
    }
}

/// List-then-watch configuration used everywhere: pages of 500, a quiet watch ends after at most five minutes.
pub fn config() -> watcher::Config {
    watcher::Config::default().timeout(290)
}

/// How long a request that is not a watch may take.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Waits between retries of a watch: from half a second to five seconds. kube's own go up to 30 s, which is how long
/// a new Service would wait after the API server is back.
fn retries() -> Retries {
    Retries(Backoff::new(Duration::from_millis(500), Duration::from_secs(5)))
}

struct Retries(Backoff);

impl Iterator for Retries {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(self.0.fail(rand::random()))
    }
}

impl WatchBackoff for Retries {
    fn reset(&mut self) {
        self.0.succeed();
    }
}
