//! JPEG files: bytes → segments put in order → pixels, or an error where the file ends before the picture does.
//!
//! A lenient decoder paints what a cut file lacks gray and says nothing. Here the decoder is strict, and what lies behind
//! the picture's data is eight bytes of ones before the end marker: no Huffman code is all ones, so a decoder that runs out
//! of data reads them and stops, where it would otherwise be fed zeros for ever.

use image::error::{DecodingError, ImageFormatHint, LimitError, LimitErrorKind};
use image::metadata::Orientation;
use image::{GrayImage, ImageError, ImageFormat, Limits, RgbImage};
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;

/// How a JPEG begins.
pub(super) const START: [u8; 3] = [0xFF, 0xD8, 0xFF];
const START_OF_SCAN: u8 = 0xDA;
const END: u8 = 0xD9;
/// Eight bytes of ones; each FF is followed by a 0, which says that it is no marker.
const ONES: [u8; 16] = [
    0xFF, 0, 0xFF, 0, 0xFF, 0, 0xFF, 0, 0xFF, 0, 0xFF, 0, 0xFF, 0, 0xFF, 0,
];

/// Pixels, gray ones as three equal channels, and the camera's note on how the picture stands.
pub(super) fn decode(bytes: &[u8]) -> Result<(RgbImage, Orientation), ImageError> {
    let whole = in_order(bytes)?;
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(usize::from(u16::MAX))
        .set_max_height(usize::from(u16::MAX));
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(whole.as_slice()), options);
    decoder.decode_headers().map_err(complaint)?;
    let (width, height) = decoder
        .dimensions()
        .ok_or_else(|| broken("it has no frame header"))?;
    if width == 0 || height == 0 {
        let text = format!("it is {width}×{height} pixels large, there is nothing in it");
        return Err(broken(&text));
    }
    let gray = decoder.input_colorspace() == Some(ColorSpace::Luma);
    let (out, channels) = match gray {
        true => (ColorSpace::Luma, 1),
        false => (ColorSpace::RGB, 3),
    };
    Limits::default().reserve(width as u64 * height as u64 * channels)?;
    let orientation = decoder
        .exif()
        .and_then(|note| Orientation::from_exif_chunk(note))
        .unwrap_or(Orientation::NoTransforms);
    decoder.set_options(options.jpeg_set_out_colorspace(out));
    let levels = decoder.decode().map_err(complaint)?;
    let (width, height) = (width as u32, height as u32);
    let rgb = match gray {
        true => GrayImage::from_raw(width, height, levels)
            .map(|gray| image::DynamicImage::from(gray).into_rgb8()),
        false => RgbImage::from_raw(width, height, levels),
    };
    let rgb = rgb.ok_or_else(|| broken("its data is of another size than its header says"))?;
    Ok((rgb, orientation))
}

/// The file's segments up to the end marker, without what stands between them and behind it, and with [`ONES`] before the
/// end. Previews inside of a segment are part of it.
fn in_order(bytes: &[u8]) -> Result<Vec<u8>, ImageError> {
    let mut out = Vec::with_capacity(bytes.len() + ONES.len());
    out.extend_from_slice(&START[..2]);
    let mut at = 2;
    let mut scans = 0;
    loop {
        let marker = match next_marker(bytes, at) {
            Some((marker, after)) => {
                at = after;
                marker
            }
            None => return Err(cut_off(bytes, scans)),
        };
        match marker {
            END if scans == 0 => return Err(broken("it ends before any picture data")),
            END => {
                out.extend_from_slice(&ONES);
                out.extend_from_slice(&[0xFF, END]);
                return Ok(out);
            }
            // Alone, without a length: a restart, another start, and one for arithmetic coding's private use.
            0xD0..=0xD8 | 0x01 => {}
            _ => {
                let length = match bytes.get(at..at + 2) {
                    Some(length) => usize::from(u16::from_be_bytes([length[0], length[1]])),
                    None => return Err(cut_off(bytes, scans)),
                };
                if length < 2 {
                    return Err(broken("a segment says that it is shorter than its header"));
                }
                let Some(segment) = bytes.get(at..at + length) else {
                    return Err(cut_off(bytes, scans));
                };
                out.extend_from_slice(&[0xFF, marker]);
                out.extend_from_slice(segment);
                at += length;
                if marker == START_OF_SCAN {
                    scans += 1;
                    let end = end_of_data(bytes, at);
                    out.extend_from_slice(&bytes[at..end]);
                    at = end;
                }
            }
        }
    }
}

/// The next marker at or behind `at`, and the place behind it. What stands before it is no part of a segment.
fn next_marker(bytes: &[u8], at: usize) -> Option<(u8, usize)> {
    let pairs = bytes.get(at..)?.windows(2).enumerate();
    let mut markers = pairs.filter(|(_, pair)| pair[0] == 0xFF && !matches!(pair[1], 0 | 0xFF));
    markers
        .next()
        .map(|(place, pair)| (pair[1], at + place + 2))
}

/// Where the entropy-coded data that begins at `at` ends: at a marker that is no restart, or with the file.
fn end_of_data(bytes: &[u8], mut at: usize) -> usize {
    while let Some((marker, after)) = next_marker(bytes, at) {
        if !matches!(marker, 0xD0..=0xD7) {
            // Fill bytes before the marker are the marker's.
            let mut end = after - 2;
            while end > at && bytes[end - 1] == 0xFF {
                end -= 1;
            }
            return end;
        }
        at = after;
    }
    bytes.len()
}

fn cut_off(bytes: &[u8], scans: usize) -> ImageError {
    let part = match scans {
        0 => "in its header",
        _ => "in its picture data",
    };
    broken(&format!(
        "it is cut off {part}, after {} bytes: copy or download it again",
        bytes.len()
    ))
}

fn broken(text: &str) -> ImageError {
    ImageError::Decoding(DecodingError::new(
        ImageFormatHint::Exact(ImageFormat::Jpeg),
        text.to_string(),
    ))
}

fn complaint(error: DecodeErrors) -> ImageError {
    match error {
        DecodeErrors::LargeDimensions(_) => {
            ImageError::Limits(LimitError::from_kind(LimitErrorKind::DimensionError))
        }
        error => ImageError::Decoding(DecodingError::new(
            ImageFormatHint::Exact(ImageFormat::Jpeg),
            format!("{error:?}").trim_matches('"').to_string(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vision::Image;

    fn picture() -> Vec<u8> {
        let rgb = RgbImage::from_fn(90, 70, |x, y| {
            image::Rgb([
                (x * 7 % 256) as u8,
                (y * 11 % 256) as u8,
                (x * y % 256) as u8,
            ])
        });
        Image::from_rgb(rgb)
            .and_then(|image| image.to_jpeg(80))
            .expect("it can be written")
    }

    #[test]
    fn a_file_that_is_cut_anywhere_is_refused() {
        let whole = picture();
        decode(&whole).expect("the whole file is a picture");
        for length in 0..whole.len() {
            assert!(decode(&whole[..length]).is_err(), "cut to {length} bytes");
        }
    }

    #[test]
    fn an_end_marker_behind_half_of_the_data_does_not_make_it_whole() {
        let whole = picture();
        let data = whole
            .windows(2)
            .position(|pair| pair == [0xFF, START_OF_SCAN]);
        let data = data.expect("there is a scan") + 14;
        for tenths in 1..10 {
            let mut cut = whole[..data + (whole.len() - data) * tenths / 10].to_vec();
            if cut.last() == Some(&0xFF) {
                cut.pop();
            }
            cut.extend_from_slice(&[0xFF, END]);
            assert!(decode(&cut).is_err(), "{tenths} tenths of the data");
        }
    }

    #[test]
    fn what_stands_behind_and_between_the_segments_does_no_harm() {
        let whole = picture();
        let (wanted, _) = decode(&whole).expect("a picture");
        let mut odd = whole[..2].to_vec();
        odd.extend_from_slice(b"between");
        odd.extend_from_slice(&[0xFF, 0xFF, 0xFF]);
        odd.extend_from_slice(&whole[2..]);
        odd.extend_from_slice(b"behind it \xFF\xD8\xFF\xE0");
        let (found, _) = decode(&odd).expect("a picture");
        assert!(found == wanted);
    }
}
