//! How much a generation has to do, and which way it goes.

use tokio::sync::watch;

/// What a generation has served, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    /// Connections that are open.
    pub(crate) active: u64,
    /// Connections ever accepted.
    pub(crate) accepted: u64,
    /// Connections that have ended.
    pub(crate) ended: u64,
}

/// The last two figures of a generation that differ in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Trend {
    pub(super) previous: Load,
    pub(super) current: Load,
}

impl Trend {
    /// Whether connections come in or end: it does something.
    pub(super) fn progresses(self) -> bool {
        self.current.accepted > self.previous.accepted || self.current.ended > self.previous.ended
    }

    /// Takes in what was told since. Without anything new it stays as it was: that no figures came
    /// does not mean that they stand still.
    pub(super) fn follow(&mut self, told: &mut watch::Receiver<Load>) {
        let now = told.borrow_and_update();
        if now.has_changed() {
            self.previous = self.current;
            self.current = *now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_no_standstill() {
        let (sender, mut told) = watch::channel(Load::default());
        let mut trend = Trend::default();
        trend.follow(&mut told);
        assert!(!trend.progresses());
        let busy = Load { active: 3, accepted: 5, ended: 2 };
        sender.send_replace(busy);
        trend.follow(&mut told);
        assert!(trend.progresses());
        trend.follow(&mut told);
        assert!(trend.progresses(), "nothing new was told");
        sender.send_replace(busy);
        trend.follow(&mut told);
        assert!(!trend.progresses());
        drop(sender);
        trend.follow(&mut told);
        assert!(!trend.progresses());
    }
}
