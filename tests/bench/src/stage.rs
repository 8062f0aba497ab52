//! A lab made ready for measuring.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use crate::control::Control;
use crate::objects::{CONFIG, Plan, Pool};
use crate::usage;
use fairlead_lab::Process;
use fairlead_lab::{Builder, Lab};
use fairlead_lab::{ensure, wait_for};

/// Nodes of every lab that is measured.
pub(crate) const NODES: usize = 3;
/// What anything may take; only failures wait that long.
pub(crate) const SOON: Duration = Duration::from_secs(60);
/// No write for this long: everything that was due has been written, at once a second at the slowest.
const QUIET: Duration = Duration::from_millis(2500);

/// A new owner repeats its announcements for this long, as it should: that is not rest yet.
const REPEATS: Duration = Duration::from_secs(5);

/// What stands in for EndpointSlice controller and kube-proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DataPlane {
    /// Works: clients reach pods.
    Runs,
    /// Stopped: it is not what is measured, and would compete for the processors.
    Stopped,
}

/// A lab with controller, speakers, pools, advertisements and established sessions.
#[derive(Debug)]
pub(crate) struct Stage {
    /// The API.
    pub control: Control,
    /// The lab.
    pub lab: Lab,
    services: usize,
}

/// Processor time used by each process that is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spent {
    /// The controller.
    pub controller: Duration,
    /// All speakers together.
    pub speakers: Duration,
    /// The API server.
    pub api_server: Duration,
    at: Instant,
}

impl Spent {
    /// What was used since `before`, and how much time has passed.
    pub(crate) fn since(self, before: Self) -> (Self, Duration) {
        let spent = Self {
            controller: self.controller.saturating_sub(before.controller),
            speakers: self.speakers.saturating_sub(before.speakers),
            api_server: self.api_server.saturating_sub(before.api_server),
            at: self.at,
        };
        (spent, self.at - before.at)
    }
}

/// Brings a lab up, measures, and takes it down. Its logs are kept when that fails.
///
/// # Errors
/// When the lab does not come up, or with what `measure` says.
pub(crate) fn on_stage<T>(plane: DataPlane, measure: impl FnOnce(&mut Stage) -> Result<T>) -> Result<T> {
    on_stage_of(Lab::builder(), plane, measure)
}

/// Likewise, with more in the lab than usual.
///
/// # Errors
/// As [`on_stage`].
pub(crate) fn on_stage_of<T>(
    builder: Builder,
    plane: DataPlane,
    measure: impl FnOnce(&mut Stage) -> Result<T>,
) -> Result<T> {
    let lab = builder.nodes(NODES).start()?;
    let mut stage = Stage { control: Control::connect(&lab)?, lab, services: 0 };
    match stage.prepare(plane).and_then(|()| measure(&mut stage)) {
        Ok(value) => Ok(value),
        Err(error) => {
            let logs = stage.lab.keep_logs()?;
            Err(error.context(format!("logs of the lab will be in {}", logs.display())))
        }
    }
}

impl Stage {
    fn prepare(&self, plane: DataPlane) -> Result<()> {
        if plane == DataPlane::Stopped {
            self.lab.cluster()?.kill()?;
        }
        self.lab.api()?.apply(CONFIG)?;
        self.wait_for_sessions()
    }

    /// Waits until every node has its session with the router.
    ///
    /// # Errors
    /// When one has not.
    pub(crate) fn wait_for_sessions(&self) -> Result<()> {
        wait_for("all BGP sessions", SOON, || {
            let sessions = self.lab.router().sessions()?;
            let up = sessions.values().filter(|session| session.state == "Established").count();
            ensure(up == NODES, sessions).map_err(|sessions| anyhow!("{sessions:?}"))
        })
    }

    /// Makes Services until there are `count`, half announced by BGP and half by L2, and waits until nothing is
    /// written or announced any more.
    ///
    /// # Errors
    /// When one gets no address, or it does not become quiet.
    pub(crate) fn populate(&mut self, count: usize) -> Result<()> {
        tracing::info!("{count} Services");
        let missing = count.saturating_sub(self.services);
        let plans = Plan::many("other", self.services, missing, &[Pool::Bgp, Pool::L2]);
        let mut watch = self.control.watch()?;
        self.control.create(&plans)?;
        watch.addresses("other-", count, 4 * SOON)?;
        self.services += missing;
        self.quiet()?;
        std::thread::sleep(REPEATS);
        Ok(())
    }

    /// Waits until nobody writes to the API, but for whoever leads to its Lease.
    ///
    /// # Errors
    /// When somebody always does.
    pub(crate) fn quiet(&self) -> Result<()> {
        let mut last = (self.control.revision()?, Instant::now());
        wait_for(format!("{QUIET:?} without a write"), SOON, || {
            let now = self.control.revision()?;
            if now == last.0 + 1 && self.control.lease_version()? == Some(now) {
                // Whoever leads says so all the time.
                last.0 = now;
            } else if now != last.0 {
                last = (now, Instant::now());
            }
            ensure(last.1.elapsed() >= QUIET, format!("revision {now}")).map_err(anyhow::Error::msg)
        })
    }

    /// The speakers.
    ///
    /// # Errors
    /// When the lab has none.
    pub(crate) fn speakers(&self) -> Result<Vec<&Process>> {
        self.lab.nodes().iter().map(|node| node.speaker()).collect()
    }

    /// Processor time used so far.
    ///
    /// # Errors
    /// When one of the processes does not run.
    pub(crate) fn spent(&self) -> Result<Spent> {
        let speakers = self.speakers()?;
        Ok(Spent {
            controller: usage::cpu(self.lab.controller()?)?,
            speakers: speakers.into_iter().map(usage::cpu).sum::<Result<Duration>>()?,
            api_server: usage::cpu(self.lab.api_server()?.process())?,
            at: Instant::now(),
        })
    }

    /// A counter of the controller's `/metrics`; labels are part of the name.
    ///
    /// # Errors
    /// When it does not export it.
    pub(crate) fn controller_counter(&self, name: &str) -> Result<u64> {
        self.lab.controller()?.metric(name)
    }
}
