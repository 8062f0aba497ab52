//! Lists in pages whose number of objects adapts to the size of the objects.
//!
//! A user that may create objects can fill each with 1.5 MiB, the limit of etcd, and the JSON text of an
//! object is up to six times as long. So the memory for a page is bounded by its octets, not only by its
//! objects.

use axum::http::Request as HttpRequest;
use kube::api::ListParams;
use kube::core::{ListMeta, Request};
use kube::{Client, Error};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::request::{Failure, read, send};

/// The maximum number of objects in a page, as in client-go.
const MAX_OBJECTS: u32 = 500;
/// The maximum size of a page of several objects, in octets. A larger page is not read to its end, and is
/// requested again with fewer objects.
const MAX_PAGE: usize = 16 * 1024 * 1024;
/// The size that a page should have if the next objects are as large as those of the page before. Some
/// objects that are larger do not make it exceed [`MAX_PAGE`].
const TARGET: usize = MAX_PAGE / 4;
/// The maximum size of a page of one object.
const MAX_OBJECT: usize = 32 * 1024 * 1024;

/// A page of a list.
#[derive(Deserialize)]
struct Page<'a> {
    #[serde(default)]
    metadata: ListMeta,
    // The API server encodes an empty list as null.
    #[serde(borrow)]
    items: Option<Vec<&'a RawValue>>,
}

/// Lists objects. Passes the JSON text of each to `handle`, and returns the resourceVersion of the list, if
/// it has one. `limit` and `continue` of the selection are ignored.
///
/// # Errors
/// See [`Failure`]. Some objects may have been handled before.
pub async fn for_each_listed(
    client: &Client,
    path: &str,
    selection: &ListParams,
    mut handle: impl FnMut(&str),
) -> Result<Option<String>, Failure> {
    let (mut token, mut size) = (None, PageSize::default());
    loop {
        let parameters =
            ListParams { limit: Some(size.limit), continue_token: token.clone(), ..selection.clone() };
        let list: HttpRequest<Vec<u8>> = Request::new(path).list(&parameters).map_err(Error::BuildRequest)?;
        let Some(bytes) = read(send(client, list).await?, size.max_octets()).await? else {
            if size.limit == 1 {
                let error = format!("an object of the list is larger than {MAX_OBJECT} octets");
                return Err(Error::Service(error.into()).into());
            }
            size.handle_excess();
            continue;
        };
        let page: Page<'_> = serde_json::from_slice(&bytes).map_err(Error::SerdeError)?;
        let items = page.items.unwrap_or_default();
        size.handle_page(bytes.len(), items.len());
        items.into_iter().for_each(|item| handle(item.get()));
        token = page.metadata.continue_.filter(|token| !token.is_empty());
        if token.is_none() {
            return Ok(page.metadata.resource_version.filter(|version| !version.is_empty()));
        }
    }
}

/// The number of objects to request in the next page.
#[derive(Debug, PartialEq, Eq)]
struct PageSize {
    limit: u32,
}

impl Default for PageSize {
    fn default() -> Self {
        Self { limit: MAX_OBJECTS }
    }
}

impl PageSize {
    /// Returns the maximum size of the page, in octets.
    fn max_octets(&self) -> usize {
        if self.limit == 1 { MAX_OBJECT } else { MAX_PAGE }
    }

    /// Handles that the page is too large.
    fn handle_excess(&mut self) {
        self.limit = (self.limit / 8).max(1);
    }

    /// Handles a page with so many octets and objects.
    fn handle_page(&mut self, octets: usize, objects: usize) {
        let fit = TARGET / (octets / objects.max(1)).max(1);
        self.limit = u32::try_from(fit).unwrap_or(MAX_OBJECTS).clamp(1, MAX_OBJECTS);
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::{Arc, Mutex};

    use axum::http::Response;
    use kube::client::Body;
    use serde_json::json;
    use tower::service_fn;

    use super::*;

    /// Returns a client whose API server has objects of so many octets, and the limits that it was asked for.
    fn server(sizes: Vec<usize>) -> (Client, Arc<Mutex<Vec<usize>>>) {
        let limits = Arc::new(Mutex::new(Vec::new()));
        let requested = limits.clone();
        let service = service_fn(move |request: HttpRequest<Body>| {
            let query = request.uri().query().unwrap_or_default();
            let number = |name: &str| query.split('&').find_map(|part| part.strip_prefix(name)?.parse().ok());
            let (limit, start) = (number("limit=").unwrap(), number("continue=").unwrap_or(0));
            requested.lock().unwrap().push(limit);
            let end = (start + limit).min(sizes.len());
            let items: Vec<_> = sizes[start..end].iter().map(|n| format!("\"{}\"", "x".repeat(*n))).collect();
            let next = if end < sizes.len() { end.to_string() } else { String::new() };
            let metadata = json!({ "resourceVersion": "7", "continue": next });
            let list = format!("{{\"metadata\":{metadata},\"items\":[{}]}}", items.join(","));
            async move { Ok::<_, Infallible>(Response::new(axum::body::Body::from(list))) }
        });
        (Client::new(service, "default"), limits)
    }

    async fn list(sizes: Vec<usize>) -> (Result<usize, String>, Vec<usize>) {
        let (client, limits) = server(sizes.clone());
        let mut seen = Vec::new();
        let listed =
            for_each_listed(&client, "/things", &ListParams::default(), |item| seen.push(item.len() - 2))
                .await;
        let listed = listed.map_err(|failure| failure.to_string()).map(|version| {
            assert_eq!((version.as_deref(), &seen), (Some("7"), &sizes));
            seen.len()
        });
        let limits = limits.lock().unwrap().clone();
        (listed, limits)
    }

    const KIB: usize = 1024;

    #[tokio::test]
    async fn pages_adapt_to_the_size_of_the_objects() {
        assert_eq!(list(vec![10; 1100]).await, (Ok(1100), vec![500, 500, 500]));
        assert_eq!(list(Vec::new()).await, (Ok(0), vec![500]));
        let (listed, limits) = list(vec![250 * KIB; 100]).await;
        assert_eq!((listed, limits), (Ok(100), vec![500, 62, 16, 16, 16]));
        let (listed, limits) = list(vec![3 * 1024 * KIB; 7]).await;
        assert_eq!((listed, limits), (Ok(7), vec![500, 62, 7, 1, 1, 1, 1, 1, 1, 1]));
        // After large objects, the pages of small ones have many objects again.
        let (listed, limits) = list([vec![1024 * KIB; 20], vec![10; 1000]].concat()).await;
        assert_eq!(listed, Ok(1020));
        assert!(limits.len() < 15 && limits.ends_with(&[500, 500]), "{limits:?}");
    }

    #[tokio::test]
    async fn object_without_bound_is_an_error() {
        let (listed, limits) = list(vec![33 * 1024 * KIB]).await;
        assert!(listed.unwrap_err().contains("larger than 33554432 octets"));
        assert_eq!(limits, [500, 62, 7, 1]);
    }
}
