//! A strict reader of Prometheus' text format 0.0.4: what it takes, every scraper takes.

use std::collections::{BTreeMap, BTreeSet};

/// Samples by series, as `name{label="value"}`.
#[derive(Debug)]
pub struct Metrics {
    series: BTreeMap<String, f64>,
    kinds: BTreeMap<String, String>,
}

impl Metrics {
    /// Reads a whole text.
    pub fn parse(text: &str) -> Result<Metrics, String> {
        if !text.ends_with('\n') {
            return Err("the last line has no end".into());
        }
        let (mut helped, mut closed) = (BTreeSet::new(), BTreeSet::new());
        let mut metrics = Metrics { series: BTreeMap::new(), kinds: BTreeMap::new() };
        let mut current = String::new();
        for line in text.lines() {
            let fault = |what: &str| Err(format!("{what}: {line:?}"));
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let Some((name, help)) = rest.split_once(' ') else { return fault("no help") };
                if !is_name(name) || help.trim().is_empty() || !helped.insert(name.to_owned()) {
                    return fault("a bad name, no help, or help given twice");
                }
                // A family's lines stand together.
                closed.insert(std::mem::replace(&mut current, name.to_owned()));
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let Some((name, kind)) = rest.split_once(' ') else { return fault("no type") };
                if name != current || !matches!(kind, "counter" | "gauge" | "histogram") {
                    return fault("the type does not follow its help, or is unknown");
                }
                if kind == "counter" && !name.ends_with("_total") {
                    return fault("a counter that is not called _total");
                }
                if metrics.kinds.insert(name.to_owned(), kind.to_owned()).is_some() {
                    return fault("a second type");
                }
            } else {
                let Some((series, value)) = line.rsplit_once(' ') else { return fault("no sample") };
                let name = series.split('{').next().unwrap_or_default();
                let name = match metrics.kinds.get(&current).map(String::as_str) {
                    Some("histogram") => ["_bucket", "_sum", "_count"]
                        .iter()
                        .find_map(|suffix| name.strip_suffix(suffix))
                        .unwrap_or("none of a histogram's"),
                    _ => name,
                };
                if name != current || closed.contains(name) || !metrics.kinds.contains_key(name) {
                    return fault("a sample outside its family, or without help and type");
                }
                check_labels(&series[series.find('{').unwrap_or(series.len())..])
                    .map_err(|what| format!("{what}: {line:?}"))?;
                let Ok(value) = value.parse::<f64>() else { return fault("no number") };
                if !value.is_finite() || value < 0.0 {
                    return fault("a number that means nothing here");
                }
                if metrics.series.insert(series.to_owned(), value).is_some() {
                    return fault("a series twice");
                }
            }
        }
        let mut histograms = metrics.kinds.iter().filter(|(_, kind)| *kind == "histogram");
        histograms.try_for_each(|(name, _)| metrics.check_histogram(name))?;
        Ok(metrics)
    }

    /// Buckets only grow, and the last one is the count.
    fn check_histogram(&self, name: &str) -> Result<(), String> {
        let bound = |series: &str| -> Option<f64> {
            let text = series.strip_prefix(&format!("{name}_bucket{{le=\""))?.strip_suffix("\"}")?;
            if text == "+Inf" { Some(f64::INFINITY) } else { text.parse().ok() }
        };
        let mut buckets: Vec<(f64, f64)> =
            self.series.iter().filter_map(|(series, value)| Some((bound(series)?, *value))).collect();
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        let grows = buckets.windows(2).all(|pair| pair[0].1 <= pair[1].1);
        let last = buckets.last().filter(|(bound, _)| bound.is_infinite()).map(|(_, count)| *count);
        let count = self.find(&format!("{name}_count"));
        let sum = self.find(&format!("{name}_sum"));
        let is_whole = grows && last.is_some() && last == count && sum.is_some();
        is_whole.then_some(()).ok_or_else(|| format!("{name} is no whole histogram: {buckets:?}"))
    }

    /// The value of a series that has to be there and whole.
    pub fn get(&self, series: &str) -> u64 {
        let value = self.series.get(series);
        let value = *value.unwrap_or_else(|| panic!("there is no {series} in {:?}", self.series.keys()));
        assert_eq!(value.fract(), 0.0, "{series} counts");
        value as u64
    }

    /// The value of a series, if it is there.
    pub fn find(&self, series: &str) -> Option<f64> {
        self.series.get(series).copied()
    }

    /// The value of a gate's figure.
    pub fn of_gate(&self, figure: &str, gate: &str) -> u64 {
        self.get(&format!("rateway_queue_{figure}{{gate=\"{gate}\"}}"))
    }

    /// Every family with its type.
    pub fn kinds(&self) -> &BTreeMap<String, String> {
        &self.kinds
    }
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Nothing, or labels in braces, each once, their values without anything that would need an escape.
fn check_labels(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Ok(());
    }
    let inner = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).ok_or("braces")?;
    let mut names = BTreeSet::new();
    for label in inner.split(',') {
        let (name, value) = label.split_once('=').ok_or("a label without a value")?;
        let value = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).ok_or("quotes")?;
        if !is_name(name) || !names.insert(name) {
            return Err("a label's name");
        }
        if value.is_empty() || value.contains(['"', '\\', '\n', '{', '}', ' ']) {
            return Err("a label's value");
        }
    }
    Ok(())
}

#[test]
fn the_reader_is_strict() {
    let good = "# HELP a_total x y\n# TYPE a_total counter\na_total{b=\"c\"} 1\na_total 2.5\n";
    let metrics = Metrics::parse(good).expect("good");
    assert_eq!((metrics.get("a_total{b=\"c\"}"), metrics.find("a_total")), (1, Some(2.5)));
    let histogram = "# HELP h x\n# TYPE h histogram\nh_bucket{le=\"0.5\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 3\nh_count 2\n";
    Metrics::parse(histogram).expect("a histogram");
    for (old, new) in
        [("_count 2", "_count 3"), ("0.5\"} 1", "0.5\"} 9"), ("h_sum 3\n", ""), ("+Inf", "7"), ("h_sum", "h")]
    {
        assert!(Metrics::parse(&histogram.replace(old, new)).is_err(), "{old} -> {new}");
    }
    for (old, new) in [
        ("# HELP a_total x y\n", ""),
        ("# TYPE a_total counter\n", ""),
        ("x y", " "),
        ("a_total counter", "b_total counter"),
        ("counter", "number"),
        ("a_total", "a"),
        ("a_total", "9a_total"),
        ("b=", "b-="),
        ("\"c\"", "c"),
        ("\"c\"", "\"\\\""),
        ("{b=\"c\"}", ""),
        ("{b=\"c\"}", "{b=\"c\",b=\"d\"}"),
        ("2.5\n", "2.5"),
        ("2.5", "x"),
        ("2.5", "NaN"),
        ("a_total 2.5", "other_total 2.5"),
    ] {
        let bad = good.replace(old, new);
        assert!(bad != good && Metrics::parse(&bad).is_err(), "{old:?} -> {new:?}");
    }
}
