//! Deleting.

use either::Either;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::context::{Context, Watched, why};

async fn create(context: &Context, name: &str, metadata: Value) -> ConfigMap {
    let mut object = json!({ "metadata": metadata });
    object["metadata"]["name"] = json!(name);
    let object: ConfigMap = serde_json::from_value(object).unwrap();
    context.api::<ConfigMap>().create(&PostParams::default(), &object).await.unwrap()
}

async fn finalizers(context: &Context, names: Value) -> Result<ConfigMap, kube::Error> {
    let patch = Patch::Merge(json!({ "metadata": { "finalizers": names } }));
    context.api::<ConfigMap>().patch("x", &PatchParams::default(), &patch).await
}

pub(crate) async fn finalizer_delays_deletion(context: Context) {
    let api = context.api::<ConfigMap>();
    let created = create(&context, "x", json!({ "finalizers": ["example.dev/hold"] })).await;
    let version = created.resource_version().unwrap();
    let one = kube::api::WatchParams::default().fields("metadata.name=x");
    let mut watch = Watched::start(&api, &one, &version).await;
    match api.delete("x", &DeleteParams::default()).await.unwrap() {
        Either::Left(object) => assert!(object.metadata.deletion_timestamp.is_some()),
        Either::Right(status) => panic!("the object still exists: {status:?}"),
    }
    assert_eq!(watch.word().await, "MODIFIED x");
    assert!(api.get("x").await.unwrap().metadata.deletion_timestamp.is_some());
    finalizers(&context, json!(null)).await.unwrap();
    assert!(api.get_opt("x").await.unwrap().is_none());
    let mut last = watch.word().await;
    if last == "MODIFIED x" {
        last = watch.word().await;
    }
    assert_eq!(last, "DELETED x");
}

pub(crate) async fn deleting_object_accepts_no_new_finalizer(context: Context) {
    create(&context, "x", json!({ "finalizers": ["example.dev/hold"] })).await;
    context.api::<ConfigMap>().delete("x", &DeleteParams::default()).await.unwrap();
    let refusal = why(finalizers(&context, json!(["example.dev/hold", "example.dev/more"])).await);
    assert_eq!(refusal, (422, "Invalid".into()));
    finalizers(&context, json!([])).await.unwrap();
}

pub(crate) async fn collections_are_deleted_by_selector(context: Context) {
    for (name, app) in [("a", "web"), ("b", "db"), ("c", "web")] {
        create(&context, name, json!({ "labels": { "app": app } })).await;
    }
    let api = context.api::<ConfigMap>();
    let web = ListParams::default().labels("app=web");
    api.delete_collection(&DeleteParams::default(), &web).await.unwrap();
    let left = api.list(&ListParams::default().labels("app")).await.unwrap();
    assert_eq!(left.iter().map(ResourceExt::name_any).collect::<Vec<_>>(), ["b"]);
}
