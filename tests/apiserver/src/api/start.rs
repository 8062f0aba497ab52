//! Objects that exist in a new cluster.

use anyhow::anyhow;
use serde_json::{Value, json};

use super::{Api, Ask, Patch, Target};
use crate::kinds::Door;

impl Api {
    /// Creates the namespaces, the ServiceCIDR `kubernetes` and the Service `default/kubernetes`.
    pub(super) fn populate(&mut self, ask: &Ask) -> anyhow::Result<()> {
        for name in ["default", "kube-node-lease", "kube-public", "kube-system"] {
            self.seed(("", "namespaces"), "", json!({ "metadata": { "name": name } }), ask)?;
        }
        self.seed_service_ranges(ask)?;
        let first = self.addresses.first().map(|ip| ip.to_string()).unwrap_or_default();
        self.seed(
            ("", "services"),
            "default",
            json!({
                "metadata": {
                    "name": "kubernetes",
                    "labels": { "component": "apiserver", "provider": "kubernetes" },
                },
                "spec": {
                    "clusterIP": first,
                    "ports": [{ "name": "https", "port": 443, "protocol": "TCP", "targetPort": 6443 }],
                },
            }),
            ask,
        )
    }

    /// Creates the ServiceCIDR of the ranges in the options, with the status that kube-apiserver sets.
    fn seed_service_ranges(&mut self, ask: &Ask) -> anyhow::Result<()> {
        const RESOURCE: (&str, &str) = ("networking.k8s.io", "servicecidrs");
        let cidrs: Vec<String> = self.addresses.ranges().iter().map(ToString::to_string).collect();
        let object = json!({ "metadata": { "name": "kubernetes" }, "spec": { "cidrs": cidrs } });
        self.seed(RESOURCE, "", object, ask)?;
        let ready = json!({
            "type": "Ready", "status": "True", "reason": "", "lastTransitionTime": ask.now,
            "message": "Kubernetes default Service CIDR is ready",
        });
        let target = Target { door: Door::Status, ..self.target(RESOURCE, "", "kubernetes")? };
        let patch = Patch::Merge(json!({ "status": { "conditions": [ready] } }));
        self.patch(&target, patch, ask).map_err(|failure| anyhow!("{}", failure.message))?;
        Ok(())
    }

    fn seed(
        &mut self,
        resource: (&str, &str),
        namespace: &str,
        object: Value,
        ask: &Ask,
    ) -> anyhow::Result<()> {
        let target = self.target(resource, namespace, "")?;
        self.create(&target, object, ask).map_err(|failure| anyhow!("{}", failure.message))?;
        Ok(())
    }

    /// Returns the object of this name, or the collection, of a resource of version v1.
    fn target(&self, (group, plural): (&str, &str), namespace: &str, name: &str) -> anyhow::Result<Target> {
        let resource = self.registry.get(group, "v1", plural).cloned();
        let resource = resource.ok_or_else(|| anyhow!("no resource {plural}"))?;
        Ok(Target { resource, namespace: namespace.to_owned(), name: name.to_owned(), door: Door::Object })
    }
}
