//! The times at which pools are patched: finalizers and verdicts at once, other changes of statuses in
//! batches.
//!
//! Each Service that gets an address changes the counts of a pool, so statuses are written at most once per
//! interval. But a verdict (condition `Accepted`) is written at once: it tells the next controller which
//! pool of two that overlap is in force. A value without I/O: the caller reports changes, and writes the
//! patches of the pools that [`poll_finalizers`] and [`poll_statuses`] return.
//!
//! [`poll_finalizers`]: PoolStatusSchedule::poll_finalizers
//! [`poll_statuses`]: PoolStatusSchedule::poll_statuses

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Minimum time between two batches of pool statuses.
pub const STATUS_INTERVAL: Duration = Duration::from_secs(1);
/// Minimum time between two batches of cool-downs. Until its release is recorded, a crash of the controller
/// loses the cool-down of an address.
pub const COOLDOWN_INTERVAL: Duration = Duration::from_secs(1);

/// The pools that must be patched, and when.
#[derive(Clone, Debug, Default)]
pub struct PoolStatusSchedule {
    /// Pools whose status may be out of date.
    statuses: BTreeSet<String>,
    /// Pools whose verdict is not in their status. They do not wait for the batch.
    verdicts: BTreeSet<String>,
    /// Pools whose finalizers may be out of date.
    finalizers: BTreeSet<String>,
    last_batch: Option<Instant>,
    /// Pools whose recorded cool-downs may be out of date.
    cooldowns: BTreeSet<String>,
    last_cooldowns: Option<Instant>,
}

impl PoolStatusSchedule {
    /// Schedules pools that changed, or whose holders changed.
    pub fn handle_changed_pools(&mut self, pools: impl IntoIterator<Item = String>) {
        for pool in pools {
            self.finalizers.insert(pool.clone());
            self.cooldowns.insert(pool.clone());
            self.statuses.insert(pool);
        }
    }

    /// Schedules pools that were counted before and may have been deleted.
    pub fn handle_counted_pools(&mut self, pools: impl IntoIterator<Item = String>) {
        self.statuses.extend(pools);
    }

    /// Schedules the status of a pool at once: it does not contain the verdict on the pool.
    pub fn handle_verdict(&mut self, pool: String) {
        self.verdicts.insert(pool);
    }

    /// Schedules what depends on recorded cool-downs of a pool: a newer decision on them, and the status, in
    /// which an earlier version may have recorded them.
    pub fn handle_cooldown_written(&mut self, pool: &str) {
        self.cooldowns.insert(pool.to_owned());
        self.statuses.insert(pool.to_owned());
    }

    /// Postpones the status of a pool to the result of a write of its finalizers, since the status is decided
    /// on the resulting version. If that write waits after a failure (`backing_off`), the status does not
    /// wait for it: whatever rejects the finalizers may accept the status.
    pub fn handle_finalizers_queued(&mut self, pool: &str, backing_off: bool) {
        if !backing_off {
            self.statuses.remove(pool);
            self.verdicts.remove(pool);
        }
    }

    /// Schedules the status of a pool after the result, of any kind, of a write of its finalizers.
    pub fn handle_finalizers_result(&mut self, pool: &str) {
        self.statuses.insert(pool.to_owned());
    }

    /// Makes the next batch due at once.
    pub fn skip_interval(&mut self) {
        (self.last_batch, self.last_cooldowns) = (None, None);
    }

    /// Returns the pools whose finalizers must be compared with the desired ones now.
    pub fn poll_finalizers(&mut self) -> BTreeSet<String> {
        std::mem::take(&mut self.finalizers)
    }

    /// Returns the pools whose statuses must be compared with the desired ones now: until the batch is due,
    /// only those that lack their verdict. They need no timeout: the caller polls at the end of each turn.
    pub fn poll_statuses(&mut self, now: Instant) -> BTreeSet<String> {
        let mut pools = std::mem::take(&mut self.verdicts);
        if !self.statuses.is_empty() && self.due().is_none_or(|due| due <= now) {
            self.last_batch = Some(now);
            pools.append(&mut self.statuses);
        }
        pools
    }

    /// Returns the pools whose recorded cool-downs must be compared with the desired ones now.
    pub fn poll_cooldowns(&mut self, now: Instant) -> BTreeSet<String> {
        if self.cooldowns.is_empty() || self.cooldowns_due().is_some_and(|due| now < due) {
            return BTreeSet::new();
        }
        self.last_cooldowns = Some(now);
        std::mem::take(&mut self.cooldowns)
    }

    /// Returns when to call [`PoolStatusSchedule::poll_statuses`] or [`PoolStatusSchedule::poll_cooldowns`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        let statuses = if self.statuses.is_empty() { None } else { self.due() };
        let cooldowns = if self.cooldowns.is_empty() { None } else { self.cooldowns_due() };
        statuses.into_iter().chain(cooldowns).min()
    }

    /// Returns when the next batch is due; `None` if it is due at once.
    fn due(&self) -> Option<Instant> {
        Some(self.last_batch? + STATUS_INTERVAL)
    }

    /// Returns when the next batch of cool-downs is due; `None` if it is due at once.
    fn cooldowns_due(&self) -> Option<Instant> {
        Some(self.last_cooldowns? + COOLDOWN_INTERVAL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(pools: &[&str]) -> BTreeSet<String> {
        pools.iter().map(|pool| (*pool).to_owned()).collect()
    }

    /// Returns a schedule whose last batch was written at `now`.
    fn after_batch(now: Instant) -> PoolStatusSchedule {
        let mut schedule = PoolStatusSchedule::default();
        schedule.handle_changed_pools(names(&["p"]));
        assert_eq!(schedule.poll_finalizers(), names(&["p"]));
        assert_eq!(schedule.poll_statuses(now), names(&["p"]), "the first batch is due at once");
        schedule
    }

    #[test]
    fn statuses_are_returned_once_per_interval() {
        let now = Instant::now();
        let mut schedule = after_batch(now);
        assert_eq!(schedule.poll_timeout(), None, "nothing changed");
        schedule.handle_changed_pools(names(&["p", "q"]));
        assert_eq!(schedule.poll_timeout(), Some(now + STATUS_INTERVAL));
        assert_eq!(schedule.poll_statuses(now + STATUS_INTERVAL / 2), names(&[]));
        assert_eq!(schedule.poll_statuses(now + STATUS_INTERVAL), names(&["p", "q"]));
        assert_eq!(schedule.poll_statuses(now + 3 * STATUS_INTERVAL), names(&[]));
    }

    #[test]
    fn cooldowns_have_an_interval_of_their_own() {
        let now = Instant::now();
        let mut schedule = after_batch(now);
        assert_eq!(schedule.poll_cooldowns(now + COOLDOWN_INTERVAL / 2), names(&["p"]), "due at once");
        schedule.handle_changed_pools(names(&["p"]));
        let later = now + STATUS_INTERVAL;
        assert_eq!(schedule.poll_statuses(later), names(&["p"]));
        assert_eq!(schedule.poll_cooldowns(later), names(&[]));
        let due = now + COOLDOWN_INTERVAL / 2 + COOLDOWN_INTERVAL;
        assert_eq!(schedule.poll_timeout(), Some(due));
        assert_eq!(schedule.poll_cooldowns(due), names(&["p"]));
        schedule.handle_cooldown_written("p");
        assert_eq!(schedule.poll_cooldowns(due), names(&[]));
        assert_eq!(schedule.poll_statuses(due + STATUS_INTERVAL), names(&["p"]));
    }

    #[test]
    fn verdict_is_returned_without_waiting() {
        let now = Instant::now();
        let mut schedule = after_batch(now);
        schedule.handle_changed_pools(names(&["p", "q"]));
        schedule.handle_verdict("q".to_owned());
        assert_eq!(schedule.poll_statuses(now), names(&["q"]));
        assert_eq!(schedule.poll_statuses(now), names(&[]));
        schedule.handle_verdict("p".to_owned());
        schedule.handle_finalizers_queued("p", false);
        assert_eq!(schedule.poll_statuses(now), names(&[]), "it waits for the result of the finalizers");
    }

    #[test]
    fn finalizers_are_returned_without_waiting() {
        let mut schedule = after_batch(Instant::now());
        schedule.handle_changed_pools(names(&["p"]));
        assert_eq!(schedule.poll_finalizers(), names(&["p"]));
        assert_eq!(schedule.poll_finalizers(), names(&[]));
        schedule.handle_counted_pools(names(&["deleted"]));
        assert_eq!(schedule.poll_finalizers(), names(&[]), "a deleted pool has no finalizers");
    }

    #[test]
    fn status_waits_for_result_of_finalizers() {
        let now = Instant::now();
        let mut schedule = after_batch(now);
        let later = now + STATUS_INTERVAL;
        schedule.handle_changed_pools(names(&["p", "q"]));
        schedule.handle_finalizers_queued("p", false);
        assert_eq!(schedule.poll_statuses(later), names(&["q"]));
        schedule.handle_finalizers_result("p");
        assert_eq!(schedule.poll_statuses(later + STATUS_INTERVAL), names(&["p"]));
    }

    #[test]
    fn status_does_not_wait_for_finalizers_that_back_off() {
        let now = Instant::now();
        let mut schedule = after_batch(now);
        schedule.handle_changed_pools(names(&["p"]));
        schedule.handle_finalizers_queued("p", true);
        assert_eq!(schedule.poll_statuses(now + STATUS_INTERVAL), names(&["p"]));
    }

    #[test]
    fn skipped_interval_makes_the_batch_due_at_once() {
        let now = Instant::now();
        let mut schedule = after_batch(now);
        schedule.handle_changed_pools(names(&["p"]));
        schedule.skip_interval();
        assert_eq!(schedule.poll_timeout(), None);
        assert_eq!(schedule.poll_statuses(now), names(&["p"]));
    }
}
