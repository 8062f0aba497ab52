//! A router that sends what a script says, and may not read.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use fairlead_lab::peers::Host;
use socket2::{Domain, Protocol, Socket, Type};

/// AS number of the router.
pub(crate) const ASN: u16 = 64999;

const MARKER: [u8; 16] = [0xff; 16];
const OPEN: u8 = 1;
const UPDATE: u8 = 2;
const KEEPALIVE: u8 = 4;
const ROUTE_REFRESH: u8 = 5;
/// Hold time that the router offers.
const HOLD_TIME: u16 = 9;
/// Octets that are written at once.
const CHUNK: usize = 64 * 1024;
/// Octets of the kernel's receive buffer.
const RECEIVE_BUFFER: usize = 16 * 1024;
/// Longest wait for a script, and for readable octets.
const TICK: Duration = Duration::from_millis(20);
/// Time between two KEEPALIVEs of a router that behaves well.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);

/// Whether the router reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behavior {
    Reads,
    /// From the moment the session is established, until [`ScriptedRouter::read_now`].
    DoesNotRead,
}

/// What the router sends.
#[derive(Clone, Debug)]
pub(crate) enum Script {
    /// A KEEPALIVE from time to time.
    Keepalives,
    /// This message as often as TCP accepts it.
    Flood(Vec<u8>),
}

/// The router. Dropping it closes its connections.
#[derive(Debug)]
pub(crate) struct ScriptedRouter {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    script: Mutex<Script>,
    reads: AtomicBool,
    ended: AtomicBool,
    sessions: Mutex<Vec<Arc<Session>>>,
}

/// An established session.
#[derive(Debug)]
struct Session {
    peer: IpAddr,
    /// True until the connection ends.
    up: AtomicBool,
    /// Octets that the router sent.
    sent: AtomicU64,
    /// Times at which a KEEPALIVE or UPDATE was received.
    received: Mutex<Vec<Instant>>,
}

impl ScriptedRouter {
    /// Accepts sessions at the IPv4 address of the host.
    pub(crate) fn start(host: &Host, behavior: Behavior) -> Result<Self> {
        let address = SocketAddr::new(host.address().v4.into(), 179);
        let listener = host.netns().run(|| listen(address))??;
        let shared = Arc::new(Shared {
            script: Mutex::new(Script::Keepalives),
            reads: AtomicBool::new(behavior == Behavior::Reads),
            ended: AtomicBool::new(false),
            sessions: Mutex::default(),
        });
        let accepting = shared.clone();
        std::thread::spawn(move || {
            while !accepting.ended() {
                match listener.accept() {
                    Ok((stream, peer)) => {
                        let shared = accepting.clone();
                        std::thread::spawn(move || shared.serve(stream, peer.ip(), host_id(address.ip())));
                    }
                    Err(_) => std::thread::sleep(TICK),
                }
            }
        });
        Ok(Self { shared })
    }

    /// Follows a script from now on, on all sessions.
    pub(crate) fn play(&self, script: Script) {
        *lock(&self.shared.script) = script;
    }

    /// Behaves well from now on, except that it does not read if it did not before.
    pub(crate) fn rest(&self) {
        *lock(&self.shared.script) = Script::Keepalives;
    }

    /// Reads from now on.
    pub(crate) fn read_now(&self) {
        self.shared.reads.store(true, Ordering::Relaxed);
    }

    pub(crate) fn reads(&self) -> bool {
        self.shared.reads.load(Ordering::Relaxed)
    }

    /// Returns the number of established sessions.
    pub(crate) fn established(&self) -> usize {
        lock(&self.shared.sessions).iter().filter(|session| session.up.load(Ordering::Relaxed)).count()
    }

    /// Returns for each session the longest part of the period without a KEEPALIVE or UPDATE of the speaker.
    pub(crate) fn longest_silences(&self, period: &Range<Instant>) -> Vec<(IpAddr, Duration)> {
        let sessions = lock(&self.shared.sessions);
        let up = sessions.iter().filter(|session| session.up.load(Ordering::Relaxed));
        let silence = |session: &Arc<Session>| {
            let received = lock(&session.received).clone();
            (session.peer, super::observation::longest_silence(received.into_iter(), period.clone()))
        };
        up.map(silence).collect()
    }
}

impl fmt::Display for ScriptedRouter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for session in lock(&self.shared.sessions).iter() {
            let (sent, received) = (session.sent.load(Ordering::Relaxed), lock(&session.received).len());
            writeln!(f, "scripted router: {} octets to {}, {received} messages back", sent, session.peer)?;
        }
        Ok(())
    }
}

impl Drop for ScriptedRouter {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// Establishes a session, then sends and reads on a thread each until the connection ends.
    fn serve(&self, stream: TcpStream, peer: IpAddr, id: [u8; 4]) -> io::Result<()> {
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TICK))?;
        stream.set_write_timeout(Some(TICK))?;
        let session = Arc::new(Session {
            peer,
            up: AtomicBool::new(true),
            sent: AtomicU64::new(0),
            received: Mutex::default(),
        });
        (&stream).write_all(&[open(id), keepalive()].concat())?;
        let mut input = Input::default();
        // The OPEN and the KEEPALIVE of the speaker.
        while input.counted < 1 {
            input.read(&stream)?;
            if self.ended() {
                return Ok(());
            }
        }
        lock(&self.sessions).push(session.clone());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !self.ended() && session.up.load(Ordering::Relaxed) {
                    if !self.reads.load(Ordering::Relaxed) {
                        std::thread::sleep(TICK);
                        continue;
                    }
                    let before = input.counted;
                    if input.read(&stream).is_err() {
                        session.up.store(false, Ordering::Relaxed);
                    } else if input.counted > before {
                        lock(&session.received).push(Instant::now());
                    }
                }
            });
            while !self.ended() && session.up.load(Ordering::Relaxed) {
                if self.send(&stream, &session).is_err() {
                    session.up.store(false, Ordering::Relaxed);
                }
            }
        });
        Ok(())
    }

    /// Sends until the script changes.
    fn send(&self, mut stream: &TcpStream, session: &Session) -> io::Result<()> {
        let script = lock(&self.script).clone();
        let (octets, pause) = match &script {
            Script::Keepalives => (keepalive(), KEEPALIVE_INTERVAL),
            Script::Flood(message) => (message.repeat(CHUNK.div_ceil(message.len())), Duration::ZERO),
        };
        let mut at = 0;
        let mut paused = Instant::now();
        loop {
            let changed = std::mem::discriminant(&*lock(&self.script)) != std::mem::discriminant(&script);
            // Only whole messages: the next script continues on the same connection.
            if self.ended() || !session.up.load(Ordering::Relaxed) || (changed && at == 0) {
                return Ok(());
            }
            if at == 0 && paused.elapsed() < pause {
                std::thread::sleep(TICK);
                continue;
            }
            match stream.write(&octets[at..]) {
                Ok(length) => {
                    session.sent.fetch_add(length as u64, Ordering::Relaxed);
                    at += length;
                }
                Err(error) if timed_out(&error) => {}
                Err(error) => return Err(error),
            }
            if at == octets.len() {
                at = 0;
                paused = Instant::now();
            }
        }
    }
}

/// Splits the octets of a speaker into messages.
#[derive(Debug, Default)]
struct Input {
    octets: Vec<u8>,
    /// KEEPALIVEs and UPDATEs received.
    counted: u64,
}

impl Input {
    fn read(&mut self, mut stream: &TcpStream) -> io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        match stream.read(&mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => self.octets.extend(&buffer[..length]),
            Err(error) if timed_out(&error) => {}
            Err(error) => return Err(error),
        }
        while let Some(header) = self.octets.get(..19) {
            let (length, kind) = (usize::from(u16::from_be_bytes([header[16], header[17]])), header[18]);
            if self.octets.len() < length {
                break;
            }
            self.octets.drain(..length);
            self.counted += u64::from(matches!(kind, UPDATE | KEEPALIVE));
        }
        Ok(())
    }
}

/// Listens with a small receive buffer, so that a router that does not read accepts little.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    socket.bind(&address.into())?;
    socket.listen(16)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Returns a KEEPALIVE.
pub(crate) fn keepalive() -> Vec<u8> {
    message(KEEPALIVE, &[])
}

/// Returns an UPDATE that announces this number of prefixes.
pub(crate) fn update(prefixes: u16) -> Vec<u8> {
    // ORIGIN IGP; AS_PATH 64999; NEXT_HOP 192.0.2.3.
    let [high, low] = ASN.to_be_bytes();
    let attributes =
        [&[0x40, 1, 1, 0, 0x40, 2, 4, 2, 1, high, low][..], &[0x40, 3, 4, 192, 0, 2, 3]].concat();
    let nlri = (0..prefixes).flat_map(|n| {
        let [a, b] = n.to_be_bytes();
        [24, 10, a, b]
    });
    let length = u16::try_from(attributes.len()).unwrap_or(u16::MAX).to_be_bytes();
    let body: Vec<u8> = [&[0, 0][..], &length, &attributes].concat().into_iter().chain(nlri).collect();
    message(UPDATE, &body)
}

/// Returns a ROUTE-REFRESH for IPv6 unicast.
pub(crate) fn route_refresh() -> Vec<u8> {
    message(ROUTE_REFRESH, &[0, 2, 0, 1])
}

/// Returns an OPEN with the capabilities IPv4 unicast, IPv6 unicast and route refresh.
fn open(id: [u8; 4]) -> Vec<u8> {
    let capabilities = [1, 4, 0, 1, 0, 1, 1, 4, 0, 2, 0, 1, 2, 0];
    let length = u8::try_from(capabilities.len()).unwrap_or(u8::MAX);
    let body = [
        &[4][..],
        &ASN.to_be_bytes(),
        &HOLD_TIME.to_be_bytes(),
        &id,
        &[length + 2, 2, length],
        &capabilities,
    ];
    message(OPEN, &body.concat())
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(19 + body.len()).unwrap_or(u16::MAX);
    [&MARKER[..], &length.to_be_bytes(), &[kind], body].concat()
}

fn host_id(address: IpAddr) -> [u8; 4] {
    match address {
        IpAddr::V4(v4) => v4.octets(),
        IpAddr::V6(_) => [192, 0, 2, 3],
    }
}

fn timed_out(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
