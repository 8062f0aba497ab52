//! Deletions of peers and advertisements, which take effect a moment later: an object that is replaced by
//! deletion and creation (`kubectl replace --force`) does not end sessions or withdraw routes in between.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fairlead_crds::kinds::{ConfigurationObject, Kind, ObjectRef};
use fairlead_crds::model::service::ObjectKey;
use fairlead_crds::store::{ConfigurationChange, ObjectChange};

/// Time after which a deletion takes effect.
pub(crate) const RECREATION_WAIT: Duration = Duration::from_secs(2);

/// The deletions that have not taken effect yet, with the time of that; `None` before the first
/// [`Deletions::take_due`].
#[derive(Debug, Default)]
pub(crate) struct Deletions(BTreeMap<ObjectRef, Option<Instant>>);

impl Deletions {
    /// Handles a change. Returns it unless it is a deletion that must wait. A creation, and a complete list,
    /// replaces the deletions before it.
    pub(crate) fn handle_change(&mut self, change: ConfigurationChange) -> Option<ConfigurationChange> {
        match &change {
            ConfigurationChange::BGPPeer(change) => self.observe(change),
            ConfigurationChange::BGPAdvertisement(change) => self.observe(change),
            ConfigurationChange::L2Advertisement(change) => self.observe(change),
            ConfigurationChange::IPAddressPool(_)
            | ConfigurationChange::BFDProfile(_)
            | ConfigurationChange::Community(_) => true,
        }
        .then_some(change)
    }

    /// Returns when to call [`Deletions::take_due`].
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.0.values().flatten().min().copied()
    }

    /// Takes the deletions that take effect now.
    pub(crate) fn take_due(&mut self, now: Instant) -> Vec<ConfigurationChange> {
        let mut due = Vec::new();
        self.0.retain(|object, time| {
            let is_due = *time.get_or_insert(now + RECREATION_WAIT) <= now;
            if is_due {
                due.extend(deletion(object));
            }
            !is_due
        });
        due
    }

    /// Returns true if the change takes effect at once.
    fn observe<K: ConfigurationObject>(
        &mut self,
        change: &ObjectChange<fairlead_crds::read::Custom<K>>,
    ) -> bool {
        match change {
            ObjectChange::Delete(key) => {
                self.0.insert(ObjectRef { kind: K::KIND, name: key.name.clone() }, None);
                return false;
            }
            ObjectChange::Apply(read) => drop(self.0.remove(&read.object.reference())),
            ObjectChange::Reset(_) => self.0.retain(|object, _| object.kind != K::KIND),
            ObjectChange::Missing => {}
        }
        true
    }
}

fn deletion(object: &ObjectRef) -> Option<ConfigurationChange> {
    let key = ObjectKey { namespace: String::new(), name: object.name.clone() };
    Some(match object.kind {
        Kind::BGPPeer => ConfigurationChange::BGPPeer(ObjectChange::Delete(key)),
        Kind::BGPAdvertisement => ConfigurationChange::BGPAdvertisement(ObjectChange::Delete(key)),
        Kind::L2Advertisement => ConfigurationChange::L2Advertisement(ObjectChange::Delete(key)),
        Kind::IPAddressPool | Kind::BFDProfile | Kind::Community => return None,
    })
}

#[cfg(test)]
mod tests {
    use fairlead_crds::v1beta1::{BFDProfile, BGPPeer};

    use super::*;

    fn delete(name: &str) -> ConfigurationChange {
        deletion(&ObjectRef { kind: Kind::BGPPeer, name: name.to_owned() }).unwrap()
    }

    fn create(name: &str) -> ConfigurationChange {
        ObjectChange::Apply(BGPPeer::new(name, Default::default())).into()
    }

    #[test]
    fn deletion_takes_effect_later_unless_the_object_is_created_again() {
        let (mut deletions, now) = (Deletions::default(), Instant::now());
        assert_eq!(deletions.handle_change(delete("a")), None);
        assert_eq!(deletions.handle_change(delete("b")), None);
        assert_eq!(deletions.take_due(now), []);
        assert_eq!(deletions.poll_timeout(), Some(now + RECREATION_WAIT));
        assert_eq!(deletions.handle_change(create("a")), Some(create("a")));
        assert_eq!(deletions.take_due(now + RECREATION_WAIT), [delete("b")]);
        assert_eq!(deletions.poll_timeout(), None);
    }

    #[test]
    fn list_and_other_kinds_take_effect_at_once() {
        let (mut deletions, now) = (Deletions::default(), Instant::now());
        let key = ObjectKey { namespace: String::new(), name: "a".to_owned() };
        let profile: ConfigurationChange = ObjectChange::<BFDProfile>::Delete(key).into();
        assert_eq!(deletions.handle_change(profile.clone()), Some(profile));
        deletions.handle_change(delete("a"));
        let list: ConfigurationChange = ObjectChange::<BGPPeer>::Reset(Vec::new()).into();
        assert_eq!(deletions.handle_change(list.clone()), Some(list));
        deletions.take_due(now);
        assert_eq!(deletions.take_due(now + RECREATION_WAIT), []);
    }
}
