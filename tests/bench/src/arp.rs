//! Sends ARP requests for an address until a host replies.

use std::io::Read as _;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use socket2::Socket;

use fairlead_lab::LAN_INTERFACE;
use fairlead_lab::Lab;
use fairlead_lab::addresses;
use fairlead_lab::frame::{self, Message};
use fairlead_lab::sys;

/// Time between two requests, and so the resolution of the measured times.
pub(crate) const INTERVAL: Duration = Duration::from_millis(1);

/// A raw socket on the LAN client's interface. It receives every frame from the moment it is opened.
#[derive(Debug)]
pub(crate) struct Asker {
    socket: Socket,
}

/// The first ARP packets that were received for an address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heard {
    /// First reply to a request.
    pub answered: Instant,
    /// First gratuitous announcement, if one arrived before the reply.
    pub announced: Option<Instant>,
}

impl Asker {
    /// Opens the socket.
    ///
    /// # Errors
    /// The error of the kernel.
    pub(crate) fn open(lab: &Lab) -> Result<Self> {
        let socket = lab.network().client.run(|| sys::packet_socket(LAN_INTERFACE))??;
        Ok(Self { socket })
    }

    /// Sends a request for `address` every [`INTERVAL`] until a host replies.
    ///
    /// # Errors
    /// If no host replies within `limit`.
    pub(crate) fn ask(&self, address: Ipv4Addr, limit: Duration) -> Result<Heard> {
        let own = addresses::client();
        let request = frame::request(addresses::lan_mac(own), own, address.into());
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // A thread of its own sleeps exactly; the timeout of a socket counts in kernel ticks.
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    // The receiving side reports the failure as a missing reply.
                    let _ = self.socket.send(&request);
                    std::thread::sleep(INTERVAL);
                }
            });
            let heard = self.listen(address, limit);
            done.store(true, Ordering::Relaxed);
            heard
        })
    }

    fn listen(&self, address: Ipv4Addr, limit: Duration) -> Result<Heard> {
        self.socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        let start = Instant::now();
        let mut announced = None;
        let mut buffer = [0; 2048];
        while start.elapsed() < limit {
            // The error is the read timeout.
            let Ok(length) = (&self.socket).read(&mut buffer) else { continue };
            let Some(frame) = frame::parse(&buffer[..length]) else { continue };
            let Message::Arp { operation, sender_ip, target_ip, .. } = frame.message else { continue };
            if sender_ip != address {
                continue;
            }
            if sender_ip == target_ip {
                announced.get_or_insert_with(Instant::now);
            } else if operation == 2 {
                return Ok(Heard { answered: Instant::now(), announced });
            }
        }
        bail!("no host answered ARP for {address} within {limit:?}")
    }
}
