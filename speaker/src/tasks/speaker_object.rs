//! Writes the `Speaker` object of this node. `fairlead_plan::speaker_object` decides what to write, and when.

use std::time::{Duration, Instant};

use fairlead_crds::model::instance::Instance;
use fairlead_crds::names;
use fairlead_crds::v1beta1::Speaker;
use fairlead_plan::node_status::Sessions;
use fairlead_plan::speaker_object::{SpeakerObject, SpeakerReport, SpeakerWrite};
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
    pub metrics: Metrics,
}

impl SpeakerObjectTask {
    /// Writes changes until the senders are dropped.
    pub(crate) async fn run(mut self) {
        let api: Api<Speaker> = Api::all(self.client.clone());
        let mut object = SpeakerObject::new(&self.node, &self.instance);
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
        let mut last_error = String::new();
        let mut deletions = 0;
        loop {
            let report = self.report.borrow_and_update().clone();
            self.metrics.count_object_deletions(report.deletions - deletions);
            deletions = report.deletions;
            object.handle_report(report);
            object.handle_sessions(self.sessions.borrow_and_update().clone());
            if let Some(write) = object.poll_write(Instant::now(), Timestamp::now()) {
                let result = self.write(&api, object.name(), write).await;
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
                changed = self.report.changed() => if changed.is_err() { return },
                changed = self.sessions.changed() => if changed.is_err() { return },
                () = sleep_until_or_forever(object.poll_timeout()) => {}
            }
        }
    }

    async fn write(&self, api: &Api<Speaker>, name: &str, write: SpeakerWrite) -> Result<(), String> {
        let params = PatchParams::apply(names::SPEAKER).force();
        if let Some(object) = write.object {
            let patch = Patch::Apply(object);
            let applied = timeout(REQUEST_TIMEOUT, api.patch(name, &params, &patch)).await;
            applied.map_err(|_| NO_RESPONSE.to_owned())?.map_err(|e| chain(&e))?;
        }
        if let Some(status) = write.status {
            let patch = Patch::Apply(status);
            let applied = timeout(REQUEST_TIMEOUT, api.patch_status(name, &params, &patch)).await;
            applied.map_err(|_| NO_RESPONSE.to_owned())?.map_err(|e| chain(&e))?;
        }
        Ok(())
    }
}
