//! The loss: one forward pass asks at every place for the next token, and two ways to use the answers.

use super::canvas::{Anchor, Canvas, Kind, Style, WIDTH};
use super::sizes::{Sizes, shape};

/// The place that the random prefix has drawn.
const DRAWN: usize = 2;

/// Prompt and caption → scores at every place → one loss, or the mean of all.
pub fn drawn(sizes: &Sizes) -> String {
    let mut canvas = Canvas::new(
        "The loss: at each place of the caption the language model is asked for the next token. The random prefix uses one place, the full sequence all of them.",
        352.0,
    );
    let asked = sizes.caption.len();
    let tokens = sizes.prompt_tokens() + asked - 1;
    let first = 124.0; // the prompt, whose last token is asked for the first word
    let each = (WIDTH - 32.0 - first) / (asked - 1) as f64;
    let middle = |place: usize| match place {
        0 => 16.0 + first - 26.0,
        _ => 16.0 + first + each * (place as f64 - 0.5) - 2.0,
    };

    canvas.text(16.0, 26.0, Anchor::Left, Style::Name, "read");
    canvas.prompt((16.0, 36.0, first - 4.0, 26.0), sizes.prompt);
    for place in 1..asked {
        let at = (middle(place) - each / 2.0 + 2.0, 36.0, each - 4.0, 26.0);
        canvas.vectors(at, Kind::Text, sizes.caption[place - 1].trim());
    }
    canvas.falls(middle(3), 62.0, 88.0, &shape(&[1, tokens, sizes.width]));
    canvas.weights(
        (16.0, 92.0, WIDTH - 32.0, 48.0),
        Kind::Frozen,
        "language model",
        &["each place sees only what stands left of it: no answer is seen before it is asked for"],
    );
    for place in 0..asked {
        canvas.arrow(&[(middle(place), 140.0), (middle(place), 180.0)]);
        let at = (middle(place) - 27.0, 184.0, 54.0, 26.0);
        canvas.vectors(at, Kind::Target, sizes.caption[place].trim());
    }
    canvas.text(
        16.0,
        166.0,
        Anchor::Left,
        Style::Shape,
        &shape(&[asked, sizes.vocabulary]),
    );
    canvas.text(16.0, 201.0, Anchor::Left, Style::Name, "asked");

    row(&mut canvas, 246.0, asked, &middle, Some(DRAWN));
    canvas.text(16.0, 240.0, Anchor::Left, Style::Name, "random");
    canvas.text(16.0, 256.0, Anchor::Left, Style::Name, "prefix");
    let words = format!("the post: place {DRAWN} was drawn; what stands behind it is not read");
    canvas.text(WIDTH - 16.0, 272.0, Anchor::Right, Style::Note, &words);
    row(&mut canvas, 294.0, asked, &middle, None);
    canvas.text(16.0, 290.0, Anchor::Left, Style::Name, "full");
    canvas.text(16.0, 306.0, Anchor::Left, Style::Name, "sequence");
    let words = format!("the mean of {asked} losses");
    canvas.text(WIDTH - 16.0, 320.0, Anchor::Right, Style::Note, &words);
    canvas.finish(&[
        Kind::Image,
        Kind::Learned,
        Kind::Text,
        Kind::Target,
        Kind::Frozen,
    ])
}

/// Which places carry loss: filled where they do.
fn row(
    canvas: &mut Canvas,
    y: f64,
    asked: usize,
    middle: &dyn Fn(usize) -> f64,
    only: Option<usize>,
) {
    for place in 0..asked {
        let used = only.is_none_or(|only| only == place);
        let class = if used { "target" } else { "kept" };
        canvas.rect((middle(place) - 9.0, y - 9.0, 18.0, 18.0), class);
    }
}
