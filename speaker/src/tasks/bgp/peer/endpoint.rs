//! The endpoint of the session: connecting, moving to another router, and the interface that connects to it.

use std::time::Instant;

use fairlead_bgp::SessionInput;
use fairlead_crds::model::config::PeerAddress;
use tokio::time::sleep_until;

use super::{Connecting, PeerTask};
use crate::tasks::bgp::connect::{connect_to_peer, session_config};
use crate::tasks::bgp::endpoint::{Endpoint, EndpointAction, endpoint};
use crate::tasks::bgp::passwords::Password;
use crate::tasks::bgp::router::RouterWatch;
use crate::tasks::bgp::session_link::SessionLink;

impl PeerTask {
    /// Starts router discovery if the peer is unnumbered.
    pub(super) fn router_watch(
        address: &PeerAddress,
        links: &crate::tasks::links::LinksReceiver,
    ) -> Option<RouterWatch> {
        match address {
            PeerAddress::Interface(interface) => Some(RouterWatch::start(interface, links.clone())),
            _ => None,
        }
    }

    /// Returns where to connect to now.
    fn wanted_endpoint(&self) -> Result<Endpoint, String> {
        let found = self.router.as_ref().map(RouterWatch::found);
        let current = self.tracker.dialed().filter(|_| self.connection.is_some());
        let (links, gateways) = (self.context.links.borrow(), self.context.gateways.borrow());
        let node = self.context.node_addresses.borrow();
        endpoint(&self.peer, &links, &gateways, found.as_ref(), current, &node)
    }

    /// Returns the endpoint of the connection, else where to connect to.
    pub(super) fn endpoint(&self) -> Result<Endpoint, String> {
        match self.tracker.dialed().filter(|_| self.connection.is_some()) {
            Some(endpoint) => Ok(endpoint),
            None => self.wanted_endpoint(),
        }
    }

    /// Starts a connection attempt.
    pub(super) fn dial(&mut self) -> Connecting {
        let endpoint = self.wanted_endpoint();
        self.tracker.set_dialed(endpoint.as_ref().ok().copied());
        let key = self.password.as_ref().map(Password::pending_key);
        let closing = self.failover.take_closing();
        let after_bfd = self.bfd.connect_at();
        let peer = self.peer.clone();
        Box::pin(async move {
            if let Some(closing) = closing {
                // The router resets a connection that comes before it has closed the previous one.
                let _ = closing.await;
            }
            if let Some(at) = after_bfd {
                // The router would end a session that is established before it has handled the end of BFD.
                sleep_until(at.into()).await;
            }
            connect_to_peer(&peer, endpoint?, key).await
        })
    }

    /// Connects, or moves the session, if the address of the router changed.
    pub(super) fn update_endpoint(&mut self) {
        let now = Instant::now();
        let follows = matches!(self.peer.address, PeerAddress::GatewayV4 | PeerAddress::GatewayV6);
        let wanted = self.wanted_endpoint().ok();
        let turn = follows.then(|| *self.context.turn.borrow());
        match self.tracker.update(now, wanted, self.connection.is_some(), turn) {
            EndpointAction::Nothing => {}
            EndpointAction::Connect => self.session.handle_input(now, SessionInput::ConnectNow),
            EndpointAction::Move => {
                tracing::info!(peer = %self.peer.name, "moving the BGP session to the new default gateway");
                let result = session_config(&self.peer, &self.context).and_then(|config| {
                    self.session.reconfigure(now, config, false).map_err(|error| error.to_string())
                });
                if let Err(error) = result {
                    tracing::error!(peer = %self.peer.name, %error, "cannot move the session");
                }
            }
        }
        self.update_bfd();
    }

    /// Ends the session if the interface that connects to the router is down, and connects when it is up
    /// again.
    pub(super) fn check_link(&mut self) {
        let failure = self.failover.failure(&self.context.links.borrow());
        let failed = failure.filter(|_| self.peer.fast_external_failover);
        if let Some(failure) = failed {
            self.failover.fail(self.connection.take());
            self.handle_connection_closed(failure.to_string());
        }
        // An interface that was deleted and created again may fail and return with one change.
        let returned = self.failover.take_returned(&self.context.links.borrow());
        if returned {
            self.failover.reset_stale();
        }
        if returned && self.tracker.may_connect(Instant::now()) {
            self.session.handle_input(Instant::now(), SessionInput::ConnectNow);
        }
    }

    /// Remembers the interface of a new connection.
    pub(super) fn set_link(&mut self, local: std::net::IpAddr) {
        let links = self.context.links.borrow();
        let endpoint = self.tracker.dialed();
        let link = endpoint
            .and_then(|endpoint| SessionLink::new(&self.peer, &endpoint, local.to_canonical(), &links));
        drop(links);
        self.failover.set_link(link);
    }
}
