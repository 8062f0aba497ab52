//! Reports speakers that do not respond in their Speaker objects. `fairlead_allocator::silent_speakers`
//! decides which, and when.

use std::time::Duration;

use fairlead_allocator::reconcile::announcement::ObservedSpeaker;
use fairlead_allocator::silent_speakers::{SilentSpeakers, SpeakerEndpoints};
use fairlead_crds::model::instance::Instance;
use fairlead_crds::store::ObjectChange;
use fairlead_crds::v1beta1::Speaker;
use fairlead_crds::{names, stopped_speaker};
use fairlead_runtime::client::chain;
use fairlead_runtime::watch::REQUEST_TIMEOUT;
use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::watches::ClusterChange;

/// Bound of the channel of nodes to report. What does not fit is reported later.
const QUEUE: usize = 256;

/// The decisions on silent speakers, and the task that writes them while this controller leads.
pub(crate) struct SpeakerReports {
    client: Client,
    instance: Instance,
    state: SilentSpeakers,
    running: Option<(mpsc::Sender<String>, AbortOnDropHandle<()>)>,
}

impl SpeakerReports {
    /// Returns a task that is not started.
    pub(crate) fn new(client: Client, instance: Instance) -> Self {
        Self { client, instance, state: SilentSpeakers::default(), running: None }
    }

    /// Starts the task, once until [`SpeakerReports::stop`].
    pub(crate) fn start(&mut self) {
        self.running.get_or_insert_with(|| {
            let (sender, receiver) = mpsc::channel(QUEUE);
            let task = run(self.client.clone(), self.instance.clone(), receiver);
            (sender, AbortOnDropHandle::new(tokio::spawn(task)))
        });
    }

    /// Aborts the task.
    pub(crate) fn stop(&mut self) {
        self.running = None;
    }

    /// Forgets all objects, which are listed again.
    pub(crate) fn forget_lists(&mut self) {
        self.state.clear();
    }

    /// Handles a change that a watch reported.
    pub(crate) fn handle_change(&mut self, change: &ClusterChange, now: Timestamp) {
        match change {
            ClusterChange::Speakers(change) => self.handle_speakers(change, now),
            ClusterChange::Nodes(ObjectChange::Apply(node)) => {
                self.state.handle_node(&node.name, node.is_ready, now);
            }
            ClusterChange::Nodes(ObjectChange::Delete(key)) => self.state.handle_node(&key.name, true, now),
            ClusterChange::Nodes(ObjectChange::Reset(list)) => {
                list.iter().for_each(|node| self.state.handle_node(&node.name, node.is_ready, now));
            }
            ClusterChange::SpeakerEndpoints(change) => self.handle_slices(change, now),
            _ => {}
        }
    }

    /// Passes the speakers that are due to the task.
    pub(crate) fn handle_timeout(&mut self, now: Timestamp) {
        let Some((queue, _)) = &self.running else { return };
        while let Some(node) = self.state.poll_report(now) {
            // A full queue: the state returns the node again later.
            let _ = queue.try_send(node);
        }
    }

    /// Returns when to call [`SpeakerReports::handle_timeout`].
    pub(crate) fn poll_timeout(&self) -> Option<Timestamp> {
        self.running.as_ref().and_then(|_| self.state.poll_timeout())
    }

    fn handle_speakers(&mut self, change: &ObjectChange<(String, Option<ObservedSpeaker>)>, now: Timestamp) {
        let class = self.instance.class.as_deref();
        match change {
            ObjectChange::Apply((name, Some(speaker))) => {
                if let Some(node) = self.instance.node_of_speaker(name, class) {
                    self.state.handle_speaker(node, Some(speaker.is_live()), now);
                }
            }
            ObjectChange::Delete(key) => {
                if let Some(node) = self.instance.node_of_speaker(&key.name, class) {
                    self.state.handle_speaker(node, None, now);
                }
            }
            ObjectChange::Reset(list) => {
                let speakers = list.iter().filter_map(|(name, speaker)| {
                    Some((self.instance.node_of_speaker(name, class)?, speaker.as_ref()?.is_live()))
                });
                self.state.reset_speakers(speakers, now);
            }
            ObjectChange::Apply((_, None)) | ObjectChange::Missing => {}
        }
    }

    fn handle_slices(&mut self, change: &ObjectChange<(String, SpeakerEndpoints)>, now: Timestamp) {
        match change {
            ObjectChange::Apply((name, endpoints)) => {
                self.state.handle_slice(name, Some(endpoints.clone()), now);
            }
            ObjectChange::Delete(key) => self.state.handle_slice(&key.name, None, now),
            ObjectChange::Reset(list) => self.state.reset_slices(list.iter().cloned(), now),
            // Every API server serves EndpointSlices.
            ObjectChange::Missing => {}
        }
    }
}

/// Reports the speakers of the nodes that arrive, one after the other. A report that fails is repeated when
/// the node arrives again.
async fn run(client: Client, instance: Instance, mut nodes: mpsc::Receiver<String>) {
    let api: Api<Speaker> = Api::all(client);
    let limit: Duration = REQUEST_TIMEOUT;
    while let Some(node) = nodes.recv().await {
        match tokio::time::timeout(limit, report(&api, &instance, &node)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                let error = chain(&error);
                tracing::warn!(
                    node,
                    error,
                    "cannot write that the speaker of a Node does not respond; retrying"
                );
            }
            Err(_) => tracing::warn!(
                node,
                "cannot write that the speaker of a Node does not respond: no response from the API server; \
                 retrying"
            ),
        }
    }
}

/// Writes that a speaker does not respond, unless its object shows that it does not run.
async fn report(api: &Api<Speaker>, instance: &Instance, node: &str) -> Result<(), kube::Error> {
    let name = instance.speaker_name(node);
    let Some(speaker) = api.get_opt(&name).await? else { return Ok(()) };
    let Some(patch) = stopped_speaker::report(&speaker, Timestamp::now()) else { return Ok(()) };
    let parameters = PatchParams::apply(names::SPEAKER).force();
    api.patch_status(&name, &parameters, &Patch::Apply(patch)).await?;
    tracing::warn!(node, "the speaker of a Node does not respond; its Speaker object shows it as not ready");
    Ok(())
}
