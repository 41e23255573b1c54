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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let times = Times::new((1..=1000).rev().map(Duration::from_millis).collect());
        assert_eq!(
            [times.p50(), times.p99(), times.p999(), times.max()],
            [500.0, 990.0, 999.0, 1000.0]
        );
        let one = Times::new(vec![Duration::from_millis(7)]);
        assert_eq!([one.p50(), one.p999()], [7.0, 7.0]);
        assert_eq!(Times::new(Vec::new()).p99(), 0.0);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
    }
}
