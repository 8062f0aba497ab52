//! What is read from the API server, as plain values. Everything that explains it is a function of a
//! [`Snapshot`].

mod controller;
mod read;
mod state;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use fairlead_crds::conditions::{self, RawCondition};
use fairlead_crds::kinds::ObjectRef;
use fairlead_crds::model::instance::Instance;
use fairlead_crds::model::service::{LoadBalancer, ObjectKey};
use fairlead_crds::objects::{EndpointSlice, Namespace, Node, Service, ServiceCIDR};
use fairlead_crds::read::Custom;
use fairlead_crds::v1beta1::{self, IPClaim, PoolCooldown, Speaker, SpeakerStatus};
use fairlead_plan::NodeInterfaces;
use fairlead_plan::node_status::served_interfaces;
use jiff::Timestamp;
use kube::ResourceExt;
use serde::Serialize;
use serde_json::Value;

pub(crate) use controller::{Leader, Workload};
pub(crate) use read::read;
pub(crate) use watch::{WATCH_INTERVAL, watch};

/// [`Unread::reason`]: the API server does not serve the kind.
const NOT_SERVED: &str = "NotServed";
/// [`Unread::reason`]: only one namespace was read.
const ONLY_NAMESPACE: &str = "OnlyNamespace";

/// Condition of a Speaker: the speaker is running and announces.
pub(crate) const READY: &str = "Ready";

/// The objects of a cluster at one time.
pub(crate) struct Snapshot {
    pub now: Timestamp,
    pub instance: Instance,
    /// The namespace of Services whose name contains none.
    pub namespace: String,
    /// The namespace to which Services are restricted; `None` for all.
    pub only_namespace: Option<String>,
    pub configuration: Vec<ConfigurationChange>,
    /// Status of each configuration object, by kind and name.
    pub objects: BTreeMap<ObjectRef, ObjectState>,
    pub pools: Vec<v1beta1::IPAddressPool>,
    pub services: Vec<Service>,
    pub claims: Vec<Custom<IPClaim>>,
    pub cooldowns: Vec<PoolCooldown>,
    pub slices: Vec<EndpointSlice>,
    pub nodes: Vec<Node>,
    pub namespaces: Vec<Namespace>,
    pub ranges: Vec<ServiceCIDR>,
    /// The Speaker objects of all instances.
    pub all_speakers: Vec<Speaker>,
    pub leader: Leader,
    /// The Deployment of the controller, if it can be read.
    pub deployment: Option<Workload>,
    /// The DaemonSet of the speakers, if it can be read.
    pub daemonset: Option<Workload>,
    /// The kinds that could not be read.
    pub unread: Vec<Unread>,
}

pub(crate) use fairlead_crds::store::ConfigurationChange;

/// A kind that could not be read, and the reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Unread {
    /// The plural name of the kind.
    pub resource: String,
    /// `Forbidden`, `NotServed`, or `OnlyNamespace` if one namespace was read.
    pub reason: &'static str,
    /// What the API server says.
    pub message: String,
}

/// The parts that all configuration objects have in common.
#[derive(Clone, Debug, Default)]
pub(crate) struct ObjectState {
    pub generation: Option<i64>,
    pub conditions: Vec<RawCondition>,
}

/// A live or dead speaker of the instance.
#[derive(Clone, Copy)]
pub(crate) struct NodeSpeaker<'a> {
    pub node: &'a str,
    pub status: &'a SpeakerStatus,
}

impl Snapshot {
    /// Returns the speakers of the instance, by node.
    pub(crate) fn speakers(&self) -> BTreeMap<&str, NodeSpeaker<'_>> {
        static NONE: LazyLock<SpeakerStatus> = LazyLock::new(SpeakerStatus::default);
        let all = self.all_speakers.iter().filter_map(|speaker| {
            let Speaker { metadata, spec, status } = speaker;
            let class = spec.load_balancer_class.as_deref();
            let node = self.instance.node_of_speaker(metadata.name.as_deref()?, class)?;
            Some((node, NodeSpeaker { node, status: status.as_ref().unwrap_or(&NONE) }))
        });
        all.collect()
    }

    /// Returns the nodes whose speaker is ready.
    pub(crate) fn live_nodes(&self) -> BTreeSet<&str> {
        self.speakers().values().filter(|speaker| speaker.is_ready()).map(|speaker| speaker.node).collect()
    }

    /// Returns the interfaces on which the nodes with a live speaker can announce by L2, of the speakers that
    /// list them.
    pub(crate) fn node_interfaces(&self) -> NodeInterfaces {
        let speakers = self.speakers();
        let live = speakers.values().filter(|speaker| speaker.is_ready());
        let interfaces = live.filter_map(|speaker| {
            let listed = speaker.status.l2.as_ref()?.interfaces.as_ref()?;
            Some((speaker.node.into(), Arc::new(served_interfaces(listed))))
        });
        interfaces.collect()
    }

    /// Returns the Services of the instance.
    pub(crate) fn balancers(&self) -> impl Iterator<Item = (&Service, LoadBalancer)> {
        let class = self.instance.class.as_deref();
        self.services
            .iter()
            .filter_map(move |service| Some((service, LoadBalancer::from_service(service, class)?)))
    }

    /// Returns true if Services of this namespace are shown.
    pub(crate) fn shows(&self, namespace: &str) -> bool {
        self.only_namespace.as_deref().is_none_or(|only| only == namespace)
    }

    /// Returns the command that shows more about something, as the user started this one.
    pub(crate) fn command(&self, arguments: &str) -> String {
        let class = self.instance.class.as_ref().map(|class| format!(" --lb-class {class}"));
        let namespace = Some(&self.instance.namespace).filter(|name| *name != "fairlead-system");
        let namespace = namespace.map(|name| format!(" --fairlead-namespace {name}"));
        let program = crate::program();
        format!("{program} {arguments}{}{}", class.unwrap_or_default(), namespace.unwrap_or_default())
    }

    /// Returns a kubectl command in the namespace of Fairlead.
    pub(crate) fn kubectl(&self, arguments: &str) -> String {
        format!("kubectl -n {} {arguments}", self.instance.namespace)
    }

    /// Returns the error that an object does not exist, or that its kind could not be read.
    pub(crate) fn absent(&self, plural: &str, object: &str) -> anyhow::Error {
        match self.unread.iter().find(|unread| unread.resource == plural) {
            Some(unread) => anyhow::anyhow!("{object} was not found: {plural}: {}", unread.message),
            None => anyhow::anyhow!("there is no {object}"),
        }
    }

    /// Returns true if the kind with this plural could not be read.
    pub(crate) fn is_unread(&self, resource: &str) -> bool {
        self.unread.iter().any(|unread| unread.resource == resource)
    }
}

impl NodeSpeaker<'_> {
    /// Returns true if the speaker is running and announces, as far as its object tells.
    pub(crate) fn is_ready(&self) -> bool {
        match conditions::find(&self.status.conditions, READY) {
            Some(condition) => condition.status() == "True",
            None => self.status.ready == Some(true),
        }
    }

    /// Returns why the speaker is not ready.
    pub(crate) fn reason(&self) -> (String, String) {
        match conditions::find(&self.status.conditions, READY) {
            Some(condition) => (condition.reason().to_owned(), condition.message().to_owned()),
            None => ("NotSynced".to_owned(), "the speaker has not received all objects yet".to_owned()),
        }
    }
}

#[cfg(test)]
impl Snapshot {
    /// Returns a cluster without objects.
    pub(crate) fn empty(class: Option<&str>, namespace: &str) -> Self {
        Self {
            now: Timestamp::UNIX_EPOCH,
            instance: Instance { class: class.map(str::to_owned), namespace: namespace.to_owned() },
            namespace: "default".to_owned(),
            only_namespace: None,
            configuration: Vec::new(),
            objects: BTreeMap::new(),
            pools: Vec::new(),
            services: Vec::new(),
            claims: Vec::new(),
            cooldowns: Vec::new(),
            slices: Vec::new(),
            nodes: Vec::new(),
            namespaces: Vec::new(),
            ranges: Vec::new(),
            all_speakers: Vec::new(),
            leader: Leader::None,
            deployment: None,
            daemonset: None,
            unread: Vec::new(),
        }
    }
}

/// Returns the condition of a type.
pub(crate) fn condition<'a>(conditions: &'a [RawCondition], type_: &str) -> Option<&'a RawCondition> {
    conditions::find(conditions, type_)
}

/// Returns the conditions of a Service.
pub(crate) fn service_conditions(service: &Service) -> &[RawCondition] {
    let status = service.status.as_ref();
    status.and_then(|status| status.conditions.as_deref()).unwrap_or_default()
}

/// Returns namespace and name of a Service.
pub(crate) fn key(service: &Service) -> ObjectKey {
    ObjectKey { namespace: service.namespace().unwrap_or_default(), name: service.name_any() }
}

/// Returns a text field of an object.
pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}
