//! The kinds of group `fairlead.dev/v1beta1`, as they are on the wire. All are cluster-scoped but `IPClaim`, which belongs
//! to the namespace of its Service.
//!
//! Fields take MetalLB's names and meaning wherever both have the thing. The types are lenient on purpose:
//! durations, addresses and enumerations are plain strings and numbers are wide, so that one odd object that a
//! loose schema let through cannot break the watch of all the others. The schema refuses at `kubectl apply`
//! what one object alone can show to be wrong; [`crate::resolve`] checks everything again.

// Clippy takes the columns of one kind for repetitions of each other.
#![allow(clippy::duplicated_attributes)]
// The `KubeSchema` derive repeats each struct inside a function.
#![allow(unreachable_pub)]

mod bfd_profile;
mod bgp_advertisement;
mod bgp_peer;
mod community;
mod ip_address_pool;
mod ip_claim;
mod l2_advertisement;
pub mod schema;
mod speaker;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

pub use bfd_profile::{BFDProfile, BFDProfileSpec};
pub use bgp_advertisement::{BGPAdvertisement, BGPAdvertisementSpec};
pub use bgp_peer::{BGPPeer, BGPPeerSpec, PasswordSecret};
pub use community::{Community, CommunityAlias, CommunitySpec};
pub use ip_address_pool::{
    IPAddressPool, IPAddressPoolSpec, IPAddressPoolStatus, MAX_RECENTLY_RELEASED, ReleasedAddress,
    ServiceAllocation,
};
pub use ip_claim::{IPClaim, IPClaimSpec, IPClaimStatus};
pub use l2_advertisement::{L2Advertisement, L2AdvertisementSpec, PreferredNodeSelector};
pub use speaker::{
    Announced, MAX_NOT_ANNOUNCED, Mesh, NotAnnounced, Session, Speaker, SpeakerSpec, SpeakerStatus,
};

/// API group of all kinds.
pub const GROUP: &str = "fairlead.dev";
/// The version served and stored.
pub const VERSION: &str = "v1beta1";

/// Whether the object is in force.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ObjectStatus {
    /// Conditions. `Accepted` says whether the object is in force, and if not, why; a message on an accepted
    /// object tells of a part of it that has no effect.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}
