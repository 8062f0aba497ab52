//! TCP-MD5 keys that change while the speaker runs.

use std::time::{Duration, Instant};

use fairlead_apiserver::Fault;
use fairlead_crds::v1beta1::{BGPPeer, Session};
use k8s_openapi::api::core::v1::{Namespace, Secret, Service};
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use serde_json::json;

use super::{Environment, OPEN, UPDATE, announces, create, eventually, object, withdraws};

/// Namespace of the Secret, which is not that of Fairlead.
const NAMESPACE: &str = "routers";
/// Longest time from a correction of the key to the OPEN.
const CORRECTED_WITHIN: Duration = Duration::from_secs(2);

impl Environment {
    /// Creates the objects, with a key for the peer. The Secret cannot be read with the verb `get`.
    async fn create_objects_with_key(&self, key: &str) {
        if let Some(server) = self.cluster.as_built_in() {
            server.faults().add(Fault {
                verbs: vec!["get".to_owned()],
                resources: vec!["secrets".to_owned()],
                names: vec![format!("{NAMESPACE}/*")],
                status: Some(403),
                ..Fault::default()
            });
        }
        let namespaces = Api::<Namespace>::all(self.client.clone());
        create(&namespaces, &object(json!({"metadata": {"name": NAMESPACE}}))).await;
        let secret = json!({
            "metadata": {"name": "tor"}, "type": "kubernetes.io/basic-auth",
            "stringData": {"username": "", "password": key},
        });
        create::<Secret>(&self.secrets(), &object(secret)).await;
        self.create_objects().await;
        self.refer_to("tor").await;
    }

    /// Sets the Secret of the peer.
    async fn refer_to(&self, secret: &str) {
        let reference = json!({"spec": {"passwordSecret": {"name": secret, "namespace": NAMESPACE}}});
        let peers = Api::<BGPPeer>::all(self.client.clone());
        peers.patch("tor", &PatchParams::default(), &Patch::Merge(reference)).await.unwrap();
    }

    fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    async fn set_key(&self, key: &str) {
        let patch = Patch::Merge(json!({"stringData": {"password": key}}));
        self.secrets().patch("tor", &PatchParams::default(), &patch).await.unwrap();
    }

    /// Waits until the session satisfies a condition, and returns it.
    async fn session(&self, condition: &str, holds: impl Fn(&Session) -> bool) -> Session {
        let mut session = Session::default();
        eventually(condition, async || {
            let status = self.speaker_object().await.and_then(|speaker| speaker.status).unwrap_or_default();
            session = status.sessions.into_iter().next().unwrap_or_default();
            holds(&session)
        })
        .await;
        session
    }
}

#[tokio::test]
async fn rotated_key_of_live_session_keeps_it_established() {
    let environment = Environment::start("rotation").await;
    environment.router.set_key("spring");
    environment.create_objects_with_key("spring").await;
    let _speaker = environment.start_speaker();
    let established = |session: &Session| session.uptime_since.is_some() && session.prefixes == 1;
    let since = environment.session("the session is established", established).await.uptime_since;
    let opens = environment.router.received(OPEN).len();

    // The router gets the new key later than the speaker, which reports a change of its white space.
    environment.set_key("summer\n").await;
    environment
        .session("the session names the newline", |session| {
            session.messages.iter().any(|message| message.contains("ends with a newline"))
        })
        .await;
    environment.router.set_key("summer\n");
    let services = Api::<Service>::namespaced(environment.client.clone(), "default");
    services.delete("web", &DeleteParams::default()).await.unwrap();
    eventually("a withdrawal with the new key arrives", async || {
        environment.router.received(UPDATE).iter().any(|body| withdraws(body))
    })
    .await;

    // An invalid key and a deletion leave the last key in use.
    environment.set_key(&"k".repeat(81)).await;
    environment
        .session("the session names the length", |session| {
            session.messages.iter().any(|message| message.contains("has a password of 81 octets"))
        })
        .await;
    environment.secrets().delete("tor", &DeleteParams::default()).await.unwrap();
    let session = environment
        .session("the session names the missing Secret", |session| {
            session.messages.iter().any(|message| {
                message == "Secret routers/tor does not exist: its last TCP-MD5 key stays in use"
            })
        })
        .await;
    assert_eq!((session.uptime_since, session.last_error), (since.clone(), None));

    // Another Secret: the connection keeps its key until that exists.
    environment.refer_to("spare").await;
    environment
        .session("the session names the Secret that is missing", |session| {
            session.messages.iter().any(|message| {
                message == "Secret routers/spare does not exist: the key in Secret routers/tor stays in use"
            })
        })
        .await;
    assert_eq!(environment.router.received(OPEN).len(), opens, "there was one connection");
    environment.router.close_connections();
    let session = environment
        .session("the session is established again, with the earlier key", |session| {
            session.uptime_since.is_some() && session.uptime_since != since
        })
        .await;
    let (since, opens) = (session.uptime_since, environment.router.received(OPEN).len());
    let spare = json!({
        "metadata": {"name": "spare"}, "type": "kubernetes.io/basic-auth",
        "stringData": {"username": "", "password": "autumn"},
    });
    create::<Secret>(&environment.secrets(), &object(spare)).await;
    environment.session("the session uses the other Secret", |session| session.messages.is_empty()).await;
    environment.router.set_key("autumn");
    let updates = environment.router.received(UPDATE).len();
    environment.create_service().await;
    eventually("an announcement with the key of the other Secret arrives", async || {
        environment.router.received(UPDATE).iter().skip(updates).any(|body| announces(body))
    })
    .await;
    let session = environment.session("the session is established", established).await;
    assert_eq!(session.uptime_since, since);
    assert_eq!(environment.router.received(OPEN).len(), opens, "the new key needs no new connection");
}

#[tokio::test]
async fn corrected_key_establishes_session_at_once() {
    let environment = Environment::start("correction").await;
    environment.router.set_key("right");
    environment.create_objects_with_key("wrong").await;
    let _speaker = environment.start_speaker();
    environment
        .session("the session says that keys may differ", |session| {
            let error = session.last_error.as_deref().unwrap_or_default();
            error.contains("no answer from 127.0.0.1")
                && error.contains("its TCP-MD5 key differs from that in Secret routers/tor")
        })
        .await;
    let start = Instant::now();
    environment.set_key("right").await;
    eventually("the router has an OPEN", async || !environment.router.received(OPEN).is_empty()).await;
    assert!(start.elapsed() < CORRECTED_WITHIN, "{:?}", start.elapsed());
    eventually("the router has the route", async || {
        environment.router.received(UPDATE).iter().any(|body| announces(body))
    })
    .await;
}
