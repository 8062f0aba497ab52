//! A measured operation, and the preparation of its next run.

/// An operation that can be repeated.
pub(crate) trait Scenario {
    /// Restores the state before the next run. Not measured.
    fn restore(&mut self);
    /// Runs the measured operations.
    fn run(&mut self);
}

/// A scenario in several sizes.
pub(crate) struct Case {
    /// The operation, and the meaning of `N`.
    pub name: &'static str,
    /// Values of `N`, ascending.
    pub sizes: &'static [usize],
    pub operations: Operations,
    /// Returns the scenario for a value of `N`.
    pub make: fn(usize) -> Box<dyn Scenario>,
}

/// The number of operations in one run.
#[derive(Clone, Copy)]
pub(crate) enum Operations {
    One,
    /// [`BATCH`](crate::fixtures::BATCH), where one operation is too short for a clock.
    Batch,
    N,
}

impl Operations {
    /// Returns the number for a value of `N`.
    pub(crate) fn count(self, n: usize) -> usize {
        match self {
            Self::One => 1,
            Self::Batch => crate::fixtures::BATCH,
            Self::N => n,
        }
    }
}

struct Closures<S, Restore, Run> {
    state: S,
    restore: Restore,
    run: Run,
}

impl<S, Restore: FnMut(&mut S), Run: FnMut(&mut S)> Scenario for Closures<S, Restore, Run> {
    fn restore(&mut self) {
        (self.restore)(&mut self.state);
    }

    fn run(&mut self) {
        (self.run)(&mut self.state);
    }
}

/// Returns a scenario that consists of a state and two closures.
pub(crate) fn scenario<S: 'static>(
    state: S,
    restore: impl FnMut(&mut S) + 'static,
    run: impl FnMut(&mut S) + 'static,
) -> Box<dyn Scenario> {
    Box::new(Closures { state, restore, run })
}
