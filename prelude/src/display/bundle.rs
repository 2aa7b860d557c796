//! One value in several formats, so that every front end finds one that it can show.
//!
//! Plain text is always there. Pictures are base64 text, as the Jupyter protocol wants them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::html::{data_uri, escape};

/// A value as MIME type → content. `text/plain` is always present.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let bundle = MimeBundle::text("two thirds").with_html("<b>2/3</b>");
/// assert_eq!((bundle.plain(), bundle.html()), ("two thirds", Some("<b>2/3</b>")));
/// display(&bundle);
/// let picture = MimeBundle::text("a red square").with_png(&Image::filled(8, 8, [200, 30, 40])?.to_png()?);
/// assert!(picture.get("image/png").is_some());
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Clone, Default, PartialEq)]
pub struct MimeBundle {
    data: Map<String, Value>,
    metadata: Map<String, Value>,
    /// Its text is shown whole, however long it is.
    whole: bool,
}

impl MimeBundle {
    /// A bundle with only plain text.
    pub fn text(plain: impl Into<String>) -> Self {
        let mut data = Map::new();
        data.insert("text/plain".into(), Value::String(plain.into()));
        Self {
            data,
            metadata: Map::new(),
            whole: false,
        }
    }

    /// Adds HTML. It must be self-contained, and text in it must have gone through [`super::html::escape`].
    pub fn with_html(self, html: impl Into<String>) -> Self {
        self.with("text/html", Value::String(html.into()))
    }

    /// Adds an SVG document.
    pub fn with_svg(self, svg: impl Into<String>) -> Self {
        self.with("image/svg+xml", Value::String(svg.into()))
    }

    /// Adds the bytes of a PNG file.
    pub fn with_png(self, png: &[u8]) -> Self {
        self.with("image/png", Value::String(STANDARD.encode(png)))
    }

    /// Adds any other format.
    pub fn with(mut self, mime: &str, content: Value) -> Self {
        self.data.insert(mime.to_owned(), content);
        self
    }

    /// Adds metadata for one format, such as `{"image/png": {"width": 400}}`.
    pub fn with_metadata(mut self, mime: &str, metadata: Value) -> Self {
        self.metadata.insert(mime.to_owned(), metadata);
        self
    }

    /// The plain text.
    pub fn plain(&self) -> &str {
        self.get("text/plain").unwrap_or_default()
    }

    /// The HTML, if there is one.
    pub fn html(&self) -> Option<&str> {
        self.get("text/html")
    }

    /// The content of a format, if it is there and is text (pictures are base64 text).
    pub fn get(&self, mime: &str) -> Option<&str> {
        self.data.get(mime).and_then(Value::as_str)
    }

    /// The same, of which the text is shown whole where a value shows itself.
    pub(crate) fn whole(mut self) -> Self {
        self.whole = true;
        self
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.whole
    }

    /// Both bundles as one, `below` below this one, as text and HTML.
    pub(crate) fn above(&self, below: &MimeBundle) -> MimeBundle {
        let plain = format!("{}\n{}", self.plain(), below.plain());
        MimeBundle::text(plain).with_html(format!("{}{}", self.as_html(), below.as_html()))
    }

    /// The richest format that can stand in HTML, as HTML.
    pub(crate) fn as_html(&self) -> String {
        let inner = if let Some(html) = self.html() {
            html.to_owned()
        } else if let Some(png) = self.get("image/png") {
            format!("<img src=\"data:image/png;base64,{}\">", escape(png))
        } else if let Some(svg) = self.get("image/svg+xml") {
            let picture = data_uri("image/svg+xml", svg.as_bytes());
            format!("<img src=\"{picture}\">")
        } else {
            format!("<pre>{}</pre>", escape(self.plain()))
        };
        format!("<div>{inner}</div>")
    }

    /// All formats.
    pub fn data(&self) -> &Map<String, Value> {
        &self.data
    }

    /// Metadata by format.
    pub fn metadata(&self) -> &Map<String, Value> {
        &self.metadata
    }
}

impl From<MimeBundle> for glassbox_wire::Bundle {
    fn from(bundle: MimeBundle) -> Self {
        Self {
            data: bundle.data,
            metadata: bundle.metadata,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_display_keeps_the_first() {
        let both = MimeBundle::text("1 < 2").above(&MimeBundle::text("b").with_html("<b>b</b>"));
        assert_eq!(both.plain(), "1 < 2\nb");
        assert_eq!(
            both.html(),
            Some("<div><pre>1 &lt; 2</pre></div><div><b>b</b></div>")
        );
    }
}
