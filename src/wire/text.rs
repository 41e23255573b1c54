//! Text and bytes in a payload: bounded, printable, and lossless where it matters.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::limits::MAX_ADDRESS;

/// Cuts text to `limit` bytes of UTF-8 and replaces control characters other than line breaks.
///
/// What the other side says ends in logs and on terminals, so nothing in it may steer them.
pub(crate) fn fit(text: &str, limit: usize) -> String {
    let mark = '…';
    let kept = if text.len() <= limit {
        text.len()
    } else {
        let room = limit.saturating_sub(mark.len_utf8());
        (0..=room).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
    };
    let plain = |c: char| if c.is_control() && c != '\n' { ' ' } else { c };
    let mut fitted: String = text[..kept].chars().map(plain).collect();
    if kept < text.len() {
        fitted.push(mark);
    }
    fitted
}

/// Reads text of at most `LIMIT` bytes; more is an error before it is copied.
pub(super) fn bounded<'de, D: Deserializer<'de>, const LIMIT: usize>(
    from: D,
) -> Result<String, D::Error> {
    struct Text<const LIMIT: usize>;
    impl<const LIMIT: usize> Visitor<'_> for Text<LIMIT> {
        type Value = String;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "text of at most {LIMIT} bytes")
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<String, E> {
            if text.len() > LIMIT {
                return Err(E::invalid_length(text.len(), &self));
            }
            Ok(fit(text, LIMIT))
        }
    }
    from.deserialize_str(Text::<LIMIT>)
}

/// Reads text of at most `LIMIT` bytes that may not be there.
pub(super) fn maybe<'de, D: Deserializer<'de>, const LIMIT: usize>(
    from: D,
) -> Result<Option<String>, D::Error> {
    let text = Option::<Line<LIMIT>>::deserialize(from)?;
    Ok(text.map(|text| text.0))
}

/// One line of a list of texts, of at most `LIMIT` bytes.
pub(super) struct Line<const LIMIT: usize>(pub(super) String);

impl<'de, const LIMIT: usize> Deserialize<'de> for Line<LIMIT> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        bounded::<D, LIMIT>(from).map(Self)
    }
}

/// Reads a list of at most `LIMIT` entries; the next one is an error before it is kept.
pub(super) fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>, const LIMIT: usize>(
    from: D,
) -> Result<Vec<T>, D::Error> {
    struct List<T, const LIMIT: usize>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>, const LIMIT: usize> Visitor<'de> for List<T, LIMIT> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {LIMIT} entries")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Vec<T>, A::Error> {
            let mut list = Vec::new();
            while let Some(entry) = entries.next_element()? {
                if list.len() == LIMIT {
                    return Err(A::Error::custom(format_args!(
                        "a list has more than {LIMIT} entries"
                    )));
                }
                list.push(entry);
            }
            Ok(list)
        }
    }
    from.deserialize_seq(List::<T, LIMIT>(PhantomData))
}

/// The bytes of a path, an argument or an abstract name, at most `LIMIT`: `"text"` where that is
/// readable, else `{"bytes": "hexadecimal"}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bytes<const LIMIT: usize = MAX_ADDRESS>(pub(super) Vec<u8>);

#[derive(Serialize, Deserialize)]
struct Hex {
    bytes: String,
}

impl<const LIMIT: usize> Serialize for Bytes<LIMIT> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) if !text.contains(char::is_control) => to.serialize_str(text),
            _ => Hex { bytes: hex(&self.0) }.serialize(to),
        }
    }
}

impl<'de, const LIMIT: usize> Deserialize<'de> for Bytes<LIMIT> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Either<const LIMIT: usize>;
        impl<'de, const LIMIT: usize> Visitor<'de> for Either<LIMIT> {
            type Value = Bytes<LIMIT>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "at most {LIMIT} bytes as text or as {{\"bytes\": hexadecimal}}")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Bytes<LIMIT>, E> {
                if text.len() > LIMIT {
                    return Err(E::invalid_length(text.len(), &self));
                }
                Ok(Bytes(text.as_bytes().to_vec()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Bytes<LIMIT>, A::Error> {
                let Hex { bytes } = Hex::deserialize(MapAccessDeserializer::new(map))?;
                if bytes.len() > 2 * LIMIT {
                    return Err(A::Error::invalid_length(bytes.len() / 2, &self));
                }
                unhex(&bytes).map(Bytes).ok_or_else(|| {
                    A::Error::custom("bytes that are not pairs of hexadecimal digits")
                })
            }
        }
        from.deserialize_any(Either::<LIMIT>)
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from(DIGITS[usize::from(digit)]))
        .collect()
}

pub(super) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_at_a_character_and_cannot_steer_a_terminal() {
        assert_eq!(fit("plain\ntext", 64), "plain\ntext");
        assert_eq!(fit("a\u{1b}[31mb\0", 64), "a [31mb ");
        let cut = fit(&"ü".repeat(10), 12);
        assert_eq!(cut, "üüüü…");
        assert!(cut.len() <= 12);
        assert_eq!(fit("abc", 3), "abc");
    }

    #[test]
    fn bytes_that_are_not_readable_text_travel_as_hexadecimal() {
        for (bytes, json) in [
            (&b"/run/shop.sock"[..], r#""/run/shop.sock""#),
            ("/run/b\u{fc}cher".as_bytes(), "\"/run/b\u{fc}cher\""),
            (b"/run/\xff\x00a", r#"{"bytes":"2f72756e2fff0061"}"#),
            (b"line\nbreak", r#"{"bytes":"6c696e650a627265616b"}"#),
            (b"", r#""""#),
        ] {
            let bytes: Bytes = Bytes(bytes.to_vec());
            assert_eq!(serde_json::to_string(&bytes).unwrap(), json);
            assert_eq!(serde_json::from_str::<Bytes>(json).unwrap(), bytes);
        }
    }

    #[test]
    fn bytes_that_are_malformed_or_too_long_are_refused() {
        let long = format!("\"{}\"", "x".repeat(MAX_ADDRESS + 1));
        let long_hex = format!("{{\"bytes\":\"{}\"}}", "00".repeat(MAX_ADDRESS + 1));
        for bad in [
            &long,
            &long_hex,
            "{}",
            "7",
            r#"{"bytes":"0"}"#,
            r#"{"bytes":"zz"}"#,
            r#"{"bytes":"ü"}"#,
        ] {
            assert!(serde_json::from_str::<Bytes>(bad).is_err(), "{bad}");
        }
    }
}
