//! The shell of [`Elector`]: requests, each with a time limit, and what is told to those who write.

use std::time::{Duration, Instant};

use fairlead_runtime::client::chain;
use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::{Client, Error};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::{Answer, Elector, LEASE, Leadership, Order, Record, Request, Seen, Spec, Timing};
use crate::api_client::FIELD_MANAGER;

/// A process that stands for leadership, until it is stopped.
///
/// Dropped, it neither extends leadership nor gives up the Lease: as if the process had died.
#[derive(Debug)]
pub struct Election {
    leadership: watch::Receiver<Leadership>,
    task: AbortOnDropHandle<()>,
}

impl Election {
    /// Stands for the Lease [`LEASE`] in `namespace`.
    ///
    /// When `stop` is cancelled, leadership ends at once and the Lease is given up, so that another need not wait for it
    /// to run out. Cancel it when the last write has been answered.
    pub fn start(
        client: Client,
        namespace: &str,
        candidate: Candidate,
        timing: Timing,
        stop: CancellationToken,
    ) -> Self {
        let Candidate { identity, pod } = candidate;
        tracing::info!(%namespace, lease = LEASE, %identity, "standing for leadership");
        let api = Api::namespaced(client, namespace);
        let elector = Elector::new(identity, timing, Instant::now()).in_pod(pod);
        let (publish, leadership) = watch::channel(elector.leadership(Instant::now()));
        let task = AbortOnDropHandle::new(tokio::spawn(campaign(api, elector, publish, stop)));
        Self { leadership, task }
    }

    /// Leads without a Lease until `stop` is cancelled: for the only controller of a cluster.
    pub fn unopposed(stop: CancellationToken) -> Self {
        const LONG: Duration = Duration::from_secs(60 * 60 * 24 * 365 * 100);
        let (publish, leadership) =
            watch::channel(Leadership::Leading { until: Instant::now() + LONG, term: 1 });
        let task = AbortOnDropHandle::new(tokio::spawn(async move {
            stop.cancelled().await;
            publish.send_replace(Leadership::Standby { holder: None });
        }));
        Self { leadership, task }
    }

    /// What this process may do. Look at it with [`Leadership::leads`] right before each write.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    /// Waits until the Lease is given up, after `stop` was cancelled: at most half the renew deadline.
    pub async fn ended(self) {
        if let Err(error) = self.task.await {
            tracing::error!(%error, "leader election broke off");
        }
    }
}

/// Who stands for leadership.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// A name that no other process has.
    identity: String,
    /// What the identities of all processes of its pod begin with.
    pod: Option<String>,
}

impl Candidate {
    /// This process, in the pod of this name if it is in one. Of a pod one process runs at a time: it takes over from the
    /// one before without waiting.
    pub fn new(pod: Option<&str>) -> Self {
        let pod = pod.filter(|pod| !pod.is_empty()).map(|pod| format!("{pod}_"));
        let host = std::env::var("HOSTNAME").unwrap_or_else(|_| LEASE.to_owned());
        let name = pod.clone().unwrap_or_else(|| format!("{host}_"));
        Self { identity: format!("{name}{:016x}", rand::random::<u64>()), pod }
    }

    /// One of this identity, which no other may have.
    pub fn named(identity: impl Into<String>) -> Self {
        Self { identity: identity.into(), pod: None }
    }
}

/// Asks and tells what the elector says, until a release is done.
async fn campaign(
    api: Api<Lease>,
    mut elector: Elector,
    publish: watch::Sender<Leadership>,
    stop: CancellationToken,
) {
    let mut courier = Courier { api, known: None, failing: false };
    let mut in_flight: Option<BoxFuture<'static, Reply>> = None;
    let mut stopping = false;
    loop {
        let now = Instant::now();
        let order = elector.poll(now);
        // Nothing is sent before this is told: a request begins when it is first awaited, below.
        tell(&publish, elector.leadership(now));
        if let Some(order) = order {
            in_flight = Some(courier.send(order));
        }
        if elector.is_finished(now) {
            return;
        }
        let wake = elector.poll_timeout().map(tokio::time::Instant::from_std);
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
                elector.answer(Instant::now(), courier.take(reply), rand::random());
            }
            () = tokio::time::sleep_until(wake.unwrap_or_else(tokio::time::Instant::now)), if wake.is_some() => {}
        }
    }
}

/// Publishes what changed, and logs it if leadership was gained or lost.
fn tell(publish: &watch::Sender<Leadership>, now: Leadership) {
    publish.send_if_modified(|known| {
        if *known == now {
            return false;
        }
        match (&*known, &now) {
            (Leadership::Leading { term: before, .. }, Leadership::Leading { term, .. })
                if before == term => {}
            (_, Leadership::Leading { term, .. }) => tracing::info!(term, "leading"),
            (Leadership::Leading { .. }, Leadership::Standby { holder }) => {
                tracing::info!(holder = holder.as_deref().unwrap_or_default(), "not leading any more");
            }
            (Leadership::Standby { .. }, Leadership::Standby { holder }) => {
                tracing::info!(holder = holder.as_deref().unwrap_or_default(), "standing by");
            }
        }
        *known = now;
        true
    });
}

/// What came back: the Lease as read or written, `None` if there is none, or an error.
struct Reply {
    written: bool,
    result: Result<Option<Lease>, Error>,
}

/// Turns orders into requests and answers into [`Answer`]s.
struct Courier {
    api: Api<Lease>,
    /// The Lease as last seen. It is written back with the fields that are not ours.
    known: Option<Lease>,
    /// Whether the last request failed.
    failing: bool,
}

impl Courier {
    fn send(&self, order: Order) -> BoxFuture<'static, Reply> {
        let api = self.api.clone();
        let written = order.request != Request::Get;
        let lease = match &order.request {
            Request::Get => None,
            Request::Create(spec) => Some(filled(Lease::default(), None, spec, Timestamp::now())),
            Request::Replace { version, spec } => {
                let known = self.known.clone().unwrap_or_default();
                Some(filled(known, Some(version.clone()), spec, Timestamp::now()))
            }
        };
        let parameters =
            PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        let request = async move {
            match (order.request, lease) {
                (Request::Create(_), Some(lease)) => api.create(&parameters, &lease).await.map(Some),
                (Request::Replace { .. }, Some(lease)) => {
                    api.replace(LEASE, &parameters, &lease).await.map(Some)
                }
                _ => api.get_opt(LEASE).await,
            }
        };
        let deadline = tokio::time::Instant::from_std(order.deadline);
        async move {
            let result = tokio::time::timeout_at(deadline, request).await;
            Reply { written, result: result.unwrap_or_else(|late| Err(Error::Service(Box::new(late)))) }
        }
        .boxed()
    }

    fn take(&mut self, reply: Reply) -> Answer {
        let answer = match &reply.result {
            Ok(Some(lease)) if reply.written => Answer::Written(seen(lease)),
            Ok(Some(lease)) => Answer::Read(seen(lease)),
            Ok(None) => Answer::Absent,
            // In answer to a creation: the namespace is missing. The elector knows what it asked for.
            Err(Error::Api(status)) if status.code == 404 => Answer::Absent,
            Err(Error::Api(status)) if status.code == 409 => Answer::Conflict,
            Err(_) => Answer::Failed,
        };
        if let Err(error) = &reply.result {
            let error = chain(error);
            // Said once per outage.
            if answer == Answer::Failed && !self.failing {
                tracing::warn!(lease = LEASE, %error, "leader election: a request failed; retrying");
            } else {
                tracing::debug!(lease = LEASE, %error, "leader election: a request failed");
            }
        }
        self.failing = answer == Answer::Failed;
        if let Ok(lease) = reply.result {
            self.known = lease;
        }
        answer
    }
}

/// What of a Lease counts.
fn seen(lease: &Lease) -> Seen {
    let spec = lease.spec.clone().unwrap_or_default();
    let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    Seen {
        version: lease.metadata.resource_version.clone().unwrap_or_default(),
        record: Record {
            holder: spec.holder_identity.unwrap_or_default(),
            duration: seconds.filter(|seconds| *seconds > 0).map(Duration::from_secs),
            transitions: spec.lease_transitions.unwrap_or_default(),
            renewed: spec.renew_time.map(|time| time.0),
        },
    }
}

/// The Lease to write. What is not ours stays as it is in `known`.
fn filled(known: Lease, version: Option<String>, spec: &Spec, now: Timestamp) -> Lease {
    let mut lease = known;
    let mut fields = lease.spec.unwrap_or_default();
    // Others see a renewal by this time being another one, also when a clock was set back.
    let renewed = match &fields.renew_time {
        Some(before) if before.0.as_microsecond() == now.as_microsecond() => {
            now.checked_add(SignedDuration::from_micros(1)).unwrap_or(now)
        }
        _ => now,
    };
    if spec.changes_holder {
        fields.acquire_time = Some(MicroTime(renewed));
    }
    fields.renew_time = Some(MicroTime(renewed));
    fields.holder_identity = Some(spec.holder.clone());
    fields.lease_duration_seconds = Some(spec.duration_seconds);
    fields.lease_transitions = Some(spec.transitions);
    lease.spec = Some(fields);
    lease.metadata = ObjectMeta {
        name: Some(LEASE.to_owned()),
        resource_version: version,
        managed_fields: None,
        ..lease.metadata
    };
    lease
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_processes_have_the_same_identity() {
        let identity = |pod| Candidate::new(pod).identity;
        assert_ne!(identity(None), identity(None));
        assert_ne!(identity(Some("a")), identity(Some("a")));
        assert!(identity(Some("a")).starts_with("a_"));
    }

    #[test]
    fn what_is_written_keeps_what_others_wrote_and_always_renews() {
        let now = Timestamp::from_microsecond(1_000_000).unwrap();
        let spec = Spec { holder: "a".into(), duration_seconds: 10, transitions: 3, changes_holder: true };
        let mut first = filled(Lease::default(), None, &spec, now);
        assert_eq!(first.metadata.name.as_deref(), Some(LEASE));
        first.metadata.labels = Some([("team".to_owned(), "net".to_owned())].into());
        let second =
            filled(first.clone(), Some("7".into()), &Spec { changes_holder: false, ..spec.clone() }, now);
        assert_eq!(second.metadata.labels, first.metadata.labels);
        assert_eq!(second.metadata.resource_version.as_deref(), Some("7"));
        let (first, second) = (first.spec.unwrap(), second.spec.unwrap());
        assert_eq!(second.acquire_time, first.acquire_time);
        assert_ne!(second.renew_time, first.renew_time, "the same instant, and yet another renewal");
    }

    #[test]
    fn a_duration_that_makes_no_sense_is_none() {
        for (seconds, expected) in
            [(None, None), (Some(0), None), (Some(-5), None), (Some(15), Some(Duration::from_secs(15)))]
        {
            let mut lease = Lease::default();
            lease.spec.get_or_insert_default().lease_duration_seconds = seconds;
            assert_eq!(seen(&lease).record.duration, expected, "{seconds:?}");
        }
    }
}
