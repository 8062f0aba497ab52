//! The configuration kinds: the custom resources that [`crate::resolve`] turns into configuration.
//!
//! [`configuration_kinds!`](crate::configuration_kinds) is the only list of these kinds. The types in this
//! file, the [store](crate::store) and the watches of both daemons are generated from it, so a new kind is
//! added there, in [`crate::v1beta1`] and in [`crate::resolve`].

use std::collections::BTreeMap;
use std::fmt::{self, Debug};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::conditions::RawCondition;
use crate::read::CustomObject;
use crate::resolve::{ObjectRefusal, RefusalReason};
use crate::{names, v1beta1};

/// Calls the macro `$callback` with all configuration kinds, each as `Kind => field_of_objects`.
///
/// ```
/// macro_rules! plurals {
///     ($($kind:ident => $field:ident,)*) => { vec![$(stringify!($field)),*] };
/// }
/// assert!(fairlead_crds::configuration_kinds!(plurals).contains(&"peers"));
/// ```
#[macro_export]
macro_rules! configuration_kinds {
    ($callback:ident) => {
        $callback! {
            IPAddressPool => pools,
            L2Advertisement => l2_advertisements,
            BGPAdvertisement => bgp_advertisements,
            BGPPeer => peers,
            BFDProfile => bfd_profiles,
            Community => communities,
        }
    };
}

/// An object of a configuration kind.
pub trait ConfigurationObject:
    CustomObject + Clone + Debug + PartialEq + Serialize + DeserializeOwned + Send + 'static
{
    /// The kind of the object.
    const KIND: Kind;

    /// Returns the objects of this kind.
    fn list(objects: &Objects) -> &Vec<Self>;

    /// Returns the objects of this kind for modification.
    fn list_mut(objects: &mut Objects) -> &mut Vec<Self>;

    /// Returns `status.conditions`.
    fn conditions(&self) -> &[RawCondition];

    /// Returns `status.observedGeneration`.
    fn observed_generation(&self) -> Option<i64>;

    /// Returns `status.establishedSessions`. Only BGPPeers have it.
    fn established_sessions(&self) -> Option<&str>;

    /// Returns `status.inForce`. Pools have none.
    fn in_force(&self) -> Option<&v1beta1::AcceptedForm>;

    /// Returns a copy with only those fields that [`crate::resolve::resolve`] and the holders of the result
    /// depend on: the spec and part of the metadata. If the copies of two versions are equal, both resolve to
    /// the same.
    fn configuration(&self) -> Self;

    /// Returns the kind and name of the object.
    fn reference(&self) -> ObjectRef {
        ObjectRef { kind: Self::KIND, name: self.meta().name.clone().unwrap_or_default() }
    }
}

/// The status of a configuration object.
trait Status {
    fn observed_generation(&self) -> Option<i64>;
    fn established_sessions(&self) -> Option<&str> {
        None
    }
    fn in_force(&self) -> Option<&v1beta1::AcceptedForm>;
}

impl Status for v1beta1::ObjectStatus {
    fn observed_generation(&self) -> Option<i64> {
        self.observed_generation
    }

    fn in_force(&self) -> Option<&v1beta1::AcceptedForm> {
        self.in_force.as_ref()
    }
}

impl Status for v1beta1::BGPPeerStatus {
    fn observed_generation(&self) -> Option<i64> {
        self.observed_generation
    }

    fn established_sessions(&self) -> Option<&str> {
        self.established_sessions.as_deref()
    }

    fn in_force(&self) -> Option<&v1beta1::AcceptedForm> {
        self.in_force.as_ref()
    }
}

impl Status for v1beta1::IPAddressPoolStatus {
    fn observed_generation(&self) -> Option<i64> {
        self.observed_generation
    }

    fn in_force(&self) -> Option<&v1beta1::AcceptedForm> {
        None
    }
}

/// The kind and name of a configuration object. It is displayed as `Kind/name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub struct ObjectRef {
    pub kind: Kind,
    pub name: String,
}

macro_rules! define {
    ($($kind:ident => $field:ident,)*) => {
        /// A configuration kind.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs)]
        pub enum Kind {
            $($kind,)*
        }

        impl Kind {
            /// All configuration kinds.
            pub const ALL: &[Self] = &[$(Self::$kind),*];

            /// Returns the plural of the kind in lower case, as in the path of the API: `bgppeers`.
            pub fn plural(self) -> std::borrow::Cow<'static, str> {
                match self {
                    $(Self::$kind => v1beta1::$kind::plural(&()),)*
                }
            }

            /// Returns the path of the API that serves the objects of this kind.
            pub fn url_path(self) -> String {
                match self {
                    $(Self::$kind => v1beta1::$kind::url_path(&(), None),)*
                }
            }
        }

        /// Objects of all configuration kinds: the input of [`crate::resolve::resolve`].
        #[derive(Clone, Debug, Default, PartialEq)]
        #[allow(missing_docs)]
        pub struct Objects {
            $(pub $field: Vec<v1beta1::$kind>,)*
            /// The objects whose spec cannot be read, and the cause. Such an object is in the list of its
            /// kind too, with the parts that can be read.
            pub unreadable: BTreeMap<ObjectRef, String>,
        }

        impl Objects {
            /// Adds an object of this kind, read from JSON.
            ///
            /// # Errors
            /// Returns an error if the JSON is not an object of this kind.
            pub fn push_json(&mut self, kind: Kind, value: serde_json::Value) -> serde_json::Result<()> {
                match kind {
                    $(Kind::$kind => self.$field.push(serde_json::from_value(value)?),)*
                }
                Ok(())
            }

            /// Adds all objects of `other`.
            pub fn append(&mut self, mut other: Self) {
                $(self.$field.append(&mut other.$field);)*
                self.unreadable.append(&mut other.unreadable);
            }

            /// Returns the parts that all kinds have in common, of each object.
            pub fn views(&self) -> impl Iterator<Item = ObjectView<'_>> {
                let views = std::iter::empty();
                $(let views = views.chain(self.$field.iter().map(ObjectView::new));)*
                views
            }
        }

        $(impl ConfigurationObject for v1beta1::$kind {
            const KIND: Kind = Kind::$kind;

            fn list(objects: &Objects) -> &Vec<Self> {
                &objects.$field
            }

            fn list_mut(objects: &mut Objects) -> &mut Vec<Self> {
                &mut objects.$field
            }

            fn conditions(&self) -> &[RawCondition] {
                self.status.as_ref().map_or(&[], |status| &status.conditions)
            }

            fn observed_generation(&self) -> Option<i64> {
                self.status.as_ref()?.observed_generation()
            }

            fn established_sessions(&self) -> Option<&str> {
                self.status.as_ref()?.established_sessions()
            }

            fn in_force(&self) -> Option<&v1beta1::AcceptedForm> {
                self.status.as_ref()?.in_force()
            }

            fn configuration(&self) -> Self {
                Self { metadata: identity(&self.metadata), spec: self.spec.clone(), status: None }
            }
        })*
    };
}

configuration_kinds!(define);

/// The parts of an object that all configuration kinds have in common.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct ObjectView<'a> {
    pub object: ObjectRef,
    pub metadata: &'a ObjectMeta,
    pub observed_generation: Option<i64>,
    pub established_sessions: Option<&'a str>,
    pub conditions: &'a [RawCondition],
    pub in_force: Option<&'a v1beta1::AcceptedForm>,
}

impl<'a> ObjectView<'a> {
    /// Returns the view of an object.
    pub fn new<K: ConfigurationObject>(object: &'a K) -> Self {
        Self {
            object: object.reference(),
            metadata: object.meta(),
            observed_generation: object.observed_generation(),
            established_sessions: object.established_sessions(),
            conditions: object.conditions(),
            in_force: object.in_force(),
        }
    }
}

impl Objects {
    /// Checks that the spec of an object could be read.
    ///
    /// # Errors
    /// Returns the refusal of an object with an unreadable spec.
    pub(crate) fn check_readable(&self, object: &impl ConfigurationObject) -> Result<(), ObjectRefusal> {
        match self.unreadable.get(&object.reference()) {
            None => Ok(()),
            Some(cause) => Err(ObjectRefusal {
                reason: RefusalReason::Unreadable,
                message: format!(
                    "the spec cannot be read: {cause}; correct it, or install the CRDs of the running version"
                ),
            }),
        }
    }
}

impl Kind {
    /// Returns true if Services get addresses although the API server does not serve this kind: only
    /// advertisements need it.
    pub fn is_optional(self) -> bool {
        self != Self::IPAddressPool
    }

    /// Returns the finalizer of objects of this kind while they are in use; `None` if the kind has none.
    pub fn finalizer(self) -> Option<&'static str> {
        match self {
            Self::IPAddressPool => Some(names::POOL_PROTECTION),
            Self::BFDProfile => Some(names::BFD_PROFILE_PROTECTION),
            Self::Community => Some(names::COMMUNITY_PROTECTION),
            Self::L2Advertisement | Self::BGPAdvertisement | Self::BGPPeer => None,
        }
    }

    /// Returns the configuration kind with this name, such as `BGPPeer`.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.to_string() == name)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Debug::fmt(self, f)
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

/// Returns the metadata that configuration depends on.
fn identity(metadata: &ObjectMeta) -> ObjectMeta {
    ObjectMeta {
        name: metadata.name.clone(),
        uid: metadata.uid.clone(),
        labels: metadata.labels.clone(),
        creation_timestamp: metadata.creation_timestamp.clone(),
        deletion_timestamp: metadata.deletion_timestamp.clone(),
        ..ObjectMeta::default()
    }
}
