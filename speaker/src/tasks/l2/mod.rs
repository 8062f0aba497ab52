//! The L2 task: drives the responder for ARP and NDP, with one task per interface for its sockets.

mod commands;
mod interface_task;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use fairlead_l2::{
    Conflict, GroupEvent, Interface, Mac, NdpPacket, Responder, ServedFamilies, Transmit, Yielded,
};
use fairlead_net::links::{Link, Links};

pub(crate) use commands::{
    L2CommandSender, L2Report, L2ReportReceiver, L2ReportSender, command_channel, report_channel,
};

use crate::excluded_interfaces::ExcludedInterfaces;
use crate::metrics::{L2CountersByAddress, Metrics};
use crate::tasks::links::LinksReceiver;
use crate::tasks::sleep_until_or_forever;
use commands::{L2Command, L2CommandReceiver};
use interface_task::{Frame, FrameSender, InterfaceHandle, TransmitFrame};

/// Time between two updates of the metrics while there is traffic. At rest there are none.
const METRICS_INTERVAL: Duration = Duration::from_secs(1);

/// Parameters and channels of the task.
pub(crate) struct L2Task {
    pub commands: L2CommandReceiver,
    pub reports: L2ReportSender,
    pub links: LinksReceiver,
    pub excluded_interfaces: ExcludedInterfaces,
    pub metrics: Metrics,
}

/// Returns the links that L2 announcements can use.
pub(crate) fn usable<'a>(
    links: &'a Links,
    excluded: &'a ExcludedInterfaces,
) -> impl Iterator<Item = &'a Link> {
    links.announcing().filter(|link| !excluded.matches(link))
}

impl L2Task {
    /// Runs until the sender of commands is dropped.
    pub(crate) async fn run(mut self) {
        let (frame_sender, mut frames) = FrameSender::channel();
        let mut responder = Responder::new();
        responder.set_nonce(rand::random());
        let mut state = L2State {
            responder,
            interfaces: BTreeMap::new(),
            frames: frame_sender,
            reports: self.reports,
            excluded_interfaces: self.excluded_interfaces.clone(),
        };
        let mut counted = L2CountersByAddress::default();
        let mut metrics_due: Option<Instant> = None;
        loop {
            let now = Instant::now();
            state.responder.handle_timeout(now);
            state.handle_output();
            if metrics_due.is_some_and(|due| due <= now) {
                metrics_due = None;
                self.metrics.count_l2(&mut counted, state.responder.announced());
            }
            let deadline = [state.responder.poll_timeout(), metrics_due].into_iter().flatten().min();
            tokio::select! {
                // Frames come last: an address that is to be handed over must not be defended any more
                // because the announcement of its new owner was read before the command.
                biased;
                command = self.commands.recv() => {
                    let Some(command) = command else { return };
                    let now = Instant::now();
                    state.handle_command(now, command);
                    while let Some(command) = self.commands.try_recv() {
                        state.handle_command(now, command);
                    }
                    metrics_due.get_or_insert(now + METRICS_INTERVAL);
                }
                changed = self.links.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let links = self.links.borrow_and_update().clone();
                    state.set_links(Instant::now(), &links);
                    metrics_due.get_or_insert(now + METRICS_INTERVAL);
                }
                () = sleep_until_or_forever(deadline) => {}
                frame = frames.recv() => {
                    // Never `None`: `state` has a sender.
                    if let Some(received) = frame {
                        let now = Instant::now();
                        state.handle_frame(now, received.ifindex, &received.frame);
                        metrics_due.get_or_insert(now + METRICS_INTERVAL);
                    }
                }
            }
        }
    }
}

struct L2State {
    responder: Responder,
    /// The usable interfaces, by index.
    interfaces: BTreeMap<u32, (Interface, InterfaceHandle)>,
    frames: FrameSender,
    reports: L2ReportSender,
    excluded_interfaces: ExcludedInterfaces,
}

impl L2State {
    fn handle_command(&mut self, now: Instant, command: L2Command) {
        match command {
            L2Command::Announce { address, interfaces, claim } => {
                let probe = claim.probe;
                tracing::info!(%address, %interfaces, probe, "announcing address");
                self.responder.claim(now, address, interfaces, claim);
            }
            L2Command::Withdraw { address, handover: true } => {
                tracing::info!(%address, "handing address over to another node");
                self.responder.hand_over(now, address);
            }
            L2Command::Withdraw { address, handover: false } => {
                // Logged already if the address was yielded.
                if self.responder.answers_for(address) {
                    tracing::info!(%address, "withdrawing address");
                }
                self.responder.withdraw(address);
            }
            L2Command::AnnounceAllAgain => self.responder.announce_all_again(now),
            L2Command::SetQuiet(quiet) => self.responder.set_quiet(quiet),
            L2Command::SetSpeakerMacs(macs) => self.responder.set_speaker_macs(now, macs),
            L2Command::HandOverAll => self.responder.hand_over_all(now),
        }
    }

    fn handle_frame(&mut self, now: Instant, ifindex: u32, frame: &Frame) {
        match frame {
            Frame::Arp(frame) => self.responder.handle_arp(now, ifindex, frame),
            Frame::Ndp { source, destination, hop_limit, message } => {
                let packet =
                    NdpPacket { source: *source, destination: *destination, hop_limit: *hop_limit, message };
                self.responder.handle_ndp(now, ifindex, packet);
            }
        }
    }

    /// Passes the output of the responder to the tasks of the interfaces and to the coordinator.
    fn handle_output(&mut self) {
        while let Some(Yielded { address, claimant }) = self.responder.poll_yielded() {
            tracing::warn!(
                %address,
                claimant = mac_text(claimant),
                "another host announces an address of this node while no other speaker answers: withdrawing the \
                 address until one answers"
            );
            self.reports.send(L2Report::Yielded(address));
        }
        while let Some(address) = self.responder.poll_confirmed() {
            tracing::debug!(%address, "no other host uses the address");
            self.reports.send(L2Report::Confirmed(address));
        }
        while let Some(conflict) = self.responder.poll_conflict() {
            let Conflict { address, claimant, interface, is_left } = &conflict;
            tracing::warn!(
                %address,
                claimant = claimant.map(mac_text),
                %interface,
                announced = !is_left,
                "another host on the link uses an address of this node; find the host with this Ethernet \
                 address, and remove the address from it"
            );
            self.reports.send(L2Report::Conflict(conflict));
        }
        while let Some(event) = self.responder.poll_event() {
            match event {
                GroupEvent::Join { ifindex, group } => {
                    self.with_interface(ifindex, |interface| interface.join(group));
                }
                GroupEvent::Leave { ifindex, group } => {
                    self.with_interface(ifindex, |interface| interface.leave(group));
                }
            }
        }
        while let Some(transmit) = self.responder.poll_transmit() {
            let (ifindex, frame) = match transmit {
                Transmit::Arp { ifindex, frame } => (ifindex, TransmitFrame::Arp(frame)),
                Transmit::Ndp { ifindex, destination, message } => {
                    (ifindex, TransmitFrame::Ndp(destination, message))
                }
            };
            self.with_interface(ifindex, |interface| interface.transmit(frame));
        }
    }

    fn with_interface(&self, ifindex: u32, action: impl FnOnce(&InterfaceHandle)) {
        if let Some((_, interface)) = self.interfaces.get(&ifindex) {
            action(interface);
        }
    }

    fn set_links(&mut self, now: Instant, links: &Links) {
        let usable: BTreeMap<u32, Interface> = usable(links, &self.excluded_interfaces)
            .filter_map(|link| Some((link.index, interface(link)?)))
            .collect();
        self.responder.set_own_macs(links.by_index.values().filter_map(|link| link.mac).collect());
        let removed: BTreeSet<u32> =
            self.interfaces.keys().filter(|index| !usable.contains_key(index)).copied().collect();
        for index in removed {
            if let Some((interface, _)) = self.interfaces.remove(&index) {
                tracing::info!(interface = %interface.name, "interface was removed or is down");
                self.responder.remove_interface(index);
            }
        }
        for (index, interface) in usable {
            match self.interfaces.get_mut(&index) {
                Some((current, _)) if *current == interface => continue,
                Some((current, _)) if same_sockets(current, &interface) => *current = interface.clone(),
                _ => {
                    tracing::info!(interface = %interface.name, "using interface for L2 announcements");
                    let handle = InterfaceHandle::start(&interface, &self.frames);
                    self.interfaces.insert(index, (interface.clone(), handle));
                    // Makes the responder join its groups again, on the new sockets.
                    self.responder.remove_interface(index);
                }
            }
            self.responder.set_interface(now, interface);
        }
    }
}

/// Returns whether open sockets can be used on after a change of the interface.
fn same_sockets(a: &Interface, b: &Interface) -> bool {
    a.name == b.name && a.arp == b.arp && a.link_local.is_some() == b.link_local.is_some()
}

/// Returns the address families for which a usable link can announce addresses.
pub(crate) fn served_families(link: &Link) -> ServedFamilies {
    interface(link).map(|interface| interface.families()).unwrap_or_default()
}

fn mac_text(mac: Mac) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}

fn interface(link: &Link) -> Option<Interface> {
    Some(Interface {
        index: link.index,
        name: link.name.clone(),
        mac: link.mac?,
        arp: link.broadcast && !link.no_arp,
        link_local: link.link_local(),
    })
}
