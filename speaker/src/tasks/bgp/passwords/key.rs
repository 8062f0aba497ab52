//! TCP-MD5 keys: reading them from Secrets, and what is unusual about them. Contains no I/O.

use std::fmt;

use fairlead_crds::model::config::SecretRef;
use fairlead_crds::names::{PASSWORD_SECRET_KEY, PASSWORD_SECRET_TYPE};
use fairlead_crds::objects::Secret;

/// Longest key in octets that Linux accepts (`TCP_MD5SIG_MAXKEYLEN`).
const MAX_LENGTH: usize = 80;

/// A TCP-MD5 key (RFC 2385), 1 to 80 octets.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::tasks::bgp) struct Key(Vec<u8>);

impl Key {
    pub(in crate::tasks::bgp) fn octets(&self) -> &[u8] {
        &self.0
    }

    #[cfg(test)]
    pub(in crate::tasks::bgp) fn for_test(key: &str) -> Self {
        Self(key.as_bytes().to_vec())
    }

    /// Returns the key in a Secret.
    ///
    /// # Errors
    /// Returns the problem, as the rest of a sentence that begins with the name of the Secret.
    pub(super) fn of(secret: Secret) -> Result<Self, String> {
        match secret.type_.as_deref() {
            Some(PASSWORD_SECRET_TYPE) => {}
            other => {
                return Err(format!("is of type {}, not {PASSWORD_SECRET_TYPE}", other.unwrap_or("Opaque")));
            }
        }
        match secret.data.and_then(|mut data| data.remove(PASSWORD_SECRET_KEY)) {
            Some(key) if key.0.len() > MAX_LENGTH => Err(format!(
                "has a {PASSWORD_SECRET_KEY} of {} octets: a TCP-MD5 key has at most {MAX_LENGTH}",
                key.0.len()
            )),
            Some(key) if !key.0.is_empty() => Ok(Self(key.0)),
            _ => Err(format!("has no entry {PASSWORD_SECRET_KEY}")),
        }
    }

    /// Returns what is unusual about the key. It is used as it is, because the router may have the same.
    fn problem(&self) -> Option<&'static str> {
        match self.0.as_slice() {
            [.., b'\n' | b'\r'] => Some(
                "ends with a newline, which is part of the key: if the router has the key without it, no connection \
                 is established; create the Secret with --from-literal, or from a file without a newline",
            ),
            [b' ' | b'\t' | b'\n' | b'\r', ..] | [.., b' ' | b'\t'] => Some(
                "begins or ends with white space, which is part of the key: check that the router has it too",
            ),
            _ => None,
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

/// What is known of a Secret with a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::tasks::bgp) struct SecretState {
    /// The last valid key.
    key: Option<Key>,
    /// Why the Secret has no valid key at present.
    problem: Option<String>,
    /// Why the Secret could not be read.
    failure: Option<String>,
}

impl SecretState {
    /// Sets what the API server reported. A problem leaves the last valid key in use.
    pub(super) fn set(&mut self, read: Result<Key, String>) {
        match read {
            Ok(key) => *self = Self { key: Some(key), ..Self::default() },
            Err(problem) => self.problem = Some(problem),
        }
    }

    /// Sets why the Secret cannot be read; `None` if it can.
    pub(super) fn set_failure(&mut self, failure: Option<String>) {
        self.failure = failure;
    }

    pub(in crate::tasks::bgp) fn key(&self) -> Option<&Key> {
        self.key.as_ref()
    }

    /// Returns the key, or without one the problem of the Secret named `name`, as a text for the operator;
    /// `None` while neither is known.
    pub(super) fn result(&self, name: &str) -> Option<Result<Key, String>> {
        match (&self.key, &self.problem, &self.failure) {
            (Some(key), ..) => Some(Ok(key.clone())),
            (None, Some(problem), _) => Some(Err(format!("Secret {name} {problem}"))),
            (None, None, Some(failure)) => Some(Err(format!("Secret {name} cannot be read: {failure}"))),
            (None, None, None) => None,
        }
    }

    /// Returns what is wrong, or probably wrong, with the Secret named `name` although a key is in use.
    pub(super) fn message(&self, name: &str) -> Option<String> {
        let key = self.key.as_ref()?;
        match &self.problem {
            Some(problem) => Some(format!("Secret {name} {problem}: its last TCP-MD5 key stays in use")),
            None => Some(format!("the TCP-MD5 key in Secret {name} {}", key.problem()?)),
        }
    }
}

/// Returns `namespace/name` of a Secret.
pub(super) fn name_of(secret: &SecretRef, default_namespace: &str) -> String {
    format!("{}/{}", secret.namespace.as_deref().unwrap_or(default_namespace), secret.name)
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn key_with_newline_or_white_space_is_named() {
        for (text, problem) in [
            ("secret\n", Some("newline")),
            ("secret\r\n", Some("newline")),
            ("\n", Some("newline")),
            ("\nsecret", Some("white space")),
            (" secret", Some("white space")),
            ("secret\t", Some("white space")),
            ("a secret", None),
            ("sec\nret", None),
        ] {
            let mut state = SecretState::default();
            state.set(Ok(Key::for_test(text)));
            let message = state.message("a/b");
            assert_eq!(message.is_some(), problem.is_some(), "{text:?}");
            assert!(message.unwrap_or_default().contains(problem.unwrap_or_default()), "{text:?}");
        }
    }

    #[test]
    fn secret_has_required_type_and_entry() {
        let data = |password: &str| json!({"type": PASSWORD_SECRET_TYPE, "data": {"password": password}});
        let octets = |length: usize| data(&"YWFh".repeat(length / 3));
        let table = [
            (data("c2VjcmV0"), Ok(b"secret".to_vec())),
            (octets(78), Ok(vec![b'a'; 78])),
            (octets(81), Err("of 81 octets")),
            (json!({"type": "Opaque", "data": {"password": "c2VjcmV0"}}), Err("type Opaque")),
            (
                json!({"type": PASSWORD_SECRET_TYPE, "data": {"username": "c2VjcmV0"}}),
                Err("has no entry password"),
            ),
            (data(""), Err("has no entry password")),
        ];
        for (secret, expected) in table {
            match (Key::of(from_value(secret.clone()).unwrap()), expected) {
                (Ok(key), Ok(expected)) => assert_eq!(key.octets(), expected),
                (Err(problem), Err(expected)) => assert!(problem.contains(expected), "{problem}"),
                (got, _) => panic!("{secret}: {got:?}"),
            }
        }
    }

    #[test]
    fn last_valid_key_stays_in_use() {
        let mut state = SecretState::default();
        assert_eq!(state.result("a/b"), None);
        state.set_failure(Some("forbidden".to_owned()));
        assert_eq!(state.result("a/b"), Some(Err("Secret a/b cannot be read: forbidden".to_owned())));
        state.set(Err("does not exist".to_owned()));
        assert_eq!(state.result("a/b"), Some(Err("Secret a/b does not exist".to_owned())));
        assert_eq!(state.message("a/b"), None, "the error of the session says it");
        state.set(Ok(Key::for_test("one")));
        assert_eq!((state.result("a/b"), state.message("a/b")), (Some(Ok(Key::for_test("one"))), None));
        state.set(Err("does not exist".to_owned()));
        assert_eq!(state.result("a/b"), Some(Ok(Key::for_test("one"))));
        let message = state.message("a/b").unwrap();
        assert_eq!(message, "Secret a/b does not exist: its last TCP-MD5 key stays in use");
        state.set(Ok(Key::for_test("two")));
        assert_eq!((state.result("a/b"), state.message("a/b")), (Some(Ok(Key::for_test("two"))), None));
    }

    #[test]
    fn debug_output_has_no_key() {
        let mut state = SecretState::default();
        state.set(Ok(Key::for_test("hush")));
        assert!(!format!("{state:?}").contains("hush"));
    }
}
