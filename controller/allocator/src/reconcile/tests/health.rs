//! The health of objects as kstatus computes it, which Flux, Argo CD and `kubectl wait` rely on.

use fairlead_crds::kinds::Kind;
use fairlead_crds::store::{ConfigurationChange, ObjectChange};

use super::*;
use crate::ipam::Ipam;
use crate::reconcile::objects::Configuration;
use fairlead_crds::resolve::InForce;
use fairlead_test_support::pool;

/// Returns the health of an object by the rules of `sigs.k8s.io/cli-utils/pkg/kstatus/status`.
fn kstatus(object: &Value) -> &'static str {
    if !object["metadata"]["deletionTimestamp"].is_null() {
        return "Terminating";
    }
    let status = &object["status"];
    if status["observedGeneration"] != object["metadata"]["generation"] {
        return "InProgress";
    }
    let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    let is = |type_: &str, value: &str| conditions.iter().any(|c| c["type"] == type_ && c["status"] == value);
    match () {
        () if is("Stalled", "True") => "Failed",
        () if is("Reconciling", "True") => "InProgress",
        () if is("Ready", "True") => "Current",
        () => "InProgress",
    }
}

/// Returns the condition `Ready` as `status/reason`.
fn ready(object: &Value) -> String {
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let ready = conditions.into_iter().find(|condition| condition["type"] == "Ready").unwrap_or_default();
    format!(
        "{}/{}",
        ready["status"].as_str().unwrap_or_default(),
        ready["reason"].as_str().unwrap_or_default()
    )
}

/// One configuration object and its status.
struct Cluster {
    configuration: Configuration,
    object: Value,
}

impl Cluster {
    fn new(kind: Kind, spec: Value) -> Self {
        let mut cluster = Self {
            configuration: Configuration::new(None),
            object: json!({
                "apiVersion": "fairlead.dev/v1beta1", "kind": kind.to_string(),
                "metadata": { "name": "a", "uid": "u", "generation": 1, "resourceVersion": "1" },
                "spec": spec,
            }),
        };
        macro_rules! list_nothing {
            ($($kind:ident => $field:ident,)*) => {$(
                cluster.configuration.change::<v1beta1::$kind>(ObjectChange::Reset(Vec::new()));
            )*};
        }
        fairlead_crds::configuration_kinds!(list_nothing);
        cluster.write(kind);
        cluster
    }

    /// Lets the controller observe the object and writes its status.
    fn write(&mut self, kind: Kind) {
        macro_rules! apply {
            ($($kind:ident => $field:ident,)*) => {
                match kind {
                    $(Kind::$kind => {
                        let object: v1beta1::$kind = serde_json::from_value(self.object.clone()).unwrap();
                        self.configuration.apply(ConfigurationChange::from(ObjectChange::Apply(object)));
                    })*
                }
            };
        }
        fairlead_crds::configuration_kinds!(apply);
        self.configuration.resolve(InForce::ByResolution).unwrap();
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let mut ipam = Ipam::default();
        let config = self.configuration.config();
        ipam.set_pools(&config.pools, &config.refused_pools);
        let patch = match kind {
            Kind::IPAddressPool => self.configuration.pool_status_patch("a", &ipam, now),
            _ => {
                let object = fairlead_crds::kinds::ObjectRef { kind, name: "a".to_owned() };
                self.configuration.status_patch(&object, now)
            }
        };
        if let Some(patch) = patch {
            merge(&mut self.object, &patch.body);
        }
    }

    fn edit(&mut self, kind: Kind, spec: Value) -> &'static str {
        self.object["spec"] = spec;
        let generation = self.object["metadata"]["generation"].as_i64().unwrap();
        self.object["metadata"]["generation"] = json!(generation + 1);
        assert_eq!(
            kstatus(&self.object),
            "InProgress",
            "{kind}: before the controller has observed the edit"
        );
        self.write(kind);
        kstatus(&self.object)
    }
}

#[test]
fn every_kind_follows_the_rules_of_kstatus() {
    let table = [
        (
            Kind::IPAddressPool,
            json!({ "addresses": ["192.0.2.0/24"] }),
            json!({ "addresses": ["192.0.2.0/99"] }),
        ),
        (
            Kind::L2Advertisement,
            json!({}),
            json!({ "nodeSelectors": [{ "matchExpressions": [{ "key": "a", "operator": "Near" }] }] }),
        ),
        (Kind::BGPAdvertisement, json!({}), json!({ "aggregationLength": 99 })),
        (
            Kind::BGPPeer,
            json!({ "myASN": 64513, "peerASN": 64512, "peerAddress": "192.0.2.1" }),
            json!({ "myASN": 64513, "peerASN": 64512, "peerAddress": "router" }),
        ),
        (Kind::BFDProfile, json!({}), json!({ "detectMultiplier": 0 })),
        (
            Kind::Community,
            json!({ "communities": [{ "name": "a", "value": "64513:1" }] }),
            json!({ "communities": [{ "name": "a", "value": "x" }] }),
        ),
    ];
    assert_eq!(table.len(), Kind::ALL.len());
    for (kind, good, bad) in table {
        let mut cluster = Cluster::new(kind, good.clone());
        assert_eq!(
            (kstatus(&cluster.object), ready(&cluster.object).as_str()),
            ("Current", "True/Accepted"),
            "{kind}"
        );
        // The last form stays in force, but the object is not healthy.
        assert_eq!(cluster.edit(kind, bad.clone()), "Failed", "{kind}: {}", cluster.object);
        assert!(ready(&cluster.object).starts_with("False/"), "{kind}");
        assert_eq!(cluster.edit(kind, good.clone()), "Current", "{kind}: {}", cluster.object);
        let refused = Cluster::new(kind, bad);
        assert_eq!(kstatus(&refused.object), "Failed", "{kind}: {}", refused.object);
        cluster.object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        cluster.write(kind);
        assert_eq!(kstatus(&cluster.object), "Terminating", "{kind}");
        assert_eq!(ready(&cluster.object), "False/Terminating", "{kind}: {}", cluster.object);
    }
}

#[test]
fn claims_follow_the_rules_of_kstatus() {
    let mut world = World::new([pool("p", &["1.2.3.0"])]);
    world.claim("good", json!({ "serviceName": "s", "pool": "p" }));
    world.claim("bad", json!({ "serviceName": "t", "pool": "absent" }));
    let health = |world: &World, name: &str| {
        let claim = serde_json::to_value(&world.claims[&key(name)]).unwrap();
        (kstatus(&claim), ready(&claim))
    };
    assert_eq!(health(&world, "good"), ("Current", "True/Reserved".to_owned()));
    assert_eq!(health(&world, "bad").0, "Failed");
    assert!(health(&world, "bad").1.starts_with("False/"));
}

#[test]
fn numbers_beyond_63_bits_are_no_numbers() {
    for (addresses, free) in [
        (json!(["192.0.2.0/24"]), "256"),
        (json!(["2001:db8::/64"]), ">=2^63"),
        (json!(["192.0.2.0/24", "2001:db8::/64"]), "256,>=2^63"),
        (json!(["192.0.2.0/24", "2001:db8::/120"]), "256,256"),
    ] {
        let cluster = Cluster::new(Kind::IPAddressPool, json!({ "addresses": addresses }));
        assert_eq!(cluster.object["status"]["free"], free, "{addresses}");
    }
}

#[test]
fn peer_shows_its_sessions() {
    let spec = json!({ "myASN": 64513, "peerASN": 64512, "peerAddress": "192.0.2.1" });
    let mut cluster = Cluster::new(Kind::BGPPeer, spec);
    assert_eq!(cluster.object["status"]["establishedSessions"], Value::Null, "speakers were not listed");
    let sessions = |cluster: &mut Cluster| {
        cluster.write(Kind::BGPPeer);
        let status = &cluster.object["status"];
        let conditions = status["conditions"].as_array().unwrap();
        let condition =
            conditions.iter().find(|condition| condition["type"] == "SessionsEstablished").unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        format!(
            "{} {} {}",
            text(&status["establishedSessions"]),
            text(&condition["status"]),
            text(&condition["reason"])
        )
    };
    cluster.configuration.set_speakers_listed();
    assert_eq!(sessions(&mut cluster), "0/0 False NoSpeaker");
    cluster.configuration.set_peer_sessions("a", announcement::PeerSessions { established: 5, wanted: 6 });
    assert_eq!(sessions(&mut cluster), "5/6 False NotEstablished");
    cluster.configuration.set_peer_sessions("a", announcement::PeerSessions { established: 6, wanted: 6 });
    assert_eq!(sessions(&mut cluster), "6/6 True AllEstablished");
    assert_eq!(kstatus(&cluster.object), "Current");
}
