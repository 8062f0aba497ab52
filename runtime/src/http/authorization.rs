//! Authorization of requests for metrics by the API server, as controller-runtime does it: a TokenReview
//! names the user of the bearer token, and a SubjectAccessReview says whether the user may `get`
//! `/metrics`.
//!
//! Any host on the network can send tokens. A verdict is remembered for [`VALIDITY`], at most
//! [`MAX_VERDICTS`] of them, and at most [`MAX_REVIEWS`] tokens are reviewed at the same time.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode, header};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::Client;
use kube::api::{Api, PostParams};
use ring::digest::{SHA256, digest};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

/// The time for which a verdict is valid.
const VALIDITY: Duration = Duration::from_secs(60);
/// The number of verdicts that are kept.
const MAX_VERDICTS: usize = 256;
/// The number of tokens that are reviewed at the same time.
const MAX_REVIEWS: usize = 2;
/// The time limit of a review.
const REVIEW_TIMEOUT: Duration = Duration::from_secs(3);

/// SHA-256 of a token. Tokens themselves are not kept.
type TokenHash = [u8; 32];

/// Decides on requests for metrics.
#[derive(Debug)]
pub(super) struct Authorizer<R> {
    reviewer: R,
    verdicts: Mutex<HashMap<TokenHash, (Instant, bool)>>,
    reviews: Semaphore,
}

/// Reviews tokens.
pub(super) trait Reviewer {
    /// Returns whether the user of the token may read the metrics.
    fn review(&self, token: &str) -> impl Future<Output = kube::Result<bool>> + Send;
}

impl<R: Reviewer> Authorizer<R> {
    pub(super) fn new(reviewer: R) -> Self {
        Self { reviewer, verdicts: Mutex::default(), reviews: Semaphore::new(MAX_REVIEWS) }
    }

    /// Checks the bearer token of a request.
    ///
    /// # Errors
    /// 401 without a token, 403 for a token without the right, and 503 while no review is possible.
    pub(super) async fn check(&self, headers: &HeaderMap) -> Result<(), StatusCode> {
        let token = bearer_token(headers).ok_or(StatusCode::UNAUTHORIZED)?;
        let hash = hash(token);
        let allowed = match self.remembered(&hash) {
            Some(allowed) => allowed,
            None => {
                // A client that sends many tokens gets errors; it must not make the API server slow.
                let Ok(_permit) = self.reviews.try_acquire() else {
                    return Err(StatusCode::SERVICE_UNAVAILABLE);
                };
                let allowed = match timeout(REVIEW_TIMEOUT, self.reviewer.review(token)).await {
                    Ok(Ok(allowed)) => allowed,
                    Ok(Err(error)) => {
                        let error = crate::client::chain(&error);
                        tracing::warn!(error, "cannot review the token of a request for metrics");
                        return Err(StatusCode::SERVICE_UNAVAILABLE);
                    }
                    Err(_) => return Err(StatusCode::SERVICE_UNAVAILABLE),
                };
                self.remember(hash, allowed);
                allowed
            }
        };
        if allowed { Ok(()) } else { Err(StatusCode::FORBIDDEN) }
    }

    fn remembered(&self, hash: &TokenHash) -> Option<bool> {
        let verdicts = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, allowed) = verdicts.get(hash)?;
        (since.elapsed() < VALIDITY).then_some(*allowed)
    }

    fn remember(&self, hash: TokenHash, allowed: bool) {
        let mut verdicts = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        if verdicts.len() >= MAX_VERDICTS {
            verdicts.retain(|_, (since, allowed)| *allowed && since.elapsed() < VALIDITY);
        }
        if verdicts.len() < MAX_VERDICTS {
            verdicts.insert(hash, (Instant::now(), allowed));
        }
    }
}

fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

fn hash(token: &str) -> TokenHash {
    let mut hash = TokenHash::default();
    hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    hash
}

impl Reviewer for Client {
    async fn review(&self, token: &str) -> kube::Result<bool> {
        let spec = TokenReviewSpec { token: Some(token.to_owned()), ..TokenReviewSpec::default() };
        let review = TokenReview { spec, ..TokenReview::default() };
        let review = Api::all(self.clone()).create(&PostParams::default(), &review).await?;
        let status = review.status.unwrap_or_default();
        let (Some(true), Some(user)) = (status.authenticated, status.user) else { return Ok(false) };
        let UserInfo { extra, groups, uid, username } = user;
        let spec = SubjectAccessReviewSpec {
            extra,
            groups,
            uid,
            user: username,
            non_resource_attributes: Some(NonResourceAttributes {
                path: Some("/metrics".to_owned()),
                verb: Some("get".to_owned()),
            }),
            ..SubjectAccessReviewSpec::default()
        };
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        let review = Api::all(self.clone()).create(&PostParams::default(), &review).await?;
        Ok(review.status.is_some_and(|status| status.allowed))
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::http::{Request, Response};
    use http_body_util::BodyExt;
    use kube::client::Body;
    use serde_json::{Value, json};

    use super::*;

    fn headers(authorization: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, authorization.parse().unwrap())])
    }

    /// Allows the token `good`, denies others, and fails for `error`.
    #[derive(Clone, Default)]
    struct Counting(Arc<AtomicUsize>);

    impl Reviewer for Counting {
        async fn review(&self, token: &str) -> kube::Result<bool> {
            self.0.fetch_add(1, Ordering::Relaxed);
            match token {
                "error" => Err(kube::Error::LinesCodecMaxLineLengthExceeded),
                "slow" => std::future::pending().await,
                token => Ok(token == "good"),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn request_is_authorized_by_its_token() {
        let authorizer = Authorizer::new(Counting::default());
        for (authorization, expected) in [
            ("Bearer good", Ok(())),
            ("bearer good", Ok(())),
            ("Bearer bad", Err(StatusCode::FORBIDDEN)),
            ("Bearer error", Err(StatusCode::SERVICE_UNAVAILABLE)),
            ("Bearer slow", Err(StatusCode::SERVICE_UNAVAILABLE)),
            ("Basic good", Err(StatusCode::UNAUTHORIZED)),
            ("Bearer ", Err(StatusCode::UNAUTHORIZED)),
        ] {
            assert_eq!(authorizer.check(&headers(authorization)).await, expected, "{authorization}");
        }
        assert_eq!(authorizer.check(&HeaderMap::new()).await, Err(StatusCode::UNAUTHORIZED));
    }

    #[tokio::test(start_paused = true)]
    async fn verdict_is_remembered_for_its_validity() {
        let reviewer = Counting::default();
        let authorizer = Authorizer::new(reviewer.clone());
        for _ in 0..3 {
            authorizer.check(&headers("Bearer good")).await.unwrap();
        }
        assert_eq!(reviewer.0.load(Ordering::Relaxed), 1);
        tokio::time::advance(VALIDITY).await;
        authorizer.check(&headers("Bearer good")).await.unwrap();
        assert_eq!(reviewer.0.load(Ordering::Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn many_tokens_leave_bounded_verdicts() {
        let authorizer = Authorizer::new(Counting::default());
        authorizer.check(&headers("Bearer good")).await.unwrap();
        for i in 0..10 * MAX_VERDICTS {
            let verdict = authorizer.check(&headers(&format!("Bearer {i}"))).await;
            assert_eq!(verdict, Err(StatusCode::FORBIDDEN));
        }
        assert!(authorizer.verdicts.lock().unwrap().len() <= MAX_VERDICTS);
        assert_eq!(authorizer.remembered(&hash("good")), Some(true));
    }

    #[tokio::test]
    async fn api_server_reviews_token_and_access() {
        let client = |authenticated: bool, allowed: bool| {
            let service = tower::service_fn(move |request: Request<Body>| async move {
                let path = request.uri().path().to_owned();
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let body: Value = serde_json::from_slice(&body).unwrap();
                let status = match path.as_str() {
                    "/apis/authentication.k8s.io/v1/tokenreviews" => {
                        assert_eq!(body["spec"]["token"], "secret");
                        json!({ "authenticated": authenticated, "user": { "username": "prometheus" } })
                    }
                    "/apis/authorization.k8s.io/v1/subjectaccessreviews" => {
                        assert_eq!(body["spec"]["user"], "prometheus");
                        let attributes = json!({ "path": "/metrics", "verb": "get" });
                        assert_eq!(body["spec"]["nonResourceAttributes"], attributes);
                        json!({ "allowed": allowed })
                    }
                    other => panic!("{other}"),
                };
                let reply = json!({
                    "apiVersion": body["apiVersion"], "kind": body["kind"], "metadata": {},
                    "spec": body["spec"],
                    "status": status,
                });
                Ok::<_, Infallible>(Response::new(axum::body::Body::from(reply.to_string())))
            });
            Client::new(service, "default")
        };
        for (authenticated, allowed, expected) in
            [(true, true, true), (true, false, false), (false, true, false)]
        {
            assert_eq!(client(authenticated, allowed).review("secret").await.unwrap(), expected);
        }
    }
}
