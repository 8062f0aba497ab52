//! One write to the API server.

use fairlead_crds::resolve::Kind;
use fairlead_crds::v1beta1;
use fairlead_runtime::client::chain;
use fairlead_runtime::request::{Failure, request};
use fairlead_runtime::watch::REQUEST_TIMEOUT;
use k8s_openapi::api::core::v1::Service;
use kube::api::{Patch, PatchParams};
use kube::core::{Request, Resource};
use kube::{Client, Error};
use serde::Deserialize;

use crate::write_queue::{Write, WriteResult, WriteTarget};

/// Who writes, in `managedFields`.
pub const FIELD_MANAGER: &str = "fairlead-controller";

/// Sends a merge patch and says how it went. Ends within [`REQUEST_TIMEOUT`].
pub async fn send(client: &Client, target: &WriteTarget, write: &Write) -> WriteResult {
    let (path, name) = match target {
        WriteTarget::ServiceStatus(key) => (Service::url_path(&(), Some(&key.namespace)), &key.name),
        WriteTarget::ClaimStatus(key) => (v1beta1::IPClaim::url_path(&(), Some(&key.namespace)), &key.name),
        WriteTarget::ObjectStatus(object) | WriteTarget::ObjectFinalizers(object) => {
            (path(object.kind), &object.name)
        }
    };
    let result = match tokio::time::timeout(REQUEST_TIMEOUT, patch(client, path, name, target, write)).await {
        Ok(result) => result,
        Err(late) => Err(Error::Service(Box::new(late)).into()),
    };
    match result {
        Ok(version) => WriteResult::Written(version),
        Err(failure) => {
            let answer = classify(&failure);
            let error = chain(&failure);
            match answer {
                WriteResult::Conflict | WriteResult::Gone => {
                    tracing::debug!(?target, %error, "write is out of date")
                }
                WriteResult::Invalid => tracing::error!(?target, %error, "the API server refuses a write"),
                _ => tracing::debug!(?target, %error, "write failed; it will be tried again"),
            }
            answer
        }
    }
}

/// Where the API serves a kind of configuration objects.
fn path(kind: Kind) -> String {
    match kind {
        Kind::IPAddressPool => v1beta1::IPAddressPool::url_path(&(), None),
        Kind::L2Advertisement => v1beta1::L2Advertisement::url_path(&(), None),
        Kind::BGPAdvertisement => v1beta1::BGPAdvertisement::url_path(&(), None),
        Kind::BGPPeer => v1beta1::BGPPeer::url_path(&(), None),
        Kind::BFDProfile => v1beta1::BFDProfile::url_path(&(), None),
        Kind::Community => v1beta1::Community::url_path(&(), None),
    }
}

/// All that is read of the answer, which is the whole object.
#[derive(Deserialize)]
struct Written {
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(rename = "resourceVersion")]
    resource_version: String,
}

async fn patch(
    client: &Client,
    path: String,
    name: &str,
    target: &WriteTarget,
    write: &Write,
) -> Result<String, Failure> {
    let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let (path, body) = (Request::new(path), Patch::Merge(()));
    let patch = match target {
        WriteTarget::ObjectFinalizers(_) => path.patch(name, &parameters, &body),
        WriteTarget::ServiceStatus(_) | WriteTarget::ClaimStatus(_) | WriteTarget::ObjectStatus(_) => {
            path.patch_subresource("status", name, &parameters, &body)
        }
    };
    let mut patch = patch.map_err(Error::BuildRequest)?;
    *patch.body_mut() = write.body.to_json();
    let written: Written = request(client, patch).await?;
    Ok(written.metadata.resource_version)
}

/// What a failure means for the write.
fn classify(failure: &Failure) -> WriteResult {
    let Error::Api(status) = &failure.error else {
        // No answer: refused, reset, timed out.
        return WriteResult::Unavailable(None);
    };
    match status.code {
        404 | 410 => WriteResult::Gone,
        409 => WriteResult::Conflict,
        400 | 413 | 415 | 422 => WriteResult::Invalid,
        429 | 503 | 504 => WriteResult::Unavailable(failure.retry_after),
        // Also 401 and 403: permissions may come later.
        _ => WriteResult::Failed,
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::time::Duration;

    use axum::body::Body;
    use axum::http::{Request, Response};
    use fairlead_crds::model::service::ObjectKey;
    use kube::core::Status;
    use serde_json::json;
    use tower::service_fn;

    use super::*;
    use crate::write_queue::PatchBody as Patch;

    #[test]
    fn answers_of_the_api_server() {
        for (code, answer) in [
            (404, WriteResult::Gone),
            (409, WriteResult::Conflict),
            (422, WriteResult::Invalid),
            (429, WriteResult::Unavailable(None)),
            (503, WriteResult::Unavailable(None)),
            (500, WriteResult::Failed),
            (403, WriteResult::Failed),
        ] {
            let error = Error::Api(Box::new(Status { code, ..Status::default() }));
            assert_eq!(classify(&error.into()), answer, "{code}");
        }
        let refused = Error::Service("connection refused".into());
        assert_eq!(classify(&refused.into()), WriteResult::Unavailable(None));
    }

    #[tokio::test]
    async fn overload_protection_says_in_a_header_when_to_come_back() {
        let busy = service_fn(async |_: Request<kube::client::Body>| {
            // As kube-apiserver has it: no Status object.
            let text = Body::from("Too many requests, please try again later.\n");
            let answer = Response::builder().status(429).header("Retry-After", "8").body(text);
            Ok::<_, Infallible>(answer.unwrap())
        });
        let client = Client::new(busy, "default");
        let target = WriteTarget::ServiceStatus(ObjectKey { namespace: "a".into(), name: "b".into() });
        let write = Write { resource_version: "1".into(), body: Arc::new(Patch::Json(json!({}))) };
        let answer = send(&client, &target, &write).await;
        assert_eq!(answer, WriteResult::Unavailable(Some(Duration::from_secs(8))));
    }
}
