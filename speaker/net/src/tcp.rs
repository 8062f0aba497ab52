//! TCP connections with the options that BGP needs.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};

use crate::sys;

/// How to connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectOptions {
    /// Where to.
    pub remote: SocketAddr,
    /// Local address to connect from; `None` leaves it to the routing table.
    pub source: Option<IpAddr>,
    /// TCP MD5 signature key (RFC 2385), at most 80 bytes.
    pub md5_key: Option<Vec<u8>>,
    /// TTL or hop limit to send with: 1 for eBGP on the link, 255 with GTSM.
    pub ttl: Option<u8>,
    /// Least TTL or hop limit accepted (GTSM, RFC 5082).
    pub min_ttl: Option<u8>,
    /// Device to bind to: a VRF or an interface.
    pub device: Option<String>,
    /// How long the handshake may take.
    pub timeout: Duration,
    /// How long sent data may stay unacknowledged before the connection is given up; `None` leaves the
    /// kernel's.
    pub user_timeout: Option<Duration>,
}

impl ConnectOptions {
    /// Plain options for a connection to `remote`, with a timeout of 10 s.
    pub fn new(remote: SocketAddr) -> Self {
        Self {
            remote,
            source: None,
            md5_key: None,
            ttl: None,
            min_ttl: None,
            device: None,
            timeout: Duration::from_secs(10),
            user_timeout: None,
        }
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// A socket option was refused, for example because the kernel lacks it.
    #[error("cannot set {option}: {source}")]
    Option {
        /// What was to be set.
        option: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The key is empty or longer than 80 bytes.
    #[error("TCP MD5 key has {0} bytes, 1 to 80 are possible")]
    KeyLength(usize),
    /// The handshake failed.
    #[error("cannot connect to {remote}: {source}")]
    Connect {
        /// Where to.
        remote: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// Nobody answered in time: not there, filtered, or another MD5 key.
    #[error("no answer from {remote} within {after:?}")]
    TimedOut {
        /// Where to.
        remote: SocketAddr,
        /// How long it was tried.
        after: Duration,
    },
}

/// DSCP CS6, "network control" (RFC 4594): what routers give their own BGP packets.
const CS6: u32 = 0xc0;

/// Connects. TCP_NODELAY is set, packets carry DSCP CS6. Needs a Tokio runtime, and CAP_NET_RAW to bind to a
/// device on older kernels; dropping the future gives the attempt up.
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

/// Sets the TCP MD5 key for connections of a listener with `peer` (RFC 2385).
pub fn set_md5_key(listener: &impl AsFd, peer: IpAddr, key: &[u8]) -> Result<(), ConnectError> {
    if !(1..=libc::TCP_MD5SIG_MAXKEYLEN).contains(&key.len()) {
        return Err(ConnectError::KeyLength(key.len()));
    }
    sys::set_md5_key(listener.as_fd(), peer, key).map_err(refused("TCP_MD5SIG"))
}

/// A socket with every option set: all of them must be there before the first packet.
fn prepare(options: &ConnectOptions) -> Result<Socket, ConnectError> {
    let ipv4 = options.remote.is_ipv4();
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(options.remote), kind, Some(Protocol::TCP))
        .map_err(refused("socket"))?;
    socket.set_tcp_nodelay(true).map_err(refused("TCP_NODELAY"))?;
    match ipv4 {
        true => socket.set_tos_v4(CS6).map_err(refused("IP_TOS"))?,
        false => socket.set_tclass_v6(CS6).map_err(refused("IPV6_TCLASS"))?,
    }
    if let Some(device) = &options.device {
        socket.bind_device(Some(device.as_bytes())).map_err(refused("SO_BINDTODEVICE"))?;
    }
    if let Some(ttl) = options.ttl.map(u32::from) {
        match ipv4 {
            true => socket.set_ttl_v4(ttl).map_err(refused("IP_TTL"))?,
            false => socket.set_unicast_hops_v6(ttl).map_err(refused("IPV6_UNICAST_HOPS"))?,
        }
    }
    if let Some(min_ttl) = options.min_ttl {
        sys::set_min_ttl(socket.as_fd(), ipv4, min_ttl).map_err(refused("IP_MINTTL"))?;
    }
    if let Some(key) = &options.md5_key {
        set_md5_key(&socket, options.remote.ip(), key)?;
    }
    if options.user_timeout.is_some() {
        socket.set_tcp_user_timeout(options.user_timeout).map_err(refused("TCP_USER_TIMEOUT"))?;
    }
    if let Some(source) = options.source {
        socket.bind(&SocketAddr::new(source, 0).into()).map_err(refused("source address"))?;
    }
    Ok(socket)
}

fn refused(option: &'static str) -> impl Fn(io::Error) -> ConnectError {
    move |source| ConnectError::Option { option, source }
}

#[cfg(test)]
mod tests;
