//! ARP frames (RFC 826).
