//! System calls, socket options and addresses that no library offers. The only `unsafe` code of the speaker.

pub(crate) mod batch;
pub(crate) mod poll;
pub(crate) mod scheduling;

use std::ffi::c_int;
use std::io;
use std::mem::{self, MaybeUninit};
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use socket2::{SockAddr, Socket};
use tokio::io::unix::AsyncFd;

/// `PACKET_IGNORE_OUTGOING` of linux/if_packet.h.
const PACKET_IGNORE_OUTGOING: c_int = 23;
/// `TCP_AO_ADD_KEY` of linux/tcp.h (Linux 6.7).
const TCP_AO_ADD_KEY: c_int = 38;
/// `TCP_SAVE_SYN` of linux/tcp.h.
const TCP_SAVE_SYN: c_int = 27;
/// `TCP_SAVED_SYN` of linux/tcp.h.
const TCP_SAVED_SYN: c_int = 28;
/// `ICMP6_FILTER` of linux/icmpv6.h.
const ICMPV6_FILTER: c_int = 1;

/// `struct icmp6_filter` of linux/icmpv6.h: a set bit blocks a message type.
#[repr(C)]
struct Icmp6Filter {
    blocked: [u32; 8],
}

/// `struct tcp_md5sig` of linux/tcp.h, 216 bytes.
#[repr(C)]
struct TcpMd5Sig {
    address: libc::sockaddr_storage,
    flags: u8,
    prefix_len: u8,
    key_len: u16,
    ifindex: c_int,
    key: [u8; libc::TCP_MD5SIG_MAXKEYLEN],
}

const _: () = assert!(mem::size_of::<TcpMd5Sig>() == 216);

/// Longest key of TCP-AO in octets (`TCP_AO_MAXKEYLEN`).
pub(crate) const MAX_AO_KEY: usize = 80;

/// `struct tcp_ao_add` of linux/tcp.h, 288 bytes.
#[repr(C, align(8))]
struct TcpAoAdd {
    address: libc::sockaddr_storage,
    algorithm: [u8; 64],
    ifindex: i32,
    /// Bit 0: set_current; bit 1: set_rnext.
    flags: u32,
    reserved: u16,
    prefix_len: u8,
    send_id: u8,
    receive_id: u8,
    mac_len: u8,
    key_flags: u8,
    key_len: u8,
    key: [u8; MAX_AO_KEY],
}

const _: () = assert!(mem::size_of::<TcpAoAdd>() == 288);

/// A type that the kernel may read as a socket option: plain C data with the layout that the option requires.
trait OptionValue {}
impl OptionValue for c_int {}
impl OptionValue for Icmp6Filter {}
impl OptionValue for TcpMd5Sig {}
impl OptionValue for TcpAoAdd {}

fn set<T: OptionValue>(socket: BorrowedFd<'_>, level: c_int, name: c_int, value: &T) -> io::Result<()> {
    let len = mem::size_of::<T>() as libc::socklen_t;
    // SAFETY: the descriptor is open while it is borrowed. The kernel reads `len` octets from `value`, which
    // is borrowed for the call and has that size, and keeps no pointer to it.
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, std::ptr::from_ref(value).cast(), len) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Lets a listening socket keep the SYN of each connection.
pub(crate) fn save_syn(socket: BorrowedFd<'_>) -> io::Result<()> {
    set(socket, libc::IPPROTO_TCP, TCP_SAVE_SYN, &1)
}

/// Reads the SYN of an accepted connection, which begins with its IP header. Returns its length in octets;
/// zero if the kernel did not keep it. A second call for the same connection returns zero.
pub(crate) fn saved_syn(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    let mut len = libc::socklen_t::try_from(buffer.len()).unwrap_or(libc::socklen_t::MAX);
    // SAFETY: the descriptor is open while it is borrowed. The kernel writes at most `len` octets to
    // `buffer`, which has at least that length, and the number of octets to `len`. Both are borrowed for the
    // call, and the kernel keeps no pointer to them.
    let result = unsafe {
        let value = buffer.as_mut_ptr().cast();
        libc::getsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, TCP_SAVED_SYN, value, &raw mut len)
    };
    if result == 0 { Ok(len as usize) } else { Err(io::Error::last_os_error()) }
}

/// Registers a socket with the Tokio runtime.
pub(crate) fn register(socket: Socket) -> io::Result<AsyncFd<Socket>> {
    // SAFETY: a `Socket` owns its descriptor, which refers to the same open file until the socket is dropped.
    // `AsyncFd` owns the socket from here on and deregisters it before it drops it. No code replaces the
    // socket through `get_mut`.
    unsafe { AsyncFd::register(socket) }.map_err(io::Error::from)
}

/// Excludes the frames that this host sends from what an AF_PACKET socket receives.
pub(crate) fn ignore_outgoing(socket: BorrowedFd<'_>) -> io::Result<()> {
    set(socket, libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, &1)
}

/// Blocks every message type on a raw ICMPv6 socket, which then only sends.
pub(crate) fn block_icmpv6(socket: BorrowedFd<'_>) -> io::Result<()> {
    set(socket, libc::IPPROTO_ICMPV6, ICMPV6_FILTER, &Icmp6Filter { blocked: [u32::MAX; 8] })
}

/// Reports the TTL or hop limit, the interface and the arrival time of each datagram as control messages.
pub(crate) fn report_arrival(socket: BorrowedFd<'_>, ipv4: bool) -> io::Result<()> {
    set(socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, &1)?;
    if ipv4 {
        set(socket, libc::IPPROTO_IP, libc::IP_RECVTTL, &1)?;
        set(socket, libc::IPPROTO_IP, libc::IP_PKTINFO, &1)
    } else {
        set(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVHOPLIMIT, &1)?;
        set(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, &1)
    }
}

/// Reports ICMP errors about datagrams of an unconnected UDP socket, with their destinations.
pub(crate) fn report_errors(socket: BorrowedFd<'_>, ipv6: bool) -> io::Result<()> {
    if ipv6 {
        set(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVERR, &1)?;
    }
    set(socket, libc::IPPROTO_IP, libc::IP_RECVERR, &1)
}

/// Prefers permanent IPv6 addresses to temporary ones as the source of packets (RFC 5014).
pub(crate) fn prefer_permanent_source(socket: BorrowedFd<'_>) -> io::Result<()> {
    set(socket, libc::IPPROTO_IPV6, libc::IPV6_ADDR_PREFERENCES, &libc::IPV6_PREFER_SRC_PUBLIC)
}

/// Sets the minimum TTL or hop limit of received packets (RFC 5082).
pub(crate) fn set_min_ttl(socket: BorrowedFd<'_>, ipv4: bool, ttl: u8) -> io::Result<()> {
    let (level, name) = match ipv4 {
        true => (libc::IPPROTO_IP, libc::IP_MINTTL),
        false => (libc::IPPROTO_IPV6, libc::IPV6_MINHOPCOUNT),
    };
    set(socket, level, name, &c_int::from(ttl))
}

/// Sets the key for TCP MD5 signatures (RFC 2385) with a peer. An empty key disables them. Returns
/// `InvalidInput` if the key has more than 80 octets.
pub(crate) fn set_md5_key(socket: BorrowedFd<'_>, peer: IpAddr, key: &[u8]) -> io::Result<()> {
    let mut padded = [0; libc::TCP_MD5SIG_MAXKEYLEN];
    let slot = padded.get_mut(..key.len()).ok_or(io::ErrorKind::InvalidInput)?;
    slot.copy_from_slice(key);
    let option = TcpMd5Sig {
        address: storage(&SockAddr::from(std::net::SocketAddr::new(peer, 0))),
        flags: 0,
        prefix_len: 0,
        key_len: key.len() as u16,
        ifindex: 0,
        key: padded,
    };
    set(socket, libc::IPPROTO_TCP, libc::TCP_MD5SIG, &option)
}

/// Adds a key for TCP-AO (RFC 5925) with a peer. `algorithm` is its name in the kernel. Returns
/// `InvalidInput` if the key has more than [`MAX_AO_KEY`] octets.
pub(crate) fn add_ao_key(
    socket: BorrowedFd<'_>,
    peer: IpAddr,
    (send_id, receive_id): (u8, u8),
    algorithm: &str,
    key: &[u8],
) -> io::Result<()> {
    let mut padded = [0; MAX_AO_KEY];
    padded.get_mut(..key.len()).ok_or(io::ErrorKind::InvalidInput)?.copy_from_slice(key);
    let mut name = [0; 64];
    name.get_mut(..algorithm.len()).ok_or(io::ErrorKind::InvalidInput)?.copy_from_slice(algorithm.as_bytes());
    let option = TcpAoAdd {
        address: storage(&SockAddr::from(std::net::SocketAddr::new(peer, 0))),
        algorithm: name,
        ifindex: 0,
        flags: 0,
        reserved: 0,
        prefix_len: if peer.is_ipv4() { 32 } else { 128 },
        send_id,
        receive_id,
        // The default of the algorithm, 12 octets.
        mac_len: 0,
        key_flags: 0,
        key_len: key.len() as u8,
        key: padded,
    };
    set(socket, libc::IPPROTO_TCP, TCP_AO_ADD_KEY, &option)
}

fn storage(address: &SockAddr) -> libc::sockaddr_storage {
    let mut storage = MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let len = (address.len() as usize).min(mem::size_of_val(&storage));
    // SAFETY: `as_ptr` is valid for the length of the address, `storage` is at least as large, and they are
    // distinct objects. All zeroes is a valid `sockaddr_storage`, and the copy overwrites its beginning with
    // a valid address.
    unsafe {
        std::ptr::copy_nonoverlapping(address.as_ptr().cast::<u8>(), storage.as_mut_ptr().cast::<u8>(), len);
        storage.assume_init()
    }
}

/// Returns the address of an AF_PACKET socket that receives one protocol on one interface.
pub(crate) fn link_address(ethertype: u16, ifindex: u32) -> io::Result<SockAddr> {
    let index = c_int::try_from(ifindex).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the storage is zeroed, larger than `sockaddr_ll` and aligned for every socket address. The
    // returned length is that of `sockaddr_ll`, in which all zeroes is valid for the fields that are not set.
    unsafe {
        SockAddr::try_init(|storage, len| {
            let link = storage.cast::<libc::sockaddr_ll>();
            (*link).sll_family = libc::AF_PACKET as u16;
            (*link).sll_protocol = ethertype.to_be();
            (*link).sll_ifindex = index;
            *len = mem::size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            Ok(())
        })
    }
    .map(|((), address)| address)
}
