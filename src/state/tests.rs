//! States from their provider to their taker, without a handoff between the two.

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc;
use std::time::Duration;

use super::*;
use crate::error::ErrorKind;
use crate::name::Name;
use crate::wire::{Contents, Range};

const ANY: Range = Range { min: 0, max: u32::MAX };

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn states(length: u64, deadline: Duration) -> States {
    States::new(Limits { length, deadline })
}

fn patient() -> States {
    states(1 << 20, Duration::from_secs(20))
}

async fn refused(states: &States, wanted: Range) -> String {
    match states.snapshot(&name("cache"), wanted).await {
        Answered::Refused(why) => why,
        other => panic!("{other:?}"),
    }
}

/// What a taker gets of what the provider has written.
async fn taken(states: &States) -> (Provided, Blob) {
    match states.snapshot(&name("cache"), ANY).await {
        Answered::Here { provided, contents, file } => {
            let length = states.limits().length;
            let version = provided.version;
            (provided, verified(name("cache"), version, contents, file, length).await.unwrap())
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_is_written_is_what_is_taken() {
    let portions: [&[usize]; 5] =
        [&[], &[1], &[0, 64 * 1024, 1], &[100; 2_000], &[300 * 1024, 1, 600 * 1024]];
    for portions in portions {
        let bytes: Vec<u8> = (0..portions.iter().sum()).map(|at: usize| at as u8).collect();
        let states = patient();
        let (written, lengths) = (bytes.clone(), portions.to_vec());
        let state = State::new(7, move |writer| {
            let mut rest = &written[..];
            for length in &lengths {
                let (portion, after) = rest.split_at(*length);
                writer.write_all(portion)?;
                rest = after;
            }
            assert_eq!(writer.written(), written.len() as u64);
            std::io::Result::Ok(())
        });
        states.provide(name("cache"), state).unwrap();
        for _ in 0..2 {
            let (_, blob) = taken(&states).await;
            assert!(blob.as_bytes() == bytes);
            assert_eq!((blob.version(), blob.name().as_str()), (7, "cache"));
            let mut read = Vec::new();
            (&*blob).read_to_end(&mut read).unwrap();
            assert!(read == bytes);
        }
    }
    let unknown = patient().snapshot(&name("other"), ANY).await;
    assert!(matches!(unknown, Answered::Unknown));
}

#[tokio::test]
async fn the_newest_version_that_both_know_is_written() {
    let states = patient();
    let state = State::new(5, |writer| {
        let version = writer.version();
        write!(writer, "{version}")
    });
    states.provide(name("cache"), state.oldest_version(3)).unwrap();
    for (min, max, expected) in [(0, u32::MAX, 5), (4, 4, 4), (1, 3, 3), (5, 9, 5)] {
        let answered = states.snapshot(&name("cache"), Range { min, max }).await;
        let Answered::Here { provided, contents, .. } = answered else { panic!("{answered:?}") };
        assert_eq!((provided.version, contents.length), (expected, 1));
    }
    for (min, max, theirs) in
        [(6, 7, "versions 6 to 7"), (0, 2, "versions 0 to 2"), (9, 9, "version 9")]
    {
        let why = refused(&states, Range { min, max }).await;
        assert!(why.contains("provided in versions 3 to 5") && why.contains(theirs), "{why}");
    }
}

#[tokio::test]
async fn a_state_that_is_too_long_is_refused_however_its_provider_takes_it() {
    let states = states(1_000, Duration::from_secs(20));
    let exact = State::new(1, |writer| writer.write_all(&[1; 1_000]));
    states.provide(name("cache"), exact).unwrap();
    assert_eq!(taken(&states).await.1.len(), 1_000);
    for swallows in [true, false] {
        let state = State::new(1, move |writer| {
            let written = (0..).try_for_each(|_: u32| writer.write_all(&[1; 300]));
            if swallows { Ok(()) } else { written }
        });
        states.provide(name("cache"), state).unwrap();
        let why = refused(&states, ANY).await;
        assert!(why.contains("longer than 1000 bytes (Config::state_limit)"), "{why}");
    }
}

#[tokio::test]
async fn what_its_provider_says_is_the_reason() {
    let states = patient();
    states.provide(name("cache"), State::new(1, |_| Err("the index is being rebuilt"))).unwrap();
    assert!(refused(&states, ANY).await.contains("the index is being rebuilt"));
    let panics = |_: &mut StateWriter| -> std::io::Result<()> { panic!("on purpose") };
    states.provide(name("cache"), State::new(1, panics)).unwrap();
    assert!(refused(&states, ANY).await.contains("panicked"));
}

/// P4: nobody waits for a provider that hangs, and its next write tells it so.
#[tokio::test]
async fn a_provider_that_is_too_slow_is_refused_and_learns_of_it() {
    let states = states(1 << 20, Duration::from_millis(50));
    let (go_on, waits) = mpsc::channel::<()>();
    let (tell, heard) = mpsc::channel();
    let shared = std::sync::Mutex::new((waits, tell));
    let state = State::new(1, move |writer| {
        let (waits, tell) = &*shared.lock().unwrap();
        writer.write_all(b"first")?;
        waits.recv().unwrap();
        let written = writer.write_all(b"second");
        tell.send(written.as_ref().err().map(std::io::Error::kind)).unwrap();
        written
    });
    states.provide(name("cache"), state).unwrap();
    let why = refused(&states, ANY).await;
    assert!(why.contains("longer than Config::state_deadline, 50ms"), "{why}");
    go_on.send(()).unwrap();
    let kind = heard.recv_timeout(Duration::from_secs(20)).unwrap();
    assert_eq!(kind, Some(std::io::ErrorKind::TimedOut));
}

#[tokio::test]
async fn what_is_not_as_announced_is_never_handed_out() {
    let file = |bytes: &[u8]| {
        let mut file = std::fs::File::from(crate::sys::memfd::create(c"test").unwrap());
        file.write_all(bytes).unwrap();
        OwnedFd::from(file)
    };
    let sealed = |bytes: &[u8]| {
        let file = file(bytes);
        crate::sys::memfd::freeze(file.as_fd()).unwrap();
        file
    };
    let good = Contents { length: 5, checksum: crc32fast::hash(b"hello") };
    let open = async |contents, file| verified(name("cache"), 1, contents, file, 1_000).await;
    assert_eq!(&*open(good, sealed(b"hello")).await.unwrap(), b"hello");
    for (contents, file, why) in [
        (good, file(b"hello"), "sealed"),
        (good, sealed(b"hellos"), "it has 6 bytes, and 5 were announced"),
        (good, sealed(b"jello"), "its checksum is"),
        (Contents { length: 1_001, ..good }, sealed(b"hello"), "more than 1000"),
    ] {
        let error = open(contents, file).await.unwrap_err();
        assert!(error.chain().contains(why), "{}", error.chain());
        assert!(error.to_string().contains("state \"cache\""), "{error}");
    }
}

#[tokio::test]
async fn a_delta_is_in_the_version_that_was_taken_and_taken_in_once() {
    let states = patient();
    let state =
        State::new(2, |writer| writer.write_all(b"all")).delta(|writer| writer.write_all(b"more"));
    states.provide(name("cache"), state).unwrap();
    let (provided, _) = taken(&states).await;
    // What is provided meanwhile has not been taken.
    states.provide(name("cache"), State::new(9, |_| Err("not asked for"))).unwrap();
    let (file, contents) = provided.delta(100).await.unwrap().unwrap();
    let delta = verified(name("cache"), provided.version, contents, file, 100).await.unwrap();
    let (tell, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let lost = states.apply(delta).await.unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::StateRefused);
    assert!(lost.to_string().contains("Starting::on_delta"), "{lost}");

    let (file, contents) = provided.delta(100).await.unwrap().unwrap();
    let delta = verified(name("cache"), provided.version, contents, file, 100).await.unwrap();
    states.on_delta(name("cache"), move |delta| {
        let told = tell.send((delta.version(), delta.to_vec()));
        async move { told.map_err(|error| error.to_string()) }
    });
    states.apply(delta).await.unwrap();
    assert_eq!(heard.recv().await.unwrap(), (2, b"more".to_vec()));

    let state = State::new(2, |writer| writer.write_all(b"all"));
    states.provide(name("cache"), state).unwrap();
    assert!(taken(&states).await.0.delta(100).await.unwrap().is_none());
}

#[test]
fn there_is_an_end_to_what_can_be_provided() {
    let states = patient();
    let state = || State::new(1, |_| std::io::Result::Ok(()));
    for number in 0..1_024 {
        states.provide(name(&number.to_string()), state()).unwrap();
    }
    states.provide(name("7"), state()).unwrap();
    let error = states.provide(name("cache"), state()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
}
