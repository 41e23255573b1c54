//! Unary calls over channels that connect again by themselves.

use tonic::Status;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::{Client, one};

pub(super) async fn run(client: Client) {
    let endpoint = Endpoint::from_shared(format!("http://{}", client.address));
    let endpoint = endpoint.expect("an address makes a URI");
    let mut health = HealthClient::new(endpoint.connect_lazy());
    while client.goes_on() {
        match health.check(HealthCheckRequest::default()).await {
            Ok(_) => one(&client.tally.answered),
            Err(status) if was_not_seen(&status) => one(&client.tally.unseen),
            Err(status) => {
                one(&client.tally.broken);
                *client.tally.last_error.lock().expect("nobody panics with it") =
                    format!("{status:?}");
                client.calm_down().await;
            }
        }
        tokio::time::sleep(client.thought()).await;
    }
}

/// The connection was told to go away, or had ended, when the call was about to be sent (RFC 9113,
/// section 6.8). tonic leaves it to its caller to make it again.
fn was_not_seen(status: &Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled)
            || error.downcast_ref::<h2::Error>().is_some_and(h2::Error::is_go_away)
        {
            return true;
        }
        cause = error.source();
    }
    false
}
