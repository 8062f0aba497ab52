//! Printer columns of the built-in kinds.

use serde_json::{Value, json};

use super::table::{Cell, Column, age_of, at_path, shown};

/// `Name`, which all kinds have.
pub(crate) fn name() -> Column {
    Column {
        format: "name".into(),
        description: "Name must be unique within a namespace.".into(),
        ..column("Name", 0, |object| object["metadata"]["name"].clone())
    }
}

/// `Age`.
pub(crate) fn age() -> Column {
    column("Age", 0, |object| json!(age_of(&object["metadata"]["creationTimestamp"])))
}

/// Returns the columns of a built-in kind.
pub(crate) fn of(group: &str, plural: &str) -> Vec<Column> {
    let mut columns = vec![name()];
    match (group, plural) {
        ("", "services") => {
            columns.extend([
                column("Type", 0, |object| object["spec"]["type"].clone()),
                column("Cluster-IP", 0, |object| or_none(&object["spec"]["clusterIP"])),
                column("External-IP", 0, external_ip),
                column("Port(s)", 0, ports),
                age(),
                column("Selector", 1, |object| labels(&object["spec"]["selector"])),
            ]);
            return columns;
        }
        ("", "nodes") => {
            columns.extend([
                column("Status", 0, node_status),
                column("Roles", 0, roles),
                age(),
                column("Version", 0, |object| object["status"]["nodeInfo"]["kubeletVersion"].clone()),
                column("Internal-IP", 1, |object| node_address(object, "InternalIP")),
                column("External-IP", 1, |object| node_address(object, "ExternalIP")),
                column("OS-Image", 1, |object| or_unknown(&object["status"]["nodeInfo"]["osImage"])),
                column("Kernel-Version", 1, |object| {
                    or_unknown(&object["status"]["nodeInfo"]["kernelVersion"])
                }),
                column("Container-Runtime", 1, |object| {
                    or_unknown(&object["status"]["nodeInfo"]["containerRuntimeVersion"])
                }),
            ]);
            return columns;
        }
        ("", "events") | ("events.k8s.io", "events") => {
            return vec![
                column("Last Seen", 0, |object| json!(last_seen(object))),
                column("Type", 0, |object| object["type"].clone()),
                column("Reason", 0, |object| object["reason"].clone()),
                column("Object", 0, event_object),
                column("Subobject", 1, |object| {
                    either(object, "involvedObject", "regarding")["fieldPath"].clone()
                }),
                column("Source", 1, |object| {
                    either(object, "reportingComponent", "reportingController").clone()
                }),
                column("Message", 0, |object| either(object, "message", "note").clone()),
                column("First Seen", 1, |object| json!(age_of(&object["firstTimestamp"]))),
                column("Count", 1, |object| object["count"].clone()),
                column("Name", 1, |object| object["metadata"]["name"].clone()),
            ];
        }
        ("", "pods") => columns.extend([
            column("Ready", 0, |object| {
                let containers =
                    object["status"]["containerStatuses"].as_array().map(Vec::as_slice).unwrap_or_default();
                let ready = containers.iter().filter(|container| container["ready"] == true).count();
                let all = object["spec"]["containers"].as_array().map_or(0, Vec::len);
                json!(format!("{ready}/{all}"))
            }),
            column("Status", 0, |object| object["status"]["phase"].clone()),
            integer("Restarts", |object| {
                let containers = object["status"]["containerStatuses"].as_array().into_iter().flatten();
                json!(containers.filter_map(|container| container["restartCount"].as_i64()).sum::<i64>())
            }),
            age(),
            column("IP", 1, |object| or_none(&object["status"]["podIP"])),
            column("Node", 1, |object| or_none(&object["spec"]["nodeName"])),
        ]),
        ("", "namespaces") => {
            columns.extend([column("Status", 0, |object| object["status"]["phase"].clone()), age()])
        }
        ("", "secrets") => columns.extend([
            column("Type", 0, |object| object["type"].clone()),
            integer("Data", |object| json!(entries(&object["data"]))),
            age(),
        ]),
        ("", "configmaps") => columns.extend([
            integer("Data", |object| json!(entries(&object["data"]) + entries(&object["binaryData"]))),
            age(),
        ]),
        ("coordination.k8s.io", "leases") => {
            columns.extend([column("Holder", 0, |object| object["spec"]["holderIdentity"].clone()), age()]);
        }
        ("networking.k8s.io", "servicecidrs") => columns.extend([
            column("CIDRs", 0, |object| {
                let cidrs = object["spec"]["cidrs"].as_array().into_iter().flatten();
                cidrs.filter_map(Value::as_str).collect::<Vec<_>>().join(",").into()
            }),
            age(),
        ]),
        ("discovery.k8s.io", "endpointslices") => columns.extend([
            column("AddressType", 0, |object| object["addressType"].clone()),
            column("Ports", 0, |object| short_list(&at_path(object, ".ports[*].port"))),
            column("Endpoints", 0, |object| short_list(&at_path(object, ".endpoints[*].addresses[*]"))),
            age(),
        ]),
        ("apiextensions.k8s.io", _) => columns.push(Column {
            sort: "date".into(),
            ..column("Created At", 0, |object| object["metadata"]["creationTimestamp"].clone())
        }),
        ("apps", "deployments") => columns.extend([
            column("Ready", 0, |object| {
                let ready = object["status"]["readyReplicas"].as_i64().unwrap_or_default();
                json!(format!("{ready}/{}", object["spec"]["replicas"].as_i64().unwrap_or(1)))
            }),
            age(),
        ]),
        _ => columns.push(age()),
    }
    columns
}

fn column(name: &str, priority: i64, cell: fn(&Value) -> Value) -> Column {
    Column {
        name: name.into(),
        sort: "string".into(),
        format: String::new(),
        description: String::new(),
        priority,
        cell: Cell::Of(cell),
    }
}

fn integer(name: &str, cell: fn(&Value) -> Value) -> Column {
    Column { sort: "integer".into(), ..column(name, 0, cell) }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn or_none(value: &Value) -> Value {
    json!(if text(value).is_empty() { "<none>" } else { text(value) })
}

fn or_unknown(value: &Value) -> Value {
    json!(if text(value).is_empty() { "<unknown>" } else { text(value) })
}

fn entries(value: &Value) -> usize {
    value.as_object().map_or(0, serde_json::Map::len)
}

fn either<'a>(object: &'a Value, one: &str, other: &str) -> &'a Value {
    if object[one].is_null() { &object[other] } else { &object[one] }
}

fn labels(selector: &Value) -> Value {
    let pairs: Vec<String> = selector
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", text(value)))
        .collect();
    json!(if pairs.is_empty() { "<none>".into() } else { pairs.join(",") })
}

fn short_list(values: &[&Value]) -> Value {
    let shown: Vec<String> = values.iter().take(3).map(|value| shown(value)).collect();
    json!(match values.len() {
        0 => "<unset>".into(),
        1..=3 => shown.join(","),
        more => format!("{} + {} more...", shown.join(","), more - 3),
    })
}

fn external_ip(service: &Value) -> Value {
    let listed = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().map(|ip| text(ip).to_owned()).collect()
    };
    let mut ips = Vec::new();
    match text(&service["spec"]["type"]) {
        "ExternalName" => return or_none(&service["spec"]["externalName"]),
        "LoadBalancer" => {
            for ingress in service["status"]["loadBalancer"]["ingress"].as_array().into_iter().flatten() {
                let shown = [&ingress["ip"], &ingress["hostname"]]
                    .map(text)
                    .into_iter()
                    .find(|text| !text.is_empty());
                ips.extend(shown.map(str::to_owned));
            }
            ips.extend(listed(&service["spec"]["externalIPs"]));
            if ips.is_empty() {
                return json!("<pending>");
            }
        }
        _ => ips = listed(&service["spec"]["externalIPs"]),
    }
    json!(if ips.is_empty() { "<none>".into() } else { ips.join(",") })
}

fn ports(service: &Value) -> Value {
    let ports: Vec<String> = service["spec"]["ports"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|port| match port["nodePort"].as_i64() {
            Some(node_port) if node_port > 0 => {
                format!("{}:{node_port}/{}", port["port"], text(&port["protocol"]))
            }
            _ => format!("{}/{}", port["port"], text(&port["protocol"])),
        })
        .collect();
    json!(if ports.is_empty() { "<none>".into() } else { ports.join(",") })
}

fn node_status(node: &Value) -> Value {
    let ready =
        node["status"]["conditions"].as_array().into_iter().flatten().find(|one| one["type"] == "Ready");
    let mut status = match ready.map(|ready| text(&ready["status"])) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if node["spec"]["unschedulable"] == true {
        status.push_str(",SchedulingDisabled");
    }
    json!(status)
}

fn roles(node: &Value) -> Value {
    let labels = node["metadata"]["labels"].as_object();
    let roles: Vec<&str> = labels
        .into_iter()
        .flatten()
        .filter_map(|(key, _)| key.strip_prefix("node-role.kubernetes.io/"))
        .filter(|role| !role.is_empty())
        .collect();
    json!(if roles.is_empty() { "<none>".into() } else { roles.join(",") })
}

fn node_address(node: &Value, sort: &str) -> Value {
    let addresses = node["status"]["addresses"].as_array().into_iter().flatten();
    let found = addresses.filter(|address| address["type"] == sort).map(|address| &address["address"]).next();
    or_none(found.unwrap_or(&Value::Null))
}

fn last_seen(event: &Value) -> String {
    let times = [&event["series"]["lastObservedTime"], &event["lastTimestamp"], &event["eventTime"]];
    let time = times.into_iter().find(|time| !time.is_null());
    age_of(time.unwrap_or(&event["metadata"]["creationTimestamp"]))
}

fn event_object(event: &Value) -> Value {
    let about = either(event, "involvedObject", "regarding");
    json!(format!("{}/{}", text(&about["kind"]).to_lowercase(), text(&about["name"])))
}
