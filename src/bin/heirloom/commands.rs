//! What each command does with its answer.

use heirloom::control::{Client, News, Started, Stop, Upgrade, When};
use heirloom::{ErrorKind, Generation, Report, Result};

use super::args::{Args, Verb};
use super::exit::Exit;
use super::print::Printer;
use super::progress::Progress;
use super::watch::{Watcher, reader_has_gone};

pub(crate) async fn run(args: &Args, printer: &Printer) -> Result<Exit> {
    let Some(client) = args.client()? else { return Ok(no_service(printer)) };
    match &args.verb {
        Verb::Status => printer.overview(&client.status().await?),
        Verb::Upgrade { exe, wait, no_queue } => {
            let mut upgrade = Upgrade::new();
            if let Some(path) = exe {
                upgrade = upgrade.executable(absolute(path));
            }
            if *no_queue {
                upgrade = upgrade.when(When::AtOnce);
            }
            return self::upgrade(&client, upgrade, *wait, printer).await;
        }
        Verb::Commit => return Ok(ended(printer, &client.commit().await?)),
        Verb::Rollback { generation } => {
            let mut progress = Progress::new(printer);
            let tell = |news: &News| progress.tell(news);
            let report = match generation {
                Some(number) => client.roll_back_of(Generation::new(*number), tell).await,
                None => client.roll_back(tell).await,
            };
            progress.end();
            return report.map(|report| taken_back(printer, &report));
        }
        Verb::Abort { reason } => {
            printer.report(&client.abort(reason).await?);
        }
        Verb::Drain => drain(&client, printer).await?,
        Verb::Pause => {
            client.pause().await?;
            printer.done("paused");
        }
        Verb::Resume => {
            client.resume().await?;
            printer.done("resumed");
        }
        Verb::Stop { force: true } => stop(&client, Stop::Force, printer).await?,
        Verb::Stop { force: false } => stop(&client, Stop::Gracefully, printer).await?,
        Verb::Watch => return watch(&client, printer).await,
        Verb::History => {
            let (reports, summary) = client.history_and_summary().await?;
            printer.history(&reports, &summary);
        }
        Verb::Metrics => printer.metrics(&client.metrics().await?),
        Verb::Check => {
            client.check().await?;
            printer.done("ready");
        }
        Verb::Run { .. } => {
            printer.complain("'run' comes first: heirloom run [OPTIONS] -- SERVER");
            return Ok(Exit::Usage);
        }
        // Answered without a service.
        Verb::Completions { .. } | Verb::Man => {}
    }
    Ok(Exit::Done)
}

fn no_service(printer: &Printer) -> Exit {
    let text = "which service? name it by --service NAME or --socket PATH, or set HEIRLOOM_SOCKET";
    printer.refuse(ErrorKind::Config, text);
    Exit::Usage
}

async fn upgrade(client: &Client, upgrade: Upgrade, wait: bool, printer: &Printer) -> Result<Exit> {
    if !wait {
        printer.done(match client.upgrade(upgrade).await? {
            Started::Queued => "queued: it runs when the upgrade that runs has ended",
            _ => "begun",
        });
        return Ok(Exit::Done);
    }
    let mut progress = Progress::new(printer);
    let report = client.upgrade_and_wait(upgrade, |news| progress.tell(news)).await;
    progress.end();
    Ok(ended(printer, &report?))
}

async fn drain(client: &Client, printer: &Printer) -> Result<()> {
    let mut progress = Progress::new(printer);
    let report = client.drain(|news| progress.tell(news)).await;
    progress.end();
    printer.drained("drained, and stays", &report?);
    Ok(())
}

async fn stop(client: &Client, how: Stop, printer: &Printer) -> Result<()> {
    let mut progress = Progress::new(printer);
    let report = client.stop(how, |news| progress.tell(news)).await;
    progress.end();
    printer.drained("stopped", &report?);
    Ok(())
}

/// An upgrade that was to commit.
fn ended(printer: &Printer, report: &Report) -> Exit {
    printer.report(report);
    Exit::from(report)
}

/// A release that was to be taken back: by the end of its upgrade, or by one to the release before.
fn taken_back(printer: &Printer, report: &Report) -> Exit {
    printer.report(report);
    match Exit::from(report) {
        Exit::FailedBeforeYield | Exit::RolledBack if !is_back(report) => Exit::from(report),
        _ => Exit::Done,
    }
}

/// Whether the upgrade ended because an operator wanted it to.
fn is_back(report: &Report) -> bool {
    report.cause.as_deref().is_some_and(|cause| cause.contains("an operator asked to roll back"))
}

async fn watch(client: &Client, printer: &Printer) -> Result<Exit> {
    let mut watch = client.watch().await?;
    let mut watcher = Watcher::new(printer);
    loop {
        match watch.next().await {
            Ok(News::Unknown) => {}
            Ok(news) => watcher.tell(&news),
            Err(error) if matches!(error.kind(), ErrorKind::NobodyThere | ErrorKind::Stopping) => {
                printer.done("the service has ended");
                return Ok(Exit::Done);
            }
            Err(error) => return Err(error),
        }
        // There is news at least every second.
        if reader_has_gone() {
            return Ok(Exit::Done);
        }
    }
}

/// The service may have another working directory.
fn absolute(path: &std::path::Path) -> std::path::PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
