//! Requests to the API server whose response is read completely.
//!
//! kube does not return the headers of a response. An overloaded API server states only there when to retry:
//! priority and fairness return status 429 with `Retry-After` and a text.

use std::future::Future;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, header};
use fairlead_crds::text;
use http_body_util::BodyExt;
use kube::client::Body;
use kube::core::Status;
use kube::{Client, Error};
use serde::de::DeserializeOwned;

use crate::client::chain;

/// The maximum time without any data of a response: the time for which an API server processes a request
/// (`--request-timeout`, one minute) before it returns a timeout.
pub const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// The maximum size of an error response, in octets. A larger text is not read.
const MAX_ERROR: usize = 1024 * 1024;

/// The maximum of [`Failure::retry_after`].
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

/// The reason why a request failed.
#[derive(Debug, thiserror::Error)]
#[error("{}", chain(error))]
pub struct Failure {
    /// [`Error::Api`] if the API server rejected the request.
    pub error: Error,
    /// The minimum time before a retry, if the API server stated one; at most one minute.
    pub retry_after: Option<Duration>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let status = match &error {
            Error::Api(status) => status.details.as_ref(),
            _ => None,
        };
        let seconds = status.map_or(0, |details| details.retry_after_seconds);
        let retry_after = Duration::from_secs(seconds.into()).min(MAX_RETRY_AFTER);
        Self { error, retry_after: Some(retry_after).filter(|wait| !wait.is_zero()) }
    }
}

impl Failure {
    /// Returns what the API server says about the user if the user of the client lacks the permission for the
    /// request (RBAC), without the name of the object; printable and bounded. Policies, webhooks and quotas
    /// return the same status, for reasons of the object.
    pub fn missing_permission(&self) -> Option<String> {
        let Error::Api(status) = &self.error else { return None };
        // `responsewriters.Forbidden` of the API server writes `services "web" is forbidden: User "u" cannot
        // patch resource …`. Webhooks and policies cannot write the beginning of a message.
        let (object, reason) = status.message.split_once(" is forbidden: ")?;
        let (resource, name) = object.split_once(' ').unwrap_or((object, "\"\""));
        let is_named =
            |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.:_".contains(&byte));
        let name = name.strip_prefix('"').and_then(|name| name.strip_suffix('"'));
        let is_about_object = is_named(resource) && name.is_some_and(is_named);
        let is_denial = reason.starts_with("User \"") && reason.contains("\" cannot ");
        let message = || text::message(reason).into_owned();
        (status.code == 403 && is_about_object && is_denial).then(message)
    }
}

/// The header `Accept` of [`response_without_object`]: a table, or the whole object from an API server that
/// returns no tables. An error is a `Status` in both cases.
const WITHOUT_OBJECT: &str = "application/json;as=Table;v=v1;g=meta.k8s.io, application/json";

/// Asks for a response that contains the `resourceVersion` of the object and not the object: a table with
/// `includeObject=None`, as `kubectl get` reads it. An object may have 256 KiB of annotations, and many
/// writes are in flight.
///
/// # Errors
/// Returns an error if the URI is not valid.
pub fn response_without_object(request: Request<Vec<u8>>) -> Result<Request<Vec<u8>>, Error> {
    let (mut parts, body) = request.into_parts();
    let separator = if parts.uri.query().is_some() { '&' } else { '?' };
    let uri = format!("{}{separator}includeObject=None", parts.uri);
    let invalid = |error| Error::BuildRequest(kube::core::request::Error::BuildRequest(error));
    parts.uri = uri.parse::<Uri>().map_err(|error| invalid(error.into()))?;
    parts.headers.insert(header::ACCEPT, HeaderValue::from_static(WITHOUT_OBJECT));
    Ok(Request::from_parts(parts, body))
}

/// Sends a request and reads the response. Fails if no data arrives for [`READ_TIMEOUT`]; a slow response is
/// read to its end.
///
/// # Errors
/// See [`Failure`].
pub async fn request<T: DeserializeOwned>(client: &Client, request: Request<Vec<u8>>) -> Result<T, Failure> {
    let bytes = read(send(client, request).await?, usize::MAX).await?.unwrap_or_default();
    serde_json::from_slice(&bytes).map_err(|error| Error::SerdeError(error).into())
}

/// Sends a request. Returns the response when its header has arrived.
///
/// # Errors
/// See [`Failure`]. A response with status 400 or above is an error.
pub async fn send(client: &Client, request: Request<Vec<u8>>) -> Result<Response<Body>, Failure> {
    let response = with_timeout(client.send(request.map(Body::from))).await?;
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return Ok(response);
    }
    let headers = response.headers().clone();
    let bytes = read(response, MAX_ERROR).await?.unwrap_or_default();
    Err(rejection(status, &headers, &bytes))
}

/// Reads the body of a response. Returns `None` if it has more than `max` octets.
///
/// # Errors
/// See [`Failure`].
pub async fn read(response: Response<Body>, max: usize) -> Result<Option<Vec<u8>>, Failure> {
    let mut body = response.into_body();
    let mut bytes = Vec::new();
    while let Some(frame) = with_timeout(async { body.frame().await.transpose() }).await? {
        if let Ok(data) = frame.into_data() {
            if bytes.len() + data.len() > max {
                return Ok(None);
            }
            bytes.extend_from_slice(&data);
        }
    }
    Ok(Some(bytes))
}

/// Returns the result of a future of the client, or an error after [`READ_TIMEOUT`].
///
/// # Errors
/// Returns the error of the future, or a timeout.
pub async fn with_timeout<T>(future: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    match tokio::time::timeout(READ_TIMEOUT, future).await {
        Ok(result) => result,
        Err(_) => Err(Error::Service(format!("no data from the API server for {READ_TIMEOUT:?}").into())),
    }
}

/// Returns the failure in a response with status 400 or above.
fn rejection(code: StatusCode, headers: &HeaderMap, body: &[u8]) -> Failure {
    // Any JSON object can be decoded as a Status, but only a Status of the API server has a code.
    let status = serde_json::from_slice::<Status>(body).ok().filter(|status| status.code != 0);
    let status = status.unwrap_or_else(|| {
        // A text of priority and fairness, or of a proxy.
        let text = String::from_utf8_lossy(body);
        let reason = code.canonical_reason().unwrap_or_default();
        Status::failure(text.trim(), reason).with_code(code.as_u16())
    });
    let mut failure = Failure::from(Error::Api(status.boxed()));
    failure.retry_after = failure.retry_after.or_else(|| retry_after(headers));
    failure
}

/// Returns the value of the header `Retry-After`. Only seconds are supported: the API server never sends a
/// date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER)).filter(|wait| !wait.is_zero())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::body::Bytes;
    use futures::{StreamExt, stream};
    use serde_json::{Value, json};
    use tower::service_fn;

    use super::*;

    fn rejected(code: u16, retry_after: Option<&str>, body: &str) -> (u16, Option<u64>) {
        let mut headers = HeaderMap::new();
        if let Some(value) = retry_after {
            headers.insert(header::RETRY_AFTER, value.parse().unwrap());
        }
        let failure = rejection(StatusCode::from_u16(code).unwrap(), &headers, body.as_bytes());
        let Error::Api(status) = failure.error else { panic!("{:?}", failure.error) };
        (status.code, failure.retry_after.map(|wait| wait.as_secs()))
    }

    #[test]
    fn retry_after_is_read_from_header_and_details() {
        let text = "Too many requests, please try again later.\n";
        let status =
            json!({ "kind": "Status", "code": 429, "details": { "retryAfterSeconds": 3 } }).to_string();
        assert_eq!(rejected(429, Some("8"), text), (429, Some(8)));
        assert_eq!(rejected(429, None, &status), (429, Some(3)));
        assert_eq!(rejected(429, Some("8"), &status), (429, Some(3)));
        assert_eq!(rejected(503, None, "<html>"), (503, None));
        assert_eq!(rejected(502, None, r#"{ "error": "bad gateway" }"#), (502, None));
    }

    /// Messages as kube-apiserver 1.33 to 1.36 returns them.
    #[test]
    fn missing_permission_differs_from_refusals_of_the_object() {
        const USER: &str = r#"User "system:serviceaccount:fairlead-system:fairlead-controller" cannot"#;
        let denied = [
            (
                r#"services "web" is forbidden: "#,
                r#"patch resource "services/status" in API group "" in the namespace "default""#,
            ),
            (
                r#"ipaddresspools.fairlead.dev "lan" is forbidden: "#,
                r#"patch resource "ipaddresspools/status" in API group "fairlead.dev" at the cluster scope"#,
            ),
            (
                r#"services "web" is forbidden: "#,
                r#"patch resource "services/status" in API group "" in the namespace "a": RBAC: clusterrole.rbac.authorization.k8s.io "fairlead-controller" not found"#,
            ),
            ("services is forbidden: ", r#"list resource "services" in API group "" at the cluster scope"#),
        ];
        let found = |code, message: &str| {
            let status = Status::failure(message, "Forbidden").with_code(code);
            Failure::from(Error::Api(status.boxed())).missing_permission()
        };
        for (object, what) in denied {
            assert_eq!(found(403, &format!("{object}{USER} {what}")), Some(format!("{USER} {what}")));
            assert_eq!(found(422, &format!("{object}{USER} {what}")), None);
        }
        let spoofed = format!(r#"{USER} patch resource "services/status""#);
        for refused in [
            r#"services "web" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no"#.to_owned(),
            r#"admission webhook "w.example.com" denied the request: no addresses here"#.to_owned(),
            r#"admission webhook "w.example.com" denied the request without explanation"#.to_owned(),
            r#"pods "web" is forbidden: exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2"#.to_owned(),
            r#"events "e" is forbidden: unable to create new content in namespace a because it is being terminated"#.to_owned(),
            r#"pods "web" is forbidden: violates PodSecurity "restricted:latest": host namespaces"#.to_owned(),
            r#"Internal error occurred: failed calling webhook "w": no endpoints available"#.to_owned(),
            // Texts of webhooks and policies that imitate a missing permission.
            format!(r#"admission webhook "w.example.com" denied the request: services "web" is forbidden: {spoofed}"#),
            format!(r#"services "web" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: {spoofed}"#),
            String::new(),
        ] {
            assert_eq!(found(403, &refused), None, "{refused}");
        }
    }

    #[test]
    fn invalid_retry_after_is_none_and_long_is_capped() {
        for (value, seconds) in [
            ("0", None),
            ("-1", None),
            ("soon", None),
            ("Wed, 21 Oct 2026 07:28:00 GMT", None),
            ("86400", Some(60)),
        ] {
            assert_eq!(rejected(429, Some(value), ""), (429, seconds), "{value}");
        }
    }

    /// Returns a client whose API server sends the header after `head` seconds, and then these pieces, each
    /// after so many seconds.
    fn client(head: u64, pieces: &'static [(u64, &'static str)]) -> Client {
        let service = service_fn(move |_: Request<Body>| async move {
            tokio::time::sleep(Duration::from_secs(head)).await;
            let body = stream::iter(pieces).then(|(after, text)| async move {
                tokio::time::sleep(Duration::from_secs(*after)).await;
                Ok::<_, Infallible>(Bytes::from_static(text.as_bytes()))
            });
            Ok::<_, Infallible>(Response::new(axum::body::Body::from_stream(body)))
        });
        Client::new(service, "default")
    }

    async fn get_services(client: &Client) -> Result<Value, Failure> {
        request(client, Request::get("/api/v1/services").body(Vec::new()).unwrap()).await
    }

    #[tokio::test(start_paused = true)]
    async fn slow_response_is_read() {
        let client = client(50, &[(50, "[1"), (50, ",2"), (50, "]")]);
        assert_eq!(get_services(&client).await.unwrap(), json!([1, 2]));
    }

    #[tokio::test(start_paused = true)]
    async fn stalled_response_times_out() {
        for (head, pieces) in [(3600, &[(0, "[]")][..]), (0, &[(0, "[1"), (3600, "]")])] {
            let client = client(head, pieces);
            let began = tokio::time::Instant::now();
            let failure = get_services(&client).await.unwrap_err();
            assert!(failure.to_string().contains("no data from the API server for 60s"), "{failure}");
            assert_eq!(began.elapsed().as_secs(), READ_TIMEOUT.as_secs());
        }
    }
}
