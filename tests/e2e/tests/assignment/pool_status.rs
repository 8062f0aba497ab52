//! Item 29: the status of a pool.

use fairlead_e2e::{Pool, SOON, Scene};
use fairlead_lab::{ensure, wait_for};
use serde_json::json;

use crate::{LAB, plain};

/// Item 29.
#[test]
fn pool_status_follows_allocations() {
    let lab = LAB.turn();
    let scene = Scene::new(&lab);
    let pool = Pool::reassigning("counted", &["192.0.2.200-192.0.2.203", "2001:db8:1::200/126"]);
    let counts = |assigned_v4, free_v4, assigned_v6, free_v6| {
        scene.expect_counts(
            &pool,
            &[
                ("assignedIPv4", assigned_v4),
                ("availableIPv4", free_v4),
                ("assignedIPv6", assigned_v6),
                ("availableIPv6", free_v6),
            ],
        );
    };
    scene.pools([&pool]);
    counts(0, 4, 0, 4);
    let (one, both) = (plain("one"), plain("both").families("RequireDualStack", ["IPv4", "IPv6"]));
    scene.serve(&one, &["192.0.2.200"], "counted");
    scene.serve(&both, &["192.0.2.201", "2001:db8:1::200"], "counted");
    counts(2, 2, 1, 3);

    scene.pools([&pool.clone().of(&["192.0.2.200-192.0.2.209", "2001:db8:1::200/125"])]);
    counts(2, 8, 1, 7);

    let mut edited = pool.object().clone();
    edited["status"] = json!({ "assignedIPv4": 99, "availableIPv4": 0, "conditions": [] });
    lab.api().unwrap().apply_status(edited).unwrap();
    counts(2, 8, 1, 7);
    wait_for("the condition to be restored", SOON, || {
        let seen = pool.seen(&lab)?;
        ensure(seen["status"]["conditions"][0]["type"] == "Accepted", seen["status"].to_string())
            .map_err(anyhow::Error::msg)
    })
    .unwrap();

    scene.delete(one.object());
    counts(1, 9, 1, 7);
    scene.delete(both.object());
    counts(0, 10, 0, 8);
}
