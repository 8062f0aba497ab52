//! Reads TCP-MD5 keys from Secrets.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use fairlead_crds::model::config::SecretRef;
use fairlead_crds::names::{PASSWORD_SECRET_KEY, PASSWORD_SECRET_TYPE};
use fairlead_runtime::client::chain;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use tokio::time::timeout;

/// Longest time for the API server to return a Secret.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// Reads a key at every connection attempt, so that a changed Secret takes effect. While the API server is
/// not available, the last key that was read is used.
pub(crate) struct Passwords {
    client: Client,
    namespace: String,
    /// The last keys that were read. Bounded by the number of Secrets that BGPPeers refer to.
    last_read: Mutex<BTreeMap<SecretRef, Vec<u8>>>,
}

impl Passwords {
    /// `namespace` is the namespace of Secrets whose reference has none.
    pub(crate) fn new(client: Client, namespace: &str) -> Self {
        Self { client, namespace: namespace.to_owned(), last_read: Mutex::default() }
    }

    /// Returns the key.
    ///
    /// # Errors
    /// Returns the problem, as a text for the operator.
    pub(super) async fn get(&self, secret: &SecretRef) -> Result<Vec<u8>, String> {
        let namespace = secret.namespace.as_deref().unwrap_or(&self.namespace);
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let name = format!("{namespace}/{}", secret.name);
        let error = match timeout(REQUEST_TIMEOUT, api.get_opt(&secret.name)).await {
            Ok(Ok(Some(found))) => {
                let key = password(found).map_err(|problem| format!("Secret {name} {problem}"))?;
                self.last_read().insert(secret.clone(), key.clone());
                return Ok(key);
            }
            Ok(Ok(None)) => return Err(format!("Secret {name} does not exist")),
            Ok(Err(error)) => chain(&error),
            Err(_) => "the API server does not respond".to_owned(),
        };
        let last_read = self.last_read().get(secret).cloned();
        last_read.ok_or_else(|| format!("Secret {name} cannot be read: {error}"))
    }

    fn last_read(&self) -> std::sync::MutexGuard<'_, BTreeMap<SecretRef, Vec<u8>>> {
        self.last_read.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn password(secret: Secret) -> Result<Vec<u8>, String> {
    match secret.type_.as_deref() {
        Some(PASSWORD_SECRET_TYPE) => {}
        other => return Err(format!("is of type {}, not {PASSWORD_SECRET_TYPE}", other.unwrap_or("Opaque"))),
    }
    match secret.data.and_then(|mut data| data.remove(PASSWORD_SECRET_KEY)) {
        Some(key) if !key.0.is_empty() => Ok(key.0),
        _ => Err(format!("has no entry {PASSWORD_SECRET_KEY}")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn secret_has_required_type_and_entry() {
        let table = [
            (json!({"type": PASSWORD_SECRET_TYPE, "data": {"password": "c2VjcmV0"}}), Ok(b"secret".to_vec())),
            (json!({"type": "Opaque", "data": {"password": "c2VjcmV0"}}), Err("type Opaque")),
            (
                json!({"type": PASSWORD_SECRET_TYPE, "data": {"username": "c2VjcmV0"}}),
                Err("has no entry password"),
            ),
            (json!({"type": PASSWORD_SECRET_TYPE, "data": {"password": ""}}), Err("has no entry password")),
        ];
        for (secret, expected) in table {
            match (password(from_value(secret.clone()).unwrap()), expected) {
                (Ok(key), Ok(expected)) => assert_eq!(key, expected),
                (Err(problem), Err(expected)) => assert!(problem.contains(expected), "{problem}"),
                (got, _) => panic!("{secret}: {got:?}"),
            }
        }
    }
}
