//! `fairlead status service`: the state, addresses and pool of Services.

use anyhow::Result;
use serde::Serialize;

use super::services::{self, ServiceStatus};
use crate::cluster::{Snapshot, Unread};
use crate::output::{Report, age, table};

/// Services and their states.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ServiceReport {
    pub services: Vec<ServiceStatus>,
    pub unread: Vec<Unread>,
    #[serde(skip)]
    ages: Vec<String>,
}

impl ServiceReport {
    /// Returns all Services that the options select, or the one of this name.
    ///
    /// # Errors
    /// Returns an error if there is no such Service.
    pub(crate) fn of(snapshot: &Snapshot, name: Option<&str>) -> Result<Self> {
        let mut services = services::all(snapshot);
        if let Some(name) = name {
            let key = crate::service_key(name, &snapshot.namespace);
            services.retain(|service| service.key() == key);
            if services.is_empty() {
                let what = format!("Service {key} of type LoadBalancer and of the class of this instance");
                return Err(snapshot.absent("services", &what));
            }
        }
        let ages = services.iter().map(|service| age(service.since, snapshot.now)).collect();
        Ok(Self { services, unread: snapshot.unread.clone(), ages })
    }
}

impl Report for ServiceReport {
    const KIND: &'static str = "ServiceStatusList";

    fn text(&self, wide: bool) -> String {
        if self.services.is_empty() {
            return "No Services.\n".to_owned();
        }
        let mut headers = vec!["NAMESPACE", "NAME", "STATE", "REASON", "ADDRESSES", "POOL", "SINCE"];
        headers.extend(wide.then_some("MESSAGE"));
        let rows = self.services.iter().zip(&self.ages).map(|(service, age)| {
            let addresses: Vec<String> = service.addresses.iter().map(ToString::to_string).collect();
            let mut row = vec![
                service.namespace.clone(),
                service.name.clone(),
                format!("{:?}", service.state),
                service.reason.clone(),
                addresses.join(","),
                service.pool.clone().unwrap_or_default(),
                age.clone(),
            ];
            row.extend(wide.then(|| service.message.clone()));
            row
        });
        table(&headers, rows) + &super::unread_text(&self.unread)
    }

    fn succeeds(&self) -> bool {
        self.services.iter().all(ServiceStatus::is_well)
    }
}
