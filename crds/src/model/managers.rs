//! The field managers of the load balancer status of a Service.
//!
//! `managedFields` is most of a small object. Only the writers of `status.loadBalancer` are of use, to name a
//! program that replaces it, so nothing else is decoded.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, Time};
use serde::Deserialize;
use serde::de::IgnoredAny;

/// An entry of `managedFields` as the API server stores it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manager {
    manager: Option<String>,
    subresource: Option<String>,
    time: Option<String>,
    fields_v1: Option<Fields>,
}

#[derive(Debug, Deserialize)]
struct Fields {
    #[serde(rename = "f:status")]
    status: Option<StatusFields>,
}

#[derive(Debug, Deserialize)]
struct StatusFields {
    #[serde(rename = "f:loadBalancer")]
    load_balancer: Option<IgnoredAny>,
}

/// Returns the entries of the managers of `status.loadBalancer`, without their fields; `None` if there are
/// none.
pub fn of_load_balancer(managers: Vec<Manager>) -> Option<Vec<ManagedFieldsEntry>> {
    let owns = |manager: &Manager| {
        let status = manager.fields_v1.as_ref().and_then(|fields| fields.status.as_ref());
        status.is_some_and(|status| status.load_balancer.is_some())
    };
    let entry = |manager: Manager| ManagedFieldsEntry {
        manager: manager.manager,
        subresource: manager.subresource,
        time: manager.time.and_then(|time| time.parse().ok()).map(Time),
        ..ManagedFieldsEntry::default()
    };
    let entries: Vec<_> = managers.into_iter().filter(owns).map(entry).collect();
    (!entries.is_empty()).then_some(entries)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    fn managers(entries: Value) -> Vec<String> {
        let entries = of_load_balancer(from_value(entries).unwrap()).unwrap_or_default();
        entries
            .into_iter()
            .map(|entry| format!("{:?} {:?}", entry.manager, entry.time.map(|time| time.0)))
            .collect()
    }

    #[test]
    fn only_managers_of_the_load_balancer_status_are_kept() {
        let time = "2026-01-01T00:00:00Z";
        let fields = json!({ "f:status": { "f:loadBalancer": { "f:ingress": {} } } });
        let entries = json!([
            { "manager": "kubectl", "fieldsV1": { "f:spec": { "f:type": {} } }, "time": time },
            { "manager": "k3s", "subresource": "status", "fieldsV1": fields, "time": time },
            { "manager": "other", "fieldsV1": { "f:status": { "f:conditions": {} } } },
            { "manager": "strange", "fieldsV1": fields, "time": "9999-12-31T23:59:59-12:00" },
            { "manager": null, "fieldsV1": null, "unknown": 1 },
            {},
        ]);
        assert_eq!(
            managers(entries),
            [r#"Some("k3s") Some(2026-01-01T00:00:00Z)"#, r#"Some("strange") None"#]
        );
        assert_eq!(managers(json!([])), [""; 0]);
    }
}
