//! For any received datagrams, from outside or from a faulty speaker: no panic, and unauthentic ones change
//! nothing.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use fairlead_mesh::{Config, Identity, Mesh};
use proptest::prelude::*;
use proptest::sample::Index;
use ring::hmac;

const KEY: &[u8] = b"the key of this mesh";
const TAG: usize = 32;
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

fn address(node: u8) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(10, 0, 0, node), 7947))
}

fn mesh(node: u8) -> Mesh {
    let identity = Identity { node: format!("node-{node}"), address: address(node), generation: 1 };
    let mut mesh = Mesh::new(*START, Config::default(), identity, KEY, u64::from(node));
    let peers: BTreeMap<_, _> = (0..3).map(|peer| (format!("node-{peer}"), address(peer))).collect();
    mesh.set_peers(*START, peers);
    mesh
}

/// The datagrams that `node-0` receives from `node-1` in their first second.
static CONVERSATION: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let mut meshes = [mesh(0), mesh(1)];
    let mut received = Vec::new();
    for step in 0..1_000 {
        let now = *START + Duration::from_millis(step);
        for node in 0..2 {
            meshes[node].handle_timeout(now);
            while let Some((to, datagram)) = meshes[node].poll_transmit() {
                if to == address(2) {
                    continue;
                }
                meshes[1 - node].handle_datagram(now, address(node as u8), &datagram);
                if node == 1 {
                    received.push(datagram);
                }
            }
        }
    }
    assert!(received.len() > 10);
    received
});

/// Appends the HMAC that makes a datagram authentic.
fn with_hmac(mut signed: Vec<u8>) -> Vec<u8> {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, KEY), &signed);
    signed.extend_from_slice(tag.as_ref());
    signed
}

/// Runs the mesh for 2 s and checks that it sends a normal number of datagrams.
fn check_normal_operation(mesh: &mut Mesh) {
    let mut sent = 0;
    for step in 1..100 {
        mesh.handle_timeout(*START + Duration::from_millis(20 * step));
        while mesh.poll_transmit().is_some() {
            sent += 1;
        }
        while mesh.poll_event().is_some() {}
    }
    assert!(sent < 1_000, "{sent} datagrams");
    assert!(mesh.alive().contains("node-0"), "this speaker is always a member");
}

#[test]
fn datagram_does_not_delay_due_announcement() {
    let mut mesh = mesh(0);
    while mesh.poll_transmit().is_some() {}
    let due = *START + Config::default().announce_period;
    mesh.handle_datagram(due, address(1), &CONVERSATION[0]);
    mesh.handle_timeout(due);
    let to: Vec<SocketAddr> = std::iter::from_fn(|| mesh.poll_transmit()).map(|(to, _)| to).collect();
    assert!(to.contains(&address(2)), "node-2 is missing: {to:?}");
}

proptest! {
    #[test]
    fn unauthentic_datagram_changes_nothing(bytes in prop::collection::vec(any::<u8>(), 0..1_500)) {
        let mut mesh = mesh(0);
        while mesh.poll_transmit().is_some() {}
        mesh.handle_datagram(*START, address(1), &bytes);
        prop_assert_eq!(mesh.counters().unauthentic, 1);
        prop_assert_eq!(mesh.poll_transmit(), None);
        prop_assert_eq!(mesh.poll_event(), None);
        prop_assert_eq!(mesh.alive().len(), 1);
    }

    #[test]
    fn authentic_random_bytes_are_rejected(bytes in prop::collection::vec(any::<u8>(), 0..1_500)) {
        let mut mesh = mesh(0);
        mesh.handle_datagram(*START, address(1), &with_hmac([vec![1], bytes].concat()));
        let counters = mesh.counters();
        prop_assert_eq!(counters.unauthentic, 0);
        prop_assert!(counters.received <= 1);
        check_normal_operation(&mut mesh);
    }

    #[test]
    fn damaged_authentic_datagrams_are_tolerated(
        picks in prop::collection::vec((any::<Index>(), 1usize..200, any::<u8>(), 0usize..200), 1..8),
    ) {
        let mut mesh = mesh(0);
        for (pick, at, value, cut) in picks {
            let datagram = pick.get(&CONVERSATION[..]);
            let mut signed = datagram[..datagram.len() - TAG].to_vec();
            if let Some(byte) = signed.get_mut(at) {
                *byte = value;
            }
            signed.truncate(signed.len().min(cut.max(1)));
            mesh.handle_datagram(*START, address(1), &with_hmac(signed));
        }
        check_normal_operation(&mut mesh);
    }

    #[test]
    fn datagrams_in_any_order_and_number_are_tolerated(
        picks in prop::collection::vec(any::<Index>(), 0..60),
    ) {
        let mut mesh = mesh(0);
        for pick in picks {
            let datagram: &Vec<u8> = pick.get(&CONVERSATION[..]);
            mesh.handle_datagram(*START, address(1), datagram);
        }
        prop_assert_eq!(mesh.counters().unauthentic, 0);
        check_normal_operation(&mut mesh);
    }
}
