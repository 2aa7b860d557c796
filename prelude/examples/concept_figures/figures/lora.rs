//! LoRA: a frozen matrix and, beside it, two thin ones that train. Heights and widths are to scale.

use super::canvas::{Anchor, Canvas, Kind, Style};
use super::sizes::{Sizes, count, shape};

/// Pixels for each row or column of a matrix.
const SCALE: f64 = 0.36;

/// x → W x + s · B A x.
pub fn drawn(sizes: &Sizes) -> String {
    let mut canvas = Canvas::new(
        "LoRA: the frozen matrix W and, beside it, the thin matrices A and B, whose product is scaled and added.",
        392.0,
    );
    let (name, out, inner) = &sizes.layer;
    let (r, factor) = sizes.lora;
    let long = |values: usize| values as f64 * SCALE;
    let thin = long(r);
    let (upper, lower, between) = (116.0, 266.0, 190.0);
    let rows = |width: usize| format!("[T, {width}]");

    let title = format!("{name}, with LoRA of rank {r}");
    canvas.text(16.0, 26.0, Anchor::Left, Style::Name, &title);
    canvas.text(16.0, between + 4.5, Anchor::Left, Style::Name, "x");
    canvas.text(
        26.0,
        between + 4.5,
        Anchor::Left,
        Style::Shape,
        &rows(*inner),
    );
    canvas.arrow(&[
        (94.0, between),
        (112.0, between),
        (112.0, upper),
        (246.0, upper),
    ]);
    canvas.arrow(&[(112.0, between), (112.0, lower), (154.0, lower)]);

    // The frozen way.
    let (left, top) = (250.0, upper - long(*out) / 2.0);
    canvas.vectors((left, top, long(*inner), long(*out)), Kind::Frozen, "");
    let middle = left + long(*inner) / 2.0;
    canvas.text(middle, upper + 4.5, Anchor::Middle, Style::Name, "W");
    canvas.text(
        left - 8.0,
        top + 12.0,
        Anchor::Right,
        Style::Shape,
        &shape(&[*out, *inner]),
    );
    canvas.text(
        left - 8.0,
        top + 28.0,
        Anchor::Right,
        Style::Note,
        &format!("{} values", count(out * inner)),
    );
    let right = left + long(*inner);
    canvas.arrow(&[(right, upper), (532.0, upper), (532.0, between - 13.0)]);
    canvas.text(
        480.0,
        upper - 7.0,
        Anchor::Middle,
        Style::Shape,
        &rows(*out),
    );

    // The way that trains.
    let (left, wide) = (158.0, long(*inner));
    canvas.rect((left, lower - thin / 2.0, wide, thin), "trained");
    canvas.text(left, lower - 12.0, Anchor::Left, Style::Name, "A");
    canvas.text(
        left + 14.0,
        lower - 12.0,
        Anchor::Left,
        Style::Shape,
        &shape(&[r, *inner]),
    );
    canvas.text(
        left,
        lower + 24.0,
        Anchor::Left,
        Style::Note,
        "begins at random",
    );
    canvas.passes(left + wide + 3.0, 330.0, lower, &rows(r));
    canvas.rect(
        (334.0, lower - long(*out) / 2.0, thin, long(*out)),
        "trained",
    );
    canvas.text(
        350.0,
        lower - long(*out) / 2.0 + 12.0,
        Anchor::Left,
        Style::Name,
        "B",
    );
    canvas.text(
        364.0,
        lower - long(*out) / 2.0 + 12.0,
        Anchor::Left,
        Style::Shape,
        &shape(&[*out, r]),
    );
    canvas.text(
        350.0,
        lower + long(*out) / 2.0 - 4.0,
        Anchor::Left,
        Style::Note,
        "begins at zero: at first, nothing is added",
    );
    canvas.arrow(&[(334.0 + thin + 3.0, lower), (426.0, lower)]);
    canvas.text(
        386.0,
        lower - 7.0,
        Anchor::Middle,
        Style::Shape,
        &rows(*out),
    );
    canvas.rect((430.0, lower - 17.0, 82.0, 34.0), "kept");
    let scale = format!("× {factor}");
    canvas.text(471.0, lower - 2.0, Anchor::Middle, Style::Name, &scale);
    canvas.text(
        471.0,
        lower + 12.0,
        Anchor::Middle,
        Style::Note,
        "alpha / r",
    );
    canvas.arrow(&[(512.0, lower), (532.0, lower), (532.0, between + 13.0)]);

    canvas.path(
        &format!(
            "M521 {between}a11 11 0 1 0 22 0a11 11 0 1 0 -22 0M526 {between}h12M532 {}v12",
            between - 6.0
        ),
        "way",
    );
    canvas.arrow(&[(544.0, between), (566.0, between)]);
    canvas.text(572.0, between - 4.0, Anchor::Left, Style::Name, "y");
    canvas.text(
        572.0,
        between + 12.0,
        Anchor::Left,
        Style::Shape,
        &rows(*out),
    );
    let trained = r * (out + inner);
    let share = 100.0 * trained as f64 / (out * inner) as f64;
    let both = [
        "A and B together:".to_owned(),
        format!("{} values, {share:.1}% of W's", count(trained)),
    ];
    for (below, line) in both.iter().enumerate() {
        let y = lower + 44.0 + 16.0 * below as f64;
        canvas.text(left, y, Anchor::Left, Style::Note, line);
    }
    canvas.finish(&[Kind::Frozen, Kind::Trained])
}
