//! The end of the task: the session withdraws its routes and closes its connection.

use std::time::Instant;

use fairlead_bgp::{SessionEvent, SessionInput, SessionState};
use tokio::task::yield_now;

use super::PeerTask;
use crate::tasks::bgp::commands::Stop;
use crate::tasks::bgp::connection::Ready;
use crate::tasks::sleep_until_or_forever;

impl PeerTask {
    /// Stops the session, and keeps it running until its end.
    pub(super) async fn stop(&mut self, Stop { subcode, text, restart, drain }: Stop) {
        let stop = SessionInput::ManualStop { subcode, text, restart, drain };
        self.session.handle_input(Instant::now(), stop);
        // The router must not connect any more.
        self.update_passive();
        while self.session.state() == SessionState::Established {
            self.session.handle_timeout(Instant::now());
            if let Err(reason) = self.write() {
                self.handle_connection_closed(reason);
            }
            if self.session.state() == SessionState::Established {
                self.wait_and_read().await;
            }
            yield_now().await;
        }
        while let Some(event) = self.session.poll_event() {
            match event {
                SessionEvent::CloseForRestart => {
                    tracing::info!(peer = %self.peer.name, "leaving routes to graceful restart");
                    self.drop_connection();
                }
                SessionEvent::Close => {
                    self.write_last();
                    if let Some(mut connection) = self.connection.take() {
                        connection.close_write_side().await;
                    }
                }
                SessionEvent::CloseSecond => self.close_second(),
                SessionEvent::Connect
                | SessionEvent::SwitchConnections
                | SessionEvent::Unconnected
                | SessionEvent::Established(_)
                | SessionEvent::Down { .. } => {}
            }
        }
        self.bfd.end().await;
    }

    /// Waits until the socket can be read or written, or a timer of the session expires; then reads.
    async fn wait_and_read(&mut self) {
        let Some(connection) = &self.connection else {
            return self.handle_connection_closed(String::new());
        };
        let now = Instant::now();
        let read_after = self.session.read_after().filter(|at| *at > now);
        let timeout = [self.session.poll_timeout(), read_after].into_iter().flatten().min();
        let ready = tokio::select! {
            biased;
            () = sleep_until_or_forever(timeout) => return,
            ready = connection.ready(read_after.is_none()) => ready,
        };
        match ready {
            Ok(Ready { readable: true }) => self.read(),
            Ok(Ready { readable: false }) => {}
            Err(error) => self.handle_connection_closed(error.to_string()),
        }
    }
}
