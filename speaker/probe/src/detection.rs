//! [`Detection`]: how fast the failure of a node is detected.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// How fast the failure of a node is detected. The same on every node of a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Detection {
    /// Three echo requests, 50 ms apart.
    #[default]
    Fast,
    /// Four echo requests, 100 ms apart, for networks that delay packets.
    Normal,
    /// No echo requests: the mesh alone detects failures.
    Swim,
}

/// Intervals of [`crate::Prober`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Time between two requests to a peer.
    pub interval: Duration,
    /// Number of requests without an answer after which a peer is silent.
    pub misses: u32,
}

impl Detection {
    /// Returns the timing of the requests; `None` if there are none.
    #[must_use]
    pub fn timing(self) -> Option<Timing> {
        let timing = |ms, misses| Some(Timing { interval: Duration::from_millis(ms), misses });
        match self {
            Self::Fast => timing(50, 3),
            Self::Normal => timing(100, 4),
            Self::Swim => None,
        }
    }

    /// Returns the value of the flag.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Normal => "normal",
            Self::Swim => "swim",
        }
    }
}

impl fmt::Display for Detection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no [`Detection`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidDetection;

impl fmt::Display for InvalidDetection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("must be fast, normal or swim")
    }
}

impl std::error::Error for InvalidDetection {}

impl FromStr for Detection {
    type Err = InvalidDetection;

    fn from_str(text: &str) -> Result<Self, InvalidDetection> {
        let all = [Self::Fast, Self::Normal, Self::Swim];
        all.into_iter().find(|detection| detection.as_str() == text).ok_or(InvalidDetection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_detections_are_parsed() {
        for (text, expected) in [
            ("fast", Ok(Detection::Fast)),
            ("normal", Ok(Detection::Normal)),
            ("swim", Ok(Detection::Swim)),
            ("", Err(InvalidDetection)),
            ("Fast", Err(InvalidDetection)),
        ] {
            assert_eq!(text.parse(), expected, "{text}");
        }
    }

    #[test]
    fn silence_is_detected_within_its_time() {
        for (detection, limit) in [(Detection::Fast, 150), (Detection::Normal, 400)] {
            let timing = detection.timing();
            let time = timing.map(|timing| timing.interval * timing.misses);
            assert_eq!(time, Some(Duration::from_millis(limit)), "{detection}");
        }
        assert_eq!(Detection::Swim.timing(), None);
    }
}
