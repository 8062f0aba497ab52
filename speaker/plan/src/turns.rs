//! Turns: when each node replaces a session after an edit that needs a new one.
//!
//! All speakers receive an edit within milliseconds. If all replaced their sessions at once, a router without
//! graceful restart would have no next hop for a moment. So the nodes take turns in the order of their names.
//! They do not have to agree on anything else, and a node whose view of the others is out of date only takes
//! its turn together with another one.

use std::time::Duration;

/// Time between the turns of two nodes. A session is established again within a fraction of it.
const SPACING: Duration = Duration::from_secs(2);
/// Time from an edit to the turn of the last node, at most: with more nodes than fit, the turns are closer
/// together.
pub const LAST_TURN: Duration = Duration::from_secs(30);

/// Returns how long after an edit the node `own` replaces its session. `nodes` are the live nodes with the
/// same session; whether they include `own` makes no difference.
pub(crate) fn turn<'a>(own: &str, nodes: impl Iterator<Item = &'a str>) -> Duration {
    let (mut before, mut others) = (0, 0);
    for node in nodes.filter(|node| *node != own) {
        others += 1;
        before += u32::from(node < own);
    }
    let spacing = if others == 0 { SPACING } else { SPACING.min(LAST_TURN / others) };
    spacing * before
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Given the number of nodes: the time between two turns, and the last turn, in milliseconds.
    #[test]
    fn nodes_take_turns_two_seconds_apart_and_within_thirty_seconds() {
        for (nodes, spacing, last) in [
            (1, 0, 0),
            (2, 2_000, 2_000),
            (3, 2_000, 4_000),
            (16, 2_000, 30_000),
            (31, 1_000, 30_000),
            (1_001, 30, 30_000),
        ] {
            let names: Vec<String> = (0..nodes).map(|n| format!("n{n:05}")).collect();
            let turns: Vec<u128> =
                names.iter().map(|own| turn(own, names.iter().map(String::as_str)).as_millis()).collect();
            assert_eq!(turns[0], 0);
            assert!(turns.windows(2).all(|pair| pair[1] - pair[0] == spacing), "{nodes}: {turns:?}");
            assert_eq!(turns.last(), Some(&last), "{nodes}");
        }
    }

    #[test]
    fn unknown_own_node_has_the_turn_of_its_name() {
        let turn = |own| turn(own, ["a", "c"].into_iter()).as_secs();
        assert_eq!((turn("a"), turn("b"), turn("c"), turn("d")), (0, 2, 2, 4));
    }
}
