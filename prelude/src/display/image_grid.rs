//! Pictures side by side with what was said of them: prediction, reference, and what is right.

use image::RgbImage;
use image::imageops::FilterType;

use super::heat;
use super::html::{self, escape};
use super::{MimeBundle, Render};
use crate::vision::Image;

/// Pixels that the longer side of a picture has in the grid: small ones are enlarged without blur.
const SMALLEST: u32 = 160;
const LARGEST: u32 = 256;
/// Pictures that a grid shows, and those that it tells of in text.
const MAX_ITEMS: usize = 64;
const MAX_TEXTS: usize = 12;

/// One picture of an [`ImageGrid`] and the text beneath it.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let image = Image::filled(64, 64, [200, 30, 40])?;
/// let item = GridItem::new(&image).title("7").prediction("a red circle").reference("a red square").mark("colour", true).mark("shape", false);
/// let grid = ImageGrid::new(vec![item]);
/// assert!(grid.render().plain().contains("a red circle"));
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Clone, PartialEq)]
pub struct GridItem {
    picture: Image,
    title: String,
    lines: Vec<(String, String)>,
    marks: Vec<(String, bool)>,
}

impl GridItem {
    /// A picture without text.
    pub fn new(picture: &Image) -> Self {
        Self {
            picture: picture.clone(),
            title: String::new(),
            lines: Vec::new(),
            marks: Vec::new(),
        }
    }

    /// Text in bold right beneath the picture.
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = title.into();
        self
    }

    /// What the model said.
    pub fn prediction(self, text: impl Into<String>) -> Self {
        self.line("prediction", text)
    }

    /// What is right.
    pub fn reference(self, text: impl Into<String>) -> Self {
        self.line("reference", text)
    }

    /// A line of text with its name.
    pub fn line(mut self, name: impl Into<String>, text: impl Into<String>) -> Self {
        self.lines.push((name.into(), text.into()));
        self
    }

    /// Says of an attribute, such as the colour, whether it is right: `✓` on green or `✗` on red.
    pub fn mark(mut self, attribute: impl Into<String>, right: bool) -> Self {
        self.marks.push((attribute.into(), right));
        self
    }

    fn html(&self) -> String {
        let picture = fitted(self.picture.rgb());
        let alternative = self
            .lines
            .first()
            .map_or(self.title.as_str(), |(_, text)| text);
        let image = html::image(
            "image/png",
            &heat::png(&picture),
            picture.width(),
            alternative,
        );
        let title = if self.title.is_empty() {
            String::new()
        } else {
            format!(
                "<div style=\"font-weight:600\">{}</div>",
                escape(&self.title)
            )
        };
        let lines: String = self
            .lines
            .iter()
            .map(|(name, text)| {
                format!(
                    "<div style=\"margin-top:2px\"><span style=\"font-size:10px;opacity:0.75\">{}</span><br>{}</div>",
                    escape(name),
                    escape(text)
                )
            })
            .collect();
        let marks: String = self
            .marks
            .iter()
            .map(|(name, right)| mark_html(name, *right))
            .collect();
        // Text may use the width of a small picture's enlarged self at least, or it would be a column of single words.
        format!(
            "<div style=\"display:inline-block;vertical-align:top;width:{}px;margin:0 12px 14px 0;font-size:12px;line-height:1.3;overflow-wrap:break-word\">\
             {image}{title}{lines}<div style=\"margin-top:3px\">{marks}</div></div>",
            picture.width().max(SMALLEST),
        )
    }

    fn plain(&self) -> String {
        let mut parts = Vec::new();
        if !self.title.is_empty() {
            parts.push(self.title.clone());
        }
        parts.extend(
            self.lines
                .iter()
                .map(|(name, text)| format!("{name}: {text}")),
        );
        let marks: Vec<String> = self
            .marks
            .iter()
            .map(|(name, right)| format!("{} {name}", sign(*right)))
            .collect();
        if !marks.is_empty() {
            parts.push(marks.join("  "));
        }
        format!("[{}]\n  {}", self.picture, parts.join("\n  "))
    }
}

fn sign(right: bool) -> &'static str {
    if right { "✓" } else { "✗" }
}

fn mark_html(name: &str, right: bool) -> String {
    html::chip(
        &format!("{} {name}", sign(right)),
        if right { html::GREEN } else { html::RED },
        "#ffffff",
    )
}

/// Pictures with text beneath them, as many in a row as the page is wide.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let shapes = Shapes::new(ShapesConfig::default())?;
/// let items = (0..4).map(|index| {
///     let sample = shapes.sample(Split::Train, index)?;
///     Ok(GridItem::new(&sample.image).title(sample.captions[0].clone()))
/// });
/// let grid = ImageGrid::new(items.collect::<Result<_>>()?).title("drawn shapes");
/// assert!(grid.render().html().is_some_and(|html| html.matches("<img").count() == 4));
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Clone, Default, PartialEq)]
pub struct ImageGrid {
    title: String,
    items: Vec<GridItem>,
}

impl ImageGrid {
    /// A grid of these pictures.
    pub fn new(items: Vec<GridItem>) -> Self {
        Self {
            title: String::new(),
            items,
        }
    }

    /// Text above the grid.
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = title.into();
        self
    }

    /// Adds a picture.
    pub fn push(&mut self, item: GridItem) {
        self.items.push(item);
    }
}

impl Render for ImageGrid {
    fn render(&self) -> MimeBundle {
        let shown = &self.items[..self.items.len().min(MAX_ITEMS)];
        let hidden = self.items.len() - shown.len();
        let more = if hidden == 0 {
            String::new()
        } else {
            format!("… and {hidden} more pictures")
        };
        let title = if self.title.is_empty() {
            String::new()
        } else {
            format!(
                "<div style=\"font-weight:600;margin:4px 0 8px 0\">{}</div>",
                escape(&self.title)
            )
        };
        let markup = format!(
            "<div style=\"font-family:{}\">{title}{}<div>{more}</div></div>",
            html::SANS,
            shown.iter().map(GridItem::html).collect::<String>(),
        );
        let mut plain: Vec<String> = Vec::new();
        plain.extend((!self.title.is_empty()).then(|| self.title.clone()));
        plain.extend(shown.iter().take(MAX_TEXTS).map(GridItem::plain));
        let hidden = self.items.len().saturating_sub(MAX_TEXTS);
        plain.extend((hidden > 0).then(|| format!("… and {hidden} more pictures")));
        MimeBundle::text(plain.join("\n")).with_html(markup)
    }
}

/// Pictures side by side, each above its size.
pub(crate) fn pictures(pictures: &[&Image]) -> MimeBundle {
    let items = pictures
        .iter()
        .map(|picture| GridItem::new(picture).title(picture.to_string()));
    ImageGrid::new(items.collect()).render()
}

/// The picture with its longer side between [`SMALLEST`] and [`LARGEST`] pixels, except for extreme shapes.
///
/// Small pictures grow by a whole factor, so that every pixel becomes a sharp square.
pub(crate) fn fitted(picture: &RgbImage) -> RgbImage {
    let longer = picture.width().max(picture.height()).max(1);
    if longer > LARGEST {
        let scaled =
            |side: u32| (u64::from(side) * u64::from(LARGEST) / u64::from(longer)).max(1) as u32;
        image::imageops::resize(
            picture,
            scaled(picture.width()),
            scaled(picture.height()),
            FilterType::Triangle,
        )
    } else {
        let factor = SMALLEST.div_ceil(longer);
        image::imageops::resize(
            picture,
            picture.width() * factor,
            picture.height() * factor,
            FilterType::Nearest,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_enlarged_crisply_or_shrunk() {
        for (side, expected) in [
            ((32, 16), (160, 80)),
            ((48, 48), (192, 192)),
            ((200, 200), (200, 200)),
            ((1024, 4), (256, 1)),
        ] {
            let picture = fitted(&RgbImage::from_pixel(side.0, side.1, image::Rgb([9, 9, 9])));
            assert_eq!(picture.dimensions(), expected, "{side:?}");
        }
    }

    #[test]
    fn marks_have_signs_and_text_is_escaped() -> crate::Result<()> {
        let picture = Image::filled(16, 16, [200, 30, 30])?;
        let item = GridItem::new(&picture)
            .title("<t>")
            .prediction("<b>red</b>")
            .reference("blue")
            .mark("colour", false);
        let bundle = ImageGrid::new(vec![item.mark("shape", true)])
            .title("held out")
            .render();
        let html = bundle.html().unwrap_or_default();
        assert!(
            html.contains("✗ colour") && html.contains("✓ shape") && html.contains("&lt;b&gt;red")
        );
        assert!(!html.contains("<b>") && !html.contains("<t>"));
        assert!(
            bundle
                .plain()
                .ends_with("prediction: <b>red</b>\n  reference: blue\n  ✗ colour  ✓ shape")
        );
        Ok(())
    }

    #[test]
    fn a_grid_is_capped() -> crate::Result<()> {
        let pictures = vec![Image::filled(4, 4, [0, 0, 0])?; 70];
        let bundle = pictures.render();
        assert!(bundle.plain().ends_with("… and 58 more pictures"));
        assert!(
            bundle
                .html()
                .is_some_and(|html| html.contains("… and 6 more pictures"))
        );
        assert!(ImageGrid::default().render().html().is_some());
        Ok(())
    }
}
