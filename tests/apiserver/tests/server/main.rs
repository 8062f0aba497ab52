//! Features of the built-in server only: fault injection, tokens, TLS, and the cleanup of cluster
//! controllers.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends where it fails")]

mod access;
mod cascade;
mod faults;
mod scale;

use fairlead_apiserver::{ApiServer, Options};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::PostParams;
use serde_json::json;

async fn server() -> ApiServer {
    ApiServer::start(Options::default()).await.unwrap()
}

async fn configs(server: &ApiServer) -> Api<ConfigMap> {
    Api::namespaced(server.client().await.unwrap(), "default")
}

async fn create(api: &Api<ConfigMap>, name: &str) -> Result<ConfigMap, kube::Error> {
    let object = serde_json::from_value(json!({ "metadata": { "name": name } })).unwrap();
    api.create(&PostParams::default(), &object).await
}

/// Returns the code of an error; 0 if the error is not from the API.
fn code<T>(result: Result<T, kube::Error>) -> u16 {
    match result {
        Ok(_) => 200,
        Err(kube::Error::Api(status)) => status.code,
        Err(_) => 0,
    }
}
