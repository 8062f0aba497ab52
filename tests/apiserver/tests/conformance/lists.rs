//! Lists and their formats.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use kube::api::{ListParams, PostParams};
use serde_json::{Value, json};

use crate::context::{Context, refused, why};

async fn create(context: &Context, name: &str, app: &str) {
    let config = serde_json::from_value(
        json!({ "metadata": { "name": name, "labels": { "app": app } }, "data": { "k": "v" } }),
    )
    .unwrap();
    context.api::<ConfigMap>().create(&PostParams::default(), &config).await.unwrap();
}

async fn names(context: &Context, params: ListParams) -> Vec<String> {
    context.api::<ConfigMap>().list(&params).await.unwrap().iter().map(ResourceExt::name_any).collect()
}

pub(crate) async fn pages_show_one_version(context: Context) {
    for name in ["a", "b", "c", "d", "e"] {
        create(&context, name, "page").await;
    }
    let params = ListParams::default().labels("app=page").limit(2);
    let api = context.api::<ConfigMap>();
    let first = api.list(&params).await.unwrap();
    assert_eq!(first.iter().map(ResourceExt::name_any).collect::<Vec<_>>(), ["a", "b"]);
    // Changes between the pages are not included.
    create(&context, "cc", "page").await;
    api.delete("d", &Default::default()).await.unwrap();
    let token = first.metadata.continue_.clone().unwrap();
    let second = api.list(&params.clone().continue_token(&token)).await.unwrap();
    assert_eq!(second.iter().map(ResourceExt::name_any).collect::<Vec<_>>(), ["c", "d"]);
    assert_eq!(second.metadata.resource_version, first.metadata.resource_version);
    let token = second.metadata.continue_.clone().unwrap();
    let third = api.list(&params.continue_token(&token)).await.unwrap();
    assert_eq!(third.iter().map(ResourceExt::name_any).collect::<Vec<_>>(), ["e"]);
    assert!(third.metadata.continue_.is_none_or(|token| token.is_empty()));
}

pub(crate) async fn selectors_filter_lists(context: Context) {
    for (name, app) in [("a", "web"), ("b", "db"), ("c", "web")] {
        create(&context, name, app).await;
    }
    assert_eq!(names(&context, ListParams::default().labels("app=web")).await, ["a", "c"]);
    assert_eq!(names(&context, ListParams::default().labels("app notin (web),app")).await, ["b"]);
    assert_eq!(names(&context, ListParams::default().fields("metadata.name=b")).await, ["b"]);
    assert_eq!(
        names(&context, ListParams::default().labels("app=web").fields("metadata.name!=a")).await,
        ["c"]
    );
}

pub(crate) async fn unknown_field_selector_is_rejected(context: Context) {
    let params = ListParams::default().fields("data.k=v");
    let status = refused(context.api::<ConfigMap>().list(&params).await);
    assert_eq!((status.code, status.reason.as_str()), (400, "BadRequest"));
}

pub(crate) async fn metadata_list_contains_metadata_only(context: Context) {
    create(&context, "a", "web").await;
    let params = ListParams::default().labels("app=web");
    let list = context.api::<ConfigMap>().list_metadata(&params).await.unwrap();
    assert_eq!(list.items.len(), 1);
    assert_eq!(list.items[0].labels()["app"], "web");
}

pub(crate) async fn table_has_columns_and_rows(context: Context) {
    context.create_service("web", json!({ "type": "LoadBalancer", "ports": [{ "port": 80 }] })).await;
    let path = format!("/api/v1/namespaces/{}/services", context.namespace);
    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let table = context.request("GET", &path, &accept, Value::Null).await.unwrap();
    assert_eq!(table["kind"], "Table");
    let columns = table["columnDefinitions"].as_array().unwrap();
    let names: Vec<&str> = columns.iter().map(|column| column["name"].as_str().unwrap()).collect();
    assert_eq!(names[..6], ["Name", "Type", "Cluster-IP", "External-IP", "Port(s)", "Age"]);
    let row = &table["rows"][0];
    assert_eq!(row["cells"][0], "web");
    assert_eq!(row["cells"][1], "LoadBalancer");
    assert_eq!(row["cells"][3], "<pending>");
    assert_eq!(row["object"]["metadata"]["name"], "web");
}

pub(crate) async fn patch_of_status_returns_table_without_object(context: Context) {
    let bomb = "x".repeat(200 * 1024);
    context.create_service("web", json!({ "type": "LoadBalancer", "ports": [{ "port": 80 }] })).await;
    let path = format!("/api/v1/namespaces/{}/services/web", context.namespace);
    let merge = ("content-type", "application/merge-patch+json");
    let annotated = json!({ "metadata": { "annotations": { "example.com/bomb": bomb } } });
    context.request("PATCH", &path, &[merge], annotated).await.unwrap();
    let accept = ("accept", "application/json;as=Table;v=v1;g=meta.k8s.io, application/json");
    let status = json!({ "status": { "loadBalancer": { "ingress": [{ "ip": "192.0.2.1" }] } } });
    let query = format!("{path}/status?&fieldManager=x&includeObject=None");
    let table = context.request("PATCH", &query, &[merge, accept], status).await.unwrap();
    assert_eq!(table["kind"], "Table");
    let service = context.get(&path).await;
    assert_eq!(service["status"]["loadBalancer"]["ingress"][0]["ip"], "192.0.2.1");
    assert_eq!(table["metadata"]["resourceVersion"], service["metadata"]["resourceVersion"]);
    assert!(table.to_string().len() < 8 * 1024, "{}", table.to_string().len());
    let status = json!({ "metadata": { "resourceVersion": "1" }, "status": {} });
    let refusal = why(context.request("PATCH", &query, &[merge, accept], status).await);
    assert_eq!(refusal, (409, "Conflict".into()));
}
