//! HTTP: from a request to an operation on the objects and back.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
use hyper::body::Incoming;

use crate::faults::Faults;
use crate::options::Options;

/// What all requests share.
pub(crate) struct Shared {
    pub faults: Faults,
}

impl Shared {
    pub(crate) fn new(_options: &Options, faults: Faults) -> anyhow::Result<Shared> {
        Ok(Shared { faults })
    }
}

/// Answers one request.
pub(crate) async fn handle(shared: Arc<Shared>, request: Request<Incoming>) -> Response<Body> {
    let _ = shared.faults.judge("get", request.uri().path());
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}
