//! Hosts outside of the cluster that use addresses of Services.

#![allow(clippy::unwrap_used)]

use std::net::IpAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use fairlead_e2e::{LbService, SECOND, SOON, Shared, VERSION, configure};
use fairlead_lab::{Capture, Client, LAN_INTERFACE, Lab, Mac, ensure, wait_for};
use serde_json::{Value, json};

static LAB: Shared = Shared::new(Lab::builder, configure);

const V4: &str = "192.0.2.229";
const V6: &str = "2001:db8:1::2f9";

/// Time from one probe of an address in use to the next, and some more for a busy machine.
const RETRY: Duration = Duration::from_secs(40);

/// A host on the LAN that is no node.
struct Stranger<'a> {
    lab: &'a Lab,
    client: Client,
    mac: Mac,
}

impl<'a> Stranger<'a> {
    fn new(lab: &'a Lab) -> Self {
        let netns = &lab.network().control_plane;
        let link = netns.output(Command::new("ip").args(["-brief", "link", "show", "dev", LAN_INTERFACE]));
        let mac = link.unwrap().split_whitespace().find_map(Mac::parse).unwrap();
        Self { lab, client: Client::new(netns), mac }
    }

    /// Takes an address, or gives it up. Linux announces neither.
    fn address(&self, verb: &str, address: &str) {
        let prefix = format!("{address}/{}", if address.contains(':') { 128 } else { 32 });
        let mut command = Command::new("ip");
        command.args(["addr", verb, &prefix, "dev", LAN_INTERFACE]);
        if verb == "add" && address.contains(':') {
            command.arg("nodad");
        }
        self.lab.network().control_plane.output(&mut command).unwrap();
    }

    /// Sends a gratuitous ARP request for [`V4`].
    fn announce(&self) {
        let IpAddr::V4(address) = V4.parse().unwrap() else { unreachable!() };
        let mac = octets(self.mac);
        let arp = [&[0xff; 6][..], &mac, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &mac];
        let frame = [&arp.concat()[..], &address.octets(), &[0; 6], &address.octets()].concat();
        self.client.sender().unwrap().send(&frame).unwrap();
    }
}

fn octets(mac: Mac) -> [u8; 6] {
    let text = mac.to_string();
    let octets: Vec<u8> = text.split(':').map(|octet| u8::from_str_radix(octet, 16).unwrap()).collect();
    octets.try_into().unwrap()
}

fn speakers(lab: &Lab) -> Result<Vec<Value>> {
    lab.nodes().iter().map(|node| lab.api()?.get(VERSION, "Speaker", None, node.name())).collect()
}

/// Returns the messages of the condition AddressConflict of all Speakers.
fn conditions(lab: &Lab) -> Result<Vec<String>> {
    let mut messages = Vec::new();
    for speaker in speakers(lab)? {
        let conditions = speaker.pointer("/status/conditions").and_then(Value::as_array).cloned();
        for condition in conditions.unwrap_or_default() {
            if condition["type"] == "AddressConflict" && condition["status"] == "True" {
                messages.push(condition["message"].as_str().unwrap_or_default().to_owned());
            }
        }
    }
    Ok(messages)
}

/// Returns the messages in `notAnnounced` with the reason AddressInUse, of all Speakers.
fn left(lab: &Lab, address: &str) -> Result<Vec<String>> {
    let mut messages = Vec::new();
    for speaker in speakers(lab)? {
        let entries = speaker.pointer("/status/notAnnounced").and_then(Value::as_array).cloned();
        for entry in entries.unwrap_or_default() {
            if entry["reason"] == "AddressInUse" && entry["address"] == address {
                messages.push(entry["message"].as_str().unwrap_or_default().to_owned());
            }
        }
    }
    Ok(messages)
}

/// Returns the notes of the Events AddressConflict about a Service.
fn events(lab: &Lab, service: &str) -> Result<Vec<String>> {
    let events = lab.api()?.list("events.k8s.io/v1", "Event")?;
    let about = events
        .iter()
        .filter(|event| event["regarding"]["name"] == service && event["reason"] == "AddressConflict");
    Ok(about.map(|event| event["note"].as_str().unwrap_or_default().to_owned()).collect())
}

/// Returns the frames in which nodes claim an address.
fn claims(lab: &Lab, capture: &Capture, address: &str) -> Vec<Instant> {
    let ip = address.parse().unwrap();
    let frames = capture.frames().into_iter();
    let by_nodes = frames.filter(|seen| lab.node_of(seen.frame.source).is_some());
    by_nodes.filter(|seen| seen.frame.message.claims(ip)).map(|seen| seen.at).collect()
}

fn expect_left(lab: &Lab, address: &str, mac: Mac) {
    wait_for(format!("{address} is in use"), SOON, || {
        let seen = left(lab, address)?;
        ensure(seen.len() == 1 && seen[0].contains(&mac.to_string()), &seen)
            .map_err(|seen| anyhow!("{seen:?}"))
    })
    .unwrap();
}

fn service(name: &str) -> LbService {
    LbService::new(name, "l2").annotation("fairlead.dev/load-balancer-ips", &format!("{V4},{V6}"))
}

#[test]
fn address_that_another_host_has_is_announced_once_it_is_free() {
    let lab = LAB.turn();
    let stranger = Stranger::new(&lab);
    [V4, V6].into_iter().for_each(|address| stranger.address("add", address));
    let capture = lab.capture_client().unwrap();
    let service = service("taken");
    service.up(&lab).unwrap();
    [V4, V6].into_iter().for_each(|address| expect_left(&lab, address, stranger.mac));
    let mac = stranger.mac.to_string();
    wait_for("the condition and the Event", SOON, || {
        let (conditions, events) = (conditions(&lab)?, events(&lab, "taken")?);
        let shown = |texts: &[String], address| {
            texts.iter().any(|text| text.contains(&mac) && text.contains(address))
        };
        let all = !conditions.is_empty() && [V4, V6].iter().all(|address| shown(&events, *address));
        ensure(all, (conditions, events)).map_err(|seen| anyhow!("{seen:?}"))
    })
    .unwrap();
    for address in [V4, V6] {
        assert_eq!(claims(&lab, &capture, address), [], "{address} was not announced");
        assert_eq!(lab.client().resolve(address.parse().unwrap()).unwrap(), Some(stranger.mac));
    }
    [V4, V6].into_iter().for_each(|address| stranger.address("del", address));
    let start = Instant::now();
    for address in [V4, V6] {
        wait_for(format!("an owner of {address}"), RETRY, || {
            ensure(!claims(&lab, &capture, address).is_empty(), "no announcement")
        })
        .unwrap();
        lab.wait_for_owner(address.parse().unwrap(), SOON).unwrap();
    }
    eprintln!("announced {:?} after the host left", start.elapsed());
    wait_for("no conflict any more", SOON, || {
        let seen = conditions(&lab)?;
        ensure(seen.is_empty(), &seen).map_err(|seen| anyhow!("{seen:?}"))
    })
    .unwrap();
    service.delete(&lab).unwrap();
}

#[test]
fn host_that_comes_later_is_answered_once_in_ten_seconds_and_shown() {
    let lab = LAB.turn();
    let stranger = Stranger::new(&lab);
    let service = service("later");
    service.up(&lab).unwrap();
    let ip = V4.parse().unwrap();
    lab.wait_for_owner(ip, SOON).unwrap();
    // The announcements of a new address last for 4.4 s.
    std::thread::sleep(5 * SECOND);
    let capture = lab.capture_client().unwrap();
    let start = Instant::now();
    stranger.announce();
    wait_for("the condition", SOON, || {
        let seen = conditions(&lab)?;
        let mac = stranger.mac.to_string();
        ensure(seen.iter().any(|text| text.contains(&mac) && text.contains(V4)), &seen)
            .map_err(|seen| anyhow!("{seen:?}"))
    })
    .unwrap();
    let shown = start.elapsed();
    while start.elapsed() < Duration::from_secs(15) {
        stranger.announce();
        std::thread::sleep(SECOND / 5);
    }
    // Each defense is a request and a reply.
    let defenses = claims(&lab, &capture, V4);
    assert_eq!(defenses.len(), 4, "two defenses in 15 s: {:?}", defenses);
    assert!(shown < 3 * SECOND, "shown after {shown:?}");
    lab.wait_for_owner(ip, SOON).unwrap();
    assert_eq!(events(&lab, "later").unwrap().len(), 1);
    wait_for("the conflict ends", Duration::from_secs(80), || {
        let seen = conditions(&lab)?;
        ensure(seen.is_empty(), &seen).map_err(|seen| anyhow!("{seen:?}"))
    })
    .unwrap();
    service.delete(&lab).unwrap();
}

#[test]
fn yielding_advertisement_leaves_address_to_host_that_announces_it() {
    let lab = LAB.turn();
    let stranger = Stranger::new(&lab);
    let ad = json!({ "apiVersion": VERSION, "kind": "L2Advertisement", "metadata": { "name": "l2" } });
    let set = |value: Value| {
        lab.api().unwrap().merge(ad.clone(), json!({ "spec": { "onConflict": value } })).unwrap();
    };
    set(json!("Yield"));
    let service = service("yields");
    service.up(&lab).unwrap();
    let ip = V4.parse().unwrap();
    lab.wait_for_owner(ip, SOON).unwrap();
    stranger.address("add", V4);
    stranger.announce();
    expect_left(&lab, V4, stranger.mac);
    let capture = lab.capture_client().unwrap();
    std::thread::sleep(2 * SECOND);
    assert_eq!(lab.client().resolve(ip).unwrap(), Some(stranger.mac));
    assert_eq!(claims(&lab, &capture, V4), [], "no other node takes the address over");
    stranger.address("del", V4);
    wait_for("announced again", RETRY, || ensure(!claims(&lab, &capture, V4).is_empty(), "no announcement"))
        .unwrap();
    set(Value::Null);
    service.delete(&lab).unwrap();
}

#[test]
fn first_announcement_without_conflict_takes_a_second() {
    let lab = LAB.turn();
    let service = LbService::new("first", "l2").single("IPv4");
    let capture = lab.capture_client().unwrap();
    let ip = service.up(&lab).unwrap()[0];
    let start = Instant::now();
    let owner = lab.wait_for_owner(ip, SOON).unwrap().to_owned();
    eprintln!("{owner} answers for {ip} after {:?}", start.elapsed());
    let claimed = capture.first_claim(ip).unwrap();
    // 0.6 s, and what the machine needs to tell the speakers.
    assert!(claimed.saturating_duration_since(start) < 2 * SECOND, "{:?}", claimed - start);
    assert_eq!(conditions(&lab).unwrap(), Vec::<String>::new());
    service.delete(&lab).unwrap();
}
