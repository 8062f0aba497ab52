//! Labels of Kubernetes objects.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

/// The bounds of the labels of an object. They depend on who may write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LabelBounds {
    /// For Services, of which any user of a namespace may create many.
    Users,
    /// For Nodes, Namespaces and pools, which administrators and their operators write. Programs that detect
    /// the features of a node add hundreds of labels.
    Administrators,
}

impl LabelBounds {
    /// Returns the maximum number of labels.
    pub const fn labels(self) -> usize {
        match self {
            Self::Users => 256,
            Self::Administrators => 4096,
        }
    }

    /// Returns the maximum length of all keys and values, in octets.
    pub const fn octets(self) -> usize {
        match self {
            Self::Users => 16 * 1024,
            Self::Administrators => 256 * 1024,
        }
    }
}

/// Labels of an object, by key.
///
/// The API server bounds labels only by the size of the object, so an object can have 100,000 of them. Of an
/// object whose labels exceed their [`LabelBounds`], none is stored: its labels are unknown, and only a
/// selector without requirements matches it.
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
    bounds: LabelBounds,
}

impl LabelExcess {
    /// Returns the size of labels that exceed the bounds.
    pub fn of(labels: &BTreeMap<String, String>, bounds: LabelBounds) -> Option<Self> {
        let octets = labels.iter().map(|(key, value)| key.len() + value.len()).sum();
        let exceeds = labels.len() > bounds.labels() || octets > bounds.octets();
        exceeds.then_some(Self { labels: labels.len(), octets, bounds })
    }
}

impl Labels {
    /// Returns no labels.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns these labels, or unknown ones if they exceed the bounds.
    pub fn within(bounds: LabelBounds, labels: &BTreeMap<String, String>) -> Self {
        if let Some(excess) = LabelExcess::of(labels, bounds) {
            return Self { entries: Box::default(), excess: Some(excess) };
        }
        let entries = labels.iter().map(|(key, value)| (key.as_str().into(), value.as_str().into()));
        Self { entries: entries.collect(), excess: None }
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

    /// Returns the labels that are stored, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().map(|(key, value)| (&**key, &**value))
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

/// Within [`LabelBounds::Administrators`].
impl FromIterator<(String, String)> for Labels {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(labels: I) -> Self {
        Self::within(LabelBounds::Administrators, &labels.into_iter().collect())
    }
}

impl<const N: usize> From<[(String, String); N]> for Labels {
    fn from(labels: [(String, String); N]) -> Self {
        labels.into_iter().collect()
    }
}

impl fmt::Display for LabelExcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { labels, octets, bounds } = self;
        let (max_labels, max_octets) = (bounds.labels(), bounds.octets());
        write!(
            f,
            "{labels} labels with {octets} octets, and at most {max_labels} labels with {max_octets} octets \
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

    fn labels(bounds: LabelBounds, number: usize, octets: usize) -> Labels {
        let value = "x".repeat(octets / number.max(1) - "k0000".len());
        let labels = (0..number).map(|n| (format!("k{n:04}"), value.clone()));
        Labels::within(bounds, &labels.collect())
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
        for (bounds, max_labels, max_octets) in [
            (LabelBounds::Users, 256, 16 * 1024),
            // The labels of a node with the features of its hardware are stored.
            (LabelBounds::Administrators, 4096, 256 * 1024),
        ] {
            for (number, octets, is_stored) in [
                (max_labels, max_octets, true),
                (max_labels + 1, max_octets / 2, false),
                (2, max_octets + 2, false),
            ] {
                let labels = labels(bounds, number, octets);
                let stored = (!labels.is_empty(), labels.excess().is_none());
                assert_eq!(stored, (is_stored, is_stored), "{bounds:?} {number}");
            }
        }
        let message = labels(LabelBounds::Users, 300, 6000).excess().unwrap().to_string();
        assert_eq!(
            message,
            "300 labels with 6000 octets, and at most 256 labels with 16384 octets are allowed"
        );
        let message = labels(LabelBounds::Administrators, 5000, 50_000).excess().unwrap().to_string();
        assert!(message.ends_with("at most 4096 labels with 262144 octets are allowed"), "{message}");
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
