//! Resolution of `Community` objects and of the communities in advertisements.

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt;

use super::refusal::{ObjectRefusal, RefusalReason, refuse};
use crate::model::config::Community;
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
            let Some(value) = parse(&alias.value) else {
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

    /// Resolves the communities of an advertisement. An entry with a colon is a value, every other entry an
    /// alias.
    pub(super) fn look_up(&self, texts: &BTreeSet<String>) -> Result<BTreeSet<Community>, ObjectRefusal> {
        let mut communities = BTreeSet::new();
        for text in texts {
            let community = match self.0.get(text) {
                Some((community, _)) => *community,
                None if text.contains(':') => match parse(text) {
                    Some(community) => community,
                    None => return invalid(text),
                },
                None => {
                    return refuse(
                        RefusalReason::CommunityNotFound,
                        format!(
                            "community {} is not defined: no Community object in force defines this \
                             name",
                            quoted(text)
                        ),
                    );
                }
            };
            communities.insert(community);
        }
        Ok(communities)
    }
}

/// Parses `asn:value` (RFC 1997) or `large:global:local1:local2` (RFC 8092).
fn parse(text: &str) -> Option<Community> {
    let parts: Vec<&str> = text.split(':').collect();
    match parts.as_slice() {
        [asn, value] => Some(Community::Standard(number(asn)?, number(value)?)),
        ["large", global, local1, local2] => {
            Some(Community::Large(number(global)?, number(local1)?, number(local2)?))
        }
        _ => None,
    }
}

/// Parses digits only: `str::parse` also accepts a `+`.
fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None }
}

fn invalid<T>(text: &str) -> Result<T, ObjectRefusal> {
    refuse(
        RefusalReason::InvalidCommunity,
        format!(
            "{} is not a valid community: it must be \"0-65535:0-65535\", or \"large:\" and three \
             numbers up to \
             4294967295 separated by colons",
            quoted(text)
        ),
    )
}
