//! Releases: how to put one in place, check it before it starts, and go back to the one before.
//!
//! # Putting a release in place
//!
//! **Write beside, then rename.** An upgrade starts what the program's path leads to at that moment.
//! Rename the new file onto the old one, or point a `current` link at another directory; both take
//! effect at once and leave the running file alone. Never write over the old file: the kernel
//! forbids it while the program runs (`ETXTBSY`), and once it has ended, what a roll back would start
//! is gone. A file that was overwritten in place is noticed, by its size and hash, and refused by its
//! name.
//!
//! **Keep nothing for us.** Every generation holds the file of the program before its own open, and
//! the kernel holds its own, with their arguments and working directories. They can be started after
//! their paths lead elsewhere or nowhere; the room on the disk is given back when the last generation that holds
//! them has ended. Three things cannot be kept: a script (its interpreter opens it by its path), a
//! program with more than 256 arguments or 16 KiB of them, and one that may be executed but not read.
//!
//! A program that is started so sees itself as it always was: the same arguments, the same name in
//! `ps`, and the next upgrade looks at the same path as before. Only `/proc/self/exe` says
//! `(deleted)`, so do not derive paths from it. Libraries, plugins and templates beside the program
//! are not held: a directory of a release has to stay until nobody would go back to it.
//!
//! # Checking before the start
//!
//! A [`Preflight`](crate::Preflight), given to [`Config::preflight`], runs before anything of the upgrade does. If it fails, no
//! successor was started, and its last words are in the report.
//!
//! ```
//! use heirloom::Preflight;
//! use std::time::Duration;
//!
//! // The new program reads its configuration and exits with 0 or with an error.
//! let check = Preflight::arguments(["--check"]).deadline(Duration::from_secs(10));
//! # drop(check);
//! ```
//!
//! In the program, the check comes before [`run`](crate::run), which would begin to serve:
//!
//! ```no_run
//! use std::process::ExitCode;
//!
//! # struct Settings;
//! # impl Settings { fn read() -> Result<Self, std::io::Error> { Ok(Self) } }
//! fn main() -> ExitCode {
//!     if std::env::args().nth(1).as_deref() == Some("--check") {
//!         return match Settings::read() {
//!             Ok(_) => ExitCode::SUCCESS,
//!             Err(error) => {
//!                 eprintln!("settings: {error}"); // this line is in the report
//!                 ExitCode::FAILURE
//!             }
//!         };
//!     }
//!     heirloom::run(heirloom::Config::new("shop"), async |start| {
//!         start.ready().await?.finished().await
//!     })
//! }
//! ```
//!
//! It runs beside the generation that serves: it must not bind the server's addresses, nor take a
//! lock that the server holds. It gets the environment and the working directory of the next
//! generation and three standard streams, no more. What it leaves in its process group when it ends
//! is killed. An application that ignores `SIGCHLD`, or waits for children that are not its own,
//! takes its status away: then nobody can say that it passed, and it has not.
//!
//! A check shows that the file is whole, its libraries are there and its settings can be read. That
//! it serves, it shows in probation.
//!
//! # Going back
//!
//! [`Running::roll_back`] takes a release back: in probation by giving the turn to the predecessor,
//! after the commit by starting the program that ran before as the next generation. That one has to
//! prove itself like any other. It gets the environment of the generation that starts it, and its
//! own arguments and directory.
//!
//! What asks for upgrades by itself, a watcher or a timer, uses [`Running::upgrade_unattended`]: a
//! program that has failed is held off for 30 s, twice as long after each further failure in a row,
//! at most for an hour ([`Config::hold_off`]). The memory goes from generation to generation, holds
//! the 16 programs that failed last, and never stands in the way of [`Running::upgrade`], of the
//! upgrade signal or of a roll back. A program that is committed has its failures forgotten;
//! what its predecessor could not or would not do ([`CauseKind::Predecessor`]) is none of them.
//!
//! [`CauseKind::Predecessor`]: crate::CauseKind::Predecessor
//! [`Config::preflight`]: crate::Config::preflight
//! [`Config::hold_off`]: crate::Config::hold_off
//! [`Running::roll_back`]: crate::Running::roll_back
//! [`Running::upgrade`]: crate::Running::upgrade
//! [`Running::upgrade_unattended`]: crate::Running::upgrade_unattended
