//! `fairlead explain peer`.

use std::collections::BTreeMap;

use anyhow::Result;
use fairlead_crds::kinds::{Kind, ObjectRef};
use fairlead_crds::model::config::{Peer, PeerAsn};
use fairlead_crds::model::selector::any_or_empty;
use fairlead_crds::names::ACCEPTED;
use fairlead_crds::v1beta1::Session;

use super::Chain;
use super::decision::resolved;
use crate::cluster::{Snapshot, condition};
use crate::network::Network;
use crate::output::{age, count, list};
use crate::status::session_reason;

/// The maximum number of objects that a line names.
const MAX_NAMES: usize = 10;

/// Explains a BGPPeer.
///
/// # Errors
/// Returns an error if there is no such BGPPeer.
pub(super) fn explain(snapshot: &Snapshot, name: &str) -> Result<Chain> {
    let object = ObjectRef { kind: Kind::BGPPeer, name: name.to_owned() };
    let Some(state) = snapshot.objects.get(&object) else {
        return Err(snapshot.absent("bgppeers", &format!("BGPPeer {name}")));
    };
    let refused = condition(&state.conditions, ACCEPTED).filter(|found| found.status() == "False");
    let speakers = snapshot.speakers();
    let sessions: Vec<(&str, &Session)> = speakers
        .values()
        .filter(|speaker| speaker.is_ready())
        .flat_map(|speaker| speaker.status.sessions.iter().map(|session| (speaker.node, session)))
        .filter(|(_, session)| session.peer == name)
        .collect();
    let up = sessions.iter().filter(|(_, session)| session.state == "Established").count();
    let (verdict, message) = match refused {
        Some(refused) => (refused.reason(), refused.message().to_owned()),
        None if sessions.is_empty() => ("NoSession", "no node with a live speaker has a session".to_owned()),
        None if sessions.iter().all(|(_, session)| session.phase == "Shutdown") => {
            ("Shutdown", "the field shutdown of the BGPPeer is true".to_owned())
        }
        None if up < sessions.len() => {
            ("SessionDown", format!("{up} of {} established", count(sessions.len(), "session")))
        }
        None => ("Established", format!("{up} of {} established", count(sessions.len(), "session"))),
    };
    let mut chain = Chain {
        subject: format!("BGPPeer {name}"),
        state: verdict.to_owned(),
        message,
        is_well: matches!(verdict, "Established" | "Shutdown"),
        succeeds: verdict == "Established",
        steps: Vec::new(),
        unread: Vec::new(),
    };
    let network = Network::of(snapshot, resolved(snapshot)?.resolution().config.clone());
    let Some(peer) = network.config.peers.get(name) else {
        chain.push(
            "Router",
            vec!["no accepted form of this BGPPeer is in force for this instance".to_owned()],
        );
        return Ok(chain);
    };
    chain.push("Router", vec![router(peer)]);
    let selects = |labels| any_or_empty(&peer.node_selectors, labels);
    let selected: Vec<&str> =
        network.nodes.iter().filter(|(_, node)| selects(&node.labels)).map(|(node, _)| &**node).collect();
    let mut lines = vec![format!("{}: {}", count(selected.len(), "Node"), list(&selected, MAX_NAMES))];
    let silent: Vec<&str> = selected
        .iter()
        .filter(|node| !speakers.get(**node).is_some_and(|speaker| speaker.is_ready()))
        .copied()
        .collect();
    if !silent.is_empty() {
        lines.push(format!("no speaker is ready on {}", list(&silent, MAX_NAMES)));
    }
    chain.push("Selected Nodes", lines);
    chain.push("Sessions", session_lines(snapshot, &sessions));
    chain.push("Receives", advertisements(&network, peer));
    Ok(chain)
}

fn router(peer: &Peer) -> String {
    let asn = match peer.peer_asn {
        PeerAsn::Number(number) => number.to_string(),
        PeerAsn::Internal => "internal".to_owned(),
        PeerAsn::External => "external".to_owned(),
    };
    let own = peer.local_asn.unwrap_or(peer.my_asn);
    if peer.passive {
        return format!(
            "{}, AS {asn}; passive: the router must connect to the speakers, AS {own}, on the port in their flag \
             --bgp-listen-port (default 179)",
            peer.address
        );
    }
    format!("{} port {}, AS {asn}; the speakers are AS {own}", peer.address, peer.port)
}

fn session_lines(snapshot: &Snapshot, sessions: &[(&str, &Session)]) -> Vec<String> {
    let mut causes: BTreeMap<(bool, String, &str), Vec<String>> = BTreeMap::new();
    for (node, session) in sessions {
        let since = session.state_since.as_ref().map(|time| time.0);
        let node = match since {
            Some(_) => format!("{node} ({})", age(since, snapshot.now)),
            None => (*node).to_owned(),
        };
        let is_established = session.state == "Established";
        let reason = if is_established { "established".to_owned() } else { session_reason(session) };
        let hint = if is_established { "" } else { advice(&session.phase) };
        causes.entry((is_established, reason, hint)).or_default().push(node);
    }
    let mut lines = Vec::new();
    for ((_, reason, hint), nodes) in causes {
        lines.push(format!("{}: {reason}", list(&nodes, MAX_NAMES)));
        if !hint.is_empty() {
            lines.push(format!("  {hint}"));
        }
    }
    lines
}

/// Returns what to check for a session that waits.
fn advice(phase: &str) -> &'static str {
    match phase {
        "Connecting" => {
            "check that the address is right, that the router runs BGP and knows this Node as a neighbor, and \
             that nothing filters the TCP port"
        }
        "Listening" => {
            "the peer is passive: check that the router knows this Node as a neighbor and connects to it, and that \
             nothing filters the TCP port"
        }
        "Negotiating" => "compare the AS numbers, the password and the TTL security of both sides",
        "WaitingForBfd" => "check BFD on the router: show bfd peers",
        "Stopped" => "the configuration permits no session: see the conditions of the BGPPeer",
        "Shutdown" => "the field shutdown of the BGPPeer is true",
        _ => "",
    }
}

fn advertisements(network: &Network, peer: &Peer) -> Vec<String> {
    let sent = network.config.bgp_advertisements.values();
    let sent = sent.filter(|ad| ad.peers.is_empty() || ad.peers.contains(&peer.name));
    let lines: Vec<String> = sent.map(|ad| format!("routes of BGPAdvertisement {}", ad.name)).collect();
    if lines.is_empty() {
        return vec!["nothing: no accepted BGPAdvertisement applies to this peer".to_owned()];
    }
    lines
}
