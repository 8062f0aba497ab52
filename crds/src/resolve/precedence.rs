//! The order in which objects that conflict take precedence.
//!
//! Creation times have a resolution of one second, so they do not order objects that are created together.
//! An object that is in force stays in force: a conflicting object of the same second with a lower name must
//! not replace it. What is in force comes before the age, too: an edit must not replace another object.
//! Pools that are being deleted come last, because their addresses move.

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::last_accepted::LastAccepted;
use super::{ObjectVerdict, Resolution};
use crate::kinds::ConfigurationObject;
use crate::model::config::Pool;
use crate::model::range::IpRange;
use crate::{conditions, names, v1beta1};

/// Which objects were in force before a resolution.
#[derive(Clone, Copy, Debug)]
pub(super) enum Before<'a> {
    /// Those whose condition `Accepted` or `InForce` is true. An earlier resolution contains the last
    /// accepted forms that this process remembers.
    Conditions(Option<&'a Resolution>),
    /// Those of an earlier resolution. It is newer than the conditions of a leading controller, which writes
    /// them later.
    Resolution(&'a Resolution),
}

/// How far an object was in force, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// As it is.
    InForce,
    /// In an earlier version. A pool used fewer addresses in it.
    Edited,
    NotInForce,
}

impl Before<'_> {
    /// Returns the sort key of an object among those of its kind, for an order by precedence: by creation
    /// time, then what was in force, then by name. An object that does not exist in the cluster yet has no
    /// timestamp and counts as the youngest.
    pub(super) fn by_age<K: ConfigurationObject>(self, object: &K) -> impl Ord + use<K> {
        let (is_new, created) = created(object);
        (is_new, created, !self.was_in_force(object), object.name_any())
    }

    /// Returns the sort key of a pool among pools, for an order by precedence: pools that are not being
    /// deleted, then what was in force, then as [`Before::by_age`].
    pub(super) fn by_standing(
        self,
        object: &v1beta1::IPAddressPool,
        pool: Option<&Pool>,
    ) -> impl Ord + use<> {
        let is_deleted = object.metadata.deletion_timestamp.is_some();
        (is_deleted, self.standing(object, pool), created(object), object.name_any())
    }

    fn standing(self, object: &v1beta1::IPAddressPool, pool: Option<&Pool>) -> Standing {
        if !self.was_in_force(object) {
            return Standing::NotInForce;
        }
        match self {
            Self::Conditions(_) => self.by_generation(object),
            Self::Resolution(earlier) => {
                let before = earlier.config.pools.get(&object.name_any());
                let is_unchanged =
                    before.zip(pool).is_some_and(|(before, pool)| contains_ranges(before, pool));
                if is_unchanged { Standing::InForce } else { Standing::Edited }
            }
        }
    }

    /// Returns how far an object is in force that is accepted in some version: the condition `Accepted` tells
    /// in which.
    pub(super) fn by_generation<K: ConfigurationObject>(self, object: &K) -> Standing {
        let accepted = conditions::find(object.conditions(), names::ACCEPTED);
        let observed = accepted.and_then(|condition| condition.observed_generation());
        if observed == object.meta().generation { Standing::InForce } else { Standing::Edited }
    }

    /// Returns true if an object was in force, in any form.
    pub(super) fn was_in_force<K: ConfigurationObject>(self, object: &K) -> bool {
        let reference = object.reference();
        let earlier = match self {
            Self::Conditions(_) => None,
            Self::Resolution(earlier) => earlier.verdicts.get(&reference).map(|verdict| (earlier, verdict)),
        };
        match earlier {
            Some((earlier, verdict)) => *verdict == ObjectVerdict::Accepted || earlier.is_kept(&reference),
            None => [names::ACCEPTED, names::IN_FORCE]
                .into_iter()
                .any(|type_| conditions::is_true(object.conditions(), type_)),
        }
    }

    /// Returns the last accepted forms that this process remembers.
    pub(super) fn last_accepted(&self) -> Option<&LastAccepted> {
        match self {
            Self::Conditions(earlier) => earlier.map(|earlier| &earlier.last_accepted),
            Self::Resolution(earlier) => Some(&earlier.last_accepted),
        }
    }
}

/// Returns whether each range of `pool` is within a range of `before`.
fn contains_ranges(before: &Pool, pool: &Pool) -> bool {
    before.ranges == pool.ranges || {
        let is_within = |range: &IpRange| {
            before.ranges.iter().any(|outer| outer.contains(range.first()) && outer.contains(range.last()))
        };
        pool.ranges.iter().all(is_within)
    }
}

/// Returns the creation time of an object; one that does not exist in the cluster yet counts as the youngest.
pub(super) fn created(object: &impl ResourceExt) -> (bool, Option<Timestamp>) {
    let created = object.creation_timestamp().map(|time| time.0);
    (created.is_none(), created)
}
