//! Events and an API server that takes them, or not.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::http::{Request as Asked, Response};
use fairlead_crds::model::service::ObjectKey;
use kube::client::Body as Sent;
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
fn a_note_is_cut_by_bytes_between_characters() {
    assert_eq!(note("short"), "short");
    assert_eq!(note(&"e".repeat(2000)).len(), 1024);
    assert_eq!(note(&"ü".repeat(600)).len(), 1024);
    assert_eq!(note(&format!("e{}", "ü".repeat(600))).len(), 1023);
    assert_eq!(note(&"€".repeat(342)).len(), 1023);
}

/// What an API server was asked: when, and for which Service.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<Vec<(Instant, String)>>>);

impl Server {
    /// The server answers as `answer` says, given how many requests there were before: status and `Retry-After`.
    fn start(&self, answer: impl Fn(usize) -> (u16, Option<u64>) + Clone + Send + 'static) -> Events {
        let asked = self.0.clone();
        let service = service_fn(move |request: Asked<Sent>| {
            let (asked, answer) = (asked.clone(), answer.clone());
            async move {
                let body = request.into_body().collect_bytes().await.unwrap();
                let object: Value = serde_json::from_slice(&body).unwrap();
                let mut asked = asked.lock().unwrap();
                let (status, retry_after) = answer(asked.len());
                asked.push((Instant::now(), object["regarding"]["name"].as_str().unwrap().to_owned()));
                let mut response = Response::builder().status(status);
                if let Some(seconds) = retry_after {
                    response = response.header("Retry-After", seconds);
                }
                Ok::<_, Infallible>(response.body(Body::from("{}")).unwrap())
            }
        });
        Events::start(Client::new(service, "default"))
    }

    fn asked(&self) -> Vec<(Instant, String)> {
        self.0.lock().unwrap().clone()
    }
}

async fn after(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn events_wait_while_the_api_server_is_overloaded_and_then_all_arrive() {
    let server = Server::default();
    let began = Instant::now();
    let busy = move |_| if began.elapsed().as_secs() < 60 { (429, Some(1)) } else { (201, None) };
    let events = server.start(busy);
    for n in 0..300 {
        assert!(events.send(event(&format!("s{n}"), "message")));
    }
    after(300).await;
    let asked = server.asked();
    let refused = asked.iter().filter(|(at, _)| at.duration_since(began).as_secs() < 60).count();
    assert!((8..=30).contains(&refused), "{refused} requests in the minute in which none was taken");
    let arrived: BTreeSet<_> = asked[refused..].iter().map(|(_, service)| service).collect();
    assert_eq!((arrived.len(), asked.len() - refused), (300, 300));
}
