//! The phases of the index: listing, standby, deciding.

/// The kinds of objects that must be listed before the index decides.
#[derive(Clone, Copy, Debug)]
pub(super) enum ListedKind {
    Services,
    Claims,
    Namespaces,
    Configuration,
}

/// The lists that were received, and whether this controller leads.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SyncState {
    services: bool,
    claims: bool,
    namespaces: bool,
    configuration: bool,
    deciding: bool,
}

impl SyncState {
    /// Records that a kind was listed.
    pub(super) fn set_listed(&mut self, kind: ListedKind) {
        *match kind {
            ListedKind::Services => &mut self.services,
            ListedKind::Claims => &mut self.claims,
            ListedKind::Namespaces => &mut self.namespaces,
            ListedKind::Configuration => &mut self.configuration,
        } = true;
    }

    /// Requires a new list of every kind.
    pub(super) fn forget_lists(&mut self) {
        *self = Self { deciding: self.deciding, ..Self::default() };
    }

    /// Returns true if every kind was listed.
    pub(super) fn is_listed(self) -> bool {
        self.services && self.claims && self.namespaces && self.configuration
    }

    /// Starts to decide. Returns false if it cannot start: it already decides, or a list is missing.
    pub(super) fn begin(&mut self) -> bool {
        let begins = !self.deciding && self.is_listed();
        self.deciding |= begins;
        begins
    }

    /// Stops deciding.
    pub(super) fn step_down(&mut self) {
        self.deciding = false;
    }

    /// Returns true between [`SyncState::begin`] and [`SyncState::step_down`].
    pub(super) fn is_deciding(self) -> bool {
        self.deciding
    }
}
