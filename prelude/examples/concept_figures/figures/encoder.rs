//! The encoder: a picture becomes a list of vectors, one a patch and one for the whole.

use super::canvas::{Anchor, Canvas, Kind, Style, WIDTH};
use super::sizes::{Sizes, shape};

/// Picture → patches → vectors with places → layers → hidden states.
pub fn drawn(sizes: &Sizes) -> String {
    let mut canvas = Canvas::new(
        "The encoder: a picture is cut into patches, a matrix makes a vector of each, CLS stands in front, and layers let them look at each other.",
        408.0,
    );
    let (width, layers, tokens) = sizes.encoder;
    let grid = sizes.side / sizes.patch;
    let patches = grid * grid;
    let values = 3 * sizes.patch * sizes.patch;

    canvas.text(16.0, 28.0, Anchor::Left, Style::Name, "picture");
    canvas.picture(16.0, 38.0, 100.0, 1, 0.0);
    canvas.text(
        66.0,
        156.0,
        Anchor::Middle,
        Style::Shape,
        &shape(&[3, sizes.side, sizes.side]),
    );
    canvas.arrow(&[(122.0, 88.0), (172.0, 88.0)]);
    canvas.text(146.0, 80.0, Anchor::Middle, Style::Note, "cut");

    let name = format!("{patches} patches of {0} × {0} pixels", sizes.patch);
    canvas.text(180.0, 28.0, Anchor::Left, Style::Name, &name);
    canvas.picture(180.0, 38.0, 88.0, grid, 3.0);
    canvas.text(
        230.0,
        156.0,
        Anchor::Middle,
        Style::Note,
        "row by row: a list",
    );
    canvas.passes(286.0, 380.0, 88.0, &shape(&[patches, values]));

    let from_to = format!("{values} → {width}");
    canvas.weights(
        (386.0, 56.0, 120.0, 64.0),
        Kind::Frozen,
        "one matrix",
        &[&from_to],
    );
    canvas.arrow(&[(506.0, 88.0), (552.0, 88.0), (552.0, 176.0)]);
    canvas.text(
        560.0,
        130.0,
        Anchor::Left,
        Style::Shape,
        &shape(&[patches, width]),
    );

    strip(
        &mut canvas,
        184.0,
        tokens,
        "C: the class token (CLS), put in front. Each gets a vector for its place added.",
    );
    canvas.falls(540.0, 214.0, 256.0, &shape(&[tokens, width]));
    let name = format!("{layers} layers");
    let adapters = format!("LoRA on {}", sizes.encoder_lora);
    canvas.weights(
        (16.0, 260.0, WIDTH - 32.0, 52.0),
        Kind::Frozen,
        &name,
        &["in each: attention, all places look at each other; then an MLP, each by itself"],
    );
    canvas.rect((WIDTH - 176.0, 264.0, 154.0, 20.0), "trained");
    canvas.text(WIDTH - 99.0, 278.0, Anchor::Middle, Style::Note, &adapters);
    canvas.falls(540.0, 312.0, 340.0, &shape(&[tokens, width]));
    canvas.row(
        (16.0, 344.0, WIDTH - 32.0, 24.0),
        Kind::Image,
        tokens,
        "hidden states: what goes to the projector",
    );
    canvas.finish(&[Kind::Image, Kind::Frozen, Kind::Trained])
}

/// CLS and the patches, as numbered vectors.
fn strip(canvas: &mut Canvas, y: f64, tokens: usize, note: &str) {
    let each = (WIDTH - 32.0) / tokens as f64;
    canvas.row((16.0, y, WIDTH - 32.0, 24.0), Kind::Image, tokens, "");
    for place in 0..tokens {
        let x = 16.0 + each * (place as f64 + 0.5);
        let name = if place == 0 {
            "C".to_owned()
        } else {
            place.to_string()
        };
        canvas.text(x, y + 16.0, Anchor::Middle, Style::Chip, &name);
    }
    canvas.text(16.0, y + 40.0, Anchor::Left, Style::Note, note);
}
