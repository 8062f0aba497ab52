//! Sockets and netlink on real interfaces, in network namespaces that each test creates.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod bfd;
mod netns;
mod routers;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use fairlead_l2::{GroupEvent, Interface, InterfaceSet, NdpPacket, Responder, Transmit};
use fairlead_net::links::{Link, Links, Monitor};
use fairlead_net::tcp::{ConnectOptions, connect};
use fairlead_net::{ArpSocket, NdpSocket};
use netns::{Cable, cable, inside, ip};
use tokio::time::timeout;

const V4: &str = "192.0.2.10";
const V6: &str = "2001:db8::10";

/// Limit for everything that must happen; long enough for a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);
/// Long enough for a packet to arrive.
const MOMENT: Duration = Duration::from_millis(200);

fn named<'a>(links: &'a Links, name: &str) -> Option<&'a Link> {
    links.by_index.values().find(|link| link.name == name)
}

/// Waits until `eth0` is up and has a link-local address.
async fn eth0() -> Link {
    let mut monitor = Monitor::open().await.unwrap();
    let ready = |link: &&Link| link.announces() && link.link_local().is_some();
    loop {
        if let Some(link) = named(monitor.links(), "eth0").filter(ready) {
            return link.clone();
        }
        timeout(PATIENCE, monitor.changed()).await.expect("eth0 is up").unwrap();
    }
}

/// Answers for [`V4`] and [`V6`] until `stop` resolves, as the shell of the speaker does.
async fn respond(stop: tokio::sync::oneshot::Receiver<()>, ready: mpsc::Sender<Link>) -> Responder {
    let link = eth0().await;
    let arp = ArpSocket::open(link.index).unwrap();
    let mut ndp = NdpSocket::open(link.index, &link.name).unwrap();
    let mut responder = Responder::new();
    let interface = Interface {
        index: link.index,
        name: link.name.clone(),
        mac: link.mac.unwrap(),
        arp: link.broadcast && !link.no_arp,
        link_local: link.link_local(),
    };
    responder.set_interface(Instant::now(), interface);
    for address in [V4, V6] {
        responder.announce(Instant::now(), address.parse().unwrap(), InterfaceSet::All);
    }
    tokio::pin!(stop);
    let (mut frame, mut packet) = ([0; 2048], [0; 2048]);
    let mut ready = Some(ready);
    loop {
        while let Some(event) = responder.poll_event() {
            match event {
                GroupEvent::Join { group, .. } => ndp.join(group).unwrap(),
                GroupEvent::Leave { group, .. } => ndp.leave(group).unwrap(),
            }
        }
        while let Some(transmit) = responder.poll_transmit() {
            match transmit {
                Transmit::Arp { frame, .. } => arp.send(&frame).unwrap(),
                Transmit::Ndp { destination, message, .. } => ndp.send(destination, &message).unwrap(),
            }
        }
        if let Some(ready) = ready.take() {
            ready.send(link.clone()).unwrap();
        }
        let due = responder.poll_timeout().unwrap_or_else(|| Instant::now() + PATIENCE);
        tokio::select! {
            _ = &mut stop => return responder,
            len = arp.recv(&mut frame) => {
                responder.handle_arp(Instant::now(), link.index, &frame[..len.unwrap()]);
            }
            message = ndp.recv(&mut packet) => {
                let message = message.unwrap();
                let packet = NdpPacket {
                    source: message.source,
                    destination: message.destination,
                    hop_limit: message.hop_limit,
                    message: &packet[..message.len],
                };
                responder.handle_ndp(Instant::now(), link.index, packet);
            }
            () = tokio::time::sleep_until(due.into()) => responder.handle_timeout(Instant::now()),
        }
    }
}

fn neighbor_entry(cable: &Cable, address: &str) -> String {
    ip(&["-n", &cable.neighbor, "neigh", "show", address, "dev", "eth0"])
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn mac_text(link: &Link) -> String {
    link.mac.unwrap().map(|byte| format!("{byte:02x}")).join(":")
}

/// Sends a datagram from the neighbor, so that its kernel resolves the address.
fn send_datagram(cable: &Cable, address: &str) {
    let to = SocketAddr::new(address.parse().unwrap(), 9);
    let from: IpAddr = match to.ip() {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    inside(&cable.neighbor, async || {
        let socket = UdpSocket::bind(SocketAddr::new(from, 0)).unwrap();
        socket.set_broadcast(true).unwrap();
        socket.send_to(b"hello", to).unwrap();
    });
}

#[test]
fn neighbor_resolves_and_verifies_announced_addresses() {
    let Some(cable) = cable() else { return };
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let (ready, is_ready) = mpsc::channel();
    let responder = std::thread::scope(|scope| {
        let responder = scope.spawn(|| inside(&cable.node, async || respond(stopped, ready).await));
        let link = is_ready.recv_timeout(PATIENCE).unwrap();
        for address in [V4, V6] {
            ip(&["-n", &cable.neighbor, "neigh", "flush", "dev", "eth0"]);
            send_datagram(&cable, address);
            wait_until("the neighbor resolves", || {
                let entry = neighbor_entry(&cable, address);
                entry.contains(&mac_text(&link)) && entry.contains("REACHABLE")
            });
            // The verification is unicast to an address that the node does not have.
            ip(&["-n", &cable.neighbor, "neigh", "change", address, "dev", "eth0", "nud", "probe"]);
            wait_until("the verification of the neighbor is answered", || {
                let entry = neighbor_entry(&cable, address);
                assert!(!entry.contains("FAILED"), "{entry}");
                entry.contains("REACHABLE")
            });
        }
        stop.send(()).unwrap();
        responder.join().unwrap()
    });
    for (address, counters) in responder.announced() {
        assert!(counters.requests >= 2, "{address}: resolution and verification: {counters:?}");
    }
}

#[test]
fn gratuitous_announcement_updates_neighbor_entry() {
    let Some(cable) = cable() else { return };
    for address in [V4, V6] {
        let old = "02:00:00:00:00:99";
        ip(&["-n", &cable.neighbor, "neigh", "add", address, "lladdr", old, "dev", "eth0", "nud", "stale"]);
    }
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let (ready, is_ready) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| inside(&cable.node, async || respond(stopped, ready).await));
        let link = is_ready.recv_timeout(PATIENCE).unwrap();
        for address in [V4, V6] {
            wait_until("the entry is updated", || neighbor_entry(&cable, address).contains(&mac_text(&link)));
        }
        stop.send(()).unwrap();
    });
}

fn arp_frame(to: [u8; 6], operation: u8) -> Vec<u8> {
    let mut frame = [&to[..], &[2, 0, 0, 0, 0, 9, 0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, operation]].concat();
    frame.extend([2, 0, 0, 0, 0, 9, 192, 0, 2, 9, 0, 0, 0, 0, 0, 0, 192, 0, 2, 10]);
    frame
}

#[test]
fn arp_socket_filters_frames_and_survives_link_down() {
    let Some(cable) = cable() else { return };
    let send = |frames: Vec<Vec<u8>>| {
        inside(&cable.neighbor, async || {
            let socket = ArpSocket::open(eth0().await.index).unwrap();
            for frame in frames {
                socket.send(&frame).unwrap();
            }
        });
    };
    inside(&cable.node, async || {
        let link = eth0().await;
        let socket = ArpSocket::open(link.index).unwrap();
        let mut buf = [0; 2048];

        send(vec![arp_frame([0xff; 6], 8), arp_frame([2, 7, 7, 7, 7, 7], 1)]);
        for _ in 0..50 {
            send_datagram(&cable, "192.0.2.255");
        }
        assert!(
            timeout(MOMENT, socket.recv(&mut buf)).await.is_err(),
            "inverse ARP and frames to other hosts are dropped"
        );

        let own = link.mac.unwrap();
        let messages = [arp_frame([0xff; 6], 1), arp_frame(own, 1), arp_frame([0xff; 6], 2)];
        send(messages.to_vec());
        for message in messages {
            let len = timeout(PATIENCE, socket.recv(&mut buf)).await.unwrap().unwrap();
            assert_eq!(buf[..len], message);
        }

        ip(&["-n", &cable.node, "link", "set", "eth0", "down"]);
        assert!(timeout(MOMENT, socket.recv(&mut buf)).await.is_err());
        assert_eq!(socket.send(&arp_frame([0xff; 6], 1)).unwrap_err().raw_os_error(), Some(libc::ENETDOWN));
        ip(&["-n", &cable.node, "link", "set", "eth0", "up"]);
        eth0().await;
        send(vec![arp_frame([0xff; 6], 1)]);
        assert!(
            timeout(PATIENCE, socket.recv(&mut buf)).await.unwrap().is_ok(),
            "the same socket works after the link is up"
        );
    });
}

#[test]
fn ndp_socket_joins_thousands_of_groups() {
    let Some(cable) = cable() else { return };
    let joined = |cable: &Cable| {
        let groups = ip(&["-n", &cable.node, "maddress", "show", "dev", "eth0"]);
        groups.lines().filter(|line| line.contains("ff02::1:ff") && line.contains("inet6")).count()
    };
    let before = joined(&cable);
    inside(&cable.node, async || {
        let mut socket = NdpSocket::open(eth0().await.index, "eth0").unwrap();
        let group = |n: u16| Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff77, n);
        for n in 0..3_000 {
            socket.join(group(n)).unwrap();
        }
        socket.join(group(0)).unwrap();
        assert_eq!(joined(&cable) - before, 3_000);
        for n in 0..2_999 {
            socket.leave(group(n)).unwrap();
        }
        socket.leave(group(0)).unwrap();
        assert_eq!(joined(&cable) - before, 1);
    });
    wait_until("closing the socket leaves the last group", || joined(&cable) == before);
}

/// A name, the arguments of iproute2, and the state that follows.
type Step = (&'static str, &'static [&'static str], fn(&Link) -> bool);

#[test]
fn monitor_reports_interface_changes() {
    let Some(cable) = cable() else { return };
    let node = cable.node.clone();
    inside(&cable.node, async || {
        eth0().await;
        let mut monitor = Monitor::open().await.unwrap();
        let first = named(monitor.links(), "eth0").unwrap().clone();
        assert!(first.announces() && first.broadcast && !first.no_arp && first.mac.is_some());
        assert!(named(monitor.links(), "lo").is_some_and(|lo| lo.loopback && !lo.announces()));

        let steps: [Step; 10] = [
            ("IPv4 address", &["address", "add", "192.0.2.1/24", "dev", "eth0"], |link| {
                link.ipv4() == Some(Ipv4Addr::new(192, 0, 2, 1))
                    && link.addresses.iter().any(|net| net.prefix_len() == 24)
            }),
            ("IPv6 address", &["address", "add", "2001:db8::1/64", "dev", "eth0", "nodad"], |link| {
                link.ipv6() == Some("2001:db8::1".parse().unwrap())
            }),
            (
                "deprecated address",
                &["address", "change", "2001:db8::1/64", "dev", "eth0", "preferred_lft", "0"],
                |link| {
                    let address: Ipv6Addr = "2001:db8::1".parse().unwrap();
                    link.deprecated == [address] && link.ipv6() == Some(address)
                },
            ),
            (
                "address no longer deprecated",
                &["address", "change", "2001:db8::1/64", "dev", "eth0", "preferred_lft", "forever"],
                |link| link.ipv6().is_some() && link.deprecated.is_empty() && link.temporary.is_empty(),
            ),
            ("address deleted", &["address", "del", "192.0.2.1/24", "dev", "eth0"], |link| {
                link.ipv4().is_none()
            }),
            ("other MAC", &["link", "set", "eth0", "address", "02:00:00:00:00:77"], |link| {
                link.mac == Some([2, 0, 0, 0, 0, 0x77])
            }),
            ("down", &["link", "set", "eth0", "down"], |link| !link.up && link.link_local().is_none()),
            ("up", &["link", "set", "eth0", "up"], |link| link.announces() && link.link_local().is_some()),
            ("no ARP", &["link", "set", "eth0", "arp", "off"], |link| link.no_arp),
            ("renamed", &["link", "set", "eth0", "name", "wan0"], |link| link.name == "wan0"),
        ];
        for (name, command, reached) in steps {
            ip(&[&["-n", &node], command].concat());
            while !reached(&monitor.links().by_index[&first.index]) {
                timeout(PATIENCE, monitor.changed()).await.expect(name).unwrap();
            }
        }
        let holder = monitor.links().holding("2001:db8::1".parse().unwrap());
        assert!(holder.is_none(), "the kernel deleted the IPv6 address when the link went down");

        ip(&["-n", &node, "link", "add", "br0", "type", "bridge"]);
        ip(&["-n", &node, "link", "set", "wan0", "master", "br0"]);
        while monitor.links().by_index[&first.index].controller.is_none() {
            timeout(PATIENCE, monitor.changed()).await.unwrap().unwrap();
        }
        assert!(!monitor.links().by_index[&first.index].announces(), "a port of a bridge cannot announce");
        // When a port leaves, the bridge sends a deletion in its own address family; the interface must
        // remain.
        ip(&["-n", &node, "link", "set", "wan0", "nomaster"]);
        while monitor.links().by_index[&first.index].controller.is_some() {
            timeout(PATIENCE, monitor.changed()).await.unwrap().unwrap();
            assert!(named(monitor.links(), "wan0").is_some());
        }
        ip(&["-n", &node, "link", "del", "wan0"]);
        while monitor.links().by_index.contains_key(&first.index) {
            timeout(PATIENCE, monitor.changed()).await.unwrap().unwrap();
        }
    });
}

#[test]
fn monitor_lists_kinds_of_interfaces() {
    let Some(cable) = cable() else { return };
    ip(&["-n", &cable.node, "link", "add", "br0", "type", "bridge"]);
    inside(&cable.node, async || {
        let monitor = Monitor::open().await.unwrap();
        let kind = |name| named(monitor.links(), name).unwrap().kind.as_deref();
        assert_eq!((kind("eth0"), kind("br0"), kind("lo")), (Some("veth"), Some("bridge"), None));
    });
}

#[test]
fn permanent_address_is_preferred_to_temporary_one() {
    let Some(cable) = cable() else { return };
    let node = cable.node.clone();
    let [public, router] = ["2001:db8::1", "2001:db8::fe"].map(|text| text.parse::<Ipv6Addr>().unwrap());
    ip(&["-n", &cable.neighbor, "address", "add", "2001:db8::fe/64", "dev", "eth0", "nodad"]);
    let listener = inside(&cable.neighbor, async || std::net::TcpListener::bind((router, 0)).unwrap());
    let port = listener.local_addr().unwrap().port();
    inside(&cable.node, async || {
        eth0().await;
        let mut monitor = Monitor::open().await.unwrap();
        // Privacy extensions, which prefer temporary addresses.
        ip(&["netns", "exec", &node, "sh", "-c", "echo 2 > /proc/sys/net/ipv6/conf/eth0/use_tempaddr"]);
        let address = ["2001:db8::1/64", "dev", "eth0", "nodad", "mngtmpaddr"];
        ip(&[
            &["-n", &node, "address", "add"],
            &address[..],
            &["valid_lft", "7200", "preferred_lft", "3600"],
        ]
        .concat());
        let link = loop {
            let link = named(monitor.links(), "eth0").unwrap();
            if !link.temporary.is_empty() && link.holds(public.into()) {
                break link.clone();
            }
            timeout(PATIENCE, monitor.changed()).await.expect("a temporary address").unwrap();
        };
        assert!(link.temporary.iter().all(|address| *address != IpAddr::from(public)), "{link:?}");
        assert_eq!(link.ipv6(), Some(public));
        let stream = connect(&ConnectOptions::new((router, port).into())).await.unwrap();
        assert_eq!(stream.local_addr().unwrap().ip(), IpAddr::from(public));
    });
}

#[test]
fn monitor_lists_again_after_overrun() {
    let Some(cable) = cable() else { return };
    let node = cable.node.clone();
    inside(&cable.node, async || {
        let mut monitor = Monitor::open().await.unwrap();
        // This thread waits for iproute2 and does not read, so that the buffer of the socket overflows.
        let churn =
            "for n in $(seq 1 3000); do echo address add 10.0.$((n / 250)).$((n % 250))/32 dev eth0; done";
        ip(&["netns", "exec", &node, "sh", "-c", &format!("{{ {churn}; }} | ip -batch -")]);
        let complete = |monitor: &Monitor| {
            let link = named(monitor.links(), "eth0").unwrap();
            link.addresses.iter().filter(|net| net.addr().is_ipv4()).count() == 3_000
        };
        while !complete(&monitor) {
            timeout(PATIENCE, monitor.changed()).await.expect("every address is listed").unwrap();
        }
    });
}
