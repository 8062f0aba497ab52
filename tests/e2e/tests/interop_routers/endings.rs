//! The end of sessions: a speaker that stops, one that crashes, a router that goes silent, one that is shut
//! down.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use fairlead_e2e::{SECOND, SOON};
use fairlead_lab::peers::Notification;
use fairlead_lab::{Capture, Message, wait_for};

use crate::setup::{PEERS, Setup, turn};
use crate::tables::{address, expect_all};

const UPDATE: u8 = 2;
const NOTIFICATION: u8 = 3;
const KEEPALIVE: u8 = 4;
/// The community 65535:0 (RFC 8326).
const GRACEFUL_SHUTDOWN: [u8; 4] = [255, 255, 0, 0];
/// Shutdown communication of a stopped speaker.
const TEXT: &str = "the speaker on this node is stopping";

/// Returns true for an UPDATE without routes: empty, or with an MP_UNREACH_NLRI without prefixes.
pub(crate) fn is_end_of_rib(body: &[u8]) -> bool {
    matches!(body, [0, 0, 0, 0] | [0, 0, 0, 6, 0x80, 15, 3, 0, 2, 1] | [0, 0, 0, 7, 0x90, 15, 0, 3, 0, 2, 1])
}

/// Returns true if the iBGP router, which keeps routes during a graceful restart, has paths via n2.
fn kept(setup: &Setup) -> bool {
    let n2 = [address("192.0.2.12"), address("2001:db8:1::12")];
    setup.ibgp.paths().unwrap().iter().filter(|path| n2.contains(&path.next_hop)).count() == 4
}

#[test]
fn stopped_speaker_withdraws_then_sends_cease() {
    let setup = turn();
    expect_all(&setup, &["11", "12"]);
    let speaker = setup.lab.node("n2").unwrap().speaker().unwrap();
    let n2 = address("192.0.2.12");
    let before = setup.exabgp.messages(n2).unwrap().len();
    speaker.terminate(5 * SECOND).unwrap();
    expect_all(&setup, &["11"]);
    for (name, router) in [("BIRD", &setup.bird), ("old BIRD", &setup.old)] {
        let session = wait_for(format!("{name} to receive the shutdown"), SOON, || {
            let session = router.session("n2")?;
            ensure!(session.last_error == "Received: Administrative shutdown", "{session:?}");
            Ok(session)
        });
        assert_eq!(session.unwrap().message, TEXT, "{name}");
    }
    // First each family with the community GRACEFUL_SHUTDOWN, then the withdrawals, so that a router forwards
    // elsewhere before the session ends.
    let mut said = wait_for("the last messages to ExaBGP", SOON, || {
        let said = setup.exabgp.messages(n2)?.split_off(before);
        ensure!(said.iter().any(|(kind, _)| *kind == NOTIFICATION), "{said:?}");
        Ok(said)
    })
    .unwrap();
    // Other messages: keepalives, and possibly the End-of-RIBs of a new session (RFC 4724 §2).
    said.retain(|(kind, body)| *kind != KEEPALIVE && !is_end_of_rib(body));
    let kinds: Vec<u8> = said.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds[kinds.len() - 3..], [UPDATE, UPDATE, NOTIFICATION]);
    let (asked, withdrawn) = said[..said.len() - 1].split_at(said.len() - 3);
    let graceful = |(_, body): &(u8, Vec<u8>)| body.windows(4).any(|octets| octets == GRACEFUL_SHUTDOWN);
    assert!(!asked.is_empty() && asked.iter().all(graceful), "{asked:?}");
    assert!(!withdrawn.iter().any(graceful), "{withdrawn:?}");
    // Cease, Administrative Shutdown, length of the text, the text.
    let last_words = [&[6, 2, u8::try_from(TEXT.len()).unwrap()], TEXT.as_bytes()].concat();
    assert_eq!(said[said.len() - 1].1, last_words);
    // Graceful restart was negotiated with this router, so it received no message and keeps the routes.
    assert!(kept(&setup), "{:?}", setup.ibgp.paths());
    speaker.spawn_again().unwrap();
    setup.expect_sessions(&PEERS).unwrap();
    expect_all(&setup, &["11", "12"]);
}

#[test]
fn killed_speaker_restarts_gracefully_without_gap() {
    let setup = turn();
    expect_all(&setup, &["11", "12"]);
    wait_for("all paths at iBGP BIRD", SOON, || {
        let paths = setup.ibgp.paths()?;
        ensure!(kept(&setup), "{paths:?}");
        Ok(())
    })
    .unwrap();
    let recording = setup.lab.record_bgp_of("n2").unwrap();
    let speaker = setup.lab.node("n2").unwrap().speaker().unwrap();
    let withdrawn = setup.ibgp.session("n2").unwrap().received.1;
    speaker.kill().unwrap();
    expect_all(&setup, &["11"]);
    assert!(kept(&setup), "{:?}", setup.ibgp.paths());
    speaker.spawn_again().unwrap();
    wait_for("the session with iBGP BIRD", SOON, || {
        assert!(kept(&setup), "{:?}", setup.ibgp.paths());
        let session = setup.ibgp.session("n2")?;
        ensure!(session.state == "Established", "{session:?}");
        Ok(())
    })
    .unwrap();
    setup.expect_sessions(&PEERS).unwrap();
    expect_all(&setup, &["11", "12"]);
    assert!(kept(&setup), "after the End-of-RIB: {:?}", setup.ibgp.paths());
    assert_eq!(setup.ibgp.session("n2").unwrap().received.1, withdrawn, "withdrawals at iBGP BIRD");
    // The OPENs and the first UPDATEs of the sessions with all routers.
    assert_eq!(recording.suspicious().unwrap(), Vec::<String>::new());
}

/// Returns the NOTIFICATION that ExaBGP received from `peer` after `before` others.
fn told(setup: &Setup, peer: IpAddr, before: usize) -> Notification {
    wait_for(format!("a NOTIFICATION of {peer} to ExaBGP"), SOON, || {
        let told = setup.exabgp.notifications(peer)?;
        told.get(before).cloned().with_context(|| format!("{told:?}"))
    })
    .unwrap()
}

/// Returns how long `router` had been silent when the node reported an expired hold timer.
fn silence(capture: &Capture, node: IpAddr, router: IpAddr) -> anyhow::Result<Duration> {
    let mut heard: Option<Instant> = None;
    for seen in capture.frames() {
        let Message::Bgp { from, to, messages } = seen.frame.message else { continue };
        if (from, to) == (router, node) {
            heard = Some(seen.at);
        }
        // Error code 4, RFC 4271 §6.5.
        let expired = messages.iter().any(|message| message.kind == 3 && message.body.starts_with(&[4, 0]));
        if (from, to) == (node, router) && expired {
            return Ok(seen.at - heard.context("it sent no message")?);
        }
    }
    anyhow::bail!("{router} has received no NOTIFICATION yet")
}

#[test]
fn silent_router_is_dropped_after_hold_time() {
    let setup = turn();
    let n1 = address("192.0.2.11");
    let since = setup.session("n1", "exabgp").unwrap()["uptimeSince"].clone();
    let capture = setup.lab.capture_node("n1").unwrap();
    // Each router sends one more message, so that the capture contains its time.
    let silent = [("gobgp-v4", "192.0.2.6", 3 * SECOND), ("bird", "192.0.2.5", 6 * SECOND)];
    for (_, router, _) in silent {
        wait_for(format!("a keepalive of {router}"), SOON, || {
            let heard = capture.frames().into_iter().any(
                |seen| matches!(seen.frame.message, Message::Bgp { from, .. } if from == address(router)),
            );
            ensure!(heard, "nothing");
            Ok(())
        })
        .unwrap();
    }
    setup.gobgp.process().stop().unwrap();
    setup.bird.process().stop().unwrap();
    for (peer, router, hold_time) in silent {
        let silence = wait_for(format!("n1 to drop {peer}"), SOON, || silence(&capture, n1, address(router)));
        let silence = silence.unwrap();
        eprintln!("{peer}: dropped after {silence:?} of silence, hold time {hold_time:?}");
        // A capture that is read late shows a shorter silence.
        assert!(silence >= hold_time - SECOND / 2, "{peer}: {silence:?}");
        assert!(silence < hold_time + 2 * SECOND, "{peer}: {silence:?}");
        setup.expect_error(peer, &["hold timer expired"]).unwrap();
    }
    assert_eq!(
        setup.session("n1", "exabgp").unwrap()["uptimeSince"],
        since,
        "the other sessions stay established"
    );
    setup.gobgp.process().resume().unwrap();
    setup.bird.process().resume().unwrap();
    setup.expect_sessions(&PEERS).unwrap();
    expect_all(&setup, &["11", "12"]);
}

#[test]
fn router_shutdown_text_is_reported() {
    let setup = turn();
    for node in ["n1", "n2"] {
        setup.bird.birdc(&format!("disable {node} \"new fan, back at noon\"")).unwrap();
    }
    setup.expect_error("bird", &["Administrative Shutdown", "new fan, back at noon"]).unwrap();
    for node in ["n1", "n2"] {
        setup.bird.birdc(&format!("enable {node}")).unwrap();
    }
    setup.expect_sessions(&["bird"]).unwrap();
    expect_all(&setup, &["11", "12"]);
}

#[test]
fn removed_peer_receives_peer_deconfigured() {
    let setup = turn();
    let object = "apiVersion: fairlead.dev/v1beta1\nkind: BGPPeer\nmetadata: { name: exabgp }\n";
    let peer = setup.lab.api().unwrap().get("fairlead.dev/v1beta1", "BGPPeer", None, "exabgp").unwrap();
    let n1 = address("192.0.2.11");
    let before = setup.exabgp.notifications(n1).unwrap().len();
    setup.lab.api().unwrap().delete(object).unwrap();
    let last = told(&setup, n1, before);
    assert_eq!((last.code, last.subcode), (6, 3), "Cease, Peer De-configured");
    wait_for("the session to be removed from the Speaker object", SOON, || {
        match setup.session("n1", "exabgp") {
            Ok(session) => Err(session.to_string()),
            Err(_) => Ok(()),
        }
    })
    .unwrap();
    let again = serde_json::json!({ "apiVersion": "fairlead.dev/v1beta1", "kind": "BGPPeer",
                                    "metadata": { "name": "exabgp" }, "spec": peer["spec"] });
    setup.lab.api().unwrap().apply_object(again).unwrap();
    setup.expect_sessions(&["exabgp"]).unwrap();
    expect_all(&setup, &["11", "12"]);
}
