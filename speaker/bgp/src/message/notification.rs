//! NOTIFICATION (RFC 4271 §4.5): the last word of a session.

use std::fmt;

/// Error code, subcode and data. The names are those of the IANA registry "BGP Error (Notification) Codes".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// Error code.
    pub code: u8,
    /// Error subcode; 0 where the code has none or none fits.
    pub subcode: u8,
    /// What the subcode asks for.
    pub data: Vec<u8>,
}

/// Subcodes of Cease (RFC 4486, 8203, 8538, 9384).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CeaseSubcode {
    /// 1
    MaximumNumberOfPrefixesReached,
    /// 2, carries a text (RFC 9003)
    AdministrativeShutdown,
    /// 3
    PeerDeconfigured,
    /// 4, carries a text (RFC 9003)
    AdministrativeReset,
    /// 5
    ConnectionRejected,
    /// 6
    OtherConfigurationChange,
    /// 7
    ConnectionCollisionResolution,
    /// 8
    OutOfResources,
    /// 9 (RFC 8538)
    HardReset,
    /// 10 (RFC 9384)
    BfdDown,
}

impl CeaseSubcode {
    /// The value on the wire.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8 + 1
    }

    /// Whether the subcode carries a text (RFC 9003 §2).
    #[must_use]
    pub const fn carries_text(self) -> bool {
        matches!(self, Self::AdministrativeShutdown | Self::AdministrativeReset)
    }
}

impl fmt::Display for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.code, self.subcode)
    }
}
