//! Status writes to the API server.

use fairlead_crds::{names, v1beta1};
use fairlead_runtime::client::chain;
use fairlead_runtime::request::{Failure, request, response_without_object};
use fairlead_runtime::watch::REQUEST_TIMEOUT;
use k8s_openapi::api::core::v1::Service;
use kube::api::{Patch, PatchParams};
use kube::core::{Request, Resource};
use kube::{Client, Error};
use serde::Deserialize;

use crate::write_queue::{Write, WriteResult, WriteTarget};

/// Sends a merge patch and returns its result within [`REQUEST_TIMEOUT`]. A refusal is logged unless
/// `is_retry`.
pub(crate) async fn send(
    client: &Client,
    target: &WriteTarget,
    write: &Write,
    is_retry: bool,
) -> WriteResult {
    let (path, name) = match target {
        WriteTarget::ServiceStatus(key) => (Service::url_path(&(), Some(&key.namespace)), &key.name),
        WriteTarget::ClaimStatus(key) => (v1beta1::IPClaim::url_path(&(), Some(&key.namespace)), &key.name),
        WriteTarget::ObjectStatus(object) | WriteTarget::ObjectFinalizers(object) => {
            (object.kind.url_path(), &object.name)
        }
        WriteTarget::PoolCooldown(pool) => (v1beta1::PoolCooldown::url_path(&(), None), pool),
    };
    let result = match tokio::time::timeout(REQUEST_TIMEOUT, patch(client, path, name, target, write)).await {
        Ok(result) => result,
        Err(late) => Err(Error::Service(Box::new(late)).into()),
    };
    match result {
        Ok(version) => WriteResult::Written(version),
        Err(failure) => {
            let write_result = classify(&failure);
            let error = chain(&failure);
            match write_result {
                WriteResult::Conflict | WriteResult::Gone => {
                    tracing::debug!(object = %target, %error, "the write is out of date")
                }
                WriteResult::Refused if !is_retry => {
                    tracing::error!(object = %target, %error, "a write was refused; retrying");
                }
                // The reconcile loop logs a missing permission once for all objects.
                _ => tracing::debug!(object = %target, %error, "the write failed; retrying"),
            }
            write_result
        }
    }
}

/// The part of the response that is used: a table, or the object if the API server returns no tables. A table
/// with one object has the `resourceVersion` of the object.
#[derive(Deserialize)]
struct WrittenObject {
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
    let parameters =
        PatchParams { field_manager: Some(names::CONTROLLER.to_owned()), ..PatchParams::default() };
    let (path, body) = (Request::new(path), Patch::Merge(()));
    let patch = match target {
        WriteTarget::ObjectFinalizers(_) => path.patch(name, &parameters, &body),
        WriteTarget::PoolCooldown(_) => path.patch(name, &parameters.force(), &Patch::Apply(())),
        WriteTarget::ServiceStatus(_) | WriteTarget::ClaimStatus(_) | WriteTarget::ObjectStatus(_) => {
            path.patch_subresource("status", name, &parameters, &body)
        }
    };
    let mut patch = patch.map_err(Error::BuildRequest)?;
    *patch.body_mut() = write.body.to_json();
    let written: WrittenObject = request(client, response_without_object(patch)?).await?;
    Ok(written.metadata.resource_version)
}

/// Returns the result of a write that failed.
fn classify(failure: &Failure) -> WriteResult {
    if let Some(message) = failure.missing_permission() {
        return WriteResult::Denied(message);
    }
    let Error::Api(status) = &failure.error else {
        // No response: the connection was refused or reset, or timed out.
        return WriteResult::Unavailable(None);
    };
    match status.code {
        404 | 410 => WriteResult::Gone,
        409 => WriteResult::Conflict,
        // 403 is the answer of most policies and webhooks.
        400 | 403 | 413 | 415 | 422 => WriteResult::Refused,
        429 | 503 | 504 => WriteResult::Unavailable(failure.retry_after),
        500 if is_refusal(&status.message) => WriteResult::Refused,
        // Includes 401.
        _ => WriteResult::Failed,
    }
}

/// Returns true if an internal error of the API server is about the object only: it is too large for etcd, or
/// a webhook for it failed.
fn is_refusal(message: &str) -> bool {
    const REFUSALS: [&str; 4] = [
        // ErrRequestTooLarge of etcd.
        "request is too large",
        // The limit of a gRPC message between the API server and etcd.
        "message larger than max",
        "failed calling webhook",
        "admission webhook",
    ];
    REFUSALS.iter().any(|refusal| message.contains(refusal))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::time::Duration;

    use axum::body::Body;
    use axum::http::{Request, Response};
    use fairlead_crds::kinds::{Kind, ObjectRef};
    use fairlead_crds::model::service::ObjectKey;
    use kube::core::Status;
    use serde_json::json;
    use tower::service_fn;

    use super::*;
    use crate::write_queue::PatchBody as Patch;

    #[test]
    fn status_codes_map_to_write_results() {
        for (code, result) in [
            (400, WriteResult::Refused),
            (413, WriteResult::Refused),
            (404, WriteResult::Gone),
            (409, WriteResult::Conflict),
            (422, WriteResult::Refused),
            (429, WriteResult::Unavailable(None)),
            (503, WriteResult::Unavailable(None)),
            (500, WriteResult::Failed),
            (401, WriteResult::Failed),
            (403, WriteResult::Refused),
        ] {
            let error = Error::Api(Box::new(Status { code, ..Status::default() }));
            assert_eq!(classify(&error.into()), result, "{code}");
        }
        for (message, result) in [
            ("etcdserver: request is too large", WriteResult::Refused),
            (
                "rpc error: code = ResourceExhausted desc = trying to send message larger than max",
                WriteResult::Refused,
            ),
            (
                "Internal error occurred: failed calling webhook \"a.example\": context deadline exceeded",
                WriteResult::Refused,
            ),
            ("etcdserver: leader changed", WriteResult::Failed),
            ("etcdserver: request timed out", WriteResult::Failed),
        ] {
            let status = Status { code: 500, message: message.to_owned(), ..Status::default() };
            assert_eq!(classify(&Error::Api(Box::new(status)).into()), result, "{message}");
        }
        let message = "services \"web\" is forbidden: User \"u\" cannot patch resource \"services/status\"";
        let status = Status { code: 403, message: message.to_owned(), ..Status::default() };
        let denied = WriteResult::Denied("User \"u\" cannot patch resource \"services/status\"".to_owned());
        assert_eq!(classify(&Error::Api(Box::new(status)).into()), denied);
        let refused = Error::Service("connection refused".into());
        assert_eq!(classify(&refused.into()), WriteResult::Unavailable(None));
    }

    #[test]
    fn target_is_displayed_as_its_kind_and_name() {
        let key = ObjectKey { namespace: "shop".into(), name: "web".into() };
        let pool = || ObjectRef { kind: Kind::IPAddressPool, name: "main".into() };
        for (target, text) in [
            (WriteTarget::ServiceStatus(key.clone()), "status of Service shop/web"),
            (WriteTarget::ClaimStatus(key), "status of IPClaim shop/web"),
            (WriteTarget::ObjectStatus(pool()), "status of IPAddressPool/main"),
            (WriteTarget::ObjectFinalizers(pool()), "finalizers of IPAddressPool/main"),
            (WriteTarget::PoolCooldown("main".into()), "PoolCooldown main"),
        ] {
            assert_eq!(target.to_string(), text);
        }
    }

    #[tokio::test]
    async fn response_with_or_without_object_is_read() {
        let object = json!({ "kind": "Service", "metadata": { "name": "b", "resourceVersion": "7" } });
        let table = json!({ "kind": "Table", "metadata": { "resourceVersion": "7" }, "rows": [] });
        for response in [object, table] {
            let answer = service_fn(move |request: Request<kube::client::Body>| {
                let accept = request.headers()["accept"].to_str().unwrap().to_owned();
                assert_eq!(accept, "application/json;as=Table;v=v1;g=meta.k8s.io, application/json");
                assert_eq!(request.uri().path(), "/api/v1/namespaces/a/services/b/status");
                let query = request.uri().query().unwrap_or_default().to_owned();
                assert!(query.ends_with("fieldManager=fairlead-controller&includeObject=None"), "{query}");
                let body = Body::from(response.to_string());
                async move { Ok::<_, Infallible>(Response::new(body)) }
            });
            let client = Client::new(answer, "default");
            let target = WriteTarget::ServiceStatus(ObjectKey { namespace: "a".into(), name: "b".into() });
            let write = Write { resource_version: "1".into(), body: Arc::new(Patch::Json(json!({}))) };
            let result = send(&client, &target, &write, false).await;
            assert_eq!(result, WriteResult::Written("7".to_owned()));
        }
    }

    #[tokio::test]
    async fn retry_after_header_of_429_is_read() {
        let busy = service_fn(async |_: Request<kube::client::Body>| {
            // Like the overload protection of kube-apiserver: the body is no Status object.
            let text = Body::from("Too many requests, please try again later.\n");
            let response = Response::builder().status(429).header("Retry-After", "8").body(text);
            Ok::<_, Infallible>(response.unwrap())
        });
        let client = Client::new(busy, "default");
        let target = WriteTarget::ServiceStatus(ObjectKey { namespace: "a".into(), name: "b".into() });
        let write = Write { resource_version: "1".into(), body: Arc::new(Patch::Json(json!({}))) };
        let result = send(&client, &target, &write, false).await;
        assert_eq!(result, WriteResult::Unavailable(Some(Duration::from_secs(8))));
    }
}
