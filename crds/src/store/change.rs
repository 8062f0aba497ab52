//! Changes of objects as lists and watches report them.

use crate::kinds::{ConfigurationObject, ObjectRef};
use crate::model::service::ObjectKey;
use crate::read::Custom;
use crate::{configuration_kinds, v1beta1};

/// A change to the objects of one kind, as a list or a watch reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObjectChange<T> {
    /// The object was created or updated.
    Apply(T),
    /// The object was deleted, or the selector of the watch no longer matches it. The namespace of a
    /// cluster-scoped object is empty.
    Delete(ObjectKey),
    /// A complete list: objects that it does not contain no longer exist.
    Reset(Vec<T>),
    /// The API server does not serve the kind: its CRD is not installed. Objects that were listed before
    /// remain.
    Missing,
}

impl<T> ObjectChange<T> {
    /// Converts the objects.
    pub fn map<U>(self, convert: impl FnMut(T) -> U) -> ObjectChange<U> {
        let mut convert = convert;
        match self {
            Self::Apply(object) => ObjectChange::Apply(convert(object)),
            Self::Delete(key) => ObjectChange::Delete(key),
            Self::Reset(objects) => ObjectChange::Reset(objects.into_iter().map(convert).collect()),
            Self::Missing => ObjectChange::Missing,
        }
    }
}

macro_rules! define {
    ($($kind:ident => $field:ident,)*) => {
        /// A change to the objects of one configuration kind.
        #[derive(Clone, Debug, PartialEq)]
        #[allow(missing_docs)]
        #[allow(clippy::large_enum_variant, reason = "few changes exist at a time")]
        pub enum ConfigurationChange {
            $($kind(ObjectChange<Custom<v1beta1::$kind>>),)*
        }

        $(impl From<ObjectChange<Custom<v1beta1::$kind>>> for ConfigurationChange {
            fn from(change: ObjectChange<Custom<v1beta1::$kind>>) -> Self {
                Self::$kind(change)
            }
        }

        impl From<ObjectChange<v1beta1::$kind>> for ConfigurationChange {
            fn from(change: ObjectChange<v1beta1::$kind>) -> Self {
                Self::$kind(change.map(Custom::from))
            }
        })*

        impl ConfigurationChange {
            /// Returns the objects that the change creates, updates or lists.
            pub fn objects(&self) -> Vec<ObjectRef> {
                match self {
                    $(Self::$kind(ObjectChange::Apply(read)) => vec![read.object.reference()],
                    Self::$kind(ObjectChange::Delete(_) | ObjectChange::Missing) => Vec::new(),
                    Self::$kind(ObjectChange::Reset(objects)) => {
                        objects.iter().map(|read| read.object.reference()).collect()
                    })*
                }
            }
        }
    };
}

configuration_kinds!(define);
