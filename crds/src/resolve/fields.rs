//! Validation of fields that several kinds have.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::refusal::{ObjectRefusal, RefusalReason, refuse};
use crate::model::selector::Selector;
use crate::text::quoted;

/// Validates a list whose entries must be unique.
pub(super) fn set_of(field: &str, list: &[String]) -> Result<BTreeSet<String>, ObjectRefusal> {
    let mut set = BTreeSet::new();
    for entry in list {
        if !set.insert(entry.clone()) {
            return refuse(
                RefusalReason::DuplicateEntry,
                format!("{field} contains {} twice: remove one of the entries", quoted(entry)),
            );
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

/// Validates a list of selectors, which must be unique.
pub(super) fn selectors(field: &str, list: &[LabelSelector]) -> Result<Vec<Selector>, ObjectRefusal> {
    let selectors: Vec<Selector> = list.iter().map(|s| selector(field, s)).collect::<Result<_, _>>()?;
    let mut sorted: Vec<&Selector> = selectors.iter().collect();
    sorted.sort();
    if sorted.windows(2).any(|pair| pair[0] == pair[1]) {
        return refuse(
            RefusalReason::DuplicateEntry,
            format!("{field} contains the same selector twice: remove one of them"),
        );
    }
    Ok(selectors)
}

/// Validates the name of a Linux network interface: at most 15 octets (IFNAMSIZ with its terminating zero is
/// 16).
pub(super) fn interface_name(field: &str, name: &str) -> Result<String, ObjectRefusal> {
    let is_valid = (1..=15).contains(&name.len())
        && !matches!(name, "." | "..")
        && !name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control());
    if is_valid {
        Ok(name.to_owned())
    } else {
        refuse(
            RefusalReason::InvalidInterface,
            format!(
                "{field}: {} is not a valid interface name: it must have 1 to 15 characters without \
                 spaces, / and :",
                quoted(name)
            ),
        )
    }
}

/// Returns true if two lists of node selectors certainly match common Nodes. The Nodes are unknown here, so
/// that lists of different selectors count as disjoint.
pub(super) fn on_common_nodes(a: &[Selector], b: &[Selector]) -> bool {
    let all = |selectors: &[Selector]| selectors.is_empty() || selectors.iter().any(Selector::is_everything);
    all(a) || all(b) || a.iter().any(|selector| b.contains(selector))
}
