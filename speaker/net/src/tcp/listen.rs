//! Accepts TCP connections with the options that BGP needs.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

use super::{CS6, ConnectError, RECEIVE_BUFFER, SEND_BUFFER, option_error, set_md5_key};
use crate::filter::{compile, nothing, sources};
use crate::sys::{self, poll};

/// Connections that wait to be accepted. More hosts that connect at the same time have to repeat their SYN.
const BACKLOG: i32 = 64;

/// Longest saved SYN, in octets: an IPv4 or IPv6 header with options, and a TCP header with options.
const MAX_SYN: usize = 256;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenOptions {
    /// Local address and port, with the interface as the scope if the address is link-local. The unspecified
    /// address of a family listens on all addresses of that family.
    pub address: SocketAddr,
    /// VRF device to bind to; `None` listens outside of VRFs.
    pub device: Option<String>,
}

/// A listening socket. Dropping it closes the port.
#[derive(Debug)]
pub struct Listener(TcpListener);

/// A connection that another host has opened.
#[derive(Debug)]
pub struct Accepted {
    #[allow(missing_docs)]
    pub stream: TcpStream,
    /// Address and port of the other host, with the interface as the scope if the address is link-local.
    pub remote: SocketAddr,
    /// Local address and port.
    pub local: SocketAddr,
    /// TTL or hop limit of the SYN; `None` if the kernel did not keep the SYN, as under a flood of them.
    pub ttl: Option<u8>,
}

/// Options of a connection that was accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AcceptOptions {
    /// TTL or hop limit of sent packets.
    pub ttl: Option<u8>,
    /// Minimum TTL or hop limit of received packets (GTSM, RFC 5082). Segments that arrived before are not
    /// tested: see [`Accepted::ttl`].
    pub min_ttl: Option<u8>,
    /// TCP MD5 signature key (RFC 2385), 1 to 80 octets.
    pub md5_key: Option<Vec<u8>>,
    /// Time for which sent data may remain unacknowledged before the kernel closes the connection.
    pub user_timeout: Option<Duration>,
}

/// Reason for which a port cannot be opened.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ListenError {
    /// The kernel rejected a socket option, for example because the device does not exist.
    #[error(transparent)]
    Option(#[from] ConnectError),
    /// Another process listens on the port, the port needs a capability, or the node does not have the
    /// address.
    #[error("cannot bind to {address}: {source}")]
    Bind { address: SocketAddr, source: io::Error },
}

impl Listener {
    /// Opens the port. Needs a Tokio runtime, and CAP_NET_BIND_SERVICE for a port below 1024. Fails if
    /// another socket listens on the port at the same address, or at all addresses.
    ///
    /// Drops all segments until [`Listener::set_peers`]. SYN-ACK segments are sent with TTL 255, because the
    /// other host may require it (GTSM).
    ///
    /// # Errors
    /// Returns why the port cannot be opened.
    pub fn open(options: &ListenOptions) -> Result<Self, ListenError> {
        let ListenOptions { address, ref device } = *options;
        let kind = Type::STREAM.nonblocking().cloexec();
        let domain = Domain::for_address(address);
        let socket = Socket::new(domain, kind, Some(Protocol::TCP)).map_err(option_error("socket"))?;
        // Connections of an earlier process remain for a while. A listening socket conflicts all the same.
        socket.set_reuse_address(true).map_err(option_error("SO_REUSEADDR"))?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER).map_err(option_error("SO_RCVBUF"))?;
        socket.set_send_buffer_size(SEND_BUFFER).map_err(option_error("SO_SNDBUF"))?;
        if address.is_ipv4() {
            socket.set_tos_v4(CS6).map_err(option_error("IP_TOS"))?;
            socket.set_ttl_v4(255).map_err(option_error("IP_TTL"))?;
        } else {
            socket.set_only_v6(true).map_err(option_error("IPV6_V6ONLY"))?;
            socket.set_tclass_v6(CS6).map_err(option_error("IPV6_TCLASS"))?;
            socket.set_unicast_hops_v6(255).map_err(option_error("IPV6_UNICAST_HOPS"))?;
        }
        if let Some(device) = device {
            socket.bind_device(Some(device.as_bytes())).map_err(option_error("SO_BINDTODEVICE"))?;
        }
        sys::save_syn(socket.as_fd()).map_err(option_error("TCP_SAVE_SYN"))?;
        socket.attach_filter(&compile(&nothing())).map_err(option_error("SO_ATTACH_FILTER"))?;
        let bind_error = |source| ListenError::Bind { address, source };
        socket.bind(&address.into()).map_err(bind_error)?;
        socket.listen(BACKLOG).map_err(bind_error)?;
        Ok(Self(TcpListener::from_std(socket.into()).map_err(option_error("epoll"))?))
    }

    /// Accepts connections from these addresses only. The kernel drops segments from others before they take
    /// a place in the queue of connections. With more than 64 addresses, or if the kernel has no memory for
    /// the filter, it accepts connections from all hosts: the caller must test [`Accepted::remote`].
    ///
    /// # Errors
    /// The kernel rejected the change.
    pub fn set_peers(&self, peers: &[IpAddr]) -> Result<(), ConnectError> {
        let socket = SockRef::from(&self.0);
        let ipv4 = self.0.local_addr().map_err(option_error("socket"))?.is_ipv4();
        match sources(ipv4, peers) {
            Some(program) => socket.attach_filter(&compile(&program)).or_else(|_| detach_filter(&socket)),
            None => detach_filter(&socket),
        }
        .map_err(option_error("SO_ATTACH_FILTER"))
    }

    /// Sets the TCP MD5 key for connections from `peer`. The kernel drops all segments from it that are not
    /// signed with the key. Connections that exist keep their key.
    ///
    /// # Errors
    /// Returns an error if the key does not have 1 to 80 octets, or if the kernel has no support for TCP MD5.
    pub fn set_md5_key(&self, peer: IpAddr, key: &[u8]) -> Result<(), ConnectError> {
        set_md5_key(&self.0, peer, key)
    }

    /// Removes the TCP MD5 key for connections from `peer`.
    ///
    /// # Errors
    /// Returns an error if there is none.
    pub fn remove_md5_key(&self, peer: IpAddr) -> Result<(), ConnectError> {
        sys::set_md5_key(self.0.as_fd(), peer, &[]).map_err(option_error("TCP_MD5SIG"))
    }

    /// Waits for a connection. Only the task that polled last is woken.
    ///
    /// # Errors
    /// Returns why a connection cannot be accepted: the next one may succeed.
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Accepted>> {
        let (stream, remote) = ready!(self.0.poll_accept(cx))?;
        // Inherited from the listening socket.
        detach_filter(&SockRef::from(&stream))?;
        let local = stream.local_addr()?;
        let mut syn = [0; MAX_SYN];
        let length = sys::saved_syn(stream.as_fd(), &mut syn).unwrap_or(0);
        let ttl = syn_ttl(syn.get(..length).unwrap_or_default());
        Poll::Ready(Ok(Accepted { stream, remote, local, ttl }))
    }

    /// Waits for a connection. Cancel safe.
    ///
    /// # Errors
    /// Returns why a connection cannot be accepted: the next one may succeed.
    pub async fn accept(&self) -> io::Result<Accepted> {
        std::future::poll_fn(|cx| self.poll_accept(cx)).await
    }
}

impl Accepted {
    /// Sets the options of the session that the connection belongs to.
    ///
    /// # Errors
    /// The kernel rejected an option.
    pub fn configure(&self, options: &AcceptOptions) -> Result<(), ConnectError> {
        let (socket, ipv4) = (SockRef::from(&self.stream), self.remote.is_ipv4());
        socket.set_tcp_nodelay(true).map_err(option_error("TCP_NODELAY"))?;
        if let Some(ttl) = options.ttl.map(u32::from) {
            match ipv4 {
                true => socket.set_ttl_v4(ttl).map_err(option_error("IP_TTL"))?,
                false => socket.set_unicast_hops_v6(ttl).map_err(option_error("IPV6_UNICAST_HOPS"))?,
            }
        }
        if let Some(min_ttl) = options.min_ttl {
            sys::set_min_ttl(self.stream.as_fd(), ipv4, min_ttl).map_err(option_error("IP_MINTTL"))?;
        }
        if let Some(key) = &options.md5_key {
            set_md5_key(&self.stream, self.remote.ip(), key)?;
        }
        if options.user_timeout.is_some() {
            socket.set_tcp_user_timeout(options.user_timeout).map_err(option_error("TCP_USER_TIMEOUT"))?;
        }
        Ok(())
    }

    /// Returns whether the other host has closed its side of the connection, or reset it. Octets that it sent
    /// before may still wait to be read.
    pub fn is_closed(&self) -> bool {
        let mut entry = [poll::closed(self.stream.as_fd())];
        poll::wait(&mut entry, Some(Duration::ZERO)).is_err() || entry.iter().any(poll::is_ready)
    }

    /// Closes the connection at once with a reset.
    pub fn reset(self) {
        let _ = self.stream.set_zero_linger();
    }
}

/// Removes the filter of a socket, if it has one.
fn detach_filter(socket: &SockRef<'_>) -> io::Result<()> {
    match socket.detach_filter() {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        result => result,
    }
}

/// Returns the TTL or hop limit in the IP header at the beginning of a SYN.
fn syn_ttl(syn: &[u8]) -> Option<u8> {
    match syn.first()? >> 4 {
        4 => syn.get(8).copied(),
        6 => syn.get(7).copied(),
        _ => None,
    }
}
