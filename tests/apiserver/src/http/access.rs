//! Authentication.

use axum::body::Body;
use axum::http::{Method, Request, header};

use super::route::Route;
use crate::failure::{Failure, Named};

/// Checks the bearer token, if the server requires one.
///
/// # Errors
/// 401 for a wrong token; 403 without a token, because anonymous requests have no rights.
pub(crate) fn check(token: Option<&str>, route: &Route, request: &Request<Body>) -> Result<(), Failure> {
    let Some(token) = token else { return Ok(()) };
    if matches!(route, Route::Health | Route::Version) {
        return Ok(());
    }
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    match given.and_then(|given| given.strip_prefix("Bearer ")) {
        Some(given) if given == token => Ok(()),
        Some(_) => Err(Failure::unauthorized()),
        None => Err(anonymous(route, request.method())),
    }
}

fn anonymous(route: &Route, method: &Method) -> Failure {
    let verb = method.as_str().to_lowercase();
    let Route::Resource(path) = route else {
        let why = format!("User \"system:anonymous\" cannot {verb} path");
        return Failure::forbidden(Named { group: "", plural: "", kind: "" }, "", &why);
    };
    let verb = match (method, path.name.is_empty()) {
        (&Method::GET, true) => "list",
        (&Method::GET, false) => "get",
        (&Method::POST, _) => "create",
        (&Method::PUT, _) => "update",
        (&Method::DELETE, true) => "deletecollection",
        _ => verb.as_str(),
    };
    let place = if path.namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace {:?}", path.namespace)
    };
    let why = format!(
        "User \"system:anonymous\" cannot {verb} resource {:?} in API group {:?} {place}",
        path.plural, path.group
    );
    Failure::forbidden(Named { group: &path.group, plural: &path.plural, kind: "" }, &path.name, &why)
}
