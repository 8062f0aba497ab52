//! Writes the `Speaker` object of this node.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use fairlead_crds::v1beta1::{Speaker, SpeakerStatus};
use fairlead_plan::node_status::{Due, Pace, Sessions, Summary, status};
use fairlead_runtime::backoff::Backoff;
use fairlead_runtime::client::chain;
use fairlead_runtime::watch::REQUEST_TIMEOUT;
use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::metrics::Metrics;
use crate::tasks::sleep_until_or_forever;

/// Field manager of server-side apply.
const FIELD_MANAGER: &str = "fairlead-speaker";

/// Error text of a request that timed out.
const NO_RESPONSE: &str = "the API server does not respond";

/// Content of the object, except the BGP sessions.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct SpeakerReport {
    /// UID of the Node, which owns the object. Without it nothing is written.
    pub node_uid: Option<String>,
    /// Address at which other speakers reach this one.
    pub mesh: Option<SocketAddr>,
    /// Number of times the object was deleted. When it grows, the object is written again.
    pub deletions: u64,
    pub summary: Summary,
}

/// Parameters and channels of the task.
pub(crate) struct SpeakerObjectTask {
    pub client: Client,
    /// Name of the node, and of the object.
    pub node: String,
    pub report: watch::Receiver<SpeakerReport>,
    pub sessions: watch::Receiver<Sessions>,
    pub metrics: Metrics,
}

impl SpeakerObjectTask {
    /// Writes changes, at most one per second, until the senders are dropped.
    pub(crate) async fn run(mut self) {
        let api: Api<Speaker> = Api::all(self.client.clone());
        let mut pace = Pace::default();
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
        let mut last_error = String::new();
        // As written last.
        let mut object: Option<Value> = None;
        let mut written: Option<SpeakerStatus> = None;
        let mut deletions = 0;
        loop {
            let report = self.report.borrow_and_update().clone();
            let sessions = self.sessions.borrow_and_update().clone();
            if report.deletions != deletions {
                deletions = report.deletions;
                object = None;
                written = None;
            }
            let wanted_object = self.object(&report);
            let wanted_status = status(&report.summary, &sessions, written.as_ref(), Timestamp::now());
            let new_object = wanted_object.as_ref().filter(|wanted| object.as_ref() != Some(wanted));
            let new_status = (wanted_object.is_some() && written.as_ref() != Some(&wanted_status))
                .then_some(&wanted_status);
            let now = Instant::now();
            let wake = match pace.due(new_object.is_some() || new_status.is_some(), now) {
                Due::Never => None,
                Due::At(then) => Some(then),
                Due::Now => {
                    let outcome = self.write(&api, new_object, new_status).await;
                    self.metrics.count_api_write(outcome.is_ok());
                    match outcome {
                        Ok(()) => {
                            object = wanted_object;
                            written = Some(wanted_status);
                            backoff.succeed();
                            last_error.clear();
                            pace.tried(now, None);
                        }
                        Err(error) => {
                            if error != last_error {
                                tracing::warn!(%error, "cannot write the Speaker object; retrying");
                                last_error = error;
                            }
                            pace.tried(Instant::now(), Some(backoff.fail(rand::random())));
                        }
                    }
                    continue;
                }
            };
            tokio::select! {
                changed = self.report.changed() => if changed.is_err() { return },
                changed = self.sessions.changed() => if changed.is_err() { return },
                () = sleep_until_or_forever(wake) => {}
            }
        }
    }

    /// Returns the object without its status; `None` while there is no Node to own it.
    fn object(&self, report: &SpeakerReport) -> Option<Value> {
        let uid = report.node_uid.as_ref()?;
        let mesh = report.mesh.map(|mesh| json!({"address": mesh.ip().to_string(), "port": mesh.port()}));
        let spec = mesh.map_or(json!({}), |mesh| json!({"mesh": mesh}));
        Some(json!({
            "apiVersion": "fairlead.dev/v1beta1",
            "kind": "Speaker",
            "metadata": {
                "name": self.node,
                "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": self.node, "uid": uid}],
            },
            "spec": spec,
        }))
    }

    async fn write(
        &self,
        api: &Api<Speaker>,
        object: Option<&Value>,
        status: Option<&SpeakerStatus>,
    ) -> Result<(), String> {
        let params = PatchParams::apply(FIELD_MANAGER).force();
        if let Some(object) = object {
            let applied =
                timeout(REQUEST_TIMEOUT, api.patch(&self.node, &params, &Patch::Apply(object))).await;
            applied.map_err(|_| NO_RESPONSE.to_owned())?.map_err(|e| chain(&e))?;
        }
        if let Some(status) = status {
            let patch = Patch::Apply(json!({
                "apiVersion": "fairlead.dev/v1beta1",
                "kind": "Speaker",
                "metadata": {"name": self.node},
                "status": status,
            }));
            let applied = timeout(REQUEST_TIMEOUT, api.patch_status(&self.node, &params, &patch)).await;
            applied.map_err(|_| NO_RESPONSE.to_owned())?.map_err(|e| chain(&e))?;
        }
        Ok(())
    }
}
