//! Many routes that one edit replaces by an aggregate, as the router sees it.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use fairlead_crds::v1beta1::{BGPAdvertisement, IPAddressPool};
use futures::future::join_all;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use super::{Environment, UPDATE, create, eventually, object};

/// Services, and addresses of each. Speakers read at most 64 of one Service.
const SERVICES: u32 = 157;
const ADDRESSES: u32 = 64;
/// The first address, and the length of a prefix that contains all of them.
const FIRST: u32 = 0xC612_0000;
const AGGREGATE: u8 = 18;

/// The IPv4 prefixes in one UPDATE, each as its address and its length.
struct Changes {
    withdrawn: Vec<(u32, u8)>,
    announced: Vec<(u32, u8)>,
}

/// Splits the body of an UPDATE (RFC 4271 §4.3).
fn changes(body: &[u8]) -> Changes {
    let length = |at: usize| usize::from(u16::from_be_bytes([body[at], body[at + 1]]));
    let (withdrawn, rest) = (&body[2..2 + length(0)], 2 + length(0));
    let nlri = &body[rest + 2 + length(rest)..];
    Changes { withdrawn: prefixes(withdrawn), announced: prefixes(nlri) }
}

fn prefixes(mut octets: &[u8]) -> Vec<(u32, u8)> {
    let mut prefixes = Vec::new();
    while let [length, rest @ ..] = octets {
        let (address, rest) = rest.split_at(usize::from(*length).div_ceil(8));
        let mut padded = [0; 4];
        padded[..address.len()].copy_from_slice(address);
        prefixes.push((u32::from_be_bytes(padded), *length));
        octets = rest;
    }
    prefixes
}

impl Environment {
    /// Creates Services that hold addresses from [`FIRST`] on, with an endpoint each.
    async fn create_many_services(&self) {
        let services = Api::<Service>::namespaced(self.client.clone(), "default");
        let slices = Api::<EndpointSlice>::namespaced(self.client.clone(), "default");
        let create_one = async |number: u32| {
            let name = format!("many-{number}");
            let slice = json!({
                "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
                "addressType": "IPv4",
                "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": true}}],
            });
            create::<EndpointSlice>(&slices, &object(slice)).await;
            let service = json!({"metadata": {"name": name},
                "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]}});
            create::<Service>(&services, &object(service)).await;
            let address = |n| Ipv4Addr::from(FIRST + number * ADDRESSES + n);
            let ingress: Vec<_> = (0..ADDRESSES).map(|n| json!({"ip": address(n)})).collect();
            let held = Patch::Merge(json!({"status": {"loadBalancer": {"ingress": ingress}}}));
            services.patch_status(&name, &PatchParams::default(), &held).await.unwrap();
        };
        join_all((0..SERVICES).map(create_one)).await;
    }

    async fn set_aggregation_length(&self, length: u8) {
        let ads = Api::<BGPAdvertisement>::all(self.client.clone());
        let patch = Patch::Merge(json!({"spec": {"aggregationLength": length, "ipAddressPools": ["many"]}}));
        ads.patch("ad", &PatchParams::default(), &patch).await.unwrap();
    }
}

#[tokio::test]
async fn edit_of_aggregation_length_never_uncovers_an_address() {
    let environment = Environment::start("aggregation").await;
    environment.create_objects().await;
    let pool = json!({"metadata": {"name": "many"}, "spec": {"addresses": ["198.18.0.0/16"]}});
    create::<IPAddressPool>(&Api::all(environment.client.clone()), &object(pool)).await;
    environment.create_many_services().await;
    environment.set_aggregation_length(32).await;
    let _speaker = environment.start_speaker();

    let all = (SERVICES * ADDRESSES) as usize;
    let mut routes = BTreeSet::new();
    let mut read = 0;
    for (length, expected) in [(32, all), (AGGREGATE, 1), (32, all)] {
        environment.set_aggregation_length(length).await;
        let was_complete = !routes.is_empty();
        eventually(&format!("{expected} routes"), async || {
            for body in environment.router.received(UPDATE).split_off(read) {
                read += 1;
                let Changes { withdrawn, announced } = changes(&body);
                withdrawn.iter().for_each(|prefix| assert!(routes.remove(prefix), "{prefix:?}"));
                routes.extend(announced);
                // Before the first routes are complete, addresses are not covered yet.
                let uncovered = || {
                    let aggregate = routes.contains(&(FIRST, AGGREGATE));
                    (0..all as u32).find(|n| !aggregate && !routes.contains(&(FIRST + n, 32)))
                };
                if was_complete && let Some(number) = uncovered() {
                    panic!("{} is not covered after {read} UPDATEs", Ipv4Addr::from(FIRST + number));
                }
            }
            routes.len() == expected
        })
        .await;
    }
}
