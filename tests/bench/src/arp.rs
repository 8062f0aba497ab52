//! Sends ARP requests for an address until a host replies.

use std::io::Read as _;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use socket2::Socket;

use fairlead_lab::LAN_INTERFACE;
use fairlead_lab::Lab;
use fairlead_lab::addresses::{self, Mac};
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
        let request = request(addresses::lan_mac(own), own.v4, address);
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

/// Returns a broadcast request (RFC 826).
fn request(mac: Mac, own: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    // Ethernet type ARP; hardware type Ethernet, protocol type IPv4, their address lengths, operation
    // request.
    const HEADER: [u8; 10] = [0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1];
    [&[0xff; 6][..], &mac.0, &HEADER, &mac.0, &own.octets(), &[0; 6], &target.octets()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arp_request_claims_no_address() {
        let (own, target) = (Ipv4Addr::new(192, 0, 2, 100), Ipv4Addr::new(192, 0, 2, 200));
        let frame = frame::parse(&request(Mac([2, 0, 0, 0, 1, 100]), own, target)).unwrap();
        assert!(frame.message.asks_for(target.into()) && !frame.message.claims(target.into()), "{frame}");
    }
}
