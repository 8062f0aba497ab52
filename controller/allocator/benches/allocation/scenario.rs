//! What is measured: an act, and what puts things back before the next one.

/// Something that can be done again and again.
pub(crate) trait Subject {
    /// Puts things back. Not measured.
    fn restore(&mut self);
    /// What is measured.
    fn act(&mut self);
}

/// A subject of several sizes.
pub(crate) struct Case {
    /// What one operation is, and what `N` is.
    pub name: &'static str,
    /// The sizes, ascending.
    pub sizes: &'static [usize],
    /// How many operations one act is.
    pub ops: Ops,
    /// Makes the subject of a size.
    pub make: fn(usize) -> Box<dyn Subject>,
}

/// How many operations one act is.
#[derive(Clone, Copy)]
pub(crate) enum Ops {
    /// One.
    One,
    /// [`BATCH`](crate::fixtures::BATCH), where one alone is too short for a clock.
    Batch,
    /// One for each of `N`.
    EachOfN,
}

impl Ops {
    /// At a size.
    pub(crate) fn count(self, size: usize) -> usize {
        match self {
            Self::One => 1,
            Self::Batch => crate::fixtures::BATCH,
            Self::EachOfN => size,
        }
    }
}

struct Steps<S, R, A> {
    state: S,
    restore: R,
    act: A,
}

impl<S, R: FnMut(&mut S), A: FnMut(&mut S)> Subject for Steps<S, R, A> {
    fn restore(&mut self) {
        (self.restore)(&mut self.state);
    }

    fn act(&mut self) {
        (self.act)(&mut self.state);
    }
}

/// A subject of a state and two closures.
pub(crate) fn subject<S: 'static>(
    state: S,
    restore: impl FnMut(&mut S) + 'static,
    act: impl FnMut(&mut S) + 'static,
) -> Box<dyn Subject> {
    Box::new(Steps { state, restore, act })
}
