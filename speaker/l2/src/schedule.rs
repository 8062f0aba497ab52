//! When gratuitous announcements are due.
