//! One request to the API server whose answer is read whole.
//!
//! kube keeps the headers of an answer to itself, and a real API server that is overloaded says only there when to come
//! back: priority and fairness answers 429 with `Retry-After` and a text.

use std::future::Future;
use std::time::Duration;

use axum::http::{HeaderMap, Request, StatusCode, header};
use http_body_util::BodyExt;
use kube::client::Body;
use kube::core::Status;
use kube::{Client, Error};
use serde::de::DeserializeOwned;

/// How long nothing of an answer may come. As long as an API server works on a request (`--request-timeout`, one minute)
/// before it says that it took too long.
pub const SILENCE: Duration = Duration::from_secs(60);

/// The longest wait that is done because an answer asked for it.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Why there is no answer, or what it refused.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Failure {
    /// As kube has it: [`Error::Api`] when the API server refused.
    #[source]
    pub error: Error,
    /// How long to wait at least before the next try, if the API server said so: at most a minute.
    pub retry_after: Option<Duration>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let status = match &error {
            Error::Api(status) => status.details.as_ref(),
            _ => None,
        };
        let seconds = status.map_or(0, |details| details.retry_after_seconds);
        let retry_after = Duration::from_secs(seconds.into()).min(LONGEST_WAIT);
        Self { error, retry_after: Some(retry_after).filter(|wait| !wait.is_zero()) }
    }
}

/// Sends a request and reads its answer. Ends when nothing comes for [`SILENCE`]; an answer that comes slowly is read.
///
/// # Errors
/// See [`Failure`].
pub async fn request<T: DeserializeOwned>(client: &Client, request: Request<Vec<u8>>) -> Result<T, Failure> {
    let (head, mut body) = heard(client.send(request.map(Body::from))).await?.into_parts();
    let mut bytes = Vec::new();
    while let Some(frame) = heard(async { body.frame().await.transpose() }).await? {
        if let Ok(data) = frame.into_data() {
            bytes.extend_from_slice(&data);
        }
    }
    if head.status.is_client_error() || head.status.is_server_error() {
        return Err(refusal(head.status, &head.headers, &bytes));
    }
    serde_json::from_slice(&bytes).map_err(|error| Error::SerdeError(error).into())
}

/// What a future of the client brings, unless it is silent for too long.
///
/// # Errors
/// Its own, or that nothing came.
pub async fn heard<T>(future: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    match tokio::time::timeout(SILENCE, future).await {
        Ok(result) => result,
        Err(_) => Err(Error::Service(format!("the API server said nothing for {SILENCE:?}").into())),
    }
}

/// What an answer of status 400 and above says.
fn refusal(code: StatusCode, headers: &HeaderMap, body: &[u8]) -> Failure {
    // Of any JSON object a Status can be read, but only one of the API server has a code.
    let status = serde_json::from_slice::<Status>(body).ok().filter(|status| status.code != 0);
    let status = status.unwrap_or_else(|| {
        // A text: of the overload protection, or of a proxy.
        let text = String::from_utf8_lossy(body);
        let reason = code.canonical_reason().unwrap_or_default();
        Status::failure(text.trim(), reason).with_code(code.as_u16())
    });
    let mut failure = Failure::from(Error::Api(status.boxed()));
    failure.retry_after = failure.retry_after.or_else(|| retry_after(headers));
    failure
}

/// The header of this name. Only seconds: the API server never names a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_WAIT)).filter(|wait| !wait.is_zero())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::body::Bytes;
    use axum::http::Response;
    use futures::{StreamExt, stream};
    use serde_json::{Value, json};
    use tower::service_fn;

    use super::*;

    fn refused(code: u16, retry_after: Option<&str>, body: &str) -> (u16, Option<u64>) {
        let mut headers = HeaderMap::new();
        if let Some(value) = retry_after {
            headers.insert(header::RETRY_AFTER, value.parse().unwrap());
        }
        let failure = refusal(StatusCode::from_u16(code).unwrap(), &headers, body.as_bytes());
        let Error::Api(status) = failure.error else { panic!("{:?}", failure.error) };
        (status.code, failure.retry_after.map(|wait| wait.as_secs()))
    }

    #[test]
    fn when_to_come_back_is_read_from_the_header_and_from_the_details() {
        let text = "Too many requests, please try again later.\n";
        let status =
            json!({ "kind": "Status", "code": 429, "details": { "retryAfterSeconds": 3 } }).to_string();
        assert_eq!(refused(429, Some("8"), text), (429, Some(8)));
        assert_eq!(refused(429, None, &status), (429, Some(3)));
        assert_eq!(refused(429, Some("8"), &status), (429, Some(3)));
        assert_eq!(refused(503, None, "<html>"), (503, None));
        assert_eq!(refused(502, None, r#"{ "error": "bad gateway" }"#), (502, None));
    }

    #[test]
    fn a_wait_that_is_nonsense_is_none_and_one_that_is_long_is_a_minute() {
        for (value, seconds) in [
            ("0", None),
            ("-1", None),
            ("soon", None),
            ("Wed, 21 Oct 2026 07:28:00 GMT", None),
            ("86400", Some(60)),
        ] {
            assert_eq!(refused(429, Some(value), ""), (429, seconds), "{value}");
        }
    }

    /// A client whose API server answers with these pieces, each after so many seconds.
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

    async fn asked(client: &Client) -> Result<Value, Failure> {
        request(client, Request::get("/api/v1/services").body(Vec::new()).unwrap()).await
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_comes_slowly_is_read() {
        let client = client(50, &[(50, "[1"), (50, ",2"), (50, "]")]);
        assert_eq!(asked(&client).await.unwrap(), json!([1, 2]));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_does_not_come_or_stops_is_not_waited_for() {
        for (head, pieces) in [(3600, &[(0, "[]")][..]), (0, &[(0, "[1"), (3600, "]")])] {
            let client = client(head, pieces);
            let began = tokio::time::Instant::now();
            let failure = asked(&client).await.unwrap_err();
            assert!(failure.to_string().contains("said nothing for 60s"), "{failure}");
            assert_eq!(began.elapsed().as_secs(), SILENCE.as_secs());
        }
    }
}
