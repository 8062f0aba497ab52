//! Runs a fuzz target: first on every file of its corpus, then on mutations of those files until its time is
//! over.
//!
//! A target is a function of octets that panics where the code under test is wrong. Its corpus is the folder
//! `corpus/NAME`; a `.hex` file holds octets as hexadecimal digits with `#` comments, any other file is taken
//! as it is. An input that fails is minimized by proptest and written into the corpus as `failure-HASH.hex`,
//! so that the next run begins with it. Commit that file together with the fix.
//!
//! `FUZZ_SECONDS` sets the time per target in seconds. The default keeps all targets together near one
//! minute.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic fails the test that called")]

mod corpus;
mod mutation;

use std::time::{Duration, Instant};

use proptest::test_runner::{Config, TestError, TestRunner};

pub use corpus::Corpus;

/// Time per target where `FUZZ_SECONDS` is not set. There are about thirty targets.
const DEFAULT_TIME: Duration = Duration::from_secs(2);

/// Inputs between two looks at the clock.
const BATCH: u32 = 256;

/// Fuzzes one target.
///
/// # Panics
/// If the target panics on an input. The message names the file that reproduces the failure.
pub fn fuzz(name: &str, target: impl Fn(&[u8])) {
    let corpus = Corpus::load(name);
    for (path, input) in corpus.entries() {
        println!("{name}: corpus file {}", path.display());
        target(input);
    }
    let inputs: Vec<Vec<u8>> = corpus.entries().iter().map(|(_, input)| input.clone()).collect();
    let strategy = mutation::mutated(inputs);
    let deadline = Instant::now() + time_per_target();
    let mut count = 0_u64;
    while Instant::now() < deadline {
        let config = Config { cases: BATCH, failure_persistence: None, ..Config::default() };
        let outcome = TestRunner::new(config).run(&strategy, |input| {
            target(&input);
            Ok(())
        });
        match outcome {
            Ok(()) => count += u64::from(BATCH),
            Err(TestError::Fail(reason, input)) => {
                let path = corpus.save_failure(&input);
                panic!("{name} fails: {reason}\nthe input is in {}", path.display());
            }
            Err(TestError::Abort(reason)) => panic!("{name} was aborted: {reason}"),
        }
    }
    println!("{name}: {count} inputs");
}

fn time_per_target() -> Duration {
    let seconds =
        std::env::var("FUZZ_SECONDS").ok().map(|text| text.parse().expect("FUZZ_SECONDS is a number"));
    seconds.map_or(DEFAULT_TIME, Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn target_that_panics_fails_with_minimized_input() {
        let name = "self-test";
        let folder = corpus::folder(name);
        let outcome = std::panic::catch_unwind(|| {
            fuzz(name, |input| assert!(!input.contains(&7), "seven"));
        });
        let saved: Vec<Vec<u8>> =
            Corpus::load(name).entries().iter().map(|(_, input)| input.clone()).collect();
        let _ = std::fs::remove_dir_all(folder);
        assert!(outcome.is_err());
        assert_eq!(saved, [vec![7]]);
    }
}
