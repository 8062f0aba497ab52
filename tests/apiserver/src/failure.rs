//! Errors as kube-apiserver returns them: a `Status` object and its HTTP code.

pub(crate) use fairlead_schema::Cause;
use serde_json::{Value, json};

use crate::faults::Refusal;

/// An error response.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Failure {
    /// HTTP status code.
    pub code: u16,
    /// `reason` of the Status: machine-readable; empty if unknown.
    pub reason: &'static str,
    /// Human-readable message.
    pub message: String,
    /// `details` of the Status.
    pub details: Option<Value>,
}

/// A kind as error messages name it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Named<'a> {
    /// API group, empty for core.
    pub group: &'a str,
    /// Plural name.
    pub plural: &'a str,
    /// Kind.
    pub kind: &'a str,
}

impl Named<'_> {
    /// `plural.group`, or `plural` for core.
    pub(crate) fn qualified(&self) -> String {
        if self.group.is_empty() { self.plural.into() } else { format!("{}.{}", self.plural, self.group) }
    }
}

impl Failure {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Failure {
        Failure { code, reason, message: message.into(), details: None }
    }

    fn about(mut self, named: Named<'_>, name: &str) -> Failure {
        self.details = Some(json!({ "name": name, "group": named.group, "kind": named.plural }));
        if named.group.is_empty()
            && let Some(Value::Object(details)) = &mut self.details
        {
            details.remove("group");
        }
        self
    }

    /// 404.
    pub(crate) fn not_found(named: Named<'_>, name: &str) -> Failure {
        Failure::new(404, "NotFound", format!("{} {name:?} not found", named.qualified())).about(named, name)
    }

    /// 404 for a path without a resource.
    pub(crate) fn no_such_path() -> Failure {
        let mut failure = Failure::new(404, "NotFound", "the server could not find the requested resource");
        failure.details = Some(json!({}));
        failure
    }

    /// 409 on creation.
    pub(crate) fn already_exists(named: Named<'_>, name: &str) -> Failure {
        Failure::new(409, "AlreadyExists", format!("{} {name:?} already exists", named.qualified()))
            .about(named, name)
    }

    /// 409: the resourceVersion is outdated, or a precondition failed.
    pub(crate) fn conflict(named: Named<'_>, name: &str, why: &str) -> Failure {
        let message = format!("Operation cannot be fulfilled on {} {name:?}: {why}", named.qualified());
        Failure::new(409, "Conflict", message).about(named, name)
    }

    /// The usual [`Failure::conflict`].
    pub(crate) fn modified(named: Named<'_>, name: &str) -> Failure {
        let why =
            "the object has been modified; please apply your changes to the latest version and try again";
        Failure::conflict(named, name, why)
    }

    /// 409 of server-side apply, with the fields and their managers.
    pub(crate) fn owned_by_others(conflicts: &[(String, String)]) -> Failure {
        let causes: Vec<Value> = conflicts
            .iter()
            .map(|(manager, field)| {
                json!({
                    "reason": "FieldManagerConflict",
                    "message": format!("conflict with {manager}"),
                    "field": field,
                })
            })
            .collect();
        let listed: Vec<String> =
            conflicts.iter().map(|(manager, field)| format!("conflict with {manager}: {field}")).collect();
        let plural = if conflicts.len() == 1 { "conflict" } else { "conflicts" };
        let message = format!("Apply failed with {} {plural}: {}", conflicts.len(), listed.join("\n"));
        let mut failure = Failure::new(409, "Conflict", message);
        failure.details = Some(json!({ "causes": causes }));
        failure
    }

    /// 422 with all field errors.
    pub(crate) fn invalid(named: Named<'_>, name: &str, causes: &[Cause]) -> Failure {
        let qualified = if named.group.is_empty() {
            named.kind.into()
        } else {
            format!("{}.{}", named.kind, named.group)
        };
        let texts: Vec<String> =
            causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
        let text = match &texts[..] {
            [only] => only.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let mut failure = Failure::new(422, "Invalid", format!("{qualified} {name:?} is invalid: {text}"));
        let listed: Vec<Value> = causes
            .iter()
            .map(|cause| json!({ "reason": cause.reason, "message": cause.message, "field": cause.field }))
            .collect();
        failure.details = Some(json!({ "name": name, "kind": named.kind, "causes": listed }));
        if !named.group.is_empty()
            && let Some(details) = &mut failure.details
        {
            details["group"] = json!(named.group);
        }
        failure
    }

    /// 400.
    pub(crate) fn bad_request(message: impl Into<String>) -> Failure {
        Failure::new(400, "BadRequest", message)
    }

    /// 422 without fields, as for a JSON patch whose test fails.
    pub(crate) fn unprocessable(message: impl Into<String>) -> Failure {
        Failure::new(422, "Invalid", message)
    }

    /// 401.
    pub(crate) fn unauthorized() -> Failure {
        Failure::new(401, "Unauthorized", "Unauthorized")
    }

    /// 403.
    pub(crate) fn forbidden(named: Named<'_>, name: &str, why: &str) -> Failure {
        let message = if name.is_empty() {
            format!("{} is forbidden: {why}", named.qualified())
        } else {
            format!("{} {name:?} is forbidden: {why}", named.qualified())
        };
        Failure::new(403, "Forbidden", message).about(named, name)
    }

    /// 405.
    pub(crate) fn method_not_allowed() -> Failure {
        let mut failure = Failure::new(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        );
        failure.details = Some(json!({}));
        failure
    }

    /// 410: the requested history was discarded.
    pub(crate) fn expired(message: impl Into<String>) -> Failure {
        Failure::new(410, "Expired", message)
    }

    /// 415.
    pub(crate) fn unsupported_media_type(accepted: &[&str]) -> Failure {
        Failure::new(
            415,
            "UnsupportedMediaType",
            format!(
                "the body of the request was in an unknown format - accepted media types include: {}",
                accepted.join(", ")
            ),
        )
    }

    /// 500.
    pub(crate) fn internal(message: impl Into<String>) -> Failure {
        Failure::new(500, "InternalError", format!("Internal error occurred: {}", message.into()))
    }

    /// 500 without a reason, as for an error of the storage.
    pub(crate) fn unknown(message: impl Into<String>) -> Failure {
        Failure::new(500, "", message)
    }

    /// 504 for a list at a resourceVersion of the future.
    pub(crate) fn too_large_version(asked: u64, current: u64) -> Failure {
        let message = format!("Timeout: Too large resource version: {asked}, current: {current}");
        let mut failure = Failure::new(504, "Timeout", message);
        failure.details = Some(json!({
            "causes": [{ "reason": "ResourceVersionTooLarge", "message": "Too large resource version" }],
            "retryAfterSeconds": 1,
        }));
        failure
    }

    /// An injected failure.
    pub(crate) fn injected(refusal: &Refusal) -> Failure {
        let code = refusal.status;
        let (reason, message) = match code {
            401 => ("Unauthorized", "Unauthorized"),
            403 => ("Forbidden", "forbidden: injected fault"),
            404 => ("NotFound", "the server could not find the requested resource"),
            409 => ("Conflict", "Operation cannot be fulfilled: injected conflict; please try again"),
            410 => ("Expired", "The resourceVersion for the provided watch is too old."),
            422 => ("Invalid", "admission refused: injected fault"),
            500 => ("InternalError", "Internal error occurred: injected fault"),
            503 => ("ServiceUnavailable", "the server is currently unable to handle the request"),
            504 => ("Timeout", "Timeout: request did not complete within the allotted timeout"),
            _ => ("", "injected fault"),
        };
        let message = refusal.message.as_deref().unwrap_or(message);
        let mut failure = Failure::new(code, reason, message);
        if let Some(seconds) = refusal.retry_after {
            failure.details = Some(json!({ "retryAfterSeconds": seconds }));
        }
        failure
    }

    /// Seconds after which the client may retry.
    pub(crate) fn retry_after(&self) -> Option<u64> {
        self.details.as_ref()?.get("retryAfterSeconds")?.as_u64()
    }

    /// Returns the `Status` object.
    pub(crate) fn to_status(&self) -> Value {
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "code": self.code,
        });
        if !self.reason.is_empty() {
            status["reason"] = json!(self.reason);
        }
        if let Some(details) = &self.details {
            status["details"] = details.clone();
        }
        status
    }
}
