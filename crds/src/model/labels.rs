//! Labels of Kubernetes objects.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

/// The maximum number of labels of an object.
pub const MAX_LABELS: usize = 256;
/// The maximum length of all keys and values of the labels of an object, in octets.
pub const MAX_OCTETS: usize = 16 * 1024;

/// Labels of an object, by key.
///
/// The API server bounds labels only by the size of the object, so an object can have 100,000 of them. Of an
/// object with more than [`MAX_LABELS`] labels, or more than [`MAX_OCTETS`] octets, none is stored: its
/// labels are unknown, and only a selector without requirements matches it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Labels {
    /// Sorted by key.
    entries: Box<[(Box<str>, Box<str>)]>,
    excess: Option<LabelExcess>,
}

/// The size of labels that are not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LabelExcess {
    labels: usize,
    octets: usize,
}

impl Labels {
    /// Returns no labels.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the value of a label.
    pub fn get(&self, key: &str) -> Option<&str> {
        let at = self.entries.binary_search_by(|(known, _)| (**known).cmp(key)).ok()?;
        self.entries.get(at).map(|(_, value)| &**value)
    }

    /// Returns true if there is a label with this key.
    pub fn contains_key(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Returns the number of labels that are stored.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns true if no labels are stored.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns why the labels are not stored; `None` if they are.
    pub fn excess(&self) -> Option<LabelExcess> {
        self.excess
    }
}

impl From<&BTreeMap<String, String>> for Labels {
    fn from(labels: &BTreeMap<String, String>) -> Self {
        let octets = labels.iter().map(|(key, value)| key.len() + value.len()).sum();
        if labels.len() > MAX_LABELS || octets > MAX_OCTETS {
            let excess = LabelExcess { labels: labels.len(), octets };
            return Self { entries: Box::default(), excess: Some(excess) };
        }
        let entries = labels.iter().map(|(key, value)| (key.as_str().into(), value.as_str().into()));
        Self { entries: entries.collect(), excess: None }
    }
}

impl FromIterator<(String, String)> for Labels {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(labels: I) -> Self {
        Self::from(&labels.into_iter().collect::<BTreeMap<_, _>>())
    }
}

impl<const N: usize> From<[(String, String); N]> for Labels {
    fn from(labels: [(String, String); N]) -> Self {
        labels.into_iter().collect()
    }
}

impl fmt::Display for LabelExcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { labels, octets } = self;
        write!(
            f,
            "{labels} labels with {octets} octets, and at most {MAX_LABELS} labels with {MAX_OCTETS} octets \
             are allowed"
        )
    }
}

/// The pod selector of a Service: a digest, since selectors are only compared. Two different selectors with
/// the same digest cannot be found in practice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PodSelector(u128);

impl From<&BTreeMap<String, String>> for PodSelector {
    fn from(selector: &BTreeMap<String, String>) -> Self {
        let half = |n: u8| {
            let mut hasher = DefaultHasher::new();
            (n, selector).hash(&mut hasher);
            u128::from(hasher.finish())
        };
        Self(half(0) << 64 | half(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(number: usize, octets: usize) -> Labels {
        let value = "x".repeat(octets / number.max(1) - "k000".len());
        (0..number).map(|n| (format!("k{n:03}"), value.clone())).collect()
    }

    #[test]
    fn labels_are_found_by_key() {
        let labels = Labels::from([("b".into(), "1".into()), ("a".into(), String::new())]);
        assert_eq!(["a", "b", "c"].map(|key| labels.get(key)), [Some(""), Some("1"), None]);
        assert_eq!((labels.len(), labels.contains_key("b"), labels.excess()), (2, true, None));
        assert!(Labels::new().is_empty());
    }

    #[test]
    fn labels_beyond_the_bounds_are_not_stored() {
        for (number, octets, is_stored) in [
            (MAX_LABELS, MAX_OCTETS, true),
            (MAX_LABELS + 1, MAX_OCTETS / 2, false),
            (2, MAX_OCTETS + 2, false),
        ] {
            let labels = labels(number, octets);
            assert_eq!((labels.is_empty(), labels.excess().is_none()), (!is_stored, is_stored), "{number}");
        }
        let message = labels(300, 6000).excess().unwrap().to_string();
        assert_eq!(
            message,
            "300 labels with 6000 octets, and at most 256 labels with 16384 octets are allowed"
        );
    }

    #[test]
    fn pod_selectors_are_equal_if_their_labels_are() {
        let selector = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            PodSelector::from(&pairs.collect::<BTreeMap<_, _>>())
        };
        let all = [
            selector(&[]),
            selector(&[("a", "b")]),
            selector(&[("ab", "")]),
            selector(&[("a", "b"), ("c", "d")]),
            selector(&[("a", "bcd")]),
        ];
        for (n, one) in all.iter().enumerate() {
            assert!(all.iter().skip(n + 1).all(|other| other != one), "{n}");
        }
        assert_eq!(selector(&[("a", "b"), ("c", "d")]), selector(&[("c", "d"), ("a", "b")]));
    }
}
