//! Safe wrappers of the system calls that need `unsafe`.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd};

use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};

/// A signal that the lab sends to its processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM: terminate in order.
    Terminate,
    /// SIGKILL: crash.
    Kill,
    /// SIGSTOP: the kernel still answers, the process does not.
    Stop,
    /// SIGCONT: ends SIGSTOP.
    Continue,
    /// SIGUSR2: a debug build of the speaker blocks its threads for five seconds, except that of BFD.
    Stall,
}

/// Moves the calling thread into a network namespace.
pub(crate) fn enter_netns(namespace: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: setns takes a descriptor and a flag, and accesses no memory of the process.
    check(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) })
}

/// Sends `signal` to one process.
pub(crate) fn signal(pid: u32, signal: Signal) -> io::Result<()> {
    let number = match signal {
        Signal::Terminate => libc::SIGTERM,
        Signal::Kill => libc::SIGKILL,
        Signal::Stop => libc::SIGSTOP,
        Signal::Continue => libc::SIGCONT,
        Signal::Stall => libc::SIGUSR2,
    };
    let pid = libc::pid_t::try_from(pid).map_err(|_| io::ErrorKind::InvalidInput)?;
    if pid <= 1 {
        // 0, -1 and 1 address process groups, all processes and init.
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: kill takes two integers.
    check(unsafe { libc::kill(pid, number) })
}

/// Returns true if this process runs as root.
pub(crate) fn is_root() -> bool {
    // SAFETY: geteuid cannot fail and takes nothing.
    unsafe { libc::geteuid() == 0 }
}

/// Returns the index of a network interface in the calling thread's namespace.
pub(crate) fn interface_index(name: &str) -> io::Result<u32> {
    let name = std::ffi::CString::new(name)?;
    // SAFETY: the pointer is a NUL-terminated string that outlives the call.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}

/// Returns a socket that receives every frame of one interface, in and out, in the calling thread's
/// namespace.
///
/// # Errors
/// The error of the system call that failed, such as a missing interface or missing privileges.
pub fn packet_socket(interface: &str) -> io::Result<Socket> {
    let index = interface_index(interface)?;
    // With protocol 0 the socket receives nothing before it is bound to its interface.
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0)))?;
    let all = u16::try_from(libc::ETH_P_ALL).unwrap_or(3);
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: `view_as` returns memory at least as large and aligned as sockaddr_ll; all octets are valid for
    // it.
    let address = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = all.to_be();
    address.sll_ifindex = i32::try_from(index).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the storage was filled as a sockaddr_ll of exactly this length just above.
    let address = unsafe { SockAddr::new(storage, mem::size_of::<libc::sockaddr_ll>() as libc::socklen_t) };
    socket.bind(&address)?;
    Ok(socket)
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
