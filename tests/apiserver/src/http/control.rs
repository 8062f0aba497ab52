//! `/faults`: fault injection from other processes.
//!
//! `GET` lists, `POST` adds a fault, `DELETE [/ID]` removes; `POST` to `close-watches`, `expire-watches`,
//! `compact`, `outage` with `{"mode": "refuse" | "hang", "seconds": 60}`, and `bookmarks` with `{"now": 3,
//! "first": 2}`: bookmarks that running watches send now, and with which new watches begin.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Shared, reply};
use crate::failure::Failure;
use crate::faults::{Fault, Outage};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OutageOrder {
    mode: Outage,
    seconds: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BookmarkOrder {
    #[serde(default)]
    now: u64,
    first: Option<u64>,
}

/// Handles a request to `/faults` and below.
///
/// # Errors
/// 400 for an invalid body, 404 and 405.
pub(crate) async fn answer(
    shared: &Arc<Shared>,
    rest: &str,
    request: Request<Body>,
) -> Result<Response<Body>, Failure> {
    let method = request.method().clone();
    let body = axum::body::to_bytes(request.into_body(), 64 * 1024)
        .await
        .map_err(|error| Failure::bad_request(error.to_string()))?;
    let bad = |error: serde_json::Error| Failure::bad_request(error.to_string());
    let faults = &shared.faults;
    match (&method, rest) {
        (&Method::GET, "") => {}
        (&Method::POST, "") => {
            let fault: Fault = serde_json::from_slice(&body).map_err(bad)?;
            return Ok(reply::json(201, &json!({ "id": faults.add(fault) })));
        }
        (&Method::DELETE, "") => faults.clear(),
        (&Method::POST, "close-watches") => faults.close_watches(),
        (&Method::POST, "expire-watches") => faults.expire_watches(),
        (&Method::POST, "compact") => faults.compact(),
        (&Method::POST, "bookmarks") => {
            let order: BookmarkOrder = serde_json::from_slice(&body).map_err(bad)?;
            faults.send_bookmarks(order.now);
            if let Some(first) = order.first {
                faults.begin_with_bookmarks(first);
            }
        }
        (&Method::POST, "outage") => {
            let order: OutageOrder = serde_json::from_slice(&body).map_err(bad)?;
            let duration = Duration::try_from_secs_f64(order.seconds)
                .map_err(|error| Failure::bad_request(error.to_string()))?;
            let faults = faults.clone();
            // The response must arrive before the connection closes.
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                faults.outage(order.mode, duration);
            });
        }
        (&Method::DELETE, id) => {
            faults.remove(id.parse().map_err(|_| Failure::no_such_path())?);
        }
        (&Method::GET | &Method::POST, _) => return Err(Failure::no_such_path()),
        _ => return Err(Failure::method_not_allowed()),
    }
    let active: Vec<Value> =
        faults.active().into_iter().map(|(id, fault)| json!({ "id": id, "fault": fault })).collect();
    Ok(reply::json(200, &json!({ "faults": active })))
}
