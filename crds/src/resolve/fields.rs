//! Validation of fields that several kinds have.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::refusal::{ObjectRefusal, RefusalReason, refuse};
use crate::model::selector::Selector;

/// A list whose entries must all be different.
pub(super) fn set_of(field: &str, list: &[String]) -> Result<BTreeSet<String>, ObjectRefusal> {
    let mut set = BTreeSet::new();
    for entry in list {
        if !set.insert(entry.clone()) {
            return refuse(RefusalReason::DuplicateEntry, format!("{field} has {entry:?} twice"));
        }
    }
    Ok(set)
}

pub(super) fn selector(field: &str, selector: &LabelSelector) -> Result<Selector, ObjectRefusal> {
    Selector::try_from(selector).map_err(|error| ObjectRefusal {
        reason: RefusalReason::InvalidSelector,
        message: format!("{field}: {error}"),
    })
}

/// A list of selectors, which must all be different.
pub(super) fn selectors(field: &str, list: &[LabelSelector]) -> Result<Vec<Selector>, ObjectRefusal> {
    let selectors: Vec<Selector> = list.iter().map(|s| selector(field, s)).collect::<Result<_, _>>()?;
    let mut sorted: Vec<&Selector> = selectors.iter().collect();
    sorted.sort();
    if sorted.windows(2).any(|pair| pair[0] == pair[1]) {
        return refuse(RefusalReason::DuplicateEntry, format!("{field} has the same selector twice"));
    }
    Ok(selectors)
}

/// Name of a network interface as Linux has them (IFNAMSIZ is 16, with a terminating zero).
pub(super) fn interface_name(field: &str, name: &str) -> Result<String, ObjectRefusal> {
    let possible = (1..=15).contains(&name.len())
        && !matches!(name, "." | "..")
        && !name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control());
    if possible {
        Ok(name.to_owned())
    } else {
        refuse(
            RefusalReason::InvalidInterface,
            format!("{field}: {name:?} cannot be the name of an interface"),
        )
    }
}

/// Whether two lists of node selectors certainly have nodes in common. Which nodes there are is not known here,
/// so lists of different selectors count as disjoint.
pub(super) fn on_common_nodes(a: &[Selector], b: &[Selector]) -> bool {
    let all = |selectors: &[Selector]| selectors.is_empty() || selectors.iter().any(Selector::is_everything);
    all(a) || all(b) || a.iter().any(|selector| b.contains(selector))
}
