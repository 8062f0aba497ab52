//! The sockets of the speaker: AF_PACKET, ICMPv6, TCP options, netlink.
