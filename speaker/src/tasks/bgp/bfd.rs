//! The BFD session of one peer: requests it, and passes its changes to the BGP session.

mod ending;
mod request;
mod view;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fairlead_bgp::SessionInput;
use fairlead_crds::model::config::{BfdProfile, Peer};
use fairlead_crds::v1beta1::BFDSession;
use fairlead_net::bfd::local_address;
use fairlead_net::links::Links;
use tokio::sync::watch;
use tokio::time::sleep;

use super::endpoint::Endpoint;
use crate::tasks::bfd::{BfdReport, BfdSessions};
use ending::{BFD_AFTER_BGP, Ending};
use request::{Request, has_carrier, request};
use view::{Since, inputs, view};

/// Time between two attempts to find the local address. The links do not tell of every new route.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// The BFD session of one peer, or none if the peer has no profile. It outlives edits of the peer.
#[derive(Debug)]
pub(super) struct PeerBfd {
    user: Arc<str>,
    sessions: BfdSessions,
    request: Option<Request>,
    /// Why there is no request although the peer has a profile.
    problem: Option<String>,
    reports: watch::Receiver<BfdReport>,
    sender: watch::Sender<BfdReport>,
    /// The last report that was handled.
    report: BfdReport,
    has_carrier: bool,
    /// True if the BGP session has ended by `shutdown` of the BGPPeer.
    is_shut_down: bool,
    ending: Ending,
    retry_at: Option<Instant>,
    since: Since,
    view: Option<BFDSession>,
}

impl PeerBfd {
    pub(super) fn new(peer: &str, sessions: BfdSessions) -> Self {
        let (sender, reports) = watch::channel(BfdReport::default());
        let user: Arc<str> = peer.into();
        Self {
            user,
            sessions,
            request: None,
            problem: None,
            reports,
            sender,
            report: BfdReport::default(),
            has_carrier: true,
            is_shut_down: false,
            ending: Ending::default(),
            retry_at: None,
            since: Since::default(),
            view: None,
        }
    }

    /// Adopts the configuration of the peer, its endpoint, the interfaces, and the local address of the
    /// connection if there is one. Returns an input for the BGP session. A session that is no longer wanted,
    /// or that is wanted between other addresses, ends when [`PeerBfd::keep`] permits.
    pub(super) fn update(
        &mut self,
        peer: &Peer,
        endpoint: Result<Endpoint, String>,
        connection: Option<IpAddr>,
        links: &Links,
    ) -> Option<SessionInput<'static>> {
        self.retry_at = None;
        let mut wanted = self.wanted(peer, endpoint, connection, links);
        if let Some(request) = self.request
            && ends(&request, &wanted)
        {
            self.retry_at = self.ending.end(Instant::now());
            if self.retry_at.is_some() {
                wanted = Ok(Some(request));
            }
        }
        let ended = match (&wanted, &self.request) {
            (Ok(Some(wanted)), Some(request)) if wanted == request => false,
            (Ok(Some(wanted)), _) => {
                self.sessions.set(&self.user, wanted.key, wanted.config, self.sender.clone());
                false
            }
            (Ok(None), Some(_)) => {
                self.sessions.remove(&self.user);
                self.report = BfdReport::default();
                true
            }
            // Without a route, the session that exists goes Down by itself.
            (Ok(None) | Err(_), _) => false,
        };
        self.problem = wanted.as_ref().err().cloned();
        if self.problem.is_some() {
            self.retry_at = Some(Instant::now() + RETRY_INTERVAL);
        }
        if let Ok(wanted) = wanted {
            self.request = wanted;
        }
        self.check_carrier(links);
        self.refresh_view(peer);
        ended.then_some(SessionInput::BfdReleased)
    }

    /// Adopts a new name of the BGPPeer. The session remains.
    pub(super) fn rename(&mut self, peer: &str) {
        let previous = std::mem::replace(&mut self.user, peer.into());
        if let Some(Request { key, config }) = self.request {
            self.sessions.set(&self.user, key, config, self.sender.clone());
        }
        self.sessions.remove(&previous);
    }

    /// Sets whether `shutdown` of the BGPPeer has ended the BGP session. Then the BFD session ends too.
    pub(super) const fn set_shut_down(&mut self, is_shut_down: bool) {
        self.is_shut_down = is_shut_down;
    }

    /// Keeps the session for a moment, because the BGP session ends now or is about to end.
    pub(super) fn keep(&mut self, now: Instant) {
        self.ending.keep(now);
    }

    /// Returns the earliest time of the next BGP connection, if the end of a session delays it.
    pub(super) fn connect_at(&self) -> Option<Instant> {
        self.ending.connect_at()
    }

    /// Removes the session, a moment after the end of the BGP session. Call this when that has ended.
    pub(super) async fn end(&self) {
        if self.request.is_some() {
            sleep(BFD_AFTER_BGP).await;
        }
        self.sessions.remove(&self.user);
    }

    /// Waits for a report. Cancel safe.
    pub(super) async fn changed(&mut self) {
        if self.reports.changed().await.is_err() {
            // Unreachable: this value owns a sender.
            std::future::pending::<()>().await;
        }
    }

    /// Returns the inputs for the BGP session that follow from the last report.
    pub(super) fn handle_report(&mut self, peer: &Peer) -> Vec<SessionInput<'static>> {
        let report = self.reports.borrow_and_update().clone();
        if self.request.is_none() {
            return Vec::new();
        }
        let inputs = inputs(self.report.session.as_ref(), report.session.as_ref());
        self.report = report;
        self.refresh_view(peer);
        inputs
    }

    /// Returns when to call [`PeerBfd::update`] although nothing changed.
    pub(super) const fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Returns the session as the Speaker object shows it; `None` if the peer has no profile.
    pub(super) const fn view(&self) -> Option<&BFDSession> {
        self.view.as_ref()
    }

    fn wanted(
        &self,
        peer: &Peer,
        endpoint: Result<Endpoint, String>,
        connection: Option<IpAddr>,
        links: &Links,
    ) -> Result<Option<Request>, String> {
        let Some(profile) = self.profile(peer) else { return Ok(None) };
        if peer.vrf.is_some() {
            return Err(
                "BFD in a VRF is not supported: the BGP session runs without it, also with bfdStrict"
                    .to_owned(),
            );
        }
        let endpoint = endpoint?;
        let Endpoint { remote, interface, source } = endpoint;
        let local = match source.or(connection) {
            Some(local) => local,
            None => {
                local_address(remote, interface).map_err(|error| format!("no route to {remote}: {error}"))?
            }
        };
        Ok(Some(request(peer, profile, local.to_canonical(), &endpoint, links)))
    }

    fn check_carrier(&mut self, links: &Links) {
        let Some(Request { key, .. }) = self.request else { return };
        let before = std::mem::replace(&mut self.has_carrier, has_carrier(&key, links));
        if before && !self.has_carrier {
            self.sessions.carrier_lost(key);
        }
    }

    /// Returns the parameters of the BFD session; `None` if the peer has none, or is shut down.
    fn profile<'a>(&self, peer: &'a Peer) -> Option<&'a BfdProfile> {
        peer.bfd.as_ref().filter(|_| !self.is_shut_down)
    }

    fn refresh_view(&mut self, peer: &Peer) {
        self.view = self.profile(peer).map(|_| {
            let key = self.request.as_ref().map(|request| &request.key);
            view(peer, key, self.problem.as_deref(), &self.report, &mut self.since)
        });
    }
}

/// Returns whether the session of `request` ends if `wanted` takes its place. Without a route, the session
/// that exists goes Down by itself.
fn ends(request: &Request, wanted: &Result<Option<Request>, String>) -> bool {
    wanted.as_ref().is_ok_and(|wanted| wanted.is_none_or(|wanted| wanted.key != request.key))
}
