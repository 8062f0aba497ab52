//! `ppoll`: waits for sockets with a timeout of nanoseconds.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

/// An entry of the list that [`wait`] takes.
pub(crate) type Entry = libc::pollfd;

/// Returns an entry that waits until a socket can be read.
pub(crate) fn readable(socket: BorrowedFd<'_>) -> Entry {
    Entry { fd: socket.as_raw_fd(), events: libc::POLLIN, revents: 0 }
}

/// Returns an entry that waits until the other host has closed its side of a connection, or reset it.
pub(crate) fn closed(socket: BorrowedFd<'_>) -> Entry {
    Entry { fd: socket.as_raw_fd(), events: libc::POLLRDHUP, revents: 0 }
}

/// Returns whether [`wait`] found the entry ready, or in error.
pub(crate) fn is_ready(entry: &Entry) -> bool {
    entry.revents != 0
}

/// Waits until an entry is ready or the timeout expires. Without a timeout it waits for an entry. A signal
/// ends the wait early.
pub(crate) fn wait(entries: &mut [Entry], timeout: Option<Duration>) -> io::Result<()> {
    let timeout = timeout.map(|timeout| libc::timespec {
        tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: timeout.subsec_nanos() as _,
    });
    let timeout = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: `entries` is exclusively borrowed for the call and has the given length; the kernel writes only
    // `revents`. The timeout is null or points to a value that outlives the call. A closed descriptor is
    // reported as POLLNVAL.
    let ready = unsafe { libc::ppoll(entries.as_mut_ptr(), entries.len() as _, timeout, std::ptr::null()) };
    match ready {
        -1 => match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            error => Err(error),
        },
        _ => Ok(()),
    }
}
