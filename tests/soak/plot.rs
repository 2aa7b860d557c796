//! The soak as a picture: latency, memory and files against the number of the cell.

use std::fmt::Write as _;

use super::Sample;

const WIDTH: f64 = 860.0;
const PANEL: f64 = 190.0;
const LEFT: f64 = 70.0;
const GAP: f64 = 46.0;

/// A curve or cloud of one panel.
struct Series<'a> {
    name: &'a str,
    colour: &'a str,
    dots: bool,
    /// Numbers of cells, and what was measured there.
    values: Vec<(usize, f64)>,
}

/// Panels one below the other.
pub fn svg(samples: &[Sample]) -> String {
    let series = |name, colour, dots, value: &dyn Fn(&Sample) -> Option<f64>| Series {
        name,
        colour,
        dots,
        values: samples
            .iter()
            .filter_map(|sample| Some((sample.cell, value(sample)?)))
            .collect(),
    };
    let probe = |sample: &Sample| sample.kind == super::PROBE;
    let panels = [
        (
            "milliseconds for a cell, from the request to idle (those above the 99th percentile lie on the edge)",
            vec![
                series("all kinds of cells", "#9bb3cc", true, &|s| {
                    (!probe(s)).then_some(s.milliseconds)
                }),
                series("the probe, always `1 + 1`", "#1f3f78", true, &|s| {
                    probe(s).then_some(s.milliseconds)
                }),
            ],
        ),
        (
            "processor time of the probe, milliseconds",
            vec![series("", "#1f3f78", true, &|s| probe(s).then_some(s.cpu))],
        ),
        (
            "resident memory, MB",
            vec![
                series("kernel", "#8a4fb0", false, &|s| Some(s.kernel_mb)),
                series("process that runs cells", "#1a7f37", false, &|s| {
                    Some(s.cells_mb)
                }),
                series(
                    "of that, loaded libraries of cells",
                    "#b35900",
                    false,
                    &|s| Some(s.libraries_mb),
                ),
            ],
        ),
        (
            "open files of both processes, files in the session's folder",
            vec![
                series("open", "#1f5fa8", false, &|s| Some(s.open_files as f64)),
                series("in the folder", "#b35900", false, &|s| Some(s.files as f64)),
            ],
        ),
    ];
    let height = panels.len() as f64 * (PANEL + GAP) + 20.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" font-family=\"sans-serif\" \
         font-size=\"12\"><rect width=\"100%\" height=\"100%\" fill=\"white\"/>"
    );
    for (number, (title, series)) in panels.iter().enumerate() {
        panel(
            &mut out,
            title,
            series,
            30.0 + number as f64 * (PANEL + GAP),
        );
    }
    out + "</svg>\n"
}

// Writing to a string cannot fail.
fn panel(out: &mut String, title: &str, series: &[Series<'_>], top: f64) {
    let all = series.iter().flat_map(|s| &s.values);
    let mut all: Vec<f64> = all.map(|(_, value)| *value).collect();
    all.sort_by(f64::total_cmp);
    let highest = all.get(all.len() * 99 / 100).copied().unwrap_or(1.0);
    // Room for the names of the curves above them.
    let room = if series.len() > 1 { 1.4 } else { 1.1 };
    let tick = step_of(highest * room);
    let highest = tick * (highest * room / tick).ceil().max(1.0);
    let last = series.iter().filter_map(|s| s.values.last());
    let count = last.map(|(cell, _)| cell + 1).max().unwrap_or(1);
    let right = WIDTH - 20.0;
    let x = |cell: usize| LEFT + (right - LEFT) * cell as f64 / (count.max(2) - 1) as f64;
    let y = |value: f64| top + PANEL * (1.0 - value.min(highest) / highest);
    let _ = write!(
        out,
        "<text x=\"{LEFT}\" y=\"{:.0}\" font-weight=\"bold\">{title}</text>",
        top - 10.0
    );
    let mut value = 0.0;
    while value <= highest * 1.001 {
        let _ = write!(
            out,
            "<line x1=\"{LEFT}\" x2=\"{right}\" y1=\"{0:.1}\" y2=\"{0:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{1:.0}\" y=\"{2:.1}\" text-anchor=\"end\">{value:.0}</text>",
            y(value),
            LEFT - 8.0,
            y(value) + 4.0
        );
        value += tick;
    }
    let tick = step_of(count as f64) as usize;
    for cell in (0..=count).step_by(tick.max(1)) {
        let unit = if cell == 0 { "cell " } else { "" };
        let _ = write!(
            out,
            "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"middle\">{unit}{cell}</text>",
            x(cell).min(right),
            top + PANEL + 16.0
        );
    }
    for (number, line) in series.iter().enumerate() {
        let colour = line.colour;
        if line.dots {
            for &(cell, value) in &line.values {
                let _ = write!(
                    out,
                    "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"1.6\" fill=\"{colour}\" fill-opacity=\"0.6\"/>",
                    x(cell),
                    y(value)
                );
            }
        } else {
            let points: Vec<String> = line
                .values
                .iter()
                .map(|&(cell, value)| format!("{:.1},{:.1}", x(cell), y(value)))
                .collect();
            let _ = write!(
                out,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>",
                points.join(" ")
            );
        }
        if series.len() > 1 {
            let _ = write!(
                out,
                "<text x=\"{}\" y=\"{:.0}\" fill=\"{colour}\">{}</text>",
                LEFT + 10.0,
                top + 16.0 + 16.0 * number as f64,
                line.name
            );
        }
    }
}

/// The distance of four to eight lines from 0 to a value: a round number, and at least 1.
fn step_of(highest: f64) -> f64 {
    let power = 10_f64.powf((highest / 4.0).max(1.0).log10().floor());
    let steps = [1.0, 2.0, 2.5, 5.0, 10.0].map(|step| step * power);
    steps
        .into_iter()
        .find(|step| highest / step <= 5.0)
        .unwrap_or(10.0 * power)
}
