//! `fairlead explain node`.

use anyhow::Result;
use fairlead_crds::names::{DRAINED, ELIGIBLE};
use fairlead_crds::v1beta1::L2Interface;

use super::Chain;
use super::announcements::NotAnnouncedAddresses;
use super::decision::resolved;
use super::wire::reason_text;
use crate::cluster::{READY, Snapshot, condition};
use crate::network::Network;
use crate::output::{age, count, list};
use crate::status::session_reason;

/// The maximum number of addresses that a line names.
const MAX_ADDRESSES: usize = 20;

/// The maximum number of interfaces that a line names.
const MAX_INTERFACES: usize = 10;

/// The title of the commands that show the pod of the speaker and the Node.
const COMMANDS: &str = "Commands that show more";

/// Explains a Node.
///
/// # Errors
/// Returns an error if there is neither such a Node nor a Speaker of it.
pub(super) fn explain(snapshot: &Snapshot, name: &str) -> Result<Chain> {
    let speakers = snapshot.speakers();
    let network = Network::of(snapshot, resolved(snapshot)?.resolution().config.clone());
    let is_known = network.nodes.iter().any(|(node, _)| **node == *name);
    let speaker = speakers.get(name);
    if !is_known && speaker.is_none() {
        return Err(snapshot.absent("nodes", &format!("Node {name}, nor a Speaker of it")));
    }
    let ineligible = if is_known { network.plan_of(name).plan.node_reason() } else { None };
    let (state, message) = match (speaker, ineligible) {
        (None, _) => ("NoSpeaker".to_owned(), "no speaker of this instance runs on the Node".to_owned()),
        (Some(speaker), _) if !speaker.is_ready() => speaker.reason(),
        (Some(_), Some(reason)) => (reason.to_string(), reason.message().to_owned()),
        (Some(_), None) => ("Ready".to_owned(), "the speaker is ready, and the Node may announce".to_owned()),
    };
    let is_well = state == "Ready";
    let mut chain = Chain {
        subject: format!("Node {name}"),
        state,
        message,
        is_well,
        succeeds: is_well,
        steps: Vec::new(),
        unread: Vec::new(),
    };
    let Some(speaker) = speaker else {
        chain.push(COMMANDS, commands(snapshot, name));
        return Ok(chain);
    };
    let status = speaker.status;
    let mut lines = Vec::new();
    lines.extend(status.version.as_ref().map(|version| format!("version {version}")));
    for type_ in [READY, ELIGIBLE, DRAINED] {
        let found = condition(&status.conditions, type_);
        let found = found.filter(|found| found.reason() != "NotDraining");
        lines.extend(found.map(|found| {
            let since = age(found.last_transition_time(), snapshot.now);
            let why = format!("{}: {}", found.reason(), found.message());
            let why = if found.status() == "True" { found.message().to_owned() } else { why };
            let why = if why.is_empty() { why } else { format!(": {why}") };
            format!("{type_} is {} for {since}{why}", found.status())
        }));
    }
    lines.extend(ineligible.map(reason_text).filter(|_| speaker.is_ready()));
    chain.push("Speaker", lines);
    let mut lines = Vec::new();
    for (protocol, announced) in
        [("L2", status.l2.as_ref().map(|l2| &l2.announced)), ("BGP", status.bgp.as_ref())]
    {
        let Some(announced) = announced else { continue };
        let which = list(&announced.addresses, MAX_ADDRESSES);
        let which = if which.is_empty() { which } else { format!(": {which}") };
        let number = usize::try_from(announced.announced).unwrap_or_default();
        let unit = if protocol == "L2" { "address" } else { "prefix" };
        let plural = if number == 1 { format!("1 {unit}") } else { format!("{number} {unit}es") };
        lines.push(format!("{plural} by {protocol}{which}"));
    }
    if let Some(interfaces) =
        status.l2.as_ref().and_then(|l2| l2.interfaces.as_ref()).filter(|_| speaker.is_ready())
    {
        let interface = |one: &L2Interface| format!("{} ({})", one.name, one.families.join(", "));
        let interfaces: Vec<String> = interfaces.iter().map(interface).collect();
        let none = "no interface can announce by L2".to_owned();
        let some = || format!("can announce by L2 on {}", list(&interfaces, MAX_INTERFACES));
        lines.push(if interfaces.is_empty() { none } else { some() });
    }
    chain.push("Announces", lines);
    let sessions = status.sessions.iter().map(|session| {
        let since = session.state_since.as_ref().map(|time| time.0);
        let since = since.map(|since| format!(" for {}", age(Some(since), snapshot.now))).unwrap_or_default();
        let what = if session.state == "Established" {
            format!(
                "established{since}, {} sent",
                count(usize::try_from(session.prefixes).unwrap_or(0), "route")
            )
        } else {
            format!("not established{since}: {}", session_reason(session))
        };
        format!("BGPPeer {} ({}): {what}", session.peer, session.address)
    });
    chain.push("Sessions", sessions.collect());
    let own = NotAnnouncedAddresses::of_node(snapshot, name);
    chain.push("Does not announce", own.lines());
    if !speaker.is_ready() {
        chain.push(COMMANDS, commands(snapshot, name));
    }
    Ok(chain)
}

/// Returns the commands that show why the speaker of a Node does not run.
fn commands(snapshot: &Snapshot, node: &str) -> Vec<String> {
    let pods = snapshot.kubectl(&format!(
        "get pods -l app.kubernetes.io/component=speaker --field-selector spec.nodeName={node}"
    ));
    vec![pods, format!("kubectl describe node {node}")]
}
