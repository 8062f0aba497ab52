//! The context of a behavior: a client and a namespace of its own.

use std::future::Future;
use std::time::Duration;

use axum::http::Request;
use fairlead_apiserver::Cluster;
use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::{Namespace, Service};
use kube::api::{
    Api, ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams,
};
use kube::core::{GroupVersionKind, Status};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

/// Limit for any operation of an API server.
pub(crate) const SOON: Duration = Duration::from_secs(15);

pub(crate) struct Context {
    pub client: Client,
    pub namespace: String,
}

impl Context {
    pub(crate) async fn new(cluster: &Cluster, behavior: &str) -> Context {
        let client = cluster.client().await.unwrap();
        let short: String = behavior.replace('_', "-").chars().take(50).collect();
        let namespace = format!("t-{}", short.trim_end_matches('-'));
        let object = serde_json::from_value(json!({ "metadata": { "name": namespace } })).unwrap();
        let namespaces: Api<Namespace> = Api::all(client.clone());
        namespaces.create(&PostParams::default(), &object).await.unwrap();
        Context { client, namespace }
    }

    /// Objects of a namespaced kind, in this namespace.
    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub(crate) fn services(&self) -> Api<Service> {
        self.api()
    }

    /// Returns a unique name for cluster-scoped objects.
    pub(crate) fn unique(&self, name: &str) -> String {
        format!("{name}-{}", self.namespace)
    }

    pub(crate) async fn create_service(&self, name: &str, spec: Value) -> Service {
        self.try_create_service(name, spec).await.unwrap()
    }

    pub(crate) async fn try_create_service(&self, name: &str, spec: Value) -> Result<Service, kube::Error> {
        let service = serde_json::from_value(json!({ "metadata": { "name": name }, "spec": spec })).unwrap();
        self.services().create(&PostParams::default(), &service).await
    }

    pub(crate) async fn merge_service(&self, name: &str, patch: Value) -> Result<Service, kube::Error> {
        self.services().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await
    }

    pub(crate) async fn merge_status(&self, name: &str, patch: Value) -> Result<Service, kube::Error> {
        self.services().patch_status(name, &PatchParams::default(), &Patch::Merge(patch)).await
    }

    /// Sends a request that kube's types do not support.
    pub(crate) async fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Value,
    ) -> Result<Value, kube::Error> {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = if body.is_null() { Vec::new() } else { serde_json::to_vec(&body).unwrap() };
        self.client.request(request.body(body).unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.request("GET", path, &[], Value::Null).await.unwrap()
    }

    /// Installs a definition and waits until its objects can be listed.
    pub(crate) async fn define(&self, crd: Value) -> Api<DynamicObject> {
        let name = crd["metadata"]["name"].as_str().unwrap().to_owned();
        let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        self.request("POST", path, &[("content-type", "application/json")], crd.clone()).await.unwrap();
        eventually("the definition is established", || async {
            let crd = self.get(&format!("{path}/{name}")).await;
            let conditions = crd["status"]["conditions"].as_array().cloned().unwrap_or_default();
            conditions.iter().any(|one| one["type"] == "Established" && one["status"] == "True")
        })
        .await;
        let spec = &crd["spec"];
        let kind = GroupVersionKind::gvk(
            spec["group"].as_str().unwrap(),
            spec["versions"][0]["name"].as_str().unwrap(),
            spec["names"]["kind"].as_str().unwrap(),
        );
        let resource = ApiResource::from_gvk_with_plural(&kind, spec["names"]["plural"].as_str().unwrap());
        let api = Api::all_with(self.client.clone(), &resource);
        eventually("its objects can be listed", || async { api.list(&ListParams::default()).await.is_ok() })
            .await;
        api
    }

    /// Returns a cluster-scoped definition of kind `Thing` in a group of this behavior.
    pub(crate) fn thing(&self, spec_schema: Value, more: Value) -> Value {
        let group = format!("{}.example.dev", self.namespace);
        let mut version = json!({
            "name": "v1beta1", "served": true, "storage": true,
            "subresources": { "status": {} },
            "schema": { "openAPIV3Schema": {
                "type": "object",
                "properties": {
                    "spec": spec_schema,
                    "status": { "type": "object", "properties": {
                        "phase": { "type": "string" },
                        "count": { "type": "integer" },
                    } },
                },
            } },
        });
        for (name, value) in more.as_object().unwrap() {
            version[name] = value.clone();
        }
        json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": { "name": format!("things.{group}") },
            "spec": {
                "group": group,
                "scope": "Cluster",
                "names": { "kind": "Thing", "plural": "things", "singular": "thing", "listKind": "ThingList" },
                "versions": [version],
            },
        })
    }
}

/// Returns an object of a kind without Rust types.
pub(crate) fn dynamic(api: &Api<DynamicObject>, name: &str, rest: Value) -> DynamicObject {
    let url = api.resource_url();
    let group_version = url.trim_start_matches("/apis/").rsplit_once('/').unwrap().0;
    let mut object = json!({ "apiVersion": group_version, "kind": "Thing", "metadata": { "name": name } });
    for (field, value) in rest.as_object().unwrap() {
        object[field] = value.clone();
    }
    serde_json::from_value(object).unwrap()
}

/// Returns the error of a request that must be rejected.
pub(crate) fn refused<T: std::fmt::Debug>(result: Result<T, kube::Error>) -> Status {
    match result {
        Err(kube::Error::Api(status)) => *status,
        other => panic!("must be refused by the API, but: {other:?}"),
    }
}

/// Returns code and reason of an error.
pub(crate) fn why<T: std::fmt::Debug>(result: Result<T, kube::Error>) -> (u16, String) {
    let status = refused(result);
    (status.code, status.reason)
}

/// Waits until a condition holds.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let deadline = tokio::time::Instant::now() + SOON;
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A watch whose events are reduced to `ADDED name`.
pub(crate) struct Watched<K> {
    stream: std::pin::Pin<Box<dyn Stream<Item = Result<WatchEvent<K>, kube::Error>> + Send>>,
}

impl<K> Watched<K>
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
{
    pub(crate) async fn start(api: &Api<K>, params: &WatchParams, version: &str) -> Watched<K> {
        Watched { stream: Box::pin(api.watch(params, version).await.unwrap()) }
    }

    pub(crate) async fn next(&mut self) -> WatchEvent<K> {
        let event = tokio::time::timeout(SOON, self.stream.next()).await.expect("no event in time");
        event.expect("the watch ended").unwrap()
    }

    /// Returns the next event other than a bookmark, which a server may send at any time.
    pub(crate) async fn change(&mut self) -> WatchEvent<K> {
        loop {
            match self.next().await {
                WatchEvent::Bookmark(_) => {}
                change => return change,
            }
        }
    }

    /// Returns the next event other than a bookmark, in words.
    pub(crate) async fn word(&mut self) -> String {
        match self.change().await {
            WatchEvent::Added(object) => format!("ADDED {}", object.name_any()),
            WatchEvent::Modified(object) => format!("MODIFIED {}", object.name_any()),
            WatchEvent::Deleted(object) => format!("DELETED {}", object.name_any()),
            WatchEvent::Error(status) => format!("ERROR {}", status.code),
            WatchEvent::Bookmark(_) => unreachable!("skipped above"),
        }
    }

    pub(crate) async fn ended(&mut self) -> bool {
        loop {
            match tokio::time::timeout(SOON, self.stream.next()).await {
                Ok(None) => return true,
                Ok(Some(Ok(_))) => {}
                Ok(Some(Err(_))) | Err(_) => return false,
            }
        }
    }
}
