//! Announces the addresses of Services from a node, by ARP, NDP and BGP.
