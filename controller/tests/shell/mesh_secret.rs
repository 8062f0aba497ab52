//! The Secret of the mesh that is deleted, or replaced, while speakers use its key.

use fairlead_crds::v1beta1::Speaker;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::world::{INSTANCE, NAMESPACE, World, create, eventually, object};

const NAME: &str = "fairlead-mesh";

fn secrets(world: &World) -> Api<Secret> {
    Api::namespaced(world.client.clone(), NAMESPACE)
}

/// Returns the key in the Secret.
async fn key(world: &World) -> Option<Vec<u8>> {
    let secret = secrets(world).get_opt(NAME).await.unwrap()?;
    Some(secret.data?.remove("key")?.0)
}

/// Returns the Event with this reason: its note.
async fn event(world: &World, reason: &str) -> Option<String> {
    let events = Api::<Event>::namespaced(world.client.clone(), NAMESPACE);
    let list = events.list(&ListParams::default()).await.unwrap();
    let event = list.into_iter().find(|event| event.reason.as_deref() == Some(reason))?;
    let regarding = event.regarding.unwrap_or_default();
    assert_eq!((regarding.kind.as_deref(), regarding.name.as_deref()), (Some("Secret"), Some(NAME)));
    assert_eq!(
        (event.type_.as_deref(), event.reporting_instance.as_deref()),
        (Some("Warning"), Some(INSTANCE))
    );
    event.note
}

async fn set_mesh(world: &World, node: &str, mesh: Value) {
    let patch = Patch::Merge(json!({ "spec": { "mesh": mesh } }));
    let speakers = Api::<Speaker>::all(world.client.clone());
    speakers.patch(node, &PatchParams::default(), &patch).await.unwrap();
}

async fn create_speakers<const N: usize>(world: &World, nodes: [&str; N], fingerprint: &str) {
    for node in nodes {
        let mesh = json!({ "address": "192.0.2.1", "port": 7947, "keyFingerprint": fingerprint });
        let speaker = object(json!({ "metadata": { "name": node }, "spec": { "mesh": mesh } }));
        create::<Speaker>(&Api::all(world.client.clone()), &speaker).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleted_key_is_created_when_no_speaker_uses_it() {
    let mut world = World::start().await;
    world.start_controller().await;
    eventually("the key exists", async || key(&world).await.is_some()).await;
    let first = key(&world).await;
    create_speakers(&world, ["n1", "n2"], "0011223344556677").await;

    secrets(&world).delete(NAME, &DeleteParams::default()).await.unwrap();
    eventually("an Event names the speakers", async || {
        event(&world, "MeshKeyInUse").await.is_some_and(|note| note.contains("speakers on n1, n2 still use"))
    })
    .await;
    assert_eq!(key(&world).await, None);
    // One restarted without a key, the node of the other is gone.
    set_mesh(&world, "n1", Value::Null).await;
    let speakers = Api::<Speaker>::all(world.client.clone());
    speakers.delete("n2", &DeleteParams::default()).await.unwrap();
    eventually("another key exists", async || key(&world).await.is_some_and(|key| key.len() == 32)).await;
    assert_ne!(key(&world).await, first);

    // Without speakers.
    let second = key(&world).await;
    let remove = Patch::Merge(json!({ "data": null }));
    secrets(&world).patch(NAME, &PatchParams::default(), &remove).await.unwrap();
    eventually("a third key exists", async || key(&world).await.is_some_and(|key| Some(key) != second)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn speakers_with_another_key_are_named() {
    let mut world = World::start().await;
    let secret = object(json!({ "metadata": { "name": NAME }, "data": { "key": "YW5vdGhlciBrZXk=" } }));
    create::<Secret>(&secrets(&world), &secret).await;
    create_speakers(&world, ["n1"], "0011223344556677").await;
    world.start_controller().await;
    eventually("an Event names the speaker", async || {
        event(&world, "MeshKeyDiffers").await.is_some_and(|note| note.contains("speakers on n1 use another"))
    })
    .await;
    assert_eq!(key(&world).await.as_deref(), Some(&b"another key"[..]), "the key of the user stays");
}
