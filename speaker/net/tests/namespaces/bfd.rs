//! The sockets of BFD between two namespaces.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use fairlead_net::Scheduling;
use fairlead_net::bfd::{BfdBatch, BfdPoller, BfdReceiver, BfdTransmitter, local_address};
use socket2::SockRef;

use crate::netns::{Cable, cable, inside, ip};
use crate::{MOMENT, PATIENCE, eth0};

const PORT: u16 = 3784;

/// Local addresses of the node and addresses of its neighbor.
const PAIRS: [(&str, &str); 2] = [("192.0.2.1", "192.0.2.9"), ("2001:db8::1", "2001:db8::9")];

fn addressed_cable() -> Option<Cable> {
    let cable = cable()?;
    ip(&["-n", &cable.node, "address", "add", "192.0.2.1/24", "dev", "eth0"]);
    ip(&["-n", &cable.node, "address", "add", "192.0.2.2/24", "dev", "eth0"]);
    ip(&["-n", &cable.node, "address", "add", "2001:db8::1/64", "dev", "eth0", "nodad"]);
    Some(cable)
}

/// A datagram as owned values: arrival, source, interface, TTL and payload.
type Received = (Instant, IpAddr, u32, u8, Vec<u8>);

/// Waits for one or more datagrams, or until `limit` is over.
fn receive(receiver: &mut BfdReceiver, limit: Duration) -> Vec<Received> {
    let (mut poller, _waker) = BfdPoller::new().unwrap();
    let mut batch = BfdBatch::new();
    let mut received = Vec::new();
    poller.wait(std::iter::once(&*receiver), Some(limit)).unwrap();
    loop {
        let more = receiver.receive(&mut batch).unwrap();
        let datagrams = batch.datagrams();
        received.extend(datagrams.map(|d| (d.arrived, d.source, d.interface, d.ttl, d.payload.to_vec())));
        if !more {
            return received;
        }
    }
}

fn transmitter(from: &str, to: &str) -> BfdTransmitter {
    let to = SocketAddr::new(to.parse().unwrap(), PORT);
    BfdTransmitter::open(from.parse().unwrap(), to, None, 7).unwrap()
}

/// Sends a datagram from the neighbor with this TTL.
fn send_with_ttl(cable: &Cable, from: &str, to: &str, ttl: u32, payload: &[u8]) {
    inside(&cable.neighbor, async || {
        let socket = std::net::UdpSocket::bind((from.parse::<IpAddr>().unwrap(), 0)).unwrap();
        match from.contains(':') {
            true => SockRef::from(&socket).set_unicast_hops_v6(ttl).unwrap(),
            false => socket.set_ttl(ttl).unwrap(),
        }
        socket.send_to(payload, (to.parse::<IpAddr>().unwrap(), PORT)).unwrap();
    });
}

#[test]
fn control_packet_arrives_with_ttl_interface_and_time() {
    let Some(cable) = addressed_cable() else { return };
    for (local, remote) in PAIRS {
        inside(&cable.node, async || {
            let link = eth0().await;
            let mut receiver = BfdReceiver::bind(local.parse().unwrap(), None, PORT, 255).unwrap();
            let sent = Instant::now();
            inside(&cable.neighbor, async || transmitter(remote, local).send(&[0x20; 24]).unwrap());
            let done = Instant::now();
            std::thread::sleep(MOMENT);
            let received = receive(&mut receiver, PATIENCE);
            let [(arrived, source, interface, ttl, payload)] = &received[..] else { panic!("{received:?}") };
            assert_eq!(*source, remote.parse::<IpAddr>().unwrap());
            assert_eq!((*interface, *ttl, &payload[..]), (link.index, 255, &[0x20; 24][..]));
            // The time is that of the arrival, not of reading. The clocks are read one after the other.
            let error = Duration::from_millis(2);
            assert!(*arrived + error >= sent && *arrived <= done + error, "{:?}", *arrived - sent);
        });
    }
}

#[test]
fn packet_with_lower_ttl_is_dropped() {
    let Some(cable) = addressed_cable() else { return };
    for (local, remote) in PAIRS {
        inside(&cable.node, async || {
            let mut receiver = BfdReceiver::bind(local.parse().unwrap(), None, PORT, 255).unwrap();
            send_with_ttl(&cable, remote, local, 254, b"no");
            assert_eq!(receive(&mut receiver, MOMENT), []);
            receiver.set_min_ttl(254).unwrap();
            send_with_ttl(&cable, remote, local, 253, b"no");
            send_with_ttl(&cable, remote, local, 254, b"yes");
            let received = receive(&mut receiver, PATIENCE);
            let seen: Vec<_> = received.iter().map(|(.., ttl, payload)| (*ttl, &payload[..])).collect();
            assert_eq!(seen, [(254, &b"yes"[..])]);
        });
    }
}

#[test]
fn burst_and_long_datagrams_are_received() {
    let Some(cable) = addressed_cable() else { return };
    let (local, remote) = PAIRS[0];
    inside(&cable.node, async || {
        let mut receiver = BfdReceiver::bind(local.parse().unwrap(), None, PORT, 255).unwrap();
        inside(&cable.neighbor, async || {
            let transmitter = transmitter(remote, local);
            for n in 0..40_u8 {
                transmitter.send(&vec![n; usize::from(n) * 4]).unwrap();
            }
        });
        std::thread::sleep(MOMENT);
        let received = receive(&mut receiver, PATIENCE);
        assert_eq!(received.len(), 40);
        for (n, (arrived, _, _, _, payload)) in received.iter().enumerate() {
            assert_eq!(payload[..], vec![n as u8; (n * 4).min(64)]);
            assert!(n == 0 || received[n - 1].0 <= *arrived + Duration::from_millis(1));
        }
    });
}

#[test]
fn address_is_bound_exclusively() {
    let Some(cable) = addressed_cable() else { return };
    inside(&cable.node, async || {
        let bind = |address: &str| BfdReceiver::bind(address.parse().unwrap(), None, PORT, 255);
        let error = |address: &str| bind(address).unwrap_err().kind();
        let first = bind("192.0.2.1").unwrap();
        assert_eq!(error("192.0.2.1"), std::io::ErrorKind::AddrInUse);
        assert_eq!(error("192.0.2.77"), std::io::ErrorKind::AddrNotAvailable);
        assert!(std::net::UdpSocket::bind(("192.0.2.2", PORT)).is_ok(), "another daemon, another address");
        drop(first);
        let daemon = std::net::UdpSocket::bind(("0.0.0.0", PORT)).unwrap();
        assert_eq!(error("192.0.2.1"), std::io::ErrorKind::AddrInUse);
        drop(daemon);
        assert!(bind("192.0.2.1").is_ok());
    });
}

#[test]
fn each_session_has_one_source_port_in_the_range() {
    let Some(cable) = addressed_cable() else { return };
    inside(&cable.neighbor, async || {
        let listener = std::net::UdpSocket::bind(("192.0.2.9", PORT)).unwrap();
        listener.set_read_timeout(Some(PATIENCE)).unwrap();
        inside(&cable.node, async || {
            let transmitters = [(); 3].map(|()| transmitter("192.0.2.1", "192.0.2.9"));
            for _ in 0..2 {
                transmitters.iter().for_each(|transmitter| transmitter.send(b"hello").unwrap());
            }
        });
        let ports = [(); 6].map(|()| listener.recv_from(&mut [0; 16]).unwrap().1.port());
        assert_eq!(ports[..3], ports[3..], "a session keeps its port");
        let distinct: BTreeSet<u16> = ports.into_iter().collect();
        assert!(distinct.len() == 3 && *distinct.first().unwrap() >= 49152, "{ports:?}");
    });
}

#[test]
fn sending_goes_on_while_the_peer_refuses_packets() {
    let Some(cable) = addressed_cable() else { return };
    inside(&cable.node, async || {
        let transmitter = transmitter("192.0.2.1", "192.0.2.9");
        // No socket is bound at the neighbor: its kernel answers with ICMP port unreachable.
        for _ in 0..3 {
            transmitter.send(b"hello").unwrap();
            std::thread::sleep(Duration::from_millis(20));
        }
    });
}

#[test]
fn link_local_addresses_work_with_an_interface() {
    let Some(cable) = addressed_cable() else { return };
    let (near, far) =
        (inside(&cable.node, async || eth0().await), inside(&cable.neighbor, async || eth0().await));
    let [local, remote] = [&near, &far].map(|link| IpAddr::from(link.link_local().unwrap()));
    inside(&cable.node, async || {
        assert_eq!(local_address(remote, Some(near.index)).unwrap(), local);
        let mut receiver = BfdReceiver::bind(local, Some(near.index), PORT, 255).unwrap();
        inside(&cable.neighbor, async || {
            let to = SocketAddr::new(local, PORT);
            BfdTransmitter::open(remote, to, Some(far.index), 0).unwrap().send(b"hello").unwrap();
        });
        let received = receive(&mut receiver, PATIENCE);
        assert_eq!(received[0].1, remote);
        assert_eq!((received[0].2, &received[0].4[..]), (near.index, &b"hello"[..]));
    });
}

#[test]
fn local_address_is_that_of_the_route() {
    let Some(cable) = addressed_cable() else { return };
    inside(&cable.node, async || {
        for (local, remote) in PAIRS {
            assert_eq!(
                local_address(remote.parse().unwrap(), None).unwrap(),
                local.parse::<IpAddr>().unwrap()
            );
        }
        assert!(local_address("198.51.100.1".parse().unwrap(), None).is_err(), "no route");
    });
}

#[test]
fn waker_ends_a_wait_and_keeps_no_wake_up() {
    let (mut poller, waker) = BfdPoller::new().unwrap();
    let start = Instant::now();
    for _ in 0..1_000_000 {
        waker.wake();
    }
    poller.wait(std::iter::empty(), Some(PATIENCE)).unwrap();
    assert!(start.elapsed() < PATIENCE);
    let start = Instant::now();
    poller.wait(std::iter::empty(), Some(MOMENT)).unwrap();
    assert!(start.elapsed() >= MOMENT);
}

#[test]
fn scheduling_of_a_thread_is_what_the_kernel_reports() {
    let raise = || {
        let scheduling = Scheduling::raise();
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        // After the name, which may contain spaces: nice is field 19, the policy field 41 (proc(5)).
        let fields: Vec<i32> = stat
            .rsplit_once(')')
            .unwrap()
            .1
            .split_whitespace()
            .map(|field| field.parse().unwrap_or(0))
            .collect();
        (scheduling, fields[19 - 3], fields[41 - 3])
    };
    let (scheduling, nice, policy) = std::thread::spawn(raise).join().unwrap();
    match scheduling {
        Scheduling::Fifo => assert_eq!(policy, libc::SCHED_FIFO),
        Scheduling::Nice => assert_eq!((nice, policy), (-15, libc::SCHED_OTHER)),
        Scheduling::Normal => assert_eq!(policy, libc::SCHED_OTHER),
    }
}
