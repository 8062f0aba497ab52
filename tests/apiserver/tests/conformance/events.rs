//! Events: one storage under two API groups.

use k8s_openapi::api::core::v1::Event as CoreEvent;
use k8s_openapi::api::events::v1::Event;
use kube::api::{ListParams, PostParams};
use kube::runtime::events::{Event as Published, EventType, Recorder, Reporter};
use kube::{Resource, ResourceExt};
use serde_json::json;

use crate::context::{Context, why};

fn event(context: &Context, name: &str, about: &str) -> Event {
    serde_json::from_value(json!({
        "metadata": { "name": name },
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingController": "fairlead-controller",
        "reportingInstance": "one",
        "action": "Allocate",
        "reason": "PoolExhausted",
        "type": "Warning",
        "note": "no address is left",
        "regarding": { "apiVersion": "v1", "kind": "Service", "name": about, "namespace": context.namespace },
    }))
    .unwrap()
}

pub(crate) async fn both_event_versions_show_same_events(context: Context) {
    context.api::<Event>().create(&PostParams::default(), &event(&context, "e", "web")).await.unwrap();
    let core = context.api::<CoreEvent>().get("e").await.unwrap();
    assert_eq!(core.message.as_deref(), Some("no address is left"));
    assert_eq!(core.involved_object.name.as_deref(), Some("web"));
    assert_eq!(core.reporting_component.as_deref(), Some("fairlead-controller"));
    let modern = context.api::<Event>().get("e").await.unwrap();
    assert_eq!(modern.note.as_deref(), Some("no address is left"));

    let mut bad = event(&context, "bad", "web");
    bad.reporting_controller = None;
    let refusal = why(context.api::<Event>().create(&PostParams::default(), &bad).await);
    assert_eq!(refusal, (422, "Invalid".into()));
}

pub(crate) async fn events_are_selected_by_involved_object(context: Context) {
    for (name, about) in [("a", "web"), ("b", "db")] {
        context.api::<Event>().create(&PostParams::default(), &event(&context, name, about)).await.unwrap();
    }
    let params = ListParams::default().fields("involvedObject.name=web,reason=PoolExhausted,type=Warning");
    let events = context.api::<CoreEvent>().list(&params).await.unwrap();
    assert_eq!(events.iter().map(ResourceExt::name_any).collect::<Vec<_>>(), ["a"]);
}

pub(crate) async fn event_recorder_creates_one_event_with_count(context: Context) {
    let service = context.create_service("web", json!({ "ports": [{ "port": 80 }] })).await;
    let reporter = Reporter { controller: "fairlead-controller".into(), instance: Some("one".into()) };
    let recorder = Recorder::new(context.client.clone(), reporter);
    let published = Published {
        type_: EventType::Warning,
        reason: "PoolExhausted".into(),
        note: Some("no address is left".into()),
        action: "Allocate".into(),
        secondary: None,
    };
    for _ in 0..3 {
        recorder.publish(&published, &service.object_ref(&())).await.unwrap();
    }
    let events = context.api::<Event>().list(&ListParams::default()).await.unwrap().items;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].series.as_ref().map(|series| series.count), Some(3));
}
