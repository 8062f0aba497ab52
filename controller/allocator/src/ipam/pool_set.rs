//! Sets of pools in the order in which they are tried, by the families of their free addresses.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use fairlead_crds::model::config::Pool;
use fairlead_crds::model::family::Family;

use super::pool_state::PoolState;

/// The place of a pool in the order in which pools are tried for a Service that names none.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) tier: Tier,
    /// Lower ranks are tried first: pools by priority, then those with priority 0.
    rank: u32,
    pub(super) name: Arc<str>,
}

/// The groups of pools with automatic assignment, in the order in which they are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tier {
    /// Pools with a `serviceAllocation`.
    Pinned,
    /// Pools for all Services.
    Unpinned,
}

impl Position {
    /// Returns the place of a pool; `None` if a Service that names no pool gets nothing from it.
    pub(super) fn of(pool: &Pool, name: &Arc<str>) -> Option<Self> {
        Self::of_automatic(pool, name).filter(|_| pool.closed.is_none())
    }

    /// Returns the place of a pool, closed or not; `None` without automatic assignment.
    pub(super) fn of_automatic(pool: &Pool, name: &Arc<str>) -> Option<Self> {
        let (tier, rank) = match &pool.allocation {
            _ if !pool.auto_assign => return None,
            Some(allocation) => (Tier::Pinned, allocation.priority.checked_sub(1).unwrap_or(u32::MAX)),
            None => (Tier::Unpinned, 0),
        };
        Some(Self { tier, rank, name: name.clone() })
    }

    /// Returns a position before all pools of a tier. No pool has an empty name.
    fn before(tier: Tier) -> Self {
        Self { tier, rank: 0, name: "".into() }
    }
}

/// A set of pools.
#[derive(Clone, Debug, Default)]
pub(super) struct PoolSet {
    all: BTreeSet<Position>,
    /// The pools with free addresses: of IPv4, of IPv6, of both.
    free: [BTreeSet<Position>; 3],
}

impl PoolSet {
    pub(super) fn insert(&mut self, position: &Position, state: &PoolState) {
        self.all.insert(position.clone());
        self.set_free(position, state);
    }

    pub(super) fn remove(&mut self, position: &Position) {
        self.all.remove(position);
        for free in &mut self.free {
            free.remove(position);
        }
    }

    /// Records for which families a pool has free addresses.
    pub(super) fn set_free(&mut self, position: &Position, state: &PoolState) {
        let [v4, v6] = Family::BOTH.map(|family| state.space(family).first_free().is_some());
        for (set, has) in self.free.iter_mut().zip([v4, v6, v4 && v6]) {
            if has {
                set.insert(position.clone());
            } else {
                set.remove(position);
            }
        }
    }

    /// Asserts that the set contains the pool with its current free families.
    #[cfg(test)]
    pub(super) fn assert_contains(&self, position: &Position, state: &PoolState) {
        assert!(self.all.contains(position), "{position:?} is not listed");
        let [v4, v6] = Family::BOTH.map(|family| state.space(family).first_free().is_some());
        let listed = self.free.each_ref().map(|set| set.contains(position));
        assert_eq!(listed, [v4, v6, v4 && v6], "{position:?}");
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn all(&self) -> &BTreeSet<Position> {
        &self.all
    }

    /// Returns the pools with a free address of each of these families.
    pub(super) fn with_free(&self, families: &[Family]) -> &BTreeSet<Position> {
        let [v4, v6, both] = &self.free;
        match families {
            [Family::V4] => v4,
            [Family::V6] => v6,
            _ => both,
        }
    }
}

/// The pools of one tier in several sets, in order, each once. The cost grows with the number of pools taken.
#[derive(Clone, Debug)]
pub(super) struct Candidates<'a> {
    sets: Vec<&'a BTreeSet<Position>>,
    /// Pools in addition to those of `sets`.
    others: BTreeSet<Position>,
    /// The position of the pool that was returned last.
    last: Position,
}

impl<'a> Candidates<'a> {
    pub(super) fn new(
        tier: Tier,
        sets: impl Iterator<Item = &'a BTreeSet<Position>>,
        others: BTreeSet<Position>,
    ) -> Self {
        Self { sets: sets.filter(|set| !set.is_empty()).collect(), others, last: Position::before(tier) }
    }
}

impl Iterator for Candidates<'_> {
    type Item = Arc<str>;

    fn next(&mut self) -> Option<Arc<str>> {
        let after = (Bound::Excluded(&self.last), Bound::Unbounded);
        let sets = self.sets.iter().copied().chain([&self.others]);
        let next = sets.filter_map(|set| set.range::<Position, _>(after).next()).min()?;
        if next.tier != self.last.tier {
            return None;
        }
        self.last = next.clone();
        Some(self.last.name.clone())
    }
}
