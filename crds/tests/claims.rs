//! Claims: what the API server says at `kubectl apply`, and what is read of the same object, were it there nevertheless.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use fairlead_crds::model::claim::{Claim, Wanted};
use fairlead_crds::model::family::Family::{V4, V6};
use fairlead_crds::v1beta1;
use serde_json::{Value, json};

fn read(object: Value) -> Claim {
    Claim::from_object(&serde_json::from_value::<v1beta1::IPClaim>(object).unwrap())
}

fn object(spec: &str) -> Value {
    let mut object = common::object("IPClaim", "it", 1, spec);
    object["metadata"]["namespace"] = json!("shop");
    object
}

#[test]
fn what_can_be_claimed() {
    let of_pool =
        |families: &[_]| Some(Wanted::OfPool { pool: "lan".to_owned(), families: families.to_vec() });
    let these = |ips: &[&str]| Some(Wanted::Addresses(ips.iter().map(|ip| ip.parse().unwrap()).collect()));
    let table = [
        ("{serviceName: web, addresses: [192.0.2.7]}", "", these(&["192.0.2.7"])),
        (
            "{serviceName: web, addresses: ['2001:db8::7', 192.0.2.7]}",
            "",
            these(&["2001:db8::7", "192.0.2.7"]),
        ),
        ("{serviceName: web, pool: lan}", "", of_pool(&[V4])),
        ("{serviceName: web, pool: lan, ipFamilies: [IPv6]}", "", of_pool(&[V6])),
        ("{serviceName: web, pool: lan, ipFamilies: [IPv6, IPv4]}", "", of_pool(&[V6, V4])),
        ("{serviceName: web}", "give either addresses or the pool", None),
        ("{serviceName: web, addresses: []}", "give either addresses or the pool", None),
        ("{serviceName: web, pool: lan, addresses: [192.0.2.7]}", "give either addresses or the pool", None),
        ("{pool: lan}", "serviceName", None),
        ("{serviceName: '', pool: lan}", "serviceName", None),
        ("{serviceName: web, addresses: [web]}", "each address must be an IP address", None),
        ("{serviceName: web, addresses: [192.0.2.7, 192.0.2.8]}", "different address families", None),
        (
            "{serviceName: web, addresses: [192.0.2.7], ipFamilies: [IPv4]}",
            "ipFamilies says",
            these(&["192.0.2.7"]),
        ),
        ("{serviceName: web, pool: lan, ipFamilies: [IPv5]}", "ipFamilies", None),
    ];
    for (spec, complaint, wanted) in table {
        let said = common::apply(&object(spec));
        match complaint {
            "" => assert_eq!(said, Ok(()), "{spec}"),
            text => assert!(said.expect_err(spec).join("\n").contains(text), "{spec}"),
        }
        assert_eq!(read(object(spec)).wanted.ok(), wanted, "{spec}");
    }
}

#[test]
fn a_claim_is_for_a_service_of_its_own_namespace() {
    let claim = read(object("{serviceName: web, pool: lan}"));
    assert_eq!((claim.key.to_string(), claim.service.to_string()), ("shop/it".into(), "shop/web".into()));
}

#[test]
fn what_was_chosen_counts_as_long_as_the_pool_is_the_same() {
    let mut object = object("{serviceName: web, pool: lan}");
    object["status"] = json!({ "pool": "lan", "addresses": ["192.0.2.7", "nonsense"] });
    assert_eq!(read(object.clone()).shown(), ["192.0.2.7".parse::<std::net::IpAddr>().unwrap()]);
    object["spec"]["pool"] = json!("other");
    assert!(read(object).shown().is_empty());
}
