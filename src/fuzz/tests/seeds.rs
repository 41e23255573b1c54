//! Where the fuzzer starts: inputs that reach far, each written in the words of its target.

use std::env;
use std::fs;
use std::path::Path;

use super::{TARGETS, assert_none, run};
use crate::fuzz::{predecessor as pred, successor as succ};
use crate::handoff::{Timer, predecessor, successor};
use crate::sys::cmsg;

/// Inputs of one target.
type Seeds = Vec<Vec<u8>>;

fn seeds(target: &str) -> Seeds {
    match target {
        "answer" => answers(),
        "control" => controls(),
        "environment" => environment(),
        "frame" => frames(),
        "handoff" => handoffs(),
        "kernel" => kernel(),
        "message" => messages(),
        "predecessor" => predecessors(),
        "successor" => successors(),
        other => panic!("{other}: where does it start?"),
    }
}

/// Every released message: its kind and its payload.
fn golden() -> Vec<(u8, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1");
    let mut all: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let number = path.file_name().unwrap().to_str().unwrap().split('-').next().unwrap();
            (number.parse().unwrap(), fs::read(&path).unwrap())
        })
        .collect();
    all.sort();
    all
}

fn controls() -> Seeds {
    let report = r#"{"ok":{"answer":"text","text":"a 1\n"}}"#;
    let said = [
        (0, r#"{"protocol":{"min":1,"max":1},"client":"1.0","command":"status"}"#),
        (
            0,
            r#"{"protocol":{"min":1,"max":9},"command":"upgrade","executable":"/bin/a","wait":true}"#,
        ),
        (0, r#"{"protocol":{"min":1,"max":1},"command":"roll-back","of":7}"#),
        (0, r#"{"protocol":{"min":1,"max":1},"command":"follow","after":18446744073709551615}"#),
        (0, r#"{"protocol":{"min":1,"max":1},"command":"\u001b[2J"}"#),
        (1, r#"{"news":"started","from":1,"to":2}"#),
        (1, r#"{"news":"not-yet","reason":"warms up"}"#),
        (1, r#"{"news":"event","event":{"event":"alone-at-last"}}"#),
        (2, r#"{"ok":{"answer":"done"}}"#),
        (2, report),
        (2, r#"{"error":{"kind":"busy","text":"another upgrade is running"}}"#),
    ];
    let payloads = said.map(|(kind, json)| [&[kind], json.as_bytes()].concat());
    let frame = |kind: u16, json: &str| {
        let length = u32::try_from(json.len()).unwrap().to_le_bytes();
        [b"HLRM", &length[..], &kind.to_le_bytes(), &[0, 0], json.as_bytes()].concat()
    };
    let frames = said.map(|(kind, json)| frame(64 + u16::from(kind), json));
    let stream = [vec![9], frames.concat()].concat();
    let torn = stream[..stream.len() - 3].to_vec();
    payloads.into_iter().chain([stream, torn]).collect()
}

fn messages() -> Seeds {
    let odd = [
        // Text that would steer a terminal, that is cut, and that no JSON text can be.
        (7, r#"{"error":"a\u001b[31m\u0000\r\n\ud83d\ude00"}"#.to_owned()),
        (7, format!(r#"{{"error":"{}"}}"#, "\u{e9}".repeat(600))),
        (3, r#"{"reason":"\ud800"}"#.to_owned()),
        // Fields twice, structures as lists, numbers that do not fit.
        (8, r#"{"sequence":1,"sequence":2}"#.to_owned()),
        (8, r#"[18446744073709551615]"#.to_owned()),
        (8, r#"{"sequence":18446744073709551616}"#.to_owned()),
        (8, r#"{"sequence":-1}"#.to_owned()),
        // What the parser would say back.
        (8, format!(r#"{{"sequence":"{}"}}"#, "\\u001b[2J".repeat(200))),
        // Addresses as bytes, with a digit too few, and of two families.
        (4, socket(r#"{"path":{"bytes":"2f72756e2fff00"}}"#)),
        (4, socket(r#"{"abstract":{"bytes":"0A"}}"#)),
        (4, socket(r#"{"path":{"bytes":"2f7"}}"#)),
        (4, socket(r#"{"path":"/x","inet":"[::1]:80"}"#)),
        (4, socket(r#"{"inet":"[fe80::1%7]:80"}"#)),
        (4, socket(r#"{"vsock":{"cid":3}}"#)),
        // A report that is shortened, and counts that cannot grow.
        (22, last_report(64, "18446744073709551615")),
        (22, last_report(64, "1")),
        (22, last_report(9, "1")),
    ];
    let golden = golden().into_iter();
    let odd = odd.into_iter().map(|(kind, payload)| (kind, payload.into_bytes()));
    golden.chain(odd).map(|(kind, payload)| [&[kind, 0], &payload[..]].concat()).collect()
}

fn socket(address: &str) -> String {
    let record = format!(r#""name":"http","kind":"unix-stream","address":{address}"#);
    format!(r#"{{"items":[{{"role":"socket",{record}}}],"last":true}}"#)
}

fn last_report(cut: usize, unlisted: &str) -> String {
    let item = r#"{"listener":"http","name":"GET \"/\"","reason":"","age_ms":1}"#;
    let cut = vec![item; cut].join(",");
    let rest = r#""forced":true,"elapsed_ms":2"#;
    format!(r#"{{"drained":1,"cut":[{cut}],"unlisted":{unlisted},{rest}}}"#)
}

/// An instruction that stages a frame, with as much of its payload as an instruction can hold.
fn staged(kind: u8, descriptors: u8, payload: &[u8]) -> Vec<u8> {
    let payload = &payload[..payload.len().min(255)];
    [&[1, kind, descriptors, payload.len() as u8], payload].concat()
}

fn frames() -> Seeds {
    let verdicts = |count: usize| {
        let items = vec![r#"{"role":"verdict"}"#; count].join(",");
        format!(r#"{{"items":[{items}],"last":true}}"#).into_bytes()
    };
    let mut all: Seeds = golden()
        .iter()
        .filter(|(_, payload)| payload.len() <= 255)
        .map(|(kind, payload)| [&[1][..], &staged(*kind, 0, payload), &[5, 0, 7]].concat())
        .collect();
    // An offer with its descriptors: whole, cut in its header, cut in its payload, byte by byte.
    let offer = staged(4, 3, &verdicts(3));
    all.push([&[0][..], &offer, &[5, 3, 7]].concat());
    all.push([&[1][..], &offer, &[4, 5, 0, 3, 7, 5, 0, 7]].concat());
    all.push([&[0][..], &offer, &[4, 40, 0, 1, 7, 4, 1, 0, 1, 5, 1, 7]].concat());
    all.push([&[0][..], &offer, &[6, 90, 7, 5, 3]].concat());
    // Two frames in one call, and the descriptors of the second with its own.
    all.push([&[0][..], &staged(5, 0, b"{}"), &[5, 0], &offer, &[5, 3, 7]].concat());
    all.push([&[0][..], &offer, &offer, &[5, 3, 7]].concat());
    // Too few, too many, and of a kind that is skipped.
    all.push([&[0][..], &offer, &[5, 2, 7]].concat());
    all.push([&[0][..], &offer, &[5, 4, 7]].concat());
    all.push(
        [&[0][..], &staged(99, 2, b"later"), &[5, 2], &staged(10, 0, b"{}"), &[5, 0]].concat(),
    );
    // As many as one message carries, and longer than what travels whole, or fits a socket.
    all.push([&[0][..], &staged(99, 255, b"{}"), &[5, 255, 7]].concat());
    for units in [1, 9, 200] {
        all.push([&[0, 2, 4, 1, 43, units][..], &verdicts(1), &[5, 1, 7]].concat());
        all.push([&[1, 2, units, 5, 0, 2][..], b"{}", &[4, 9, 0, 0, 7, 5, 0, 7, 7]].concat());
    }
    // Headers beyond a limit, and what is no header.
    all.push(vec![0, 3, 255, 255, 255, 4, 0, 0, 0, 5, 0, 7]);
    all.push(vec![0, 3, 2, 0, 0, 4, 0, 254, 0, 5, 0, 7]);
    all.push(b"\x00\x00\x0dGET / HTTP/1.\x05\x00\x07".to_vec());
    all
}

fn answers() -> Seeds {
    let answers = [
        "HTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.0 404 Not Found\r\nServer: x\r\n\r\nbody",
        "HTTP/1.1 204\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 Busy\r\n\r\n",
        "HTTP/1.1 103 Early\r\nLink: a\r\n\r\nHTTP/1.1 200 \r\n\r\n",
        "HTTP/1.1 100 x\r\n\r\nsomething else",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        "HTTP/1.1 200 OK\n\n",
        "HTTP/1.1 099 OK\r\n",
        "HTTP/1.1 600\r\n",
        "HTTP/1.1 2000\r\n",
        "HTTP/2 200\r\n",
        "220 mail.example ESMTP",
        "\r\n",
        "",
    ];
    let cut = |text: &str| [&[3, 1, 9, 12][..], text.as_bytes()].concat();
    answers.map(cut).to_vec()
}

fn environment() -> Seeds {
    [
        "",
        "L3:40991:$q:$s",
        "L3:40991:1:1",
        "L3:40991:$p:0",
        "L4:40991:$q:$s",
        "L3:40992:$q:0",
        "L3:40992:$q:1",
        "L0:40991:$q:$s",
        "L3:40991:$q:$s:1",
        "L+3:40991:1:1",
        "L99999999999:1:1:1",
        "P$p\0F2\0Nhttp:unknown",
        "P$p\0F2\0Nhttp:",
        "P$p\0F1",
        "P$p\0F0\0Nhttp",
        "P$p\0I$i\0F1\0Nhttp",
        "P$p\0I1\0F1\0Nhttp",
        "P1\0F1\0Nhttp",
        "P2\0F1",
        "P$p\0F2\0None",
        "P$p\0F1\0None:two",
        "P$p\0F4096",
        "P$p\0F4097",
        "P$p\0F18446744073709551616",
        "P$p\0F1\0Nb\u{7}d",
        "P$p\0F1\0N\u{fc}ml",
        "Px\0F1",
        "X$d:/srv/app",
        "X$d:srv/app",
        "X1:2:/srv/app",
        "X$d",
        "L3:40991:$q:$s\0P$p\0F2\0Na:b",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

fn kernel() -> Seeds {
    let mut all: Seeds = ["", "sleep", "a b", ") 1 2 (", "((", "x) S 1 2 3"]
        .map(|name| name.as_bytes().to_vec())
        .to_vec();
    let mut buffer = cmsg::Buffer::<2048>::new();
    for (kind, length) in [(1, 4), (1, 12), (2, 12), (1, 253 * 4), (4, 4)] {
        let taken = buffer.encode(1, kind, &vec![7; length]).unwrap();
        all.push(buffer.0[..taken].to_vec());
        all.push([&buffer.0[..taken], &buffer.0[..taken - 3]].concat());
    }
    all
}

/// A script for the predecessor: the place of each event in its table.
fn predecessors() -> Seeds {
    use predecessor::Event as E;
    let place = |event: &E| {
        let place = pred::EVENTS.iter().position(|make| make() == *event).unwrap();
        u8::try_from(place).unwrap()
    };
    let way =
        [E::Spawned, E::Hello, E::Adopted, E::Ready, E::Pong, E::Parked, E::Serving, E::Approved];
    let way: Vec<u8> = way.iter().map(place).collect();
    let (sealed, faster, first) = (0xfe, 0xff, pred::EXPIRES);
    let gone = [place(&E::LinkClosed), place(&E::Died("died".into())), place(&E::Abandoned)];
    let mut all = Vec::new();
    let checked = [&way[..7], &[E::Healthy, E::Ailing, E::Healthy].map(|e| place(&e))].concat();
    for plan in [2, 4, 5, 7] {
        let tried = [plan, place(&E::PreflightPassed)];
        all.push([&tried[..], &checked].concat());
        all.push([&tried[..], &checked, &[first, first], &checked[8..], &[first]].concat());
        all.push(vec![plan, place(&E::PreflightFailed("preflight".into()))]);
    }
    for plan in [0, 1] {
        for steps in 0..=way.len() {
            let so_far = [&[plan][..], &way[..steps]].concat();
            all.push([&so_far[..], &gone].concat());
            all.push([&so_far[..], &[first, first]].concat());
            all.push([&so_far[..], &[sealed, place(&E::Pong)], &gone].concat());
            // Any event at any step; then as if nothing had been. If it makes this side seal, the
            // other side may be faster.
            for event in (0..).take(pred::EVENTS.len()) {
                all.push([&so_far[..], &[event], &way[steps..], &gone].concat());
                all.push([&so_far[..], &[faster, event], &gone].concat());
            }
        }
        let committed = [&[plan][..], &way, &[sealed, place(&E::Committed)]].concat();
        all.push([&committed[..], &[place(&E::ServiceStops)], &gone].concat());
        all.push([&committed[..], &gone].concat());
    }
    all
}

/// A script for the successor: the place of each event in its table.
fn successors() -> Seeds {
    use successor::Event as E;
    let place = |event: &E| {
        let place = succ::EVENTS.iter().position(|make| make() == *event).unwrap();
        u8::try_from(place).unwrap()
    };
    let way = [E::Welcome, E::Offered, E::Ready, E::Ping, E::Yield, E::Ping, E::MayCommit];
    let way: Vec<u8> = way.iter().map(place).collect();
    let (sealed, faster, first) = (0xfe, 0xff, succ::EXPIRES);
    let gone = [place(&E::LinkClosed), place(&E::Died)];
    let mut all = Vec::new();
    for plan in [0, 1] {
        for steps in 0..=way.len() {
            let so_far = [&[plan][..], &way[..steps]].concat();
            let rest = &way[steps..];
            all.push([&so_far[..], &gone, &[place(&E::Ready)]].concat());
            // Timers run out in between: the lease, then a sign of life, then silence.
            all.push([&so_far[..], &[first + 1, place(&E::Ping), first, first], rest].concat());
            all.push([&so_far[..], &[sealed, place(&E::Ping)], &gone].concat());
            // Any event at any step; if it makes this side seal, the other one may be faster.
            for event in (0..).take(succ::EVENTS.len()) {
                all.push([&so_far[..], &[event], rest, &gone].concat());
                all.push([&so_far[..], &[faster, event], &gone].concat());
            }
        }
        all.push([&[plan][..], &way, &[place(&E::Owner)]].concat());
    }
    all
}

/// Timers are named by their place among those that are armed, in their order.
fn handoffs() -> Seeds {
    assert!(Timer::Probation < Timer::Ping && Timer::Ping < Timer::Silence);
    let [spawn, p_hears, s_hears, parks, ready, probation] = [0, 1, 2, 3, 4, 5];
    let way = [
        &[spawn, s_hears, s_hears, p_hears, ready, p_hears, s_hears, p_hears, parks][..],
        &[s_hears, p_hears, probation, 0, s_hears, p_hears, s_hears],
    ]
    .concat();
    let mut all = vec![[&[2, 17, 0][..], &way].concat(), vec![2, 17, 1]];
    for health in [&[18, 0][..], &[18, 0, 18, 1], &[18, 1, 18, 0, 18, 1, 18, 0]] {
        all.push([&[13][..], &way[..11], health, &way[11..]].concat());
    }
    for plan in [0, 1, 5, 8, 9, 13] {
        for steps in (0..=way.len()).filter(|steps| steps % 6 == usize::from(plan) % 6) {
            let so_far = [&[plan][..], &way[..steps]].concat();
            for ending in [&[7, 9][..], &[8, 9], &[7, 0, 8, 0], &[9], &[15, 0], &[15, 2], &[16, 0]]
            {
                all.push([&so_far[..], ending, &way[steps..]].concat());
            }
        }
        all.push([&[plan][..], &way].concat());
    }
    all
}

/// `HEIRLOOM_SEEDS` names a directory to write them to, for a campaign.
#[test]
fn p9_what_the_fuzzer_starts_from_holds() {
    let to = env::var_os("HEIRLOOM_SEEDS");
    let mut failed = Vec::new();
    for (name, target) in TARGETS {
        for (number, bytes) in seeds(name).iter().enumerate() {
            failed.extend(run(name, target, &format!("its seed {number}"), bytes));
            if let Some(to) = &to {
                let directory = Path::new(to).join(name);
                fs::create_dir_all(&directory).unwrap();
                fs::write(directory.join(format!("seed-{number:03}")), bytes).unwrap();
            }
        }
    }
    assert_none(&failed);
}
