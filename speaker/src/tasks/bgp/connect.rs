//! How a peer of the configuration becomes a session and a connection, and how that is closed.

use std::collections::BTreeSet;
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use fairlead_bgp::{Family, PeerAs, SessionConfig};
use fairlead_crds::model::config::{Peer, PeerAddress, PeerAsn};
use fairlead_net::tcp::{ConnectOptions, connect};
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Shared, router_id};

/// For how long a peer keeps the routes of a speaker that restarts (RFC 4724), FRR's default.
const RESTART_TIME: Duration = Duration::from_secs(120);

/// How long the peer may take to close its end, so that our last words are not lost to a reset.
const LINGER: Duration = Duration::from_millis(300);

/// Parameters of the session, or why there can be none.
pub(super) fn session_config(peer: &Peer, shared: &Shared) -> Result<SessionConfig, String> {
    let families: BTreeSet<Family> = match peer.address {
        PeerAddress::Interface(_) => {
            return Err("peers by interface (BGP unnumbered) are not supported yet".to_owned());
        }
        PeerAddress::Ip(_) if peer.dual_stack_address_family => Family::ALL.into(),
        PeerAddress::Ip(address) if address.is_ipv4() => [Family::Ipv4Unicast].into(),
        PeerAddress::Ip(_) => [Family::Ipv6Unicast].into(),
    };
    let node_addresses = shared.node_addresses.borrow().clone();
    let config = SessionConfig {
        local_asn: peer.local_asn.unwrap_or(peer.my_asn),
        peer_asn: match peer.peer_asn {
            PeerAsn::Number(number) => PeerAs::Exactly(number),
            PeerAsn::Internal => PeerAs::Internal,
            PeerAsn::External => PeerAs::External,
        },
        router_id: router_id(peer.router_id, &node_addresses, &shared.links.borrow(), &shared.node),
        hold_time: peer.hold_time,
        keepalive_time: Some(peer.keepalive_time).filter(|time| !time.is_zero()),
        connect_retry: peer.connect_time,
        families,
        graceful_restart: peer.graceful_restart.then_some(RESTART_TIME),
    };
    config.validate().map_err(|error| error.to_string())?;
    Ok(config)
}

/// Options of the connection; the TCP-MD5 key comes on top.
fn connect_options(peer: &Peer) -> Option<ConnectOptions> {
    let PeerAddress::Ip(address) = peer.address else { return None };
    let internal = match peer.peer_asn {
        PeerAsn::Internal => true,
        PeerAsn::External => false,
        PeerAsn::Number(number) => number == peer.local_asn.unwrap_or(peer.my_asn),
    };
    Some(ConnectOptions {
        source: peer.source_address,
        // An eBGP peer is on the link unless said otherwise, as every router has it.
        ttl: (!internal && !peer.ebgp_multi_hop).then_some(1),
        device: peer.vrf.clone(),
        ..ConnectOptions::new(SocketAddr::new(address, peer.port))
    })
}

/// Connects, or says in a sentence why not.
pub(super) async fn dial(peer: Peer, shared: Shared) -> Result<TcpStream, String> {
    let Some(mut options) = connect_options(&peer) else {
        return Err("the peer has no address".to_owned());
    };
    if let Some(secret) = &peer.password_secret {
        options.md5_key = Some(shared.passwords.get(secret).await?);
    }
    connect(&options).await.map_err(|error| error.to_string())
}

/// Closes our end and reads until the peer closes its: a socket closed with unread bytes resets the connection, and
/// the peer would lose what we said last. Returns whether the peer closed.
pub(super) async fn linger(stream: &TcpStream) -> bool {
    let _ = SockRef::from(stream).shutdown(Shutdown::Write);
    let mut buffer = vec![0; 4096];
    let drained = async {
        while stream.readable().await.is_ok() {
            match stream.try_read(&mut buffer) {
                Ok(0) => return,
                Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => return,
                _ => {}
            }
        }
    };
    timeout(LINGER, drained).await.is_ok()
}

/// Closes a connection that failed. Where the peer does not answer, it is reset: otherwise the kernel sends our last
/// words again and again, and over a path that has come back they reach the peer in the midst of the next session. FRR 8
/// then loses track of that session, where its neighbors are dynamic.
pub(super) async fn abandon(stream: TcpStream) {
    if !linger(&stream).await {
        let _ = stream.set_zero_linger();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(peer_asn: PeerAsn) -> Peer {
        Peer {
            name: "router".to_owned(),
            my_asn: 64512,
            local_asn: None,
            peer_asn,
            address: PeerAddress::Ip("192.0.2.254".parse().unwrap()),
            port: 179,
            source_address: None,
            router_id: None,
            hold_time: Duration::from_secs(90),
            keepalive_time: Duration::from_secs(30),
            connect_time: Duration::from_secs(120),
            node_selectors: Vec::new(),
            password_secret: None,
            bfd: None,
            ebgp_multi_hop: false,
            graceful_restart: false,
            dual_stack_address_family: false,
            vrf: None,
        }
    }

    #[test]
    fn only_a_single_hop_ebgp_session_is_kept_on_the_link() {
        let ttl = |peer: &Peer| connect_options(peer).unwrap().ttl;
        let ebgp = peer(PeerAsn::Number(64513));
        assert_eq!(ttl(&ebgp), Some(1));
        assert_eq!(ttl(&peer(PeerAsn::External)), Some(1));
        assert_eq!(ttl(&Peer { ebgp_multi_hop: true, ..ebgp }), None);
        assert_eq!(ttl(&peer(PeerAsn::Number(64512))), None);
        assert_eq!(ttl(&peer(PeerAsn::Internal)), None);
        // What the peer sees is localASN: with it, an equal myASN does not make the session internal.
        assert_eq!(ttl(&Peer { local_asn: Some(64999), ..peer(PeerAsn::Number(64512)) }), Some(1));
    }
}
