//! Watches of a faulty API server, in simulated time.

use std::cell::RefCell;
use std::convert::Infallible;
use std::io::Write;
use std::sync::{Arc, Mutex, Once};

use axum::body::Bytes;
use axum::http::{Request as HttpRequest, Response};
use futures::stream;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::client::Body;
use serde_json::json;
use tower::service_fn;

use super::*;

/// The response of the server to a request.
#[derive(Clone)]
enum Reply {
    /// No response.
    Never,
    /// This status, with `Retry-After` in seconds.
    Status(u16, Option<u64>),
    /// An empty list with this resourceVersion.
    List(u32),
    /// A watch that sends each line after so many seconds.
    Watch(Vec<(u64, String)>, StreamEnd),
}

#[derive(Clone, Copy, PartialEq)]
enum StreamEnd {
    Closes,
    Stalls,
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

impl Reply {
    async fn send(self) -> Response<axum::body::Body> {
        match self {
            Self::Never => std::future::pending().await,
            Self::Status(status, retry_after) => {
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
                    if then == StreamEnd::Stalls {
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
    /// The log of this thread, which runs one test.
    static LOGGED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOGGED.with_borrow_mut(|logged| logged.write(bytes))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Starts capturing the log of this thread. Applies to all threads at once: tracing caches that a log
/// statement has no subscriber.
fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| tracing_subscriber::fmt().with_ansi(false).with_writer(|| LogWriter).init());
    LOGGED.take();
}

/// Returns the number of log lines that contain this text.
fn logged(text: &str) -> usize {
    LOGGED.with_borrow(|log| String::from_utf8_lossy(log).lines().filter(|line| line.contains(text)).count())
}

/// The requests to the server: the second, and `list` or the resourceVersion to watch from.
type Log = Arc<Mutex<Vec<(u64, String)>>>;

/// Follows a server for so many seconds. `reply` returns the response to a request, given the second and the
/// request as in [`Log`]. Returns all requests.
async fn requests_of_follow(
    seconds: u64,
    reply: impl Fn(u64, &str) -> Reply + Clone + Send + Sync + 'static,
) -> Vec<(u64, String)> {
    listen();
    let (log, began) = (Log::default(), Instant::now());
    let requests = log.clone();
    let service = service_fn(move |request: HttpRequest<Body>| {
        let (query, now) = (request.uri().query().unwrap_or_default(), began.elapsed().as_secs());
        let version = query.rsplit("resourceVersion=").next().unwrap_or_default();
        let what = if query.contains("watch=true") { version } else { "list" }.to_owned();
        let reply = reply(now, &what);
        requests.lock().unwrap().push((now, what));
        async move { Ok::<_, Infallible>(reply.send().await) }
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
    log.iter().filter(|(_, request)| request == "list").count()
}

fn watches(log: &[(u64, String)]) -> usize {
    log.len() - lists(log)
}

const HOUR: u64 = 3600;

#[tokio::test(start_paused = true)]
async fn list_without_response_is_retried() {
    let log = requests_of_follow(HOUR, |_, _| Reply::Never).await;
    // Each retry follows after 60 s and a back-off of at most 5 s.
    assert!((55..=60).contains(&lists(&log)), "{log:?}");
}

#[tokio::test(start_paused = true)]
async fn watch_without_response_is_retried_without_list() {
    let log =
        requests_of_follow(HOUR, |_, request| if request == "list" { Reply::List(1) } else { Reply::Never })
            .await;
    assert_eq!(lists(&log), 1);
    assert!((55..=60).contains(&watches(&log)), "{log:?}");
}

#[tokio::test(start_paused = true)]
async fn silent_watch_is_resumed_from_its_version() {
    let log = requests_of_follow(1000, |_, request| match request {
        "list" => Reply::List(1),
        "1" => Reply::Watch(vec![(5, event("ADDED", 2)), (60, event("BOOKMARK", 7))], StreamEnd::Stalls),
        _ => Reply::Watch(vec![], StreamEnd::Stalls),
    })
    .await;
    let expected: Vec<_> = (0..10).map(|n| (155 + n * 91, "7".to_owned())).collect();
    assert_eq!(log[..2], [(0, "list".to_owned()), (0, "1".to_owned())]);
    assert_eq!(log[2..], expected[..]);
}

#[tokio::test(start_paused = true)]
async fn idle_watch_with_bookmarks_continues() {
    let log = requests_of_follow(HOUR, |now, request| match request {
        "list" => Reply::List(1),
        // The API server ends the watch after 290 s.
        _ => {
            let mut lines: Vec<_> = (0..4).map(|n| (60, event("BOOKMARK", n + 2))).collect();
            lines.push((48, event("BOOKMARK", u32::try_from(now).unwrap() + 10)));
            Reply::Watch(lines, StreamEnd::Closes)
        }
    })
    .await;
    assert_eq!((lists(&log), watches(&log)), (1, 13), "{log:?}");
}

#[tokio::test(start_paused = true)]
async fn watches_that_end_immediately_back_off() {
    for lines in [vec![], vec![(0, event("BOOKMARK", 2))]] {
        let log = requests_of_follow(60, move |_, request| match request {
            "list" => Reply::List(1),
            _ => Reply::Watch(lines.clone(), StreamEnd::Closes),
        })
        .await;
        assert_eq!(lists(&log), 1);
        assert!((12..=26).contains(&watches(&log)), "{log:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn working_watch_is_resumed_immediately() {
    let log = requests_of_follow(3, |_, request| match request {
        "list" => Reply::List(1),
        "1" => Reply::Watch(vec![(2, event("BOOKMARK", 2))], StreamEnd::Closes),
        // A short watch, but with an event.
        "2" => Reply::Watch(vec![(0, event("MODIFIED", 3))], StreamEnd::Closes),
        _ => Reply::Watch(vec![], StreamEnd::Stalls),
    })
    .await;
    let expected = [(0, "list"), (0, "1"), (2, "2"), (2, "3")].map(|(at, request)| (at, request.to_owned()));
    assert_eq!(log, expected);
}

#[tokio::test(start_paused = true)]
async fn rejected_lists_back_off() {
    let log = requests_of_follow(60, |_, _| Reply::Status(500, None)).await;
    // Waits of 0.5, 1, 2, 4 and then 5 s, multiplied by 0.5 to 1.
    assert!((14..=26).contains(&lists(&log)), "{log:?}");
}

#[tokio::test(start_paused = true)]
async fn rejected_lists_honor_retry_after() {
    let log = requests_of_follow(60, |_, _| Reply::Status(429, Some(20))).await;
    assert_eq!(lists(&log), 3, "{log:?}");
}

#[tokio::test(start_paused = true)]
async fn lists_with_expired_watches_back_off() {
    let log = requests_of_follow(60, |_, request| match request {
        "list" => Reply::List(1),
        _ => Reply::Watch(vec![(0, expired())], StreamEnd::Closes),
    })
    .await;
    assert!((12..=26).contains(&lists(&log)), "{log:?}");
}

#[tokio::test(start_paused = true)]
async fn each_outage_logs_one_start_and_one_end() {
    let log = requests_of_follow(600, |now, request| match (now, request) {
        (_, "list") => Reply::List(1),
        // The API server rejects requests every other minute.
        (now, _) if now / 60 % 2 == 1 => Reply::Status(503, None),
        _ => Reply::Watch(vec![(10, event("BOOKMARK", 2))], StreamEnd::Closes),
    })
    .await;
    assert_eq!(lists(&log), 1);
    assert_eq!((logged("watch failed"), logged("watch recovered")), (5, 4));
}

#[tokio::test(start_paused = true)]
async fn unreadable_object_does_not_block_later_events() {
    let log = requests_of_follow(120, |_, request| match request {
        "list" => Reply::List(1),
        "1" => {
            let nonsense = json!({ "type": "ADDED", "object": { "metadata": [] } }).to_string();
            Reply::Watch(vec![(0, nonsense), (0, event("ADDED", 3))], StreamEnd::Closes)
        }
        _ => Reply::Watch(vec![], StreamEnd::Stalls),
    })
    .await;
    assert_eq!(log[2].1, "3", "{log:?}");
}
