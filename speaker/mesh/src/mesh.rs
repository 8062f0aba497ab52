//! The members of the mesh and the doors of the protocol.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Instant;

use crate::{Config, Identity};

/// A change of membership. Never about the own node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MeshEvent {
    /// The speaker on this node is alive.
    Up(String),
    /// The speaker on this node left, or is silent.
    Down(String),
}

/// Datagrams since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Authentic and taken in.
    pub received: u64,
    /// Sent.
    pub sent: u64,
    /// Too short or with a wrong code: another key, or not ours.
    pub unauthentic: u64,
    /// Authentic, but refused by the protocol.
    pub refused: u64,
}

/// The mesh as one speaker sees it.
pub struct Mesh {
    alive: BTreeSet<String>,
}

impl Mesh {
    /// A mesh of one. `key` authenticates datagrams, the same on every speaker; `seed` decides the random choices.
    pub fn new(_now: Instant, _config: Config, _identity: Identity, _key: &[u8], _seed: u64) -> Self {
        todo!()
    }

    /// Which speakers there should be, by node name, and where. Those that are no members are announced to, now and
    /// again. The own node is skipped. A speaker that is no longer listed stays a member while it is alive.
    pub fn set_peers(&mut self, _now: Instant, _peers: BTreeMap<String, SocketAddr>) {
        todo!()
    }

    /// Takes in a received datagram.
    pub fn handle_datagram(&mut self, _now: Instant, _from: SocketAddr, _datagram: &[u8]) {
        todo!()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, _now: Instant) {
        todo!()
    }

    /// When [`Self::handle_timeout`] must be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        todo!()
    }

    /// The next datagram to send; call until `None` after every other call.
    pub fn poll_transmit(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        todo!()
    }

    /// The next change of membership; call until `None` after every other call.
    pub fn poll_event(&mut self) -> Option<MeshEvent> {
        todo!()
    }

    /// Tells the others that this speaker goes; nothing but sending is left to do after it.
    pub fn leave(&mut self, _now: Instant) {
        todo!()
    }

    /// Nodes with a live speaker, the own one included.
    pub fn alive(&self) -> &BTreeSet<String> {
        &self.alive
    }

    /// Whether [`Self::alive`] can be acted on: every listed speaker was heard of, or
    /// [`Config::settle_after`] has passed since the start.
    pub fn settled(&self, _now: Instant) -> bool {
        todo!()
    }

    /// Datagrams since start.
    pub fn counters(&self) -> Counters {
        todo!()
    }
}
