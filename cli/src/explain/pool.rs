//! `fairlead explain pool`.

use anyhow::Result;
use fairlead_crds::kinds::{Kind, ObjectRef};
use fairlead_crds::model::family::Family;
use fairlead_crds::names::{ACCEPTED, EXHAUSTED, IN_USE};

use super::Chain;
use super::decision::{Decisions, note_of_unread};
use crate::cluster::{Snapshot, condition};
use crate::output::{count, list};

/// The maximum number of objects that a line names.
const MAX_NAMES: usize = 10;

/// Explains an IPAddressPool.
///
/// # Errors
/// Returns an error if there is no such pool.
pub(super) fn explain(snapshot: &Snapshot, name: &str) -> Result<Chain> {
    let object = ObjectRef { kind: Kind::IPAddressPool, name: name.to_owned() };
    let Some(state) = snapshot.objects.get(&object) else {
        return Err(snapshot.absent("ipaddresspools", &format!("IPAddressPool {name}")));
    };
    let decisions = Decisions::of(snapshot)?;
    let find = |type_: &str, status: &str| {
        condition(&state.conditions, type_).filter(|found| found.status() == status)
    };
    let (verdict, decided) = if let Some(refused) = find(ACCEPTED, "False") {
        (refused.reason(), Some(refused))
    } else if let Some(exhausted) = find(EXHAUSTED, "True") {
        ("Exhausted", Some(exhausted))
    } else if let Some(accepted) = find(ACCEPTED, "True") {
        ("Accepted", Some(accepted))
    } else {
        ("NotReconciled", None)
    };
    let not_written = || {
        let why = snapshot.leader.problem(&snapshot.instance.namespace, snapshot.now);
        format!(
            "no controller has written its status{}",
            why.map(|why| format!(": {why}")).unwrap_or_default()
        )
    };
    let message = decided.map_or_else(not_written, |found| found.message().to_owned());
    let is_well = find(ACCEPTED, "False").is_none() && decided.is_some();
    let mut chain = Chain {
        subject: format!("IPAddressPool {name}"),
        state: verdict.to_owned(),
        message,
        is_well,
        succeeds: is_well,
        steps: Vec::new(),
        unread: Vec::new(),
    };
    let ipam = decisions.index.ipam();
    let pool = snapshot.pools.iter().find(|pool| pool.metadata.name.as_deref() == Some(name));
    let mut lines = Vec::new();
    lines.extend(pool.map(|pool| format!("ranges {}", list(&pool.spec.addresses, MAX_NAMES))));
    for family in [Family::V4, Family::V6] {
        let counts = ipam.counts(name, family);
        if counts.total > 0 || counts.assigned > 0 {
            lines.push(format!(
                "{family}: {} in use, {} free, {} in all",
                counts.assigned, counts.available, counts.total
            ));
        }
    }
    lines.extend(note_of_unread(snapshot));
    chain.push("Addresses", lines);
    let holders: Vec<String> = ipam.holders_of(name).map(ToString::to_string).collect();
    let mut lines = Vec::new();
    if !holders.is_empty() {
        lines.push(format!("{}: {}", count(holders.len(), "Service"), list(&holders, MAX_NAMES)));
    }
    let claims: Vec<String> = ipam.claims_on(name).map(ToString::to_string).collect();
    if !claims.is_empty() {
        lines.push(format!("{}: {}", count(claims.len(), "IPClaim"), list(&claims, MAX_NAMES)));
    }
    lines.extend(find(IN_USE, "True").map(|in_use| in_use.message().to_owned()));
    chain.push("Used by", lines);
    chain.push("Announced by", advertisements(&decisions, name));
    Ok(chain)
}

/// Describes the advertisements that select a pool.
fn advertisements(decisions: &Decisions, name: &str) -> Vec<String> {
    let config = &decisions.configuration.resolution().config;
    let Some(pool) = config.pool(name) else { return Vec::new() };
    let restricted = |is: bool| if is { ", only for the Services that it selects" } else { "" };
    let l2 = config.l2_advertisements.values().filter(|ad| ad.pools.covers(pool));
    let l2 =
        l2.map(|ad| format!("L2Advertisement {}{}", ad.name, restricted(!ad.service_selectors.is_empty())));
    let bgp = config.bgp_advertisements.values().filter(|ad| ad.pools.covers(pool));
    let bgp =
        bgp.map(|ad| format!("BGPAdvertisement {}{}", ad.name, restricted(!ad.service_selectors.is_empty())));
    let lines: Vec<String> = l2.chain(bgp).collect();
    if lines.is_empty() {
        return vec![
            "no accepted L2Advertisement or BGPAdvertisement selects it: its addresses are not announced"
                .to_owned(),
        ];
    }
    lines
}
