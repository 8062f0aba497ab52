//! Random hostile Services: each gets an address or a reason that is short and printable, and an innocent
//! Service keeps its address.

use fairlead_crds::text::{MAX_MESSAGE, is_printable};
use proptest::collection::vec;
use proptest::prelude::*;

use super::replay::cases;
use super::*;
use fairlead_test_support::pool;

#[derive(Clone, Debug)]
enum Step {
    Apply { name: u8, annotations: Vec<(usize, String)>, port: u16, spec: u8 },
    Status { name: u8, conditions: Vec<(usize, String)>, entry: u8 },
    Delete { name: u8 },
}

/// Longest time in seconds between a replacement of a status and the next write.
const LONGEST_BACK_OFF: i64 = 300;
/// Time in seconds without a replacement after which a conflict is over, after the next write.
const QUIET: i64 = 600;
/// Repetitions of the longest text, so that the API server accepts the annotations: at most 256 KiB in all.
const LONGEST: usize = 1_500;
const ANNOTATIONS: [&str; 6] = [
    REQUEST_IPS,
    REQUEST_POOL,
    SHARING_KEY,
    "metallb.io/loadBalancerIPs",
    "metallb.universe.tf/allow-shared-ip",
    names::ALLOCATED_FROM_POOL,
];
const CONDITIONS: [&str; 4] = [names::ALLOCATED, names::COVERED, names::ADVERTISED, "example.com/Other"];
const PIECES: [&str; 12] = [
    "\u{7f}",
    "\n2026-01-01 ERROR forged ",
    "\u{202e}\u{200b}",
    "\u{1f600}",
    "\"\\'{}%s",
    "1.2.3.0,",
    "1.2.3.7",
    "::ffff:1.2.3.4",
    "0.0.0.0/0",
    "p",
    "k",
    " ",
];

fn text() -> impl Strategy<Value = String> {
    (vec(0..PIECES.len(), 0..3), prop_oneof![4 => 1..3usize, 1 => Just(200), 1 => Just(LONGEST)])
        .prop_map(|(pieces, times)| pieces.into_iter().map(|at| PIECES[at]).collect::<String>().repeat(times))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0..5u8, vec((0..ANNOTATIONS.len(), text()), 0..4), 80..83u16, 0..5u8)
            .prop_map(|(name, annotations, port, spec)| Step::Apply { name, annotations, port, spec }),
        3 => (0..5u8, vec((0..CONDITIONS.len(), text()), 0..3), 0..4u8)
            .prop_map(|(name, conditions, entry)| Step::Status { name, conditions, entry }),
        1 => (0..5u8).prop_map(|name| Step::Delete { name }),
    ]
}

fn hostile(name: &str, annotations: Vec<(usize, String)>, port: u16, spec: u8) -> Value {
    let mut with = match spec {
        0 => families(DUAL, "RequireDualStack"),
        1 => json!({ "spec": { "loadBalancerIP": "\u{7f}".repeat(500) } }),
        2 => json!({ "spec": { "externalTrafficPolicy": "Local" } }),
        _ => json!({}),
    };
    with["spec"]["ports"] = json!([{ "port": port, "protocol": "TCP" }]);
    for (at, value) in annotations {
        with["metadata"]["annotations"][ANNOTATIONS[at]] = json!(value);
    }
    service(name, with)
}

/// The status that another program writes.
fn status(conditions: Vec<(usize, String)>, entry: u8) -> Value {
    let condition = |(at, text): (usize, String)| {
        json!({ "type": CONDITIONS[at], "status": text, "reason": text, "message": text,
                "lastTransitionTime": "2026-01-01T00:00:00Z" })
    };
    let ingress = match entry {
        0 => json!([{ "hostname": "lb.example.com" }]),
        1 => json!([{ "ip": "203.0.113.9" }]),
        _ => json!([]),
    };
    json!({
        "loadBalancer": { "ingress": ingress },
        "conditions": conditions.into_iter().map(condition).collect::<Vec<_>>(),
    })
}

proptest! {
    #![proptest_config(cases(64))]
    #[test]
    fn hostile_services_get_short_reasons_and_move_nobody(steps in vec(step(), 1..25)) {
        let mut world = World::new([pool("p", &["1.2.3.0-1.2.3.7"])]);
        world.checked = true;
        world.apply(service("innocent", json!({})));
        let held = world.result("innocent");
        prop_assert_eq!(&held, "1.2.3.0");
        for step in steps {
            let what = format!("{step:?}").chars().take(300).collect::<String>();
            match step {
                Step::Apply { name, annotations, port, spec } => {
                    world.apply(hostile(&format!("s{name}"), annotations, port, spec));
                }
                Step::Status { name, conditions, entry } => {
                    let Some(mut seen) = world.services.get(&key(&format!("s{name}"))).cloned() else { continue };
                    seen["status"] = status(conditions, entry);
                    world.apply(seen);
                    // The controller writes less and less often to a status that is replaced repeatedly.
                    world.wait(LONGEST_BACK_OFF);
                }
                Step::Delete { name } => world.delete(&format!("s{name}")),
            }
            prop_assert_eq!(&world.result("innocent"), &held, "{}", what);
            for hostile in world.services.keys() {
                let message = world.message(&hostile.name, names::ALLOCATED);
                prop_assert!(!message.is_empty(), "{}: {} has no reason", what, hostile.name);
                prop_assert!(message.len() <= MAX_MESSAGE + 60, "{}: {} octets", what, message.len());
                prop_assert!(message.chars().all(is_printable), "{}: {:?}", what, message);
            }
        }
        // A new process does not know the conflicts, so it removes their conditions.
        world.wait(LONGEST_BACK_OFF + QUIET);
        world.check_restart("after the attack");
    }
}
