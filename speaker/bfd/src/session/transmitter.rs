//! When to send a packet (RFC 5880 §6.8.7).

use std::time::{Duration, Instant};

use crate::PACKET_LENGTH;

/// Number of packets that announce AdminDown, in case packets are lost.
const ANNOUNCEMENTS: u8 = 3;
/// Upper bound of the interval between them, so that a stop takes less than a quarter of a second.
const ANNOUNCEMENT_INTERVAL: Duration = Duration::from_millis(100);

/// Mask of the octet that holds State, P, F, C, A, D and M, without P and F.
const FLAGS_WITHOUT_POLL_AND_FINAL: u8 = !0x30;

/// Schedule of transmissions. Three causes send a packet: the periodic timer; a received Poll; a change that
/// the peer must know before the timer expires.
#[derive(Debug)]
pub(super) struct Transmitter {
    jitter: Jitter,
    /// Interval that `periodic_at` is based on; `None` if no periodic packets are sent.
    interval: Option<Duration>,
    periodic_at: Option<Instant>,
    final_at: Option<Instant>,
    change_at: Option<Instant>,
    last_transmit: Option<Instant>,
    last_packet: Option<[u8; PACKET_LENGTH]>,
    /// Packets that still have to announce AdminDown, and the interval between them.
    announcements: u8,
    announcement_interval: Duration,
}

/// Why a packet is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// A packet with the P bit was received.
    Final,
    /// The state changed, or AdminDown is announced again.
    Change,
    /// The periodic timer expired at this time.
    Periodic { due: Instant, interval: Duration },
}

impl Transmitter {
    pub(super) const fn new(seed: u64) -> Self {
        Self {
            jitter: Jitter(seed),
            interval: None,
            periodic_at: None,
            final_at: None,
            change_at: None,
            last_transmit: None,
            last_packet: None,
            announcements: 0,
            announcement_interval: Duration::ZERO,
        }
    }

    /// Answers a received Poll. Polls that arrive before the answer is sent are answered once.
    pub(super) fn send_final(&mut self, at: Instant) {
        self.final_at = self.final_at.or(Some(at));
    }

    /// Sends one packet now, unless the last one is younger than `least_interval`.
    pub(super) fn send_one(&mut self, at: Instant, least_interval: Duration) {
        let allowed = self.last_transmit.and_then(|last| last.checked_add(least_interval));
        if allowed.is_none_or(|allowed| allowed <= at) {
            self.change_at = Some(at);
        }
    }

    /// Sends the next packets at a short interval: they announce AdminDown.
    pub(super) fn announce(&mut self) {
        self.announcements = ANNOUNCEMENTS;
        self.announcement_interval = self.interval.unwrap_or_default().min(ANNOUNCEMENT_INTERVAL);
    }

    pub(super) const fn stop_announcing(&mut self) {
        self.announcements = 0;
    }

    pub(super) const fn is_announcing(&self) -> bool {
        self.announcements > 0
    }

    /// Stops all transmissions.
    pub(super) const fn stop(&mut self) {
        self.interval = None;
        self.periodic_at = None;
        self.final_at = None;
        self.change_at = None;
        self.announcements = 0;
    }

    /// Adapts the schedule to the packet that would be sent now, and to the interval between periodic
    /// packets.
    ///
    /// A change of the diagnostic, the state or a discriminator is sent at once. Other changes wait for the
    /// next periodic packet, as a Poll Sequence must not send additional packets (RFC 5880 §6.5); they are
    /// sent at once if there are no periodic packets.
    pub(super) fn update(
        &mut self,
        at: Instant,
        packet: &[u8; PACKET_LENGTH],
        interval: Option<Duration>,
        detect_multiplier: u8,
    ) {
        let differs = self.last_packet.as_ref().is_none_or(|last| {
            if interval.is_some() {
                identity(last) != identity(packet)
            } else {
                contents(last) != contents(packet)
            }
        });
        if !differs {
            self.change_at = None;
        } else if self.change_at.is_none() {
            self.change_at = Some(at);
        }
        if interval != self.interval {
            self.interval = interval;
            // RFC 5880 §6.8.3: a changed interval counts from the last transmission.
            let next = |interval| {
                let since = self.last_transmit.unwrap_or(at);
                since.checked_add(self.jitter.apply(interval, detect_multiplier)).map(|next| next.max(at))
            };
            self.periodic_at = interval.and_then(next);
        }
    }

    /// Returns when to send the next packet.
    pub(super) fn next(&self) -> Option<Instant> {
        [self.final_at, self.change_at, self.announce_at(), self.periodic_at].into_iter().flatten().min()
    }

    fn announce_at(&self) -> Option<Instant> {
        self.last_transmit.filter(|_| self.announcements > 0)?.checked_add(self.announcement_interval)
    }

    /// Returns the cause to send a packet at `now`, the most urgent first.
    pub(super) fn due(&self, now: Instant) -> Option<Cause> {
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if is_due(self.final_at) {
            Some(Cause::Final)
        } else if is_due(self.change_at) || is_due(self.announce_at()) {
            Some(Cause::Change)
        } else {
            let due = self.periodic_at.filter(|at| *at <= now)?;
            Some(Cause::Periodic { due, interval: self.interval? })
        }
    }

    /// Records a transmission. A Final leaves the periodic timer as it is: otherwise a peer that polls all
    /// the time would prevent this system's own Polls.
    pub(super) fn sent(
        &mut self,
        now: Instant,
        cause: Cause,
        packet: [u8; PACKET_LENGTH],
        detect_multiplier: u8,
    ) {
        self.change_at = None;
        self.last_packet = Some(packet);
        self.announcements = self.announcements.saturating_sub(1);
        if cause == Cause::Final {
            self.final_at = None;
            return;
        }
        self.last_transmit = Some(now);
        let next = |interval| now.checked_add(self.jitter.apply(interval, detect_multiplier));
        self.periodic_at = self.interval.and_then(next);
    }
}

/// Returns the contents of a packet but for the P and F bits.
fn contents(packet: &[u8; PACKET_LENGTH]) -> [u8; PACKET_LENGTH] {
    let mut contents = *packet;
    contents[1] &= FLAGS_WITHOUT_POLL_AND_FINAL;
    contents
}

/// Returns the diagnostic, the state and the discriminators of a packet.
fn identity(packet: &[u8; PACKET_LENGTH]) -> (&[u8], u8, u8) {
    (&packet[4..12], packet[0], packet[1] & FLAGS_WITHOUT_POLL_AND_FINAL)
}

/// Pseudo-random numbers for jitter (splitmix64). Sessions with different seeds spread their packets
/// differently; no stronger property is needed.
#[derive(Debug)]
struct Jitter(u64);

impl Jitter {
    /// Reduces an interval by 0 to 25 % at random, or by 10 to 25 % if the peer tolerates no missing packet
    /// (RFC 5880 §6.8.7).
    fn apply(&mut self, interval: Duration, detect_multiplier: u8) -> Duration {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        let max = if detect_multiplier == 1 { 900 } else { 1000 };
        let permille = 750 + u32::try_from(z % (max - 750 + 1)).unwrap_or(0);
        interval / 1000 * permille
    }
}
