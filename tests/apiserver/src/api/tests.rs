use serde_json::json;

use super::*;
use crate::store::Key;

fn ask() -> Ask {
    Ask {
        now: "2026-01-01T00:00:00Z".into(),
        manager: "test".into(),
        dry_run: false,
        force: false,
        unknown: UnknownFields::Warn,
    }
}

/// A cluster with six clusterIPs, one of which belongs to the API server, and two node ports.
fn small() -> Api {
    let options = Options {
        service_cidrs: vec!["10.0.0.0/29".parse().unwrap()],
        node_ports: 30000..=30001,
        ..Options::default()
    };
    Api::new(&options, &ask()).unwrap()
}

fn target(api: &Api, plural: &str, name: &str) -> Target {
    let resource = api.registry.get("", "v1", plural).unwrap().clone();
    let namespace = if resource.namespaced { "default" } else { "" };
    Target { resource, namespace: namespace.into(), name: name.into(), door: Door::Object }
}

fn service(name: &str, spec: Value) -> Value {
    json!({ "metadata": { "name": name }, "spec": spec })
}

fn create(api: &mut Api, name: &str, spec: Value) -> Result<Written, Failure> {
    let target = target(api, "services", "");
    api.create(&target, service(name, spec), &ask())
}

#[test]
fn rejected_or_dry_run_service_releases_allocations() {
    let mut api = small();
    let ports = json!([{ "name": "a", "port": 1 }, { "name": "b", "port": 2 }, { "name": "c", "port": 3 }]);
    // Three node ports exceed the range.
    let refused = create(&mut api, "many", json!({ "type": "NodePort", "ports": ports })).unwrap_err();
    assert_eq!(refused.code, 500);
    let dry = Ask { dry_run: true, ..ask() };
    let everything =
        json!({ "type": "NodePort", "ports": [{ "name": "a", "port": 1 }, { "name": "b", "port": 2 }] });
    let at = target(&api, "services", "");
    for _ in 0..10 {
        api.create(&at, service("dry", everything.clone()), &dry).unwrap();
    }
    create(&mut api, "real", everything).unwrap();
    for name in ["b", "c", "d", "e"] {
        create(&mut api, name, json!({ "ports": [{ "port": 1 }] })).unwrap();
    }
    assert!(
        create(&mut api, "f", json!({ "ports": [{ "port": 1 }] }))
            .unwrap_err()
            .message
            .contains("range is full")
    );
    let gone = target(&api, "services", "real");
    api.delete(&gone, &DeleteOptions::default(), &ask()).unwrap();
    create(&mut api, "f", json!({ "type": "NodePort", "ports": [{ "port": 1 }] })).unwrap();
}

#[test]
fn external_name_service_releases_cluster_ip() {
    let mut api = small();
    let at = target(&api, "services", "web");
    for _ in 0..10 {
        create(&mut api, "web", json!({ "ports": [{ "port": 1 }] })).unwrap();
        let patch = Patch::Merge(json!({ "spec": { "type": "ExternalName", "externalName": "a.example" } }));
        api.patch(&at, patch, &ask()).unwrap();
        api.delete(&at, &DeleteOptions::default(), &ask()).unwrap();
    }
}

#[test]
fn server_set_fields_have_no_manager() {
    let mut api = small();
    let created = create(&mut api, "web", json!({ "ports": [{ "port": 1 }] })).unwrap();
    let fields = &created.object.value()["metadata"]["managedFields"][0]["fieldsV1"];
    assert_eq!(fields["f:spec"]["f:clusterIP"], Value::Null);
    assert_ne!(fields["f:spec"]["f:ports"], Value::Null);
}

#[test]
fn unchanged_update_keeps_resource_version() {
    let mut api = small();
    create(&mut api, "web", json!({ "ports": [{ "port": 1 }] })).unwrap();
    let at = target(&api, "services", "web");
    let revision = api.store.revision();
    let later = Ask { now: "2027-01-01T00:00:00Z".into(), ..ask() };
    let stored = api.get(&at).unwrap().value().clone();
    api.replace(&at, stored, &later).unwrap();
    api.patch(&at, Patch::Merge(json!({ "spec": { "type": "ClusterIP" } })), &later).unwrap();
    assert_eq!(api.store.revision(), revision);
}

#[test]
fn recreated_object_has_new_uid() {
    let mut api = small();
    let first = create(&mut api, "web", json!({ "ports": [{ "port": 1 }] })).unwrap().object;
    let at = target(&api, "services", "web");
    api.delete(&at, &DeleteOptions::default(), &ask()).unwrap();
    let second = create(&mut api, "web", json!({ "ports": [{ "port": 1 }] })).unwrap().object;
    assert_ne!(first.uid(), second.uid());
    let refused = api.replace(&at, first.value().clone(), &ask()).unwrap_err();
    assert_eq!((refused.code, refused.reason), (409, "Conflict"));
}

#[test]
fn new_cluster_has_namespaces_and_kubernetes_service() {
    let api = small();
    let namespaces = api.registry.namespaces;
    let names: Vec<&str> = api.store.iter(namespaces, None).map(|(key, _)| key.name.as_str()).collect();
    assert_eq!(names, ["default", "kube-node-lease", "kube-public", "kube-system"]);
    let services = target(&api, "services", "").resource.table;
    let own = api.store.get(services, &Key::new("default", "kubernetes")).unwrap();
    assert_eq!(own.value()["spec"]["clusterIP"], "10.0.0.1");
    let ranges = api.registry.get("networking.k8s.io", "v1", "servicecidrs").unwrap().table;
    let own = api.store.get(ranges, &Key::new("", "kubernetes")).unwrap().value();
    assert_eq!(own["status"]["conditions"][0]["type"], "Ready");
    assert!(own["spec"]["cidrs"][0].as_str().unwrap().starts_with("10.0.0.0/"), "{own}");
}

#[test]
fn uids_are_uuids_determined_by_seed() {
    let (mut one, mut two) = (small(), small());
    let uid = one.new_uid();
    assert_eq!(uid, two.new_uid());
    assert_ne!(uid, one.new_uid());
    assert_eq!(uid.len(), 36);
    assert_eq!(&uid[14..15], "4");
    assert!("89ab".contains(&uid[19..20]));
}
