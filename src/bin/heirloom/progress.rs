//! What goes on while an upgrade or a drain is waited for: lines, and on a terminal a bar.

use std::time::{Duration, Instant};

use heirloom::UpgradePhase;
use heirloom::control::News;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::print::{Printer, time};

/// A bar moves this often.
const TICK: Duration = Duration::from_millis(100);

pub(crate) struct Progress<'a> {
    printer: &'a Printer,
    begun: Instant,
    bar: Option<ProgressBar>,
    /// Connections when the drain was first heard of.
    most: u64,
}

impl<'a> Progress<'a> {
    pub(crate) fn new(printer: &'a Printer) -> Self {
        Self { printer, begun: Instant::now(), bar: None, most: 0 }
    }

    pub(crate) fn tell(&mut self, news: &News) {
        if self.printer.news_as_json(news) {
            return;
        }
        match news {
            News::Started { from, to } => {
                self.line(&format!("generation {from} starts generation {to}"));
            }
            News::Queued { owner } => {
                self.line(&format!("queued: generation {owner} runs another upgrade"));
            }
            News::Phase { phase, probation } => {
                self.end();
                self.line(phase.as_str());
                if *phase == UpgradePhase::Probation {
                    self.probation(*probation);
                }
            }
            News::NotYet { reason } => self.line(&format!("not ready yet: {reason}")),
            News::Draining { progress } => self.draining(progress),
            // Nothing that goes on while one waits.
            _ => {}
        }
    }

    /// The bar goes; what was written stays.
    pub(crate) fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn line(&self, text: &str) {
        self.printer.step(self.begun.elapsed(), text);
    }

    fn probation(&mut self, length: Duration) {
        if !self.printer.is_terminal() || length.is_zero() {
            return;
        }
        let bar = bar(u64::try_from(length.as_millis()).unwrap_or(u64::MAX), "{wide_bar} {msg}");
        bar.set_message(format!("of {}", time(length)));
        bar.enable_steady_tick(TICK);
        let (clock, moving) = (Instant::now(), bar.downgrade());
        // It ends with the bar.
        tokio::spawn(async move {
            while let Some(bar) = moving.upgrade() {
                bar.set_position(u64::try_from(clock.elapsed().as_millis()).unwrap_or(u64::MAX));
                drop(bar);
                tokio::time::sleep(TICK).await;
            }
        });
        self.bar = Some(bar);
    }

    fn draining(&mut self, progress: &heirloom::Progress) {
        let active = progress.active as u64;
        let text = match &progress.oldest {
            Some(oldest) => format!("{active} connections left, the oldest: {oldest}"),
            None => format!("{active} connections left"),
        };
        self.most = self.most.max(active);
        if !self.printer.is_terminal() {
            return self.line(&format!("{}: {text}", progress.phase));
        }
        let most = self.most;
        let bar = self.bar.get_or_insert_with(|| bar(most, "{wide_bar} {msg}"));
        bar.set_length(most);
        bar.set_position(most.saturating_sub(active));
        bar.set_message(text);
    }
}

fn bar(length: u64, template: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
