//! The program `fairlead-controller`.

use fairlead_test_support::daemon::Daemon;

#[test]
fn unreachable_api_server_is_named_in_log_and_readyz() {
    let program = env!("CARGO_BIN_EXE_fairlead-controller");
    let (daemon, url) = Daemon::start_without_api_server(program, &[]);
    daemon.assert_names_server(&url);
    daemon.wait("the election names the server", |daemon| {
        daemon.log().lines().any(|line| line.contains("leader election") && line.contains(&url))
    });
}
