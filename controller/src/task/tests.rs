//! The task by itself: messages in, and when it wants to act.

use std::time::{Duration, Instant};

use fairlead_runtime::http;
use fairlead_runtime::watch::Change;
use kube::{Client, Config};
use serde_json::json;
use tokio::sync::watch;

use super::Task;
use crate::lease::Leadership;
use crate::metrics::Metrics;
use crate::news::{Message, News};

/// A task that is told who leads, and whose API server does not answer.
struct World {
    task: Task,
    publish: watch::Sender<Leadership>,
}

impl World {
    fn new() -> Self {
        let nobody = Config::new("http://127.0.0.1:1".parse().unwrap());
        let (publish, leadership) = watch::channel(Leadership::Standby { holder: None });
        let metrics = Metrics::register(&http::Metrics::default());
        let client = Client::try_from(nobody).unwrap();
        let task = Task::new(client, "fairlead".into(), leadership, http::Health::new("the start"), metrics);
        Self { task, publish }
    }

    fn leads(&mut self, term: u64) {
        self.publish.send_replace(Leadership::Leading { until: far(), term });
        self.task.act(0);
    }

    fn hears(&mut self, message: Message) {
        let round = self.task.round();
        self.task.take_in(News { round, message }, jiff::Timestamp::now());
        self.task.act(0);
    }

    /// All kinds but Services, which are the most.
    fn lists_all_but_services(&mut self) {
        let pool = json!({ "metadata": { "name": "p", "resourceVersion": "1" }, "spec": { "addresses": ["192.0.2.0/24"] } });
        self.hears(Message::Pools(Change::Reset(vec![serde_json::from_value(pool).unwrap()])));
        self.hears(Message::L2Advertisements(Change::Reset(Vec::new())));
        self.hears(Message::BgpAdvertisements(Change::Reset(Vec::new())));
        self.hears(Message::Peers(Change::Reset(Vec::new())));
        self.hears(Message::BfdProfiles(Change::Reset(Vec::new())));
        self.hears(Message::Communities(Change::Reset(Vec::new())));
        self.hears(Message::Namespaces(Change::Reset(Vec::new())));
        self.hears(Message::Claims(Change::Reset(Vec::new())));
    }
}

fn far() -> Instant {
    Instant::now() + Duration::from_secs(3600)
}

#[tokio::test]
async fn in_a_second_term_too_it_does_nothing_while_lists_are_missing() {
    let mut world = World::new();
    for term in [1, 2] {
        world.leads(term);
        world.lists_all_but_services();
        // Later than any interval: what is due then, and stays due, would be done without end.
        let later = Instant::now() + Duration::from_secs(10);
        let wake = world.task.wake_at(later);
        assert!(wake.is_none_or(|at| at > later), "term {term}");
        world.hears(Message::Services(Change::Reset(Vec::new())));
        assert!(world.task.index.is_deciding(), "term {term}: now it works");
    }
}
