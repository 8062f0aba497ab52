//! [`EchoSocket`]: ICMP echo requests to other nodes, for a thread without Tokio.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::time::Instant;

use socket2::{Domain, Protocol, Socket, Type};

use crate::bfd::BfdBatch;
use crate::filter::{compile, echo_replies};
use crate::sys;

/// DSCP CS6, "network control" (RFC 4594).
const CS6: u32 = 0xc0;

/// Sends ICMP or ICMPv6 echo requests, and receives the replies to them.
#[derive(Debug)]
pub struct EchoSocket {
    socket: Socket,
    /// A time at which no reply was queued that is queued now.
    empty: Instant,
}

impl EchoSocket {
    /// Opens a socket for one address family that receives the replies with this identifier. Needs
    /// CAP_NET_RAW.
    ///
    /// # Errors
    /// `EAFNOSUPPORT` on a kernel without IPv6.
    pub fn open(ipv4: bool, identifier: u16) -> io::Result<Self> {
        let (domain, protocol) =
            if ipv4 { (Domain::IPV4, Protocol::ICMPV4) } else { (Domain::IPV6, Protocol::ICMPV6) };
        let socket = Socket::new(domain, Type::RAW.nonblocking().cloexec(), Some(protocol))?;
        socket.attach_filter(&compile(&echo_replies(ipv4, identifier)))?;
        sys::report_arrival(socket.as_fd(), ipv4)?;
        if ipv4 {
            socket.set_tos_v4(CS6)?;
        } else {
            socket.set_tclass_v6(CS6)?;
        }
        Ok(Self { socket, empty: Instant::now() })
    }

    /// Sends one message without its IP header. Does not wait.
    pub fn send(&self, to: IpAddr, message: &[u8]) -> io::Result<()> {
        self.socket.send_to(message, &SocketAddr::new(to, 0).into()).map(drop)
    }

    /// Receives packets into `batch`, without waiting. Returns false if none is queued any more. A packet of
    /// an IPv4 socket begins with its IP header.
    pub fn receive(&mut self, batch: &mut BfdBatch) -> io::Result<bool> {
        batch.receive(self.socket.as_fd(), &mut self.empty)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::time::Duration;

    use fairlead_probe::EchoIdentity;

    use super::*;

    const OWN: EchoIdentity = EchoIdentity { identifier: 0x4652, cookie: 7 };

    #[test]
    fn kernel_answers_requests_of_this_process_only() {
        for to in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
            let mut socket = match EchoSocket::open(to.is_ipv4(), OWN.identifier) {
                Ok(socket) => socket,
                Err(error) => {
                    eprintln!("skipped {to}: {error}");
                    continue;
                }
            };
            let foreign = EchoIdentity { identifier: 0x4653, cookie: 7 };
            if let Err(error) = socket.send(to, &foreign.request(to, 1)) {
                eprintln!("skipped {to}: {error}");
                continue;
            }
            let sent = Instant::now();
            socket.send(to, &OWN.request(to, 2)).unwrap();
            let mut batch = BfdBatch::new();
            let mut seen = Vec::new();
            while seen.is_empty() && sent.elapsed() < Duration::from_secs(5) {
                socket.receive(&mut batch).unwrap();
                seen.extend(batch.datagrams().map(|packet| {
                    assert!(packet.arrived <= Instant::now());
                    (packet.source, OWN.reply(packet.source, packet.payload))
                }));
                std::thread::sleep(Duration::from_millis(1));
            }
            assert_eq!(seen, [(to, Some(2))]);
        }
    }
}
