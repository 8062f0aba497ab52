//! Tokens, TLS and kubeconfig files.

use std::net::SocketAddr;

use fairlead_apiserver::{Access, ApiServer, Options};
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use kube::api::ListParams;

async fn list(access: &Access) -> Result<usize, kube::Error> {
    let services: Api<Service> = Api::all(access.client().await.unwrap());
    services.list(&ListParams::default()).await.map(|list| list.items.len())
}

#[tokio::test]
async fn wrong_token_is_unauthorized_and_none_forbidden() {
    let options = Options { token: Some("geheim".into()), ..Options::default() };
    let server = ApiServer::start(options).await.unwrap();
    assert_eq!(list(server.access()).await.unwrap(), 1);
    for (token, code, reason) in [(Some("falsch"), 401, "Unauthorized"), (None, 403, "Forbidden")] {
        let access = Access { token: token.map(str::to_owned), ..server.access().clone() };
        match list(&access).await {
            Err(kube::Error::Api(status)) => {
                assert_eq!((status.code, status.reason.as_str()), (code, reason))
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn https_is_trusted_only_with_kubeconfig() {
    let options = Options { tls: true, token: Some("geheim".into()), ..Options::default() };
    let server = ApiServer::start(options.clone()).await.unwrap();
    assert!(server.url().starts_with("https://127.0.0.1:"));
    assert_eq!(list(server.access()).await.unwrap(), 1);
    let other = ApiServer::start(options).await.unwrap();
    let stranger = Access { ca: other.access().ca.clone(), ..server.access().clone() };
    assert!(!matches!(list(&stranger).await, Ok(_) | Err(kube::Error::Api(_))));
}

#[tokio::test]
async fn kubeconfig_file_is_private_and_usable() {
    use std::os::unix::fs::PermissionsExt;
    let server =
        ApiServer::start(Options { token: Some("geheim".into()), ..Options::default() }).await.unwrap();
    let path = std::env::temp_dir().join(format!("fairlead-kubeconfig-{}", std::process::id()));
    server.access().write_kubeconfig(&path).unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    let kubeconfig = kube::config::Kubeconfig::read_from(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(mode & 0o777, 0o600);
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await.unwrap();
    let services: Api<Service> = Api::all(kube::Client::try_from(config).unwrap());
    services.list(&ListParams::default()).await.unwrap();
}

#[tokio::test]
async fn advertised_name_is_in_kubeconfig_and_certificate() {
    let options = Options {
        listen: SocketAddr::from(([0, 0, 0, 0], 0)),
        advertise: Some("localhost".into()),
        tls: true,
        ..Options::default()
    };
    let server = ApiServer::start(options).await.unwrap();
    assert!(server.url().starts_with("https://localhost:"));
    assert_eq!(list(server.access()).await.unwrap(), 1);
}

#[tokio::test]
async fn stopped_server_accepts_no_connection() {
    let server = crate::server().await;
    let access = server.access().clone();
    assert!(list(&access).await.is_ok());
    let address = server.address();
    server.shutdown();
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(5);
    while tokio::net::TcpStream::connect(address).await.is_ok() {
        assert!(tokio::time::Instant::now() < deadline, "still listening");
        tokio::task::yield_now().await;
    }
}
