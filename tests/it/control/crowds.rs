//! Many clients at once.

use std::os::unix::net::UnixStream;

use heirloom::control::Upgrade;
use heirloom::{ErrorKind, UpgradeOutcome};

use super::{release, start};
use crate::support::operator::last_words;
use crate::support::wait::until;

trials![
    p9_two_hundred_clients_at_once_are_all_answered,
    p9_whoever_watches_leaves_room_for_commands,
    p9_a_command_waits_for_room_among_silent_clients,
];

fn p9_two_hundred_clients_at_once_are_all_answered() {
    let (server, operator) = start(release());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let client = operator.client.clone();
    let answers = runtime.block_on(async {
        let asked: Vec<_> = (0..200)
            .map(|_| {
                let client = client.clone();
                tokio::spawn(async move { client.status().await })
            })
            .collect();
        let upgrade = client.upgrade_and_wait(Upgrade::new(), |_| {}).await.unwrap();
        assert_eq!(upgrade.outcome, UpgradeOutcome::Committed);
        let mut answers = Vec::new();
        for asked in asked {
            answers.push(asked.await.unwrap());
        }
        answers
    });
    for answer in answers {
        assert!(answer.unwrap().owner.get() <= 1);
    }
    // More than one generation hears at once.
    server.until_gone(server.pid(0));
    let crowd: Vec<UnixStream> = (0..300).map(|_| operator.connect()).collect();
    let told = crowd.into_iter().map(last_words).filter(|words| words.contains("\"crowded\""));
    assert!(told.count() >= 300 - 256);
    assert_eq!(operator.upgrade().unwrap().outcome, UpgradeOutcome::Committed);
    drop(server);
}

/// And reads no more than the first word.
fn p9_whoever_watches_leaves_room_for_commands() {
    let (server, operator) = start(release());
    let watch = || operator.run(operator.client.watch()).unwrap();
    let mut watches: Vec<_> = (0..300).map(|_| watch()).collect();
    let first = watches.iter_mut().map(|watch| operator.run(watch.next()));
    let refused: Vec<_> = first.filter_map(|news| news.err()).map(|error| error.kind()).collect();
    assert_eq!(refused, [ErrorKind::Crowded; 300 - 128]);
    assert_eq!(operator.status().owner.get(), 0);
    assert_eq!(operator.upgrade().unwrap().outcome, UpgradeOutcome::Committed);
    drop((watches, server));
}

/// They are heard for five seconds each.
fn p9_a_command_waits_for_room_among_silent_clients() {
    let (server, operator) = start(release());
    let crowd: Vec<UnixStream> = (0..256).map(|_| operator.connect()).collect();
    until("no room for another one", || {
        last_words(operator.connect()).contains("\"crowded\"").then_some(())
    });
    assert_eq!(operator.status().owner.get(), 0);
    drop((crowd, server));
}
