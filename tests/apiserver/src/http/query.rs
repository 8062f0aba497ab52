//! Parameters of a request.

use std::collections::HashMap;

use axum::extract::Query;
use axum::http::{HeaderMap, Uri, header};

use super::now;
use crate::api::{Ask, ListOptions, UnknownFields};
use crate::failure::Failure;

/// The query string.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parameters(HashMap<String, String>);

impl Parameters {
    /// # Errors
    /// 400.
    pub(crate) fn of(uri: &Uri) -> Result<Parameters, Failure> {
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|error| Failure::bad_request(error.to_string()))?;
        Ok(Parameters(pairs.into_iter().collect()))
    }

    /// Returns a parameter that is present and not empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    pub(crate) fn flag(&self, name: &str) -> bool {
        matches!(self.0.get(name).map(String::as_str), Some("true" | "1" | "True"))
    }

    fn number(&self, name: &str) -> Result<Option<u64>, Failure> {
        self.get(name)
            .map(|text| {
                text.parse().map_err(|_| {
                    Failure::bad_request(format!("Invalid value: {text:?}: {name} must be a number"))
                })
            })
            .transpose()
    }

    /// # Errors
    /// 400.
    pub(crate) fn resource_version(&self) -> Result<Option<u64>, Failure> {
        self.number("resourceVersion")
    }

    /// # Errors
    /// 400.
    pub(crate) fn timeout_seconds(&self) -> Result<Option<u64>, Failure> {
        self.number("timeoutSeconds")
    }

    /// # Errors
    /// 400 for contradictory parameters.
    pub(crate) fn list(&self) -> Result<ListOptions, Failure> {
        let options = ListOptions {
            resource_version: self.resource_version()?,
            exact: self.get("resourceVersionMatch") == Some("Exact"),
            limit: self
                .number("limit")?
                .filter(|limit| *limit > 0)
                .and_then(|limit| usize::try_from(limit).ok()),
            token: self.get("continue").map(str::to_owned),
        };
        if options.token.is_some() && options.resource_version.is_some_and(|revision| revision > 0) {
            return Err(Failure::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        if self.get("resourceVersionMatch").is_some() && options.resource_version.is_none() {
            return Err(Failure::bad_request(
                "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided",
            ));
        }
        if options.exact && options.resource_version == Some(0) {
            return Err(Failure::bad_request(
                "resourceVersionMatch: Forbidden: resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
            ));
        }
        Ok(options)
    }

    /// # Errors
    /// 400 for an unknown value.
    pub(crate) fn ask(&self, headers: &HeaderMap) -> Result<Ask, Failure> {
        let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
        let agent = agent.split('/').next().unwrap_or_default();
        let manager = self.get("fieldManager").unwrap_or(if agent.is_empty() { "unknown" } else { agent });
        let dry_run = match self.get("dryRun") {
            None => false,
            Some("All") => true,
            Some(other) => {
                return Err(Failure::bad_request(format!(
                    "dryRun: Unsupported value: {other:?}: supported values: \"All\""
                )));
            }
        };
        let unknown = match self.get("fieldValidation") {
            None | Some("Warn") => UnknownFields::Warn,
            Some("Ignore") => UnknownFields::Ignore,
            Some("Strict") => UnknownFields::Refuse,
            Some(other) => {
                return Err(Failure::bad_request(format!(
                    "fieldValidation: Unsupported value: {other:?}: supported values: \"Ignore\", \"Strict\", \"Warn\""
                )));
            }
        };
        Ok(Ask { now: now(), manager: manager.to_owned(), dry_run, force: self.flag("force"), unknown })
    }
}
