//! Resolution after changes of pools alone. It costs what the changed pools touch: those that they overlap,
//! and the advertisements that select them. The result is the same as that of a complete resolution.

use std::collections::{BTreeMap, BTreeSet};

use super::pool::{self, overlap};
use super::precedence::Before;
use super::refusal::ObjectRefusal;
use super::{Kind, ObjectRef, ObjectVerdict, Resolution};
use crate::model::config::Pool;
use crate::model::delta::ConfigDelta;
use crate::v1beta1::IPAddressPool;

/// The effect of a change of objects on a [`Resolution`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolutionChange {
    /// The difference to the earlier configuration.
    pub delta: ConfigDelta,
    /// The objects whose verdict or warnings may differ, and those that were created or deleted.
    pub objects: BTreeSet<ObjectRef>,
}

/// What tells which pools were in force before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InForce {
    /// Their conditions.
    ByConditions,
    /// The resolution that changes. It is newer than the conditions of a leading controller.
    ByResolution,
}

/// The state of a pool before a change: in force, refused, or neither.
#[derive(Debug, Default)]
struct Previous {
    in_force: Option<Pool>,
    refused: Option<Pool>,
}

impl Resolution {
    /// Resolves again after the pools of these names changed, and no other object. `get` returns a pool, or
    /// `None` if it was deleted. `check_readable` refuses a pool that cannot be read.
    pub(crate) fn change_pools<'a>(
        &mut self,
        names: &BTreeSet<String>,
        in_force: InForce,
        get: impl Fn(&str) -> Option<&'a IPAddressPool>,
        check_readable: impl Fn(&IPAddressPool) -> Result<(), ObjectRefusal>,
    ) -> ResolutionChange {
        let parse = |object: &IPAddressPool| check_readable(object).and_then(|()| pool::pool(object));
        let mut previous: BTreeMap<String, Previous> = BTreeMap::new();
        let key = |this: &Self, name: &str| {
            let object = get(name)?;
            let parsed = parse(object);
            let before = match in_force {
                InForce::ByConditions => Before::Conditions(None),
                InForce::ByResolution => Before::Resolution(this),
            };
            Some(before.by_standing(object, parsed.as_ref().ok()))
        };
        // The pools to decide on, in order of precedence. None depends on one that comes after it.
        let mut queue = BTreeSet::new();
        let mut decided: BTreeSet<String> = BTreeSet::new();
        for name in names {
            queue.extend(key(self, name).map(|key| (key, name.clone())));
        }
        for name in names {
            let taken = self.take_pool(name, &mut previous);
            for refused in taken.iter().flat_map(|pool| self.refused_overlapping(pool)) {
                queue.extend(key(self, &refused).map(|key| (key, refused)));
            }
        }
        while let Some((own_key, name)) = queue.pop_first() {
            let Some(object) = get(&name) else { continue };
            if !decided.insert(name.clone()) {
                continue;
            }
            self.take_pool(&name, &mut previous);
            let mut displaced = BTreeSet::new();
            let checked = parse(object).and_then(|pool| {
                let has_precedence = |other: &str| {
                    let wins = key(self, other).is_some_and(|other| other < own_key);
                    if !wins {
                        displaced.insert(other.to_owned());
                    }
                    wins
                };
                overlap(&pool, self.config.ranges(), has_precedence).map(|()| pool)
            });
            let outcome = match checked {
                Ok(pool) => {
                    for other in displaced {
                        // It is decided on later, and what it kept out of force too.
                        queue.extend(key(self, &other).map(|key| (key, other.clone())));
                        let taken = self.take_pool(&other, &mut previous);
                        for refused in taken.iter().flat_map(|pool| self.refused_overlapping(pool)) {
                            queue.extend(key(self, &refused).map(|key| (key, refused)));
                        }
                    }
                    // The messages of the pools that it overlaps name it.
                    for refused in self.refused_overlapping(&pool) {
                        let after = key(self, &refused).filter(|key| *key > own_key);
                        queue.extend(after.map(|key| (key, refused)));
                    }
                    self.config.set_pool(&name, Some(pool));
                    Ok(())
                }
                Err(refusal) => {
                    self.config.refused_pools.insert(name.clone(), pool::refused(object));
                    Err(refusal)
                }
            };
            let is_accepted = outcome.is_ok();
            self.set_pool_verdict(&name, outcome);
            if is_accepted {
                self.warn_pool(&name, object);
            } else {
                self.warnings.remove(&pool_reference(&name));
            }
        }
        self.finish_pool_changes(previous)
    }

    /// Takes a pool out of the configuration, and records its previous state. Returns it if it was in force.
    /// Its verdict remains, because the precedence depends on it.
    fn take_pool(&mut self, name: &str, previous: &mut BTreeMap<String, Previous>) -> Option<Pool> {
        let in_force = self.config.set_pool(name, None);
        let refused = self.config.refused_pools.remove(name);
        if !previous.contains_key(name) {
            previous.insert(name.to_owned(), Previous { in_force: in_force.clone(), refused });
        }
        in_force
    }

    /// Returns the refused pools that overlap a pool.
    fn refused_overlapping(&self, pool: &Pool) -> Vec<String> {
        let overlaps = |other: &&Pool| {
            other.name != pool.name
                && other.ranges.iter().any(|one| pool.ranges.iter().any(|range| range.overlaps(one)))
        };
        self.config.refused_pools.values().filter(overlaps).map(|other| other.name.clone()).collect()
    }

    fn set_pool_verdict(&mut self, name: &str, outcome: Result<(), ObjectRefusal>) {
        let verdict = outcome.map_or_else(ObjectVerdict::from, |()| ObjectVerdict::Accepted);
        self.verdicts.insert(pool_reference(name), verdict);
    }

    /// Updates what depends on the changed pools, and returns the difference.
    fn finish_pool_changes(&mut self, previous: BTreeMap<String, Previous>) -> ResolutionChange {
        let mut change = ResolutionChange::default();
        let (mut ads, mut renamed): (BTreeSet<usize>, BTreeSet<&str>) = Default::default();
        for (name, previous) in &previous {
            let object = pool_reference(name);
            let in_force = self.config.pools.get(name);
            let refused = self.config.refused_pools.get(name);
            if in_force.is_none() && refused.is_none() {
                self.verdicts.remove(&object);
                self.warnings.remove(&object);
            }
            let pool_differs = previous.in_force.as_ref() != in_force;
            let refused_differs = previous.refused.as_ref() != refused;
            if pool_differs {
                change.delta.pools.insert(name.clone(), in_force.cloned());
            }
            if refused_differs {
                change.delta.refused_pools.insert(name.clone(), refused.cloned());
            }
            change.objects.insert(object);
            if previous.in_force.is_some() != in_force.is_some() {
                renamed.insert(name);
            }
            if !pool_differs && !refused_differs {
                continue;
            }
            for (pool, is_refused) in [(&previous.in_force, false), (&previous.refused, true)] {
                ads.extend(pool.iter().flat_map(|pool| self.bgp.remove_pool(pool, is_refused)));
            }
            for (pool, is_refused) in [(in_force, false), (refused, true)] {
                ads.extend(pool.into_iter().flat_map(|pool| self.bgp.add_pool(pool, is_refused)));
            }
        }
        // Advertisements that name a pool warn if it is not in force.
        let names_one = |names: &BTreeSet<String>| renamed.iter().any(|name| names.contains(*name));
        let l2 = self.config.l2_advertisements.values().filter(|ad| names_one(&ad.pools.names));
        let l2: Vec<String> = l2.map(|ad| ad.name.clone()).collect();
        for name in l2 {
            change.objects.extend(self.warn_l2(&name));
        }
        let named = (0..self.bgp.len()).filter(|index| {
            self.bgp.get(*index).is_some_and(|advertised| names_one(&advertised.ad().pools.names))
        });
        ads.extend(named);
        let (affected, pools) = self.choose_forms(&ads);
        ads.extend(affected);
        for index in ads {
            let pools = previous.keys().chain(&pools);
            change.objects.extend(self.finish_bgp(index, pools, &mut change.delta));
        }
        change
    }
}

fn pool_reference(name: &str) -> ObjectRef {
    ObjectRef { kind: Kind::IPAddressPool, name: name.to_owned() }
}

#[cfg(test)]
mod tests {
    use crate::model::service::ObjectKey;
    use serde_json::{Value, json};

    use crate::kinds::ConfigurationObject;
    use crate::read::Custom;
    use crate::resolve::pool::PARSED;
    use crate::resolve::{InForce, Resolution};
    use crate::store::{ConfigurationStore, ObjectChange};
    use crate::{configuration_kinds, v1beta1};

    fn object<K: ConfigurationObject>(name: String, spec: Value) -> K {
        let metadata = json!({ "name": name, "uid": name, "creationTimestamp": "2026-01-01T00:00:00Z" });
        serde_json::from_value(json!({ "metadata": metadata, "spec": spec })).unwrap()
    }

    fn pool(n: usize, length: u8) -> v1beta1::IPAddressPool {
        let address = format!("10.{}.{}.0/{length}", n / 256, n % 256);
        object(format!("p{n:05}"), json!({ "addresses": [address] }))
    }

    /// Returns the number of pools that each step parses, with `n` other pools.
    fn parsed(n: usize) -> Vec<u64> {
        let (mut store, mut resolution) = (ConfigurationStore::default(), Resolution::default());
        macro_rules! list {
            ($($kind:ident => $field:ident,)*) => {$(store.reset::<v1beta1::$kind>(Vec::new());)*};
        }
        configuration_kinds!(list);
        store.apply::<v1beta1::L2Advertisement>(object("all".to_owned(), json!({})));
        store.apply::<v1beta1::BGPAdvertisement>(object("all".to_owned(), json!({})));
        // The current form may announce no pool, so the last accepted one remains in force.
        let mut edited: v1beta1::BGPAdvertisement =
            object("edited".to_owned(), json!({ "aggregationLength": 8 }));
        edited.status =
            serde_json::from_value(json!({ "inForce": { "generation": 1, "spec": {} } })).unwrap();
        store.apply(edited);
        let spec = json!({ "addresses": ["192.0.2.0/24"] });
        let object = object("unreadable".to_owned(), spec);
        let unreadable = Custom { object, unreadable: Some("spec.new: unknown".to_owned()) };
        store.handle_change(ObjectChange::<Custom<v1beta1::IPAddressPool>>::Apply(unreadable).into());
        for i in 0..n {
            store.apply(pool(i, 24));
        }
        store.update(&mut resolution, InForce::ByResolution);
        assert_eq!(resolution.config.pools.len(), n);
        let key = |pool: v1beta1::IPAddressPool| ObjectKey {
            namespace: String::new(),
            name: pool.metadata.name.unwrap_or_default(),
        };
        let mut step = |change| {
            let (before, earlier) = (PARSED.get(), resolution.clone());
            store.change(change);
            let change = store.update(&mut resolution, InForce::ByResolution).unwrap();
            assert!(change.objects.len() <= 4 && change.delta.pool_names().len() <= 2);
            let parsed = PARSED.get() - before;
            assert_eq!(Some(&resolution), store.resolve_after(&earlier, InForce::ByResolution).as_ref());
            assert!(resolution.config.bgp_advertisements.contains_key("edited"));
            parsed
        };
        vec![
            step(ObjectChange::Apply(pool(n, 24))),
            step(ObjectChange::Apply(pool(n, 25))),
            step(ObjectChange::Apply(v1beta1::IPAddressPool { spec: pool(n, 24).spec, ..pool(n + 1, 24) })),
            step(ObjectChange::Delete(key(pool(n, 24)))),
            step(ObjectChange::Delete(key(pool(n + 1, 24)))),
        ]
    }

    #[test]
    fn change_of_a_pool_costs_what_it_touches() {
        let few = parsed(10);
        assert!(few.iter().all(|count| *count <= 6), "{few:?}");
        for n in [100, 2_000] {
            assert_eq!(parsed(n), few, "with {n} pools");
        }
    }
}
