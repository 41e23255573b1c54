//! The configurations of nginx and HAProxy, from the templates in the repository.

use std::path::{Path, PathBuf};

use heirloom_peers::arguments::{Arguments, address};
use heirloom_peers::tls;

use crate::Failure;

const NGINX: &str = include_str!("../../../nginx.conf");
const HAPROXY: &str = include_str!("../../../haproxy.cfg");

/// Writes `nginx.conf`.
pub(super) fn nginx(arguments: &Arguments) -> Result<PathBuf, Failure> {
    let listen: Vec<String> =
        arguments.http().iter().map(|address| format!("listen {address};")).collect();
    write(arguments, "nginx.conf", NGINX, &listen.join(" "))
}

/// Writes `haproxy.cfg`.
pub(super) fn haproxy(arguments: &Arguments) -> Result<PathBuf, Failure> {
    let binds: Vec<String> =
        arguments.http().iter().map(|address| format!("    bind {address}")).collect();
    write(arguments, "haproxy.cfg", HAPROXY, &binds.join("\n"))
}

fn write(
    arguments: &Arguments,
    name: &str,
    template: &str,
    listen: &str,
) -> Result<PathBuf, Failure> {
    let directory = &arguments.directory;
    let text = |path: &Path| path.display().to_string();
    let filled = template
        .replace("@LISTEN@", listen)
        .replace("@HTTP2@", &address(arguments.port + 1, 0).to_string())
        .replace("@TLS@", &address(arguments.port + 2, 0).to_string())
        .replace("@CERTIFICATE@", &text(&tls::certificate(directory)))
        .replace("@KEY@", &text(&tls::key(directory)))
        .replace("@BOTH@", &text(&tls::both(directory)))
        .replace("@DIRECTORY@", &text(directory));
    let path = directory.join(name);
    std::fs::write(&path, filled)?;
    Ok(path)
}
