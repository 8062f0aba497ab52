//! A scripted router that only receives. It records when prefixes are announced and withdrawn, with so little
//! work that the sender is measured and not the receiver.

use std::collections::HashSet;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use ipnet::Ipv4Net;

use super::Host;

const OPEN: u8 = 1;
const UPDATE: u8 = 2;
const NOTIFICATION: u8 = 3;
const KEEPALIVE: u8 = 4;
/// Octets of a message before its body (RFC 4271 §4.1).
const HEADER: usize = 19;
/// Hold time that the router offers, in seconds.
const HOLD_TIME: u16 = 180;
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// Longest wait of the thread before it looks whether it must end.
const TICK: Duration = Duration::from_millis(20);

/// The router. It accepts one connection after the other. Dropping it closes the connection.
#[derive(Debug)]
pub struct Sink {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    ended: AtomicBool,
    state: Mutex<State>,
    gate: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The router sends its OPEN.
    open: bool,
    /// A peer has connected and sent its OPEN.
    connected: bool,
    established: bool,
    prefixes: HashSet<Ipv4Net>,
    /// When the last new prefix was announced.
    grown: Option<Instant>,
    withdrawn: Vec<(Instant, Ipv4Net)>,
}

impl Sink {
    /// Accepts sessions at the IPv4 address of the host. The router has a two-octet AS number, and sends its
    /// OPEN after [`Sink::open`] only, so that several routers begin at the same time.
    ///
    /// # Errors
    /// If it cannot listen.
    pub fn start(host: &Host, port: u16, asn: u16) -> Result<Self> {
        let id = host.address().v4;
        let listener = host.netns().run(|| TcpListener::bind(SocketAddr::from((id, port))))??;
        listener.set_nonblocking(true)?;
        let shared = Arc::new(Shared::default());
        let accepting = shared.clone();
        std::thread::spawn(move || {
            while !accepting.ended.load(Ordering::Relaxed) {
                match listener.accept() {
                    // The error ends the connection. The peer connects again.
                    Ok((stream, _)) => drop(accepting.serve(stream, asn, id)),
                    Err(_) => std::thread::sleep(TICK),
                }
            }
        });
        Ok(Self { shared })
    }

    /// Returns true if a peer has connected and sent its OPEN.
    pub fn is_connected(&self) -> bool {
        self.shared.state().connected
    }

    /// Sends the OPEN of the router, on this connection and on later ones.
    pub fn open(&self) {
        self.shared.state().open = true;
        self.shared.gate.notify_all();
    }

    /// Returns true while the session is established.
    pub fn is_established(&self) -> bool {
        self.shared.state().established
    }

    /// Returns the number of prefixes that the peer announces, and when it announced the last new one.
    pub fn prefixes(&self) -> (usize, Option<Instant>) {
        let state = self.shared.state();
        (state.prefixes.len(), state.grown)
    }

    /// Returns when the peer first withdrew the host route of `address` after `since`.
    pub fn withdrawn(&self, address: Ipv4Addr, since: Instant) -> Option<Instant> {
        let prefix = Ipv4Net::from(address);
        let state = self.shared.state();
        state.withdrawn.iter().find(|(at, of)| *of == prefix && *at >= since).map(|(at, _)| *at)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        self.shared.gate.notify_all();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Handles a connection until it ends.
    fn serve(&self, mut stream: TcpStream, asn: u16, id: Ipv4Addr) -> io::Result<()> {
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TICK))?;
        let (mut input, mut answered, mut sent) = (Vec::new(), false, Instant::now());
        let mut buffer = [0; 64 * 1024];
        let result = loop {
            if self.ended.load(Ordering::Relaxed) {
                break Ok(());
            }
            match stream.read(&mut buffer) {
                Ok(0) => break Ok(()),
                Ok(length) => input.extend_from_slice(&buffer[..length]),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                }
                Err(error) => break Err(error),
            }
            if !self.handle(&mut input, Instant::now()) {
                break Ok(());
            }
            if !answered && self.state().connected {
                self.wait_for_gate();
                stream.write_all(&[open(asn, id), message(KEEPALIVE, &[])].concat())?;
                answered = true;
            }
            if answered && sent.elapsed() >= KEEPALIVE_INTERVAL {
                stream.write_all(&message(KEEPALIVE, &[]))?;
                sent = Instant::now();
            }
        };
        let open = self.state().open;
        *self.state() = State { open, ..State::default() };
        result
    }

    fn wait_for_gate(&self) {
        let mut state = self.state();
        while !state.open && !self.ended.load(Ordering::Relaxed) {
            let waited = self.gate.wait_timeout(state, TICK).unwrap_or_else(PoisonError::into_inner);
            state = waited.0;
        }
    }

    /// Handles the complete messages of the input. Returns false if the session ends.
    fn handle(&self, input: &mut Vec<u8>, now: Instant) -> bool {
        let mut done = 0;
        let mut state = self.state();
        while let Some(header) = input.get(done..done + HEADER) {
            let (length, kind) = (usize::from(u16::from_be_bytes([header[16], header[17]])), header[18]);
            if length < HEADER {
                return false;
            }
            let Some(body) = input.get(done + HEADER..done + length) else { break };
            match kind {
                OPEN => state.connected = true,
                KEEPALIVE => state.established = true,
                UPDATE => drop(state.update(body, now)),
                NOTIFICATION => return false,
                _ => {}
            }
            done += length;
        }
        input.drain(..done);
        true
    }
}

impl State {
    /// Handles an UPDATE (RFC 4271 §4.3); `None` if it is malformed.
    fn update(&mut self, body: &[u8], now: Instant) -> Option<()> {
        let (withdrawn, rest) = counted(body)?;
        let (_, nlri) = counted(rest)?;
        for prefix in prefixes(withdrawn) {
            self.prefixes.remove(&prefix);
            self.withdrawn.push((now, prefix));
        }
        for prefix in prefixes(nlri) {
            if self.prefixes.insert(prefix) {
                self.grown = Some(now);
            }
        }
        Some(())
    }
}

/// Splits octets after a field that begins with its length.
fn counted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_at_checked(2)?;
    rest.split_at_checked(usize::from(u16::from_be_bytes([length[0], length[1]])))
}

/// Returns the prefixes until the first malformed one.
fn prefixes(mut bytes: &[u8]) -> impl Iterator<Item = Ipv4Net> {
    std::iter::from_fn(move || {
        let (&length, rest) = bytes.split_first()?;
        let (octets, rest) = rest.split_at_checked(usize::from(length).div_ceil(8))?;
        bytes = rest;
        let mut address = [0; 4];
        address.get_mut(..octets.len())?.copy_from_slice(octets);
        Ipv4Net::new(address.into(), length).ok()
    })
}

/// Returns an OPEN with the capabilities IPv4 unicast and four-octet AS numbers.
fn open(asn: u16, id: Ipv4Addr) -> Vec<u8> {
    let [high, low] = asn.to_be_bytes();
    let capabilities = [1, 4, 0, 1, 0, 1, 65, 4, 0, 0, high, low];
    let length = u8::try_from(capabilities.len()).unwrap_or(u8::MAX);
    let [hold_high, hold_low] = HOLD_TIME.to_be_bytes();
    let fixed = [4, high, low, hold_high, hold_low];
    message(OPEN, &[&fixed[..], &id.octets(), &[length + 2, 2, length], &capabilities].concat())
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(HEADER + body.len()).unwrap_or(u16::MAX);
    [&[0xff; 16][..], &length.to_be_bytes(), &[kind], body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn updates_add_and_remove_prefixes() {
        let shared = Shared::default();
        let now = Instant::now();
        let announce = [&[0, 0, 0, 4, 0x40, 1, 1, 0][..], &[32, 198, 18, 0, 1, 24, 198, 18, 1]].concat();
        let withdraw = [0, 5, 32, 198, 18, 0, 1, 0, 0];
        let whole = [message(OPEN, &[]), message(KEEPALIVE, &[]), message(UPDATE, &announce)].concat();
        let (first, second) = whole.split_at(50);
        let mut input = first.to_vec();
        assert!(shared.handle(&mut input, now));
        input.extend_from_slice(second);
        assert!(shared.handle(&mut input, now));
        assert!(input.is_empty());
        let seen = |state: &State| (state.connected, state.established, state.prefixes.len(), state.grown);
        assert_eq!(seen(&shared.state()), (true, true, 2, Some(now)));
        assert!(shared.handle(&mut message(UPDATE, &withdraw), now));
        assert_eq!(shared.state().prefixes.len(), 1);
        assert_eq!(shared.state().withdrawn, [(now, "198.18.0.1/32".parse().unwrap())]);
        assert!(!shared.handle(&mut message(NOTIFICATION, &[6, 2]), now));
    }

    #[test]
    fn malformed_update_is_ignored() {
        let mut state = State::default();
        for body in
            [&[][..], &[0, 9, 1], &[0, 0, 0, 1], &[0, 0, 0, 0, 33, 1, 2, 3, 4, 5], &[0, 0, 0, 0, 24, 1]]
        {
            let _ = state.update(body, Instant::now());
        }
        assert!(state.prefixes.is_empty());
    }
}
