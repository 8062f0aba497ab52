//! Hostile requests about objects of every kind that Fairlead watches.

use fairlead_e2e::VERSION;
use fairlead_lab::api::documents;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use crate::text::{conditions, mutate, pick, text};

/// Namespaces of the adversary.
pub(crate) const NAMESPACES: [&str; 2] = ["hostile-a", "hostile-b"];
/// Most objects that exist at one time.
const MOST_OBJECTS: usize = 150;
/// Most octets of all annotations of an object, and of an object in its storage, with a margin.
const ANNOTATIONS: usize = 261_000;
const OBJECT: usize = 1_400_000;
/// The samples of the fuzz targets: valid objects to begin with.
const SAMPLES: &str = include_str!("../../../fuzz/samples.yaml");

/// A request, as it goes to the API server.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub kind: &'static str,
    pub method: &'static str,
    pub path: String,
    pub media: &'static str,
    pub body: Vec<u8>,
}

struct Kind {
    name: &'static str,
    plural: &'static str,
    version: &'static str,
    namespaced: bool,
    has_status: bool,
    /// Share of the requests.
    weight: u32,
}

const fn kind(
    name: &'static str,
    plural: &'static str,
    version: &'static str,
    (namespaced, has_status): (bool, bool),
    weight: u32,
) -> Kind {
    Kind { name, plural, version, namespaced, has_status, weight }
}

const KINDS: &[Kind] = &[
    kind("Service", "services", "v1", (true, true), 12),
    kind("EndpointSlice", "endpointslices", "discovery.k8s.io/v1", (true, false), 5),
    kind("Node", "nodes", "v1", (false, true), 2),
    kind("Namespace", "namespaces", "v1", (false, false), 1),
    kind("Secret", "secrets", "v1", (true, false), 1),
    kind("IPClaim", "ipclaims", VERSION, (true, true), 2),
    kind("IPAddressPool", "ipaddresspools", VERSION, (false, true), 4),
    kind("L2Advertisement", "l2advertisements", VERSION, (false, true), 2),
    kind("BGPAdvertisement", "bgpadvertisements", VERSION, (false, true), 2),
    kind("BGPPeer", "bgppeers", VERSION, (false, true), 2),
    kind("BFDProfile", "bfdprofiles", VERSION, (false, true), 1),
    kind("Community", "communities", VERSION, (false, true), 1),
    kind("Speaker", "speakers", VERSION, (false, true), 2),
    kind("PoolCooldown", "poolcooldowns", VERSION, (false, false), 1),
    kind("Lease", "leases", "coordination.k8s.io/v1", (true, false), 1),
    kind("DaemonSet", "daemonsets", "apps/v1", (true, true), 1),
    kind(DEFINITION, "customresourcedefinitions", "apiextensions.k8s.io/v1", (false, false), 1),
];
/// The kind of definitions, of which the adversary makes foreign ones.
const DEFINITION: &str = "CustomResourceDefinition";

/// An object that was sent and may exist.
#[derive(Clone)]
struct Made {
    kind: &'static Kind,
    path: String,
    /// Its deletion waits for a finalizer.
    is_held: bool,
}

/// The source of hostile requests.
pub(crate) struct Hostility {
    dice: SmallRng,
    number: u64,
    made: Vec<Made>,
    samples: Vec<Value>,
}

impl Hostility {
    /// Returns the requests of a seed.
    pub(crate) fn new(seed: u64) -> anyhow::Result<Hostility> {
        let samples = documents(SAMPLES)?;
        Ok(Hostility { dice: SmallRng::seed_from_u64(seed), number: 0, made: Vec::new(), samples })
    }

    /// Returns the next request.
    pub(crate) fn next(&mut self) -> Request {
        let many = self.made.len() >= MOST_OBJECTS;
        match self.dice.random_range(0..10) {
            0..4 if !many => self.create(),
            4..6 if !self.made.is_empty() => self.write_status(),
            6..8 if !self.made.is_empty() => self.change(),
            _ if !self.made.is_empty() => self.delete(),
            _ => self.create(),
        }
    }

    /// Returns the requests that delete everything that may exist, and the paths of objects that have a
    /// finalizer.
    pub(crate) fn clean_up(&mut self) -> (Vec<Request>, Vec<String>) {
        let made = std::mem::take(&mut self.made);
        let held = made.iter().filter(|made| made.is_held).map(|made| made.path.clone()).collect();
        let deletions = made.iter().map(|made| request(made.kind, "DELETE", &made.path, &Value::Null));
        (deletions.collect(), held)
    }

    fn create(&mut self) -> Request {
        let total = KINDS.iter().map(|kind| kind.weight).sum();
        let mut at = self.dice.random_range(0..total);
        let mut chosen = &KINDS[0];
        for kind in KINDS {
            if at < kind.weight {
                chosen = kind;
                break;
            }
            at -= kind.weight;
        }
        self.number += 1;
        let mut name = format!("hostile-{}", self.number);
        let namespace = *pick(&mut self.dice, &NAMESPACES);
        let collection = collection(chosen, namespace);
        let mut object = self.object(chosen);
        object["apiVersion"] = json!(chosen.version);
        object["kind"] = json!(chosen.name);
        if chosen.name == DEFINITION {
            object["spec"]["names"] = json!({ "plural": name, "kind": format!("Hostile{}", self.number) });
            name += ".example.com";
        }
        object["metadata"] = self.metadata(chosen, &name);
        let is_held = object["metadata"]["finalizers"].is_array();
        self.made.push(Made { kind: chosen, path: format!("{collection}/{name}"), is_held });
        request(chosen, "POST", &collection, &object)
    }

    fn write_status(&mut self) -> Request {
        let made = pick(&mut self.dice, &self.made).clone();
        if !made.kind.has_status {
            return self.change();
        }
        let dice = &mut self.dice;
        let largest = if dice.random_bool(0.1) { OBJECT } else { 5_000 };
        let mut status = json!({ "conditions": conditions(dice, largest) });
        match made.kind.name {
            "Service" if dice.random_bool(0.5) => {
                let entry = pick(
                    dice,
                    &[
                        json!({ "hostname": "lb.example.com" }),
                        json!({ "ip": "203.0.113.9" }),
                        json!({
                            "ip": "203.0.113.9",
                            "ports": [{ "port": 80, "protocol": "TCP", "error": "x/y" }],
                        }),
                    ],
                )
                .clone();
                status["loadBalancer"] = json!({ "ingress": [entry] });
            }
            "Node" => {
                let address = text(dice, 300);
                status["addresses"] = json!([{ "type": "InternalIP", "address": address }]);
            }
            "Service" => {}
            _ if dice.random_bool(0.5) => {
                status["assignedIPv4"] = json!(i64::MAX);
                mutate(dice, &mut status);
            }
            _ => {}
        }
        request(made.kind, "PATCH", &format!("{}/status", made.path), &json!({ "status": status }))
    }

    /// Changes an annotation, a label or a part of the spec. A request for sharing never changes, because the
    /// Services that share an address must remain allowed to.
    fn change(&mut self) -> Request {
        let made = pick(&mut self.dice, &self.made).clone();
        let dice = &mut self.dice;
        let patch = match dice.random_range(0..3) {
            0 => {
                let key = *pick(dice, &REQUESTS);
                json!({ "metadata": { "annotations": { key: text(dice, ANNOTATIONS) } } })
            }
            1 => json!({ "metadata": { "labels": { "l": text(dice, 70) } } }),
            _ if made.kind.name == "Service" => {
                let kind = *pick(dice, &["ClusterIP", "NodePort", "LoadBalancer", "LoadBalancer"]);
                json!({ "spec": { "type": kind, "loadBalancerIP": text(dice, 200) } })
            }
            _ => {
                let mut object = self.object(made.kind);
                if made.kind.name == "EndpointSlice" {
                    json!({ "endpoints": object["endpoints"].take() })
                } else {
                    json!({ "spec": object["spec"].take() })
                }
            }
        };
        request(made.kind, "PATCH", &made.path, &patch)
    }

    fn delete(&mut self) -> Request {
        let at = self.dice.random_range(0..self.made.len());
        if self.made[at].is_held && self.dice.random_bool(0.5) {
            let made = self.made.swap_remove(at);
            let mut released = release(&made);
            if self.dice.random_bool(0.5) {
                self.made.push(Made { is_held: false, ..made });
            } else {
                released = request(made.kind, "DELETE", &made.path, &Value::Null);
                self.made.push(made);
            }
            return released;
        }
        let made = self.made[at].clone();
        if !made.is_held {
            self.made.swap_remove(at);
        }
        request(made.kind, "DELETE", &made.path, &Value::Null)
    }

    fn metadata(&mut self, kind: &Kind, name: &str) -> Value {
        let dice = &mut self.dice;
        let mut metadata = json!({ "name": name });
        if kind.name == "Service" || dice.random_bool(0.3) {
            let mut annotations = json!({});
            let mut left = ANNOTATIONS;
            for key in REQUESTS.iter().chain(&SHARING).chain(&["example.com/a"]) {
                if dice.random_bool(0.25) {
                    let value = text(dice, left);
                    left = left.saturating_sub(value.len() + key.len());
                    annotations[*key] = json!(value);
                }
            }
            if dice.random_bool(0.05) {
                annotations["example.com/fill"] = json!("f".repeat(left));
            }
            metadata["annotations"] = annotations;
        }
        if kind.name == "EndpointSlice" {
            metadata["labels"] = json!({ "kubernetes.io/service-name": self.a_service() });
        }
        // Nothing here could remove the finalizer of a Namespace with its contents.
        if kind.name != "Namespace" && self.dice.random_bool(0.1) {
            metadata["finalizers"] = json!(["example.com/hostile"]);
        }
        metadata
    }

    /// Returns the name of a Service of the adversary, or any text.
    fn a_service(&mut self) -> String {
        let services: Vec<_> = self.made.iter().filter(|made| made.kind.name == "Service").collect();
        match services.is_empty() {
            true => "nobody".to_owned(),
            false => {
                let path = &pick(&mut self.dice, &services).path;
                path.rsplit('/').next().unwrap_or_default().to_owned()
            }
        }
    }

    /// Returns the object without its names.
    fn object(&mut self, kind: &Kind) -> Value {
        let mut object = match kind.name {
            "Service" => self.service(),
            "EndpointSlice" => self.slice(),
            "Node" | "Namespace" => json!({ "spec": {} }),
            "Secret" => {
                json!({
                    "type": "kubernetes.io/basic-auth",
                    "stringData": { "password": text(&mut self.dice, 9000) },
                })
            }
            "IPClaim" => json!({ "spec": { "serviceName": "any", "pool": text(&mut self.dice, 60) } }),
            "Speaker" => json!({ "spec": { "mesh": { "address": "203.0.113.7", "port": 7947 } } }),
            "PoolCooldown" => json!({ "spec": { "released": [
                text(&mut self.dice, 200), "10.99.0.9 hostile-a/x 9999-12-31T23:59:59Z", "198.51.100.1",
            ] } }),
            "Lease" => json!({ "spec": {
                "holderIdentity": text(&mut self.dice, 300), "leaseDurationSeconds": i32::MAX,
                "renewTime": "9999-12-31T23:59:59.999999Z",
            } }),
            "DaemonSet" => daemon_set(),
            DEFINITION => definition(),
            _ => self.configuration(kind),
        };
        if self.dice.random_bool(0.3) {
            mutate(&mut self.dice, &mut object);
        }
        if !object.is_object() {
            object = json!({ "spec": object });
        }
        if kind.name == DEFINITION && !object["spec"].is_object() {
            object = definition();
        }
        // Advertisements of the adversary concern its own pools only; its pools serve its own namespaces.
        match kind.name {
            "L2Advertisement" | "BGPAdvertisement" if object["spec"].is_object() => {
                object["spec"]["ipAddressPools"] = json!(["hostile-1", "open"]);
            }
            "IPAddressPool" if object["spec"].is_object() => {
                object["spec"]["serviceAllocation"] = json!({ "namespaces": NAMESPACES });
            }
            "BGPPeer" if object["spec"]["peerAddress"] == "192.0.2.1" => {
                object["spec"]["peerAddress"] = json!("192.0.2.60");
            }
            _ => {}
        }
        object
    }

    fn service(&mut self) -> Value {
        let dice = &mut self.dice;
        let ports = if dice.random_bool(0.1) { 60 } else { dice.random_range(1..4) };
        let first = dice.random_range(1..60_000);
        let port = |at| json!({ "name": format!("p{at}"), "port": first + at, "protocol": "TCP" });
        let mut spec = json!({
            "type": "LoadBalancer",
            "allocateLoadBalancerNodePorts": dice.random_bool(0.1),
            "ipFamilyPolicy": pick(dice, &["SingleStack", "PreferDualStack", "RequireDualStack"]),
            "externalTrafficPolicy": pick(dice, &["Cluster", "Cluster", "Local"]),
            "ports": (0..ports).map(port).collect::<Vec<_>>(),
        });
        if dice.random_bool(0.2) {
            spec["loadBalancerIP"] = json!(text(dice, 3000));
        }
        if dice.random_bool(0.2) {
            spec["selector"] = json!({ "app": "web" });
        }
        if dice.random_bool(0.05) {
            spec["loadBalancerClass"] = json!("example.com/other");
        }
        json!({ "spec": spec })
    }

    fn slice(&mut self) -> Value {
        let dice = &mut self.dice;
        let family = *pick(dice, &["IPv4", "IPv6", "FQDN"]);
        let address = match family {
            "IPv4" => "10.200.0.9",
            "IPv6" => "2001:db8:200::9",
            _ => "pods.example.com",
        };
        let count = if dice.random_bool(0.1) { 900 } else { dice.random_range(0..4) };
        let mut endpoints = Vec::new();
        for _ in 0..count {
            let ready = pick(dice, &[json!(true), json!(false), Value::Null]).clone();
            endpoints.push(json!({
                "addresses": [address],
                "conditions": { "ready": ready, "terminating": pick(dice, &[json!(true), Value::Null]) },
                "nodeName": pick(dice, &["n1", "n2", "ghost"]),
                "zone": text(dice, 60),
            }));
        }
        json!({ "addressType": family, "endpoints": endpoints, "ports": [{ "port": 80 }, { "port": null }] })
    }

    fn configuration(&mut self, kind: &Kind) -> Value {
        let samples: Vec<_> = self.samples.iter().filter(|sample| sample["kind"] == kind.name).collect();
        let dice = &mut self.dice;
        let mut spec = if samples.is_empty() { json!({}) } else { pick(dice, &samples)["spec"].clone() };
        if kind.name == "IPAddressPool" {
            let count = if dice.random_bool(0.1) { 120 } else { dice.random_range(1..4) };
            let mut ranges = Vec::new();
            for _ in 0..count {
                ranges.push(match dice.random_range(0..12) {
                    0 => json!("198.51.100.0/30"),
                    1 => json!("2001:db8:50::/64"),
                    2 => json!("0.0.0.0/4"),
                    3 => json!("10.50.0.0-10.50.255.255"),
                    4 => json!(text(dice, 100)),
                    _ => {
                        json!(format!("10.{}.{}.0/28", dice.random_range(51..60), dice.random_range(0..255)))
                    }
                });
            }
            spec["addresses"] = Value::Array(ranges);
        }
        json!({ "spec": spec })
    }
}

/// Returns a DaemonSet with the labels of the speakers.
fn daemon_set() -> Value {
    let labels = json!({ "app.kubernetes.io/name": "fairlead", "app.kubernetes.io/component": "speaker" });
    json!({ "spec": {
        "selector": { "matchLabels": labels },
        "template": {
            "metadata": { "labels": labels },
            "spec": { "containers": [{ "name": "a", "image": "example.com/none" }] },
        },
    } })
}

/// Returns a definition of a foreign kind without its names.
fn definition() -> Value {
    let schema = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    json!({ "spec": {
        "group": "example.com", "scope": "Cluster",
        "versions": [{ "name": "v1", "served": true, "storage": true,
                       "schema": { "openAPIV3Schema": schema } }],
    } })
}

/// Annotations with a request to the allocator.
const REQUESTS: [&str; 5] = [
    "fairlead.dev/address-pool",
    "fairlead.dev/load-balancer-ips",
    "metallb.io/loadBalancerIPs",
    "metallb.universe.tf/address-pool",
    "fairlead.dev/ip-allocated-from-pool",
];
/// Annotations with a key for sharing.
const SHARING: [&str; 2] = ["fairlead.dev/allow-shared-ip", "metallb.io/allow-shared-ip"];

fn collection(kind: &Kind, namespace: &str) -> String {
    let api = if kind.version.contains('/') { "/apis" } else { "/api" };
    let namespace = if kind.namespaced { format!("/namespaces/{namespace}") } else { String::new() };
    format!("{api}/{}{namespace}/{}", kind.version, kind.plural)
}

/// Removes the finalizers of an object.
fn release(made: &Made) -> Request {
    request(made.kind, "PATCH", &made.path, &json!({ "metadata": { "finalizers": null } }))
}

fn request(kind: &Kind, method: &'static str, path: &str, body: &Value) -> Request {
    let media = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    Request { kind: kind.name, method, path: path.to_owned(), media, body }
}
