//! TCP connections with the options that BGP needs.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpStream;

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
    /// How long sent data may stay unacknowledged before the connection is given up; `None` leaves the kernel's.
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
        source: std::io::Error,
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
        source: std::io::Error,
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

/// Connects. TCP_NODELAY is set. Needs a Tokio runtime; dropping the future gives the attempt up.
pub async fn connect(_options: &ConnectOptions) -> Result<TcpStream, ConnectError> {
    todo!()
}
