//! What only the built-in server can do: misbehave on demand, check tokens, serve TLS, and clean up as controllers
//! of a cluster do.

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

/// Code of a refusal; 0 for one that is not the API's.
fn code<T>(result: Result<T, kube::Error>) -> u16 {
    match result {
        Ok(_) => 200,
        Err(kube::Error::Api(status)) => status.code,
        Err(_) => 0,
    }
}
