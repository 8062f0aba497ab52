//! The TCP connection of a session: bounded reading and writing. Whatever the peer sends or does not read,
//! one call of a method costs at most [`READ_SIZE`] and [`OUTPUT_SIZE`] octets.

use std::io;
use std::net::{IpAddr, Shutdown};
use std::time::Duration;

use fairlead_net::tcp::set_md5_key;
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::task::yield_now;
use tokio::time::{Instant, timeout_at};

use super::passwords::Key;

/// Octets that are read per turn.
pub(super) const READ_SIZE: usize = 64 * 1024;

/// Octets that are read at once. Sessions are many and reads are short, so this is less than [`READ_SIZE`].
const BUFFER_SIZE: usize = 16 * 1024;

/// Octets that are encoded at once for the socket. Routes beyond that remain in the session, where a later
/// change of the same route replaces them.
pub(super) const OUTPUT_SIZE: usize = 64 * 1024;

/// Memory that the output buffer keeps at rest, in octets.
const OUTPUT_SIZE_AT_REST: usize = 4096;

/// Longest time for the peer to close its side of a connection.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(300);

/// A connection, with the octets that wait to be written on it.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    input: Vec<u8>,
    /// Encoded messages, of which the first `written` octets were written to the socket.
    output: Vec<u8>,
    written: usize,
    /// True if there may be more to encode.
    more: bool,
}

/// The result of [`Connection::read`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// The turn is over: nothing more arrived, or [`READ_SIZE`] octets were read.
    Pause,
    /// The peer closed the connection.
    Closed,
}

/// What a socket is ready for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ready {
    pub readable: bool,
}

impl Connection {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, input: vec![0; BUFFER_SIZE], output: Vec::new(), written: 0, more: false }
    }

    /// Returns the local address.
    pub(super) fn local(&self) -> Option<IpAddr> {
        self.stream.local_addr().ok().map(|address| address.ip())
    }

    /// Returns the address of the peer.
    pub(super) fn remote(&self) -> Option<IpAddr> {
        self.stream.peer_addr().ok().map(|address| address.ip())
    }

    /// Replaces the TCP-MD5 key. Segments that wait to be acknowledged are sent again with the new key.
    pub(super) fn set_key(&self, key: &Key) -> Result<(), String> {
        let peer = self.stream.peer_addr().map_err(|error| error.to_string())?.ip();
        set_md5_key(&self.stream, peer, key.octets()).map_err(|error| error.to_string())
    }

    /// Waits until the socket can be read, if `read`, or written, if there is something to write. Cancel
    /// safe.
    ///
    /// Takes no part in the cooperative scheduling of Tokio: while the socket is ready, this never yields.
    pub(super) async fn ready(&self, read: bool) -> io::Result<Ready> {
        let interest = match (read, self.has_output()) {
            (true, true) => Interest::READABLE | Interest::WRITABLE,
            (true, false) => Interest::READABLE,
            (false, true) => Interest::WRITABLE,
            (false, false) => return std::future::pending().await,
        };
        let ready = self.stream.ready(interest).await?;
        let readable = ready.is_readable() || ready.is_read_closed() || ready.is_error();
        Ok(Ready { readable: read && readable })
    }

    /// Reads at most [`READ_SIZE`] octets, without waiting, and passes them to `handle`, which returns
    /// whether to go on.
    pub(super) fn read(&mut self, mut handle: impl FnMut(&[u8]) -> bool) -> io::Result<Read> {
        for _ in 0..READ_SIZE / BUFFER_SIZE {
            match self.stream.try_read(&mut self.input) {
                Ok(0) => return Ok(Read::Closed),
                Ok(length) => {
                    let goes_on = handle(self.input.get(..length).unwrap_or_default());
                    if !goes_on || length < self.input.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(Read::Pause)
    }

    /// Writes without waiting: what is left of the output, or if nothing is, what `encode` appends. `encode`
    /// returns whether it appended anything.
    pub(super) fn write(&mut self, encode: impl FnOnce(&mut Vec<u8>) -> bool) -> io::Result<()> {
        if self.written == self.output.len() {
            self.output.clear();
            self.written = 0;
            self.more = encode(&mut self.output);
            if !self.more {
                self.output.shrink_to(OUTPUT_SIZE_AT_REST);
                return Ok(());
            }
        }
        match self.stream.try_write(self.output.get(self.written..).unwrap_or_default()) {
            Ok(length) => self.written += length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Returns whether encoded octets wait to be written, or [`Connection::write`] may encode more.
    pub(super) fn has_output(&self) -> bool {
        self.more || self.written < self.output.len()
    }

    /// Closes the write side and reads until the peer closes its side. Closing a socket with unread data
    /// would reset the connection, and the peer would lose the last message. Returns whether the peer closed
    /// in time.
    pub(super) async fn close_write_side(&mut self) -> bool {
        let _ = SockRef::from(&self.stream).shutdown(Shutdown::Write);
        let deadline = Instant::now() + CLOSE_TIMEOUT;
        // The deadline is tested in every turn, since a peer can keep the socket readable.
        while Instant::now() < deadline {
            match timeout_at(deadline, self.stream.readable()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return true,
                Err(_) => return false,
            }
            match self.read(|_| true) {
                Ok(Read::Pause) => yield_now().await,
                Ok(Read::Closed) | Err(_) => return true,
            }
        }
        false
    }

    /// Resets the connection: what waits to be sent is lost.
    pub(super) fn reset(self) {
        let _ = self.stream.set_zero_linger();
    }

    /// Closes a connection after the session failed, and resets it if the peer does not close its side.
    /// Otherwise the kernel retransmits the last messages, and after an outage of the path they can arrive
    /// during the next session. FRR 8 then loses track of a session with a dynamic neighbor.
    pub(super) async fn close_failed(mut self) {
        if !self.close_write_side().await {
            let _ = self.stream.set_zero_linger();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;

    async fn connected() -> (Connection, TcpStream) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let (peer, accepted) =
            tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        (Connection::new(accepted.unwrap().0), peer.unwrap())
    }

    /// Sends until the task is aborted.
    fn flood(mut peer: TcpStream) -> tokio::task::JoinHandle<()> {
        tokio::spawn(async move { while peer.write_all(&[0xff; 64 * 1024]).await.is_ok() {} })
    }

    #[tokio::test]
    async fn one_read_takes_at_most_its_share_of_a_flood() {
        let (mut connection, peer) = connected().await;
        let flood = flood(peer);
        let mut largest = 0;
        for _ in 0..100 {
            assert!(connection.ready(true).await.unwrap().readable);
            let mut read = 0;
            assert_eq!(
                connection
                    .read(|octets| {
                        read += octets.len();
                        true
                    })
                    .unwrap(),
                Read::Pause
            );
            largest = largest.max(read);
            yield_now().await;
        }
        assert!(largest > 0 && largest <= READ_SIZE, "{largest}");
        flood.abort();
    }

    #[tokio::test]
    async fn close_ends_in_time_during_a_flood() {
        let (mut connection, peer) = connected().await;
        let flood = flood(peer);
        let start = Instant::now();
        let mut others = 0;
        let (closed, ()) = tokio::join!(connection.close_write_side(), async {
            while start.elapsed() < CLOSE_TIMEOUT / 2 {
                others += 1;
                yield_now().await;
            }
        });
        assert!(!closed, "the peer did not close");
        assert!(others > 1, "other tasks run meanwhile");
        flood.abort();
    }

    #[tokio::test]
    async fn unread_output_is_kept_and_never_encoded_twice() {
        let (mut connection, _peer) = connected().await;
        let mut encoded = 0;
        for _ in 0..10_000 {
            connection
                .write(|output| {
                    encoded += 1;
                    output.resize(OUTPUT_SIZE, 0);
                    true
                })
                .unwrap();
        }
        assert!(connection.has_output());
        // What the buffers of both sockets take, and one more.
        assert!(encoded * OUTPUT_SIZE < 64 * 1024 * 1024, "{encoded} times");
    }
}
