//! The window against a model of an API server, in simulated time.

use std::collections::BinaryHeap;
use std::time::Duration;

use super::*;

/// Workers that each take `time` per write. Writes wait for a free worker in order of arrival.
#[derive(Clone, Copy)]
struct Server {
    workers: usize,
    time: Duration,
    /// Largest relative deviation of `time`.
    jitter: f64,
}

impl Server {
    fn new(workers: usize, ms: u64) -> Self {
        Self { workers, time: Duration::from_millis(ms), jitter: 0.0 }
    }

    fn capacity(self) -> f64 {
        self.workers as f64 / self.time.as_secs_f64()
    }
}

/// An unlimited supply of writes.
struct Run {
    window: Window,
    now: Instant,
    /// When each worker is free, soonest first.
    workers: BinaryHeap<std::cmp::Reverse<Instant>>,
    /// Times of the coming responses, soonest first, with the time at which the write was sent.
    in_flight: BinaryHeap<std::cmp::Reverse<(Instant, Instant)>>,
    random: u64,
}

impl Run {
    fn new(server: Server) -> Self {
        let now = Instant::now();
        let mut run = Self {
            window: Window::default(),
            now,
            workers: BinaryHeap::new(),
            in_flight: BinaryHeap::new(),
            random: 1,
        };
        run.change(server);
        run
    }

    /// Changes the number of workers. Their current writes are complete.
    fn change(&mut self, server: Server) {
        self.workers = (0..server.workers).map(|_| std::cmp::Reverse(self.now)).collect();
    }

    fn send(&mut self, server: Server) {
        let free = self.workers.pop().map_or(self.now, |free| free.0.max(self.now));
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let random = (self.random >> 33) as f64 / (1_u64 << 31) as f64;
        let done = free + server.time.mul_f64(1.0 + server.jitter * (2.0 * random - 1.0));
        self.workers.push(std::cmp::Reverse(done));
        self.in_flight.push(std::cmp::Reverse((done, self.now)));
    }

    /// Runs for `time`; returns the responses per second and the mean window size.
    fn advance(&mut self, server: Server, time: Duration) -> (f64, f64) {
        let end = self.now + time;
        let (mut responses, mut sizes) = (0_u32, 0);
        loop {
            while self.in_flight.len() < self.window.size() {
                self.send(server);
            }
            let Some(std::cmp::Reverse((done, sent))) = self.in_flight.pop() else { break };
            if done > end {
                self.in_flight.push(std::cmp::Reverse((done, sent)));
                break;
            }
            self.now = done;
            let full = self.in_flight.len() + 1 >= self.window.size();
            self.window.handle_response(sent, done, full);
            responses += 1;
            sizes += self.window.size();
        }
        self.now = end;
        (f64::from(responses) / time.as_secs_f64(), sizes as f64 / f64::from(responses.max(1)))
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn window_converges_slightly_above_server_concurrency() {
    for jitter in [0.0, 0.5] {
        for workers in [4, 8, 20, 50, 100, 150] {
            let server = Server { jitter, ..Server::new(workers, 10) };
            let mut run = Run::new(server);
            run.advance(server, seconds(5));
            let (_, size) = run.advance(server, seconds(20));
            let least = workers as f64 * 0.95;
            let most = workers as f64 * 1.4 + 24.0;
            assert!(least <= size && size <= most, "{workers} workers, jitter {jitter}: {size}");
        }
    }
}

#[test]
fn window_uses_90_percent_of_any_server_capacity() {
    for jitter in [0.0, 0.5, 0.9] {
        for workers in [1, 2, 4, 8, 16, 32, 64, 128, 250] {
            for ms in [1, 10, 100] {
                let server = Server { jitter, ..Server::new(workers, ms) };
                let mut run = Run::new(server);
                run.advance(server, Duration::from_millis(100 * ms));
                let (rate, _) = run.advance(server, Duration::from_millis(1000 * ms));
                let share = rate / server.capacity();
                assert!(
                    share > 0.9,
                    "{workers} workers of {ms} ms, jitter {jitter}: {share:.2} of its capacity"
                );
            }
        }
    }
}

#[test]
fn server_that_loses_capacity_is_not_flooded() {
    let (large, small) = (Server::new(128, 10), Server::new(4, 10));
    let mut run = Run::new(large);
    run.advance(large, seconds(5));
    run.change(small);
    run.advance(small, seconds(10));
    let (rate, size) = run.advance(small, seconds(10));
    assert!(rate > 0.9 * small.capacity() && size < 32.0, "{rate} per second with {size} in flight");
}

#[test]
fn server_that_gains_capacity_is_used() {
    let (small, large) = (Server::new(4, 10), Server::new(128, 10));
    let mut run = Run::new(small);
    run.advance(small, seconds(10));
    run.change(large);
    run.advance(large, seconds(2));
    let (rate, _) = run.advance(large, seconds(10));
    assert!(rate > 0.9 * large.capacity(), "{rate} per second");
}

#[test]
fn slow_server_is_fully_used() {
    let server = Server::new(64, 500);
    let mut run = Run::new(server);
    let (first, _) = run.advance(server, seconds(10));
    assert!(first > 0.6 * server.capacity(), "{first} per second in the first ten seconds");
    let (rate, size) = run.advance(server, seconds(100));
    assert!(rate > 0.9 * server.capacity(), "{rate} per second with {size} in flight");
}

#[test]
fn server_that_slows_down_is_fully_used() {
    let (fast, slow) = (Server::new(64, 10), Server::new(64, 500));
    let mut run = Run::new(fast);
    run.advance(fast, seconds(5));
    run.advance(slow, seconds(30));
    let (rate, size) = run.advance(slow, seconds(60));
    assert!(rate > 0.9 * slow.capacity(), "{rate} per second with {size} in flight");
}

#[test]
fn window_does_not_grow_without_demand() {
    let mut window = Window::default();
    let now = Instant::now();
    for i in 0..10_000_u64 {
        let sent = now + Duration::from_secs(i);
        window.handle_response(sent, sent + Duration::from_millis(5), false);
    }
    assert_eq!(window.size(), 4);
}

#[test]
fn window_after_outage_grows_with_each_response() {
    let server = Server::new(64, 10);
    let mut run = Run::new(server);
    run.advance(server, seconds(5));
    let before = run.window.size();
    for _ in 0..before {
        run.window.handle_unavailable();
    }
    assert_eq!(run.window.size(), 1, "independent of the number of failures");
    run.in_flight.clear();
    run.change(server);
    let (rate, _) = run.advance(server, seconds(2));
    assert!(rate > 0.85 * server.capacity(), "{rate} per second, including recovery");
}

#[test]
fn window_stays_within_its_bounds() {
    let server = Server::new(100_000, 10);
    let mut run = Run::new(server);
    run.advance(server, seconds(10));
    assert_eq!(run.window.size(), 256);
    let server = Server::new(1, 1);
    let mut run = Run::new(server);
    run.advance(server, seconds(10));
    assert!(run.window.size() >= 4);
}
