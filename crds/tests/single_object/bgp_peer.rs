//! Specs of BGPPeers.

use fairlead_crds::resolve::RefusalReason;

use crate::Apply::{Accepts, Rejects};
use crate::{Row, check};

#[test]
fn peers_have_one_address_and_one_asn() {
    check(
        "BGPPeer",
        &[
            ("{myASN: 64513, peerASN: 64512, peerAddress: 192.0.2.1}", Accepts, None),
            ("{myASN: 64513, peerASN: 64513, peerAddress: '2001:db8::1'}", Accepts, None),
            ("{myASN: 4294967295, dynamicASN: external, interface: eth0}", Accepts, None),
            ("{myASN: 64513, dynamicASN: internal, peerAddress: 192.0.2.1, vrf: red}", Accepts, None),
            (
                "{myASN: 64513, peerASN: 64512, peerAddress: 192.0.2.1, loadBalancerClass: example.org/x}",
                Accepts,
                None,
            ),
            (
                "{myASN: 64513, peerASN: 64512, peerAddress: 192.0.2.1, loadBalancerClass: ''}",
                Rejects("loadBalancerClass"),
                None,
            ),
            // Manifests for MetalLB write unset fields in this way.
            (
                "{myASN: 64513, peerASN: 0, dynamicASN: external, peerAddress: 192.0.2.1, interface: ''}",
                Accepts,
                None,
            ),
            ("{peerASN: 64512, peerAddress: 192.0.2.1}", Rejects("myASN"), Some(RefusalReason::MissingMyASN)),
            (
                "{myASN: 0, peerASN: 64512, peerAddress: 192.0.2.1}",
                Rejects("myASN"),
                Some(RefusalReason::MissingMyASN),
            ),
            (
                "{myASN: 4294967296, peerASN: 64512, peerAddress: 192.0.2.1}",
                Rejects("myASN"),
                Some(RefusalReason::InvalidASN),
            ),
            (
                "{myASN: 64513, peerAddress: 192.0.2.1}",
                Rejects("exactly one of peerASN and dynamicASN"),
                Some(RefusalReason::MissingPeerASN),
            ),
            (
                "{myASN: 64513, peerASN: 64512, dynamicASN: external, peerAddress: 192.0.2.1}",
                Rejects("exactly one of peerASN and dynamicASN"),
                Some(RefusalReason::ConflictingPeerASN),
            ),
            (
                "{myASN: 64513, dynamicASN: any, peerAddress: 192.0.2.1}",
                Rejects("dynamicASN"),
                Some(RefusalReason::InvalidASN),
            ),
            (
                "{myASN: 64513, peerASN: 64512}",
                Rejects("exactly one of peerAddress and interface"),
                Some(RefusalReason::MissingPeerAddress),
            ),
            (
                "{myASN: 64513, peerASN: 64512, peerAddress: 192.0.2.1, interface: eth0}",
                Rejects("exactly one of peerAddress and interface"),
                Some(RefusalReason::ConflictingPeerAddress),
            ),
            (
                "{myASN: 64513, peerASN: 64512, peerAddress: router.example}",
                Rejects("must be an IP address"),
                Some(RefusalReason::InvalidPeerAddress),
            ),
            (
                "{myASN: 64513, peerASN: 64512, peerAddress: 0.0.0.0}",
                Rejects("unicast address of a host"),
                Some(RefusalReason::InvalidPeerAddress),
            ),
            (
                "{myASN: 64513, peerASN: 64512, peerAddress: 'ff02::1'}",
                Rejects("unicast address of a host"),
                Some(RefusalReason::InvalidPeerAddress),
            ),
            ("{myASN: 64513, peerASN: 64512, peerAddress: 127.0.0.1}", Accepts, None),
            (
                "{myASN: 64513, peerASN: 64512, peerAddress: 0.1.2.3}",
                Rejects("unicast address of a host"),
                Some(RefusalReason::InvalidPeerAddress),
            ),
            (
                "{myASN: 64513, peerASN: 64512, peerAddress: 255.255.255.255}",
                Rejects("unicast address of a host"),
                Some(RefusalReason::InvalidPeerAddress),
            ),
            (
                "{myASN: 64513, peerASN: 64512, peerAddress: '::ffff:192.0.2.1'}",
                Rejects("must be an IP address"),
                Some(RefusalReason::InvalidPeerAddress),
            ),
            (
                "{myASN: 64513, peerASN: 64512, peerAddress: 'fe80::1'}",
                Rejects("interface must be set"),
                Some(RefusalReason::MissingInterface),
            ),
            ("{myASN: 64513, peerASN: 64512, peerAddress: 'fe80::1', interface: eth0}", Accepts, None),
            ("{myASN: 64513, peerASN: 64512, peerAddress: default-gateway}", Accepts, None),
            ("{myASN: 64513, peerASN: 64512, peerAddress: default-gateway-ipv6}", Accepts, None),
            (
                "{myASN: 64513, peerASN: 64512, peerAddress: default-gateway, sourceAddress: '2001:db8::1'}",
                Accepts,
                Some(RefusalReason::InvalidSourceAddress),
            ),
            (
                "{myASN: 64513, peerASN: 64512, peerAddress: default-gateway, vrf: red}",
                Rejects("vrf must not be set"),
                Some(RefusalReason::ConflictingPeerAddress),
            ),
            (
                "{myASN: 64513, peerASN: 64512, peerAddress: default-gateway-ipv6, vrf: red}",
                Rejects("vrf must not be set"),
                Some(RefusalReason::ConflictingPeerAddress),
            ),
            ("{myASN: 64513, peerASN: 64512, peerAddress: default-gateway, vrf: ''}", Accepts, None),
            (
                "{myASN: 64513, peerASN: 64512, peerAddress: '2001:db8::1', sourceAddress: 'fe80::1'}",
                Rejects("must not be a link-local address"),
                Some(RefusalReason::InvalidSourceAddress),
            ),
            (
                "{myASN: 64513, peerASN: 64512, peerAddress: 'fe80::2', interface: eth0, sourceAddress: 'fe80::1'}",
                Accepts,
                None,
            ),
            (
                "{myASN: 64513, peerASN: 64512, peerAddress: default-gateway, interface: eth0}",
                Rejects("exactly one of peerAddress and interface"),
                Some(RefusalReason::ConflictingPeerAddress),
            ),
            ("{myASN: 64513, peerASN: 64512, peerAddress: 169.254.0.1}", Accepts, None),
            (
                "{myASN: 64513, peerASN: 64512, interface: eth0, sourceInterface: lo}",
                Rejects("sourceInterface must not be set"),
                Some(RefusalReason::ConflictingSource),
            ),
            ("{myASN: 64513, peerASN: 64512, peerAddress: 192.0.2.1, sourceInterface: lo}", Accepts, None),
            (
                "{myASN: 64513, peerASN: 64512, peerAddress: 192.0.2.1, sourceInterface: lo, sourceAddress: 192.0.2.2}",
                Rejects("sourceInterface must not be set"),
                Some(RefusalReason::ConflictingSource),
            ),
            ("{myASN: 64513, peerASN: 64512, peerAddress: 192.0.2.1, passive: true}", Accepts, None),
            ("{myASN: 64513, peerASN: 64512, interface: eth0, passive: true, peerPort: 179}", Accepts, None),
            (
                "{myASN: 64513, peerASN: 64512, peerAddress: 192.0.2.1, passive: true, peerPort: 1179}",
                Rejects("passive must not be true together"),
                Some(RefusalReason::ConflictingPassive),
            ),
            (
                "{myASN: 64513, peerASN: 64512, peerAddress: 192.0.2.1, passive: true, passwordSecret: {name: a}, \
                 tcpAO: {sendID: 1, receiveID: 2}}",
                Rejects("passive must not be true together"),
                Some(RefusalReason::ConflictingPassive),
            ),
            (
                "{myASN: 64513, peerASN: 64512, peerAddress: 192.0.2.1, sourceInterface: a/b}",
                Accepts,
                Some(RefusalReason::InvalidInterface),
            ),
            (
                "{myASN: 64513, peerASN: 64513, peerAddress: 192.0.2.1, ebgpMultiHop: true}",
                Rejects("iBGP"),
                Some(RefusalReason::MultiHopWithIBGP),
            ),
            (
                "{myASN: 64513, dynamicASN: internal, peerAddress: 192.0.2.1, ebgpMultiHop: true}",
                Rejects("iBGP"),
                Some(RefusalReason::MultiHopWithIBGP),
            ),
            ("{myASN: 64513, peerASN: 64512, peerAddress: 192.0.2.1, ebgpMultiHop: true}", Accepts, None),
            ("{myASN: 64513, peerASN: 64512, peerAddress: 192.0.2.1, localASN: 65000}", Accepts, None),
            (
                "{myASN: 64513, peerASN: 64513, peerAddress: 192.0.2.1, localASN: 65000}",
                Rejects("localASN"),
                Some(RefusalReason::InvalidASN),
            ),
            (
                "{myASN: 64513, peerASN: 64512, peerAddress: 192.0.2.1, localASN: 64512}",
                Rejects("localASN"),
                Some(RefusalReason::InvalidASN),
            ),
        ],
    );
}

/// Checks rows with further fields of a peer that is otherwise valid.
fn check_peer(rows: &[Row]) {
    for (fields, at_apply, expected) in rows {
        let spec = format!("{{myASN: 64513, peerASN: 64512, peerAddress: 192.0.2.1, {fields}}}");
        check("BGPPeer", &[(spec.leak(), *at_apply, *expected)]);
    }
}

#[test]
fn peer_ttl_security_is_validated() {
    let refused = Some(RefusalReason::InvalidTTLSecurity);
    check_peer(&[
        ("ttlSecurity: 1", Accepts, None),
        ("ttlSecurity: 254, ebgpMultiHop: false", Accepts, None),
        ("ttlSecurity: 0", Rejects("ttlSecurity"), refused),
        ("ttlSecurity: 255", Rejects("ttlSecurity"), refused),
        ("ttlSecurity: 2, ebgpMultiHop: true", Rejects("must not both be set"), refused),
    ]);
}

#[test]
fn peer_tcp_ao_is_validated() {
    let refused = Some(RefusalReason::InvalidTCPAO);
    let secret = "passwordSecret: {name: key}";
    let with = |fields: &str| -> &'static str { format!("{secret}, tcpAO: {{{fields}}}").leak() };
    check_peer(&[
        (with("sendID: 0, receiveID: 255"), Accepts, None),
        (with("sendID: 1, receiveID: 2, algorithm: AES-128-CMAC-96"), Accepts, None),
        (with("sendID: 256, receiveID: 1"), Rejects("sendID"), refused),
        (with("sendID: 1, receiveID: -1"), Rejects("receiveID"), refused),
        (with("sendID: 1, receiveID: 1, algorithm: MD5"), Rejects("algorithm"), refused),
        ("tcpAO: {sendID: 1, receiveID: 1}", Rejects("passwordSecret must be set"), refused),
    ]);
}

#[test]
fn peer_texts_are_bounded() {
    let text = |field: &str, length| -> &'static str { format!("{field}: {}", "ü".repeat(length)).leak() };
    let message = Some(RefusalReason::InvalidShutdownMessage);
    check_peer(&[
        ("shutdown: true", Accepts, None),
        (text("shutdown: false, shutdownMessage", 255), Accepts, None),
        (text("shutdownMessage", 256), Rejects("shutdownMessage"), message),
        (text("description", 255), Accepts, None),
        (text("description", 256), Rejects("description"), Some(RefusalReason::InvalidDescription)),
    ]);
}

#[test]
fn peer_times_are_validated() {
    let hold = Rejects("holdTime must be 0s, or between 3s and 65535s");
    let keepalive = Rejects("keepaliveTime must be 0s, or between 1s and 65535s");
    check_peer(&[
        ("holdTime: 90s", Accepts, None),
        ("holdTime: 1m30s, keepaliveTime: 30s", Accepts, None),
        ("holdTime: 3s, keepaliveTime: 3s", Accepts, None),
        ("holdTime: 0s", Accepts, None),
        ("holdTime: '0', keepaliveTime: 0s", Accepts, None),
        ("keepaliveTime: 1s", Accepts, None),
        ("holdTime: 18h12m15s", Accepts, None),
        ("holdTime: 2s", hold, Some(RefusalReason::InvalidHoldTime)),
        ("holdTime: 2999ms", hold, Some(RefusalReason::InvalidHoldTime)),
        ("holdTime: 500ms", hold, Some(RefusalReason::InvalidHoldTime)),
        ("holdTime: 18h12m16s", hold, Some(RefusalReason::InvalidHoldTime)),
        ("holdTime: -90s", Rejects("holdTime"), Some(RefusalReason::InvalidHoldTime)),
        ("holdTime: '90'", Rejects("holdTime"), Some(RefusalReason::InvalidHoldTime)),
        ("holdTime: soon", Rejects("holdTime"), Some(RefusalReason::InvalidHoldTime)),
        ("keepaliveTime: 900ms", keepalive, Some(RefusalReason::InvalidKeepaliveTime)),
        ("keepaliveTime: 6h", Accepts, None),
        ("keepaliveTime: 7h", Accepts, Some(RefusalReason::InvalidHoldTime)),
        (
            "holdTime: 9s, keepaliveTime: 10s",
            Rejects("not be longer"),
            Some(RefusalReason::InvalidKeepaliveTime),
        ),
        (
            "holdTime: 0s, keepaliveTime: 1s",
            Rejects("both be zero"),
            Some(RefusalReason::InvalidKeepaliveTime),
        ),
        (
            "holdTime: 9s, keepaliveTime: 0s",
            Rejects("both be zero"),
            Some(RefusalReason::InvalidKeepaliveTime),
        ),
        ("connectTime: 1s", Accepts, None),
        ("connectTime: 0s", Rejects("connectTime must be between"), Some(RefusalReason::InvalidConnectTime)),
        (
            "connectTime: 65536s",
            Rejects("connectTime must be between"),
            Some(RefusalReason::InvalidConnectTime),
        ),
        ("connectTime: 1500ms", Rejects("whole number"), Some(RefusalReason::InvalidConnectTime)),
        ("gracefulRestartTime: 1s", Accepts, None),
        ("gracefulRestartTime: 1h8m15s", Accepts, None),
        (
            "gracefulRestartTime: 0s",
            Rejects("gracefulRestartTime must be between"),
            Some(RefusalReason::InvalidGracefulRestartTime),
        ),
        (
            "gracefulRestartTime: 4096s",
            Rejects("gracefulRestartTime must be between"),
            Some(RefusalReason::InvalidGracefulRestartTime),
        ),
        (
            "gracefulRestartTime: 1500ms",
            Rejects("whole number"),
            Some(RefusalReason::InvalidGracefulRestartTime),
        ),
    ]);
}

#[test]
fn further_peer_fields_are_validated() {
    check_peer(&[
        ("peerPort: 1179", Accepts, None),
        ("peerPort: 65535", Accepts, None),
        ("peerPort: 0", Rejects("peerPort"), Some(RefusalReason::InvalidPort)),
        ("peerPort: 65536", Rejects("peerPort"), Some(RefusalReason::InvalidPort)),
        ("routerID: 10.0.0.1", Accepts, None),
        ("routerID: 0.0.0.0", Rejects("routerID"), Some(RefusalReason::InvalidRouterID)),
        ("routerID: '::1'", Rejects("routerID"), Some(RefusalReason::InvalidRouterID)),
        ("routerID: '1'", Rejects("routerID"), Some(RefusalReason::InvalidRouterID)),
        ("sourceAddress: 192.0.2.11", Accepts, None),
        ("sourceAddress: node1", Rejects("must be an IP address"), Some(RefusalReason::InvalidSourceAddress)),
        (
            "sourceAddress: '2001:db8::11'",
            Rejects("same address family"),
            Some(RefusalReason::InvalidSourceAddress),
        ),
        ("vrf: red", Accepts, None),
        ("linkBandwidth: {megabitsPerEndpoint: 100000, transitive: true}", Accepts, None),
        (
            "linkBandwidth: {megabitsPerEndpoint: 100001}",
            Rejects("megabitsPerEndpoint"),
            Some(RefusalReason::InvalidLinkBandwidth),
        ),
        ("linkBandwidth: {}", Rejects("megabitsPerEndpoint"), Some(RefusalReason::InvalidLinkBandwidth)),
        ("vrf: a-vrf-name-that-is-long", Rejects("vrf"), Some(RefusalReason::InvalidInterface)),
        ("passwordSecret: {name: key, namespace: routing}", Accepts, None),
        ("passwordSecret: {name: key}", Accepts, None),
        ("passwordSecret: {namespace: routing}", Rejects("name"), Some(RefusalReason::InvalidPasswordSecret)),
        ("bfdProfile: no-such-profile", Accepts, Some(RefusalReason::BFDProfileNotFound)),
        ("bfdStrict: true", Accepts, None),
        ("disableMP: true, dualStackAddressFamily: true, enableGracefulRestart: true", Accepts, None),
        ("nodeSelectors: [{matchLabels: {rack: a}}]", Accepts, None),
        (
            "nodeSelectors: [{matchExpressions: [{key: a, operator: Gt, values: ['1']}]}]",
            Rejects("operator"),
            Some(RefusalReason::InvalidSelector),
        ),
    ]);
}
