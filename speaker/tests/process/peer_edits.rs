//! Edits of a BGPPeer while its session ends.

use fairlead_crds::v1beta1::BGPPeer;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};

use super::{Environment, NOTIFICATION, UPDATE, announces, eventually};

/// The community GRACEFUL_SHUTDOWN (RFC 8326) as the only one of a route.
const GRACEFUL_SHUTDOWN: [u8; 7] = [0xc0, 8, 4, 0xff, 0xff, 0, 0];

/// Returns the AS_PATH attribute with one four-octet AS number.
fn as_path(asn: u32) -> Vec<u8> {
    [&[0x40, 2, 6, 2, 1], asn.to_be_bytes().as_slice()].concat()
}

fn contains(body: &[u8], part: &[u8]) -> bool {
    body.windows(part.len()).any(|window| window == part)
}

impl Environment {
    async fn edit_peer(&self, spec: Value) {
        let peers = Api::<BGPPeer>::all(self.client.clone());
        let patch = Patch::Merge(json!({ "spec": spec }));
        peers.patch("tor", &PatchParams::default(), &patch).await.unwrap();
    }
}

#[tokio::test]
async fn session_ends_with_the_parameters_that_the_router_knows() {
    let environment = Environment::start("ends").await;
    environment.create_objects().await;
    let _speaker = environment.start_speaker_with(&["--drain-wait", "1s"]);
    eventually("the router has the route", async || {
        environment.router.received(UPDATE).iter().any(|body| announces(body))
    })
    .await;
    environment.edit_peer(json!({"shutdown": true, "localASN": 64599})).await;
    eventually("the router has the Cease", async || !environment.router.received(NOTIFICATION).is_empty())
        .await;
    let announced: Vec<_> =
        environment.router.received(UPDATE).into_iter().filter(|body| announces(body)).collect();
    assert!(announced.iter().any(|body| contains(body, &GRACEFUL_SHUTDOWN)), "{announced:?}");
    assert!(announced.iter().all(|body| contains(body, &as_path(64513))), "{announced:?}");
    // The next session has the new parameters.
    environment.edit_peer(json!({"shutdown": null})).await;
    eventually("the route has the new AS number", async || {
        environment.router.received(UPDATE).iter().any(|body| contains(body, &as_path(64599)))
    })
    .await;
}
