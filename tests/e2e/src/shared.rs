//! One lab for all tests of a file.

use std::ops::Deref;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fairlead_lab::{Builder, Lab};

/// A lab that starts when a test first needs it.
pub struct Shared {
    make: fn() -> Builder,
    prepare: fn(&Lab) -> anyhow::Result<()>,
    lab: Mutex<Option<Lab>>,
}

/// Exclusive use of the lab by one test.
pub struct Turn<'a> {
    lab: MutexGuard<'a, Option<Lab>>,
}

impl Shared {
    /// Returns a lab that `make` starts and `prepare` configures before its first use.
    pub const fn new(make: fn() -> Builder, prepare: fn(&Lab) -> anyhow::Result<()>) -> Self {
        Self { make, prepare, lab: Mutex::new(None) }
    }

    /// Waits for exclusive use of the lab, and restores its initial state: cables connected, every process
    /// running.
    ///
    /// # Panics
    /// If the lab does not start.
    pub fn turn(&self) -> Turn<'_> {
        let mut lab = self.lab.lock().unwrap_or_else(PoisonError::into_inner);
        if lab.is_none() {
            match (self.make)().start() {
                Ok(made) => *lab = Some(made),
                Err(error) => panic!("{error:#}"),
            }
            let turn = Turn { lab };
            if let Err(error) = (self.prepare)(&turn) {
                panic!("{error:#}");
            }
            return turn;
        }
        let turn = Turn { lab };
        if let Err(error) = restore(&turn) {
            panic!("restore the lab: {error:#}");
        }
        turn
    }
}

impl Deref for Turn<'_> {
    type Target = Lab;

    fn deref(&self) -> &Lab {
        match self.lab.as_ref() {
            Some(lab) => lab,
            // `turn` fills it before a Turn exists, and only dropping the Turn empties it.
            None => unreachable!("a turn without a lab"),
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // A failed test leaves the lab in an unknown state. Dropped during a panic, the lab keeps its logs.
        if std::thread::panicking() {
            *self.lab = None;
        }
    }
}

fn restore(lab: &Lab) -> anyhow::Result<()> {
    lab.mend()?;
    if let Ok(server) = lab.api_server() {
        server.end_outage()?;
    }
    let speakers = lab.nodes().iter().filter_map(|node| node.speaker().ok());
    for process in speakers.chain(lab.controllers()).chain(lab.cluster().ok()) {
        if process.is_running() {
            process.resume()?;
        } else {
            process.spawn_again()?;
        }
    }
    for node in lab.nodes() {
        for k in 1..=node.pods().len() {
            if lab.api().is_ok() {
                lab.set_ready(node.name(), k, true)?;
            }
        }
    }
    if lab.nodes().iter().any(|node| node.speaker().is_ok()) {
        // Sessions that a test ended return within the connect time.
        if !lab.api()?.list(crate::VERSION, "BGPPeer")?.is_empty() {
            crate::expect_sessions(lab, Duration::from_secs(30))?;
        }
        if !lab.controllers().is_empty() {
            crate::expect_mesh(lab, Duration::from_secs(30))?;
        }
    }
    Ok(())
}
