//! `recvmmsg`: several datagrams with their control messages in one call, into buffers that are reused.

use std::ffi::c_int;
use std::io;
use std::mem::{self, MaybeUninit};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

/// Maximum number of datagrams of one call.
pub(crate) const BATCH_SIZE: usize = 16;
/// Maximum length of a payload in octets; the kernel truncates longer ones.
const PAYLOAD_SIZE: usize = 64;
/// Room for the control messages of one datagram, in octets: a time (32), a TTL (24), an address and an
/// interface (40).
const CONTROL_SIZE: usize = 128;
/// Size of `sockaddr_in6`.
const SOURCE_SIZE: usize = 28;

/// One received datagram.
#[derive(Debug)]
// `cmsghdr` and the socket addresses need an alignment of at most 8.
#[repr(C, align(8))]
pub(crate) struct Slot {
    control: [u8; CONTROL_SIZE],
    source: [u8; SOURCE_SIZE],
    payload: [u8; PAYLOAD_SIZE],
    control_length: usize,
    payload_length: usize,
}

/// What the control messages of a datagram contain. A value that the kernel did not report is zero or `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ancillary {
    /// TTL or hop limit.
    pub ttl: u8,
    /// Index of the interface.
    pub interface: u32,
    /// Time of arrival by the wall clock, since the epoch.
    pub stamp: Option<Duration>,
}

impl Slot {
    pub(crate) const fn new() -> Self {
        Self {
            control: [0; CONTROL_SIZE],
            source: [0; SOURCE_SIZE],
            payload: [0; PAYLOAD_SIZE],
            control_length: 0,
            payload_length: 0,
        }
    }

    pub(crate) fn payload(&self) -> &[u8] {
        self.payload.get(..self.payload_length).unwrap_or(&self.payload)
    }

    /// Returns the source address (`sockaddr_in` or `sockaddr_in6`).
    pub(crate) fn source(&self) -> Option<IpAddr> {
        match c_int::from(u16::from_ne_bytes(array(&self.source, 0)?)) {
            libc::AF_INET => Some(Ipv4Addr::from(array::<4>(&self.source, 4)?).into()),
            libc::AF_INET6 => Some(Ipv6Addr::from(array::<16>(&self.source, 8)?).into()),
            _ => None,
        }
    }

    pub(crate) fn ancillary(&self) -> Ancillary {
        ancillary(self.control.get(..self.control_length).unwrap_or(&self.control))
    }
}

/// Receives up to [`BATCH_SIZE`] datagrams without waiting and returns their number, which is less if no more
/// are queued.
pub(crate) fn receive(socket: BorrowedFd<'_>, slots: &mut [Slot; BATCH_SIZE]) -> io::Result<usize> {
    let mut vectors = slots
        .each_mut()
        .map(|slot| libc::iovec { iov_base: slot.payload.as_mut_ptr().cast(), iov_len: PAYLOAD_SIZE });
    // SAFETY: all zeroes is a valid `mmsghdr`: lengths of zero and null pointers.
    let mut headers: [libc::mmsghdr; BATCH_SIZE] = unsafe { MaybeUninit::zeroed().assume_init() };
    for ((header, vector), slot) in headers.iter_mut().zip(&mut vectors).zip(slots.iter_mut()) {
        header.msg_hdr.msg_name = slot.source.as_mut_ptr().cast();
        header.msg_hdr.msg_namelen = SOURCE_SIZE as libc::socklen_t;
        header.msg_hdr.msg_iov = vector;
        header.msg_hdr.msg_iovlen = 1;
        header.msg_hdr.msg_control = slot.control.as_mut_ptr().cast();
        header.msg_hdr.msg_controllen = CONTROL_SIZE as _;
    }
    // SAFETY: the descriptor is open while it is borrowed. Every header describes the buffers of one slot
    // with their sizes; the slots and vectors outlive the call, and nothing else uses them during it. The
    // kernel keeps no pointer after the call.
    let received = unsafe {
        libc::recvmmsg(
            socket.as_raw_fd(),
            headers.as_mut_ptr(),
            BATCH_SIZE as libc::c_uint,
            libc::MSG_DONTWAIT as _,
            std::ptr::null_mut(),
        )
    };
    if received < 0 {
        return Err(io::Error::last_os_error());
    }
    let received = received as usize;
    for (slot, header) in slots.iter_mut().zip(&headers).take(received) {
        slot.payload_length = (header.msg_len as usize).min(PAYLOAD_SIZE);
        #[allow(clippy::unnecessary_cast, reason = "not usize with musl")]
        let control_length = header.msg_hdr.msg_controllen as usize;
        slot.control_length = control_length.min(CONTROL_SIZE);
    }
    Ok(received)
}

/// Reads control messages: each has a `cmsghdr` (length including this header, level, type), its data, and
/// padding to a multiple of 8 octets.
fn ancillary(mut messages: &[u8]) -> Ancillary {
    const HEADER: usize = mem::size_of::<usize>() + 2 * mem::size_of::<c_int>();
    let mut found = Ancillary::default();
    while let (Some(length), Some(level), Some(kind)) = (
        array(messages, 0).map(usize::from_ne_bytes),
        array(messages, HEADER - 8).map(c_int::from_ne_bytes),
        array(messages, HEADER - 4).map(c_int::from_ne_bytes),
    ) {
        let Some(data) = messages.get(HEADER..length) else { break };
        let integer = |at| array(data, at).map(c_int::from_ne_bytes);
        match (level, kind) {
            (libc::IPPROTO_IP, libc::IP_TTL) | (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT) => {
                found.ttl = integer(0).and_then(|ttl| u8::try_from(ttl).ok()).unwrap_or(0);
            }
            // `in_pktinfo`: interface, two addresses. `in6_pktinfo`: address, interface.
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => found.interface = interface(integer(0)),
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => found.interface = interface(integer(16)),
            // `timespec`: seconds, nanoseconds.
            (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => {
                let part = |at| array(data, at).map(i64::from_ne_bytes);
                found.stamp = part(0).zip(part(8)).and_then(|(seconds, nanoseconds)| {
                    let nanoseconds = u32::try_from(nanoseconds).ok().filter(|n| *n < 1_000_000_000)?;
                    Some(Duration::new(u64::try_from(seconds).ok()?, nanoseconds))
                });
            }
            _ => {}
        }
        messages = messages.get(length.next_multiple_of(mem::align_of::<usize>())..).unwrap_or_default();
    }
    found
}

fn interface(index: Option<c_int>) -> u32 {
    index.and_then(|index| u32::try_from(index).ok()).unwrap_or(0)
}

fn array<const N: usize>(octets: &[u8], at: usize) -> Option<[u8; N]> {
    octets.get(at..at + N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(level: c_int, kind: c_int, data: &[u8]) -> Vec<u8> {
        let mut message = (16 + data.len()).to_ne_bytes().to_vec();
        message.extend(level.to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend(data);
        message.resize(message.len().next_multiple_of(8), 0);
        message
    }

    #[test]
    fn control_messages_of_any_content_are_read() {
        let ttl = message(libc::IPPROTO_IP, libc::IP_TTL, &255_i32.to_ne_bytes());
        let stamp = [7_i64.to_ne_bytes(), 5_i64.to_ne_bytes()].concat();
        let stamp = message(libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS, &stamp);
        let v4 = message(libc::IPPROTO_IP, libc::IP_PKTINFO, &[3_i32.to_ne_bytes(), [0; 4], [0; 4]].concat());
        let v6 = [&[0; 16][..], &4_u32.to_ne_bytes()].concat();
        let v6 = message(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &v6);
        let all = [&ttl[..], &stamp, &v4].concat();
        let expected = Ancillary { ttl: 255, interface: 3, stamp: Some(Duration::new(7, 5)) };
        assert_eq!(ancillary(&all), expected);
        assert_eq!(ancillary(&v6), Ancillary { interface: 4, ..Ancillary::default() });
        for length in 0..all.len() {
            let _ = ancillary(&all[..length]);
        }
        let negative = message(libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS, &[0xff; 16]);
        let endless = message(libc::SOL_SOCKET, 0, &[]).iter().map(|_| 0).collect::<Vec<u8>>();
        for odd in [negative, endless, usize::MAX.to_ne_bytes().repeat(4)] {
            assert_eq!(ancillary(&odd), Ancillary::default());
        }
    }
}
