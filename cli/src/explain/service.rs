//! `fairlead explain service`.

use std::net::IpAddr;

use anyhow::Result;
use fairlead_allocator::explain::Explanation;
use fairlead_allocator::reconcile::AllocationOutcome;
use fairlead_crds::model::service::{LoadBalancer, ObjectKey};
use fairlead_crds::names::ALLOCATED;
use fairlead_crds::objects::Service;

use super::Chain;
use super::announcements::NotAnnouncedAddresses;
use super::decision::{Decisions, note_of_unread};
use super::wire::Wire;
use crate::cluster::{Leader, Snapshot, condition, key as key_of, service_conditions};
use crate::network::Network;
use crate::output::age;
use crate::status::{ServiceState, ServiceStatus};

/// Explains a Service.
///
/// # Errors
/// Returns an error if there is no Service of type LoadBalancer of this name.
pub(super) fn explain(snapshot: &Snapshot, key: &ObjectKey) -> Result<Chain> {
    let Some(service) = snapshot.services.iter().find(|service| key_of(service) == *key) else {
        return Err(snapshot.absent("services", &format!("Service {key} of type LoadBalancer")));
    };
    let class = snapshot.instance.class.as_deref();
    let Some(balancer) = LoadBalancer::from_service(service, class) else {
        return Ok(of_another_class(snapshot, service, key));
    };
    let decisions = Decisions::of(snapshot)?;
    let status = ServiceStatus::of(snapshot, service, &balancer);
    let mut chain = Chain {
        subject: format!("Service {key}"),
        state: state(&status),
        message: status.message.clone(),
        is_well: status.is_well(),
        succeeds: !balancer.ingress.is_empty(),
        steps: Vec::new(),
        unread: Vec::new(),
    };
    let explanation = Explanation::new(&decisions.index, key);
    chain.push("Allocation", allocation(snapshot, &decisions, service, &balancer, explanation.as_ref()));
    if let Some(explanation) = &explanation {
        let pools = explanation.pool_lines();
        let pools = if pools.is_empty() { vec!["no IPAddressPool exists".to_owned()] } else { pools };
        chain.push("IPAddressPools, in the order in which they are tried", pools);
    }
    let network = Network::of(snapshot, decisions.configuration.resolution().config.clone());
    announcement(&mut chain, snapshot, network, key, &balancer.ingress);
    let name = key.to_string();
    let silent = NotAnnouncedAddresses::of(snapshot, |entry| entry.service == name);
    chain.push("Speakers that do not announce", silent.lines());
    chain.push("Refused objects that stay in force", decisions.kept(snapshot, |one| one.key == *key));
    Ok(chain)
}

/// Adds the steps about the announcement of addresses.
pub(super) fn announcement(
    chain: &mut Chain,
    snapshot: &Snapshot,
    network: Network,
    key: &ObjectKey,
    addresses: &[IpAddr],
) {
    if addresses.is_empty() {
        return;
    }
    let wire = Wire::of(snapshot, network, addresses);
    for address in addresses {
        chain.push(format!("Announcement of {address}"), wire.lines(key, *address));
    }
}

/// Returns the state and, if it differs, the reason.
fn state(status: &ServiceStatus) -> String {
    let state = format!("{:?}", status.state);
    let is_same =
        status.reason.is_empty() || status.reason == state || status.state == ServiceState::Announced;
    if is_same { state } else { format!("{state}: {}", status.reason) }
}

/// Describes what the Service requests and holds, and what the controller would decide otherwise.
fn allocation(
    snapshot: &Snapshot,
    decisions: &Decisions,
    service: &Service,
    balancer: &LoadBalancer,
    explanation: Option<&Explanation>,
) -> Vec<String> {
    let mut lines = Vec::new();
    let Some(explanation) = explanation else { return lines };
    lines.push(format!("needs {}", explanation.needs));
    lines.extend(explanation.claims.iter().map(|(claim, state)| format!("IPClaim {claim} {state}")));
    let written = condition(service_conditions(service), ALLOCATED);
    let holding = decisions.index.ipam().holding(&balancer.key);
    let decided: Vec<IpAddr> = holding.map(|holding| holding.ips().collect()).unwrap_or_default();
    let since = written.and_then(|written| written.last_transition_time());
    let since = since.map(|since| format!(" for {}", age(Some(since), snapshot.now))).unwrap_or_default();
    if !balancer.ingress.is_empty() {
        let pool = balancer.allocated_from.as_ref();
        let pool = pool.map(|pool| format!(" from IPAddressPool {pool}")).unwrap_or_default();
        lines.push(format!("has {}{pool}{since}", join(&balancer.ingress)));
    } else if let Some(refused) = written.filter(|written| written.status() == "False") {
        lines.push(format!("has no address{since}: {}: {}", refused.reason(), refused.message()));
    } else {
        lines.push("has no address, and no controller has written a reason".to_owned());
    }
    let is_same_reason = match decisions.index.outcome(&balancer.key) {
        Some(AllocationOutcome::Refused { reason, .. }) => {
            written.is_some_and(|written| written.reason() == reason.to_string())
        }
        _ => true,
    };
    let same = |a: &[IpAddr], b: &[IpAddr]| a.len() == b.len() && a.iter().all(|one| b.contains(one));
    if !same(&decided, &balancer.ingress) || !is_same_reason {
        lines.push(format!("a controller would decide: {}", explanation.outcome));
        lines.push(format!("it has not written this: {}", why_not_written(snapshot)));
        lines.extend(note_of_unread(snapshot));
    }
    lines
}

/// Explains why the controller has not written its decision.
fn why_not_written(snapshot: &Snapshot) -> String {
    let Snapshot { leader, instance, now, .. } = snapshot;
    if let Some(problem) = leader.problem(&instance.namespace, *now) {
        return problem;
    }
    match leader {
        Leader::Leads { holder, renewed, .. } => {
            let log = snapshot.kubectl(&format!("logs {holder}"));
            let renewed = age(*renewed, *now);
            format!("{holder} leads (Lease renewed {renewed} ago); if this lasts, see its log: {log}")
        }
        _ => "the Lease of the controller cannot be read".to_owned(),
    }
}

/// Explains that another implementation or instance is responsible for a Service.
fn of_another_class(snapshot: &Snapshot, service: &Service, key: &ObjectKey) -> Chain {
    let of = |class: Option<&str>| match class.filter(|class| !class.is_empty()) {
        Some(class) => format!("loadBalancerClass {class}"),
        None => "no loadBalancerClass".to_owned(),
    };
    let class = service.spec.as_ref().and_then(|spec| spec.load_balancer_class.as_deref());
    let own = snapshot.instance.class.as_deref();
    let mut lines = vec![format!("this instance handles Services with {}", of(own))];
    let speaks = |speaker: &&fairlead_crds::v1beta1::Speaker| {
        speaker.spec.load_balancer_class.as_deref().filter(|class| !class.is_empty()) == class
    };
    let others = snapshot.all_speakers.iter().filter(speaks).count();
    lines.push(match (others, class) {
        (0, _) => "no speaker of Fairlead handles its class, so another implementation has to".to_owned(),
        (_, Some(class)) => {
            format!("another instance of Fairlead handles its class: add --lb-class {class} to this command")
        }
        (_, None) => "another instance of Fairlead handles it: leave --lb-class out".to_owned(),
    });
    let mut chain = Chain {
        subject: format!("Service {key}"),
        state: "OfAnotherClass".to_owned(),
        message: format!("the Service has {}", of(class)),
        is_well: false,
        succeeds: false,
        steps: Vec::new(),
        unread: Vec::new(),
    };
    chain.push("Class", lines);
    chain
}

fn join(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
}
