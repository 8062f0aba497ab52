//! The removal of Fairlead from a cluster. Objects in use have a finalizer, and no controller removes it
//! after the controller is gone: it would keep the objects and their definition in deletion for ever.

use std::fmt;

use fairlead_crds::kinds::{Kind, ObjectView};

/// Which parts of Fairlead are being deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removal {
    /// The namespace of the controller.
    pub namespace: bool,
    /// The definition of the kind IPAddressPool.
    pub pools: bool,
    /// The definition of the kind BFDProfile.
    pub bfd_profiles: bool,
    /// The definition of the kind Community.
    pub communities: bool,
}

impl fmt::Display for Removal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            (self.namespace, "the namespace of the controller"),
            (self.pools, "the definition of IPAddressPool"),
            (self.bfd_profiles, "the definition of BFDProfile"),
            (self.communities, "the definition of Community"),
        ];
        let parts: Vec<&str> =
            parts.into_iter().filter(|(is_deleted, _)| *is_deleted).map(|(_, part)| part).collect();
        f.write_str(if parts.is_empty() { "nothing" } else { "" })?;
        f.write_str(&parts.join(" and "))
    }
}

impl Removal {
    /// Sets whether the definition of a kind with a finalizer is being deleted.
    #[must_use]
    pub fn with_definition(mut self, kind: Kind, is_deleted: bool) -> Self {
        match kind {
            Kind::IPAddressPool => self.pools = is_deleted,
            Kind::BFDProfile => self.bfd_profiles = is_deleted,
            Kind::Community => self.communities = is_deleted,
            Kind::L2Advertisement | Kind::BGPAdvertisement | Kind::BGPPeer => {}
        }
        self
    }

    /// Returns true if the deletion of an object no longer waits for its users.
    pub(super) fn exempts(self, view: &ObjectView<'_>) -> bool {
        let definition = match view.object.kind {
            Kind::IPAddressPool => self.pools,
            Kind::BFDProfile => self.bfd_profiles,
            Kind::Community => self.communities,
            Kind::L2Advertisement | Kind::BGPAdvertisement | Kind::BGPPeer => false,
        };
        // The definition may be installed again: then objects that are not being deleted need the finalizer.
        self.namespace || (definition && view.metadata.deletion_timestamp.is_some())
    }
}
