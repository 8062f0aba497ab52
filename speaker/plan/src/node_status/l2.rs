//! What this node announces by L2.

use fairlead_crds::v1beta1::{L2Conflict, L2Interface, L2Status};
use fairlead_l2::{ServedFamilies, ServedInterfaces};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Summary, announced};
use crate::conflicts::{AddressConflict, mac_text};

/// Address families, as Kubernetes names them.
const IPV4: &str = "IPv4";
const IPV6: &str = "IPv6";

/// Returns the part of the status.
pub(super) fn l2(summary: &Summary) -> L2Status {
    L2Status {
        announced: announced(summary.l2, &summary.announced.l2),
        interfaces: summary.l2_interfaces.clone(),
        conflicts: summary.conflicts.iter().map(conflict).collect(),
    }
}

/// Returns the interfaces as the status lists them.
pub(super) fn interfaces(served: &ServedInterfaces) -> Vec<L2Interface> {
    let interface = |(name, families): (&String, &ServedFamilies)| {
        let v4 = families.v4.then(|| IPV4.to_owned());
        L2Interface {
            name: name.clone(),
            families: v4.into_iter().chain(families.v6.then(|| IPV6.to_owned())).collect(),
        }
    };
    served.iter().map(interface).collect()
}

/// Reads the interfaces that `status.l2` lists.
pub fn served_interfaces(listed: &[L2Interface]) -> ServedInterfaces {
    let interface = |interface: &L2Interface| {
        let has = |family: &str| interface.families.iter().any(|listed| listed == family);
        (interface.name.clone(), ServedFamilies { v4: has(IPV4), v6: has(IPV6) })
    };
    listed.iter().map(interface).collect()
}

fn conflict(conflict: &AddressConflict) -> L2Conflict {
    L2Conflict {
        address: conflict.address.to_string(),
        mac: conflict.mac.map(mac_text),
        interface: conflict.interface.clone(),
        announced: !conflict.is_left,
        since: Some(Time(conflict.since)),
    }
}
