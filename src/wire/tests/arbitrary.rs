//! Messages that nobody thought of.

use crate::wire::version::Range;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;

fn text(limit: usize) -> impl Strategy<Value = String> {
    vec(any::<char>().prop_filter("steers", |c| !c.is_control()), 0..limit / 4)
        .prop_map(|chars| chars.into_iter().collect())
}

fn names() -> impl Strategy<Value = Name> {
    vec((b' '..=b'~').prop_filter("colon", |byte| *byte != b':'), 1..=255)
        .prop_map(|bytes| name(&String::from_utf8(bytes).unwrap()))
}

fn addresses() -> impl Strategy<Value = Address> {
    use std::net::{IpAddr, SocketAddr};
    use std::os::unix::ffi::OsStringExt;
    let path = |bytes| PathBuf::from(std::ffi::OsString::from_vec(bytes));
    prop_oneof![
        any::<(IpAddr, u16)>().prop_map(|(ip, port)| Address::Inet(SocketAddr::new(ip, port))),
        vec(any::<u8>(), 0..=MAX_ADDRESS).prop_map(move |bytes| Address::Path(path(bytes))),
        vec(any::<u8>(), 0..=MAX_ADDRESS).prop_map(Address::Abstract),
        Just(Address::None),
    ]
}

fn records() -> impl Strategy<Value = SocketRecord> {
    let kinds = prop_oneof![Just(Kind::Tcp), Just(Kind::Udp), Just(Kind::UnixStream)];
    let member = any::<(u32, u32)>().prop_map(|(index, count)| Member { index, count });
    let inode = option::of(any::<(u64, u64)>());
    (names(), kinds, addresses(), option::of(member), inode).prop_map(
        |(name, kind, address, group, path_inode)| SocketRecord {
            name,
            kind,
            address,
            group,
            path_inode,
        },
    )
}

fn executables() -> impl Strategy<Value = ExecutableRecord> {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;
    let bytes = |limit| vec(any::<u8>(), 0..=limit).prop_map(OsString::from_vec);
    let of = prop_oneof![Just(Which::Running), Just(Which::Previous), Just(Which::Other)];
    let hash = option::of(any::<[u8; 16]>().prop_map(Hash));
    let identity = any::<(u64, (i64, u32), u64, u64)>();
    let args = vec(bytes(40), 0..9);
    let paths = (bytes(200), option::of(bytes(200)));
    (of, any::<u64>(), text(MAX_APP_VERSION), paths, args, identity, hash).prop_map(
        |(of, number, version, (path, cwd), args, (size, mtime, dev, ino), hash)| {
            ExecutableRecord {
                of,
                generation: generation(number),
                version,
                path: path.into(),
                args,
                cwd: cwd.map(PathBuf::from),
                identity: Identity { size, mtime, dev, ino, hash },
            }
        },
    )
}

fn roles() -> impl Strategy<Value = Role> {
    prop_oneof![
        8 => records().prop_map(Role::Socket),
        1 => Just(Role::Verdict),
        1 => Just(Role::Predecessor),
        1 => Just(Role::Sessions),
        1 => any::<(u64, bool)>().prop_map(|(n, hurried)| Role::ElderLink {
            generation: generation(n),
            hurried,
        }),
        1 => any::<u64>().prop_map(|n| Role::ElderProcess { generation: generation(n) }),
        1 => executables().prop_map(Role::Executable),
    ]
}

fn lists() -> impl Strategy<Value = Vec<Item>> {
    vec(roles().prop_map(item), 0..20)
}

fn messages() -> impl Strategy<Value = Message> {
    prop_oneof![
        (any::<(u32, u32, i32)>(), text(MAX_APP_VERSION)).prop_map(
            |((min, max, pid), app_version)| Message::Hello(Hello {
                protocol: Range { min, max },
                app_version,
                pid,
            })
        ),
        (lists(), any::<bool>()).prop_map(|(items, last)| Message::Offer(Offer { items, last })),
        (vec(any::<u32>(), 0..99), lists(), any::<bool>(), vec(text(MAX_NOTE), 0..9)).prop_map(
            |(claimed, bound, last, notes)| Message::Ready(Ready { claimed, bound, last, notes })
        ),
        text(MAX_REASON).prop_map(|error| Message::Failed(Failed { error })),
        any::<u64>().prop_map(|sequence| Message::Ping { sequence }),
        (text(MAX_REASON), any::<bool>())
            .prop_map(|(reason, last)| Message::RollBack { reason, last }),
        proptest::sample::select(samples()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_message_reads_as_it_was_written(message in messages()) {
        let frame = message.frame(message.items().unwrap_or(0)).unwrap();
        let (header, payload) = frame.split_first_chunk::<HEADER>().unwrap();
        let header = Header::parse(header).unwrap();
        prop_assert_eq!(header.length, payload.len());
        prop_assert_eq!(Message::decode(header.kind, payload).unwrap(), message);
    }

    #[test]
    fn no_bytes_can_panic_the_decoder(
        header in any::<[u8; HEADER]>(),
        kind in 0_u16..40,
        payload in vec(any::<u8>(), 0..300),
    ) {
        prop_assert!(Header::parse(&header).is_err() || header.starts_with(b"HLRM"));
        let _ = Message::decode(kind, &payload);
    }

    #[test]
    fn a_damaged_message_is_an_error_or_another_message(
        message in proptest::sample::select(samples()),
        damage in vec(any::<(prop::sample::Index, u8)>(), 1..4),
        end in any::<prop::sample::Index>(),
    ) {
        let (kind, mut payload) = message.encode().unwrap();
        for (at, byte) in damage {
            let at = at.index(payload.len());
            payload[at] = byte;
        }
        let _ = Message::decode(kind, &payload);
        payload.truncate(end.index(payload.len()));
        let _ = Message::decode(kind, &payload);
    }
}
