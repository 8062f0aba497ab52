//! The removal of Fairlead from a cluster. Pools in use have a finalizer, and no controller removes it
//! after the controller is gone: it would keep the pools and their definition in deletion for ever.

use std::fmt;

use fairlead_crds::v1beta1::IPAddressPool;

/// Which parts of Fairlead are being deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removal {
    /// The namespace of the controller.
    pub namespace: bool,
    /// The definition of the kind IPAddressPool.
    pub definition: bool,
}

impl fmt::Display for Removal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.namespace, self.definition) {
            (false, false) => "nothing",
            (true, false) => "the namespace of the controller",
            (false, true) => "the definition of IPAddressPool",
            (true, true) => "the namespace of the controller and the definition of IPAddressPool",
        })
    }
}

impl Removal {
    /// Returns true if the deletion of a pool no longer waits for its users.
    pub(super) fn exempts(self, pool: &IPAddressPool) -> bool {
        // The definition may be installed again: then pools that are not being deleted need the finalizer.
        self.namespace || (self.definition && pool.metadata.deletion_timestamp.is_some())
    }
}
