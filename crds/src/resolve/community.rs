//! Resolution of `Community` objects and of the communities in advertisements.

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt;

use super::refusal::{ObjectRefusal, RefusalReason, refuse};
use crate::model::community::{Community, InvalidCommunity};
use crate::text::quoted;
use crate::v1beta1;

/// All aliases in force, each with the name of the object that defines it.
#[derive(Default)]
pub(super) struct Aliases(BTreeMap<String, (Community, String)>);

impl Aliases {
    /// Adds the aliases of an object: all of them, or none if one is invalid.
    pub(super) fn add(&mut self, object: &v1beta1::Community) -> Result<(), ObjectRefusal> {
        let mut added = BTreeMap::new();
        for alias in &object.spec.communities {
            let name = &alias.name;
            if name.is_empty() || name.contains(':') {
                return refuse(
                    RefusalReason::InvalidCommunity,
                    format!(
                        "{} is not a valid name of a community: it must not be empty or contain a colon",
                        quoted(name)
                    ),
                );
            }
            let Ok(value) = alias.value.parse() else {
                return invalid(&alias.value);
            };
            if let Some((_, owner)) = self.0.get(name) {
                return refuse(
                    RefusalReason::DuplicateCommunity,
                    format!(
                        "community {} is already defined by the older Community {}: use \
                         another name",
                        quoted(name),
                        quoted(owner)
                    ),
                );
            }
            if added.insert(name.clone(), (value, object.name_any())).is_some() {
                return refuse(
                    RefusalReason::DuplicateCommunity,
                    format!("community {} is defined twice: remove one of the definitions", quoted(name)),
                );
            }
        }
        self.0.append(&mut added);
        Ok(())
    }

    /// Resolves the communities of an advertisement. An entry with a colon is a value. Every other entry is
    /// an alias or, if there is none of this name, the name of a well-known community.
    pub(super) fn look_up(&self, texts: &BTreeSet<String>) -> Result<BTreeSet<Community>, ObjectRefusal> {
        texts.iter().map(|text| self.look_up_one(text)).collect()
    }

    /// Resolves communities as [`Aliases::look_up`]. Returns each with its text.
    pub(super) fn by_text(
        &self,
        texts: &BTreeSet<String>,
    ) -> Result<BTreeMap<String, Community>, ObjectRefusal> {
        texts.iter().map(|text| Ok((text.clone(), self.look_up_one(text)?))).collect()
    }

    fn look_up_one(&self, text: &str) -> Result<Community, ObjectRefusal> {
        match (self.0.get(text), text.parse()) {
            (Some((community, _)), _) => Ok(*community),
            (None, Ok(community)) => Ok(community),
            (None, Err(_)) if text.contains(':') => invalid(text),
            (None, Err(_)) => refuse(
                RefusalReason::CommunityNotFound,
                format!(
                    "community {} is not defined: no Community object in force defines this name, and it is not \
                     the name of a well-known community",
                    quoted(text)
                ),
            ),
        }
    }
}

fn invalid<T>(text: &str) -> Result<T, ObjectRefusal> {
    refuse(RefusalReason::InvalidCommunity, format!("{} is {InvalidCommunity}", quoted(text)))
}
