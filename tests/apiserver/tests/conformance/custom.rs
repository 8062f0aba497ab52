//! Custom resources.

use kube::ResourceExt;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::context::{Context, dynamic, refused, why};

fn schema() -> Value {
    json!({
        "type": "object",
        "required": ["addresses"],
        "properties": {
            "addresses": {
                "type": "array", "minItems": 1, "maxItems": 4,
                "items": { "type": "string", "maxLength": 32 },
            },
            "auto": { "type": "boolean", "default": true },
            "mode": { "type": "string", "enum": ["A", "B"] },
        },
    })
}

fn spec(addresses: Value) -> Value {
    json!({ "spec": { "addresses": addresses } })
}

pub(crate) async fn definition_is_established_and_served(context: Context) {
    let api = context.define(context.thing(schema(), json!({}))).await;
    let created = api.create(&PostParams::default(), &dynamic(&api, "x", spec(json!(["a"])))).await.unwrap();
    assert_eq!(created.metadata.generation, Some(1));
    assert_eq!(api.get("x").await.unwrap().data["spec"]["addresses"], json!(["a"]));
    let url = api.resource_url();
    let (group_version, _) = url.rsplit_once('/').unwrap();
    let list = context.get(group_version).await;
    let names: Vec<&str> =
        list["resources"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"things") && names.contains(&"things/status"), "{names:?}");
}

pub(crate) async fn schemas_default_prune_and_reject(context: Context) {
    let api = context.define(context.thing(schema(), json!({}))).await;
    let thing = dynamic(&api, "x", json!({ "spec": { "addresses": ["a"], "unknown": 1 } }));
    let created = api.create(&PostParams::default(), &thing).await.unwrap();
    assert_eq!(created.data["spec"], json!({ "addresses": ["a"], "auto": true }));
    for (rest, field) in [
        (json!({ "spec": {} }), "spec.addresses"),
        (json!({ "spec": { "addresses": [] } }), "spec.addresses"),
        (json!({ "spec": { "addresses": [1] } }), "spec.addresses[0]"),
        (json!({ "spec": { "addresses": ["a"], "mode": "C" } }), "spec.mode"),
        (json!({ "spec": { "addresses": ["a"], "auto": "yes" } }), "spec.auto"),
        (json!({ "spec": { "addresses": ["a", "b", "c", "d", "e"] } }), "spec.addresses"),
    ] {
        let status = refused(api.create(&PostParams::default(), &dynamic(&api, "y", rest.clone())).await);
        assert_eq!((status.code, status.reason.as_str()), (422, "Invalid"), "{rest}");
        let causes = status.details.unwrap().causes;
        assert!(causes.iter().any(|cause| cause.field == field), "{rest}: {causes:?}");
    }
}

pub(crate) async fn cel_rules_reject_and_see_old_object(context: Context) {
    let mut schema = schema();
    schema["x-kubernetes-validations"] = json!([
        { "rule": "!('forbidden' in self.addresses)", "message": "no forbidden address" },
        { "rule": "!has(oldSelf.mode) || self.mode == oldSelf.mode", "message": "mode stays" },
    ]);
    let api = context.define(context.thing(schema, json!({}))).await;
    let bad = dynamic(&api, "x", spec(json!(["forbidden"])));
    let status = refused(api.create(&PostParams::default(), &bad).await);
    assert_eq!((status.code, status.reason.as_str()), (422, "Invalid"));
    assert!(status.message.contains("no forbidden address"), "{}", status.message);

    let thing = dynamic(&api, "x", json!({ "spec": { "addresses": ["a"], "mode": "A" } }));
    api.create(&PostParams::default(), &thing).await.unwrap();
    let patch = Patch::Merge(json!({ "spec": { "mode": "B" } }));
    let status = refused(api.patch("x", &PatchParams::default(), &patch).await);
    assert!(status.message.contains("mode stays"), "{}", status.message);
}

pub(crate) async fn status_is_a_subresource(context: Context) {
    let api = context.define(context.thing(schema(), json!({}))).await;
    let mut rest = spec(json!(["a"]));
    rest["status"] = json!({ "phase": "FromCreate" });
    let created = api.create(&PostParams::default(), &dynamic(&api, "x", rest)).await.unwrap();
    assert_eq!(created.data.get("status"), None);

    let patch = Patch::Merge(json!({
        "metadata": { "annotations": { "a": "b" } },
        "spec": { "addresses": ["other"] },
        "status": { "phase": "Good" },
    }));
    let patched = api.patch_status("x", &PatchParams::default(), &patch).await.unwrap();
    assert_eq!(patched.data["status"], json!({ "phase": "Good" }));
    assert_eq!(patched.data["spec"]["addresses"], json!(["a"]));
    assert!(patched.annotations().is_empty());

    let patched = api.patch("x", &PatchParams::default(), &patch).await.unwrap();
    assert_eq!(patched.data["spec"]["addresses"], json!(["other"]));
    let patch = Patch::Merge(json!({ "status": { "phase": "Bad" } }));
    let patched = api.patch("x", &PatchParams::default(), &patch).await.unwrap();
    assert_eq!(patched.data["status"], json!({ "phase": "Good" }));
}

pub(crate) async fn generation_counts_spec_changes(context: Context) {
    let api = context.define(context.thing(schema(), json!({}))).await;
    api.create(&PostParams::default(), &dynamic(&api, "x", spec(json!(["a"])))).await.unwrap();
    let params = PatchParams::default();
    let label = Patch::Merge(json!({ "metadata": { "labels": { "a": "b" } } }));
    assert_eq!(api.patch("x", &params, &label).await.unwrap().metadata.generation, Some(1));
    let status = Patch::Merge(json!({ "status": { "phase": "Good" } }));
    assert_eq!(api.patch_status("x", &params, &status).await.unwrap().metadata.generation, Some(1));
    let change = Patch::Merge(spec(json!(["b"])));
    assert_eq!(api.patch("x", &params, &change).await.unwrap().metadata.generation, Some(2));
}

pub(crate) async fn update_requires_resource_version(context: Context) {
    let api = context.define(context.thing(schema(), json!({}))).await;
    let thing = dynamic(&api, "x", spec(json!(["a"])));
    api.create(&PostParams::default(), &thing).await.unwrap();
    let status = refused(api.replace("x", &PostParams::default(), &thing).await);
    assert_eq!((status.code, status.reason.as_str()), (422, "Invalid"));
    assert_eq!(status.details.unwrap().causes[0].field, "metadata.resourceVersion");
}

pub(crate) async fn strict_validation_rejects_unknown_fields(context: Context) {
    let api = context.define(context.thing(schema(), json!({}))).await;
    let thing = dynamic(&api, "x", json!({ "spec": { "addresses": ["a"], "oops": 1 } }));
    let path = format!("{}?fieldValidation=Strict", api.resource_url());
    let body = serde_json::to_value(&thing).unwrap();
    let status = refused(context.request("POST", &path, &[("content-type", "application/json")], body).await);
    assert_eq!((status.code, status.reason.as_str()), (400, "BadRequest"));
    assert!(status.message.contains("unknown field \"spec.oops\""), "{}", status.message);
    let service = json!({ "metadata": { "name": "web" }, "spec": { "ports": [{ "port": 80, "prot": 1 }] } });
    let path = format!("/api/v1/namespaces/{}/services?fieldValidation=Strict", context.namespace);
    let json = [("content-type", "application/json")];
    let refusal = why(context.request("POST", &path, &json, service).await);
    assert_eq!(refusal, (400, "BadRequest".into()));
}

pub(crate) async fn printer_columns_are_shown(context: Context) {
    let columns = json!({ "additionalPrinterColumns": [
        { "name": "Auto", "type": "boolean", "jsonPath": ".spec.auto" },
        { "name": "First", "type": "string", "jsonPath": ".spec.addresses[0]" },
        { "name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp" },
    ] });
    let api = context.define(context.thing(schema(), columns)).await;
    api.create(&PostParams::default(), &dynamic(&api, "x", spec(json!(["a"])))).await.unwrap();
    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let table = context.request("GET", api.resource_url(), &accept, Value::Null).await.unwrap();
    let names: Vec<&str> = table["columnDefinitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|column| column["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["Name", "Auto", "First", "Age"]);
    assert_eq!(table["rows"][0]["cells"].as_array().unwrap()[..3], [json!("x"), json!(true), json!("a")]);
    let headers = [accept[0], ("content-type", "application/merge-patch+json")];
    let path = format!("{}/x/status?includeObject=None", api.resource_url());
    let table =
        context.request("PATCH", &path, &headers, json!({ "status": { "ready": true } })).await.unwrap();
    let version = api.get("x").await.unwrap().metadata.resource_version.unwrap();
    assert_eq!((&table["kind"], &table["metadata"]["resourceVersion"]), (&json!("Table"), &json!(version)));
    assert_eq!(table["rows"][0]["object"]["metadata"], Value::Null);
}
