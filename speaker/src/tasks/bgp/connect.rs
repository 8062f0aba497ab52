//! Parameters of a session and its TCP connection, from the configuration of a peer; connecting.

use std::collections::BTreeSet;
use std::time::Duration;

use fairlead_bgp::{Family, PeerAs, SessionConfig};
use fairlead_crds::model::config::{Peer, PeerAddress, PeerAsn, TcpAo, TcpAoAlgorithm};
use fairlead_net::tcp::{AoAlgorithm, AoKey, ConnectError, ConnectOptions, connect};
use tokio::net::TcpStream;

use super::PeerContext;
use super::endpoint::Endpoint;
use super::passwords::PendingKey;

/// Returns the parameters of the session.
///
/// # Errors
/// Returns the problem, as a text for the operator, if the configuration is invalid or not supported.
pub(super) fn session_config(peer: &Peer, context: &PeerContext) -> Result<SessionConfig, String> {
    let carries = |family: &Family| peer.carries(*family == Family::Ipv4Unicast);
    let families: BTreeSet<Family> = Family::ALL.into_iter().filter(carries).collect();
    let config = SessionConfig {
        local_asn: peer.local_asn.unwrap_or(peer.my_asn),
        peer_asn: match peer.peer_asn {
            PeerAsn::Number(number) => PeerAs::Exactly(number),
            PeerAsn::Internal => PeerAs::Internal,
            PeerAsn::External => PeerAs::External,
        },
        router_id: peer
            .router_id
            .unwrap_or_else(|| context.router_id.get(&context.node_addresses.borrow(), &context.node)),
        hold_time: peer.hold_time,
        keepalive_time: keepalive_time(peer),
        connect_retry: peer.connect_time,
        families,
        graceful_restart: peer.graceful_restart.then_some(peer.graceful_restart_time),
        passive: peer.passive,
        restarting_until: context.process.started.checked_add(peer.graceful_restart_time),
        // After a reboot, the rules of kube-proxy are new.
        forwarding_preserved: context.process.node_uptime >= peer.graceful_restart_time,
    };
    config.validate().map_err(|error| error.to_string())?;
    Ok(config)
}

/// Highest TTL and hop limit.
const MAX_TTL: u8 = 255;

/// Longest duration of a connection attempt. Linux sends SYNs after 0, 1, 3 and 7 s; a peer that is reachable
/// answers one of them. Shorter than the limit of the session, whose error does not name the cause.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(8);

/// Returns the keepalive interval of the session.
pub(super) fn keepalive_time(peer: &Peer) -> Option<Duration> {
    Some(peer.keepalive_time).filter(|time| !time.is_zero())
}

/// Returns the options of the connection, without the TCP-MD5 key.
pub(super) fn connect_options(peer: &Peer, endpoint: Endpoint) -> ConnectOptions {
    // An eBGP peer without ebgpMultiHop must be on the link, as in FRR and other routers. All other sessions
    // send the highest TTL, because the peer may require it (GTSM).
    let on_link = !is_internal(peer) && !peer.ebgp_multi_hop && peer.ttl_security.is_none();
    ConnectOptions {
        source: endpoint.source,
        ttl: Some(if on_link { 1 } else { MAX_TTL }),
        // RFC 5082 §3: each hop decreases the TTL by one.
        min_ttl: peer.ttl_security.map(|hops| MAX_TTL - (hops - 1)),
        device: peer.vrf.clone(),
        timeout: CONNECT_TIMEOUT,
        ..ConnectOptions::new(endpoint.socket_address(peer.port))
    }
}

/// Returns whether the session is an iBGP session.
pub(super) fn is_internal(peer: &Peer) -> bool {
    match peer.peer_asn {
        PeerAsn::Internal => true,
        PeerAsn::External => false,
        PeerAsn::Number(number) => number == peer.local_asn.unwrap_or(peer.my_asn),
    }
}

/// Why a connection attempt failed.
#[derive(Debug)]
pub(super) struct DialError {
    /// A text for the operator.
    pub(super) reason: String,
    /// True if the router answered with a reset.
    pub(super) is_reset: bool,
}

impl From<String> for DialError {
    fn from(reason: String) -> Self {
        Self { reason, is_reset: false }
    }
}

fn is_reset(error: &ConnectError) -> bool {
    use std::io::ErrorKind::{ConnectionRefused, ConnectionReset};
    matches!(error, ConnectError::Connect { source, .. }
        if matches!(source.kind(), ConnectionRefused | ConnectionReset))
}

/// Connects to the peer at `endpoint`, with a TCP-MD5 key if `key` is set.
///
/// # Errors
/// Returns the problem, as a text for the operator, and whether the router reset the connection.
pub(super) async fn connect_to_peer(
    peer: &Peer,
    endpoint: Endpoint,
    key: Option<PendingKey>,
) -> Result<TcpStream, DialError> {
    let mut options = connect_options(peer, endpoint);
    let mut secret = None;
    if let Some(key) = key {
        let (name, key) = key.get().await?;
        let key = key.octets().to_vec();
        match peer.tcp_ao {
            None => options.md5_key = Some(key),
            Some(ao) => options.ao_key = Some(ao_key(ao, key)),
        }
        secret = Some(name);
    }
    let problem = |error| {
        let text = connect_problem(&error, secret.as_deref(), options.min_ttl, peer.tcp_ao.is_some());
        DialError { reason: without_found_router(&text, peer, endpoint), is_reset: is_reset(&error) }
    };
    connect(&options).await.map_err(problem)
}

/// Returns the problem without the address of the router that an unnumbered peer found. If several routers
/// take turns, each attempt would otherwise change the Speaker object.
fn without_found_router(problem: &str, peer: &Peer, endpoint: Endpoint) -> String {
    match &peer.address {
        PeerAddress::Interface(interface) => {
            let address = endpoint.socket_address(peer.port).to_string();
            problem.replace(&address, &format!("the router on interface {interface}"))
        }
        _ => problem.to_owned(),
    }
}

fn ao_key(TcpAo { send_id, receive_id, algorithm }: TcpAo, key: Vec<u8>) -> AoKey {
    let algorithm = match algorithm {
        TcpAoAlgorithm::HmacSha1 => AoAlgorithm::HmacSha1,
        TcpAoAlgorithm::Aes128Cmac => AoAlgorithm::Aes128Cmac,
    };
    AoKey { send_id, receive_id, algorithm, key }
}

/// Returns the error of a connection attempt, with what the operator should check. `secret` is the Secret of
/// the key, `min_ttl` the lowest TTL that this node accepts, `tcp_ao` whether the key is one of TCP-AO.
fn connect_problem(error: &ConnectError, secret: Option<&str>, min_ttl: Option<u8>, tcp_ao: bool) -> String {
    let ConnectError::TimedOut { .. } = error else { return error.to_string() };
    // A host drops segments without a signature, or with that of another key, without an answer.
    let key = match secret {
        Some(secret) if tcp_ao => {
            format!("its TCP-AO key, KeyIDs or algorithm differ from those in Secret {secret} and tcpAO")
        }
        Some(secret) => format!("its TCP-MD5 key differs from that in Secret {secret}"),
        None => "it requires a TCP-MD5 key (passwordSecret of the BGPPeer)".to_owned(),
    };
    let ttl = min_ttl.map(|ttl| format!(", or it sends a TTL below {ttl} (ttlSecurity)")).unwrap_or_default();
    format!("{error}: the router is not reachable, or {key}{ttl}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(peer_asn: PeerAsn) -> Peer {
        Peer { peer_asn, ..fairlead_test_support::peer("router", "192.0.2.254") }
    }

    #[test]
    fn ttl_follows_number_of_hops() {
        let ttl = |peer: &Peer| {
            let remote = "192.0.2.254".parse().unwrap();
            let options = connect_options(peer, Endpoint { remote, interface: None, source: None });
            (options.ttl, options.min_ttl)
        };
        let ebgp = peer(PeerAsn::Number(64513));
        let (on_link, any) = ((Some(1), None), (Some(255), None));
        assert_eq!(ttl(&ebgp), on_link);
        assert_eq!(ttl(&peer(PeerAsn::External)), on_link);
        assert_eq!(ttl(&Peer { ebgp_multi_hop: true, ..ebgp.clone() }), any);
        assert_eq!(ttl(&peer(PeerAsn::Number(64512))), any);
        assert_eq!(ttl(&peer(PeerAsn::Internal)), any);
        // The session uses localASN: with it, an equal myASN does not make the session internal.
        assert_eq!(ttl(&Peer { local_asn: Some(64999), ..peer(PeerAsn::Number(64512)) }), on_link);
        for (hops, minimum) in [(1, 255), (2, 254), (254, 2)] {
            for peer in [&ebgp, &peer(PeerAsn::Internal)] {
                let peer = Peer { ttl_security: Some(hops), ..peer.clone() };
                assert_eq!(ttl(&peer), (Some(255), Some(minimum)), "{hops} hops");
            }
        }
    }

    #[test]
    fn missing_answer_names_possible_causes() {
        let remote = "192.0.2.1:179".parse().unwrap();
        let timed_out = ConnectError::TimedOut { remote, after: CONNECT_TIMEOUT };
        let problem = connect_problem(&timed_out, Some("fairlead-system/tor"), None, false);
        assert!(problem.starts_with("no answer from 192.0.2.1:179 within 8s: "), "{problem}");
        assert!(problem.contains("differs from that in Secret fairlead-system/tor"), "{problem}");
        let problem = connect_problem(&timed_out, None, Some(255), false);
        assert!(problem.contains("passwordSecret"), "{problem}");
        assert!(problem.ends_with(", or it sends a TTL below 255 (ttlSecurity)"), "{problem}");
        let refused = ConnectError::Connect { remote, source: std::io::ErrorKind::ConnectionRefused.into() };
        assert_eq!(connect_problem(&refused, Some("a/b"), None, true), refused.to_string());
        assert!(is_reset(&refused) && !is_reset(&timed_out));
    }

    #[test]
    fn problem_of_unnumbered_peer_does_not_contain_the_address() {
        let unnumbered =
            Peer { address: PeerAddress::Interface("eth1".to_owned()), ..peer(PeerAsn::External) };
        let numbered = Peer { address: PeerAddress::Ip("fe80::1".parse().unwrap()), ..unnumbered.clone() };
        let endpoint = Endpoint { remote: "fe80::1".parse().unwrap(), interface: Some(3), source: None };
        let remote = endpoint.socket_address(unnumbered.port);
        let problem = ConnectError::TimedOut { remote, after: CONNECT_TIMEOUT }.to_string();
        let shown = |peer| without_found_router(&problem, peer, endpoint);
        assert_eq!(shown(&unnumbered), "no answer from the router on interface eth1 within 8s");
        assert_eq!(shown(&numbered), problem);
    }
}
