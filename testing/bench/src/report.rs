//! The results of a run: tables for the terminal, a flat JSON object of medians, and the regressions.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context, Result};
use kit::table::{Cell, Table, right};
use serde_json::{Map, Value, json};

use crate::charts;
use crate::config::Options;
use crate::figures::Figures;

/// The bounds that must be reached.
pub const BOUNDS: [(&str, Bound); 13] = [
    ("ingest_256_of_bound", Bound::AtLeast(0.80)),
    ("ingest_64_of_bound", Bound::AtLeast(0.70)),
    ("answer_p99_of_confirm_p99_half", Bound::AtMost(5.0)),
    ("worker_of_pgbench", Bound::AtLeast(10.0)),
    ("worker_of_set_limit", Bound::AtLeast(0.50)),
    ("paid_p50_ms_half", Bound::AtMost(15.0)),
    ("paid_p99_ms_half", Bound::AtMost(100.0)),
    ("paid_p50_ms_idle", Bound::AtMost(8.0)),
    ("growth_10m_of_100k", Bound::AtLeast(0.75)),
    ("rss_ingest_mb", Bound::AtMost(80.0)),
    ("rss_worker_mb", Bound::AtMost(80.0)),
    ("end_to_end_of_synchronous", Bound::AtLeast(4.0)),
    ("answer_p99_of_synchronous_equal", Bound::AtMost(1.0)),
];

/// On which side of a number a measurement must be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    /// More is better.
    AtLeast(f64),
    /// Less is better.
    AtMost(f64),
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtLeast(bound) => format!("≥ {bound}"),
            Self::AtMost(bound) => format!("≤ {bound}"),
        }
    }
}

/// The measurements that are not among `before`.
#[must_use]
pub fn table(figures: &Figures, before: &BTreeSet<String>) -> Table {
    let mut table = kit::table::table(["measurement", "median", "lowest", "highest", "rounds", "must be"]);
    for (name, values) in figures.all().filter(|(name, _)| !before.contains(*name)) {
        let median = figures.median(name).unwrap_or_default();
        let (lowest, highest) = figures.spread(name).unwrap_or_default();
        let bound = BOUNDS.iter().find(|(bounded, _)| *bounded == name).map(|(_, bound)| *bound);
        let bound = bound.map(|bound| if bound.holds(median) { bound.text() } else { bound.text() + " (missed)" });
        table.add_row([
            Cell::new(name),
            right(rounded(median)),
            right(rounded(lowest)),
            right(rounded(highest)),
            right(values.len()),
            Cell::new(bound.unwrap_or_default()),
        ]);
    }
    table
}

/// Writes what the options ask for.
pub fn write(options: &Options, figures: &Figures) -> Result<()> {
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&to_json(figures))?;
        fs::write(path, text).with_context(|| format!("--json: {}", path.display()))?;
    }
    if let Some(folder) = &options.pictures {
        fs::create_dir_all(folder)?;
        for (name, svg) in charts::all(figures) {
            fs::write(folder.join(name), svg).with_context(|| format!("--pictures: {}", folder.display()))?;
        }
    }
    Ok(())
}

/// One flat object: the median of each figure, and for those that are bounded the lowest and highest round.
fn to_json(figures: &Figures) -> Value {
    let mut object = Map::new();
    for (name, _) in figures.all() {
        object.insert(name.to_owned(), json!(figures.median(name)));
        if BOUNDS.iter().any(|(bounded, _)| *bounded == name) {
            let (lowest, highest) = figures.spread(name).unzip();
            object.insert(format!("{name}_lowest"), json!(lowest));
            object.insert(format!("{name}_highest"), json!(highest));
        }
    }
    Value::Object(object)
}

/// The ratios that are worse than `recorded` by more than noise: the best round now is worse than the worst round then.
/// Milliseconds and megabytes depend on the machine and are not compared.
#[must_use]
pub fn regressions(recorded: &BTreeMap<String, f64>, figures: &Figures) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, bound) in BOUNDS.into_iter().filter(|(name, _)| name.contains("_of_")) {
        let was = |end: &str| recorded.get(&format!("{name}_{end}")).copied();
        let Some((lowest, highest)) = figures.spread(name) else { continue };
        let (Some(was_lowest), Some(was_highest)) = (was("lowest"), was("highest")) else {
            lines.push(format!("{name} was not recorded, so it cannot be compared"));
            continue;
        };
        let has_regressed = match bound {
            Bound::AtLeast(_) => highest < was_lowest,
            Bound::AtMost(_) => lowest > was_highest,
        };
        if has_regressed {
            lines.push(format!(
                "{name} has regressed: {} to {} now, {} to {} when it was recorded",
                rounded(lowest),
                rounded(highest),
                rounded(was_lowest),
                rounded(was_highest)
            ));
        }
    }
    lines
}

/// Three digits, or all of those before the point.
#[must_use]
pub fn rounded(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_that_is_worse_in_every_round_has_regressed() {
        let recorded = |lowest, highest| {
            BTreeMap::from([
                ("worker_of_pgbench_lowest".to_owned(), lowest),
                ("worker_of_pgbench_highest".to_owned(), highest),
            ])
        };
        let mut figures = Figures::default();
        figures.add("worker_of_pgbench", 9.0);
        figures.add("worker_of_pgbench", 10.0);
        assert_eq!(regressions(&recorded(9.5, 12.0), &figures), Vec::<String>::new());
        assert!(regressions(&recorded(10.5, 12.0), &figures)[0].contains("has regressed"));
        assert!(regressions(&BTreeMap::new(), &figures)[0].contains("was not recorded"));
    }

    #[test]
    fn the_object_is_flat() {
        let mut figures = Figures::default();
        figures.add("rss_worker_mb", 40.0);
        figures.add("other", 1.0);
        let expected =
            json!({"rss_worker_mb": 40.0, "rss_worker_mb_lowest": 40.0, "rss_worker_mb_highest": 40.0, "other": 1.0});
        assert_eq!(to_json(&figures), expected);
    }
}
