//! Configuration objects as the API server stores them.
//!
//! Controller, speaker and command-line tool each have one [`ConfigurationStore`]. Watches keep it up to date
//! by three operations, apply, delete and reset, and [`ConfigurationStore::resolve`] returns the
//! configuration.

mod change;

use std::collections::{BTreeMap, BTreeSet};

use kube::Resource;

use crate::kinds::{ConfigurationObject, Kind, ObjectRef, ObjectView, Objects};
use crate::read::Custom;
use crate::resolve::{InForce, Resolution, ResolutionChange, resolve, resolve_after};
use crate::{conditions, configuration_kinds, names, v1beta1};

pub use change::{ConfigurationChange, ObjectChange};

macro_rules! define {
    ($($kind:ident => $field:ident,)*) => {
        impl ConfigurationStore {
            /// Handles a change. Returns true if [`Self::resolve`] may return something else now.
            pub fn handle_change(&mut self, change: ConfigurationChange) -> bool {
                match change {
                    $(ConfigurationChange::$kind(change) => self.read_change(change),)*
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
    /// The kinds with a complete list, and the optional kinds that the API server does not serve.
    listed: BTreeSet<Kind>,
    /// The kinds that the API server does not serve.
    missing: BTreeSet<Kind>,
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
        self.apply_read(object.into())
    }

    fn apply_read<K: ConfigurationObject>(&mut self, Custom { object, unreadable }: Custom<K>) -> bool {
        let marked = self.set_unreadable(object.reference(), unreadable);
        let list = K::list_mut(&mut self.objects);
        match position(list, object.meta().name.as_deref()) {
            Ok(index) => {
                let differs = list[index].configuration() != object.configuration();
                let stands_otherwise = standing(&list[index]) != standing(&object);
                let name = object.reference().name;
                list[index] = object;
                if differs || stands_otherwise || marked {
                    self.mark::<K>(name);
                }
                differs || marked
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
        self.set_unreadable(ObjectRef { kind: K::KIND, name: name.to_owned() }, None);
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
    /// this is the first list of the kind. A change of the statuses alone makes no difference, as for
    /// [`Self::apply`]; [`Self::update`] resolves it.
    pub fn reset<K: ConfigurationObject>(&mut self, objects: Vec<K>) -> bool {
        self.reset_read(objects.into_iter().map(Custom::from).collect())
    }

    fn reset_read<K: ConfigurationObject>(&mut self, objects: Vec<Custom<K>>) -> bool {
        let (mut list, mut unreadable) = (Vec::with_capacity(objects.len()), BTreeMap::new());
        for Custom { object, unreadable: cause } in objects {
            unreadable.extend(cause.map(|cause| (object.reference(), cause)));
            list.push(object);
        }
        list.sort_by(|a, b| a.meta().name.cmp(&b.meta().name));
        let before = K::list(&self.objects).iter();
        let mut differs = !before.clone().map(K::configuration).eq(list.iter().map(K::configuration));
        if !before.map(standing).eq(list.iter().map(standing)) {
            self.unresolved = Unresolved::Any;
        }
        *K::list_mut(&mut self.objects) = list;
        let of_kind = |object: &ObjectRef| object.kind == K::KIND;
        let marked = self.objects.unreadable.iter().filter(|(object, _)| of_kind(object));
        if !marked.eq(unreadable.iter()) {
            self.objects.unreadable.retain(|object, _| !of_kind(object));
            self.objects.unreadable.append(&mut unreadable);
            differs = true;
        }
        self.missing.remove(&K::KIND);
        let differs = self.listed.insert(K::KIND) || differs;
        if differs {
            self.unresolved = Unresolved::Any;
        }
        differs
    }

    /// Handles a change of one kind; see [`Self::handle_change`].
    pub fn change<K: ConfigurationObject>(&mut self, change: ObjectChange<K>) -> bool {
        self.read_change(change.map(Custom::from))
    }

    fn read_change<K: ConfigurationObject>(&mut self, change: ObjectChange<Custom<K>>) -> bool {
        match change {
            ObjectChange::Apply(object) => self.apply_read(object),
            ObjectChange::Delete(key) => self.delete::<K>(&key.name),
            ObjectChange::Reset(objects) => self.reset_read(objects),
            ObjectChange::Missing => {
                self.missing.insert(K::KIND);
                K::KIND.is_optional() && self.listed.insert(K::KIND)
            }
        }
    }

    /// Records why the spec of an object cannot be read. Returns true if that differs from before.
    fn set_unreadable(&mut self, object: ObjectRef, unreadable: Option<String>) -> bool {
        match unreadable {
            Some(cause) => {
                self.objects.unreadable.insert(object, cause.clone()).is_none_or(|before| before != cause)
            }
            None => self.objects.unreadable.remove(&object).is_some(),
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

    /// Returns the kinds that the API server does not serve.
    pub fn missing(&self) -> impl Iterator<Item = Kind> {
        self.missing.iter().copied()
    }

    /// Returns true if every kind has a complete list. A kind counts as listed if the API server does not
    /// serve it, and Services get addresses without it.
    pub fn is_listed(&self) -> bool {
        self.listed.len() == Kind::ALL.len()
    }

    /// Resolves the objects; `None` unless every kind has a complete list. A part of the objects would
    /// resolve to a configuration that withdraws what is in force.
    pub fn resolve(&self) -> Option<Resolution> {
        self.is_listed().then(|| resolve(&self.objects))
    }

    /// Resolves the objects again; see [`crate::resolve::resolve_after`].
    pub fn resolve_after(&self, earlier: &Resolution, in_force: InForce) -> Option<Resolution> {
        self.is_listed().then(|| resolve_after(&self.objects, earlier, in_force))
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
                let check_readable = |pool: &v1beta1::IPAddressPool| self.objects.check_readable(pool);
                resolution.change_pools(&names, in_force, |name| self.get(name), check_readable)
            }
            _ => {
                let new = resolve_after(&self.objects, resolution, in_force);
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

/// Returns the parts of an object's status that precedence and the last accepted form depend on.
fn standing<K: ConfigurationObject>(object: &K) -> (Verdict, Verdict, Option<Option<i64>>) {
    let verdict = |type_| {
        let condition = conditions::find(object.conditions(), type_);
        let observed = condition.and_then(|condition| condition.observed_generation());
        (conditions::is_true(object.conditions(), type_), observed)
    };
    (verdict(names::ACCEPTED), verdict(names::IN_FORCE), object.in_force().map(|form| form.generation))
}

/// Whether a condition is true, and its observed generation.
type Verdict = (bool, Option<i64>);

/// Returns the index of the object with this name, or the index at which to insert it.
fn position<K: ConfigurationObject>(list: &[K], name: Option<&str>) -> Result<usize, usize> {
    list.binary_search_by(|object| object.meta().name.as_deref().cmp(&name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::service::ObjectKey;
    use crate::v1beta1::{Community, IPAddressPool};

    fn community(name: &str, version: &str) -> Community {
        let mut object = Community::new(name, Default::default());
        object.metadata.resource_version = Some(version.to_owned());
        object
    }

    fn reset_all(store: &mut ConfigurationStore) {
        macro_rules! reset {
            ($($kind:ident => $field:ident,)*) => {$(
                store.reset(Vec::<v1beta1::$kind>::new());
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
        assert!(store.reset(Vec::<IPAddressPool>::new()), "the first list always counts as a change");
        assert!(!store.unlisted().any(|kind| kind == Kind::IPAddressPool));
    }

    #[test]
    fn only_a_missing_kind_that_addresses_need_is_awaited() {
        let mut store = ConfigurationStore::default();
        macro_rules! missing {
            ($($kind:ident => $field:ident,)*) => {$(
                store.change(ObjectChange::<v1beta1::$kind>::Missing);
            )*};
        }
        configuration_kinds!(missing);
        assert_eq!(store.missing().collect::<Vec<_>>(), Kind::ALL);
        assert_eq!(store.unlisted().collect::<Vec<_>>(), [Kind::IPAddressPool]);
        assert!(store.reset(Vec::<IPAddressPool>::new()) && store.resolve().is_some());
        store.reset(vec![community("a", "1")]);
        assert_eq!(store.missing().count(), Kind::ALL.len() - 2);
        assert!(!store.change(ObjectChange::<Community>::Missing), "the objects remain");
        assert!(store.get::<Community>("a").is_some());
    }

    #[test]
    fn object_with_unreadable_spec_is_refused_until_it_is_readable() {
        let mut store = ConfigurationStore::default();
        reset_all(&mut store);
        let mut pool = IPAddressPool::new("a", Default::default());
        pool.spec.addresses = vec!["192.0.2.0/24".to_owned()];
        let unreadable = Custom { object: pool.clone(), unreadable: Some("spec.addresses[1]".to_owned()) };
        let verdict = |store: &ConfigurationStore| {
            let resolution = store.resolve().unwrap();
            let accepted = resolution.accepted(&pool.reference()).unwrap();
            let refused = resolution.config.refused_pools.get("a").map(|pool| pool.ranges.len());
            (accepted.reason, accepted.message.contains("spec.addresses[1]"), refused)
        };
        let (accepted, refused) =
            (("Accepted".to_owned(), false, None), ("Unreadable".to_owned(), true, Some(1)));
        assert!(store.apply_read(unreadable.clone()));
        assert!(!store.apply_read(unreadable.clone()), "nothing differs");
        assert_eq!(verdict(&store), refused);
        assert!(store.apply(pool.clone()));
        assert_eq!(verdict(&store), accepted);
        assert!(store.reset_read(vec![unreadable.clone()]));
        assert!(!store.reset_read(vec![unreadable.clone()]), "nothing differs");
        assert_eq!(verdict(&store), refused);
        assert!(store.reset(vec![pool.clone()]));
        assert_eq!(verdict(&store), accepted);
        store.apply_read(unreadable);
        assert!(store.delete::<IPAddressPool>("a"));
        assert_eq!(store.objects, Objects::default());
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
        let key = ObjectKey { namespace: String::new(), name: "a".to_owned() };
        assert!(store.change(ObjectChange::<Community>::Delete(key.clone())));
        assert!(!store.change(ObjectChange::<Community>::Delete(key)));
        assert_eq!(store.resource_version(&reference), None);
    }

    #[test]
    fn list_with_other_verdicts_is_resolved() {
        let mut store = ConfigurationStore::default();
        reset_all(&mut store);
        let pool = |name: &str, status: serde_json::Value| -> IPAddressPool {
            let spec = serde_json::json!({ "addresses": ["192.0.2.0/24"] });
            let object = serde_json::json!({ "metadata": { "name": name }, "spec": spec, "status": status });
            serde_json::from_value(object).unwrap()
        };
        let accepted = serde_json::json!({ "conditions": [{ "type": "Accepted", "status": "True" }] });
        let none = serde_json::json!({});
        let mut resolution = Resolution::default();
        for (b, in_force) in [(&none, "a"), (&accepted, "b")] {
            store.reset(vec![pool("a", none.clone()), pool("b", b.clone())]);
            store.update(&mut resolution, InForce::ByConditions).unwrap();
            assert_eq!(resolution.config.pools.keys().collect::<Vec<_>>(), [in_force]);
        }
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
        assert_eq!(names(ObjectChange::Reset(vec![b, a])), "Community/b Community/a");
        assert_eq!(names(ObjectChange::Delete(ObjectKey { namespace: String::new(), name: "a".into() })), "");
        assert_eq!(names(ObjectChange::Missing), "");
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
