//! The thread of the BFD sessions.
//!
//! One turn sends the packets that are due, drains the sockets, lets the core handle its timers, handles
//! commands, reports changes, and waits. A turn is bounded, and turns begin at least [`TURN_INTERVAL`] apart:
//! whatever arrives, the thread leaves most of the processor to others, although it has priority over them.
//! While the sessions are Up and nothing changes, a turn allocates nothing.

use std::time::{Duration, Instant};

use fairlead_bfd::{Datagram, Sessions, TableEvent};
use fairlead_net::Scheduling;
use fairlead_net::bfd::{BfdBatch, BfdPoller};
use tokio::sync::oneshot;

use super::sockets::Sockets;
use super::users::Users;
use super::{BfdCommand, BfdCommandReceiver};
use crate::metrics::Metrics;

/// Time between the end of a turn and the next turn. Packets leave late by this time at most, a tenth of the
/// shortest interval. With many sessions, a turn handles the packets of several.
const TURN_INTERVAL: Duration = Duration::from_millis(1);

/// Batches of datagrams that a turn reads from one socket, 16 datagrams each.
const MAX_BATCHES_PER_TURN: usize = 16;

/// Time between two updates of the metrics, and two attempts to open a socket.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(1);

pub(super) struct BfdThread {
    commands: BfdCommandReceiver,
    poller: BfdPoller,
    batch: BfdBatch,
    sessions: Sessions,
    sockets: Sockets,
    users: Users,
    /// The time until which the timers of the core were handled.
    handled_until: Instant,
    next_housekeeping: Instant,
    /// Set while the thread announces that it ends.
    stopping: Option<oneshot::Sender<()>>,
}

impl BfdThread {
    /// Raises the priority of the calling thread.
    pub(super) fn new(commands: BfdCommandReceiver, poller: BfdPoller, metrics: Metrics) -> Self {
        let scheduling = Scheduling::raise();
        if scheduling != Scheduling::Fifo {
            tracing::info!(
                %scheduling,
                "the BFD thread runs without SCHED_FIFO; grant CAP_SYS_NICE for short detection times on busy nodes"
            );
        }
        let now = Instant::now();
        Self {
            commands,
            poller,
            batch: BfdBatch::new(),
            sessions: Sessions::new(rand::random()),
            sockets: Sockets::default(),
            users: Users::new(metrics, scheduling),
            handled_until: now,
            next_housekeeping: now,
            stopping: None,
        }
    }

    /// Runs turns until [`BfdCommand::ShutDown`] is carried out.
    pub(super) fn run(mut self) {
        loop {
            self.transmit(Instant::now());
            let now = self.receive();
            self.sessions.handle_timeout(now);
            self.transmit(Instant::now());
            let mut changed = self.handle_events();
            changed |= self.handle_commands();
            if self.stopping.is_some() && self.sessions.keys().next().is_none() {
                // The error is that the caller waits no longer.
                let _ = self.stopping.take().map(|done| done.send(()));
                return;
            }
            self.housekeep(changed);
            if let Err(error) = self.wait() {
                tracing::error!(%error, "cannot wait for BFD packets");
            }
        }
    }

    fn transmit(&mut self, now: Instant) {
        while let Some(transmit) = self.sessions.poll_transmit(now) {
            self.sockets.send(&transmit);
        }
    }

    /// Reads what arrived. Returns the time until which everything that arrived was read, for the timers: a
    /// packet that waits in a queue is not lost.
    fn receive(&mut self) -> Instant {
        let mut until = Instant::now();
        for (local, hop_mode, socket) in self.sockets.receivers() {
            for round in 1..=MAX_BATCHES_PER_TURN {
                let more = match socket.receive(&mut self.batch) {
                    Ok(more) => more,
                    Err(error) => {
                        tracing::debug!(%local, %error, "cannot receive BFD packets");
                        break;
                    }
                };
                for datagram in self.batch.datagrams() {
                    let arrived = datagram.arrived;
                    let datagram = Datagram {
                        local,
                        remote: datagram.source,
                        hop_mode,
                        interface: datagram.interface,
                        ttl: datagram.ttl,
                        payload: datagram.payload,
                    };
                    // The core counts the packets that it discards.
                    let _ = self.sessions.handle_datagram(arrived, &datagram);
                    if more && round == MAX_BATCHES_PER_TURN {
                        until = until.min(arrived);
                    }
                }
                if !more {
                    break;
                }
            }
        }
        self.handled_until = self.handled_until.max(until);
        self.handled_until
    }

    /// Returns whether there was an event.
    fn handle_events(&mut self) -> bool {
        let mut any = false;
        while let Some(event) = self.sessions.poll_event() {
            any = true;
            if let TableEvent::Removed { session, .. } = event {
                self.sockets.remove(session);
            }
            self.users.handle_event(&event);
        }
        any
    }

    /// Returns whether there was a command.
    fn handle_commands(&mut self) -> bool {
        let mut any = false;
        while let Some(command) = self.commands.try_recv() {
            any = true;
            self.handle_command(command);
        }
        any
    }

    fn handle_command(&mut self, command: BfdCommand) {
        let now = Instant::now();
        match command {
            // A task that did not yet learn of the shutdown.
            BfdCommand::Set { .. } if self.stopping.is_some() => {}
            BfdCommand::Set { user, key, config, reports } => {
                if let Some(before) = self.users.key(&user).filter(|before| *before != key) {
                    self.sessions.remove_user(now, &before, &user);
                    self.users.update_sharing(&before, &self.sessions);
                }
                let session = self.sessions.set_user(now, key, &user, config);
                if let (Ok(session), Some(view)) = (&session, self.sessions.view(&key)) {
                    self.sockets.set(*session, key, view.config.minimum_ttl);
                }
                self.users.set(user, key, session.map_err(|error| error.to_string()), reports);
                self.users.update_sharing(&key, &self.sessions);
            }
            BfdCommand::Remove { user } => {
                if let Some(key) = self.users.remove(&user) {
                    self.sessions.remove_user(now, &key, &user);
                    self.users.update_sharing(&key, &self.sessions);
                }
            }
            BfdCommand::CarrierLost(key) => self.sessions.carrier_lost(now, &key),
            BfdCommand::ShutDown { done } => {
                self.stopping = Some(done);
                self.users.clear();
                self.sessions.shut_down(now);
            }
        }
    }

    fn housekeep(&mut self, changed: bool) {
        let now = Instant::now();
        let due = now >= self.next_housekeeping;
        if due {
            self.next_housekeeping = now + HOUSEKEEPING_INTERVAL;
            self.sockets.retry();
        }
        if due || changed {
            self.users.report(&self.sessions, &self.sockets);
        }
    }

    fn wait(&mut self) -> std::io::Result<()> {
        std::thread::sleep(TURN_INTERVAL);
        let mut deadline = self.sessions.poll_timeout();
        if !self.users.is_empty() {
            deadline = [deadline, Some(self.next_housekeeping)].into_iter().flatten().min();
        }
        let timeout = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        self.poller.wait(self.sockets.pollable(), timeout)
    }
}
