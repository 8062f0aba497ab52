//! Validation of a single object, twice: by the API server at `kubectl apply` (schema and CEL), and by
//! `resolve`, for an object that passed a less strict schema.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../common/mod.rs"]
mod common;

mod bfd_profile;
mod bgp_advertisement;
mod bgp_peer;
mod community;
mod l2_advertisement;
mod pool;

use fairlead_crds::resolve::{Objects, RefusalReason, resolve};

/// The result of the API server.
#[derive(Clone, Copy)]
enum Apply {
    Accepts,
    /// Rejected with an error that contains this text.
    Rejects(&'static str),
}
use Apply::{Accepts, Rejects};

/// A spec, the result of the API server, and the reason for which `resolve` refuses the object, if any.
type Row = (&'static str, Apply, Option<RefusalReason>);

fn check(kind: &str, rows: &[Row]) {
    for (spec, at_apply, expected) in rows {
        let object = common::object(kind, "it", 1, spec);
        let result = common::apply(&object);
        match at_apply {
            Accepts => assert_eq!(result, Ok(()), "apply of {kind} {spec}"),
            Rejects(text) => {
                let errors = result.expect_err(&format!("apply of {kind} {spec} must fail")).join("\n");
                assert!(errors.contains(text), "apply of {kind} {spec} returns {errors:?}, not {text:?}");
            }
        }
        let mut objects = Objects::default();
        common::add(&mut objects, object);
        let resolution = resolve(&objects);
        let verdict = common::verdict(&resolution, common::kind(kind), "it");
        assert_eq!(common::reason(verdict), *expected, "resolve of {kind} {spec} returns {verdict:?}");
    }
}
