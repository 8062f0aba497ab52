//! The sockets of all sessions: one receiver for each local address and hop mode, one transmitter for each
//! session. A socket that cannot be opened is tried again.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;

use fairlead_bfd::{HopMode, SessionKey, Transmit};
use fairlead_net::bfd::{BfdReceiver, BfdTransmitter};

/// TTL of packets on a link (RFC 5881 §5).
const SINGLE_HOP_TTL: u8 = 255;

/// Identifies a receiver. The interface is that of a link-local address.
type ReceiverKey = (IpAddr, Option<u32>, HopMode);

#[derive(Default)]
pub(super) struct Sockets {
    receivers: Vec<Receiver>,
    sessions: HashMap<NonZeroU32, Session>,
}

pub(super) struct Receiver {
    key: ReceiverKey,
    pub socket: BfdReceiver,
}

/// The sockets of a session.
struct Session {
    key: SessionKey,
    minimum_ttl: u8,
    transmitter: Option<BfdTransmitter>,
    /// The last error, and its text for the operator.
    problem: Option<(Step, io::ErrorKind, Arc<str>)>,
}

/// What failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Receive,
    Transmit,
    Send,
}

impl Sockets {
    /// Opens the sockets of a session, as far as they are not open, and sets its minimum TTL.
    pub(super) fn set(&mut self, session: NonZeroU32, key: SessionKey, minimum_ttl: u8) {
        let transmitter = None;
        let new = || Session { key, minimum_ttl, transmitter, problem: None };
        self.sessions.entry(session).or_insert_with(new).minimum_ttl = minimum_ttl;
        self.open(session);
        self.set_min_ttl(receiver_key(&key));
    }

    /// Closes the sockets of a session.
    pub(super) fn remove(&mut self, session: NonZeroU32) {
        let Some(Session { key, .. }) = self.sessions.remove(&session) else { return };
        let receiver = receiver_key(&key);
        if self.sessions.values().any(|other| receiver_key(&other.key) == receiver) {
            self.set_min_ttl(receiver);
        } else {
            self.receivers.retain(|other| other.key != receiver);
        }
    }

    /// Tries again to open the sockets that could not be opened.
    pub(super) fn retry(&mut self) {
        // Almost always there are none, and nothing is allocated.
        let failed =
            |session: &Session| session.problem.as_ref().is_some_and(|(step, ..)| *step != Step::Send);
        while let Some(id) = self.sessions.iter().find(|(_, s)| failed(s)).map(|(id, _)| *id) {
            if !self.open(id) {
                return;
            }
        }
    }

    pub(super) fn receivers(&mut self) -> impl Iterator<Item = (IpAddr, HopMode, &mut BfdReceiver)> {
        self.receivers.iter_mut().map(|receiver| (receiver.key.0, receiver.key.2, &mut receiver.socket))
    }

    pub(super) fn pollable(&self) -> impl Iterator<Item = &BfdReceiver> {
        self.receivers.iter().map(|receiver| &receiver.socket)
    }

    /// Sends a packet. The problem of the session tells whether that is possible.
    pub(super) fn send(&mut self, transmit: &Transmit) {
        let Some(session) = self.sessions.get_mut(&transmit.session) else { return };
        let Some(transmitter) = &session.transmitter else { return };
        match transmitter.send(&transmit.packet) {
            Ok(()) if matches!(session.problem, Some((Step::Send, ..))) => session.problem = None,
            Ok(()) => {}
            Err(error) => session.fail(Step::Send, &error),
        }
    }

    /// Returns why a session cannot work.
    pub(super) fn problem(&self, session: NonZeroU32) -> Option<Arc<str>> {
        self.sessions.get(&session)?.problem.as_ref().map(|(.., text)| text.clone())
    }

    /// Returns false if a socket cannot be opened.
    fn open(&mut self, id: NonZeroU32) -> bool {
        let Some(session) = self.sessions.get_mut(&id) else { return true };
        let SessionKey { local, remote, hop_mode, interface } = session.key;
        let key = receiver_key(&session.key);
        if !self.receivers.iter().any(|receiver| receiver.key == key) {
            match BfdReceiver::bind(local, interface, hop_mode.port(), SINGLE_HOP_TTL) {
                Ok(socket) => self.receivers.push(Receiver { key, socket }),
                Err(error) => {
                    session.fail(Step::Receive, &error);
                    return false;
                }
            }
        }
        if session.transmitter.is_none() {
            let to = SocketAddr::new(remote, hop_mode.port());
            // The discriminator is random.
            match BfdTransmitter::open(local, to, interface, id.get() as u16) {
                Ok(transmitter) => session.transmitter = Some(transmitter),
                Err(error) => {
                    session.fail(Step::Transmit, &error);
                    return false;
                }
            }
        }
        if session.problem.take().is_some_and(|(step, ..)| step == Step::Receive) {
            self.set_min_ttl(key);
        }
        true
    }

    /// Sets the minimum TTL of a receiver to the lowest of its sessions. The core compares the TTL with that
    /// of the session.
    fn set_min_ttl(&self, key: ReceiverKey) {
        let Some(receiver) = self.receivers.iter().find(|receiver| receiver.key == key) else { return };
        let sessions = self.sessions.values().filter(|session| receiver_key(&session.key) == key);
        let ttl = match key.2 {
            HopMode::Single => SINGLE_HOP_TTL,
            HopMode::Multi => sessions.map(|session| session.minimum_ttl).min().unwrap_or(SINGLE_HOP_TTL),
        };
        if let Err(error) = receiver.socket.set_min_ttl(ttl) {
            tracing::error!(local = %key.0, %error, "cannot set the TTL filter of a BFD socket");
        }
    }
}

impl Session {
    fn fail(&mut self, step: Step, error: &io::Error) {
        let kind = error.kind();
        if self.problem.as_ref().is_some_and(|(s, k, _)| (*s, *k) == (step, kind)) {
            return;
        }
        let SessionKey { local, remote, hop_mode, .. } = self.key;
        let port = hop_mode.port();
        let text = match (step, kind) {
            (Step::Receive, io::ErrorKind::AddrInUse) => format!(
                "UDP port {port} of {local} is in use: another BFD daemon runs on this node; restrict it to other \
                 addresses, or remove bfdProfile from the BGPPeer"
            ),
            (Step::Receive | Step::Transmit, _) => format!("cannot bind UDP port {port} of {local}: {error}"),
            (Step::Send, _) => format!("cannot send BFD packets from {local} to {remote}: {error}"),
        };
        tracing::warn!(%local, %remote, "{text}");
        self.problem = Some((step, kind, text.into()));
    }
}

fn receiver_key(key: &SessionKey) -> ReceiverKey {
    let link_local = matches!(key.local, IpAddr::V6(v6) if v6.is_unicast_link_local());
    (key.local, key.interface.filter(|_| link_local), key.hop_mode)
}
