//! Reports speakers of other nodes that do not respond in their Speaker objects.
//! `fairlead_plan::silent_speakers` decides which, and when.

use std::time::{Duration, Instant};

use fairlead_crds::model::instance::Instance;
use fairlead_crds::v1beta1::Speaker;
use fairlead_crds::{names, stopped_speaker};
use fairlead_plan::silent_speakers::SilentSpeakers;
use fairlead_runtime::backoff::Backoff;
use fairlead_runtime::client::chain;
use fairlead_runtime::watch::REQUEST_TIMEOUT;
use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::tasks::mesh::{Membership, MeshInput};
use crate::tasks::sleep_until_or_forever;

/// Parameters and channels of the task.
pub(crate) struct SilentSpeakersTask {
    pub client: Client,
    /// Name of this node.
    pub node: String,
    pub instance: Instance,
    /// The speakers that have an address of the mesh.
    pub input: watch::Receiver<MeshInput>,
    pub membership: watch::Receiver<Membership>,
    /// Ends the task: a speaker that leaves the mesh knows nothing of the others.
    pub stop: CancellationToken,
}

impl SilentSpeakersTask {
    /// Reports silent speakers until stopped.
    pub(crate) async fn run(mut self) {
        let stop = self.stop.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.report_silent() => {}
        }
    }

    async fn report_silent(&mut self) {
        let api: Api<Speaker> = Api::all(self.client.clone());
        let mut silent = SilentSpeakers::new(&self.node);
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        let mut last_error = String::new();
        loop {
            self.update(&mut silent);
            if let Some(node) = silent.poll_report(Instant::now()) {
                let reported = timeout(REQUEST_TIMEOUT, self.report(&api, &node)).await;
                let result = match reported {
                    Ok(result) => result.map_err(|error| chain(&error)),
                    Err(_) => Err("the API server does not respond".to_owned()),
                };
                let retry = match result {
                    Ok(()) => {
                        backoff.succeed();
                        last_error.clear();
                        None
                    }
                    Err(error) => {
                        if error != last_error {
                            tracing::warn!(
                                %node,
                                %error,
                                "cannot write that the speaker of another node does not respond; retrying"
                            );
                            last_error = error;
                        }
                        Some(Instant::now() + backoff.fail(rand::random()))
                    }
                };
                silent.handle_done(&node, retry);
                continue;
            }
            tokio::select! {
                changed = self.membership.changed() => if changed.is_err() { return },
                changed = self.input.changed() => if changed.is_err() { return },
                () = sleep_until_or_forever(silent.poll_timeout()) => {}
            }
        }
    }

    fn update(&mut self, silent: &mut SilentSpeakers) {
        let input = self.input.borrow_and_update();
        let membership = self.membership.borrow_and_update();
        let listed = input.peers.as_ref().map(|peers| peers.keys().map(String::as_str));
        silent.handle_view(Instant::now(), listed, membership.as_ref().map(|view| &view.members));
    }

    /// Writes that a speaker does not respond, unless its object shows that it does not run.
    async fn report(&self, api: &Api<Speaker>, node: &str) -> Result<(), kube::Error> {
        let name = self.instance.speaker_name(node);
        let Some(speaker) = api.get_opt(&name).await? else { return Ok(()) };
        let Some(patch) = stopped_speaker::report(&speaker, Timestamp::now()) else { return Ok(()) };
        let params = PatchParams::apply(names::SPEAKER).force();
        api.patch_status(&name, &params, &Patch::Apply(patch)).await?;
        tracing::warn!(
            node,
            "the speaker of another node does not respond; its Speaker object shows it as not ready"
        );
        Ok(())
    }
}
