//! A cluster at rest: Fairlead writes nothing.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow};
use fairlead_lab::{Lab, ensure, observe_for, wait_for};

use crate::{SECOND, SOON, VERSION};

/// Returns the resourceVersion of every object that Fairlead could write, by kind and name.
pub fn versions(lab: &Lab) -> Result<BTreeMap<String, String>> {
    let kinds = [
        ("v1", "Service"),
        ("v1", "Secret"),
        ("events.k8s.io/v1", "Event"),
        (VERSION, "IPAddressPool"),
        (VERSION, "L2Advertisement"),
        (VERSION, "BGPAdvertisement"),
        (VERSION, "BGPPeer"),
        (VERSION, "Speaker"),
    ];
    let mut versions = BTreeMap::new();
    for (version, kind) in kinds {
        for object in lab.api()?.list(version, kind)? {
            let text = |key: &str| object["metadata"][key].as_str().unwrap_or_default().to_owned();
            let (namespace, name) = (text("namespace"), text("name"));
            versions.insert(format!("{kind} {namespace}/{name}"), text("resourceVersion"));
        }
    }
    Ok(versions)
}

/// Waits until eleven seconds pass without a write: a speaker sends at most one Event about an object in ten
/// seconds, and statuses are written more often, so pending ones arrive before. Returns the [`versions`].
pub fn wait_for_rest(lab: &Lab) -> Result<BTreeMap<String, String>> {
    let mut before = versions(lab)?;
    wait_for("eleven seconds without a write", 3 * SOON, || {
        observe_for(11 * SECOND);
        let now = versions(lab)?;
        let same = now == before;
        let moved: Vec<_> = now.iter().filter(|(key, version)| before.get(*key) != Some(version)).collect();
        let moved = format!("{moved:?}");
        before = now;
        ensure(same, moved).map_err(|moved| anyhow!("{moved}"))
    })?;
    Ok(before)
}
