//! Prometheus' text format, 0.0.4: families with help and type, samples with labels, histograms.

use std::fmt::Write as _;

use crate::base::Histogram;
use crate::base::histogram::BOUNDS_US;

/// One family of metrics, as it is documented.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

/// A text that grows family by family.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
    families: Vec<Family>,
}

// Writing to a String cannot fail, so what `write!` answers is not looked at here.
impl Exposition {
    /// Begins a family. Its samples follow, each with a value for each label.
    pub fn family(
        &mut self,
        name: &'static str,
        kind: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
    ) {
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        self.families.push(Family { name, kind, labels, help });
    }

    /// A sample of the family that was begun last.
    pub fn sample(&mut self, values: &[&str], value: f64) {
        let Some(family) = self.families.last() else { return };
        self.text.push_str(family.name);
        labels(&mut self.text, family.labels.iter().copied().zip(values.iter().copied()));
        let _ = writeln!(self.text, " {value}");
    }

    /// A counter or gauge without labels.
    pub fn single(&mut self, name: &'static str, kind: &'static str, help: &'static str, value: f64) {
        self.family(name, kind, &[], help);
        self.sample(&[], value);
    }

    /// The samples of the histogram that was begun last.
    pub fn histogram(&mut self, histogram: &Histogram) {
        let Some(family) = self.families.last() else { return };
        let mut sum = 0;
        for (place, count) in histogram.buckets.iter().enumerate() {
            sum += count;
            let _ = match BOUNDS_US.get(place) {
                Some(&us) => {
                    writeln!(self.text, "{}_bucket{{le=\"{}\"}} {sum}", family.name, us as f64 / 1e6)
                }
                None => writeln!(self.text, "{}_bucket{{le=\"+Inf\"}} {sum}", family.name),
            };
        }
        let _ = writeln!(self.text, "{}_sum {}", family.name, histogram.sum_us as f64 / 1e6);
        let _ = writeln!(self.text, "{}_count {sum}", family.name);
    }

    /// The text, and what families are in it.
    pub fn finish(self) -> (String, Vec<Family>) {
        (self.text, self.families)
    }
}

fn labels<'a>(out: &mut String, labels: impl Iterator<Item = (&'a str, &'a str)>) {
    let mut any = false;
    for (name, value) in labels {
        out.push(if any { ',' } else { '{' });
        any = true;
        let _ = write!(out, "{name}=\"");
        for c in value.chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                '"' => out.push_str("\\\""),
                '\n' => out.push_str("\\n"),
                c => out.push(c),
            }
        }
        out.push('"');
    }
    if any {
        out.push('}');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn values_are_escaped() {
        let mut exposition = Exposition::default();
        exposition.family("a_total", "counter", &["b", "c"], "x");
        exposition.sample(&["q\"\\\n", "\u{e9}"], 1.5);
        let (text, families) = exposition.finish();
        assert_eq!(
            text,
            "# HELP a_total x\n# TYPE a_total counter\na_total{b=\"q\\\"\\\\\\n\",c=\"\u{e9}\"} 1.5\n"
        );
        assert_eq!(families[0].labels, ["b", "c"]);
    }

    #[test]
    fn buckets_add_up() {
        let mut histogram = Histogram::default();
        histogram.note(Duration::from_micros(60), 2);
        histogram.note(Duration::from_secs(90), 1);
        let mut exposition = Exposition::default();
        exposition.family("a_seconds", "histogram", &[], "x");
        exposition.histogram(&histogram);
        let (text, _) = exposition.finish();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2 + 21 + 2);
        assert_eq!(lines[2], "a_seconds_bucket{le=\"0.00005\"} 0");
        assert_eq!(lines[3], "a_seconds_bucket{le=\"0.0001\"} 2");
        assert_eq!(lines[21], "a_seconds_bucket{le=\"60\"} 2");
        assert_eq!(lines[22], "a_seconds_bucket{le=\"+Inf\"} 3");
        assert_eq!(lines[23..], ["a_seconds_sum 90.00012", "a_seconds_count 3"]);
    }
}
