//! The interface of the connection, and the connections before it: when the loss of the interface ends the
//! session, and when the router is ready for the next connection.

use std::time::Duration;

use fairlead_net::links::Links;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::tasks::bgp::connection::Connection;
use crate::tasks::bgp::session_link::{SessionLink, SessionLinkFailure};

/// Time for the router to clear a session after the reset of its connection. Routers reset a connection that
/// comes before, and FRR may forget a dynamic neighbor with a session that is established before.
const CLEAR_TIME: Duration = Duration::from_millis(300);

/// The interface of the present connection, and what is left of the previous one.
#[derive(Debug, Default)]
pub(super) struct Failover {
    /// The interface of the connection.
    link: Option<SessionLink>,
    /// The interface with which the last connection ended.
    failed_link: Option<SessionLink>,
    /// That connection. It is reset when the interface is up again: before, the router would not notice.
    stale: Option<Connection>,
    /// True from the reset of that connection until the router has accepted another one.
    has_reset: bool,
    /// Closes the previous connection. The next attempt waits for it.
    closing: Option<JoinHandle<()>>,
}

impl Failover {
    /// Remembers the interface of a new connection; `None` if the session does not depend on one.
    pub(super) fn set_link(&mut self, link: Option<SessionLink>) {
        self.failed_link = None;
        self.link = link;
    }

    /// Handles that there is no connection any more.
    pub(super) fn forget_link(&mut self) {
        self.link = None;
    }

    /// Closes a connection in the background, which takes a fraction of a second.
    pub(super) fn close(&mut self, connection: Connection) {
        self.closing = Some(tokio::spawn(connection.close_failed()));
    }

    /// Returns what the next attempt waits for: the router resets a connection that comes before it has
    /// closed the previous one.
    pub(super) fn take_closing(&mut self) -> Option<JoinHandle<()>> {
        self.closing.take()
    }

    /// Handles a change of the interfaces. Returns why the interface of the connection cannot carry the
    /// session any more; `None` if it can.
    pub(super) fn failure(&mut self, links: &Links) -> Option<SessionLinkFailure> {
        self.link.as_mut()?.update(links)
    }

    /// Handles that the session ends with its interface.
    pub(super) fn fail(&mut self, connection: Option<Connection>) {
        self.stale = connection;
        self.failed_link = self.link.take();
    }

    /// Returns whether the interface with which the last connection ended can carry a session again. True
    /// once.
    pub(super) fn take_returned(&mut self, links: &Links) -> bool {
        self.failed_link.take_if(|link| link.has_returned(links)).is_some()
    }

    /// Resets the connection that ended with its interface. The router may not know of the end yet, and would
    /// refuse the next connection while it considers the session established.
    pub(super) fn reset_stale(&mut self) {
        if let Some(connection) = self.stale.take() {
            connection.reset();
            self.has_reset = true;
            self.closing = Some(tokio::spawn(sleep(CLEAR_TIME)));
        }
    }

    /// Returns whether the router must clear the earlier session before it gets a new one. Call this for each
    /// connection that was accepted. The reset may have waited for the address resolution on the link, like
    /// that connection: it has left only now, so that the next attempt waits again.
    pub(super) fn must_clear(&mut self) -> bool {
        self.reset_stale();
        let must_clear = std::mem::take(&mut self.has_reset);
        if must_clear {
            self.closing = Some(tokio::spawn(sleep(CLEAR_TIME)));
        }
        must_clear
    }
}
