//! The task of one interface: owns its ARP and NDP sockets, and opens them again after a failure.

use std::collections::BTreeSet;
use std::io;
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::Duration;

use fairlead_l2::Interface;
use fairlead_net::{ArpSocket, NdpSocket};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
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

/// Received frames of one interface that wait for the responder. Further frames are dropped: neighbors repeat
/// their requests. Each interface has its own share, so that a flood on one link costs only that link.
const FRAME_SHARE: usize = 128;

/// Receives the frames of all interfaces.
pub(super) type FrameReceiver = mpsc::UnboundedReceiver<ReceivedFrame>;

/// A received frame, with its interface. It occupies its place in the share of the interface until it is
/// dropped.
#[derive(Debug)]
pub(super) struct ReceivedFrame {
    pub ifindex: u32,
    pub frame: Frame,
    _place: OwnedSemaphorePermit,
}

/// Sends received frames to the responder. The shares of the interfaces bound the channel.
#[derive(Clone, Debug)]
pub(super) struct FrameSender(mpsc::UnboundedSender<ReceivedFrame>);

impl FrameSender {
    /// Creates the channel.
    pub(super) fn channel() -> (Self, FrameReceiver) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    /// Returns the sender of one interface.
    fn of_interface(&self, ifindex: u32) -> InterfaceFrameSender {
        InterfaceFrameSender { sender: self.clone(), ifindex, share: Arc::new(Semaphore::new(FRAME_SHARE)) }
    }
}

/// Sends the received frames of one interface.
#[derive(Debug)]
struct InterfaceFrameSender {
    sender: FrameSender,
    ifindex: u32,
    share: Arc<Semaphore>,
}

impl InterfaceFrameSender {
    /// Sends a frame, or drops it if the share of the interface is used up.
    fn send(&self, frame: Frame) {
        if let Ok(place) = self.share.clone().try_acquire_owned() {
            // An error is the end of the L2 task, which ends this one.
            let _ = self.sender.0.send(ReceivedFrame { ifindex: self.ifindex, frame, _place: place });
        }
    }
}

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
    /// Starts the task. Received frames go to `frames`.
    pub(super) fn start(interface: &Interface, frames: &FrameSender) -> Self {
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
            frames: frames.of_interface(interface.index),
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
    frames: InterfaceFrameSender,
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
                    self.frames.send(Frame::Arp(bytes.into()));
                }
                received = async {
                    match &ndp {
                        Some(socket) => socket.recv(&mut message).await,
                        None => std::future::pending().await,
                    }
                } => {
                    let received = received?;
                    let bytes = message.get(..received.len).unwrap_or_default();
                    self.frames.send(Frame::Ndp {
                        source: received.source,
                        destination: received.destination,
                        hop_limit: received.hop_limit,
                        message: bytes.into(),
                    });
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flood_on_one_interface_leaves_room_for_another() {
        let (sender, mut receiver) = FrameSender::channel();
        let (flooded, quiet) = (sender.of_interface(1), sender.of_interface(2));
        for _ in 0..10_000 {
            flooded.send(Frame::Arp([0; 42].into()));
        }
        quiet.send(Frame::Arp([0; 42].into()));
        let waiting: Vec<u32> =
            std::iter::from_fn(|| receiver.try_recv().ok()).map(|frame| frame.ifindex).collect();
        assert_eq!((waiting.len(), waiting.last()), (FRAME_SHARE + 1, Some(&2)));
        // Frames that were handled make room.
        flooded.send(Frame::Arp([0; 42].into()));
        assert!(receiver.try_recv().is_ok());
    }
}
