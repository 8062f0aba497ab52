//! Configuration objects as the API server stores them.
//!
//! Controller, speaker and command-line tool each have one [`ConfigurationStore`]. Watches keep it up to date
//! by three operations, apply, delete and reset, and [`ConfigurationStore::resolve`] returns the
//! configuration.

use std::collections::BTreeSet;

use kube::Resource;

use crate::kinds::{ConfigurationObject, Kind, ObjectRef, ObjectView, Objects};
use crate::resolve::{InForce, Resolution, ResolutionChange, resolve, resolve_after};
use crate::{conditions, configuration_kinds, names, v1beta1};

/// A change to the objects of one kind, as a list or a watch reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObjectChange<T> {
    /// The object was created or updated.
    Apply(T),
    /// The object was deleted, or the selector of the watch no longer matches it. Carries its last known
    /// state.
    Delete(T),
    /// A complete list: objects that it does not contain no longer exist.
    Reset(Vec<T>),
}

macro_rules! define {
    ($($kind:ident => $field:ident,)*) => {
        /// A change to the objects of one configuration kind.
        #[derive(Clone, Debug, PartialEq)]
        #[allow(missing_docs)]
        pub enum ConfigurationChange {
            $($kind(ObjectChange<v1beta1::$kind>),)*
        }

        $(impl From<ObjectChange<v1beta1::$kind>> for ConfigurationChange {
            fn from(change: ObjectChange<v1beta1::$kind>) -> Self {
                Self::$kind(change)
            }
        })*

        impl ConfigurationChange {
            /// Returns the objects that the change creates, updates or lists.
            pub fn objects(&self) -> Vec<ObjectRef> {
                match self {
                    $(Self::$kind(ObjectChange::Apply(object)) => vec![object.reference()],
                    Self::$kind(ObjectChange::Delete(_)) => Vec::new(),
                    Self::$kind(ObjectChange::Reset(objects)) => {
                        objects.iter().map(ConfigurationObject::reference).collect()
                    })*
                }
            }
        }

        impl ConfigurationStore {
            /// Handles a change. Returns true if [`Self::resolve`] may return something else now.
            pub fn handle_change(&mut self, change: ConfigurationChange) -> bool {
                match change {
                    $(ConfigurationChange::$kind(change) => self.change(change),)*
                }
            }

            /// Returns the parts of an object that all kinds have in common.
            pub fn view(&self, object: &ObjectRef) -> Option<ObjectView<'_>> {
                match object.kind {
                    $(Kind::$kind => self.get::<v1beta1::$kind>(&object.name).map(ObjectView::new),)*
                }
            }
        }
    };
}

configuration_kinds!(define);

/// The configuration objects of a cluster.
#[derive(Clone, Debug, Default)]
pub struct ConfigurationStore {
    /// The objects of each kind, sorted by name.
    objects: Objects,
    /// The kinds with a complete list.
    listed: BTreeSet<Kind>,
    unresolved: Unresolved,
}

/// The objects that changed since they were resolved.
#[derive(Clone, Debug, Default)]
enum Unresolved {
    /// Pools of these names.
    Pools(BTreeSet<String>),
    /// Objects of any kind.
    #[default]
    Any,
}

impl ConfigurationStore {
    /// Creates or updates an object. Returns true if the configuration may differ. A change of the status
    /// alone makes no difference.
    pub fn apply<K: ConfigurationObject>(&mut self, object: K) -> bool {
        let list = K::list_mut(&mut self.objects);
        match position(list, object.meta().name.as_deref()) {
            Ok(index) => {
                let differs = list[index].configuration() != object.configuration();
                let stands_otherwise = accepted(&list[index]) != accepted(&object);
                let name = object.reference().name;
                list[index] = object;
                if differs || stands_otherwise {
                    self.mark::<K>(name);
                }
                differs
            }
            Err(index) => {
                let name = object.reference().name;
                list.insert(index, object);
                self.mark::<K>(name);
                true
            }
        }
    }

    /// Deletes the object with this name. Returns true if it existed.
    pub fn delete<K: ConfigurationObject>(&mut self, name: &str) -> bool {
        let list = K::list_mut(&mut self.objects);
        match position(list, Some(name)) {
            Ok(index) => {
                list.remove(index);
                self.mark::<K>(name.to_owned());
                true
            }
            Err(_) => false,
        }
    }

    /// Replaces all objects of a kind by a complete list. Returns true if the configuration may differ, or if
    /// this is the first list of the kind.
    pub fn reset<K: ConfigurationObject>(&mut self, mut objects: Vec<K>) -> bool {
        objects.sort_by(|a, b| a.meta().name.cmp(&b.meta().name));
        let list = K::list_mut(&mut self.objects);
        let before = list.iter().map(K::configuration);
        let differs = !before.eq(objects.iter().map(K::configuration));
        *list = objects;
        let differs = self.listed.insert(K::KIND) || differs;
        if differs {
            self.unresolved = Unresolved::Any;
        }
        differs
    }

    /// Handles a change of one kind; see [`Self::handle_change`].
    pub fn change<K: ConfigurationObject>(&mut self, change: ObjectChange<K>) -> bool {
        match change {
            ObjectChange::Apply(object) => self.apply(object),
            ObjectChange::Delete(object) => {
                self.delete::<K>(object.meta().name.as_deref().unwrap_or_default())
            }
            ObjectChange::Reset(objects) => self.reset(objects),
        }
    }

    /// Requires a new list of every kind before the next [`Self::resolve`]. The objects remain.
    pub fn clear_listed(&mut self) {
        self.listed.clear();
        self.unresolved = Unresolved::Any;
    }

    /// Returns the kinds without a complete list, for messages such as "waiting for the first list of
    /// BGPPeer".
    pub fn unlisted(&self) -> impl Iterator<Item = Kind> {
        Kind::ALL.iter().copied().filter(|kind| !self.listed.contains(kind))
    }

    /// Returns true if every kind has a complete list.
    pub fn is_listed(&self) -> bool {
        self.listed.len() == Kind::ALL.len()
    }

    /// Resolves the objects; `None` unless every kind has a complete list. A part of the objects would
    /// resolve to a configuration that withdraws what is in force.
    pub fn resolve(&self) -> Option<Resolution> {
        self.is_listed().then(|| resolve(&self.objects))
    }

    /// Does the same as [`Self::resolve`], but objects that `earlier` has resolved are in force if it has
    /// accepted them.
    pub fn resolve_after(&self, earlier: &Resolution) -> Option<Resolution> {
        self.is_listed().then(|| resolve_after(&self.objects, earlier))
    }

    /// Resolves the objects that changed since the last call, whose result is `resolution`; does nothing
    /// unless every kind has a complete list. A change of pools alone costs what it touches.
    pub fn update(&mut self, resolution: &mut Resolution, in_force: InForce) -> Option<ResolutionChange> {
        if !self.is_listed() {
            return None;
        }
        let unresolved = std::mem::replace(&mut self.unresolved, Unresolved::Pools(BTreeSet::new()));
        Some(match (unresolved, in_force) {
            (Unresolved::Pools(names), _) if resolution.can_change_pools(in_force) => {
                resolution.change_pools(&names, in_force, |name| self.get(name))
            }
            (_, InForce::ByConditions) => resolution.replace(resolve(&self.objects)),
            (_, InForce::ByResolution) => {
                let new = resolve_after(&self.objects, resolution);
                resolution.replace(new)
            }
        })
    }

    /// Records that the object of this name must be resolved again.
    fn mark<K: ConfigurationObject>(&mut self, name: String) {
        match &mut self.unresolved {
            Unresolved::Pools(names) if K::KIND == Kind::IPAddressPool => drop(names.insert(name)),
            unresolved => *unresolved = Unresolved::Any,
        }
    }

    /// Returns the objects of one kind, sorted by name.
    pub fn list<K: ConfigurationObject>(&self) -> &[K] {
        K::list(&self.objects)
    }

    /// Returns the object with this name.
    pub fn get<K: ConfigurationObject>(&self, name: &str) -> Option<&K> {
        let list = self.list::<K>();
        list.get(position(list, Some(name)).ok()?)
    }

    /// Returns the object with this name for modification. The name must not change.
    pub fn get_mut<K: ConfigurationObject>(&mut self, name: &str) -> Option<&mut K> {
        let list = K::list_mut(&mut self.objects);
        let index = position(list, Some(name)).ok()?;
        list.get_mut(index)
    }

    /// Returns the resourceVersion of an object; `None` if there is no such object.
    pub fn resource_version(&self, object: &ObjectRef) -> Option<&str> {
        self.view(object)?.metadata.resource_version.as_deref()
    }

    /// Returns the parts that all kinds have in common, of each object, ordered by kind and name.
    pub fn views(&self) -> impl Iterator<Item = ObjectView<'_>> {
        self.objects.views()
    }
}

/// Removes the metadata that Fairlead does not use. It is often larger than the rest of the object.
pub fn trim<K: Resource>(mut object: K) -> K {
    let metadata = object.meta_mut();
    metadata.managed_fields = None;
    metadata.annotations = None;
    object
}

/// Returns the parts of an object's condition `Accepted` that precedence depends on.
fn accepted<K: ConfigurationObject>(object: &K) -> Option<(bool, Option<i64>)> {
    let condition = conditions::find(object.conditions(), names::ACCEPTED)?;
    Some((condition.status == conditions::status(true), condition.observed_generation))
}

/// Returns the index of the object with this name, or the index at which to insert it.
fn position<K: ConfigurationObject>(list: &[K], name: Option<&str>) -> Result<usize, usize> {
    list.binary_search_by(|object| object.meta().name.as_deref().cmp(&name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1beta1::{Community, IPAddressPool};

    fn community(name: &str, version: &str) -> Community {
        let mut object = Community::new(name, Default::default());
        object.metadata.resource_version = Some(version.to_owned());
        object
    }

    fn reset_all(store: &mut ConfigurationStore) {
        macro_rules! reset {
            ($($kind:ident => $field:ident,)*) => {$(
                store.reset::<v1beta1::$kind>(Vec::new());
            )*};
        }
        configuration_kinds!(reset);
    }

    #[test]
    fn store_without_every_list_resolves_to_nothing() {
        let mut store = ConfigurationStore::default();
        store.apply(community("a", "1"));
        assert_eq!(store.unlisted().count(), Kind::ALL.len());
        assert!(store.resolve().is_none());
        reset_all(&mut store);
        assert!(store.is_listed() && store.resolve().is_some());
        store.clear_listed();
        assert!(store.resolve().is_none());
        assert!(store.reset::<IPAddressPool>(Vec::new()), "the first list always counts as a change");
        assert!(!store.unlisted().any(|kind| kind == Kind::IPAddressPool));
    }

    #[test]
    fn change_of_status_or_version_is_no_change() {
        let mut store = ConfigurationStore::default();
        assert!(store.change(ObjectChange::Apply(community("a", "1"))));
        let mut accepted = community("a", "2");
        accepted.status = Some(Default::default());
        assert!(!store.change(ObjectChange::Apply(accepted.clone())));
        let reference = accepted.reference();
        assert_eq!(store.resource_version(&reference), Some("2"));
        reset_all(&mut store);
        store.apply(accepted.clone());
        assert!(!store.change(ObjectChange::Reset(vec![accepted.clone()])));
        accepted.metadata.labels = Some([("a".to_owned(), "b".to_owned())].into());
        assert!(store.change(ObjectChange::Reset(vec![accepted.clone()])));
        assert!(store.change(ObjectChange::Delete(accepted.clone())));
        assert!(!store.change(ObjectChange::Delete(accepted)));
        assert_eq!(store.resource_version(&reference), None);
    }

    #[test]
    fn objects_are_found_by_name_in_any_order() {
        let mut store = ConfigurationStore::default();
        for name in ["c", "a", "d", "b"] {
            store.apply(community(name, name));
        }
        let names: Vec<_> = store.views().map(|view| view.object.name).collect();
        assert_eq!(names, ["a", "b", "c", "d"]);
        store.reset(vec![community("z", "1"), community("y", "2")]);
        assert_eq!(store.get::<Community>("y").unwrap().metadata.resource_version.as_deref(), Some("2"));
        assert!(store.get::<Community>("a").is_none());
        store.get_mut::<Community>("z").unwrap().metadata.resource_version = Some("3".to_owned());
        let object = ObjectRef { kind: Kind::Community, name: "z".to_owned() };
        assert_eq!(store.resource_version(&object), Some("3"));
    }

    #[test]
    fn change_lists_all_objects_but_deleted_ones() {
        let names = |change: ObjectChange<Community>| {
            let objects = ConfigurationChange::from(change).objects();
            objects.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        let (a, b) = (community("a", "1"), community("b", "2"));
        assert_eq!(names(ObjectChange::Apply(a.clone())), "Community/a");
        assert_eq!(names(ObjectChange::Reset(vec![b, a.clone()])), "Community/b Community/a");
        assert_eq!(names(ObjectChange::Delete(a)), "");
    }

    #[test]
    fn kind_name_and_path_are_those_of_the_api() {
        for kind in Kind::ALL {
            assert_eq!(Kind::parse(&kind.to_string()), Some(*kind));
            assert_eq!(kind.url_path(), format!("/apis/fairlead.dev/v1beta1/{}", kind.plural()));
        }
        assert_eq!(Kind::parse("Speaker"), None);
    }

    #[test]
    fn trim_removes_unused_metadata() {
        let mut object = community("a", "1");
        object.metadata.managed_fields = Some(Vec::new());
        object.metadata.annotations = Some(Default::default());
        assert_eq!(trim(object), community("a", "1"));
    }
}
