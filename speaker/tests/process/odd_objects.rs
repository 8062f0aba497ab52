//! Objects of which a part cannot be read, and kinds that are not installed: the rest is announced.

use fairlead_crds::manifests;
use fairlead_test_support::odd;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};

use super::{Environment, SpeakerProcess, UPDATE, create, eventually, object};

impl Environment {
    fn api(&self, group: &str, version: &str, kind: &str) -> Api<DynamicObject> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        match kind {
            "DaemonSet" => Api::namespaced_with(self.client.clone(), "fairlead-system", &resource),
            "Service" | "EndpointSlice" | "IPClaim" => {
                Api::default_namespaced_with(self.client.clone(), &resource)
            }
            _ => Api::all_with(self.client.clone(), &resource),
        }
    }

    async fn create_raw(&self, group: &str, version: &str, kind: &str, body: Value, status: Value) {
        let api = self.api(group, version, kind);
        let mut body = body;
        body["apiVersion"] = format!("{group}/{version}").trim_start_matches('/').into();
        body["kind"] = kind.into();
        create(&api, &object(body.clone())).await;
        if !status.is_null() {
            let name = body["metadata"]["name"].as_str().unwrap();
            let patch = Patch::Merge(json!({ "status": status }));
            api.patch_status(name, &PatchParams::default(), &patch).await.unwrap();
        }
    }

    /// Creates odd objects of each kind, and a Service with odd conditions that holds 198.51.100.`n`.
    async fn create_odd_objects(&self, n: u8) {
        let name = format!("odd-{n}");
        let metadata = json!({ "name": name });
        for odd in odd::objects(&n.to_string(), 50 * (n - 21), is_watched) {
            let body = json!({ "metadata": { "name": odd.name }, "spec": odd.spec });
            self.create_raw("fairlead.dev", "v1beta1", odd.kind, body, odd.status).await;
        }
        // Of the namespace and name that the speaker watches.
        let daemon_set = self.api("apps", "v1", "DaemonSet");
        let patch = Patch::Merge(json!({
            "metadata": { "annotations": { "odd": n.to_string() } }, "status": { "conditions": odd::conditions() },
        }));
        daemon_set.patch_status("fairlead-speaker", &PatchParams::default(), &patch).await.unwrap();
        self.create_raw(
            "",
            "v1",
            "Node",
            json!({ "metadata": metadata }),
            json!({ "conditions": odd::conditions() }),
        )
        .await;
        let labels = json!({ "name": name, "labels": { "kubernetes.io/service-name": name } });
        let slice = json!({ "metadata": labels, "addressType": "IPv4", "endpoints": null, "ports": null });
        self.create_raw("discovery.k8s.io", "v1", "EndpointSlice", slice, Value::Null).await;
        let mut labels = labels;
        labels["name"] = format!("{name}-b").into();
        let slice = json!({ "metadata": labels, "addressType": "IPv4", "endpoints": [{
            "addresses": ["10.0.0.1"], "nodeName": "n1", "conditions": { "ready": true },
        }] });
        self.create_raw("discovery.k8s.io", "v1", "EndpointSlice", slice, Value::Null).await;
        let spec = json!({ "type": "LoadBalancer", "selector": { "app": "web" }, "ports": [{ "port": 80 }] });
        let status = json!({
            "conditions": odd::conditions(),
            "loadBalancer": { "ingress": [{ "ip": format!("198.51.100.{n}") }] },
        });
        self.create_raw("", "v1", "Service", json!({ "metadata": metadata, "spec": spec }), status).await;
    }

    /// Returns whether an UPDATE announces, or withdraws, 198.51.100.`n`/32.
    fn has_update(&self, withdraws: bool, n: u8) -> bool {
        let contains = |body: &[u8]| body.windows(5).any(|prefix| prefix == [32, 198, 51, 100, n]);
        // An UPDATE without withdrawn routes begins with their length, 0.
        self.router.received(UPDATE).iter().any(|body| (body[..2] != [0, 0]) == withdraws && contains(body))
    }

    fn has_route(&self, n: u8) -> bool {
        self.has_update(false, n)
    }

    fn has_withdrawal(&self, n: u8) -> bool {
        self.has_update(true, n)
    }
}

/// Returns whether speakers watch a custom resource.
fn is_watched(kind: &str) -> bool {
    !["IPClaim", "PoolCooldown"].contains(&kind)
}

impl SpeakerProcess {
    /// Returns the number of unreadable objects of a kind by the metrics.
    async fn unreadable(&self, kind: &str) -> u32 {
        let metric = format!("fairlead_speaker_unreadable_objects{{kind=\"{kind}\"}} ");
        let metrics = self.get("/metrics").await.unwrap();
        let number = metrics.lines().find_map(|line| line.strip_prefix(&metric));
        number.map_or(0, |number| number.trim().parse().unwrap())
    }
}

async fn is_ready(speaker: &SpeakerProcess) -> bool {
    speaker.response_contains("/readyz", "200").await
}

#[tokio::test]
async fn odd_objects_stop_no_announcement() {
    let environment = Environment::start_with("odd", odd::permissive_definitions()).await;
    environment.create_key().await;
    environment.create_objects().await;
    let template = json!({
        "metadata": { "labels": { "app": "a" } },
        "spec": { "containers": [{ "name": "a", "image": "a" }] },
    });
    let daemon_set = json!({
        "metadata": { "name": "fairlead-speaker", "namespace": "fairlead-system" },
        "spec": { "selector": { "matchLabels": { "app": "a" } }, "template": template },
    });
    environment.create_raw("apps", "v1", "DaemonSet", daemon_set, Value::Null).await;
    environment.create_odd_objects(21).await;
    let speaker = environment.start_speaker_with(&["--daemonset", "fairlead-speaker"]);
    eventually("listed: the speaker is ready", async || is_ready(&speaker).await).await;
    eventually("listed: both Services are announced", async || {
        environment.has_route(7) && environment.has_route(21)
    })
    .await;
    environment.create_odd_objects(22).await;
    eventually("watched: the Service is announced", async || environment.has_route(22)).await;
    if let Some(server) = environment.cluster.as_built_in() {
        server.faults().expire_watches();
        environment.create_odd_objects(23).await;
        eventually("listed again: the Service is announced", async || environment.has_route(23)).await;
    }
    for kind in odd::kinds().filter(|kind| is_watched(kind)) {
        assert!(speaker.unreadable(kind).await >= 6, "{kind}");
    }
    assert!(!environment.has_withdrawal(21) && !environment.has_withdrawal(7));
    environment.api("", "v1", "Service").delete("odd-21", &DeleteParams::default()).await.unwrap();
    eventually("the deleted Service is withdrawn", async || environment.has_withdrawal(21)).await;
    for kind in odd::kinds().filter(|kind| is_watched(kind)) {
        let api = environment.api("fairlead.dev", "v1beta1", kind);
        for object in api.list(&ListParams::default()).await.unwrap() {
            if object.name_any().starts_with("odd-") {
                api.delete(&object.name_any(), &DeleteParams::default()).await.unwrap();
            }
        }
        eventually(&format!("the deletions of odd {kind} objects are seen"), async || {
            speaker.unreadable(kind).await == 0
        })
        .await;
    }
    assert!(!environment.has_withdrawal(7));
    assert!(is_ready(&speaker).await);
}

#[tokio::test]
async fn kinds_that_are_not_installed_stop_no_announcement() {
    let missing = ["communities", "bfdprofiles", "l2advertisements"];
    let (missing, installed): (Vec<_>, Vec<_>) = manifests::definitions()
        .into_iter()
        .partition(|definition| missing.contains(&definition.spec.names.plural.as_str()));
    let environment = Environment::start_with("missing", installed).await;
    environment.create_key().await;
    environment.create_objects().await;
    let speaker = environment.start_speaker();
    eventually("the Service is announced", async || environment.has_route(7)).await;
    for kind in ["communities.fairlead.dev", "bfdprofiles.fairlead.dev", "l2advertisements.fairlead.dev"] {
        assert!(speaker.response_contains("/readyz", kind).await, "{kind}");
    }
    assert!(speaker.response_contains("/readyz", "kubectl apply ").await);
    for definition in missing {
        create::<CustomResourceDefinition>(&Api::all(environment.client.clone()), &definition).await;
    }
    eventually("no kind is missing", async || {
        speaker.get("/readyz").await.is_some_and(|response| response.ends_with("ok\n"))
    })
    .await;
}
