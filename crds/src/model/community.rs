//! BGP communities and their text forms.

use std::net::Ipv4Addr;
use std::str::FromStr;

/// A BGP community.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Community {
    /// RFC 1997.
    Standard(u16, u16),
    /// RFC 4360: type, subtype and value, as on the wire.
    Extended([u8; 8]),
    /// RFC 8092.
    Large(u32, u32, u32),
}

/// Names of well-known communities of 65535:x, as in FRR, and their x (registry "BGP Well-known Communities"
/// of IANA).
pub const WELL_KNOWN: [(&str, u16); 12] = [
    // RFC 8326.
    ("graceful-shutdown", 0x0000),
    // RFC 7611.
    ("accept-own", 0x0001),
    ("accept-own-nexthop", 0x0008),
    // RFC 9494.
    ("llgr-stale", 0x0006),
    ("no-llgr", 0x0007),
    // RFC 7999.
    ("blackhole", 0x029a),
    // RFC 1997.
    ("no-export", 0xff01),
    ("no-advertise", 0xff02),
    ("no-export-subconfed", 0xff03),
    ("local-AS", 0xff03),
    // RFC 3765.
    ("no-peer", 0xff04),
    // RFC 9026.
    ("standby-pe", 0x0009),
];

/// Description of the text forms, for messages.
pub const FORMS: &str = "it must be \"ASN:VALUE\", \"large:GLOBAL:LOCAL1:LOCAL2\", \"rt:ADMIN:VALUE\" or \
    \"soo:ADMIN:VALUE\" with an AS number or IPv4 address as ADMIN, \"link-bandwidth:ASN:MBPS\", \
    \"ext:TYPE:SUBTYPE:VALUE\" in 2, 2 and 12 hexadecimal digits, or a well-known name such as \"no-export\"";

/// Subtype of a route target (RFC 4360 §4).
const ROUTE_TARGET: u8 = 0x02;
/// Subtype of a route origin, also named site of origin (RFC 4360 §5).
const ROUTE_ORIGIN: u8 = 0x03;
/// Type and subtype of a link bandwidth, not transitive (draft-ietf-idr-link-bandwidth).
const LINK_BANDWIDTH: [u8; 2] = [0x40, 0x04];
/// Octets per second in 1 Mbit/s.
const MEGABIT: f32 = 125_000.0;

/// A text that is not a community.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a valid community: {FORMS}")]
pub struct InvalidCommunity;

impl Community {
    /// Returns the well-known community with this name.
    pub fn well_known(name: &str) -> Option<Self> {
        let known = WELL_KNOWN.iter().find(|(known, _)| *known == name);
        known.map(|(_, value)| Self::Standard(u16::MAX, *value))
    }
}

impl FromStr for Community {
    type Err = InvalidCommunity;

    fn from_str(text: &str) -> Result<Self, InvalidCommunity> {
        let parts: Vec<&str> = text.split(':').collect();
        let community = match parts.as_slice() {
            [name] => Self::well_known(name),
            [asn, value] => number(asn).zip(number(value)).map(|(asn, value)| Self::Standard(asn, value)),
            ["rt", admin, value] => administered(ROUTE_TARGET, admin, value),
            ["soo", admin, value] => administered(ROUTE_ORIGIN, admin, value),
            ["link-bandwidth", asn, rate] => link_bandwidth(asn, rate),
            ["large", global, local1, local2] => large(global, local1, local2),
            ["ext", kind, subtype, value] => generic(kind, subtype, value),
            _ => None,
        };
        community.ok_or(InvalidCommunity)
    }
}

/// Returns a transitive community with an administrator: an AS number of two octets or an IPv4 address (RFC
/// 4360 §3.1, §3.2), or an AS number of four octets (RFC 5668).
fn administered(subtype: u8, admin: &str, value: &str) -> Option<Community> {
    let (kind, fields) = if let Some(asn) = number::<u16>(admin) {
        let ([a, b], [c, d, e, f]) = (asn.to_be_bytes(), number::<u32>(value)?.to_be_bytes());
        (0x00, [a, b, c, d, e, f])
    } else {
        let (kind, [a, b, c, d]) = match number::<u32>(admin) {
            Some(asn) => (0x02, asn.to_be_bytes()),
            None => (0x01, admin.parse::<Ipv4Addr>().ok()?.octets()),
        };
        let [e, f] = number::<u16>(value)?.to_be_bytes();
        (kind, [a, b, c, d, e, f])
    };
    let [a, b, c, d, e, f] = fields;
    Some(Community::Extended([kind, subtype, a, b, c, d, e, f]))
}

fn link_bandwidth(asn: &str, rate: &str) -> Option<Community> {
    // A larger rate has more digits than the mantissa of the field.
    let rate = number::<u32>(rate).filter(|rate| *rate <= 9_999_999)?;
    let ([kind, subtype], [a, b]) = (LINK_BANDWIDTH, number::<u16>(asn)?.to_be_bytes());
    let [c, d, e, f] = (rate as f32 * MEGABIT).to_be_bytes();
    Some(Community::Extended([kind, subtype, a, b, c, d, e, f]))
}

fn large(global: &str, local1: &str, local2: &str) -> Option<Community> {
    Some(Community::Large(number(global)?, number(local1)?, number(local2)?))
}

fn generic(kind: &str, subtype: &str, value: &str) -> Option<Community> {
    let hexadecimal = |text: &str, digits: usize| {
        let is_valid = text.len() == digits && text.bytes().all(|digit| digit.is_ascii_hexdigit());
        is_valid.then(|| u64::from_str_radix(text, 16).ok()).flatten()
    };
    let (kind, subtype, value) = (hexadecimal(kind, 2)?, hexadecimal(subtype, 2)?, hexadecimal(value, 12)?);
    Some(Community::Extended((kind << 56 | subtype << 48 | value).to_be_bytes()))
}

/// Parses digits only: `str::parse` also accepts a `+`.
fn number<T: FromStr>(text: &str) -> Option<T> {
    if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_forms_are_parsed() {
        let extended = |value: u64| Some(Community::Extended(value.to_be_bytes()));
        for (text, expected) in [
            ("64512:100", Some(Community::Standard(64512, 100))),
            ("no-export", Some(Community::Standard(65535, 65281))),
            ("blackhole", Some(Community::Standard(65535, 666))),
            ("graceful-shutdown", Some(Community::Standard(65535, 0))),
            ("large:4200000000:1:2", Some(Community::Large(4_200_000_000, 1, 2))),
            ("rt:64512:100", extended(0x0002_fc00_0000_0064)),
            ("rt:0:4294967295", extended(0x0002_0000_ffff_ffff)),
            ("rt:4200000001:7", extended(0x0202_fa56_ea01_0007)),
            ("rt:192.0.2.1:65535", extended(0x0102_c000_0201_ffff)),
            ("soo:64512:1", extended(0x0003_fc00_0000_0001)),
            ("soo:65536:1", extended(0x0203_0001_0000_0001)),
            ("soo:10.0.0.1:1", extended(0x0103_0a00_0001_0001)),
            ("link-bandwidth:64512:1000", extended(0x4004_fc00_4cee_6b28)),
            ("link-bandwidth:64512:0", extended(0x4004_fc00_0000_0000)),
            ("ext:43:00:00000000abCD", extended(0x4300_0000_0000_abcd)),
            ("64512", None),
            ("no-such-name", None),
            ("", None),
            (":", None),
            ("+1:2", None),
            ("65536:1", None),
            ("rt:4200000001:65536", None),
            ("rt:192.0.2.1:65536", None),
            ("rt:192.0.2:1", None),
            ("rt:4294967296:1", None),
            ("rt:64512", None),
            ("soo::1", None),
            ("link-bandwidth:65536:1", None),
            ("link-bandwidth:64512:10000000", None),
            ("large:1:2:4294967296", None),
            ("ext:4:00:000000000001", None),
            ("ext:43:00:00000000001", None),
            ("ext:+3:00:000000000001", None),
            ("ext:43:00:00000000000g", None),
        ] {
            assert_eq!(text.parse().ok(), expected, "{text:?}");
        }
    }
}
