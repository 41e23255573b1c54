//! Under systemd, in a container, under any supervisor.
//!
//! # What a service manager is told
//!
//! If there is one (`NOTIFY_SOCKET`: a path, an abstract name, a vsock), it is told everything that
//! `sd_notify(3)` has a word for. There is nothing to switch on, no library to link, and
//! [`Config::without_service_manager`](crate::Config::without_service_manager) switches it off.
//!
//! | when | who says it | what |
//! | --- | --- | --- |
//! | before the first `ready` | generation 0 | `STATUS=`, `EXTEND_TIMEOUT_USEC=` for at most the ready deadline |
//! | a generation owns | that one | `READY=1`, `MAINPID=` and `MAINPIDFDID=` of itself, `STATUS=` |
//! | an upgrade begins | the owner | `RELOADING=1`, `MONOTONIC_USEC=`, then a `STATUS=` for each phase and more time until it ends |
//! | it has committed | the old owner, before the new one knows that it owns | `MAINPID=` of the new one, `READY=1` |
//! | it has failed | the owner | `READY=1`, and `STATUS=` with the cause |
//! | the service stops | the last owner, nobody else | `STOPPING=1`, more time until the drain's deadline |
//! | half the watchdog's interval has passed | the owner | `WATCHDOG=1` |
//! | a process is about to exit | the owner that stops, each elder | `BARRIER=1`, so that its last message is still known to be its own |
//!
//! A successor says nothing before the verdict. The messages never block the runtime. A manager that
//! takes none gets them when it does: 64 wait, and a status for 5 s at most; what is given up is said
//! in the log. A vsock is that of a
//! virtual machine's manager: it gets a connection for each message, and there are no barriers and
//! no fd store there.
//!
//! The **watchdog** (`WatchdogSec=`) is fed by the task that decides for the service: if that, or
//! the runtime under it, hangs, it starves. Conditions of your own go into
//! [`Config::watchdog_when`](crate::Config::watchdog_when). In steady state that is the one timer.
//!
//! The **fd store** (`FileDescriptorStoreMax=`) is used if the manager says that there is one. Every
//! listener, and every descriptor of [`Sockets::provide_descriptor`](crate::Sockets::provide_descriptor),
//! is stored under its name with `FDPOLL=0`, and removed when it is closed. After a crash the next
//! start gets them back and claims them by the same lines as always: whoever connects meanwhile
//! waits in the backlog. With a store a stop leaves the paths of Unix sockets in place, since it may
//! be a restart; one that nobody answers is replaced at the next start. `FileDescriptorStorePreserve=yes`
//! keeps the store over `systemctl stop` as well, if the unit is enabled (systemd forgets an inactive
//! one that nobody refers to): until the next start, connections wait.
//!
//! **Socket units** (`Accept=no`) are claimed by `FileDescriptorName=`, or by address. `LISTEN_PID`
//! and `LISTEN_PIDFDID` are honoured. Tools for development do not know the process that a build
//! starts and leave them out (`systemfd --no-pid -s http::8080 -- cargo watch -x run`): for those
//! there is [`Config::take_unnamed_sockets`](crate::Config::take_unnamed_sockets).
//!
//! # systemd
//!
//! The unit in `examples/deploy/systemd` is the one to start from. What a real systemd 257 taught
//! (`tests/systemd/run` shows each of it):
//!
//! - **`ExecReload=heirloom --service NAME upgrade --wait`** with `Type=notify` makes `systemctl
//!   reload` fail when the upgrade fails, whichever way it does: the program cannot be started, its
//!   trial fails, it ends before it is ready, it is rolled back. The cause is in the status and the
//!   journal, and the unit stays active. The command finds the
//!   [control socket](crate::Config::control_socket) in the unit's `RuntimeDirectory=`.
//! - **`Type=notify-reload`** needs no command: `systemctl reload` sends `SIGHUP` and returns when
//!   the new generation owns, or the old one serves on. There is no word for a failed reload in the
//!   protocol, so it succeeds either way. With `notify-reload` *and* `ExecReload=` also set
//!   `ReloadSignal=` to one that the server ignores (`SIGURG`), or both ask.
//! - **`TimeoutStartSec=`** limits reloads too, and **`TimeoutStopSec=`** stops. Both may be shorter
//!   than the upgrade or the drain: more time is asked for until that is over.
//! - **`ExecStop=`** has to end the main process and wait for it. A main process that another
//!   generation started is not systemd's own child, and systemd does not wait for such a one: if it
//!   is the only process of the unit, `SIGKILL` follows right after `SIGTERM`, and with it go the
//!   requests in flight. The shipped line does it with `kill` and `tail --pid`; a server that is
//!   stopped before its first upgrade would not need it.
//! - **`NotifyAccess=main` or `all`**: with `main`, the old main process hands the role on, and
//!   everything above works. One case does not: a new main process that dies beside an elder. The
//!   elder owns again and serves, but is not heard; systemd goes on believing in a main process that
//!   is gone, the next reload fails, and the service is started anew. With `all` the elder is heard.
//! - **`KillMode=control-group`**, the default, and not `mixed` or `process`: generations that still
//!   drain would get `SIGKILL` once the main process has ended, or be forgotten. With the default
//!   they get `SIGTERM`, which means for a generation beside its owner what a stop of the service
//!   means for it, and systemd waits.
//! - **`Restart=always`** and not `on-failure`: it may not learn the status of such a process.
//! - **Rights**: a port is bound by root, or a socket unit, once; then `DynamicUser=`,
//!   `NoNewPrivileges=`, an empty `CapabilityBoundingSet=`, `ProtectSystem=strict` and
//!   `SystemCallFilter=@system-service` are no obstacle to an upgrade.
//!
//! # Where there is no service manager
//!
//! A container ends with its process 1, supervisord, runit and s6 follow the pid that they started,
//! a terminal gives its prompt back: a pid that changes with every upgrade suits none of them.
//! `heirloom run -- server` (feature `cli`) is a parent whose pid stays. It speaks the manager's side
//! of the protocol above, so the server is the same.
//!
//! - `SIGHUP`, `SIGUSR1`, `SIGUSR2` go to the owner. `SIGTERM`, `SIGINT` and `SIGQUIT` too, and mean the
//!   end: it waits until the server has drained, for as long as the container's grace allows or
//!   `--grace` says, and exits with the server's code; 143 and 137 are a server that was ended by
//!   `SIGTERM` and `SIGKILL`. A stop that meets a hand-over reaches the new owner. What a terminal
//!   sends to its whole foreground group, the server has already got, and gets once. Before a new
//!   server has said its first word (2 s at most) an upgrade's signal is held back, which would end it.
//! - A server that crashes after it was ready once is started again with the sockets that it had,
//!   after 100 ms at first and 10 s at most; so is one that cannot be started for want of memory,
//!   processes or descriptors. One that was never ready ends the parent, so that the
//!   container's own restart policy sees it.
//! - When the main process dies while others of the service live (an elder, a successor), they have
//!   2 s to say who is main now, as they do by themselves; if nobody does, they are killed, and the
//!   server is started again.
//! - Orphans are reaped, and what is left of the server at the end is killed.
//! - It keeps up to 1024 descriptors, and raises its own limit of open files for that, not the
//!   server's; where the hard limit is lower it keeps fewer, and `FDSTORE=` says how many.
//! - Only processes below it are heard, and only the main one and those that were. `/proc` has to be
//!   mounted. If the parent itself is killed, the server lives on without one, unless it was process
//!   1: a supervisor above should then end its whole group (`killasgroup`, a cgroup).
//! - It is one process of one thread, without a runtime: 3.4 MB resident in a release build, 0.2 MB of
//!   that its own and the rest the program file (5.4 MB in a debug build, after twenty upgrades).
//! - `--listen http=0.0.0.0:80` binds before the server starts; the server claims it as always. Also
//!   `[::]:80`, the absolute path of a Unix socket, and `@name` for an abstract one.
//!
//! # Kubernetes
//!
//! Where pods are replaced, nothing has to be upgraded in place: what counts is that the old pod
//! leaves in order. `preStop` sleeps until the endpoints are known everywhere, `SIGTERM` begins the
//! drain with its lame duck, and `terminationGracePeriodSeconds` is longer than both. An upgrade in
//! the pod makes sense where connections are worth more than pods; the program has to come from a
//! volume then. `examples/deploy` has manifests for these, each with a comment that says what was
//! tested and what was not.
