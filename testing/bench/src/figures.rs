//! What was measured, by name: a value for each round, its median and its spread.

use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Default)]
pub struct Figures(BTreeMap<String, Vec<f64>>);

impl Figures {
    /// One more round's value.
    pub fn add(&mut self, name: impl Into<String>, value: f64) {
        self.0.entry(name.into()).or_default().push(value);
    }

    /// The processor time that each party took for a callback.
    pub fn add_processor_time(&mut self, of: &str, parts: BTreeMap<&'static str, f64>) {
        for (party, microseconds) in parts {
            self.add(format!("{of}_cpu_us_{party}"), microseconds);
        }
    }

    /// What has been measured so far.
    #[must_use]
    pub fn names(&self) -> BTreeSet<String> {
        self.0.keys().cloned().collect()
    }

    /// Each with its values, by name.
    pub fn all(&self) -> impl Iterator<Item = (&str, &[f64])> {
        self.0.iter().map(|(name, values)| (name.as_str(), values.as_slice()))
    }

    /// The rounds of one; none when it was not measured.
    #[must_use]
    pub fn values(&self, name: &str) -> &[f64] {
        self.0.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// The median over the rounds.
    #[must_use]
    pub fn median(&self, name: &str) -> Option<f64> {
        median(self.0.get(name)?)
    }

    /// The lowest and the highest round.
    #[must_use]
    pub fn spread(&self, name: &str) -> Option<(f64, f64)> {
        let values = self.0.get(name)?.iter().copied();
        values.clone().reduce(f64::min).zip(values.reduce(f64::max))
    }
}

/// The middle one; of an even number the lower middle.
#[must_use]
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().saturating_sub(1) / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_the_middle_of_its_rounds() {
        let mut figures = Figures::default();
        for value in [3.0, 9.0, 1.0] {
            figures.add("x", value);
        }
        assert_eq!(figures.median("x"), Some(3.0));
        assert_eq!(figures.spread("x"), Some((1.0, 9.0)));
        assert_eq!(figures.median("y"), None);
    }
}
