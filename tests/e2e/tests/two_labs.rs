//! Two clusters on one machine, with the same addresses, at the same time.

#![allow(clippy::unwrap_used)]

use fairlead_e2e::{LbService, configure, reach};
use fairlead_lab::Lab;

#[test]
fn two_labs_serve_their_own_clients() {
    let up = |name: &str| {
        let lab = Lab::builder().nodes(2).start().unwrap();
        configure(&lab).unwrap();
        let service = LbService::new(name, "l2");
        let ips = service.up(&lab).unwrap();
        (lab, ips)
    };
    let (one, one_ips) = up("one");
    let (two, two_ips) = up("two");
    assert_ne!(one.id(), two.id());
    assert_eq!(one_ips, two_ips, "the first addresses of the same pools");
    for lab in [&one, &two] {
        for ip in &one_ips {
            reach(lab, *ip, 2).unwrap();
        }
    }
    assert!(one.api().unwrap().service("two").is_err(), "each has its own API server");
    drop(two);
    for ip in &one_ips {
        reach(&one, *ip, 2).unwrap();
    }
}
