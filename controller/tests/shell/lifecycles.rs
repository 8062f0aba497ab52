//! Services that leave, and two instances with different load balancer classes.

use fairlead_crds::names;
use fairlead_crds::v1beta1::{BFDProfile, BGPPeer, IPAddressPool, IPClaim};
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::world::{NAMESPACE, World, create, eventually, ingress, load_balancer, object, reason};

/// Returns the condition types and annotations of Fairlead on a Service.
fn marks(service: &Service) -> Vec<String> {
    let conditions = service.status.clone().unwrap_or_default().conditions.unwrap_or_default();
    let types = conditions.into_iter().map(|condition| condition.type_);
    let annotations = service.annotations().keys().cloned();
    types.chain(annotations).filter(|name| name.starts_with("fairlead.dev/")).collect()
}

async fn change(world: &World, name: &str, spec: Value) {
    let patch = Patch::Merge(json!({ "spec": spec }));
    world.services().patch(name, &PatchParams::default(), &patch).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn service_of_another_type_loses_conditions_and_annotation() {
    let mut world = World::start().await;
    world.pool("lan", &["192.0.2.1-192.0.2.5"]).await;
    world.start_controller().await;
    for name in ["held", "node-port", "stopped", "other-class", "served-class"] {
        world.service(name, json!({})).await;
    }
    world.service("refused", json!({ "fairlead.dev/load-balancer-ips": "203.0.113.1" })).await;
    eventually("all are decided", async || {
        world.addresses().await.len() == 5
            && reason(&world.read("refused").await, names::ALLOCATED) == "False/AddressNotInPool"
    })
    .await;
    let condition = json!({ "type": "example.org/X", "status": "True", "reason": "A", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z" });
    let mut conditions = json!(world.read("held").await.status.unwrap().conditions.unwrap());
    conditions.as_array_mut().unwrap().push(condition);
    let patch = Patch::Merge(json!({ "status": { "conditions": conditions } }));
    world.services().patch_status("held", &PatchParams::default(), &patch).await.unwrap();

    let cluster_ip = json!({ "type": "ClusterIP", "allocateLoadBalancerNodePorts": null });
    let node_port = json!({ "type": "NodePort", "allocateLoadBalancerNodePorts": null });
    change(&world, "held", cluster_ip.clone()).await;
    change(&world, "refused", cluster_ip.clone()).await;
    change(&world, "node-port", node_port).await;
    for name in ["held", "refused", "node-port"] {
        eventually(&format!("{name} carries nothing of Fairlead"), async || {
            let service = world.read(name).await;
            let own = service.annotations().contains_key("fairlead.dev/load-balancer-ips");
            marks(&service).len() == usize::from(own) && ingress(&service).is_empty()
        })
        .await;
    }
    let kept = world.read("held").await.status.unwrap().conditions.unwrap();
    assert_eq!(kept.iter().map(|condition| &*condition.type_).collect::<Vec<_>>(), ["example.org/X"]);

    world.stop_controller().await;
    change(&world, "stopped", cluster_ip.clone()).await;
    // An instance that does not run at present handles one of these classes.
    for (name, class) in [("other-class", "example.org/other"), ("served-class", "example.org/served")] {
        change(&world, name, cluster_ip.clone()).await;
        change(&world, name, json!({ "type": "LoadBalancer", "loadBalancerClass": class })).await;
    }
    let pool = json!({
        "metadata": { "name": "served" },
        "spec": { "addresses": ["10.1.0.0/28"], "loadBalancerClass": "example.org/served" },
    });
    create::<IPAddressPool>(&Api::all(world.client.clone()), &object(pool)).await;
    let left = ["stopped", "other-class", "served-class"];
    for name in left {
        assert_ne!(marks(&world.read(name).await), Vec::<String>::new(), "{name}");
    }
    world.start_controller().await;
    for name in &left[..2] {
        eventually(&format!("{name}, which left while no controller ran, is cleaned"), async || {
            marks(&world.read(name).await).is_empty()
        })
        .await;
    }
    world.at_rest().await;
    assert_ne!(marks(&world.read("served-class").await), Vec::<String>::new(), "its instance cleans it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_of_two_classes_share_a_cluster() {
    let mut world = World::start().await;
    world.start_controller().await;
    world.start_instance("example.org/x").await;
    let pools = Api::<IPAddressPool>::all(world.client.clone());
    world.pool("n", &["10.1.0.0-10.1.0.9"]).await;
    let pool = json!({
        "metadata": { "name": "x" },
        "spec": { "addresses": ["10.1.0.10-10.1.0.19"], "loadBalancerClass": "example.org/x" },
    });
    create::<IPAddressPool>(&pools, &object(pool)).await;
    for n in 0..3 {
        world.service(&format!("n{n}"), json!({})).await;
        let mut service = load_balancer(&format!("x{n}"), json!({}));
        service.spec.as_mut().unwrap().load_balancer_class = Some("example.org/x".to_owned());
        create::<Service>(&world.services(), &service).await;
    }
    eventually("each has an address of the pool of its class", async || {
        let addresses = world.addresses().await;
        let own = |(name, ips): (&String, &Vec<String>)| {
            let last: u8 = ips[0].rsplit('.').next().unwrap().parse().unwrap();
            name.starts_with('x') == (last >= 10)
        };
        addresses.len() == 6 && addresses.iter().all(own)
    })
    .await;

    let mut asks = load_balancer("x-asks", json!({ "fairlead.dev/load-balancer-ips": "10.1.0.0" }));
    asks.spec.as_mut().unwrap().load_balancer_class = Some("example.org/x".to_owned());
    create::<Service>(&world.services(), &asks).await;
    eventually("the pool of the other instance is named", async || {
        let service = world.read("x-asks").await;
        let conditions = service.status.unwrap_or_default().conditions.unwrap_or_default();
        conditions.iter().any(|condition| {
            condition.reason == "AddressNotInPool"
                && condition.message.ends_with("is for Services without a loadBalancerClass")
        })
    })
    .await;

    let claims = Api::<IPClaim>::namespaced(world.client.clone(), "default");
    let claim = json!({
        "metadata": { "name": "c" },
        "spec": { "serviceName": "later", "pool": "x", "loadBalancerClass": "example.org/x" },
    });
    create::<IPClaim>(&claims, &object(claim)).await;
    eventually("its own instance reserves for the claim", async || {
        claims.get("c").await.unwrap().status.unwrap_or_default().addresses.len() == 1
    })
    .await;
    // Two writers would never be at rest.
    world.at_rest().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deletion_of_the_definition_does_not_wait_for_holders() {
    let mut world = World::start().await;
    world.pool("lan", &["192.0.2.1-192.0.2.3"]).await;
    world.start_controller().await;
    world.service("held", json!({})).await;
    let pools = Api::<IPAddressPool>::all(world.client.clone());
    eventually("the pool is protected", async || pools.get("lan").await.unwrap().finalizers().len() == 1)
        .await;
    let definitions = Api::<CustomResourceDefinition>::all(world.client.clone());
    let name = "ipaddresspools.fairlead.dev";
    // The test deletes the pool: the built-in API server keeps the definition without deleting the objects.
    let hold = Patch::Merge(json!({ "metadata": { "finalizers": ["example.org/hold"] } }));
    definitions.patch(name, &PatchParams::default(), &hold).await.unwrap();
    pools.delete("lan", &DeleteParams::default()).await.unwrap();
    eventually("the pool waits for its holder", async || {
        let pool = pools.get("lan").await.unwrap();
        pool.status.unwrap_or_default().conditions.iter().any(|condition| condition.type_() == names::IN_USE)
    })
    .await;
    definitions.delete(name, &DeleteParams::default()).await.unwrap();
    eventually("the pool is gone", async || !matches!(pools.get_opt("lan").await, Ok(Some(_)))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn profile_in_use_waits_unless_the_definition_is_deleted() {
    let mut world = World::start().await;
    world.start_controller().await;
    let create = PostParams::default();
    let profiles = Api::<BFDProfile>::all(world.client.clone());
    profiles.create(&create, &BFDProfile::new("fast", Default::default())).await.unwrap();
    let peer = json!({ "metadata": { "name": "r" }, "spec": {
        "myASN": 64513, "peerASN": 64512, "peerAddress": "192.0.2.1", "bfdProfile": "fast",
    } });
    let peers = Api::<BGPPeer>::all(world.client.clone());
    peers.create(&create, &serde_json::from_value(peer).unwrap()).await.unwrap();
    let ours = names::BFD_PROFILE_PROTECTION;
    eventually("the profile is protected", async || {
        profiles.get("fast").await.unwrap().finalizers() == [ours]
    })
    .await;
    let definitions = Api::<CustomResourceDefinition>::all(world.client.clone());
    let name = "bfdprofiles.fairlead.dev";
    let hold = Patch::Merge(json!({ "metadata": { "finalizers": ["example.org/hold"] } }));
    definitions.patch(name, &PatchParams::default(), &hold).await.unwrap();
    profiles.delete("fast", &DeleteParams::default()).await.unwrap();
    eventually("the profile waits for its peer", async || {
        let status = profiles.get("fast").await.unwrap().status.unwrap_or_default();
        status
            .conditions
            .iter()
            .any(|condition| condition.type_() == names::IN_USE && condition.message().contains("BGPPeer r"))
    })
    .await;
    definitions.delete(name, &DeleteParams::default()).await.unwrap();
    eventually("the profile is gone", async || !matches!(profiles.get_opt("fast").await, Ok(Some(_)))).await;
    eventually("the peer is refused and in force", async || {
        let status = peers.get("r").await.unwrap().status.unwrap_or_default();
        let is_true = |type_| fairlead_crds::conditions::is_true(&status.conditions, type_);
        !is_true(names::ACCEPTED) && is_true(names::IN_FORCE)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deletion_of_the_own_namespace_frees_all_pools() {
    let mut world = World::start().await;
    world.pool("lan", &["192.0.2.1-192.0.2.3"]).await;
    world.start_controller().await;
    world.service("held", json!({})).await;
    let pools = Api::<IPAddressPool>::all(world.client.clone());
    eventually("the pool is protected", async || pools.get("lan").await.unwrap().finalizers().len() == 1)
        .await;
    let namespaces = Api::<Namespace>::all(world.client.clone());
    let hold = Patch::Merge(json!({ "metadata": { "finalizers": ["example.org/hold"] } }));
    namespaces.patch(NAMESPACE, &PatchParams::default(), &hold).await.unwrap();
    namespaces.delete(NAMESPACE, &DeleteParams::default()).await.unwrap();
    eventually("the pool is not protected", async || pools.get("lan").await.unwrap().finalizers().is_empty())
        .await;
    assert_eq!(ingress(&world.read("held").await), ["192.0.2.1"], "the address stays");
}
