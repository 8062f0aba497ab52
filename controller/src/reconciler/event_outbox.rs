//! Events held back until status writes have drained.

use std::sync::Arc;

use kube::Client;

use crate::events::{ControllerEvent, EventSender};

/// The events of the current turn and their sender.
pub(super) struct EventOutbox {
    client: Client,
    /// Name of this process in Events.
    instance: Arc<str>,
    sender: EventSender,
    /// Empty between two turns: bounded by the number of objects that a turn decides on.
    pending: Vec<ControllerEvent>,
}

impl EventOutbox {
    pub(super) fn new(client: Client, instance: Arc<str>) -> Self {
        let sender = EventSender::start(client.clone(), Arc::clone(&instance));
        Self { client, instance, sender, pending: Vec::new() }
    }

    /// Adds an event to the current turn.
    pub(super) fn push(&mut self, event: ControllerEvent) {
        self.pending.push(event);
    }

    /// Hands the events of the turn to the sender, which holds them back if `hold` is true. Returns how many
    /// events were dropped because its queue is full.
    pub(super) fn publish(&mut self, hold: bool) -> usize {
        self.sender.set_hold(hold);
        let mut dropped = 0;
        for event in self.pending.drain(..) {
            dropped += usize::from(!self.sender.send(event));
        }
        dropped
    }

    /// Drops all events at the end of a term: they may describe writes that were not made.
    pub(super) fn discard(&mut self) {
        self.pending.clear();
        // A closed sender that holds its events back discards them.
        self.sender.set_hold(true);
        self.sender = EventSender::start(self.client.clone(), self.instance.clone());
    }
}
