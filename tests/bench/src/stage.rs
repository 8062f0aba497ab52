//! A lab that is ready for measuring.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use crate::control::Control;
use crate::objects::{CONFIG, Plan, Pool};
use crate::usage;
use fairlead_lab::Process;
use fairlead_lab::{Builder, Lab};
use fairlead_lab::{ensure, wait_for};

/// Number of nodes of every lab.
pub(crate) const NODES: usize = 3;
/// Limit for any step. Only failures wait this long.
pub(crate) const SOON: Duration = Duration::from_secs(60);
/// After this long without a write everything has been written: a speaker writes its status at least every
/// two seconds while it has up to 2,000 addresses by L2.
const QUIET: Duration = Duration::from_millis(2500);

/// Limit for writes to end. A speaker sends 25 Events per second, one for each Service that it announces by
/// L2.
const EVENTS_SENT: Duration = Duration::from_secs(600);

/// A new owner repeats its announcements for this long; rest begins afterwards.
const REPEATS: Duration = Duration::from_secs(5);

/// State of the process that stands in for the EndpointSlice controller and kube-proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DataPlane {
    /// Running: clients reach pods.
    Runs,
    /// Stopped: it is not measured and would compete for the processors.
    Stopped,
}

/// A lab with controller, speakers, pools, advertisements and established sessions.
#[derive(Debug)]
pub(crate) struct Stage {
    pub control: Control,
    pub lab: Lab,
    services: usize,
}

/// Processor time of each measured process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spent {
    pub controller: Duration,
    /// All speakers together.
    pub speakers: Duration,
    pub api_server: Duration,
    at: Instant,
}

impl Spent {
    /// Returns the processor time used since `before`, and the elapsed time.
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

/// Starts a lab, measures, and stops the lab. Keeps the logs if the measure fails.
///
/// # Errors
/// If the lab does not start, or the error of `measure`.
pub(crate) fn on_stage<T>(plane: DataPlane, measure: impl FnOnce(&mut Stage) -> Result<T>) -> Result<T> {
    on_stage_of(Lab::builder(), plane, measure)
}

/// Like [`on_stage`], with changes to the lab's builder.
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
    /// If a node has none.
    pub(crate) fn wait_for_sessions(&self) -> Result<()> {
        wait_for("all BGP sessions", SOON, || {
            let sessions = self.lab.router().sessions()?;
            let up = sessions.values().filter(|session| session.state == "Established").count();
            ensure(up == NODES, sessions).map_err(|sessions| anyhow!("{sessions:?}"))
        })
    }

    /// Creates Services until there are `count`, half announced by BGP and half by L2, and waits until writes
    /// and announcements end.
    ///
    /// # Errors
    /// If a Service gets no address, or writes do not end.
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

    /// Waits until nothing is written to the API except the leader's Lease.
    ///
    /// # Errors
    /// If writes do not end.
    pub(crate) fn quiet(&self) -> Result<()> {
        let mut last = (self.control.revision()?, Instant::now());
        wait_for(format!("{QUIET:?} without a write"), EVENTS_SENT, || {
            let now = self.control.revision()?;
            if now == last.0 + 1 && self.control.lease_version()? == Some(now) {
                // The leader renews its Lease continuously.
                last.0 = now;
            } else if now != last.0 {
                last = (now, Instant::now());
            }
            ensure(last.1.elapsed() >= QUIET, format!("revision {now}")).map_err(anyhow::Error::msg)
        })
    }

    /// Returns the speakers.
    ///
    /// # Errors
    /// If the lab has none.
    pub(crate) fn speakers(&self) -> Result<Vec<&Process>> {
        self.lab.nodes().iter().map(|node| node.speaker()).collect()
    }

    /// Returns the processor time used so far.
    ///
    /// # Errors
    /// If one of the processes does not run.
    pub(crate) fn spent(&self) -> Result<Spent> {
        let speakers = self.speakers()?;
        Ok(Spent {
            controller: usage::cpu(self.lab.controller()?)?,
            speakers: speakers.into_iter().map(usage::cpu).sum::<Result<Duration>>()?,
            api_server: usage::cpu(self.lab.api_server()?.process())?,
            at: Instant::now(),
        })
    }

    /// Returns a counter of the controller's `/metrics`; labels are part of the name.
    ///
    /// # Errors
    /// If the controller does not export it.
    pub(crate) fn controller_counter(&self, name: &str) -> Result<u64> {
        self.lab.controller()?.metric(name)
    }
}
