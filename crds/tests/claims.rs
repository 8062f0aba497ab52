//! IPClaims: the errors of the API server at `kubectl apply`, and the value that is read from the same
//! object.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use fairlead_crds::model::claim::{Claim, ClaimRequest};
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
fn claim_spec_is_validated_and_read() {
    let from_pool =
        |families: &[_]| Some(ClaimRequest::FromPool { pool: "lan".to_owned(), families: families.to_vec() });
    let these =
        |ips: &[&str]| Some(ClaimRequest::Addresses(ips.iter().map(|ip| ip.parse().unwrap()).collect()));
    let table = [
        ("{serviceName: web, addresses: [192.0.2.7]}", "", these(&["192.0.2.7"])),
        (
            "{serviceName: web, addresses: ['2001:db8::7', 192.0.2.7]}",
            "",
            these(&["2001:db8::7", "192.0.2.7"]),
        ),
        ("{serviceName: web, pool: lan}", "", from_pool(&[V4])),
        ("{serviceName: web, pool: lan, ipFamilies: [IPv6]}", "", from_pool(&[V6])),
        ("{serviceName: web, pool: lan, ipFamilies: [IPv6, IPv4]}", "", from_pool(&[V6, V4])),
        ("{serviceName: web}", "exactly one of addresses and pool", None),
        ("{serviceName: web, addresses: []}", "exactly one of addresses and pool", None),
        ("{serviceName: web, pool: lan, addresses: [192.0.2.7]}", "exactly one of addresses and pool", None),
        ("{pool: lan}", "serviceName", None),
        ("{serviceName: '', pool: lan}", "serviceName", None),
        ("{serviceName: web, addresses: [web]}", "each address must be an IP address", None),
        ("{serviceName: web, addresses: [0.0.0.0]}", "a Service can use", None),
        ("{serviceName: web, addresses: [0.1.2.3]}", "a Service can use", None),
        ("{serviceName: web, addresses: [127.0.0.1]}", "a Service can use", None),
        ("{serviceName: web, addresses: [224.0.0.1]}", "a Service can use", None),
        ("{serviceName: web, addresses: [255.255.255.255]}", "a Service can use", None),
        ("{serviceName: web, addresses: ['::']}", "a Service can use", None),
        ("{serviceName: web, addresses: ['::1']}", "a Service can use", None),
        ("{serviceName: web, addresses: ['ff02::1']}", "a Service can use", None),
        ("{serviceName: web, addresses: ['::ffff:192.0.2.7']}", "must be an IP address", None),
        ("{serviceName: web, addresses: [192.0.2.7, 192.0.2.8]}", "different address families", None),
        (
            "{serviceName: web, addresses: [192.0.2.7], ipFamilies: [IPv4]}",
            "ipFamilies can be set only",
            these(&["192.0.2.7"]),
        ),
        ("{serviceName: web, pool: lan, ipFamilies: [IPv5]}", "ipFamilies", None),
    ];
    for (spec, error, wanted) in table {
        let result = common::apply(&object(spec));
        match error {
            "" => assert_eq!(result, Ok(()), "{spec}"),
            text => assert!(result.expect_err(spec).join("\n").contains(text), "{spec}"),
        }
        assert_eq!(read(object(spec)).request.ok(), wanted, "{spec}");
    }
}

#[test]
fn claim_refers_to_service_in_its_namespace() {
    let claim = read(object("{serviceName: web, pool: lan}"));
    assert_eq!((claim.key.to_string(), claim.service.to_string()), ("shop/it".into(), "shop/web".into()));
}

#[test]
fn status_addresses_of_another_pool_are_ignored() {
    let mut object = object("{serviceName: web, pool: lan}");
    object["status"] = json!({ "pool": "lan", "addresses": ["192.0.2.7", "nonsense"] });
    assert_eq!(read(object.clone()).status_addresses(), ["192.0.2.7".parse::<std::net::IpAddr>().unwrap()]);
    object["spec"]["pool"] = json!("other");
    assert!(read(object).status_addresses().is_empty());
}
