//! Whatever doubles a plot, a map, a table or a strip is given: it becomes a picture or a typed error, in bounded time and size.

use std::time::{Duration, Instant};

use candle_core::{DType, Device, Tensor};
use proptest::prelude::*;

use super::heat::{self, Grid};
use super::*;
use crate::inspect::TokenLossMap;

/// What one drawing of a few values may take on a slow machine that is busy with other things.
const LONGEST: Duration = Duration::from_secs(20);
const LARGEST: usize = 2_000_000;

/// Doubles of every size and kind.
fn double() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => any::<u64>().prop_map(f64::from_bits),
        4 => -1e3..1e3,
        1 => (-700f64..700.0).prop_map(f64::exp),
        4 => prop::sample::select(vec![
            0.0, -0.0, 1.0, -1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, f64::MIN, 1e308, -1e308,
            f64::MIN_POSITIVE, f64::from_bits(1), -f64::from_bits(1), 1e16, 1e16 + 2.0, 3.4e38, -3.5e38, 1e-45,
        ]),
    ]
}

fn doubles() -> impl Strategy<Value = Vec<f64>> {
    prop_oneof![
        4 => prop::collection::vec(double(), 0..40),
        1 => (double(), 0..40_usize).prop_map(|(value, count)| vec![value; count]),
    ]
}

fn bounded(what: &str, draw: impl FnOnce() -> MimeBundle) {
    let begun = Instant::now();
    let bundle = draw();
    let took = begun.elapsed();
    assert!(took < LONGEST, "{what} took {took:?}");
    let size = bundle.plain().len() + bundle.html().map_or(0, str::len);
    assert!(size < LARGEST, "{what} has {size} bytes");
    assert!(!bundle.plain().is_empty(), "{what}");
}

/// Nothing that a browser can't place stands in a drawing.
fn is_drawn(figure: crate::Result<Figure>) {
    let figure = figure.expect("any doubles are drawn");
    let svg = figure.svg();
    assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
    for attribute in ["=\"NaN", "=\"inf", "=\"-inf", "NaN,", "inf,"] {
        assert!(!svg.contains(attribute), "{svg}");
    }
}

fn plots(points: &[(f64, f64)]) -> Vec<LinePlot> {
    let values: Vec<f32> = points.iter().map(|point| point.1 as f32).collect();
    let styles = [LineStyle::Solid, LineStyle::Faint, LineStyle::Marked];
    let styled = styles.map(|style| {
        LinePlot::new("styled")
            .axes("x", "y")
            .styled_line("line", points.to_vec(), style)
    });
    let mut plots = vec![LinePlot::new("values").values("v", &values)];
    plots.extend(styled.clone().map(LinePlot::log_y));
    plots.extend(styled);
    plots
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn line_plots_draw(xs in doubles(), ys in doubles()) {
        let points: Vec<(f64, f64)> = xs.into_iter().zip(ys).collect();
        for plot in plots(&points) {
            is_drawn(plot.figure());
            bounded("a line plot", || plot.render());
        }
    }

    #[test]
    fn live_plots_draw(losses in doubles(), steps in prop::collection::vec(any::<usize>(), 0..40)) {
        let plot = LivePlot::new("run", steps.first().copied().unwrap_or(7));
        for (place, loss) in losses.iter().enumerate() {
            plot.step(steps.get(place).copied().unwrap_or(place), *loss, usize::MAX);
            plot.validation(place, -*loss);
        }
        bounded("a live plot", || plot.render());
    }

    #[test]
    fn heat_maps_draw(values in doubles()) {
        let count = values.len();
        for dtype in [DType::F64, DType::F32, DType::F16] {
            let tensor = Tensor::from_vec(values.clone(), count, &Device::Cpu).and_then(|t| t.to_dtype(dtype));
            let tensor = tensor.expect("a tensor");
            bounded("a vector", || tensor.render());
            if count > 0 {
                let column = tensor.reshape((count, 1)).expect("a column");
                bounded("a matrix", || column.render());
            }
        }
        let small: Vec<f32> = values.iter().map(|value| *value as f32).collect();
        let grid = Grid::new(1, count, small.clone()).expect("it fits");
        for high in [0.0, f32::NAN, f32::from_bits(1), f32::MAX, f32::INFINITY] {
            let scales = [heat::Scale::of(&small), heat::Scale { low: -high, high }];
            for scale in scales {
                let picture = grid.shrunk(7).picture(scale, 3);
                assert!(count == 0 || picture.width() > 0);
            }
        }
    }

    #[test]
    fn tables_bars_and_strips_draw(values in doubles(), fraction in double()) {
        let mut table = Table::new(["double", "single", "share"]);
        for value in &values {
            table.push(vec![(*value).into(), (*value as f32).into(), Cell::figure(number::percent(*value))]);
        }
        bounded("a table", || table.render());
        let bar = html::bar(fraction, 100, 8, "red");
        assert!(bar.contains("%") && !bar.contains("NaN") && !bar.contains("inf"), "{bar}");

        let small: Vec<f32> = values.iter().map(|value| *value as f32).collect();
        let words = vec!["token"; small.len()];
        for kind in [SegmentKind::Image, SegmentKind::Prefix] {
            let strip = TokenStrip::new().segment(kind, words.clone(), small.clone());
            bounded("a strip", || strip.render());
        }
        let losses = TokenLossMap::new(words.iter().map(ToString::to_string)).row("row", small.clone());
        if let Ok(map) = losses {
            bounded("a loss map", || map.render());
        }
        if !small.is_empty() {
            let count = small.len();
            let logits = Tensor::from_vec(small, (1, count), &Device::Cpu).expect("a tensor");
            if let Ok(table) = NextTokenTable::from_logits(&logits, 5, Some(0), &|id| id.to_string()) {
                bounded("a table of next tokens", || table.render());
            }
        }
    }
}

#[test]
fn a_million_points_are_drawn_in_bounded_time() {
    let points = |height: &dyn Fn(f64) -> f64| -> Vec<(f64, f64)> {
        (0..1_000_000)
            .map(|place| (f64::from(place), height(f64::from(place))))
            .collect()
    };
    for points in [
        points(&|x| (x * 1e-3).sin() * 1e308),
        points(&|x| if x % 2.0 == 0.0 { f64::NAN } else { 1.0 }),
        points(&|x| (x * 1.4e-3 - 700.0).exp()),
    ] {
        let plot = LinePlot::new("long").line("a", points.clone()).log_y();
        bounded("a long line", || plot.render());
        let live = LivePlot::resumed("long", 1, &[], &[]);
        for (place, point) in points.iter().enumerate().step_by(100) {
            live.step(place, point.1, 1);
        }
        bounded("a long run", || live.render());
    }
}

#[test]
fn the_ranges_that_plotters_never_ended_on_are_drawn_to_scale() {
    let wide = LinePlot::new("wide").line("a", vec![(0.0, (-700f64).exp()), (1.0, 700f64.exp())]);
    let figure = wide.log_y().figure().expect("it is drawn");
    assert!(figure.svg().contains("1.00e200"), "{}", figure.svg());
    let tall = LinePlot::new("tall").line("a", vec![(0.0, 1e308), (0.5, 0.0), (1.0, -1e308)]);
    let figure = tall.figure().expect("it is drawn");
    assert!(figure.svg().contains("1.00e308"), "{}", figure.svg());
    assert!(
        tall.render().plain().starts_with(" 1.00e308 ┤"),
        "{}",
        tall.render().plain()
    );
}
