//! Which part of which activation an edit is about.

use std::fmt;

/// Places that a message lists.
const SHOWN: usize = 12;

/// A named activation, or a part of it: some heads, tokens (an encoder's are its positions), rows of the batch. `*` in the name stands
/// for anything. Text becomes one: `"llm/hidden_states[3]"`.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let site = Site::new("llm/layers[3]/heads").head(2).tokens([0, 5]);
/// assert_eq!(site.to_string(), "llm/layers[3]/heads, head 2, tokens 0, 5");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    pub(super) name: String,
    pub(super) heads: Option<Vec<usize>>,
    pub(super) tokens: Tokens,
    /// Of attention weights.
    pub(super) keys: Option<Vec<usize>>,
    pub(super) rows: Option<Vec<usize>>,
}

/// Places along the tokens of a sequence, counted from its beginning, also with a cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Tokens {
    All,
    From(usize),
    At(Vec<usize>),
}

impl Site {
    /// All of the activation of this name.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            heads: None,
            tokens: Tokens::All,
            keys: None,
            rows: None,
        }
    }

    /// What enters layer `layer` of a part (`"llm"`, `"image_encoder"`), `[B, T, D]`; behind the last layer, what the final norm reads.
    pub fn hidden_states(part: &str, layer: usize) -> Self {
        Self::new(format!("{part}/hidden_states[{layer}]"))
    }

    /// What the heads of a layer have put together, before the output projection mixes them, `[B, T, H·d]`.
    pub fn heads(part: &str, layer: usize) -> Self {
        Self::new(format!("{part}/layers[{layer}]/heads"))
    }

    /// The queries of a layer's attention, before positions turn them, `[B, T, H·d]`.
    pub fn queries(part: &str, layer: usize) -> Self {
        Self::new(format!("{part}/layers[{layer}]/queries"))
    }

    /// The keys of a layer's attention, before positions turn them, `[B, T, K·d]`: heads are those of the keys, which several heads of
    /// queries may share.
    pub fn keys(part: &str, layer: usize) -> Self {
        Self::new(format!("{part}/layers[{layer}]/keys"))
    }

    /// The values of a layer's attention, `[B, T, K·d]`, with heads as [`Site::keys`] has.
    pub fn values(part: &str, layer: usize) -> Self {
        Self::new(format!("{part}/layers[{layer}]/values"))
    }

    /// What a layer's attention weighs the values with, behind the softmax, `[B, H, Tq, Tk]`: tokens are those that look
    /// ([`Site::token`]), keys those that are looked at ([`Site::at_keys`]). Changed weights are used as they are, whatever their sum.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let vlm = Vlm::tiny(&Device::Cpu)?;
    /// let prompt = vlm.caption_prompt(&Image::filled(64, 64, [200, 30, 40])?, "a red square")?;
    /// // The last layer must not look at the first five tokens.
    /// let blind = Edits::new().zero(Site::attention_weights("llm", 1).at_keys(0..5));
    /// let loss = blind.run(|| vlm.full_sequence_loss_of(&prompt))?;
    /// # assert!(loss.value()?.is_finite());
    /// # Ok(()) }
    /// ```
    pub fn attention_weights(part: &str, layer: usize) -> Self {
        Self::new(format!("{part}/layers[{layer}]/attention_weights"))
    }

    /// What the attention of a layer adds to the residual stream, `[B, T, D]`.
    pub fn attention(part: &str, layer: usize) -> Self {
        Self::new(format!("{part}/layers[{layer}]/attention"))
    }

    /// What the MLP of a layer adds to the residual stream, `[B, T, D]`.
    pub fn mlp(part: &str, layer: usize) -> Self {
        Self::new(format!("{part}/layers[{layer}]/mlp"))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// One head of it.
    pub fn head(self, head: usize) -> Self {
        self.some_heads([head])
    }

    /// These heads of it.
    pub fn some_heads(mut self, heads: impl IntoIterator<Item = usize>) -> Self {
        self.heads = Some(sorted(heads));
        self
    }

    /// One token of it, counted from the beginning of the sequence; of an encoder, one position (class token and its kind first).
    pub fn token(self, token: usize) -> Self {
        self.tokens([token])
    }

    /// These tokens of it: a list, or a range such as `4..20`.
    pub fn tokens(mut self, tokens: impl IntoIterator<Item = usize>) -> Self {
        self.tokens = Tokens::At(sorted(tokens));
        self
    }

    /// All tokens from this one on, those still to be generated included.
    pub fn tokens_from(mut self, token: usize) -> Self {
        self.tokens = Tokens::From(token);
        self
    }

    /// Of attention weights those to these keys, counted from the beginning of the sequence: a list, or a range.
    pub fn at_keys(mut self, keys: impl IntoIterator<Item = usize>) -> Self {
        self.keys = Some(sorted(keys));
        self
    }

    /// One sequence of a batch; several pictures pass an encoder as such a batch.
    pub fn row(mut self, row: usize) -> Self {
        self.rows = Some(vec![row]);
        self
    }
}

fn sorted(places: impl IntoIterator<Item = usize>) -> Vec<usize> {
    let mut places: Vec<usize> = places.into_iter().collect();
    places.sort_unstable();
    places.dedup();
    places
}

impl From<&str> for Site {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

impl From<String> for Site {
    fn from(name: String) -> Self {
        Self::new(name)
    }
}

impl From<&Site> for Site {
    fn from(site: &Site) -> Self {
        site.clone()
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if let Some(heads) = &self.heads {
            write!(f, ", {}", numbered("head", heads))?;
        }
        match &self.tokens {
            Tokens::All => {}
            Tokens::From(token) => write!(f, ", tokens from {token} on")?,
            Tokens::At(tokens) => write!(f, ", {}", numbered("token", tokens))?,
        }
        if let Some(keys) = &self.keys {
            write!(f, ", {}", numbered("key", keys))?;
        }
        match &self.rows {
            Some(rows) => write!(f, ", {}", numbered("row", rows)),
            None => Ok(()),
        }
    }
}

/// `token 3`, `tokens 0, 5`, `tokens 4–19`
pub(super) fn numbered(what: &str, places: &[usize]) -> String {
    match places {
        [] => format!("no {what}"),
        [only] => format!("{what} {only}"),
        [first, .., last] if places.len() > 2 && last - first + 1 == places.len() => {
            format!("{what}s {first}–{last}")
        }
        _ => {
            let mut list: Vec<String> =
                places.iter().take(SHOWN).map(ToString::to_string).collect();
            if places.len() > SHOWN {
                list.push(format!("… ({} in all)", places.len()));
            }
            format!("{what}s {}", list.join(", "))
        }
    }
}
