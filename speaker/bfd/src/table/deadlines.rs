//! [`Deadlines`]: which session is due next.

use std::time::Instant;

/// A deadline for each slot of the table, in a binary heap that knows the place of each slot. A change costs
/// the logarithm of the number of slots, and allocates memory only for a slot with a higher number than all
/// before.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    /// Slots; a parent's deadline is never later than that of its children.
    heap: Vec<usize>,
    /// For each slot its deadline and its place in the heap.
    slots: Vec<Option<(Instant, usize)>>,
}

impl Deadlines {
    /// Returns the slot with the earliest deadline.
    pub(super) fn first(&self) -> Option<(Instant, usize)> {
        let slot = *self.heap.first()?;
        Some((self.deadline(slot)?, slot))
    }

    /// Sets, changes or removes the deadline of a slot.
    pub(super) fn set(&mut self, slot: usize, deadline: Option<Instant>) {
        if slot >= self.slots.len() {
            self.slots.resize(slot + 1, None);
        }
        match (self.slots[slot], deadline) {
            (None, None) => {}
            (None, Some(deadline)) => {
                self.slots[slot] = Some((deadline, self.heap.len()));
                self.heap.push(slot);
                self.sift(self.heap.len() - 1);
            }
            (Some((before, _)), Some(deadline)) if before == deadline => {}
            (Some((_, place)), Some(deadline)) => {
                self.slots[slot] = Some((deadline, place));
                self.sift(place);
            }
            (Some((_, place)), None) => {
                self.slots[slot] = None;
                self.heap.swap_remove(place);
                if place < self.heap.len() {
                    self.place(place);
                    self.sift(place);
                }
            }
        }
    }

    fn deadline(&self, slot: usize) -> Option<Instant> {
        self.slots[slot].map(|(deadline, _)| deadline)
    }

    /// Records the place of the slot at a place of the heap.
    fn place(&mut self, place: usize) {
        if let Some((_, recorded)) = &mut self.slots[self.heap[place]] {
            *recorded = place;
        }
    }

    fn swap(&mut self, one: usize, other: usize) {
        self.heap.swap(one, other);
        self.place(one);
        self.place(other);
    }

    /// Moves the slot at a place up or down until the heap is in order.
    fn sift(&mut self, mut place: usize) {
        let earlier =
            |this: &Self, a: usize, b: usize| this.deadline(this.heap[a]) < this.deadline(this.heap[b]);
        while place > 0 && earlier(self, place, (place - 1) / 2) {
            self.swap(place, (place - 1) / 2);
            place = (place - 1) / 2;
        }
        loop {
            let children = [2 * place + 1, 2 * place + 2];
            let mut least = place;
            for child in children {
                if child < self.heap.len() && earlier(self, child, least) {
                    least = child;
                }
            }
            if least == place {
                return;
            }
            self.swap(place, least);
            place = least;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn first_is_the_earliest_deadline_after_any_changes(
            changes in prop::collection::vec((0..12_usize, prop::option::of(0..50_u64)), 1..200)
        ) {
            let start = Instant::now();
            let (mut deadlines, mut expected) = (Deadlines::default(), BTreeMap::new());
            for (slot, deadline) in changes {
                let deadline = deadline.map(|ms| start + Duration::from_millis(ms));
                deadlines.set(slot, deadline);
                match deadline {
                    Some(deadline) => expected.insert(slot, deadline),
                    None => expected.remove(&slot),
                };
                let first = deadlines.first();
                prop_assert_eq!(first.map(|(at, _)| at), expected.values().min().copied());
                prop_assert!(first.is_none_or(|(at, slot)| expected[&slot] == at));
            }
        }
    }
}
