//! The logit lens: what the language model would say next if it stopped after each layer.
//!
//! Every layer's hidden state goes through the final norm and the LM head, as if it were the last.

use candle_core::{D, DType, Device, Tensor};

use crate::display::heat;
use crate::display::html::{self, escape};
use crate::display::tokens::visible;
use crate::display::{Cell, MimeBundle, Render, Table, number};
use crate::error::{Error, Result};
use crate::language::Decoder;
use crate::session::check_interrupt;

/// The best token of one layer at one position.
#[derive(Clone, Debug, PartialEq)]
struct Guess {
    id: u32,
    text: String,
    probability: f64,
}

/// The best next token after every layer, for several positions.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let lens: LogitLens = caption_lens(&vlm, &Image::filled(64, 64, [200, 30, 40])?, "a red square")?;
/// let last = lens.best(lens.depth() - 1); // what the model says at each place
/// assert_eq!(lens.depth(), vlm.llm.layers.len() + 1); // the embeddings too
/// assert_eq!(lens.best(0).len(), last.len());
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Clone, PartialEq)]
pub struct LogitLens {
    /// What stands at each position: the token that was read there.
    positions: Vec<String>,
    /// From the embeddings to the last layer, a guess per position.
    layers: Vec<Vec<Guess>>,
}

impl LogitLens {
    /// Looks at `hidden_states` (the embeddings, then each layer's output before the final norm, `[1, T, D]` each) at
    /// the last positions, as many as there are `tokens`, the texts read there. `text` gives a token's text.
    ///
    /// # Errors
    /// [`Error::Input`] if there are no hidden states, more than one sequence, or more tokens than positions.
    pub fn of(
        llm: &Decoder,
        hidden_states: &[Tensor],
        tokens: &[String],
        text: &dyn Fn(u32) -> String,
    ) -> Result<Self> {
        if hidden_states.is_empty() {
            return Err(Error::Input(
                "there are no hidden states: ask for them with LlmInput::with_hidden_states".into(),
            ));
        }
        let mut layers = Vec::with_capacity(hidden_states.len());
        for hidden in hidden_states {
            check_interrupt()?;
            let (batch, length, _) = hidden.dims3()?;
            if batch != 1 || tokens.is_empty() || tokens.len() > length {
                return Err(Error::Input(format!(
                    "a logit lens looks at one sequence and at 1 to {length} of its last tokens, got {batch} sequences and {} tokens",
                    tokens.len()
                )));
            }
            let last = hidden
                .detach()
                .narrow(1, length - tokens.len(), tokens.len())?; // [1, N, D]
            let logits = llm.lm_head(&llm.norm.forward(&last)?)?; // [1, N, V]
            layers.push(guesses(&logits.squeeze(0)?, text)?);
        }
        Ok(Self {
            positions: tokens.to_vec(),
            layers,
        })
    }

    /// The ids of the best tokens after layer `layer` (0 = the embeddings), one per position.
    pub fn best(&self, layer: usize) -> Vec<u32> {
        self.layers
            .get(layer)
            .map(|guesses| guesses.iter().map(|guess| guess.id).collect())
            .unwrap_or_default()
    }

    /// Number of rows: layers and the embeddings.
    pub fn depth(&self) -> usize {
        self.layers.len()
    }
}

/// The best token of each row of `logits`, `[N, V]`.
fn guesses(logits: &Tensor, text: &dyn Fn(u32) -> String) -> Result<Vec<Guess>> {
    let logits = logits.to_device(&Device::Cpu)?.to_dtype(DType::F32)?; // [N, V]
    let probabilities = candle_nn::ops::softmax(&logits, D::Minus1)?; // [N, V]
    let best = logits.argmax(D::Minus1)?; // [N]
    let probability = probabilities
        .gather(&best.unsqueeze(1)?, 1)?
        .squeeze(1)?
        .to_vec1::<f32>()?;
    let ids = best.to_vec1::<u32>()?;
    let both = ids.into_iter().zip(probability);
    Ok(both
        .map(|(id, probability)| Guess {
            id,
            text: text(id),
            probability: probability.into(),
        })
        .collect())
}

fn layer_name(index: usize) -> String {
    if index == 0 {
        "embeddings".into()
    } else {
        format!("layer {index}")
    }
}

impl Render for LogitLens {
    fn render(&self) -> MimeBundle {
        let head = |text: &str| {
            format!(
                "<th style=\"padding:2px 6px;font-weight:400;text-align:center;font-family:{}\">{}</th>",
                html::MONO,
                escape(text)
            )
        };
        let mut markup = format!(
            "<div style=\"font-family:{};font-size:13px;overflow-x:auto\"><div><b>logit lens</b> · what each layer would say after each token</div>\
             <table style=\"border-collapse:collapse;table-layout:auto;margin:4px 0;font-size:12px\"><tbody><tr><th></th>",
            html::SANS
        );
        markup.extend(self.positions.iter().map(|token| head(&visible(token))));
        markup.push_str("</tr>");
        // The last layer on top, as the words rise through the model.
        for (index, guesses) in self.layers.iter().enumerate().rev() {
            markup.push_str(&format!(
                "<tr><td style=\"padding:2px 8px 2px 0;text-align:left;white-space:nowrap\">{}</td>",
                layer_name(index)
            ));
            for guess in guesses {
                let color = heat::diverging(guess.probability as f32, 1.0);
                markup.push_str(&format!(
                    "<td title=\"{} · id {}\" style=\"background-color:{};color:{};padding:3px 7px;text-align:center;font-family:{}\">{}</td>",
                    number::percent(guess.probability),
                    guess.id,
                    heat::css(color),
                    heat::text_on(color),
                    html::MONO,
                    escape(&visible(&guess.text))
                ));
            }
            markup.push_str("</tr>");
        }
        markup.push_str("</tbody></table><div style=\"font-size:11px;opacity:0.85\">the redder, the surer; point at a cell for its probability</div></div>");
        let mut table =
            Table::new(["layer"]).headings(self.positions.iter().map(|token| visible(token)));
        for (index, guesses) in self.layers.iter().enumerate().rev() {
            let cells = guesses.iter().map(|guess| {
                Cell::text(format!(
                    "{} {}",
                    visible(&guess.text),
                    number::percent(guess.probability)
                ))
            });
            table.push(
                [Cell::text(layer_name(index))]
                    .into_iter()
                    .chain(cells)
                    .collect(),
            );
        }
        MimeBundle::text(table.render().plain()).with_html(markup)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::language::{DecoderConfig, LlmInput};

    const CONFIG: &str = r#"{"model_type": "phi3", "vocab_size": 40, "hidden_size": 16, "intermediate_size": 32,
        "num_hidden_layers": 3, "num_attention_heads": 2}"#;

    #[test]
    fn the_last_layer_says_what_the_model_says() -> Result<()> {
        let config: DecoderConfig =
            serde_json::from_str(CONFIG).map_err(|error| Error::Config(error.to_string()))?;
        let llm = Decoder::new_random(&config, 7, &Device::Cpu)?;
        let ids = Tensor::new(&[[3u32, 9, 27, 1, 5]], &Device::Cpu)?;
        let output = llm.forward(&LlmInput::ids(&ids).with_hidden_states())?;
        let tokens = ["<x>".to_owned(), "b".to_owned()];
        let text = |id: u32| format!("<{id}>");
        let lens = LogitLens::of(&llm, &output.hidden_states, &tokens, &text)?;
        assert_eq!(lens.depth(), 4);
        let said = output
            .logits()?
            .squeeze(0)?
            .narrow(0, 3, 2)?
            .argmax(D::Minus1)?
            .to_vec1::<u32>()?;
        assert_eq!(lens.best(3), said);
        let bundle = lens.render();
        assert!(
            bundle.plain().contains("embeddings")
                && bundle.html().is_some_and(|html| !html.contains("<x>"))
        );
        assert!(LogitLens::of(&llm, &[], &tokens, &text).is_err());
        assert!(LogitLens::of(&llm, &output.hidden_states, &[], &text).is_err());
        Ok(())
    }
}
