//! Services: fields that a cluster sets, keeps, clears and rejects.

use serde_json::{Value, json};

use crate::context::{Context, refused};

fn value(object: impl serde::Serialize) -> Value {
    serde_json::to_value(object).unwrap()
}

fn balancer() -> Value {
    json!({ "type": "LoadBalancer", "selector": { "app": "web" }, "ports": [{ "port": 80 }] })
}

pub(crate) async fn load_balancer_gets_cluster_defaults(context: Context) {
    let service = value(context.create_service("web", balancer()).await);
    let spec = &service["spec"];
    assert!(spec["clusterIP"].as_str().unwrap().parse::<std::net::IpAddr>().is_ok());
    assert_eq!(spec["clusterIPs"], json!([spec["clusterIP"]]));
    assert_eq!(spec["ipFamilies"], json!(["IPv4"]));
    assert_eq!(spec["ipFamilyPolicy"], "SingleStack");
    assert_eq!(spec["sessionAffinity"], "None");
    assert_eq!(spec["externalTrafficPolicy"], "Cluster");
    assert_eq!(spec["internalTrafficPolicy"], "Cluster");
    assert_eq!(spec["allocateLoadBalancerNodePorts"], true);
    let port = &spec["ports"][0];
    assert_eq!((&port["protocol"], &port["targetPort"]), (&json!("TCP"), &json!(80)));
    assert!((30000..=32767).contains(&port["nodePort"].as_i64().unwrap()));
    assert_eq!(service["status"]["loadBalancer"], json!({}));
    for field in ["uid", "creationTimestamp", "resourceVersion"] {
        assert!(service["metadata"][field].is_string(), "{field}");
    }
}

pub(crate) async fn omitted_addresses_and_ports_are_kept(context: Context) {
    let created = value(context.create_service("web", balancer()).await);
    let mut replacement = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web" }, "spec": balancer(),
    });
    replacement["metadata"]["resourceVersion"] = created["metadata"]["resourceVersion"].clone();
    replacement["spec"]["sessionAffinity"] = json!("ClientIP");
    let path = format!("/api/v1/namespaces/{}/services/web", context.namespace);
    let json = [("content-type", "application/json")];
    let replaced = context.request("PUT", &path, &json, replacement).await.unwrap();
    assert_eq!(replaced["spec"]["clusterIPs"], created["spec"]["clusterIPs"]);
    assert_eq!(replaced["spec"]["ports"][0]["nodePort"], created["spec"]["ports"][0]["nodePort"]);
    assert_eq!(replaced["spec"]["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"], 10800);
}

pub(crate) async fn type_change_clears_fields_of_old_type(context: Context) {
    let mut spec = balancer();
    spec["loadBalancerClass"] = json!("example.dev/class");
    let created = value(context.create_service("web", spec).await);
    context
        .merge_status("web", json!({ "status": { "loadBalancer": { "ingress": [{ "ip": "192.0.2.1" }] } } }))
        .await
        .unwrap();
    let changed =
        value(context.merge_service("web", json!({ "spec": { "type": "ClusterIP" } })).await.unwrap());
    assert_eq!(changed["status"]["loadBalancer"], json!({}));
    let spec = &changed["spec"];
    assert_eq!(spec["clusterIP"], created["spec"]["clusterIP"]);
    for field in ["allocateLoadBalancerNodePorts", "loadBalancerClass", "externalTrafficPolicy"] {
        assert_eq!(spec[field], Value::Null, "{field}");
    }
    assert_eq!(spec["ports"][0]["nodePort"], Value::Null);

    let patch = json!({ "spec": { "type": "ExternalName", "externalName": "example.org" } });
    let external = value(context.merge_service("web", patch).await.unwrap());
    for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        assert_eq!(external["spec"][field], Value::Null, "{field}");
    }
}

pub(crate) async fn dual_stack_follows_family_policy(context: Context) {
    let mut spec = balancer();
    spec["ipFamilyPolicy"] = json!("PreferDualStack");
    let dual = value(context.create_service("dual", spec).await);
    assert_eq!(dual["spec"]["ipFamilies"], json!(["IPv4", "IPv6"]));
    assert_eq!(dual["spec"]["clusterIPs"].as_array().unwrap().len(), 2);

    let patch = json!({ "spec": { "ipFamilyPolicy": "SingleStack" } });
    let single = value(context.merge_service("dual", patch).await.unwrap());
    assert_eq!(single["spec"]["ipFamilies"], json!(["IPv4"]));
    assert_eq!(single["spec"]["clusterIPs"], json!([dual["spec"]["clusterIP"]]));

    let patch = json!({ "spec": { "ipFamilyPolicy": "RequireDualStack" } });
    let again = value(context.merge_service("dual", patch).await.unwrap());
    assert_eq!(again["spec"]["clusterIPs"][0], dual["spec"]["clusterIP"]);
    assert_eq!(again["spec"]["clusterIPs"].as_array().unwrap().len(), 2);

    let mut spec = balancer();
    spec["ipFamilies"] = json!(["IPv6"]);
    let six = value(context.create_service("six", spec).await);
    assert_eq!(six["spec"]["ipFamilyPolicy"], "SingleStack");
    assert!(six["spec"]["clusterIP"].as_str().unwrap().contains(':'));

    let spec = json!({ "clusterIP": "None", "selector": { "a": "b" }, "ports": [{ "port": 80 }] });
    let headless = value(context.create_service("headless", spec).await);
    assert_eq!(headless["spec"]["clusterIPs"], json!(["None"]));
}

pub(crate) async fn node_ports_are_optional(context: Context) {
    let mut spec = balancer();
    spec["allocateLoadBalancerNodePorts"] = json!(false);
    let service = value(context.create_service("web", spec).await);
    assert_eq!(service["spec"]["ports"][0]["nodePort"], Value::Null);
    assert_eq!(service["spec"]["allocateLoadBalancerNodePorts"], false);
}

pub(crate) async fn local_policy_gets_health_check_port(context: Context) {
    let mut spec = balancer();
    spec["externalTrafficPolicy"] = json!("Local");
    let local = value(context.create_service("web", spec).await);
    assert!(local["spec"]["healthCheckNodePort"].as_i64().unwrap() >= 30000);
    let patch = json!({ "spec": { "externalTrafficPolicy": "Cluster" } });
    let cluster = value(context.merge_service("web", patch).await.unwrap());
    assert_eq!(cluster["spec"]["healthCheckNodePort"], Value::Null);
}

pub(crate) async fn load_balancer_class_is_immutable(context: Context) {
    let mut spec = balancer();
    spec["loadBalancerClass"] = json!("example.dev/one");
    context.create_service("web", spec).await;
    let patch = json!({ "spec": { "loadBalancerClass": "example.dev/two" } });
    let status = refused(context.merge_service("web", patch).await);
    assert_eq!((status.code, status.reason.as_str()), (422, "Invalid"));
    assert!(status.message.contains("spec.loadBalancerClass"), "{}", status.message);
}

pub(crate) async fn invalid_service_names_each_field(context: Context) {
    for (spec, field) in [
        (json!({ "type": "LoadBalancer" }), "spec.ports"),
        (json!({ "type": "Nonsense", "ports": [{ "port": 80 }] }), "spec.type"),
        (json!({ "ports": [{ "port": 0 }] }), "spec.ports[0].port"),
        (json!({ "ports": [{ "port": 80 }, { "port": 81 }] }), "spec.ports[0].name"),
        (json!({ "ports": [{ "port": 80, "name": "a" }, { "port": 80, "name": "b" }] }), "spec.ports[1]"),
        (json!({ "ports": [{ "port": 80, "protocol": "ICMP" }] }), "spec.ports[0].protocol"),
        (
            json!({ "type": "ClusterIP", "ports": [{ "port": 80 }], "externalTrafficPolicy": "Local" }),
            "spec.externalTrafficPolicy",
        ),
        (json!({ "ports": [{ "port": 80 }], "loadBalancerClass": "a/b" }), "spec.loadBalancerClass"),
        (
            json!({ "type": "LoadBalancer", "clusterIP": "None", "ports": [{ "port": 80 }] }),
            "spec.clusterIPs[0]",
        ),
    ] {
        let status = refused(context.try_create_service("web", spec.clone()).await);
        assert_eq!((status.code, status.reason.as_str()), (422, "Invalid"), "{spec}");
        let causes = status.details.unwrap().causes;
        assert!(causes.iter().any(|cause| cause.field == field), "{spec}: {causes:?}");
    }
    let status = refused(context.try_create_service("Not_A_Name", balancer()).await);
    assert_eq!(status.details.unwrap().causes[0].field, "metadata.name");
}

pub(crate) async fn cluster_ip_belongs_to_one_service(context: Context) {
    let first = context.create_service("one", balancer()).await;
    let taken = first.spec.unwrap().cluster_ip.unwrap();
    let mut spec = balancer();
    spec["clusterIP"] = json!(taken);
    let status = refused(context.try_create_service("two", spec.clone()).await);
    assert_eq!(status.code, 422);
    assert!(status.message.contains("already allocated"), "{}", status.message);
    context.services().delete("one", &Default::default()).await.unwrap();
    assert_eq!(context.create_service("two", spec).await.spec.unwrap().cluster_ip.unwrap(), taken);
}
