//! ARP and NDP answering and gratuitous announcements, without I/O.
