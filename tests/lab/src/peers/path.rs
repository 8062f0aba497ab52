//! A path to a prefix, in a form that all routers share.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

/// A path that a router learned from one of its peers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path {
    /// Prefix.
    pub prefix: IpNet,
    /// NEXT_HOP, or the global address in MP_REACH_NLRI.
    pub next_hop: IpAddr,
    /// AS_PATH as text: numbers of a sequence separated by spaces, those of a set in braces.
    pub as_path: String,
    /// LOCAL_PREF.
    pub local_pref: Option<u32>,
    /// Communities as text, `64512:1`.
    pub communities: BTreeSet<String>,
    /// Large communities as text, `64512:1:2`.
    pub large_communities: BTreeSet<String>,
    /// Other attributes, except ORIGIN IGP: `med 5`, `origin INCOMPLETE`.
    pub other: BTreeSet<String>,
}

impl Path {
    /// Returns a path without attributes.
    pub fn new(prefix: IpNet, next_hop: IpAddr) -> Self {
        Self {
            prefix,
            next_hop,
            as_path: String::new(),
            local_pref: None,
            communities: BTreeSet::new(),
            large_communities: BTreeSet::new(),
            other: BTreeSet::new(),
        }
    }
}

impl fmt::Display for Path {
    /// Formats as `198.51.100.1/32 via 192.0.2.11 path 64513 pref 100 communities 64513:1 large 64513:1:2`,
    /// without absent attributes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} via {}", self.prefix, self.next_hop)?;
        if !self.as_path.is_empty() {
            write!(f, " path {}", self.as_path)?;
        }
        if let Some(local_pref) = self.local_pref {
            write!(f, " pref {local_pref}")?;
        }
        for (name, values) in
            [(" communities", &self.communities), (" large", &self.large_communities), (" also", &self.other)]
        {
            if !values.is_empty() {
                f.write_str(name)?;
                values.iter().try_for_each(|value| write!(f, " {value}"))?;
            }
        }
        Ok(())
    }
}

/// Formats the AS numbers of one segment.
pub(super) fn sequence(numbers: impl IntoIterator<Item = u64>) -> String {
    numbers.into_iter().map(|number| number.to_string()).collect::<Vec<_>>().join(" ")
}
