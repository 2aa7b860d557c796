//! The token strip: what stands in the sequence that the language model reads, part by part.
//!
//! Words are single chips; the many tokens of a picture are one block whose cells are the tokens' norms, in the shape
//! of the patch grid when there is one.

use candle_core::{DType, Device, Tensor};

use super::heat::{self, Grid, Scale};
use super::html::{self, escape};
use super::{MimeBundle, Render, number};
use crate::error::{Error, Result};

/// What a part of the sequence is for.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let norms = vec![1.0, 1.2];
/// let strip = TokenStrip::new().segment(SegmentKind::Prefix, ["▁a", "▁red"], norms).segment(SegmentKind::Target, ["▁square"], vec![]);
/// assert!(strip.render().plain().starts_with("3 tokens: prefix 2 | target 1"));
/// assert_eq!(SegmentKind::Image.name(), "image");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentKind {
    /// `start_vec`: a picture begins.
    Start,
    /// The picture, as tokens.
    Image,
    /// `end_vec`: the picture is over.
    End,
    /// `query_vec`: the question or instruction.
    Query,
    /// The part of the caption that is given.
    Prefix,
    /// What is to be predicted.
    Target,
    /// Anything else, such as a chat template's words.
    Text,
}

impl SegmentKind {
    /// The word that the strip shows.
    pub fn name(self) -> &'static str {
        match self {
            SegmentKind::Start => "start",
            SegmentKind::Image => "image",
            SegmentKind::End => "end",
            SegmentKind::Query => "query",
            SegmentKind::Prefix => "prefix",
            SegmentKind::Target => "target",
            SegmentKind::Text => "text",
        }
    }

    /// A background on which white text reads, one per kind.
    fn color(self) -> &'static str {
        match self {
            SegmentKind::Start => "#6a3d9a",
            SegmentKind::Image => "#1f6fb2",
            SegmentKind::End => "#8e4585",
            SegmentKind::Query => "#a15c00",
            SegmentKind::Prefix => "#2e7d32",
            SegmentKind::Target => "#c62828",
            SegmentKind::Text => "#546e7a",
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Segment {
    kind: SegmentKind,
    tokens: Vec<String>,
    /// One per token, or empty.
    norms: Vec<f32>,
}

/// More tokens than this in one part become a block.
const MAX_CHIPS: usize = 48;

/// The sequence as coloured parts, with tokens and the norms of their vectors.
///
/// ```
/// use glassbox_prelude::display::{Render, SegmentKind, TokenStrip};
/// let strip = TokenStrip::new()
///     .segment(SegmentKind::Start, ["<|imstart|>"], vec![])
///     .segment(SegmentKind::Image, vec![""; 17], vec![])
///     .segment(SegmentKind::Prefix, ["▁a", "▁red"], vec![]);
/// assert_eq!(strip.len(), 20);
/// assert!(strip.render().plain().starts_with("20 tokens: start 1 | image 17 | prefix 2"));
/// ```
#[derive(Clone, Default, PartialEq)]
pub struct TokenStrip {
    title: String,
    segments: Vec<Segment>,
}

impl TokenStrip {
    /// An empty strip.
    pub fn new() -> Self {
        Self::default()
    }

    /// Text above the strip.
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = title.into();
        self
    }

    /// Adds a part: its tokens' texts (empty for the tokens of a picture) and the norms of their vectors, or none.
    pub fn segment<S: Into<String>>(
        mut self,
        kind: SegmentKind,
        tokens: impl IntoIterator<Item = S>,
        norms: Vec<f32>,
    ) -> Self {
        self.segments.push(Segment {
            kind,
            tokens: tokens.into_iter().map(Into::into).collect(),
            norms,
        });
        self
    }

    /// Adds a part with the norms of `embeddings`, `[T, D]` or `[1, T, D]`. Texts that are missing stay empty.
    ///
    /// # Errors
    /// [`Error::Input`] if `embeddings` has another rank or a batch of more than one.
    pub fn embedded<S: Into<String>>(
        self,
        kind: SegmentKind,
        tokens: impl IntoIterator<Item = S>,
        embeddings: &Tensor,
    ) -> Result<Self> {
        let norms = token_norms(embeddings)?;
        let mut tokens: Vec<String> = tokens.into_iter().map(Into::into).collect();
        tokens.resize(norms.len(), String::new());
        Ok(self.segment(kind, tokens, norms))
    }

    /// Number of tokens in all.
    pub fn len(&self) -> usize {
        self.segments
            .iter()
            .map(|segment| segment.tokens.len())
            .sum()
    }

    /// Whether there is no token.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn largest_norm(&self) -> f32 {
        let norms = self.segments.iter().flat_map(|segment| &segment.norms);
        norms
            .copied()
            .filter(|norm| norm.is_finite())
            .fold(0.0, f32::max)
    }
}

/// The length of each token's vector: `[T, D]` or `[1, T, D]` → T numbers.
///
/// # Errors
/// [`Error::Input`] if the tensor has another rank or a batch of more than one.
pub fn token_norms(embeddings: &Tensor) -> Result<Vec<f32>> {
    let embeddings = match embeddings.dims() {
        [_, _] => embeddings.clone(),
        [1, _, _] => embeddings.squeeze(0)?,
        other => {
            return Err(Error::Input(format!(
                "token vectors have shape [T, D] or [1, T, D], got {other:?}: take one of the batch, such as x.get(0)?"
            )));
        }
    }; // [T, D]
    let embeddings = embeddings
        .detach()
        .to_device(&Device::Cpu)?
        .to_dtype(DType::F32)?;
    Ok(embeddings.sqr()?.sum(1)?.sqrt()?.to_vec1()?) // [T]
}

/// A token's text with its spaces and line breaks made visible: `▁` and a leading space become `␣`.
pub fn visible(token: &str) -> String {
    if token.is_empty() {
        return "∅".into();
    }
    token
        .replace(['▁', ' '], "␣")
        .replace('\n', "⏎")
        .replace('\t', "⇥")
}

impl Segment {
    /// Whether the part is shown as one picture of norms instead of token by token.
    fn is_block(&self) -> bool {
        self.tokens.len() > MAX_CHIPS || (self.kind == SegmentKind::Image && self.tokens.len() > 1)
    }

    fn html(&self, largest: f32) -> String {
        let body = if self.is_block() {
            self.block_html()
        } else {
            self.chips_html(largest)
        };
        format!(
            "<div style=\"display:inline-block;vertical-align:top;margin:2px 3px 6px 0;border:1px solid {color};border-radius:4px;overflow:hidden\">\
             <div style=\"background-color:{color};color:#ffffff;font-size:11px;padding:1px 7px;white-space:nowrap\">{} · {}</div>\
             <div style=\"padding:3px 4px\">{body}</div></div>",
            self.kind.name(),
            number::count(self.tokens.len() as u64),
            color = self.kind.color(),
        )
    }

    fn chips_html(&self, largest: f32) -> String {
        let mut out = String::new();
        for (index, token) in self.tokens.iter().enumerate() {
            let norm = self.norms.get(index);
            let title = norm
                .map(|norm| format!("norm {}", number::float((*norm).into())))
                .unwrap_or_default();
            let bar = norm.map_or(String::new(), |norm| {
                html::bar(f64::from(norm / largest), 34, 4, self.kind.color())
            });
            out.push_str(&format!(
                "<div title=\"{}\" style=\"display:inline-block;vertical-align:top;text-align:center;margin:0 2px;line-height:1.25\">\
                 <code style=\"font-family:{};font-size:12px;padding:0 2px;white-space:pre\">{}</code><br>{bar}\
                 <div style=\"font-size:10px;opacity:0.8\">{}</div></div>",
                escape(&title),
                html::MONO,
                escape(&visible(token)),
                norm.map(|norm| number::float((*norm).into())).unwrap_or_default(),
            ));
        }
        out
    }

    /// Many tokens as one picture of norms: the first token alone, then a square grid, if the number fits one.
    fn block_html(&self) -> String {
        let number_of = self.tokens.len();
        if self.norms.len() != number_of {
            return format!(
                "<span style=\"font-size:12px\">{} vectors</span>",
                number::count(number_of as u64)
            );
        }
        let (side, class) = patch_grid(number_of);
        let (columns, values) = match side {
            Some(side) => (side, &self.norms[usize::from(class)..]),
            None => (number_of.min(48), self.norms.as_slice()),
        };
        let finite = self.norms.iter().filter(|norm| norm.is_finite());
        let (low, high) = finite.fold((f32::INFINITY, 0_f32), |(low, high), norm| {
            (low.min(*norm), high.max(*norm))
        });
        // Norms lie close together: the palest colour is the smallest of them, not zero.
        let mut values = values.to_vec();
        let rows = values.len().div_ceil(columns.max(1));
        values.resize(rows * columns, low);
        let cell = (112 / columns.max(1)).clamp(3, 12) as u32;
        let picture = Grid {
            rows,
            columns,
            values,
        }
        .picture(Scale { low, high }, cell);
        let class = if class && side.is_some() {
            // Of a picture it stands for the whole (CLS); of a molecule it is the first atom.
            format!("first token {} · ", number::float(self.norms[0].into()))
        } else {
            String::new()
        };
        format!(
            "{}<div style=\"font-size:10px;opacity:0.8\">{class}norms {} to {}</div>",
            html::image(
                "image/png",
                &heat::png(&picture),
                picture.width(),
                "norms of the tokens"
            ),
            number::float(low.into()),
            number::float(high.into()),
        )
    }
}

/// The side of the square patch grid that `tokens` form, and whether a class token comes first.
pub fn patch_grid(tokens: usize) -> (Option<usize>, bool) {
    let root = |number: usize| {
        let side = number.isqrt();
        (side > 1 && side * side == number).then_some(side)
    };
    match (root(tokens), tokens.checked_sub(1).and_then(root)) {
        (Some(side), _) => (Some(side), false),
        (None, Some(side)) => (Some(side), true),
        (None, None) => (None, false),
    }
}

impl Render for TokenStrip {
    fn render(&self) -> MimeBundle {
        let parts: Vec<String> = self
            .segments
            .iter()
            .map(|segment| format!("{} {}", segment.kind.name(), segment.tokens.len()))
            .collect();
        let mut plain = format!(
            "{} tokens: {}",
            number::count(self.len() as u64),
            parts.join(" | ")
        );
        for segment in self.segments.iter().filter(|segment| !segment.is_block()) {
            let tokens: Vec<String> = segment.tokens.iter().map(|token| visible(token)).collect();
            plain.push_str(&format!(
                "\n{:>7}: {}",
                segment.kind.name(),
                tokens.join(" ")
            ));
        }
        let largest = self.largest_norm();
        let title = if self.title.is_empty() {
            String::new()
        } else {
            format!("{} · ", self.title)
        };
        let markup = format!(
            "<div style=\"font-family:{};font-size:13px\"><div style=\"margin:2px 0\">{}{} tokens</div>{}</div>",
            html::SANS,
            escape(&title),
            number::count(self.len() as u64),
            self.segments
                .iter()
                .map(|segment| segment.html(largest))
                .collect::<String>(),
        );
        MimeBundle::text(plain).with_html(markup)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn norms_come_from_vectors() -> Result<()> {
        let vectors = Tensor::new(&[[3f32, 4.0], [0.0, 1.0]], &Device::Cpu)?;
        assert_eq!(token_norms(&vectors)?, [5.0, 1.0]);
        assert_eq!(
            token_norms(&vectors.unsqueeze(0)?.to_dtype(DType::BF16)?)?,
            [5.0, 1.0]
        );
        assert!(token_norms(&vectors.get(0)?).is_err());
        let strip = TokenStrip::new().embedded(SegmentKind::Query, ["<s>"], &vectors)?;
        let bundle = strip.render();
        let html = bundle.html().unwrap_or_default();
        assert!(
            html.contains("&lt;s&gt;") && !html.contains("<s>") && html.contains("norm 5"),
            "{html}"
        );
        assert_eq!(bundle.plain(), "2 tokens: query 2\n  query: <s> ∅");
        Ok(())
    }

    #[test]
    fn patch_grids_are_recognised() {
        assert_eq!(
            [197, 196, 50, 2, 7].map(patch_grid),
            [
                (Some(14), true),
                (Some(14), false),
                (Some(7), true),
                (None, false),
                (None, false)
            ]
        );
    }

    #[test]
    fn pictures_become_blocks_and_odd_norms_do_not_break_them() {
        for norms in [vec![], vec![1.0; 197], vec![f32::NAN; 197]] {
            let strip = TokenStrip::new().segment(SegmentKind::Image, vec![""; 197], norms);
            assert!(
                strip
                    .render()
                    .html()
                    .is_some_and(|html| html.contains("image · 197"))
            );
        }
        assert!(TokenStrip::new().render().plain().starts_with("0 tokens"));
    }
}
