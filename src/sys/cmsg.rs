//! Control messages as the kernel lays them out, `cmsg(3)`: encoded and decoded as bytes.
//!
//! One message is a header (length of header and data as a machine word, level and type as two
//! `int`s), the data, and padding to the next machine word. That layout is kernel ABI, so it can
//! be read with bounds-checked slices, and no pointer macro is needed.

/// Alignment of control messages: a machine word.
const WORD: usize = size_of::<usize>();

/// Length of a control message's header.
const HEADER: usize = WORD + 2 * size_of::<i32>();

/// What a control message with `data` bytes takes in a buffer (`CMSG_SPACE`).
pub(crate) const fn space(data: usize) -> usize {
    HEADER + data.next_multiple_of(WORD)
}

/// A control buffer with the alignment that the kernel asks for.
#[repr(C, align(8))]
pub(crate) struct Buffer<const N: usize>(pub(crate) [u8; N]);

impl<const N: usize> Buffer<N> {
    /// An empty buffer.
    pub(crate) const fn new() -> Self {
        Self([0; N])
    }

    /// Writes one message at the start and returns how many bytes of the buffer it takes, or
    /// `None` if it does not fit.
    pub(crate) fn encode(&mut self, level: i32, kind: i32, data: &[u8]) -> Option<usize> {
        let taken = space(data.len());
        let place = self.0.get_mut(..taken)?;
        place.fill(0);
        place[..WORD].copy_from_slice(&(HEADER + data.len()).to_ne_bytes());
        place[WORD..WORD + 4].copy_from_slice(&level.to_ne_bytes());
        place[WORD + 4..HEADER].copy_from_slice(&kind.to_ne_bytes());
        place[HEADER..HEADER + data.len()].copy_from_slice(data);
        Some(taken)
    }
}

/// One decoded control message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Message<'a> {
    /// The protocol, `SOL_SOCKET` for all that concern us.
    pub(crate) level: i32,
    /// `SCM_RIGHTS`, `SCM_CREDENTIALS`, …
    pub(crate) kind: i32,
    /// What it carries.
    pub(crate) data: &'a [u8],
}

/// The messages in the part of a control buffer that the kernel filled.
pub(crate) fn decode(filled: &[u8]) -> impl Iterator<Item = Message<'_>> {
    let mut rest = filled;
    std::iter::from_fn(move || {
        let length = usize::from_ne_bytes(*rest.first_chunk()?);
        let level = i32::from_ne_bytes(*rest.get(WORD..)?.first_chunk()?);
        let kind = i32::from_ne_bytes(*rest.get(WORD + 4..)?.first_chunk()?);
        let data = rest.get(HEADER..length)?;
        // The last message need not be padded.
        rest = rest.get(length.next_multiple_of(WORD)..).unwrap_or(&[]);
        Some(Message { level, kind, data })
    })
}

/// The whole `int`s in a message's data; a torn last one is left out.
pub(crate) fn ints(data: &[u8]) -> impl Iterator<Item = i32> + '_ {
    data.as_chunks::<4>().0.iter().map(|bytes| i32::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_that_of_the_c_library() {
        for data in [0_u32, 1, 4, 8, 12, 253 * 4] {
            // SAFETY: CMSG_SPACE only computes a number.
            #[allow(unsafe_code)]
            let expected = unsafe { libc::CMSG_SPACE(data) };
            assert_eq!(space(data as usize), expected as usize);
        }
    }

    #[test]
    fn what_was_encoded_is_decoded() {
        let mut buffer = Buffer::<64>::new();
        let taken = buffer.encode(1, 2, &[7; 12]).unwrap();
        assert_eq!(taken, space(12));
        let all: Vec<_> = decode(&buffer.0[..taken]).collect();
        assert_eq!(all, [Message { level: 1, kind: 2, data: &[7; 12] }]);
        assert_eq!(buffer.encode(1, 2, &[0; 64]), None);
    }

    #[test]
    fn two_messages_and_a_torn_tail_end_without_a_panic() {
        let mut first = Buffer::<32>::new();
        let taken = first.encode(1, 1, &[1, 0, 0, 0]).unwrap();
        let mut bytes = first.0[..taken].to_vec();
        bytes.extend_from_slice(&bytes.clone());
        assert_eq!(decode(&bytes).count(), 2);
        for cut in 0..bytes.len() {
            assert!(decode(&bytes[..cut]).count() <= 2);
        }
        // Lengths that no kernel writes: too small, too large, the largest.
        for length in [0_usize, 3, 15, 1000, usize::MAX] {
            let mut bytes = bytes.clone();
            bytes[..WORD].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(decode(&bytes).count(), 0, "length {length}");
        }
    }
}
