//! Events against an API server that is overloaded.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::http::{Request, Response};
use fairlead_crds::model::service::ObjectKey;
use kube::client;
use serde_json::Value;
use tower::service_fn;

use super::*;
use fairlead_allocator::reconcile::AllocationReason;

fn event(name: &str, message: &str) -> ServiceEvent {
    ServiceEvent {
        service: ObjectKey { namespace: "a".into(), name: name.into() },
        uid: "u".into(),
        warning: false,
        reason: AllocationReason::Allocated,
        message: message.into(),
    }
}

#[test]
fn event_has_the_form_that_the_api_accepts() {
    let at = Timestamp::from_second(1).unwrap();
    for (message, octets) in
        [("short".to_owned(), 5), ("\u{fc}".repeat(600), 1023), ("\n".repeat(2000), 1023)]
    {
        let object = object(&event("s", &message), &"p".repeat(200), at);
        assert_eq!(object.note.unwrap().len(), octets);
        assert!(object.reporting_instance.unwrap().len() <= MAX_INSTANCE);
    }
    let object = object(&event("s", ""), "pod-1", at);
    assert_eq!(object.reporting_instance.as_deref(), Some("pod-1"));
    assert_eq!((object.action.as_deref(), object.reason.as_deref()), (Some("Allocate"), Some("Allocated")));
}

/// An API server that records its requests: the time and the Service.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<Vec<(Instant, String)>>>);

impl Server {
    /// Starts the server. `response` returns the status and `Retry-After` (s) of a response, given the number
    /// of earlier requests.
    fn start(&self, response: impl Fn(usize) -> (u16, Option<u64>) + Clone + Send + 'static) -> EventSender {
        let requests = self.0.clone();
        let service = service_fn(move |request: Request<client::Body>| {
            let (requests, response) = (requests.clone(), response.clone());
            async move {
                let body = request.into_body().collect_bytes().await.unwrap();
                let object: Value = serde_json::from_slice(&body).unwrap();
                let mut requests = requests.lock().unwrap();
                let (status, retry_after) = response(requests.len());
                requests.push((Instant::now(), object["regarding"]["name"].as_str().unwrap().to_owned()));
                let mut builder = Response::builder().status(status);
                if let Some(seconds) = retry_after {
                    builder = builder.header("Retry-After", seconds);
                }
                Ok::<_, Infallible>(builder.body(Body::from("{}")).unwrap())
            }
        });
        EventSender::start(Client::new(service, "default"), "pod-1".into())
    }

    fn requests(&self) -> Vec<(Instant, String)> {
        self.0.lock().unwrap().clone()
    }
}

async fn after(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn events_arrive_after_api_server_overload() {
    let server = Server::default();
    let began = Instant::now();
    let overloaded = move |_| if began.elapsed().as_secs() < 60 { (429, Some(1)) } else { (201, None) };
    let events = server.start(overloaded);
    for n in 0..300 {
        assert!(events.send(event(&format!("s{n}"), "message")));
    }
    after(300).await;
    let requests = server.requests();
    let rejected = requests.iter().filter(|(at, _)| at.duration_since(began).as_secs() < 60).count();
    assert!((8..=30).contains(&rejected), "{rejected} requests during the minute of overload");
    let arrived: BTreeSet<_> = requests[rejected..].iter().map(|(_, service)| service).collect();
    assert_eq!((arrived.len(), requests.len() - rejected), (300, 300));
}
