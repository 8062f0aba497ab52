//! AS_PATH and AS4_PATH (RFC 4271 §4.3, RFC 6793).

use super::reader::Reader;

/// Replaces an AS number that needs four octets in a two-octet field (RFC 6793 §9).
pub const AS_TRANS: u16 = 23456;

/// An AS_PATH or AS4_PATH.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AsPath {
    /// Path segments in order; the nearest AS is first.
    pub segments: Vec<Segment>,
}

/// A path segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    #[allow(missing_docs)]
    pub kind: SegmentType,
    /// AS numbers; not empty.
    pub asns: Vec<u32>,
}

/// Type of a path segment (RFC 4271 §4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SegmentType {
    /// AS_SET
    Set = 1,
    /// AS_SEQUENCE
    Sequence = 2,
    /// AS_CONFED_SEQUENCE (RFC 5065)
    ConfedSequence = 3,
    /// AS_CONFED_SET (RFC 5065)
    ConfedSet = 4,
}

impl AsPath {
    /// Returns the path of a route that this AS originates.
    #[must_use]
    pub fn originated_by(asn: u32) -> Self {
        Self::originated_with_prepend(asn, 0)
    }

    /// Returns the path of a route that this AS originates, with additional occurrences of its AS number: the
    /// longer path makes the route less preferred.
    #[must_use]
    pub fn originated_with_prepend(asn: u32, prepend: u8) -> Self {
        let asns = vec![asn; 1 + usize::from(prepend)];
        Self { segments: vec![Segment { kind: SegmentType::Sequence, asns }] }
    }

    /// Returns whether an AS number of the path needs four octets.
    #[must_use]
    pub fn needs_four_octets(&self) -> bool {
        self.segments.iter().flat_map(|segment| &segment.asns).any(|asn| u16::try_from(*asn).is_err())
    }

    /// Appends the attribute value. With two octets, [`AS_TRANS`] replaces AS numbers that need four.
    /// Segments of more than 255 AS numbers, which the one-octet count cannot express, are split.
    pub fn encode(&self, four_octets: bool, out: &mut Vec<u8>) {
        for segment in &self.segments {
            for asns in segment.asns.chunks(255) {
                out.extend_from_slice(&[segment.kind as u8, u8::try_from(asns.len()).unwrap_or(u8::MAX)]);
                for asn in asns {
                    if four_octets {
                        out.extend_from_slice(&asn.to_be_bytes());
                    } else {
                        out.extend_from_slice(&u16::try_from(*asn).unwrap_or(AS_TRANS).to_be_bytes());
                    }
                }
            }
        }
    }

    /// Decodes an attribute value.
    ///
    /// # Errors
    /// Describes what makes the value malformed (RFC 7606 §7.2).
    pub fn decode(four_octets: bool, value: &[u8]) -> Result<Self, &'static str> {
        let mut reader = Reader::new(value);
        let mut segments = Vec::new();
        while !reader.is_empty() {
            let (Some(kind), Some(count)) = (reader.u8(), reader.u8()) else {
                return Err("AS_PATH has a trailing octet after the last segment");
            };
            let kind = match kind {
                1 => SegmentType::Set,
                2 => SegmentType::Sequence,
                3 => SegmentType::ConfedSequence,
                4 => SegmentType::ConfedSet,
                _ => return Err("AS_PATH has an unrecognized segment type"),
            };
            if count == 0 {
                return Err("AS_PATH has an empty segment");
            }
            let width = if four_octets { 4 } else { 2 };
            let asns =
                reader.take(usize::from(count) * width).ok_or("AS_PATH segment exceeds the attribute")?;
            let number = |octets: &[u8]| octets.iter().fold(0, |asn, octet| asn << 8 | u32::from(*octet));
            segments.push(Segment { kind, asns: asns.chunks(width).map(number).collect() });
        }
        Ok(Self { segments })
    }
}
