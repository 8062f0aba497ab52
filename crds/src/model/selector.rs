//! Label selectors, validated once and then only matched.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

use crate::model::labels::Labels;

/// A validated `metav1.LabelSelector`: all requirements must hold; none means every object matches.
///
/// Requirements and values are sorted, so selectors that are written differently but say the same are equal.
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

/// What is wrong with a selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// A requirement without a key.
    #[error("a requirement has no key")]
    NoKey,
    /// An operator that does not exist.
    #[error("{0:?} is not an operator: it must be In, NotIn, Exists or DoesNotExist")]
    UnknownOperator(String),
    /// `In` or `NotIn` without values.
    #[error("operator {operator} on {key:?} needs values")]
    NoValues {
        /// The operator.
        operator: String,
        /// The key.
        key: String,
    },
    /// `Exists` or `DoesNotExist` with values.
    #[error("operator {operator} on {key:?} takes no values")]
    UnexpectedValues {
        /// The operator.
        operator: String,
        /// The key.
        key: String,
    },
}

impl Selector {
    /// Whether an object with these labels is selected.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.requirements.iter().all(|requirement| match requirement {
            Requirement::In(key, values) => labels.get(key).is_some_and(|v| values.contains(v)),
            Requirement::NotIn(key, values) => labels.get(key).is_none_or(|v| !values.contains(v)),
            Requirement::Exists(key) => labels.contains_key(key),
            Requirement::DoesNotExist(key) => !labels.contains_key(key),
        })
    }

    /// Whether every object is selected.
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty()
    }
}

/// As `kubectl get --selector` takes it; the empty selector is `*`.
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

/// Whether any of `selectors` matches; an empty list matches everything.
pub fn any_or_empty(selectors: &[Selector], labels: &Labels) -> bool {
    selectors.is_empty() || selectors.iter().any(|s| s.matches(labels))
}
