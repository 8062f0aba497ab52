//! The parts of a refused pool that the holders of its addresses need.
#![allow(clippy::unwrap_used)]

mod common;

use common::given;
use fairlead_crds::model::config::Labels;

const EDITS: [(&str, &str); 5] = [
    ("overlaps an older pool", "addresses: [198.51.100.0/24, 192.0.2.0/24]"),
    ("is reversed", "addresses: ['2001:db8::9-2001:db8::1']"),
    ("is empty", "addresses: []"),
    ("is the whole address space", "addresses: [0.0.0.0/0]"),
    ("has a bad allocation", "{addresses: [198.51.100.0/24], serviceAllocation: {priority: -1}}"),
];

#[test]
fn refused_pool_still_covers_held_addresses() {
    let (held, none) = ("198.51.100.7".parse().unwrap(), Labels::new());
    for (what, spec) in EDITS {
        let resolution = given(&[
            ("IPAddressPool", "old", 3, "addresses: [192.0.2.0/25]"),
            ("IPAddressPool", "bad", 2, spec),
            ("L2Advertisement", "ad", 1, "ipAddressPools: [bad]"),
            ("BGPAdvertisement", "ad", 1, "{ipAddressPools: [bad], aggregationLength: 24}"),
        ]);
        let config = &resolution.config;
        assert_eq!(config.pools.keys().collect::<Vec<_>>(), ["old"], "{what}");
        let pool = config.pool_of_held(held, 0, Some("bad")).unwrap();
        assert_eq!(pool.name, "bad", "{what}");
        assert_eq!(config.l2_for(pool, &none).count(), 1, "{what}");
        assert_eq!(config.bgp_for(pool, &none).count(), 1, "{what}");
        assert_eq!(config.pool_of(held), None, "{what}: no address is allocated from it");
    }
}

#[test]
fn refused_pool_keeps_a_valid_reuse_after() {
    for (spec, seconds) in
        [("{addresses: [nonsense], reuseAfter: 10m}", 600), ("{addresses: [nonsense], reuseAfter: soon}", 0)]
    {
        let resolution = given(&[("IPAddressPool", "bad", 2, spec)]);
        assert_eq!(resolution.config.refused_pools["bad"].reuse_after.as_secs(), seconds, "{spec}");
    }
}

#[test]
fn pool_of_held_address_follows_the_annotation() {
    let resolution = given(&[
        ("IPAddressPool", "good", 3, "addresses: [192.0.2.0/25]"),
        ("IPAddressPool", "bad", 2, "addresses: [192.0.2.0/24]"),
    ]);
    let table = [
        ("192.0.2.1", None, Some("good")),
        ("192.0.2.1", Some("good"), Some("good")),
        ("192.0.2.1", Some("bad"), Some("bad")),
        ("192.0.2.1", Some("deleted"), Some("good")),
        ("192.0.2.200", Some("bad"), Some("bad")),
        // No longer in the pool, and retained.
        ("192.0.2.200", Some("good"), Some("good")),
        ("192.0.2.200", Some("bad,good"), Some("bad")),
        ("192.0.2.200", Some("deleted"), None),
        ("192.0.2.200", None, None),
    ];
    for (ip, annotation, expected) in table {
        let pool = resolution.config.pool_of_held(ip.parse().unwrap(), 0, annotation);
        assert_eq!(pool.map(|pool| pool.name.as_str()), expected, "{ip} from {annotation:?}");
    }
}

#[test]
fn advertisements_of_refused_pool_stay_the_same() {
    let objects = |pool| {
        given(&[
            ("IPAddressPool", "p", 3, pool),
            ("IPAddressPool", "small", 4, "addresses: [203.0.113.0/28]"),
            ("BGPAdvertisement", "old", 2, "{localPref: 200, ipAddressPools: [p]}"),
            ("BGPAdvertisement", "young", 1, "{localPref: 300, ipAddressPools: [p]}"),
            ("BGPAdvertisement", "wide", 1, "{aggregationLength: 24, ipAddressPools: [p, small]}"),
        ])
    };
    for pool in [
        "addresses: [198.51.100.0/24]",
        "addresses: [198.51.100.9-198.51.100.1]",
        "addresses: [198.51.100.0/24, 203.0.113.8/29]",
    ] {
        let resolution = objects(pool);
        let none = Labels::new();
        let announcing = resolution.config.bgp_for(resolution.config.pool("p").unwrap(), &none);
        assert_eq!(
            announcing.map(|ad| ad.name.as_str()).collect::<Vec<_>>(),
            ["old", "wide", "young"],
            "{pool}"
        );
    }
}
