//! `fairlead status pool`: the addresses of pools.

use anyhow::Result;
use fairlead_crds::names::{ACCEPTED, EXHAUSTED};
use fairlead_crds::v1beta1::IPAddressPool;
use kube::ResourceExt;
use serde::Serialize;

use crate::cluster::{Snapshot, Unread, condition};
use crate::output::{Report, table};

/// A pool. Counts are those of the status; unset if the controller has not written them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PoolRow {
    pub name: String,
    /// `Accepted`, `Refused`, `Exhausted`, `Disabled`, `Deleting` or `Unknown`.
    pub state: &'static str,
    /// The message of the condition that decided.
    pub message: String,
    #[serde(rename = "assignedIPv4")]
    pub assigned_ipv4: Option<i64>,
    #[serde(rename = "availableIPv4")]
    pub available_ipv4: Option<i64>,
    #[serde(rename = "totalIPv4")]
    pub total_ipv4: Option<i64>,
    #[serde(rename = "assignedIPv6")]
    pub assigned_ipv6: Option<i64>,
    #[serde(rename = "availableIPv6")]
    pub available_ipv6: Option<i64>,
    #[serde(rename = "totalIPv6")]
    pub total_ipv6: Option<i64>,
    pub addresses: Vec<String>,
}

/// Pools.
#[derive(Serialize)]
pub(crate) struct PoolReport {
    pub pools: Vec<PoolRow>,
    pub unread: Vec<Unread>,
}

/// Returns the pools of the instance.
pub(crate) fn rows(snapshot: &Snapshot) -> Vec<PoolRow> {
    let class = snapshot.instance.class.as_deref();
    let own = snapshot
        .pools
        .iter()
        .filter(|pool| pool.spec.load_balancer_class.as_deref().filter(|name| !name.is_empty()) == class);
    own.map(row).collect()
}

fn row(pool: &IPAddressPool) -> PoolRow {
    let status = pool.status.clone().unwrap_or_default();
    let find = |type_: &str| condition(&status.conditions, type_);
    let accepted = find(ACCEPTED);
    let exhausted = find(EXHAUSTED).filter(|found| found.status() == "True");
    let (state, decided) = if pool.metadata.deletion_timestamp.is_some() {
        ("Deleting", find(fairlead_crds::names::IN_USE))
    } else if let Some(refused) = accepted.filter(|found| found.status() == "False") {
        ("Refused", Some(refused))
    } else if accepted.is_none() {
        ("Unknown", None)
    } else if pool.spec.disabled {
        ("Disabled", None)
    } else if exhausted.is_some() {
        ("Exhausted", exhausted)
    } else {
        ("Accepted", None)
    };
    PoolRow {
        name: pool.name_any(),
        state,
        message: decided.map(|found| found.message().to_owned()).unwrap_or_default(),
        assigned_ipv4: status.assigned_ipv4,
        available_ipv4: status.available_ipv4,
        total_ipv4: status.total_ipv4,
        assigned_ipv6: status.assigned_ipv6,
        available_ipv6: status.available_ipv6,
        total_ipv6: status.total_ipv6,
        addresses: pool.spec.addresses.clone(),
    }
}

/// Returns the table of pools.
pub(crate) fn table_of(pools: &[PoolRow], wide: bool) -> String {
    let mut headers = vec!["NAME", "STATE", "IPV4-USED", "IPV4-FREE", "IPV6-USED", "IPV6-FREE"];
    headers.extend(wide.then_some(["ADDRESSES", "MESSAGE"]).into_iter().flatten());
    let number = |number: Option<i64>| match number {
        None => String::new(),
        // Counts saturate.
        Some(i64::MAX) => ">9e18".to_owned(),
        Some(number) => number.to_string(),
    };
    let rows = pools.iter().map(|pool| {
        let has = |total: Option<i64>, value: Option<i64>| total.filter(|total| *total > 0).and(value);
        let mut row = vec![
            pool.name.clone(),
            pool.state.to_owned(),
            number(has(pool.total_ipv4, pool.assigned_ipv4)),
            number(has(pool.total_ipv4, pool.available_ipv4)),
            number(has(pool.total_ipv6, pool.assigned_ipv6)),
            number(has(pool.total_ipv6, pool.available_ipv6)),
        ];
        if wide {
            row.extend([crate::output::list(&pool.addresses, 5), pool.message.clone()]);
        }
        row
    });
    table(&headers, rows)
}

impl PoolReport {
    /// Returns all pools of the instance, or the one of this name.
    ///
    /// # Errors
    /// Returns an error if there is no such pool.
    pub(crate) fn of(snapshot: &Snapshot, name: Option<&str>) -> Result<Self> {
        let mut pools = rows(snapshot);
        if let Some(name) = name {
            pools.retain(|pool| pool.name == name);
            if pools.is_empty() {
                return Err(
                    snapshot.absent("ipaddresspools", &format!("IPAddressPool {name} of this instance"))
                );
            }
        }
        Ok(Self { pools, unread: snapshot.unread.clone() })
    }
}

impl Report for PoolReport {
    const KIND: &'static str = "PoolStatusList";

    fn text(&self, wide: bool) -> String {
        if self.pools.is_empty() {
            return "No IPAddressPools.\n".to_owned() + &super::unread_text(&self.unread);
        }
        table_of(&self.pools, wide) + &super::unread_text(&self.unread)
    }

    fn succeeds(&self) -> bool {
        self.pools.iter().all(|pool| pool.state != "Refused")
    }
}
