//! The Kubernetes kinds that the server serves.

use k8s_openapi::api::{
    admissionregistration, apps, coordination, core, discovery, events, networking, policy, rbac,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Resource, Strategy, event, shapes};
use crate::store::Store;

/// A Kubernetes kind.
pub(crate) struct Builtin {
    pub group: &'static str,
    pub version: &'static str,
    pub plural: &'static str,
    pub singular: &'static str,
    pub kind: &'static str,
    pub short_names: &'static [&'static str],
    pub namespaced: bool,
    pub traits: Traits,
    pub fields: &'static [&'static str],
    pub rules: Rules,
    /// Decodes into the typed object and encodes again: rejects wrong types, drops unknown fields.
    pub decode: fn(Value) -> Result<Value, serde_json::Error>,
    /// Converts to the stored version; None if it is this version.
    pub inward: Option<fn(Value) -> Value>,
    /// Converts from the stored version.
    pub outward: Option<fn(Value) -> Value>,
    /// Name of the table, if two resources share one.
    pub table: Option<&'static str>,
}

/// Write behavior that differs between kinds.
#[derive(Clone, Copy, Default)]
pub(crate) struct Traits {
    pub status: bool,
    pub generation: bool,
    pub conditional: bool,
    pub create_on_update: bool,
    pub returns_deleted: bool,
    pub in_category_all: bool,
}

/// Returns the strategy of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rules {
    Generic,
    ConfigMap,
    CustomResourceDefinition,
    EndpointSlice,
    Event,
    Lease,
    Namespace,
    Node,
    Pod,
    Rbac,
    Secret,
    Service,
    ServiceCidr,
}

impl Builtin {
    /// Returns the registry entry.
    pub(crate) fn resource(&'static self, store: &mut Store) -> Resource {
        let own = |text: &[&str]| text.iter().map(|text| (*text).to_owned()).collect();
        let qualified = if self.group.is_empty() {
            self.plural.into()
        } else {
            format!("{}.{}", self.plural, self.group)
        };
        Resource {
            group: self.group.into(),
            version: self.version.into(),
            plural: self.plural.into(),
            singular: self.singular.into(),
            kind: self.kind.into(),
            list_kind: format!("{}List", self.kind),
            short_names: own(self.short_names),
            categories: if self.traits.in_category_all { vec!["all".into()] } else { Vec::new() },
            namespaced: self.namespaced,
            has_status: self.traits.status,
            has_generation: self.traits.generation,
            unconditional_update: !self.traits.conditional,
            create_on_update: self.traits.create_on_update,
            returns_deleted: self.traits.returns_deleted,
            fields: own(self.fields),
            shape: shapes::of(self.rules, self.plural),
            table: store.table(self.table.unwrap_or(&qualified)),
            strategy: Strategy::Builtin(self),
        }
    }
}

fn typed<T: DeserializeOwned + Serialize>(value: Value) -> Result<Value, serde_json::Error> {
    serde_json::to_value(serde_json::from_value::<T>(value)?)
}

const NONE: Traits = Traits {
    status: false,
    generation: false,
    conditional: false,
    create_on_update: false,
    returns_deleted: false,
    in_category_all: false,
};
const STATUS: Traits = Traits { status: true, ..NONE };
const WORKLOAD: Traits = Traits { generation: true, in_category_all: true, ..STATUS };

const fn kind(
    (group, version): (&'static str, &'static str),
    (plural, singular, kind): (&'static str, &'static str, &'static str),
    short_names: &'static [&'static str],
    namespaced: bool,
    decode: fn(Value) -> Result<Value, serde_json::Error>,
) -> Builtin {
    Builtin {
        group,
        version,
        plural,
        singular,
        kind,
        short_names,
        namespaced,
        traits: NONE,
        fields: &[],
        rules: Rules::Generic,
        decode,
        inward: None,
        outward: None,
        table: None,
    }
}

const EVENT_FIELDS: &[&str] = &[
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source",
    "type",
];

const V1: (&str, &str) = ("", "v1");
const APPS: (&str, &str) = ("apps", "v1");
const ADMISSION: (&str, &str) = ("admissionregistration.k8s.io", "v1");
const RBAC: (&str, &str) = ("rbac.authorization.k8s.io", "v1");

/// All kinds, core first.
pub(crate) static BUILTIN: &[Builtin] = &[
    Builtin {
        rules: Rules::ConfigMap,
        ..kind(V1, ("configmaps", "configmap", "ConfigMap"), &["cm"], true, typed::<core::v1::ConfigMap>)
    },
    Builtin {
        rules: Rules::Event,
        fields: EVENT_FIELDS,
        traits: Traits { create_on_update: true, ..NONE },
        ..kind(V1, ("events", "event", "Event"), &["ev"], true, typed::<core::v1::Event>)
    },
    Builtin {
        rules: Rules::Namespace,
        traits: STATUS,
        fields: &["status.phase"],
        ..kind(V1, ("namespaces", "namespace", "Namespace"), &["ns"], false, typed::<core::v1::Namespace>)
    },
    Builtin {
        rules: Rules::Node,
        traits: STATUS,
        fields: &["spec.unschedulable"],
        ..kind(V1, ("nodes", "node", "Node"), &["no"], false, typed::<core::v1::Node>)
    },
    Builtin {
        rules: Rules::Pod,
        traits: Traits { in_category_all: true, returns_deleted: true, ..STATUS },
        fields: &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        ..kind(V1, ("pods", "pod", "Pod"), &["po"], true, typed::<core::v1::Pod>)
    },
    Builtin {
        rules: Rules::Secret,
        fields: &["type"],
        ..kind(V1, ("secrets", "secret", "Secret"), &[], true, typed::<core::v1::Secret>)
    },
    Builtin {
        traits: Traits { returns_deleted: true, ..NONE },
        ..kind(
            V1,
            ("serviceaccounts", "serviceaccount", "ServiceAccount"),
            &["sa"],
            true,
            typed::<core::v1::ServiceAccount>,
        )
    },
    Builtin {
        rules: Rules::Service,
        traits: Traits { in_category_all: true, create_on_update: true, returns_deleted: true, ..STATUS },
        fields: &["spec.clusterIP", "spec.type"],
        ..kind(V1, ("services", "service", "Service"), &["svc"], true, typed::<core::v1::Service>)
    },
    Builtin {
        traits: WORKLOAD,
        ..kind(APPS, ("daemonsets", "daemonset", "DaemonSet"), &["ds"], true, typed::<apps::v1::DaemonSet>)
    },
    Builtin {
        traits: WORKLOAD,
        ..kind(
            APPS,
            ("deployments", "deployment", "Deployment"),
            &["deploy"],
            true,
            typed::<apps::v1::Deployment>,
        )
    },
    Builtin {
        rules: Rules::Lease,
        traits: Traits { create_on_update: true, conditional: true, ..NONE },
        ..kind(
            ("coordination.k8s.io", "v1"),
            ("leases", "lease", "Lease"),
            &[],
            true,
            typed::<coordination::v1::Lease>,
        )
    },
    Builtin {
        rules: Rules::EndpointSlice,
        traits: Traits { generation: true, ..NONE },
        ..kind(
            ("discovery.k8s.io", "v1"),
            ("endpointslices", "endpointslice", "EndpointSlice"),
            &[],
            true,
            typed::<discovery::v1::EndpointSlice>,
        )
    },
    Builtin {
        rules: Rules::Event,
        traits: Traits { create_on_update: true, ..NONE },
        fields: EVENT_FIELDS,
        inward: Some(event::inward),
        outward: Some(event::outward),
        table: Some("events"),
        ..kind(
            ("events.k8s.io", "v1"),
            ("events", "event", "Event"),
            &["ev"],
            true,
            typed::<events::v1::Event>,
        )
    },
    Builtin {
        traits: Traits { generation: true, ..NONE },
        ..kind(
            ("networking.k8s.io", "v1"),
            ("networkpolicies", "networkpolicy", "NetworkPolicy"),
            &["netpol"],
            true,
            typed::<networking::v1::NetworkPolicy>,
        )
    },
    Builtin {
        rules: Rules::ServiceCidr,
        traits: STATUS,
        ..kind(
            ("networking.k8s.io", "v1"),
            ("servicecidrs", "servicecidr", "ServiceCIDR"),
            &[],
            false,
            typed::<networking::v1::ServiceCIDR>,
        )
    },
    Builtin {
        traits: Traits { generation: true, ..STATUS },
        ..kind(
            ("policy", "v1"),
            ("poddisruptionbudgets", "poddisruptionbudget", "PodDisruptionBudget"),
            &["pdb"],
            true,
            typed::<policy::v1::PodDisruptionBudget>,
        )
    },
    Builtin {
        traits: Traits { generation: true, ..STATUS },
        ..kind(
            ADMISSION,
            ("validatingadmissionpolicies", "validatingadmissionpolicy", "ValidatingAdmissionPolicy"),
            &[],
            false,
            typed::<admissionregistration::v1::ValidatingAdmissionPolicy>,
        )
    },
    Builtin {
        traits: Traits { generation: true, ..NONE },
        ..kind(
            ADMISSION,
            (
                "validatingadmissionpolicybindings",
                "validatingadmissionpolicybinding",
                "ValidatingAdmissionPolicyBinding",
            ),
            &[],
            false,
            typed::<admissionregistration::v1::ValidatingAdmissionPolicyBinding>,
        )
    },
    Builtin {
        rules: Rules::Rbac,
        ..kind(
            RBAC,
            ("clusterrolebindings", "clusterrolebinding", "ClusterRoleBinding"),
            &[],
            false,
            typed::<rbac::v1::ClusterRoleBinding>,
        )
    },
    Builtin {
        rules: Rules::Rbac,
        ..kind(
            RBAC,
            ("clusterroles", "clusterrole", "ClusterRole"),
            &[],
            false,
            typed::<rbac::v1::ClusterRole>,
        )
    },
    Builtin {
        rules: Rules::Rbac,
        ..kind(
            RBAC,
            ("rolebindings", "rolebinding", "RoleBinding"),
            &[],
            true,
            typed::<rbac::v1::RoleBinding>,
        )
    },
    Builtin {
        rules: Rules::Rbac,
        ..kind(RBAC, ("roles", "role", "Role"), &[], true, typed::<rbac::v1::Role>)
    },
    Builtin {
        rules: Rules::CustomResourceDefinition,
        traits: Traits { generation: true, conditional: true, ..STATUS },
        ..kind(
            ("apiextensions.k8s.io", "v1"),
            ("customresourcedefinitions", "customresourcedefinition", "CustomResourceDefinition"),
            &["crd", "crds"],
            false,
            typed::<apiextensions::v1::CustomResourceDefinition>,
        )
    },
];
