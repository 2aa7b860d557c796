//! How the parts of displays, errors, and values of the crates underneath show themselves.

use super::bundle::MimeBundle;
use super::facts::{debug_by_first_line, shown_by_fields};
use super::progress::ProgressIter;
use super::{
    Cell, DisplayHandle, Facts, Figure, GridItem, Histogram, ImageGrid, LinePlot, LineStyle,
    ModelPart, ModelTable, NextToken, NextTokenTable, Render, Scale, SegmentKind, Table,
    TensorView, TokenStrip, number,
};
use crate::bench::Benchmark;
use crate::hub::{CachedModel, DownloadProgress, HubError, HubOptions, Token};
use crate::inspect::{
    EmbeddingPca, Expected, GradientLedger, LayerSpectrum, LedgerEntry, LedgerState, LogitLens,
    LoraSpectrum, PatchHeat, StageTrace, TokenLossMap,
};
use crate::variables::Variables;
use crate::vision::Image;
use crate::{Error, cell};

debug_by_first_line!(
    MimeBundle,
    GridItem,
    ImageGrid,
    ModelTable,
    NextTokenTable,
    Figure,
    LinePlot,
    Histogram,
    Table,
    TensorView,
    TokenStrip,
    GradientLedger,
    LogitLens,
    PatchHeat,
    EmbeddingPca,
    LoraSpectrum,
    LayerSpectrum,
    TokenLossMap,
    StageTrace,
    Benchmark,
    Variables,
);

shown_by_fields!(
    ModelPart,
    NextToken,
    LineStyle,
    Scale,
    SegmentKind,
    LedgerEntry,
    LedgerState,
    Expected,
    crate::lora::TaskType,
    CachedModel,
    DownloadProgress,
    HubOptions,
    Token,
);

impl Render for GridItem {
    fn render(&self) -> MimeBundle {
        ImageGrid::new(vec![self.clone()]).render()
    }

    fn render_all(items: &[&Self]) -> MimeBundle {
        ImageGrid::new(items.iter().map(|item| (*item).clone()).collect()).render()
    }
}

impl Render for Cell {
    fn render(&self) -> MimeBundle {
        MimeBundle::text(self.plain()).with_html(self.markup())
    }
}

impl Render for DisplayHandle {
    fn render(&self) -> MimeBundle {
        Facts::new("DisplayHandle: a display that can be replaced")
            .hint("call `.update(&value)` to replace what it shows")
            .render()
    }
}

impl<I> Render for ProgressIter<I> {
    fn render(&self) -> MimeBundle {
        Facts::new("ProgressIter: an iterator that shows how far it has come")
            .hint("`for item in …` runs through it")
            .render()
    }
}

/// An error that is a value: its message with those of its causes.
macro_rules! errors {
    ($($type:ty),+) => {$(
        impl Render for $type {
            fn render(&self) -> MimeBundle {
                MimeBundle::text(cell::error_text(self))
            }
        }
    )+};
}
errors!(Error, HubError, candle_core::Error);

/// Pictures of the `image` crate.
macro_rules! pictures {
    ($($type:ty => $rgb:expr),+ $(,)?) => {$(
        impl Render for $type {
            fn render(&self) -> MimeBundle {
                let rgb: fn(&$type) -> image::RgbImage = $rgb;
                picture(rgb(self))
            }
        }
    )+};
}
pictures!(
    image::RgbImage => |image| image.clone(),
    image::RgbaImage => |image| image::DynamicImage::from(image.clone()).to_rgb8(),
    image::GrayImage => |image| image::DynamicImage::from(image.clone()).to_rgb8(),
    image::DynamicImage => image::DynamicImage::to_rgb8,
);

fn picture(rgb: image::RgbImage) -> MimeBundle {
    let (width, height) = rgb.dimensions();
    match Image::from_rgb(rgb) {
        Ok(image) => image.render(),
        Err(_) => MimeBundle::text(format!("a picture of {width} × {height} pixels")),
    }
}

impl Render for tokenizers::Tokenizer {
    fn render(&self) -> MimeBundle {
        let added = self.get_added_tokens_decoder().len();
        Facts::new("Tokenizer")
            .fact("entries", number::count(self.get_vocab_size(true) as u64))
            .fact("of them added", added)
            .hint("`.encode(text, true)?` gives an encoding with ids and tokens")
            .render()
    }
}

impl Render for tokenizers::Encoding {
    fn render(&self) -> MimeBundle {
        let mut table = Table::new(["token", "id", "text"]).title(format!(
            "Encoding of {} tokens",
            number::count(self.len() as u64)
        ));
        let each = self
            .get_tokens()
            .iter()
            .zip(self.get_ids())
            .zip(self.get_offsets());
        for ((token, id), (start, end)) in each {
            table.push(vec![
                Cell::code(token.as_str()),
                Cell::figure(id.to_string()),
                Cell::figure(format!("{start}–{end}")),
            ]);
        }
        table.render()
    }
}
