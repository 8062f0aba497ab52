//! Objects of which a part cannot be read, and kinds that are not installed: the rest is announced.

use fairlead_crds::manifests;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};

use super::{Environment, SpeakerProcess, UPDATE, create, eventually, object};

/// For each kind: a spec that its schema in this version forbids.
const SPECS: &[(&str, &str)] = &[
    ("IPAddressPool", r#"{ "addresses": [7] }"#),
    ("L2Advertisement", r#"{ "interfaces": "eth0" }"#),
    ("BGPAdvertisement", r#"{ "aggregationLength": "long" }"#),
    ("BGPPeer", r#"{ "myASN": -1e30, "peerPort": {} }"#),
    ("BFDProfile", r#"{ "receiveInterval": 1e12 }"#),
    ("Community", r#"{ "communities": [{ "name": null }] }"#),
    ("Speaker", r#"{ "mesh": { "address": 7, "port": -1 } }"#),
];

fn odd_conditions() -> Value {
    json!([
        { "type": "example.com/Y", "status": "True", "lastTransitionTime": null },
        { "type": "example.com/Z", "status": "Unsure", "lastTransitionTime": "9999-12-31T23:59:59-12:00" },
    ])
}

fn permissive_definitions() -> Vec<CustomResourceDefinition> {
    let anything = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    let permissive = manifests::definitions().into_iter().map(|definition| {
        let mut definition = serde_json::to_value(definition).unwrap();
        definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"] =
            json!({ "type": "object", "properties": { "spec": anything, "status": anything } });
        object(definition)
    });
    permissive.collect()
}

impl Environment {
    fn api(&self, group: &str, version: &str, kind: &str) -> Api<DynamicObject> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        match kind {
            "Service" | "EndpointSlice" => Api::default_namespaced_with(self.client.clone(), &resource),
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

    /// Creates an odd object of each kind, and a Service with odd conditions that holds 198.51.100.`n`.
    async fn create_odd_objects(&self, n: u8) {
        let name = format!("odd-{n}");
        let metadata = json!({ "name": name });
        for (kind, spec) in SPECS {
            let spec: Value = serde_json::from_str(spec).unwrap();
            let status = json!({ "conditions": odd_conditions(), "recentlyReleased": [7], "sessions": 7 });
            let body = json!({ "metadata": metadata, "spec": spec });
            self.create_raw("fairlead.dev", "v1beta1", kind, body, status).await;
        }
        self.create_raw(
            "",
            "v1",
            "Node",
            json!({ "metadata": metadata }),
            json!({ "conditions": odd_conditions() }),
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
            "conditions": odd_conditions(),
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

async fn is_ready(speaker: &SpeakerProcess) -> bool {
    speaker.response_contains("/readyz", "200").await
}

#[tokio::test]
async fn odd_objects_stop_no_announcement() {
    let environment = Environment::start_with("odd", permissive_definitions()).await;
    environment.create_key().await;
    environment.create_objects().await;
    environment.create_odd_objects(21).await;
    let speaker = environment.start_speaker();
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
    for (kind, _) in SPECS {
        let metric = format!("fairlead_speaker_unreadable_objects{{kind=\"{kind}\"}}");
        assert!(speaker.response_contains("/metrics", &metric).await, "{kind}");
    }
    assert!(!environment.has_withdrawal(21) && !environment.has_withdrawal(7));
    environment.api("", "v1", "Service").delete("odd-21", &DeleteParams::default()).await.unwrap();
    eventually("the deleted Service is withdrawn", async || environment.has_withdrawal(21)).await;
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
