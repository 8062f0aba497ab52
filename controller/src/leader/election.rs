//! Runs [`Elector`]: sends its requests, each with a time limit, and publishes the leadership.

use std::time::{Duration, Instant};

use fairlead_crds::names::{CONTROLLER, CONTROLLER_LEASE};
use fairlead_runtime::client::chain;
use fairlead_runtime::request::Failure;
use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{GetParams, PostParams};
use kube::core::{Request, Resource};
use kube::{Client, Error};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::{Elector, Leadership, LeaseRequest, LeaseResponse, TimedRequest, Timing, lease};
use crate::timer::sleep_until;

/// A running candidacy for leadership.
///
/// Dropping it stops renewals and does not release the Lease, as if the process had crashed.
#[derive(Debug)]
pub struct Election {
    /// A watch channel: it holds only the latest value.
    leadership: watch::Receiver<Leadership>,
    task: AbortOnDropHandle<()>,
}

/// The identity of a candidate.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Unique among all processes.
    identity: String,
    /// Prefix of the identities of all processes of the same pod.
    pod_prefix: Option<String>,
}

impl Election {
    /// Starts to compete for the Lease [`CONTROLLER_LEASE`] in `namespace`.
    ///
    /// Cancelling `stop` ends the term at once and releases the Lease, so that another process need not wait
    /// for it to expire. Cancel it only after the last write has been answered.
    pub fn start(
        client: Client,
        namespace: &str,
        candidate: Candidate,
        timing: Timing,
        stop: CancellationToken,
    ) -> Self {
        let Candidate { identity, pod_prefix } = candidate;
        tracing::info!(%namespace, lease = CONTROLLER_LEASE, %identity, "attempting to acquire the Lease");
        let elector = Elector::new(identity, timing, Instant::now()).in_pod(pod_prefix);
        let (publisher, leadership) = watch::channel(elector.leadership(Instant::now()));
        let task = AbortOnDropHandle::new(tokio::spawn(run_election(
            LeaseClient { client, namespace: namespace.to_owned(), last: None, failing: false },
            elector,
            publisher,
            stop,
        )));
        Self { leadership, task }
    }

    /// Leads without a Lease until `stop` is cancelled. Safe only if this is the only controller of the
    /// cluster.
    pub fn unopposed(stop: CancellationToken) -> Self {
        const CENTURY: Duration = Duration::from_secs(60 * 60 * 24 * 365 * 100);
        let (publisher, leadership) =
            watch::channel(Leadership::Leading { until: Instant::now() + CENTURY, term: 1 });
        let task = AbortOnDropHandle::new(tokio::spawn(async move {
            stop.cancelled().await;
            publisher.send_replace(Leadership::Standby { holder: None });
        }));
        Self { leadership, task }
    }

    /// Returns the published leadership. Check it with [`Leadership::leads`] right before each write.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    /// Waits until the Lease is released after `stop` was cancelled: at most half the renew deadline.
    pub async fn ended(self) {
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the leader election task failed");
        }
    }
}

impl Candidate {
    /// Returns a unique identity for this process, which runs in the pod `pod` if it is set. A pod runs one
    /// process at a time, so the process takes over from its predecessor without waiting for the lease to
    /// expire.
    pub fn new(pod: Option<&str>) -> Self {
        let pod_prefix = pod.filter(|pod| !pod.is_empty()).map(|pod| format!("{pod}_"));
        let host = std::env::var("HOSTNAME").ok().filter(|host| !host.is_empty());
        let host = host.unwrap_or_else(|| CONTROLLER_LEASE.to_owned());
        let prefix = pod_prefix.clone().unwrap_or_else(|| format!("{host}_"));
        Self { identity: format!("{prefix}{:016x}", rand::random::<u64>()), pod_prefix }
    }

    /// Returns a candidate with this identity, which must be unique.
    pub fn named(identity: impl Into<String>) -> Self {
        Self { identity: identity.into(), pod_prefix: None }
    }
}

/// Runs the election until a release is complete.
async fn run_election(
    mut client: LeaseClient,
    mut elector: Elector,
    publisher: watch::Sender<Leadership>,
    stop: CancellationToken,
) {
    let mut in_flight: Option<BoxFuture<'static, LeaseReply>> = None;
    let mut stopping = false;
    loop {
        let now = Instant::now();
        let request = elector.poll_transmit(now);
        // A request is sent when its future is first polled, below: never before the leadership is published.
        publish_leadership(&publisher, elector.leadership(now), &client.namespace);
        if let Some(request) = request {
            in_flight = Some(client.send(request));
        }
        if elector.is_finished(now) {
            return;
        }
        let wake = elector.poll_timeout();
        let reply = async {
            match &mut in_flight {
                Some(request) => request.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                elector.release(Instant::now());
            }
            reply = reply => {
                in_flight = None;
                elector.handle_response(Instant::now(), client.response(reply), rand::random());
            }
            () = sleep_until(wake) => {}
        }
    }
}

/// Publishes a changed leadership, and logs the start and end of a term.
fn publish_leadership(publisher: &watch::Sender<Leadership>, now: Leadership, namespace: &str) {
    publisher.send_if_modified(|published| {
        if *published == now {
            return false;
        }
        match (&*published, &now) {
            (Leadership::Leading { term: before, .. }, Leadership::Leading { term, .. })
                if before == term => {}
            (_, Leadership::Leading { term, .. }) => tracing::info!(term, "became leader"),
            (Leadership::Leading { .. }, Leadership::Standby { holder }) => {
                tracing::info!(holder = holder.as_deref().unwrap_or_default(), "stopped leading");
            }
            (_, Leadership::NoNamespace) => tracing::warn!(
                namespace,
                lease = CONTROLLER_LEASE,
                "the namespace of the Lease does not exist, so no controller can lead and no Service gets an \
                 address; create the namespace, or set --namespace"
            ),
            (_, Leadership::Standby { holder }) => {
                tracing::info!(holder = holder.as_deref().unwrap_or_default(), "on standby");
            }
        }
        *published = now;
        true
    });
}

/// The Lease as read or written (`None` if it does not exist), or an error.
struct LeaseReply {
    written: bool,
    result: Result<Option<lease::Lease>, Error>,
}

/// Sends the requests of the elector to the API server.
struct LeaseClient {
    client: Client,
    namespace: String,
    /// The last Lease received. Its other fields are written back unchanged.
    last: Option<lease::Lease>,
    /// True if the last request failed.
    failing: bool,
}

impl LeaseClient {
    fn send(&self, TimedRequest { request, deadline }: TimedRequest) -> BoxFuture<'static, LeaseReply> {
        let client = self.client.clone();
        let written = request != LeaseRequest::Get;
        let path = Request::new(Lease::url_path(&(), Some(&self.namespace)));
        let parameters = PostParams { field_manager: Some(CONTROLLER.to_owned()), ..PostParams::default() };
        let json = |lease| serde_json::Value::Object(lease).to_string().into_bytes();
        let http = match &request {
            LeaseRequest::Get => path.get(CONTROLLER_LEASE, &GetParams::default()),
            LeaseRequest::Create(update) => {
                path.create(&parameters, json(lease::created(update, Timestamp::now())))
            }
            LeaseRequest::Replace { resource_version, update } => {
                let last = self.last.clone().unwrap_or_default();
                let new = lease::updated(last, Some(resource_version), update, Timestamp::now());
                path.replace(CONTROLLER_LEASE, &parameters, json(new))
            }
        };
        let sent = async move {
            match fairlead_runtime::request::request(&client, http.map_err(Error::BuildRequest)?).await {
                Err(Failure { error: Error::Api(status), .. }) if status.code == 404 && !written => Ok(None),
                result => result.map(Some).map_err(|failure| failure.error),
            }
        };
        let deadline = tokio::time::Instant::from_std(deadline);
        async move {
            let result = tokio::time::timeout_at(deadline, sent).await;
            LeaseReply { written, result: result.unwrap_or_else(|late| Err(Error::Service(Box::new(late)))) }
        }
        .boxed()
    }

    fn response(&mut self, reply: LeaseReply) -> LeaseResponse {
        let response = match &reply.result {
            Ok(Some(lease)) if reply.written => LeaseResponse::Written(lease::snapshot(lease)),
            Ok(Some(lease)) => LeaseResponse::Read(lease::snapshot(lease)),
            Ok(None) => LeaseResponse::NotFound,
            Err(Error::Api(status)) if status.code == 404 => LeaseResponse::NotFound,
            Err(Error::Api(status)) if status.code == 409 => LeaseResponse::Conflict,
            Err(_) => LeaseResponse::Failed,
        };
        if let Err(error) = &reply.result {
            let error = chain(error);
            // One warning per outage.
            if response == LeaseResponse::Failed && !self.failing {
                tracing::warn!(lease = CONTROLLER_LEASE, %error, "a leader election request failed; retrying");
            } else {
                tracing::debug!(lease = CONTROLLER_LEASE, %error, "a leader election request failed");
            }
        }
        self.failing = response == LeaseResponse::Failed;
        if let Ok(lease) = reply.result {
            self.last = lease;
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidate_identity_is_unique_per_process() {
        let identity = |pod| Candidate::new(pod).identity;
        assert_ne!(identity(None), identity(None));
        assert_ne!(identity(Some("a")), identity(Some("a")));
        assert!(identity(Some("a")).starts_with("a_"));
    }
}
