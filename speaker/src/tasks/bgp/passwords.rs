//! TCP-MD5 keys out of Secrets.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use fairlead_crds::model::config::SecretRef;
use fairlead_runtime::client::chain;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use tokio::time::timeout;

/// Type that the Secret must have, as in MetalLB.
const BASIC_AUTH: &str = "kubernetes.io/basic-auth";
/// Key in it.
const PASSWORD: &str = "password";

/// Reads keys when sessions connect, so that a changed one is taken with the next attempt. While the API server is
/// away, the last one known serves.
pub(crate) struct Passwords {
    client: Client,
    namespace: String,
    known: Mutex<BTreeMap<SecretRef, Vec<u8>>>,
}

impl Passwords {
    /// Secrets without a namespace are in `namespace`.
    pub(crate) fn new(client: Client, namespace: &str) -> Self {
        Self { client, namespace: namespace.to_owned(), known: Mutex::default() }
    }

    /// The key, or what is wrong in a sentence.
    pub(super) async fn get(&self, secret: &SecretRef) -> Result<Vec<u8>, String> {
        let namespace = secret.namespace.as_deref().unwrap_or(&self.namespace);
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let name = format!("{namespace}/{}", secret.name);
        let unreachable = match timeout(Duration::from_secs(3), api.get_opt(&secret.name)).await {
            Ok(Ok(Some(found))) => {
                let key = password(found).map_err(|why| format!("Secret {name} {why}"))?;
                self.known().insert(secret.clone(), key.clone());
                return Ok(key);
            }
            Ok(Ok(None)) => return Err(format!("Secret {name} does not exist")),
            Ok(Err(error)) => chain(&error),
            Err(_) => "the API server does not answer".to_owned(),
        };
        let known = self.known().get(secret).cloned();
        known.ok_or_else(|| format!("Secret {name} cannot be read: {unreachable}"))
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeMap<SecretRef, Vec<u8>>> {
        self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn password(secret: Secret) -> Result<Vec<u8>, String> {
    match secret.type_.as_deref() {
        Some(BASIC_AUTH) => {}
        other => return Err(format!("is of type {}, not {BASIC_AUTH}", other.unwrap_or("Opaque"))),
    }
    match secret.data.and_then(|mut data| data.remove(PASSWORD)) {
        Some(key) if !key.0.is_empty() => Ok(key.0),
        _ => Err(format!("has no {PASSWORD}")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn what_a_secret_must_be_like() {
        let table = [
            (json!({"type": BASIC_AUTH, "data": {"password": "c2VjcmV0"}}), Ok(b"secret".to_vec())),
            (json!({"type": "Opaque", "data": {"password": "c2VjcmV0"}}), Err("type Opaque")),
            (json!({"type": BASIC_AUTH, "data": {"username": "c2VjcmV0"}}), Err("has no password")),
            (json!({"type": BASIC_AUTH, "data": {"password": ""}}), Err("has no password")),
        ];
        for (secret, expected) in table {
            match (password(from_value(secret.clone()).unwrap()), expected) {
                (Ok(key), Ok(expected)) => assert_eq!(key, expected),
                (Err(why), Err(expected)) => assert!(why.contains(expected), "{why}"),
                (got, _) => panic!("{secret}: {got:?}"),
            }
        }
    }
}
