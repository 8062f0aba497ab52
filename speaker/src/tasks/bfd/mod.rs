//! BFD: all sessions of this node, on a thread of their own, and the access of the BGP peer tasks to them.
//!
//! The thread shares nothing with the Tokio runtimes but a queue of commands and the reports. Whatever delays
//! those, it sends its packets on time. The core ([`fairlead_bfd::Sessions`]) makes all decisions.

mod report;
mod sockets;
mod thread;
mod users;

use std::sync::Arc;
use std::time::Duration;

use fairlead_bfd::{SessionConfig, SessionKey};
use fairlead_net::bfd::{BfdPoller, BfdWaker};
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

#[cfg(test)]
pub(crate) use report::Transitions;
pub(crate) use report::{BfdReport, RemoteReport, SessionReport};

use crate::metrics::Metrics;
use crate::tasks::command_queue::{CommandReceiver, CommandSender, command_queue};
use thread::BfdThread;

/// A command to the thread.
#[derive(Debug)]
enum BfdCommand {
    /// Add the user to a session, in place of the session that it uses.
    Set { user: Arc<str>, key: SessionKey, config: SessionConfig, reports: watch::Sender<BfdReport> },
    /// Remove the user from its session.
    Remove { user: Arc<str> },
    /// The interface of a single-hop session has no carrier.
    CarrierLost(SessionKey),
    /// Announce AdminDown on all sessions, then end the thread.
    ShutDown { done: oneshot::Sender<()> },
}

/// Set and Remove of a user have one key: both say which session the user should have.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum BfdCommandKey {
    User(Arc<str>),
    CarrierLost(SessionKey),
    ShutDown,
}

type BfdCommandReceiver = CommandReceiver<BfdCommandKey, BfdCommand>;

/// The BFD sessions of this node. Clones share them. At most one command per user is pending, so no method
/// waits, except [`BfdSessions::shut_down`].
#[derive(Clone, Debug)]
pub(crate) struct BfdSessions {
    commands: Arc<CommandSender<BfdCommandKey, BfdCommand>>,
    waker: Arc<BfdWaker>,
}

impl BfdSessions {
    /// Starts the thread.
    ///
    /// # Errors
    /// Returns an error if the thread cannot be started.
    pub(crate) fn start(metrics: Metrics) -> std::io::Result<Self> {
        let (poller, waker) = BfdPoller::new()?;
        let (commands, receiver) = command_queue();
        let thread = move || BfdThread::new(receiver, poller, metrics).run();
        std::thread::Builder::new().name("bfd".to_owned()).spawn(thread)?;
        Ok(Self { commands: Arc::new(commands), waker: Arc::new(waker) })
    }

    /// Lets a user have this session, in place of the session that it has; `reports` receives its state.
    /// Users with the same key share a session. Edited parameters apply without an interruption.
    pub(crate) fn set(
        &self,
        user: &Arc<str>,
        key: SessionKey,
        config: SessionConfig,
        reports: watch::Sender<BfdReport>,
    ) {
        let user = user.clone();
        self.send(BfdCommandKey::User(user.clone()), BfdCommand::Set { user, key, config, reports });
    }

    /// Removes a user. A session without users announces AdminDown and ends.
    pub(crate) fn remove(&self, user: &Arc<str>) {
        self.send(BfdCommandKey::User(user.clone()), BfdCommand::Remove { user: user.clone() });
    }

    /// Takes a session Down, because its interface has no carrier.
    pub(crate) fn carrier_lost(&self, key: SessionKey) {
        self.send(BfdCommandKey::CarrierLost(key), BfdCommand::CarrierLost(key));
    }

    /// Announces AdminDown on all sessions, so that no peer takes the end of this process for a failure, and
    /// ends the thread. Returns after `limit` at the latest.
    pub(crate) async fn shut_down(&self, limit: Duration) {
        let (done, ended) = oneshot::channel();
        self.send(BfdCommandKey::ShutDown, BfdCommand::ShutDown { done });
        if timeout(limit, ended).await.is_err() {
            tracing::warn!(?limit, "BFD sessions did not announce the shutdown in time");
        }
    }

    fn send(&self, key: BfdCommandKey, command: BfdCommand) {
        self.commands.send(key, command);
        self.waker.wake();
    }
}
