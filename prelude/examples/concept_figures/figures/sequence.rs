//! The sequence: picture, learned vectors and words side by side, as the language model reads them.

use super::canvas::{Anchor, Canvas, Kind, Style, WIDTH};
use super::sizes::{Sizes, shape};

/// Tokens of the caption that have been said.
const SAID: usize = 4;

/// Picture and words → one sequence → language model → scores of the next token.
pub fn drawn(sizes: &Sizes) -> String {
    let mut canvas = Canvas::new(
        "The sequence: start vector, image tokens, end vector, query vector and the caption so far stand side by side, and the language model gives scores for the next token.",
        392.0,
    );
    let [start, image, end, query] = sizes.prompt;
    let tokens = sizes.prompt_tokens() + SAID;
    let each = (WIDTH - 32.0) / tokens as f64;
    let y = 146.0;
    let parts = [
        (start, Kind::Learned, "start"),
        (image, Kind::Image, "image tokens"),
        (end, Kind::Learned, ""),
        (query, Kind::Learned, "query"),
        (SAID, Kind::Text, "caption"),
    ];
    let mut x = 16.0;
    let mut middles = Vec::new();
    for (count, kind, name) in parts {
        let wide = each * count as f64;
        canvas.row((x, y, wide - 2.0, 30.0), kind, count, name);
        middles.push(x + wide / 2.0 - 1.0);
        x += wide;
    }

    // Above the sequence: where its parts come from.
    let pixels = shape(&[3, sizes.side, sizes.side]);
    canvas.picture(16.0, 24.0, 64.0, 1, 0.0);
    canvas.passes(84.0, 172.0, 56.0, &pixels);
    canvas.weights((176.0, 30.0, 72.0, 52.0), Kind::Frozen, "encoder", &[]);
    canvas.passes(248.0, 326.0, 56.0, &shape(&[image, sizes.encoder.0]));
    canvas.weights((330.0, 30.0, 80.0, 52.0), Kind::Trained, "projector", &[]);
    canvas.falls(370.0, 82.0, y - 4.0, &shape(&[image, sizes.width]));
    let said = format!("“{}”", sizes.caption[..SAID].concat().trim());
    canvas.text(624.0, 22.0, Anchor::Right, Style::Note, &said);
    canvas.weights(
        (468.0, 30.0, 156.0, 52.0),
        Kind::Frozen,
        "embedding table",
        &["a row for each id"],
    );
    canvas.arrow(&[(middles[4], 82.0), (middles[4], y - 4.0)]);
    let words = shape(&[SAID, sizes.width]);
    canvas.text(middles[4] - 8.0, 117.0, Anchor::Right, Style::Shape, &words);

    // Below it: the names and sizes of the learned vectors, and the model.
    let named = |count: usize| shape(&[count, sizes.width]);
    canvas.text(16.0, y + 48.0, Anchor::Left, Style::Shape, &named(start));
    canvas.text(
        middles[2] + 6.0,
        y + 48.0,
        Anchor::Right,
        Style::Shape,
        &format!("end {}", named(end)),
    );
    canvas.text(
        middles[3],
        y + 48.0,
        Anchor::Middle,
        Style::Shape,
        &named(query),
    );
    let together = shape(&[1, tokens, sizes.width]);
    canvas.falls(220.0, y + 34.0, y + 88.0, &together);
    canvas.weights(
        (16.0, y + 92.0, WIDTH - 32.0, 52.0),
        Kind::Frozen,
        "language model",
        &["each token sees itself and what stands left of it"],
    );
    canvas.rect((WIDTH - 164.0, y + 97.0, 142.0, 20.0), "trained");
    canvas.text(
        WIDTH - 93.0,
        y + 111.0,
        Anchor::Middle,
        Style::Note,
        "LoRA on all matrices",
    );
    canvas.falls(middles[4] + each * 1.5, y + 34.0, y + 92.0, "");
    let x = middles[4] + each * 1.5;
    canvas.arrow(&[(x, y + 144.0), (x, y + 168.0)]);
    canvas.text(
        x - 8.0,
        y + 162.0,
        Anchor::Right,
        Style::Shape,
        &shape(&[1, sizes.vocabulary]),
    );
    canvas.vectors(
        (574.0, y + 172.0, 50.0, 24.0),
        Kind::Target,
        sizes.caption[SAID].trim(),
    );
    canvas.text(
        566.0,
        y + 188.0,
        Anchor::Right,
        Style::Note,
        "scores behind the last token: which comes next?",
    );
    canvas.finish(&[
        Kind::Image,
        Kind::Learned,
        Kind::Text,
        Kind::Target,
        Kind::Frozen,
        Kind::Trained,
    ])
}
