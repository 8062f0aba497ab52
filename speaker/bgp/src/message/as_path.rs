//! AS_PATH and AS4_PATH (RFC 4271 §4.3, RFC 6793).

use super::reader::Reader;

/// Stands in the two-octet field for an AS number that needs four (RFC 6793 §9).
pub const AS_TRANS: u16 = 23456;

/// A path of AS numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AsPath {
    /// Segments in order; the nearest AS is first.
    pub segments: Vec<Segment>,
}

/// Part of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// How the numbers are meant.
    pub kind: SegmentType,
    /// The numbers; not empty.
    pub asns: Vec<u32>,
}

/// How the numbers of a segment are meant.
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
    /// The path of a route that starts at this AS.
    #[must_use]
    pub fn originated_by(asn: u32) -> Self {
        Self { segments: vec![Segment { kind: SegmentType::Sequence, asns: vec![asn] }] }
    }

    /// Whether a number of the path needs four octets.
    #[must_use]
    pub fn needs_four_octets(&self) -> bool {
        self.segments.iter().flat_map(|segment| &segment.asns).any(|asn| u16::try_from(*asn).is_err())
    }

    /// Appends the value. In two octets, AS_TRANS stands for what does not fit. Segments of more than 255 numbers are
    /// split.
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

    /// Reads a value; the error says what is malformed (RFC 7606 §7.2).
    pub fn decode(four_octets: bool, value: &[u8]) -> Result<Self, &'static str> {
        let mut reader = Reader::new(value);
        let mut segments = Vec::new();
        while !reader.is_empty() {
            let (Some(kind), Some(count)) = (reader.u8(), reader.u8()) else {
                return Err("a single octet remains after the last segment");
            };
            let kind = match kind {
                1 => SegmentType::Set,
                2 => SegmentType::Sequence,
                3 => SegmentType::ConfedSequence,
                4 => SegmentType::ConfedSet,
                _ => return Err("unrecognized segment type"),
            };
            if count == 0 {
                return Err("empty segment");
            }
            let width = if four_octets { 4 } else { 2 };
            let asns = reader.take(usize::from(count) * width).ok_or("a segment runs past the attribute")?;
            let number = |octets: &[u8]| octets.iter().fold(0, |asn, octet| asn << 8 | u32::from(*octet));
            segments.push(Segment { kind, asns: asns.chunks(width).map(number).collect() });
        }
        Ok(Self { segments })
    }
}
