//! The `Speaker` object of this node: what to write, and when.
//!
//! [`SpeakerObject`] compares what this node reports with what was written last. Its shell applies the
//! patches to the API server, one [`SpeakerWrite`] at a time:
//!
//! ```text
//! handle_report, handle_sessions ─┐                      ┌─▶ poll_write     the next write, if one is due
//! handle_written, handle_failure ─┴──▶ SpeakerObject ────┴─▶ poll_timeout   when to call poll_write again
//! ```
//!
//! Two writes are at least [`WRITE_INTERVAL`] apart, and farther the larger the object is
//! ([`crate::write_pace`]). The status contains all addresses of the node, so it is built only when it may be
//! written, and only after something changed. At rest there is no write: what others write into the object is
//! not read, except that the speaker does not respond. An object that is deleted again and again, or says so
//! again and again, is written less and less often.
//!
//! A speaker that stops calls [`SpeakerObject::stop`] instead, first with [`StopPhase::Stopping`].
//!
//! [`WRITE_INTERVAL`]: crate::write_pace::WRITE_INTERVAL

mod patches;
mod stopping;
#[cfg(test)]
mod tests;
mod urgent;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use fairlead_crds::model::instance::Instance;
use fairlead_crds::v1beta1::SpeakerStatus;
use fairlead_l2::Mac;
use jiff::Timestamp;
use serde_json::Value;

pub use self::patches::SpeakerWrite;
use self::patches::size;
pub use self::stopping::StopPhase;
use self::urgent::Urgent;
use crate::node_status::{Sessions, Summary, status};
use crate::write_pace::WritePace;

/// How other speakers reach this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeshEndpoint {
    /// Address of the mesh.
    pub address: SocketAddr,
    /// Fingerprint of the key that this speaker uses.
    pub key_fingerprint: String,
    /// Link-layer addresses of the interfaces on which this speaker announces, in order.
    pub macs: Vec<Mac>,
}

/// The report of this node, without its BGP sessions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SpeakerReport {
    /// UID of the Node, which owns the object. Without it nothing is written.
    pub node_uid: Option<String>,
    /// `None` while this speaker takes no part in the mesh.
    pub mesh: Option<MeshEndpoint>,
    /// Number of times the object was deleted. When it grows, the object is written again.
    pub deletions: u64,
    /// Number of times that others wrote into the status that this speaker does not respond. When it grows,
    /// the status is written again.
    pub silence_reports: u64,
    /// Summary of the plan.
    pub summary: Summary,
}

/// The desired and the last written state of the `Speaker` object.
#[derive(Clone, Debug)]
pub struct SpeakerObject {
    /// Name of the object.
    name: String,
    node: String,
    class: Option<String>,
    report: SpeakerReport,
    sessions: Sessions,
    written: Written,
    in_flight: Option<Written>,
    /// The report or the sessions differ from those of the last status that was built.
    is_changed: bool,
    pace: WritePace,
    timeout: Option<Instant>,
    builds: u64,
}

#[derive(Clone, Debug, Default)]
struct Written {
    object: Option<Value>,
    status: Option<SpeakerStatus>,
    urgent: Option<Urgent>,
    /// Size of the status in JSON.
    octets: usize,
}

impl SpeakerObject {
    /// Creates the state of a node whose object has not been written yet.
    pub fn new(node: &str, instance: &Instance) -> Self {
        Self {
            name: instance.speaker_name(node).into_owned(),
            node: node.to_owned(),
            class: instance.class.clone(),
            report: SpeakerReport::default(),
            sessions: Sessions::new(),
            written: Written::default(),
            in_flight: None,
            is_changed: true,
            pace: WritePace::default(),
            timeout: None,
            builds: 0,
        }
    }

    /// Replaces the report.
    pub fn handle_report(&mut self, report: SpeakerReport) {
        if report.deletions != self.report.deletions {
            // A write in flight may have come before the deletion: its result no longer counts.
            self.written = Written::default();
            self.in_flight = None;
            self.pace.handle_deletion();
        } else if report.silence_reports != self.report.silence_reports {
            self.written.status = None;
            self.written.urgent = None;
            self.in_flight = None;
            self.pace.handle_deletion();
        }
        self.is_changed |= self.report != report;
        self.report = report;
    }

    /// Replaces the BGP sessions.
    pub fn handle_sessions(&mut self, sessions: Sessions) {
        self.is_changed |= self.sessions != sessions;
        self.sessions = sessions;
    }

    /// Handles the success of the last write from [`Self::poll_write`].
    pub fn handle_written(&mut self, now: Instant) {
        if let Some(written) = self.in_flight.take() {
            self.written = written;
        }
        self.pace.handle_written(now, self.written.octets);
    }

    /// Handles the failure of the last write from [`Self::poll_write`]; the next attempt follows
    /// `retry_after` later.
    pub fn handle_failure(&mut self, now: Instant, retry_after: Duration) {
        self.in_flight = None;
        self.is_changed = true;
        self.pace.handle_failure(now, retry_after);
    }

    /// Returns the next write if one is due. `time` is the transition time of conditions that change.
    ///
    /// The caller reports the result with [`Self::handle_written`] or [`Self::handle_failure`] before it
    /// calls again.
    pub fn poll_write(&mut self, now: Instant, time: Timestamp) -> Option<SpeakerWrite> {
        self.timeout = None;
        // Without a Node, nothing is written until the report changes.
        if !self.is_changed || self.report.node_uid.is_none() {
            return None;
        }
        let urgent = Urgent::of(&self.report);
        self.timeout = self.pace.not_before(now, urgent.is_due(self.written.urgent.as_ref()));
        if self.timeout.is_some() {
            return None;
        }
        let object = self.object()?;
        self.is_changed = false;
        self.builds += 1;
        let status = status(&self.report.summary, &self.sessions, self.written.status.as_ref(), time);
        let object_differs = self.written.object.as_ref() != Some(&object);
        // The conditions contain the generation of the object.
        let status_differs = object_differs || self.written.status.as_ref() != Some(&status);
        let patch = status_differs.then(|| self.status_patch(&status));
        let octets = patch.as_ref().map_or(self.written.octets, size);
        let write = SpeakerWrite { object: object_differs.then(|| object.clone()), status: patch };
        if write.object.is_none() && write.status.is_none() {
            return None;
        }
        self.in_flight =
            Some(Written { object: Some(object), status: Some(status), urgent: Some(urgent), octets });
        Some(write)
    }

    /// Returns how often the status was built; for tests of the cost.
    pub fn builds(&self) -> u64 {
        self.builds
    }

    /// Returns the name of the object.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns when to call [`Self::poll_write`] again; `None` if nothing waits. Valid after
    /// [`Self::poll_write`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timeout
    }
}
