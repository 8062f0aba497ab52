//! TCP connections with the options that BGP needs.

mod listen;

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::fd::AsFd;
use std::sync::Once;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};

use crate::sys;

pub use listen::{AcceptOptions, Accepted, ListenError, ListenOptions, Listener};

/// The remote address and the socket options of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectOptions {
    /// With its interface as the scope if the address is link-local.
    pub remote: SocketAddr,
    /// Local address. If `None`, the kernel selects one by its routing table.
    pub source: Option<IpAddr>,
    /// TCP MD5 signature key (RFC 2385), 1 to 80 octets.
    pub md5_key: Option<Vec<u8>>,
    /// TCP-AO key (RFC 5925), in place of `md5_key`.
    pub ao_key: Option<AoKey>,
    /// TTL or hop limit of sent packets: 1 for eBGP on the link, 255 with GTSM.
    pub ttl: Option<u8>,
    /// Minimum TTL or hop limit of received packets (GTSM, RFC 5082).
    pub min_ttl: Option<u8>,
    /// Device to bind to: a VRF or an interface.
    pub device: Option<String>,
    /// Maximum duration of the TCP handshake.
    pub timeout: Duration,
    /// Time for which sent data may remain unacknowledged before the kernel closes the connection
    /// (TCP_USER_TIMEOUT). If `None`, the default of the kernel applies.
    pub user_timeout: Option<Duration>,
}

/// A master key of TCP-AO (RFC 5925 §3.1).
#[derive(Clone, PartialEq, Eq)]
pub struct AoKey {
    /// KeyID of sent segments.
    pub send_id: u8,
    /// KeyID of received segments.
    pub receive_id: u8,
    #[allow(missing_docs)]
    pub algorithm: AoAlgorithm,
    /// 1 to 80 octets.
    pub key: Vec<u8>,
}

/// Algorithm of TCP-AO (RFC 5926).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum AoAlgorithm {
    HmacSha1,
    Aes128Cmac,
}

impl std::fmt::Debug for AoKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { send_id, receive_id, algorithm, key: _ } = self;
        write!(f, "AoKey({send_id}, {receive_id}, {algorithm:?})")
    }
}

impl ConnectOptions {
    /// Returns options for a connection to `remote` without optional ones and with a timeout of 10 s.
    pub fn new(remote: SocketAddr) -> Self {
        Self {
            remote,
            source: None,
            md5_key: None,
            ao_key: None,
            ttl: None,
            min_ttl: None,
            device: None,
            timeout: Duration::from_secs(10),
            user_timeout: None,
        }
    }
}

/// Reason for which a connection attempt failed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ConnectError {
    /// The kernel rejected a socket option, for example because it does not support it.
    #[error("cannot set {option}: {source}")]
    Option { option: &'static str, source: io::Error },
    /// The kernel does not support TCP-AO.
    #[error(
        "the kernel of this node does not support TCP-AO: it needs Linux 6.7 or newer with CONFIG_TCP_AO"
    )]
    NoTcpAo,
    /// The key is empty or longer than 80 octets.
    #[error("the key of the TCP connection has {0} octets, but must have 1 to 80")]
    KeyLength(usize),
    /// The handshake failed.
    #[error("cannot connect to {remote}: {source}")]
    Connect { remote: SocketAddr, source: io::Error },
    /// The remote address did not answer in time: the host is down, a firewall drops packets, or it has
    /// another MD5 key.
    #[error("no answer from {remote} within {after:?}")]
    TimedOut { remote: SocketAddr, after: Duration },
}

/// Size of the kernel's receive buffer, in octets; the kernel reserves twice as much, for its bookkeeping. A
/// peer that sends too fast costs no more memory, and what a failed peer sent last is read within a second.
/// Without the limit, the kernel grows the buffer to several MiB.
const RECEIVE_BUFFER: usize = 128 * 1024;

/// Size of the kernel's send buffer, in octets. Routes that wait in it can no longer be replaced by their
/// latest state. It suffices for 10,000 prefixes per second at a round-trip time of one second.
const SEND_BUFFER: usize = 64 * 1024;

/// DSCP CS6, "network control" (RFC 4594), which routers set on their own BGP packets.
const CS6: u32 = 0xc0;

/// Opens a connection with TCP_NODELAY and DSCP CS6. Needs a Tokio runtime, and CAP_NET_RAW to bind to a
/// device on older kernels. Dropping the future cancels the attempt.
pub async fn connect(options: &ConnectOptions) -> Result<TcpStream, ConnectError> {
    let remote = options.remote;
    let socket = prepare(options)?;
    let connect_error = |source| ConnectError::Connect { remote, source };
    let socket = TcpSocket::from_std_stream(socket.into());
    match tokio::time::timeout(options.timeout, socket.connect(remote)).await {
        Ok(connected) => connected.map_err(connect_error),
        Err(_) => Err(ConnectError::TimedOut { remote, after: options.timeout }),
    }
}

/// Sets the TCP MD5 key (RFC 2385) for connections of this socket with `peer`. On an established connection,
/// the kernel signs and verifies with the new key from the next segment on.
///
/// # Errors
/// Returns an error if the key does not have 1 to 80 octets, or if the kernel has no support for TCP MD5.
pub fn set_md5_key(socket: &impl AsFd, peer: IpAddr, key: &[u8]) -> Result<(), ConnectError> {
    if !(1..=libc::TCP_MD5SIG_MAXKEYLEN).contains(&key.len()) {
        return Err(ConnectError::KeyLength(key.len()));
    }
    sys::set_md5_key(socket.as_fd(), peer, key).map_err(option_error("TCP_MD5SIG"))
}

/// Adds a TCP-AO key for connections of this socket with `peer`.
///
/// # Errors
/// Returns an error if the key does not have 1 to 80 octets, or if the kernel does not support TCP-AO.
pub fn add_ao_key(socket: &impl AsFd, peer: IpAddr, key: &AoKey) -> Result<(), ConnectError> {
    let AoKey { send_id, receive_id, algorithm, key } = key;
    if !(1..=sys::MAX_AO_KEY).contains(&key.len()) {
        return Err(ConnectError::KeyLength(key.len()));
    }
    let algorithm = match algorithm {
        AoAlgorithm::HmacSha1 => "hmac(sha1)",
        AoAlgorithm::Aes128Cmac => "cmac(aes128)",
    };
    match sys::add_ao_key(socket.as_fd(), peer, (*send_id, *receive_id), algorithm, key) {
        Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => Err(ConnectError::NoTcpAo),
        added => added.map_err(option_error("TCP_AO_ADD_KEY")),
    }
}

/// Returns a socket with all options set, because they must apply to the first packet already.
fn prepare(options: &ConnectOptions) -> Result<Socket, ConnectError> {
    let ipv4 = options.remote.is_ipv4();
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(options.remote), kind, Some(Protocol::TCP))
        .map_err(option_error("socket"))?;
    socket.set_tcp_nodelay(true).map_err(option_error("TCP_NODELAY"))?;
    // Before the connection is established, because the receive buffer limits the window that can be offered.
    socket.set_recv_buffer_size(RECEIVE_BUFFER).map_err(option_error("SO_RCVBUF"))?;
    socket.set_send_buffer_size(SEND_BUFFER).map_err(option_error("SO_SNDBUF"))?;
    match ipv4 {
        true => socket.set_tos_v4(CS6).map_err(option_error("IP_TOS"))?,
        false => socket.set_tclass_v6(CS6).map_err(option_error("IPV6_TCLASS"))?,
    }
    if !ipv4 {
        prefer_permanent_source(&socket)?;
    }
    if let Some(device) = &options.device {
        socket.bind_device(Some(device.as_bytes())).map_err(option_error("SO_BINDTODEVICE"))?;
    }
    if let Some(ttl) = options.ttl.map(u32::from) {
        match ipv4 {
            true => socket.set_ttl_v4(ttl).map_err(option_error("IP_TTL"))?,
            false => socket.set_unicast_hops_v6(ttl).map_err(option_error("IPV6_UNICAST_HOPS"))?,
        }
    }
    if let Some(min_ttl) = options.min_ttl {
        sys::set_min_ttl(socket.as_fd(), ipv4, min_ttl).map_err(option_error("IP_MINTTL"))?;
    }
    if let Some(key) = &options.md5_key {
        set_md5_key(&socket, options.remote.ip(), key)?;
    }
    if let Some(key) = &options.ao_key {
        add_ao_key(&socket, options.remote.ip(), key)?;
    }
    if options.user_timeout.is_some() {
        socket.set_tcp_user_timeout(options.user_timeout).map_err(option_error("TCP_USER_TIMEOUT"))?;
    }
    if let Some(source) = options.source {
        socket.bind(&local_address(source, options.remote).into()).map_err(option_error("source address"))?;
    }
    Ok(socket)
}

/// Returns the address to bind to. A link-local address is on the interface of the remote address.
fn local_address(source: IpAddr, remote: SocketAddr) -> SocketAddr {
    match (source, remote) {
        (IpAddr::V6(source), SocketAddr::V6(remote)) if source.is_unicast_link_local() => {
            SocketAddrV6::new(source, 0, 0, remote.scope_id()).into()
        }
        _ => SocketAddr::new(source, 0),
    }
}

/// Prefers permanent addresses as the source, because a session lasts longer than a temporary address. If the
/// kernel does not know the option, as in some sandboxes, the connection is opened without it.
fn prefer_permanent_source(socket: &Socket) -> Result<(), ConnectError> {
    static LOGGED: Once = Once::new();
    match sys::prefer_permanent_source(socket.as_fd()) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOPROTOOPT | libc::EINVAL)) => {
            LOGGED.call_once(|| {
                tracing::debug!(%error, "the kernel does not support IPV6_ADDR_PREFERENCES; connecting without it");
            });
            Ok(())
        }
        result => result.map_err(option_error("IPV6_ADDR_PREFERENCES")),
    }
}

fn option_error(option: &'static str) -> impl Fn(io::Error) -> ConnectError {
    move |source| ConnectError::Option { option, source }
}

#[cfg(test)]
mod tests;
