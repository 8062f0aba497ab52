//! Watches: a position in the history of a kind, and the events that follow it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, Response, header};
use futures::stream;
use serde_json::{Value, json};
use tokio::sync::watch as signal;
use tokio::time::Instant;

use super::Shared;
use super::format::Format;
use super::query::Parameters;
use crate::api::{ListOptions, Target};
use crate::failure::Failure;
use crate::faults::WatchOrder;
use crate::selectors::Selector;
use crate::store::{Change, Object};

/// Duration of a watch without timeoutSeconds.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(3600);
/// Time before the end of a watch at which a bookmark is due, as in kube-apiserver's watch cache.
const BEFORE_END: Duration = Duration::from_secs(2);
/// Most bookmarks that a watch sends at one time.
const MOST_BOOKMARKS: u64 = 1000;
/// Number of changes read while the objects are locked.
const BATCH: usize = 256;

struct Watch {
    shared: Arc<Shared>,
    target: Target,
    selector: Selector,
    format: Format,
    /// Revision up to which events were sent.
    position: u64,
    /// Encoded events to send.
    ready: VecDeque<Bytes>,
    changed: signal::Receiver<u64>,
    orders: signal::Receiver<WatchOrder>,
    handled: WatchOrder,
    bookmarks: bool,
    next_bookmark: Instant,
    deadline: Instant,
    /// A table contains its column definitions in the first event only.
    headed: bool,
    ended: bool,
}

/// Starts a watch.
///
/// # Errors
/// 400 and 422 for contradictory parameters.
pub(crate) fn answer(
    shared: &Arc<Shared>,
    target: Target,
    selector: Selector,
    parameters: &Parameters,
    format: Format,
) -> Result<Response<Body>, Failure> {
    let from = parameters.resource_version()?.filter(|revision| *revision > 0);
    let bookmarks = parameters.flag("allowWatchBookmarks");
    let streaming = parameters.flag("sendInitialEvents");
    if streaming && parameters.get("resourceVersionMatch") != Some("NotOlderThan") {
        return Err(Failure::unprocessable(
            "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        ));
    }
    let timeout = parameters.timeout_seconds()?.filter(|seconds| *seconds > 0);
    let now = Instant::now();
    let deadline = now + timeout.map_or(DEFAULT_TIMEOUT, Duration::from_secs);
    let changed = shared.subscribe(target.resource.table);
    let orders = shared.faults.watch_orders();
    let handled = *orders.borrow();
    let mut watch = Watch {
        shared: shared.clone(),
        format,
        position: 0,
        ready: VecDeque::new(),
        changed,
        orders,
        handled,
        bookmarks,
        next_bookmark: next_bookmark(now, shared.bookmarks, deadline),
        deadline,
        headed: true,
        ended: false,
        target,
        selector,
    };
    match from {
        Some(revision) if !streaming => watch.resume(revision),
        _ => watch.begin(streaming)?,
    }
    watch.send_bookmarks(handled.first_bookmarks);
    let chunks = stream::unfold(watch, |mut watch| async move {
        let chunk = watch.next().await?;
        Some((Ok::<_, std::convert::Infallible>(chunk), watch))
    });
    let mut response = Response::new(Body::from_stream(chunks));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

impl Watch {
    /// Starts at a revision. Discarded history is reported in the stream, as kube-apiserver does.
    fn resume(&mut self, revision: u64) {
        self.position = revision;
        let expired = {
            let api = self.shared.lock();
            api.store.changes(self.target.resource.table, revision, 0).err()
        };
        if let Some(expired) = expired {
            self.fail(&format!("too old resource version: {} ({})", expired.asked, expired.oldest));
        }
    }

    /// Starts with the existing objects as ADDED events.
    fn begin(&mut self, streaming: bool) -> Result<(), Failure> {
        let listing = self.shared.lock().list(&self.target, &self.selector, &ListOptions::default())?;
        self.position = listing.revision;
        for object in &listing.objects {
            let event = self.event("ADDED", object);
            self.ready.push_back(event);
        }
        if streaming && self.bookmarks {
            let end = self.bookmark(true);
            self.ready.push_back(end);
        }
        Ok(())
    }

    /// Returns the next bytes; None at the end of the watch.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            self.shared.while_hanging().await;
            if !self.ready.is_empty() {
                return Some(self.drain());
            }
            if self.ended {
                return None;
            }
            let order = *self.orders.borrow_and_update();
            if order.close != self.handled.close {
                return None;
            }
            if order.expire != self.handled.expire {
                self.fail("The resourceVersion for the provided watch is too old.");
                continue;
            }
            if order.bookmarks != self.handled.bookmarks {
                self.send_bookmarks(order.bookmarks - self.handled.bookmarks);
                self.handled = order;
                continue;
            }
            if self.catch_up() {
                continue;
            }
            let wake = if self.bookmarks { self.next_bookmark.min(self.deadline) } else { self.deadline };
            tokio::select! {
                changed = self.changed.changed() => if changed.is_err() { return None },
                changed = self.orders.changed() => if changed.is_err() { return None },
                () = tokio::time::sleep_until(wake) => self.wake(),
            }
        }
    }

    /// Encodes as many events as fit into one chunk.
    fn drain(&mut self) -> Bytes {
        if self.ready.len() == 1 {
            return self.ready.pop_front().unwrap_or_default();
        }
        let mut chunk = Vec::new();
        while let Some(event) = self.ready.pop_front() {
            chunk.extend_from_slice(&event);
            if chunk.len() > 64 * 1024 {
                break;
            }
        }
        chunk.into()
    }

    /// Reads the changes after the position. Returns whether there is anything to send.
    fn catch_up(&mut self) -> bool {
        self.changed.mark_unchanged();
        let (changes, newest) = {
            let api = self.shared.lock();
            let changes = api.store.changes(self.target.resource.table, self.position, BATCH);
            (changes.map(|changes| changes.cloned().collect::<Vec<Change>>()), api.store.revision())
        };
        let changes = match changes {
            Ok(changes) => changes,
            Err(expired) => {
                self.fail(&format!("too old resource version: {} ({})", expired.asked, expired.oldest));
                return true;
            }
        };
        self.position = match changes.last() {
            Some(change) if changes.len() == BATCH => change.revision,
            _ => self.position.max(newest),
        };
        for change in &changes {
            if let Some((sort, object)) = self.seen(change) {
                let event = self.event(sort, &object);
                self.ready.push_back(event);
            }
        }
        changes.len() == BATCH || !self.ready.is_empty()
    }

    /// Maps a change through the selector.
    fn seen(&self, change: &Change) -> Option<(&'static str, Arc<Object>)> {
        if !self.target.namespace.is_empty() && self.target.namespace != change.key.namespace {
            return None;
        }
        if self.selector.only_name().is_some_and(|name| name != change.key.name) {
            return None;
        }
        let selected =
            |object: &Arc<Object>| self.selector.is_empty() || self.selector.matches(object.value());
        let before = change.old.as_ref().filter(|object| selected(object));
        let after = change.new.as_ref().filter(|object| selected(object));
        match (before, after) {
            (None, None) => None,
            (None, Some(new)) => Some(("ADDED", new.clone())),
            (Some(_), Some(new)) => Some(("MODIFIED", new.clone())),
            (Some(old), None) => {
                Some(("DELETED", change.last.clone().unwrap_or_else(|| at_revision(old, change.revision))))
            }
        }
    }

    fn event(&mut self, sort: &str, object: &Object) -> Bytes {
        let json = self.format.one(&self.target.resource, object, self.headed);
        self.headed = false;
        envelope(sort, &json)
    }

    fn bookmark(&self, end_of_initial: bool) -> Bytes {
        let mut metadata =
            json!({ "creationTimestamp": Value::Null, "resourceVersion": self.position.to_string() });
        if end_of_initial {
            metadata["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        let resource = &self.target.resource;
        let object = match self.format {
            Format::Plain => {
                json!({ "kind": resource.kind, "apiVersion": resource.api_version(), "metadata": metadata })
            }
            Format::Metadata => {
                json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata })
            }
            Format::Table(_) => json!({
                "kind": "Table",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": { "resourceVersion": self.position.to_string() },
                "columnDefinitions": Value::Null,
                "rows": [],
            }),
        };
        envelope("BOOKMARK", object.to_string().as_bytes())
    }

    fn send_bookmarks(&mut self, count: u64) {
        if !self.bookmarks || self.ended {
            return;
        }
        for _ in 0..count.min(MOST_BOOKMARKS) {
            let bookmark = self.bookmark(false);
            self.ready.push_back(bookmark);
        }
    }

    /// Handles a due bookmark or the end.
    fn wake(&mut self) {
        let now = Instant::now();
        if now >= self.next_bookmark {
            self.send_bookmarks(1);
            self.next_bookmark = next_bookmark(now, self.shared.bookmarks, self.deadline);
        }
        self.ended = now >= self.deadline;
    }

    fn fail(&mut self, message: &str) {
        let status = Failure::expired(message).to_status();
        self.ready.push_back(envelope("ERROR", status.to_string().as_bytes()));
        self.ended = true;
    }
}

/// Bookmarks are sent at an interval, and once before the end.
fn next_bookmark(now: Instant, interval: Duration, deadline: Instant) -> Instant {
    match deadline.checked_sub(BEFORE_END) {
        Some(last) if last > now => last.min(now + interval),
        _ => now + interval,
    }
}

fn envelope(sort: &str, json: &[u8]) -> Bytes {
    let mut event = Vec::with_capacity(json.len() + 40);
    event.extend_from_slice(br#"{"type":""#);
    event.extend_from_slice(sort.as_bytes());
    event.extend_from_slice(br#"","object":"#);
    event.extend_from_slice(json);
    event.extend_from_slice(b"}\n");
    event.into()
}

/// The last selected state, with the revision at which the selector stopped matching.
fn at_revision(object: &Object, revision: u64) -> Arc<Object> {
    let mut value = object.value().clone();
    value["metadata"]["resourceVersion"] = json!(revision.to_string());
    Arc::new(Object::new(value, revision))
}
