//! The status of configuration objects.

use std::collections::BTreeSet;

use fairlead_crds::configuration_kinds;
use fairlead_crds::kinds::{ConfigurationObject, Kind, ObjectRef};
use fairlead_crds::model::range::IpRange;
use fairlead_crds::resolve::InForce;
use fairlead_crds::store::{ConfigurationChange, ObjectChange, trim};
use fairlead_crds::v1beta1::{
    BGPPeer, IPAddressPool, IPAddressPoolSpec, L2Advertisement as Advertisement, L2AdvertisementSpec,
};
use kube::core::ResourceExt;

use super::*;
use crate::ipam::{Families, Family, Ipam, NodeNetwork};
use crate::reconcile::namespaces::Namespaces;
use crate::reconcile::objects::{Configuration, ObjectPatch};

pub(super) fn pool_object(name: &str, addresses: &[&str]) -> IPAddressPool {
    let addresses = addresses.iter().map(|a| (*a).to_owned()).collect();
    let mut pool = IPAddressPool::new(
        name,
        IPAddressPoolSpec {
            addresses,
            auto_assign: true,
            reclaim: "Reassign".into(),
            ..IPAddressPoolSpec::default()
        },
    );
    pool.metadata.resource_version = Some("1".into());
    pool.metadata.generation = Some(1);
    pool.metadata.uid = Some(format!("uid-{name}"));
    pool
}

/// Returns a configuration in which every kind was listed and only these pools exist.
pub(super) fn configuration(pools: Vec<IPAddressPool>) -> Configuration {
    macro_rules! list_none {
        ($($kind:ident => $field:ident,)*) => {
            [$(ConfigurationChange::$kind(ObjectChange::Reset(Vec::new()))),*]
        };
    }
    let mut configuration = Configuration::default();
    for change in configuration_kinds!(list_none) {
        if !matches!(change, ConfigurationChange::IPAddressPool(_)) {
            configuration.apply(change);
        }
    }
    assert!(configuration.resolve(InForce::ByConditions).is_none(), "pools are not listed yet");
    assert!(configuration.change(ObjectChange::Reset(pools)));
    resolve(&mut configuration);
    configuration
}

/// Returns the configuration of the instance with this class, in which every kind was listed and no object
/// exists.
pub(super) fn configuration_of(class: Option<&str>) -> Configuration {
    macro_rules! list_none {
        ($($kind:ident => $field:ident,)*) => {
            [$(ConfigurationChange::$kind(ObjectChange::Reset(Vec::new()))),*]
        };
    }
    let mut configuration = Configuration::new(class);
    for change in configuration_kinds!(list_none) {
        configuration.apply(change);
    }
    configuration
}

/// Applies an object of any kind.
pub(super) fn apply(configuration: &mut Configuration, object: Value) {
    macro_rules! apply {
        ($($kind:ident => $field:ident,)*) => {
            match Kind::parse(object["kind"].as_str().unwrap()).unwrap() {
                $(Kind::$kind => configuration.change::<fairlead_crds::v1beta1::$kind>(
                    ObjectChange::Apply(serde_json::from_value(object).unwrap()),
                ),)*
            }
        };
    }
    assert!(configuration_kinds!(apply));
}

/// Resolves the objects.
pub(super) fn resolve(configuration: &mut Configuration) -> Config {
    configuration.resolve(InForce::ByConditions).unwrap();
    configuration.resolution().config.clone()
}

pub(super) fn ipam(configuration: &mut Configuration) -> Ipam {
    let mut ipam = Ipam::default();
    let config = resolve(configuration);
    ipam.set_pools(&config.pools, &config.refused_pools);
    ipam
}

pub(super) fn now() -> Timestamp {
    Timestamp::from_second(1_700_000_000).unwrap()
}

/// Returns the pool that the API server stores after the patch.
pub(super) fn patched(pool: &IPAddressPool, patch: &ObjectPatch) -> IPAddressPool {
    let mut value = serde_json::to_value(pool).unwrap();
    merge(&mut value, &patch.body);
    value["metadata"]["resourceVersion"] = json!("2");
    serde_json::from_value(value).unwrap()
}

#[test]
fn pool_status_has_counts_and_conditions() {
    let object = pool_object("p", &["10.0.0.0/30", "fd00::/64"]);
    let mut configuration = configuration(vec![object.clone()]);
    let mut ipam = ipam(&mut configuration);
    let service = fairlead_test_support::service("s");
    let namespaces = Namespaces::default();
    ipam.allocate(&namespaces.allocation_request(&service), Families::One(Family::V4)).unwrap();
    let patch = configuration.pool_status_patch("p", &ipam, now()).unwrap();
    assert_eq!(
        patch.body,
        json!({
            "metadata": { "resourceVersion": "1" },
            "status": {
                "observedGeneration": 1, "free": "3,>=2^63",
                "totalIPv4": 4, "assignedIPv4": 1, "availableIPv4": 3, "retainedIPv4": 0, "reservedIPv4": 0,
                "totalIPv6": i64::MAX, "assignedIPv6": 0, "availableIPv6": i64::MAX,
                "retainedIPv6": 0, "reservedIPv6": 0,
                "conditions": [
                    {
                        "type": "Accepted", "status": "True", "reason": "Accepted", "message": "",
                        "lastTransitionTime": "2023-11-14T22:13:20Z", "observedGeneration": 1,
                    },
                    {
                        "type": "Ready", "status": "True", "reason": "Accepted", "message": "",
                        "lastTransitionTime": "2023-11-14T22:13:20Z", "observedGeneration": 1,
                    },
                    {
                        "type": "Exhausted", "status": "False", "reason": "AddressesAvailable", "message": "",
                        "lastTransitionTime": "2023-11-14T22:13:20Z", "observedGeneration": 1,
                    },
                ],
            },
        })
    );
    let object = patched(&object, &patch);
    assert!(
        !configuration.change(ObjectChange::Apply(trim(object.clone()))),
        "a status is not part of the configuration"
    );
    assert_eq!(configuration.pool_status_patch("p", &ipam, Timestamp::now()), None, "the status is correct");

    let mut edited = object.clone();
    edited.status.as_mut().unwrap().assigned_ipv4 = Some(77);
    edited.status.as_mut().unwrap().conditions.clear();
    assert!(!configuration.change(ObjectChange::Apply(edited.clone())));
    let patch = configuration.pool_status_patch("p", &ipam, now()).unwrap();
    assert_eq!(patched(&edited, &patch).status, object.status, "a manual edit of the status is corrected");
}

#[test]
fn pool_with_addresses_of_the_cluster_is_accepted_with_warning() {
    let range =
        |first: &str, last: &str| IpRange::new(first.parse().unwrap(), last.parse().unwrap()).unwrap();
    let network = |addresses: &[&str], pods: &[IpRange]| NodeNetwork {
        addresses: addresses.iter().map(|ip| ip.parse().unwrap()).collect(),
        pod_ranges: pods.iter().copied().collect(),
    };
    let table = [
        (network(&["10.0.1.1"], &[range("10.244.1.0", "10.244.1.255")]), "Accepted", vec![]),
        (
            network(&["10.0.0.2", "fd00::2"], &[]),
            "NodeAddress",
            vec!["10.0.0.2 of Node n1", "fd00::2 of Node n1"],
        ),
        (network(&[], &[range("10.0.0.3", "10.0.0.9")]), "PodRange", vec!["10.0.0.3-10.0.0.9 of Node n1"]),
        (network(&[], &[range("fd00::", "fd00::ff")]), "PodRange", vec!["Node n1"]),
        (
            network(&["10.0.0.2"], &[range("10.0.0.3", "10.0.0.9")]),
            "NodeAddress",
            vec!["10.0.0.2 of Node n1", "overlaps the Pod range"],
        ),
    ];
    for (network, reason, texts) in table {
        let mut configuration = configuration(vec![pool_object("p", &["10.0.0.0/30", "fd00::/64"])]);
        let mut ipam = ipam(&mut configuration);
        ipam.set_node("n1", network.clone());
        let patch = configuration.pool_status_patch("p", &ipam, now()).unwrap();
        let condition = &patch.body["status"]["conditions"][0];
        assert_eq!(
            (&condition["status"], &condition["reason"]),
            (&json!("True"), &json!(reason)),
            "{network:?}"
        );
        let message = condition["message"].as_str().unwrap();
        assert!(texts.iter().all(|text| message.contains(text)), "{message}");
        // Only the pools that it concerns are evaluated.
        let change = ipam.set_node("n1", NodeNetwork::default());
        assert_eq!(change.pools.is_empty(), reason == "Accepted", "{network:?}");
    }
}

#[test]
fn pool_that_overlaps_a_service_range_is_accepted_with_warning() {
    let range = |cidr: &str| IpRange::parse_cidr(cidr).unwrap();
    let overlap = "overlaps the Service range 10.0.0.2-10.0.0.3 of ServiceCIDR services: exclude it";
    let table = [
        (vec!["10.0.0.4/30", "fd01::/108"], "Accepted", String::new()),
        (vec!["10.0.0.2/31", "fd01::/108"], "ServiceRange", format!("10.0.0.0-10.0.0.3 {overlap}")),
        (
            vec!["fd00::/108"],
            "ServiceRange",
            "fd00::-fd00::ffff:ffff:ffff:ffff overlaps the Service range fd00::-fd00::f:ffff of ServiceCIDR \
             services: exclude it"
                .to_owned(),
        ),
    ];
    for (ranges, reason, message) in table {
        let mut configuration = configuration(vec![pool_object("p", &["10.0.0.0/30", "fd00::/64"])]);
        let mut ipam = ipam(&mut configuration);
        let condition = |ipam: &Ipam| {
            let patch = configuration.pool_status_patch("p", ipam, now()).unwrap();
            patch.body["status"]["conditions"][0].clone()
        };
        let ranges: BTreeSet<IpRange> = ranges.into_iter().map(range).collect();
        ipam.set_service_ranges("other", [range("192.0.2.0/24")].into());
        let touched = ipam.set_service_ranges("services", ranges.clone());
        assert_eq!(touched.is_empty(), reason == "Accepted", "only the pools that it concerns are evaluated");
        let warned = condition(&ipam);
        assert_eq!(
            (&warned["status"], &warned["reason"], &warned["message"]),
            (&json!("True"), &json!(reason), &json!(message))
        );
        assert!(ipam.set_service_ranges("services", ranges).is_empty(), "no change");
        // A Service may get an address of the range.
        let service = fairlead_test_support::service("s");
        let namespaces = Namespaces::default();
        assert!(ipam.allocate(&namespaces.allocation_request(&service), Families::One(Family::V4)).is_ok());
        // The addresses of Nodes are the first warning.
        let node = NodeNetwork { addresses: ["10.0.0.3".parse().unwrap()].into(), ..NodeNetwork::default() };
        ipam.set_node("n1", node);
        let both = condition(&ipam);
        assert_eq!(both["reason"], "NodeAddress");
        assert!(both["message"].as_str().unwrap().contains(&message), "{both}");
        ipam.set_node("n1", NodeNetwork::default());
        assert_eq!(ipam.set_service_ranges("services", BTreeSet::new()), touched);
        assert_eq!(condition(&ipam)["reason"], "Accepted");
    }
}

#[test]
fn refused_pool_names_the_error_and_others_stay_in_force() {
    let good = pool_object("a-good", &["10.0.0.0/30"]);
    let bad = pool_object("b-bad", &["10.0.0.9-10.0.0.1"]);
    let mut configuration = configuration(vec![good, bad.clone()]);
    let ipam = ipam(&mut configuration);
    assert!(ipam.pool("a-good").is_some() && ipam.pool("b-bad").is_none());
    let patch = configuration.pool_status_patch("b-bad", &ipam, now()).unwrap();
    let condition = &patch.body["status"]["conditions"][0];
    assert_eq!(condition["status"], "False");
    assert!(condition["message"].as_str().unwrap().contains("10.0.0.9"), "{condition}");
    let mut corrected = patched(&bad, &patch);
    corrected.spec.addresses = vec!["10.0.1.0/30".into()];
    corrected.metadata.generation = Some(2);
    assert!(configuration.change(ObjectChange::Apply(corrected)));
    resolve(&mut configuration);
    let later = Timestamp::from_second(1_700_000_100).unwrap();
    let condition =
        configuration.pool_status_patch("b-bad", &ipam, later).unwrap().body["status"]["conditions"][0]
            .clone();
    assert_eq!(
        (&condition["status"], &condition["lastTransitionTime"]),
        (&json!("True"), &json!("2023-11-14T22:15:00Z"))
    );
}

#[test]
fn advertisement_status_is_written_once() {
    let mut configuration = configuration(vec![pool_object("p", &["10.0.0.0/30"])]);
    let mut ad = Advertisement::new("ad", L2AdvertisementSpec::default());
    ad.metadata.resource_version = Some("5".into());
    assert!(configuration.change(ObjectChange::Apply(ad.clone())));
    resolve(&mut configuration);
    let patches = configuration.status_patches(now());
    let [(object, Some(patch))] = patches.as_slice() else { panic!("{patches:?}") };
    assert_eq!((object, &patch.object), (&ad.reference(), object));
    assert_eq!((object.to_string().as_str(), patch.resource_version.as_str()), ("L2Advertisement/ad", "5"));
    ad.status = serde_json::from_value(patch.body["status"].clone()).unwrap();
    assert!(!configuration.change(ObjectChange::Apply(ad.clone())));
    assert_eq!(configuration.status_patches(now()), [(ad.reference(), None)], "the status is correct");
    let key = ObjectKey { namespace: String::new(), name: ad.name_any() };
    assert!(configuration.change(ObjectChange::<Advertisement>::Delete(key)));
    resolve(&mut configuration);
    assert_eq!(configuration.status_patches(now()), []);
}

#[test]
fn refused_peer_shows_the_form_in_force() {
    let mut configuration = configuration(vec![]);
    let mut stored = json!({
        "metadata": { "name": "r", "uid": "u", "generation": 1, "resourceVersion": "1" },
        "spec": { "myASN": 1, "peerASN": 2, "peerAddress": "192.0.2.1", "holdTime": "9s" },
    });
    let mut write = |stored: &mut Value, spec: Value| {
        merge(
            stored,
            &json!({ "spec": spec, "metadata": { "generation": stored["metadata"]["generation"].as_i64().unwrap() + 1 } }),
        );
        configuration.change(ObjectChange::<BGPPeer>::Apply(serde_json::from_value(stored.clone()).unwrap()));
        configuration.resolve(InForce::ByResolution).unwrap();
        let [(_, patch)] = <[_; 1]>::try_from(configuration.status_patches(now())).unwrap();
        merge(stored, &patch.unwrap().body);
        configuration.change(ObjectChange::<BGPPeer>::Apply(serde_json::from_value(stored.clone()).unwrap()));
        let peer = ObjectRef { kind: Kind::BGPPeer, name: "r".to_owned() };
        assert_eq!(configuration.status_patch(&peer, now()), None, "written once");
        let conditions = stored["status"]["conditions"].as_array().unwrap().iter();
        let conditions = conditions.map(|one| format!("{}={}", one["type"], one["status"]).replace('"', ""));
        (conditions.collect::<Vec<_>>().join(" "), stored["status"]["inForce"].clone())
    };
    let spec = |hold: &str| {
        let defaults = json!({ "disableMP": false, "dualStackAddressFamily": false });
        let mut spec = json!({ "myASN": 1, "peerASN": 2, "peerAddress": "192.0.2.1", "holdTime": hold });
        merge(&mut spec, &defaults);
        spec
    };
    let (first, form) = write(&mut stored, json!({}));
    assert_eq!(
        (first.as_str(), &form["generation"], &form["spec"]),
        ("Accepted=True Ready=True", &json!(2), &spec("9s"))
    );
    let refused = write(&mut stored, json!({ "holdTime": "1s" }));
    assert_eq!(refused, ("Accepted=False InForce=True Ready=False Stalled=True".to_owned(), form));
    let message = stored["status"]["conditions"][1]["message"].as_str().unwrap();
    assert!(message.contains("generation 2,"), "{message}");
    // A field that the new form does not have is removed from the recorded one.
    let (corrected, form) = write(&mut stored, json!({ "holdTime": null, "connectTime": "7s" }));
    let mut expected = spec("");
    merge(&mut expected, &json!({ "holdTime": null, "connectTime": "7s" }));
    assert_eq!(
        (corrected.as_str(), form),
        ("Accepted=True Ready=True", json!({ "generation": 4, "spec": expected }))
    );
}
