//! Label selectors.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

use crate::model::labels::Labels;
use crate::text::quoted;

/// A validated `metav1.LabelSelector`. All requirements must be met; a selector without requirements matches
/// every object.
///
/// Requirements and values are sorted, so that selectors with the same meaning are equal.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Selector {
    requirements: Vec<Requirement>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    DoesNotExist(String),
}

/// The error in an invalid selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// A requirement has no key.
    #[error("a requirement has no key")]
    NoKey,
    /// The operator does not exist.
    #[error("operator is {}: it must be In, NotIn, Exists or DoesNotExist", quoted(.0))]
    UnknownOperator(String),
    /// `In` or `NotIn` has no values.
    #[error("operator {operator} on key {} requires values", quoted(key))]
    #[allow(missing_docs)]
    NoValues { operator: String, key: String },
    /// `Exists` or `DoesNotExist` has values.
    #[error("operator {operator} on key {} must not have values", quoted(key))]
    #[allow(missing_docs)]
    UnexpectedValues { operator: String, key: String },
}

impl Selector {
    /// Returns true if the selector matches an object with these labels. If the labels are not known, because
    /// there are too many, only a selector without requirements matches.
    pub fn matches(&self, labels: &Labels) -> bool {
        let has_value = |key: &str, values: &[String]| {
            labels.get(key).is_some_and(|found| values.iter().any(|value| value == found))
        };
        let is_known = labels.excess().is_none();
        self.requirements.iter().all(|requirement| match requirement {
            _ if !is_known => false,
            Requirement::In(key, values) => has_value(key, values),
            Requirement::NotIn(key, values) => !has_value(key, values),
            Requirement::Exists(key) => labels.contains_key(key),
            Requirement::DoesNotExist(key) => !labels.contains_key(key),
        })
    }

    /// Returns the labels that every matching object has: for each, the key and the accepted values, none if
    /// any value is accepted.
    pub fn demanded_labels(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.requirements.iter().filter_map(|requirement| match requirement {
            Requirement::In(key, values) => Some((key.as_str(), values.as_slice())),
            Requirement::Exists(key) => Some((key.as_str(), &[][..])),
            Requirement::NotIn(..) | Requirement::DoesNotExist(_) => None,
        })
    }

    /// Returns true if the selector matches every object.
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty()
    }
}

/// The format is that of `kubectl get --selector`; the selector without requirements is `*`.
impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_everything() {
            return f.write_str("*");
        }
        for (i, requirement) in self.requirements.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            match requirement {
                Requirement::In(key, values) if values.len() == 1 => write!(f, "{comma}{key}={}", values[0])?,
                Requirement::In(key, values) => write!(f, "{comma}{key} in ({})", values.join(","))?,
                Requirement::NotIn(key, values) => write!(f, "{comma}{key} notin ({})", values.join(","))?,
                Requirement::Exists(key) => write!(f, "{comma}{key}")?,
                Requirement::DoesNotExist(key) => write!(f, "{comma}!{key}")?,
            }
        }
        Ok(())
    }
}

impl TryFrom<&LabelSelector> for Selector {
    type Error = SelectorError;

    fn try_from(selector: &LabelSelector) -> Result<Self, SelectorError> {
        let labels = selector.match_labels.iter().flatten();
        let mut requirements: Vec<Requirement> =
            labels.map(|(key, value)| Requirement::In(key.clone(), vec![value.clone()])).collect();
        for expression in selector.match_expressions.iter().flatten() {
            requirements.push(Requirement::try_from(expression)?);
        }
        requirements.sort();
        requirements.dedup();
        Ok(Self { requirements })
    }
}

impl TryFrom<&LabelSelectorRequirement> for Requirement {
    type Error = SelectorError;

    fn try_from(expression: &LabelSelectorRequirement) -> Result<Self, SelectorError> {
        let key = expression.key.clone();
        let operator = expression.operator.clone();
        let mut values = expression.values.clone().unwrap_or_default();
        values.sort();
        values.dedup();
        if key.is_empty() {
            return Err(SelectorError::NoKey);
        }
        match operator.as_str() {
            "In" | "NotIn" if values.is_empty() => Err(SelectorError::NoValues { operator, key }),
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                Err(SelectorError::UnexpectedValues { operator, key })
            }
            "In" => Ok(Self::In(key, values)),
            "NotIn" => Ok(Self::NotIn(key, values)),
            "Exists" => Ok(Self::Exists(key)),
            "DoesNotExist" => Ok(Self::DoesNotExist(key)),
            _ => Err(SelectorError::UnknownOperator(operator)),
        }
    }
}

/// Returns true if any of `selectors` matches, or if the list is empty.
pub fn any_or_empty(selectors: &[Selector], labels: &Labels) -> bool {
    selectors.is_empty() || selectors.iter().any(|s| s.matches(labels))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_labels_match_only_a_selector_without_requirements() {
        let requirement = |operator: &str, values: &[&str]| LabelSelectorRequirement {
            key: "l1".to_owned(),
            operator: operator.to_owned(),
            values: (!values.is_empty()).then(|| values.iter().map(|value| (*value).to_owned()).collect()),
        };
        let matches = |expressions: Vec<LabelSelectorRequirement>, labels: &Labels| {
            let selector = LabelSelector { match_labels: None, match_expressions: Some(expressions) };
            Selector::try_from(&selector).unwrap().matches(labels)
        };
        let labels = |number: usize| (0..number).map(|n| (format!("l{n}"), "v".to_owned())).collect();
        let (few, many): (Labels, Labels) = (labels(2), labels(5000));
        for (operator, values, expected) in [
            ("In", &["v"][..], true),
            ("In", &["w"], false),
            ("NotIn", &["v"], false),
            ("NotIn", &["w"], true),
            ("Exists", &[], true),
            ("DoesNotExist", &[], false),
        ] {
            assert_eq!(matches(vec![requirement(operator, values)], &few), expected, "{operator} {values:?}");
            assert!(!matches(vec![requirement(operator, values)], &many), "{operator} {values:?}");
        }
        assert!(matches(Vec::new(), &many));
    }
}
