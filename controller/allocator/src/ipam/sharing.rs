//! The rules by which several Services may hold one address.

use std::sync::Arc;

use fairlead_crds::model::labels::PodSelector;
pub use fairlead_crds::model::service::Port;
use fairlead_crds::model::service::{LoadBalancer, ObjectKey, TrafficPolicy};
use fairlead_crds::text::quoted;

/// The facts of a Service that decide whether it may share an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sharing {
    /// None if the Service has no sharing key.
    pub(super) group: Option<Arc<SharingGroup>>,
    #[allow(missing_docs)]
    pub(super) ports: Ports,
}

/// Services of one group may share an address if their ports are disjoint.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SharingGroup {
    /// Value of the `allow-shared-ip` annotation.
    pub key: String,
    /// The pod selector of a Service with `externalTrafficPolicy: Local`; None for `Cluster`. Only nodes with
    /// a ready endpoint receive traffic of the address, so all its Services must select the same pods.
    pub pods: Option<PodSelector>,
    /// The namespace, if the pool limits sharing to one namespace.
    pub namespace: Option<String>,
}

/// The ports of a Service, or of all Services of an address: ascending, without duplicates.
pub(super) type Ports = Arc<[Port]>;

/// The reason why two Services cannot share an address. The holder has the address, the newcomer requests it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SharingConflict {
    /// The newcomer has no sharing key.
    NewcomerDoesNotShare,
    /// The holder has no sharing key.
    HolderDoesNotShare,
    /// The sharing keys differ.
    OtherKey(String),
    /// `externalTrafficPolicy` differs, or is `Local` with different selectors.
    OtherPods,
    /// Both use this port.
    SamePort(Port),
    /// The holder has this load balancer class, or none, and another controller handles it.
    OtherClass(Option<String>),
    /// The namespaces differ, and this pool limits sharing to one namespace.
    OtherNamespace(Arc<str>),
}

impl Sharing {
    /// Returns the facts of `service`.
    pub fn of(service: &LoadBalancer) -> Self {
        let pods = (service.traffic_policy == TrafficPolicy::Local).then_some(service.selector);
        let key = service.sharing_key.clone().filter(|key| !key.is_empty());
        Self {
            group: key.map(|key| Arc::new(SharingGroup { key, pods, namespace: None })),
            ports: Arc::clone(&service.ports),
        }
    }

    /// Returns the group within which the Service shares; None if it does not share.
    pub fn group(&self) -> Option<&Arc<SharingGroup>> {
        self.group.as_ref()
    }

    /// Checks that a Service may join `holder` on its address.
    pub(super) fn join(&self, holder: &Sharing) -> Result<(), SharingConflict> {
        let Some(ours) = &self.group else { return Err(SharingConflict::NewcomerDoesNotShare) };
        let Some(theirs) = &holder.group else { return Err(SharingConflict::HolderDoesNotShare) };
        if ours.key != theirs.key {
            return Err(SharingConflict::OtherKey(theirs.key.clone()));
        }
        if ours.pods != theirs.pods {
            return Err(SharingConflict::OtherPods);
        }
        first_common_port(&self.ports, &holder.ports)
            .map_or(Ok(()), |port| Err(SharingConflict::SamePort(port)))
    }
}

impl SharingGroup {
    /// Returns this group limited to one namespace.
    pub(super) fn within(&self, namespace: &str) -> Arc<Self> {
        Arc::new(Self { namespace: Some(namespace.to_owned()), ..self.clone() })
    }
}

/// Returns the lowest port in both lists.
pub(super) fn first_common_port(a: &[Port], b: &[Port]) -> Option<Port> {
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    while let (Some(x), Some(y)) = (a.peek(), b.peek()) {
        match x.cmp(y) {
            std::cmp::Ordering::Equal => return Some(**x),
            std::cmp::Ordering::Less => a.next(),
            std::cmp::Ordering::Greater => b.next(),
        };
    }
    None
}

impl SharingConflict {
    /// Returns the predicate of a sentence whose subject is the address.
    pub fn explain(&self, holder: &ObjectKey) -> String {
        match self {
            Self::NewcomerDoesNotShare | Self::HolderDoesNotShare => format!("in use by Service {holder}"),
            Self::OtherKey(key) => {
                format!("in use by Service {holder}, which shares it under a different key ({})", quoted(key))
            }
            Self::OtherPods => format!(
                "in use by Service {holder}, whose externalTrafficPolicy differs, or is Local with a \
                 different selector"
            ),
            Self::SamePort(port) => format!("shared with Service {holder}, which already uses port {port}"),
            Self::OtherClass(Some(class)) => format!(
                "in use by Service {holder}, which another controller handles (loadBalancerClass {class:?})"
            ),
            Self::OtherClass(None) => {
                format!("in use by Service {holder}, which another controller handles (no loadBalancerClass)")
            }
            Self::OtherNamespace(pool) => format!(
                "in use by Service {holder}, and IPAddressPool {pool} limits sharing to one namespace"
            ),
        }
    }

    /// Returns true if both Services have a sharing key.
    pub fn is_between_sharers(&self) -> bool {
        !matches!(self, Self::NewcomerDoesNotShare | Self::HolderDoesNotShare | Self::OtherClass(_))
    }
}
