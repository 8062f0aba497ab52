//! What is written, to what, and how it went.

use std::sync::Arc;
use std::time::Duration;

use fairlead_crds::model::service::ObjectKey;
use fairlead_crds::resolve::ObjectRef;
use serde_json::Value;

use fairlead_allocator::reconcile::objects::ObjectPatch;
use fairlead_allocator::reconcile::{ClaimPatch, StatusPatch};

/// What is written to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// A Service's status.
    Service(ObjectKey),
    /// A claim's status.
    Claim(ObjectKey),
    /// A configuration object's status.
    Object(ObjectRef),
    /// A configuration object's finalizers.
    Finalizers(ObjectRef),
}

/// A merge patch.
#[derive(Clone, Debug, PartialEq)]
pub struct Write {
    /// The resourceVersion that was decided on; it is in the body too.
    pub version: String,
    /// The patch.
    pub patch: Arc<Body>,
}

/// What a patch says. It becomes text only when it is sent: thousands may wait.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// The status of a Service.
    Status(Box<StatusPatch>),
    /// That of any other object.
    Object(Value),
}

impl Body {
    /// As JSON.
    pub fn to_json(&self) -> Vec<u8> {
        match self {
            Self::Status(patch) => patch.body().to_string().into_bytes(),
            Self::Object(value) => value.to_string().into_bytes(),
        }
    }
}

impl From<Box<StatusPatch>> for Write {
    fn from(patch: Box<StatusPatch>) -> Self {
        Self { version: patch.resource_version.clone(), patch: Arc::new(Body::Status(patch)) }
    }
}

impl From<Box<ClaimPatch>> for Write {
    fn from(patch: Box<ClaimPatch>) -> Self {
        Self { version: patch.resource_version.clone(), patch: Arc::new(Body::Object(patch.body())) }
    }
}

impl From<ObjectPatch> for Write {
    fn from(patch: ObjectPatch) -> Self {
        Self { version: patch.resource_version, patch: Arc::new(Body::Object(patch.body)) }
    }
}

/// How a write went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Done; the object has this resourceVersion now.
    Written(String),
    /// The object is newer than what was decided on. The watch brings it, and with it a new decision.
    Conflict,
    /// The object is gone.
    Gone,
    /// The API server refuses what the write says.
    Invalid,
    /// This write failed and may work later.
    Failed,
    /// No answer came, or the API server has too much to do; perhaps it said for how long.
    Unavailable(Option<Duration>),
}
