//! The messages against their golden files and against the limits.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::limits::*;
use super::*;
use crate::generation::Generation;
use crate::name::Name;

mod arbitrary;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn generation(number: u64) -> Generation {
    serde_json::from_value(json!(number)).unwrap()
}

fn socket(name_: &str, kind: Kind, address: Address) -> SocketRecord {
    SocketRecord { name: name(name_), kind, address, group: None, path_inode: None }
}

fn item(role: Role) -> Item {
    Item { role }
}

fn executable(of: Which) -> ExecutableRecord {
    use std::os::unix::ffi::OsStrExt;
    ExecutableRecord {
        of,
        generation: generation(4),
        version: "1.3.9".into(),
        path: "/srv/shop/current/shop".into(),
        args: vec!["shop".into(), std::ffi::OsStr::from_bytes(b"--motto=\xff").into()],
        cwd: Some("/srv/shop".into()),
        identity: Identity {
            size: 4_242_424,
            mtime: (1_760_000_000, 123_456_789),
            dev: 26,
            ino: 40_992,
            hash: Some(Hash(*b"sixteen bytes !!")),
        },
    }
}

/// One of each role, kind and family.
fn items() -> Vec<Item> {
    let inet = |text: &str| Address::Inet(text.parse().unwrap());
    let path = |bytes: &[u8]| {
        use std::os::unix::ffi::OsStrExt;
        Address::Path(PathBuf::from(std::ffi::OsStr::from_bytes(bytes)))
    };
    let mut member = socket("dns", Kind::Udp, inet("127.0.0.1:53"));
    member.group = Some(Member { index: 1, count: 4 });
    let mut admin = socket("admin", Kind::UnixStream, path(b"/run/shop/admin.sock"));
    admin.path_inode = Some((26, 40_991));
    [
        Role::Socket(socket("http", Kind::Tcp, inet("[::]:8080"))),
        Role::Socket(member),
        Role::Socket(admin),
        Role::Socket(socket("raw", Kind::UnixSeqpacket, path(b"/run/\xff"))),
        Role::Socket(socket("log", Kind::UnixDatagram, Address::Abstract(b"shop/log".to_vec()))),
        Role::Socket(socket("cache", Kind::Other, Address::None)),
        Role::Verdict,
        Role::Predecessor,
        Role::ElderLink { generation: generation(3), hurried: false },
        Role::ElderProcess { generation: generation(3) },
    ]
    .map(item)
    .to_vec()
}

/// What was added to a kind that others had read before; each has a golden file of its own.
fn additions() -> Vec<(&'static str, Message)> {
    let previous = executable(Which::Previous);
    let identity = Identity { hash: None, ..previous.identity.clone() };
    let bare = ExecutableRecord { cwd: None, identity, ..previous };
    let items = [executable(Which::Running), bare].map(|record| item(Role::Executable(record)));
    let lives = [Role::Life, Role::ElderLife { generation: generation(3) }].map(item);
    let hurried = item(Role::ElderLink { generation: generation(3), hurried: true });
    let causes = Causes { deadline: 5, room: 4, forced: 3, lost: 2 };
    let caused = LastReport {
        drained: 7,
        moved: 8,
        cut: vec![],
        unlisted: 14,
        causes,
        forced: true,
        elapsed_ms: 9,
    };
    vec![
        ("executables", Message::Offer(Offer { items: items.to_vec(), last: true })),
        ("lives", Message::Offer(Offer { items: lives.to_vec(), last: true })),
        (
            "paused",
            Message::NewOwner {
                generation: generation(6),
                queued_upgrade: false,
                paused: Some(true),
            },
        ),
        ("by", Message::Asked { by: Some(Asker::Operator { uid: 1_000, pid: 4_711 }) }),
        ("by", Message::Owner(Owner { queued_upgrade: true, queued_by: Some(Asker::Signal) })),
        ("hurried", Message::Offer(Offer { items: vec![hurried], last: true })),
        ("causes", Message::LastReport(caused)),
        ("more", Message::Sessions(Sessions { first: 2, items: vec![], bytes: None, more: true })),
    ]
}

/// One message of each kind, with every field.
fn samples() -> Vec<Message> {
    let cut = CutItem {
        listener: name("http"),
        name: "GET /events".into(),
        reason: "an event stream".into(),
        age_ms: 31_000,
    };
    let contents = Contents { length: 1 << 33, checksum: 0xcbf4_3926 };
    vec![
        Message::Hello(Hello { protocol: SPOKEN, app_version: "1.4.0".into(), pid: 4711 }),
        Message::Welcome(Welcome {
            protocol: 1,
            app_version: "1.3.9".into(),
            service: name("shop"),
            generation: generation(5),
            predecessor: generation(4),
            descriptors: 10,
            probation_ms: 5_000,
            silence_ms: 2_000,
            ping_ms: 250,
            gap_ms: 500,
            enforceable: true,
            budget: Some(Budget { rate_ppm: 50_000, minimum: 20 }),
            failures: vec![FailureRecord {
                identity: executable(Which::Running).identity,
                failures: 2,
                at_ms: 1_790_000_000_000,
                cause: "health check http: status 500".into(),
            }],
            paused: false,
        }),
        Message::Refuse(Refuse { reason: "another upgrade is running".into() }),
        Message::Offer(Offer { items: items(), last: true }),
        Message::Adopted,
        Message::Ready(Ready {
            claimed: vec![0, 2],
            bound: vec![item(Role::Socket(socket(
                "new",
                Kind::Tcp,
                Address::Inet("0.0.0.0:9090".parse().unwrap()),
            )))],
            last: true,
            notes: vec!["listener \"http\": SO_RCVBUF is 1000, not 2000".into()],
        }),
        Message::Failed(Failed { error: "database: connection refused".into() }),
        Message::Ping { sequence: 7 },
        Message::Pong {
            sequence: u64::MAX,
            figures: Figures { active: 3, accepted: 70, succeeded: 64, failed: 2 },
        },
        Message::Yield,
        Message::Serving,
        Message::MayCommit,
        Message::Committed,
        Message::Owner(Owner { queued_upgrade: true, queued_by: None }),
        Message::RollBack { reason: "health check failed".into(), last: false },
        Message::Left { accepted: 12 },
        Message::Asked { by: None },
        Message::Hurry,
        Message::Stopping,
        Message::NewOwner { generation: generation(6), queued_upgrade: false, paused: None },
        Message::Progress(Progress {
            active: 3,
            oldest_ms: 12_345,
            cut: 1,
            app_version: String::new(),
            by_listener: Vec::new(),
        }),
        Message::LastReport(LastReport {
            drained: 100,
            moved: 0,
            cut: vec![cut],
            unlisted: 2,
            causes: Causes::default(),
            forced: false,
            elapsed_ms: 30_000,
        }),
        Message::Unhealthy { reason: "5 of 20 requests failed".into() },
        Message::NotYet { reason: "database: connection refused".into() },
        Message::Expect(Expect {
            number: 4,
            listener: name("http"),
            from: Address::Inet("127.0.0.1:41000".parse().unwrap()),
            given_up: vec![1, 3],
        }),
        Message::Expected(Expected { number: 4, members: 2, observed: true }),
        Message::Taken(Taken { number: 4, listener: name("http"), member: 1 }),
        Message::Take(Take {
            number: 2,
            name: name("cache"),
            versions: version::Range { min: 3, max: 4 },
        }),
        Message::Stated(Stated { number: 2, answer: Answer::Here { version: 4, contents } }),
        Message::Delta(Delta { name: name("cache"), version: 4, contents }),
        Message::SessionsOpen,
        Message::Sessions(Sessions {
            first: 17,
            items: vec![SessionRecord {
                kind: name("http/1.1"),
                version: 1,
                listener: name("http"),
                peer: Some("192.0.2.1:5000".into()),
                name: Some("keep-alive".into()),
                state: 1_024,
                read_ahead: 7,
            }],
            bytes: Some(contents),
            more: false,
        }),
        Message::SessionsAnswered(SessionsAnswered {
            taken: vec![17, 19],
            declined: vec![DeclinedItem {
                number: 18,
                reason: "no handler for \"chat\"".into(),
                lasting: true,
            }],
        }),
        Message::SessionsClosed,
        Message::StopAsked { hurry: false },
    ]
}

fn golden(message: &Message, addition: Option<&str>) -> PathBuf {
    let addition = addition.map(|addition| format!("-{addition}")).unwrap_or_default();
    let file = format!("{:02}-{}{addition}.json", message.kind(), message.name());
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1").join(file)
}

/// Adds a field that no version knows to every object.
fn with_unknown_fields(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(with_unknown_fields);
            fields.insert("a later field".into(), json!([{"deep": [null, 1.5e300, "x"]}]));
        }
        Value::Array(entries) => entries.iter_mut().for_each(with_unknown_fields),
        _ => {}
    }
}

#[test]
fn protocol_1_is_written_and_read_as_released() {
    let samples = samples();
    let additions = additions();
    for (index, message) in samples.iter().enumerate() {
        assert_eq!(usize::from(message.kind()), index + 1);
        is_as_released(message, &golden(message, None));
    }
    for (addition, message) in &additions {
        is_as_released(message, &golden(message, Some(addition)));
    }
    for (answer, golden) in [
        (Answer::Unknown, r#"{"number":2,"answer":{"is":"unknown"}}"#),
        (
            Answer::Refused { reason: "it is of version 5".into() },
            r#"{"number":2,"answer":{"is":"refused","reason":"it is of version 5"}}"#,
        ),
    ] {
        let message = Message::Stated(Stated { number: 2, answer });
        let (kind, payload) = message.encode().unwrap();
        assert_eq!(String::from_utf8(payload).unwrap(), golden);
        assert_eq!(Message::decode(kind, golden.as_bytes()).unwrap(), message);
        message.carries(0).unwrap();
    }
    let files = fs::read_dir(golden(&samples[0], None).parent().unwrap()).unwrap().count();
    assert_eq!(files, samples.len() + additions.len(), "a golden file without a message");
}

fn is_as_released(message: &Message, path: &Path) {
    let golden = fs::read_to_string(path).unwrap_or_else(|e| panic!("{path:?}: {e}"));
    let (kind, payload) = message.encode().unwrap();
    assert_eq!(String::from_utf8(payload).unwrap(), golden.trim_end(), "{path:?}");
    assert_eq!(&Message::decode(kind, golden.as_bytes()).unwrap(), message);

    let mut later: Value = serde_json::from_str(&golden).unwrap();
    with_unknown_fields(&mut later);
    let later = later.to_string();
    assert!(later.contains("a later field"));
    assert_eq!(&Message::decode(kind, later.as_bytes()).unwrap(), message, "{later}");
}

#[test]
fn an_unknown_kind_is_kept_apart_and_never_sent() {
    for kind in [0, 36, 99, u16::MAX] {
        let message = Message::decode(kind, b"\xff not json").unwrap();
        assert_eq!(message, Message::Unknown(kind));
        assert!(matches!(message.encode(), Err(WireError::Unsendable(_))));
    }
}

#[test]
fn an_unknown_role_keeps_its_descriptor_counted() {
    let json = br#"{"items":[{"role":"verdict"},{"role":"later","fd":{}}],"last":true}"#;
    let message = Message::decode(4, json).unwrap();
    assert_eq!(message.items(), Some(2));
    message.carries(2).unwrap();
    let error = crate::Error::from(message.carries(1).unwrap_err());
    assert_eq!(error.kind(), crate::ErrorKind::Protocol);
    assert_eq!(
        error.to_string(),
        "frame \"offer\" (kind 4): it speaks of 2 descriptors and carries 1"
    );
}

#[test]
fn nonsense_is_an_error_that_names_the_frame() {
    for bad in ["", "{", "[]", "null", "{\"protocol\":{\"min\":-1,\"max\":1}}", "{} {}", "\u{0}"] {
        let error = Message::decode(1, bad.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with("frame \"hello\" (kind 1): "), "{error}");
    }
    let deep = format!("{{\"x\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(Message::decode(5, deep.as_bytes()).unwrap(), Message::Adopted);
    let deep = format!("{{\"items\":[{{\"role\":\"verdict\",\"x\":{}", "[".repeat(100_000));
    assert!(Message::decode(4, deep.as_bytes()).is_err());
    let shouting = format!("{{\"role\":\"{}\"}}", "\\u001b".repeat(10_000));
    let offer =
        format!("{{\"items\":[{{\"role\":\"socket\",\"name\":{shouting}}}],\"last\":true}}");
    let error = Message::decode(4, offer.as_bytes()).unwrap_err().to_string();
    assert!(error.len() < 500 && !error.contains('\u{1b}'), "{error}");
}

#[test]
fn a_list_or_a_text_beyond_its_limit_is_refused() {
    let verdicts = |count| vec![json!({"role": "verdict"}); count];
    let offer = |count| json!({"items": verdicts(count), "last": true}).to_string();
    assert!(Message::decode(4, offer(MAX_ITEMS).as_bytes()).is_ok());
    assert!(Message::decode(4, offer(MAX_ITEMS + 1).as_bytes()).is_err());

    let ready = |claims, notes, note| {
        json!({"claimed": vec![1; claims], "bound": [], "last": true,
               "notes": vec!["n".repeat(note); notes]})
        .to_string()
    };
    assert!(Message::decode(6, ready(MAX_CLAIMED, MAX_NOTES, MAX_NOTE).as_bytes()).is_ok());
    for (claims, notes, note) in
        [(MAX_CLAIMED + 1, 0, 0), (0, MAX_NOTES + 1, 0), (0, 1, MAX_NOTE + 1)]
    {
        let error = Message::decode(6, ready(claims, notes, note).as_bytes()).unwrap_err();
        assert!(error.to_string().starts_with("frame \"ready\" (kind 6): "), "{error}");
    }
    let reason = |length| json!({"reason": "r".repeat(length)}).to_string();
    assert!(Message::decode(3, reason(MAX_REASON).as_bytes()).is_ok());
    assert!(Message::decode(3, reason(MAX_REASON + 1).as_bytes()).is_err());

    let Message::Welcome(mut welcome) = samples().swap_remove(1) else { panic!() };
    welcome.descriptors = MAX_OFFERED + 1;
    assert!(matches!(Message::Welcome(welcome).encode(), Err(WireError::TooMany { .. })));
    let many = Message::Offer(Offer { items: vec![item(Role::Verdict); 254], last: true });
    assert!(matches!(many.encode(), Err(WireError::TooMany { count: 254, limit: 253, .. })));
}

#[test]
fn the_longest_message_of_each_kind_fits_a_frame() {
    let long = "\"".repeat(255);
    let mut record = socket(&long, Kind::UnixSeqpacket, Address::Abstract(vec![0xff; MAX_ADDRESS]));
    record.group = Some(Member { index: u32::MAX, count: u32::MAX });
    record.path_inode = Some((u64::MAX, u64::MAX));
    let mut program = executable(Which::Running);
    program.version = "\"".repeat(MAX_APP_VERSION);
    program.path = "\u{1}".repeat(MAX_EXECUTABLE_PATH).into();
    program.cwd = Some(program.path.clone());
    let argument = "\u{1}".repeat(MAX_ARGUMENTS_BYTES / MAX_ARGUMENTS);
    program.args = vec![argument.into(); MAX_ARGUMENTS];
    let mut items = vec![item(Role::Socket(record)); MAX_ITEMS];
    let programs = [Which::Running, Which::Previous];
    let programs = programs.map(|of| Role::Executable(ExecutableRecord { of, ..program.clone() }));
    items.splice(..2, programs.map(item));
    let notes = vec!["\n".repeat(MAX_NOTE); MAX_NOTES];
    let claimed = vec![u32::MAX; MAX_CLAIMED];
    let text = "\\".repeat(10 * MAX_REASON);
    let session = SessionRecord {
        kind: name(&long),
        version: u32::MAX,
        listener: name(&long),
        peer: Some("\"".repeat(10 * MAX_PEER)),
        name: Some("\\".repeat(10 * MAX_CUT_TEXT)),
        state: u64::MAX,
        read_ahead: u64::MAX,
    };
    let declined =
        DeclinedItem { number: u64::MAX, reason: "\n".repeat(10 * MAX_CUT_TEXT), lasting: false };
    for message in [
        Message::Sessions(Sessions {
            first: u64::MAX,
            items: vec![session; MAX_SESSIONS],
            bytes: Some(Contents { length: u64::MAX, checksum: u32::MAX }),
            more: true,
        }),
        Message::SessionsAnswered(SessionsAnswered {
            taken: vec![u64::MAX; MAX_ITEMS],
            declined: vec![declined; MAX_ITEMS],
        }),
        Message::Stated(Stated {
            number: u64::MAX,
            answer: Answer::Refused { reason: text.clone() },
        }),
        Message::Offer(Offer { items: items.clone(), last: false }),
        Message::Ready(Ready { claimed, bound: items, last: false, notes }),
        Message::Failed(Failed { error: text.clone() }),
        Message::Refuse(Refuse { reason: text.clone() }),
        Message::Unhealthy { reason: text.clone() },
        Message::RollBack { reason: text, last: true },
    ] {
        let (kind, payload) = message.encode().unwrap();
        let back = Message::decode(kind, &payload).unwrap();
        assert_eq!(back.items(), message.items());
    }
}

#[test]
fn whatever_an_elder_says_travels_whole() {
    let cut = CutItem {
        listener: name(&"\"".repeat(255)),
        name: "\"".repeat(MAX_CUT_TEXT),
        reason: "\"".repeat(MAX_CUT_TEXT),
        age_ms: u64::MAX,
    };
    let plain = CutItem {
        listener: name("http"),
        name: "GET /events".into(),
        reason: String::new(),
        age_ms: 1,
    };
    for (sort, at_least) in [(cut, 1), (plain, 20)] {
        let report = LastReport {
            drained: u64::MAX,
            moved: u64::MAX,
            cut: vec![sort; 1_000],
            unlisted: u64::MAX / 2,
            causes: Causes { deadline: u64::MAX, room: u64::MAX, forced: u64::MAX, lost: u64::MAX },
            forced: false,
            elapsed_ms: u64::MAX,
        };
        let frame = Message::LastReport(report).frame(0).unwrap();
        assert!(frame.len() <= WHOLE_FRAME, "{}", frame.len());
        let Message::LastReport(back) = Message::decode(22, &frame[HEADER..]).unwrap() else {
            panic!()
        };
        assert!(back.cut.len() >= at_least, "{}", back.cut.len());
        assert_eq!(back.cut.len() as u64 + back.unlisted, u64::MAX / 2 + 1_000);
    }
    let progress = Progress {
        active: u64::MAX,
        oldest_ms: u64::MAX,
        cut: u64::MAX,
        app_version: "\"".repeat(MAX_APP_VERSION),
        by_listener: vec![("\\".repeat(200).parse().unwrap(), u64::MAX); 100],
    };
    for message in [
        Message::Progress(progress),
        Message::Asked { by: Some(Asker::Operator { uid: u32::MAX, pid: i32::MIN }) },
        Message::StopAsked { hurry: true },
        Message::Pong {
            sequence: u64::MAX,
            figures: Figures {
                active: u64::MAX,
                accepted: u64::MAX,
                succeeded: u64::MAX,
                failed: u64::MAX,
            },
        },
        Message::Left { accepted: u64::MAX },
    ] {
        assert!(message.frame(0).unwrap().len() <= WHOLE_FRAME);
    }
}

#[test]
fn text_is_cut_rather_than_lost() {
    let error = format!("{}\u{1b}", "é".repeat(MAX_REASON));
    let (kind, payload) = Message::Failed(Failed { error }).encode().unwrap();
    let Message::Failed(failed) = Message::decode(kind, &payload).unwrap() else { panic!() };
    assert!(failed.error.len() <= MAX_REASON && failed.error.ends_with("é…"));
}
