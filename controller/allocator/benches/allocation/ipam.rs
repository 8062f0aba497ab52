//! The allocator alone.

use std::collections::BTreeMap;
use std::hint::black_box;

use fairlead_allocator::ipam::Ipam;
use fairlead_crds::model::claim::{Claim, Wanted};
use fairlead_crds::model::config::{Labels, Pool};
use fairlead_crds::model::service::ObjectKey;

use crate::fixtures::*;
use crate::scenario::{Case, Ops, Subject, subject};

/// More addresses than any case takes.
const PLENTY: usize = 1 << 18;

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "an allocation, N of them one after the other",
        sizes: &[100, 1_000, 10_000, 100_000],
        ops: Ops::EachOfN,
        make: |n| {
            let state = (Ipam::default(), askers("new", n));
            let fresh = |(ipam, _): &mut (Ipam, _)| *ipam = self::ipam(&[pool("p", BASE, PLENTY)]);
            subject(state, fresh, |(ipam, askers)| allocate(ipam, askers))
        },
    },
    Case {
        name: "an allocation, N taken",
        sizes: &[1, 10, 100, 1_000, 10_000, 60_000],
        ops: Ops::Batch,
        make: |n| come_and_go(taken(n), askers("new", BATCH), Part::Come),
    },
    Case {
        name: "an allocation, N taken and as many gaps",
        sizes: &[100, 1_000, 10_000, 60_000],
        ops: Ops::Batch,
        make: |n| {
            let mut ipam = taken(2 * n);
            askers("held", 2 * n).iter().step_by(2).for_each(|asker| ipam.release(asker.key()));
            ipam.take_changes();
            come_and_go(ipam, askers("new", BATCH), Part::Come)
        },
    },
    Case {
        name: "a release, N taken",
        sizes: &[100, 1_000, 10_000, 60_000],
        ops: Ops::Batch,
        make: |n| come_and_go(taken(n), askers("new", BATCH), Part::Go),
    },
    Case {
        name: "a refusal, one full pool of N",
        sizes: &[100, 1_000, 10_000, 65_536],
        ops: Ops::Batch,
        make: |n| {
            let mut ipam = ipam(&[pool("p", BASE, n)]);
            allocate(&mut ipam, &askers("held", n));
            come_and_go(ipam, askers("new", BATCH), Part::Come)
        },
    },
    Case {
        name: "a refusal, N full pools of one (by design: every pool is tried)",
        sizes: &[1, 10, 100, 1_000],
        ops: Ops::Batch,
        make: |n| {
            let pools: Vec<Pool> = (0..n).map(|i| pool(&format!("p{i:04}"), BASE + i as u32, 1)).collect();
            let mut ipam = ipam(&pools);
            allocate(&mut ipam, &askers("held", n));
            come_and_go(ipam, askers("new", BATCH), Part::Come)
        },
    },
    Case {
        name: "joining the first of N shared addresses",
        sizes: &[100, 1_000, 10_000, 60_000],
        ops: Ops::Batch,
        make: |n| come_and_go(shared(n, |_| vec![80]), sharers(&[443]), Part::Come),
    },
    Case {
        name: "none of N shared addresses can be joined, all have the same ports",
        sizes: &[100, 1_000, 10_000, 60_000],
        ops: Ops::Batch,
        make: |n| come_and_go(shared(n, |_| vec![80]), sharers(&[80]), Part::Come),
    },
    Case {
        name: "none of N shared addresses can be joined, all have other ports",
        sizes: &[100, 1_000, 10_000],
        ops: Ops::Batch,
        make: |n| come_and_go(shared(n, |i| vec![80, 1000 + i]), sharers(&[80]), Part::Come),
    },
    Case {
        name: "joining an address that N hold",
        sizes: &[10, 100, 1_000],
        ops: Ops::Batch,
        make: |n| {
            let mut ipam = ipam(&[pool("p", BASE, PLENTY)]);
            for i in 0..n {
                let asker = Asker::new(&self::sharing("held", i, &[1000 + i]));
                allocate(&mut ipam, &[asker]);
            }
            let new = (0..BATCH).map(|i| Asker::new(&self::sharing("new", i, &[100 + i]))).collect();
            come_and_go(ipam, new, Part::Come)
        },
    },
    Case {
        name: "an address is adopted, N of them",
        sizes: &[100, 1_000, 10_000, 100_000],
        ops: Ops::EachOfN,
        make: |n| {
            let state = (Ipam::default(), askers("held", n));
            let fresh = |(ipam, _): &mut (Ipam, _)| *ipam = self::ipam(&[pool("p", BASE, PLENTY)]);
            let act = |(ipam, askers): &mut (Ipam, Vec<Asker>)| {
                for (i, asker) in askers.iter().enumerate() {
                    let kept = ipam.keep(&asker.allocation_request(), &[(nth(BASE, i), Some("p"))]).is_ok();
                    debug_assert!(kept);
                    black_box(ipam.take_changes());
                }
            };
            subject(state, fresh, act)
        },
    },
    Case {
        name: "a pool is edited, for each of N holders",
        sizes: &[100, 1_000, 10_000, 60_000],
        ops: Ops::EachOfN,
        make: |n| edit(taken(n), vec![pool("p", BASE, PLENTY)], "p"),
    },
    Case {
        name: "another pool is edited, N holders and N reserved addresses",
        sizes: &[100, 1_000, 10_000, 60_000],
        ops: Ops::One,
        make: |n| {
            let pools = vec![pool("p", BASE, PLENTY), pool("q", BASE + (1 << 20), 256)];
            let mut ipam = ipam(&pools);
            allocate(&mut ipam, &askers("held", n));
            (0..n).for_each(|i| make_claim(&mut ipam, i));
            ipam.take_changes();
            edit(ipam, pools, "q")
        },
    },
    Case {
        name: "a claim, N taken",
        sizes: &[100, 1_000, 10_000, 60_000],
        ops: Ops::Batch,
        make: |n| {
            let restore = |ipam: &mut Ipam| {
                (0..BATCH).for_each(|i| ipam.unclaim(&key("claim", i)));
                ipam.take_changes();
            };
            let act = |ipam: &mut Ipam| (0..BATCH).for_each(|i| make_claim(ipam, i));
            subject(taken(n), restore, act)
        },
    },
];

enum Part {
    Come,
    Go,
}

/// Newcomers come, or go.
fn come_and_go(ipam: Ipam, askers: Vec<Asker>, part: Part) -> Box<dyn Subject> {
    let come = |(ipam, askers): &mut (Ipam, Vec<Asker>)| allocate(ipam, askers);
    let go = |(ipam, askers): &mut (Ipam, Vec<Asker>)| {
        for asker in askers {
            ipam.release(asker.key());
            black_box(ipam.take_changes());
        }
    };
    match part {
        Part::Come => subject((ipam, askers), go, come),
        Part::Go => subject((ipam, askers), come, go),
    }
}

fn allocate(ipam: &mut Ipam, askers: &[Asker]) {
    for asker in askers {
        let _ = black_box(ipam.allocate(&asker.allocation_request(), V4));
        black_box(ipam.take_changes());
    }
}

/// An allocator that has given `n` addresses.
fn taken(n: usize) -> Ipam {
    let mut ipam = ipam(&[pool("p", BASE, PLENTY)]);
    allocate(&mut ipam, &askers("held", n));
    ipam
}

/// An allocator that has given `n` addresses, each to one Service that shares it and has these ports.
fn shared(n: usize, ports: fn(usize) -> Vec<usize>) -> Ipam {
    let mut ipam = ipam(&[pool("p", BASE, PLENTY)]);
    for i in 0..n {
        let asker = Asker::new(&sharing("held", i, &ports(i)));
        let held = ipam.assign(&asker.allocation_request(), &[nth(BASE, i)], false).is_ok();
        debug_assert!(held);
    }
    ipam.take_changes();
    ipam
}

fn sharers(ports: &[usize]) -> Vec<Asker> {
    (0..BATCH).map(|i| Asker::new(&sharing("new", i, ports))).collect()
}

/// One of the pools gets another label each time.
fn edit(ipam: Ipam, pools: Vec<Pool>, which: &'static str) -> Box<dyn Subject> {
    let pools: BTreeMap<String, Pool> = pools.into_iter().map(|pool| (pool.name.clone(), pool)).collect();
    let restore = move |(_, pools, times): &mut (Ipam, BTreeMap<String, Pool>, usize)| {
        *times += 1;
        if let Some(pool) = pools.get_mut(which) {
            pool.labels.insert("times".into(), times.to_string());
        }
    };
    let act = |(ipam, pools, _): &mut (Ipam, BTreeMap<String, Pool>, usize)| {
        black_box(ipam.set_pools(pools, &BTreeMap::new()));
        black_box(ipam.take_changes());
    };
    subject((ipam, pools, 0), restore, act)
}

fn make_claim(ipam: &mut Ipam, i: usize) {
    let (claim, wanted) = claim(i);
    let reserved = ipam.claim(&claim, &wanted, Some(&Labels::new())).is_ok();
    debug_assert!(reserved);
    black_box(ipam.take_changes());
}

/// A claim on any address of pool `p`.
pub(crate) fn claim(i: usize) -> (Claim, Wanted) {
    let wanted = Wanted::OfPool { pool: "p".into(), families: vec![fairlead_allocator::ipam::Family::V4] };
    let claim = Claim {
        key: key("claim", i),
        uid: i.to_string(),
        resource_version: "1".into(),
        created: i as i64,
        service: ObjectKey { namespace: "default".into(), name: format!("claimant-{i}") },
        wanted: Ok(wanted.clone()),
        status: Default::default(),
    };
    (claim, wanted)
}
