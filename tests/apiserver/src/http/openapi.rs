//! OpenAPI documents, as far as kubectl reads them. Custom resources have their schemas; built-in kinds have
//! only their names, so that kubectl uses its compiled-in types.

use axum::body::Body;
use axum::http::{HeaderValue, Request, Response, header};
use serde_json::{Map, Value, json};

use super::reply;
use crate::api::Registry;
use crate::kinds::{Resource, Strategy};

/// `/openapi/v2`. kubectl requests protobuf, and an empty message is an empty document.
pub(crate) fn v2(request: &Request<Body>) -> Response<Body> {
    let accept =
        request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accept.contains("proto-openapi.spec.v2") {
        let mut response = Response::new(Body::empty());
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/com.github.proto-openapi.spec.v2.v1.0+protobuf"),
        );
        return response;
    }
    reply::json(200, &json!({ "swagger": "2.0", "info": info(), "paths": {}, "definitions": {} }))
}

/// `/openapi/v3`.
pub(crate) fn v3_index(registry: &Registry) -> Value {
    let mut paths = Map::new();
    for resource in registry.iter() {
        let path = prefix(resource);
        let url = json!({ "serverRelativeURL": format!("/openapi/v3/{path}") });
        paths.insert(path, url);
    }
    json!({ "paths": paths })
}

/// `/openapi/v3/api/v1` and `/openapi/v3/apis/GROUP/VERSION`.
pub(crate) fn v3(registry: &Registry, group: &str, version: &str) -> Option<Value> {
    let (mut paths, mut schemas) = (Map::new(), Map::new());
    for resource in registry.iter().filter(|resource| resource.group == group && resource.version == version)
    {
        let scope = if resource.namespaced { "/namespaces/{namespace}" } else { "" };
        let collection = format!("/{}{scope}/{}", prefix(resource), resource.plural);
        let gvk = json!({ "group": resource.group, "version": resource.version, "kind": resource.kind });
        let operation = |action: &str| {
            json!({
                "x-kubernetes-action": action,
                "x-kubernetes-group-version-kind": gvk,
                "responses": { "200": { "description": "OK" } },
                "parameters": [
                    parameter("dryRun"),
                    parameter("fieldManager"),
                    parameter("fieldValidation"),
                ],
            })
        };
        paths.insert(collection.clone(), json!({ "get": operation("list"), "post": operation("post") }));
        paths.insert(
            format!("{collection}/{{name}}"),
            json!({ "get": operation("get"), "put": operation("put"), "patch": operation("patch") }),
        );
        schemas.insert(schema_name(resource), schema(resource, &gvk));
    }
    (!paths.is_empty()).then(|| {
        json!({
            "openapi": "3.0.0",
            "info": info(),
            "paths": paths,
            "components": { "schemas": schemas },
        })
    })
}

fn schema(resource: &Resource, gvk: &Value) -> Value {
    let mut schema = match &resource.strategy {
        Strategy::Custom { schema, .. } => schema.source().clone(),
        Strategy::Builtin(_) => json!({ "type": "object" }),
    };
    for (field, description) in [
        ("apiVersion", "APIVersion defines the versioned schema of this representation of an object."),
        ("kind", "Kind is a string value representing the REST resource this object represents."),
    ] {
        schema["properties"][field] = json!({ "type": "string", "description": description });
    }
    schema["properties"]["metadata"] =
        json!({ "type": "object", "description": "Standard object's metadata." });
    schema["x-kubernetes-group-version-kind"] = json!([gvk]);
    schema
}

fn schema_name(resource: &Resource) -> String {
    let group: Vec<&str> = resource.group.split('.').rev().collect();
    let group = if resource.group.is_empty() { "io.k8s.api.core".to_owned() } else { group.join(".") };
    format!("{group}.{}.{}", resource.version, resource.kind)
}

fn prefix(resource: &Resource) -> String {
    if resource.group.is_empty() {
        format!("api/{}", resource.version)
    } else {
        format!("apis/{}/{}", resource.group, resource.version)
    }
}

fn parameter(name: &str) -> Value {
    json!({ "name": name, "in": "query", "schema": { "type": "string", "uniqueItems": true } })
}

fn info() -> Value {
    json!({ "title": "Kubernetes", "version": "v1.33.0" })
}
