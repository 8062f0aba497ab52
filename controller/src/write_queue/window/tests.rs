//! The window against a model of an API server, in simulated time.

use std::collections::BinaryHeap;

use std::time::Duration;

use super::*;

/// Workers that each take `time` for a write; writes wait for a free worker in the order they came.
#[derive(Clone, Copy)]
struct Server {
    workers: usize,
    time: Duration,
    /// Times differ by up to this share, up or down.
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

/// Writes without end.
struct Run {
    window: Window,
    now: Instant,
    /// When each worker is free, soonest first.
    workers: BinaryHeap<std::cmp::Reverse<Instant>>,
    /// Answers to come, soonest first, with the time they were sent.
    flying: BinaryHeap<std::cmp::Reverse<(Instant, Instant)>>,
    random: u64,
}

impl Run {
    fn new(server: Server) -> Self {
        let now = Instant::now();
        let mut run = Self {
            window: Window::default(),
            now,
            workers: BinaryHeap::new(),
            flying: BinaryHeap::new(),
            random: 1,
        };
        run.change(server);
        run
    }

    /// Another number of workers; what they were doing is done.
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
        self.flying.push(std::cmp::Reverse((done, self.now)));
    }

    /// Answers per second in this time, and the mean size.
    fn go(&mut self, server: Server, time: Duration) -> (f64, f64) {
        let end = self.now + time;
        let (mut answers, mut sizes) = (0_u32, 0);
        loop {
            while self.flying.len() < self.window.size() {
                self.send(server);
            }
            let Some(std::cmp::Reverse((done, sent))) = self.flying.pop() else { break };
            if done > end {
                self.flying.push(std::cmp::Reverse((done, sent)));
                break;
            }
            self.now = done;
            let full = self.flying.len() + 1 >= self.window.size();
            self.window.answered(sent, done, full);
            answers += 1;
            sizes += self.window.size();
        }
        self.now = end;
        (f64::from(answers) / time.as_secs_f64(), sizes as f64 / f64::from(answers.max(1)))
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn it_settles_a_little_above_what_the_server_works_on_at_once() {
    for jitter in [0.0, 0.5] {
        for workers in [4, 8, 20, 50, 100, 150] {
            let server = Server { jitter, ..Server::new(workers, 10) };
            let mut run = Run::new(server);
            run.go(server, seconds(5));
            let (_, size) = run.go(server, seconds(20));
            let least = workers as f64 * 0.95;
            let most = workers as f64 * 1.4 + 24.0;
            assert!(least <= size && size <= most, "{workers} workers, jitter {jitter}: {size}");
        }
    }
}

#[test]
fn it_uses_the_capacity_of_any_server() {
    for jitter in [0.0, 0.5, 0.9] {
        for workers in [1, 2, 4, 8, 16, 32, 64, 128, 250] {
            for ms in [1, 10, 100] {
                let server = Server { jitter, ..Server::new(workers, ms) };
                let mut run = Run::new(server);
                run.go(server, Duration::from_millis(100 * ms));
                let (rate, _) = run.go(server, Duration::from_millis(1000 * ms));
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
fn a_server_of_little_capacity_is_not_flooded_whatever_it_was_before() {
    let (large, small) = (Server::new(128, 10), Server::new(4, 10));
    let mut run = Run::new(large);
    run.go(large, seconds(5));
    run.change(small);
    run.go(small, seconds(10));
    let (rate, size) = run.go(small, seconds(10));
    assert!(rate > 0.9 * small.capacity() && size < 32.0, "{rate} per second with {size} in flight");
}

#[test]
fn it_follows_a_server_that_gains_capacity() {
    let (small, large) = (Server::new(4, 10), Server::new(128, 10));
    let mut run = Run::new(small);
    run.go(small, seconds(10));
    run.change(large);
    run.go(large, seconds(2));
    let (rate, _) = run.go(large, seconds(10));
    assert!(rate > 0.9 * large.capacity(), "{rate} per second");
}

#[test]
fn a_slow_server_is_used_fully() {
    let server = Server::new(64, 500);
    let mut run = Run::new(server);
    let (first, _) = run.go(server, seconds(10));
    assert!(first > 0.6 * server.capacity(), "{first} per second in the first ten seconds");
    let (rate, size) = run.go(server, seconds(100));
    assert!(rate > 0.9 * server.capacity(), "{rate} per second with {size} in flight");
}

#[test]
fn a_server_that_becomes_slower_by_itself_is_still_used_fully() {
    let (fast, slow) = (Server::new(64, 10), Server::new(64, 500));
    let mut run = Run::new(fast);
    run.go(fast, seconds(5));
    run.go(slow, seconds(30));
    let (rate, size) = run.go(slow, seconds(60));
    assert!(rate > 0.9 * slow.capacity(), "{rate} per second with {size} in flight");
}

#[test]
fn it_does_not_grow_without_demand() {
    let mut window = Window::default();
    let now = Instant::now();
    for i in 0..10_000_u64 {
        let sent = now + Duration::from_secs(i);
        window.answered(sent, sent + Duration::from_millis(5), false);
    }
    assert_eq!(window.size(), 4);
}

#[test]
fn after_an_outage_it_starts_with_one_and_comes_back_with_every_answer() {
    let server = Server::new(64, 10);
    let mut run = Run::new(server);
    run.go(server, seconds(5));
    let before = run.window.size();
    for _ in 0..before {
        run.window.unavailable();
    }
    assert_eq!(run.window.size(), 1, "however many failed together");
    run.flying.clear();
    run.change(server);
    let (rate, _) = run.go(server, seconds(2));
    assert!(rate > 0.85 * server.capacity(), "{rate} per second, the return included");
}

#[test]
fn it_stays_within_its_bounds() {
    let server = Server::new(100_000, 10);
    let mut run = Run::new(server);
    run.go(server, seconds(10));
    assert_eq!(run.window.size(), 256);
    let server = Server::new(1, 1);
    let mut run = Run::new(server);
    run.go(server, seconds(10));
    assert!(run.window.size() >= 4);
}
