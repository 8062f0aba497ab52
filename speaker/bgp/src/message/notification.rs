//! NOTIFICATION (RFC 4271 §4.5): the last message of a connection, with the error that ends it.

use std::fmt;

use super::header::{HEADER_LENGTH, MAX_LENGTH, MessageType, encode};

/// Error codes.
#[allow(missing_docs, reason = "the names are those of the IANA registry")]
pub mod code {
    pub const HEADER: u8 = 1;
    pub const OPEN: u8 = 2;
    pub const UPDATE: u8 = 3;
    pub const HOLD_TIMER_EXPIRED: u8 = 4;
    pub const FSM: u8 = 5;
    pub const CEASE: u8 = 6;
    pub const ROUTE_REFRESH: u8 = 7;
    /// RFC 9687.
    pub const SEND_HOLD_TIMER_EXPIRED: u8 = 8;
}

/// A NOTIFICATION message. [`fmt::Display`] uses the names of the IANA registry "BGP Error (Notification)
/// Codes".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// Error code, see [`code`].
    pub code: u8,
    /// Error subcode; 0 if the code has none or none fits.
    pub subcode: u8,
    /// Diagnostic data that the subcode defines.
    pub data: Vec<u8>,
}

/// Subcodes of Cease (RFC 4486 §3, RFC 8538 §3, RFC 9384).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are those of the IANA registry")]
pub enum CeaseSubcode {
    MaximumNumberOfPrefixesReached = 1,
    AdministrativeShutdown = 2,
    PeerDeconfigured = 3,
    AdministrativeReset = 4,
    ConnectionRejected = 5,
    OtherConfigurationChange = 6,
    ConnectionCollisionResolution = 7,
    OutOfResources = 8,
    HardReset = 9,
    BfdDown = 10,
}

impl CeaseSubcode {
    /// Returns whether the subcode carries a shutdown communication (RFC 9003 §2).
    #[must_use]
    pub const fn carries_text(self) -> bool {
        matches!(self, Self::AdministrativeShutdown | Self::AdministrativeReset)
    }
}

impl Notification {
    /// Returns a Cease. If the subcode carries a shutdown communication, `text` is included, truncated to at
    /// most 255 octets at a character boundary (RFC 9003 §2).
    #[must_use]
    pub fn cease(subcode: CeaseSubcode, text: &str) -> Self {
        let mut data = Vec::new();
        if subcode.carries_text() && !text.is_empty() {
            let end = (0..=text.len().min(255)).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
            data.push(u8::try_from(end).unwrap_or(u8::MAX));
            data.extend(text.bytes().take(end));
        }
        Self { code: code::CEASE, subcode: subcode as u8, data }
    }

    /// Returns a Hard Reset (RFC 8538 §3.1) for the reason in this NOTIFICATION: the peer deletes the routes
    /// at once, although it retains them after other NOTIFICATIONs.
    #[must_use]
    pub fn into_hard_reset(self) -> Self {
        let data = [&[self.code, self.subcode], self.data.as_slice()].concat();
        Self { code: code::CEASE, subcode: CeaseSubcode::HardReset as u8, data }
    }

    /// Returns the reason of a Hard Reset (RFC 8538 §3.1); `None` for another NOTIFICATION, or if the reason
    /// is missing.
    #[must_use]
    pub fn hard_reset_reason(&self) -> Option<Self> {
        match (self.code, self.subcode, self.data.as_slice()) {
            // A Hard Reset for a Hard Reset would have no end.
            (code::CEASE, 9, [code::CEASE, 9, ..]) => None,
            (code::CEASE, 9, [code, subcode, data @ ..]) => {
                Some(Self { code: *code, subcode: *subcode, data: data.to_vec() })
            }
            _ => None,
        }
    }

    /// Returns the shutdown communication of a Cease (RFC 9003 §2) with unprintable characters replaced;
    /// `None` if it is missing or malformed.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        if self.code != code::CEASE || !matches!(self.subcode, 2 | 4) {
            return None;
        }
        let (length, rest) = self.data.split_first()?;
        let text = rest.get(..usize::from(*length)).filter(|text| !text.is_empty())?;
        let is_printable = |c: char| match c {
            ' '..='~' => true,
            // The standard library escapes the characters that are not printable.
            _ => !c.is_ascii() && c.escape_debug().len() == 1,
        };
        let printable = |c| if is_printable(c) { c } else { char::REPLACEMENT_CHARACTER };
        Some(String::from_utf8_lossy(text).chars().map(printable).collect())
    }

    /// Decodes a body. There is no error: a NOTIFICATION is never answered with a NOTIFICATION (RFC 4271
    /// §6.4).
    #[must_use]
    pub fn decode(body: &[u8]) -> Self {
        let (code, rest) = body.split_first().unwrap_or((&0, &[]));
        let (subcode, data) = rest.split_first().unwrap_or((&0, &[]));
        Self { code: *code, subcode: *subcode, data: data.to_vec() }
    }

    /// Appends the message. Data is truncated to fit into 4096 octets.
    pub fn encode(&self, out: &mut Vec<u8>) {
        encode(MessageType::Notification, out, |out| {
            out.extend_from_slice(&[self.code, self.subcode]);
            let room = MAX_LENGTH - HEADER_LENGTH - 2;
            out.extend_from_slice(self.data.get(..room).unwrap_or(&self.data));
        });
    }

    /// Returns the names of code and subcode. The second is empty if the subcode has no name.
    #[must_use]
    pub const fn names(&self) -> (&'static str, &'static str) {
        match self.code {
            code::HEADER => ("Message Header Error", header_name(self.subcode)),
            code::OPEN => ("OPEN Message Error", open_name(self.subcode)),
            code::UPDATE => ("UPDATE Message Error", update_name(self.subcode)),
            code::HOLD_TIMER_EXPIRED => ("Hold Timer Expired", ""),
            code::FSM => ("Finite State Machine Error", fsm_name(self.subcode)),
            code::CEASE => ("Cease", cease_name(self.subcode)),
            code::ROUTE_REFRESH => ("ROUTE-REFRESH Message Error", route_refresh_name(self.subcode)),
            code::SEND_HOLD_TIMER_EXPIRED => ("Send Hold Timer Expired", ""),
            _ => ("Unknown", ""),
        }
    }
}

impl fmt::Display for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (code, subcode) = self.names();
        write!(f, "{}/{} ({code}", self.code, self.subcode)?;
        if !subcode.is_empty() {
            write!(f, ": {subcode}")?;
        }
        f.write_str(")")?;
        if let Some(text) = self.text() {
            write!(f, " \"{text}\"")?;
        }
        match self.hard_reset_reason() {
            Some(reason) => write!(f, " for {reason}"),
            None => Ok(()),
        }
    }
}

const fn route_refresh_name(subcode: u8) -> &'static str {
    match subcode {
        1 => "Invalid Message Length",
        _ => "",
    }
}

const fn header_name(subcode: u8) -> &'static str {
    match subcode {
        1 => "Connection Not Synchronized",
        2 => "Bad Message Length",
        3 => "Bad Message Type",
        _ => "",
    }
}

const fn open_name(subcode: u8) -> &'static str {
    match subcode {
        1 => "Unsupported Version Number",
        2 => "Bad Peer AS",
        3 => "Bad BGP Identifier",
        4 => "Unsupported Optional Parameter",
        6 => "Unacceptable Hold Time",
        7 => "Unsupported Capability",
        11 => "Role Mismatch",
        _ => "",
    }
}

const fn update_name(subcode: u8) -> &'static str {
    match subcode {
        1 => "Malformed Attribute List",
        2 => "Unrecognized Well-known Attribute",
        3 => "Missing Well-known Attribute",
        4 => "Attribute Flags Error",
        5 => "Attribute Length Error",
        6 => "Invalid ORIGIN Attribute",
        8 => "Invalid NEXT_HOP Attribute",
        9 => "Optional Attribute Error",
        10 => "Invalid Network Field",
        11 => "Malformed AS_PATH",
        _ => "",
    }
}

const fn fsm_name(subcode: u8) -> &'static str {
    match subcode {
        1 => "Receive Unexpected Message in OpenSent State",
        2 => "Receive Unexpected Message in OpenConfirm State",
        3 => "Receive Unexpected Message in Established State",
        _ => "",
    }
}

const fn cease_name(subcode: u8) -> &'static str {
    match subcode {
        1 => "Maximum Number of Prefixes Reached",
        2 => "Administrative Shutdown",
        3 => "Peer De-configured",
        4 => "Administrative Reset",
        5 => "Connection Rejected",
        6 => "Other Configuration Change",
        7 => "Connection Collision Resolution",
        8 => "Out of Resources",
        9 => "Hard Reset",
        10 => "BFD Down",
        _ => "",
    }
}
