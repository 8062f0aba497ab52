//! Datagrams of the mesh: as an outsider sends them, and as a faulty speaker that has the key sends them.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use fairlead_fuzz::fuzz;
use fairlead_mesh::{Config, Identity, Mesh};
use ring::hmac;

const KEY: &[u8] = b"the key of this mesh";

fn address(node: u8) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(10, 0, 0, node), 7947))
}

fn mesh(now: Instant) -> Mesh {
    let identity = Identity { node: "node-0".to_owned(), address: address(0), generation: 1 };
    let mut mesh = Mesh::new(now, Config::default(), identity, KEY, 1);
    let peers: BTreeMap<_, _> = (1..3).map(|node| (format!("node-{node}"), address(node))).collect();
    mesh.set_peers(now, peers);
    mesh
}

/// Delivers a datagram, then lets two seconds pass.
fn deliver(datagram: &[u8]) -> Mesh {
    let mut now = Instant::now();
    let mut mesh = mesh(now);
    mesh.handle_datagram(now, address(1), datagram);
    for _ in 0..20 {
        now += Duration::from_millis(100);
        mesh.handle_timeout(now);
        let sent = std::iter::from_fn(|| mesh.poll_transmit()).count();
        assert!(sent < 64, "{sent} datagrams in 100 ms");
        while mesh.poll_event().is_some() {}
    }
    mesh
}

#[test]
fn mesh_datagram() {
    fuzz("mesh_datagram", |input| {
        let mesh = deliver(input);
        assert_eq!(mesh.alive().len(), 1, "a datagram that is not authentic changes nothing");
    });
}

#[test]
fn mesh_authentic_payload() {
    fuzz("mesh_authentic_payload", |input| {
        let mut datagram = vec![1];
        datagram.extend_from_slice(input);
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, KEY), &datagram);
        datagram.extend_from_slice(tag.as_ref());
        let mesh = deliver(&datagram);
        assert!(mesh.alive().len() <= 3, "only listed speakers are members: {:?}", mesh.alive());
    });
}
