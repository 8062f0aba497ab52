//! HTTP: translates a request into an operation on the objects, and the result into a response.

mod access;
mod columns;
mod control;
mod discovery;
mod format;
mod objects;
mod openapi;
mod protobuf;
mod query;
mod reply;
mod route;
mod table;
mod watch;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use jiff::Timestamp;
use tokio::sync::watch as signal;

use crate::api::{Api, Ask, UnknownFields};
use crate::failure::Failure;
use crate::faults::{Faults, Outage};
use crate::options::Options;
use crate::store::Table;
use route::Route;

/// State shared by all requests.
pub(crate) struct Shared {
    api: Mutex<Api>,
    /// The revision of the last change, by table.
    signals: RwLock<Vec<signal::Sender<u64>>>,
    faults: Faults,
    token: Option<String>,
    bookmarks: Duration,
}

impl Shared {
    /// # Errors
    /// If the options are invalid.
    pub(crate) fn new(options: &Options, faults: Faults) -> anyhow::Result<Shared> {
        let ask = Ask {
            now: now(),
            manager: "kube-apiserver".into(),
            dry_run: false,
            force: false,
            unknown: UnknownFields::Warn,
        };
        Ok(Shared {
            api: Mutex::new(Api::new(options, &ask)?),
            signals: RwLock::new(Vec::new()),
            faults,
            token: options.token.clone(),
            bookmarks: options.bookmarks,
        })
    }

    /// Discards all history.
    pub(crate) fn compact(&self) {
        self.lock().store.compact();
    }

    /// Locks for reading. A panic in another request must not stop the server.
    fn lock(&self) -> MutexGuard<'_, Api> {
        self.api.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Performs an operation and wakes the watches on changed tables.
    fn change<T>(&self, operation: impl FnOnce(&mut Api) -> T) -> T {
        let mut api = self.lock();
        let result = operation(&mut api);
        let touched = api.store.take_touched();
        let revision = api.store.revision();
        drop(api);
        for table in touched {
            self.with_signal(table, |signal| {
                signal.send_replace(revision);
            });
        }
        result
    }

    /// Notifies when a table changes.
    fn subscribe(&self, table: Table) -> signal::Receiver<u64> {
        self.with_signal(table, signal::Sender::subscribe)
    }

    fn with_signal<T>(&self, table: Table, act: impl FnOnce(&signal::Sender<u64>) -> T) -> T {
        let signals = self.signals.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(signal) = signals.get(table.index()) {
            return act(signal);
        }
        drop(signals);
        let mut signals = self.signals.write().unwrap_or_else(PoisonError::into_inner);
        while signals.len() <= table.index() {
            signals.push(signal::Sender::new(0));
        }
        act(&signals[table.index()])
    }

    /// Returns at once, except during a hanging outage.
    async fn while_hanging(&self) {
        let mut outages = self.faults.outages();
        loop {
            let until = match *outages.borrow_and_update() {
                Some((Outage::Hang, until)) if until > Instant::now() => until,
                _ => return,
            };
            tokio::select! {
                () = tokio::time::sleep_until(until.into()) => {}
                changed = outages.changed() => if changed.is_err() { return },
            }
        }
    }
}

/// Formats as RFC 3339 with whole seconds, like `creationTimestamp`.
fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Handles one request.
pub(crate) async fn handle(shared: Arc<Shared>, request: Request<Incoming>) -> Response<Body> {
    shared.while_hanging().await;
    let request = request.map(Body::new);
    let line =
        tracing::enabled!(tracing::Level::DEBUG).then(|| format!("{} {}", request.method(), request.uri()));
    let response = answer(&shared, request).await.unwrap_or_else(|failure| reply::failure(&failure));
    if let Some(line) = line {
        tracing::debug!(status = response.status().as_u16(), "{line}");
    }
    shared.while_hanging().await;
    response
}

async fn answer(shared: &Arc<Shared>, request: Request<Body>) -> Result<Response<Body>, Failure> {
    let route = Route::of(request.uri().path());
    access::check(shared.token.as_deref(), &route, &request)?;
    match route {
        Route::Health => Ok(reply::text("ok")),
        Route::Version => Ok(reply::json(200, &discovery::version())),
        Route::Paths => Ok(reply::json(200, &discovery::paths(&shared.lock().registry))),
        Route::Legacy => Ok(reply::json(200, &discovery::legacy())),
        Route::Groups => Ok(reply::json(200, &discovery::groups(&shared.lock().registry))),
        Route::Group(group) => discovery::group(&shared.lock().registry, &group)
            .map(|group| reply::json(200, &group))
            .ok_or_else(Failure::no_such_path),
        Route::GroupVersion(group, version) => {
            discovery::resources(&shared.lock().registry, &group, &version)
                .map(|list| reply::json(200, &list))
                .ok_or_else(Failure::no_such_path)
        }
        Route::OpenApiV2 => Ok(openapi::v2(&request)),
        Route::OpenApiV3 => Ok(reply::json(200, &openapi::v3_index(&shared.lock().registry))),
        Route::OpenApiV3Group(group, version) => openapi::v3(&shared.lock().registry, &group, &version)
            .map(|document| reply::json(200, &document))
            .ok_or_else(Failure::no_such_path),
        Route::Faults(rest) => control::answer(shared, &rest, request).await,
        Route::Resource(path) => objects::answer(shared, path, request).await,
        Route::Unknown => Err(Failure::no_such_path()),
    }
}
