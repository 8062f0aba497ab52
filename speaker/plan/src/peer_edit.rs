//! What an edit of a BGPPeer means for its open session.

use fairlead_crds::model::config::Peer;

/// The effect of an edit on an open session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerEdit {
    /// The session does not depend on what changed.
    None,
    /// The session takes over the new parameters while it is established. The peer does not notice, unless
    /// the edit shuts the session down or starts it again.
    Live,
    /// The parameters belong to the connection or to the OPEN: they need a new session. So does the end of
    /// BFD: FRR ends the BGP session at the AdminDown, contrary to RFC 5882 §4.2, and deletes the routes.
    NewSession,
}

impl PeerEdit {
    /// Compares the parameters of an open session with the wanted ones.
    pub fn between(open: &Peer, wanted: &Peer) -> Self {
        let ((open_live, open_fixed), (live, fixed)) = (parameters(open), parameters(wanted));
        let ends_bfd = open.bfd.is_some() && wanted.bfd.is_none();
        if open_fixed != fixed || ends_bfd {
            Self::NewSession
        } else if open_live != live {
            Self::Live
        } else {
            Self::None
        }
    }
}

/// Returns the parameters that an established session can change, and the others. Every field of [`Peer`] is
/// named, so that a new one is assigned to one of the two, or to neither.
fn parameters(peer: &Peer) -> (impl PartialEq, impl PartialEq) {
    let Peer {
        name: _,
        // The speakers of another instance have sessions of their own.
        class: _,
        my_asn,
        local_asn,
        peer_asn,
        description,
        shutdown,
        address,
        passive,
        port,
        source_address,
        source_interface,
        fast_external_failover,
        router_id,
        hold_time,
        keepalive_time,
        connect_time,
        // The plan selects the sessions of this node.
        node_selectors: _,
        password_secret,
        tcp_ao,
        bfd,
        bfd_strict,
        ebgp_multi_hop,
        ttl_security,
        graceful_restart,
        graceful_restart_time,
        dual_stack_address_family,
        vrf,
        // The plan adds it to the routes.
        link_bandwidth: _,
    } = peer;
    // The key of a connection can be replaced, but not added or removed.
    let key = (password_secret.is_some(), tcp_ao);
    let operation = (description, shutdown, fast_external_failover, password_secret);
    let live = (operation, keepalive_time, connect_time, bfd, bfd_strict, graceful_restart_time);
    let source = (source_address, source_interface);
    let connection = (address, (passive, port), source, vrf, key, ebgp_multi_hop, ttl_security);
    let restart_time = graceful_restart.then_some(graceful_restart_time);
    let open = (my_asn, local_asn, peer_asn, router_id, hold_time, restart_time);
    (live, (connection, open, dual_stack_address_family))
}
