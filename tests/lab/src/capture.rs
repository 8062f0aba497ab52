//! Capture of frames on one interface of the lab.

use std::io::Read as _;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::addresses::Mac;
use crate::frame::{self, Frame};
use crate::netns::Netns;
use crate::sys;

/// A captured frame.
#[derive(Clone, Debug)]
pub struct Captured {
    /// Time of the capture.
    pub at: Instant,
    /// The frame.
    pub frame: Frame,
}

/// A running capture. Dropping it stops it.
#[derive(Debug)]
pub struct Capture {
    frames: Arc<Mutex<Vec<Captured>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Capture {
    /// Captures the frames that `interface` sends and receives inside `netns`, from the return of this
    /// function on.
    pub fn start(netns: &Netns, interface: &str) -> Result<Self> {
        let mut socket = netns.run(|| sys::packet_socket(interface))??;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        let frames = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (seen, stopped) = (frames.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let mut buffer = vec![0; 65536];
            while !stopped.load(Ordering::Relaxed) {
                // A timeout, or an interface that is down at the moment.
                let Ok(length) = socket.read(&mut buffer) else { continue };
                if let Some(frame) = frame::parse(&buffer[..length]) {
                    let captured = Captured { at: Instant::now(), frame };
                    seen.lock().unwrap_or_else(PoisonError::into_inner).push(captured);
                }
            }
        });
        Ok(Self { frames, stop, thread: Some(thread) })
    }

    /// Returns the frames captured so far.
    pub fn frames(&self) -> Vec<Captured> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns when a host first claimed `ip`.
    pub fn first_claim(&self, ip: IpAddr) -> Option<Instant> {
        let frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
        frames.iter().find(|captured| captured.frame.message.claims(ip)).map(|captured| captured.at)
    }

    /// Returns the claimants of `ip` in order, one entry per change of claimant.
    pub fn claimants(&self, ip: IpAddr) -> Vec<Mac> {
        let mut macs: Vec<Mac> = self
            .frames()
            .into_iter()
            .filter(|captured| captured.frame.message.claims(ip))
            .map(|captured| captured.frame.source)
            .collect();
        macs.dedup();
        macs
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
