//! Few-shot prompts: who sees whom where pictures and words stand in turn, under three rules. The masks are a model's own.

use std::ops::Range;

use super::canvas::{Anchor, Canvas, Kind, Style};
use super::sizes::Sizes;

/// Side of a mask in pixels, without its margins.
const SIDE: f64 = 182.0;

/// An interleaved sequence → the masks of the rules.
pub fn drawn(sizes: &Sizes) -> String {
    let mut canvas = Canvas::new(
        "Few-shot prompts: which tokens see which under plain causal attention, Flamingo's rule and prefix attention.",
        358.0,
    );
    let kinds: Vec<Kind> = sizes
        .shots
        .iter()
        .flat_map(|(picture, count)| {
            let kind = if *picture { Kind::Image } else { Kind::Text };
            vec![kind; *count]
        })
        .collect();
    let cell = SIDE / kinds.len() as f64;

    let explained = [
        ["a token sees itself", "and all before it"],
        [
            "of the pictures only the last",
            "that has begun; of words all",
        ],
        ["as causal, and a picture's", "tokens all see each other"],
    ];
    for (at, ((name, mask), lines)) in sizes.masks.iter().zip(explained).enumerate() {
        let (left, top) = (16.0 + 208.0 * at as f64, 66.0);
        canvas.text(left + 10.0, 26.0, Anchor::Left, Style::Name, name);
        for (place, kind) in kinds.iter().enumerate() {
            let along = cell * place as f64;
            canvas.vectors(
                (left + 10.0 + along, top - 12.0, cell - 1.0, 8.0),
                *kind,
                "",
            );
            canvas.vectors((left - 2.0, top + along, 8.0, cell - 1.0), *kind, "");
        }
        let mut place = 0;
        for (number, (picture, count)) in sizes.shots.iter().enumerate() {
            if *picture {
                let x = left + 10.0 + cell * (place as f64 + *count as f64 / 2.0);
                let name = (number / 2 + 1).to_string();
                canvas.text(x, top - 16.0, Anchor::Middle, Style::Note, &name);
            }
            place += count;
        }
        canvas.rect((left + 10.0, top, SIDE, SIDE), "unseen");
        for (i, row) in mask.iter().enumerate() {
            for run in runs(row, &kinds) {
                let (x, y) = (left + 10.0 + cell * run.start as f64, top + cell * i as f64);
                canvas.vectors((x, y, cell * run.len() as f64, cell), kinds[run.start], "");
            }
        }
        let lines_between = 1..kinds.len();
        let grid: String = lines_between
            .map(|place| {
                let along = cell * place as f64;
                format!(
                    "M{} {top}v{SIDE}M{} {}h{SIDE}",
                    left + 10.0 + along,
                    left + 10.0,
                    top + along
                )
            })
            .collect();
        canvas.path(&grid, "gap");
        for (below, line) in lines.iter().enumerate() {
            let y = top + SIDE + 18.0 + 16.0 * below as f64;
            canvas.text(left + 10.0, y, Anchor::Left, Style::Note, line);
        }
    }
    let read = [
        "Three pictures, each with words behind it; the last word is the one that asks.",
        "A row is a token that looks, a column one that is looked at: coloured where it is seen.",
    ];
    for (below, line) in read.iter().enumerate() {
        let y = 308.0 + 16.0 * below as f64;
        canvas.text(16.0, y, Anchor::Left, Style::Note, line);
    }
    canvas.finish(&[Kind::Image, Kind::Text])
}

/// The places that a row sees, as ranges of one kind.
fn runs(row: &[bool], kinds: &[Kind]) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for place in (0..row.len()).filter(|&place| row[place]) {
        match runs.last_mut() {
            Some(run) if run.end == place && kinds[run.start] == kinds[place] => run.end += 1,
            _ => runs.push(place..place + 1),
        }
    }
    runs
}
