//! What is wrong in a cluster, each with the command that shows more.

use std::collections::BTreeMap;

use fairlead_crds::conditions::RawCondition;
use fairlead_crds::kinds::Kind;
use fairlead_crds::names::{ACCEPTED, ADDRESS_CONFLICT, EXHAUSTED, RESERVED};
use fairlead_crds::v1beta1::Session;
use kube::ResourceExt;
use serde::Serialize;

use super::services::ServiceStatus;
use crate::cluster::{NodeSpeaker, Snapshot, condition};
use crate::output::{count, list};

/// The reason of a Service that waits for an address of a full pool.
const POOL_EXHAUSTED: &str = "PoolExhausted";
/// The maximum number of objects that a problem names.
const MAX_NAMES: usize = 5;
/// The maximum number of problems of one reason that are listed one by one.
const MAX_SIMILAR: usize = 5;

/// The severity of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) enum Severity {
    /// Something does not work.
    Error,
    /// Something may stop working, or limits what Fairlead can do.
    Warning,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Problem {
    pub severity: Severity,
    /// Kind and name of the object.
    pub object: String,
    /// One CamelCase word.
    pub reason: String,
    pub message: String,
    /// The command that shows more.
    pub command: String,
}

/// Returns all problems, the most severe first.
pub(crate) fn all(snapshot: &Snapshot, services: &[ServiceStatus]) -> Vec<Problem> {
    let mut problems = Vec::new();
    problems.extend(installation(snapshot));
    problems.extend(controller(snapshot));
    problems.extend(speakers(snapshot));
    problems.extend(configuration(snapshot));
    problems.extend(sessions(snapshot));
    problems.extend(of_services(snapshot, services));
    problems.extend(claims(snapshot));
    problems.extend(exhausted_pools(snapshot, services));
    problems.extend(not_announced(snapshot));
    problems.extend(address_conflicts(snapshot));
    problems.extend(skew(snapshot));
    problems.sort_by_key(|problem| problem.severity);
    problems
}

fn error(object: impl Into<String>, reason: &str, message: impl Into<String>, command: String) -> Problem {
    let (object, message) = (object.into(), message.into());
    Problem { severity: Severity::Error, object, reason: reason.to_owned(), message, command }
}

fn warning(object: impl Into<String>, reason: &str, message: impl Into<String>, command: String) -> Problem {
    Problem { severity: Severity::Warning, ..error(object, reason, message, command) }
}

/// The kinds are not installed.
fn installation(snapshot: &Snapshot) -> Option<Problem> {
    let is_missing = |unread: &&crate::cluster::Unread| unread.reason == "NotServed";
    let missing: Vec<&str> = snapshot
        .unread
        .iter()
        .filter(is_missing)
        .map(|unread| unread.resource.as_str())
        .filter(|plural| Kind::ALL.iter().any(|kind| kind.plural() == *plural) || *plural == "speakers")
        .collect();
    if missing.is_empty() {
        return None;
    }
    let message = format!("the API server does not serve {}", list(&missing, MAX_NAMES));
    Some(error("Fairlead", "NotInstalled", message, "kubectl get crd -o name".to_owned()))
}

fn controller(snapshot: &Snapshot) -> Vec<Problem> {
    let mut problems = Vec::new();
    let command = snapshot.kubectl("get pods -l app.kubernetes.io/component=controller");
    if let Some(why) = snapshot.leader.problem(&snapshot.instance.namespace, snapshot.now) {
        problems.push(error("Controller", "NoLeader", why, command.clone()));
    }
    if let Some(deployment) = &snapshot.deployment
        && deployment.ready < deployment.wanted
    {
        let message = format!("{} of {} pods are ready", deployment.ready, deployment.wanted);
        problems.push(warning("Deployment fairlead-controller", "PodsNotReady", message, command));
    }
    problems
}

fn speakers(snapshot: &Snapshot) -> Vec<Problem> {
    let mut problems = Vec::new();
    let speakers = snapshot.speakers();
    let pods = snapshot.kubectl("get pods -o wide -l app.kubernetes.io/component=speaker");
    if speakers.is_empty() && !snapshot.is_unread("speakers") {
        let message = "there is no Speaker object, so no node announces addresses";
        problems.push(error("Speakers", "NoSpeaker", message, pods.clone()));
    }
    if let Some(daemonset) = &snapshot.daemonset
        && daemonset.ready < daemonset.wanted
    {
        let message = format!("{} of {} pods are ready", daemonset.ready, daemonset.wanted);
        problems.push(error("DaemonSet fairlead-speaker", "PodsNotReady", message, pods));
    }
    // Nodes with the same reason are one problem.
    let mut failed: BTreeMap<(String, String), Vec<&str>> = BTreeMap::new();
    for speaker in speakers.values().filter(|speaker| !speaker.is_ready()) {
        failed.entry(speaker.reason()).or_default().push(speaker.node);
    }
    for ((reason, message), nodes) in failed {
        let object =
            format!("{} {}", if nodes.len() == 1 { "Speaker" } else { "Speakers" }, list(&nodes, MAX_NAMES));
        let command =
            snapshot.command(&format!("status node {}", nodes.first().copied().unwrap_or_default()));
        problems.push(error(object, &reason, message, command));
    }
    problems
}

/// Objects that are refused.
fn configuration(snapshot: &Snapshot) -> Vec<Problem> {
    let refused = snapshot.objects.iter().filter_map(|(object, state)| {
        let refusal = condition(&state.conditions, ACCEPTED).filter(|found| found.status() == "False")?;
        let kind = object.kind.to_string();
        let command = match object.kind {
            Kind::IPAddressPool => snapshot.command(&format!("explain pool {}", object.name)),
            Kind::BGPPeer => snapshot.command(&format!("explain peer {}", object.name)),
            _ => format!("kubectl describe {} {}", kind.to_lowercase(), object.name),
        };
        Some(error(format!("{kind} {}", object.name), refusal.reason(), refusal.message(), command))
    });
    let mut problems: Vec<Problem> = refused.collect();
    if snapshot.balancers().next().is_some()
        && snapshot.pools.is_empty()
        && !snapshot.is_unread("ipaddresspools")
    {
        let message = "there is no IPAddressPool, so no Service gets an address";
        let command = "kubectl explain ipaddresspool.spec".to_owned();
        problems.push(error("IPAddressPools", "NoPool", message, command));
    }
    problems
}

/// Returns true if the session should be established and is not.
pub(crate) fn is_down(session: &Session) -> bool {
    session.state != "Established" && session.phase != "Shutdown"
}

/// Describes why a session is not established.
pub(crate) fn session_reason(session: &Session) -> String {
    let phase = if session.phase.is_empty() { &session.state } else { &session.phase };
    match &session.last_error {
        Some(error) => format!("{phase}: {error}"),
        None => phase.clone(),
    }
}

/// Sessions that are down, one problem for each BGPPeer and cause. Those of speakers that are not ready have
/// another cause.
fn sessions(snapshot: &Snapshot) -> Vec<Problem> {
    let mut peers: BTreeMap<&str, (usize, BTreeMap<String, Vec<&str>>)> = BTreeMap::new();
    let speakers = snapshot.speakers();
    for speaker in speakers.values().filter(|speaker| speaker.is_ready()) {
        for session in &speaker.status.sessions {
            let (all, down) = peers.entry(&session.peer).or_default();
            *all += 1;
            if is_down(session) {
                down.entry(session_reason(session)).or_default().push(speaker.node);
            }
        }
    }
    let mut problems = Vec::new();
    for (peer, (all, causes)) in peers {
        let down: usize = causes.values().map(Vec::len).sum();
        for (cause, nodes) in causes {
            let message = format!(
                "{down} of {} not established: on {}: {cause}",
                count(all, "session"),
                list(&nodes, MAX_NAMES)
            );
            let command = snapshot.command(&format!("status peer {peer}"));
            problems.push(error(format!("BGPPeer {peer}"), "SessionDown", message, command));
        }
    }
    problems
}

/// Services without an address, or whose addresses are not announced. Many with one reason are one problem.
fn of_services(snapshot: &Snapshot, services: &[ServiceStatus]) -> Vec<Problem> {
    let mut by_reason: BTreeMap<(&str, super::ServiceState), Vec<&ServiceStatus>> = BTreeMap::new();
    for service in services.iter().filter(|service| !service.is_well()) {
        by_reason.entry((&service.reason, service.state)).or_default().push(service);
    }
    let mut problems = Vec::new();
    for ((reason, state), services) in by_reason {
        let command =
            |service: &ServiceStatus| snapshot.command(&format!("explain service {}", service.key()));
        if services.len() <= MAX_SIMILAR {
            problems.extend(services.iter().map(|service| {
                error(format!("Service {}", service.key()), reason, &*service.message, command(service))
            }));
            continue;
        }
        let names: Vec<String> = services.iter().map(|service| service.key().to_string()).collect();
        let message = format!("{} ({state:?}): {}", count(names.len(), "Service"), list(&names, MAX_NAMES));
        let first = services.first().copied();
        problems.extend(first.map(|first| error("Services", reason, message, command(first))));
    }
    problems
}

fn claims(snapshot: &Snapshot) -> Vec<Problem> {
    let class = snapshot.instance.class.as_deref();
    let own = snapshot.claims.iter().map(|claim| &claim.object);
    let own =
        own.filter(|claim| claim.spec.load_balancer_class.as_deref().filter(|c| !c.is_empty()) == class);
    let refused = own.filter_map(|claim| {
        let namespace = claim.namespace().unwrap_or_default();
        let conditions = claim.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        let refusal = condition(conditions, RESERVED).filter(|found| found.status() == "False")?;
        let command = format!("kubectl -n {namespace} describe ipclaim {}", claim.name_any());
        let object = format!("IPClaim {namespace}/{}", claim.name_any());
        snapshot.shows(&namespace).then(|| error(object, refusal.reason(), refusal.message(), command))
    });
    refused.collect()
}

/// Full pools, if a Service waits for one of their addresses, or if the next Service would: a pool that holds
/// as many addresses as its Services need is no problem.
fn exhausted_pools(snapshot: &Snapshot, services: &[ServiceStatus]) -> Vec<Problem> {
    let waits = |service: &ServiceStatus| service.reason == POOL_EXHAUSTED;
    let automatic: Vec<_> = snapshot.pools.iter().filter(|pool| pool.spec.auto_assign).collect();
    let rows = super::pool::rows(snapshot);
    let has_room = rows
        .iter()
        .any(|row| row.state == "Accepted" && automatic.iter().any(|pool| pool.name_any() == row.name));
    if has_room && !services.iter().any(waits) {
        return Vec::new();
    }
    let exhausted = snapshot.objects.iter().filter_map(|(object, state)| {
        let is_true = |found: &&RawCondition| found.status() == "True";
        let exhausted = condition(&state.conditions, EXHAUSTED).filter(is_true)?;
        let command = snapshot.command(&format!("explain pool {}", object.name));
        let name = format!("{} {}", object.kind, object.name);
        Some(warning(name, "Exhausted", exhausted.message(), command))
    });
    exhausted.collect()
}

/// Addresses that live speakers should announce and cannot.
fn not_announced(snapshot: &Snapshot) -> Vec<Problem> {
    let speakers = snapshot.speakers();
    let mut reasons: BTreeMap<&str, (Vec<&str>, Vec<&str>)> = BTreeMap::new();
    for speaker in speakers.values().filter(|speaker| speaker.is_ready()) {
        for entry in &speaker.status.not_announced {
            let (nodes, addresses) = reasons.entry(&entry.reason).or_default();
            if nodes.last() != Some(&speaker.node) {
                nodes.push(speaker.node);
            }
            if !addresses.contains(&entry.address.as_str()) {
                addresses.push(&entry.address);
            }
        }
    }
    let problem = |(reason, (nodes, addresses)): (&str, (Vec<&str>, Vec<&str>))| {
        let message = format!("does not announce {}", list(&addresses, MAX_NAMES));
        let object =
            format!("{} {}", if nodes.len() == 1 { "Speaker" } else { "Speakers" }, list(&nodes, MAX_NAMES));
        let command =
            snapshot.command(&format!("explain address {}", addresses.first().copied().unwrap_or_default()));
        warning(object, reason, message, command)
    };
    reasons.into_iter().map(problem).collect()
}

/// Addresses that other hosts use although live speakers announce them. Those that are not announced are
/// reported as such.
fn address_conflicts(snapshot: &Snapshot) -> Vec<Problem> {
    let speakers = snapshot.speakers();
    let live = speakers.values().filter(|speaker| speaker.is_ready());
    let problems = live.filter_map(|speaker| {
        let conflicts: Vec<_> =
            speaker.status.l2.iter().flat_map(|l2| &l2.conflicts).filter(|one| one.announced).collect();
        let first = conflicts.first()?;
        let addresses: Vec<&str> = conflicts.iter().map(|conflict| conflict.address.as_str()).collect();
        let mac = first.mac.as_deref().unwrap_or("of unknown Ethernet address");
        let message = format!(
            "announces {}, which another host uses: {mac} on {}",
            list(&addresses, MAX_NAMES),
            first.interface
        );
        let command = snapshot.command(&format!("explain address {}", first.address));
        Some(warning(format!("Speaker {}", speaker.node), ADDRESS_CONFLICT, message, command))
    });
    problems.collect()
}

fn skew(snapshot: &Snapshot) -> Option<Problem> {
    let speakers = snapshot.speakers();
    let mut versions: BTreeMap<&str, usize> = BTreeMap::new();
    let ready = |speaker: &&NodeSpeaker<'_>| speaker.is_ready();
    for version in speakers.values().filter(ready).filter_map(|speaker| speaker.status.version.as_deref()) {
        *versions.entry(version).or_default() += 1;
    }
    if versions.len() < 2 {
        return None;
    }
    let versions: Vec<String> =
        versions.iter().map(|(version, number)| format!("{number} run {version}")).collect();
    let message = format!("the speakers have different versions: {}", versions.join(", "));
    Some(warning("Speakers", "VersionSkew", message, snapshot.command("version")))
}
