//! What `watch` shows: the service as it stands, and what happened last.

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::time::Instant;

use heirloom::control::{GenerationView, News, Overview};
use heirloom::{Event, Outcome};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::print::{Printer, plain, time};

/// So many events stay on a terminal.
const RECENT: usize = 12;

/// What has been shown so far.
pub(crate) struct Watcher<'a> {
    printer: &'a Printer,
    begun: Instant,
    /// What of the last overview is news.
    shape: String,
    table: String,
    recent: VecDeque<String>,
}

impl<'a> Watcher<'a> {
    pub(crate) fn new(printer: &'a Printer) -> Self {
        let (shape, table) = (String::new(), String::new());
        Self { printer, begun: Instant::now(), shape, table, recent: VecDeque::new() }
    }

    pub(crate) fn tell(&mut self, news: &News) {
        if self.printer.news_as_json(news) {
            return;
        }
        match news {
            News::Overview { overview } => {
                self.table = self.printer.table(overview);
                let shape = shape(overview);
                // Times pass all the time; on a pipe only what else changes is worth a line.
                if !self.printer.is_terminal() && self.shape != shape {
                    self.printer.text(&self.table);
                }
                self.shape = shape;
            }
            News::Event { event } => self.event(event),
            _ => {}
        }
        if self.printer.is_terminal() {
            let recent: String = self.recent.iter().map(String::as_str).collect();
            let gap = if recent.is_empty() { "" } else { "\n" };
            self.printer.text(&format!("\x1b[H\x1b[2J{}{gap}{recent}", self.table));
        }
    }

    fn event(&mut self, event: &Event) {
        let line = format!("{:>9}  {}\n", time(self.begun.elapsed()), plain(&words(event)));
        if !self.printer.is_terminal() {
            return self.printer.text(&line);
        }
        self.recent.push_back(line);
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
    }
}

/// What of an overview is news.
fn shape(overview: &Overview) -> String {
    let each = |view: &GenerationView| {
        format!("{} {:?} {:?} {:?}", view.generation, view.role, view.connections, view.hurried)
    };
    let generations: Vec<String> = overview.generations.iter().map(each).collect();
    let phase = overview.upgrade.as_ref().map(|upgrade| upgrade.phase);
    let (accepting, queued) = (overview.accepting, overview.queued);
    format!("{accepting:?} {queued} {} {phase:?}", generations.join(","))
}

/// An event in a line.
fn words(event: &Event) -> String {
    match event {
        Event::Owns => String::from("another generation owns"),
        Event::UpgradeStarted(to) => format!("upgrade to generation {to} begins"),
        Event::UpgradePhase(phase) => format!("upgrade: {phase}"),
        Event::UpgradeEnded(report) => {
            let report = report.to_string();
            let mut lines = report.lines().map(str::trim);
            let first = lines.next().unwrap_or_default().to_owned();
            let cause = lines.find(|line| line.starts_with("cause: "));
            cause.map_or(first.clone(), |cause| format!("{first}; {cause}"))
        }
        Event::UpgradeQueued => String::from("another upgrade is queued"),
        Event::SuccessorLeft { generation, accepted: Some(accepted) } => {
            format!("generation {generation}, taken back, has finished {accepted} connections")
        }
        Event::SuccessorLeft { generation, accepted: None } => {
            format!("generation {generation}, taken back, has gone without a word")
        }
        Event::ElderDrained { generation, drained, moved, cut, cuts } => {
            let why = if cuts.is_empty() { String::new() } else { format!(" ({cuts})") };
            format!(
                "generation {generation} has drained: {drained} ended, {moved} moved, {cut} cut{why}"
            )
        }
        Event::ElderEnded(generation) => format!("generation {generation} has ended"),
        Event::ElderHurried(generation) => {
            format!("generation {generation} is told to cut what is left: too many drain at once")
        }
        Event::AloneAtLast => String::from("no older generation runs any more"),
        Event::Ended(Outcome::RolledBack { reason }) => format!("did not come to own: {reason}"),
        Event::Ended(_) => String::from("this generation ends"),
        // One of a later version.
        other => serde_json::to_string(other).unwrap_or_default(),
    }
}

/// Whether whoever read standard output has closed it, as `head` does.
pub(crate) fn reader_has_gone() -> bool {
    let out = std::io::stdout();
    let mut fds = [PollFd::new(out.as_fd(), PollFlags::empty())];
    let gone = |fd: &PollFd<'_>| fd.revents().is_some_and(|it| it.contains(PollFlags::POLLERR));
    poll(&mut fds, PollTimeout::ZERO).is_ok() && fds.iter().any(gone)
}
