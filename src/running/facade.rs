//! The figures for the recorder of the `metrics` crate.

use std::sync::atomic::Ordering;

use ::metrics::{
    Label, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

use super::Running;
use crate::report::metrics::{self, Labels, Sink};
use crate::report::totals::Histogram;

impl Running {
    /// Hands the figures of [`metrics`](Self::metrics) to the recorder of the `metrics` crate that
    /// the application has installed, under the same names: to be called before each scrape, or
    /// every few seconds. Nothing is recorded in between.
    ///
    /// Counters are set to their absolute values, which go on over generations. Histograms are not
    /// handed on: a generation records each upgrade that it knows to have ended since the one to
    /// itself, once.
    pub fn record_metrics(&self) {
        let (gauges, totals, tally) = self.shared.figures();
        metrics::tell(&gauges, &totals, &tally, &mut Recorder { kind: "", help: "" });
        for report in self.shared.reports() {
            let to = report.to.get();
            if self.shared.recorded.fetch_max(to, Ordering::Relaxed) >= to {
                continue;
            }
            for (phase, time) in &report.phases {
                histogram!("heirloom_upgrade_duration_seconds", "phase" => phase.as_str())
                    .record(*time);
            }
            histogram!("heirloom_upgrade_elapsed_seconds").record(report.elapsed);
            histogram!("heirloom_accept_gap_seconds").record(report.longest_gap);
            if let Some(time) = report.back_after {
                histogram!("heirloom_rollback_duration_seconds").record(time);
            }
        }
    }
}

struct Recorder {
    kind: &'static str,
    help: &'static str,
}

impl Sink for Recorder {
    fn family(&mut self, name: &str, kind: &'static str, help: &'static str) {
        (self.kind, self.help) = (kind, help);
        if kind == "histogram" {
            describe_histogram!(name.to_owned(), help);
        }
    }

    fn sample(&mut self, name: &str, labels: Labels<'_>, value: u64) {
        let name = name.to_owned();
        let labels: Vec<Label> = labels
            .iter()
            .map(|(key, text)| Label::new((*key).to_owned(), (*text).to_owned()))
            .collect();
        if self.kind == "counter" {
            describe_counter!(name.clone(), self.help);
            counter!(name, labels).absolute(value);
        } else {
            describe_gauge!(name.clone(), self.help);
            #[allow(clippy::cast_precision_loss, reason = "gauges are small")]
            gauge!(name, labels).set(value as f64);
        }
    }

    fn histogram(&mut self, _: &str, _: Labels<'_>, _: &Histogram) {}
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::atomic::AtomicU64;
    use std::sync::{Arc, Mutex};

    use ::metrics::{
        Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, SharedString, Unit,
        with_local_recorder,
    };

    use crate::Config;

    /// Keeps what it is told by name and labels.
    #[derive(Default)]
    struct Told {
        numbers: Mutex<BTreeMap<String, Arc<AtomicU64>>>,
        times: Arc<Times>,
    }

    #[derive(Default)]
    struct Times(AtomicU64);

    impl HistogramFn for Times {
        fn record(&self, _: f64) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }

    impl Told {
        fn number(&self, key: &Key) -> Arc<AtomicU64> {
            let labels = key.labels().map(|label| format!("{}={}", label.key(), label.value()));
            let name = [key.name().to_owned()].into_iter().chain(labels).collect::<Vec<_>>();
            Arc::clone(self.numbers.lock().unwrap().entry(name.join(" ")).or_default())
        }

        fn value(&self, name: &str) -> u64 {
            let numbers = self.numbers.lock().unwrap();
            let value = numbers.get(name).unwrap_or_else(|| panic!("{name}: {numbers:?}"));
            value.load(std::sync::atomic::Ordering::Relaxed)
        }
    }

    impl ::metrics::Recorder for Told {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
            Counter::from_arc(self.number(key))
        }

        fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::from_arc(self.number(key))
        }

        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::from_arc(Arc::clone(&self.times))
        }
    }

    #[tokio::test]
    async fn a_recorder_is_told_what_the_text_says() {
        let config = Config::new("test").upgrade_signal(None).stop_signals([]);
        let config = config.version("1.2").executable("/nowhere/at/all");
        let running = config.start().await.unwrap().ready().await.unwrap();
        running.requests().failed();
        (0..3).for_each(|_| running.requests().succeeded());
        running.upgrade().await.unwrap_err();
        let told = Told::default();
        with_local_recorder(&told, || running.record_metrics());
        assert_eq!(told.value("heirloom_requests_total outcome=succeeded"), 3);
        assert_eq!(told.value("heirloom_requests_total outcome=failed"), 1);
        assert_eq!(told.value("heirloom_upgrades_total outcome=failed phase=spawn"), 1);
        assert_eq!(f64::from_bits(told.value("heirloom_ready")), 1.0);
        assert_eq!(
            f64::from_bits(told.value("heirloom_service_info service=test version=1.2")),
            1.0
        );
        let times = || told.times.0.load(std::sync::atomic::Ordering::Relaxed);
        // Two phases, the whole, the gap; and each upgrade once.
        assert_eq!(times(), 4);
        with_local_recorder(&told, || running.record_metrics());
        assert_eq!(times(), 4);
    }
}
