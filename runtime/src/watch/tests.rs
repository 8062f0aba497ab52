//! Watches of a faulty API server, in simulated time.

mod odd_objects;

use std::cell::RefCell;
use std::convert::Infallible;
use std::io::Write;
use std::sync::{Arc, Mutex, Once};

use axum::body::Bytes;
use axum::http::{Request as HttpRequest, Response};
use fairlead_crds::read::Custom;
use fairlead_crds::v1beta1;
use futures::{StreamExt, stream};
use serde_json::json;
use tower::service_fn;

use super::*;
use crate::http::Health;

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
        "apiVersion": "v1", "kind": "Namespace",
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
                    json!({ "kind": "NamespaceList", "apiVersion": "v1", "metadata": metadata, "items": [] });
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
    let api = Api::<Namespace>::all(Client::new(service, "default"));
    let (sink, mut changes) = mpsc::channel(16);
    let follow = follow(api, config(), Monitor::default(), |object| object, |change| change, sink);
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
    let ends = logged("the API server is available again");
    assert_eq!((logged("the API server is unavailable"), ends), (5, 4));
}

/// Returns an object whose labels cannot be read.
fn odd(name: &str, version: u32) -> serde_json::Value {
    json!({ "metadata": { "name": name, "resourceVersion": version.to_string(), "labels": { "a": 7 } } })
}

fn plain(name: &str, version: u32) -> serde_json::Value {
    json!({ "metadata": { "name": name, "resourceVersion": version.to_string(), "labels": { "a": "b" } } })
}

/// Follows a server whose responses to requests are these texts, in order; then it does not respond. An empty
/// text is status 404. `text` describes an object. Returns the changes.
async fn texts_of_follow<K: ReadObject>(
    monitor: &Monitor,
    responses: Vec<String>,
    text: impl Fn(K) -> String,
) -> Vec<String> {
    listen();
    let responses = Arc::new(Mutex::new(responses.into_iter()));
    let service = service_fn(move |_: HttpRequest<Body>| {
        let response = responses.lock().unwrap().next();
        async move {
            let text = match response {
                Some(text) => text,
                None => std::future::pending().await,
            };
            let status = if text.is_empty() { 404 } else { 200 };
            Ok::<_, Infallible>(
                Response::builder().status(status).body(axum::body::Body::from(text)).unwrap(),
            )
        }
    });
    let api = Api::<K>::all(Client::new(service, "default"));
    let (sink, mut changes) = mpsc::channel(16);
    let wrap = |change| match change {
        ObjectChange::Apply(object) => format!("+{object}"),
        ObjectChange::Delete(key) => format!("-{}", key.name),
        ObjectChange::Reset(objects) => format!("={}", objects.join(" ")),
        ObjectChange::Missing => "missing".to_owned(),
    };
    let mut seen = Vec::new();
    let follow = follow(api, config(), monitor.clone(), text, wrap, sink);
    let _ = timeout(Duration::from_secs(50), async {
        tokio::join!(follow, async {
            while let Some(change) = changes.recv().await {
                seen.push(change);
            }
        })
    })
    .await;
    seen
}

/// Does the same as [`texts_of_follow`] with the names and the number of labels of Namespaces.
async fn changes_of_follow(monitor: &Monitor, responses: Vec<String>) -> Vec<String> {
    let text = |object: Namespace| {
        let labels = object.metadata.labels.unwrap_or_default().len();
        format!("{}:{labels}", object.metadata.name.unwrap())
    };
    texts_of_follow(monitor, responses, text).await
}

/// Does the same as [`texts_of_follow`] with the names of objects.
async fn names_of_follow<K: ReadObject>(responses: Vec<String>) -> Vec<String> {
    let name = |object: K| object.meta().name.clone().unwrap();
    texts_of_follow(&Monitor::default(), responses, name).await
}

fn list_of(items: &serde_json::Value) -> String {
    json!({ "metadata": { "resourceVersion": "1" }, "items": items }).to_string()
}

fn events(events: &[(&str, serde_json::Value)]) -> String {
    events
        .iter()
        .map(|(type_, object)| json!({ "type": type_, "object": object }).to_string() + "\n")
        .collect()
}

#[tokio::test(start_paused = true)]
async fn unreadable_parts_stop_neither_list_nor_watch() {
    let mut registry = prometheus_client::registry::Registry::default();
    let monitor = Monitor::register(&mut registry);
    let nameless = json!({ "metadata": [], "labels": "\u{1b}[2J" });
    let seen = changes_of_follow(
        &monitor,
        vec![
            list_of(&json!([plain("a", 1), odd("b", 1), nameless, null, 7, plain("c", 1)])),
            events(&[
                ("MODIFIED", odd("b", 2)),
                ("ADDED", odd("d", 3)),
                ("ADDED", nameless.clone()),
                ("MODIFIED", json!(7)),
                ("NEW TYPE", json!(7)),
                ("ADDED", plain("e", 4)),
                // A deletion needs only the metadata.
                ("DELETED", odd("b", 5)),
                ("DELETED", json!({ "metadata": { "name": "c" }, "spec": 7 })),
                ("ERROR", json!({ "code": 410 })),
            ]),
            list_of(&json!([plain("a", 1), odd("d", 3), odd("f", 6)])),
        ],
    )
    .await;
    assert_eq!(seen, ["=a:1 b:0 c:1", "+b:0", "+d:0", "+e:1", "-b", "-c", "=a:1 d:0 f:0"]);
    for name in ["b", "d", "f"] {
        assert_eq!(logged(&format!("name={name} ")), 1, "{name} is logged once");
    }
    assert_eq!(logged("metadata.labels.a: invalid type: integer `7`, expected a string"), 3);
    assert!(logged("skipped an object without a name") >= 4);
    LOGGED.with_borrow(|log| assert!(!log.contains(&0x1b), "the log contains control characters"));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    assert!(text.contains("unreadable_objects{kind=\"Namespace\"} 2\n"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn missing_kind_is_reported_once_until_it_is_served() {
    let list = || list_of(&json!([plain("a", 1)]));
    let responses = vec![String::new(), String::new(), list(), String::new(), String::new(), list()];
    let seen = changes_of_follow(&Monitor::default(), responses).await;
    // The watch after the first list and the next list get status 404.
    assert_eq!(seen, ["missing", "=a:1", "missing", "=a:1"]);
    assert_eq!(logged("the API server does not serve namespaces."), 2);
    assert_eq!(logged("check the version of Kubernetes"), 2);
}

#[tokio::test(start_paused = true)]
async fn missing_kind_of_ours_is_logged_with_the_command_that_installs_it() {
    let names = names_of_follow::<Custom<v1beta1::Community>>(vec![String::new(); 3]).await;
    assert_eq!(names, ["missing"]);
    let line = "the API server does not serve communities.fairlead.dev";
    assert_eq!(logged(line), 1);
    LOGGED.with_borrow(|log| {
        let log = String::from_utf8_lossy(log);
        let line = log.lines().find(|logged| logged.contains(line)).unwrap();
        assert!(line.contains("kubectl apply --server-side -k config/crd"), "{line}");
    });
}

#[tokio::test(start_paused = true)]
async fn list_of_null_is_empty() {
    assert_eq!(changes_of_follow(&Monitor::default(), vec![list_of(&json!(null))]).await, ["="]);
}

#[tokio::test(start_paused = true)]
async fn expired_watch_is_listed_again_without_a_warning() {
    let log = requests_of_follow(60, |now, request| match request {
        "list" => Reply::List(u32::try_from(now).unwrap() + 1),
        "1" => Reply::Watch(vec![(5, expired())], StreamEnd::Closes),
        _ => Reply::Watch(vec![], StreamEnd::Stalls),
    })
    .await;
    assert_eq!((lists(&log), logged("WARN")), (2, 0), "{log:?}");
}

#[test]
fn outage_is_logged_once_and_shown_until_its_end() {
    const URL: &str = "https://192.0.2.1:6443/";
    listen();
    let (monitor, health) = (Monitor::default(), Health::new("the first list"));
    monitor.set_server(URL, health.clone());
    for kind in ["Service", "Node", "Service", "Secret"] {
        monitor.log_outage(kind, "connection refused");
    }
    assert_eq!((logged("WARN"), logged(URL)), (1, 1));
    let outage = "the API server https://192.0.2.1:6443/ is unavailable: connection refused";
    assert_eq!(health.outage().as_deref(), Some(outage));
    monitor.log_recovery("Service");
    monitor.forget("Secret");
    assert_eq!((logged("available again"), health.outage().as_deref()), (0, Some(outage)));
    monitor.log_recovery("Node");
    assert_eq!((logged("available again"), health.outage()), (1, None));
    // A watch that ends during an outage is not awaited.
    monitor.log_outage("Secret", "connection refused");
    monitor.forget("Secret");
    assert_eq!(health.outage(), None);
}
