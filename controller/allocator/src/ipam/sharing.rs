//! When several Services may hold one address.

use std::fmt;
use std::sync::Arc;

use fairlead_crds::model::config::Labels;
use fairlead_crds::model::service::{LoadBalancer, ObjectKey, TrafficPolicy};

/// What of a Service decides whether it may share an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sharing {
    /// Sharing key and policy; `None` means it shares with nobody.
    pub(super) group: Option<Arc<SharingGroup>>,
    /// `(protocol, port)` of each Service port, ascending.
    pub(super) ports: Ports,
}

/// Services of equal group may share an address as far as their ports allow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SharingGroup {
    /// Value of the `allow-shared-ip` annotation.
    pub key: String,
    /// Under `externalTrafficPolicy: Local` the pods: traffic comes only to nodes that have one, so all
    /// Services of an address must have the same. `None` under `Cluster`.
    pub pods: Option<Labels>,
    /// The namespace, in pools whose addresses are shared within one only.
    pub namespace: Option<String>,
}

/// Ports of a Service, or of all Services of an address: ascending, without duplicates.
pub(super) type Ports = Arc<[Port]>;

/// A protocol and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    protocol: Protocol,
    number: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

/// Why an address that is in use cannot be shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SharingConflict {
    /// The newcomer has no sharing key.
    NewcomerDoesNotShare,
    /// Who holds the address has no sharing key.
    HolderDoesNotShare,
    /// Both share, but under different keys.
    OtherKey(String),
    /// Same key, but different `externalTrafficPolicy`, or `Local` with different pods.
    OtherPods,
    /// Same group, but both want this port.
    SamePort(Port),
    /// Of another namespace, where this pool's addresses are shared within one only.
    OtherNamespace(Arc<str>),
}

impl Sharing {
    /// What `service` says.
    pub fn of(service: &LoadBalancer) -> Self {
        let pods = (service.traffic_policy == TrafficPolicy::Local).then(|| service.selector.clone());
        let key = service.sharing_key.clone().filter(|key| !key.is_empty());
        let mut ports: Vec<Port> = service.ports.iter().map(|(p, n)| Port::new(p, *n)).collect();
        ports.sort_unstable();
        ports.dedup();
        Self {
            group: key.map(|key| Arc::new(SharingGroup { key, pods, namespace: None })),
            ports: ports.into(),
        }
    }

    /// The group it shares within.
    pub fn group(&self) -> Option<&Arc<SharingGroup>> {
        self.group.as_ref()
    }

    /// Whether a Service may join another on its address.
    pub(super) fn join(&self, holder: &Sharing) -> Result<(), SharingConflict> {
        let Some(ours) = &self.group else { return Err(SharingConflict::NewcomerDoesNotShare) };
        let Some(theirs) = &holder.group else { return Err(SharingConflict::HolderDoesNotShare) };
        if ours.key != theirs.key {
            return Err(SharingConflict::OtherKey(theirs.key.clone()));
        }
        if ours.pods != theirs.pods {
            return Err(SharingConflict::OtherPods);
        }
        common(&self.ports, &holder.ports).map_or(Ok(()), |port| Err(SharingConflict::SamePort(port)))
    }
}

impl SharingGroup {
    /// Returns this group limited to one namespace.
    pub(super) fn within(&self, namespace: &str) -> Arc<Self> {
        Arc::new(Self { namespace: Some(namespace.to_owned()), ..self.clone() })
    }
}

impl Port {
    fn new(protocol: &str, number: u16) -> Self {
        let protocol = match protocol {
            "UDP" => Protocol::Udp,
            "SCTP" => Protocol::Sctp,
            _ => Protocol::Tcp, // the default of a ServicePort
        };
        Self { protocol, number }
    }
}

/// The lowest port in both.
pub(super) fn common(a: &[Port], b: &[Port]) -> Option<Port> {
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

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
            Protocol::Sctp => "SCTP",
        };
        write!(f, "{protocol}/{}", self.number)
    }
}

impl SharingConflict {
    /// The sentence for an operator; `holder` is the Service in the way.
    pub fn explain(&self, holder: &ObjectKey) -> String {
        match self {
            Self::NewcomerDoesNotShare | Self::HolderDoesNotShare => format!("in use by Service {holder}"),
            Self::OtherKey(key) => {
                format!("in use by Service {holder}, which shares it under another key ({key:?})")
            }
            Self::OtherPods => format!(
                "in use by Service {holder}, whose externalTrafficPolicy differs, or is Local with another selector"
            ),
            Self::SamePort(port) => format!("shared with Service {holder}, which already uses port {port}"),
            Self::OtherNamespace(pool) => format!(
                "in use by Service {holder}, and IPAddressPool {pool} lets only Services of one namespace share"
            ),
        }
    }

    /// Whether both sides want to share and still cannot.
    pub fn is_between_sharers(&self) -> bool {
        !matches!(self, Self::NewcomerDoesNotShare | Self::HolderDoesNotShare)
    }
}
