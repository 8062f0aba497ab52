//! Classic BPF programs that select the frames, datagrams or segments which the kernel passes to a socket.
//!
//! Without a filter, every frame of the interface would wake the speaker: 19 % of a core at 105,000 frames a
//! second.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use socket2::SockFilter;

/// One instruction (`struct sock_filter` of linux/filter.h): code, jump if true, jump if false, operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Instruction(u16, u8, u8, u32);

const LOAD_WORD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const LOAD_HALF: u16 = 0x28; // BPF_LD | BPF_H | BPF_ABS
const LOAD_BYTE: u16 = 0x30; // BPF_LD | BPF_B | BPF_ABS
const JUMP_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const JUMP_GREATER: u16 = 0x25; // BPF_JMP | BPF_JGT | BPF_K
const JUMP_AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K
const STORE: u16 = 0x02; // BPF_ST
const RECALL: u16 = 0x60; // BPF_LD | BPF_W | BPF_MEM

/// Offset of the metadata of a frame (`SKF_AD_OFF`).
const ANCILLARY: u32 = -0x1000_i32 as u32;
const PACKET_TYPE: u32 = ANCILLARY + 4; // SKF_AD_PKTTYPE
const IFINDEX: u32 = ANCILLARY + 8; // SKF_AD_IFINDEX

/// Offset of the IP header of a packet (`SKF_NET_OFF`). On a UDP or TCP socket, other offsets are relative to
/// the header of that protocol.
const NETWORK_HEADER: u32 = -0x10_0000_i32 as u32;
const TTL: u32 = NETWORK_HEADER + 8;
const HOP_LIMIT: u32 = NETWORK_HEADER + 7;
const IPV4_SOURCE: u32 = NETWORK_HEADER + 12;
const IPV6_SOURCE: u32 = NETWORK_HEADER + 8;

/// `PACKET_HOST`.
const HOST: u32 = 0;
/// `PACKET_BROADCAST`; the only smaller value is `PACKET_HOST`.
const BROADCAST: u32 = 1;
/// `PACKET_MULTICAST`; greater values are frames to other hosts and outgoing frames.
const MULTICAST: u32 = 2;

const ETHERTYPE: u32 = 12;
const ETHERTYPE_ARP: u32 = 0x0806;
const ETHERTYPE_IPV6: u32 = 0x86dd;
const ARP_OPERATION: u32 = 14 + 6;
const ARP_REQUEST: u32 = 1;
const ARP_REPLY: u32 = 2;
const IPV6_NEXT_HEADER: u32 = 14 + 6;
const ICMPV6: u32 = 58;
const IPV6_HOP_LIMIT: u32 = 14 + 7;
const ICMPV6_TYPE: u32 = 14 + 40;
const ROUTER_SOLICITATION: u32 = 133;
const ROUTER_ADVERTISEMENT: u32 = 134;
const NEIGHBOR_SOLICITATION: u32 = 135;
const NEIGHBOR_ADVERTISEMENT: u32 = 136;
/// Most addresses in a program of [`sources`]. The kernel limits the memory of the filter and the TCP-MD5
/// keys of a socket together (`net.core.optmem_max`, 20 KiB before Linux 6.7), of which this many IPv6
/// addresses need less than half.
pub(crate) const MAX_SOURCES: usize = 64;

/// Number of octets to pass; more than any frame has.
const WHOLE_FRAME: u32 = 0x4_0000;

/// Returns a program that passes ARP requests and replies which arrive on this interface, broadcast or sent
/// to this host. A broadcast reply is the announcement of another host.
///
/// It compares the interface because a socket also receives the frames of VLAN and macvlan devices on top of
/// its interface, and an answer to those would leave without the tag.
pub(crate) fn arp_messages(ifindex: u32) -> Vec<Instruction> {
    all_of(&[
        (LOAD_WORD, PACKET_TYPE, Test::AtMost(BROADCAST)),
        (LOAD_WORD, IFINDEX, Test::Equal(ifindex)),
        (LOAD_HALF, ETHERTYPE, Test::Equal(ETHERTYPE_ARP)),
        (LOAD_HALF, ARP_OPERATION, Test::AtLeast(ARP_REQUEST)),
        (LOAD_HALF, ARP_OPERATION, Test::AtMost(ARP_REPLY)),
    ])
}

/// Returns a program that passes neighbor solicitations and advertisements which arrive on this interface
/// with hop limit 255, that is, without having crossed a router.
pub(crate) fn neighbor_discovery(ifindex: u32) -> Vec<Instruction> {
    icmpv6_of_link(ifindex, &[Test::AtLeast(NEIGHBOR_SOLICITATION), Test::AtMost(NEIGHBOR_ADVERTISEMENT)])
}

/// Returns a program that passes ARP replies to this host which arrive on this interface.
pub(crate) fn arp_replies(ifindex: u32) -> Vec<Instruction> {
    all_of(&[
        (LOAD_WORD, PACKET_TYPE, Test::Equal(HOST)),
        (LOAD_WORD, IFINDEX, Test::Equal(ifindex)),
        (LOAD_HALF, ETHERTYPE, Test::Equal(ETHERTYPE_ARP)),
        (LOAD_HALF, ARP_OPERATION, Test::Equal(ARP_REPLY)),
    ])
}

/// Returns a program that passes neighbor advertisements to this host which arrive on this interface with hop
/// limit 255.
pub(crate) fn neighbor_advertisements(ifindex: u32) -> Vec<Instruction> {
    all_of(&[
        (LOAD_WORD, PACKET_TYPE, Test::Equal(HOST)),
        (LOAD_WORD, IFINDEX, Test::Equal(ifindex)),
        (LOAD_HALF, ETHERTYPE, Test::Equal(ETHERTYPE_IPV6)),
        (LOAD_BYTE, IPV6_NEXT_HEADER, Test::Equal(ICMPV6)),
        (LOAD_BYTE, IPV6_HOP_LIMIT, Test::Equal(255)),
        (LOAD_BYTE, ICMPV6_TYPE, Test::Equal(NEIGHBOR_ADVERTISEMENT)),
    ])
}

/// Returns a program for a UDP socket that passes datagrams with at least this TTL or hop limit.
pub(crate) fn min_ttl(ipv4: bool, ttl: u8) -> Vec<Instruction> {
    all_of(&[(LOAD_BYTE, if ipv4 { TTL } else { HOP_LIMIT }, Test::AtLeast(u32::from(ttl)))])
}

/// Returns a program for a raw ICMP or ICMPv6 socket that passes echo replies with this identifier. An IPv4
/// packet begins with its IP header, which has no options.
pub(crate) fn echo_replies(ipv4: bool, identifier: u16) -> Vec<Instruction> {
    let identifier = Test::Equal(u32::from(identifier));
    if ipv4 {
        all_of(&[
            (LOAD_BYTE, 0, Test::Equal(0x45)),
            (LOAD_BYTE, 20, Test::Equal(0)),
            (LOAD_HALF, 20 + 4, identifier),
        ])
    } else {
        all_of(&[(LOAD_BYTE, 0, Test::Equal(129)), (LOAD_HALF, 4, identifier)])
    }
}

/// Returns a program that passes nothing, for a socket that only sends.
pub(crate) fn nothing() -> Vec<Instruction> {
    vec![Instruction(RETURN, 0, 0, 0)]
}

/// Returns a program for an IPv4 TCP socket that passes segments from these addresses.
fn ipv4_sources(sources: impl IntoIterator<Item = Ipv4Addr>) -> Vec<Instruction> {
    let mut program = vec![Instruction(LOAD_WORD, 0, 0, IPV4_SOURCE)];
    for source in sources {
        program.push(Instruction(JUMP_EQUAL, 0, 1, source.to_bits()));
        program.push(Instruction(RETURN, 0, 0, WHOLE_FRAME));
    }
    program.extend(nothing());
    program
}

/// Returns a program for an IPv6 TCP socket that passes segments from these addresses.
fn ipv6_sources(sources: impl IntoIterator<Item = Ipv6Addr>) -> Vec<Instruction> {
    // The words of the address, which the tests of all sources read again.
    let mut program: Vec<Instruction> = (0..4)
        .flat_map(|word| {
            [Instruction(LOAD_WORD, 0, 0, IPV6_SOURCE + 4 * word), Instruction(STORE, 0, 0, word)]
        })
        .collect();
    for source in sources {
        // The last word first: it differs most. Each pair skips those after it, and the return.
        for (word, skip) in [(3, 7), (2, 5), (1, 3), (0, 1)] {
            let wanted = (source.to_bits() >> (32 * (3 - word))) as u32;
            program.push(Instruction(RECALL, 0, 0, word));
            program.push(Instruction(JUMP_EQUAL, 0, skip, wanted));
        }
        program.push(Instruction(RETURN, 0, 0, WHOLE_FRAME));
    }
    program.extend(nothing());
    program
}

/// Returns a program for a TCP socket that passes segments from the addresses that are of its family; `None`
/// if they are more than [`MAX_SOURCES`].
pub(crate) fn sources(ipv4: bool, sources: &[IpAddr]) -> Option<Vec<Instruction>> {
    if sources.len() > MAX_SOURCES {
        return None;
    }
    let v4 = sources.iter().filter_map(|source| match source {
        IpAddr::V4(v4) => Some(*v4),
        IpAddr::V6(_) => None,
    });
    let v6 = sources.iter().filter_map(|source| match source {
        IpAddr::V4(_) => None,
        IpAddr::V6(v6) => Some(*v6),
    });
    Some(if ipv4 { ipv4_sources(v4) } else { ipv6_sources(v6) })
}

/// Returns a program that passes solicitations and advertisements of routers which arrive on this interface
/// with hop limit 255.
pub(crate) fn router_discovery(ifindex: u32) -> Vec<Instruction> {
    icmpv6_of_link(ifindex, &[Test::AtLeast(ROUTER_SOLICITATION), Test::AtMost(ROUTER_ADVERTISEMENT)])
}

#[derive(Clone, Copy)]
enum Test {
    Equal(u32),
    AtMost(u32),
    AtLeast(u32),
}

/// Returns a program that passes ICMPv6 messages of these types which arrive on this interface with hop limit
/// 255, that is, without having crossed a router.
fn icmpv6_of_link(ifindex: u32, types: &[Test]) -> Vec<Instruction> {
    let mut fields = vec![
        (LOAD_WORD, PACKET_TYPE, Test::AtMost(MULTICAST)),
        (LOAD_WORD, IFINDEX, Test::Equal(ifindex)),
        (LOAD_HALF, ETHERTYPE, Test::Equal(ETHERTYPE_IPV6)),
        (LOAD_BYTE, IPV6_NEXT_HEADER, Test::Equal(ICMPV6)),
        (LOAD_BYTE, IPV6_HOP_LIMIT, Test::Equal(255)),
    ];
    fields.extend(types.iter().map(|test| (LOAD_BYTE, ICMPV6_TYPE, *test)));
    all_of(&fields)
}

/// Returns a program that passes a frame if every field passes its test. A load beyond the end of the frame
/// drops it.
fn all_of(fields: &[(u16, u32, Test)]) -> Vec<Instruction> {
    let mut program = Vec::with_capacity(2 * fields.len() + 2);
    for (at, (load, offset, test)) in fields.iter().enumerate() {
        // The distance to the last instruction: the remaining pairs and the instruction that passes the
        // frame.
        let drop = (2 * (fields.len() - 1 - at) + 1) as u8;
        program.push(Instruction(*load, 0, 0, *offset));
        program.push(match *test {
            Test::Equal(value) => Instruction(JUMP_EQUAL, 0, drop, value),
            Test::AtMost(value) => Instruction(JUMP_GREATER, drop, 0, value),
            Test::AtLeast(value) => Instruction(JUMP_AT_LEAST, 0, drop, value),
        });
    }
    program.push(Instruction(RETURN, 0, 0, WHOLE_FRAME));
    program.push(Instruction(RETURN, 0, 0, 0));
    program
}

pub(crate) fn compile(program: &[Instruction]) -> Vec<SockFilter> {
    program
        .iter()
        .map(|Instruction(code, yes, no, operand)| SockFilter::new(*code, *yes, *no, *operand))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program as the kernel does. Returns true if it passes the frame.
    fn passes(program: &[Instruction], packet_type: u32, ifindex: u32, frame: &[u8]) -> bool {
        let (mut at, mut accumulator, mut memory) = (0, 0, [0; 16]);
        loop {
            let Instruction(code, yes, no, operand) = program[at];
            at += 1;
            let width = match code {
                LOAD_WORD => 4,
                LOAD_HALF => 2,
                LOAD_BYTE => 1,
                JUMP_EQUAL => {
                    at += usize::from(if accumulator == operand { yes } else { no });
                    continue;
                }
                JUMP_GREATER => {
                    at += usize::from(if accumulator > operand { yes } else { no });
                    continue;
                }
                JUMP_AT_LEAST => {
                    at += usize::from(if accumulator >= operand { yes } else { no });
                    continue;
                }
                STORE => {
                    memory[operand as usize] = accumulator;
                    continue;
                }
                RECALL => {
                    accumulator = memory[operand as usize];
                    continue;
                }
                RETURN => return operand > 0,
                other => panic!("unknown instruction {other:#x}"),
            };
            accumulator = match operand {
                PACKET_TYPE => packet_type,
                IFINDEX => ifindex,
                _ => {
                    // For the filter of a UDP or TCP socket, `frame` is the IP packet.
                    let at = operand.wrapping_sub(if operand >= NETWORK_HEADER { NETWORK_HEADER } else { 0 });
                    match frame.get(at as usize..at as usize + width) {
                        Some(bytes) => bytes.iter().fold(0, |value, byte| value << 8 | u32::from(*byte)),
                        None => return false,
                    }
                }
            };
        }
    }

    fn frame(changes: &[(usize, u8)], len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        for (at, value) in changes {
            bytes[*at] = *value;
        }
        bytes
    }

    #[test]
    fn arp_filter_passes_messages_to_this_host() {
        let request = frame(&[(12, 0x08), (13, 0x06), (21, 1)], 42);
        let reply = frame(&[(12, 0x08), (13, 0x06), (21, 2)], 42);
        let ipv4 = frame(&[(12, 0x08), (21, 1)], 42);
        let inverse = frame(&[(12, 0x08), (13, 0x06), (21, 8)], 42);
        let program = arp_messages(7);
        for (name, packet_type, ifindex, frame, expected) in [
            ("to this host", 0, 7, &request[..], true),
            ("broadcast", 1, 7, &request, true),
            ("to a multicast group", 2, 7, &request, false),
            ("to another host", 3, 7, &request, false),
            ("outgoing", 4, 7, &request, false),
            ("of a VLAN on the interface", 1, 8, &request, false),
            ("reply", 0, 7, &reply, true),
            ("broadcast reply", 1, 7, &reply, true),
            ("reply to another host", 3, 7, &reply, false),
            ("inverse ARP", 1, 7, &inverse, false),
            ("IPv4", 0, 7, &ipv4, false),
            ("truncated before the operation", 0, 7, &request[..21], false),
            ("empty", 0, 7, &[], false),
        ] {
            assert_eq!(passes(&program, packet_type, ifindex, frame), expected, "{name}");
        }
    }

    #[test]
    fn ndp_filter_passes_neighbor_discovery_of_the_link() {
        let base = [(12, 0x86), (13, 0xdd), (20, 58), (21, 255), (54, 135)];
        let with = |at: usize, value: u8| {
            let mut bytes = frame(&base, 78);
            bytes[at] = value;
            bytes
        };
        let program = neighbor_discovery(7);
        for (name, packet_type, frame, expected) in [
            ("to a multicast group", 2, frame(&base, 78), true),
            ("to this host", 0, frame(&base, 78), true),
            ("to another host", 3, frame(&base, 78), false),
            ("advertisement", 2, with(54, 136), true),
            ("router advertisement", 2, with(54, 134), false),
            ("redirect", 2, with(54, 137), false),
            ("hop limit 254", 2, with(21, 254), false),
            ("UDP", 2, with(20, 17), false),
            ("IPv4", 2, with(13, 0), false),
            ("truncated before the type", 2, frame(&base, 78)[..54].to_vec(), false),
        ] {
            assert_eq!(passes(&program, packet_type, 7, &frame), expected, "{name}");
        }
    }

    #[test]
    fn router_discovery_filter_passes_its_two_types() {
        let program = router_discovery(7);
        for kind in 0..=255 {
            let packet = frame(&[(12, 0x86), (13, 0xdd), (20, 58), (21, 255), (54, kind)], 70);
            assert_eq!(passes(&program, 2, 7, &packet), matches!(kind, 133 | 134), "type {kind}");
            assert!(!passes(&program, 2, 8, &packet), "of a VLAN on the interface");
        }
    }

    #[test]
    fn inquiry_filters_pass_answers_to_this_host() {
        let reply = frame(&[(12, 0x08), (13, 0x06), (21, 2)], 42);
        let request = frame(&[(12, 0x08), (13, 0x06), (21, 1)], 42);
        let advertisement = frame(&[(12, 0x86), (13, 0xdd), (20, 58), (21, 255), (54, 136)], 86);
        let solicitation = frame(&[(12, 0x86), (13, 0xdd), (20, 58), (21, 255), (54, 135)], 86);
        for (name, program, packet_type, ifindex, frame, expected) in [
            ("reply", arp_replies(7), 0, 7, &reply, true),
            ("broadcast reply", arp_replies(7), 1, 7, &reply, false),
            ("request", arp_replies(7), 0, 7, &request, false),
            ("advertisement", neighbor_advertisements(7), 0, 7, &advertisement, true),
            ("multicast advertisement", neighbor_advertisements(7), 2, 7, &advertisement, false),
            ("of a VLAN on the interface", neighbor_advertisements(7), 0, 8, &advertisement, false),
            ("solicitation", neighbor_advertisements(7), 0, 7, &solicitation, false),
        ] {
            assert_eq!(passes(&program, packet_type, ifindex, frame), expected, "{name}");
        }
    }

    #[test]
    fn ttl_filter_passes_datagrams_with_at_least_the_ttl() {
        for (ipv4, at) in [(true, 8), (false, 7)] {
            for (minimum, ttl, expected) in
                [(255, 255, true), (255, 254, false), (250, 250, true), (250, 249, false), (1, 0, false)]
            {
                let packet = frame(&[(at, ttl)], 60);
                assert_eq!(passes(&min_ttl(ipv4, minimum), 0, 0, &packet), expected, "{ttl} of {minimum}");
            }
        }
        assert!(!passes(&nothing(), 0, 0, &[]));
    }

    #[test]
    fn source_filter_passes_segments_of_its_addresses() {
        let v4 = |last| IpAddr::from([192, 0, 2, last]);
        let v6 = |first, last| IpAddr::from([first, 0xdb8, 0x8000_u16, 1, 2, 3, 4, last]);
        let packet = |source: IpAddr| match source {
            IpAddr::V4(source) => [&[0; 12][..], &source.octets(), &[0; 24]].concat(),
            IpAddr::V6(source) => [&[0; 8][..], &source.octets(), &[0; 36]].concat(),
        };
        let many: Vec<IpAddr> = (0..MAX_SOURCES as u16).map(|last| v6(0x2001, last)).collect();
        for (sources, source, expected) in [
            (&[v4(1), v4(2)][..], v4(1), true),
            (&[v4(1), v4(2)], v4(2), true),
            (&[v4(1), v4(2)], v4(3), false),
            (&[], v4(1), false),
            (&[v6(0x2001, 1), v6(0x2001, 2)], v6(0x2001, 2), true),
            (&[v6(0x2001, 1), v6(0x2001, 2)], v6(0x2001, 3), false),
            (&[v6(0x2001, 1), v6(0x2002, 2)], v6(0x2001, 2), false),
            (&[], v6(0x2001, 1), false),
            (&many, v6(0x2001, 63), true),
            (&many, v6(0x2001, 64), false),
        ] {
            let program = super::sources(source.is_ipv4(), sources).unwrap();
            assert_eq!(passes(&program, 0, 0, &packet(source)), expected, "{source} of {sources:?}");
            assert!(!passes(&program, 0, 0, &packet(source)[..8]), "truncated");
        }
        assert_eq!(super::sources(false, &[&many[..], &[v6(1, 1)]].concat()), None);
    }

    #[test]
    fn arp_filter_instructions() {
        // In the notation of `tcpdump -d`.
        assert_eq!(
            arp_messages(2),
            [
                Instruction(0x20, 0, 0, 0xffff_f004), // ld [type]
                Instruction(0x25, 9, 0, 1),           // jgt #1, drop
                Instruction(0x20, 0, 0, 0xffff_f008), // ld [ifidx]
                Instruction(0x15, 0, 7, 2),           // jeq #2, next, drop
                Instruction(0x28, 0, 0, 12),          // ldh [12]
                Instruction(0x15, 0, 5, 0x0806),      // jeq #0x806, next, drop
                Instruction(0x28, 0, 0, 20),          // ldh [20]
                Instruction(0x35, 0, 3, 1),           // jge #1, next, drop
                Instruction(0x28, 0, 0, 20),          // ldh [20]
                Instruction(0x25, 1, 0, 2),           // jgt #2, drop
                Instruction(0x06, 0, 0, 0x4_0000),    // ret #262144
                Instruction(0x06, 0, 0, 0),           // drop: ret #0
            ]
        );
    }
}
