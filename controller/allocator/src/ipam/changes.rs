//! Part of [`Ipam`](super::Ipam): changes of addresses that its user has not taken yet.

use std::net::IpAddr;
use std::sync::Arc;

use fairlead_crds::model::service::ObjectKey;

use super::sharing::SharingGroup;

/// A change of an address, after which waiters for it can be retried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressChange {
    #[allow(missing_docs)]
    pub address: IpAddr,
    /// The pool that contains the address, or else the pool that it was held of.
    pub pool: Arc<str>,
    /// True if the address has neither a holder nor a reservation.
    pub free: bool,
    /// The only Service that may take the address; None if it has a holder or no reservation.
    pub reserved_for: Option<ObjectKey>,
    /// The group whose members hold the address and other members may join.
    pub shared: Option<Arc<SharingGroup>>,
}

/// Changes in order of their occurrence.
#[derive(Clone, Debug, Default)]
pub(super) struct Changes {
    changes: Vec<AddressChange>,
}

impl Changes {
    pub(super) fn push(&mut self, change: AddressChange) {
        self.changes.push(change);
    }

    pub(super) fn take(&mut self) -> Vec<AddressChange> {
        std::mem::take(&mut self.changes)
    }
}
