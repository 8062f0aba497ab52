//! The reconciler by itself: watch events in, and its next timeout.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use fairlead_crds::configuration_kinds;
use fairlead_crds::kinds::{Kind, ObjectRef};
use fairlead_crds::objects::Service;
use fairlead_crds::read::{Custom, ReadObject};
use fairlead_crds::store::{ConfigurationChange, ObjectChange};
use fairlead_runtime::http;
use kube::{Client, Config};
use serde_json::json;
use tokio::sync::watch;

use super::Reconciler;
use super::cluster_state::ClusterState;
use crate::leader::Leadership;
use crate::metrics::Metrics;
use crate::run::Scope;
use crate::watches::{ClusterChange, WatchEvent, WatchedService};
use crate::write_queue::{Write, WriteResult, WriteTarget};

/// A reconciler whose leadership the test sets, and whose API server accepts connections and never responds.
struct World {
    reconciler: Reconciler,
    health: http::Health,
    leadership: watch::Sender<Leadership>,
    _server: TcpListener,
}

impl World {
    fn new() -> Self {
        // The kernel accepts connections for the listener.
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let config = Config::new(format!("http://{}", server.local_addr().unwrap()).parse().unwrap());
        let (leadership, receiver) = watch::channel(Leadership::Standby { holder: None });
        let metrics = Metrics::register(&http::Metrics::default());
        let client = Client::try_from(config).unwrap();
        let scope =
            Scope { namespace: "fairlead".into(), class: None, instance: "pod".into(), with_mesh: true };
        let health = http::Health::new("the start");
        let reconciler = Reconciler::new(client, scope, receiver, health.clone(), metrics);
        Self { reconciler, health, leadership, _server: server }
    }

    fn lead(&mut self, term: u64) {
        let until = Instant::now() + Duration::from_secs(3600);
        self.leadership.send_replace(Leadership::Leading { until, term });
        self.reconciler.end_turn(0);
    }

    fn handle(&mut self, change: ClusterChange) {
        self.handle_batch([change]);
    }

    /// Handles changes that arrive together.
    fn handle_batch(&mut self, changes: impl IntoIterator<Item = ClusterChange>) {
        let relist = self.reconciler.relist();
        let events = changes.into_iter().map(|change| WatchEvent { relist, change });
        self.reconciler.handle_watch_events(&mut events.collect(), jiff::Timestamp::now());
        self.reconciler.end_turn(0);
    }

    /// Handles a list of every kind except Services, with so many pools.
    fn list_all_but_services(&mut self, pools: usize) {
        macro_rules! list_none {
            ($($kind:ident => $field:ident,)*) => {
                [$(ConfigurationChange::$kind(ObjectChange::Reset(Vec::new()))),*]
            };
        }
        for change in configuration_kinds!(list_none) {
            self.handle(ClusterChange::Configuration(Box::new(change)));
        }
        let pool = json!({
            "metadata": { "name": "p", "resourceVersion": "1" }, "spec": { "addresses": ["192.0.2.0/24"] },
        });
        let pools = (0..pools).map(|_| Custom::read(&pool.to_string()).value).collect();
        let pools = ConfigurationChange::IPAddressPool(ObjectChange::Reset(pools));
        self.handle(ClusterChange::Configuration(Box::new(pools)));
        self.handle(ClusterChange::Namespaces(ObjectChange::Reset(Vec::new())));
        self.handle(ClusterChange::Nodes(ObjectChange::Reset(Vec::new())));
        self.handle(ClusterChange::Claims(ObjectChange::Reset(Vec::new())));
        self.handle(ClusterChange::Cooldowns(Default::default()));
    }
}

#[tokio::test]
async fn second_term_is_idle_until_all_kinds_are_listed() {
    let mut world = World::new();
    for term in [1, 2] {
        world.lead(term);
        world.list_all_but_services(1);
        // Later than any interval: a timeout that stays due would make the loop spin.
        let later = Instant::now() + Duration::from_secs(10);
        let wake = world.reconciler.poll_timeout(later);
        assert!(wake.is_none_or(|at| at > later), "term {term}");
        world.handle(ClusterChange::Services(ObjectChange::Reset(Vec::new())));
        assert!(world.reconciler.state.is_deciding(), "term {term}: all kinds are listed");
    }
}

#[tokio::test]
async fn readiness_names_the_missing_namespace_of_the_lease() {
    let mut world = World::new();
    world.list_all_but_services(1);
    world.handle(ClusterChange::Services(ObjectChange::Reset(Vec::new())));
    assert!(world.health.is_ready(), "a standby that listed all kinds: {:?}", world.health.awaited());
    world.leadership.send_replace(Leadership::NoNamespace);
    world.reconciler.end_turn(0);
    let awaited = world.health.awaited().unwrap();
    assert!(awaited.starts_with("namespace fairlead, which does not exist"), "{awaited}");
    world.leadership.send_replace(Leadership::Standby { holder: None });
    world.reconciler.end_turn(0);
    assert!(world.health.is_ready());
}

#[tokio::test]
async fn in_doubt_write_of_a_lost_term_keeps_the_lease() {
    for services in [0, 1] {
        let mut world = World::new();
        world.lead(1);
        world.list_all_but_services(0);
        let services_listed = (0..services).map(|_| service()).collect();
        world.handle(ClusterChange::Services(ObjectChange::Reset(services_listed)));
        world.leadership.send_replace(Leadership::Standby { holder: None });
        world.reconciler.end_turn(0);
        let may_release = world.reconciler.finish_writes().await;
        assert_eq!(may_release, services == 0, "{services} Services");
    }
}

#[tokio::test]
async fn pool_in_force_stays_so_and_its_verdict_is_sent_at_once() {
    let mut world = World::new();
    world.lead(1);
    world.list_all_but_services(0);
    world.handle(ClusterChange::Services(ObjectChange::Reset(Vec::new())));
    for name in ["b", "a"] {
        world.handle(pool(name));
        let reference = ObjectRef { kind: Kind::IPAddressPool, name: name.to_owned() };
        let target = WriteTarget::ObjectStatus(reference);
        assert!(world.reconciler.writes.queue().contains(&target), "the status of {name}");
    }
    let ipam = world.reconciler.state.index().ipam();
    // Both are of the same second, and no condition was observed.
    assert!(ipam.pool("b").is_some() && ipam.is_refused("a"));
}

#[tokio::test]
async fn configuration_objects_of_a_batch_are_resolved_once() {
    let mut world = World::new();
    world.lead(1);
    world.list_all_but_services(0);
    world.handle(ClusterChange::Services(ObjectChange::Reset(Vec::new())));
    for count in [1, 100] {
        let before = world.reconciler.state.resolutions();
        // Between two pools comes an event of another watch.
        let changes = (0..count).flat_map(|n| {
            let service = ClusterChange::Services(ObjectChange::Apply(service()));
            [pool(&format!("p{count}-{n}")), service]
        });
        world.handle_batch(changes);
        assert_eq!(world.reconciler.state.resolutions() - before, 1, "{count} pools");
    }
    let before = world.reconciler.state.resolutions();
    world.handle_batch((0..100).map(|_| ClusterChange::Services(ObjectChange::Apply(service()))));
    assert_eq!(world.reconciler.state.resolutions(), before, "no configuration object changed");
}

/// Returns the state of a leading controller without objects.
fn leading_state() -> ClusterState {
    let mut world = World::new();
    world.lead(1);
    world.list_all_but_services(0);
    world.handle(ClusterChange::Services(ObjectChange::Reset(Vec::new())));
    assert!(world.reconciler.state.is_deciding());
    world.reconciler.state
}

/// Returns the writes that a turn decides on.
fn take_writes(state: &mut ClusterState) -> Vec<(WriteTarget, Write)> {
    let now = jiff::Timestamp::now();
    state.resolve_configuration(now);
    let writes = state.take_decisions(now).writes.into_iter();
    writes.filter_map(|(target, write)| Some((target, write?))).collect()
}

/// Returns the event of a BFDProfile that nothing uses, with metadata in addition to its name.
fn profile(metadata: serde_json::Value) -> ClusterChange {
    let mut object = json!({ "metadata": { "name": "b", "uid": "b", "generation": 1 }, "spec": {} });
    let metadata = metadata.as_object().unwrap().clone();
    object["metadata"].as_object_mut().unwrap().extend(metadata);
    let change = ObjectChange::Apply(Custom::read(&object.to_string()).value);
    ClusterChange::Configuration(Box::new(ConfigurationChange::BFDProfile(change)))
}

fn parts_of_profile() -> [WriteTarget; 2] {
    let object = ObjectRef { kind: Kind::BFDProfile, name: "b".to_owned() };
    [WriteTarget::ObjectStatus(object.clone()), WriteTarget::ObjectFinalizers(object)]
}

#[tokio::test]
async fn unused_object_in_deletion_loses_its_finalizer_before_its_status_is_written() {
    let [status, finalizers] = parts_of_profile();
    let ours = json!(["fairlead.dev/bfd-profile-protection"]);
    let deleted = json!("2026-01-01T00:00:00Z");
    let table = [
        (json!({ "finalizers": ours }), &status),
        (json!({ "finalizers": ours, "deletionTimestamp": deleted }), &finalizers),
        (json!({ "finalizers": ["example.com/a"], "deletionTimestamp": deleted }), &status),
    ];
    for (mut metadata, expected) in table {
        let mut state = leading_state();
        metadata["resourceVersion"] = json!("1");
        state.handle_change(profile(metadata.clone()), jiff::Timestamp::now());
        let targets: Vec<_> = take_writes(&mut state).into_iter().map(|(target, _)| target).collect();
        assert_eq!(targets, std::slice::from_ref(expected), "{metadata}");
    }
}

#[tokio::test]
async fn status_that_is_not_stored_is_not_sent_again_and_finalizers_do_not_wait_for_it() {
    let [status, finalizers] = parts_of_profile();
    let mut state = leading_state();
    let now = jiff::Timestamp::now();
    let finalizer = "fairlead.dev/bfd-profile-protection";
    let apply = |version: &str| profile(json!({ "resourceVersion": version, "finalizers": [finalizer] }));
    let targets = |writes: &[(WriteTarget, Write)]| -> Vec<WriteTarget> {
        writes.iter().map(|(target, _)| target.clone()).collect()
    };
    for version in ["1", "2"] {
        state.handle_change(apply(version), now);
        let writes = take_writes(&mut state);
        assert_eq!(targets(&writes), std::slice::from_ref(&status), "version {version}");
        // The API server changes nothing: it dropped the only field that differs.
        let (target, write) = &writes[0];
        state.handle_write_result(target, write, &WriteResult::Written(version.to_owned()));
        assert_eq!(targets(&take_writes(&mut state)), std::slice::from_ref(&finalizers), "{version}");
        // The watch starts again.
        state.handle_change(apply(version), now);
        assert_eq!(targets(&take_writes(&mut state)), std::slice::from_ref(&finalizers), "{version}");
    }
    state.handle_change(ClusterChange::Definition(Kind::BFDProfile, ObjectChange::Apply(false)), now);
    assert_eq!(targets(&take_writes(&mut state)), [status], "the definition was replaced");
}

/// Returns the creation of a pool.
fn pool(name: &str) -> ClusterChange {
    let object = json!({
        "metadata": { "name": name, "resourceVersion": "5", "creationTimestamp": "2026-01-01T00:00:00Z" },
        "spec": { "addresses": ["192.0.2.0/24"] },
    });
    let change = ObjectChange::Apply(Custom::read(&object.to_string()).value);
    ClusterChange::Configuration(Box::new(ConfigurationChange::IPAddressPool(change)))
}

fn service() -> WatchedService {
    let service: Service = serde_json::from_value(json!({
        "metadata": { "name": "s", "namespace": "default", "uid": "u", "resourceVersion": "7" },
        "spec": { "type": "LoadBalancer", "clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9"],
                  "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack" },
    }))
    .unwrap();
    WatchedService::read(&service, None)
}
