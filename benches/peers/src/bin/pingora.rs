//! pingora-core: the operator starts the next instance with `--upgrade`, and sends SIGQUIT to this
//! one.

use async_trait::async_trait;
use heirloom_peers::Failure;
use heirloom_peers::arguments::Arguments;
use http::Response;
use pingora_core::apps::http_app::ServeHttp;
use pingora_core::protocols::http::ServerSession;
use pingora_core::server::Server;
use pingora_core::server::configuration::{Opt, ServerConf};
use pingora_core::services::listening::Service;

struct Answer;

#[async_trait]
impl ServeHttp for Answer {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let header = session.get_header("x-id").map(|value| value.as_bytes().to_vec());
        let mut body = Vec::new();
        while let Ok(Some(more)) = session.read_request_body().await {
            body.extend_from_slice(&more);
        }
        if body.is_empty() {
            body = header.unwrap_or_default();
        }
        Response::builder()
            .header("content-length", body.len())
            .header("x-pid", std::process::id())
            .body(body)
            .unwrap_or_default()
    }
}

fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse()?;
    let conf = ServerConf {
        threads: 2,
        upgrade_sock: arguments.directory.join("upgrade.sock").display().to_string(),
        pid_file: arguments.directory.join("pid").display().to_string(),
        // Both are for what still runs; the default waits five minutes even when nothing does.
        grace_period_seconds: Some(1),
        graceful_shutdown_timeout_seconds: Some(1),
        ..ServerConf::default()
    };
    let opt = Opt { upgrade: arguments.upgrade, ..Opt::default() };
    let mut server = Server::new_with_opt_and_conf(opt, conf);
    server.bootstrap();
    let mut service = Service::new(String::from("peers"), Answer);
    for address in arguments.http() {
        service.add_tcp(&address.to_string());
    }
    server.add_service(service);
    arguments.occupy();
    server.run_forever();
}
