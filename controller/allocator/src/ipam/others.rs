//! Part of [`Ipam`]: addresses that Services of other load balancer classes show. Another
//! controller handles these Services, so the addresses are taken.

use std::collections::BTreeMap;
use std::net::IpAddr;

use fairlead_crds::model::service::{LoadBalancer, ObjectKey};
use fairlead_crds::objects::Service;

use super::Ipam;

/// A load balancer Service of another class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherService {
    /// Namespace and name.
    pub key: ObjectKey,
    /// `spec.loadBalancerClass`.
    pub class: Option<String>,
    /// The addresses in its status.
    pub addresses: Vec<IpAddr>,
}

impl OtherService {
    /// Returns the Service if it is a load balancer and another controller than that of `class` handles it.
    pub fn of(service: &Service, class: Option<&str>) -> Option<Self> {
        let own = service.spec.as_ref()?.load_balancer_class.clone();
        if own.as_deref() == class.filter(|class| !class.is_empty()) {
            return None;
        }
        let LoadBalancer { key, ingress, .. } = LoadBalancer::from_service(service, own.as_deref())?;
        Some(Self { key, class: own, addresses: ingress })
    }
}

/// All load balancer Services of other classes that show addresses.
#[derive(Clone, Debug, Default)]
pub(super) struct OtherServices(BTreeMap<ObjectKey, OtherService>);

impl OtherServices {
    pub(super) fn get(&self, key: &ObjectKey) -> Option<&OtherService> {
        self.0.get(key)
    }
}

impl Ipam {
    /// Takes the addresses that a Service of another class shows, instead of those that it showed before.
    /// Holders of these addresses are not affected.
    pub fn set_other(&mut self, other: OtherService) {
        for address in self.others.get(&other.key).map(|old| old.addresses.clone()).unwrap_or_default() {
            if !other.addresses.contains(&address) {
                self.unreserve(address, &other.key);
            }
        }
        for address in &other.addresses {
            self.reserve(*address, &other.key);
        }
        if other.addresses.is_empty() {
            self.others.0.remove(&other.key);
        } else {
            self.others.0.insert(other.key.clone(), other);
        }
    }

    /// Frees the addresses that only a Service of another class shows.
    pub fn remove_other(&mut self, key: &ObjectKey) {
        if let Some(other) = self.others.0.remove(key) {
            other.addresses.into_iter().for_each(|address| self.unreserve(address, key));
        }
    }
}
