//! Pictures in a terminal: by its own protocol where it says that it has one (kitty, iTerm2), else as coloured half blocks.
//!
//! `image/png` and `image/jpeg` of a display, or the pictures inside its HTML → decoded → [`viuer`].

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::{DynamicImage, ImageReader, Limits};

use crate::session::Display;

/// No more pictures of one display than this.
const MOST: usize = 12;
/// Columns of a picture at most.
const WIDEST: usize = 120;
/// Columns that a picture beside others needs to be made out.
const TILE: usize = 24;
/// Pixels that a cell is wide, half of them high, where a terminal shows pictures as they are.
const PIXELS: u32 = 8;
/// A picture that HTML shows this high or lower, in pixels, is a scale or a rule.
const STRIP: u32 = 16;
/// A picture with more bytes or pixels a side than this is not for a terminal.
const MAX_BYTES: usize = 32 << 20;
const MAX_SIDE: u32 = 16_384;
/// What stands before a picture inside of HTML.
const INLINE: [&str; 2] = ["data:image/png;base64,", "data:image/jpeg;base64,"];

/// A picture of a display.
pub struct Picture {
    image: DynamicImage,
    /// It is a scale or a rule: one row, however high the screen is.
    strip: bool,
}

/// The pictures of a display, decoded; those that cannot be are left out.
pub fn pictures(display: &Display) -> Vec<Picture> {
    let text = |mime: &str| display.data.get(mime).and_then(serde_json::Value::as_str);
    if let Some(own) = text("image/png").or_else(|| text("image/jpeg")) {
        let image = decode(own).into_iter();
        return image
            .map(|image| Picture {
                image,
                strip: false,
            })
            .collect();
    }
    let html = text("text/html").unwrap_or_default();
    let found = inline(html).filter_map(|(base64, strip)| {
        let image = decode(base64)?;
        Some(Picture { image, strip })
    });
    found.take(MOST).collect()
}

/// The base64 text of each picture in HTML, in order, and whether it is a strip.
fn inline(html: &str) -> impl Iterator<Item = (&str, bool)> {
    let mut rest = html;
    std::iter::from_fn(move || {
        let (at, mark) = INLINE
            .iter()
            .filter_map(|mark| Some((rest.find(mark)?, mark)))
            .min()?;
        let data = &rest[at + mark.len()..];
        let end = data.find(['"', '\'', ')', '<']).unwrap_or(data.len());
        rest = &data[end..];
        let element = &rest[..rest.find('>').unwrap_or(rest.len())];
        let height = element.split_once("height=\"").and_then(|(_, after)| {
            let (height, _) = after.split_once('"')?;
            height.parse::<u32>().ok()
        });
        Some((&data[..end], height.is_some_and(|height| height <= STRIP)))
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

/// Prints pictures at the cursor of a terminal with so many columns and rows: several of them beside each other, then the
/// strips.
pub fn print(pictures: &[Picture], columns: usize, rows: usize) {
    let (strips, images): (Vec<&Picture>, Vec<&Picture>) =
        pictures.iter().partition(|picture| picture.strip);
    let images: Vec<&DynamicImage> = images.iter().map(|picture| &picture.image).collect();
    match images.as_slice() {
        [] => {}
        [one] => print_sized(one, fitted(one.width(), one.height(), columns, rows)),
        several => {
            let layout = Sheet::new(several, columns, rows);
            let pixels = if kitty() || iterm() { PIXELS } else { 1 };
            print_sized(&layout.draw(several, pixels), layout.size());
        }
    }
    for strip in strips {
        let (width, _) = fitted(strip.image.width(), 2, columns.min(32), 1);
        print_sized(&strip.image, (width, 1));
    }
}

/// Pictures beside and below each other, measured in the terminal's columns and rows.
struct Sheet {
    in_a_row: u32,
    rows: u32,
    /// Columns and rows of each picture at most; one column and one row are between them.
    tile: (u32, u32),
}

impl Sheet {
    fn new(pictures: &[&DynamicImage], columns: usize, rows: usize) -> Sheet {
        let count = pictures.len().max(1);
        let in_a_row = (columns / TILE).clamp(1, count);
        let high = count.div_ceil(in_a_row);
        let largest = |side: fn(&DynamicImage) -> u32| {
            let sides = pictures.iter().map(|picture| side(picture));
            sides.max().unwrap_or(1)
        };
        let tile = fitted(
            largest(|picture| picture.width()),
            largest(|picture| picture.height()),
            columns / in_a_row,
            rows.saturating_sub(high) / high,
        );
        Sheet {
            in_a_row: u32::try_from(in_a_row).unwrap_or(1),
            rows: u32::try_from(high).unwrap_or(1),
            tile,
        }
    }

    /// Columns and rows of all.
    fn size(&self) -> (u32, u32) {
        let (wide, high) = self.tile;
        (self.in_a_row * (wide + 1) - 1, self.rows * (high + 1) - 1)
    }

    /// The pictures on one that is clear where there is none; a column has so many pixels, a row twice as many.
    fn draw(&self, pictures: &[&DynamicImage], pixels: u32) -> DynamicImage {
        let (columns, rows) = self.size();
        let mut sheet = DynamicImage::new_rgba8(columns * pixels, rows * 2 * pixels);
        let (wide, high) = (self.tile.0 * pixels, self.tile.1 * 2 * pixels);
        for (index, picture) in (0..).zip(pictures) {
            let tile = picture.thumbnail(wide, high);
            let x = index % self.in_a_row * (wide + pixels);
            let y = index / self.in_a_row * (high + 2 * pixels);
            image::imageops::overlay(&mut sheet, &tile, x.into(), y.into());
        }
        sheet
    }
}

/// Prints a picture on so many columns and rows. One that can't be printed is missing; its text is not.
fn print_sized(picture: &DynamicImage, (width, height): (u32, u32)) {
    let config = viuer::Config {
        absolute_offset: false,
        transparent: true,
        width: Some(width),
        height: Some(height),
        truecolor: truecolor(),
        use_kitty: kitty(),
        use_iterm: iterm(),
        ..viuer::Config::default()
    };
    let _ = viuer::print(picture, &config);
}

/// Columns and rows for a picture, at most those of the screen: a cell is twice as high as wide, and small pictures are not
/// blown up beyond their pixels.
fn fitted(width: u32, height: u32, columns: usize, rows: usize) -> (u32, u32) {
    let widest = columns.saturating_sub(1).clamp(1, WIDEST) as f64;
    let highest = rows.max(4) as f64;
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
    ["truecolor", "24bit"].contains(&variable("COLORTERM").as_str()) || says_kitty()
}

/// Whether the terminal says that it speaks kitty's protocol. It is not asked: one that does not answer would be waited for.
fn kitty() -> bool {
    !multiplexed() && says_kitty()
}

/// Whether the terminal speaks iTerm2's protocol.
fn iterm() -> bool {
    !multiplexed() && viuer::is_iterm_supported()
}

/// Whether tmux or screen is between us and the terminal: they don't pass pictures on, and the terminal's variables reach us.
fn multiplexed() -> bool {
    !variable("TMUX").is_empty()
        || ["tmux", "screen"]
            .iter()
            .any(|name| variable("TERM").starts_with(name))
}

fn says_kitty() -> bool {
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
        assert_eq!((found[0].image.width(), found[0].image.height()), (3, 2));
        let many = display("text/html", image.repeat(MOST + 1));
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
        assert_eq!(fitted(80, 80, 100, 25), (50, 25));
        assert_eq!(fitted(16, 16, 100, 25), (16, 8));
        assert_eq!(fitted(4000, 1000, 61, 25), (60, 8));
        assert_eq!(fitted(1, 5000, 100, 12).0, 1);
    }

    #[test]
    fn a_low_picture_in_html_is_a_strip() {
        let image = |rest: &str| format!("<img src=\"data:image/png;base64,{}\" {rest}>", png());
        let page = format!(
            "{}{}{}<div height=\"1\">",
            image("alt=\"map\" height=\"300\""),
            image("height=\"10\""),
            image("")
        );
        let found = pictures(&display("text/html", page));
        let strips: Vec<bool> = found.iter().map(|picture| picture.strip).collect();
        assert_eq!(strips, [false, true, false]);
    }

    #[test]
    fn several_pictures_stand_beside_and_below_each_other() {
        let red = DynamicImage::ImageRgb8(image::RgbImage::from_pixel(80, 80, [255, 0, 0].into()));
        let five = [&red; 5];
        let sheet = Sheet::new(&five, 100, 20);
        assert_eq!((sheet.in_a_row, sheet.rows, sheet.tile), (4, 2, (18, 9)));
        assert_eq!(sheet.size(), (4 * 19 - 1, 2 * 10 - 1));
        for pixels in [1, PIXELS] {
            let drawn = sheet.draw(&five, pixels).to_rgba8();
            assert_eq!(drawn.dimensions(), (75 * pixels, 38 * pixels));
            let at = |column: u32, row: u32| drawn.get_pixel(column * pixels, row * 2 * pixels).0;
            assert_eq!(at(0, 0), [255, 0, 0, 255]);
            assert_eq!(at(18, 0)[3], 0, "between two pictures");
            assert_eq!(at(19, 10), [0, 0, 0, 0], "there is no sixth");
        }
        let narrow = Sheet::new(&five, 20, 20);
        assert_eq!(narrow.in_a_row, 1);
    }
}
