//! 10,000 prefixes at once, as each router counts them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use fairlead_e2e::{LbService, SOON};
use fairlead_lab::wait_for;
use serde_json::{Value, json};

use crate::setup::{Setup, turn};

/// Prefixes of each address family.
const EACH: u32 = 5_000;
/// Addresses of each family that a Service holds. Speakers read up to 64 addresses of a Service.
const HELD: u32 = 32;
const FIRST_V4: Ipv4Addr = Ipv4Addr::new(198, 19, 0, 0);
const FIRST_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x200, 0, 0, 0, 0, 0);

/// The pool, and its advertisement by one node to the routers here.
const OBJECTS: &str = "
apiVersion: fairlead.dev/v1beta1
kind: IPAddressPool
metadata: { name: many }
spec: { addresses: [198.19.0.0/19, '2001:db8:200::/112'], autoAssign: false }
---
apiVersion: fairlead.dev/v1beta1
kind: BGPAdvertisement
metadata: { name: many }
spec:
  ipAddressPools: [many]
  peers: [bird, gobgp-v4, gobgp-v6, exabgp]
  nodeSelectors: [{ matchLabels: { kubernetes.io/hostname: n1 } }]
";

fn is_of_pool(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.octets()[..2] == FIRST_V4.octets()[..2],
        IpAddr::V6(v6) => v6.segments()[..3] == FIRST_V6.segments()[..3],
    }
}

/// Creates Services that hold all addresses, without the controller.
fn create(setup: &Setup) -> Result<Vec<LbService>> {
    let address = |n: u32| {
        let v4 = IpAddr::from(Ipv4Addr::from_bits(FIRST_V4.to_bits() + n));
        [v4, IpAddr::from(Ipv6Addr::from_bits(FIRST_V6.to_bits() + u128::from(n)))]
    };
    let numbers: Vec<u32> = (0..EACH).collect();
    let pods = setup.lab.node("n1")?.pod_addresses(0);
    let mut services = Vec::new();
    for held in numbers.chunks(HELD as usize) {
        let service = LbService::new(&format!("many-{}", held[0]), "many").without_selector();
        service.apply(&setup.lab)?;
        for (family, pod) in ["IPv4", "IPv6"].into_iter().zip(pods) {
            service.apply_endpoints(&setup.lab, family, "n1", &[pod])?;
        }
        let ingress: Vec<Value> =
            held.iter().flat_map(|n| address(*n)).map(|address| json!({ "ip": address })).collect();
        let mut object = service.object().clone();
        object["status"] = json!({ "loadBalancer": { "ingress": ingress } });
        setup.lab.api()?.apply_status(object)?;
        services.push(service);
    }
    Ok(services)
}

/// Returns the routes that BIRD has imported from `n1`.
fn count_in_bird(setup: &Setup) -> Result<usize> {
    let text = setup.bird.birdc("show protocols all n1")?;
    // One line of each channel: `Routes:  5000 imported, 0 exported, …`.
    let counts = text.lines().filter_map(|line| line.trim().strip_prefix("Routes:"));
    counts
        .map(|counts| {
            let imported = counts.split_whitespace().next().context("no number")?;
            imported.parse::<usize>().with_context(|| counts.to_owned())
        })
        .sum()
}

/// Returns the paths in GoBGP's table.
fn count_in_gobgp(setup: &Setup) -> Result<usize> {
    // `Destination: 5000, Path: 5000`
    ["ipv4", "ipv6"]
        .into_iter()
        .map(|family| {
            let text = setup.gobgp.gobgp(&["global", "rib", "summary", "-a", family])?;
            let (_, count) = text.split_once("Path:").with_context(|| text.clone())?;
            count.trim().parse::<usize>().with_context(|| text.clone())
        })
        .sum()
}

/// Returns the paths that ExaBGP has received for the addresses of the pool.
fn count_in_exabgp(setup: &Setup) -> Result<usize> {
    Ok(setup.exabgp.paths()?.iter().filter(|path| is_of_pool(path.prefix.addr())).count())
}

/// Waits until each router has this number of prefixes more than before.
fn expect(setup: &Setup, before: (usize, usize), more: usize) {
    let expected = (before.0 + more, before.1 + more, more);
    wait_for(format!("{expected:?} prefixes in BIRD, GoBGP and ExaBGP"), SOON, || {
        let seen = (count_in_bird(setup)?, count_in_gobgp(setup)?, count_in_exabgp(setup)?);
        ensure!(seen == expected, "{seen:?}");
        Ok(())
    })
    .unwrap();
}

#[test]
fn every_router_counts_ten_thousand_prefixes() {
    let setup = turn();
    let before = (count_in_bird(&setup).unwrap(), count_in_gobgp(&setup).unwrap());
    let api = setup.lab.api().unwrap();
    // The controller assigns at most one address of each family, and no packets are sent to the addresses.
    let idle = || setup.lab.controllers().iter().chain(setup.lab.cluster());
    idle().for_each(|process| process.stop().unwrap());
    let services = create(&setup).unwrap();
    let start = Instant::now();
    api.apply(OBJECTS).unwrap();
    expect(&setup, before, 2 * EACH as usize);
    eprintln!("all prefixes in all routers after {:?}", start.elapsed());
    // A long list of addresses delays the writes of the Speaker object.
    wait_for("the Speaker object to count the prefixes", SOON, || {
        let session = setup.session("n1", "bird")?;
        ensure!(session["prefixes"].as_u64() >= Some(u64::from(2 * EACH)), "{session}");
        Ok(())
    })
    .unwrap();
    api.delete(OBJECTS).unwrap();
    expect(&setup, before, 0);
    services.iter().for_each(|service| service.delete(&setup.lab).unwrap());
    idle().for_each(|process| process.resume().unwrap());
    setup.expect_sessions(&crate::setup::PEERS).unwrap();
}
