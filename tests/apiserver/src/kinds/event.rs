//! Events: one storage, two API groups. Stored as core/v1.

use serde_json::{Map, Value, json};

use crate::failure::Cause;

/// Field names in `events.k8s.io/v1` and core/v1.
const SPELLINGS: &[(&str, &str)] = &[
    ("note", "message"),
    ("regarding", "involvedObject"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
];

/// Converts from `events.k8s.io/v1` to core/v1.
pub(crate) fn inward(mut event: Value) -> Value {
    rename(&mut event, |(new, old)| (new, old));
    event["apiVersion"] = json!("v1");
    event
}

/// Converts from core/v1 to `events.k8s.io/v1`.
pub(crate) fn outward(mut event: Value) -> Value {
    rename(&mut event, |(new, old)| (old, new));
    event["apiVersion"] = json!("events.k8s.io/v1");
    event
}

fn rename(
    event: &mut Value,
    direction: impl Fn((&'static str, &'static str)) -> (&'static str, &'static str),
) {
    let Value::Object(fields) = event else { return };
    for (from, to) in SPELLINGS.iter().copied().map(direction) {
        if let Some(value) = fields.remove(from) {
            fields.insert(to.to_owned(), value);
        }
    }
}

/// Fields that both versions always contain.
pub(crate) fn default(event: &mut Value) {
    let Value::Object(fields) = event else { return };
    for name in ["involvedObject", "source"] {
        fields.entry(name).or_insert_with(|| Value::Object(Map::new()));
    }
    for name in ["reportingComponent", "reportingInstance"] {
        fields.entry(name).or_insert_with(|| json!(""));
    }
}

/// Returns validation errors; a new event in `events.k8s.io/v1` has more required fields.
pub(crate) fn validate(event: &Value, modern: bool, is_new: bool) -> Vec<Cause> {
    let mut causes = Vec::new();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let namespace = text(&event["metadata"]["namespace"]);
    let about = text(&event["involvedObject"]["namespace"]);
    let fits = if about.is_empty() {
        namespace == "default" || namespace == "kube-system"
    } else {
        about == namespace
    };
    if !fits {
        causes.push(Cause::invalid(
            "involvedObject.namespace",
            &json!(about),
            "does not match event.namespace",
        ));
    }
    if modern && is_new {
        for (field, name) in
            [("reportingController", "reportingComponent"), ("reportingInstance", "reportingInstance")]
        {
            if text(&event[name]).is_empty() {
                causes.push(Cause::required(field, ""));
            }
        }
        for name in ["action", "reason"] {
            if text(&event[name]).is_empty() {
                causes.push(Cause::required(name, ""));
            } else if text(&event[name]).len() > 128 {
                causes.push(Cause::invalid(name, &event[name], "can have at most 128 characters"));
            }
        }
        if event["eventTime"].is_null() {
            causes.push(Cause::required("eventTime", ""));
        }
        if !["Normal", "Warning"].contains(&text(&event["type"]).as_str()) {
            causes.push(Cause::invalid("type", &event["type"], "has invalid value"));
        }
        if text(&event["message"]).len() > 1024 {
            causes.push(Cause::invalid("message", &json!(""), "can have at most 1024 characters"));
        }
    }
    causes
}
