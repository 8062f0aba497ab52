//! Scenarios of the allocator alone.

use std::collections::BTreeMap;
use std::hint::black_box;

use fairlead_allocator::ipam::Ipam;
use fairlead_crds::model::claim::{Claim, ClaimRequest};
use fairlead_crds::model::config::{Labels, Pool};
use fairlead_crds::model::service::ObjectKey;

use crate::fixtures::*;
use crate::scenario::{Case, Operations, Scenario, scenario};

/// A pool size that no case exhausts.
const LARGE: usize = 1 << 18;

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "allocate N addresses in sequence",
        sizes: &[100, 1_000, 10_000, 100_000],
        operations: Operations::N,
        make: |n| {
            let state = (Ipam::default(), requesters("new", n));
            let fresh = |(ipam, _): &mut (Ipam, _)| *ipam = self::ipam(&[pool("p", BASE, LARGE)]);
            scenario(state, fresh, |(ipam, requesters)| allocate(ipam, requesters))
        },
    },
    Case {
        name: "allocate, N addresses held",
        sizes: &[1, 10, 100, 1_000, 10_000, 60_000],
        operations: Operations::Batch,
        make: |n| allocate_and_release(with_holders(n), requesters("new", BATCH), Part::Allocate),
    },
    Case {
        name: "allocate, N addresses held and N gaps",
        sizes: &[100, 1_000, 10_000, 60_000],
        operations: Operations::Batch,
        make: |n| {
            let mut ipam = with_holders(2 * n);
            requesters("held", 2 * n).iter().step_by(2).for_each(|requester| ipam.release(requester.key()));
            ipam.take_changes();
            allocate_and_release(ipam, requesters("new", BATCH), Part::Allocate)
        },
    },
    Case {
        name: "release, N addresses held",
        sizes: &[100, 1_000, 10_000, 60_000],
        operations: Operations::Batch,
        make: |n| allocate_and_release(with_holders(n), requesters("new", BATCH), Part::Release),
    },
    Case {
        name: "refuse, one full pool of N addresses",
        sizes: &[100, 1_000, 10_000, 65_536],
        operations: Operations::Batch,
        make: |n| {
            let mut ipam = ipam(&[pool("p", BASE, n)]);
            allocate(&mut ipam, &requesters("held", n));
            allocate_and_release(ipam, requesters("new", BATCH), Part::Allocate)
        },
    },
    Case {
        name: "refuse, N full pools of one address",
        sizes: &[1, 10, 100, 1_000],
        operations: Operations::Batch,
        make: |n| {
            let pools: Vec<Pool> = (0..n).map(|i| pool(&format!("p{i:04}"), BASE + i as u32, 1)).collect();
            let mut ipam = ipam(&pools);
            allocate(&mut ipam, &requesters("held", n));
            allocate_and_release(ipam, requesters("new", BATCH), Part::Allocate)
        },
    },
    Case {
        name: "join the first of N shared addresses",
        sizes: &[100, 1_000, 10_000, 60_000],
        operations: Operations::Batch,
        make: |n| allocate_and_release(shared(n, |_| vec![80]), sharers(&[443]), Part::Allocate),
    },
    Case {
        name: "allocate, none of N shared addresses joinable, same ports",
        sizes: &[100, 1_000, 10_000, 60_000],
        operations: Operations::Batch,
        make: |n| allocate_and_release(shared(n, |_| vec![80]), sharers(&[80]), Part::Allocate),
    },
    Case {
        name: "allocate, none of N shared addresses joinable, different ports",
        sizes: &[100, 1_000, 10_000],
        operations: Operations::Batch,
        make: |n| allocate_and_release(shared(n, |i| vec![80, 1000 + i]), sharers(&[80]), Part::Allocate),
    },
    Case {
        name: "join an address with N holders",
        sizes: &[10, 100, 1_000],
        operations: Operations::Batch,
        make: |n| {
            let mut ipam = ipam(&[pool("p", BASE, LARGE)]);
            for i in 0..n {
                let requester = Requester::new(&self::sharing("held", i, &[1000 + i]));
                allocate(&mut ipam, &[requester]);
            }
            let new = (0..BATCH).map(|i| Requester::new(&self::sharing("new", i, &[100 + i]))).collect();
            allocate_and_release(ipam, new, Part::Allocate)
        },
    },
    Case {
        name: "adopt N addresses",
        sizes: &[100, 1_000, 10_000, 100_000],
        operations: Operations::N,
        make: |n| {
            let state = (Ipam::default(), requesters("held", n));
            let fresh = |(ipam, _): &mut (Ipam, _)| *ipam = self::ipam(&[pool("p", BASE, LARGE)]);
            let run = |(ipam, requesters): &mut (Ipam, Vec<Requester>)| {
                for (i, requester) in requesters.iter().enumerate() {
                    let kept =
                        ipam.keep(&requester.allocation_request(), &[(nth(BASE, i), Some("p"))]).is_ok();
                    debug_assert!(kept);
                    black_box(ipam.take_changes());
                }
            };
            scenario(state, fresh, run)
        },
    },
    Case {
        name: "edit a pool with N holders, per holder",
        sizes: &[100, 1_000, 10_000, 60_000],
        operations: Operations::N,
        make: |n| edit(with_holders(n), vec![pool("p", BASE, LARGE)], "p"),
    },
    Case {
        name: "edit another pool, N addresses held and N reserved",
        sizes: &[100, 1_000, 10_000, 60_000],
        operations: Operations::One,
        make: |n| {
            let pools = vec![pool("p", BASE, LARGE), pool("q", BASE + (1 << 20), 256)];
            let mut ipam = ipam(&pools);
            allocate(&mut ipam, &requesters("held", n));
            (0..n).for_each(|i| reserve(&mut ipam, i));
            ipam.take_changes();
            edit(ipam, pools, "q")
        },
    },
    Case {
        name: "reserve for a claim, N addresses held",
        sizes: &[100, 1_000, 10_000, 60_000],
        operations: Operations::Batch,
        make: |n| {
            let restore = |ipam: &mut Ipam| {
                (0..BATCH).for_each(|i| ipam.unclaim(&key("claim", i)));
                ipam.take_changes();
            };
            let run = |ipam: &mut Ipam| (0..BATCH).for_each(|i| reserve(ipam, i));
            scenario(with_holders(n), restore, run)
        },
    },
];

enum Part {
    Allocate,
    Release,
}

/// Allocates for each requester and releases again; `part` is measured.
fn allocate_and_release(ipam: Ipam, requesters: Vec<Requester>, part: Part) -> Box<dyn Scenario> {
    let allocate = |(ipam, requesters): &mut (Ipam, Vec<Requester>)| self::allocate(ipam, requesters);
    let release = |(ipam, requesters): &mut (Ipam, Vec<Requester>)| {
        for requester in requesters {
            ipam.release(requester.key());
            black_box(ipam.take_changes());
        }
    };
    match part {
        Part::Allocate => scenario((ipam, requesters), release, allocate),
        Part::Release => scenario((ipam, requesters), allocate, release),
    }
}

fn allocate(ipam: &mut Ipam, requesters: &[Requester]) {
    for requester in requesters {
        let _ = black_box(ipam.allocate(&requester.allocation_request(), V4));
        black_box(ipam.take_changes());
    }
}

/// Returns an allocator with `n` holders of one address each.
fn with_holders(n: usize) -> Ipam {
    let mut ipam = ipam(&[pool("p", BASE, LARGE)]);
    allocate(&mut ipam, &requesters("held", n));
    ipam
}

/// Returns an allocator with `n` addresses, each held by one Service that shares it and has the ports
/// `ports(i)`.
fn shared(n: usize, ports: fn(usize) -> Vec<usize>) -> Ipam {
    let mut ipam = ipam(&[pool("p", BASE, LARGE)]);
    for i in 0..n {
        let requester = Requester::new(&sharing("held", i, &ports(i)));
        let held = ipam.assign(&requester.allocation_request(), &[nth(BASE, i)], false).is_ok();
        debug_assert!(held);
    }
    ipam.take_changes();
    ipam
}

fn sharers(ports: &[usize]) -> Vec<Requester> {
    (0..BATCH).map(|i| Requester::new(&sharing("new", i, ports))).collect()
}

/// Changes a label of one pool in each run.
fn edit(ipam: Ipam, pools: Vec<Pool>, which: &'static str) -> Box<dyn Scenario> {
    let pools: BTreeMap<String, Pool> = pools.into_iter().map(|pool| (pool.name.clone(), pool)).collect();
    let restore = move |(_, pools, times): &mut (Ipam, BTreeMap<String, Pool>, usize)| {
        *times += 1;
        if let Some(pool) = pools.get_mut(which) {
            pool.labels = [("times".into(), times.to_string())].into();
        }
    };
    let run = |(ipam, pools, _): &mut (Ipam, BTreeMap<String, Pool>, usize)| {
        black_box(ipam.set_pools(pools, &BTreeMap::new()));
        black_box(ipam.take_changes());
    };
    scenario((ipam, pools, 0), restore, run)
}

fn reserve(ipam: &mut Ipam, i: usize) {
    let (claim, wanted) = claim(i);
    let reserved = ipam.claim(&claim, &wanted, Some(&Labels::new())).is_ok();
    debug_assert!(reserved);
    black_box(ipam.take_changes());
}

/// Returns the `i`th claim, for any address of pool `p`.
pub(crate) fn claim(i: usize) -> (Claim, ClaimRequest) {
    let wanted =
        ClaimRequest::FromPool { pool: "p".into(), families: vec![fairlead_allocator::ipam::Family::V4] };
    let claim = Claim {
        class: None,
        key: key("claim", i),
        uid: i.to_string(),
        resource_version: "1".into(),
        generation: None,
        is_deleting: false,
        created: i as i64,
        service: ObjectKey { namespace: "default".into(), name: format!("claimant-{i}") },
        request: Ok(wanted.clone()),
        status: Default::default(),
    };
    (claim, wanted)
}
