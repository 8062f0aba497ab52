//! Sessions that are Up and do not change allocate no memory. The test has a process of its own, because the
//! allocator counts for all threads.
#![allow(clippy::unwrap_used, reason = "a failed test panics")]

use std::alloc::System;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use fairlead_bfd::{Datagram, HopMode, Role, SessionConfig, SessionKey, Sessions, State};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const SESSIONS: u8 = 64;

/// Two tables whose sessions are peers of each other.
struct Network {
    now: Instant,
    ends: [Sessions; 2],
}

fn key(end: usize, session: u8) -> SessionKey {
    let address = |end: usize| IpAddr::V4(Ipv4Addr::new(10, end as u8, 0, session));
    SessionKey { local: address(end), remote: address(1 - end), hop_mode: HopMode::Single, interface: None }
}

impl Network {
    fn new() -> Self {
        let now = Instant::now();
        let mut ends = [Sessions::new([1; 32]), Sessions::new([2; 32])];
        let config = SessionConfig {
            role: Role::Active,
            desired_min_tx: Duration::from_millis(50),
            required_min_rx: Duration::from_millis(50),
            detect_multiplier: 3,
            required_min_echo_rx: Duration::ZERO,
            minimum_ttl: 255,
        };
        for (end, sessions) in ends.iter_mut().enumerate() {
            for session in 0..SESSIONS {
                sessions.set_user(now, key(end, session), "r1", config).unwrap();
            }
        }
        Self { now, ends }
    }

    /// Runs for a time. Returns the number of packets.
    fn run(&mut self, duration: Duration) -> u32 {
        let end = self.now + duration;
        let mut packets = 0;
        while let Some(next) =
            self.ends.iter().filter_map(Sessions::poll_timeout).min().filter(|at| *at <= end)
        {
            self.now = self.now.max(next);
            for from in 0..2 {
                self.ends[from].handle_timeout(self.now);
                while let Some(transmit) = self.ends[from].poll_transmit(self.now) {
                    packets += 1;
                    let datagram = Datagram {
                        local: transmit.key.remote,
                        remote: transmit.key.local,
                        hop_mode: transmit.key.hop_mode,
                        interface: 2,
                        ttl: 255,
                        payload: &transmit.packet,
                    };
                    self.ends[1 - from].handle_datagram(self.now, &datagram).unwrap();
                }
            }
            for sessions in &mut self.ends {
                while sessions.poll_event().is_some() {}
            }
        }
        self.now = end;
        packets
    }
}

#[test]
fn sessions_that_are_up_allocate_no_memory() {
    let mut network = Network::new();
    network.run(Duration::from_secs(5));
    for (end, sessions) in network.ends.iter().enumerate() {
        let up = |session| sessions.view(&key(end, session)).unwrap().state == State::Up;
        assert!((0..SESSIONS).all(up));
    }
    let region = Region::new(ALLOCATOR);
    let packets = network.run(Duration::from_secs(60));
    let changes = region.change();
    assert!(packets > 2 * 60 * 20 * u32::from(SESSIONS), "{packets} packets");
    assert_eq!((changes.allocations, changes.reallocations, changes.deallocations), (0, 0, 0));
}
