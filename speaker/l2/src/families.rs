//! The address families for which interfaces can announce addresses.

use std::collections::BTreeMap;
use std::net::IpAddr;

/// The address families for which an interface can announce addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServedFamilies {
    /// The interface supports ARP.
    pub v4: bool,
    /// The interface has a link-local IPv6 address that passed duplicate address detection.
    pub v6: bool,
}

/// The interfaces on which a node can announce addresses, by name.
pub type ServedInterfaces = BTreeMap<String, ServedFamilies>;

/// Most interfaces of one node that take part in elections, so that the list fits a datagram of the mesh. Of
/// more interfaces, the first by name count.
pub const MAX_SERVED_INTERFACES: usize = 48;

impl ServedFamilies {
    /// Both families.
    pub const BOTH: Self = Self { v4: true, v6: true };
    /// No family.
    pub const NONE: Self = Self { v4: false, v6: false };

    /// Returns whether the family of the address is among these.
    pub fn serves(self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(_) => self.v4,
            IpAddr::V6(_) => self.v6,
        }
    }

    /// Returns the families of both.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self { v4: self.v4 || other.v4, v6: self.v6 || other.v6 }
    }

    /// Returns these families less the others.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self { v4: self.v4 && !other.v4, v6: self.v6 && !other.v6 }
    }
}
