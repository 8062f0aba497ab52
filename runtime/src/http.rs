//! The HTTP endpoints `/metrics`, `/healthz` and `/readyz`.

mod authorization;
mod connections;
mod exposition;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use kube::Client;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::watch;

use self::authorization::Authorizer;
pub use self::exposition::Format;
use crate::build_info;

/// The metrics of a process.
pub type Metrics = Arc<Mutex<Registry>>;

/// The state of `/readyz`. Clones share it.
#[derive(Clone, Debug)]
pub struct Health {
    /// The condition that readiness waits for; `None` if the process is ready.
    awaited: watch::Sender<Option<String>>,
    /// A remark, which makes no difference to readiness.
    note: watch::Sender<Option<String>>,
    /// A remark on an outage of the API server, which makes no difference either.
    outage: watch::Sender<Option<String>>,
}

impl Health {
    /// Returns the state "not ready, waiting for `awaited`".
    pub fn new(awaited: &str) -> Self {
        Self {
            awaited: watch::Sender::new(Some(awaited.to_owned())),
            note: watch::Sender::new(None),
            outage: watch::Sender::new(None),
        }
    }

    /// Changes the state to ready.
    pub fn set_ready(&self) {
        self.awaited.send_replace(None);
    }

    /// Changes the state to "not ready, waiting for `awaited`".
    pub fn set_awaiting(&self, awaited: &str) {
        self.awaited.send_replace(Some(awaited.to_owned()));
    }

    /// Sets a remark that `/readyz` adds to its text.
    pub fn set_note(&self, note: Option<String>) {
        self.note.send_if_modified(|current| {
            let differs = *current != note;
            *current = note;
            differs
        });
    }

    /// Returns the remark of [`Health::set_note`].
    pub fn note(&self) -> Option<String> {
        self.note.borrow().clone()
    }

    /// Sets a remark on an outage of the API server, which `/readyz` adds to its text.
    pub fn set_outage(&self, outage: Option<String>) {
        self.outage.send_replace(outage);
    }

    /// Returns the remark of [`Health::set_outage`].
    pub fn outage(&self) -> Option<String> {
        self.outage.borrow().clone()
    }

    /// Returns what readiness waits for; `None` if the process is ready.
    pub fn awaited(&self) -> Option<String> {
        self.awaited.borrow().clone()
    }

    /// Returns true if `/readyz` returns status 200.
    pub fn is_ready(&self) -> bool {
        self.awaited.borrow().is_none()
    }
}

/// Serves the endpoints until the process ends. With an `authorizer`, the API server that it connects to
/// decides who may read `/metrics`; without, anyone may. The other endpoints contain only one word or one
/// line, and are open for the kubelet.
///
/// # Errors
/// Returns an error that names the address if it cannot be bound.
pub async fn serve(
    addr: SocketAddr,
    health: Health,
    metrics: Metrics,
    authorizer: Option<Client>,
) -> io::Result<()> {
    let listener = listen(addr).await.map_err(|e| {
        io::Error::new(
            e.kind(),
            format!("cannot listen on {addr} for metrics: {e}; set --metrics-addr to another address"),
        )
    })?;
    build_info::register(&mut metrics.lock().unwrap_or_else(PoisonError::into_inner));
    tracing::info!(%addr, "serving /metrics, /healthz and /readyz");
    connections::serve(listener, router(health, metrics, authorizer)).await;
    Ok(())
}

/// Binds `addr`. If it is `[::]`, which also accepts IPv4 connections, and the kernel has no IPv6, binds
/// `0.0.0.0`.
async fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    match TcpListener::bind(addr).await {
        Err(error) if addr.ip() == Ipv6Addr::UNSPECIFIED && error.raw_os_error() == Some(EAFNOSUPPORT) => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, addr.port())).await
        }
        bound => bound,
    }
}

/// The Linux error code for an address family that the kernel does not support.
const EAFNOSUPPORT: i32 = 97;

fn router(health: Health, metrics: Metrics, authorizer: Option<Client>) -> Router {
    let mut metrics = get(export).with_state(metrics);
    if let Some(client) = authorizer {
        metrics = metrics.layer(from_fn_with_state(Arc::new(Authorizer::new(client)), authorize));
    }
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz).with_state(health))
        .route("/metrics", metrics)
}

/// Passes an authorized request.
async fn authorize(
    State(authorizer): State<Arc<Authorizer<Client>>>,
    request: Request,
    next: Next,
) -> Response {
    match authorizer.check(request.headers()).await {
        Ok(()) => next.run(request).await,
        Err(StatusCode::UNAUTHORIZED) => {
            (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")], "send a bearer token\n")
                .into_response()
        }
        Err(StatusCode::FORBIDDEN) => {
            (StatusCode::FORBIDDEN, "the user of the token needs the verb get on /metrics\n").into_response()
        }
        Err(status) => (status, "the API server cannot review the token now; retry\n").into_response(),
    }
}

async fn readyz(State(health): State<Health>) -> Response {
    let (status, mut text) = match &*health.awaited.borrow() {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(awaited) => (StatusCode::SERVICE_UNAVAILABLE, format!("waiting for {awaited}\n")),
    };
    for remark in [&health.note, &health.outage] {
        if let Some(remark) = &*remark.borrow() {
            text += &format!("{remark}\n");
        }
    }
    (status, text).into_response()
}

async fn export(State(metrics): State<Metrics>, headers: HeaderMap) -> Response {
    let format = Format::accepted(headers.get(header::ACCEPT));
    let registry = metrics.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    match format.encode(&registry) {
        Ok(text) => ([(header::CONTENT_TYPE, format.content_type())], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn status(health: &Health) -> StatusCode {
        readyz(State(health.clone())).await.status()
    }

    #[tokio::test]
    async fn readyz_returns_503_until_ready() {
        let health = Health::new("the first list of Services");
        assert_eq!(status(&health).await, StatusCode::SERVICE_UNAVAILABLE);
        health.set_ready();
        assert_eq!(status(&health).await, StatusCode::OK);
        health.set_awaiting("the Node object");
        assert_eq!(status(&health).await, StatusCode::SERVICE_UNAVAILABLE);
    }

    #[tokio::test]
    async fn note_is_added_and_does_not_change_the_status() {
        let health = Health::new("the first list");
        health.set_note(Some("bgppeers are missing".to_owned()));
        let text = async |health: &Health| {
            let response = readyz(State(health.clone())).await;
            let status = response.status();
            (status, axum::body::to_bytes(response.into_body(), 1000).await.unwrap())
        };
        let (status, body) = text(&health).await;
        assert_eq!(
            (status, &*body),
            (StatusCode::SERVICE_UNAVAILABLE, &b"waiting for the first list\nbgppeers are missing\n"[..])
        );
        health.set_ready();
        let (status, body) = text(&health).await;
        assert_eq!((status, &*body), (StatusCode::OK, &b"ok\nbgppeers are missing\n"[..]));
        health.set_note(None);
        assert_eq!(text(&health).await.1, "ok\n");
    }
}
