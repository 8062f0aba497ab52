//! Commands of the coordinator to the task of a peer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fairlead_bgp::{Attributes, CeaseSubcode};
use fairlead_crds::model::config::Peer;
use ipnet::IpNet;

use crate::tasks::command_queue::{CommandReceiver, CommandSender, command_queue};

/// A command to the task of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PeerCommand {
    Announce(IpNet, Arc<Attributes>, Cause),
    Withdraw(IpNet, Cause),
    /// Change parameters. If they need a new session, replace the established one after `delay`.
    Update {
        wanted: Box<Peer>,
        delay: Duration,
    },
    /// Start the session. Its first routes were sent before.
    Start,
    /// Set whether the peer should prefer other paths.
    GracefulShutdown(bool),
    /// Withdraw all routes, send Cease, and end the task.
    Stop(Stop),
}

/// The time at which the EndpointSlice event that caused a change arrived; `None` for another cause.
pub(super) type Cause = Option<Instant>;

/// How to end a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stop {
    /// Of the Cease.
    pub(super) subcode: CeaseSubcode,
    /// Shutdown communication (RFC 9003).
    pub(super) text: String,
    /// True if this process restarts: a peer with graceful restart retains the routes.
    pub(super) restart: bool,
    /// Time for the peer to move traffic to other paths before the routes are withdrawn.
    pub(super) drain: Duration,
}

/// Announce and Withdraw of a prefix have one key: both set what the peer should have, and the session sends
/// the difference to what it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PeerCommandKey {
    Route(IpNet),
    Update,
    Start,
    GracefulShutdown,
    Stop,
}

/// Sends commands to the task of a peer. At most one per prefix is pending, so it never waits.
#[derive(Debug)]
pub(super) struct PeerCommandSender(CommandSender<PeerCommandKey, PeerCommand>);

pub(super) type PeerCommandReceiver = CommandReceiver<PeerCommandKey, PeerCommand>;

pub(super) fn command_channel() -> (PeerCommandSender, PeerCommandReceiver) {
    let (sender, receiver) = command_queue();
    (PeerCommandSender(sender), receiver)
}

impl PeerCommandSender {
    /// Sends an announcement, in the place of a pending command for the prefix. Withdrawals after it may rely
    /// on the route, and the task does not always handle them in the same turn.
    pub(super) fn announce(&self, prefix: IpNet, attributes: Arc<Attributes>, cause: Cause) {
        self.0.send_in_place(PeerCommandKey::Route(prefix), PeerCommand::Announce(prefix, attributes, cause));
    }

    pub(super) fn withdraw(&self, prefix: IpNet, cause: Cause) {
        self.0.send(PeerCommandKey::Route(prefix), PeerCommand::Withdraw(prefix, cause));
    }

    pub(super) fn update(&self, wanted: Box<Peer>, delay: Duration) {
        self.0.send(PeerCommandKey::Update, PeerCommand::Update { wanted, delay });
    }

    pub(super) fn start(&self) {
        self.0.send(PeerCommandKey::Start, PeerCommand::Start);
    }

    pub(super) fn set_graceful_shutdown(&self, graceful_shutdown: bool) {
        let command = PeerCommand::GracefulShutdown(graceful_shutdown);
        self.0.send(PeerCommandKey::GracefulShutdown, command);
    }

    pub(super) fn stop(&self, stop: Stop) {
        self.0.send(PeerCommandKey::Stop, PeerCommand::Stop(stop));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(last: u8) -> IpNet {
        IpNet::new([192, 0, 2, last].into(), 32).unwrap()
    }

    fn received(receiver: &mut PeerCommandReceiver) -> Vec<PeerCommand> {
        std::iter::from_fn(|| receiver.try_recv()).collect()
    }

    #[test]
    fn flapping_prefix_leaves_its_last_command() {
        let (sender, mut receiver) = command_channel();
        let attributes = Arc::new(Attributes::default());
        for _ in 0..1_000 {
            sender.announce(prefix(1), attributes.clone(), None);
            sender.withdraw(prefix(1), None);
        }
        assert_eq!(received(&mut receiver), [PeerCommand::Withdraw(prefix(1), None)]);
    }

    #[test]
    fn replacement_is_announced_before_old_prefix_is_withdrawn() {
        let (sender, mut receiver) = command_channel();
        let attributes = Arc::new(Attributes::default());
        // 1 is replaced by 2, then 2 by 1.
        sender.announce(prefix(2), attributes.clone(), None);
        sender.withdraw(prefix(1), None);
        sender.announce(prefix(1), attributes.clone(), None);
        sender.withdraw(prefix(2), None);
        // 4 is replaced by 3, whose attributes change at once.
        sender.announce(prefix(3), attributes.clone(), None);
        sender.withdraw(prefix(4), None);
        let changed = Arc::new(Attributes { med: Some(1), ..Attributes::default() });
        sender.announce(prefix(3), changed.clone(), None);
        sender.start();
        let stop = Stop {
            subcode: CeaseSubcode::PeerDeconfigured,
            text: "bye".to_owned(),
            restart: false,
            drain: Duration::ZERO,
        };
        sender.stop(stop.clone());
        assert_eq!(
            received(&mut receiver),
            [
                PeerCommand::Announce(prefix(1), attributes, None),
                PeerCommand::Withdraw(prefix(2), None),
                PeerCommand::Announce(prefix(3), changed, None),
                PeerCommand::Withdraw(prefix(4), None),
                PeerCommand::Start,
                PeerCommand::Stop(stop),
            ]
        );
    }
}
