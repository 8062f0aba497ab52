//! Reduces watched objects to the fields that this crate and the plan read, before they are stored.

use std::net::{IpAddr, SocketAddr};

use fairlead_crds::model::instance::Instance;
use fairlead_crds::{objects, stopped_speaker};
use fairlead_l2::Mac;
pub(crate) use fairlead_plan::trim::{node, service, slice};
use kube::ResourceExt;

/// The node of a speaker, and the address of that speaker in the mesh. The address is `None` until the
/// speaker has written a valid one.
pub(crate) type MeshPeer = (String, Option<SocketAddr>);

/// Maximum number of link-layer addresses of a speaker: the bound in the schema.
pub(crate) const MAX_MACS: usize = 64;

/// A Speaker object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct WatchedSpeaker {
    /// Name of the object.
    pub name: String,
    /// `None` if the object belongs to another instance.
    pub peer: Option<MeshPeer>,
    /// Link-layer addresses of the interfaces on which it announces.
    pub macs: Vec<Mac>,
    /// True if its status says that the speaker does not respond.
    pub is_reported: bool,
}

/// Reads a Speaker object.
pub(crate) fn speaker(object: objects::Speaker, instance: &Instance) -> WatchedSpeaker {
    let name = object.name_any();
    let node = instance.node_of_speaker(&name, object.spec.load_balancer_class.as_deref());
    let address = object.spec.mesh.as_ref().and_then(|mesh| {
        let ip: IpAddr = mesh.address.parse().ok()?;
        let port = u16::try_from(mesh.port).ok().filter(|port| *port != 0)?;
        Some(SocketAddr::new(ip, port))
    });
    let peer = node.map(|node| (node.to_owned(), address));
    let macs = object.spec.mesh.iter().flat_map(|mesh| &mesh.macs);
    let macs = macs.take(MAX_MACS).filter_map(|text| mac(text)).collect();
    let is_reported = stopped_speaker::is_reported(&object.status.conditions);
    WatchedSpeaker { name, peer, macs, is_reported }
}

/// Reads a link-layer address, such as `02:00:00:00:00:01`.
fn mac(text: &str) -> Option<Mac> {
    let octets: Vec<u8> =
        text.split(':').map(|octet| u8::from_str_radix(octet, 16)).collect::<Result<_, _>>().ok()?;
    octets.try_into().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn speaker_with_invalid_mesh_address_has_none() {
        let table = [
            (json!({"address": "192.0.2.1", "port": 7947}), Some("192.0.2.1:7947")),
            (json!({"address": "2001:db8::1", "port": 7947}), Some("[2001:db8::1]:7947")),
            (json!({"address": "n1", "port": 7947}), None),
            (json!({"address": "192.0.2.1", "port": 0}), None),
            (json!({"address": "192.0.2.1", "port": 70000}), None),
            (json!(null), None),
        ];
        for (mesh, expected) in table {
            let object = json!({"apiVersion": "fairlead.dev/v1beta1", "kind": "Speaker",
                "metadata": {"name": "n1"}, "spec": {"mesh": mesh}});
            let expected = Some(("n1".to_owned(), expected.map(|a| a.parse().unwrap())));
            let read = speaker(from_value(object).unwrap(), &Instance::default());
            assert_eq!((read.name.as_str(), read.peer), ("n1", expected), "{mesh}");
        }
    }

    #[test]
    fn link_layer_addresses_are_read_and_others_dropped() {
        let macs = json!(["02:00:00:00:00:0a", "", "02:00", "0g:00:00:00:00:00", "02:00:00:00:00:00:01"]);
        let mesh = json!({"address": "192.0.2.1", "port": 7947, "macs": macs});
        let object = json!({"metadata": {"name": "n1"}, "spec": {"mesh": mesh}});
        let read = speaker(from_value(object).unwrap(), &Instance::default());
        assert_eq!(read.macs, [[2, 0, 0, 0, 0, 10]]);
    }

    #[test]
    fn speaker_of_another_instance_is_no_peer() {
        let class = || Some("example.com/b".to_owned());
        let mesh = json!({"address": "192.0.2.1", "port": 7947});
        let object =
            json!({"metadata": {"name": "n1.b"}, "spec": {"mesh": mesh, "loadBalancerClass": class()}});
        let read = |class: Option<String>| {
            let instance = Instance { class, namespace: "b".to_owned() };
            speaker(from_value(object.clone()).unwrap(), &instance).peer
        };
        assert_eq!(read(class()), Some(("n1".to_owned(), Some("192.0.2.1:7947".parse().unwrap()))));
        assert_eq!(read(None), None);
    }

    #[test]
    fn speaker_is_reported_by_the_condition_ready() {
        for (type_, status, reason, expected) in [
            ("Ready", "False", "NotResponding", true),
            ("Ready", "True", "NotResponding", false),
            ("Ready", "False", "Stopped", false),
            ("Eligible", "False", "NotResponding", false),
        ] {
            let condition = json!({"type": type_, "status": status, "reason": reason});
            let object = json!({"metadata": {"name": "n1"}, "status": {"conditions": [condition]}});
            let read = speaker(from_value(object).unwrap(), &Instance::default());
            assert_eq!(read.is_reported, expected, "{type_} {status} {reason}");
        }
    }
}
