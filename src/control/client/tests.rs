//! Deadlines of the client, against a service that hears and says nothing.

use std::os::unix::net::UnixListener;

use super::*;

fn silent() -> (tempfile::TempDir, UnixListener, Client) {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    (home, listener, Client::new(path))
}

/// A deadline that no clock reaches is none, not a panic.
#[tokio::test]
async fn the_longest_deadline_can_be_given() {
    let (_home, listener, client) = silent();
    let client = client.timeout(Duration::MAX);
    client.watch().await.unwrap();
    drop(listener);
    let gone = |error: Error| assert_eq!(error.kind(), ErrorKind::NobodyThere, "{error}");
    gone(client.status().await.unwrap_err());
    gone(client.watch().await.unwrap_err());
    gone(client.upgrade_and_wait(Upgrade::default(), |_| {}).await.unwrap_err());
}

/// The kernel connects clients for a service that is stopped.
#[tokio::test(start_paused = true)]
async fn watching_a_service_that_hangs_comes_to_an_end() {
    let (_home, _listener, client) = silent();
    let mut watch = client.watch().await.unwrap();
    let next = tokio::time::timeout(Duration::from_secs(3600), watch.next()).await;
    let error = next.expect("waits for ever").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
}
