//! The BFD Control packet (RFC 5880 §4.1) and the reasons to discard one (RFC 5880 §6.8.6).

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

/// Length of a Control packet without an Authentication Section, in octets.
pub const PACKET_LENGTH: usize = 24;

const VERSION: u8 = 1;
/// Minimum length of a packet with an Authentication Section, in octets.
const MIN_LENGTH_WITH_AUTHENTICATION: u8 = 26;

const POLL: u8 = 0x20;
const FINAL: u8 = 0x10;
const CONTROL_PLANE_INDEPENDENT: u8 = 0x08;
const AUTHENTICATION_PRESENT: u8 = 0x04;
const DEMAND: u8 = 0x02;
const MULTIPOINT: u8 = 0x01;

/// A Control packet that passed the checks of its contents. Intervals have a resolution of one microsecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlPacket {
    /// Why the sender last changed its state.
    pub diagnostic: Diagnostic,
    /// State of the sender.
    pub state: State,
    /// P bit: the sender requests an answer with the F bit.
    pub poll: bool,
    /// F bit: the answer to a packet with the P bit.
    pub is_final: bool,
    /// C bit: the BFD implementation of the sender survives the loss of its control plane. Never set in
    /// packets that this crate sends.
    pub control_plane_independent: bool,
    /// A bit: the packet has an Authentication Section. A session discards it. Never set in packets that this
    /// crate sends.
    pub authentication_present: bool,
    /// D bit: Demand mode is active at the sender. Never set in packets that this crate sends.
    pub demand: bool,
    /// Detect Mult.
    pub detect_multiplier: u8,
    /// My Discriminator: identifies the session at the sender.
    pub my_discriminator: NonZeroU32,
    /// Your Discriminator: identifies the session at the receiver; `None` (zero) until the sender learns it.
    pub your_discriminator: Option<NonZeroU32>,
    /// Desired Min TX Interval.
    pub desired_min_tx: Duration,
    /// Required Min RX Interval; zero requests that the receiver send no periodic packets.
    pub required_min_rx: Duration,
    /// Required Min Echo RX Interval; zero forbids Echo packets to the sender.
    pub required_min_echo_rx: Duration,
}

impl ControlPacket {
    /// Decodes the payload of a UDP datagram, with those checks of RFC 5880 §6.8.6 that need no session, in
    /// their order. An Authentication Section and octets after the packet are ignored.
    ///
    /// # Errors
    /// The reason to discard the packet.
    pub fn decode(payload: &[u8]) -> Result<Self, Discard> {
        let [version_and_diagnostic, flags, detect_multiplier, length, ..] = *payload else {
            return Err(Discard::LengthTooShort);
        };
        if version_and_diagnostic >> 5 != VERSION {
            return Err(Discard::Version);
        }
        let authentication_present = flags & AUTHENTICATION_PRESENT != 0;
        let min_length =
            if authentication_present { MIN_LENGTH_WITH_AUTHENTICATION } else { PACKET_LENGTH as u8 };
        if length < min_length {
            return Err(Discard::LengthTooShort);
        }
        if usize::from(length) > payload.len() {
            return Err(Discard::LengthExceedsPayload);
        }
        if detect_multiplier == 0 {
            return Err(Discard::DetectMultiplierZero);
        }
        if flags & MULTIPOINT != 0 {
            return Err(Discard::Multipoint);
        }
        let word =
            |at: usize| payload.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_be_bytes);
        let Some(my_discriminator) = NonZeroU32::new(word(4)) else {
            return Err(Discard::MyDiscriminatorZero);
        };
        let your_discriminator = NonZeroU32::new(word(8));
        let state = State::from_bits(flags >> 6);
        if your_discriminator.is_none() && !matches!(state, State::Down | State::AdminDown) {
            return Err(Discard::YourDiscriminatorZero);
        }
        let interval = |at: usize| Duration::from_micros(u64::from(word(at)));
        Ok(Self {
            diagnostic: Diagnostic(version_and_diagnostic & 0x1F),
            state,
            poll: flags & POLL != 0,
            is_final: flags & FINAL != 0,
            control_plane_independent: flags & CONTROL_PLANE_INDEPENDENT != 0,
            authentication_present,
            demand: flags & DEMAND != 0,
            detect_multiplier,
            my_discriminator,
            your_discriminator,
            desired_min_tx: interval(12),
            required_min_rx: interval(16),
            required_min_echo_rx: interval(20),
        })
    }

    /// Encodes the packet with version 1, without authentication and with the M bit clear. Intervals above
    /// `u32::MAX` microseconds (71 minutes) are encoded as that value.
    #[must_use]
    pub fn encode(&self) -> [u8; PACKET_LENGTH] {
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        let mut packet = [0; PACKET_LENGTH];
        packet[0] = VERSION << 5 | self.diagnostic.0 & 0x1F;
        packet[1] = (self.state as u8) << 6
            | flag(self.poll, POLL)
            | flag(self.is_final, FINAL)
            | flag(self.control_plane_independent, CONTROL_PLANE_INDEPENDENT)
            | flag(self.demand, DEMAND);
        packet[2] = self.detect_multiplier;
        packet[3] = PACKET_LENGTH as u8;
        let mut put = |at: usize, word: u32| packet[at..at + 4].copy_from_slice(&word.to_be_bytes());
        let micros = |interval: Duration| u32::try_from(interval.as_micros()).unwrap_or(u32::MAX);
        put(4, self.my_discriminator.get());
        put(8, self.your_discriminator.map_or(0, NonZeroU32::get));
        put(12, micros(self.desired_min_tx));
        put(16, micros(self.required_min_rx));
        put(20, micros(self.required_min_echo_rx));
        packet
    }
}

/// State of a session: bfd.SessionState and the field Sta.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// The session is administratively down.
    AdminDown = 0,
    /// The session is down, or was just created.
    Down = 1,
    /// The other system sends packets, but does not yet receive ours.
    Init = 2,
    /// Each system receives the packets of the other.
    Up = 3,
}

impl State {
    const fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => Self::AdminDown,
            1 => Self::Down,
            2 => Self::Init,
            _ => Self::Up,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// Reason for the last change of state of a system: bfd.LocalDiag and the field Diag (RFC 5880 §4.1), 0 to
/// 31. Its text is that of the RFC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Diagnostic(u8);

#[allow(missing_docs)]
impl Diagnostic {
    pub const NONE: Self = Self(0);
    pub const CONTROL_DETECTION_TIME_EXPIRED: Self = Self(1);
    pub const ECHO_FUNCTION_FAILED: Self = Self(2);
    pub const NEIGHBOR_SIGNALED_SESSION_DOWN: Self = Self(3);
    pub const FORWARDING_PLANE_RESET: Self = Self(4);
    pub const PATH_DOWN: Self = Self(5);
    pub const CONCATENATED_PATH_DOWN: Self = Self(6);
    pub const ADMINISTRATIVELY_DOWN: Self = Self(7);
    pub const REVERSE_CONCATENATED_PATH_DOWN: Self = Self(8);

    /// Returns the code on the wire.
    #[must_use]
    pub const fn code(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            0 => "No Diagnostic",
            1 => "Control Detection Time Expired",
            2 => "Echo Function Failed",
            3 => "Neighbor Signaled Session Down",
            4 => "Forwarding Plane Reset",
            5 => "Path Down",
            6 => "Concatenated Path Down",
            7 => "Administratively Down",
            8 => "Reverse Concatenated Path Down",
            code => return write!(f, "Diagnostic {code}"),
        })
    }
}

/// Reason to discard a received packet. The variants are in the order of the checks: first those of RFC 5880
/// §6.8.6 on the packet, then those that need a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Discard {
    #[allow(missing_docs)]
    #[error("the version is not 1")]
    Version,
    /// Length is below 24 octets, or below 26 octets with the A bit; or the payload is too short to have a
    /// Length.
    #[error("the length is less than that of a Control packet")]
    LengthTooShort,
    #[allow(missing_docs)]
    #[error("the length exceeds the payload")]
    LengthExceedsPayload,
    #[allow(missing_docs)]
    #[error("Detect Mult is zero")]
    DetectMultiplierZero,
    #[allow(missing_docs)]
    #[error("the Multipoint bit is set")]
    Multipoint,
    #[allow(missing_docs)]
    #[error("My Discriminator is zero")]
    MyDiscriminatorZero,
    /// Only a packet in state Down or AdminDown may lack Your Discriminator.
    #[error("Your Discriminator is zero in state Init or Up")]
    YourDiscriminatorZero,
    /// No session has this discriminator or these addresses.
    #[error("no session matches")]
    UnknownSession,
    /// The TTL or hop limit is below 255 (RFC 5881 §5), or below the minimum of a multihop session.
    #[error("the TTL is too low")]
    TtlTooLow,
    /// Authentication is not supported.
    #[error("the Authentication Present bit is set, but no authentication is in use")]
    AuthenticationPresent,
    /// The session is in AdminDown. The session nevertheless learns the values of the packet.
    #[error("the session is administratively down")]
    AdminDown,
}

impl Discard {
    /// All reasons, in the order of the checks.
    pub const ALL: [Self; 11] = [
        Self::Version,
        Self::LengthTooShort,
        Self::LengthExceedsPayload,
        Self::DetectMultiplierZero,
        Self::Multipoint,
        Self::MyDiscriminatorZero,
        Self::YourDiscriminatorZero,
        Self::UnknownSession,
        Self::TtlTooLow,
        Self::AuthenticationPresent,
        Self::AdminDown,
    ];
}

/// Number of discarded packets by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiscardCounters([u64; Discard::ALL.len()]);

impl DiscardCounters {
    pub(crate) const fn count(&mut self, reason: Discard) {
        self.0[reason as usize] += 1;
    }

    /// Returns the number of packets discarded for one reason.
    #[must_use]
    pub const fn get(&self, reason: Discard) -> u64 {
        self.0[reason as usize]
    }

    /// Returns the number of packets discarded for any reason.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}
