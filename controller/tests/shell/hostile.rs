//! Services whose owner, or whose policies, must not harm other Services.

use std::time::{Duration, Instant};

use fairlead_apiserver::Fault;
use fairlead_crds::names;
use fairlead_crds::text::{MAX_MESSAGE, is_printable};
use fairlead_crds::v1beta1::IPAddressPool;
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, ListParams, ObjectList, Patch, PatchParams};
use serde_json::json;

use crate::world::{INSTANCE, World, eventually, ingress, reason};

/// Longest time from the creation of a Service to its address while others misbehave. A quiet controller
/// needs some milliseconds; the rest is for a loaded machine.
const SOON: Duration = Duration::from_secs(3);

/// Creates Services one after the other, and checks that each gets its address soon.
async fn check_innocent(world: &World, prefix: &str) {
    for n in 0..5 {
        let name = format!("{prefix}-{n}");
        world.service(&name, json!({})).await;
        let created = Instant::now();
        eventually("it has an address", async || world.addresses().await.contains_key(&name)).await;
        assert!(created.elapsed() < SOON, "{name}: {:?}", created.elapsed());
    }
}

async fn events(world: &World) -> ObjectList<Event> {
    Api::<Event>::namespaced(world.client.clone(), "default").list(&ListParams::default()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn huge_annotations_do_not_slow_other_services() {
    let mut world = World::start().await;
    world.pool("big", &["198.51.100.0-198.51.100.255"]).await;
    let bomb = "\u{7f}".repeat(255 * 1024);
    for n in 0..12 {
        world.service(&format!("early-{n}"), json!({ names::LOAD_BALANCER_IPS: bomb })).await;
    }
    world.start_controller().await;
    for n in 0..12 {
        world.service(&format!("late-{n}"), json!({ names::ALLOW_SHARED_IP: bomb })).await;
    }
    check_innocent(&world, "good").await;
    for n in 0..12 {
        for name in [format!("early-{n}"), format!("late-{n}")] {
            eventually("its condition says why", async || {
                reason(&world.read(&name).await, names::ALLOCATED) == "False/InvalidRequest"
            })
            .await;
        }
    }
    let service = world.read("late-0").await;
    for condition in service.status.unwrap().conditions.unwrap() {
        assert!(condition.message.len() <= MAX_MESSAGE && condition.message.chars().all(is_printable));
    }
    eventually("each has an Event", async || {
        let list = events(&world).await;
        list.iter().filter(|event| event.reason.as_deref() == Some("InvalidRequest")).count() == 24
    })
    .await;
    for event in events(&world).await {
        assert_eq!(event.reporting_instance.as_deref(), Some(INSTANCE));
        let expected =
            if event.reason.as_deref() == Some("NoAdvertisement") { "Advertise" } else { "Allocate" };
        assert_eq!(event.action.as_deref(), Some(expected));
        assert!(event.note.unwrap().chars().all(is_printable));
    }
    world.stop_controller().await;
    world.start_controller().await;
    check_innocent(&world, "restarted").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_services_do_not_slow_others() {
    let causes = [
        (500, "etcdserver: request is too large"),
        (422, "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no addresses here"),
        (403, "admission webhook \"w.example.com\" denied the request: no addresses here"),
        (500, "Internal error occurred: failed calling webhook \"w.example.com\": no endpoints available"),
    ];
    for (status, message) in causes {
        let mut world = World::start().await;
        let Some(faults) = world.cluster.as_built_in().map(|server| server.faults().clone()) else {
            eprintln!("skipped: only the built-in API server can inject faults");
            return;
        };
        world.pool("big", &["198.51.100.0-198.51.100.255"]).await;
        faults.add(Fault {
            verbs: vec!["patch".into()],
            resources: vec!["services/status".into()],
            names: vec!["default/bad-*".into()],
            status: Some(status),
            message: Some(message.into()),
            ..Fault::default()
        });
        for n in 0..24 {
            world.service(&format!("bad-{n}"), json!({})).await;
        }
        world.start_controller().await;
        check_innocent(&world, "good").await;
        let addresses = world.addresses().await;
        assert!(addresses.keys().all(|name| name.starts_with("good")), "{status}: {addresses:?}");
        // The first retries come soon.
        faults.clear();
        eventually("they have addresses once they are not refused", async || {
            world.addresses().await.len() == 29
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_permission_is_probed_and_said_once() {
    /// A count that the test does not exhaust. The fault counts down from it.
    const MANY: u64 = 1_000_000;
    const DENIAL: &str = r#"User "system:serviceaccount:fairlead-system:fairlead-controller" cannot patch resource "services/status" in API group "" in the namespace "default""#;
    let mut world = World::start().await;
    let Some(faults) = world.cluster.as_built_in().map(|server| server.faults().clone()) else {
        eprintln!("skipped: only the built-in API server can inject faults");
        return;
    };
    world.pool("big", &["198.51.100.0-198.51.100.255"]).await;
    for n in 0..200 {
        world.service(&format!("s{n:03}"), json!({})).await;
    }
    faults.add(Fault {
        verbs: vec!["patch".into()],
        resources: vec!["services/status".into()],
        status: Some(403),
        message: Some(format!(r#"services "s" is forbidden: {DENIAL}"#)),
        times: Some(MANY),
        ..Fault::default()
    });
    world.start_controller().await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    let sent = MANY - faults.active().iter().filter_map(|(_, fault)| fault.times).sum::<u64>();
    // One window, and then one write after each pause.
    assert!((2..=100).contains(&sent), "{sent} requests in 4 s");
    assert_eq!(world.note().matches(DENIAL).count(), 1, "{}", world.note());
    assert!(world.note().contains("apply config/rbac"), "{}", world.note());
    let metric = "fairlead_controller_status_writes_total{result=\"denied\"} ";
    assert!(world.metrics().contains(metric), "{}", world.metrics());
    let pools = Api::<IPAddressPool>::all(world.client.clone());
    eventually("the status of the pool, which needs another permission, is written", async || {
        pools.get("big").await.unwrap().status.unwrap_or_default().assigned_ipv4 == Some(200)
    })
    .await;
    faults.clear();
    eventually("every Service has an address", async || world.addresses().await.len() == 200).await;
    eventually("the remark ends", async || world.note().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_seat_at_the_api_server_is_enough() {
    let mut world = World::start().await;
    let Some(faults) = world.cluster.as_built_in().map(|server| server.faults().clone()) else {
        eprintln!("skipped: only the built-in API server can inject faults");
        return;
    };
    world.pool("big", &["198.51.100.0-198.51.100.255"]).await;
    faults.add(Fault {
        verbs: vec!["patch".into()],
        resources: vec!["services/status".into()],
        latency_ms: 5,
        seats: Some(1),
        retry_after: Some(1),
        ..Fault::default()
    });
    for n in 0..200 {
        world.service(&format!("s{n:03}"), json!({})).await;
    }
    world.start_controller().await;
    eventually("every Service has an address", async || world.addresses().await.len() == 200).await;
}

/// Another load balancer implementation: whenever the status is not its own, it replaces it. Returns how
/// often.
async fn replace_status(world: &World, name: &str, time: Duration) -> usize {
    let end = Instant::now() + time;
    let parameters = PatchParams { field_manager: Some("k3s".into()), ..PatchParams::default() };
    let status = json!({ "status": { "loadBalancer": { "ingress": [{ "ip": "10.0.0.5" }] } } });
    let mut replaced = 0;
    while Instant::now() < end {
        if ingress(&world.read(name).await) != ["10.0.0.5"] {
            world.services().patch_status(name, &parameters, &Patch::Merge(&status)).await.unwrap();
            replaced += 1;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    replaced
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_that_another_program_replaces_is_rarely_written() {
    let mut world = World::start().await;
    world.pool("big", &["198.51.100.0-198.51.100.255"]).await;
    world.start_controller().await;
    world.service("web", json!({})).await;
    eventually("it has an address", async || world.addresses().await.contains_key("web")).await;
    let replaced = replace_status(&world, "web", Duration::from_secs(10)).await;
    assert!((4..=10).contains(&replaced), "{replaced} times in 10 s");
    eventually("a condition says so", async || {
        reason(&world.read("web").await, names::STATUS_CONFLICT) == "True/StatusConflict"
    })
    .await;
    eventually("an Event says so", async || {
        let note = |event: Event| event.note.filter(|_| event.reason.as_deref() == Some("StatusConflict"));
        let notes: Vec<String> = events(&world).await.into_iter().filter_map(note).collect();
        notes.len() == 1 && notes[0].starts_with(r#"field manager "k3s" writes 10.0.0.5 to status"#)
    })
    .await;
    check_innocent(&world, "good").await;
    eventually("the address is written again", async || world.addresses().await["web"] == ["198.51.100.0"])
        .await;
}
