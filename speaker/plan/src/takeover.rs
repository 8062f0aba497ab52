//! The L2 addresses that this node begins to announce, and why: for Events and the log.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use fairlead_crds::model::service::ObjectKey;
use fairlead_l2::InterfaceSet;

use crate::input::NodeName;

/// An address of a Service that this node begins to announce by L2.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Takeover {
    pub service: Arc<ObjectKey>,
    pub address: IpAddr,
    pub interfaces: InterfaceSet,
    pub cause: TakeoverCause,
}

/// Why this node became the owner of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TakeoverCause {
    /// This node knows of no owner before.
    First,
    /// The owner is no longer a member of the mesh.
    Gone(NodeName),
    /// The owner announced that it leaves the mesh.
    Left(NodeName),
    /// The owner may no longer announce addresses: it is excluded or drained, or has no network.
    Unusable(NodeName),
    /// The owner has no interface any more that an advertisement lists and that serves the address family.
    NoInterface(NodeName),
    /// The owner is well; this node takes precedence, for example because of endpoints or preferences.
    Preferred(NodeName),
}

impl TakeoverCause {
    /// Returns the node that owned the address before.
    pub fn previous_owner(&self) -> Option<&NodeName> {
        match self {
            Self::First => None,
            Self::Gone(from)
            | Self::Left(from)
            | Self::Unusable(from)
            | Self::NoInterface(from)
            | Self::Preferred(from) => Some(from),
        }
    }

    /// Returns true if no owner failed: it hands the address over, or there was none. A speaker that has just
    /// started does not know the owner before.
    pub(crate) fn is_planned(&self) -> bool {
        match self {
            Self::First | Self::Left(_) | Self::Unusable(_) | Self::Preferred(_) => true,
            Self::Gone(_) | Self::NoInterface(_) => false,
        }
    }
}

impl fmt::Display for TakeoverCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::First => f.write_str("no node announced it before, as far as this speaker knows"),
            Self::Gone(from) => write!(f, "{from} is not responding"),
            Self::Left(from) => write!(f, "the speaker of {from} was stopped"),
            Self::Unusable(from) => write!(f, "{from} may not announce addresses"),
            Self::NoInterface(from) => write!(f, "{from} has no usable interface for it"),
            Self::Preferred(from) => write!(f, "this node takes precedence over {from}"),
        }
    }
}
