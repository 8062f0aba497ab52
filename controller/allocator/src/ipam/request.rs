//! The request of a Service for addresses.

use std::net::IpAddr;
use std::sync::Arc;

use fairlead_crds::model::config::Labels;
use fairlead_crds::model::family::Family;
use fairlead_crds::model::service::ObjectKey;

use super::sharing::{Sharing, SharingGroup};

/// The facts of a Service that decide which addresses it may have.
#[derive(Clone, Debug)]
pub struct AllocationRequest<'a> {
    #[allow(missing_docs)]
    pub service: &'a ObjectKey,
    /// Labels of the Service.
    pub labels: &'a Labels,
    /// Labels of the namespace; None if they are unknown.
    pub namespace_labels: Option<&'a Labels>,
    #[allow(missing_docs)]
    pub sharing: Sharing,
}

/// The address families that a Service needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Families {
    /// `SingleStack`.
    One(Family),
    /// `PreferDualStack` or `RequireDualStack`.
    Both {
        /// The family of the first address. It is also the preferred family if only one address is available.
        first: Family,
        /// True for `RequireDualStack`: one address is not sufficient.
        required: bool,
    },
}

/// The claims for a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceClaims {
    /// Addresses that claims have reserved for the Service.
    pub reserved: Vec<IpAddr>,
    /// Families in which a claim has not reserved its address yet. The Service gets no other address of these
    /// families.
    pub awaited: Vec<Family>,
}

impl AllocationRequest<'_> {
    /// Returns the groups within which the Service shares, in pools that limit sharing to one namespace and
    /// in others; none if it does not share.
    pub fn sharing_groups(&self) -> impl Iterator<Item = Arc<SharingGroup>> {
        let group = self.sharing.group();
        group.into_iter().flat_map(|group| [group.clone(), group.within(&self.service.namespace)])
    }
}

impl Families {
    /// Returns the families in order.
    pub fn wanted(&self) -> Vec<Family> {
        match *self {
            Self::One(family) => vec![family],
            Self::Both { first, .. } => vec![first, first.other()],
        }
    }

    /// Returns the family of the first address.
    pub fn first(&self) -> Family {
        match *self {
            Self::One(family) => family,
            Self::Both { first, .. } => first,
        }
    }
}
