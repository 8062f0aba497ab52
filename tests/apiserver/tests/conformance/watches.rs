//! Watches.

use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::ResourceExt;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use serde_json::{Value, json};

use crate::context::{Context, Watched};

async fn create(context: &Context, name: &str, labels: Value) {
    let config = serde_json::from_value(json!({ "metadata": { "name": name, "labels": labels } })).unwrap();
    context.api::<ConfigMap>().create(&PostParams::default(), &config).await.unwrap();
}

async fn label(context: &Context, name: &str, labels: Value) {
    let patch = Patch::Merge(json!({ "metadata": { "labels": labels } }));
    context.api::<ConfigMap>().patch(name, &PatchParams::default(), &patch).await.unwrap();
}

async fn delete(context: &Context, name: &str) {
    context.api::<ConfigMap>().delete(name, &Default::default()).await.unwrap();
}

/// Returns the current resourceVersion of a list.
async fn version(context: &Context) -> String {
    let list = context.api::<ConfigMap>().list(&ListParams::default()).await.unwrap();
    list.metadata.resource_version.unwrap()
}

/// A real cluster creates a ConfigMap in each namespace.
fn params() -> WatchParams {
    WatchParams::default().fields("metadata.name!=kube-root-ca.crt")
}

pub(crate) async fn watch_reports_changes_in_order(context: Context) {
    let from = version(&context).await;
    create(&context, "a", json!({})).await;
    label(&context, "a", json!({ "x": "y" })).await;
    create(&context, "b", json!({})).await;
    let mut watch = Watched::start(&context.api::<ConfigMap>(), &params(), &from).await;
    delete(&context, "a").await;
    for word in ["ADDED a", "MODIFIED a", "ADDED b", "DELETED a"] {
        assert_eq!(watch.word().await, word);
    }
}

pub(crate) async fn watch_without_version_begins_with_existing_objects(context: Context) {
    create(&context, "a", json!({})).await;
    create(&context, "b", json!({})).await;
    let mut watch = Watched::start(&context.api::<ConfigMap>(), &params(), "0").await;
    let mut first = [watch.word().await, watch.word().await];
    first.sort();
    assert_eq!(first, ["ADDED a", "ADDED b"]);
    create(&context, "c", json!({})).await;
    assert_eq!(watch.word().await, "ADDED c");
}

pub(crate) async fn field_selector_watch_reports_added_and_deleted(context: Context) {
    let plain = json!({ "ports": [{ "port": 80 }] });
    context.create_service("before", plain.clone()).await;
    let selected = WatchParams::default().fields("spec.type=LoadBalancer");
    let mut watch = Watched::start(&context.services(), &selected, "0").await;
    context.create_service("web", plain).await;
    context.merge_service("web", json!({ "spec": { "type": "LoadBalancer" } })).await.unwrap();
    assert_eq!(watch.word().await, "ADDED web");
    context.merge_service("web", json!({ "metadata": { "labels": { "a": "b" } } })).await.unwrap();
    assert_eq!(watch.word().await, "MODIFIED web");
    let gone = context.merge_service("web", json!({ "spec": { "type": "NodePort" } })).await.unwrap();
    match watch.change().await {
        WatchEvent::Deleted(last) => {
            // The last selected state, with the resourceVersion of the change that ended the match.
            assert_eq!(last.spec.as_ref().unwrap().type_.as_deref(), Some("LoadBalancer"));
            assert_eq!(last.resource_version(), gone.resource_version());
        }
        other => panic!("{other:?}"),
    }
    context.services().delete("web", &Default::default()).await.unwrap();
    context.create_service("next", json!({ "type": "LoadBalancer", "ports": [{ "port": 80 }] })).await;
    assert_eq!(watch.word().await, "ADDED next");
}

pub(crate) async fn label_selector_watch_reports_added_and_deleted(context: Context) {
    let from = version(&context).await;
    let selected = WatchParams::default().labels("app in (web,db)");
    let mut watch = Watched::start(&context.api::<ConfigMap>(), &selected, &from).await;
    create(&context, "a", json!({})).await;
    label(&context, "a", json!({ "app": "web" })).await;
    label(&context, "a", json!({ "app": "db" })).await;
    label(&context, "a", json!({ "app": null })).await;
    for word in ["ADDED a", "MODIFIED a", "DELETED a"] {
        assert_eq!(watch.word().await, word);
    }
}

pub(crate) async fn watch_of_one_name_reports_only_that_object(context: Context) {
    let from = version(&context).await;
    let selected = WatchParams::default().fields("metadata.name=b");
    let mut watch = Watched::start(&context.api::<ConfigMap>(), &selected, &from).await;
    for name in ["a", "b", "c"] {
        create(&context, name, json!({})).await;
    }
    delete(&context, "a").await;
    delete(&context, "b").await;
    assert_eq!(watch.word().await, "ADDED b");
    assert_eq!(watch.word().await, "DELETED b");
}

pub(crate) async fn bookmarks_end_the_initial_events(context: Context) {
    create(&context, "a", json!({})).await;
    let streaming = params().initial_events();
    let mut watch = Watched::start(&context.api::<ConfigMap>(), &streaming, "").await;
    assert_eq!(watch.word().await, "ADDED a");
    match watch.next().await {
        WatchEvent::Bookmark(bookmark) => {
            assert_eq!(bookmark.metadata.annotations["k8s.io/initial-events-end"], "true");
            assert!(bookmark.metadata.resource_version.parse::<u64>().unwrap() > 0);
        }
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn old_version_is_410_in_watch_stream(context: Context) {
    let schema = json!({ "type": "object" });
    let api: Api<DynamicObject> = context.define(context.thing(schema, json!({}))).await;
    // Older than the kind, so no server has that history.
    let mut watch = Watched::start(&api, &WatchParams::default(), "1").await;
    match watch.change().await {
        WatchEvent::Error(status) => {
            assert_eq!(status.code, 410);
            assert!(["Expired", "Gone"].contains(&status.reason.as_str()), "{}", status.reason);
        }
        other => panic!("{other:?}"),
    }
    assert!(watch.ended().await);
    // The client recovers with a list.
    let list = api.list(&ListParams::default()).await.unwrap();
    let from = list.metadata.resource_version.unwrap();
    let mut watch = Watched::start(&api, &WatchParams::default(), &from).await;
    let thing = crate::context::dynamic(&api, "x", json!({}));
    api.create(&PostParams::default(), &thing).await.unwrap();
    assert_eq!(watch.word().await, "ADDED x");
}

pub(crate) async fn watch_ends_at_timeout(context: Context) {
    let from = version(&context).await;
    let mut watch = Watched::start(&context.api::<ConfigMap>(), &params().timeout(1), &from).await;
    assert!(watch.ended().await);
}

pub(crate) async fn bookmark_precedes_end_of_watch(context: Context) {
    let from = version(&context).await;
    let selected = WatchParams::default().fields("metadata.name=none").timeout(5);
    let mut watch = Watched::start(&context.api::<ConfigMap>(), &selected, &from).await;
    // A server need not repeat the version at which the watch began.
    create(&context, "other", json!({})).await;
    match watch.next().await {
        WatchEvent::Bookmark(bookmark) => {
            let marked: u64 = bookmark.metadata.resource_version.parse().unwrap();
            assert!(marked > from.parse().unwrap());
        }
        other => panic!("{other:?}"),
    }
    assert!(watch.ended().await);
}

pub(crate) async fn cluster_wide_watch_covers_all_namespaces(context: Context) {
    let all: Api<Service> = Api::all(context.client.clone());
    let name = context.unique("s").chars().take(60).collect::<String>();
    let selected = WatchParams::default().fields(&format!("metadata.name={name}"));
    let mut watch = Watched::start(&all, &selected, "0").await;
    context.create_service(&name, json!({ "ports": [{ "port": 80 }] })).await;
    match watch.change().await {
        WatchEvent::Added(service) => assert_eq!(service.namespace().unwrap(), context.namespace),
        other => panic!("{other:?}"),
    }
}
