//! Fault injection.

use std::time::{Duration, Instant};

use axum::http::Request;
use fairlead_apiserver::{Fault, Outage};
use futures::StreamExt;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::client::Body;
use serde_json::{Value, json};

use crate::{code, configs, create, server};

const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn injected_failure_does_not_execute_request() {
    let server = server().await;
    let api = configs(&server).await;
    for status in [409, 429, 500, 503] {
        server.faults().fail(status, 1.0, &["create"], &["configmaps"]);
        assert_eq!(code(create(&api, "x").await), status);
        assert_eq!(code(api.get("x").await), 404);
        server.faults().clear();
    }
    create(&api, "x").await.unwrap();
}

#[tokio::test]
async fn overloaded_server_sends_retry_after_header_only() {
    let server = server().await;
    server.faults().add(Fault { status: Some(429), retry_after: Some(7), ..Fault::default() });
    let request = Request::get("/api/v1/namespaces/default/configmaps").body(Body::empty()).unwrap();
    let answer = server.client().await.unwrap().send(request).await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["retry-after"]), (429, &"7".parse().unwrap()));
    let text = answer.into_body().collect_bytes().await.unwrap();
    assert_eq!(text, "Too many requests, please try again later.\n");
}

#[tokio::test]
async fn policy_refuses_chosen_objects_only() {
    let server = server().await;
    let api = configs(&server).await;
    let why =
        "configmaps \"bad\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request";
    server.faults().refuse(&["configmaps"], &["default/bad*"], why);
    match create(&api, "bad-1").await {
        Err(kube::Error::Api(status)) => {
            assert_eq!((status.code, status.reason.as_str(), status.message.as_str()), (422, "Invalid", why));
        }
        other => panic!("{other:?}"),
    }
    create(&api, "good").await.unwrap();
}

#[tokio::test]
async fn request_without_seat_is_refused_at_once() {
    let server = server().await;
    let api = configs(&server).await;
    server.faults().add(Fault {
        verbs: vec!["create".into()],
        seats: Some(1),
        latency_ms: 300,
        ..Fault::default()
    });
    let (one, two) = tokio::join!(create(&api, "one"), create(&api, "two"));
    let mut codes = [code(one), code(two)];
    codes.sort_unstable();
    assert_eq!(codes, [200, 429]);
    create(&api, "three").await.unwrap();
}

#[tokio::test]
async fn bookmarks_are_sent_on_demand() {
    let server = server().await;
    let api = configs(&server).await;
    let version = api.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    server.faults().begin_with_bookmarks(2);
    let mut watch = api.watch(&WatchParams::default(), &version).await.unwrap().boxed();
    let mut next = async || tokio::time::timeout(SOON, watch.next()).await.unwrap().unwrap().unwrap();
    for _ in 0..2 {
        match next().await {
            WatchEvent::Bookmark(mark) => assert_eq!(mark.metadata.resource_version, version),
            other => panic!("{other:?}"),
        }
    }
    create(&api, "x").await.unwrap();
    assert!(matches!(next().await, WatchEvent::Added(_)));
    server.faults().send_bookmarks(3);
    for _ in 0..3 {
        assert!(matches!(next().await, WatchEvent::Bookmark(_)));
    }
}

#[tokio::test]
async fn latency_delays_responses() {
    let server = server().await;
    let api = configs(&server).await;
    let id = server.faults().latency(Duration::from_millis(200));
    let begin = Instant::now();
    create(&api, "x").await.unwrap();
    assert!(begin.elapsed() >= Duration::from_millis(200));
    server.faults().remove(id);
    assert!(server.faults().active().is_empty());
}

#[tokio::test]
async fn watches_close_expire_and_get_410() {
    let server = server().await;
    let api = configs(&server).await;
    let version = api.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    create(&api, "x").await.unwrap();

    let mut watch = api.watch(&WatchParams::default(), &version).await.unwrap().boxed();
    assert!(matches!(watch.next().await, Some(Ok(WatchEvent::Added(_)))));
    server.faults().close_watches();
    assert!(tokio::time::timeout(SOON, watch.next()).await.unwrap().is_none());

    let mut watch = api.watch(&WatchParams::default(), &version).await.unwrap().boxed();
    assert!(matches!(watch.next().await, Some(Ok(WatchEvent::Added(_)))));
    server.faults().expire_watches();
    match tokio::time::timeout(SOON, watch.next()).await.unwrap() {
        Some(Ok(WatchEvent::Error(status))) => assert_eq!(status.code, 410),
        other => panic!("{other:?}"),
    }

    create(&api, "y").await.unwrap();
    server.faults().compact();
    let mut watch = api.watch(&WatchParams::default(), &version).await.unwrap().boxed();
    match tokio::time::timeout(SOON, watch.next()).await.unwrap() {
        Some(Ok(WatchEvent::Error(status))) => assert_eq!(status.code, 410),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn continued_list_with_discarded_history_is_410() {
    let server = server().await;
    let api = configs(&server).await;
    for name in ["a", "b", "c"] {
        create(&api, name).await.unwrap();
    }
    let page = api.list(&ListParams::default().limit(1)).await.unwrap();
    create(&api, "d").await.unwrap();
    server.faults().compact();
    let token = page.metadata.continue_.unwrap();
    assert_eq!(code(api.list(&ListParams::default().limit(1).continue_token(&token)).await), 410);
}

#[tokio::test]
async fn refusing_server_returns_with_its_objects() {
    let server = server().await;
    let api = configs(&server).await;
    create(&api, "x").await.unwrap();
    let mut watch = api.watch(&WatchParams::default(), "0").await.unwrap().boxed();
    assert!(matches!(watch.next().await, Some(Ok(WatchEvent::Added(_)))));
    server.faults().outage(Outage::Refuse, Duration::from_secs(60));
    // The watch ends, and no request succeeds.
    assert!(!matches!(tokio::time::timeout(SOON, watch.next()).await.unwrap(), Some(Ok(_))));
    assert_eq!(code(api.get("x").await), 0);
    server.faults().end_outage();
    let deadline = Instant::now() + SOON;
    while code(api.get("x").await) != 200 {
        assert!(Instant::now() < deadline, "not back in time");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn outage_ends_after_its_duration() {
    let server = server().await;
    let api = configs(&server).await;
    server.faults().outage(Outage::Refuse, Duration::from_millis(200));
    let deadline = Instant::now() + SOON;
    while code(create(&api, "x").await) == 0 {
        assert!(Instant::now() < deadline, "not back in time");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(code(api.get("x").await), 200);
}

#[tokio::test]
async fn hanging_server_sends_no_response() {
    let server = server().await;
    let api = configs(&server).await;
    create(&api, "x").await.unwrap();
    server.faults().outage(Outage::Hang, Duration::from_secs(60));
    let asked = api.get("x");
    tokio::pin!(asked);
    assert!(tokio::time::timeout(Duration::from_millis(300), &mut asked).await.is_err());
    server.faults().end_outage();
    assert_eq!(code(tokio::time::timeout(SOON, asked).await.unwrap()), 200);
}

#[tokio::test]
async fn faults_are_controlled_over_http() {
    let server = server().await;
    let api = configs(&server).await;
    let client = server.client().await.unwrap();
    let send = |method: &'static str, path: &'static str, body: Value| {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let request = Request::builder().method(method).uri(path).body(body).unwrap();
        let client = client.clone();
        async move { client.request::<Value>(request).await }
    };
    let fault = json!({ "verbs": ["create"], "status": 429, "retryAfter": 7, "times": 1 });
    send("POST", "/faults", fault).await.unwrap();
    let listed = send("GET", "/faults", Value::Null).await.unwrap();
    assert_eq!(listed["faults"][0]["fault"]["status"], 429);
    assert_eq!(code(create(&api, "x").await), 429);
    create(&api, "x").await.unwrap();
    assert_eq!(server.faults().active(), vec![]);
    assert_eq!(code(send("POST", "/faults", json!({ "nonsense": 1 })).await), 400);

    send("POST", "/faults/outage", json!({ "mode": "refuse", "seconds": 60 })).await.unwrap();
    let deadline = Instant::now() + SOON;
    while code(api.get("x").await) != 0 {
        assert!(Instant::now() < deadline, "no outage in time");
        tokio::task::yield_now().await;
    }
    server.faults().end_outage();
    while code(api.get("x").await) != 200 {
        assert!(Instant::now() < deadline, "not back in time");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    send("POST", "/faults/bookmarks", json!({ "now": 1, "first": 2 })).await.unwrap();
    server.faults().add(Fault { probability: 0.0, ..Fault::default() });
    send("DELETE", "/faults", Value::Null).await.unwrap();
    assert_eq!(server.faults().active(), vec![]);
}
