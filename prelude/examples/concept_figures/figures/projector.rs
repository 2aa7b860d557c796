//! The projector: two matrices and a bend bring each vector of the encoder to the width of a word's.

use super::canvas::{Anchor, Canvas, Kind, Style};
use super::sizes::{Sizes, count, shape};

/// Hidden states → fc1 → GELU → fc2 → image tokens, beside a row of the embedding table.
pub fn drawn(sizes: &Sizes) -> String {
    let mut canvas = Canvas::new(
        "The projector: fc1, GELU and fc2 bring each vector of the encoder to the width of a word's vector.",
        262.0,
    );
    let [(middle, from), (to, inner)] = sizes.projector;
    let tokens = sizes.encoder.2;
    let y = 112.0;
    let bar = |canvas: &mut Canvas, x: f64, values: usize, kind| {
        let h = values as f64;
        canvas.vectors((x, y - h / 2.0, 16.0, h), kind, "");
    };
    canvas.text(
        16.0,
        28.0,
        Anchor::Left,
        Style::Name,
        "one vector of the encoder",
    );
    bar(&mut canvas, 20.0, from, Kind::Image);
    canvas.passes(42.0, 114.0, y, &shape(&[tokens, from]));
    let one = format!("{from} → {middle}");
    canvas.weights((118.0, y - 32.0, 78.0, 64.0), Kind::Trained, "fc1", &[&one]);
    canvas.passes(196.0, 274.0, y, &shape(&[tokens, middle]));

    canvas.rect((278.0, y - 32.0, 78.0, 64.0), "kept");
    canvas.path(
        &format!("M286 {}H348M317 {}V{}", y + 16.0, y - 12.0, y + 24.0),
        "hair",
    );
    canvas.path(&bend(317.0, y + 16.0, 28.0), "edge");
    canvas.text(317.0, y - 16.0, Anchor::Middle, Style::Name, "GELU");
    canvas.passes(356.0, 434.0, y, &shape(&[tokens, inner]));
    let two = format!("{inner} → {to}");
    canvas.weights((438.0, y - 32.0, 78.0, 64.0), Kind::Trained, "fc2", &[&two]);
    canvas.passes(516.0, 594.0, y, &shape(&[tokens, to]));
    bar(&mut canvas, 600.0, to, Kind::Image);
    canvas.text(624.0, 28.0, Anchor::Right, Style::Name, "an image token");

    let row = 204.0;
    let word = to as f64;
    canvas.vectors((624.0 - word, row - 8.0, word, 16.0), Kind::Text, "");
    let table = format!(
        "as long as a word's row in the embedding table {}:",
        shape(&[sizes.vocabulary, sizes.width])
    );
    canvas.text(618.0 - word, row + 4.5, Anchor::Right, Style::Note, &table);
    let all = format!("{} values, the same for all", count(sizes.projector_values));
    canvas.text(317.0, y + 56.0, Anchor::Middle, Style::Note, &all);
    canvas.finish(&[Kind::Image, Kind::Text, Kind::Trained])
}

/// GELU from −3 to 1.7 around (x, y), `scale` pixels to 3; by the formula with tanh, which is near enough for a drawing.
fn bend(x: f64, y: f64, scale: f64) -> String {
    let point = |at: f64| {
        let inner = (2.0 / std::f64::consts::PI).sqrt() * (at + 0.044_715 * at.powi(3));
        let value = 0.5 * at * (1.0 + inner.tanh());
        format!("{:.1} {:.1}", x + at * scale / 3.0, y - value * scale / 3.0)
    };
    let points: Vec<String> = (-12..=12)
        .map(|step| point(f64::from(step) / 4.0))
        .collect();
    format!("M{}", points.join("L"))
}
