//! The four kinds of patch, and field ownership. Pure functions on JSON values.

mod apply;
mod diff;
mod fields;
mod managed;
mod merge;
mod shape;
mod strategic;

pub(crate) use apply::list_of_duplicates;
pub(crate) use managed::{Author, after_apply, after_update};
pub(crate) use merge::{json_patch, merge_patch};
pub(crate) use shape::{KeyField, ListShape, Shape, Strategic};
pub(crate) use strategic::strategic_merge_patch;
