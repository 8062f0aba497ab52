//! Configuration objects of two instances with different load balancer classes.

use fairlead_crds::configuration_kinds;
use fairlead_crds::kinds::{Kind, ObjectRef};
use fairlead_crds::resolve::InForce;
use fairlead_crds::store::{ConfigurationChange, ObjectChange, trim};
use fairlead_crds::v1beta1::{
    BGPPeer, BGPPeerSpec, IPAddressPool, L2Advertisement as Advertisement, L2AdvertisementSpec,
};

use super::objects::{configuration_of, now, resolve};
use super::*;
use crate::ipam::Ipam;
use crate::reconcile::objects::{Configuration, ObjectPatch};

#[test]
fn status_of_a_peer_is_written_by_the_instance_of_its_class() {
    let peer = |name: &str, class: Option<&str>, address: &str| {
        let spec = BGPPeerSpec {
            my_asn: 64513,
            peer_asn: Some(64512),
            peer_address: Some(address.to_owned()),
            load_balancer_class: class.map(str::to_owned),
            ..BGPPeerSpec::default()
        };
        let mut peer = BGPPeer::new(name, spec);
        peer.metadata.resource_version = Some("1".into());
        peer
    };
    for (class, own) in [(None, "plain"), (Some("example.org/x"), "classed")] {
        let mut configuration = Configuration::new(class);
        macro_rules! list_none {
            ($($kind:ident => $field:ident,)*) => {
                [$(ConfigurationChange::$kind(ObjectChange::Reset(Vec::new()))),*]
            };
        }
        configuration_kinds!(list_none).into_iter().for_each(|change| drop(configuration.apply(change)));
        // Both are refused or accepted by both instances.
        let peers = vec![
            peer("plain", None, "192.0.2.1"),
            peer("classed", Some("example.org/x"), "192.0.2.9"),
            peer("classed-same", Some("example.org/y"), "192.0.2.9"),
        ];
        configuration.change(ObjectChange::Reset(peers));
        configuration
            .change(ObjectChange::Reset(vec![Advertisement::new("ad", L2AdvertisementSpec::default())]));
        resolve(&mut configuration);
        let patches = configuration.status_patches(Timestamp::UNIX_EPOCH);
        let written: Vec<String> = patches
            .iter()
            .filter(|(_, patch)| patch.is_some())
            .map(|(object, _)| object.to_string())
            .collect();
        let own = ObjectRef { kind: Kind::BGPPeer, name: own.to_owned() };
        assert_eq!(written, ["L2Advertisement/ad".to_owned(), own.to_string()], "{class:?}");
        for name in ["plain", "classed", "classed-same"] {
            let object = ObjectRef { kind: Kind::BGPPeer, name: name.to_owned() };
            let patch = configuration.status_patch(&object, Timestamp::UNIX_EPOCH);
            assert_eq!(patch.is_some(), object == own, "{class:?}: {name}");
        }
    }
}

/// Returns an object that the API server stored with this class and generation, with a foreign condition.
fn classed(kind: Kind, class: Option<&str>, generation: i64) -> Value {
    let mut spec = match kind {
        Kind::IPAddressPool => json!({ "addresses": ["192.0.2.0/24"] }),
        _ => json!({ "myASN": 64513, "peerASN": 64512, "peerAddress": "192.0.2.1" }),
    };
    spec["loadBalancerClass"] = json!(class);
    json!({
        "metadata": { "name": "a", "uid": "u", "generation": generation, "resourceVersion": "1",
                      "finalizers": ["example.com/keep"] },
        "spec": spec,
        "status": { "conditions": [{ "type": "example.com/Y", "status": "True" }] },
    })
}

/// Stores an object in the configuration.
fn store(configuration: &mut Configuration, kind: Kind, object: &Value) {
    let change = match kind {
        Kind::IPAddressPool => ConfigurationChange::IPAddressPool(ObjectChange::Apply(trim(
            serde_json::from_value::<IPAddressPool>(object.clone()).unwrap().into(),
        ))),
        _ => ConfigurationChange::BGPPeer(ObjectChange::Apply(trim(
            serde_json::from_value::<BGPPeer>(object.clone()).unwrap().into(),
        ))),
    };
    configuration.apply(change);
    configuration.resolve(InForce::ByResolution);
}

/// Returns the patch of the status of the object `a`.
fn patch_of(configuration: &Configuration, kind: Kind) -> Option<ObjectPatch> {
    match kind {
        Kind::IPAddressPool => configuration.pool_status_patch("a", &Ipam::default(), now()),
        _ => configuration.status_patch(&ObjectRef { kind, name: "a".to_owned() }, now()),
    }
}

/// Changes the class of an object, which increases its generation.
fn reclass(object: &mut Value, class: Option<&str>) {
    object["spec"]["loadBalancerClass"] = json!(class);
    object["metadata"]["generation"] = json!(object["metadata"]["generation"].as_i64().unwrap() + 1);
}

/// Sets the observed generation of the conditions of Fairlead to that of the object, as the instance of its
/// class does.
fn adopt(object: &mut Value) {
    let generation = object["metadata"]["generation"].clone();
    for condition in object["status"]["conditions"].as_array_mut().unwrap() {
        if condition["type"] != json!("example.com/Y") {
            condition["observedGeneration"] = generation.clone();
        }
    }
}

/// Returns an object of the instance with its status and, for a pool, its finalizer.
fn stored_object(configuration: &mut Configuration, kind: Kind) -> Value {
    let mut stored = classed(kind, None, 1);
    store(configuration, kind, &stored);
    merge(&mut stored, &patch_of(configuration, kind).unwrap().body);
    if kind == Kind::IPAddressPool {
        stored["metadata"]["finalizers"] = json!(["example.com/keep", fairlead_crds::names::POOL_PROTECTION]);
    }
    store(configuration, kind, &stored);
    assert_eq!(patch_of(configuration, kind), None, "{kind}: the status is correct");
    stored
}

/// Asserts that the instance writes neither the status nor the finalizers of the object.
#[track_caller]
fn assert_untouched(configuration: &Configuration, kind: Kind, what: &str) {
    assert_eq!(patch_of(configuration, kind), None, "{kind}: {what}");
    assert_eq!(configuration.finalizer_patch("a", &Ipam::default()), None, "{kind}: {what}");
}

#[test]
fn object_that_leaves_the_instance_loses_what_the_instance_wrote() {
    for kind in [Kind::IPAddressPool, Kind::BGPPeer] {
        let mut configuration = configuration_of(None);
        let mut stored = stored_object(&mut configuration, kind);

        // The class changes to one without an instance.
        reclass(&mut stored, Some("example.org/x"));
        store(&mut configuration, kind, &stored);
        let mut cleaned = stored.clone();
        if kind == Kind::IPAddressPool {
            let finalizers = configuration.finalizer_patch("a", &Ipam::default()).unwrap().body;
            assert_eq!(finalizers["metadata"]["finalizers"], json!(["example.com/keep"]));
            assert_eq!(patch_of(&configuration, kind), None, "the finalizer is removed first");
            merge(&mut cleaned, &finalizers);
            store(&mut configuration, kind, &cleaned);
        }
        merge(&mut cleaned, &patch_of(&configuration, kind).unwrap().body);
        assert_eq!(cleaned["status"], classed(kind, None, 1)["status"], "{kind}");
        store(&mut configuration, kind, &cleaned);
        assert_untouched(&configuration, kind, "nothing of this instance is left");
        // An instance that never had the object does not touch it.
        let mut instance = configuration_of(Some("example.org/z"));
        store(&mut instance, kind, &stored);
        assert_untouched(&instance, kind, "the object of others");
        // The object comes back.
        reclass(&mut stored, None);
        store(&mut configuration, kind, &stored);
        let conditions = &patch_of(&configuration, kind).unwrap().body["status"]["conditions"];
        assert!(conditions.as_array().unwrap().len() > 1);
    }
}

#[test]
fn object_that_another_instance_adopted_is_never_touched_again() {
    for kind in [Kind::IPAddressPool, Kind::BGPPeer] {
        // The adoption is observed, or only the edit after it.
        for observes_adoption in [true, false] {
            let mut configuration = configuration_of(None);
            let mut stored = stored_object(&mut configuration, kind);
            reclass(&mut stored, Some("example.org/x"));
            store(&mut configuration, kind, &stored);
            adopt(&mut stored);
            if observes_adoption {
                store(&mut configuration, kind, &stored);
                assert_untouched(&configuration, kind, "adopted");
            }
            stored["metadata"]["generation"] = json!(3);
            store(&mut configuration, kind, &stored);
            assert_untouched(&configuration, kind, "edited");
            adopt(&mut stored);
            store(&mut configuration, kind, &stored);
            // A deletion increases the generation too.
            stored["metadata"]["generation"] = json!(4);
            stored["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            store(&mut configuration, kind, &stored);
            assert_untouched(&configuration, kind, "being deleted");
        }
    }
}

#[test]
fn object_that_left_and_is_deleted_before_its_adoption_is_released() {
    let (kind, mut configuration) = (Kind::IPAddressPool, configuration_of(None));
    let mut stored = stored_object(&mut configuration, kind);
    reclass(&mut stored, Some("example.org/x"));
    stored["metadata"]["generation"] = json!(3);
    stored["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    store(&mut configuration, kind, &stored);
    let patch = configuration.finalizer_patch("a", &Ipam::default()).unwrap();
    assert_eq!(patch.body["metadata"]["finalizers"], json!(["example.com/keep"]));
}

#[test]
fn status_of_the_other_instance_stays_if_the_object_only_passed() {
    for kind in [Kind::IPAddressPool, Kind::BGPPeer] {
        let mut configuration = configuration_of(None);
        let mut stored = stored_object(&mut configuration, kind);
        reclass(&mut stored, Some("example.org/x"));
        adopt(&mut stored);
        store(&mut configuration, kind, &stored);
        // The object comes back, and leaves again before this instance has written its status.
        reclass(&mut stored, None);
        store(&mut configuration, kind, &stored);
        let written = patch_of(&configuration, kind).unwrap();
        reclass(&mut stored, Some("example.org/x"));
        store(&mut configuration, kind, &stored);
        assert_untouched(&configuration, kind, "the status is that of the other instance");
        // The object comes back, and leaves after this instance has written its status.
        reclass(&mut stored, None);
        store(&mut configuration, kind, &stored);
        merge(&mut stored, &written.body);
        adopt(&mut stored);
        store(&mut configuration, kind, &stored);
        reclass(&mut stored, Some("example.org/x"));
        stored["metadata"]["finalizers"] = json!(["example.com/keep"]);
        store(&mut configuration, kind, &stored);
        assert!(patch_of(&configuration, kind).is_some(), "{kind}");
    }
}

#[test]
fn finalizer_of_the_other_instance_stays() {
    let (kind, mut configuration) = (Kind::IPAddressPool, configuration_of(None));
    let mut stored = stored_object(&mut configuration, kind);
    reclass(&mut stored, Some("example.org/x"));
    let finalizers = stored["metadata"]["finalizers"].take();
    store(&mut configuration, kind, &stored);
    assert!(patch_of(&configuration, kind).is_some(), "this instance has removed its finalizer");
    // The other instance adds the finalizer before it writes the status.
    stored["metadata"]["finalizers"] = finalizers;
    store(&mut configuration, kind, &stored);
    assert_untouched(&configuration, kind, "adopted");
}

#[test]
fn object_created_under_the_name_of_one_that_left_is_another_one() {
    for kind in [Kind::IPAddressPool, Kind::BGPPeer] {
        let mut configuration = configuration_of(None);
        let mut stored = stored_object(&mut configuration, kind);
        reclass(&mut stored, Some("example.org/x"));
        store(&mut configuration, kind, &stored);
        stored["metadata"]["uid"] = json!("v");
        stored["metadata"]["generation"] = json!(1);
        store(&mut configuration, kind, &stored);
        assert_untouched(&configuration, kind, "another UID");
    }
}

#[test]
fn pool_that_arrives_replaces_the_cooldowns_of_the_other_instance() {
    let (kind, mut configuration, ipam) = (Kind::IPAddressPool, configuration_of(None), Ipam::default());
    let now = now();
    let recorded =
        RecordedCooldown { owner: Some("u".to_owned()), entries: vec![format!("192.0.2.1 a/b {now}")] };
    configuration.cooldowns_listed(Default::default());
    let mut stored = classed(kind, Some("example.org/x"), 1);
    store(&mut configuration, kind, &stored);
    assert_eq!(configuration.cooldown_patch("a", &ipam), None, "the pool of another instance");
    reclass(&mut stored, None);
    store(&mut configuration, kind, &stored);
    let patch = configuration.cooldown_patch("a", &ipam).unwrap();
    assert_eq!(patch["spec"]["released"], json!([]));
    configuration.cooldown_written("a", &patch);
    assert_eq!(configuration.cooldown_patch("a", &ipam), None, "written");
    // It leaves and comes back.
    for class in [Some("example.org/x"), None] {
        reclass(&mut stored, class);
        store(&mut configuration, kind, &stored);
        assert_eq!(configuration.cooldown_patch("a", &ipam).is_some(), class.is_none());
    }
    // A controller that starts to lead afterwards continues the recorded cool-downs.
    configuration.cooldowns_listed([("a".to_owned(), recorded)].into());
    assert_eq!(configuration.released().len(), 1);
}
