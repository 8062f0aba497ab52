//! Router discovery and the default gateway.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use fairlead_l2::{NdpPacket, RouterDiscovery};
use fairlead_net::RouterDiscoverySocket;
use fairlead_net::default_routes::{Gateway, Monitor};
use tokio::time::timeout;

use crate::netns::{cable, inside, ip};
use crate::{PATIENCE, eth0};

/// Runs router discovery on `eth0` until another router is found, and long enough to be found by it.
async fn discover() -> IpAddr {
    let link = eth0().await;
    let socket = RouterDiscoverySocket::open(link.index, &link.name).unwrap();
    let mut discovery = RouterDiscovery::new(Instant::now(), link.mac.unwrap());
    let mut buffer = [0; 2048];
    let mut until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        while let Some((destination, message)) = discovery.poll_transmit() {
            socket.send(destination, &message).unwrap();
        }
        let wait = discovery.poll_timeout().min(until).saturating_duration_since(Instant::now());
        if let Ok(received) = timeout(wait, socket.recv(&mut buffer)).await {
            let message = received.unwrap();
            let packet = NdpPacket {
                source: message.source,
                destination: message.destination,
                hop_limit: message.hop_limit,
                message: &buffer[..message.len],
            };
            discovery.handle_message(Instant::now(), &packet);
            if discovery.router().is_some() {
                until = until.min(Instant::now() + Duration::from_secs(4));
            }
        }
        discovery.handle_timeout(Instant::now());
    }
    discovery.router().unwrap().into()
}

#[test]
fn both_ends_of_a_link_discover_each_other() {
    let Some(cable) = cable() else { return };
    let addresses = [&cable.node, &cable.neighbor]
        .map(|name| inside(name, async || IpAddr::from(eth0().await.link_local().unwrap())));
    std::thread::scope(|scope| {
        let neighbor = scope.spawn(|| inside(&cable.neighbor, discover));
        assert_eq!(inside(&cable.node, discover), addresses[1]);
        assert_eq!(neighbor.join().unwrap(), addresses[0]);
    });
}

#[test]
fn gateway_follows_the_default_route() {
    let Some(cable) = cable() else { return };
    let node = cable.node.as_str();
    ip(&["-n", node, "address", "add", "192.0.2.10/24", "dev", "eth0"]);
    inside(node, async || {
        let index = eth0().await.index;
        let mut monitor = Monitor::open().await.unwrap();
        assert_eq!(*monitor.gateways(), Default::default());
        let gateway = |address: &str| Some(Gateway { address: address.parse().unwrap(), ifindex: index });
        let steps: [(&[&str], Option<Gateway>, Option<Gateway>); 6] = [
            (&["route", "add", "default", "via", "192.0.2.9", "metric", "100"], gateway("192.0.2.9"), None),
            (&["route", "add", "default", "via", "192.0.2.8", "metric", "50"], gateway("192.0.2.8"), None),
            (
                &["route", "replace", "default", "via", "192.0.2.7", "metric", "50"],
                gateway("192.0.2.7"),
                None,
            ),
            (
                &["-6", "route", "add", "default", "via", "fe80::1", "dev", "eth0"],
                gateway("192.0.2.7"),
                gateway("fe80::1"),
            ),
            (&["route", "del", "default", "metric", "50"], gateway("192.0.2.9"), gateway("fe80::1")),
            (&["link", "set", "eth0", "down"], None, None),
        ];
        let first = |gateways: &[Gateway]| gateways.first().copied();
        for (command, v4, v6) in steps {
            // The monitor ignores other routes.
            if command.contains(&"add") {
                ip(&["-n", node, "route", "replace", "198.51.100.0/24", "via", "192.0.2.9"]);
            }
            ip(&[&["-n", node], command].concat());
            let deadline = Instant::now() + PATIENCE;
            while (first(&monitor.gateways().v4), first(&monitor.gateways().v6)) != (v4, v6) {
                let left = deadline.saturating_duration_since(Instant::now());
                timeout(left, monitor.changed()).await.expect("the gateway changes").unwrap();
            }
        }
    });
}
