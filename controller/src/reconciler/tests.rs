//! The task by itself: messages in, and when it wants to act.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use fairlead_crds::store::ObjectChange;
use fairlead_runtime::http;
use k8s_openapi::api::core::v1::Service;
use kube::{Client, Config};
use serde_json::json;
use tokio::sync::watch;

use super::Task;
use crate::leader::Leadership;
use crate::metrics::Metrics;
use crate::watches::{Message, News, Seen};
use fairlead_allocator::reconcile::Observed;

/// A task that is told who leads, and whose API server takes requests and never answers.
struct World {
    task: Task,
    publish: watch::Sender<Leadership>,
    _server: TcpListener,
}

impl World {
    fn new() -> Self {
        // Its connections are the kernel's: nobody accepts them.
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let config = Config::new(format!("http://{}", server.local_addr().unwrap()).parse().unwrap());
        let (publish, leadership) = watch::channel(Leadership::Standby { holder: None });
        let metrics = Metrics::register(&http::Metrics::default());
        let client = Client::try_from(config).unwrap();
        let task = Task::new(client, "fairlead".into(), leadership, http::Health::new("the start"), metrics);
        Self { task, publish, _server: server }
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
    fn lists_all_but_services(&mut self, pools: usize) {
        let pool = json!({ "metadata": { "name": "p", "resourceVersion": "1" }, "spec": { "addresses": ["192.0.2.0/24"] } });
        let pools = (0..pools).map(|_| serde_json::from_value(pool.clone()).unwrap());
        self.hears(Message::Pools(ObjectChange::Reset(pools.collect())));
        self.hears(Message::L2Advertisements(ObjectChange::Reset(Vec::new())));
        self.hears(Message::BgpAdvertisements(ObjectChange::Reset(Vec::new())));
        self.hears(Message::Peers(ObjectChange::Reset(Vec::new())));
        self.hears(Message::BfdProfiles(ObjectChange::Reset(Vec::new())));
        self.hears(Message::Communities(ObjectChange::Reset(Vec::new())));
        self.hears(Message::Namespaces(ObjectChange::Reset(Vec::new())));
        self.hears(Message::Claims(ObjectChange::Reset(Vec::new())));
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
        world.lists_all_but_services(1);
        // Later than any interval: what is due then, and stays due, would be done without end.
        let later = Instant::now() + Duration::from_secs(10);
        let wake = world.task.wake_at(later);
        assert!(wake.is_none_or(|at| at > later), "term {term}");
        world.hears(Message::Services(ObjectChange::Reset(Vec::new())));
        assert!(world.task.index.is_deciding(), "term {term}: now it works");
    }
}

#[tokio::test]
async fn what_a_term_left_on_the_way_is_not_forgotten_with_it() {
    for services in [0, 1] {
        let mut world = World::new();
        world.leads(1);
        world.lists_all_but_services(0);
        world.hears(Message::Services(ObjectChange::Reset((0..services).map(|_| service()).collect())));
        world.publish.send_replace(Leadership::Standby { holder: None });
        world.task.act(0);
        // Whether the Lease may be given up.
        assert_eq!(world.task.settle().await, services == 0, "{services} Services");
    }
}

fn service() -> Seen {
    let service: Service = serde_json::from_value(json!({
        "metadata": { "name": "s", "namespace": "default", "uid": "u", "resourceVersion": "7" },
        "spec": { "type": "LoadBalancer", "clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9"],
                  "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack" },
    }))
    .unwrap();
    let ours = Observed::of(&service, None).map(Box::new);
    Seen { key: ours.as_ref().unwrap().balancer.key.clone(), ours }
}
