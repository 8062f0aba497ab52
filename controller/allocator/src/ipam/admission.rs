//! Which pools admit a Service.

use fairlead_crds::model::config::{Labels, Pool};
use fairlead_crds::model::selector::{Selector, any_or_empty};

use super::request::AllocationRequest;

/// The reason why a pool does not admit a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAdmitted {
    /// The pool does not admit the Service's namespace.
    Namespace,
    /// No service selector of the pool matches the Service's labels.
    Labels,
}

impl NotAdmitted {
    /// Returns the predicate of a sentence whose subject is the pool.
    pub fn explain(self, pool: &Pool) -> String {
        let Some(allocation) = &pool.allocation else { return String::new() };
        let selectors = |list: &[Selector]| join_with_or(list.iter().map(ToString::to_string), list.len());
        match self {
            Self::Namespace => {
                let mut open_to = Vec::new();
                if !allocation.namespaces.is_empty() {
                    let names =
                        join_with_or(allocation.namespaces.iter().cloned(), allocation.namespaces.len());
                    open_to.push(format!("namespaces {names}"));
                }
                if !allocation.namespace_selectors.is_empty() {
                    let labels = selectors(&allocation.namespace_selectors);
                    open_to.push(format!("namespaces with labels {labels}"));
                }
                format!("is open only to {}", open_to.join(" and "))
            }
            Self::Labels => {
                format!("is open only to Services with labels {}", selectors(&allocation.service_selectors))
            }
        }
    }
}

/// The maximum number of names or selectors listed in one message.
const MAX_LISTED: usize = 5;

fn join_with_or(list: impl Iterator<Item = String>, count: usize) -> String {
    let mut text = list.take(MAX_LISTED).collect::<Vec<_>>().join(" or ");
    if count > MAX_LISTED {
        text += &format!(" or {} more", count - MAX_LISTED);
    }
    text
}

/// Checks that `pool` admits the Service. A pool whose restrictions match nothing admits no Service.
pub(crate) fn admits(pool: &Pool, request: &AllocationRequest<'_>) -> Result<(), NotAdmitted> {
    admits_namespace(pool, &request.service.namespace, request.namespace_labels)?;
    match &pool.allocation {
        Some(allocation) if !any_or_empty(&allocation.service_selectors, request.labels) => {
            Err(NotAdmitted::Labels)
        }
        _ => Ok(()),
    }
}

/// Checks that `pool` admits Services of a namespace.
pub(super) fn admits_namespace(
    pool: &Pool,
    namespace: &str,
    labels: Option<&Labels>,
) -> Result<(), NotAdmitted> {
    let Some(allocation) = &pool.allocation else { return Ok(()) };
    let everywhere = allocation.namespaces.is_empty() && allocation.namespace_selectors.is_empty();
    let no_labels = Labels::new();
    let labels = labels.unwrap_or(&no_labels);
    let open = everywhere
        || allocation.namespaces.contains(namespace)
        || allocation.namespace_selectors.iter().any(|s| s.matches(labels));
    if open { Ok(()) } else { Err(NotAdmitted::Namespace) }
}
