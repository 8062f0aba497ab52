//! A speaker is stopped: the next owner announces at once, and at no time does nobody answer.

#![allow(clippy::unwrap_used)]

use std::net::IpAddr;
use std::time::{Duration, Instant};

use fairlead_e2e::{
    LbService, SECOND, SOON, Shared, configure, expect_mesh, expect_owner, rounds, service_off_its_owner,
    streams,
};
use fairlead_lab::sys::Signal;
use fairlead_lab::{Capture, Carrier, Lab, Message, Questions, ensure, wait_for};

static LAB: Shared = Shared::new(Lab::builder, configure);

/// Longest time until the next owner announces, and longest time without an answer. A node that fails is
/// detected after half a second at the earliest.
const BUDGET: Duration = Duration::from_millis(100);

/// Time between two questions.
const QUESTION_PACE: Duration = Duration::from_millis(20);

/// Before it was mended, three of four stops were detected as failures, so a few rounds show the fault.
fn stopped_speaker_is_replaced_at_once(family: &str) {
    let lab = LAB.turn();
    let name = format!("stop-{family}").to_lowercase();
    let (service, ip, owner) = service_off_its_owner(&lab, &name, family).unwrap();
    let node = lab.node(&owner).unwrap();
    for round in 1..=rounds(8) {
        let questions = Questions::start(&lab, ip, QUESTION_PACE).unwrap();
        std::thread::sleep(SECOND / 4);
        let stopped = Instant::now();
        let after = |at: Instant| at.saturating_duration_since(stopped);
        let status = node.speaker().unwrap().terminate(10 * SECOND).unwrap();
        assert!(status.success(), "{status}");
        // The announcements of the next owner go on for a while.
        std::thread::sleep(SECOND / 2);
        let report = questions.stop().unwrap();

        let next = report.announcements().find(|(at, by)| *at >= stopped && *by != node.mac());
        let (announced, _) = next.ok_or("no other node has announced the address").unwrap();
        let wait = report.longest_wait();
        let answered = report.answers().filter(|(_, by)| *by == node.mac()).map(|(at, _)| after(at)).max();
        eprintln!(
            "{family}, round {round}: announced after {:?}, longest wait {wait:?}, last answer of the stopped \
             speaker after {answered:?}",
            after(announced)
        );
        assert!(after(announced) < BUDGET, "the next owner announced after {:?}", after(announced));
        assert!(wait <= BUDGET, "a question had no answer for {wait:?}");
        let late = report.announcements().find(|(at, by)| *at > announced && *by == node.mac());
        assert_eq!(late.map(|(at, _)| after(at)), None, "an announcement of the stopped speaker");
        assert!(answered >= Some(2 * BUDGET), "the stopped speaker answers during the overlap: {answered:?}");

        node.speaker().unwrap().spawn_again().unwrap();
        expect_mesh(&lab, SOON).unwrap();
        expect_owner(&lab, ip, &owner, SOON).unwrap();
    }
    service.delete(&lab).unwrap();
}

#[test]
fn stopped_speaker_is_replaced_at_once_for_arp() {
    stopped_speaker_is_replaced_at_once("IPv4");
}

#[test]
fn stopped_speaker_is_replaced_at_once_for_ndp() {
    stopped_speaker_is_replaced_at_once("IPv6");
}

#[test]
fn cable_cut_after_stop_loses_no_packet() {
    let lab = LAB.turn();
    for family in ["IPv4", "IPv6"] {
        let name = format!("term-{family}").to_lowercase();
        let (service, ip, owner) = service_off_its_owner(&lab, &name, family).unwrap();
        let streams = streams(&lab, ip);
        let speaker = lab.node(&owner).unwrap().speaker().unwrap();
        speaker.signal(Signal::Terminate).unwrap();
        while speaker.is_running() {
            std::thread::sleep(Duration::from_millis(1));
        }
        lab.cut(&owner, Carrier::Lost).unwrap();
        std::thread::sleep(2 * SECOND);
        for (client, stream) in streams {
            let report = stream.stop().unwrap();
            eprintln!("{family}, {client}: {report}");
            assert!(report.sent > 100 && report.answered == report.sent, "{family}, {client}: {report}");
        }
        assert_ne!(lab.wait_for_owner(ip, SOON).unwrap(), owner);
        lab.mend().unwrap();
        speaker.spawn_again().unwrap();
        expect_mesh(&lab, SOON).unwrap();
        service.delete(&lab).unwrap();
    }
}

/// Returns the number of gratuitous ARP frames about these addresses.
fn announcements(capture: &Capture, ips: &[IpAddr]) -> usize {
    let frames = capture.frames();
    let about = |message: &Message| match message {
        Message::Arp { sender_ip, target_ip, .. } => {
            sender_ip == target_ip && ips.contains(&IpAddr::V4(*sender_ip))
        }
        _ => false,
    };
    frames.iter().filter(|captured| about(&captured.frame.message)).count()
}

/// Waits until a second passes without an announcement.
fn wait_for_silence(lab: &Lab, ips: &[IpAddr]) {
    wait_for("announcements to end", SOON, || {
        let capture = lab.capture_client()?;
        std::thread::sleep(SECOND + SECOND / 5);
        let count = announcements(&capture, ips);
        ensure(count == 0, count).map_err(|count| anyhow::anyhow!("{count} announcements"))
    })
    .unwrap();
}

/// Most announcements of a rolling restart: three for each of the 24 moves. If a node learns from a third one
/// that a speaker has left, it announces its addresses once more when the speaker is back.
const ROLLING_RESTART: usize = 3 * 24 + 3 * 24;

/// The restart of each of three speakers moves every address away once, and back.
#[test]
fn rolling_restart_announces_each_move_three_times() {
    let lab = LAB.turn();
    let services: Vec<_> =
        (0..12).map(|n| LbService::new(&format!("rolling-{n}"), "l2").single("IPv4")).collect();
    let ips: Vec<IpAddr> = services.iter().map(|service| service.up(&lab).unwrap()[0]).collect();
    wait_for_silence(&lab, &ips);
    let owners: Vec<String> =
        ips.iter().map(|ip| lab.wait_for_owner(*ip, SOON).unwrap().to_owned()).collect();
    let capture = lab.capture_client().unwrap();
    for node in lab.nodes() {
        let status = node.speaker().unwrap().terminate(10 * SECOND).unwrap();
        assert!(status.success(), "{status}");
        node.speaker().unwrap().spawn_again().unwrap();
        expect_mesh(&lab, SOON).unwrap();
        for (ip, owner) in ips.iter().zip(&owners) {
            expect_owner(&lab, *ip, owner, SOON).unwrap();
        }
        wait_for_silence(&lab, &ips);
    }
    let count = announcements(&capture, &ips);
    eprintln!("{count} announcements for 24 moves");
    assert!((24..=ROLLING_RESTART).contains(&count), "{count} announcements");
    for service in services {
        service.delete(&lab).unwrap();
    }
}
