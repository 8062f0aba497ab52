//! Two controllers, one of which leads, and a controller that crashes repeatedly, while Services are created
//! and deleted. No address ever has two holders, none moves, and the time without a leader is short.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use fairlead_e2e::{LbService, Ledger, Pool, SOON, Scene, Shared};
use fairlead_lab::{Builder, Lab, Process, wait_for};

static LAB: Shared = Shared::new(builder, |_| Ok(()));

/// Lease duration that still counts for a crashed leader, plus the time a standby needs to notice.
const LEASE: Duration = Duration::from_secs(10);
const MARGIN: Duration = Duration::from_secs(8);
/// Time without a leader after a clean stop: two seconds plus a margin for a busy machine, less than the
/// Lease duration.
const HANDOVER: Duration = Duration::from_secs(5);
/// Time between two new Services.
const PACE: Duration = Duration::from_millis(30);
/// Number of concurrent Services: fewer than addresses in the pool, so that every Service is served and
/// addresses are reused.
const ALIVE: usize = 24;

fn builder() -> Builder {
    Lab::builder().nodes(1).controllers(2)
}

fn pool() -> Pool {
    Pool::new("few", &["198.51.100.0-198.51.100.39"])
}

fn service(name: &str) -> LbService {
    LbService::new(name, "few").single("IPv4")
}

/// Creates and deletes Services until `stop`. Returns the remaining ones.
fn churn(lab: &Lab, stop: &AtomicBool) -> Vec<LbService> {
    let mut alive = Vec::new();
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let next = service(&format!("churn-{n}"));
        next.apply(lab).unwrap();
        alive.push(next);
        if alive.len() > ALIVE {
            // Deletes not only the oldest, so that free addresses are spread over the pool.
            alive.remove((n * 7) % alive.len()).delete(lab).unwrap();
        }
        thread::sleep(PACE);
    }
    alive
}

/// Stops the churn when dropped, also if the test fails.
struct Stops<'a>(&'a AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs `test` during churn and checks the ledger at the end.
fn under_churn(lab: &Lab, test: impl FnOnce(&Ledger)) {
    let scene = Scene::new(lab);
    scene.pools([&pool()]);
    let residents: Vec<_> = (0..8).map(|n| service(&format!("resident-{n}"))).collect();
    residents.iter().for_each(|resident| scene.service(resident));
    let ledger = Ledger::follow(lab).unwrap();
    ledger.expect_served(&residents, SOON).unwrap();
    let before = ledger.held("resident-");
    assert_eq!(before.len(), residents.len());

    let stop = AtomicBool::new(false);
    let alive = thread::scope(|scope| {
        let churn = scope.spawn(|| churn(lab, &stop));
        let stops = Stops(&stop);
        test(&ledger);
        drop(stops);
        churn.join().unwrap()
    });

    ledger.expect_served(&alive, SOON).unwrap();
    ledger.check().unwrap();
    assert_eq!(ledger.held("resident-"), before);
    alive.iter().for_each(|service| service.delete(lab).unwrap());
}

/// Creates a Service and waits until it has an address, which a stopped or killed controller cannot have
/// given. Returns the time taken.
fn serve_another(lab: &Lab, ledger: &Ledger, limit: Duration) -> Duration {
    /// A unique name, because the ledger may still contain the previous Service.
    static MADE: AtomicUsize = AtomicUsize::new(0);
    let another = service(&format!("another-{}", MADE.fetch_add(1, Ordering::Relaxed)));
    let start = Instant::now();
    another.apply(lab).unwrap();
    ledger.expect_served(std::slice::from_ref(&another), limit).unwrap();
    let took = start.elapsed();
    another.delete(lab).unwrap();
    took
}

/// Returns the controller that holds the Lease.
fn leader(lab: &Lab) -> Result<&Process> {
    let lease =
        lab.api()?.get("coordination.k8s.io/v1", "Lease", Some("fairlead-system"), "fairlead-controller")?;
    let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
    let mut named = lab.controllers().iter().filter(|process| holder.starts_with(process.name()));
    match (named.next(), named.next()) {
        (Some(process), None) => Ok(process),
        _ => bail!("the holder is {holder:?}"),
    }
}

/// Waits until a controller other than `old` leads.
fn expect_another(lab: &Lab, old: &str, limit: Duration) {
    wait_for("another leader", limit, || match leader(lab)? {
        new if new.name() == old => Err(anyhow!("{old} leads")),
        _ => Ok(()),
    })
    .unwrap();
}

#[test]
fn one_of_two_controllers_leads() {
    let lab = LAB.turn();
    under_churn(&lab, |ledger| {
        let first = wait_for("a leader", LEASE + MARGIN, || leader(&lab)).unwrap().name();
        let mut leaders = BTreeSet::from([first]);
        for _ in 0..10 {
            serve_another(&lab, ledger, SOON);
            leaders.insert(leader(&lab).unwrap().name());
        }
        assert_eq!(leaders.len(), 1, "{leaders:?}");
        let standbys = lab.controllers().iter().filter(|process| process.name() != first);
        standbys.for_each(|standby| assert!(standby.is_running(), "{} waits", standby.name()));
    });
}

#[test]
fn stopped_leader_hands_over_at_once() {
    let lab = LAB.turn();
    under_churn(&lab, |ledger| {
        for _ in 0..2 {
            let old = wait_for("a leader", LEASE + MARGIN, || leader(&lab)).unwrap();
            let asked = Instant::now();
            old.terminate(SOON).unwrap();
            let gap = asked.elapsed() + serve_another(&lab, ledger, SOON);
            eprintln!("SIGTERM of {}: the next Service is served after {gap:?}", old.name());
            assert!(gap < HANDOVER, "{gap:?}");
            expect_another(&lab, old.name(), SOON);
            old.spawn_again().unwrap();
            // Both controllers are ready again for the next round.
            old.wait_until_ready(SOON).unwrap();
        }
    });
}

#[test]
fn crashed_leader_is_replaced_after_lease() {
    let lab = LAB.turn();
    under_churn(&lab, |ledger| {
        let old = wait_for("a leader", LEASE + MARGIN, || leader(&lab)).unwrap();
        old.kill().unwrap();
        let gap = serve_another(&lab, ledger, LEASE + MARGIN);
        eprintln!("SIGKILL of {}: the next Service is served after {gap:?}", old.name());
        expect_another(&lab, old.name(), MARGIN);
        old.spawn_again().unwrap();
    });
}

/// When it continues, its term looks current to it.
#[test]
fn paused_leader_allocates_nothing_after_resume() {
    let lab = LAB.turn();
    under_churn(&lab, |ledger| {
        let old = wait_for("a leader", LEASE + MARGIN, || leader(&lab)).unwrap();
        old.stop().unwrap();
        serve_another(&lab, ledger, LEASE + MARGIN);
        expect_another(&lab, old.name(), MARGIN);
        old.resume().unwrap();
        for _ in 0..10 {
            serve_another(&lab, ledger, SOON);
        }
        ledger.check().unwrap();
        expect_another(&lab, old.name(), MARGIN);
    });
}

#[test]
fn repeatedly_crashing_controller_moves_no_address() {
    // Not together with the tests that measure times.
    let _alone = LAB.turn();
    // After a kill, the next start waits for the difference of lease duration and renew deadline.
    let lab = Lab::builder()
        .nodes(1)
        .env("FAIRLEAD_LEASE_DURATION", "3s")
        .env("FAIRLEAD_RENEW_DEADLINE", "2800ms")
        .env("FAIRLEAD_RETRY_PERIOD", "200ms")
        .start()
        .unwrap();
    let controller = lab.controller().unwrap();
    under_churn(&lab, |ledger| {
        let serve_more = |times| {
            for _ in 0..times {
                serve_another(&lab, ledger, LEASE + MARGIN);
            }
        };
        let (start, mut crashes) = (Instant::now(), 0);
        while crashes < 3 || (crashes < 24 && start.elapsed() < Duration::from_secs(12)) {
            // Kills it at work, right after it becomes ready, and during its start.
            match crashes % 3 {
                0 => serve_more(6),
                1 => serve_more(1),
                _ => thread::sleep(Duration::from_millis(10 * crashes)),
            }
            controller.kill().unwrap();
            crashes += 1;
            controller.spawn_again().unwrap();
            ledger.check().unwrap();
        }
        serve_more(1);
        eprintln!("{crashes} crashes in {:?}", start.elapsed());
    });
}
