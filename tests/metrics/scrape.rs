//! Metrics of one moment, read from Prometheus's text format as it is specified.

use std::collections::{BTreeMap, BTreeSet};

use tickwire_server::Probe;

/// The metrics of one moment.
#[derive(Debug, Default)]
pub(super) struct Scrape {
    /// By family: its type.
    pub(super) families: BTreeMap<String, String>,
    pub(super) samples: Vec<(String, BTreeMap<String, String>, f64)>,
}

impl Scrape {
    pub(super) fn of(probe: &Probe) -> Self {
        Self::parse(&probe.metrics())
    }

    /// Reads the text format as it is specified, and takes nothing else.
    pub(super) fn parse(text: &str) -> Self {
        let mut scrape = Self::default();
        let mut helped = None;
        let mut current = String::new();
        let mut seen = BTreeSet::new();
        assert!(text.ends_with('\n'), "the last line ends, too");
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').expect("a name, and help");
                assert!(!help.is_empty() && helped.is_none(), "{line}");
                helped = Some(name.to_owned());
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').expect("a name, and a type");
                assert_eq!(helped.take().as_deref(), Some(name), "help comes first, and of the same family");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert!(scrape.families.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} comes twice");
                name.clone_into(&mut current);
            } else {
                let (series, value) = line.rsplit_once(' ').expect("a series, and a number");
                assert!(seen.insert(series.to_owned()), "{series} comes twice");
                let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
                let suffix = name.strip_prefix(current.as_str()).unwrap_or_else(|| panic!("{line} is of no family"));
                let is_histogram = scrape.families[&current] == "histogram";
                assert!(if is_histogram { ["_bucket", "_sum", "_count"].contains(&suffix) } else { suffix.is_empty() });
                let labels = labels.strip_suffix('}').expect("labels end").split(',').filter(|label| !label.is_empty());
                let label = |label: &str| {
                    let (name, value) = label.split_once('=').expect("a name, and a value");
                    let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).expect("quoted");
                    assert!(!value.is_empty() && !value.contains(['"', '\\']), "{line}");
                    (name.to_owned(), value.to_owned())
                };
                let value: f64 = value.parse().expect("a number");
                assert!(value.is_finite() && value >= 0.0, "{line}");
                scrape.samples.push((name.to_owned(), labels.map(label).collect(), value));
            }
        }
        scrape.check_histograms();
        scrape
    }

    fn check_histograms(&self) {
        for family in self.families.iter().filter(|(_, kind)| *kind == "histogram").map(|(name, _)| name) {
            let mut buckets: BTreeMap<Vec<_>, Vec<(f64, f64)>> = BTreeMap::new();
            for (_, labels, value) in self.samples.iter().filter(|(name, ..)| *name == format!("{family}_bucket")) {
                let bound = labels["le"].parse().expect("a bound");
                let others = labels.iter().filter(|(name, _)| *name != "le").collect();
                buckets.entry(others).or_default().push((bound, *value));
            }
            assert!(!buckets.is_empty(), "{family} has no buckets");
            for (labels, buckets) in buckets {
                assert!(buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{family} {labels:?}: {buckets:?}");
                assert_eq!(buckets.last().expect("at least one").0, f64::INFINITY);
            }
        }
    }

    /// The sum of all series of a family that have these labels, written as `name label=value`.
    pub(super) fn sum(&self, selector: &str) -> f64 {
        let mut words = selector.split(' ');
        let name = words.next().expect("a name");
        let wanted: Vec<_> = words.map(|word| word.split_once('=').expect("label=value")).collect();
        let is_wanted = |labels: &BTreeMap<String, String>| {
            wanted.iter().all(|(name, value)| labels.get(*name).is_some_and(|found| found == value))
        };
        let of = self.samples.iter().filter(|(sample, labels, _)| sample == name && is_wanted(labels));
        of.map(|(.., value)| value).sum()
    }
}
