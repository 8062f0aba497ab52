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

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::conditions::RawCondition;

pub use bfd_profile::{BFDProfile, BFDProfileSpec};
pub use bgp_advertisement::{BGPAdvertisement, BGPAdvertisementSpec, ServiceAttributes};
pub use bgp_peer::{BGPPeer, BGPPeerSpec, LinkBandwidth, PasswordSecret};
pub use community::{Community, CommunityAlias, CommunitySpec};
pub use ip_address_pool::{
    IPAddressPool, IPAddressPoolSpec, IPAddressPoolStatus, MAX_RECENTLY_RELEASED, ReleasedAddress,
    ServiceAllocation,
};
pub use ip_claim::{IPClaim, IPClaimSpec, IPClaimStatus};
pub use l2_advertisement::{L2Advertisement, L2AdvertisementSpec, PreferredNodeSelector};
pub use pool_cooldown::{PoolCooldown, PoolCooldownSpec};
pub use speaker::{
    Announced, BFDRemote, BFDSession, MAX_NOT_ANNOUNCED, Mesh, NegotiatedSession, NotAnnounced, Session,
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
    /// Conditions of the object. `Accepted`: the object is in force; if not, the message explains why. The
    /// message of an accepted object lists the parts of it that have no effect.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[schemars(with = "Vec<Condition>")]
    pub conditions: Vec<RawCondition>,
}
