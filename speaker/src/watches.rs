//! Watches: one task per kind lists and watches its objects, trims them, and sends events to the coordinator.

use std::time::Instant;

use fairlead_crds::model::instance::Instance;
use fairlead_crds::model::service::ObjectKey;
use fairlead_crds::read::Custom;
use fairlead_crds::store::{self, ConfigurationChange, ObjectChange};
use fairlead_crds::{configuration_kinds, names, objects, v1beta1};
use fairlead_plan::{Node, NodeName, Service, Slice, SliceKey};
use fairlead_runtime::watch::{self, Monitor, follow};
use kube::{Api, Client};
use tokio::sync::mpsc::Sender;
use tokio::task::JoinSet;

use crate::trim::{self, WatchedSpeaker};

/// A change to the objects of one kind, trimmed.
#[derive(Debug)]
pub(crate) enum WatchEvent {
    Services(ObjectChange<(ObjectKey, Option<Service>)>),
    /// A change and the time at which it arrived.
    Slices(ObjectChange<(SliceKey, Option<Slice>)>, Instant),
    Nodes(ObjectChange<(NodeName, Node, String)>),
    Speakers(ObjectChange<WatchedSpeaker>),
    /// The DaemonSet of the speakers: whether it is being deleted.
    DaemonSet(ObjectChange<bool>),
    /// Boxed, because it is much larger than the others.
    Configuration(Box<ConfigurationChange>),
}

/// What the watches depend on.
#[derive(Clone, Debug, Default)]
pub(crate) struct WatchOptions {
    /// The Services and speakers are those of this instance.
    pub instance: Instance,
    /// True if a cordoned node is being drained.
    pub drain_cordoned: bool,
    /// Namespace and name of the DaemonSet of the speakers.
    pub daemon_set: Option<(String, String)>,
}

/// Starts the watches. They run until the receiver of `sink` is dropped.
pub(crate) fn spawn(
    client: &Client,
    options: WatchOptions,
    monitor: &Monitor,
    sink: &Sender<WatchEvent>,
) -> JoinSet<()> {
    let WatchOptions { instance, drain_cordoned, daemon_set } = options;
    let mut tasks = JoinSet::new();
    let (class, own) = (instance.class.clone(), instance.clone());
    tasks.spawn(follow::<objects::Service, _, _>(
        Api::all(client.clone()),
        watch::config().fields("spec.type=LoadBalancer"),
        monitor.clone(),
        move |service| trim::service(service, class.as_deref()),
        WatchEvent::Services,
        sink.clone(),
    ));
    tasks.spawn(follow::<objects::EndpointSlice, _, _>(
        Api::all(client.clone()),
        watch::config().labels(names::SERVICE_NAME),
        monitor.clone(),
        trim::slice,
        |change| WatchEvent::Slices(change, Instant::now()),
        sink.clone(),
    ));
    tasks.spawn(follow::<objects::Node, _, _>(
        Api::all(client.clone()),
        watch::config(),
        monitor.clone(),
        move |node| trim::node(node, drain_cordoned),
        WatchEvent::Nodes,
        sink.clone(),
    ));
    tasks.spawn(follow::<objects::Speaker, _, _>(
        Api::all(client.clone()),
        watch::config(),
        monitor.clone(),
        move |speaker| trim::speaker(speaker, &own),
        WatchEvent::Speakers,
        sink.clone(),
    ));
    if let Some((namespace, name)) = daemon_set {
        tasks.spawn(follow::<objects::DaemonSet, _, _>(
            Api::namespaced(client.clone(), &namespace),
            watch::config().fields(&format!("metadata.name={name}")),
            monitor.clone(),
            |daemon_set| daemon_set.metadata.deletion_timestamp.is_some(),
            WatchEvent::DaemonSet,
            sink.clone(),
        ));
    }
    macro_rules! follow_configuration {
        ($($kind:ident => $field:ident,)*) => {$(
            tasks.spawn(follow::<Custom<v1beta1::$kind>, _, _>(
                Api::all(client.clone()),
                watch::config(),
                monitor.clone(),
                store::trim,
                |change| WatchEvent::Configuration(Box::new(change.into())),
                sink.clone(),
            ));
        )*};
    }
    configuration_kinds!(follow_configuration);
    tasks
}
