//! How much of an input that may be no picture each written token takes in: attention on atoms, peaks, people, patches.

use crate::display::Scale;
use crate::display::{MimeBundle, Render};
use crate::error::{Error, Result};
use crate::inspect::drawn::input_places;
use crate::inspect::patches::mean_over_heads;
use crate::inspect::prompt::looked_at;
use crate::vlm::{Vlm, VlmInput};

/// More tokens are named and not drawn.
const DRAWN: usize = 6;

/// For each token of a caption its attention, in the language model's last layer, on each position of the input.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let found: InputAttention = input_attention(&vlm, &Image::filled(64, 64, [200, 30, 40])?, "a red square")?;
/// assert_eq!(found.weights.len(), found.tokens.len()); // a row for each token of the caption
/// assert_eq!(found.weights[0].len(), found.positions.len());
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Clone)]
pub struct InputAttention {
    /// The caption's tokens.
    pub tokens: Vec<String>,
    /// What stands at each position of the input.
    pub positions: Vec<String>,
    /// Attention of each token on each position, mean over heads: `[tokens][positions]`. A row sums to what is not spent on other tokens.
    pub weights: Vec<Vec<f32>>,
    drawings: Vec<MimeBundle>,
}

/// How much of the input each token of `caption` takes in directly, drawn by the model's own encoder.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let image = Image::filled(64, 64, [200, 30, 40])?;
/// let found = input_attention(&vlm, &image, "a red square")?;
/// let share: f32 = found.weights[0].iter().sum(); // of the first token's attention, spent on the input
/// assert!(share > 0.0 && share <= 1.0 + 1e-5);
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
///
/// # Errors
/// For an empty caption, and when the projector puts positions together, so that attention on its tokens is on no position of the input.
pub fn input_attention(vlm: &Vlm, input: &dyn VlmInput, caption: &str) -> Result<InputAttention> {
    let prepared = input.prepare(vlm)?;
    let positions = vlm.image_encoder.position_names(&prepared)?;
    let prompt = vlm.caption_prompt(&prepared, caption)?;
    let sequence = vlm.sequence(std::slice::from_ref(&prompt))?;
    let (places, tokens) = looked_at(&sequence)?;
    let output = vlm.llm.forward(&sequence.input().with_attentions())?;
    let last = output.attentions.last();
    let last = last.ok_or_else(|| {
        Error::Input("the language model has no layer whose attention could be shown".into())
    })?;
    let attention = mean_over_heads(last)?; // [T, T]
    let inputs = input_places(&sequence);
    let range = inputs
        .first()
        .filter(|range| range.len() == positions.len());
    let Some(range) = range else {
        return Err(Error::Input(format!(
            "the encoder gives {} positions, the projector {:?} makes other tokens of them: nothing to draw on the input",
            positions.len(),
            vlm.projector.config.kind
        )));
    };
    let (mut weights, mut titles) = (Vec::new(), Vec::new());
    for (place, token) in places.iter().zip(&tokens) {
        let row = attention.get(*place as usize)?; // [T]
        let row = row.narrow(0, range.start, range.len())?.to_vec1::<f32>()?; // [P]
        if titles.len() < DRAWN {
            let share = 100.0 * row.iter().sum::<f32>();
            let title = format!(
                "“{}” · {share:.0}% on the input",
                token.replace('▁', " ").trim()
            );
            titles.push(title);
        }
        weights.push(row);
    }
    // One scale for all words, from nothing to the most that any looks at one position: a word that hardly looks is pale.
    let most = weights.iter().take(DRAWN).flatten().copied();
    let scale = Scale {
        low: 0.0,
        high: most.fold(0.0, f32::max),
    };
    let drawings = titles.iter().zip(&weights).map(|(title, row)| {
        let encoder = &vlm.image_encoder;
        encoder.render_positions_on(&prepared, title, row, scale)
    });
    let drawings = drawings.collect::<Result<Vec<_>>>()?;
    Ok(InputAttention {
        tokens,
        positions,
        weights,
        drawings,
    })
}

impl Render for InputAttention {
    fn render(&self) -> MimeBundle {
        let hidden = self.tokens.len().saturating_sub(self.drawings.len());
        let more = match hidden {
            0 => String::new(),
            _ => format!("\n… and {hidden} more tokens: `.weights` has them"),
        };
        let start = MimeBundle::text(format!(
            "attention of {} tokens on {} positions of the input, last layer, mean over heads{more}",
            self.tokens.len(),
            self.positions.len()
        ));
        self.drawings
            .iter()
            .fold(start, |all, drawing| all.above(drawing))
    }
}

impl std::fmt::Debug for InputAttention {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "InputAttention of {} tokens on {} positions",
            self.tokens.len(),
            self.positions.len()
        )
    }
}
