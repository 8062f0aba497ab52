//! Watches of an API server that misbehaves, in simulated time.

use std::cell::RefCell;
use std::convert::Infallible;
use std::io::Write;
use std::sync::{Arc, Mutex, Once};

use axum::body::Bytes;
use axum::http::{Request as Asked, Response};
use futures::stream;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::client::Body;
use serde_json::json;
use tower::service_fn;

use super::*;

/// What the server does with a request.
#[derive(Clone)]
enum Answer {
    /// Nothing.
    Never,
    /// This status, with `Retry-After`.
    Refused(u16, Option<u64>),
    /// A list with this resourceVersion.
    List(u32),
    /// A watch: after so many seconds each line, and then its end, or silence for ever.
    Watch(Vec<(u64, String)>, Then),
}

#[derive(Clone, Copy, PartialEq)]
enum Then {
    Ends,
    Silent,
}

fn event(type_: &str, version: u32) -> String {
    let object = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": "x", "resourceVersion": version.to_string() },
    });
    json!({ "type": type_, "object": object }).to_string()
}

fn expired() -> String {
    json!({ "type": "ERROR", "object": { "kind": "Status", "code": 410, "reason": "Expired" } }).to_string()
}

impl Answer {
    async fn give(self) -> Response<axum::body::Body> {
        match self {
            Self::Never => std::future::pending().await,
            Self::Refused(status, retry_after) => {
                let mut response = Response::builder().status(status);
                if let Some(seconds) = retry_after {
                    response = response.header("Retry-After", seconds);
                }
                response.body("busy".into()).unwrap()
            }
            Self::List(version) => {
                let metadata = json!({ "resourceVersion": version.to_string() });
                let list =
                    json!({ "kind": "ConfigMapList", "apiVersion": "v1", "metadata": metadata, "items": [] });
                Response::new(list.to_string().into())
            }
            Self::Watch(lines, then) => {
                let lines = stream::iter(lines).then(|(after, line)| async move {
                    sleep(Duration::from_secs(after)).await;
                    Ok::<_, Infallible>(Bytes::from(line + "\n"))
                });
                let rest = stream::once(async move {
                    if then == Then::Silent {
                        std::future::pending::<()>().await;
                    }
                    Ok(Bytes::new())
                });
                Response::new(axum::body::Body::from_stream(lines.chain(rest)))
            }
        }
    }
}

thread_local! {
    /// What this thread has logged, which is what its test has.
    static LOGGED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

struct Logged;

impl Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOGGED.with_borrow_mut(|logged| logged.write(bytes))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Keeps what is logged from now on. For all threads at once: a place that has logged where nobody listened stays dumb.
fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| tracing_subscriber::fmt().with_ansi(false).with_writer(|| Logged).init());
    LOGGED.take();
}

/// How many lines say this.
fn logged(what: &str) -> usize {
    LOGGED
        .with_borrow(|text| String::from_utf8_lossy(text).lines().filter(|line| line.contains(what)).count())
}

/// What a server was asked, at which second: `list`, or the resourceVersion from which to watch.
type Log = Arc<Mutex<Vec<(u64, String)>>>;

/// Follows what a server shows that answers as `answer` says, given the time in seconds and what is asked; for so many
/// seconds.
async fn followed(
    seconds: u64,
    answer: impl Fn(u64, &str) -> Answer + Clone + Send + Sync + 'static,
) -> Vec<(u64, String)> {
    listen();
    let (log, began) = (Log::default(), Instant::now());
    let asked = log.clone();
    let service = service_fn(move |request: Asked<Body>| {
        let (query, now) = (request.uri().query().unwrap_or_default(), began.elapsed().as_secs());
        let version = query.rsplit("resourceVersion=").next().unwrap_or_default();
        let what = if query.contains("watch=true") { version } else { "list" }.to_owned();
        let answer = answer(now, &what);
        asked.lock().unwrap().push((now, what));
        async move { Ok::<_, Infallible>(answer.give().await) }
    });
    let api = Api::<ConfigMap>::all(Client::new(service, "default"));
    let (sink, mut changes) = mpsc::channel(16);
    let follow = follow(api, config(), |object| object, |change| change, sink);
    let _ = timeout(Duration::from_secs(seconds), async {
        tokio::join!(follow, async { while changes.recv().await.is_some() {} })
    })
    .await;
    log.lock().unwrap().clone()
}

fn lists(log: &[(u64, String)]) -> usize {
    log.iter().filter(|(_, what)| what == "list").count()
}

fn watches(log: &[(u64, String)]) -> usize {
    log.len() - lists(log)
}

const HOUR: u64 = 3600;

#[tokio::test(start_paused = true)]
async fn a_list_that_is_never_answered_is_asked_for_again() {
    let log = followed(HOUR, |_, _| Answer::Never).await;
    // After 60 s and a pause of at most 5 s each.
    assert!((55..=60).contains(&lists(&log)), "{log:?}");
}

#[tokio::test(start_paused = true)]
async fn a_watch_whose_start_is_never_answered_is_begun_again_without_a_list() {
    let log = followed(HOUR, |_, what| if what == "list" { Answer::List(1) } else { Answer::Never }).await;
    assert_eq!(lists(&log), 1);
    assert!((55..=60).contains(&watches(&log)), "{log:?}");
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_falls_silent_is_resumed_where_it_was() {
    let log = followed(1000, |_, what| match what {
        "list" => Answer::List(1),
        "1" => Answer::Watch(vec![(5, event("ADDED", 2)), (60, event("BOOKMARK", 7))], Then::Silent),
        _ => Answer::Watch(vec![], Then::Silent),
    })
    .await;
    let expected: Vec<_> = (0..10).map(|n| (155 + n * 91, "7".to_owned())).collect();
    assert_eq!(log[..2], [(0, "list".to_owned()), (0, "1".to_owned())]);
    assert_eq!(log[2..], expected[..]);
}

#[tokio::test(start_paused = true)]
async fn a_quiet_watch_goes_on_as_long_as_bookmarks_come() {
    let log = followed(HOUR, |now, what| match what {
        "list" => Answer::List(1),
        // The API server ends it after 290 s.
        _ => {
            let mut lines: Vec<_> = (0..4).map(|n| (60, event("BOOKMARK", n + 2))).collect();
            lines.push((48, event("BOOKMARK", u32::try_from(now).unwrap() + 10)));
            Answer::Watch(lines, Then::Ends)
        }
    })
    .await;
    assert_eq!((lists(&log), watches(&log)), (1, 13), "{log:?}");
}

#[tokio::test(start_paused = true)]
async fn watches_that_end_at_once_are_begun_less_and_less() {
    for lines in [vec![], vec![(0, event("BOOKMARK", 2))]] {
        let log = followed(60, move |_, what| match what {
            "list" => Answer::List(1),
            _ => Answer::Watch(lines.clone(), Then::Ends),
        })
        .await;
        assert_eq!(lists(&log), 1);
        assert!((12..=26).contains(&watches(&log)), "{log:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_lived_for_a_while_is_resumed_at_once() {
    let log = followed(3, |_, what| match what {
        "list" => Answer::List(1),
        "1" => Answer::Watch(vec![(2, event("BOOKMARK", 2))], Then::Ends),
        // Not for long, but something came.
        "2" => Answer::Watch(vec![(0, event("MODIFIED", 3))], Then::Ends),
        _ => Answer::Watch(vec![], Then::Silent),
    })
    .await;
    let expected = [(0, "list"), (0, "1"), (2, "2"), (2, "3")].map(|(at, what)| (at, what.to_owned()));
    assert_eq!(log, expected);
}

#[tokio::test(start_paused = true)]
async fn refused_lists_are_asked_for_less_and_less() {
    let log = followed(60, |_, _| Answer::Refused(500, None)).await;
    // 0.5, 1, 2, 4 and then 5 s, times 0.5 to 1.
    assert!((14..=26).contains(&lists(&log)), "{log:?}");
}

#[tokio::test(start_paused = true)]
async fn refused_lists_wait_as_long_as_the_api_server_asks() {
    let log = followed(60, |_, _| Answer::Refused(429, Some(20))).await;
    assert_eq!(lists(&log), 3, "{log:?}");
}

#[tokio::test(start_paused = true)]
async fn lists_whose_watch_is_expired_at_once_are_asked_for_less_and_less() {
    let log = followed(60, |_, what| match what {
        "list" => Answer::List(1),
        _ => Answer::Watch(vec![(0, expired())], Then::Ends),
    })
    .await;
    assert!((12..=26).contains(&lists(&log)), "{log:?}");
}

#[tokio::test(start_paused = true)]
async fn of_every_outage_the_begin_and_the_end_are_said_once_even_without_a_list() {
    let log = followed(600, |now, what| match (now, what) {
        (_, "list") => Answer::List(1),
        // Every other minute the API server refuses.
        (now, _) if now / 60 % 2 == 1 => Answer::Refused(503, None),
        _ => Answer::Watch(vec![(10, event("BOOKMARK", 2))], Then::Ends),
    })
    .await;
    assert_eq!(lists(&log), 1);
    assert_eq!((logged("watch failed"), logged("watch works again")), (5, 4));
}

#[tokio::test(start_paused = true)]
async fn an_object_that_cannot_be_read_does_not_hold_up_what_comes_after() {
    let log = followed(120, |_, what| match what {
        "list" => Answer::List(1),
        "1" => {
            let nonsense = json!({ "type": "ADDED", "object": { "metadata": [] } }).to_string();
            Answer::Watch(vec![(0, nonsense), (0, event("ADDED", 3))], Then::Ends)
        }
        _ => Answer::Watch(vec![], Then::Silent),
    })
    .await;
    assert_eq!(log[2].1, "3", "{log:?}");
}
