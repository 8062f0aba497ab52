//! The sessions of a node: demultiplexing (RFC 5880 §6.3), users, timers.
//!
//! A session has a slot. Deadlines of all slots are kept in heaps, so that the cost of a packet does not
//! depend on the number of sessions beyond its logarithm.

mod deadlines;
mod users;

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

pub use users::Users;

use crate::{
    ConfigError, ControlPacket, Diagnostic, Discard, DiscardCounters, Event, HopMode, PACKET_LENGTH, Session,
    SessionConfig, View,
};
use deadlines::Deadlines;
use users::Requests;

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

/// All sessions of a node. Sessions are identified by their local discriminator, which is random, unique and
/// never zero.
#[derive(Debug)]
pub struct Sessions {
    random: StdRng,
    /// Sessions; `None` in a free slot.
    slots: Vec<Option<Entry>>,
    by_discriminator: HashMap<NonZeroU32, usize>,
    by_key: HashMap<SessionKey, usize>,
    /// When each session has a packet to send.
    transmissions: Deadlines,
    /// When a timer of each session expires.
    timeouts: Deadlines,
    events: VecDeque<TableEvent>,
    /// Packets that belong to no session.
    discarded: DiscardCounters,
}

/// A session of the table.
#[derive(Debug)]
struct Entry {
    key: SessionKey,
    session: Session,
    requests: Requests,
    /// True if the operator disabled the session; its users remain.
    disabled: bool,
}

impl Sessions {
    /// Creates an empty table. `seed` must be random: discriminators protect sessions from forged packets.
    #[must_use]
    pub fn new(seed: [u8; 32]) -> Self {
        Self {
            random: StdRng::from_seed(seed),
            slots: Vec::new(),
            by_discriminator: HashMap::new(),
            by_key: HashMap::new(),
            transmissions: Deadlines::default(),
            timeouts: Deadlines::default(),
            events: VecDeque::new(),
            discarded: DiscardCounters::default(),
        }
    }

    // ===== users =====

    /// Adds a user to the session with this key, or replaces the parameters of that user. Creates the session
    /// if there is none. The session runs with the parameters of its fastest user: the shortest time in which
    /// the peer detects a failure (transmit interval × multiplier), then the shortest receive interval. It is
    /// active if any user is. Multihop sessions never receive Echo packets. Returns the local discriminator.
    ///
    /// # Errors
    /// The parameters are invalid, or a bound is exceeded. A session that exists does not change.
    pub fn set_user(
        &mut self,
        now: Instant,
        key: SessionKey,
        user: &str,
        mut config: SessionConfig,
    ) -> Result<NonZeroU32, TableError> {
        if key.hop_mode == HopMode::Multi {
            // RFC 5883 §3: the Echo function is for a single hop.
            config.required_min_echo_rx = Duration::ZERO;
        }
        config.validate()?;
        if let Some(&slot) = self.by_key.get(&key) {
            self.with(now, slot, |entry| entry.requests.set(user, config)).unwrap_or(Ok(()))?;
            return self.discriminator(slot).ok_or(TableError::TooManySessions);
        }
        if self.by_key.len() >= MAX_SESSIONS {
            return Err(TableError::TooManySessions);
        }
        let mut requests = Requests::default();
        requests.set(user, config)?;
        let discriminator = self.free_discriminator();
        let session = Session::new(config, discriminator, now, self.random.next_u64())?;
        let slot = self.slots.iter().position(Option::is_none).unwrap_or(self.slots.len());
        if slot == self.slots.len() {
            self.slots.push(None);
        }
        self.slots[slot] = Some(Entry { key, session, requests, disabled: false });
        self.by_discriminator.insert(discriminator, slot);
        self.by_key.insert(key, slot);
        self.update(slot);
        Ok(discriminator)
    }

    /// Removes a user. A session without users announces AdminDown, then [`TableEvent::Removed`] follows.
    /// Does nothing if there is no such user.
    pub fn remove_user(&mut self, now: Instant, key: &SessionKey, user: &str) {
        self.with_key(now, key, |entry| {
            entry.requests.remove(user);
        });
    }

    /// Removes all users of all sessions: a planned stop.
    pub fn shut_down(&mut self, now: Instant) {
        for slot in 0..self.slots.len() {
            self.with(now, slot, |entry| entry.requests.clear());
        }
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
        let found = ControlPacket::decode(datagram.payload).and_then(|packet| {
            let slot = self.select(datagram, &packet).ok_or_else(|| {
                self.handle_stale_packet(arrived, datagram);
                Discard::UnknownSession
            })?;
            Ok((slot, packet))
        });
        let (slot, packet) = found.inspect_err(|reason| self.discarded.count(*reason))?;
        let entry = self.slots[slot].as_mut().ok_or(Discard::UnknownSession)?;
        if datagram.ttl < entry.minimum_ttl() {
            entry.session.count_discard(Discard::TtlTooLow);
            return Err(Discard::TtlTooLow);
        }
        let result = entry.session.handle_packet(arrived, &packet);
        let discriminator = entry.session.local_discriminator();
        self.update(slot);
        result.map(|()| discriminator)
    }

    /// Processes all timers that expired by `now`, except the transmission of packets. First drain the
    /// sockets of the datagrams that arrived by `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((_, slot)) = self.timeouts.first().filter(|(at, _)| *at <= now) {
            if let Some(entry) = &mut self.slots[slot] {
                entry.session.handle_timeout(now);
            }
            self.update(slot);
        }
    }

    /// Returns when to call [`Sessions::handle_timeout`] and [`Sessions::poll_transmit`] next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.transmissions.first(), self.timeouts.first()].into_iter().flatten().map(|(at, _)| at).min()
    }

    /// Returns the next packet to send by `now`. Call it until it returns `None`.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Transmit> {
        let (_, slot) = self.transmissions.first().filter(|(at, _)| *at <= now)?;
        let entry = self.slots[slot].as_mut()?;
        let transmit = entry.session.poll_transmit(now).map(|packet| Transmit {
            session: entry.session.local_discriminator(),
            key: entry.key,
            packet,
        });
        self.update(slot);
        transmit
    }

    /// Returns the next event, in order of occurrence. Poll after each input, so that few events queue up.
    pub fn poll_event(&mut self) -> Option<TableEvent> {
        self.events.pop_front()
    }

    // ===== control =====

    /// Takes a session Down with diagnostic 5, Path Down, because its link lost the carrier.
    pub fn carrier_lost(&mut self, now: Instant, key: &SessionKey) {
        self.with_key(now, key, |entry| entry.session.carrier_lost(now));
    }

    /// Disables a session that keeps its users, as for maintenance.
    pub fn admin_down(&mut self, now: Instant, key: &SessionKey) {
        self.with_key(now, key, |entry| entry.disabled = true);
    }

    /// Enables a session after [`Sessions::admin_down`].
    pub fn admin_up(&mut self, now: Instant, key: &SessionKey) {
        self.with_key(now, key, |entry| entry.disabled = false);
    }

    // ===== status =====

    /// Returns the local discriminator of the session with this key.
    #[must_use]
    pub fn find(&self, key: &SessionKey) -> Option<NonZeroU32> {
        self.discriminator(*self.by_key.get(key)?)
    }

    /// Returns a snapshot of a session.
    #[must_use]
    pub fn view(&self, key: &SessionKey) -> Option<View> {
        Some(self.entry(key)?.session.view())
    }

    /// Returns the users of a session; `None` if it is being removed.
    #[must_use]
    pub fn users(&self, key: &SessionKey) -> Option<Users> {
        self.entry(key)?.requests.users()
    }

    /// Returns the keys of all sessions, with those that are being removed, in no particular order.
    pub fn keys(&self) -> impl Iterator<Item = SessionKey> + '_ {
        self.by_key.keys().copied()
    }

    /// Returns the numbers of packets that were discarded and belong to no session.
    #[must_use]
    pub const fn discarded(&self) -> &DiscardCounters {
        &self.discarded
    }

    // ===== internal =====

    fn entry(&self, key: &SessionKey) -> Option<&Entry> {
        self.slots[*self.by_key.get(key)?].as_ref()
    }

    fn discriminator(&self, slot: usize) -> Option<NonZeroU32> {
        self.slots[slot].as_ref().map(|entry| entry.session.local_discriminator())
    }

    /// RFC 5880 §6.8.1: random, for security, and unique.
    fn free_discriminator(&mut self) -> NonZeroU32 {
        loop {
            if let Some(discriminator) = NonZeroU32::new(self.random.next_u32())
                && !self.by_discriminator.contains_key(&discriminator)
            {
                return discriminator;
            }
        }
    }

    /// Selects the session of a packet (RFC 5880 §6.8.6). By Your Discriminator, the source address may
    /// differ from that of the session (RFC 5880 §6.3), but not the encapsulation, the local address and a
    /// configured interface (RFC 5881 §3).
    fn select(&self, datagram: &Datagram<'_>, packet: &ControlPacket) -> Option<usize> {
        if let Some(discriminator) = packet.your_discriminator {
            let slot = *self.by_discriminator.get(&discriminator)?;
            let key = self.slots[slot].as_ref()?.key;
            let matches = key.hop_mode == datagram.hop_mode
                && key.local == datagram.local
                && key.interface.is_none_or(|interface| interface == datagram.interface);
            return matches.then_some(slot);
        }
        self.slot_of_addresses(datagram)
    }

    fn slot_of_addresses(&self, datagram: &Datagram<'_>) -> Option<usize> {
        let key = |interface| SessionKey {
            local: datagram.local,
            remote: datagram.remote,
            hop_mode: datagram.hop_mode,
            interface,
        };
        let found = [Some(datagram.interface), None].into_iter().find_map(|i| self.by_key.get(&key(i)));
        found.copied()
    }

    /// Processes a packet whose Your Discriminator is that of no session.
    fn handle_stale_packet(&mut self, arrived: Instant, datagram: &Datagram<'_>) {
        let Some(slot) = self.slot_of_addresses(datagram) else { return };
        if let Some(entry) = self.slots[slot].as_mut().filter(|entry| datagram.ttl >= entry.minimum_ttl()) {
            entry.session.handle_stale_packet(arrived);
            self.update(slot);
        }
    }

    fn with_key<T>(
        &mut self,
        now: Instant,
        key: &SessionKey,
        change: impl FnOnce(&mut Entry) -> T,
    ) -> Option<T> {
        let slot = *self.by_key.get(key)?;
        self.with(now, slot, change)
    }

    /// Changes an entry, and adapts its session to its users.
    fn with<T>(&mut self, now: Instant, slot: usize, change: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        let entry = self.slots[slot].as_mut()?;
        let result = change(entry);
        entry.apply(now);
        self.update(slot);
        Some(result)
    }

    /// Collects the events of a session, and its deadlines. Removes it if it has no users and has announced
    /// so.
    fn update(&mut self, slot: usize) {
        let Some(entry) = &mut self.slots[slot] else { return };
        let (key, session) = (entry.key, entry.session.local_discriminator());
        while let Some(event) = entry.session.poll_event() {
            self.events.push_back(TableEvent::Session { session, key, event });
        }
        if entry.requests.is_empty() && entry.session.admin_down_announced() {
            self.slots[slot] = None;
            self.by_discriminator.remove(&session);
            self.by_key.remove(&key);
            self.transmissions.set(slot, None);
            self.timeouts.set(slot, None);
            self.events.push_back(TableEvent::Removed { session, key });
        } else {
            self.transmissions.set(slot, entry.session.transmit_at());
            self.timeouts.set(slot, entry.session.expires_at());
        }
    }
}

impl Entry {
    /// Minimum TTL of received packets.
    fn minimum_ttl(&self) -> u8 {
        match self.key.hop_mode {
            // RFC 5881 §5.
            HopMode::Single => 255,
            HopMode::Multi => self.session.config().minimum_ttl,
        }
    }

    /// Adapts the session to its users.
    fn apply(&mut self, now: Instant) {
        let config = self.requests.config();
        if let Some(config) = config {
            // Each request was checked before, and the parameters are those of one of them.
            let _ = self.session.set_config(now, config);
        }
        if config.is_none() || self.disabled {
            self.session.admin_down(now, Diagnostic::ADMINISTRATIVELY_DOWN);
        } else {
            self.session.admin_up(now);
        }
    }
}
