//! How other frameworks live through upgrades: each is a few lines in a file of its own, served by
//! a real process, upgraded under load in `tests/`, and measured by `cargo run --release -- loss`.
//!
//! Each of them is shut down by its own means at the moment in which the drain turns
//! [graceful](heirloom::DrainPhase::Graceful). What that loses beside the wing of this project is
//! what `loss` prints.

pub mod load;
pub mod loss;
pub mod pause;
pub mod server;
pub mod with_actix;
pub mod with_axum;
pub mod with_hyper_util;
pub mod with_poem;
pub mod with_salvo;
pub mod with_tonic;
pub mod with_tungstenite;
pub mod with_warp;
pub mod with_wing;

use heirloom::{Running, TcpListener};

pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What speaks on the connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `GET /` answers `hello\n`, `POST /echo` the body.
    Http,
    /// The health service of gRPC.
    Grpc,
    /// An echo that says 1012 before it goes.
    WebSocket,
}

/// Every framework there is glue for, and the wing.
pub const NAMES: [&str; 11] = [
    "axum",
    "hyper-util",
    "tonic",
    "actix-web",
    "warp",
    "poem",
    "salvo",
    "tungstenite",
    "wing",
    "wing-tonic",
    "wing-warp",
];

pub fn protocol(name: &str) -> Protocol {
    match name {
        "tonic" | "wing-tonic" => Protocol::Grpc,
        "tungstenite" => Protocol::WebSocket,
        _ => Protocol::Http,
    }
}

/// Serves the listener until the generation has drained.
///
/// # Errors
///
/// Whatever the framework says, and a name that is none of [`NAMES`].
pub async fn serve(name: &str, running: Running, listener: TcpListener) -> Result<(), Failure> {
    match name {
        "axum" => with_axum::serve(running, listener).await,
        "hyper-util" => with_hyper_util::serve(running, listener).await,
        "tonic" => with_tonic::serve(running, listener).await,
        "actix-web" => with_actix::serve(running, listener).await,
        "warp" => with_warp::serve(running, listener).await,
        "poem" => with_poem::serve(running, listener).await,
        "salvo" => with_salvo::serve(running, listener).await,
        "tungstenite" => with_tungstenite::serve(running, listener).await,
        "wing" => {
            with_wing::axum(&running, listener);
            Ok(())
        }
        "wing-tonic" => {
            with_wing::tonic(&running, listener);
            Ok(())
        }
        "wing-warp" => {
            with_wing::warp(&running, listener);
            Ok(())
        }
        _ => Err(format!("no framework is called {name}").into()),
    }
}
