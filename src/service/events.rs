//! What happens, told to whoever wants to know.

use std::sync::OnceLock;

use tokio::sync::broadcast;

use crate::status::Event;

/// How many events a slow subscriber may fall behind.
const EVENTS: usize = 256;

/// The room for events is made for the first who wants to hear of them: most services never ask,
/// and a successor has better things to do before it serves.
#[derive(Debug, Default)]
pub(crate) struct Events(OnceLock<broadcast::Sender<Event>>);

impl Events {
    /// What happens from now on.
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.0.get_or_init(|| broadcast::Sender::new(EVENTS)).subscribe()
    }

    pub(super) fn tell(&self, event: Event) {
        if let Some(sender) = self.0.get() {
            // Nobody may be listening any more.
            let _ = sender.send(event);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_subscribes_hears_what_happens_from_then_on() {
        let events = Events::default();
        events.tell(Event::Owns);
        let mut heard = events.subscribe();
        assert!(heard.try_recv().is_err());
        events.tell(Event::AloneAtLast);
        assert!(matches!(heard.recv().await, Ok(Event::AloneAtLast)));
        drop(events);
        assert!(heard.recv().await.is_err());
    }
}
