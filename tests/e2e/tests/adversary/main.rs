//! An adversary writes random hostile objects of every kind that Fairlead watches, and everybody else notices
//! nothing.
//!
//! The requests follow from a seed, which the test prints; `FAIRLEAD_ADVERSARY_SEED` repeats a run.

#![allow(clippy::unwrap_used)]

mod attack;
mod hostile;
mod innocent;
mod rest;
mod text;
mod witness;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Result;
use fairlead_e2e::{
    CONFIG, LbService, PACE, PORT, Policy, SOON, Shared, VERSION, expect_mesh, expect_sessions, reach,
};
use fairlead_lab::{Builder, Lab, Questions, api, ensure, wait_for};
use serde_json::{Value, json};

use attack::Attack;
use innocent::{Waits, percentile};
use witness::Witness;

static LAB: Shared = Shared::new(builder, prepare);

/// Pools of the innocent, which serve only their namespace, and one for everybody.
const POOLS: &str = "
apiVersion: fairlead.dev/v1beta1
kind: IPAddressPool
metadata: { name: innocent }
spec:
  autoAssign: false
  addresses: [198.51.100.0/24, 2001:db8:100::/64]
  serviceAllocation: { namespaces: [default] }
---
apiVersion: fairlead.dev/v1beta1
kind: IPAddressPool
metadata: { name: lan }
spec:
  autoAssign: false
  addresses: [192.0.2.200-192.0.2.230, 2001:db8:1::200-2001:db8:1::2ff]
  serviceAllocation: { namespaces: [default] }
---
apiVersion: fairlead.dev/v1beta1
kind: IPAddressPool
metadata: { name: open }
spec:
  addresses: [10.99.0.0/20, 2001:db8:99::/64]
  serviceAllocation: { namespaces: [hostile-a, hostile-b] }
---
apiVersion: fairlead.dev/v1beta1
kind: L2Advertisement
metadata: { name: lan }
spec: { ipAddressPools: [lan] }
---
apiVersion: fairlead.dev/v1beta1
kind: BGPAdvertisement
metadata: { name: routed }
spec: { ipAddressPools: [innocent, open] }
";

/// Duration of the attack.
const ATTACK: Duration = Duration::from_secs(30);
/// Number of Services that are measured before the attack.
const BEFORE: usize = 15;
/// Largest ratio of the wait during the attack to the wait before it.
const RATIO: u32 = 3;
/// Percentiles of the waits that are compared, each with the wait up to which any ratio is accepted. One
/// delay of a busy machine can be as long. It does not change the median, but can change the other
/// percentile.
const FLOORS: [(usize, Duration); 2] = [(50, Duration::from_millis(300)), (90, Duration::from_secs(1))];
/// Interval of the ARP requests for one address of an innocent Service.
const ASKED: Duration = Duration::from_millis(50);
/// Longest time in which two nodes answer for an address: the overlap of a planned move.
const HANDOVER: Duration = Duration::from_millis(500);
/// Longest time without an answer at an address that is not concerned.
const LONGEST_GAP: Duration = Duration::from_secs(1);

fn builder() -> Builder {
    Lab::builder().controllers(2)
}

fn prepare(lab: &Lab) -> Result<()> {
    let api = lab.api()?;
    for object in api::documents(CONFIG)?.into_iter().filter(|object| object["kind"] == "BGPPeer") {
        api.apply_object(object)?;
    }
    api.apply(POOLS)?;
    for name in hostile::NAMESPACES {
        api.apply_object(json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } }))?;
    }
    expect_sessions(lab, SOON)?;
    expect_mesh(lab, SOON)
}

fn seed() -> u64 {
    let given = std::env::var("FAIRLEAD_ADVERSARY_SEED").ok().and_then(|text| text.parse().ok());
    given.unwrap_or_else(rand::random)
}

/// Returns an error if the waits of innocent Services grew beyond the ratio. What the API server takes longer
/// for any request is no delay by Fairlead.
fn compare(what: &str, before: &Waits, during: &Waits, wait: fn(&Waits) -> &[Duration]) -> Result<()> {
    for (percent, floor) in FLOORS {
        let of = |waits: &[Duration]| percentile(waits, percent);
        let slower = of(&during.server).saturating_sub(of(&before.server));
        let (quiet, attacked) = (of(wait(before)), of(wait(during)));
        let seen = format!(
            "{what}: {percent} % within {quiet:?} before, {attacked:?} during the attack; API server: + \
             {slower:?}"
        );
        eprintln!("{seen}; all: {:?}", wait(during));
        ensure(attacked <= ((quiet + slower) * RATIO).max(floor), seen).map_err(anyhow::Error::msg)?;
    }
    Ok(())
}

/// What went wrong. All is checked, because one fault often explains another.
#[derive(Default)]
struct Verdict(Vec<String>);

impl Verdict {
    fn on(&mut self, result: Result<()>) {
        if let Err(error) = result {
            let seen = format!("{error:#}");
            eprintln!("WRONG: {seen}");
            self.0.push(seen);
        }
    }
}

#[test]
fn hostile_objects_harm_nobody_else() {
    let lab = LAB.turn();
    let seed = seed();
    eprintln!("FAIRLEAD_ADVERSARY_SEED={seed}");
    let witness = Witness::follow(&lab).unwrap();

    let anchors = [
        LbService::new("anchor-lan", "lan").policy(Policy::Cluster),
        LbService::new("anchor-bgp", "innocent"),
    ];
    let ips = anchors.each_ref().map(|anchor| anchor.up(&lab).unwrap()[0]);
    for (anchor, ip) in anchors.iter().zip(ips) {
        reach(&lab, ip, 5).unwrap();
        witness.expect_unmoved(&format!("default/{}", anchor.name()));
    }
    let questions = Questions::start(&lab, ips[0], ASKED).unwrap();
    let streams = ips.map(|ip| lab.remote().stream(SocketAddr::new(ip, PORT), PACE));
    let pids = rest::pids(&lab);

    let (mut before, mut during) = (Waits::default(), Waits::default());
    for number in 0..BEFORE {
        before.measure(&lab, &witness, &format!("before-{number}")).unwrap();
    }
    let attack = Attack::start(&lab, seed, ATTACK).unwrap();
    let begin = Instant::now();
    let mut number = 0;
    while begin.elapsed() < ATTACK {
        during.measure(&lab, &witness, &format!("during-{number}")).unwrap();
        number += 1;
    }
    let counts = attack.finish(&lab).unwrap();
    eprintln!("requests, accepted and refused: {counts:?}");
    assert!(
        counts.len() >= 10 && counts.values().map(|(accepted, _)| accepted).sum::<usize>() > 200,
        "{counts:?}"
    );

    let mut verdict = Verdict::default();
    verdict.on(rest::expect_no_writes(&lab));
    verdict.on(witness.check());
    verdict.on(rest::expect_reasons(&lab));
    verdict.on(ensure(rest::pids(&lab) == pids, "a program ended").map_err(anyhow::Error::msg));
    verdict.on(rest::expect_little_memory(&lab));
    verdict.on(rest::expect_clean_logs(&lab));
    for (ip, stream) in ips.iter().zip(streams) {
        let report = stream.stop().unwrap();
        verdict
            .on(ensure(report.longest_gap < LONGEST_GAP, format!("{ip}: {report}"))
                .map_err(anyhow::Error::msg));
    }
    let contest = questions.stop().unwrap().longest_contest(2 * HANDOVER);
    verdict.on(ensure(contest <= HANDOVER, format!("two nodes answered for {} for {contest:?}", ips[0]))
        .map_err(anyhow::Error::msg));
    verdict.on(compare("time to the address", &before, &during, |waits| &waits.address));
    verdict.on(compare("time to the route", &before, &during, |waits| &waits.route));

    attack.clean_up(&lab).unwrap();
    verdict.on(wait_for("the Services of the adversary to be gone", SOON, || {
        let held = lab.api()?.list("v1", "Service")?;
        let is_hostile =
            |one: &&Value| hostile::NAMESPACES.iter().any(|name| one["metadata"]["namespace"] == *name);
        let left = held.iter().filter(is_hostile).count();
        ensure(left == 0, format!("{left} Services")).map_err(anyhow::Error::msg)
    }));
    verdict.on(wait_for("their addresses to be free", SOON, || {
        let pool = lab.api()?.get(VERSION, "IPAddressPool", None, "open")?;
        let held = |field: &str| pool["status"][field].as_i64().unwrap_or(0);
        ensure(held("assignedIPv4") + held("assignedIPv6") == 0, pool["status"].to_string())
            .map_err(anyhow::Error::msg)
    }));
    assert!(verdict.0.is_empty(), "{:#?}", verdict.0);
    for anchor in &anchors {
        anchor.delete(&lab).unwrap();
    }
}
