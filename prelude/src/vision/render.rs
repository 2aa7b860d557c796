//! How a picture shows itself: its pixels as a PNG with the size as text, small pictures enlarged without blur.

use serde_json::json;

use super::Image;
use crate::display::html::data_uri;
use crate::display::html::escape;
use crate::display::{MimeBundle, Render};

/// Small pictures are enlarged to this many CSS pixels, large ones shrunk to the second.
const SHOWN_WIDTH: (u32, u32) = (224, 512);

impl Image {
    /// An `<img>` that holds the picture itself, `width` CSS pixels wide.
    pub fn to_html(&self, width: u32) -> String {
        let Ok(png) = self.to_png() else {
            return escape(&self.to_string());
        };
        format!(
            "<img src=\"{}\" alt=\"{}\" width=\"{width}\" \
             style=\"max-width:100%;height:auto;display:block;image-rendering:pixelated\">",
            data_uri("image/png", &png),
            escape(&self.to_string()),
        )
    }

    /// Width that the picture is shown at by itself, in CSS pixels.
    pub(crate) fn shown_width(&self) -> u32 {
        self.width().clamp(SHOWN_WIDTH.0, SHOWN_WIDTH.1)
    }
}

impl Render for Image {
    fn render(&self) -> MimeBundle {
        let width = self.shown_width();
        let bundle = MimeBundle::text(self.to_string()).with_html(self.to_html(width));
        match self.to_png() {
            Ok(png) => bundle
                .with_png(&png)
                .with_metadata("image/png", json!({ "width": width })),
            Err(_) => bundle,
        }
    }

    fn render_all(pictures: &[&Self]) -> MimeBundle {
        crate::display::image_grid::pictures(pictures)
    }
}
