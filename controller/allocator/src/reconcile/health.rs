//! The part of a status from which generic tools compute the health of an object.
//!
//! The rules are those of kstatus (`sigs.k8s.io/cli-utils`), which Flux and Argo CD follow: an object is
//! healthy if `status.observedGeneration` is its generation, `Ready` is true and `Stalled` is not; it has
//! failed if `Stalled` is true.
//!
//! | object | `Ready` | `Stalled` |
//! |---|---|---|
//! | accepted | True | absent |
//! | refused, also if its last accepted form is in force | False | True |
//! | being deleted | False, reason `Terminating` | True if it is refused |

use fairlead_crds::conditions::NewCondition;
use fairlead_crds::names::{READY, STALLED, reasons};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// Returns the conditions `Ready` and `Stalled` of an object with this metadata.
pub(super) fn health(
    metadata: &ObjectMeta,
    is_accepted: bool,
    reason: &str,
    message: &str,
) -> impl Iterator<Item = NewCondition> {
    let is_deleting = metadata.deletion_timestamp.is_some();
    of(is_deleting, is_accepted, reason, message)
        .map(|condition| condition.observed_generation(metadata.generation))
}

/// Returns the conditions without the observed generation.
pub(super) fn of(
    is_deleting: bool,
    is_accepted: bool,
    reason: &str,
    message: &str,
) -> impl Iterator<Item = NewCondition> {
    let condition =
        |type_, status: bool| NewCondition::new(type_, status, reason.to_owned(), message.to_owned());
    let ready = if is_deleting {
        NewCondition::new(READY, false, reasons::TERMINATING, "the object is being deleted")
    } else {
        condition(READY, is_accepted)
    };
    let stalled = (!is_accepted).then(|| condition(STALLED, true));
    std::iter::once(ready).chain(stalled)
}
