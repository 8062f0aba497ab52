//! Timing of the mesh.

use std::time::Duration;

/// Timing of the mesh; the same on every speaker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How often one member is probed.
    pub probe_period: Duration,
    /// How long a direct answer may take before others are asked to probe.
    pub probe_rtt: Duration,
    /// How long a suspected member has to object before it is down.
    pub suspect_to_down: Duration,
    /// How often listed speakers that are not members are announced to.
    pub announce_period: Duration,
    /// How long after the start [`crate::Mesh::settled`] waits for listed speakers that do not answer.
    pub settle_after: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            probe_period: Duration::from_millis(250),
            probe_rtt: Duration::from_millis(120),
            suspect_to_down: Duration::from_millis(500),
            announce_period: Duration::from_millis(500),
            settle_after: Duration::from_secs(2),
        }
    }
}
