//! The users of a session, and whose parameters it runs with.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{MAX_USERS, TableError};
use crate::{Role, SessionConfig};

/// The users of a session, and whose parameters it runs with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Users {
    /// Names, in alphabetical order.
    pub names: Vec<String>,
    /// The user with the fastest parameters. The session runs with them.
    pub fastest: String,
}

/// Parameters by the name of the user that requests them.
#[derive(Debug, Default)]
pub(super) struct Requests(BTreeMap<String, SessionConfig>);

impl Requests {
    pub(super) fn set(&mut self, user: &str, config: SessionConfig) -> Result<(), TableError> {
        if let Some(request) = self.0.get_mut(user) {
            *request = config;
        } else if self.0.len() >= MAX_USERS {
            return Err(TableError::TooManyUsers);
        } else {
            self.0.insert(user.to_owned(), config);
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, user: &str) {
        self.0.remove(user);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the parameters of the fastest user; `None` without users.
    pub(super) fn config(&self) -> Option<SessionConfig> {
        let (_, fastest) = self.fastest()?;
        let active = self.0.values().any(|config| config.role == Role::Active);
        Some(SessionConfig { role: if active { Role::Active } else { Role::Passive }, ..*fastest })
    }

    pub(super) fn users(&self) -> Option<Users> {
        let (fastest, _) = self.fastest()?;
        Some(Users { names: self.0.keys().cloned().collect(), fastest: fastest.clone() })
    }

    /// The first name wins among equals.
    fn fastest(&self) -> Option<(&String, &SessionConfig)> {
        self.0.iter().min_by_key(|(_, config)| speed(config))
    }
}

/// Order of parameters, the fastest first.
fn speed(config: &SessionConfig) -> (Duration, Duration, Duration) {
    let detection_time_of_peer = config.desired_min_tx * u32::from(config.detect_multiplier);
    (detection_time_of_peer, config.required_min_rx, config.desired_min_tx)
}
