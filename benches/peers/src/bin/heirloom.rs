//! heirloom, with its HTTP wing.

use std::process::ExitCode;

use heirloom::http::Body;
use heirloom::{Config, DrainPhase, Guard};
use heirloom_peers::arguments::Arguments;
use heirloom_peers::service::answer;
use heirloom_peers::{Failure, tls};
use hyper::Request;
use hyper::service::service_fn;

fn main() -> ExitCode {
    let Ok(arguments) = Arguments::parse() else { return ExitCode::from(2) };
    let config = Config::new("peers")
        .probation(arguments.probation)
        .pid_file(arguments.directory.join("pid"));
    heirloom::run(config, async move |start| {
        let mut listeners = Vec::new();
        for (number, address) in arguments.http().into_iter().enumerate() {
            listeners.push(start.tcp(format!("http-{number}").as_str(), address).await?);
        }
        listeners.push(start.tcp("http2", arguments.http2()).await?);
        let tls_listener = start.tcp("tls", arguments.tls()).await?;
        let acceptor = tls::acceptor(&arguments.directory)?;
        let running = start.ready().await?;
        arguments.occupy();
        let service = || {
            service_fn(async |request: Request<Body>| {
                let guard = request.extensions().get::<Guard>().cloned();
                answer(request, async move {
                    if let Some(guard) = guard {
                        guard.reached(DrainPhase::Graceful).await;
                    }
                })
                .await
            })
        };
        for listener in listeners {
            running.serve(listener, heirloom::http(service()));
        }
        let server = heirloom::http(service());
        running.serve(tls_listener, server.tls(move |stream| acceptor.accept(stream)));
        Ok::<_, Failure>(running.finished().await?)
    })
}
