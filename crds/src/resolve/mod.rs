//! Resolution of objects into plain, validated configuration.
//!
//! Controller, speaker and command-line tool all call [`resolve`], so that they always agree. The result
//! depends on the objects alone, not on their order, the time or the state of the cluster. An invalid object
//! is refused with a reason and does not affect others. A part of a valid object that has no effect, such as
//! the name of a pool that does not exist, or that is probably a mistake leads to a [`Warning`]. A refused pool may have been in force
//! before: the configuration contains the parts of it that the holders of its addresses need.
//!
//! `mod.rs` fixes the order: communities, BFD profiles, peers, pools, advertisements, and finally the pairs
//! of BGP advertisement and pool that `routes` withholds. Each other file validates one kind; `fields` and
//! `refusal` contain what they have in common.

mod advertisement;
mod bfd;
mod community;
mod duration;
mod fields;
mod peer;
mod pool;
mod precedence;
mod refusal;
mod routes;

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt;

use self::community::Aliases;
use self::peer::Sessions;
use self::pool::UsedRanges;
use self::precedence::Before;
use crate::kinds::ConfigurationObject;
use crate::model::config::{Config, PoolSelection};
use crate::text::{self, quoted};

pub use crate::kinds::{Kind, ObjectRef, Objects};
pub use refusal::{ObjectRefusal, RefusalReason};

/// The result of [`resolve`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolution {
    /// The objects in force, and the refused pools.
    pub config: Config,
    /// One verdict for each object.
    pub verdicts: BTreeMap<ObjectRef, ObjectVerdict>,
    /// The parts of accepted objects that have no effect or are probably mistakes.
    pub warnings: BTreeMap<ObjectRef, Vec<Warning>>,
}

/// The verdict on an object.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ObjectVerdict {
    /// The object is in force.
    Accepted,
    /// The object is not in force.
    Refused { reason: RefusalReason, message: String },
}

/// A part of an accepted object that has no effect or is probably a mistake.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub struct Warning {
    pub reason: RefusalReason,
    pub message: String,
}

/// The condition `Accepted` of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Accepted {
    pub status: bool,
    /// `Accepted`, or the reason of the refusal or of the first warning.
    pub reason: String,
    /// The explanation for the user; empty for an accepted object without warnings.
    pub message: String,
}

/// The maximum number of warnings in the message of a condition.
const MAX_MESSAGES: usize = 8;

impl Resolution {
    /// Returns the condition `Accepted` of an object; `None` for an object that was not resolved.
    pub fn accepted(&self, object: &ObjectRef) -> Option<Accepted> {
        Some(match self.verdicts.get(object)? {
            ObjectVerdict::Refused { reason, message } => {
                Accepted { status: false, reason: reason.to_string(), message: message.clone() }
            }
            ObjectVerdict::Accepted => {
                let warnings = self.warnings.get(object).map(Vec::as_slice).unwrap_or_default();
                let reason = warnings.first().map_or("Accepted".to_owned(), |w| w.reason.to_string());
                let mut messages: Vec<&str> = warnings.iter().map(|w| w.message.as_str()).collect();
                messages.truncate(MAX_MESSAGES);
                let mut message = messages.join("; ");
                if warnings.len() > MAX_MESSAGES {
                    message += &format!("; and {} more", warnings.len() - MAX_MESSAGES);
                }
                Accepted { status: true, reason, message }
            }
        })
    }
}

impl From<ObjectRefusal> for ObjectVerdict {
    fn from(ObjectRefusal { reason, message }: ObjectRefusal) -> Self {
        Self::Refused { reason, message: text::message(message).into_owned() }
    }
}

/// Resolves objects into the configuration in force. Objects that cannot be used are refused one by one, so
/// that the function always succeeds.
///
/// If two pools conflict, the one in force takes precedence, then the older one (`creationTimestamp`), then
/// the one with the lower name. For other kinds the age comes first. In force are the objects whose condition
/// `Accepted` is true. The run time depends on the size of the objects, not on the number of addresses.
pub fn resolve(objects: &Objects) -> Resolution {
    resolve_by(objects, Before::Conditions)
}

/// Does the same as [`resolve`], but objects that `earlier` has resolved are in force if it has accepted
/// them. This is for the controller that leads: it writes the conditions, so they lag behind.
pub fn resolve_after(objects: &Objects, earlier: &Resolution) -> Resolution {
    resolve_by(objects, Before::Resolution(earlier))
}

fn resolve_by(objects: &Objects, before: Before<'_>) -> Resolution {
    let mut resolution = Resolution::default();

    let mut aliases = Aliases::default();
    for object in resolution.by_age(before, Kind::Community, &objects.communities) {
        let added = aliases.add(object);
        resolution.record_verdict(Kind::Community, object, added);
    }

    let mut profiles = BTreeMap::new();
    for object in resolution.by_age(before, Kind::BFDProfile, &objects.bfd_profiles) {
        if let Some(profile) = resolution.record_verdict(Kind::BFDProfile, object, bfd::profile(object)) {
            profiles.insert(profile.name.clone(), profile);
        }
    }

    let mut sessions = Sessions::default();
    for object in resolution.by_age(before, Kind::BGPPeer, &objects.peers) {
        let peer = peer::peer(object, &profiles).and_then(|peer| sessions.add(&peer).map(|()| peer));
        if let Some(peer) = resolution.record_verdict(Kind::BGPPeer, object, peer) {
            resolution.config.peers.insert(peer.name.clone(), peer);
        }
    }

    let mut used = UsedRanges::default();
    let pools = resolution.by_age(before, Kind::IPAddressPool, &objects.pools).into_iter();
    let mut pools: Vec<_> = pools.map(|object| (object, pool::pool(object))).collect();
    pools.sort_by_cached_key(|(object, pool)| before.by_standing(object, pool.as_ref().ok()));
    for (object, pool) in pools {
        let pool = pool.and_then(|pool| used.add(&pool).map(|()| pool));
        if let Some(pool) = resolution.record_verdict(Kind::IPAddressPool, object, pool) {
            for Warning { reason, message } in pool::warnings(object) {
                resolution.warn(Kind::IPAddressPool, &pool.name, reason, message);
            }
            resolution.config.pools.insert(pool.name.clone(), pool);
        } else {
            resolution.config.refused_pools.insert(object.name_any(), pool::refused(object));
        }
    }

    for object in resolution.by_age(before, Kind::L2Advertisement, &objects.l2_advertisements) {
        if let Some(ad) = resolution.record_verdict(Kind::L2Advertisement, object, advertisement::l2(object))
        {
            resolution.warn_of_missing_pools(Kind::L2Advertisement, &ad.name, &ad.pools);
            resolution.config.l2_advertisements.insert(ad.name.clone(), ad);
        }
    }

    let mut bgp_by_age = Vec::new();
    for object in resolution.by_age(before, Kind::BGPAdvertisement, &objects.bgp_advertisements) {
        let ad = advertisement::bgp(object, &aliases);
        if let Some(ad) = resolution.record_verdict(Kind::BGPAdvertisement, object, ad) {
            resolution.warn_of_missing_pools(Kind::BGPAdvertisement, &ad.name, &ad.pools);
            resolution.warn_of_missing_peers(&ad.name, &ad.peers);
            bgp_by_age.push(ad.name.clone());
            resolution.config.bgp_advertisements.insert(ad.name.clone(), ad);
        }
    }
    resolution.withhold(&bgp_by_age);

    resolution.config.index();
    resolution
}

impl Resolution {
    /// Returns the objects of one kind, the oldest first. Objects with the same name, which are possible only
    /// in files, are all refused.
    fn by_age<'a, K: ConfigurationObject>(
        &mut self,
        before: Before<'_>,
        kind: Kind,
        objects: &'a [K],
    ) -> Vec<&'a K> {
        let mut sorted: Vec<&K> = objects.iter().collect();
        sorted.sort_by_cached_key(|object| before.by_age(*object));
        let mut count: BTreeMap<String, usize> = BTreeMap::new();
        for object in &sorted {
            *count.entry(object.name_any()).or_default() += 1;
        }
        count.retain(|_, count| *count > 1);
        for (name, count) in &count {
            let message =
                format!("{count} objects of kind {kind} have this name: rename or remove all but one");
            let verdict = ObjectVerdict::Refused { reason: RefusalReason::DuplicateName, message };
            self.verdicts.insert(ObjectRef { kind, name: name.clone() }, verdict);
        }
        sorted.retain(|object| !count.contains_key(&object.name_any()));
        sorted
    }

    /// Records the verdict on an object. Returns the value of an accepted object.
    fn record_verdict<T>(
        &mut self,
        kind: Kind,
        object: &impl ResourceExt,
        outcome: Result<T, ObjectRefusal>,
    ) -> Option<T> {
        let (verdict, value) = match outcome {
            Ok(value) => (ObjectVerdict::Accepted, Some(value)),
            Err(refusal) => (refusal.into(), None),
        };
        self.verdicts.insert(ObjectRef { kind, name: object.name_any() }, verdict);
        value
    }

    fn warn(&mut self, kind: Kind, name: &str, reason: RefusalReason, message: String) {
        let object = ObjectRef { kind, name: name.to_owned() };
        let message = text::message(message).into_owned();
        self.warnings.entry(object).or_default().push(Warning { reason, message });
    }

    fn warn_of_missing_pools(&mut self, kind: Kind, ad: &str, pools: &PoolSelection) {
        for name in pools
            .names
            .iter()
            .filter(|name| !self.config.pools.contains_key(*name))
            .cloned()
            .collect::<Vec<_>>()
        {
            let message = format!("IPAddressPool {} does not exist or is refused", quoted(&name));
            self.warn(kind, ad, RefusalReason::PoolNotFound, message);
        }
    }

    fn warn_of_missing_peers(&mut self, ad: &str, peers: &BTreeSet<String>) {
        for name in
            peers.iter().filter(|name| !self.config.peers.contains_key(*name)).cloned().collect::<Vec<_>>()
        {
            let message = format!("BGPPeer {} does not exist or is refused", quoted(&name));
            self.warn(Kind::BGPAdvertisement, ad, RefusalReason::PeerNotFound, message);
        }
    }

    /// Withholds the pairs of BGP advertisement and pool that [`routes::withheld`] returns.
    fn withhold(&mut self, by_age: &[String]) {
        for (ad, pairs) in routes::withheld(&self.config, by_age) {
            let object = ObjectRef { kind: Kind::BGPAdvertisement, name: ad.clone() };
            let pools = self.config.pools.values().chain(self.config.refused_pools.values());
            let covered = self
                .config
                .bgp_advertisements
                .get(&ad)
                .map_or(0, |ad| pools.filter(|pool| ad.pools.covers(pool)).count());
            if let Some((_, refusal)) = pairs.first()
                && pairs.len() == covered
            {
                self.config.bgp_advertisements.remove(&ad);
                self.warnings.remove(&object);
                self.verdicts.insert(object, refusal.clone().into());
                continue;
            }
            for (pool, ObjectRefusal { reason, message }) in pairs {
                let message = format!("IPAddressPool {} is not announced: {message}", quoted(&pool));
                self.warn(Kind::BGPAdvertisement, &ad, reason, message);
                self.config.lookup.withheld.insert((ad.clone(), pool));
            }
        }
    }
}
