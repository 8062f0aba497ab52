//! The shell of ARP and NDP: a task for the responder, and one per interface for its sockets.

mod interface_task;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use fairlead_l2::{GroupEvent, Interface, InterfaceSet, NdpPacket, Responder, Transmit};
use fairlead_net::links::{Link, Links};
use tokio::sync::mpsc;

use crate::excluded_interfaces::Excluded;
use crate::metrics::Metrics;
use crate::tasks::links;
use crate::tasks::until;
use interface_task::{Frame, Port, PortCommand};

/// Frames that wait for the responder; what comes when it is full is dropped, as by a busy host.
const QUEUE: usize = 256;

/// How often counters are brought up to date while there is traffic.
const COUNT: Duration = Duration::from_secs(1);

/// What the plan asks for.
#[derive(Debug)]
pub(crate) enum Command {
    /// Answer for this address.
    Announce {
        /// The address.
        address: IpAddr,
        /// Where.
        interfaces: InterfaceSet,
    },
    /// Stop answering for it.
    Withdraw {
        /// The address.
        address: IpAddr,
        /// Another live node takes the address over: the responder keeps answering for the overlap.
        handover: bool,
    },
    /// Tell the neighbours again of every address that stays: another node may have claimed it.
    ClaimAgain,
}

/// The engine. Its commands are differences, so they may queue without bound: there are never more than addresses.
pub(crate) struct Shell {
    /// From the plan.
    pub commands: mpsc::UnboundedReceiver<Command>,
    /// The node's interfaces.
    pub links: links::Known,
    /// Interfaces never used.
    pub excluded: Excluded,
    /// Counters.
    pub metrics: Metrics,
}

/// Whether L2 announcements can use the link.
pub(crate) fn usable(link: &Link, excluded: &Excluded) -> bool {
    link.announces() && !excluded.matches(&link.name)
}

struct Engine {
    responder: Responder,
    ports: BTreeMap<u32, (Interface, Port)>,
    frames: mpsc::Sender<(u32, Frame)>,
    excluded: Excluded,
}

impl Shell {
    /// Answers until nobody sends commands any more.
    pub(crate) async fn run(mut self) {
        let (frames, mut received) = mpsc::channel(QUEUE);
        let mut engine = Engine {
            responder: Responder::new(),
            ports: BTreeMap::new(),
            frames,
            excluded: self.excluded.clone(),
        };
        let mut counted = crate::metrics::L2Counts::default();
        let mut count_at: Option<Instant> = None;
        loop {
            let now = Instant::now();
            engine.responder.handle_timeout(now);
            engine.drain();
            if count_at.is_some_and(|at| at <= now) {
                count_at = None;
                self.metrics.count_l2(&mut counted, engine.responder.announced());
            }
            let wake = [engine.responder.poll_timeout(), count_at].into_iter().flatten().min();
            tokio::select! {
                command = self.commands.recv() => {
                    let Some(command) = command else { return };
                    let now = Instant::now();
                    engine.obey(now, command);
                    while let Ok(command) = self.commands.try_recv() {
                        engine.obey(now, command);
                    }
                    count_at.get_or_insert(now + COUNT);
                }
                frame = received.recv() => {
                    // The engine holds a sender: there is always one more to wait for.
                    if let Some((ifindex, frame)) = frame {
                        engine.hear(Instant::now(), ifindex, &frame);
                        count_at.get_or_insert(now + COUNT);
                    }
                }
                changed = self.links.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let links = self.links.borrow_and_update().clone();
                    engine.set_links(Instant::now(), &links);
                    count_at.get_or_insert(now + COUNT);
                }
                () = until(wake) => {}
            }
        }
    }
}

impl Engine {
    fn obey(&mut self, now: Instant, command: Command) {
        match command {
            Command::Announce { address, interfaces } => {
                tracing::info!(%address, ?interfaces, "announcing");
                self.responder.announce(now, address, interfaces);
            }
            Command::Withdraw { address, handover: true } => {
                tracing::info!(%address, "handing over to another node");
                self.responder.hand_over(now, address);
            }
            Command::Withdraw { address, handover: false } => {
                tracing::info!(%address, "withdrawing");
                self.responder.withdraw(address);
            }
            Command::ClaimAgain => self.responder.announce_all_again(now),
        }
    }

    fn hear(&mut self, now: Instant, ifindex: u32, frame: &Frame) {
        match frame {
            Frame::Arp(frame) => self.responder.handle_arp(now, ifindex, frame),
            Frame::Ndp { source, destination, hop_limit, message } => {
                let packet =
                    NdpPacket { source: *source, destination: *destination, hop_limit: *hop_limit, message };
                self.responder.handle_ndp(now, ifindex, packet);
            }
        }
    }

    /// Sends what is to be sent, joins what is to be joined.
    fn drain(&mut self) {
        while let Some(event) = self.responder.poll_event() {
            match event {
                GroupEvent::Join { ifindex, group } => self.tell(ifindex, PortCommand::Join(group)),
                GroupEvent::Leave { ifindex, group } => self.tell(ifindex, PortCommand::Leave(group)),
            }
        }
        while let Some(transmit) = self.responder.poll_transmit() {
            match transmit {
                Transmit::Arp { ifindex, frame } => self.tell(ifindex, PortCommand::Arp(frame)),
                Transmit::Ndp { ifindex, destination, message } => {
                    self.tell(ifindex, PortCommand::Ndp(destination, message));
                }
            }
        }
    }

    fn tell(&self, ifindex: u32, command: PortCommand) {
        if let Some((_, port)) = self.ports.get(&ifindex) {
            port.tell(command);
        }
    }

    fn set_links(&mut self, now: Instant, links: &Links) {
        let wanted: BTreeMap<u32, Interface> = links
            .by_index
            .values()
            .filter(|link| usable(link, &self.excluded))
            .filter_map(|link| Some((link.index, interface(link)?)))
            .collect();
        let gone: BTreeSet<u32> = self.ports.keys().filter(|i| !wanted.contains_key(i)).copied().collect();
        for index in gone {
            if let Some((interface, _)) = self.ports.remove(&index) {
                tracing::info!(interface = %interface.name, "interface is gone or down");
                self.responder.remove_interface(index);
            }
        }
        for (index, interface) in wanted {
            match self.ports.get_mut(&index) {
                Some((known, _)) if *known == interface => continue,
                // The same sockets serve on; only what answers say has changed.
                Some((known, port)) if same_sockets(known, &interface) => {
                    let _ = port;
                    *known = interface.clone();
                }
                _ => {
                    tracing::info!(interface = %interface.name, "answering on interface");
                    let port = Port::open(&interface, self.frames.clone());
                    self.ports.insert(index, (interface.clone(), port));
                    // Groups were joined on the sockets that are gone.
                    self.responder.remove_interface(index);
                }
            }
            self.responder.set_interface(now, interface);
        }
    }
}

fn same_sockets(a: &Interface, b: &Interface) -> bool {
    a.name == b.name && a.arp == b.arp && a.link_local.is_some() == b.link_local.is_some()
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
