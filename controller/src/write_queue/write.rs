//! A status write: its target, its content and its result.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use fairlead_allocator::reconcile::objects::ObjectPatch;
use fairlead_allocator::reconcile::{ClaimPatch, StatusPatch};
use fairlead_crds::model::service::ObjectKey;
use fairlead_crds::resolve::ObjectRef;
use serde_json::Value;

/// The part of an object that is written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub(crate) enum WriteTarget {
    ServiceStatus(ObjectKey),
    ClaimStatus(ObjectKey),
    /// The status of a configuration object.
    ObjectStatus(ObjectRef),
    /// The finalizers of a configuration object.
    ObjectFinalizers(ObjectRef),
    /// The `PoolCooldown` object of the pool of this name.
    PoolCooldown(String),
}

impl fmt::Display for WriteTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ServiceStatus(key) => write!(f, "status of Service {key}"),
            Self::ClaimStatus(key) => write!(f, "status of IPClaim {key}"),
            Self::ObjectStatus(object) => write!(f, "status of {object}"),
            Self::ObjectFinalizers(object) => write!(f, "finalizers of {object}"),
            Self::PoolCooldown(pool) => write!(f, "PoolCooldown {pool}"),
        }
    }
}

impl WriteTarget {
    /// Returns the kind of the object.
    pub(crate) fn kind(&self) -> String {
        match self {
            Self::ServiceStatus(_) => "Service".to_owned(),
            Self::ClaimStatus(_) => "IPClaim".to_owned(),
            Self::ObjectStatus(object) | Self::ObjectFinalizers(object) => object.kind.to_string(),
            Self::PoolCooldown(_) => "PoolCooldown".to_owned(),
        }
    }
}

/// A merge patch, or an object to apply.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Write {
    /// The resourceVersion on which the patch was decided. The body contains it too. Empty for an object to
    /// apply.
    pub resource_version: String,
    /// The body.
    pub body: Arc<PatchBody>,
}

/// The body of a merge patch. It is serialized when it is sent: thousands of writes may be pending.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub(crate) enum PatchBody {
    ServiceStatus(Box<StatusPatch>),
    Json(Value),
}

/// The result of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WriteResult {
    /// The write was applied; the object has this resourceVersion now.
    Written(String),
    /// The object changed since the patch was decided. The watch delivers the new version, which leads to a
    /// new decision.
    Conflict,
    /// The object does not exist.
    Gone,
    /// The API server refused the patch because of its content or of a policy for the object: it was not and
    /// will not be applied.
    Refused,
    /// The controller lacks a permission that the write needs. Carries what the API server says.
    Denied(String),
    /// The API server returned an error that may not persist.
    Failed,
    /// There was no response, or the API server is overloaded. Carries its `Retry-After`, if it sent one.
    Unavailable(Option<Duration>),
}

impl PatchBody {
    /// Serializes the body.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        match self {
            Self::ServiceStatus(patch) => patch.body().to_string().into_bytes(),
            Self::Json(value) => value.to_string().into_bytes(),
        }
    }
}

impl Write {
    /// Returns true if other writes are sent first.
    pub(crate) fn is_background(&self) -> bool {
        matches!(&*self.body, PatchBody::ServiceStatus(patch) if patch.is_background)
    }

    /// Returns a server-side apply of an object.
    pub(crate) fn apply(object: Value) -> Self {
        Self { resource_version: String::new(), body: Arc::new(PatchBody::Json(object)) }
    }
}

impl From<Box<StatusPatch>> for Write {
    fn from(patch: Box<StatusPatch>) -> Self {
        Self {
            resource_version: patch.resource_version.clone(),
            body: Arc::new(PatchBody::ServiceStatus(patch)),
        }
    }
}

impl From<Box<ClaimPatch>> for Write {
    fn from(patch: Box<ClaimPatch>) -> Self {
        Self {
            resource_version: patch.resource_version.clone(),
            body: Arc::new(PatchBody::Json(patch.body())),
        }
    }
}

impl From<ObjectPatch> for Write {
    fn from(patch: ObjectPatch) -> Self {
        Self { resource_version: patch.resource_version, body: Arc::new(PatchBody::Json(patch.body)) }
    }
}
