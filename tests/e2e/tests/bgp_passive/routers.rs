//! FRR and BIRD connect to the speakers, and hosts that may not are refused.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};

use anyhow::ensure;
use fairlead_e2e::{LbService, SECOND, SOON, all_nodes, expect_next_hops};
use fairlead_lab::peers::{Bird, Host};
use fairlead_lab::{LAN_INTERFACE, wait_for};
use serde_json::json;

use crate::setup::{
    LAB, expect_all_established, expect_connections_of_frr, expect_established, expect_not_connected, peer,
    set, set_frr,
};

/// Connects to port 179 of `n1` from another host.
fn connect(from: &Host) -> std::io::Result<TcpStream> {
    let to = SocketAddr::from(([192, 0, 2, 11], 179));
    from.netns().run(|| TcpStream::connect_timeout(&to, SECOND)).unwrap()
}

/// Waits until port 179 of `n1` is closed, as without a passive peer.
fn expect_closed_port(from: &Host) {
    wait_for("the closed port", 2 * SOON, || {
        let result = connect(from).map_err(|error| error.kind());
        ensure!(matches!(result, Err(ErrorKind::ConnectionRefused)), "{result:?}");
        Ok(())
    })
    .unwrap();
}

#[test]
fn frr_connects_while_the_peer_is_passive() {
    let lab = LAB.turn();
    let service = LbService::new("passive", "bgp");
    let addresses = service.up(&lab).unwrap();
    let stranger = Host::plug(&lab, "stranger", 8).unwrap();
    expect_closed_port(&stranger);

    // Another process listens on one of the nodes.
    let node = &lab.network().nodes[1].netns;
    let other = node.run(|| TcpListener::bind("0.0.0.0:179")).unwrap().unwrap();
    set_frr(&lab, json!({ "passive": true }));
    expect_not_connected(&lab, "n2", "router-v4", &["IPv4 port 179: another process", "--bgp-listen-port"]);
    drop(other);
    expect_all_established(&lab);
    expect_connections_of_frr(&lab);
    for ip in &addresses {
        expect_next_hops(&lab, *ip, &all_nodes(&lab), SOON).unwrap();
    }

    // The kernel does not answer a host that is no peer.
    let error = connect(&stranger).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");

    // The speakers connect again, and close the port.
    set_frr(&lab, json!({ "passive": false }));
    expect_closed_port(&stranger);
    expect_all_established(&lab);
    service.delete(&lab).unwrap();
}

#[test]
fn speaker_listens_beside_a_daemon_on_another_address() {
    let lab = LAB.turn();
    let node = &lab.network().nodes[1].netns;
    // A speaker closes the port some time after its last passive peer was edited.
    let listen = || {
        wait_for("a free port on the loopback address", SOON, || {
            anyhow::Ok(node.run(|| TcpListener::bind("127.0.0.1:179"))??)
        })
        .unwrap()
    };
    let daemon = listen();
    set_frr(&lab, json!({ "passive": true, "sourceInterface": LAN_INTERFACE }));
    expect_all_established(&lab);
    expect_connections_of_frr(&lab);
    // A daemon that starts later.
    drop(daemon);
    drop(listen());
    set_frr(&lab, json!({ "passive": false, "sourceInterface": null }));
    expect_all_established(&lab);
}

#[test]
fn bird_connects_and_low_ttl_is_refused() {
    let lab = LAB.turn();
    let host = Host::plug(&lab, "bird", 3).unwrap();
    let config = |options: &str| {
        format!(
            "protocol bgp n1 {{ local 2001:db8:1::3 as 64700; neighbor 2001:db8:1::11 as 64513; \
             connect delay time 1; connect retry time 1; error wait time 1, 2; {options} \
             ipv6 {{ import all; export none; }}; }}\n"
        )
    };
    let mut object = peer("bird");
    object["spec"] = json!({ "myASN": 64513, "peerASN": 64700, "peerAddress": "2001:db8:1::3", "passive": true,
                             "ttlSecurity": 1,
                             "nodeSelectors": [{ "matchLabels": { "kubernetes.io/hostname": "n1" } }] });
    // An eBGP session of BIRD on the link sends TTL 1.
    let bird = Bird::start(&host, &config("")).unwrap();
    lab.api().unwrap().apply_object(object).unwrap();
    expect_not_connected(&lab, "n1", "bird", &["TTL 1:", "requires 255"]);
    bird.process().kill().unwrap();
    let service = LbService::new("bird", "bgp").single("IPv6");
    let ip: IpAddr = service.up(&lab).unwrap()[0];
    let bird = Bird::start(&host, &config("ttl security;")).unwrap();
    expect_established(&lab, "n1", "bird");
    wait_for(format!("{ip} in BIRD"), SOON, || {
        let paths = bird.paths()?;
        ensure!(paths.iter().any(|path| path.prefix.addr() == ip), "{paths:?}");
        Ok(())
    })
    .unwrap();

    // The session ends with a reason, and returns when the router connects.
    set(&lab, "bird", json!({ "shutdown": true, "shutdownMessage": "back soon" }));
    wait_for("BIRD to see the shutdown", SOON, || {
        let session = bird.session("n1")?;
        ensure!(session.state != "Established" && session.message.contains("back soon"), "{session:?}");
        Ok(())
    })
    .unwrap();
    set(&lab, "bird", json!({ "shutdown": false }));
    expect_established(&lab, "n1", "bird");
    lab.api().unwrap().delete(&peer("bird").to_string()).unwrap();
    service.delete(&lab).unwrap();
}
