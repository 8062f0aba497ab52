//! A `Speaker` object, trimmed to what the conditions of Services and BGPPeers depend on.

use std::collections::BTreeMap;
use std::net::IpAddr;

use fairlead_crds::conditions;
use fairlead_crds::model::address_list::AddressList;
use fairlead_crds::names::{ELIGIBLE, READY};
use fairlead_crds::v1beta1::{Announced, MAX_NOT_ANNOUNCED, Speaker};

use super::obstacle::Obstacle;

/// The maximum number of sessions that are read: the bound in the schema.
const MAX_SESSIONS: usize = 256;

/// The state of the speaker on one node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ObservedSpeaker {
    /// True if the speaker runs and has received all objects that it depends on.
    pub(super) is_live: bool,
    /// True if its node may announce addresses.
    pub(super) is_eligible: bool,
    pub(super) l2: AddressList,
    pub(super) bgp: AddressList,
    /// True if both lists contain all addresses.
    pub(super) is_complete: bool,
    /// True if the speaker publishes lists. One of an earlier version does not.
    pub(super) is_published: bool,
    /// Whether the session with each BGPPeer is established.
    pub(super) sessions: BTreeMap<Box<str>, bool>,
    pub(super) obstacles: Vec<(IpAddr, Obstacle)>,
}

impl ObservedSpeaker {
    /// Returns whether the speaker runs and has received all objects that it depends on.
    pub fn is_live(&self) -> bool {
        self.is_live
    }

    /// Reads the object. Returns `None` for a speaker of another load balancer class.
    pub fn of(speaker: &Speaker, class: Option<&str>) -> Option<Self> {
        if speaker.spec.load_balancer_class.as_deref().filter(|class| !class.is_empty()) != class {
            return None;
        }
        let Some(status) = &speaker.status else { return Some(Self::default()) };
        let is_false = |type_| {
            conditions::find(&status.conditions, type_).is_some_and(|condition| condition.status() == "False")
        };
        let list = |announced: Option<&Announced>| announced.map(AddressList::decode).unwrap_or_default();
        let (by_l2, by_bgp) = (status.l2.as_ref().map(|l2| &l2.announced), status.bgp.as_ref());
        let ((l2, l2_complete), (bgp, bgp_complete)) = (list(by_l2), list(by_bgp));
        let is_list =
            |announced: Option<&Announced>| announced.is_some_and(|announced| announced.complete.is_some());
        let sessions = status.sessions.iter().take(MAX_SESSIONS);
        let obstacles = status.not_announced.iter().take(MAX_NOT_ANNOUNCED).filter_map(Obstacle::read);
        let mut obstacles: Vec<(IpAddr, Obstacle)> = obstacles.collect();
        obstacles.sort();
        Some(Self {
            is_live: status.ready == Some(true) && !is_false(READY),
            is_eligible: !is_false(ELIGIBLE),
            l2,
            bgp,
            is_complete: l2_complete && bgp_complete,
            is_published: is_list(by_l2) && is_list(by_bgp),
            sessions: sessions
                .map(|session| (session.peer.as_str().into(), session.state == "Established"))
                .collect(),
            obstacles,
        })
    }
}
