//! Objects that API servers store and that types cannot hold: of every watched kind, in a list, in a watch
//! and in the list after an expired watch.

use fairlead_crds::objects::{
    CustomResourceDefinition, DaemonSet, EndpointSlice, Node, Secret, Service, ServiceCIDR, Speaker,
};
use fairlead_crds::read::Custom;
use fairlead_crds::{configuration_kinds, v1beta1};
use serde_json::json;

use super::*;

/// Levels of nesting above the limit of serde_json, 128.
const DEEP: usize = 300;

/// Returns JSON with this number of nested objects.
fn nested(levels: usize) -> String {
    "{\"f:a\":".repeat(levels) + "{}" + &"}".repeat(levels)
}

/// Returns oddities, each as the text of the fields of an object after its name. `METADATA` stands for the
/// name and the resourceVersion.
fn oddities() -> Vec<(&'static str, String)> {
    let strange_times = [
        "null",
        "\"9999-12-31T23:59:59-12:00\"",
        "\"0000-01-01T00:00:00+12:00\"",
        "\"2026-01-01T00:00:00.1234567890123Z\"",
        "\"10000-01-01T11:59:59Z\"",
        "\"soon\"",
        "7",
    ];
    let mut all: Vec<(&str, String)> = Vec::new();
    for time in strange_times {
        let metadata = format!(
            r#""metadata": {{METADATA, "creationTimestamp": {time}, "deletionTimestamp": {time},
                "managedFields": [{{"manager": "x", "time": {time}}}]}}"#
        );
        all.push(("a time in the metadata", metadata));
        let status = format!(
            r#""metadata": {{METADATA}}, "status": {{"conditions": [{{"type": "a/Y", "status": "True",
                "lastTransitionTime": {time}, "lastHeartbeatTime": {time}}}]}}"#
        );
        all.push(("the time of a condition", status));
    }
    // The parts of metadata that a server may leave out, or write as null.
    for metadata in [
        r#""labels": null, "annotations": null, "finalizers": null, "ownerReferences": null,
           "managedFields": null, "uid": null, "generation": null, "namespace": null"#,
        r#""labels": {"a": 7}"#,
        r#""labels": [], "annotations": "none", "finalizers": {}, "managedFields": 7"#,
        r#""generation": -1e300, "uid": 7, "selfLink": [], "ownerReferences": 7, "generateName": {}"#,
        r#""finalizers": [null], "annotations": {"a": null}, "managedFields": [null, 7, {}]"#,
        r#""generation": 1e999"#,
    ] {
        all.push(("a field of the metadata", format!(r#""metadata": {{METADATA, {metadata}}}"#)));
    }
    let deep = nested(DEEP);
    for deep in [
        format!(r#""metadata": {{METADATA, "managedFields": [{{"manager": "x", "fieldsV1": {deep}}}]}}"#),
        format!(r#""metadata": {{METADATA}}, "spec": {{"unknown": {deep}}}"#),
        format!(r#""metadata": {{METADATA}}, "spec": {deep}, "status": {deep}, "data": {deep}"#),
        format!(r#""metadata": {{METADATA}}, "status": {{"conditions": [{{"type": "a/Y", "x": {deep}}}]}}"#),
        format!(r#""metadata": {{METADATA, "labels": {{"a": {deep}}}}}"#),
    ] {
        all.push(("deep nesting", deep));
    }
    for rest in [
        r#""spec": null, "status": null, "data": null, "endpoints": null, "ports": null, "addressType": null"#,
        r#""spec": 7, "status": "text", "data": [], "endpoints": "none", "ports": {}, "addressType": 4"#,
        r#""spec": [], "status": [], "data": {"key": 7}, "endpoints": [null, 7], "addressType": "IPv7""#,
        r#""status": {"conditions": null, "loadBalancer": null, "addresses": null}"#,
        r#""status": {"conditions": 7, "loadBalancer": {"ingress": [7]}, "addresses": [{"type": "New"}]}"#,
        r#""status": {"conditions": [7, null, "text", {"type": 7, "status": ["Unsure"]}]}"#,
        r#""status": {"conditions": [{"type": "a/Y", "status": "Unsure"}, {"type": "a/Y"}]}"#,
        r#""spec": {"type": "NewType", "ports": null, "addresses": null, "communities": null, "cidrs": null}"#,
        r#""spec": {"type": 7, "ports": [{}], "addresses": [7], "communities": [null], "cidrs": "all"}"#,
        r#""spec": {"reclaim": "Sometimes", "myASN": 1e300, "peerPort": -1, "receiveInterval": 1e999}"#,
        r#""kind": "Other", "apiVersion": "example.com/v9", "unknown": [{"a": [null]}]"#,
    ] {
        all.push(("a field outside of the metadata", format!(r#""metadata": {{METADATA}}, {rest}"#)));
    }
    all
}

/// Follows a server with objects of this kind, and checks that its odd objects hide neither others nor
/// their own names and deletions.
async fn check_kind<K: ReadObject>() {
    let kind = K::kind(&());
    let good = |name: &str| json!({ "metadata": { "name": name, "resourceVersion": "1" } }).to_string();
    for (oddity, fields) in oddities() {
        let odd = |name: &str| {
            let metadata = format!(r#""name": "{name}", "resourceVersion": "1""#);
            format!("{{{}}}", fields.replace("METADATA", &metadata))
        };
        let list = |items: &[String]| {
            format!(r#"{{"metadata": {{"resourceVersion": "1"}}, "items": [{}]}}"#, items.join(", "))
        };
        let line = |type_: &str, object: String| {
            format!("{{\"type\": \"{type_}\", \"object\": {}}}\n", object.replace('\n', " "))
        };
        let watch = [
            line("ADDED", odd("odd-watch")),
            line("ADDED", good("good-watch")),
            line("MODIFIED", odd("odd-list")),
            line("DELETED", odd("odd-watch")),
            line("MODIFIED", good("good-list")),
            expired() + "\n",
        ];
        let responses = vec![
            list(&[odd("odd-list"), good("good-list")]),
            watch.concat(),
            list(&[good("good-list"), odd("odd-relist"), good("good-relist")]),
            line("DELETED", odd("odd-relist")),
        ];
        let seen = names_of_follow::<K>(responses).await;
        let expected = [
            "=odd-list good-list",
            "+odd-watch",
            "+good-watch",
            "+odd-list",
            "-odd-watch",
            "+good-list",
            "=good-list odd-relist good-relist",
            "-odd-relist",
        ];
        assert_eq!(seen, expected, "{kind} with {oddity}: {fields:.300}");
    }
}

#[tokio::test(start_paused = true)]
async fn odd_objects_of_every_watched_kind_hide_nothing() {
    check_kind::<Service>().await;
    check_kind::<EndpointSlice>().await;
    check_kind::<Node>().await;
    check_kind::<Namespace>().await;
    check_kind::<ServiceCIDR>().await;
    check_kind::<Secret>().await;
    check_kind::<DaemonSet>().await;
    check_kind::<CustomResourceDefinition>().await;
    check_kind::<Speaker>().await;
    check_kind::<Custom<v1beta1::IPClaim>>().await;
    check_kind::<Custom<v1beta1::Speaker>>().await;
    macro_rules! check_configuration {
        ($($kind:ident => $field:ident,)*) => {$(check_kind::<Custom<v1beta1::$kind>>().await;)*};
    }
    configuration_kinds!(check_configuration);
}
