//! The instances of Fairlead in a cluster.

use std::borrow::Cow;

/// An instance of Fairlead: one controller and the speakers of all nodes, which handle the Services of one
/// load balancer class.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Instance {
    /// The load balancer class; `None` for the instance that handles Services without a class.
    pub class: Option<String>,
    /// The namespace of the instance. Each instance has its own.
    pub namespace: String,
}

impl Instance {
    /// Returns the name of the Speaker object of a node. Objects of several instances differ: the instance
    /// without a class uses the name of the node, others `NODE.NAMESPACE`.
    pub fn speaker_name<'a>(&self, node: &'a str) -> Cow<'a, str> {
        match self.class {
            None => node.into(),
            Some(_) => format!("{node}.{}", self.namespace).into(),
        }
    }

    /// Returns the node of a Speaker object, given its name and `spec.loadBalancerClass`; `None` if the
    /// object belongs to another instance.
    pub fn node_of_speaker<'a>(&self, name: &'a str, class: Option<&str>) -> Option<&'a str> {
        if class.filter(|class| !class.is_empty()) != self.class.as_deref() {
            return None;
        }
        match self.class {
            None => Some(name),
            Some(_) => name.strip_suffix(&self.namespace)?.strip_suffix('.').filter(|node| !node.is_empty()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speakers_of_an_instance_are_those_of_its_class_and_namespace() {
        let of = |class: Option<&str>| Instance {
            class: class.map(str::to_owned),
            namespace: "fairlead-b".to_owned(),
        };
        let (plain, classed) = (of(None), of(Some("example.com/b")));
        assert_eq!((&*plain.speaker_name("n1"), &*classed.speaker_name("n1")), ("n1", "n1.fairlead-b"));
        for (instance, name, class, node) in [
            (&plain, "n1", None, Some("n1")),
            (&plain, "n1", Some(""), Some("n1")),
            (&plain, "n1.fairlead-b", Some("example.com/b"), None),
            (&classed, "n1.fairlead-b", Some("example.com/b"), Some("n1")),
            (&classed, "n1.example.com.fairlead-b", Some("example.com/b"), Some("n1.example.com")),
            (&classed, "n1.fairlead-b", None, None),
            (&classed, "n1.fairlead-b", Some("example.com/c"), None),
            (&classed, "n1.fairlead-c", Some("example.com/b"), None),
            (&classed, "n1fairlead-b", Some("example.com/b"), None),
            (&classed, ".fairlead-b", Some("example.com/b"), None),
        ] {
            assert_eq!(instance.node_of_speaker(name, class), node, "{name} {class:?}");
        }
    }
}
