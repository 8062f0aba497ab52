//! The objects of one test: it applies them, observes them through the API, and deletes them at its end.

use std::cell::RefCell;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use fairlead_lab::{Lab, ensure, wait_for};
use serde_json::{Value, json};

use crate::{LbService, Pool, SOON};

/// `apiVersion` of Fairlead's kinds.
pub const VERSION: &str = "fairlead.dev/v1beta1";
const ALLOCATED: &str = "fairlead.dev/Allocated";
const FROM_POOL: &str = "fairlead.dev/ip-allocated-from-pool";

/// The addresses of a Service and their explanation, as stored in the API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// `status.loadBalancer.ingress`, in its order.
    pub addresses: Vec<IpAddr>,
    /// The annotation `ip-allocated-from-pool`.
    pub pool: Option<String>,
    /// Status and reason of the condition `Allocated`, as `True/Allocated`.
    pub allocated: String,
    /// Its message.
    pub message: String,
}

/// Objects that a test created. Dropping it deletes them, Services first, and waits until they are deleted.
pub struct Scene<'a> {
    lab: &'a Lab,
    made: RefCell<Vec<Value>>,
}

impl<'a> Scene<'a> {
    /// Returns a scene without objects.
    pub fn new(lab: &'a Lab) -> Self {
        Self { lab, made: RefCell::new(Vec::new()) }
    }

    /// Returns the lab.
    pub fn lab(&self) -> &'a Lab {
        self.lab
    }

    /// Applies an object.
    ///
    /// # Panics
    /// If the API server rejects it. All methods here panic if the expected state does not occur.
    pub fn apply(&self, object: &Value) {
        let mut made = self.made.borrow_mut();
        if !made.iter().any(|known| same(known, object)) {
            made.push(object.clone());
        }
        done(self.lab.api().and_then(|api| api.apply_object(object.clone())));
    }

    /// Merges a patch into an object.
    pub fn merge(&self, object: &Value, patch: Value) {
        done(self.lab.api().and_then(|api| api.merge(object.clone(), patch)));
    }

    /// Deletes an object.
    pub fn delete(&self, object: &Value) {
        done(self.lab.api().and_then(|api| api.delete(&object.to_string())));
    }

    /// Applies pools and waits until the controller uses them. Pools and Services arrive by separate watches,
    /// so the controller may reconcile a new Service before an older pool.
    pub fn pools<const N: usize>(&self, pools: [&Pool; N]) {
        pools.iter().for_each(|pool| self.apply(pool.object()));
        for pool in pools {
            done(wait_for(format!("pool {} to be in force", pool.name()), SOON, || {
                let seen = pool.seen(self.lab)?;
                ensure(in_force(&seen), &seen).map_err(|seen| anyhow!("{seen}"))
            }));
        }
    }

    /// Applies a Service.
    pub fn service(&self, service: &LbService) {
        self.apply(service.object());
    }

    /// Creates a namespace.
    pub fn namespace(&self, name: &str) -> Value {
        let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
        self.apply(&object);
        object
    }

    /// Returns the API's view of a Service.
    pub fn seen(&self, service: &LbService) -> Seen {
        done(seen(self.lab, service))
    }

    /// Waits until a Service has exactly these addresses in this order, the annotation with their pool, and
    /// condition Allocated.
    pub fn expect(&self, service: &LbService, addresses: &[&str], pool: &str) -> Vec<IpAddr> {
        let wanted: Vec<IpAddr> = addresses.iter().map(|ip| done(ip.parse().context("address"))).collect();
        let seen = self.expect_that(service, &format!("{addresses:?} from {pool}"), SOON, |seen| {
            seen.addresses == wanted
                && seen.pool.as_deref() == Some(pool)
                && seen.allocated.starts_with("True/")
        });
        seen.addresses
    }

    /// Applies a Service and waits until it has these addresses.
    pub fn serve(&self, service: &LbService, addresses: &[&str], pool: &str) -> Vec<IpAddr> {
        self.service(service);
        self.expect(service, addresses, pool)
    }

    /// Waits until a Service has no address, no annotation, and this reason.
    pub fn expect_refused(&self, service: &LbService, reason: &str) {
        self.expect_that(service, reason, SOON, |seen| {
            seen.addresses.is_empty() && seen.pool.is_none() && seen.allocated == format!("False/{reason}")
        });
    }

    /// Waits until a Service has no address, for any reason.
    pub fn expect_nothing(&self, service: &LbService) {
        self.expect_that(service, "nothing", SOON, |seen| {
            seen.addresses.is_empty() && seen.pool.is_none() && seen.allocated.starts_with("False/")
        });
    }

    /// Applies a Service and waits until it is refused for this reason.
    pub fn refuse(&self, service: &LbService, reason: &str) {
        self.service(service);
        self.expect_refused(service, reason);
    }

    /// Waits until `observe` accepts the Service.
    pub fn expect_that(
        &self,
        service: &LbService,
        what: &str,
        limit: Duration,
        so: impl Fn(&Seen) -> bool,
    ) -> Seen {
        done(wait_for(format!("service {}: {what}", service.name()), limit, || {
            let seen = seen(self.lab, service)?;
            ensure(so(&seen), &seen).map_err(|seen| anyhow!("{seen:?}"))?;
            anyhow::Ok(seen)
        }))
    }

    /// Waits until these fields of a pool's status have these values; an absent field equals 0.
    pub fn expect_counts(&self, pool: &Pool, counts: &[(&str, i64)]) {
        done(wait_for(format!("{counts:?} of pool {}", pool.name()), SOON, || {
            let status = pool.seen(self.lab)?["status"].take();
            let so = counts.iter().all(|(field, count)| status[*field].as_i64().unwrap_or(0) == *count);
            ensure(so, status).map_err(|status| anyhow!("{status}"))
        }));
    }

    /// Waits until a condition of an object is `True` or `False`. Returns `reason: message`.
    pub fn expect_condition(&self, object: &Value, type_: &str, status: bool) -> String {
        let wanted = if status { "True" } else { "False" };
        done(wait_for(format!("{type_}={wanted} of {}", describe(object)), SOON, || {
            let object = read(self.lab, object)?;
            let condition = condition(&object, type_).with_context(|| object.to_string())?;
            ensure(condition["status"] == wanted, condition).map_err(|seen| anyhow!("{seen}"))?;
            let text = |field: &str| condition[field].as_str().unwrap_or_default();
            anyhow::Ok(format!("{}: {}", text("reason"), text("message")))
        }))
    }

    /// Reads an object.
    pub fn read(&self, object: &Value) -> Value {
        done(read(self.lab, object))
    }

    /// Waits until an object is deleted.
    pub fn expect_gone(&self, object: &Value) {
        done(gone(self.lab, object));
    }
}

impl Drop for Scene<'_> {
    fn drop(&mut self) {
        // A failed test discards the lab.
        if std::thread::panicking() {
            return;
        }
        let mut made = self.made.take();
        // A pool in use is not deleted, and a namespace is deleted after its contents.
        made.sort_by_key(|object| {
            ["Service", "IPClaim"].iter().position(|kind| object["kind"] == *kind).unwrap_or(2)
        });
        for object in &made {
            self.delete(object);
        }
        for object in &made {
            self.expect_gone(object);
        }
    }
}

fn seen(lab: &Lab, service: &LbService) -> Result<Seen> {
    let object = lab.api()?.get("v1", "Service", Some(service.namespace()), service.name())?;
    let ingress = object.pointer("/status/loadBalancer/ingress").and_then(Value::as_array);
    let addresses =
        ingress.into_iter().flatten().filter_map(|entry| entry["ip"].as_str()?.parse().ok()).collect();
    let allocated = condition(&object, ALLOCATED);
    let text = |field: &str| allocated.and_then(|c| c[field].as_str()).unwrap_or_default();
    Ok(Seen {
        addresses,
        pool: object["metadata"]["annotations"][FROM_POOL].as_str().map(str::to_owned),
        allocated: format!("{}/{}", text("status"), text("reason")),
        message: text("message").to_owned(),
    })
}

fn in_force(pool: &Value) -> bool {
    condition(pool, "Accepted").is_some_and(|condition| {
        condition["status"] == "True" && condition["observedGeneration"] == pool["metadata"]["generation"]
    })
}

fn condition<'a>(object: &'a Value, type_: &str) -> Option<&'a Value> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    conditions.iter().find(|condition| condition["type"] == type_)
}

fn gone(lab: &Lab, object: &Value) -> Result<()> {
    wait_for(format!("the end of {}", describe(object)), SOON, || match read(lab, object) {
        Ok(object) => Err(anyhow!("{object}")),
        Err(error) if format!("{error:#}").contains("not found") => Ok(()),
        Err(error) => Err(error),
    })
}

fn read(lab: &Lab, object: &Value) -> Result<Value> {
    let text = |value: &Value| value.as_str().map(str::to_owned).unwrap_or_default();
    let namespace = object["metadata"]["namespace"].as_str();
    let [version, kind, name] =
        [&object["apiVersion"], &object["kind"], &object["metadata"]["name"]].map(text);
    lab.api()?.get(&version, &kind, namespace, &name)
}

fn describe(object: &Value) -> String {
    format!(
        "{}/{}",
        object["kind"].as_str().unwrap_or("?"),
        object["metadata"]["name"].as_str().unwrap_or("?")
    )
}

fn same(one: &Value, other: &Value) -> bool {
    let name = |object: &Value| {
        let field = |field: &str| object["metadata"][field].as_str().map(str::to_owned);
        (object["kind"].as_str().map(str::to_owned), field("namespace"), field("name"))
    };
    name(one) == name(other)
}

fn done<T>(result: Result<T>) -> T {
    result.unwrap_or_else(|error| panic!("{error:#}"))
}
