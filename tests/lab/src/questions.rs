//! Asks again and again for the Ethernet address of a host, as clients without a neighbor cache do.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use crate::addresses::{self, Mac};
use crate::capture::{Capture, Captured};
use crate::frame::{self, Message};
use crate::lab::Lab;

/// Time for which [`Questions::stop`] waits for the last answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// ARP requests or neighbor solicitations of the LAN client in progress.
///
/// Each is a new question: a stream of packets does not show that nobody answers, because its sender keeps
/// the last answer.
#[derive(Debug)]
pub struct Questions {
    ip: IpAddr,
    capture: Capture,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Instant>>,
}

/// What was asked, and the frames that were received meanwhile.
#[derive(Debug)]
pub struct QuestionsReport {
    ip: IpAddr,
    asked: Vec<Instant>,
    frames: Vec<Captured>,
}

impl Questions {
    /// Asks for `ip` every `interval` until stopped.
    ///
    /// # Errors
    /// If a socket cannot be opened.
    pub fn start(lab: &Lab, ip: IpAddr, interval: Duration) -> Result<Self> {
        let own = addresses::client();
        let request = frame::request(addresses::lan_mac(own), own, ip);
        let capture = lab.capture_client()?;
        let sender = lab.client().sender()?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut asked = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                asked.push(Instant::now());
                // A request that the kernel refuses counts as one without an answer.
                let _ = sender.send(&request);
                std::thread::sleep(interval);
            }
            asked
        });
        Ok(Self { ip, capture, stop, thread })
    }

    /// Returns the frames captured so far.
    pub fn frames(&self) -> Vec<Captured> {
        self.capture.frames()
    }

    /// Ends the questions, and waits for the answer to the last one.
    ///
    /// # Errors
    /// If the thread that asks panicked.
    pub fn stop(self) -> Result<QuestionsReport> {
        self.stop.store(true, Ordering::Relaxed);
        let asked = self.thread.join().map_err(|_| anyhow!("the thread that asks panicked"))?;
        let end = Instant::now() + PATIENCE;
        loop {
            let report = QuestionsReport { ip: self.ip, asked: asked.clone(), frames: self.capture.frames() };
            let complete = report.answers().last().map(|(at, _)| at) >= asked.last().copied();
            if complete || Instant::now() >= end {
                return Ok(report);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl QuestionsReport {
    /// Returns when each answer arrived, and from which host.
    pub fn answers(&self) -> impl Iterator<Item = (Instant, Mac)> + '_ {
        self.frames
            .iter()
            .filter(|seen| answers(&seen.frame.message, self.ip))
            .map(|s| (s.at, s.frame.source))
    }

    /// Returns the unsolicited announcements of the address, and from which host.
    pub fn announcements(&self) -> impl Iterator<Item = (Instant, Mac)> + '_ {
        let claims = self.frames.iter().filter(|seen| seen.frame.message.claims(self.ip));
        let unsolicited = claims.filter(|seen| !answers(&seen.frame.message, self.ip));
        unsolicited.map(|seen| (seen.at, seen.frame.source))
    }

    /// Returns the longest time in which two hosts answered in turns; zero if each change was final for at
    /// least `pause`.
    pub fn longest_contest(&self, pause: Duration) -> Duration {
        longest_contest(&self.answers().collect::<Vec<_>>(), pause)
    }

    /// Returns the longest time from a question to the next answer. Time in which nothing was asked does not
    /// count.
    pub fn longest_wait(&self) -> Duration {
        let answers: Vec<Instant> = self.answers().map(|(at, _)| at).collect();
        longest_wait(&self.asked, &answers, Instant::now())
    }
}

/// Returns the longest time in which two hosts answered in turns. Answers of different hosts that are less
/// than `pause` apart belong to one such time.
fn longest_contest(answers: &[(Instant, Mac)], pause: Duration) -> Duration {
    let (mut longest, mut since) = (Duration::ZERO, None::<(Instant, Instant)>);
    for pair in answers.windows(2) {
        let [(before, one), (at, other)] = pair else { continue };
        if one == other {
            continue;
        }
        since = match since {
            Some((begin, last)) if at.saturating_duration_since(last) < pause => Some((begin, *at)),
            _ => Some((*before, *at)),
        };
        // One change of the host is no contest.
        if let Some((begin, end)) = since.filter(|(begin, _)| begin != before) {
            longest = longest.max(end.saturating_duration_since(begin));
        }
    }
    longest
}

/// Returns true if the message answers a request for `ip`.
fn answers(message: &Message, ip: IpAddr) -> bool {
    message.claims(ip)
        && match message {
            Message::Arp { sender_ip, target_ip, .. } => sender_ip != target_ip,
            Message::NeighborAdvertisement { solicited, .. } => *solicited,
            _ => false,
        }
}

fn longest_wait(asked: &[Instant], answered: &[Instant], end: Instant) -> Duration {
    let waits = asked.iter().map(|at| {
        let next = answered.partition_point(|answer| answer < at);
        answered.get(next).copied().unwrap_or(end).saturating_duration_since(*at)
    });
    waits.max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contest_lasts_from_the_first_to_the_last_change_of_the_host() {
        let (start, pause) = (Instant::now(), Duration::from_millis(500));
        for (answers, expected) in [
            (&[][..], 0),
            (&[(0, 1), (50, 1), (100, 2), (150, 2)], 0),
            // A handover with an overlap.
            (&[(0, 1), (50, 2), (60, 1), (100, 2), (5_000, 2)], 100),
            // Two moves.
            (&[(0, 1), (50, 2), (5_000, 2), (5_050, 1)], 0),
            // Two answerers.
            (&[(0, 1), (10, 2), (400, 1), (410, 2), (800, 1), (810, 2)], 810),
        ] {
            let answers: Vec<(Instant, Mac)> = answers
                .iter()
                .map(|(ms, host)| (start + Duration::from_millis(*ms), Mac([*host; 6])))
                .collect();
            assert_eq!(longest_contest(&answers, pause), Duration::from_millis(expected), "{answers:?}");
        }
    }

    #[test]
    fn wait_ends_with_next_answer() {
        let start = Instant::now();
        let at = |times: &[u64]| -> Vec<Instant> {
            times.iter().map(|ms| start + Duration::from_millis(*ms)).collect()
        };
        for (asked, answered, expected) in [
            (&[][..], &[][..], 0),
            (&[0, 20, 40], &[1, 21, 42], 2),
            (&[0, 20, 40], &[1, 45], 25),
            (&[0, 20, 40], &[1], 80),
            // Nothing was asked for a second.
            (&[0, 1_000], &[1, 1_001], 1),
        ] {
            let wait = longest_wait(&at(asked), &at(answered), start + Duration::from_millis(100));
            assert_eq!(wait, Duration::from_millis(expected), "{asked:?} {answered:?}");
        }
    }
}
