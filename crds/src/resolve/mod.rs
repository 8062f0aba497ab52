//! Objects become plain, validated configuration: the one way to read it.
//!
//! Controller, speaker and command-line tool all call [`resolve`], so they cannot disagree. It is a function
//! of the objects alone: their order, the time and the cluster do not matter. A bad object is refused with a
//! reason and leaves the others in force. A part of a good object that has no effect, such as the name of a pool
//! that does not exist (yet), is no refusal but a [`Warning`]. A pool that is refused may have been in force before:
//! the configuration keeps what its holders need, so that they lose nothing.

mod advertisement;
mod bfd;
mod community;
mod duration;
mod fields;
mod peer;
mod pool;
mod refusal;
mod routes;

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt;

use self::community::Aliases;
use self::peer::Sessions;
use self::pool::Taken;
use crate::model::config::{Config, PoolSelection};

pub use crate::kinds::{Kind, ObjectRef, Objects};
pub use refusal::{ObjectRefusal, RefusalReason};

/// What came out: the configuration in force and a verdict on each object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolution {
    /// What is in force; and the pools that are not, for those who hold addresses of them.
    pub config: Config,
    /// One verdict for each object.
    pub verdicts: BTreeMap<ObjectRef, ObjectVerdict>,
    /// Parts of accepted objects that have no effect.
    pub warnings: BTreeMap<ObjectRef, Vec<Warning>>,
}

/// Whether an object is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObjectVerdict {
    /// It is.
    Accepted,
    /// It is not.
    Refused {
        /// Why, in one word.
        reason: RefusalReason,
        /// Why, in a sentence.
        message: String,
    },
}

/// A part of an accepted object that has no effect.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Warning {
    /// In one word.
    pub reason: RefusalReason,
    /// In a sentence.
    pub message: String,
}

/// What the condition `Accepted` of an object says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// `status: "True"` or `"False"`.
    pub status: bool,
    /// `Accepted`, or the reason of the refusal or of the first warning.
    pub reason: String,
    /// What a person should know; empty where there is nothing to say.
    pub message: String,
}

/// Most warnings that a condition spells out.
const MOST_MESSAGES: usize = 8;

impl Resolution {
    /// What the condition `Accepted` of an object should say; `None` for an object that was not resolved.
    pub fn accepted(&self, object: &ObjectRef) -> Option<Accepted> {
        Some(match self.verdicts.get(object)? {
            ObjectVerdict::Refused { reason, message } => {
                Accepted { status: false, reason: reason.to_string(), message: message.clone() }
            }
            ObjectVerdict::Accepted => {
                let warnings = self.warnings.get(object).map(Vec::as_slice).unwrap_or_default();
                let reason = warnings.first().map_or("Accepted".to_owned(), |w| w.reason.to_string());
                let mut messages: Vec<&str> = warnings.iter().map(|w| w.message.as_str()).collect();
                messages.truncate(MOST_MESSAGES);
                let mut message = messages.join("; ");
                if warnings.len() > MOST_MESSAGES {
                    message += &format!("; and {} more", warnings.len() - MOST_MESSAGES);
                }
                Accepted { status: true, reason, message }
            }
        })
    }
}

impl From<ObjectRefusal> for ObjectVerdict {
    fn from(ObjectRefusal { reason, message }: ObjectRefusal) -> Self {
        Self::Refused { reason, message }
    }
}

/// Resolves objects into the configuration in force. Never fails: what is bad is refused, one by one.
///
/// Where two objects cannot both be in force, the older one is (`creationTimestamp`, then name). The work is
/// bounded by the size of the objects: addresses are never walked.
pub fn resolve(objects: &Objects) -> Resolution {
    let mut resolution = Resolution::default();

    let mut aliases = Aliases::default();
    for object in resolution.by_age(Kind::Community, &objects.communities) {
        let added = aliases.add(object);
        resolution.judge(Kind::Community, object, added);
    }

    let mut profiles = BTreeMap::new();
    for object in resolution.by_age(Kind::BFDProfile, &objects.bfd_profiles) {
        if let Some(profile) = resolution.judge(Kind::BFDProfile, object, bfd::profile(object)) {
            profiles.insert(profile.name.clone(), profile);
        }
    }

    let mut sessions = Sessions::default();
    for object in resolution.by_age(Kind::BGPPeer, &objects.peers) {
        let peer = peer::peer(object, &profiles).and_then(|peer| sessions.add(&peer).map(|()| peer));
        if let Some(peer) = resolution.judge(Kind::BGPPeer, object, peer) {
            resolution.config.peers.insert(peer.name.clone(), peer);
        }
    }

    let mut taken = Taken::default();
    let mut pools = resolution.by_age(Kind::IPAddressPool, &objects.pools);
    pools.sort_by_key(|pool| pool::precedence(pool));
    for object in pools {
        let pool = pool::pool(object).and_then(|pool| taken.take(&pool).map(|()| pool));
        if let Some(pool) = resolution.judge(Kind::IPAddressPool, object, pool) {
            resolution.config.pools.insert(pool.name.clone(), pool);
        } else {
            resolution.config.refused_pools.insert(object.name_any(), pool::refused(object));
        }
    }

    for object in resolution.by_age(Kind::L2Advertisement, &objects.l2_advertisements) {
        if let Some(ad) = resolution.judge(Kind::L2Advertisement, object, advertisement::l2(object)) {
            resolution.warn_of_missing_pools(Kind::L2Advertisement, &ad.name, &ad.pools);
            resolution.config.l2_advertisements.insert(ad.name.clone(), ad);
        }
    }

    let mut bgp_by_age = Vec::new();
    for object in resolution.by_age(Kind::BGPAdvertisement, &objects.bgp_advertisements) {
        let ad = advertisement::bgp(object, &aliases);
        if let Some(ad) = resolution.judge(Kind::BGPAdvertisement, object, ad) {
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
    /// The objects of one kind, the oldest first. Those that share a name, which only files can have, are
    /// refused: nothing says which of them is meant.
    fn by_age<'a, K: ResourceExt>(&mut self, kind: Kind, objects: &'a [K]) -> Vec<&'a K> {
        let mut sorted: Vec<&K> = objects.iter().collect();
        // An object that does not exist yet has no timestamp and is the youngest.
        sorted.sort_by_key(|object| {
            let created = object.creation_timestamp().map(|time| time.0);
            (created.is_none(), created, object.name_any())
        });
        let mut count: BTreeMap<String, usize> = BTreeMap::new();
        for object in &sorted {
            *count.entry(object.name_any()).or_default() += 1;
        }
        count.retain(|_, count| *count > 1);
        for (name, count) in &count {
            let message = format!("there are {count} objects of kind {kind} with this name");
            let verdict = ObjectVerdict::Refused { reason: RefusalReason::DuplicateName, message };
            self.verdicts.insert(ObjectRef { kind, name: name.clone() }, verdict);
        }
        sorted.retain(|object| !count.contains_key(&object.name_any()));
        sorted
    }

    /// Writes the verdict on an object; passes on what it became.
    fn judge<T>(
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
            let message = format!("IPAddressPool {name:?} does not exist or is refused");
            self.warn(kind, ad, RefusalReason::PoolNotFound, message);
        }
    }

    fn warn_of_missing_peers(&mut self, ad: &str, peers: &BTreeSet<String>) {
        for name in
            peers.iter().filter(|name| !self.config.peers.contains_key(*name)).cloned().collect::<Vec<_>>()
        {
            let message = format!("BGPPeer {name:?} does not exist or is refused");
            self.warn(Kind::BGPAdvertisement, ad, RefusalReason::PeerNotFound, message);
        }
    }

    /// Withholds pools from BGP advertisements where [`routes::withheld`] says so.
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
                let message = format!("not announced: {message}");
                self.warn(Kind::BGPAdvertisement, &ad, reason, message);
                self.config.lookup.withheld.insert((ad.clone(), pool));
            }
        }
    }
}
