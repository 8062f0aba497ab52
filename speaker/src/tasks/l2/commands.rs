//! Commands of the coordinator to the L2 task.

use std::net::IpAddr;

use fairlead_l2::InterfaceSet;

use crate::tasks::command_queue::{CommandReceiver, CommandSender, command_queue};

/// A command to the L2 task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum L2Command {
    Announce {
        address: IpAddr,
        interfaces: InterfaceSet,
    },
    Withdraw {
        address: IpAddr,
        /// Another live node takes the address: keep answering until it has announced.
        handover: bool,
    },
    AnnounceAllAgain,
    HandOverAll,
    /// Only answer; announce and defend nothing, and yield what others announce.
    SetQuiet(bool),
}

/// Announce and Withdraw have keys of their own: an Announce does not replace a pending Withdraw, after which
/// the neighbors need a new announcement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum L2CommandKey {
    Announce(IpAddr),
    Withdraw(IpAddr),
    AnnounceAllAgain,
    HandOverAll,
    SetQuiet,
}

/// Addresses that the L2 task withdrew because other hosts announce them: each once, so the announced
/// addresses bound the queue.
pub(crate) type YieldedSender = CommandSender<IpAddr, IpAddr>;
pub(crate) type YieldedReceiver = CommandReceiver<IpAddr, IpAddr>;

/// Sends commands to the L2 task. At most two per address are pending, so it never waits.
#[derive(Debug)]
pub(crate) struct L2CommandSender(CommandSender<L2CommandKey, L2Command>);

pub(crate) type L2CommandReceiver = CommandReceiver<L2CommandKey, L2Command>;

/// Creates the queue of commands.
pub(crate) fn command_channel() -> (L2CommandSender, L2CommandReceiver) {
    let (sender, receiver) = command_queue();
    (L2CommandSender(sender), receiver)
}

/// Creates the queue of addresses that the L2 task withdrew.
pub(crate) fn yielded_channel() -> (YieldedSender, YieldedReceiver) {
    command_queue()
}

impl L2CommandSender {
    /// Answers for an address from now on, on these interfaces.
    pub(crate) fn announce(&self, address: IpAddr, interfaces: InterfaceSet) {
        self.0.send(L2CommandKey::Announce(address), L2Command::Announce { address, interfaces });
    }

    /// Stops answering for an address: at once, or by a handover to another node.
    pub(crate) fn withdraw(&self, address: IpAddr, handover: bool) {
        self.0.cancel(&L2CommandKey::Announce(address));
        self.0.send(L2CommandKey::Withdraw(address), L2Command::Withdraw { address, handover });
    }

    /// Announces every address again that is not being handed over.
    pub(crate) fn announce_all_again(&self) {
        self.0.send(L2CommandKey::AnnounceAllAgain, L2Command::AnnounceAllAgain);
    }

    /// Sets whether this node only answers, announces and defends nothing, and yields what others announce.
    pub(crate) fn set_quiet(&self, quiet: bool) {
        self.0.send(L2CommandKey::SetQuiet, L2Command::SetQuiet(quiet));
    }

    /// Hands every address over to other nodes, because this speaker stops.
    pub(crate) fn hand_over_all(&self) {
        self.0.send(L2CommandKey::HandOverAll, L2Command::HandOverAll);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    fn announce(last: u8) -> L2Command {
        L2Command::Announce { address: ip(last), interfaces: InterfaceSet::All }
    }

    fn withdraw(last: u8, handover: bool) -> L2Command {
        L2Command::Withdraw { address: ip(last), handover }
    }

    fn received(receiver: &mut L2CommandReceiver) -> Vec<L2Command> {
        std::iter::from_fn(|| receiver.try_recv()).collect()
    }

    #[test]
    fn flapping_address_leaves_two_commands() {
        let (sender, mut receiver) = command_channel();
        for _ in 0..1_000 {
            sender.withdraw(ip(1), false);
            sender.announce(ip(1), InterfaceSet::All);
        }
        assert_eq!(received(&mut receiver), [withdraw(1, false), announce(1)]);
        for _ in 0..1_000 {
            sender.announce(ip(1), InterfaceSet::All);
            sender.withdraw(ip(1), true);
        }
        assert_eq!(received(&mut receiver), [withdraw(1, true)]);
    }

    #[test]
    fn commands_of_different_addresses_keep_their_order() {
        let (sender, mut receiver) = command_channel();
        sender.withdraw(ip(1), false);
        sender.announce(ip(2), InterfaceSet::All);
        sender.announce_all_again();
        sender.announce(ip(1), InterfaceSet::All);
        sender.withdraw(ip(2), true);
        sender.announce_all_again();
        assert_eq!(
            received(&mut receiver),
            [withdraw(1, false), announce(1), withdraw(2, true), L2Command::AnnounceAllAgain]
        );
    }
}
