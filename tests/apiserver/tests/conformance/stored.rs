//! Objects that a server stores although common libraries cannot read them.

use kube::api::{Api, DynamicObject};
use serde_json::{Value, json};

use crate::context::{Context, dynamic, refused, why};

const JSON: &[(&str, &str)] = &[("content-type", "application/json")];
const MERGE: &[(&str, &str)] = &[("content-type", "application/merge-patch+json")];

/// Paths below the collection of Services.
fn path(context: &Context, rest: &str) -> String {
    format!("/api/v1/namespaces/{}/services{rest}", context.namespace)
}

/// Writes the conditions of a Service as a Go controller does that updates the whole object.
async fn write_conditions(context: &Context, conditions: Value) -> Result<Value, kube::Error> {
    let path = path(context, "/web/status");
    let mut service = context.get(&path).await;
    service["status"]["conditions"] = conditions;
    context.request("PUT", &path, JSON, service).await
}

/// Returns the conditions as a get, a list and a watch show them.
async fn conditions(context: &Context) -> [Value; 3] {
    let one = context.get(&path(context, "/web")).await;
    let list = context.get(&path(context, "")).await;
    let query = "?watch=true&timeoutSeconds=1&fieldSelector=metadata.name%3Dweb";
    let request = axum::http::Request::get(path(context, query)).body(Vec::new()).unwrap();
    let stream = context.client.request_text(request).await.unwrap();
    let event: Value = serde_json::from_str(stream.lines().next().unwrap()).unwrap();
    assert_eq!(event["type"], "ADDED");
    [&one, &list["items"][0], &event["object"]].map(|object| object["status"]["conditions"].clone())
}

pub(crate) async fn condition_without_time_has_null(context: Context) {
    let spec = json!({ "type": "LoadBalancer", "ports": [{ "port": 80 }] });
    context.create_service("web", spec).await;
    let patch = json!({ "status": { "conditions": [
        { "type": "example.com/Y", "status": "True" },
        { "type": "example.com/N", "status": "True", "lastTransitionTime": null },
        { "type": "example.com/Z", "status": "True", "lastTransitionTime": "0001-01-01T00:00:00Z" },
    ] } });
    context.request("PATCH", &path(&context, "/web/status"), MERGE, patch).await.unwrap();
    let stored = |sort: &str| json!({ "type": sort, "status": "True", "lastTransitionTime": null, "reason": "", "message": "" });
    for shown in conditions(&context).await {
        assert_eq!(shown, json!(["example.com/Y", "example.com/N", "example.com/Z"].map(stored)));
    }
    // Such an object can be patched.
    let patch = json!({ "metadata": { "labels": { "a": "b" } } });
    context.request("PATCH", &path(&context, "/web"), MERGE, patch).await.unwrap();
}

pub(crate) async fn times_beyond_four_digit_years_are_returned(context: Context) {
    let spec = json!({ "type": "LoadBalancer", "ports": [{ "port": 80 }] });
    context.create_service("web", spec).await;
    let condition = |time: &str| json!({ "type": time.replace([':', '+', '.'], "-"), "status": "True", "lastTransitionTime": time });
    let times = [
        ("9999-12-31T23:59:59-12:00", "10000-01-01T11:59:59Z"),
        ("0000-01-01T00:00:00+12:00", "-0001-12-31T12:00:00Z"),
        ("2026-01-01T00:00:00.1234567890123Z", "2026-01-01T00:00:00Z"),
    ];
    write_conditions(&context, times.iter().map(|(time, _)| condition(time)).collect()).await.unwrap();
    for shown in conditions(&context).await {
        for (at, (_, stored)) in times.iter().enumerate() {
            assert_eq!(shown[at]["lastTransitionTime"], **stored);
        }
    }
}

pub(crate) async fn patch_of_unreadable_time_is_refused(context: Context) {
    let spec = json!({ "type": "LoadBalancer", "ports": [{ "port": 80 }] });
    context.create_service("web", spec).await;
    let condition =
        json!({ "type": "A", "status": "True", "lastTransitionTime": "9999-12-31T23:59:59-12:00" });
    write_conditions(&context, json!([condition])).await.unwrap();
    // The server encodes the object to patch it, and cannot decode the year that it wrote.
    let patch = json!({ "metadata": { "labels": { "a": "b" } } });
    let result = context.request("PATCH", &path(&context, "/web"), MERGE, patch).await;
    assert_eq!(why(result), (422, "Invalid".into()));
    // A patch that replaces the conditions, and an update, are accepted.
    let patch = json!({ "status": { "conditions": null } });
    context.request("PATCH", &path(&context, "/web/status"), MERGE, patch).await.unwrap();
    write_conditions(&context, json!([])).await.unwrap();
}

pub(crate) async fn custom_times_are_returned_as_written(context: Context) {
    let schema = json!({ "type": "object", "properties": {
        "at": { "type": "string", "format": "date-time" },
    } });
    let api: Api<DynamicObject> = context.define(context.thing(schema, json!({}))).await;
    for (at, time) in [
        "9999-12-31T23:59:59-12:00",
        "0000-01-01T00:00:00+12:00",
        "2026-01-01T00:00:00.1234567890123Z",
        "2026-01-01t00:00:00z",
    ]
    .iter()
    .enumerate()
    {
        let thing = dynamic(&api, &format!("t{at}"), json!({ "spec": { "at": time } }));
        let stored = api.create(&Default::default(), &thing).await.unwrap();
        assert_eq!(stored.data["spec"]["at"], *time);
    }
    for time in ["", "yesterday", "2026-01-01", "2026-02-30T00:00:00Z", "10000-01-01T11:59:59Z"] {
        let thing = dynamic(&api, "bad", json!({ "spec": { "at": time } }));
        assert_eq!(refused(api.create(&Default::default(), &thing).await).code, 422, "{time}");
    }
}

pub(crate) async fn too_large_object_is_500_of_the_storage(context: Context) {
    let spec = json!({ "type": "LoadBalancer", "ports": [{ "port": 80 }] });
    let before = context.create_service("web", spec).await;
    let condition = json!({
        "type": "A", "status": "True", "reason": "A", "lastTransitionTime": null,
        "message": "x".repeat(1_650_000),
    });
    let status = refused(write_conditions(&context, json!([condition])).await);
    assert_eq!((status.code, status.reason.as_str()), (500, ""));
    assert_eq!(status.message, "etcdserver: request is too large");
    let after = context.services().get("web").await.unwrap();
    assert_eq!(after.metadata.resource_version, before.metadata.resource_version);
}
