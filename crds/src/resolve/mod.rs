//! Resolution of objects into plain, validated configuration.
//!
//! Controller, speaker and command-line tool all call [`resolve`], so that they always agree. The result
//! depends on the objects alone, not on their order, the time or the state of the cluster. An invalid object
//! is refused with a reason and does not affect others. A part of a valid object that has no effect, such as
//! the name of a pool that does not exist, or that is probably a mistake leads to a [`Warning`]. A refused
//! object may have been in force before: of a pool, the configuration contains the parts that the holders of
//! its addresses need; any other object remains in force in the form that was accepted last.
//!
//! `mod.rs` fixes the order: communities, BFD profiles, peers, pools, advertisements, and finally the pairs
//! of BGP advertisement and pool that `routes` withholds. `precedence` and `last_accepted` decide between
//! objects, and between the forms of one; each other file validates one kind; `fields` and `refusal` contain
//! what they have in common.

mod advertisement;
mod bfd;
mod bgp_pairs;
mod community;
mod duration;
mod fields;
mod last_accepted;
mod peer;
mod pool;
mod pool_changes;
mod precedence;
mod refusal;
mod routes;
mod users;

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt;

use self::bgp_pairs::{AdvertisedPools, BgpPairs, FormPools};
use self::community::Aliases;
use self::last_accepted::{Candidate, Form, LastAccepted};
use self::peer::Sessions;
use self::pool::UsedRanges;
use self::precedence::Before;
use crate::kinds::ConfigurationObject;
use crate::model::config::{BfdProfile, BgpAdvertisement, Config, Peer, PoolSelection};
use crate::model::delta::ConfigDelta;
use crate::text::{self, quoted};
use crate::v1beta1::{self, AcceptedForm};

pub use crate::kinds::{Kind, ObjectRef, Objects};
pub use pool_changes::{InForce, ResolutionChange};
pub use refusal::{ObjectRefusal, RefusalReason};

/// The result of [`resolve`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolution {
    /// The objects in force, and the refused pools.
    pub config: Config,
    /// One verdict for each object.
    pub verdicts: BTreeMap<ObjectRef, ObjectVerdict>,
    /// The parts of accepted objects that have no effect or are probably mistakes; for each object as many as
    /// a message can list.
    pub warnings: BTreeMap<ObjectRef, Vec<Warning>>,
    last_accepted: LastAccepted,
    bgp: BgpPairs,
}

/// The verdict on an object.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ObjectVerdict {
    /// The object is in force.
    Accepted,
    /// The object is not in force as it is; see [`Resolution::is_kept`].
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
                    // Their number would change the message with each new pool.
                    message += "; and others";
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
/// If two objects conflict, the one in force takes precedence, then the older one (`creationTimestamp`), then
/// the one with the lower name. In force are the objects whose condition `Accepted` or `InForce` is true. The
/// run time depends on the size of the objects, not on the number of addresses.
pub fn resolve(objects: &Objects) -> Resolution {
    resolve_by(objects, Before::Conditions(None))
}

/// Does the same as [`resolve`], but the last accepted forms of objects are those of `earlier`, unless the
/// statuses contain newer ones or say which one is in force. With [`InForce::ByResolution`], objects that
/// `earlier` has resolved are in force if they are in force there, in the forms of `earlier`. This is for the
/// controller that leads: it writes the conditions, so they lag behind.
pub fn resolve_after(objects: &Objects, earlier: &Resolution, in_force: InForce) -> Resolution {
    resolve_by(
        objects,
        match in_force {
            InForce::ByConditions => Before::Conditions(Some(earlier)),
            InForce::ByResolution => Before::Resolution(earlier),
        },
    )
}

fn resolve_by(objects: &Objects, before: Before<'_>) -> Resolution {
    let mut resolution = Resolution::default();

    let mut aliases = Aliases::default();
    let parse = |object: &_, _: &_| community::aliases(object);
    for candidate in resolution.candidates(before, objects, parse) {
        resolution.settle(candidate, |added| aliases.add(added), |_, _, _| {});
    }

    let mut profiles = BTreeMap::new();
    let parse = |object: &_, _: &_| bfd::profile(object);
    for candidate in resolution.candidates(before, objects, parse) {
        if let Some(profile) = resolution.settle(candidate, |_| Ok(()), |_, _, _| {}) {
            resolution.warn_profile(&profile);
            profiles.insert(profile.name.clone(), profile);
        }
    }

    let mut sessions = Sessions::default();
    let parse = |object: &_, form: &AcceptedForm| peer::peer(object, &profiles, form.bfd_profile.as_ref());
    for candidate in resolution.candidates(before, objects, parse) {
        let attach = |object: &v1beta1::BGPPeer, form: &mut AcceptedForm, forms: &LastAccepted| {
            let name = object.spec.bfd_profile.as_ref().filter(|name| profiles.contains_key(*name));
            let profile = name.map(|name| ObjectRef { kind: Kind::BFDProfile, name: name.clone() });
            if let Some(profile) = profile.and_then(|profile| forms.get(&profile)) {
                form.bfd_profile = Some(profile.parts.spec.clone());
            }
        };
        if let Some(peer) = resolution.settle(candidate, |peer| sessions.add(peer), attach) {
            resolution.warn_peer(&peer);
            resolution.config.peers.insert(peer.name.clone(), peer);
        }
    }

    let mut used = UsedRanges::default();
    let pools = resolution.by_age(before, Kind::IPAddressPool, &objects.pools).into_iter();
    let checked = |object| objects.check_readable(object).and_then(|()| pool::pool(object));
    let mut pools: Vec<_> = pools.map(|object| (object, checked(object))).collect();
    pools.sort_by_cached_key(|(object, pool)| before.by_standing(object, pool.as_ref().ok()));
    for (object, pool) in pools {
        let pool = pool.and_then(|pool| used.add(&pool).map(|()| pool));
        if let Some(pool) = resolution.record_verdict(Kind::IPAddressPool, object, pool) {
            resolution.warn_pool(&pool.name, object);
            resolution.config.pools.insert(pool.name.clone(), pool);
        } else {
            resolution.config.refused_pools.insert(object.name_any(), pool::refused(object));
        }
    }

    let parse = |object: &_, _: &_| advertisement::l2(object);
    for candidate in resolution.candidates(before, objects, parse) {
        if let Some(ad) = resolution.settle(candidate, |_| Ok(()), |_, _, _| {}) {
            let name = ad.name.clone();
            resolution.config.l2_advertisements.insert(name.clone(), ad);
            resolution.warn_l2(&name);
        }
    }

    let ibgp = resolution.config.peers.values().filter(|peer| peer.is_internal());
    resolution.bgp.set_ibgp_peers(ibgp.map(|peer| peer.name.clone()));
    let parse = |object: &_, form: &AcceptedForm| advertisement::bgp(object, &aliases, &form.communities);
    let mut candidates = resolution.candidates(before, objects, parse);
    // No advertisement takes the place of another one: the age decides which of them sets LOCAL_PREF.
    candidates.sort_by_cached_key(|candidate| before.by_age(candidate.object));
    for candidate in candidates {
        resolution.push_bgp(candidate, &aliases, before);
    }
    for (pools, is_refused) in [(&resolution.config.pools, false), (&resolution.config.refused_pools, true)] {
        for pool in pools.values() {
            resolution.bgp.add_pool(pool, is_refused);
        }
    }
    let undecided = resolution.bgp.with_alternatives().collect();
    resolution.choose_forms(&undecided);
    for index in 0..resolution.bgp.len() {
        resolution.finish_bgp(index, std::iter::empty(), &mut ConfigDelta::default());
    }

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

    /// Adds a BGP advertisement in its current form and in its last accepted form. The last accepted form is
    /// used if the current one is invalid or may announce no pool.
    fn push_bgp(
        &mut self,
        candidate: Candidate<'_, v1beta1::BGPAdvertisement, BgpAdvertisement>,
        aliases: &Aliases,
        before: Before<'_>,
    ) {
        let Candidate { object, own, form, last, kept } = candidate;
        let reference = object.reference();
        let created = precedence::created(object);
        let attach = |object: &v1beta1::BGPAdvertisement, mut form: Form| {
            form.parts.communities = aliases.used_by(&object.spec, &form.parts.communities);
            form
        };
        if let Some(last) = &last {
            self.last_accepted.set(reference.clone(), last.clone());
        }
        let current = own.map(|ad| FormPools::new(ad, attach(object, form)));
        let kept = kept.zip(last).map(|((former, kept), last)| FormPools::new(kept, attach(&former, last)));
        let entry = match (current, kept) {
            (Ok(current), None) => AdvertisedPools::new(current, created),
            (Ok(current), Some(kept)) => AdvertisedPools::with_alternative(current, kept, created),
            (Err(refusal), Some(kept)) => AdvertisedPools::kept(kept, created, refusal),
            (Err(refusal), None) => return drop(self.verdicts.insert(reference, refusal.into())),
        };
        self.bgp.push(entry.with_recorded(LastAccepted::recorded(before, object)));
    }

    /// Chooses the forms of BGP advertisements that are used after pools changed. Returns the advertisements
    /// that this affects, and the pools of the pairs that may differ.
    fn choose_forms(&mut self, indices: &BTreeSet<usize>) -> (BTreeSet<usize>, BTreeSet<String>) {
        let in_force = self.config.pools.values().map(|pool| (pool, false));
        let refused = self.config.refused_pools.values().map(|pool| (pool, true));
        let (affected, pools) = self.bgp.choose_forms(indices, in_force.chain(refused));
        (affected, pools.into_iter().map(str::to_owned).collect())
    }

    /// Sets the warnings of a pool in force.
    fn warn_pool(&mut self, name: &str, object: &v1beta1::IPAddressPool) {
        let warnings = pool::warnings(object).into_iter().take(MAX_MESSAGES + 1).collect();
        self.set_warnings(ObjectRef { kind: Kind::IPAddressPool, name: name.to_owned() }, warnings);
    }

    /// Sets the warnings of a BFD profile in force.
    fn warn_profile(&mut self, profile: &BfdProfile) {
        let object = ObjectRef { kind: Kind::BFDProfile, name: profile.name.clone() };
        let warnings = bfd::warnings(profile).filter(|_| !self.is_kept(&object)).collect();
        self.set_warnings(object, warnings);
    }

    /// Sets the warnings of a peer in force.
    fn warn_peer(&mut self, peer: &Peer) {
        let object = ObjectRef { kind: Kind::BGPPeer, name: peer.name.clone() };
        let warnings = peer::warnings(peer).filter(|_| !self.is_kept(&object)).collect();
        self.set_warnings(object, warnings);
    }

    /// Sets the warnings of an L2 advertisement in force. Returns its reference if they differ.
    fn warn_l2(&mut self, name: &str) -> Option<ObjectRef> {
        let ad = self.config.l2_advertisements.get(name)?;
        let object = ObjectRef { kind: Kind::L2Advertisement, name: name.to_owned() };
        let warnings = missing_pools(&self.config, &ad.pools).take(MAX_MESSAGES + 1);
        let warnings = warnings.filter(|_| !self.is_kept(&object)).collect();
        self.set_warnings(object.clone(), warnings).then_some(object)
    }

    /// Returns true if the warnings differ from the earlier ones.
    fn set_warnings(&mut self, object: ObjectRef, mut warnings: Vec<Warning>) -> bool {
        for warning in &mut warnings {
            warning.message = text::message(std::mem::take(&mut warning.message)).into_owned();
        }
        if warnings.is_empty() {
            return self.warnings.remove(&object).is_some();
        }
        let differs = self.warnings.get(&object) != Some(&warnings);
        self.warnings.insert(object, warnings);
        differs
    }

    /// Decides on a BGP advertisement that is valid on its own, and on the pairs of it and the pools that
    /// changed. Adds what differs to `delta`. Returns the reference of the advertisement if its verdict or
    /// warnings differ.
    fn finish_bgp<'a>(
        &mut self,
        index: usize,
        changed_pools: impl Iterator<Item = &'a String>,
        delta: &mut ConfigDelta,
    ) -> Option<ObjectRef> {
        let advertised = self.bgp.get(index)?;
        let ad = advertised.ad();
        let is_in_force = advertised.refusal().is_none();
        let refusal = advertised.verdict().cloned();
        let mut pools: BTreeSet<String> = changed_pools.cloned().collect();
        if self.config.bgp_advertisements.get(&ad.name) != Some(ad).filter(|_| is_in_force) {
            pools.extend(advertised.withheld().map(|(pool, _)| pool.to_owned()));
            let from = (ad.name.clone(), String::new());
            let pairs = self.config.lookup.withheld.range(from..).take_while(|(name, _)| *name == ad.name);
            pools.extend(pairs.map(|(_, pool)| pool.clone()));
            let new = is_in_force.then(|| ad.clone());
            delta.bgp_advertisements.insert(ad.name.clone(), new.clone());
            match new {
                Some(new) => drop(self.config.bgp_advertisements.insert(ad.name.clone(), new)),
                None => drop(self.config.bgp_advertisements.remove(&ad.name)),
            }
        }
        for pool in pools {
            let is_withheld = is_in_force && advertised.is_withheld(&pool);
            let pair = (ad.name.clone(), pool);
            let differs = match is_withheld {
                true => self.config.lookup.withheld.insert(pair.clone()),
                false => self.config.lookup.withheld.remove(&pair),
            };
            if differs {
                delta.withheld.insert(pair, is_withheld);
            }
        }
        let withheld = advertised.withheld().map(|(pool, ObjectRefusal { reason, message })| Warning {
            reason: *reason,
            message: format!("IPAddressPool {} is not announced: {message}", quoted(pool)),
        });
        let overruled = advertised
            .overruled()
            .map(|ObjectRefusal { reason, message }| Warning { reason: *reason, message: message.clone() });
        let missing = missing_pools(&self.config, &ad.pools).chain(missing_peers(&self.config, &ad.peers));
        let withheld = withheld.chain(overruled);
        let warnings = missing.chain(withheld).take(MAX_MESSAGES + 1).filter(|_| refusal.is_none()).collect();
        let object = ObjectRef { kind: Kind::BGPAdvertisement, name: ad.name.clone() };
        if is_in_force {
            self.last_accepted.set(object.clone(), advertised.form().clone());
        } else if let Some(recorded) = advertised.recorded() {
            self.last_accepted.set(object.clone(), recorded.clone());
        }
        let kept_differs = self.last_accepted.set_kept(&object, is_in_force && refusal.is_some());
        let verdict = refusal.map_or(ObjectVerdict::Accepted, ObjectVerdict::from);
        let verdict_differs = self.verdicts.get(&object) != Some(&verdict);
        self.verdicts.insert(object.clone(), verdict);
        self.bgp.forget_alternative(index);
        (self.set_warnings(object.clone(), warnings) || verdict_differs || kept_differs).then_some(object)
    }

    /// Returns true if [`Resolution::change_pools`] leads to the same as a resolution of all objects.
    pub(crate) fn can_change_pools(&self, in_force: InForce) -> bool {
        in_force == InForce::ByConditions || self.bgp.is_in_order()
    }

    /// Replaces the resolution by that of other objects.
    pub(crate) fn replace(&mut self, new: Self) -> ResolutionChange {
        let delta = ConfigDelta::between(&self.config, &new.config);
        let old = std::mem::replace(self, new);
        let objects = old.verdicts.keys().chain(self.verdicts.keys());
        let differs = |object: &&ObjectRef| {
            old.verdicts.get(*object) != self.verdicts.get(*object)
                || old.warnings.get(*object) != self.warnings.get(*object)
                || !old.last_accepted.agrees_on(&self.last_accepted, object)
        };
        let objects = objects.filter(differs).cloned().collect();
        ResolutionChange { delta, objects }
    }
}

fn missing_pools(config: &Config, pools: &PoolSelection) -> impl Iterator<Item = Warning> {
    let missing = pools.names.iter().filter(|name| !config.pools.contains_key(*name));
    missing.map(|name| Warning {
        reason: RefusalReason::PoolNotFound,
        message: format!("IPAddressPool {} does not exist or is refused", quoted(name)),
    })
}

fn missing_peers(config: &Config, peers: &BTreeSet<String>) -> impl Iterator<Item = Warning> {
    let missing = peers.iter().filter(|name| !config.peers.contains_key(*name));
    missing.map(|name| Warning {
        reason: RefusalReason::PeerNotFound,
        message: format!("BGPPeer {} does not exist or is refused", quoted(name)),
    })
}
