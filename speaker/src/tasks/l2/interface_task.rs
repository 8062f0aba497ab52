//! The task of one interface: owns its ARP and NDP sockets, and opens them again after a failure.

use std::collections::BTreeSet;
use std::io;
use std::net::Ipv6Addr;
use std::time::Duration;

use fairlead_l2::Interface;
use fairlead_net::{ArpSocket, NdpSocket};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::sleep;

use crate::tasks::command_queue::{CommandReceiver, CommandSender, command_queue};

/// Size of the receive buffers, in octets; longer frames are cut. An ARP request has 42 with its Ethernet
/// header, a neighbor solicitation with one option has 32.
const BUFFER_SIZE: usize = 256;

/// Time before sockets are opened again after a failure.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Frames that wait to be sent on one interface. When the channel is full, frames are dropped, as by the
/// queue of a network card. Announcements are repeated, and neighbors repeat their requests.
const TRANSMIT_CAPACITY: usize = 4096;

/// A received frame.
#[derive(Debug)]
pub(super) enum Frame {
    /// An Ethernet frame with an ARP request.
    Arp(Box<[u8]>),
    /// A neighbor solicitation.
    Ndp { source: Ipv6Addr, destination: Option<Ipv6Addr>, hop_limit: u8, message: Box<[u8]> },
}

/// A frame to send.
#[derive(Debug)]
pub(super) enum TransmitFrame {
    /// An Ethernet frame.
    Arp(Vec<u8>),
    /// An ICMPv6 message and its destination.
    Ndp(Ipv6Addr, Vec<u8>),
}

/// A change of the multicast groups of an interface.
#[derive(Clone, Copy, Debug)]
enum GroupCommand {
    Join(Ipv6Addr),
    Leave(Ipv6Addr),
}

/// Controls the task of one interface. Dropping it ends the task and closes the sockets.
#[derive(Debug)]
pub(super) struct InterfaceHandle {
    transmits: mpsc::Sender<TransmitFrame>,
    groups: CommandSender<Ipv6Addr, GroupCommand>,
    task: AbortHandle,
}

impl InterfaceHandle {
    /// Starts the task. Received frames go to `frames` with the index of the interface; they are dropped
    /// while that channel is full.
    pub(super) fn start(interface: &Interface, frames: mpsc::Sender<(u32, Frame)>) -> Self {
        let (transmits, transmits_received) = mpsc::channel(TRANSMIT_CAPACITY);
        let (groups, groups_received) = command_queue();
        let task = InterfaceTask {
            ifindex: interface.index,
            name: interface.name.clone(),
            arp: interface.arp,
            ndp: interface.link_local.is_some(),
            joined: BTreeSet::new(),
            transmits: transmits_received,
            groups: groups_received,
            frames,
        };
        Self { transmits, groups, task: tokio::spawn(task.run()).abort_handle() }
    }

    /// Sends a frame, or drops it if too many wait.
    pub(super) fn transmit(&self, frame: TransmitFrame) {
        if self.transmits.try_send(frame).is_err() {
            tracing::debug!("transmit channel of the interface is full; frame dropped");
        }
    }

    /// Receives multicast packets to this group from now on.
    pub(super) fn join(&self, group: Ipv6Addr) {
        self.groups.send(group, GroupCommand::Join(group));
    }

    /// Receives multicast packets to this group no longer.
    pub(super) fn leave(&self, group: Ipv6Addr) {
        self.groups.send(group, GroupCommand::Leave(group));
    }
}

impl Drop for InterfaceHandle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct InterfaceTask {
    ifindex: u32,
    name: String,
    /// Open an ARP socket.
    arp: bool,
    /// Open an NDP socket.
    ndp: bool,
    /// Multicast groups, joined again on new sockets.
    joined: BTreeSet<Ipv6Addr>,
    transmits: mpsc::Receiver<TransmitFrame>,
    groups: CommandReceiver<Ipv6Addr, GroupCommand>,
    frames: mpsc::Sender<(u32, Frame)>,
}

impl InterfaceTask {
    async fn run(mut self) {
        let mut logged = String::new();
        loop {
            let error = match self.serve().await {
                Ok(()) => return,
                Err(error) => error.to_string(),
            };
            if error != logged {
                let interface = &self.name;
                tracing::warn!(%interface, %error, "cannot use interface for L2 announcements; retrying");
                logged = error;
            }
            sleep(RETRY_INTERVAL).await;
        }
    }

    /// Opens the sockets and uses them until the handle is dropped.
    ///
    /// # Errors
    /// Returns an error if the sockets must be opened again.
    async fn serve(&mut self) -> io::Result<()> {
        let arp = if self.arp { Some(ArpSocket::open(self.ifindex)?) } else { None };
        let mut ndp = if self.ndp { Some(NdpSocket::open(self.ifindex, &self.name)?) } else { None };
        if let Some(ndp) = &mut ndp {
            for group in &self.joined {
                ndp.join(*group)?;
            }
        }
        let mut frame = [0; BUFFER_SIZE];
        let mut message = [0; BUFFER_SIZE];
        loop {
            tokio::select! {
                command = self.groups.recv() => match command {
                    Some(command) => self.handle_group_command(command, ndp.as_mut()),
                    None => return Ok(()),
                },
                transmit = self.transmits.recv() => match transmit {
                    Some(transmit) => self.transmit(transmit, arp.as_ref(), ndp.as_ref()),
                    None => return Ok(()),
                },
                length = async {
                    match &arp {
                        Some(socket) => socket.recv(&mut frame).await,
                        None => std::future::pending().await,
                    }
                } => {
                    let bytes = frame.get(..length?).unwrap_or_default();
                    // If the channel is full the frame is dropped: neighbors repeat their requests.
                    let _ = self.frames.try_send((self.ifindex, Frame::Arp(bytes.into())));
                }
                received = async {
                    match &ndp {
                        Some(socket) => socket.recv(&mut message).await,
                        None => std::future::pending().await,
                    }
                } => {
                    let received = received?;
                    let bytes = message.get(..received.len).unwrap_or_default();
                    let _ = self.frames.try_send((self.ifindex, Frame::Ndp {
                        source: received.source,
                        destination: received.destination,
                        hop_limit: received.hop_limit,
                        message: bytes.into(),
                    }));
                }
            }
        }
    }

    fn handle_group_command(&mut self, command: GroupCommand, ndp: Option<&mut NdpSocket>) {
        let result = match command {
            GroupCommand::Join(group) => self.joined.insert(group).then(|| ndp.map(|ndp| ndp.join(group))),
            GroupCommand::Leave(group) => self.joined.remove(&group).then(|| ndp.map(|ndp| ndp.leave(group))),
        };
        if let Some(Some(Err(error))) = result {
            tracing::debug!(interface = %self.name, %error, "cannot change multicast group");
        }
    }

    fn transmit(&self, transmit: TransmitFrame, arp: Option<&ArpSocket>, ndp: Option<&NdpSocket>) {
        let result = match transmit {
            TransmitFrame::Arp(frame) => arp.map(|socket| socket.send(&frame)),
            TransmitFrame::Ndp(to, message) => ndp.map(|socket| socket.send(to, &message)),
        };
        // Equal to a lost frame: announcements are repeated, and neighbors repeat their requests.
        if let Some(Err(error)) = result {
            tracing::debug!(interface = %self.name, %error, "cannot send frame");
        }
    }
}
