//! The timeline as SVG: answers per second, the time to SUCCESS, the backlog; and the faults as bands.

use kit::svg::Svg;

use super::Report;
use crate::timeline::{self, Answer};

const WIDTH: u64 = 1200;
const LEFT: u64 = 70;
const RIGHT: u64 = 20;
/// The names of the faults are above the panels, in rows, so that neighbours do not overlap.
const NAMES: u64 = 70;
const NAME_ROWS: u64 = 4;
const PANEL: u64 = 140;
const GAP: u64 = 40;
const PANELS: u64 = 3;
const SECOND_MS: u64 = 1000;

/// A value for each moment, in milliseconds from the start.
type Points = Vec<(u64, u64)>;

/// A panel's curve.
struct Curve {
    name: &'static str,
    colour: &'static str,
    points: Points,
}

struct Picture {
    svg: Svg,
    length_ms: u64,
}

pub(super) fn draw(report: &Report<'_>) -> String {
    let started_ms = report.started_ms();
    let last_ms = report.evidence.samples.last().map_or(started_ms, |sample| sample.at_ms);
    let height = NAMES + PANELS * (PANEL + GAP);
    let length_ms = last_ms.saturating_sub(started_ms).max(SECOND_MS);
    let mut picture = Picture { svg: Svg::new(WIDTH, height, 11), length_ms };
    picture.bands(report, height);
    let (success, failed, slow) = answers(report, picture.length_ms);
    let counts = report.evidence.backlog();
    let backlog = counts.into_iter().map(|(at, count)| (at.saturating_sub(started_ms), count)).collect();
    let outbox = report.evidence.samples.iter();
    let outbox = outbox.filter_map(|it| Some((it.at_ms.saturating_sub(started_ms), it.outbox?))).collect();
    picture.panel(
        0,
        "answers per second",
        &[
            Curve { name: "SUCCESS", colour: "#2a7", points: success },
            Curve { name: "failed, will be resent", colour: "#c33", points: failed },
        ],
    );
    picture.panel(
        1,
        "p99 to SUCCESS, ms",
        &[Curve { name: "by the second in which it was due", colour: "#36c", points: slow }],
    );
    picture.panel(
        2,
        "backlog",
        &[
            Curve { name: "callbacks stored, not handled", colour: "#c70", points: backlog },
            Curve { name: "events in the outbox", colour: "#739", points: outbox },
        ],
    );
    picture.svg.finish()
}

/// For each second: SUCCESS, failures, p99.
fn answers(report: &Report<'_>, length_ms: u64) -> (Points, Points, Points) {
    let (mut success, mut failed, mut slow) = (Vec::new(), Vec::new(), Vec::new());
    for second in 0..length_ms.div_ceil(SECOND_MS) {
        let at = second.saturating_mul(SECOND_MS);
        let from = report.started_ms().saturating_add(at);
        let requests = report.evidence.timeline.between(from, from.saturating_add(SECOND_MS));
        let number = |is_meant: &dyn Fn(&Answer) -> bool| {
            u64::try_from(requests.iter().filter(|request| is_meant(&request.answer)).count()).unwrap_or(u64::MAX)
        };
        success.push((at, number(&|answer| *answer == Answer::Success)));
        failed.push((at, number(&|answer| matches!(answer, Answer::Failed(_)))));
        slow.push((at, timeline::latency_ms(requests, 99).unwrap_or_default()));
    }
    (success, failed, slow)
}

impl Picture {
    fn x(&self, at_ms: u64) -> u64 {
        LEFT + at_ms.min(self.length_ms) * (WIDTH - LEFT - RIGHT) / self.length_ms
    }

    /// A band for as long as the fault lasted, with its name above.
    fn bands(&mut self, report: &Report<'_>, height: u64) {
        for (row, recovery) in (0..NAME_ROWS).cycle().zip(report.recoveries) {
            let injected = &recovery.injected;
            let start = self.x(injected.injected_ms.saturating_sub(report.started_ms()));
            let end = self.x(injected.lifted_ms.saturating_sub(report.started_ms()));
            let (width, top, bottom) = (end.saturating_sub(start).max(2), NAMES, height - NAMES - GAP);
            self.svg.rect([start, top, width, bottom], "fill=\"#c33\" fill-opacity=\"0.12\"");
            let baseline = 14 + row * 15;
            self.svg.path(format_args!("M{start} {top}V{baseline}"), "stroke=\"#c33\" stroke-opacity=\"0.4\"");
            self.svg.text([start + 3, baseline], "", injected.scheduled.fault.name());
        }
    }

    fn panel(&mut self, place: u64, title: &str, curves: &[Curve]) {
        let top = NAMES + place * (PANEL + GAP);
        let bottom = top + PANEL;
        let highest = curves.iter().flat_map(|curve| &curve.points).map(|(_, value)| *value).max().unwrap_or(0).max(1);
        let end = WIDTH - RIGHT;
        self.svg.path(format_args!("M{LEFT} {top}V{bottom}H{end}"), "fill=\"none\" stroke=\"#888\"");
        self.svg.text([LEFT - 6, top + 10], "text-anchor=\"end\"", highest);
        self.svg.text([LEFT - 6, bottom], "text-anchor=\"end\"", 0);
        let mut label_x = LEFT + 6;
        self.svg.text([label_x, bottom + 26], "font-weight=\"bold\"", title);
        label_x += 160;
        for curve in curves {
            let points = curve.points.iter().map(|(at, value)| {
                let x = LEFT + at.min(&self.length_ms) * (end - LEFT) / self.length_ms;
                [x, bottom - value * PANEL / highest]
            });
            self.svg.polyline(points, &format!("stroke=\"{}\" stroke-width=\"1.3\"", curve.colour));
            self.svg.text([label_x, bottom + 26], &format!("fill=\"{}\"", curve.colour), curve.name);
            label_x += 220;
        }
        let step = (self.length_ms / SECOND_MS / 12).max(1).next_multiple_of(5);
        for second in (0..=self.length_ms / SECOND_MS).filter(|second| second.is_multiple_of(step)) {
            let x = self.x(second * SECOND_MS);
            self.svg.text([x, bottom + 13], "text-anchor=\"middle\"", format_args!("{second} s"));
        }
    }
}
