//! Which nodes probe which.

/// Largest number of nodes of which each probes all others.
pub const ALL_PAIRS: usize = 16;
/// Number of nodes that watch a node of a larger cluster.
pub const WATCHERS: usize = 4;

/// Returns the nodes that `own` probes. Every node computes the same watchers for the same set of nodes. The
/// watchers of a node are those with the highest rendezvous hash, so that another node in the cluster changes
/// few of them. `own` may be in `nodes`.
#[must_use]
pub fn watched_by<'a>(own: &str, nodes: &[&'a str]) -> Vec<&'a str> {
    let others = nodes.iter().copied().filter(|node| *node != own);
    if nodes.len() + usize::from(!nodes.contains(&own)) <= ALL_PAIRS {
        return others.collect();
    }
    others
        .filter(|watched| {
            let rank = |watcher: &str| (hash(watcher, watched), watcher.to_owned());
            let own_rank = rank(own);
            let rivals = nodes.iter().filter(|rival| **rival != own && *rival != watched);
            rivals.filter(|rival| rank(rival) > own_rank).take(WATCHERS).count() < WATCHERS
        })
        .collect()
}

/// FNV-1a of both names, with the finalizer of MurmurHash3: FNV alone spreads similar names badly.
fn hash(watcher: &str, watched: &str) -> u64 {
    let octets = watcher.bytes().chain([0]).chain(watched.bytes());
    let mut hash = octets.fold(0xcbf2_9ce4_8422_2325, |hash: u64, octet| {
        (hash ^ u64::from(octet)).wrapping_mul(0x100_0000_01b3)
    });
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|n| format!("node-{n}")).collect()
    }

    /// The watchers of each node.
    fn watchers(names: &[String]) -> BTreeMap<&str, Vec<&str>> {
        let nodes: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut watchers: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for own in &nodes {
            for watched in watched_by(own, &nodes) {
                watchers.entry(watched).or_default().push(own);
            }
        }
        watchers
    }

    #[test]
    fn every_node_has_its_number_of_watchers() {
        for (size, expected) in [(2, 1), (3, 2), (16, 15), (17, 4), (100, 4)] {
            let names = names(size);
            let watchers = watchers(&names);
            assert_eq!(watchers.len(), size);
            for (node, watchers) in watchers {
                assert_eq!(watchers.len(), expected, "{node} of {size}");
                assert!(!watchers.contains(&node));
            }
        }
    }

    #[test]
    fn load_of_a_watcher_is_bounded() {
        let names = names(500);
        let nodes: Vec<&str> = names.iter().map(String::as_str).collect();
        let most = nodes.iter().map(|own| watched_by(own, &nodes).len()).max();
        assert!(most.is_some_and(|most| most <= 16), "{most:?}");
    }

    #[test]
    fn own_name_need_not_be_listed() {
        let names = names(15);
        let nodes: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(watched_by("other", &nodes).len(), 15);
    }

    #[test]
    fn another_node_changes_few_watchers() {
        let (before, after) = (names(100), names(101));
        let (before, after) = (watchers(&before), watchers(&after));
        let changed = before.iter().filter(|(node, watchers)| after[*node] != **watchers).count();
        assert!(changed <= 12, "{changed} of 100");
    }
}
