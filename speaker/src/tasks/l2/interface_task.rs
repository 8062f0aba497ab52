//! The sockets of one interface: a task that owns them, heals them, and passes frames both ways.

use std::collections::BTreeSet;
use std::io;
use std::net::Ipv6Addr;
use std::time::Duration;

use fairlead_l2::Interface;
use fairlead_net::{ArpSocket, NdpSocket};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::sleep;

/// An ARP packet is 42 bytes in its frame, a neighbour solicitation 32 with its option; what is longer is cut.
const FRAME: usize = 256;

/// How long to wait before sockets that failed are opened again.
const RETRY: Duration = Duration::from_secs(1);

/// What was received on an interface.
#[derive(Debug)]
pub(super) enum Frame {
    /// An Ethernet frame with an ARP request.
    Arp(Box<[u8]>),
    /// A neighbour solicitation.
    Ndp { source: Ipv6Addr, destination: Option<Ipv6Addr>, hop_limit: u8, message: Box<[u8]> },
}

/// What is to be done on an interface.
#[derive(Debug)]
pub(super) enum PortCommand {
    /// Send this Ethernet frame.
    Arp(Vec<u8>),
    /// Send this ICMPv6 message.
    Ndp(Ipv6Addr, Vec<u8>),
    Join(Ipv6Addr),
    Leave(Ipv6Addr),
}

/// The task of one interface; dropping it closes the sockets.
#[derive(Debug)]
pub(super) struct Port {
    commands: mpsc::UnboundedSender<PortCommand>,
    task: AbortHandle,
}

impl Drop for Port {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Port {
    pub(super) fn open(interface: &Interface, frames: mpsc::Sender<(u32, Frame)>) -> Self {
        let (commands, received) = mpsc::unbounded_channel();
        let sockets = Sockets {
            ifindex: interface.index,
            name: interface.name.clone(),
            arp: interface.arp,
            ndp: interface.link_local.is_some(),
            groups: BTreeSet::new(),
        };
        let task = tokio::spawn(sockets.serve(received, frames)).abort_handle();
        Self { commands, task }
    }

    pub(super) fn tell(&self, command: PortCommand) {
        // The task ends only when this handle is dropped.
        let _ = self.commands.send(command);
    }
}

struct Sockets {
    ifindex: u32,
    name: String,
    arp: bool,
    ndp: bool,
    /// Groups joined.
    groups: BTreeSet<Ipv6Addr>,
}

impl Sockets {
    async fn serve(
        mut self,
        mut commands: mpsc::UnboundedReceiver<PortCommand>,
        frames: mpsc::Sender<(u32, Frame)>,
    ) {
        let mut said = String::new();
        loop {
            let why = match self.pass(&mut commands, &frames).await {
                Ok(()) => return,
                Err(error) => error.to_string(),
            };
            if why != said {
                tracing::warn!(interface = %self.name, error = %why, "cannot use interface; retrying");
                said = why;
            }
            sleep(RETRY).await;
        }
    }

    /// Returns when nobody sends commands any more; an error means that the sockets must be opened anew.
    async fn pass(
        &mut self,
        commands: &mut mpsc::UnboundedReceiver<PortCommand>,
        frames: &mpsc::Sender<(u32, Frame)>,
    ) -> io::Result<()> {
        let arp = if self.arp { Some(ArpSocket::open(self.ifindex)?) } else { None };
        let mut ndp = if self.ndp { Some(NdpSocket::open(self.ifindex, &self.name)?) } else { None };
        if let Some(ndp) = &mut ndp {
            for group in &self.groups {
                ndp.join(*group)?;
            }
        }
        let mut frame = [0; FRAME];
        let mut message = [0; FRAME];
        loop {
            tokio::select! {
                command = commands.recv() => match command {
                    None => return Ok(()),
                    Some(command) => self.obey(command, arp.as_ref(), ndp.as_mut()),
                },
                length = async {
                    match &arp {
                        Some(socket) => socket.recv(&mut frame).await,
                        None => std::future::pending().await,
                    }
                } => {
                    let bytes = frame.get(..length?).unwrap_or_default();
                    // A full queue drops the frame: neighbours ask again.
                    let _ = frames.try_send((self.ifindex, Frame::Arp(bytes.into())));
                }
                received = async {
                    match &ndp {
                        Some(socket) => socket.recv(&mut message).await,
                        None => std::future::pending().await,
                    }
                } => {
                    let received = received?;
                    let bytes = message.get(..received.len).unwrap_or_default();
                    let _ = frames.try_send((self.ifindex, Frame::Ndp {
                        source: received.source,
                        destination: received.destination,
                        hop_limit: received.hop_limit,
                        message: bytes.into(),
                    }));
                }
            }
        }
    }

    fn obey(&mut self, command: PortCommand, arp: Option<&ArpSocket>, ndp: Option<&mut NdpSocket>) {
        let done = match command {
            PortCommand::Arp(frame) => arp.map(|socket| socket.send(&frame)),
            PortCommand::Ndp(to, message) => ndp.map(|socket| socket.send(to, &message)),
            PortCommand::Join(group) => {
                self.groups.insert(group);
                ndp.map(|socket| socket.join(group))
            }
            PortCommand::Leave(group) => {
                self.groups.remove(&group);
                ndp.map(|socket| socket.leave(group))
            }
        };
        // Whatever could not be sent is like a lost frame: announcements are repeated, questions asked again.
        if let Some(Err(error)) = done {
            tracing::debug!(interface = %self.name, %error, "not sent");
        }
    }
}
