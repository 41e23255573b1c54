//! The same applications on the wing, for comparison. There is nothing to shut down.

use heirloom::{Running, TcpListener};
use tonic::service::Routes;

pub fn axum(running: &Running, listener: TcpListener) {
    running.serve(listener, heirloom::axum(crate::with_axum::app()));
}

pub fn tonic(running: &Running, listener: TcpListener) {
    let (_reporter, health) = tonic_health::server::health_reporter();
    running.serve(listener, heirloom::tonic(Routes::new(health)));
}

/// warp's filters are a tower service.
pub fn warp(running: &Running, listener: TcpListener) {
    let service = warp::service(crate::with_warp::app());
    running.serve(listener, heirloom::http::tower::<_, heirloom::http::Body>(service));
}
