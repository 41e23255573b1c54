//! Takeover: the next release is started by somebody else.
//!
//! In an upgrade a server starts its successor. Sometimes it cannot: the new release comes as a
//! container, as another unit, from a terminal. Then the new process asks the old one for the turn,
//! over the control socket, and from there on everything is as in any [upgrade](super::upgrade): the
//! same dialogue, the same probation, the same verdict. It needs two lines, in both releases:
//!
//! ```no_run
//! # fn main() -> std::process::ExitCode {
//! let config = heirloom::Config::new("shop")
//!     .control_socket_at("/run/shop/control.sock")
//!     .take_over(heirloom::TakeOver::IfSomeoneAnswers);
//! # heirloom::run(config, async |start| start.ready().await?.finished().await)
//! # }
//! ```
//!
//! # What a process does that no predecessor has started
//!
//! | at the control socket | [`Never`] (default) | [`IfSomeoneAnswers`] | [`Require`] |
//! | --- | --- | --- | --- |
//! | is nobody, or a dead socket | it is the first | it is the first | error `NobodyThere` |
//! | somebody hands over | it fails: the socket is another's | it takes over | it takes over |
//! | an upgrade runs | the same | it waits for its end, then asks whoever owns | the same |
//! | somebody refuses, is silent, or talks nonsense | the same | error | error |
//!
//! Whoever cannot be talked to may still serve, so nobody is ever started *beside* it. The wait for
//! the turn ends with [`Config::take_over_deadline`](crate::Config::take_over_deadline). A
//! predecessor that dies before everything has been handed over was none: the process asks again,
//! and is the first if nobody is left. Two processes that start at the same moment and find nobody
//! are told apart by the socket's path: the second fails, and finds the first when its supervisor
//! starts it again.
//!
//! A process that a predecessor has started does none of this, so the policy may stand in the
//! configuration for good: what was taken over is upgraded by `SIGHUP` as always.
//!
//! # Who may
//!
//! Both sides look at what the kernel says of the other: the same user, root, or one of
//! [`Config::control_users`](crate::Config::control_users). In a user namespace a user without a
//! mapping appears as the overflow user, who is never allowed.
//!
//! The predecessor has to be able to *end* a successor that it takes back. In the same PID namespace,
//! or in one above, it can. Two containers are beside each other, and neither sees the other's
//! processes: there the takeover is refused unless the predecessor's release says
//! [`Config::accept_unenforceable`](crate::Config::accept_unenforceable). Then the successor guards
//! itself: it stops accepting when it has not heard its predecessor for as long as the
//! [silence deadline](crate::Config::silence_deadline) says, and a taken back one finishes what it
//! has accepted and goes.
//!
//! The kernel names a process across PID namespaces since Linux 6.5; before that a takeover between
//! containers is refused, and one on the same machine works.
//!
//! # What is different
//!
//! - **The preflight** is skipped: the program runs already. A program that has failed is
//!   [held off](crate::Config::hold_off), since a supervisor that starts it again and again would
//!   make the service flap. Programs are known by their contents.
//! - **A stop of the old process** while the new one starts or is in probation does not end the
//!   service: it commits as soon as the new one serves, since somebody wants the old one gone. A
//!   second stop ends the handoff.
//! - **A roll back after the commit** works as after any upgrade: the owner holds the program of
//!   whoever it took over from, by a descriptor, and starts it as its own child, in its own
//!   namespaces and with its own environment. Its libraries have to be there.
//! - **What a release needs besides its sockets** is its own: files, secrets, the environment. Nothing
//!   of it is handed over.
//! - **The PID file** names whoever owns, by the number that it has in its own namespace. Between
//!   containers that says nothing to anybody; leave it out there.
//! - **Each side has its own service manager.** The old one is not told a `MAINPID` that is not its
//!   own: its unit stays active while it drains, with its watchdog fed, and is over when it exits
//!   with 0. What it had in the manager's fd store is removed. The new one says `READY=1` when it
//!   owns. Units that take over from each other need `Restart=on-failure`: with `always` the old
//!   one would come back and take over in turn. Containers alike: `restart: on-failure`.
//! - **Sockets that the new process was activated with** (`LISTEN_FDS`) are closed if it takes over,
//!   with a warning: it gets those of its predecessor. If its manager had them from an fd store, it
//!   is asked to drop them when this process owns, and to keep those that were handed over; if it
//!   was taken back, the store stays as it was. A *socket unit* of the new side goes on holding its
//!   sockets, and if it has bound the service's address as well (`ReusePort=`), a part of the
//!   clients is queued where nobody accepts: do without it, or stop it before the takeover.
//!
//! # Containers
//!
//! Both need the directory of the control socket, at the same path, from a volume; a directory that
//! only its owner may write to.
//!
//! **A listening socket belongs to the network namespace in which it was bound.** The new container
//! serves on the old one's sockets, and the address has to outlive the old container:
//!
//! - `network_mode: host` for both, or both in the namespace of a third container that does nothing
//!   (`network_mode: service:net`), which is what a Kubernetes pod does by itself;
//! - published ports of the old container's own network are gone with it. There a takeover is of no
//!   use.
//!
//! `examples/deploy/container/takeover.yaml` is such a pair for Docker compose. The order of a
//! deployment is: start the new one, wait until it says that it owns (`heirloom status`, exit code 0
//! of `heirloom check`), remove the old one. The old one exits with 0 as soon as it has drained.
//!
//! In Kubernetes two containers of *one pod* can do it with an `emptyDir`, and pods on one node with
//! `hostNetwork` and a `hostPath`. Between pods with networks of their own it is the load balancer
//! that moves the traffic, and [draining](super::draining) what matters.
//!
//! [`Never`]: crate::TakeOver::Never
//! [`IfSomeoneAnswers`]: crate::TakeOver::IfSomeoneAnswers
//! [`Require`]: crate::TakeOver::Require
