//! Invalid objects and packets: a clear reason where an operator looks, and no effect on anything else.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use fairlead_e2e::{LbService, Policy, SOON, Shared, configure, established_since, expect_sessions, reach};
use fairlead_lab::{Lab, addresses, binaries, ensure, wait_for};
use serde_json::{Value, json};

static LAB: Shared = Shared::new(Lab::builder, configure);

/// Returns the message that an operator gets for a configuration object: the API server's rejection, or its
/// condition `Accepted` where that has a message, as `reason: message`. A missing reference is no rejection.
fn told(lab: &Lab, kind: &str, name: &str, spec: Value) -> String {
    let api = lab.api().unwrap();
    let version = "fairlead.dev/v1beta1";
    let object = json!({ "apiVersion": version, "kind": kind, "metadata": { "name": name }, "spec": spec });
    if let Err(error) = api.apply_object(object.clone()) {
        return format!("{error:#}");
    }
    let said = wait_for(format!("a condition of {kind}/{name}"), SOON, || {
        let object = api.get(version, kind, None, name)?;
        let conditions = object.pointer("/status/conditions").and_then(Value::as_array).cloned();
        let accepted = conditions.into_iter().flatten().find(|c| c["type"] == "Accepted");
        match accepted {
            Some(condition) if condition["reason"] != "Accepted" => {
                Ok(format!("{}: {}", condition["reason"], condition["message"]))
            }
            other => Err(anyhow::anyhow!("{other:?}")),
        }
    })
    .unwrap();
    api.delete(&object.to_string()).unwrap();
    said
}

/// Checks that a new Service is served end to end.
fn expect_undisturbed(lab: &Lab) {
    for pool in ["l2", "bgp"] {
        let service = LbService::new(&format!("undisturbed-{pool}"), pool);
        for ip in service.up(lab).unwrap() {
            reach(lab, ip, 1).unwrap();
        }
        service.delete(lab).unwrap();
    }
}

#[test]
fn annotations_that_fill_the_object_leave_an_address_and_a_reason() {
    /// Most octets of all annotations of an object together.
    const ALL: usize = 256 << 10;
    let lab = LAB.turn();
    let service = LbService::new("full", "l2").single("IPv4");
    let annotations = service.object()["metadata"]["annotations"].as_object().unwrap();
    let used: usize = annotations.iter().map(|(key, value)| key.len() + value.as_str().unwrap().len()).sum();
    let key = "example.com/fill";
    let service = service.annotation(key, &"f".repeat(ALL - used - key.len()));
    let ip = service.up(&lab).unwrap()[0];
    reach(&lab, ip, 1).unwrap();
    let told = wait_for("the condition of the Service", SOON, || {
        let condition = lab.api()?.condition("full", "fairlead.dev/Allocated")?;
        condition.filter(|(status, ..)| status == "True").ok_or_else(|| anyhow::anyhow!("no condition"))
    })
    .unwrap();
    assert!(told.2.contains("without the annotation fairlead.dev/ip-allocated-from-pool"), "{told:?}");
    expect_undisturbed(&lab);
    service.delete(&lab).unwrap();
}

#[test]
fn invalid_pool_is_refused_with_reason() {
    let lab = LAB.turn();
    // The spec of a pool, and a word that the message must contain, from the schema or from the condition.
    for (addresses, words) in [
        (json!([]), ["at least 1", "NoAddresses", "should have at least"].as_slice()),
        (json!(["192.0.2.230-192.0.2.220"]), &["ReversedRange", "order", "higher", "first"]),
        (json!(["192.0.2.5-2001:db8::1"]), &["MixedFamilies", "famil"]),
        (json!(["0.0.0.0/0"]), &["WholeAddressSpace", "/0"]),
        (json!(["::/0"]), &["WholeAddressSpace", "/0"]),
        (json!(["192.0.2.300/32"]), &["InvalidRange", "CIDR", "range"]),
        (json!(["192.0.2.210-192.0.2.215"]), &["Overlap"]),
        (json!(["10.9.0.0/24", "10.9.0.128/25"]), &["Overlap", "overlap"]),
    ] {
        let told = told(&lab, "IPAddressPool", "bad", json!({ "addresses": addresses }));
        eprintln!("{addresses}: {told}");
        assert!(words.iter().any(|word| told.contains(word)), "{addresses}: {told}");
    }
    expect_undisturbed(&lab);
}

#[test]
fn invalid_advertisement_or_peer_is_refused_with_reason() {
    let lab = LAB.turn();
    for (kind, spec, words) in [
        ("L2Advertisement", json!({ "ipAddressPools": ["nowhere"] }), ["PoolNotFound", "nowhere"]),
        ("BGPAdvertisement", json!({ "ipAddressPools": ["nowhere"] }), ["PoolNotFound", "nowhere"]),
        ("BGPAdvertisement", json!({ "peers": ["nobody"] }), ["PeerNotFound", "nobody"]),
        ("BGPPeer", json!({ "myASN": 64513, "peerAddress": "192.0.2.9" }), ["peerASN", "dynamicASN"]),
        ("BGPPeer", json!({ "peerASN": 64512, "peerAddress": "192.0.2.9" }), ["myASN", "myASN"]),
        ("BGPPeer", json!({ "myASN": 64513, "peerASN": 64512 }), ["peerAddress", "interface"]),
        (
            "BGPPeer",
            json!({ "myASN": 64513, "peerASN": 64512, "peerAddress": "192.0.2.9", "holdTime": "2s" }),
            ["holdTime", "hold time"],
        ),
    ] {
        let told = told(&lab, kind, "bad", spec.clone());
        eprintln!("{kind} {spec}: {told}");
        assert!(words.iter().any(|word| told.contains(word)), "{kind} {spec}: {told}");
    }
    expect_sessions(&lab, SOON).unwrap();
    expect_undisturbed(&lab);
}

#[test]
fn impossible_request_is_explained_on_service() {
    let lab = LAB.turn();
    let ask = "fairlead.dev/load-balancer-ips";
    let holder = LbService::new("holder", "l2").single("IPv4").annotation(ask, "192.0.2.222");
    holder.up(&lab).unwrap();
    let wish = |name: &str| LbService::new(name, "l2").any_pool().single("IPv4");
    for (service, reasons) in [
        (wish("in-no-pool").annotation(ask, "203.0.113.7"), ["AddressNotInPool"].as_slice()),
        (wish("taken").annotation(ask, "192.0.2.222"), &["AddressInUse"]),
        (wish("wrong-family").annotation(ask, "2001:db8:1::2aa"), &["FamilyMismatch"]),
        (wish("nonsense").annotation(ask, "the red one"), &["InvalidRequest"]),
        (LbService::new("no-pool", "missing"), &["PoolNotFound", "NoPoolMatches"]),
        // The pool has IPv4 only, and the Service requires both families.
        (LbService::new("half-pool", "silent"), &["FamilyMismatch", "NoPoolMatches", "PoolExhausted"]),
    ] {
        service.apply(&lab).unwrap();
        let name = service.name().to_owned();
        let (reason, message) = wait_for(format!("the reason why {name} has no address"), SOON, || match lab
            .api()?
            .condition(&name, "fairlead.dev/Allocated")?
        {
            Some((status, reason, message)) if status == "False" => Ok((reason, message)),
            other => Err(anyhow::anyhow!("{other:?}")),
        })
        .unwrap();
        eprintln!("{name}: {reason}: {message}");
        assert!(reasons.contains(&reason.as_str()), "{name}: {reason}: {message}");
        assert!(!message.is_empty());
        assert_eq!(lab.api().unwrap().addresses(&name).unwrap(), Vec::<IpAddr>::new());
        // The same message is an Event, which `kubectl describe` shows.
        wait_for(format!("an event about {name}"), SOON, || {
            let events = lab.api()?.list("events.k8s.io/v1", "Event")?;
            let about: Vec<_> = events
                .iter()
                .filter(|e| e["regarding"]["name"] == name.as_str())
                .map(|e| e["reason"].as_str().unwrap_or_default().to_owned())
                .collect();
            if about.contains(&reason) { Ok(()) } else { Err(anyhow::anyhow!("{about:?}")) }
        })
        .unwrap();
        service.delete(&lab).unwrap();
    }
    assert_eq!(lab.api().unwrap().addresses("holder").unwrap(), ["192.0.2.222".parse::<IpAddr>().unwrap()]);
    holder.delete(&lab).unwrap();
    expect_undisturbed(&lab);
}

#[test]
fn pool_without_advertisement_is_reported_on_service() {
    let lab = LAB.turn();
    let service = LbService::new("unadvertised", "silent").single("IPv4");
    let ip = service.up(&lab).unwrap()[0];
    let expect = |status: &str, reason: &str| {
        wait_for(format!("Covered={status} {reason}"), SOON, || {
            match lab.api()?.condition("unadvertised", "fairlead.dev/Covered")? {
                Some((s, r, message)) if s == status && r == reason => Ok(message),
                other => Err(anyhow::anyhow!("{other:?}")),
            }
        })
        .unwrap()
    };
    let message = expect("False", "NoAdvertisement");
    assert!(message.contains("silent"), "it names the pool: {message}");
    assert_eq!(lab.owner(ip).unwrap(), None);
    let advertisement = "{apiVersion: fairlead.dev/v1beta1, kind: L2Advertisement, metadata: {name: late}, \
                         spec: {ipAddressPools: [silent]}}";
    lab.api().unwrap().apply(advertisement).unwrap();
    expect("True", "Covered");
    lab.wait_for_owner(ip, SOON).unwrap();
    lab.api().unwrap().delete(advertisement).unwrap();
    expect("False", "NoAdvertisement");
    service.delete(&lab).unwrap();
}

/// Pseudo-random numbers, equal in every run.
struct Noise(u64);

impl Noise {
    fn byte(&mut self) -> u8 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 24) as u8
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.byte()).collect()
    }

    fn below(&mut self, bound: usize) -> usize {
        (usize::from(self.byte()) << 8 | usize::from(self.byte())) % bound
    }
}

fn speaker_pids(lab: &Lab) -> Vec<Option<u32>> {
    lab.nodes().iter().map(|node| node.speaker().unwrap().pid()).collect()
}

#[test]
fn malformed_arp_and_ndp_frames_are_ignored() {
    let lab = LAB.turn();
    let service = LbService::new("noise", "l2").policy(Policy::Cluster);
    let ips = service.up(&lab).unwrap();
    for ip in &ips {
        lab.wait_for_owner(*ip, SOON).unwrap();
    }
    let before = speaker_pids(&lab);
    let own = addresses::lan_mac(addresses::client()).0;
    let mut noise = Noise(0x5eed);
    // A valid ARP request for an announced address, and a valid solicitation, as templates.
    let arp = [&[0, 1, 8, 0, 6, 4, 0, 1][..], &own, &[192, 0, 2, 100], &[0; 6], &octets(ips[0])].concat();
    let ndp = [
        &[0x60, 0, 0, 0, 0, 32, 58, 255][..],
        &octets(addresses::client().v6.into()),
        &octets("ff02::1".parse().unwrap()),
        &[135, 0, 0, 0, 0, 0, 0, 0],
        &octets(ips[1]),
        &[1, 1],
        &own,
    ]
    .concat();
    let sender = lab.client().sender().unwrap();
    for round in 0..600 {
        let (kind, whole): (u16, &[u8]) = if round % 2 == 0 { (0x0806, &arp) } else { (0x86dd, &ndp) };
        let mut payload = whole.to_vec();
        match round % 5 {
            0 => payload.truncate(noise.below(payload.len())),
            1 => payload.extend(noise.bytes(900)),
            2 => {
                let at = noise.below(payload.len());
                payload[at] ^= noise.byte();
            }
            3 => payload = noise.bytes(noise.0 as usize % 1200),
            _ => payload[4] = noise.byte(),
        }
        let mut frame = [&[0xff; 6][..], &own, &kind.to_be_bytes(), &payload].concat();
        frame.resize(frame.len().max(14), 0);
        sender.send(&frame).unwrap();
    }
    for ip in ips {
        assert!(lab.owner(ip).unwrap().is_some(), "{ip} is still answered");
        reach(&lab, ip, 2).unwrap();
    }
    assert_eq!(speaker_pids(&lab), before, "every speaker still runs");
    service.delete(&lab).unwrap();
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().into(),
        IpAddr::V6(ip) => ip.octets().into(),
    }
}

#[test]
fn malformed_bgp_resets_only_its_session() {
    let lab = LAB.turn();
    let before = speaker_pids(&lab);
    // Sessions with the router; the session with the faulty peer flaps.
    let sessions = || {
        let mut sessions: Vec<_> =
            lab.nodes().iter().map(|node| established_since(&lab, node.name()).unwrap()).collect();
        sessions.iter_mut().for_each(|of_node| of_node.retain(|peer, _| peer != "mad"));
        sessions
    };
    // A Speaker object is up to date within a second.
    let both = |of_node: &BTreeMap<String, String>| of_node.len() == 2;
    wait_for("the Speaker objects to report the sessions", SOON, || {
        let sessions = sessions();
        ensure(sessions.iter().all(both), format!("{sessions:?}"))
    })
    .unwrap();
    let sessions_before = sessions();
    let address = SocketAddr::new(addresses::client().v4.into(), 179);
    let listener = lab.client().netns().run(|| TcpListener::bind(address)).unwrap().unwrap();
    let peer = "{apiVersion: fairlead.dev/v1beta1, kind: BGPPeer, metadata: {name: mad}, \
                spec: {myASN: 64513, peerASN: 64999, peerAddress: 192.0.2.100, connectTime: 1s}}";
    lab.api().unwrap().apply(peer).unwrap();
    let marker = [0xff; 16];
    let open = |asn: u16| -> Vec<u8> {
        let body = [&[4][..], &asn.to_be_bytes(), &[0, 90, 192, 0, 2, 100, 0]].concat();
        [&marker[..], &(19 + body.len() as u16).to_be_bytes(), &[1], &body].concat()
    };
    let keepalive = [&marker[..], &[0, 19, 4]].concat();
    let update = |body: &[u8]| [&marker[..], &(19 + body.len() as u16).to_be_bytes(), &[2], body].concat();
    let mut noise = Noise(0xb9b);
    let mut speeches: Vec<Vec<u8>> = vec![
        noise.bytes(300),
        // A length below that of the header, and one above that of any message.
        [&marker[..], &[0, 3, 1]].concat(),
        [&marker[..], &[0xff, 0xff, 2], &noise.bytes(5000)].concat(),
        open(1),
        open(64999)[..23].to_vec(),
        // An established session, then an AS_PATH that exceeds its attribute, contradictory attributes, a
        // loop of empty messages.
        [open(64999), keepalive.clone(), update(&[0, 0, 0, 6, 0x40, 2, 3, 2, 0, 0])].concat(),
        [open(64999), keepalive.clone(), update(&[0, 0, 0xff, 0xff, 1, 2, 3])].concat(),
        [open(64999), keepalive.clone(), update(&noise.bytes(200))].concat(),
        [open(64999), keepalive.repeat(2000)].concat(),
    ];
    let mut heard = 0;
    listener.set_nonblocking(true).unwrap();
    while let Some(speech) = speeches.pop() {
        let mut stream =
            wait_for("a speaker to connect", SOON, || listener.accept().map(|(stream, _)| stream)).unwrap();
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        // The speaker may close the connection after the first half.
        let _ = stream.write_all(&speech);
        heard += drain(&mut stream);
    }
    assert!(heard > 0, "the speakers sent at least a NOTIFICATION");
    drop(listener);
    assert_eq!(speaker_pids(&lab), before, "every speaker still runs");
    assert_eq!(sessions(), sessions_before, "no session with the router was lost");
    lab.api().unwrap().delete(peer).unwrap();
    expect_undisturbed(&lab);
}

fn drain(stream: &mut TcpStream) -> usize {
    let mut buffer = [0; 4096];
    let mut heard = 0;
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        heard += length;
    }
    heard
}

#[test]
fn missing_kubeconfig_is_one_error_line() {
    for (program, more) in
        [("fairlead-controller", &[][..]), ("fairlead-speaker", &["--node-name", "n1"][..])]
    {
        let done = Command::new(binaries::find(program).unwrap())
            .args(["--kubeconfig", "/nonexistent/kubeconfig", "--metrics-addr", "127.0.0.1:0"])
            .args(more)
            .output()
            .unwrap();
        let said =
            String::from_utf8_lossy(&done.stderr).into_owned() + &String::from_utf8_lossy(&done.stdout);
        assert!(!done.status.success(), "{program}: {said}");
        assert!(said.contains("/nonexistent/kubeconfig"), "{program}: {said}");
        assert!(!said.contains("panicked"), "{program}: {said}");
    }
}

#[test]
fn invalid_flag_exits_with_code_two() {
    for program in ["fairlead-controller", "fairlead-speaker"] {
        let done = Command::new(binaries::find(program).unwrap()).arg("--no-such-flag").output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!(done.status.code(), Some(2), "{program}: {said}");
        assert_eq!(said.trim().lines().count(), 1, "{program}: {said}");
        assert!(said.contains("--no-such-flag"), "{program}: {said}");
    }
}
