//! The finalizer that protects a pool in use, and the condition that names its users.

use fairlead_crds::kinds::{Kind, ObjectRef};
use fairlead_crds::names::POOL_PROTECTION;
use fairlead_crds::resolve::InForce;
use fairlead_crds::store::ObjectChange;
use fairlead_crds::v1beta1::{IPAddressPool, IPClaim};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::objects::{apply, configuration, configuration_of, now, patched, pool_object, resolve};
use super::*;
use crate::ipam::{AllocationRequest, Ipam, Sharing};
use crate::reconcile::objects::{Configuration, ObjectPart};

const OTHER: &str = "example.org/other";

/// Returns pool p with these finalizers.
fn object(reclaim: &str, finalizers: &[&str], deleting: bool) -> IPAddressPool {
    let mut pool = pool_object("p", &["1.2.3.0-1.2.3.9"]);
    pool.spec.reclaim = reclaim.into();
    pool.metadata.finalizers = Some(finalizers.iter().map(|one| (*one).to_owned()).collect());
    pool.metadata.deletion_timestamp = deleting.then(|| Time(now()));
    pool
}

/// Returns an allocator in which so many Services and claims hold addresses of the pools, which were open
/// before.
fn used(configuration: &mut Configuration, services: usize, claims: usize) -> Ipam {
    let mut ipam = Ipam::default();
    let Config { mut pools, refused_pools, .. } = resolve(configuration);
    let edited = pools.clone();
    pools.values_mut().for_each(|pool| pool.closed = None);
    ipam.set_pools(&pools, &refused_pools);
    for n in 0..services {
        let service = fairlead_test_support::service(&format!("s{n}"));
        let (labels, sharing) = (Labels::new(), Sharing::of(&service));
        let allocation_request =
            AllocationRequest { service: &service.key, labels: &labels, namespace_labels: None, sharing };
        ipam.allocate(&allocation_request, crate::ipam::Families::One(crate::ipam::Family::V4)).unwrap();
    }
    for n in 0..claims {
        let claim: IPClaim = serde_json::from_value(json!({
            "apiVersion": "fairlead.dev/v1beta1", "kind": "IPClaim",
            "metadata": { "namespace": "default", "name": format!("c{n}") },
            "spec": { "serviceName": format!("for-c{n}"), "pool": "p" },
        }))
        .unwrap();
        let claim = Claim::from_object(&claim);
        ipam.claim(&claim, claim.request.as_ref().unwrap(), None).unwrap();
    }
    ipam.set_pools(&edited, &refused_pools);
    ipam
}

/// A name, a pool, the numbers of Services and claims that use it, and the expected finalizers in the patch.
type Case<'a> = (&'a str, IPAddressPool, (usize, usize), Option<&'a [&'a str]>);

#[test]
fn pool_in_use_that_retains_has_the_finalizer() {
    let ours = POOL_PROTECTION;
    #[rustfmt::skip]
    let cases: &[Case<'_>] = &[
        ("not in use", object("Retain", &[], false), (0, 0), None),
        ("a Service holds an address", object("Retain", &[], false), (1, 0), Some(&[ours])),
        ("a claim has reserved an address", object("Retain", &[], false), (0, 1), Some(&[ours])),
        ("it already has the finalizer", object("Retain", &[ours], false), (1, 1), None),
        ("it has another finalizer", object("Retain", &[OTHER], false), (1, 0), Some(&[OTHER, ours])),
        ("no longer in use", object("Retain", &[OTHER, ours], false), (0, 0), Some(&[OTHER])),
        ("reclaim is Reassign", object("Reassign", &[], false), (1, 1), None),
        ("reclaim changed to Reassign", object("Reassign", &[ours, OTHER], false), (1, 0), Some(&[OTHER])),
        ("deleted and in use", object("Retain", &[ours], true), (1, 0), None),
        ("deleted and claimed", object("Retain", &[ours], true), (0, 1), None),
        ("deleted and free", object("Retain", &[ours, OTHER], true), (0, 0), Some(&[OTHER])),
        ("deleted before it had the finalizer", object("Retain", &[OTHER], true), (1, 0), None),
    ];
    for (name, pool, (services, claims), expected) in cases {
        let mut configuration = configuration(vec![pool.clone()]);
        let ipam = used(&mut configuration, *services, *claims);
        let patch = configuration.finalizer_patch("p", &ipam);
        let finalizers = patch.as_ref().map(|patch| patch.body["metadata"]["finalizers"].clone());
        assert_eq!(finalizers, expected.map(|all| json!(all)), "{name}");
        if let Some(patch) = patch {
            assert_eq!((patch.part, patch.resource_version.as_str()), (ObjectPart::Finalizers, "1"));
            // The next status patch uses the written version, before and after the watch delivers it.
            configuration.finalizers_written("p", &patch.body, "2");
            assert_eq!(configuration.finalizer_patch("p", &ipam), None, "{name}: written once");
            let status = configuration.pool_status_patch("p", &ipam, now()).unwrap();
            assert_eq!((status.part, status.resource_version.as_str()), (ObjectPart::Status, "2"));
            configuration.change(ObjectChange::Apply(patched(pool, &patch)));
            resolve(&mut configuration);
            assert_eq!(configuration.finalizer_patch("p", &ipam), None, "{name}: written once");
        }
    }
}

#[test]
fn finalizer_result_older_than_the_watch_is_ignored() {
    let pool = object("Retain", &[], false);
    let mut configuration = configuration(vec![pool.clone()]);
    let ipam = used(&mut configuration, 1, 0);
    let finalizers = configuration.finalizer_patch("p", &ipam).unwrap();
    // The watch delivers the written version before the response arrives, and then the status is written.
    let stored = patched(&pool, &finalizers);
    configuration.change(ObjectChange::Apply(stored.clone()));
    let status = configuration.pool_status_patch("p", &ipam, now()).unwrap();
    let mut stored = patched(&stored, &status);
    stored.metadata.resource_version = Some("3".into());
    configuration.change(ObjectChange::Apply(stored));
    configuration.finalizers_written("p", &finalizers.body, "2");
    let ipam = used(&mut configuration, 2, 0);
    assert_eq!(configuration.pool_status_patch("p", &ipam, now()).unwrap().resource_version, "3");
}

/// Returns the conditions of `pool` after all patches, with so many Services and claims that use it.
fn conditions(pool: IPAddressPool, services: usize, claims: usize) -> Vec<String> {
    let mut configuration = configuration(vec![pool.clone()]);
    let ipam = used(&mut configuration, services, claims);
    let mut pool = pool;
    for round in 0.. {
        assert!(round < 3, "the writes do not end");
        let Some(patch) = configuration.pool_status_patch("p", &ipam, now()) else { break };
        pool = patched(&pool, &patch);
        configuration.change(ObjectChange::Apply(pool.clone()));
        resolve(&mut configuration);
    }
    let conditions = pool.status.unwrap_or_default().conditions.into_iter();
    conditions.map(|c| format!("{} {}/{}: {}", c.type_(), c.status(), c.reason(), c.message())).collect()
}

#[test]
fn waiting_deletion_names_services_and_claims() {
    let deleting = || object("Retain", &[POOL_PROTECTION], true);
    let last = |services, claims| conditions(deleting(), services, claims).pop().unwrap();
    assert_eq!(last(1, 0), "InUse True/AddressesHeld: deletion waits for 1 Service: default/s0");
    assert_eq!(
        last(2, 1),
        "InUse True/AddressesHeld: deletion waits for 2 Services: default/s0, default/s1; \
         1 IPClaim: default/c0"
    );
    assert_eq!(
        last(7, 0),
        "InUse True/AddressesHeld: deletion waits for 7 Services: default/s0, default/s1, default/s2, \
         default/s3, default/s4 and 2 more"
    );
    let open = conditions(object("Retain", &[], false), 1, 0);
    assert!(open.iter().all(|condition| !condition.starts_with("InUse")), "{open:?}");
}

#[test]
fn pool_without_free_address_is_exhausted() {
    let exhausted = |services, claims| {
        let all = conditions(object("Reassign", &[], false), services, claims);
        all.into_iter().find(|condition| condition.starts_with("Exhausted")).unwrap()
    };
    assert_eq!(exhausted(9, 0), "Exhausted False/AddressesAvailable: ");
    assert_eq!(exhausted(10, 0), "Exhausted True/NoFreeAddress: no free IPv4 address");
    assert_eq!(
        exhausted(8, 2),
        "Exhausted True/NoFreeAddress: no free IPv4 address",
        "reserved addresses are not free"
    );
}

/// Service `s` holds 1.2.3.0 of pool p. Then the pools are replaced with `objects`.
fn overlapped(objects: Vec<IPAddressPool>) -> (World, Configuration) {
    let mut world = World::new([fairlead_test_support::pool("p", &["1.2.3.0-1.2.3.9"])]);
    world.apply(service("s", json!({})));
    let mut configuration = configuration(objects);
    let Config { pools, refused_pools, .. } = resolve(&mut configuration);
    assert!(refused_pools.contains_key("p"));
    (world.config.pools, world.config.refused_pools) = (pools, refused_pools);
    world.reconfigure();
    (world, configuration)
}

#[test]
fn deleted_pool_with_other_owner_of_range_reassigns_at_once() {
    let q = || pool_object("q", &["1.2.3.0-1.2.3.9"]);
    for (reclaim, of, finalizers) in [("Retain", "p", None), ("Reassign", "q", Some(json!([])))] {
        let (mut world, configuration) = overlapped(vec![object(reclaim, &[POOL_PROTECTION], true), q()]);
        for _ in 0..2 {
            let held = (world.result("s"), world.pool_of("s"));
            assert_eq!(held, ("1.2.3.0".to_owned(), Some(of.to_owned())), "{reclaim}");
            let patch = configuration.finalizer_patch("p", world.index.ipam());
            let patched = patch.map(|patch| patch.body["metadata"]["finalizers"].clone());
            assert_eq!(patched, finalizers, "{reclaim}");
            world.take_writes();
            world.restart();
            assert_eq!(world.take_writes(), 0, "{reclaim}");
        }
    }
}

#[test]
fn refused_pool_that_reassigns_gets_no_finalizer() {
    let older = pool_object("a", &["1.2.3.0-1.2.3.9"]);
    for (reclaim, protected) in [("Retain", true), ("Reassign", false)] {
        let (world, configuration) = overlapped(vec![object(reclaim, &[], false), older.clone()]);
        assert_eq!(
            world.pool_of("s").as_deref(),
            Some("p"),
            "{reclaim}: the holder of a refused pool keeps its address"
        );
        let patch = configuration.finalizer_patch("p", world.index.ipam());
        assert_eq!(patch.is_some(), protected, "{reclaim}");
    }
}

#[test]
fn deletion_without_protection_has_no_in_use_condition() {
    let cases = [
        ("not in use", object("Retain", &[OTHER], true), 0),
        ("no longer in use", object("Retain", &[POOL_PROTECTION, OTHER], true), 0),
        ("reclaim is Reassign", object("Reassign", &[OTHER], true), 1),
        ("deleted before it had the finalizer", object("Retain", &[OTHER], true), 1),
    ];
    for (name, pool, services) in cases {
        let all = conditions(pool, services, 0);
        assert!(all.iter().all(|condition| !condition.starts_with("InUse")), "{name}: {all:?}");
    }
}

#[test]
fn removal_of_fairlead_takes_the_finalizer_away() {
    let ours = POOL_PROTECTION;
    // (namespace, definition, the pool is being deleted, the finalizer stays)
    let table = [
        (false, false, true, true),
        (false, true, true, false),
        (false, true, false, true),
        (true, false, false, false),
        (true, false, true, false),
    ];
    for (namespace, definition, deleting, stays) in table {
        let mut configuration = configuration(vec![object("Retain", &[OTHER, ours], deleting)]);
        let ipam = used(&mut configuration, 1, 1);
        let removal = Removal { namespace, pools: definition, ..Removal::default() };
        assert_eq!(configuration.set_removal(removal), removal != Removal::default());
        assert!(!configuration.set_removal(removal), "it is the same");
        let patch = configuration.finalizer_patch("p", &ipam);
        let finalizers = patch.map(|patch| patch.body["metadata"]["finalizers"].clone());
        assert_eq!(finalizers, (!stays).then(|| json!([OTHER])), "{removal:?}, {deleting}");
    }
}

/// The class of the instance, the removal, the finalizers of the object, whether it is being deleted and
/// whether others refer to it; the expected finalizers in the patch, and whether the deletion waits.
type ReferenceCase<'a> = (Option<&'a str>, Removal, &'a [&'a str], bool, bool, (Option<&'a [&'a str]>, bool));

#[test]
fn referenced_profile_and_community_have_the_finalizer() {
    let object = |kind: &str, name: &str, spec: Value| {
        json!({
            "kind": kind, "metadata": { "name": name, "uid": name, "generation": 1, "resourceVersion": "1" },
            "spec": spec,
        })
    };
    let peer = object(
        "BGPPeer",
        "r",
        json!({ "myASN": 1, "peerASN": 2, "peerAddress": "192.0.2.1", "bfdProfile": "b" }),
    );
    let ad = object("BGPAdvertisement", "ad", json!({ "communities": ["red"] }));
    let profile = object("BFDProfile", "b", json!({}));
    let community = object("Community", "c", json!({ "communities": [{ "name": "red", "value": "1:1" }] }));
    let (ours, none) = ("ours", Removal::default());
    let namespace = Removal { namespace: true, ..none };
    let definitions = Removal { bfd_profiles: true, communities: true, ..none };
    #[rustfmt::skip]
    let table: [ReferenceCase<'_>; 16] = [
        (None, none, &[], false, false, (None, false)),
        (None, none, &[OTHER], false, true, (Some(&[OTHER, ours]), false)),
        (None, none, &[ours], false, true, (None, false)),
        (None, none, &[ours], false, false, (Some(&[]), false)),
        (None, none, &[ours, OTHER], true, true, (None, true)),
        (None, none, &[OTHER], true, true, (None, false)),
        (None, none, &[ours], true, false, (Some(&[]), false)),
        (Some("a"), none, &[], false, true, (None, false)),
        (Some("a"), none, &[ours], false, false, (None, false)),
        (Some("a"), none, &[ours, OTHER], true, false, (Some(&[OTHER]), false)),
        (Some("a"), none, &[ours], true, true, (None, true)),
        (Some("a"), namespace, &[ours], true, true, (None, true)),
        (Some("a"), definitions, &[ours], true, true, (Some(&[]), true)),
        (None, namespace, &[ours], false, true, (Some(&[]), false)),
        (None, definitions, &[ours], false, true, (None, false)),
        (None, definitions, &[ours], true, true, (Some(&[]), true)),
    ];
    for (class, removal, finalizers, is_deleted, is_used, (expected, waits)) in table {
        for mut target in [profile.clone(), community.clone()] {
            let kind = Kind::parse(target["kind"].as_str().unwrap()).unwrap();
            let real = |names: &[&str]| -> Vec<String> {
                let own = kind.finalizer().unwrap();
                names.iter().map(|name| if *name == ours { own } else { name }.to_owned()).collect()
            };
            target["metadata"]["finalizers"] = json!(real(finalizers));
            if is_deleted {
                target["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            }
            let mut configuration = configuration_of(class);
            let mut objects = vec![target.clone()];
            objects.extend(is_used.then(|| [peer.clone(), ad.clone()]).into_iter().flatten());
            for object in objects {
                apply(&mut configuration, object);
            }
            configuration.resolve(InForce::ByResolution).unwrap();
            configuration.set_removal(removal);
            let reference = ObjectRef { kind, name: target["metadata"]["name"].as_str().unwrap().to_owned() };
            let what = format!("{class:?} {removal:?} {finalizers:?} {is_deleted} {is_used} {kind}");
            assert_eq!(configuration.referable().collect::<Vec<_>>(), std::slice::from_ref(&reference));
            let patch = configuration.reference_patch(&reference);
            let patched = patch.map(|patch| patch.body["metadata"]["finalizers"].clone());
            assert_eq!(patched, expected.map(|names| json!(real(names))), "{what}");
            let status = configuration.status_patch(&reference, now()).unwrap().body.to_string();
            assert_eq!(status.contains("deletion waits for BGP"), waits, "{what}: {status}");
        }
    }
}
