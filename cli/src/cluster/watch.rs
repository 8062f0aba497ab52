//! `--watch`: the state is read once, and watches keep it up to date.

use std::convert::Infallible;
use std::mem::discriminant;
use std::time::Duration;

use anyhow::{Error, Result};
use fairlead_crds::configuration_kinds;
use fairlead_crds::read::ReadObject;
use fairlead_crds::store::ObjectChange;
use fairlead_runtime::watch::{Config, Monitor, config, follow};
use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use kube::{Api, Client, Resource};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::read::{balancers, read_named, read_state};
use super::state::{Kept, State};
use super::{NOT_SERVED, ONLY_NAMESPACE, Snapshot, Unread};
use crate::connection::Cluster;

/// Minimum time between two outputs, and the time between two attempts to reach the API server.
pub(crate) const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// The interval at which what is not watched is read: the Lease, the workloads and the cool-downs.
const NAMED_INTERVAL: Duration = Duration::from_secs(5);
/// The maximum number of changes that wait. A watch waits while the channel is full.
const MAX_CHANGES: usize = 1024;

/// A change of the state.
type Change = Box<dyn FnOnce(&mut State) + Send>;

/// The watches, and what they report.
struct Watches {
    client: Client,
    /// The namespace that is watched if those of a kind in all namespaces may not be.
    namespace: String,
    unread: Vec<Unread>,
    sender: mpsc::Sender<Change>,
    /// The plural of each kind, and the cause of the current failure of its watch.
    failures: Vec<(String, watch::Receiver<Option<String>>)>,
    tasks: JoinSet<()>,
}

/// Reads the cluster, then calls `show` at first and after each change, at most once per
/// [`WATCH_INTERVAL`]. Calls `report` for errors of watches, which go on with the last known objects.
///
/// # Errors
/// Returns an error if the cluster cannot be read at first.
pub(crate) async fn watch(
    cluster: &Cluster,
    mut show: impl FnMut(Snapshot),
    mut report: impl FnMut(&Error),
) -> Result<Infallible> {
    let target = cluster.connect().await?;
    let instance = cluster.instance();
    let mut state = read_state(&target, &instance).await?;
    let (sender, mut changes) = mpsc::channel(MAX_CHANGES);
    let mut watches = Watches {
        client: target.connection.client.clone(),
        namespace: target.namespace.clone(),
        unread: state.unread.clone(),
        sender,
        failures: Vec::new(),
        tasks: JoinSet::new(),
    };
    watches.start();
    let mut turn = interval(WATCH_INTERVAL);
    turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut named_at = Instant::now();
    let mut reported = None;
    let mut shown_leader = None;
    let mut is_changed = true;
    loop {
        tokio::select! {
            Some(change) = changes.recv() => {
                change(&mut state);
                is_changed = true;
                continue;
            }
            _ = turn.tick() => {}
        }
        let mut failure = watches.failure();
        if named_at.elapsed() >= NAMED_INTERVAL {
            match read_named(&target, &instance).await {
                Ok(named) => {
                    is_changed |= named != state.named;
                    state.named = named;
                }
                Err(error) => failure = failure.or(Some(error)),
            }
            named_at = Instant::now();
        }
        let text = failure.as_ref().map(|failure| format!("{failure:#}"));
        if text != reported {
            failure.iter().for_each(&mut report);
            reported = text;
        }
        let now = Timestamp::now();
        // A Lease expires without any change.
        let leader = Some(discriminant(&state.leader(now)));
        if std::mem::take(&mut is_changed) || leader != shown_leader {
            shown_leader = leader;
            show(state.snapshot(instance.clone(), &target.namespace, cluster.namespace.as_deref(), now));
        }
    }
}

impl Watches {
    /// Starts the watches of all kinds that could be read.
    fn start(&mut self) {
        macro_rules! follow_kinds {
            ($($kind:ident => $field:ident,)*) => {
                $(self.follow(config(), |state| &mut state.configuration.$field);)*
            };
        }
        configuration_kinds!(follow_kinds);
        self.follow(config(), |state| &mut state.speakers);
        self.follow_namespaced(balancers(), |state| &mut state.services);
        self.follow_namespaced(config(), |state| &mut state.claims);
        self.follow_namespaced(config(), |state| &mut state.slices);
        self.follow(config(), |state| &mut state.nodes);
        self.follow(config(), |state| &mut state.namespaces);
        self.follow(config(), |state| &mut state.ranges);
    }

    fn follow<K>(&mut self, config: Config, kept: fn(&mut State) -> &mut Kept<K>)
    where
        K: ReadObject + Clone + Send + 'static,
    {
        let plural = K::plural(&()).into_owned();
        if self.unread.iter().any(|unread| unread.resource == plural && unread.reason != NOT_SERVED) {
            return;
        }
        let api = Api::all(self.client.clone());
        self.spawn(api, plural, config, kept);
    }

    fn follow_namespaced<K>(&mut self, config: Config, kept: fn(&mut State) -> &mut Kept<K>)
    where
        K: ReadObject + Resource<Scope = NamespaceResourceScope> + Clone + Send + 'static,
    {
        let plural = K::plural(&()).into_owned();
        let is_one = |unread: &Unread| unread.resource == plural && unread.reason == ONLY_NAMESPACE;
        if self.unread.iter().any(is_one) {
            let api = Api::namespaced(self.client.clone(), &self.namespace);
            self.spawn(api, plural, config, kept);
        } else {
            self.follow(config, kept);
        }
    }

    fn spawn<K>(&mut self, api: Api<K>, plural: String, config: Config, kept: fn(&mut State) -> &mut Kept<K>)
    where
        K: ReadObject + Clone + Send + 'static,
    {
        let (failure, receiver) = watch::channel(None);
        self.failures.push((plural.clone(), receiver));
        let monitor = Monitor::default().reporting_failures(failure);
        let wrap = move |change: ObjectChange<K>| -> Change {
            let plural = plural.clone();
            Box::new(move |state| {
                if matches!(change, ObjectChange::Reset(_)) {
                    state.handle_served(&plural);
                }
                kept(state).handle_change(change);
            })
        };
        let sender = self.sender.clone();
        self.tasks.spawn(follow(api, config, monitor, |object: K| object, wrap, sender));
    }

    /// Returns the cause of the failure of a watch, if one fails.
    fn failure(&self) -> Option<Error> {
        self.failures.iter().find_map(|(plural, cause)| {
            let cause = cause.borrow().clone()?;
            Some(Error::msg(cause).context(format!("cannot watch {plural}; showing the last known state")))
        })
    }
}
