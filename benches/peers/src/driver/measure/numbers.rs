//! Percentiles and medians.

use std::time::Duration;

/// Many times of one kind, in order.
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn new(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    /// The time that so many in a thousand do not exceed, in milliseconds.
    pub(crate) fn per_mille(&self, part: usize) -> f64 {
        let index = (self.0.len() * part).div_ceil(1000).saturating_sub(1);
        self.0.get(index).map_or(0.0, |time| time.as_secs_f64() * 1e3)
    }

    pub(crate) fn p50(&self) -> f64 {
        self.per_mille(500)
    }

    pub(crate) fn p99(&self) -> f64 {
        self.per_mille(990)
    }

    pub(crate) fn p999(&self) -> f64 {
        self.per_mille(999)
    }

    pub(crate) fn max(&self) -> f64 {
        self.per_mille(1000)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
