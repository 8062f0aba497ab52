//! Objects become plain, validated configuration: the one way to read it.
//!
//! Controller, speaker and command-line tool all call [`resolve`], so they cannot disagree. It is a function
//! of the objects alone: their order, the time and the cluster do not matter. A bad object is refused with a
//! reason and leaves the others in force. A part of a good object that has no effect, such as the name of a pool
//! that does not exist (yet), is no refusal but a [`Warning`].

mod reason;

use std::collections::BTreeMap;
use std::fmt;

use crate::api;
use crate::config::Config;

pub use reason::Reason;

/// The objects to resolve, in any order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Objects {
    /// `IPAddressPool` objects.
    pub pools: Vec<api::IPAddressPool>,
    /// `L2Advertisement` objects.
    pub l2_advertisements: Vec<api::L2Advertisement>,
    /// `BGPAdvertisement` objects.
    pub bgp_advertisements: Vec<api::BGPAdvertisement>,
    /// `BGPPeer` objects.
    pub peers: Vec<api::BGPPeer>,
    /// `BFDProfile` objects.
    pub bfd_profiles: Vec<api::BFDProfile>,
    /// `Community` objects.
    pub communities: Vec<api::Community>,
}

/// What came out: the configuration in force and a verdict on each object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolution {
    /// What is in force.
    pub config: Config,
    /// One verdict for each object.
    pub verdicts: BTreeMap<ObjectRef, Verdict>,
    /// Parts of accepted objects that have no effect.
    pub warnings: BTreeMap<ObjectRef, Vec<Warning>>,
}

/// Kinds that are configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Kind {
    IPAddressPool,
    L2Advertisement,
    BGPAdvertisement,
    BGPPeer,
    BFDProfile,
    Community,
}

/// An object by kind and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectRef {
    /// Kind.
    pub kind: Kind,
    /// Name.
    pub name: String,
}

/// Whether an object is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is.
    Accepted,
    /// It is not.
    Refused {
        /// Why, in one word.
        reason: Reason,
        /// Why, in a sentence.
        message: String,
    },
}

/// Why an object is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// In one word.
    pub reason: Reason,
    /// In a sentence.
    pub message: String,
}

/// A part of an accepted object that has no effect.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Warning {
    /// In one word.
    pub reason: Reason,
    /// In a sentence.
    pub message: String,
}

/// What the condition `Accepted` of an object says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// `status: "True"` or `"False"`.
    pub status: bool,
    /// `Accepted`, or the reason of the refusal or of the first warning.
    pub reason: String,
    /// What a person should know; empty where there is nothing to say.
    pub message: String,
}

impl Resolution {
    /// What the condition `Accepted` of an object should say; `None` for an object that was not resolved.
    pub fn accepted(&self, object: &ObjectRef) -> Option<Accepted> {
        Some(match self.verdicts.get(object)? {
            Verdict::Refused { reason, message } => {
                Accepted { status: false, reason: reason.to_string(), message: message.clone() }
            }
            Verdict::Accepted => {
                let warnings = self.warnings.get(object).map(Vec::as_slice).unwrap_or_default();
                let reason = warnings.first().map_or("Accepted".to_owned(), |w| w.reason.to_string());
                let messages: Vec<&str> = warnings.iter().map(|w| w.message.as_str()).collect();
                Accepted { status: true, reason, message: messages.join("; ") }
            }
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

impl From<Refusal> for Verdict {
    fn from(Refusal { reason, message }: Refusal) -> Self {
        Self::Refused { reason, message }
    }
}

/// Resolves objects into the configuration in force. Never fails: what is bad is refused, one by one.
///
/// Where two objects cannot both be in force, the older one is (`creationTimestamp`, then name). The work is
/// bounded by the size of the objects: addresses are never walked.
pub fn resolve(objects: &Objects) -> Resolution {
    let _ = objects;
    Resolution::default()
}
