//! Writes this node's `Speaker` object: never in the way of a decision.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use fairlead_crds::v1beta1::{Speaker, SpeakerStatus};
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
use crate::tasks::until;
use fairlead_plan::node_status::{Due, Pace, Sessions, Summary, status};

/// Who writes, in the eyes of server-side apply.
const FIELD_MANAGER: &str = "fairlead-speaker";

/// What the object should say.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Report {
    /// UID of the Node that owns the object; without it the object is not created.
    pub uid: Option<String>,
    /// Where the other speakers reach this one.
    pub mesh: Option<SocketAddr>,
    /// How often the object has vanished: written anew whenever that grows.
    pub vanished: u64,
    /// Status.
    pub summary: Summary,
}

/// What the writer works with.
pub(crate) struct Writer {
    /// For the object.
    pub client: Client,
    /// Name of the node and of the object.
    pub node: String,
    /// What it should say.
    pub report: watch::Receiver<Report>,
    /// What its sessions are.
    pub sessions: watch::Receiver<Sessions>,
    /// Counters.
    pub metrics: Metrics,
}

impl Writer {
    /// Writes what changed, at most once a second, until nobody reports any more.
    pub(crate) async fn run(mut self) {
        let api: Api<Speaker> = Api::all(self.client.clone());
        let mut pace = Pace::default();
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
        let mut said = String::new();
        // Of the object as it is: its spec (with what identifies the writing of it) and its status.
        let mut object: Option<Value> = None;
        let mut written: Option<SpeakerStatus> = None;
        let mut vanished = 0;
        loop {
            let report = self.report.borrow_and_update().clone();
            let sessions = self.sessions.borrow_and_update().clone();
            if report.vanished != vanished {
                vanished = report.vanished;
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
                    self.metrics.wrote(outcome.is_ok());
                    match outcome {
                        Ok(()) => {
                            object = wanted_object;
                            written = Some(wanted_status);
                            backoff.succeed();
                            said.clear();
                            pace.tried(now, None);
                        }
                        Err(why) => {
                            if why != said {
                                tracing::warn!(error = %why, "cannot write the Speaker object; retrying");
                                said = why;
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
                () = until(wake) => {}
            }
        }
    }

    /// The object without its status; `None` while there is no Node to own it.
    fn object(&self, report: &Report) -> Option<Value> {
        let uid = report.uid.as_ref()?;
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
            applied.map_err(|_| "no answer".to_owned())?.map_err(|e| chain(&e))?;
        }
        if let Some(status) = status {
            let patch = Patch::Apply(json!({
                "apiVersion": "fairlead.dev/v1beta1",
                "kind": "Speaker",
                "metadata": {"name": self.node},
                "status": status,
            }));
            let applied = timeout(REQUEST_TIMEOUT, api.patch_status(&self.node, &params, &patch)).await;
            applied.map_err(|_| "no answer".to_owned())?.map_err(|e| chain(&e))?;
        }
        Ok(())
    }
}
