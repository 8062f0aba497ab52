//! The whole controller against an API server: the built-in one, or a real kube-apiserver where `KUBEBUILDER_ASSETS`
//! names one.

#![allow(clippy::unwrap_used, reason = "the helpers of tests are tests too")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fairlead_apiserver::{Cluster, Fault, Outage};
use fairlead_controller::lease::Election;
use fairlead_controller::metrics::Metrics;
use fairlead_controller::run::{Scope, control};
use fairlead_crds::api::{IPAddressPool, L2Advertisement};
use fairlead_crds::{keys, manifests};
use fairlead_runtime::http;
use k8s_openapi::api::core::v1::{Namespace, Secret, Service};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(30);
const NAMESPACE: &str = "fairlead-system";

/// A cluster with Fairlead's kinds, and the controller in it.
struct World {
    cluster: Cluster,
    client: Client,
    controller: Option<JoinHandle<()>>,
    health: http::Health,
}

impl World {
    async fn start() -> Self {
        let cluster = Cluster::start().await.unwrap();
        let client = cluster.client().await.unwrap();
        for definition in manifests::definitions() {
            create::<CustomResourceDefinition>(&Api::all(client.clone()), &definition).await;
        }
        let world = Self { cluster, client, controller: None, health: http::Health::new("the start") };
        let pools = Api::<IPAddressPool>::all(world.client.clone());
        eventually("the kinds are served", async || pools.list(&ListParams::default()).await.is_ok()).await;
        let namespace = object(json!({ "metadata": { "name": NAMESPACE } }));
        create::<Namespace>(&Api::all(world.client.clone()), &namespace).await;
        world
    }

    async fn start_controller(&mut self) {
        self.health = http::Health::new("the start");
        // A client of its own, as a process has: stopping it takes its connections away.
        let client = self.cluster.client().await.unwrap();
        let metrics = Metrics::register(&http::Metrics::default());
        let scope = Scope { namespace: NAMESPACE.to_owned(), class: None };
        let health = self.health.clone();
        self.controller = Some(tokio::spawn(async move {
            let stop = CancellationToken::new();
            let alone = Election::unopposed(stop.clone());
            control(client, scope, &alone, health, metrics, stop).await;
        }));
        eventually("the controller is ready", async || self.health.is_ready()).await;
    }

    async fn stop_controller(&mut self) {
        if let Some(task) = self.controller.take() {
            task.abort();
            let _ = task.await;
        }
    }

    fn services(&self) -> Api<Service> {
        Api::namespaced(self.client.clone(), "default")
    }

    async fn pool(&self, name: &str, addresses: &[&str]) {
        let pool = object(json!({ "metadata": { "name": name }, "spec": { "addresses": addresses } }));
        create::<IPAddressPool>(&Api::all(self.client.clone()), &pool).await;
    }

    async fn service(&self, name: &str, annotations: Value) {
        create::<Service>(&self.services(), &load_balancer(name, annotations)).await;
    }

    async fn read(&self, name: &str) -> Service {
        self.services().get(name).await.unwrap()
    }

    /// Addresses by Service, of those that have some.
    async fn addresses(&self) -> BTreeMap<String, Vec<String>> {
        let list = self.services().list(&ListParams::default()).await.unwrap();
        list.into_iter().map(|s| (s.name_any(), ingress(&s))).filter(|(_, ips)| !ips.is_empty()).collect()
    }

    /// resourceVersion of everything that the controller writes to.
    async fn versions(&self) -> BTreeMap<String, String> {
        let mut versions = BTreeMap::new();
        let mut add = |kind: &str, name: String, version: Option<String>| {
            versions.insert(format!("{kind}/{name}"), version.unwrap_or_default());
        };
        for service in self.services().list(&ListParams::default()).await.unwrap() {
            add("Service", service.name_any(), service.resource_version());
        }
        for pool in Api::<IPAddressPool>::all(self.client.clone()).list(&ListParams::default()).await.unwrap()
        {
            add("IPAddressPool", pool.name_any(), pool.resource_version());
        }
        let advertisements = Api::<L2Advertisement>::all(self.client.clone());
        for ad in advertisements.list(&ListParams::default()).await.unwrap() {
            add("L2Advertisement", ad.name_any(), ad.resource_version());
        }
        let events = Api::<Event>::all(self.client.clone()).list(&ListParams::default()).await.unwrap();
        for event in
            events.into_iter().filter(|e| e.reporting_controller.as_deref() == Some("fairlead-controller"))
        {
            add("Event", event.name_any(), event.resource_version());
        }
        versions
    }

    /// Waits until nothing has been written for a while.
    async fn at_rest(&self) -> BTreeMap<String, String> {
        let mut before = self.versions().await;
        loop {
            tokio::time::sleep(Duration::from_millis(1500)).await;
            let now = self.versions().await;
            if now == before {
                return now;
            }
            before = now;
        }
    }
}

fn load_balancer(name: &str, annotations: Value) -> Service {
    object(json!({
        "metadata": { "name": name, "annotations": annotations },
        "spec": {
            "type": "LoadBalancer", "selector": { "app": "web" }, "allocateLoadBalancerNodePorts": false,
            "ports": [{ "port": 80, "protocol": "TCP" }],
        },
    }))
}

fn object<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

async fn create<K>(api: &Api<K>, object: &K)
where
    K: Resource + Clone + Serialize + DeserializeOwned + std::fmt::Debug,
{
    api.create(&PostParams::default(), object).await.unwrap();
}

async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// As a number: later writes have higher ones.
fn version(object: &impl ResourceExt) -> u64 {
    object.resource_version().unwrap().parse().unwrap()
}

fn ingress(service: &Service) -> Vec<String> {
    let status = service.status.clone().unwrap_or_default();
    let ingress = status.load_balancer.and_then(|lb| lb.ingress).unwrap_or_default();
    ingress.into_iter().filter_map(|ingress| ingress.ip).collect()
}

fn reason(service: &Service, type_: &str) -> String {
    let status = service.status.clone().unwrap_or_default();
    let condition = status.conditions.unwrap_or_default().into_iter().find(|c| c.type_ == type_);
    condition.map(|c| format!("{}/{}", c.status, c.reason)).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_pool_to_address_and_everything_that_is_written_on_the_way() {
    let mut world = World::start().await;
    world.start_controller().await;
    world.service("web", json!({})).await;
    eventually("a Service without a pool is told so", async || {
        reason(&world.read("web").await, keys::ALLOCATED) == "False/NoPoolMatches"
    })
    .await;

    world.pool("lan", &["192.0.2.10-192.0.2.11"]).await;
    eventually("it has an address", async || ingress(&world.read("web").await) == ["192.0.2.10"]).await;
    let service = world.read("web").await;
    assert_eq!(service.annotations()[keys::ALLOCATED_FROM_POOL], "lan");
    assert_eq!(reason(&service, keys::ALLOCATED), "True/Allocated");
    assert_eq!(reason(&service, keys::ADVERTISED), "False/NoAdvertisement");
    let ingress_mode = service.status.unwrap().load_balancer.unwrap().ingress.unwrap()[0].ip_mode.clone();
    assert_eq!(ingress_mode.as_deref(), Some("VIP"));

    let advertisement = object(json!({ "metadata": { "name": "lan" }, "spec": {} }));
    create::<L2Advertisement>(&Api::all(world.client.clone()), &advertisement).await;
    eventually("the advertisement covers it", async || {
        reason(&world.read("web").await, keys::ADVERTISED) == "True/Covered"
    })
    .await;
    let advertisements = Api::<L2Advertisement>::all(world.client.clone());
    eventually("the advertisement is accepted", async || {
        let status = advertisements.get("lan").await.unwrap().status.unwrap_or_default();
        status.conditions.iter().any(|c| c.type_ == "Accepted" && c.status == "True")
    })
    .await;
    let pools = Api::<IPAddressPool>::all(world.client.clone());
    eventually("the pool says how full it is", async || {
        let status = pools.get("lan").await.unwrap().status.unwrap_or_default();
        (status.assigned_ipv4, status.available_ipv4) == (Some(1), Some(1))
    })
    .await;
    let secrets = Api::<Secret>::namespaced(world.client.clone(), NAMESPACE);
    eventually("the key of the mesh is there", async || {
        let secret = secrets.get_opt("fairlead-mesh").await.unwrap();
        secret.is_some_and(|secret| secret.data.unwrap_or_default()["key"].0.len() == 32)
    })
    .await;
    let events = Api::<Event>::namespaced(world.client.clone(), "default");
    eventually("events tell of it", async || {
        let list = events.list(&ListParams::default()).await.unwrap();
        let reasons: Vec<String> = list.into_iter().filter_map(|event| event.reason).collect();
        reasons.contains(&"Allocated".to_owned()) && reasons.contains(&"NoPoolMatches".to_owned())
    })
    .await;

    world.service("second", json!({ "metallb.io/loadBalancerIPs": "192.0.2.10" })).await;
    eventually("the address is in use", async || {
        reason(&world.read("second").await, keys::ALLOCATED) == "False/AddressInUse"
    })
    .await;
    let change = json!({ "spec": { "type": "ClusterIP", "allocateLoadBalancerNodePorts": null } });
    world.services().patch("web", &PatchParams::default(), &Patch::Merge(change)).await.unwrap();
    eventually("a change of type frees it", async || ingress(&world.read("second").await) == ["192.0.2.10"])
        .await;
    assert_eq!(ingress(&world.read("web").await), Vec::<String>::new());
    world.services().delete("second", &DeleteParams::default()).await.unwrap();
    eventually("a deletion frees it", async || {
        pools.get("lan").await.unwrap().status.unwrap_or_default().assigned_ipv4 == Some(0)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_moves_nothing_and_writes_nothing() {
    let mut world = World::start().await;
    world.pool("small", &["192.0.2.1-192.0.2.5"]).await;
    world.start_controller().await;
    for n in 0..8 {
        world.service(&format!("s{n}"), json!({})).await;
    }
    eventually("the pool is given out", async || world.addresses().await.len() == 5).await;
    let (addresses, versions) = (world.addresses().await, world.at_rest().await);
    for _ in 0..3 {
        world.stop_controller().await;
        world.start_controller().await;
        tokio::time::sleep(Duration::from_millis(1200)).await;
        assert_eq!(world.addresses().await, addresses);
        assert_eq!(world.versions().await, versions, "nothing was written");
    }
    world.stop_controller().await;
    let freed = addresses.keys().next().unwrap();
    world.services().delete(freed, &DeleteParams::default()).await.unwrap();
    world.start_controller().await;
    eventually("what was freed meanwhile is given to one that waits", async || {
        world.addresses().await.len() == 5
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_that_is_edited_into_what_is_refused_takes_nothing_away() {
    let mut world = World::start().await;
    world.pool("a-older", &["192.0.2.1-192.0.2.5"]).await;
    world.pool("b", &["198.51.100.1-198.51.100.5"]).await;
    world.start_controller().await;
    let wanted = ["192.0.2.1", "198.51.100.1"];
    for (name, ip) in ["one", "two"].iter().zip(wanted) {
        world.service(name, json!({ keys::LOAD_BALANCER_IPS: ip })).await;
    }
    eventually("they have their addresses", async || world.addresses().await.len() == 2).await;
    let addresses = world.addresses().await;

    let pools = Api::<IPAddressPool>::all(world.client.clone());
    let edit = |addresses: &str| Patch::Merge(json!({ "spec": { "addresses": [addresses] } }));
    pools.patch("b", &PatchParams::default(), &edit("192.0.2.0/24")).await.unwrap();
    eventually("the pool is refused and the Service says so", async || {
        reason(&world.read("two").await, keys::ALLOCATED) == "True/PoolRefused"
    })
    .await;
    eventually("the pool counts what is held of it", async || {
        let status = pools.get("b").await.unwrap().status.unwrap_or_default();
        (status.assigned_ipv4, status.available_ipv4) == (Some(1), Some(0))
    })
    .await;
    let versions = world.at_rest().await;
    assert_eq!(world.addresses().await, addresses);
    world.stop_controller().await;
    world.start_controller().await;
    assert_eq!(world.at_rest().await, versions, "a restart writes nothing");

    pools.patch("b", &PatchParams::default(), &edit("198.51.100.0/24")).await.unwrap();
    eventually("the pool is good again", async || {
        reason(&world.read("two").await, keys::ALLOCATED) == "True/Allocated"
    })
    .await;
    assert_eq!(world.addresses().await, addresses);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_of_many_services_are_sent_several_at_a_time() {
    let mut world = World::start().await;
    let Some(faults) = world.cluster.as_built_in().map(|server| server.faults().clone()) else {
        eprintln!("skipped: only the built-in API server can be slow on demand");
        return;
    };
    faults.add(Fault {
        verbs: vec!["create".into()],
        resources: vec!["events".into()],
        latency_ms: 500,
        ..Fault::default()
    });
    world.pool("big", &["198.51.100.0-198.51.100.255"]).await;
    for n in 0..100 {
        world.service(&format!("s{n:03}"), json!({})).await;
    }
    world.start_controller().await;
    let events = Api::<Event>::namespaced(world.client.clone(), "default");
    // One after the other they would take 50 s.
    eventually("each Service has its event", async || {
        let list = events.list(&ListParams::default()).await.unwrap();
        list.into_iter().filter(|event| event.reason.as_deref() == Some("Allocated")).count() == 100
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_wait_until_no_status_waits() {
    let mut world = World::start().await;
    world.pool("big", &["198.18.0.0-198.18.1.255"]).await;
    for n in 0..300 {
        world.service(&format!("s{n:03}"), json!({})).await;
    }
    world.start_controller().await;
    eventually("every Service has an address", async || world.addresses().await.len() == 300).await;
    let events = Api::<Event>::namespaced(world.client.clone(), "default");
    let told = async || {
        let list = events.list(&ListParams::default()).await.unwrap();
        let ours = list.into_iter().filter(|event| event.reason.as_deref() == Some("Allocated"));
        ours.map(|event| version(&event)).collect::<Vec<_>>()
    };
    eventually("each has its event", async || told().await.len() == 300).await;
    let first = told().await.into_iter().min().unwrap();
    let list = world.services().list(&ListParams::default()).await.unwrap();
    let later = list.iter().filter(|service| version(*service) > first).count();
    // Those that were on the way when the last one was sent.
    assert!(later <= 100, "{later} of 300 statuses were written after the first event");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_gets_through_an_api_server_that_fails_throttles_and_goes_away() {
    let mut world = World::start().await;
    let Some(faults) = world.cluster.as_built_in().map(|server| server.faults().clone()) else {
        eprintln!("skipped: only the built-in API server can fail on demand");
        return;
    };
    for n in 0..200 {
        world.service(&format!("s{n:03}"), json!({})).await;
    }
    world.pool("big", &["198.51.100.0-198.51.100.255"]).await;
    faults.fail(500, 0.2, &["patch"], &["services/status"]);
    faults.fail(409, 0.1, &["patch"], &["services/status"]);
    faults.add(Fault {
        verbs: vec!["patch".into()],
        resources: vec!["services/status".into()],
        probability: 0.02,
        status: Some(429),
        retry_after: Some(1),
        times: Some(3),
        ..Fault::default()
    });
    world.start_controller().await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    faults.outage(Outage::Refuse, Duration::from_secs(2));
    tokio::time::sleep(Duration::from_millis(2100)).await;
    faults.close_watches();
    eventually("every Service has an address", async || world.addresses().await.len() == 200).await;
    faults.clear();
    let addresses = world.addresses().await;
    let distinct: std::collections::BTreeSet<_> = addresses.values().flatten().collect();
    assert_eq!(distinct.len(), 200, "no address twice");

    faults.outage(Outage::Hang, Duration::from_secs(2));
    tokio::time::sleep(Duration::from_millis(2100)).await;
    world.service("late", json!({})).await;
    eventually("after an outage it goes on", async || world.addresses().await.contains_key("late")).await;
    let mut after = world.addresses().await;
    after.remove("late");
    assert_eq!(after, addresses, "and nothing moved");
}
