//! One question in HTTP/1.1 and the status of its answer (RFC 9112). Pure: bytes only.

use std::fmt::Write;
use std::ops::RangeInclusive;

/// The longest heads that are read, interim answers included, in bytes.
pub(super) const MAX_HEAD: usize = 64 * 1024;

/// Fields that the question sets itself.
const OURS: [&str; 4] = ["host", "connection", "content-length", "transfer-encoding"];

/// A GET request, and the statuses that are a good answer.
#[derive(Clone, Debug)]
pub(super) struct Question {
    /// The target in origin form: path and query.
    pub(super) path: String,
    /// `Host`; without one it is the address that is connected to.
    pub(super) host: Option<String>,
    pub(super) headers: Vec<(String, String)>,
    pub(super) status: RangeInclusive<u16>,
}

impl Question {
    pub(super) fn get(path: String) -> Self {
        Self { path, host: None, headers: Vec::new(), status: 200..=299 }
    }

    /// What cannot be sent as it is.
    pub(super) fn wrong(&self) -> Option<String> {
        let visible = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        if !self.path.starts_with('/') || !visible(&self.path) || self.path.contains('#') {
            return Some(format!(
                "the path {:?} does not begin with '/' or holds what a URL has to escape",
                self.path
            ));
        }
        if let Some(host) = self.host.as_ref().filter(|host| host.is_empty() || !visible(host)) {
            return Some(format!("{host:?} is no host"));
        }
        if self.status.is_empty() {
            return Some("no status is a good answer; give a range that holds one".to_owned());
        }
        self.headers.iter().find_map(|(name, value)| {
            if OURS.iter().any(|ours| name.eq_ignore_ascii_case(ours)) {
                return Some(format!("the header {name:?} is set by the check itself"));
            }
            let value_fits =
                value.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte));
            let fits = !name.is_empty() && name.bytes().all(is_token) && value_fits;
            (!fits).then(|| format!("{name:?}: {value:?} is no header"))
        })
    }

    /// The request as it is sent.
    pub(super) fn request(&self, address: &str) -> Vec<u8> {
        let host = self.host.as_deref().unwrap_or(address);
        let mut text = format!("GET {} HTTP/1.1\r\nHost: {host}\r\n", self.path);
        let named = |name: &str| self.headers.iter().any(|(own, _)| own.eq_ignore_ascii_case(name));
        if !named("user-agent") {
            text.push_str("User-Agent: heirloom-health-check\r\n");
        }
        if !named("accept") {
            text.push_str("Accept: */*\r\n");
        }
        for (name, value) in &self.headers {
            // A String takes whatever is written to it.
            let _ = write!(text, "{name}: {value}\r\n");
        }
        text.push_str("Connection: close\r\n\r\n");
        text.into_bytes()
    }

    /// Whether a status is a good answer; else what is wrong with it.
    pub(super) fn accepts(&self, status: u16) -> Result<(), String> {
        if self.status.contains(&status) {
            return Ok(());
        }
        let (first, last) = (self.status.start(), self.status.end());
        Err(if first == last {
            format!("status {status} instead of {first}")
        } else {
            format!("status {status} instead of {first} to {last}")
        })
    }
}

/// `tchar` of RFC 9110, section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The head of an answer as it comes in.
#[derive(Debug, Default)]
pub(super) struct Head {
    bytes: Vec<u8>,
    /// Where the head that is being read begins: after those of interim answers.
    start: usize,
    /// Up to here no end of that head was found.
    searched: usize,
}

impl Head {
    /// Takes in what was read; the status, once the head of the final answer is there.
    ///
    /// # Errors
    /// What is wrong with it, for people. It is found as early as the bytes show it.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<Option<u16>, String> {
        let room = MAX_HEAD.saturating_sub(self.bytes.len());
        self.bytes.extend(bytes.iter().take(room));
        loop {
            let head = self.bytes.get(self.start..).unwrap_or_default();
            let status = status_line(head)?;
            let Some(length) = self.end_of_head() else {
                if bytes.len() > room || self.bytes.len() >= MAX_HEAD {
                    return Err(format!("the answer's head is longer than {MAX_HEAD} bytes"));
                }
                return Ok(None);
            };
            match status {
                // Interim answers come before the final one (RFC 9110, section 15.2); 101 is final
                // here, since nothing was to be switched to.
                Some(100 | 102..=199) => {
                    self.start += length;
                    self.searched = self.start;
                }
                Some(status) => return Ok(Some(status)),
                None => return Err("the answer has a head without a status".to_owned()),
            }
        }
    }

    /// Whether anything has come.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The length of the head that is being read, if it is there to its empty line.
    fn end_of_head(&mut self) -> Option<usize> {
        const END: &[u8] = b"\r\n\r\n";
        let from = self.searched.saturating_sub(END.len() - 1).max(self.start);
        let rest = self.bytes.get(from..).unwrap_or_default();
        let found = rest.windows(END.len()).position(|window| window == END);
        self.searched = self.bytes.len();
        found.map(|at| from + at + END.len() - self.start)
    }
}

/// The status in a line `HTTP/1.1 200 OK`, as soon as the line is there (RFC 9112, section 4).
fn status_line(head: &[u8]) -> Result<Option<u16>, String> {
    let line = head.iter().position(|byte| *byte == b'\n');
    let text = line.map_or(head, |end| head.get(..end).unwrap_or_default());
    let prefix = b"HTTP/1.";
    if !text.iter().zip(prefix).all(|(byte, wanted)| byte == wanted) {
        return Err(format!("the answer is not HTTP/1: {}", shown(text)));
    }
    if line.is_none() {
        return Ok(None);
    }
    let wrong = || format!("the answer's first line is not a status line: {}", shown(text));
    let Some((b'\r', text)) = text.split_last() else { return Err(wrong()) };
    let rest = text.strip_prefix(prefix).ok_or_else(wrong)?;
    let [b'0'..=b'9', b' ', hundreds @ b'1'..=b'5', tens, units, reason @ ..] = rest else {
        return Err(wrong());
    };
    if !tens.is_ascii_digit() || !units.is_ascii_digit() || !matches!(reason, [] | [b' ', ..]) {
        return Err(wrong());
    }
    let digit = |byte: &u8| u16::from(byte - b'0');
    Ok(Some(digit(hundreds) * 100 + digit(tens) * 10 + digit(units)))
}

/// The beginning of what somebody sent, for people.
pub(super) fn shown(bytes: &[u8]) -> String {
    const SHOWN: usize = 40;
    let first = bytes.get(..SHOWN).unwrap_or(bytes).escape_ascii();
    format!("\"{first}\"{}", if bytes.len() > SHOWN { "…" } else { "" })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(answer: &[u8]) -> Result<Option<u16>, String> {
        Head::default().feed(answer)
    }

    #[test]
    fn the_status_of_the_final_answer_counts() {
        let table: [(&[u8], u16); 7] = [
            (b"HTTP/1.1 200 OK\r\n\r\n", 200),
            (b"HTTP/1.0 404 Not Found\r\nServer: x\r\n\r\nbody", 404),
            (b"HTTP/1.1 204\r\n\r\n", 204),
            (b"HTTP/1.1 204 \r\n\r\n", 204),
            (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 Busy\r\n\r\n", 503),
            (
                b"HTTP/1.1 103 Early\r\nLink: a\r\n\r\nHTTP/1.1 102 x\r\n\r\nHTTP/1.1 200 \r\n\r\n",
                200,
            ),
            (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", 101),
        ];
        for (answer, status) in table {
            let shown = answer.escape_ascii();
            assert_eq!(read(answer), Ok(Some(status)), "{shown}");
            let mut head = Head::default();
            let mut bytes = answer.iter().map(std::slice::from_ref);
            let found = bytes.find_map(|byte| head.feed(byte).unwrap());
            assert_eq!(found, Some(status), "byte by byte: {shown}");
        }
    }

    #[test]
    fn what_is_not_there_yet_is_waited_for() {
        for answer in ["", "H", "HTTP/1.1 200 O", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\n\r"] {
            assert_eq!(read(answer.as_bytes()), Ok(None), "{answer:?}");
        }
        assert_eq!(read(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 2"), Ok(None));
    }

    #[test]
    fn nonsense_is_seen_as_early_as_it_shows() {
        for answer in [
            "220 mail.example ESMTP",
            "HTTP/2 200\r\n",
            "http/1.1 200 OK\r\n",
            "HTTP/1.1 200 OK\n",
            "HTTP/1.1  200 OK\r\n",
            "HTTP/1.1 20 OK\r\n",
            "HTTP/1.1 2000 OK\r\n",
            "HTTP/1.1 600 OK\r\n",
            "HTTP/1.1 099 OK\r\n",
            "HTTP/1.x 200 OK\r\n",
            "\r\n",
            "HTTP/1.1 100 Continue\r\n\r\nsomething else",
        ] {
            assert!(read(answer.as_bytes()).is_err(), "{answer:?}");
        }
    }

    #[test]
    fn p9_a_head_without_end_is_cut() {
        let mut head = Head::default();
        assert_eq!(head.feed(b"HTTP/1.1 200 OK\r\nX: "), Ok(None));
        let error = (0..).find_map(|_| head.feed(&[b'x'; 8192]).err()).unwrap();
        assert!(error.contains("65536 bytes"), "{error}");
        assert!(head.bytes.len() <= MAX_HEAD);
        let mut interim = Head::default();
        let endless = (0..).find_map(|_| interim.feed(b"HTTP/1.1 100 x\r\n\r\n").err());
        assert!(endless.is_some(), "interim answers without end");
    }

    #[test]
    fn a_request_is_one_that_every_server_takes() {
        let mut question = Question::get("/healthz?deep=1".into());
        assert_eq!(
            String::from_utf8(question.request("127.0.0.1:80")).unwrap(),
            "GET /healthz?deep=1 HTTP/1.1\r\nHost: 127.0.0.1:80\r\n\
             User-Agent: heirloom-health-check\r\nAccept: */*\r\nConnection: close\r\n\r\n"
        );
        question.host = Some("example.org".into());
        question.headers = vec![("accept".into(), "text/plain".into()), ("X-A".into(), "".into())];
        assert_eq!(
            String::from_utf8(question.request("x")).unwrap(),
            "GET /healthz?deep=1 HTTP/1.1\r\nHost: example.org\r\n\
             User-Agent: heirloom-health-check\r\naccept: text/plain\r\nX-A: \r\n\
             Connection: close\r\n\r\n"
        );
        assert_eq!(question.wrong(), None);
    }

    #[test]
    fn what_would_make_another_request_is_refused() {
        let good = || Question::get("/".into());
        let with = |name: &str, value: &str| {
            let headers = vec![(name.to_owned(), value.to_owned())];
            Question { headers, ..good() }
        };
        let path = |path: &str| Question::get(path.into());
        let host = |host: &str| Question { host: Some(host.into()), ..good() };
        let status = Question { status: RangeInclusive::new(300, 299), ..good() };
        for question in [
            path("healthz"),
            path("/a b"),
            path("/a\r\nX: y"),
            path("/a#b"),
            path("/ü"),
            host("a b"),
            host(""),
            with("a b", "c"),
            with("", "c"),
            with("a", "c\r\nd: e"),
            with("Connection", "keep-alive"),
            with("host", "x"),
            status,
        ] {
            assert!(question.wrong().is_some(), "{question:?}");
        }
        assert_eq!(good().wrong(), None);
    }

    #[test]
    fn a_status_is_good_or_named() {
        let mut question = Question::get("/".into());
        assert_eq!(question.accepts(204), Ok(()));
        assert_eq!(question.accepts(500), Err("status 500 instead of 200 to 299".into()));
        question.status = 418..=418;
        assert_eq!(question.accepts(200), Err("status 200 instead of 418".into()));
    }

    proptest! {
        #[test]
        fn p9_no_answer_panics(parts in prop::collection::vec(any::<Vec<u8>>(), 0..8)) {
            let mut head = Head::default();
            for part in &parts {
                if !matches!(head.feed(part), Ok(None)) {
                    break;
                }
            }
        }

        #[test]
        fn p9_nor_one_that_looks_like_http(
            line in "HTTP/1\\.[01] [0-9]{2,4}[ a-z\\r\\n]{0,12}",
            rest in any::<Vec<u8>>(),
            cut in 0_usize..64,
        ) {
            let whole = [line.as_bytes(), b"\r\n", &rest].concat();
            let (first, second) = whole.split_at(cut.min(whole.len()));
            let mut head = Head::default();
            let parts = head.feed(first).and_then(|status| match status {
                None => head.feed(second),
                found => Ok(found),
            });
            prop_assert_eq!(parts.is_err(), read(&whole).is_err());
            if let (Ok(parts), Ok(whole)) = (parts, read(&whole)) {
                prop_assert_eq!(parts, whole);
            }
        }
    }
}
