//! The cache: what is read in each round of generation, without and with it.

use super::canvas::{Anchor, Canvas, Kind, Style};
use super::sizes::{Sizes, count, shape};

/// Rounds that are drawn.
const ROUNDS: usize = 4;
/// Width of the prompt's block and of a word's, in pixels.
const PROMPT: f64 = 84.0;
const WORD: f64 = 38.0;

/// The prompt and the tokens made so far → the next token, round by round.
pub fn drawn(sizes: &Sizes) -> String {
    let mut canvas = Canvas::new(
        "The cache: without it each round reads the prompt and all tokens made so far, with it only the newest; keys and values of the others are kept.",
        318.0,
    );
    let prompt = sizes.prompt_tokens();
    let (mut again, mut once) = (0, 0);
    for (left, with_cache) in [(16.0, false), (336.0, true)] {
        let title = if with_cache {
            "with a cache"
        } else {
            "without a cache"
        };
        canvas.text(left, 26.0, Anchor::Left, Style::Name, title);
        for round in 0..ROUNDS {
            let y = 46.0 + 44.0 * round as f64;
            let kept = with_cache && round > 0;
            let at = (left, y, PROMPT, 22.0);
            if kept {
                canvas.rect(at, "kept");
                canvas.text(
                    left + PROMPT / 2.0,
                    y + 15.0,
                    Anchor::Middle,
                    Style::Note,
                    "kept",
                );
            } else {
                canvas.prompt(at, sizes.prompt);
            }
            for made in 0..round {
                let x = left + PROMPT + 3.0 + (WORD + 3.0) * made as f64;
                let word = sizes.caption[made].trim();
                if with_cache && made + 1 < round {
                    canvas.rect((x, y, WORD, 22.0), "kept");
                    canvas.text(x + WORD / 2.0, y + 15.0, Anchor::Middle, Style::Note, word);
                } else {
                    canvas.vectors((x, y, WORD, 22.0), Kind::Text, word);
                }
            }
            let x = left + PROMPT + 3.0 + (WORD + 3.0) * round as f64;
            canvas.arrow(&[(x, y + 11.0), (x + 18.0, y + 11.0)]);
            canvas.vectors(
                (x + 21.0, y, WORD, 22.0),
                Kind::Target,
                sizes.caption[round].trim(),
            );
            let read = if kept { 1 } else { prompt + round };
            *(if with_cache { &mut once } else { &mut again }) += read;
            let tokens = if read == 1 { "token" } else { "tokens" };
            let reads = format!("reads {read} {tokens} {}", shape(&[1, read, sizes.width]));
            canvas.text(left, y + 36.0, Anchor::Left, Style::Note, &reads);
        }
        let sum = if with_cache { once } else { again };
        let all = format!("{sum} tokens read for {ROUNDS} words");
        canvas.text(left, 236.0, Anchor::Left, Style::Name, &all);
    }
    let (layers, heads, each) = sizes.layers;
    let kept = heads * each;
    let bytes = 2 * layers * kept * sizes.bytes;
    let what = format!(
        "kept in each of {layers} layers: keys and values, {} each; {} bytes a token in all",
        shape(&[1, prompt + ROUNDS - 1, kept]),
        count(bytes)
    );
    canvas.text(16.0, 268.0, Anchor::Left, Style::Note, &what);
    canvas.finish(&[Kind::Image, Kind::Learned, Kind::Text, Kind::Target])
}
