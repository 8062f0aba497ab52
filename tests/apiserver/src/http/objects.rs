//! Requests on objects: verbs, bodies and the resulting operation.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Method, Request, Response, header};
use serde_json::{Value, json};

use super::format::Format;
use super::query::Parameters;
use super::route::ResourcePath;
use super::{Shared, protobuf, reply, watch};
use crate::api::{DeleteOptions, Deleted, Listing, Patch, Target, Written};
use crate::failure::Failure;
use crate::faults::Selected;
use crate::kinds::Door;
use crate::selectors::Selector;

/// The largest accepted body, as with etcd's limit.
const LARGEST_BODY: usize = 3 * 1024 * 1024;

/// Handles a request on objects.
///
/// # Errors
/// As kube-apiserver.
pub(crate) async fn answer(
    shared: &Arc<Shared>,
    path: ResourcePath,
    request: Request<Body>,
) -> Result<Response<Body>, Failure> {
    let parameters = Parameters::of(request.uri())?;
    let method = request.method().clone();
    let verb = verb(&method, &path, &parameters)?;
    let target = target(shared, &path)?;
    let full = match path.subresource.as_str() {
        "" => path.plural.clone(),
        subresource => format!("{}/{subresource}", path.plural),
    };
    let headers = request.headers().clone();
    let format = Format::of(&headers, parameters.get("includeObject")).ok_or_else(|| Failure {
        code: 406,
        reason: "NotAcceptable",
        message: "only the following media types are accepted: application/json".into(),
        details: None,
    })?;
    let body = axum::body::to_bytes(request.into_body(), LARGEST_BODY).await.map_err(|error| Failure {
        code: 413,
        reason: "RequestEntityTooLarge",
        message: format!("Request entity too large: {error}"),
        details: None,
    })?;
    let name = if shared.faults.by_name() { full_name(&path, &body) } else { String::new() };
    let fault = shared.faults.decide(Selected { verb, resource: &full, name: &name });
    if !fault.delay.is_zero() {
        tokio::time::sleep(fault.delay).await;
    }
    match &fault.refusal {
        Some(refusal) if refusal.status == 429 => return Ok(reply::too_many_requests(refusal.retry_after)),
        Some(refusal) => return Err(Failure::injected(refusal)),
        None => {}
    }

    let selector = || {
        Selector::parse(parameters.get("labelSelector"), parameters.get("fieldSelector"), |field| {
            target.resource.supports_field(field)
        })
        .map_err(Failure::bad_request)
    };
    let ask = parameters.ask(&headers)?;
    match verb {
        "get" => {
            let object = shared.lock().get(&target)?;
            Ok(reply::raw(200, format.one(&target.resource, &object, true)))
        }
        "list" => {
            let options = parameters.list()?;
            let listing = shared.lock().list(&target, &selector()?, &options)?;
            Ok(reply::raw(200, format.list(&target.resource, &listing)))
        }
        "watch" => watch::answer(shared, target.clone(), selector()?, &parameters, format),
        "create" => {
            let object = read_object(&headers, &body)?;
            let written = shared.change(|api| api.create(&target, object, &ask))?;
            Ok(written_reply(&target, &written, format))
        }
        "update" => {
            let object = read_object(&headers, &body)?;
            let written = shared.change(|api| api.replace(&target, object, &ask))?;
            Ok(written_reply(&target, &written, format))
        }
        "patch" => {
            let patch = read_patch(&headers, &body)?;
            if matches!(patch, Patch::Apply(_)) && parameters.get("fieldManager").is_none() {
                return Err(Failure::unprocessable(
                    "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch",
                ));
            }
            let written = shared.change(|api| api.patch(&target, patch, &ask))?;
            Ok(written_reply(&target, &written, format))
        }
        "delete" => {
            let options = delete_options(&headers, &body, &parameters)?;
            let deleted = shared.change(|api| api.delete(&target, &options, &ask))?;
            Ok(deleted_reply(&target, &deleted, format))
        }
        _ => {
            let options = delete_options(&headers, &body, &parameters)?;
            let selector = selector()?;
            let objects = shared.change(|api| api.delete_collection(&target, &selector, &options, &ask))?;
            let revision = shared.lock().store.revision();
            let listing = Listing { objects, revision, token: None, remaining: None };
            Ok(reply::raw(200, format.list(&target.resource, &listing)))
        }
    }
}

/// Returns `namespace/name`; the name of a new object is in the body.
fn full_name(path: &ResourcePath, body: &Bytes) -> String {
    let name = if path.name.is_empty() {
        let object: Value = serde_json::from_slice(body).unwrap_or_default();
        object["metadata"]["name"].as_str().unwrap_or_default().to_owned()
    } else {
        path.name.clone()
    };
    if name.is_empty() || path.namespace.is_empty() { name } else { format!("{}/{name}", path.namespace) }
}

fn verb(method: &Method, path: &ResourcePath, parameters: &Parameters) -> Result<&'static str, Failure> {
    let one = !path.name.is_empty();
    match (method, one) {
        (&Method::GET, true) => Ok("get"),
        (&Method::GET, false) if parameters.flag("watch") => Ok("watch"),
        (&Method::GET, false) => Ok("list"),
        (&Method::POST, false) => Ok("create"),
        (&Method::PUT, true) => Ok("update"),
        (&Method::PATCH, true) => Ok("patch"),
        (&Method::DELETE, true) if path.subresource.is_empty() => Ok("delete"),
        (&Method::DELETE, false) => Ok("deletecollection"),
        _ => Err(Failure::method_not_allowed()),
    }
}

fn target(shared: &Shared, path: &ResourcePath) -> Result<Target, Failure> {
    let api = shared.lock();
    let resource =
        api.registry.get(&path.group, &path.version, &path.plural).ok_or_else(Failure::no_such_path)?;
    let door = match path.subresource.as_str() {
        "" => Door::Object,
        "status" if resource.has_status => Door::Status,
        _ => return Err(Failure::no_such_path()),
    };
    let scope_fits = if resource.namespaced {
        // A request without a namespace addresses all of them.
        !path.namespace.is_empty() || path.name.is_empty()
    } else {
        path.namespace.is_empty()
    };
    if !scope_fits {
        return Err(Failure::no_such_path());
    }
    Ok(Target {
        resource: resource.clone(),
        namespace: path.namespace.clone(),
        name: path.name.clone(),
        door,
    })
}

fn media_type(headers: &HeaderMap) -> &str {
    let text = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    text.split(';').next().unwrap_or_default().trim()
}

fn read_object(headers: &HeaderMap, body: &Bytes) -> Result<Value, Failure> {
    match media_type(headers) {
        "" | "application/json" => serde_json::from_slice(body)
            .map_err(|error| Failure::bad_request(format!("the object provided is unrecognized: {error}"))),
        "application/yaml" => read_yaml(body),
        protobuf::MEDIA_TYPE => protobuf::read(body),
        _ => Err(Failure::unsupported_media_type(&["application/json", "application/yaml"])),
    }
}

fn read_yaml(body: &Bytes) -> Result<Value, Failure> {
    serde_json::from_slice(body)
        .or_else(|_| serde_yaml::from_slice(body))
        .map_err(|error| Failure::bad_request(format!("error decoding YAML: {error}")))
}

fn read_patch(headers: &HeaderMap, body: &Bytes) -> Result<Patch, Failure> {
    let json = || -> Result<Value, Failure> {
        serde_json::from_slice(body)
            .map_err(|error| Failure::bad_request(format!("error decoding patch: {error}")))
    };
    match media_type(headers) {
        "application/json-patch+json" => Ok(Patch::Json(json()?)),
        "application/merge-patch+json" => Ok(Patch::Merge(json()?)),
        "application/strategic-merge-patch+json" => Ok(Patch::Strategic(json()?)),
        "application/apply-patch+yaml" => Ok(Patch::Apply(read_yaml(body)?)),
        _ => Err(Failure::unsupported_media_type(&[
            "application/json-patch+json",
            "application/merge-patch+json",
            "application/strategic-merge-patch+json",
            "application/apply-patch+yaml",
        ])),
    }
}

fn delete_options(
    headers: &HeaderMap,
    body: &Bytes,
    parameters: &Parameters,
) -> Result<DeleteOptions, Failure> {
    let mut options = if body.is_empty() {
        DeleteOptions::default()
    } else {
        DeleteOptions::read(&read_object(headers, body)?)
    };
    options.orphan |= parameters.get("propagationPolicy") == Some("Orphan");
    Ok(options)
}

fn written_reply(target: &Target, written: &Written, format: Format) -> Response<Body> {
    let code = if written.created { 201 } else { 200 };
    let response = reply::raw(code, format.one(&target.resource, &written.object, true));
    reply::with_warnings(response, &written.warnings)
}

fn deleted_reply(target: &Target, deleted: &Deleted, format: Format) -> Response<Body> {
    match deleted {
        Deleted::Waits(object) => reply::raw(200, format.one(&target.resource, object, true)),
        Deleted::Gone(object) if target.resource.returns_deleted => {
            reply::raw(200, format.one(&target.resource, object, true))
        }
        Deleted::Gone(object) => {
            let mut details = json!({
                "name": target.name,
                "kind": target.resource.plural,
                "uid": object.uid(),
            });
            if !target.resource.group.is_empty() {
                details["group"] = json!(target.resource.group);
            }
            reply::json(
                200,
                &json!({
                    "kind": "Status",
                    "apiVersion": "v1",
                    "metadata": {},
                    "status": "Success",
                    "details": details,
                }),
            )
        }
    }
}
