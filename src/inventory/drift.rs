//! Differences between a socket that was inherited and what was asked for.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;

use socket2::{SockRef, Socket};

use super::bind::{listens, socket_type};
use super::entry::Ask;
use super::inherited::Found;
use crate::listener::{ListenOptions, Place, inode_of};
use crate::wire::{Address, Kind};

/// The differences, in words for the report. The backlog cannot be asked for, so it is never
/// among them; it is set at commit in any case.
pub(super) fn notes(ask: &Ask<'_>, found: &Found) -> Vec<String> {
    let (record, options) = (&found.record, ask.options);
    let socket = SockRef::from(&found.fd);
    let mut notes = Vec::new();
    if record.name != ask.name {
        notes.push(format!("taken over from the name \"{}\" by its address", record.name));
    }
    if let Address::Inet(held) = &record.address {
        let asked = ask.wanted.iter().find_map(|wanted| match wanted {
            Address::Inet(wanted) => Some(wanted),
            _ => None,
        });
        if let Some(asked) = asked.filter(|asked| asked.is_ipv4() != held.is_ipv4()) {
            notes.push(format!("bound to {held}, asked for {asked}; it stays until a restart"));
        }
        if held.is_ipv6()
            && let Ok(only) = socket.only_v6()
            && only != options.only_v6
        {
            let word = |only| if only { "IPv6 only" } else { "IPv6 and IPv4" };
            notes.push(format!(
                "serves {}, asked for {}; it stays until a restart",
                word(only),
                word(options.only_v6)
            ));
        }
    }
    if ask.group && !socket.reuse_port().unwrap_or(true) {
        notes.push(
            "has no SO_REUSEPORT, so no member can join it; one listener serves until a restart"
                .to_owned(),
        );
    }
    notes.extend(buffer_notes(&socket, ask.kind, options));
    notes.extend(path_notes(found, options));
    notes.into_iter().map(|note| format!("listener \"{}\": {note}", ask.name)).collect()
}

/// Compares with what a new socket would get, since the kernel doubles and caps what it is told.
fn buffer_notes(socket: &SockRef<'_>, kind: Kind, options: &ListenOptions) -> Vec<String> {
    let mut notes = Vec::new();
    let sample = || Socket::new(socket.domain()?, socket_type(kind), None);
    let mut compare = |what: &str, held: io::Result<usize>, asked: io::Result<usize>| {
        if let (Ok(held), Ok(asked)) = (held, asked)
            && held != asked
        {
            notes.push(format!("{what} is {held} bytes, asked for {asked}; changed at commit"));
        }
    };
    if let Some(bytes) = options.receive_buffer {
        let asked = sample().and_then(|new| {
            new.set_recv_buffer_size(bytes.get())?;
            new.recv_buffer_size()
        });
        compare("receive buffer", socket.recv_buffer_size(), asked);
    }
    if let Some(bytes) = options.send_buffer {
        let asked = sample().and_then(|new| {
            new.set_send_buffer_size(bytes.get())?;
            new.send_buffer_size()
        });
        compare("send buffer", socket.send_buffer_size(), asked);
    }
    notes
}

fn path_notes(found: &Found, options: &ListenOptions) -> Vec<String> {
    let Address::Path(path) = &found.record.address else {
        return Vec::new();
    };
    if found.record.path_inode.is_some() && inode_of(path).ok() != found.record.path_inode {
        let text = "no longer leads to this socket; nobody new finds it";
        return vec![format!("{} {text}", path.display())];
    }
    let held = fs::metadata(path).map(|found| found.permissions().mode() & 0o7777);
    match (held, options.mode) {
        (Ok(held), Some(asked)) if held != asked => {
            vec![format!("mode is {held:04o}, asked for {asked:04o}; changed at commit")]
        }
        _ => Vec::new(),
    }
}

/// Sets on an inherited socket what can be set on a living one. Only after commit: it acts on the
/// description that the predecessor has open, too.
pub(super) fn apply(
    kind: Kind,
    fd: &OwnedFd,
    place: Option<&Place>,
    options: &ListenOptions,
) -> io::Result<()> {
    let socket = SockRef::from(fd);
    if listens(kind) {
        socket.listen(options.backlog_for_listen())?;
    }
    if let Some(bytes) = options.receive_buffer {
        socket.set_recv_buffer_size(bytes.get())?;
    }
    if let Some(bytes) = options.send_buffer {
        socket.set_send_buffer_size(bytes.get())?;
    }
    // Without an inode the path is a service manager's, with the mode that it gave it.
    if let (Some(place), Some(mode)) = (place, options.mode)
        && place.inode().is_some()
        && inode_of(place.path()).ok() == place.inode()
    {
        fs::set_permissions(place.path(), Permissions::from_mode(mode))?;
    }
    Ok(())
}
