//! The state of the controller: the Lease of its leader, and its Deployment.

use fairlead_crds::names::CONTROLLER_LEASE;
use fairlead_crds::read::timestamp;
use fairlead_crds::text::{MAX_NAME, printable};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::Value;

use super::text;
use crate::output::age;

/// The leader of the controllers, as the Lease tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state")]
pub(crate) enum Leader {
    /// The user may not read the Lease.
    Unknown,
    /// There is no Lease.
    None,
    /// The last leader gave the Lease up.
    #[serde(rename_all = "camelCase")]
    Released { renewed: Option<Timestamp> },
    /// The leader has not renewed the Lease in time.
    #[serde(rename_all = "camelCase")]
    Expired { holder: String, renewed: Option<Timestamp> },
    /// The holder leads.
    #[serde(rename_all = "camelCase")]
    Leads { holder: String, since: Option<Timestamp>, renewed: Option<Timestamp> },
}

impl Leader {
    /// Reads the Lease.
    pub(crate) fn of(lease: &Value, now: Timestamp) -> Self {
        let time = |field: &str| timestamp(text(lease, field));
        let (renewed, since) = (time("/spec/renewTime"), time("/spec/acquireTime"));
        let holder = printable(text(lease, "/spec/holderIdentity"), MAX_NAME).into_owned();
        let seconds = lease.pointer("/spec/leaseDurationSeconds").and_then(Value::as_i64);
        let duration = SignedDuration::from_secs(seconds.unwrap_or_default());
        let expires = renewed.map(|renewed| renewed.saturating_add(duration).unwrap_or(renewed));
        if holder.is_empty() {
            Self::Released { renewed }
        } else if expires.is_some_and(|expires| expires > now) {
            Self::Leads { holder, since, renewed }
        } else {
            Self::Expired { holder, renewed }
        }
    }

    /// Returns why no controller leads; `None` if one leads, or if that is unknown.
    pub(crate) fn problem(&self, namespace: &str, now: Timestamp) -> Option<String> {
        let lease = format!("Lease {namespace}/{CONTROLLER_LEASE}");
        match self {
            Self::Unknown | Self::Leads { .. } => None,
            Self::None => Some(format!("no controller leads: there is no {lease}")),
            Self::Released { renewed } => Some(format!(
                "no controller leads: the last leader released {lease} {} ago",
                age(*renewed, now)
            )),
            Self::Expired { holder, renewed } => Some(format!(
                "no controller leads: {lease} is held by {holder}, renewed {} ago",
                age(*renewed, now)
            )),
        }
    }

    /// Describes the state in a few words.
    pub(crate) fn describe(&self, now: Timestamp) -> String {
        match self {
            Self::Unknown => "unknown: the Lease cannot be read".to_owned(),
            Self::None => "no leader: there is no Lease".to_owned(),
            Self::Released { renewed } => format!("no leader: Lease released {} ago", age(*renewed, now)),
            Self::Expired { holder, renewed } => {
                format!("no leader: Lease of {holder} renewed {} ago", age(*renewed, now))
            }
            Self::Leads { holder, since, .. } => format!("{holder} leads for {}", age(*since, now)),
        }
    }
}

/// The pods of a Deployment or DaemonSet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Workload {
    /// The number of pods that should run.
    pub wanted: i64,
    /// The number of pods that are ready.
    pub ready: i64,
    /// The label `app.kubernetes.io/version`, or the tag of the image.
    pub version: String,
    pub image: String,
}

impl Workload {
    /// Reads a Deployment or DaemonSet.
    pub(crate) fn of(object: &Value) -> Self {
        let number = |pointers: [&str; 2]| {
            let values = pointers.iter().filter_map(|pointer| object.pointer(pointer));
            values.filter_map(Value::as_i64).next().unwrap_or_default()
        };
        let image = text(object, "/spec/template/spec/containers/0/image").to_owned();
        let label = text(object, "/metadata/labels/app.kubernetes.io~1version");
        let name = image.split('@').next().unwrap_or_default();
        let tag = name.rsplit_once(':').map_or("", |(_, tag)| tag);
        // The part behind the last colon is a port if a slash follows.
        let tag = if tag.contains('/') { "" } else { tag };
        let version = if label.is_empty() { tag } else { label };
        Self {
            wanted: number(["/status/desiredNumberScheduled", "/spec/replicas"]),
            ready: number(["/status/numberReady", "/status/readyReplicas"]),
            version: printable(version, MAX_NAME).into_owned(),
            image: printable(&*image, MAX_NAME).into_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lease_tells_who_leads() {
        let now: Timestamp = "2026-01-01T00:10:00Z".parse().unwrap();
        let lease = |holder: &str, renewed: &str| {
            json!({ "spec": { "holderIdentity": holder, "leaseDurationSeconds": 10,
                              "acquireTime": "2026-01-01T00:00:00.000000Z", "renewTime": renewed } })
        };
        for (holder, renewed, problem) in [
            ("c1", "2026-01-01T00:09:55.000000Z", None),
            (
                "c1",
                "2026-01-01T00:05:50.000000Z",
                Some("no controller leads: Lease f/fairlead-controller is held by c1, renewed 4m ago"),
            ),
            (
                "",
                "2026-01-01T00:09:55.000000Z",
                Some("no controller leads: the last leader released Lease f/fairlead-controller 5s ago"),
            ),
        ] {
            let leader = Leader::of(&lease(holder, renewed), now);
            assert_eq!(leader.problem("f", now).as_deref(), problem);
        }
        assert!(Leader::None.problem("f", now).is_some() && Leader::Unknown.problem("f", now).is_none());
    }

    #[test]
    fn version_is_the_label_or_the_tag() {
        let object = |image: &str| json!({ "spec": { "template": { "spec": { "containers": [{ "image": image }] } } } });
        for (image, version) in [
            ("fairlead:v1", "v1"),
            ("registry:5000/fairlead", ""),
            ("registry:5000/fairlead:v1@sha256:00", "v1"),
        ] {
            assert_eq!(Workload::of(&object(image)).version, version, "{image}");
        }
        let labeled = json!({ "metadata": { "labels": { "app.kubernetes.io/version": "v2" } } });
        assert_eq!(Workload::of(&labeled).version, "v2");
    }
}
