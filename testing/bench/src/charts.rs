//! The charts of `docs/performance.md`: bars with the spread of their rounds.

use kit::svg::Svg;

use crate::figures::Figures;
use crate::report::rounded;

const WIDTH: f64 = 760.0;
const LABELS: f64 = 300.0;
const VALUES: f64 = 70.0;
const ROW: f64 = 26.0;
const TOP: f64 = 36.0;

/// A chart: file, title, and the measurements that it shows with their labels.
type Plan = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

const PLANS: [Plan; 5] = [
    (
        "ingest.svg",
        "Callbacks per second at 256 connections",
        &[
            ("ingest_256_verified_per_second", "verified, not published (limit A)"),
            ("ingest_256_confirmed_per_second", "confirmed publishes alone (limit B)"),
            ("ingest_256_per_second", "ingest: verified, published, confirmed"),
        ],
    ),
    (
        "worker.svg",
        "Payments applied per second",
        &[
            ("pgbench_one_by_one_per_second", "pgbench, one transaction each"),
            ("worker_per_second", "a worker draining a backlog"),
            ("pgbench_in_sets_per_second", "pgbench, 256 in one transaction"),
        ],
    ),
    (
        "end-to-end.svg",
        "Callbacks per second, from request to paid order",
        &[("synchronous_per_second", "a synchronous handler"), ("end_to_end_per_second", "ingest, broker and worker")],
    ),
    (
        "latency.svg",
        "Milliseconds from SUCCESS until the order is paid, and until the merchant has the event",
        &[
            ("paid_p50_ms_idle", "idle, p50"),
            ("paid_p50_ms_half", "half load, p50"),
            ("paid_p99_ms_half", "half load, p99"),
            ("told_p50_ms_half", "half load, event received, p50"),
            ("told_p99_ms_half", "half load, event received, p99"),
            ("paid_p50_ms_four_fifths", "80 % load, p50"),
            ("paid_p99_ms_four_fifths", "80 % load, p99"),
        ],
    ),
    (
        "growth.svg",
        "Payments applied per second, by the number of orders in the table",
        &[
            ("worker_100k_orders_per_second", "100 thousand"),
            ("worker_1m_orders_per_second", "1 million"),
            ("worker_10m_orders_per_second", "10 million"),
        ],
    ),
];

/// The charts for which there are measurements, by file name.
#[must_use]
pub fn all(figures: &Figures) -> Vec<(&'static str, String)> {
    PLANS.iter().filter_map(|(name, title, bars)| Some((*name, draw(figures, title, bars)?))).collect()
}

fn draw(figures: &Figures, title: &str, bars: &[(&str, &str)]) -> Option<String> {
    let known: Vec<_> =
        bars.iter().filter_map(|(name, label)| Some((*label, figures.median(name)?, figures.spread(name)?))).collect();
    let most = known.iter().map(|(_, _, (_, highest))| *highest).reduce(f64::max)?;
    let height = TOP + ROW * known.len() as f64 + 10.0;
    let x = |value: f64| LABELS + (WIDTH - LABELS - VALUES) * value / most;
    let mut svg = Svg::new(WIDTH, height, 12);
    svg.text([10.0, 20.0], "font-weight=\"bold\"", title);
    for (row, (label, median, (lowest, highest))) in known.iter().enumerate() {
        let top = TOP + ROW * row as f64;
        let (middle, low, high) = (top + 9.0, x(*lowest), x(*highest));
        svg.text([LABELS - 8.0, top + 14.0], "text-anchor=\"end\"", label);
        svg.rect([LABELS, top, x(*median) - LABELS, 18.0], "fill=\"#36c\" fill-opacity=\"0.7\"");
        svg.path(format_args!("M{low} {middle}H{high}"), "stroke=\"#222\" stroke-width=\"2\"");
        svg.text([high + 6.0, top + 14.0], "", rounded(*median));
    }
    Some(svg.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_measured_is_drawn() {
        let mut figures = Figures::default();
        figures.add("synchronous_per_second", 1000.0);
        figures.add("end_to_end_per_second", 4000.0);
        let pictures = all(&figures);
        assert_eq!(pictures.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["end-to-end.svg"]);
        assert_eq!(pictures.iter().filter(|(_, svg)| svg.matches("<rect").count() == 3).count(), 1);
    }
}
