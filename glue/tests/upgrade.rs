//! Each framework through real upgrades, under the load of clients that keep their connections.
//!
//! What a framework's own shutdown loses is a matter of luck, and `glue loss` measures it. What may
//! not happen with any of them is a refused connection or an answer that is not whole; and the
//! wing loses nothing.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use glue::load::{Load, Tally};
use glue::loss::upgrade_under_load;
use glue::protocol;
use glue::server::Server;

const UPGRADES: u32 = 3;

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_glue"))
}

fn upgraded(name: &str) -> Arc<Tally> {
    let tally = upgrade_under_load(program(), name, UPGRADES, 500).unwrap();
    println!("{name:<12} {tally}");
    assert_eq!(tally.refused.load(Relaxed), 0, "{name}: {tally:?}");
    tally
}

/// Its own shutdown closes connections as idle, at the moment of the next request on some.
fn serves_on(name: &str) {
    let tally = upgraded(name);
    assert_eq!(tally.broken.load(Relaxed), 0, "{name}: {tally:?}");
}

fn loses_nothing(name: &str) {
    let tally = upgraded(name);
    assert_eq!(tally.lost(), 0, "{name}: {tally:?}");
}

#[test]
fn axum_serves_on() {
    serves_on("axum");
}

#[test]
fn hyper_util_serves_on() {
    serves_on("hyper-util");
}

#[test]
fn tonic_serves_on() {
    loses_nothing("tonic");
}

#[test]
fn actix_web_serves_on() {
    serves_on("actix-web");
}

#[test]
fn warp_serves_on() {
    serves_on("warp");
}

#[test]
fn poem_serves_on() {
    serves_on("poem");
}

#[test]
fn salvo_serves_on() {
    serves_on("salvo");
}

#[test]
fn every_websocket_is_told_1012() {
    let tally = upgraded("tungstenite");
    assert_eq!(tally.lost(), 0, "{tally:?}");
    // Each of the 40 at each upgrade.
    assert_eq!(tally.closed.load(Relaxed), 40 * u64::from(UPGRADES));
}

#[test]
fn the_wing_loses_nothing() {
    loses_nothing("wing");
}

#[test]
fn the_wing_loses_no_call() {
    loses_nothing("wing-tonic");
}

#[test]
fn the_wing_serves_warp_and_loses_nothing() {
    loses_nothing("wing-warp");
}

/// The framework is paused, the new generation serves and dies, the framework is resumed.
fn rolled_back(name: &str) {
    let server = Server::start(program(), name).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let load = runtime.block_on(async { Load::start(server.address(), protocol(name)) });
    for _ in 0..3 {
        runtime.block_on(load.answers(500)).unwrap();
        server.bad_release().unwrap();
    }
    runtime.block_on(load.answers(500)).unwrap();
    let tally = runtime.block_on(load.finish()).unwrap();
    println!("{name:<12} {tally}");
    assert_eq!(tally.lost(), 0, "{name}: {tally:?}\n{}", server.log());
}

#[test]
fn a_roll_back_through_actix_loses_nothing() {
    rolled_back("actix-web");
}

#[test]
fn a_roll_back_through_a_paused_future_loses_nothing() {
    rolled_back("warp");
}
