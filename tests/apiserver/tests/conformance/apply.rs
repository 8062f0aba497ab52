//! Server-side apply.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::context::{Context, refused, why};

async fn apply(context: &Context, manager: &str, data: Value, force: bool) -> Result<ConfigMap, kube::Error> {
    let config = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "config" }, "data": data,
    });
    let mut params = PatchParams::apply(manager);
    params.force = force;
    context.api::<ConfigMap>().patch("config", &params, &Patch::Apply(config)).await
}

fn data(config: &ConfigMap) -> Value {
    json!(config.data.clone().unwrap_or_default())
}

fn managers(config: &ConfigMap) -> Vec<(String, String)> {
    let entries = config.managed_fields().iter();
    let mut managers: Vec<_> = entries
        .map(|entry| (entry.manager.clone().unwrap_or_default(), entry.operation.clone().unwrap_or_default()))
        .collect();
    managers.sort();
    managers
}

pub(crate) async fn apply_creates_and_owns_fields(context: Context) {
    let config = apply(&context, "one", json!({ "a": "1" }), false).await.unwrap();
    assert_eq!(data(&config), json!({ "a": "1" }));
    assert_eq!(managers(&config), [("one".to_owned(), "Apply".to_owned())]);
    let fields = serde_json::to_value(&config.managed_fields()[0].fields_v1).unwrap();
    assert_eq!(fields["f:data"]["f:a"], json!({}));

    let again = apply(&context, "one", json!({ "a": "1" }), false).await.unwrap();
    assert_eq!(again.resource_version(), config.resource_version());
}

pub(crate) async fn omitted_applied_field_is_removed(context: Context) {
    apply(&context, "one", json!({ "a": "1", "b": "2" }), false).await.unwrap();
    apply(&context, "two", json!({ "c": "3" }), false).await.unwrap();
    let config = apply(&context, "one", json!({ "a": "1" }), false).await.unwrap();
    assert_eq!(data(&config), json!({ "a": "1", "c": "3" }));
}

pub(crate) async fn apply_of_foreign_field_conflicts(context: Context) {
    apply(&context, "one", json!({ "a": "1" }), false).await.unwrap();
    let status = refused(apply(&context, "two", json!({ "a": "2" }), false).await);
    assert_eq!((status.code, status.reason.as_str()), (409, "Conflict"));
    let causes = status.details.unwrap().causes;
    assert_eq!(causes.len(), 1);
    assert_eq!(causes[0].reason, "FieldManagerConflict");
    assert_eq!(causes[0].field, ".data.a");
    assert!(causes[0].message.contains("\"one\""), "{}", causes[0].message);

    // An ordinary patch also sets ownership.
    let patch = Patch::Merge(json!({ "data": { "m": "1" } }));
    context.api::<ConfigMap>().patch("config", &PatchParams::default(), &patch).await.unwrap();
    assert_eq!(why(apply(&context, "two", json!({ "m": "2" }), false).await), (409, "Conflict".into()));
}

pub(crate) async fn forced_apply_takes_ownership(context: Context) {
    apply(&context, "one", json!({ "a": "1", "b": "1" }), false).await.unwrap();
    apply(&context, "two", json!({ "a": "2" }), true).await.unwrap();
    // A field that the first manager no longer owns remains when that manager omits it.
    let config = apply(&context, "one", json!({ "b": "1" }), false).await.unwrap();
    assert_eq!(data(&config), json!({ "a": "2", "b": "1" }));
}

pub(crate) async fn equal_values_are_co_owned(context: Context) {
    apply(&context, "one", json!({ "a": "1" }), false).await.unwrap();
    apply(&context, "two", json!({ "a": "1" }), false).await.unwrap();
    let config = apply(&context, "one", json!({}), false).await.unwrap();
    assert_eq!(data(&config), json!({ "a": "1" }));
    let config = apply(&context, "two", json!({}), false).await.unwrap();
    assert_eq!(data(&config), json!({}));
}

pub(crate) async fn status_has_separate_ownership(context: Context) {
    let schema = json!({ "type": "object", "properties": { "a": { "type": "string" } } });
    let api = context.define(context.thing(schema, json!({}))).await;
    let group_version =
        api.resource_url().trim_start_matches("/apis/").rsplit_once('/').unwrap().0.to_owned();
    let thing = |rest: Value| {
        let mut thing = json!({ "apiVersion": group_version, "kind": "Thing", "metadata": { "name": "x" } });
        for (name, value) in rest.as_object().unwrap() {
            thing[name] = value.clone();
        }
        thing
    };
    let spec = Patch::Apply(thing(json!({ "spec": { "a": "1" } })));
    api.patch("x", &PatchParams::apply("one"), &spec).await.unwrap();
    let status = Patch::Apply(thing(json!({ "status": { "phase": "Good", "count": 1 } })));
    api.patch_status("x", &PatchParams::apply("one"), &status).await.unwrap();
    // Applying the object again without a status keeps the status.
    let after = api.patch("x", &PatchParams::apply("one"), &spec).await.unwrap();
    assert_eq!(after.data["status"], json!({ "phase": "Good", "count": 1 }));
    assert_eq!(after.data["spec"], json!({ "a": "1" }));
    let less = Patch::Apply(thing(json!({ "status": { "phase": "Good" } })));
    let after = api.patch_status("x", &PatchParams::apply("one"), &less).await.unwrap();
    assert_eq!(after.data["status"], json!({ "phase": "Good" }));
    let sub: Vec<_> =
        after.managed_fields().iter().map(|entry| entry.subresource.clone().unwrap_or_default()).collect();
    assert!(sub.contains(&"status".to_owned()) && sub.contains(&String::new()), "{sub:?}");
}

pub(crate) async fn applied_resource_version_must_match(context: Context) {
    let first = apply(&context, "one", json!({ "a": "1" }), false).await.unwrap();
    apply(&context, "one", json!({ "a": "2" }), false).await.unwrap();
    let config = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": "config", "resourceVersion": first.resource_version() },
        "data": { "a": "3" },
    });
    let api = context.api::<ConfigMap>();
    let result = api.patch("config", &PatchParams::apply("one"), &Patch::Apply(config)).await;
    assert_eq!(why(result), (409, "Conflict".into()));
}
