//! A decoded picture, owned and cheap to clone, so that a cell can keep it.
//!
//! bytes → decoder (`jpeg`, or `image`'s) → 8-bit RGB (gray and palette expanded, CMYK converted) plus the alpha channel, if there was one.
//! Alpha is kept apart because two generations of the reference treat it differently: see [`AlphaPolicy`].

use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

use image::error::{DecodingError, ImageFormatHint};
use image::metadata::Orientation;
use image::{
    DynamicImage, GrayImage, ImageBuffer, ImageDecoder, ImageError, ImageFormat, ImageReader,
    Limits, Luma, LumaA, Pixel, Rgb, RgbImage, Rgba,
};
use serde::{Deserialize, Serialize};

use super::jpeg;
use crate::{Error, Result, files};

/// Longest file that is read as a picture.
const MOST_BYTES: u64 = 512 << 20;

/// What becomes of transparency when a picture is turned into RGB.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::image::{Rgba, RgbaImage};
///
/// # fn main() -> Result<()> {
/// let path = std::env::temp_dir().join(format!("clear-{}.png", std::process::id()));
/// RgbaImage::from_pixel(4, 4, Rgba([200, 0, 0, 0])).save(&path).expect("a file in the temporary folder");
/// let clear = Image::load(&path)?; // wholly transparent, with red under it
/// assert_eq!(clear.flatten(AlphaPolicy::Drop).get_pixel(0, 0).0, [200, 0, 0]);
/// assert_eq!(clear.flatten(AlphaPolicy::OnWhite).get_pixel(0, 0).0, [255, 255, 255]);
/// # std::fs::remove_file(path).ok();
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlphaPolicy {
    /// The alpha channel is thrown away and the colour under it shows, as Pillow's `convert("RGB")` and
    /// transformers 4 do. This is what the checkpoints of the blog's time were used with.
    #[default]
    Drop,
    /// The picture is laid on white first, as transformers 5 does.
    OnWhite,
}

/// Whether a camera's orientation note turns the picture.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::vision::{DecodeOptions, ExifPolicy};
///
/// # fn main() -> Result<()> {
/// assert_eq!(DecodeOptions::default().exif, ExifPolicy::Ignore); // `Image::load` leaves pixels as they lie
/// let path = std::env::temp_dir().join(format!("upright-{}.png", std::process::id()));
/// std::fs::write(&path, Image::filled(40, 30, [200, 30, 40])?.to_png()?).expect("a file in the temporary folder");
/// let image = Image::load_with(&path, DecodeOptions { exif: ExifPolicy::Apply })?;
/// assert_eq!(image.width(), 40);
/// # std::fs::remove_file(path).ok();
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExifPolicy {
    /// Pixels stay as they lie in the file, as in the reference (and in every COCO pipeline).
    #[default]
    Ignore,
    /// The picture is rotated and mirrored so that it stands upright.
    Apply,
}

/// How a file becomes an [`Image`]. The default is what the reference does.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::vision::{DecodeOptions, ExifPolicy};
///
/// # fn main() -> Result<()> {
/// let jpeg = Image::filled(40, 30, [200, 30, 40])?.to_jpeg(90)?;
/// let upright = DecodeOptions { exif: ExifPolicy::Apply }; // turned as the camera noted it
/// let image = Image::from_bytes(&jpeg, upright)?;
/// assert_eq!((image.width(), image.height()), (40, 30)); // this file holds no note
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DecodeOptions {
    /// Orientation note of the camera.
    pub exif: ExifPolicy,
}

/// An RGB picture of at least 1×1 pixels, 8 bits a channel, with its alpha channel when the file had one.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let image = Image::filled(64, 48, [200, 30, 40])?;
/// assert_eq!((image.width(), image.height()), (64, 48));
/// assert_eq!(image.rgb().get_pixel(10, 10).0, [200, 30, 40]);
/// let path = std::env::temp_dir().join(format!("red-{}.png", std::process::id()));
/// std::fs::write(&path, image.to_png()?).expect("a file in the temporary folder");
/// assert_eq!(Image::load(&path)?, image);
/// # std::fs::remove_file(path).ok();
/// # Ok(()) }
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Image {
    rgb: Arc<RgbImage>,
    alpha: Option<Arc<GrayImage>>,
}

impl Image {
    /// Reads a PNG, JPEG, BMP, GIF or WebP file; its content decides the format, not its name.
    ///
    /// Levels are those of Pillow's `Image.open(path).convert("RGB")`, for 16-bit PNGs too: the high byte of colours, and of
    /// gray without alpha the value itself, with everything above 255 white (Pillow's mode `I;16`).
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let path = std::env::temp_dir().join(format!("photo-{}.png", std::process::id()));
    /// # std::fs::write(&path, Image::filled(64, 48, [200, 30, 40])?.to_png()?).expect("a file in the temporary folder");
    /// let photo = Image::load(&path)?; // PNG, JPEG, BMP, GIF or WebP
    /// assert_eq!(photo.to_string(), "64×48 picture");
    /// # std::fs::remove_file(path).ok();
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `Io` when the file cannot be read or is no regular file, `Image` when it is not a picture, is cut off (wherever) or is
    /// too large to decode.
    pub fn load(path: impl AsRef<Path>) -> Result<Image> {
        Self::load_with(path, DecodeOptions::default())
    }

    /// [`Image::load`] with a choice about the camera's orientation note.
    ///
    /// # Errors
    /// As [`Image::load`].
    pub fn load_with(path: impl AsRef<Path>, options: DecodeOptions) -> Result<Image> {
        let path = path.as_ref();
        let bytes = files::read(path, MOST_BYTES)?;
        decode(&bytes, options).map_err(|source| Error::Image {
            what: path.display().to_string(),
            source,
        })
    }

    /// Decodes a picture that is already in memory.
    ///
    /// # Errors
    /// `Image` when the bytes are not a picture, are cut off or would be too large to decode.
    pub fn from_bytes(bytes: &[u8], options: DecodeOptions) -> Result<Image> {
        decode(bytes, options).map_err(|source| Error::Image {
            what: format!("of {} bytes", bytes.len()),
            source,
        })
    }

    /// Wraps pixels made in code.
    ///
    /// # Errors
    /// `Input` when the picture has no pixels.
    pub fn from_rgb(rgb: RgbImage) -> Result<Image> {
        if rgb.width() == 0 || rgb.height() == 0 {
            return Err(Error::Input(format!(
                "a picture of {}×{} has no pixels: give at least 1×1",
                rgb.width(),
                rgb.height()
            )));
        }
        Ok(Image {
            rgb: Arc::new(rgb),
            alpha: None,
        })
    }

    /// One colour everywhere: the black picture of a "does it look at all?" test.
    ///
    /// # Errors
    /// `Input` when width or height is 0.
    pub fn filled(width: u32, height: u32, colour: [u8; 3]) -> Result<Image> {
        Self::from_rgb(RgbImage::from_pixel(width, height, Rgb(colour)))
    }

    /// Width in pixels, at least 1.
    pub fn width(&self) -> u32 {
        self.rgb.width()
    }

    /// Height in pixels, at least 1.
    pub fn height(&self) -> u32 {
        self.rgb.height()
    }

    /// Whether the file had an alpha channel or a transparent palette entry.
    pub fn has_alpha(&self) -> bool {
        self.alpha.is_some()
    }

    /// The colours as they lie in the file, alpha not applied.
    pub fn rgb(&self) -> &RgbImage {
        &self.rgb
    }

    /// The colours after the alpha policy; shares the pixels when there is nothing to do.
    pub fn flatten(&self, policy: AlphaPolicy) -> Arc<RgbImage> {
        match (&self.alpha, policy) {
            (Some(alpha), AlphaPolicy::OnWhite) => {
                let mut flat = RgbImage::clone(&self.rgb);
                for (pixel, alpha) in flat.pixels_mut().zip(alpha.pixels()) {
                    for channel in &mut pixel.0 {
                        *channel = over_white(*channel, alpha.0[0]);
                    }
                }
                Arc::new(flat)
            }
            _ => Arc::clone(&self.rgb),
        }
    }

    /// The picture as a PNG file, alpha included.
    ///
    /// # Errors
    /// `Image` when the encoder refuses (a side above 2³¹).
    pub fn to_png(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let picture = match &self.alpha {
            None => DynamicImage::ImageRgb8(RgbImage::clone(&self.rgb)),
            Some(alpha) => DynamicImage::ImageRgba8(image::RgbaImage::from_fn(
                self.width(),
                self.height(),
                |x, y| {
                    let [r, g, b] = self.rgb.get_pixel(x, y).0;
                    image::Rgba([r, g, b, alpha.get_pixel(x, y).0[0]])
                },
            )),
        };
        picture
            .write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png)
            .map_err(|source| Error::Image {
                what: self.to_string(),
                source,
            })?;
        Ok(bytes)
    }

    /// The picture as a JPEG file with full colour resolution (4:4:4), alpha dropped.
    ///
    /// # Errors
    /// `Image` when the encoder refuses (a side above 65535).
    pub fn to_jpeg(&self, quality: u8) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, quality.clamp(1, 100))
            .encode_image(&*self.rgb)
            .map_err(|source| Error::Image {
                what: self.to_string(),
                source,
            })?;
        Ok(bytes)
    }
}

impl std::fmt::Display for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let alpha = if self.has_alpha() { " with alpha" } else { "" };
        write!(f, "{}×{} picture{alpha}", self.width(), self.height())
    }
}

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Image({}×{}, alpha: {})",
            self.width(),
            self.height(),
            self.has_alpha()
        )
    }
}

fn decode(bytes: &[u8], options: DecodeOptions) -> std::result::Result<Image, ImageError> {
    let (mut picture, orientation) = match bytes.starts_with(&jpeg::START) {
        true => jpeg::decode(bytes).map(|(rgb, note)| (rgb.into(), note))?,
        false => decode_other(bytes)?,
    };
    if options.exif == ExifPolicy::Apply {
        picture.apply_orientation(orientation);
    }
    let picture = to_8_bits(picture, bytes);
    let alpha = picture.color().has_alpha().then(|| {
        let rgba = picture.to_rgba8();
        Arc::new(GrayImage::from_fn(rgba.width(), rgba.height(), |x, y| {
            image::Luma([rgba.get_pixel(x, y).0[3]])
        }))
    });
    Ok(Image {
        rgb: Arc::new(picture.into_rgb8()),
        alpha,
    })
}

/// Every format but JPEG.
fn decode_other(bytes: &[u8]) -> std::result::Result<(DynamicImage, Orientation), ImageError> {
    // A RIFF file says how long it is; the decoder goes on without the end.
    if let (Some(b"RIFF"), Some(b"WEBP"), Some(size)) =
        (bytes.get(..4), bytes.get(8..12), bytes.get(4..8))
        && u32::from_le_bytes([size[0], size[1], size[2], size[3]]) as usize > bytes.len() - 8
    {
        let complaint = format!("it is cut off after {} bytes", bytes.len());
        let format = ImageFormatHint::Exact(ImageFormat::WebP);
        return Err(ImageError::Decoding(DecodingError::new(format, complaint)));
    }
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?;
    let mut decoder = reader.into_decoder()?;
    let (width, height) = decoder.dimensions();
    if width == 0 || height == 0 {
        let complaint = format!("it is {width}×{height} pixels large, there is nothing in it");
        let error = DecodingError::new(ImageFormatHint::Unknown, complaint);
        return Err(ImageError::Decoding(error));
    }
    // `into_decoder` checks what the decoder itself allocates; the picture is allocated behind its back.
    Limits::default().reserve(decoder.total_bytes())?;
    let orientation = decoder.orientation()?;
    Ok((DynamicImage::from_decoder(decoder)?, orientation))
}

/// Levels of other depths as Pillow makes 8 bits of them. 16 bits: by their high byte, where `image` would round. Gray without alpha is clipped
/// instead, also when a colour of it is marked as transparent.
fn to_8_bits(picture: DynamicImage, bytes: &[u8]) -> DynamicImage {
    // IHDR is the first chunk: width, height, then the depth and the kind of colour.
    const GRAY_OF_16_BITS: [u8; 2] = [16, 0];
    let clipped = bytes.starts_with(b"\x89PNG") && bytes.get(24..26) == Some(&GRAY_OF_16_BITS);
    let level = |level: u16| match clipped {
        true => level.min(255) as u8,
        false => (level >> 8) as u8,
    };
    let high = |level: u16| (level >> 8) as u8;
    // A BMP of 5 (or for green 6) bits a channel: Pillow rounds down where `image` rounds.
    let few_bits = bytes.starts_with(b"BM") && bytes.get(28..30) == Some(&[16, 0]);
    let green_bits = match bytes.get(58..62) {
        Some([0xE0, 0x07, 0, 0]) => 6,
        _ => 5,
    };
    let down = |level: u8, bits: u32| {
        let most = (1_u32 << bits) - 1;
        let stored = (u32::from(level) * most + 127) / 255;
        (stored * 255 / most) as u8
    };
    match picture {
        DynamicImage::ImageRgb8(rgb) if few_bits => mapped(&rgb, |p: &Rgb<u8>| {
            let [r, g, b] = p.0;
            Rgb([down(r, 5), down(g, green_bits), down(b, 5)])
        })
        .into(),
        DynamicImage::ImageLuma16(gray) => {
            mapped(&gray, |p: &Luma<u16>| Luma([level(p.0[0])])).into()
        }
        DynamicImage::ImageLumaA16(gray) => {
            mapped(&gray, |p: &LumaA<u16>| LumaA([level(p.0[0]), high(p.0[1])])).into()
        }
        DynamicImage::ImageRgb16(rgb) => mapped(&rgb, |p: &Rgb<u16>| Rgb(p.0.map(high))).into(),
        DynamicImage::ImageRgba16(rgba) => {
            mapped(&rgba, |p: &Rgba<u16>| Rgba(p.0.map(high))).into()
        }
        other => other,
    }
}

fn mapped<P: Pixel, Q: Pixel>(
    picture: &ImageBuffer<P, Vec<P::Subpixel>>,
    pixel: impl Fn(&P) -> Q,
) -> ImageBuffer<Q, Vec<Q::Subpixel>> {
    ImageBuffer::from_fn(picture.width(), picture.height(), |x, y| {
        pixel(picture.get_pixel(x, y))
    })
}

/// Pillow's `alpha_composite` over opaque white, in its own integer arithmetic.
fn over_white(colour: u8, alpha: u8) -> u8 {
    const PRECISION_BITS: u32 = 7;
    let front = u32::from(alpha) << PRECISION_BITS;
    let back = (255 << PRECISION_BITS) - front;
    let sum = u32::from(colour) * front + 255 * back + (0x80 << PRECISION_BITS);
    ((((sum >> 8) + sum) >> 8) >> PRECISION_BITS) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn png_round_trip_keeps_pixels_and_alpha() -> Result<()> {
        let rgba = image::RgbaImage::from_fn(5, 3, |x, y| {
            image::Rgba([x as u8 * 40, y as u8 * 70, 9, (x * 60) as u8])
        });
        let mut file = Vec::new();
        DynamicImage::ImageRgba8(rgba)
            .write_to(&mut Cursor::new(&mut file), ImageFormat::Png)
            .map_err(|source| Error::Image {
                what: "test".into(),
                source,
            })?;
        let first = Image::from_bytes(&file, DecodeOptions::default())?;
        assert!(first.has_alpha());
        assert_eq!(
            first.rgb().get_pixel(0, 1).0,
            [0, 70, 9],
            "colour under full transparency is kept"
        );
        assert_eq!(
            first.flatten(AlphaPolicy::OnWhite).get_pixel(0, 1).0,
            [255, 255, 255]
        );
        let again = Image::from_bytes(&first.to_png()?, DecodeOptions::default())?;
        assert!(first == again);
        Ok(())
    }

    #[test]
    fn a_file_of_a_picture_without_pixels_is_refused() -> Result<()> {
        let mut gif = Vec::new();
        DynamicImage::from(Image::filled(1, 1, [9; 3])?.rgb().clone())
            .write_to(&mut Cursor::new(&mut gif), ImageFormat::Gif)
            .map_err(|source| Error::Image {
                what: "test".into(),
                source,
            })?;
        gif[8..10].copy_from_slice(&0u16.to_le_bytes());
        let error = Image::from_bytes(&gif, DecodeOptions::default()).unwrap_err();
        assert!(error.to_string().contains("1×0"), "{error}");
        Ok(())
    }

    #[test]
    fn a_header_that_claims_gigabytes_is_refused_before_they_are_allocated() -> Result<()> {
        let mut bmp = Vec::new();
        Image::filled(1, 1, [9; 3])?
            .rgb()
            .write_to(&mut Cursor::new(&mut bmp), ImageFormat::Bmp)
            .map_err(|source| Error::Image {
                what: "test".into(),
                source,
            })?;
        bmp[18..22].copy_from_slice(&60_000u32.to_le_bytes());
        bmp[22..26].copy_from_slice(&60_000u32.to_le_bytes());
        let error = Image::from_bytes(&bmp, DecodeOptions::default()).unwrap_err();
        let Error::Image {
            source: ImageError::Limits(_),
            ..
        } = error
        else {
            panic!("{error}");
        };
        Ok(())
    }

    #[test]
    fn over_white_ends() {
        for colour in 0..=255 {
            assert_eq!(over_white(colour, 255), colour);
            assert_eq!(over_white(colour, 0), 255);
        }
    }

    #[test]
    fn not_a_picture_is_an_error_that_names_the_file() -> std::io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("notes.jpg");
        std::fs::write(&path, "hello")?;
        let message = Image::load(&path)
            .map(|_| ())
            .expect_err("text is not a picture")
            .to_string();
        assert!(message.contains("notes.jpg"), "{message}");
        let message = Image::load(folder.path().join("none.png"))
            .map(|_| ())
            .expect_err("no such file")
            .to_string();
        assert!(message.contains("none.png"), "{message}");
        assert!(Image::from_bytes(&[], DecodeOptions::default()).is_err());
        assert!(Image::filled(0, 4, [0; 3]).is_err());
        Ok(())
    }
}
