//! The other end of many BFD sessions: completes the handshake, and sends periodically.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result};
use fairlead_lab::netns::Netns;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::oneshot;
use tokio::time::MissedTickBehavior;

/// Name of the thread that answers.
const THREAD: &str = "responder";
/// Port of single-hop sessions (RFC 5881 §4).
const PORT: u16 = 3784;
const DOWN: u8 = 1;
const INIT: u8 = 2;
const UP: u8 = 3;
/// Bits of the second octet of a packet.
const POLL: u8 = 0x20;
const FINAL: u8 = 0x10;

/// Answers until it is dropped.
#[derive(Debug)]
pub(super) struct Responder {
    _stop: oneshot::Sender<()>,
}

impl Responder {
    /// Answers at `addresses`, which the namespace must have. `interval` is in milliseconds.
    ///
    /// # Errors
    /// If a socket cannot be opened.
    pub(super) fn start(netns: &Netns, addresses: &[Ipv4Addr], interval: u32) -> Result<Self> {
        let sockets =
            netns.run(|| addresses.iter().map(|&address| socket(address)).collect::<io::Result<Vec<_>>>())?;
        let sockets = sockets.context("BFD sockets of the responder")?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let sockets = {
            let _guard = runtime.enter();
            sockets.into_iter().map(UdpSocket::from_std).collect::<io::Result<Vec<_>>>()?
        };
        std::thread::Builder::new().name(THREAD.to_owned()).spawn(move || {
            for (socket, discriminator) in sockets.into_iter().zip(1..) {
                runtime.spawn(answer(socket, discriminator, interval));
            }
            // The error is the end of the sender.
            let _ = runtime.block_on(stopped);
        })?;
        Ok(Self { _stop: stop })
    }

    /// Gives the thread priority.
    ///
    /// # Errors
    /// If the kernel refuses it.
    pub(super) fn prioritize(&self) -> Result<()> {
        for thread in std::fs::read_dir("/proc/self/task")? {
            let path = thread?.path();
            let id = path.file_name().and_then(|name| name.to_str()?.parse().ok());
            let named =
                std::fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim_end() == THREAD);
            if let Some(id) = id.filter(|_| named) {
                super::prioritize(id)?;
            }
        }
        Ok(())
    }
}

fn socket(address: Ipv4Addr) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_ttl_v4(255)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from((address, PORT)).into())?;
    Ok(socket.into())
}

/// Sends periodically after the first packet of the peer, and at once where the peer waits for an answer.
async fn answer(socket: UdpSocket, discriminator: u32, interval: u32) {
    let mut packet = [0; 64];
    // Less than the interval, as with jitter.
    let mut ticks = tokio::time::interval(Duration::from_millis(u64::from(interval) * 9 / 10));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut current: Option<([u8; 24], SocketAddr)> = None;
    loop {
        let send = tokio::select! {
            received = socket.recv_from(&mut packet) => {
                let Ok((length, from)) = received else { continue };
                let Some(reply) = reply(&packet[..length], discriminator, interval) else { continue };
                let before = current.map(|(before, _)| before[1] & !FINAL);
                let mut periodic = reply;
                periodic[1] &= !FINAL;
                current = Some((periodic, SocketAddr::new(from.ip(), PORT)));
                (before != Some(reply[1])).then_some(reply)
            }
            _ = ticks.tick() => current.map(|(periodic, _)| periodic),
        };
        if let (Some(octets), Some((_, to))) = (send, current) {
            // A packet that cannot be sent looks like a lost one.
            let _ = socket.send_to(&octets, to).await;
        }
    }
}

/// Returns the answer to a packet (RFC 5880 §4.1, §6.8.6): the state follows that of the peer.
fn reply(packet: &[u8], discriminator: u32, interval: u32) -> Option<[u8; 24]> {
    let flags = *packet.get(1)?;
    let state = match flags >> 6 {
        DOWN => INIT,
        INIT | UP => UP,
        _ => DOWN,
    };
    let mut reply = [0; 24];
    // Version 1, no diagnostic; state, flags; multiplier; length.
    reply[..4].copy_from_slice(&[0x20, state << 6 | if flags & POLL == 0 { 0 } else { FINAL }, 3, 24]);
    reply[4..8].copy_from_slice(&discriminator.to_be_bytes());
    reply[8..12].copy_from_slice(packet.get(4..8)?);
    let microseconds = (interval * 1000).to_be_bytes();
    reply[12..16].copy_from_slice(&microseconds);
    reply[16..20].copy_from_slice(&microseconds);
    Some(reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reply_completes_the_handshake_and_a_poll_sequence() {
        let packet = |state: u8, flags: u8| {
            let mut packet = [0; 24];
            packet[1] = state << 6 | flags;
            packet[7] = 9;
            packet
        };
        let second = |state, flags| reply(&packet(state, flags), 7, 50).map(|reply| reply[1]);
        assert_eq!(second(DOWN, 0), Some(INIT << 6));
        assert_eq!(second(INIT, 0), Some(UP << 6));
        assert_eq!(second(UP, POLL), Some(UP << 6 | FINAL));
        let whole = reply(&packet(UP, 0), 7, 50).unwrap();
        assert_eq!(whole[3..16], [24, 0, 0, 0, 7, 0, 0, 0, 9, 0, 0, 0xc3, 0x50]);
        assert_eq!(reply(&[0x20], 7, 50), None);
    }
}
