//! Unary calls over channels that connect again by themselves.

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
