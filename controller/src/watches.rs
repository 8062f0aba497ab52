//! The watches of all kinds, and the events that they send to the reconciler.

use std::collections::{BTreeMap, BTreeSet};

use fairlead_allocator::ipam::{NodeNetwork, OtherService, service_ranges};
use fairlead_allocator::reconcile::announcement::ObservedSpeaker;
use fairlead_allocator::reconcile::{MarkedService, ObservedService, RecordedCooldown};
use fairlead_allocator::silent_speakers::{SpeakerEndpoints, is_node_ready, speaker_endpoints};
use fairlead_crds::kinds::{ConfigurationObject, Kind};
use fairlead_crds::model::claim::Claim;
use fairlead_crds::model::config::Labels;
use fairlead_crds::model::instance::Instance;
use fairlead_crds::model::labels::LabelBounds;
use fairlead_crds::model::range::IpRange;
use fairlead_crds::model::service::ObjectKey;
use fairlead_crds::objects::{
    CustomResourceDefinition, EndpointSlice, Namespace, Node, Service, ServiceCIDR,
};
use fairlead_crds::read::Custom;
use fairlead_crds::store::{ConfigurationChange, ObjectChange, trim};
use fairlead_crds::v1beta1::{GROUP, IPClaim, Speaker};
use fairlead_crds::{configuration_kinds, names, v1beta1};
use fairlead_runtime::watch::{self, Monitor};
use kube::api::Api;
use kube::{Client, ResourceExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::cooldowns;
use crate::label_report::LabelReport;

/// An event of a watch.
pub(crate) struct WatchEvent {
    /// The relist to which the watch belongs: one at the start, and one at the start of each term.
    pub relist: u64,
    /// The change.
    pub change: ClusterChange,
}

/// A change to objects in the cluster.
pub(crate) enum ClusterChange {
    /// Services of type LoadBalancer.
    Services(ObjectChange<WatchedService>),
    /// IPClaims.
    Claims(ObjectChange<Box<Claim>>),
    /// Namespaces.
    Namespaces(ObjectChange<WatchedNamespace>),
    /// The definition of a kind whose objects have a finalizer; true if it is being deleted.
    Definition(Kind, ObjectChange<bool>),
    /// Nodes.
    Nodes(ObjectChange<WatchedNode>),
    /// EndpointSlices of the Service of the speakers. Nothing waits for them.
    SpeakerEndpoints(ObjectChange<(String, SpeakerEndpoints)>),
    /// Names and ranges of ServiceCIDRs. Nothing waits for them: Kubernetes before 1.33 does not serve them.
    ServiceCidrs(ObjectChange<(String, BTreeSet<IpRange>)>),
    /// Names of `Speaker` objects, and the speakers of this instance. Nothing waits for them.
    Speakers(ObjectChange<(String, Option<ObservedSpeaker>)>),
    /// Configuration objects of one kind.
    Configuration(Box<ConfigurationChange>),
    /// All `PoolCooldown` objects, by name. They are listed once and not watched.
    Cooldowns(BTreeMap<String, RecordedCooldown>),
}

/// A Namespace.
pub(crate) struct WatchedNamespace {
    pub name: String,
    pub labels: Labels,
    /// True if it is being deleted.
    pub is_terminating: bool,
}

/// A Node.
pub(crate) struct WatchedNode {
    pub name: String,
    pub network: NodeNetwork,
    /// False if its kubelet does not respond, or reports a fault.
    pub is_ready: bool,
}

/// A Service of type LoadBalancer.
pub(crate) struct WatchedService {
    /// Namespace and name.
    pub key: ObjectKey,
    /// The fields that decisions depend on; `None` if another controller handles its class.
    pub observed: Option<Box<ObservedService>>,
    /// The class and the addresses, if another controller handles its class.
    pub other: Option<Box<OtherService>>,
    /// Set if another controller handles its class and it carries a status of Fairlead.
    pub marked: Option<Box<MarkedService>>,
}

impl WatchedService {
    /// Reads a Service of type LoadBalancer for the instance with this class.
    pub(crate) fn read(service: &Service, class: Option<&str>) -> Self {
        let key = ObjectKey { namespace: service.namespace().unwrap_or_default(), name: service.name_any() };
        let observed = ObservedService::of(service, class).map(Box::new);
        let other = OtherService::of(service, class).map(Box::new);
        Self { key, observed, other, marked: MarkedService::of(service, class).map(Box::new) }
    }
}

/// Lists and watches all kinds until the returned set is dropped.
pub(crate) fn watch_all(
    client: &Client,
    instance: &Instance,
    relist: u64,
    monitor: &Monitor,
    sink: &mpsc::Sender<WatchEvent>,
) -> JoinSet<()> {
    let mut watches = JoinSet::new();
    let class = instance.class.clone();
    let speaker_class = class.clone();
    // For this watch, a Service whose type changes is deleted. The API server removes the addresses from its
    // status.
    let load_balancers = watch::config().fields("spec.type=LoadBalancer");
    let watched = move |service: Service| WatchedService::read(&service, class.as_deref());
    let services = Api::<Service>::all(client.clone());
    let event = event_of(relist, ClusterChange::Services);
    watches.spawn(watch::follow(services, load_balancers, monitor.clone(), watched, event, sink.clone()));

    let claims = Api::<Custom<IPClaim>>::all(client.clone());
    let claim = |claim: Custom<IPClaim>| Box::new(Claim::from_read(&claim));
    let event = event_of(relist, ClusterChange::Claims);
    watches.spawn(watch::follow(claims, watch::config(), monitor.clone(), claim, event, sink.clone()));

    let namespaces = Api::<Namespace>::all(client.clone());
    let namespace = |namespace: Namespace| WatchedNamespace {
        name: namespace.name_any(),
        labels: Labels::within(LabelBounds::Administrators, namespace.labels()),
        is_terminating: namespace.metadata.deletion_timestamp.is_some(),
    };
    let excess = LabelReport::default();
    let namespace = move |object: Namespace| {
        excess.check(&object);
        namespace(object)
    };
    let event = event_of(relist, ClusterChange::Namespaces);
    watches.spawn(watch::follow(
        namespaces,
        watch::config(),
        monitor.clone(),
        namespace,
        event,
        sink.clone(),
    ));

    for kind in Kind::ALL.iter().copied().filter(|kind| kind.finalizer().is_some()) {
        let definition = watch::config().fields(&format!("metadata.name={}.{GROUP}", kind.plural()));
        let definitions = Api::<CustomResourceDefinition>::all(client.clone());
        let is_terminating =
            |definition: CustomResourceDefinition| definition.metadata.deletion_timestamp.is_some();
        let event = event_of(relist, move |change| ClusterChange::Definition(kind, change));
        watches.spawn(watch::follow(
            definitions,
            definition,
            monitor.clone(),
            is_terminating,
            event,
            sink.clone(),
        ));
    }

    let nodes = Api::<Node>::all(client.clone());
    // Only the speakers use the labels of Nodes. They are reported here, once instead of by every speaker.
    let excess = LabelReport::default();
    let watched = move |node: Node| {
        excess.check(&node);
        WatchedNode { name: node.name_any(), network: NodeNetwork::of(&node), is_ready: is_node_ready(&node) }
    };
    let event = event_of(relist, ClusterChange::Nodes);
    watches.spawn(watch::follow(nodes, watch::config(), monitor.clone(), watched, event, sink.clone()));

    let slices = Api::<EndpointSlice>::namespaced(client.clone(), &instance.namespace);
    let of_speakers = watch::config().labels(&format!("{}={}", names::SERVICE_NAME, names::SPEAKER_SERVICE));
    let endpoints = |slice: EndpointSlice| (slice.name_any(), speaker_endpoints(&slice));
    let event = event_of(relist, ClusterChange::SpeakerEndpoints);
    watches.spawn(watch::follow(slices, of_speakers, monitor.clone(), endpoints, event, sink.clone()));

    let cidrs = Api::<ServiceCIDR>::all(client.clone());
    let ranges = |object: ServiceCIDR| (object.name_any(), service_ranges(&object));
    let event = event_of(relist, ClusterChange::ServiceCidrs);
    watches.spawn(watch::follow(cidrs, watch::config(), monitor.clone(), ranges, event, sink.clone()));

    let speakers = Api::<Custom<Speaker>>::all(client.clone());
    let speaker = move |speaker: Custom<Speaker>| {
        (speaker.object.name_any(), ObservedSpeaker::of(&speaker.object, speaker_class.as_deref()))
    };
    let event = event_of(relist, ClusterChange::Speakers);
    watches.spawn(watch::follow(speakers, watch::config(), monitor.clone(), speaker, event, sink.clone()));

    let (cooldown_client, cooldown_sink) = (client.clone(), sink.clone());
    watches.spawn(async move {
        let change = ClusterChange::Cooldowns(cooldowns::list(&cooldown_client).await);
        // An error means that the receiver is gone.
        let _ = cooldown_sink.send(WatchEvent { relist, change }).await;
    });

    macro_rules! watch_configuration {
        ($($kind:ident => $field:ident,)*) => {$(
            let event = event_of(relist, |change| {
                ClusterChange::Configuration(Box::new(ConfigurationChange::$kind(change)))
            });
            let objects = Api::all(client.clone());
            let config = watch::config();
            let excess = LabelReport::default();
            let trimmed = move |object: Custom<v1beta1::$kind>| {
                // Selectors refer to pools only.
                if v1beta1::$kind::KIND == Kind::IPAddressPool {
                    excess.check(&object);
                }
                trim(object)
            };
            watches.spawn(watch::follow(objects, config, monitor.clone(), trimmed, event, sink.clone()));
        )*};
    }
    configuration_kinds!(watch_configuration);
    watches
}

/// Returns a function that makes an event from a change of one kind.
fn event_of<T>(
    relist: u64,
    change_of: impl Fn(ObjectChange<T>) -> ClusterChange,
) -> impl Fn(ObjectChange<T>) -> WatchEvent {
    move |change| WatchEvent { relist, change: change_of(change) }
}
