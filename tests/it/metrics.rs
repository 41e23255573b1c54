//! Figures that go on over upgrades, in a format that others read.

#[cfg(feature = "http")]
pub(crate) mod requests;

use std::collections::BTreeMap;

use heirloom::UpgradeOutcome;
use nix::sys::signal::Signal;
use openmetrics_parser::openmetrics::parse_openmetrics;

use crate::support::release::Start;
use crate::support::wait::until;
use crate::support::{Load, Operator, Release, Server};

trials![
    p12_counters_over_twenty_upgrades_are_what_the_clients_counted,
    p12_counters_never_go_back_while_generations_come_and_go,
    p12_the_history_goes_from_generation_to_generation,
    p12_what_a_killed_elder_served_until_then_is_known,
    a_parser_of_others_reads_the_figures,
];

fn start(release: Release) -> (Server, Operator) {
    let server = Server::start(Release { control: true, ..release });
    let operator = Operator::of(server.directory());
    (server, operator)
}

/// All samples, by name and labels.
fn figures(operator: &Operator) -> BTreeMap<String, f64> {
    let text = operator.run(operator.client.metrics()).unwrap();
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        })
        .collect()
}

const ACCEPTED: &str = "heirloom_connections_accepted_total";

fn committed(figures: &BTreeMap<String, f64>) -> f64 {
    let name = r#"heirloom_upgrades_total{outcome="committed""#;
    figures.iter().filter(|(key, _)| key.starts_with(name)).map(|(_, count)| count).sum()
}

fn p12_counters_over_twenty_upgrades_are_what_the_clients_counted() {
    let (server, operator) = start(Release::default());
    let load = Load::start(&[server.address("main")], 4);
    for number in 1..=20 {
        if number % 5 == 0 {
            server.next_release(|next| next.start = Start::Fail("a bad one".into()));
            assert_eq!(operator.upgrade().unwrap().outcome, UpgradeOutcome::Failed);
            server.next_release(|next| next.start = Start::Well);
        }
        load.until_answered(20);
        assert_eq!(operator.upgrade().unwrap().outcome, UpgradeOutcome::Committed);
    }
    let tally = load.finish();
    tally.assert_unharmed();
    until("the end of the elders", || (operator.status().generations.len() == 1).then_some(()));
    let figures = figures(&operator);
    assert_eq!(figures[ACCEPTED], tally.answers.len() as f64, "{figures:#?}");
    assert_eq!(committed(&figures), 20.0, "{figures:#?}");
    assert_eq!(figures["heirloom_upgrade_elapsed_seconds_count"], 24.0);
    assert_eq!(figures[r#"heirloom_connections_drained_total{outcome="cut"}"#], 0.0);
}

fn p12_counters_never_go_back_while_generations_come_and_go() {
    let (server, operator) = start(Release::default());
    let load = Load::start(&[server.address("main")], 4);
    let watcher = Operator::of(server.directory());
    let mut last = BTreeMap::new();
    let mut looks = 0;
    operator.run(async {
        for _ in 0..6 {
            let upgrade = operator.client.upgrade_and_wait(Default::default(), |_| {});
            let mut upgrade = std::pin::pin!(upgrade);
            loop {
                let text = tokio::select! {
                    report = &mut upgrade => {
                        assert_eq!(report.unwrap().outcome, UpgradeOutcome::Committed);
                        break;
                    }
                    text = watcher.client.metrics() => text.unwrap(),
                };
                looks += 1;
                for line in text.lines().filter(|line| line.contains("_total")) {
                    let (name, value) = line.rsplit_once(' ').unwrap();
                    if let Ok(value) = value.parse::<f64>() {
                        let before = last.insert(name.to_owned(), value).unwrap_or(0.0);
                        assert!(value >= before, "{name} was {before} and is {value}");
                    }
                }
            }
        }
    });
    assert!(looks > 20, "{looks}");
    load.finish().assert_unharmed();
}

fn p12_the_history_goes_from_generation_to_generation() {
    let (server, operator) = start(Release::default());
    server.next_release(|next| next.start = Start::Fail("a bad one".into()));
    operator.upgrade().unwrap();
    server.next_release(|next| next.start = Start::Well);
    let mut reports = Vec::new();
    for _ in 0..3 {
        reports.push(operator.upgrade().unwrap());
    }
    let history = operator.run(operator.client.history()).unwrap();
    assert_eq!(history.len(), 4);
    assert_eq!(history[0].outcome, UpgradeOutcome::Failed);
    for (known, told) in history[1..].iter().zip(&reports) {
        // Its drain may be over by now.
        let mut known = known.clone();
        known.drain = None;
        assert_eq!(&known, told);
    }
    assert_eq!(history.len(), reports.len() + 1);
}

fn p12_what_a_killed_elder_served_until_then_is_known() {
    let (server, operator) = start(Release::default());
    let mut held = server.client("main");
    held.ask("hold");
    (0..9).for_each(|_| drop(server.ask("who")));
    assert_eq!(operator.upgrade().unwrap().outcome, UpgradeOutcome::Committed);
    let elder = server.pid(0);
    server.signal(elder, Signal::SIGKILL);
    server.until_gone(elder);
    server.ask("who");
    assert_eq!(figures(&operator)[ACCEPTED], 11.0);
    assert_eq!(operator.upgrade().unwrap().outcome, UpgradeOutcome::Committed);
    assert_eq!(figures(&operator)[ACCEPTED], 11.0);
}

fn a_parser_of_others_reads_the_figures() {
    let (server, operator) = start(Release::default());
    let text = operator.run(operator.client.metrics()).unwrap();
    parse_openmetrics(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let mut held = server.client("main");
    held.ask("hold");
    operator.upgrade().unwrap();
    let text = operator.run(operator.client.metrics()).unwrap();
    let parsed = parse_openmetrics(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert!(parsed.families.contains_key("heirloom_upgrades"), "{text}");
    assert!(parsed.families.contains_key("heirloom_upgrade_duration_seconds"), "{text}");
}
