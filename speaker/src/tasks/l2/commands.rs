//! Commands of the coordinator to the L2 task.

use std::collections::BTreeSet;
use std::net::IpAddr;

use fairlead_l2::{Claim, Conflict, InterfaceSet, Mac};

use crate::tasks::command_queue::{CommandReceiver, CommandSender, command_queue};

/// A command to the L2 task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum L2Command {
    Announce {
        address: IpAddr,
        interfaces: InterfaceSet,
        claim: Claim,
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
    /// The link-layer addresses of the speakers of other nodes.
    SetSpeakerMacs(BTreeSet<Mac>),
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
    SetSpeakerMacs,
}

/// What the L2 task tells the coordinator about an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum L2Report {
    /// It withdrew the address because another host announces it while this node is quiet.
    Yielded(IpAddr),
    /// It probed the address, and announces it because no other host has it.
    Confirmed(IpAddr),
    /// Another host uses the address.
    Conflict(Conflict),
}

impl L2Report {
    fn address(&self) -> IpAddr {
        match self {
            Self::Yielded(address) | Self::Confirmed(address) => *address,
            Self::Conflict(conflict) => conflict.address,
        }
    }
}

/// The last report of each address, so the announced addresses bound the queue.
#[derive(Debug)]
pub(crate) struct L2ReportSender(CommandSender<IpAddr, L2Report>);
pub(crate) type L2ReportReceiver = CommandReceiver<IpAddr, L2Report>;

impl L2ReportSender {
    /// Sends a report, in place of one about the same address that was not handled yet.
    pub(crate) fn send(&self, report: L2Report) {
        self.0.send(report.address(), report);
    }
}

/// Sends commands to the L2 task. At most two per address are pending, so it never waits.
#[derive(Debug)]
pub(crate) struct L2CommandSender(CommandSender<L2CommandKey, L2Command>);

pub(crate) type L2CommandReceiver = CommandReceiver<L2CommandKey, L2Command>;

/// Creates the queue of commands.
pub(crate) fn command_channel() -> (L2CommandSender, L2CommandReceiver) {
    let (sender, receiver) = command_queue();
    (L2CommandSender(sender), receiver)
}

/// Creates the queue of reports.
pub(crate) fn report_channel() -> (L2ReportSender, L2ReportReceiver) {
    let (sender, receiver) = command_queue();
    (L2ReportSender(sender), receiver)
}

impl L2CommandSender {
    /// Answers for an address from now on, on these interfaces, once it was probed if the claim says so.
    pub(crate) fn announce(&self, address: IpAddr, interfaces: InterfaceSet, claim: Claim) {
        self.0.send(L2CommandKey::Announce(address), L2Command::Announce { address, interfaces, claim });
    }

    /// Replaces the link-layer addresses of the speakers of other nodes.
    pub(crate) fn set_speaker_macs(&self, macs: BTreeSet<Mac>) {
        self.0.send(L2CommandKey::SetSpeakerMacs, L2Command::SetSpeakerMacs(macs));
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
        L2Command::Announce { address: ip(last), interfaces: InterfaceSet::All, claim: Claim::default() }
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
            sender.announce(ip(1), InterfaceSet::All, Claim::default());
        }
        assert_eq!(received(&mut receiver), [withdraw(1, false), announce(1)]);
        for _ in 0..1_000 {
            sender.announce(ip(1), InterfaceSet::All, Claim::default());
            sender.withdraw(ip(1), true);
        }
        assert_eq!(received(&mut receiver), [withdraw(1, true)]);
    }

    #[test]
    fn commands_of_different_addresses_keep_their_order() {
        let (sender, mut receiver) = command_channel();
        sender.withdraw(ip(1), false);
        sender.announce(ip(2), InterfaceSet::All, Claim::default());
        sender.announce_all_again();
        sender.announce(ip(1), InterfaceSet::All, Claim::default());
        sender.withdraw(ip(2), true);
        sender.announce_all_again();
        assert_eq!(
            received(&mut receiver),
            [withdraw(1, false), announce(1), withdraw(2, true), L2Command::AnnounceAllAgain]
        );
    }
}
