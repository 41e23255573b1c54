//! What the kernel writes for us: control messages, and the line of `/proc/PID/stat`.

use crate::sys::{cmsg, origin};

/// Any bytes as the control messages of a `recvmsg(2)`, and as the name of a process.
pub fn kernel(bytes: &[u8]) {
    control(bytes);
    name_of_a_process(bytes);
}

/// Messages lie in the buffer one behind the other, and none is longer than what was filled.
fn control(bytes: &[u8]) {
    let header = cmsg::space(0);
    let mut end = 0;
    for message in cmsg::decode(bytes) {
        let start = message.data.as_ptr().addr() - bytes.as_ptr().addr();
        assert!(start >= end + header, "two control messages overlap");
        end = start + message.data.len();
        assert!(end <= bytes.len(), "a control message ends behind the buffer");
        assert_eq!(cmsg::ints(message.data).count(), message.data.len() / 4);

        let mut again = cmsg::Buffer::<4096>::new();
        let taken = again.encode(message.level, message.kind, message.data);
        assert_eq!(taken.is_some(), cmsg::space(message.data.len()) <= 4096);
        if let Some(taken) = taken {
            let mut back = cmsg::decode(&again.0[..taken]);
            assert_eq!(back.next(), Some(message));
            assert_eq!(back.next(), None);
        }
    }
}

/// A process may call itself anything: the fields behind its name keep their places.
fn name_of_a_process(name: &[u8]) {
    let fields: String = (4..=52).map(|field| format!(" {field}")).collect();
    let line = [b"4711 (", name, b") S", fields.as_bytes(), b"\n"].concat();
    assert_eq!(origin::start_time_in(&line), Some(22));
    for cut in [line.len() / 2, name.len()] {
        // A line that ends early has that field or it has not; it never has another.
        let found = origin::start_time_in(&line[..cut]);
        let inside = name.contains(&b')');
        assert!(inside || matches!(found, None | Some(2 | 22)), "{found:?}");
    }
    let _ = origin::start_time_in(name);
}
