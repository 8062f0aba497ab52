//! Objects as the API server stores them, kept up to date by three verbs: apply, delete, reset.

/// A change to the objects of one kind, as a list or a watch reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObjectChange<T> {
    /// The object was created or updated.
    Apply(T),
    /// The object was deleted, or the selector of the watch no longer matches it. Carries its last known state.
    Delete(T),
    /// A complete list: objects that it does not contain no longer exist.
    Reset(Vec<T>),
}
