//! [`BfdPoller`]: waits for the sockets of BFD, for a time, or for [`BfdWaker`].

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::BfdReceiver;
use crate::sys::poll;

/// Waits for readable sockets, with a resolution of nanoseconds. With few sockets, `ppoll` costs less than
/// `epoll`: there is one receiver for each local address and hop mode.
#[derive(Debug)]
pub struct BfdPoller {
    wake: UnixStream,
    /// The first entry is `wake`.
    entries: Vec<poll::Entry>,
}

/// Ends a wait of [`BfdPoller`] from another thread.
#[derive(Debug)]
pub struct BfdWaker(UnixStream);

impl BfdPoller {
    #[allow(missing_docs)]
    pub fn new() -> io::Result<(Self, BfdWaker)> {
        let (wake, waker) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        waker.set_nonblocking(true)?;
        Ok((Self { wake, entries: Vec::new() }, BfdWaker(waker)))
    }

    /// Waits until a receiver has packets, [`BfdWaker::wake`] is called, or the timeout expires. It may
    /// return earlier.
    pub fn wait<'a>(
        &mut self,
        receivers: impl Iterator<Item = &'a BfdReceiver>,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        self.entries.clear();
        self.entries.push(poll::readable(self.wake.as_fd()));
        self.entries.extend(receivers.map(|receiver| poll::readable(receiver.as_fd())));
        poll::wait(&mut self.entries, timeout)?;
        if self.entries.first().is_some_and(poll::is_ready) {
            // Several calls may have woken it.
            while matches!(self.wake.read(&mut [0; 64]), Ok(64)) {}
        }
        Ok(())
    }
}

impl BfdWaker {
    /// Ends the current or the next wait.
    pub fn wake(&self) {
        // If the buffer is full, a wake-up is pending.
        let _ = (&self.0).write(&[1]);
    }
}
