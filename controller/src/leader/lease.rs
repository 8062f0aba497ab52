//! The Lease as JSON: what others write into it must not stop the election. The API server stores times that
//! typed objects cannot represent.

use std::time::Duration;

use fairlead_crds::names::CONTROLLER_LEASE;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use serde_json::{Map, Value, json};

use super::{LeaseRecord, LeaseSnapshot, LeaseUpdate};

/// All fields of a Lease.
pub(super) type Lease = Map<String, Value>;

/// Returns the parts of a Lease that count for the election. A field with an unexpected value counts as
/// unset.
pub(super) fn snapshot(lease: &Lease) -> LeaseSnapshot {
    let part = |name| lease.get(name).unwrap_or(&Value::Null);
    let (metadata, spec) = (part("metadata"), part("spec"));
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let seconds = spec["leaseDurationSeconds"].as_u64().filter(|seconds| *seconds > 0);
    LeaseSnapshot {
        resource_version: text(&metadata["resourceVersion"]).unwrap_or_default(),
        record: LeaseRecord {
            holder: text(&spec["holderIdentity"]).unwrap_or_default(),
            duration: seconds.map(Duration::from_secs),
            transitions: spec["leaseTransitions"]
                .as_i64()
                .and_then(|n| n.try_into().ok())
                .unwrap_or_default(),
            renewed: text(&spec["renewTime"]),
        },
    }
}

/// Returns a new Lease.
pub(super) fn created(update: &LeaseUpdate, now: Timestamp) -> Lease {
    let type_ = [("apiVersion", "coordination.k8s.io/v1"), ("kind", "Lease")];
    let lease = type_.map(|(field, value)| (field.to_owned(), json!(value))).into_iter().collect();
    updated(lease, None, update, now)
}

/// Returns `lease` with the update applied. Fields that the election does not use keep their values, unless
/// the API server would not accept them again.
pub(super) fn updated(
    mut lease: Lease,
    resource_version: Option<&str>,
    update: &LeaseUpdate,
    now: Timestamp,
) -> Lease {
    change(&mut lease, "spec", |spec| {
        let mut renewed = json!(MicroTime(now));
        // Other candidates recognize a renewal by a changed renewTime, so it must change even if the clock
        // stood still.
        if spec.get("renewTime") == Some(&renewed) {
            renewed = json!(MicroTime(now.checked_add(SignedDuration::from_micros(1)).unwrap_or(now)));
        }
        // The API server writes years above 9999, and refuses to read them.
        let acquired = spec.get("acquireTime").and_then(Value::as_str);
        if update.changes_holder || acquired.is_none_or(|time| time.parse::<Timestamp>().is_err()) {
            spec.insert("acquireTime".to_owned(), renewed.clone());
        }
        spec.insert("renewTime".to_owned(), renewed);
        spec.insert("holderIdentity".to_owned(), json!(update.holder));
        spec.insert("leaseDurationSeconds".to_owned(), json!(update.duration_seconds));
        spec.insert("leaseTransitions".to_owned(), json!(update.transitions));
    });
    change(&mut lease, "metadata", |metadata| {
        // The API server keeps these. Their times may be such that it would refuse them.
        for field in ["creationTimestamp", "deletionTimestamp", "managedFields"] {
            metadata.remove(field);
        }
        metadata.insert("name".to_owned(), json!(CONTROLLER_LEASE));
        metadata.insert("resourceVersion".to_owned(), json!(resource_version));
    });
    lease
}

/// Changes the fields of a part of a Lease, which is created if it does not exist.
fn change(lease: &mut Lease, part: &str, change: impl FnOnce(&mut Map<String, Value>)) {
    let mut fields = match lease.remove(part) {
        Some(Value::Object(fields)) => fields,
        _ => Map::new(),
    };
    change(&mut fields);
    lease.insert(part.to_owned(), Value::Object(fields));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(value: Value) -> Lease {
        serde_json::from_value(value).unwrap()
    }

    fn update(changes_holder: bool) -> LeaseUpdate {
        LeaseUpdate { holder: "a".into(), duration_seconds: 10, transitions: 3, changes_holder }
    }

    #[test]
    fn lease_update_keeps_foreign_fields_and_changes_renew_time() {
        let now = Timestamp::from_microsecond(1_000_000).unwrap();
        let mut first = created(&update(true), now);
        assert_eq!(first["metadata"]["name"], CONTROLLER_LEASE);
        first["metadata"]["labels"] = json!({ "team": "net" });
        first["spec"]["strategy"] = json!("OldestEmulationVersion");
        let second = updated(first.clone(), Some("7"), &update(false), now);
        assert_eq!(second["metadata"]["labels"], first["metadata"]["labels"]);
        assert_eq!(second["metadata"]["resourceVersion"], "7");
        assert_eq!(second["spec"]["strategy"], first["spec"]["strategy"]);
        assert_eq!(second["spec"]["acquireTime"], first["spec"]["acquireTime"]);
        let renewed = |lease: &Lease| lease["spec"]["renewTime"].clone();
        assert_ne!(renewed(&second), renewed(&first), "a renewal in the same microsecond changes renewTime");
    }

    #[test]
    fn time_that_the_api_server_would_refuse_is_replaced() {
        let now = Timestamp::from_microsecond(1_000_000).unwrap();
        let lease = object(json!({
            "metadata": { "creationTimestamp": "10000-01-01T11:59:59Z", "managedFields": [{ "time": null }] },
            "spec": { "acquireTime": "10000-01-01T11:59:59.000000Z", "renewTime": null },
        }));
        let lease = updated(lease, Some("7"), &update(false), now);
        let metadata = json!({ "name": CONTROLLER_LEASE, "resourceVersion": "7" });
        assert_eq!(lease["metadata"], metadata);
        assert_eq!(lease["spec"]["acquireTime"], "1970-01-01T00:00:01.000000Z");
    }

    #[test]
    fn unexpected_value_reads_as_unset() {
        let record = |spec: Value| snapshot(&object(json!({ "spec": spec }))).record;
        for (seconds, expected) in [
            (Value::Null, None),
            (json!(0), None),
            (json!(-5), None),
            (json!(1e30), None),
            (json!(15), Some(Duration::from_secs(15))),
        ] {
            assert_eq!(record(json!({ "leaseDurationSeconds": seconds })).duration, expected, "{seconds}");
        }
        for spec in [Value::Null, json!({}), json!("text"), json!({ "holderIdentity": 7, "renewTime": null })]
        {
            assert_eq!(record(spec.clone()), LeaseRecord::default(), "{spec}");
        }
        assert_eq!(record(json!({ "leaseTransitions": i64::MAX })).transitions, 0);
        let renewed = record(json!({ "renewTime": "10000-01-01T11:59:59.000000Z" })).renewed;
        assert_eq!(renewed.as_deref(), Some("10000-01-01T11:59:59.000000Z"));
    }
}
