//! Sessions with BIRD: single hop over IPv4, multihop over IPv6, and detection.

use std::time::Instant;

use anyhow::ensure;
use fairlead_e2e::{SOON, Scene, VERSION};
use fairlead_lab::peers::{Bird, Host};
use fairlead_lab::{Carrier, wait_for};
use serde_json::{Value, json};

use crate::observed::{expect_bfd, session};
use crate::{LAB, PROFILE};

const CONFIG: &str = "
protocol bfd {
    interface \"*\" { min rx interval 50 ms; min tx interval 80 ms; multiplier 4; };
    multihop { interval 60 ms; multiplier 3; };
}
template bgp node {
    passive yes;
    bfd on;
    error wait time 1, 2;
    hold time 90;
}
protocol bgp v4 from node {
    local 192.0.2.5 as 64800;
    neighbor 192.0.2.11 as 64513;
    ipv4 { import all; export none; };
}
protocol bgp v6 from node {
    local 2001:db8:1::5 as 64800;
    neighbor 2001:db8:1::11 as 64513;
    multihop 3;
    ipv6 { import all; export none; };
}
";

/// BIRD sends multihop packets with the default TTL of the system, 64.
const MULTIHOP_PROFILE: &str = "bird-multihop";

fn peer(name: &str, address: &str, multi_hop: bool, profile: &str) -> Value {
    json!({
        "apiVersion": VERSION, "kind": "BGPPeer", "metadata": { "name": name },
        "spec": {
            "myASN": 64513, "peerASN": 64800, "peerAddress": address, "holdTime": "90s", "connectTime": "1s",
            "ebgpMultiHop": multi_hop, "bfdProfile": profile, "bfdStrict": true,
            "nodeSelectors": [{ "matchLabels": { "kubernetes.io/hostname": "n1" } }],
        },
    })
}

/// Waits until BIRD reports this state of `count` BFD sessions.
fn expect_states(bird: &Bird, state: &str, count: usize) {
    wait_for(format!("{count} BFD sessions of BIRD in {state}"), SOON, || {
        let text = bird.birdc("show bfd sessions")?;
        let seen = text.lines().filter(|line| line.split_whitespace().nth(2) == Some(state)).count();
        ensure!(seen == count, "{text}");
        anyhow::Ok(())
    })
    .unwrap();
}

#[test]
fn bird_detects_a_cut_and_recovers() {
    let lab = LAB.turn();
    let host = Host::plug(&lab, "bird", 5).unwrap();
    let bird = Bird::start(&host, CONFIG).unwrap();
    let scene = Scene::new(&lab);
    scene.apply(&json!({
        "apiVersion": VERSION, "kind": "BFDProfile", "metadata": { "name": MULTIHOP_PROFILE },
        "spec": { "transmitInterval": 50, "receiveInterval": 50, "minimumTtl": 62 },
    }));
    scene.apply(&peer("bird-v4", "192.0.2.5", false, PROFILE));
    // With the default of minimumTtl, the packets are dropped.
    scene.apply(&peer("bird-v6", "2001:db8:1::5", true, PROFILE));
    let too_low = |bfd: &Value| bfd["message"].as_str().unwrap_or_default().contains("TTL below minimumTtl");
    expect_bfd(&lab, ("n1", "bird-v6"), "no answer", SOON, too_low).unwrap();
    scene.apply(&peer("bird-v6", "2001:db8:1::5", true, MULTIHOP_PROFILE));
    let up = |peer: &str, hop_mode: &str, transmit: i64, detection: i64| {
        let so = |bfd: &Value| {
            bfd["state"] == "Up"
                && bfd["hopMode"] == hop_mode
                && bfd["transmitInterval"] == transmit
                && bfd["detectionTime"] == detection
        };
        let what = format!("Up, {hop_mode}, {transmit} ms, {detection} ms");
        expect_bfd(&lab, ("n1", peer), &what, SOON, so).unwrap()
    };
    let all_up = || {
        up("bird-v4", "SingleHop", 50, 320);
        up("bird-v6", "MultiHop", 60, 180);
        expect_states(&bird, "Up", 2);
    };
    all_up();
    wait_for("BGP with BIRD", SOON, || {
        for name in ["v4", "v6"] {
            let session = bird.session(name)?;
            ensure!(session.state == "Established", "{session:?}");
        }
        anyhow::Ok(())
    })
    .unwrap();

    let start = Instant::now();
    lab.cut("n1", Carrier::Kept).unwrap();
    wait_for("BIRD to end its BGP sessions", SOON, || {
        let states = ["v4", "v6"].map(|name| bird.session(name).map(|session| session.state));
        ensure!(states.iter().flatten().all(|state| state != "Established"), "{states:?}");
        anyhow::Ok(())
    })
    .unwrap();
    // The hold time is 90 s.
    eprintln!("cable cut: BIRD ended its sessions after less than {:?}", start.elapsed());
    lab.mend().unwrap();
    all_up();
    for peer in ["bird-v4", "bird-v6"] {
        wait_for(format!("BGP with {peer}"), SOON, || {
            let session = session(&lab, "n1", peer)?;
            ensure!(session["state"] == "Established", "{session}");
            anyhow::Ok(())
        })
        .unwrap();
    }
}
