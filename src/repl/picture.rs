//! Pictures in a terminal: by its own protocol where it says that it has one (kitty, iTerm2), else as coloured half blocks.
//!
//! `image/png` and `image/jpeg` of a display, or the pictures inside its HTML → decoded → [`viuer`].

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::{DynamicImage, ImageReader, Limits};

use crate::session::Display;

/// No more pictures of one display than this.
const MOST: usize = 4;
/// Columns of a picture at most.
const WIDEST: usize = 80;
/// A picture with more bytes or pixels a side than this is not for a terminal.
const MAX_BYTES: usize = 32 << 20;
const MAX_SIDE: u32 = 16_384;
/// What stands before a picture inside of HTML.
const INLINE: [&str; 2] = ["data:image/png;base64,", "data:image/jpeg;base64,"];

/// The pictures of a display, decoded; those that cannot be are left out.
pub fn pictures(display: &Display) -> Vec<DynamicImage> {
    let text = |mime: &str| display.data.get(mime).and_then(serde_json::Value::as_str);
    if let Some(own) = text("image/png").or_else(|| text("image/jpeg")) {
        return decode(own).into_iter().collect();
    }
    let html = text("text/html").unwrap_or_default();
    inline(html).take(MOST).filter_map(decode).collect()
}

/// The base64 text of each picture in HTML, in order.
fn inline(html: &str) -> impl Iterator<Item = &str> {
    let mut rest = html;
    std::iter::from_fn(move || {
        let (at, mark) = INLINE
            .iter()
            .filter_map(|mark| Some((rest.find(mark)?, mark)))
            .min()?;
        let data = &rest[at + mark.len()..];
        let end = data.find(['"', '\'', ')', '<']).unwrap_or(data.len());
        rest = &data[end..];
        Some(&data[..end])
    })
}

fn decode(base64: &str) -> Option<DynamicImage> {
    if base64.len() > MAX_BYTES {
        return None;
    }
    // Jupyter allows line breaks in base64.
    let compact: String = base64.split_whitespace().collect();
    let bytes = STANDARD.decode(compact).ok()?;
    let mut reader = ImageReader::new(std::io::Cursor::new(bytes))
        .with_guessed_format()
        .ok()?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    reader.limits(limits);
    reader.decode().ok()
}

/// Prints a picture at the cursor of a terminal with so many columns and rows; false if that failed.
pub fn print(picture: &DynamicImage, columns: usize, rows: usize) -> bool {
    let (width, height) = fitted(picture.width(), picture.height(), columns, rows);
    let config = viuer::Config {
        absolute_offset: false,
        transparent: true,
        width: Some(width),
        height: Some(height),
        truecolor: truecolor(),
        use_kitty: kitty(),
        ..viuer::Config::default()
    };
    viuer::print(picture, &config).is_ok()
}

/// Columns and rows for a picture: a cell is twice as high as wide, small pictures are not blown up beyond their pixels, and
/// half of the screen stays free for the text around it.
fn fitted(width: u32, height: u32, columns: usize, rows: usize) -> (u32, u32) {
    let widest = columns.saturating_sub(1).clamp(1, WIDEST) as f64;
    let highest = (rows / 2).max(4) as f64;
    let (width, height) = (f64::from(width.max(1)), f64::from(height.max(1)));
    let scale = (widest / width).min(2.0 * highest / height).min(1.0);
    let columns = (width * scale).round().max(1.0);
    let rows = (height * scale / 2.0).round().max(1.0);
    (columns as u32, rows as u32)
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

fn truecolor() -> bool {
    ["truecolor", "24bit"].contains(&variable("COLORTERM").as_str()) || kitty()
}

/// Whether the terminal says that it speaks kitty's protocol. It is not asked: one that does not answer would be waited for.
fn kitty() -> bool {
    !variable("KITTY_WINDOW_ID").is_empty()
        || ["xterm-kitty", "xterm-ghostty"].contains(&variable("TERM").as_str())
        || ["WezTerm", "ghostty"].contains(&variable("TERM_PROGRAM").as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture of 3 × 2 pixels as base64 of a PNG file.
    fn png() -> String {
        let mut bytes = std::io::Cursor::new(Vec::new());
        DynamicImage::new_rgb8(3, 2)
            .write_to(&mut bytes, image::ImageFormat::Png)
            .unwrap();
        STANDARD.encode(bytes.into_inner())
    }

    fn display(mime: &str, text: String) -> Display {
        let mut display = Display::text("a picture");
        display.data.insert(mime.to_owned(), text.into());
        display
    }

    #[test]
    fn pictures_are_found_on_their_own_and_inside_html() {
        let png_text = png();
        let (first, second) = png_text.split_at(20);
        let broken = display("image/png", format!("{first}\n{second}"));
        assert_eq!(pictures(&broken).len(), 1);
        let image = format!("<img src=\"data:image/png;base64,{}\">", png());
        let page = display("text/html", format!("<div>{image}<p>x</p>{image}</div>"));
        let found = pictures(&page);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].width(), found[0].height()), (3, 2));
        let many = display("text/html", image.repeat(9));
        assert_eq!(pictures(&many).len(), MOST);
    }

    #[test]
    fn what_is_no_picture_is_left_out() {
        for text in ["", "????", "aGVsbG8="] {
            assert!(pictures(&display("image/png", text.to_owned())).is_empty());
        }
        assert!(pictures(&Display::text("x")).is_empty());
    }

    #[test]
    fn pictures_fit_the_screen_and_keep_their_shape() {
        assert_eq!(fitted(80, 80, 100, 50), (50, 25));
        assert_eq!(fitted(16, 16, 100, 50), (16, 8));
        assert_eq!(fitted(4000, 1000, 61, 50), (60, 8));
        assert_eq!(fitted(1, 5000, 100, 24).0, 1);
    }
}
