//! The kinds of the group `fairlead.dev/v1beta1`, as the API server stores them.
//!
//! All kinds are cluster-scoped except `IPClaim`, which is in the namespace of its Service. Fields have the
//! names and meanings of MetalLB where both projects have the feature.
//!
//! The types are lenient on purpose: durations, addresses and enumerations are strings, and integers are
//! wide. An unexpected object that a less strict schema admitted must not break the watch of all other
//! objects. The schema rejects at `kubectl apply` what one object alone shows to be wrong; [`crate::resolve`]
//! validates everything again.

// Clippy mistakes the printer columns of a kind for duplicates.
#![allow(clippy::duplicated_attributes)]
// The `KubeSchema` derive generates a copy of each struct inside a function.
#![allow(unreachable_pub)]

mod bfd_profile;
mod bgp_advertisement;
mod bgp_peer;
mod community;
mod ip_address_pool;
mod ip_claim;
mod l2_advertisement;
mod pool_cooldown;
pub mod schema;
mod speaker;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::conditions::RawCondition;

pub use bfd_profile::{BFDProfile, BFDProfileSpec};
pub use bgp_advertisement::{BGPAdvertisement, BGPAdvertisementSpec, ServiceAttributes};
pub use bgp_peer::{BGPPeer, BGPPeerSpec, BGPPeerStatus, LinkBandwidth, PasswordSecret};
pub use community::{Community, CommunityAlias, CommunitySpec};
pub use ip_address_pool::{
    IPAddressPool, IPAddressPoolSpec, IPAddressPoolStatus, MAX_RECENTLY_RELEASED, ReleasedAddress,
    ServiceAllocation,
};
pub use ip_claim::{IPClaim, IPClaimSpec, IPClaimStatus};
pub use l2_advertisement::{L2Advertisement, L2AdvertisementSpec, PreferredNodeSelector};
pub use pool_cooldown::{PoolCooldown, PoolCooldownSpec};
pub use speaker::{
    Announced, BFDRemote, BFDSession, L2Conflict, L2Interface, L2Status, MAX_ANNOUNCED_ENTRIES,
    MAX_ANNOUNCED_OCTETS, MAX_CONFLICTS, MAX_NOT_ANNOUNCED, Mesh, NegotiatedSession, NotAnnounced, Session,
    SessionFamily, SessionNotification, Speaker, SpeakerSpec, SpeakerStatus,
};

/// The API group of all kinds.
pub const GROUP: &str = "fairlead.dev";
/// The version that the API server serves and stores.
pub const VERSION: &str = "v1beta1";

/// ObjectStatus describes whether the object is in force.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ObjectStatus {
    /// The metadata.generation of the object that the status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Conditions of the object. `Accepted`: the object is in force; if not, the message explains why. The
    /// message of an accepted object lists the parts of it that have no effect. `Ready`: the object is in
    /// force and is not being deleted. `Stalled`, present only while it is true: the object is refused.
    /// `InForce`, present only while it is true: the object is refused, and its last accepted form remains in
    /// force. `InUse`, of a BFDProfile or Community that is being deleted: the objects for which the deletion
    /// waits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[schemars(with = "Vec<Condition>")]
    pub conditions: Vec<RawCondition>,

    /// The form of the object that was accepted last. It remains in force while the object is refused. If it
    /// is larger than 64 KiB, it is not recorded, and a speaker that starts while the object is refused does
    /// not use it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_force: Option<AcceptedForm>,
}

/// AcceptedForm is the form of an object that was accepted last, with what it needs of other objects.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct AcceptedForm {
    /// The metadata.generation of the object in this form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,

    /// The spec of the object in this form.
    #[serde(default)]
    #[schemars(schema_with = "schema::any_object")]
    pub spec: Value,

    /// Of a BGPPeer: the spec of its BFDProfile. It is used if the BFDProfile no longer exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::any_object")]
    pub bfd_profile: Option<Value>,

    /// Of a BGPAdvertisement: the values of the aliases in its communities. They are used if no Community
    /// defines these names any more.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub communities: BTreeMap<String, String>,
}
