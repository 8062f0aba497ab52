//! The sessions of a node: demultiplexing (RFC 5880 §6.3), users, timers.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Instant;

use crate::packet::PACKET_LENGTH;
use crate::{ConfigError, Diagnostic, Discard, DiscardCounters, Event, HopMode, SessionConfig, View};

/// Maximum number of sessions. A node has one or a few per router.
pub const MAX_SESSIONS: usize = 1024;
/// Maximum number of users of one session.
pub const MAX_USERS: usize = 64;

/// What identifies a session to its users: there is one session for each key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionKey {
    /// Address of this node.
    pub local: IpAddr,
    /// Address of the peer.
    pub remote: IpAddr,
    #[allow(missing_docs)]
    pub hop_mode: HopMode,
    /// Index of the interface of a single-hop session. Required for a link-local address. If `None`, packets
    /// may arrive on any interface.
    pub interface: Option<u32>,
}

/// A received UDP datagram.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// Destination address.
    pub local: IpAddr,
    /// Source address.
    pub remote: IpAddr,
    /// By the destination port.
    pub hop_mode: HopMode,
    /// Index of the interface on which it arrived.
    pub interface: u32,
    /// TTL or hop limit. If the kernel does not report it, pass 0.
    pub ttl: u8,
    #[allow(missing_docs)]
    pub payload: &'a [u8],
}

/// A packet to send, to the port of [`HopMode::port`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Local discriminator of the session.
    pub session: NonZeroU32,
    #[allow(missing_docs)]
    pub key: SessionKey,
    #[allow(missing_docs)]
    pub packet: [u8; PACKET_LENGTH],
}

/// An event of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableEvent {
    /// An event of a session.
    Session {
        /// Local discriminator of the session.
        session: NonZeroU32,
        #[allow(missing_docs)]
        key: SessionKey,
        #[allow(missing_docs)]
        event: Event,
    },
    /// A session without users announced AdminDown and is gone: the shell closes its socket.
    Removed {
        /// Local discriminator of the session.
        session: NonZeroU32,
        #[allow(missing_docs)]
        key: SessionKey,
    },
}

/// A session that a user cannot join.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    #[allow(missing_docs)]
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[allow(missing_docs)]
    #[error("this node has {MAX_SESSIONS} BFD sessions already")]
    TooManySessions,
    #[allow(missing_docs)]
    #[error("this BFD session has {MAX_USERS} users already")]
    TooManyUsers,
}

/// The users of a session, and whose parameters it runs with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Users {
    /// Names, in alphabetical order.
    pub names: Vec<String>,
    /// The user with the fastest parameters. The session runs with them.
    pub fastest: String,
}

/// All sessions of a node. Sessions are identified by their local discriminator, which is random, unique and
/// never zero.
#[derive(Debug)]
pub struct Sessions {
    discarded: DiscardCounters,
}

impl Sessions {
    /// Creates an empty table. `seed` must be random: discriminators protect sessions from forged packets.
    #[must_use]
    pub fn new(seed: [u8; 32]) -> Self {
        let _ = seed;
        Self { discarded: DiscardCounters::default() }
    }

    // ===== users =====

    /// Adds a user to the session with this key, or replaces the parameters of that user. Creates the session
    /// if there is none. The session runs with the parameters of its fastest user: the shortest time in which
    /// the peer detects a failure (transmit interval × multiplier), then the shortest receive interval. It is
    /// active if any user is. Returns the local discriminator.
    ///
    /// # Errors
    /// The parameters are invalid, or a bound is exceeded. A session that exists does not change.
    pub fn set_user(
        &mut self,
        now: Instant,
        key: SessionKey,
        user: &str,
        config: SessionConfig,
    ) -> Result<NonZeroU32, TableError> {
        let _ = (now, key, user);
        config.validate()?;
        Err(TableError::TooManySessions)
    }

    /// Removes a user. A session without users announces AdminDown, then [`TableEvent::Removed`] follows.
    /// Does nothing if there is no such user.
    pub fn remove_user(&mut self, now: Instant, key: &SessionKey, user: &str) {
        let _ = (now, key, user);
    }

    /// Removes all users of all sessions: a planned stop.
    pub fn shut_down(&mut self, now: Instant) {
        let _ = now;
    }

    // ===== input and output =====

    /// Processes a received datagram. `arrived` is the time at which the kernel received it. Returns the
    /// local discriminator of its session.
    ///
    /// # Errors
    /// The reason to discard it, which is counted.
    pub fn handle_datagram(
        &mut self,
        arrived: Instant,
        datagram: &Datagram<'_>,
    ) -> Result<NonZeroU32, Discard> {
        let _ = (arrived, datagram);
        self.discarded.count(Discard::UnknownSession);
        Err(Discard::UnknownSession)
    }

    /// Processes all timers that expired by `now`, except the transmission of packets. First drain the
    /// sockets of the datagrams that arrived by `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        let _ = now;
    }

    /// Returns when to call [`Sessions::handle_timeout`] and [`Sessions::poll_transmit`] next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// Returns the next packet to send by `now`. Call it until it returns `None`.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Transmit> {
        let _ = now;
        None
    }

    /// Returns the next event, in order of occurrence.
    pub fn poll_event(&mut self) -> Option<TableEvent> {
        None
    }

    /// Takes a session Down with diagnostic 5, Path Down, because its link lost the carrier.
    pub fn carrier_lost(&mut self, now: Instant, key: &SessionKey) {
        let _ = (now, key);
    }

    /// Disables a session that keeps its users, as for maintenance.
    pub fn admin_down(&mut self, now: Instant, key: &SessionKey, diagnostic: Diagnostic) {
        let _ = (now, key, diagnostic);
    }

    /// Enables a session after [`Sessions::admin_down`].
    pub fn admin_up(&mut self, now: Instant, key: &SessionKey) {
        let _ = (now, key);
    }

    // ===== status =====

    /// Returns the local discriminator of the session with this key.
    #[must_use]
    pub fn find(&self, key: &SessionKey) -> Option<NonZeroU32> {
        let _ = key;
        None
    }

    /// Returns a snapshot of a session.
    #[must_use]
    pub fn view(&self, key: &SessionKey) -> Option<View> {
        let _ = key;
        None
    }

    /// Returns the users of a session.
    #[must_use]
    pub fn users(&self, key: &SessionKey) -> Option<Users> {
        let _ = key;
        None
    }

    /// Returns the keys of all sessions, with those that are being removed.
    pub fn keys(&self) -> impl Iterator<Item = SessionKey> + '_ {
        std::iter::empty()
    }

    /// Returns the numbers of packets that were discarded and belong to no session.
    #[must_use]
    pub const fn discarded(&self) -> &DiscardCounters {
        &self.discarded
    }
}
