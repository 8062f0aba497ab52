//! Reads TCP-MD5 keys from Secrets.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use fairlead_crds::model::config::SecretRef;
use fairlead_crds::names::{PASSWORD_SECRET_KEY, PASSWORD_SECRET_TYPE};
use fairlead_runtime::client::chain;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use tokio::runtime::Handle;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

/// Longest time for the API server to return a Secret.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// Reads a key at every connection attempt, so that a changed Secret takes effect. While the API server is
/// not available, the last key that was read is used.
pub(crate) struct Passwords {
    client: Client,
    namespace: String,
    /// Runtime of the client: its connections must not depend on the thread of the BGP sessions.
    runtime: Handle,
    /// The last keys that were read. Bounded by the number of Secrets that BGPPeers refer to.
    last_read: Mutex<BTreeMap<SecretRef, Vec<u8>>>,
}

impl Passwords {
    /// `namespace` is the namespace of Secrets whose reference has none. Must be called in the runtime of the
    /// client.
    pub(crate) fn new(client: Client, namespace: &str) -> Self {
        Self {
            client,
            namespace: namespace.to_owned(),
            runtime: Handle::current(),
            last_read: Mutex::default(),
        }
    }

    /// Returns the key.
    ///
    /// # Errors
    /// Returns the problem, as a text for the operator.
    pub(super) async fn get(&self, secret: &SecretRef) -> Result<Vec<u8>, String> {
        let namespace = secret.namespace.as_deref().unwrap_or(&self.namespace);
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let name = format!("{namespace}/{}", secret.name);
        let requested = secret.name.clone();
        let request = async move { timeout(REQUEST_TIMEOUT, api.get_opt(&requested)).await };
        let error = match AbortOnDropHandle::new(self.runtime.spawn(request)).await {
            Ok(Ok(Ok(Some(found)))) => {
                let key = password(found).map_err(|problem| format!("Secret {name} {problem}"))?;
                self.last_read().insert(secret.clone(), key.clone());
                return Ok(key);
            }
            Ok(Ok(Ok(None))) => return Err(format!("Secret {name} does not exist")),
            Ok(Ok(Err(error))) => chain(&error),
            Err(_) | Ok(Err(_)) => "the API server does not respond".to_owned(),
        };
        let last_read = self.last_read().get(secret).cloned();
        last_read.ok_or_else(|| format!("Secret {name} cannot be read: {error}"))
    }

    /// Returns what is probably wrong with the key that was read last, as a text for the operator.
    pub(super) fn problem(&self, secret: &SecretRef) -> Option<String> {
        let namespace = secret.namespace.as_deref().unwrap_or(&self.namespace);
        let problem = key_problem(self.last_read().get(secret)?)?;
        Some(format!("the TCP-MD5 key in Secret {namespace}/{} {problem}", secret.name))
    }

    fn last_read(&self) -> std::sync::MutexGuard<'_, BTreeMap<SecretRef, Vec<u8>>> {
        self.last_read.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Returns what is unusual about a key. It is used as it is, because the router may have the same.
fn key_problem(key: &[u8]) -> Option<&'static str> {
    match key {
        [.., b'\n' | b'\r'] => Some(
            "ends with a newline, which is part of the key: if the router has the key without it, no connection \
             is established; create the Secret with --from-literal, or from a file without a newline",
        ),
        [b' ' | b'\t', ..] | [.., b' ' | b'\t'] => Some(
            "begins or ends with white space, which is part of the key: check that the router has it too",
        ),
        _ => None,
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
    fn key_with_newline_or_white_space_is_named() {
        for (key, problem) in [
            ("secret\n", Some("newline")),
            ("secret\r\n", Some("newline")),
            ("\n", Some("newline")),
            (" secret", Some("white space")),
            ("secret\t", Some("white space")),
            ("a secret", None),
            ("sec\nret", None),
        ] {
            let found = key_problem(key.as_bytes());
            assert_eq!(found.is_some(), problem.is_some(), "{key:?}");
            assert!(found.unwrap_or_default().contains(problem.unwrap_or_default()), "{key:?}: {found:?}");
        }
    }

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
