//! The `PoolCooldown` objects, which record the addresses in cool-down: one object for each pool that has
//! some. The recorded addresses survive a restart.

use std::collections::{BTreeMap, BTreeSet};

use fairlead_crds::kinds::ConfigurationObject;
use fairlead_crds::model::service::ObjectKey;
use fairlead_crds::v1beta1::{IPAddressPool, PoolCooldown};
use kube::Resource;
use serde_json::{Value, json};

use crate::ipam::{Ipam, Released};

/// The content of a `PoolCooldown` object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordedCooldown {
    /// UID of the pool that owns the object.
    pub owner: Option<String>,
    /// `spec.released`.
    pub entries: Vec<String>,
}

impl From<&PoolCooldown> for RecordedCooldown {
    fn from(object: &PoolCooldown) -> Self {
        let owner = object.metadata.owner_references.iter().flatten().next();
        Self { owner: owner.map(|owner| owner.uid.clone()), entries: object.spec.released.clone() }
    }
}

/// The objects as this controller has last read or written them, by name of the pool.
#[derive(Debug, Default)]
pub(super) struct Cooldowns {
    recorded: BTreeMap<String, RecordedCooldown>,
    /// The pools whose objects another instance may have written since the list.
    outdated: BTreeSet<String>,
    is_listed: bool,
}

impl Cooldowns {
    /// Returns true if the objects were listed.
    pub(super) fn is_listed(&self) -> bool {
        self.is_listed
    }

    /// Requires a new list.
    pub(super) fn forget_list(&mut self) {
        self.is_listed = false;
    }

    /// Stores a list of all objects.
    pub(super) fn reset(&mut self, list: BTreeMap<String, RecordedCooldown>) {
        self.recorded = list;
        self.outdated.clear();
        self.is_listed = true;
    }

    /// Stores that the API server has written the body of a patch.
    pub(super) fn written(&mut self, pool: &str, body: &Value) {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let owner = text(&body["metadata"]["ownerReferences"][0]["uid"]);
        let entries = body["spec"]["released"].as_array().into_iter().flatten().filter_map(text).collect();
        self.outdated.remove(pool);
        self.recorded.insert(pool.to_owned(), RecordedCooldown { owner, entries });
    }

    /// Requires that the object of a pool is written, because another instance had the pool before. Its
    /// cool-downs would otherwise begin again when the next controller reads the object.
    pub(super) fn replace(&mut self, pool: &str) {
        self.outdated.insert(pool.to_owned());
    }

    /// Forgets the object of a pool that left this instance or does not exist any more. The API server
    /// deletes it with its owner.
    pub(super) fn remove(&mut self, pool: &str) {
        self.recorded.remove(pool);
        self.outdated.remove(pool);
    }

    /// Returns the recorded releases of a pool.
    pub(super) fn released(&self, pool: &IPAddressPool) -> impl Iterator<Item = Released> {
        let recorded = self.recorded.get(pool.metadata.name.as_deref().unwrap_or_default());
        // An object of a deleted pool of the same name is not this pool's.
        let own = recorded.filter(|recorded| recorded.owner == pool.metadata.uid);
        own.into_iter().flat_map(|recorded| recorded.entries.iter().filter_map(|entry| parse(entry)))
    }

    /// Returns the object of a pool for a server-side apply, if it must change.
    pub(super) fn patch(&self, pool: &IPAddressPool, ipam: &Ipam) -> Option<Value> {
        let name = pool.metadata.name.as_deref().unwrap_or_default();
        let entries: Vec<String> = ipam.released(name).map(|released| format(&released)).collect();
        let is_current = match self.recorded.get(name) {
            _ if self.outdated.contains(name) => false,
            Some(recorded) => recorded.entries == entries && recorded.owner == pool.metadata.uid,
            None => entries.is_empty(),
        };
        let owner = pool.controller_owner_ref(&()).map(|owner| {
            json!({ "apiVersion": owner.api_version, "kind": owner.kind, "name": owner.name, "uid": owner.uid })
        });
        (!is_current).then(|| {
            json!({
                "apiVersion": PoolCooldown::api_version(&()),
                "kind": PoolCooldown::kind(&()),
                "metadata": {
                    "name": pool.reference().name,
                    "ownerReferences": owner.into_iter().collect::<Vec<_>>(),
                },
                "spec": { "released": entries },
            })
        })
    }
}

/// Returns the entry of `spec.released` for a release.
fn format(released: &Released) -> String {
    format!("{} {} {}", released.address, released.service, released.at)
}

/// Parses an entry of `spec.released`; `None` if a person wrote something else.
fn parse(entry: &str) -> Option<Released> {
    let mut parts = entry.split_whitespace();
    let (address, service, at) = (parts.next()?, parts.next()?, parts.next()?);
    let (namespace, name) = service.split_once('/')?;
    Some(Released {
        address: address.parse().ok()?,
        service: ObjectKey { namespace: namespace.to_owned(), name: name.to_owned() },
        at: at.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_test_support::{ip, key};

    #[test]
    fn entry_is_parsed_as_formatted() {
        for address in ["192.0.2.1", "2001:db8::1"] {
            let at = "2026-01-02T03:04:05Z".parse().unwrap();
            let released = Released { address: ip(address), service: key("shop/web"), at };
            assert_eq!(format(&released), format!("{address} shop/web 2026-01-02T03:04:05Z"));
            assert_eq!(parse(&format(&released)), Some(released));
        }
        for entry in [
            "",
            "192.0.2.1",
            "192.0.2.1 web 2026-01-02T03:04:05Z",
            "x a/b 2026-01-02T03:04:05Z",
            "192.0.2.1 a/b now",
        ] {
            assert_eq!(parse(entry), None, "{entry}");
        }
    }
}
