//! Writes the `Speaker` object of this node. `fairlead_plan::speaker_object` decides what to write, and when.

use std::time::{Duration, Instant};

use fairlead_crds::model::instance::Instance;
use fairlead_crds::names;
use fairlead_crds::v1beta1::Speaker;
use fairlead_plan::node_status::Sessions;
use fairlead_plan::speaker_object::{SpeakerObject, SpeakerReport, SpeakerWrite, StopPhase};
use fairlead_runtime::backoff::Backoff;
use fairlead_runtime::client::chain;
use fairlead_runtime::watch::REQUEST_TIMEOUT;
use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::metrics::Metrics;
use crate::tasks::sleep_until_or_forever;

/// Error text of a request that timed out.
const NO_RESPONSE: &str = "the API server does not respond";

/// Parameters and channels of the task.
pub(crate) struct SpeakerObjectTask {
    pub client: Client,
    /// Name of the node.
    pub node: String,
    pub instance: Instance,
    pub report: watch::Receiver<SpeakerReport>,
    pub sessions: watch::Receiver<Sessions>,
    /// `None` until the speaker stops.
    pub stop: watch::Receiver<Option<StopPhase>>,
    pub metrics: Metrics,
}

impl SpeakerObjectTask {
    /// Writes changes until the speaker stops, then that it is stopping, and as the last write that it has
    /// stopped.
    pub(crate) async fn run(mut self) {
        let mut object = SpeakerObject::new(&self.node, &self.instance);
        let mut writer = Writer { api: Api::all(self.client.clone()), generation: None };
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
        let mut last_error = String::new();
        let mut deletions = 0;
        loop {
            if self.stop.borrow_and_update().is_some() {
                return self.write_stop(&mut object, &mut writer).await;
            }
            let report = self.report.borrow_and_update().clone();
            self.metrics.count_object_deletions(report.deletions - deletions);
            deletions = report.deletions;
            object.handle_report(report);
            object.handle_sessions(self.sessions.borrow_and_update().clone());
            if let Some(write) = object.poll_write(Instant::now(), Timestamp::now()) {
                let result = writer.write(object.name(), write).await;
                self.metrics.count_api_write(result.is_ok());
                match result {
                    Ok(()) => {
                        backoff.succeed();
                        last_error.clear();
                        object.handle_written(Instant::now());
                    }
                    Err(error) => {
                        if error != last_error {
                            tracing::warn!(%error, "cannot write the Speaker object; retrying");
                            last_error = error;
                        }
                        object.handle_failure(Instant::now(), backoff.fail(rand::random()));
                    }
                }
                continue;
            }
            tokio::select! {
                () = changed(&mut self.report) => {}
                () = changed(&mut self.sessions) => {}
                changed = self.stop.changed() => if changed.is_err() { return },
                () = sleep_until_or_forever(object.poll_timeout()) => {}
            }
        }
    }

    /// Writes that the speaker is stopping, and when it has stopped, that it has. A write that fails is not
    /// repeated: the caller waits for the end of this task only for a short time.
    async fn write_stop(&mut self, object: &mut SpeakerObject, writer: &mut Writer) {
        let mut written = None;
        loop {
            let phase = *self.stop.borrow_and_update();
            if let Some(phase) = phase.filter(|_| phase != written) {
                written = Some(phase);
                if let Some(write) = object.stop(phase, Timestamp::now()) {
                    let result = writer.write(object.name(), write).await;
                    self.metrics.count_api_write(result.is_ok());
                    if let Err(error) = result {
                        tracing::warn!(%error, ?phase, "cannot write the end of this speaker into its object");
                    }
                }
            }
            if matches!(phase, Some(StopPhase::Stopped { .. })) || self.stop.changed().await.is_err() {
                return;
            }
        }
    }
}

/// Applies patches to the object.
struct Writer {
    api: Api<Speaker>,
    /// `metadata.generation` of the object, as written last.
    generation: Option<i64>,
}

impl Writer {
    async fn write(&mut self, name: &str, mut write: SpeakerWrite) -> Result<(), String> {
        let params = PatchParams::apply(names::SPEAKER).force();
        if let Some(object) = write.object.take() {
            let patch = Patch::Apply(object);
            let applied = timeout(REQUEST_TIMEOUT, self.api.patch(name, &params, &patch)).await;
            let applied = applied.map_err(|_| NO_RESPONSE.to_owned())?.map_err(|e| chain(&e))?;
            self.generation = applied.metadata.generation;
        }
        write.set_observed_generation(self.generation);
        if let Some(status) = write.status {
            let patch = Patch::Apply(status);
            let applied = timeout(REQUEST_TIMEOUT, self.api.patch_status(name, &params, &patch)).await;
            applied.map_err(|_| NO_RESPONSE.to_owned())?.map_err(|e| chain(&e))?;
        }
        Ok(())
    }
}

/// Waits for the next value. Waits forever after the sender was dropped: its task ends before this one when
/// the speaker stops. Cancel safe.
async fn changed<T>(receiver: &mut watch::Receiver<T>) {
    if receiver.changed().await.is_err() {
        std::future::pending().await
    }
}
