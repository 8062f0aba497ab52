//! What the status of a Service says when nothing announces it, as `kubectl get service -o yaml` prints it.

use fairlead_crds::names;
use fairlead_crds::v1beta1::{BGPAdvertisement, BGPPeer, L2Advertisement, Speaker};
use k8s_openapi::api::core::v1::Service;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::world::{World, create, eventually, load_balancer, object, reason, version};

/// Returns the conditions as lines `type=status reason: message`, without the group.
fn conditions(service: &Service) -> Vec<String> {
    let status = service.status.clone().unwrap_or_default();
    let conditions = status.conditions.unwrap_or_default().into_iter();
    let line = |c: k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition| {
        let type_ = c.type_.trim_start_matches("fairlead.dev/").to_owned();
        format!("{type_}={} {}: {}", c.status, c.reason, c.message)
    };
    conditions.map(line).collect()
}

/// Waits until the conditions of a Service are these.
async fn expect(world: &World, service: &str, expected: &[&str]) {
    let mut seen = Vec::new();
    for _ in 0..1500 {
        seen = conditions(&world.read(service).await);
        if seen == expected {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(seen, expected, "{service}");
}

/// Creates or replaces the status of the Speaker of a node.
async fn speaker(world: &World, node: &str, status: Value) {
    let api = Api::<Speaker>::all(world.client.clone());
    let params = PatchParams::apply("fairlead-speaker").force();
    let object = json!({
        "apiVersion": "fairlead.dev/v1beta1", "kind": "Speaker", "metadata": { "name": node }, "spec": {},
    });
    api.patch(node, &params, &Patch::Apply(&object)).await.unwrap();
    let mut object = object;
    object["status"] = status;
    api.patch_status(node, &params, &Patch::Apply(&object)).await.unwrap();
}

/// Returns the status of a ready speaker that announces these addresses by BGP.
fn ready(bgp: &[&str], session: &str, not_announced: Value) -> Value {
    json!({
        "ready": true,
        "sessions": [{ "peer": "tor", "address": "192.0.2.254", "state": session }],
        "l2": { "announced": 0, "complete": true },
        "bgp": { "announced": bgp.len(), "addresses": bgp, "complete": true },
        "notAnnounced": not_announced,
    })
}

const ALLOCATED: &str = "Allocated=True Allocated: 192.0.2.10 from IPAddressPool lan";
const COVERED: &str = "Covered=True Covered: an advertisement covers these addresses";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn service_says_why_nothing_announces_it() {
    let mut world = World::start().await;
    world.start_controller().await;
    world.service("web", json!({})).await;
    expect(&world, "web", &["Allocated=False NoPoolMatches: there is no IPAddressPool"]).await;
    world.pool("lan", &["192.0.2.10/32"]).await;
    expect(&world, "web", &[
        ALLOCATED,
        "Covered=False NoAdvertisement: no L2Advertisement or BGPAdvertisement covers IPAddressPool lan for this \
         Service",
        "Advertised=False NoAdvertisement: no advertisement covers every address: see the condition \
         fairlead.dev/Covered",
    ])
    .await;
    let ad = object(json!({ "metadata": { "name": "lan" }, "spec": {} }));
    create::<BGPAdvertisement>(&Api::all(world.client.clone()), &ad).await;
    let no_speaker = "Advertised=False NoSpeaker: there is no Speaker object: run the speaker on the Nodes";
    expect(&world, "web", &[ALLOCATED, COVERED, no_speaker]).await;

    speaker(&world, "n1", ready(&[], "Active", json!([]))).await;
    let no_session =
        "Advertised=False NoSession: 192.0.2.10: no BGP session is established: see kubectl get bgppeers";
    expect(&world, "web", &[ALLOCATED, COVERED, no_session]).await;

    let no_endpoints = json!([{
        "service": "default/web", "address": "192.0.2.10", "reason": "NoEndpoints",
        "message": "the Service has no endpoint that is ready to serve",
    }]);
    speaker(&world, "n1", ready(&[], "Established", no_endpoints)).await;
    let unserved =
        "Advertised=False NoEndpoints: 192.0.2.10: the Service has no endpoint that is ready to serve";
    expect(&world, "web", &[ALLOCATED, COVERED, unserved]).await;

    speaker(&world, "n1", ready(&["192.0.2.10"], "Established", json!([]))).await;
    expect(&world, "web", &[ALLOCATED, COVERED, "Advertised=True Announced: 192.0.2.10 by BGP"]).await;

    // The move to another node writes nothing.
    let before = version(&world.read("web").await);
    speaker(&world, "n2", ready(&["192.0.2.10"], "Established", json!([]))).await;
    speaker(&world, "n1", ready(&[], "Active", json!([]))).await;
    world.at_rest().await;
    assert_eq!(version(&world.read("web").await), before);

    let exhausted = "Allocated=False PoolExhausted";
    world.service("second", json!({})).await;
    eventually("the pool is exhausted", async || {
        conditions(&world.read("second").await).first().is_some_and(|line| line.starts_with(exhausted))
    })
    .await;

    let mut other = load_balancer("other", json!({}));
    other.spec.as_mut().unwrap().load_balancer_class = Some("example.com/other".to_owned());
    create::<Service>(&world.services(), &other).await;
    world.at_rest().await;
    assert_eq!(conditions(&world.read("other").await), Vec::<String>::new(), "another class");

    let speakers = Api::<Speaker>::all(world.client.clone());
    for node in ["n1", "n2"] {
        speakers.delete(node, &DeleteParams::default()).await.unwrap();
    }
    expect(&world, "web", &[ALLOCATED, COVERED, no_speaker]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peer_shows_established_of_wanted_sessions() {
    let mut world = World::start().await;
    world.start_controller().await;
    let peers = Api::<BGPPeer>::all(world.client.clone());
    let spec = json!({ "myASN": 64513, "peerASN": 64512, "peerAddress": "192.0.2.254" });
    create::<BGPPeer>(&peers, &object(json!({ "metadata": { "name": "tor" }, "spec": spec }))).await;
    let sessions = async || {
        let status = peers.get("tor").await.unwrap().status.unwrap_or_default();
        let condition = status.conditions.iter().find(|c| c.type_() == names::SESSIONS_ESTABLISHED);
        let condition = condition.map(|c| format!(" {}/{}", c.status(), c.reason())).unwrap_or_default();
        status.established_sessions.unwrap_or_default() + &condition
    };
    eventually("no session", async || sessions().await == "0/0 False/NoSpeaker").await;
    speaker(&world, "n1", ready(&[], "Established", json!([]))).await;
    speaker(&world, "n2", ready(&[], "Active", json!([]))).await;
    eventually("one of two sessions", async || sessions().await == "1/2 False/NotEstablished").await;
    speaker(&world, "n2", ready(&[], "Established", json!([]))).await;
    eventually("both sessions", async || sessions().await == "2/2 True/AllEstablished").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_controller_repeats_no_condition() {
    let mut world = World::start().await;
    let ad = object(json!({ "metadata": { "name": "lan" }, "spec": {} }));
    create::<L2Advertisement>(&Api::all(world.client.clone()), &ad).await;
    world.pool("lan", &["192.0.2.0/24"]).await;
    speaker(&world, "n1", ready(&["192.0.2.1"], "Established", json!([]))).await;
    world.start_controller().await;
    for name in ["a", "b", "c"] {
        world.service(name, json!({ "fairlead.dev/load-balancer-ips": format!("192.0.2.{}", u32::from(name.as_bytes()[0]) - 96) })).await;
    }
    eventually("a is advertised", async || {
        reason(&world.read("a").await, names::ADVERTISED) == "True/Announced"
    })
    .await;
    let before = world.at_rest().await;
    world.stop_controller().await;
    world.start_controller().await;
    assert_eq!(world.at_rest().await, before);
}
