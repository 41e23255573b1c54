//! Session tickets whose keys can go to another process.
//!
//! rustls has a ticketer that keeps its keys to itself. This one makes a new key every six hours
//! and forgets a key after twelve, like that one, and can write its keys down.

use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use tokio_rustls::rustls::server::ProducesTickets;

/// In seconds: how long new tickets are sealed with a key, and how long they can be opened.
const SEALS: u64 = 6 * 3600;
const OPENS: u64 = 12 * 3600;

const NAME: usize = 16;
const SECRET: usize = 32;
/// A key as it is written down: its name, its secret, and the second in which it was made.
const WRITTEN: usize = NAME + SECRET + 8;

#[derive(Clone)]
struct Key {
    /// It stands before each ticket, so that the right key is tried.
    name: [u8; NAME],
    secret: [u8; SECRET],
    born: u64,
}

/// The newest key last. Nothing of it may be logged.
#[derive(Default)]
pub(crate) struct Tickets(Mutex<Vec<Key>>);

impl std::fmt::Debug for Tickets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tickets").finish_non_exhaustive()
    }
}

impl Tickets {
    /// What [`write`](Self::write) has written.
    pub(crate) fn read(state: &[u8]) -> Self {
        let keys = state.as_chunks::<WRITTEN>().0.iter().filter_map(|bytes| {
            let (name, rest) = bytes.split_first_chunk()?;
            let (secret, born) = rest.split_first_chunk()?;
            let born = u64::from_be_bytes(*born.first_chunk()?);
            Some(Key { name: *name, secret: *secret, born })
        });
        Self(Mutex::new(keys.collect()))
    }

    /// For the next generation, and for no file. A key that is made after this is not known there:
    /// its tickets cost a long handshake.
    pub(crate) fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let keys = self.keys().clone();
        keys.iter().try_for_each(|key| {
            to.write_all(&key.name)?;
            to.write_all(&key.secret)?;
            to.write_all(&key.born.to_be_bytes())
        })
    }

    fn keys(&self) -> MutexGuard<'_, Vec<Key>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The key for new tickets.
    fn newest(&self) -> Option<Key> {
        let (mut keys, now) = (self.keys(), now());
        keys.retain(|key| now.saturating_sub(key.born) < OPENS);
        if keys.last().is_none_or(|key| now.saturating_sub(key.born) >= SEALS) {
            keys.push(Key { name: random()?, secret: random()?, born: now });
        }
        keys.last().cloned()
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        // Sealed in its last moment, a ticket can be opened for this long.
        u32::try_from(OPENS - SEALS).unwrap_or(u32::MAX)
    }

    /// Name, nonce, and what is sealed, with the name bound to it.
    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let key = self.newest()?;
        let nonce: [u8; NONCE_LEN] = random()?;
        let mut sealed = plain.to_vec();
        let cipher = key.cipher()?;
        let nonce_once = Nonce::assume_unique_for_key(nonce);
        cipher.seal_in_place_append_tag(nonce_once, Aad::from(key.name), &mut sealed).ok()?;
        Some([&key.name[..], &nonce[..], &sealed[..]].concat())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_first_chunk::<NAME>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let now = now();
        let key = self.keys().iter().find(|key| key.name == *name)?.clone();
        if now.saturating_sub(key.born) >= OPENS {
            return None;
        }
        let mut opened = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let plain = key.cipher()?.open_in_place(nonce, Aad::from(*name), &mut opened).ok()?;
        Some(plain.to_vec())
    }
}

impl Key {
    fn cipher(&self) -> Option<LessSafeKey> {
        UnboundKey::new(&CHACHA20_POLY1305, &self.secret).ok().map(LessSafeKey::new)
    }
}

fn random<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(bytes)
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
