//! Effects of cluster controllers, which the server performs immediately.

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node};
use kube::api::{Api, DeleteParams, PostParams, PropagationPolicy};
use serde_json::{Value, json};

use crate::{code, configs, create, server};

async fn owned_by(api: &Api<ConfigMap>, name: &str, owners: &[&ConfigMap]) {
    let owners: Vec<Value> = owners
        .iter()
        .map(|owner| {
            json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "name": owner.metadata.name, "uid": owner.metadata.uid,
            })
        })
        .collect();
    let object = json!({ "metadata": { "name": name, "ownerReferences": owners } });
    api.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
}

#[tokio::test]
async fn dependents_are_deleted_with_last_owner() {
    let server = server().await;
    let api = configs(&server).await;
    let one = create(&api, "one").await.unwrap();
    let two = create(&api, "two").await.unwrap();
    owned_by(&api, "child", &[&one, &two]).await;
    owned_by(&api, "grandchild", &[&api.get("child").await.unwrap()]).await;
    api.delete("one", &DeleteParams::default()).await.unwrap();
    let child = api.get("child").await.unwrap();
    assert_eq!(child.metadata.owner_references.unwrap().len(), 1);
    api.delete("two", &DeleteParams::default()).await.unwrap();
    assert_eq!(code(api.get("child").await), 404);
    assert_eq!(code(api.get("grandchild").await), 404);
}

#[tokio::test]
async fn orphans_remain_without_owner() {
    let server = server().await;
    let api = configs(&server).await;
    let owner = create(&api, "owner").await.unwrap();
    owned_by(&api, "child", &[&owner]).await;
    let params = DeleteParams { propagation_policy: Some(PropagationPolicy::Orphan), ..Default::default() };
    api.delete("owner", &params).await.unwrap();
    assert_eq!(api.get("child").await.unwrap().metadata.owner_references, None);
}

#[tokio::test]
async fn cluster_scoped_owner_deletes_dependents() {
    let server = server().await;
    let api = configs(&server).await;
    let nodes: Api<Node> = Api::all(server.client().await.unwrap());
    let node = serde_json::from_value(json!({ "metadata": { "name": "n1" } })).unwrap();
    let node: Node = nodes.create(&PostParams::default(), &node).await.unwrap();
    let child = json!({ "metadata": { "name": "child", "ownerReferences": [{
        "apiVersion": "v1", "kind": "Node", "name": "n1", "uid": node.metadata.uid,
    }] } });
    api.create(&PostParams::default(), &serde_json::from_value(child).unwrap()).await.unwrap();
    nodes.delete("n1", &DeleteParams::default()).await.unwrap();
    assert_eq!(code(api.get("child").await), 404);
}

#[tokio::test]
async fn deleted_namespace_deletes_contents() {
    let server = server().await;
    let client = server.client().await.unwrap();
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace = serde_json::from_value(json!({ "metadata": { "name": "x" } })).unwrap();
    namespaces.create(&PostParams::default(), &namespace).await.unwrap();
    let inside: Api<ConfigMap> = Api::namespaced(client, "x");
    create(&inside, "a").await.unwrap();
    let held = json!({ "metadata": { "name": "held", "finalizers": ["example.dev/hold"] } });
    inside.create(&PostParams::default(), &serde_json::from_value(held).unwrap()).await.unwrap();

    namespaces.delete("x", &DeleteParams::default()).await.unwrap();
    assert_eq!(code(inside.get("a").await), 404);
    let going = namespaces.get("x").await.unwrap();
    assert_eq!(going.status.unwrap().phase.as_deref(), Some("Terminating"));
    assert_eq!(code(create(&inside, "late").await), 403);

    let release = kube::api::Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    inside.patch("held", &Default::default(), &release).await.unwrap();
    assert_eq!(code(namespaces.get("x").await), 404);
}
