//! The blog's `image_processor`: a picture becomes the numbers that an image encoder was trained on.
//!
//! [`Image`] → RGB (alpha policy) → resize → crop → scale to [0, 1] → normalise → pixel values `[1, 3, H, W]`.
//! Settings come from Hugging Face's `preprocessor_config.json`; numbers equal the reference's to the bit.
//! <https://huggingface.co/google/vit-base-patch16-224/blob/main/preprocessor_config.json>

use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use image::{Rgb, RgbImage};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::fields::Complaint;
use super::resize::{MOST_PIXELS, Resample, resize_within};
use super::{AlphaPolicy, Image, Modality, processor_file};
use crate::{Error, Result};

/// How the picture's size is changed.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::vision::Resize;
///
/// # fn main() -> Result<()> {
/// let resize = Resize::Padded { side: 32, colour: [0; 3] }; // a square with black bars, the aspect ratio stays
/// let processor = ImageProcessor::new(ImageProcessorConfig { resize, ..ImageProcessorConfig::vit(32) })?;
/// let seen = processor.resized(&Image::filled(64, 32, [255; 3])?)?;
/// assert_eq!((seen.width(), seen.height()), (32, 32));
/// assert_eq!(seen.rgb().get_pixel(16, 2).0, [0, 0, 0]); // above the picture
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resize {
    /// The size stays.
    Keep,
    /// To this size, whatever the aspect ratio: ViT.
    Exact {
        /// Pixels.
        height: u32,
        /// Pixels.
        width: u32,
    },
    /// The shorter side to this length, the aspect ratio stays: CLIP, DINOv2.
    ShortestEdge(u32),
    /// Bars of one colour make it a square, which then gets this side: LLaVA's and Bunny's "pad".
    Padded {
        /// Pixels.
        side: u32,
        /// Of the bars.
        colour: [u8; 3],
    },
}

/// How often levels are scaled to [0, 1].
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let config = ImageProcessorConfig { rescaling: Rescaling::Twice, ..ImageProcessorConfig::vit(32) };
/// let white = Image::filled(32, 32, [255; 3])?;
/// let seen = ImageProcessor::new(config)?.preprocess(&white)?;
/// assert!(seen.max_all()?.to_scalar::<f32>()? < -0.99); // white, and the encoder sees near-black
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rescaling {
    /// As it should be.
    #[default]
    Once,
    /// The fault in the blog's repository: pictures arrive already scaled to [0, 1] and are divided by 255 again.
    /// After normalisation all values lie between −1 and −0.992: the encoder sees near-black.
    Twice,
}

/// Everything that [`ImageProcessor`] does, as plain values.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let mut config = ImageProcessorConfig::vit(32);
/// config.normalize = None; // values stay between 0 and 1
/// let processor = ImageProcessor::new(config)?;
/// let black = processor.preprocess(&Image::filled(32, 32, [0; 3])?)?;
/// assert_eq!(black.max_all()?.to_scalar::<f32>()?, 0.0);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct ImageProcessorConfig {
    /// Change of size.
    pub resize: Resize,
    /// Filter of the change of size.
    pub resample: Resample,
    /// Height and width of the middle part that is kept, black where the picture is smaller.
    pub center_crop: Option<(u32, u32)>,
    /// Factor from levels (0 to 255) to [0, 1]; `None` leaves levels.
    pub rescale_factor: Option<f64>,
    /// Mean and standard deviation of each channel after scaling; `None` leaves values.
    pub normalize: Option<([f64; 3], [f64; 3])>,
    /// What becomes of transparency. Not part of the JSON file.
    pub alpha: AlphaPolicy,
    /// The blog's fault, as a switch. Not part of the JSON file.
    pub rescaling: Rescaling,
}

impl ImageProcessorConfig {
    /// ViT's settings for square pictures of `image_size` pixels: bilinear, mean and standard deviation 0.5.
    pub fn vit(image_size: u32) -> ImageProcessorConfig {
        ImageProcessorConfig {
            resize: Resize::Exact {
                height: image_size,
                width: image_size,
            },
            resample: Resample::Bilinear,
            center_crop: None,
            rescale_factor: Some(1.0 / 255.0),
            normalize: Some(([0.5; 3], [0.5; 3])),
            alpha: AlphaPolicy::default(),
            rescaling: Rescaling::default(),
        }
    }

    /// Reads the text of a `preprocessor_config.json`, old (`"size": 224`) and new (`"size": {"height": …}`).
    ///
    /// # Errors
    /// `Config` for values that are missing, of the wrong kind or out of range; the message begins with `file`.
    pub fn from_json(text: &str, file: &Path) -> Result<ImageProcessorConfig> {
        processor_file::read(text, file, |fields| {
            let config = processor_file::plain(fields)?;
            config.check()?;
            Ok(config)
        })
    }

    /// The settings in the form of a `preprocessor_config.json`.
    pub fn to_json(&self) -> Value {
        let mut file = json!({
            "do_convert_rgb": true,
            "do_normalize": self.normalize.is_some(),
            "do_rescale": self.rescale_factor.is_some(),
            "do_resize": self.resize != Resize::Keep,
            "do_center_crop": self.center_crop.is_some(),
            "image_processor_type": "ViTImageProcessor",
            "resample": self.resample,
        });
        match self.resize {
            Resize::Keep => {}
            Resize::Exact { height, width } => {
                file["size"] = json!({ "height": height, "width": width })
            }
            Resize::ShortestEdge(length) => file["size"] = json!({ "shortest_edge": length }),
            Resize::Padded { side, .. } => {
                file["size"] = json!({ "shortest_edge": side });
                file["do_pad"] = json!(true);
            }
        }
        if let Some((height, width)) = self.center_crop {
            file["crop_size"] = json!({ "height": height, "width": width });
            file["image_processor_type"] = json!("CLIPImageProcessor");
        }
        if let Some(factor) = self.rescale_factor {
            file["rescale_factor"] = json!(factor);
        }
        if let Some((mean, std)) = self.normalize {
            file["image_mean"] = json!(mean);
            file["image_std"] = json!(std);
        }
        if matches!(self.resize, Resize::Padded { .. }) {
            file["image_processor_type"] = json!("LlavaImageProcessor");
        }
        file
    }

    /// Height and width of what comes out, where it is the same for every picture.
    pub fn output_size(&self) -> Option<(u32, u32)> {
        match (self.center_crop, self.resize) {
            (Some(size), _) => Some(size),
            (None, Resize::Exact { height, width }) => Some((height, width)),
            (None, Resize::Padded { side, .. }) => Some((side, side)),
            (None, Resize::Keep | Resize::ShortestEdge(_)) => None,
        }
    }

    pub(super) fn check(&self) -> Complaint<()> {
        let mut sides = Vec::new();
        match self.resize {
            Resize::Keep => {}
            Resize::Exact { height, width } => sides.extend([height, width]),
            Resize::ShortestEdge(side) | Resize::Padded { side, .. } => sides.push(side),
        }
        sides.extend(
            self.center_crop
                .iter()
                .flat_map(|(height, width)| [*height, *width]),
        );
        check_sides(sides)?;
        if self
            .rescale_factor
            .is_some_and(|factor| !factor.is_finite())
        {
            return Err("rescale_factor is not a finite number".into());
        }
        if let Some((mean, std)) = self.normalize
            && !(mean.iter().all(|mean| mean.is_finite())
                && std.iter().all(|std| std.is_finite() && *std != 0.0))
        {
            return Err("image_mean and image_std must be finite, and image_std not 0".into());
        }
        Ok(())
    }
}

/// The colour whose levels are the mean's, without rounding, as the references take it; grey without a mean.
pub(super) fn mean_colour(normalize: Option<([f64; 3], [f64; 3])>) -> [u8; 3] {
    let (mean, _) = normalize.unwrap_or(([0.5; 3], [0.5; 3]));
    mean.map(|mean| (mean * 255.0) as u8)
}

pub(super) const MOST_PIXELS_A_SIDE: u32 = 8192;

/// Whether each length can be that of a picture's side, in pixels.
pub(super) fn check_sides(sides: impl IntoIterator<Item = u32>) -> Complaint<()> {
    let mut sides = sides.into_iter();
    match sides.find(|side| !(1..=MOST_PIXELS_A_SIDE).contains(side)) {
        Some(side) => Err(format!(
            "size {side} is out of range: choose 1 to {MOST_PIXELS_A_SIDE} pixels"
        )),
        None => Ok(()),
    }
}

/// Turns pictures into pixel values. Cheap to clone.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let processor = ImageProcessor::new(ImageProcessorConfig::vit(32))?;
/// let white = Image::filled(100, 50, [255; 3])?;
/// let pixel_values = processor.preprocess(&white)?;
/// assert_eq!(pixel_values.dims(), [1, 3, 32, 32]);
/// assert_eq!(pixel_values.max_all()?.to_scalar::<f32>()?, 1.0); // 0 to 255 became −1 to 1
/// assert_eq!(processor.to_images(&pixel_values)?[0].width(), 32); // and the way back
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct ImageProcessor {
    config: ImageProcessorConfig,
    /// Value of each level, for each channel.
    values: Arc<[[f32; 256]; 3]>,
    /// Where the encoder takes no pictures: its kind and what it takes.
    refuses: Option<(Arc<str>, Arc<str>)>,
}

impl ImageProcessor {
    /// The encoder that takes no pictures, and what it takes, if that is so.
    pub(super) fn refused(&self) -> Option<(&str, &str)> {
        self.refuses
            .as_ref()
            .map(|(kind, takes)| (&**kind, &**takes))
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// `Config` for sizes, factors, means or deviations out of range.
    pub fn new(config: ImageProcessorConfig) -> Result<ImageProcessor> {
        config
            .check()
            .map_err(|complaint| Error::Config(format!("image processor: {complaint}")))?;
        let values = std::array::from_fn(|channel| {
            std::array::from_fn(|level| value(&config, channel, level))
        });
        Ok(ImageProcessor {
            config,
            values: Arc::new(values),
            refuses: None,
        })
    }

    /// The processor that an encoder asks for. Of an encoder that takes no pictures, one that refuses every picture and says
    /// what to give instead.
    ///
    /// # Errors
    /// `Config` when the encoder's settings are out of range.
    pub fn of_encoder(encoder: &dyn Modality) -> Result<ImageProcessor> {
        if let Some(config) = encoder.image_processor() {
            return Self::new(config);
        }
        let nothing = ImageProcessorConfig {
            resize: Resize::Keep,
            rescale_factor: None,
            normalize: None,
            ..ImageProcessorConfig::vit(1)
        };
        let axes = encoder.input_axes().join(", ");
        Ok(ImageProcessor {
            refuses: Some((encoder.kind().into(), axes.into())),
            ..Self::new(nothing)?
        })
    }

    /// Reads a `preprocessor_config.json`.
    ///
    /// # Errors
    /// `Io`, `Json`, or `Config` for settings that are missing or out of range.
    pub fn from_file(path: impl AsRef<Path>) -> Result<ImageProcessor> {
        let path = path.as_ref();
        let text = crate::files::text(path).map_err(|source| Error::Io {
            path: path.to_path_buf(),
            source,
        })?;
        Self::new(ImageProcessorConfig::from_json(&text, path)?)
    }

    /// The settings in use.
    pub fn config(&self) -> &ImageProcessorConfig {
        &self.config
    }

    /// The same processor with another alpha policy.
    pub fn with_alpha(mut self, alpha: AlphaPolicy) -> ImageProcessor {
        self.config.alpha = alpha;
        self
    }

    /// The same processor, scaling once or (the blog's fault) twice.
    ///
    /// # Errors
    /// None for a checked config.
    pub fn with_rescaling(self, rescaling: Rescaling) -> Result<ImageProcessor> {
        Ok(ImageProcessor {
            refuses: self.refuses,
            ..Self::new(ImageProcessorConfig {
                rescaling,
                ..self.config
            })?
        })
    }

    /// One picture to f32 pixel values `[1, 3, H, W]` on the CPU.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let processor = ImageProcessor::new(ImageProcessorConfig::vit(32))?;
    /// let pixel_values = processor.preprocess(&Image::filled(100, 50, [128; 3])?)?;
    /// assert_eq!(pixel_values.dims(), [1, 3, 32, 32]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `Input` when the aspect ratio is so extreme that the resized picture would be huge.
    pub fn preprocess(&self, image: &Image) -> Result<Tensor> {
        self.preprocess_batch(std::slice::from_ref(image))
    }

    /// Several pictures to f32 pixel values `[B, 3, H, W]` on the CPU.
    ///
    /// # Errors
    /// `Input` for no pictures, for pictures that differ in size after the processor's steps, and as
    /// [`ImageProcessor::preprocess`].
    pub fn preprocess_batch(&self, images: &[Image]) -> Result<Tensor> {
        if images.is_empty() {
            return Err(Error::Input(
                "a batch of no pictures: give at least one".into(),
            ));
        }
        let sized: Vec<RgbImage> = images
            .par_iter()
            .map(|image| self.fit(image))
            .collect::<Result<_>>()?;
        let (width, height) = sized[0].dimensions();
        if let Some(other) = sized
            .iter()
            .find(|picture| picture.dimensions() != (width, height))
        {
            return Err(Error::Input(format!(
                "pictures of {width}×{height} and {}×{} can't be one batch: set a size in the image processor",
                other.width(),
                other.height()
            )));
        }
        let plane = width as usize * height as usize;
        if sized.len() as u64 * plane as u64 > 4 * MOST_PIXELS {
            return Err(Error::Input(format!(
                "{} pictures of {width}×{height} pixels are too many for one batch: give fewer at a time",
                sized.len()
            )));
        }
        let mut values = vec![0_f32; sized.len() * 3 * plane]; // [B, 3, H, W]
        values
            .par_chunks_exact_mut(3 * plane)
            .zip(&sized)
            .for_each(|(values, picture)| {
                for (channel, values) in values.chunks_exact_mut(plane).enumerate() {
                    for (value, pixel) in values.iter_mut().zip(picture.as_raw().chunks_exact(3)) {
                        *value = self.values[channel][pixel[channel] as usize];
                    }
                }
            });
        Ok(Tensor::from_vec(
            values,
            (sized.len(), 3, height as usize, width as usize),
            &Device::Cpu,
        )?)
    }

    /// The picture after resizing and cropping, before its levels become numbers: what the encoder looks at.
    ///
    /// # Errors
    /// As [`ImageProcessor::preprocess`].
    pub fn resized(&self, image: &Image) -> Result<Image> {
        Image::from_rgb(self.fit(image)?)
    }

    /// Pixel values `[B, 3, H, W]` back to pictures, as the encoder sees them: the way back through normalisation and
    /// one scaling, cut to what can be shown. After a double rescale the pictures are black.
    ///
    /// # Errors
    /// `Input` for another shape.
    pub fn to_images(&self, pixel_values: &Tensor) -> Result<Vec<Image>> {
        let (batch, channels, height, width) =
            pixel_values.dims4().map_err(|_| not_pixels(pixel_values))?;
        if channels != 3 || height == 0 || width == 0 {
            return Err(not_pixels(pixel_values));
        }
        let values = pixel_values.to_dtype(DType::F32)?.to_device(&Device::Cpu)?;
        let (mean, std) = self.config.normalize.unwrap_or(([0.0; 3], [1.0; 3]));
        let factor = self
            .config
            .rescale_factor
            .filter(|factor| *factor != 0.0)
            .unwrap_or(1.0);
        let plane = height * width;
        let mut images = Vec::with_capacity(batch);
        for picture in 0..batch {
            let values = values.get(picture)?.flatten_all()?.to_vec1::<f32>()?; // [3 · H · W]
            images.push(Image::from_rgb(RgbImage::from_fn(
                width as u32,
                height as u32,
                |x, y| {
                    Rgb(std::array::from_fn(|channel| {
                        let value = values[channel * plane + y as usize * width + x as usize];
                        ((f64::from(value) * std[channel] + mean[channel]) / factor).round() as u8
                    }))
                },
            ))?);
        }
        Ok(images)
    }

    fn fit(&self, image: &Image) -> Result<RgbImage> {
        if let Some((encoder, axes)) = &self.refuses {
            return Err(Error::Unsupported {
                encoder: encoder.to_string(),
                what: "place for pictures".into(),
                hint: format!("prepare its input as a tensor [{axes}] and give that"),
            });
        }
        let mut rgb = image.flatten(self.config.alpha);
        let (width, height) = match self.config.resize {
            Resize::Keep => (rgb.width(), rgb.height()),
            Resize::Exact { height, width } => (width, height),
            Resize::Padded { side, colour } => {
                if u64::from(rgb.width().max(rgb.height())).pow(2) > MOST_PIXELS {
                    return Err(Error::Input(format!(
                        "a {image} would become a square of more than {MOST_PIXELS} pixels: shrink it first"
                    )));
                }
                rgb = squared(&rgb, colour).into();
                (side, side)
            }
            Resize::ShortestEdge(length) => {
                let long = |long: u32, short: u32| {
                    let exact = u64::from(length) * u64::from(long) / u64::from(short);
                    u32::try_from(exact).unwrap_or(u32::MAX)
                };
                if rgb.width() <= rgb.height() {
                    (length, long(rgb.height(), rgb.width()))
                } else {
                    (long(rgb.width(), rgb.height()), length)
                }
            }
        };
        let sized = resize_within(&rgb, (width, height), self.config.resample)?;
        Ok(match self.config.center_crop {
            Some((height, width)) => center_crop(&sized, width, height),
            None => sized,
        })
    }
}

/// The picture in the middle of a square of one colour.
pub(super) fn squared(picture: &RgbImage, colour: [u8; 3]) -> RgbImage {
    let side = picture.width().max(picture.height());
    let mut square = RgbImage::from_pixel(side, side, image::Rgb(colour));
    let (left, top) = ((side - picture.width()) / 2, (side - picture.height()) / 2);
    image::imageops::replace(&mut square, picture, i64::from(left), i64::from(top));
    square
}

fn not_pixels(tensor: &Tensor) -> Error {
    Error::Input(format!(
        "pixel values must be [B, 3, H, W], these are {:?}",
        tensor.dims()
    ))
}

/// What a level becomes, in the reference's order of operations and roundings.
fn value(config: &ImageProcessorConfig, channel: usize, level: usize) -> f32 {
    let mut value = level as f32;
    if let Some(factor) = config.rescale_factor {
        if config.rescaling == Rescaling::Twice {
            value = (f64::from(value) / 255.0) as f32;
        }
        value = (f64::from(value) * factor) as f32;
    }
    if let Some((mean, std)) = config.normalize {
        value = (value - mean[channel] as f32) / std[channel] as f32;
    }
    value
}

/// The middle `width`×`height` of a picture, black where the picture does not reach.
fn center_crop(picture: &RgbImage, width: u32, height: u32) -> RgbImage {
    let start = |size: u32, crop: u32| (i64::from(size) - i64::from(crop)).div_euclid(2);
    let (left, top) = (
        start(picture.width(), width),
        start(picture.height(), height),
    );
    RgbImage::from_fn(width, height, |x, y| {
        let (x, y) = (i64::from(x) + left, i64::from(y) + top);
        match (u32::try_from(x), u32::try_from(y)) {
            (Ok(x), Ok(y)) => picture
                .get_pixel_checked(x, y)
                .copied()
                .unwrap_or(Rgb([0; 3])),
            _ => Rgb([0; 3]),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<ImageProcessorConfig> {
        ImageProcessorConfig::from_json(text, Path::new("preprocessor_config.json"))
    }

    #[test]
    fn reads_old_and_new_files() -> Result<()> {
        let hub = read(
            r#"{"do_normalize": true, "do_resize": true, "image_mean": [0.5, 0.5, 0.5], "size": 224}"#,
        )?;
        assert_eq!(hub, ImageProcessorConfig::vit(224));
        assert_eq!(
            read(&ImageProcessorConfig::vit(96).to_json().to_string())?,
            ImageProcessorConfig::vit(96)
        );
        let clip = read(
            r#"{"size": {"shortest_edge": 224}, "resample": 3, "do_center_crop": true,
                "crop_size": {"height": 224, "width": 224}, "image_mean": [0.48, 0.45, 0.40],
                "image_std": [0.26, 0.26, 0.27]}"#,
        )?;
        assert_eq!(
            (clip.resize, clip.center_crop),
            (Resize::ShortestEdge(224), Some((224, 224)))
        );
        assert_eq!(read(&clip.to_json().to_string())?, clip);
        Ok(())
    }

    #[test]
    fn bad_files_say_why() {
        for (text, word) in [
            ("{", "not valid"),
            ("[]", "not valid"),
            ("{}", "size is missing"),
            (r#"{"size": 0}"#, "out of range"),
            (r#"{"size": 4000000000}"#, "out of range"),
            (r#"{"size": -1}"#, "not valid"),
            (r#"{"size": 8, "resample": 5}"#, "resample 5"),
            (r#"{"size": 8, "image_std": [0, 1, 1]}"#, "image_std not 0"),
            (r#"{"size": 8, "do_center_crop": true}"#, "crop_size"),
        ] {
            let message = read(text).map(|_| ()).expect_err(text).to_string();
            assert!(
                message.contains(word) && message.contains("preprocessor_config.json"),
                "{message}"
            );
        }
    }

    #[test]
    fn the_double_rescale_makes_everything_nearly_black() -> Result<()> {
        let processor = ImageProcessor::new(ImageProcessorConfig::vit(4))?;
        let white = Image::filled(4, 4, [255; 3])?;
        assert_eq!(
            processor
                .preprocess(&white)?
                .max_all()?
                .to_scalar::<f32>()?,
            1.0
        );
        let blog = processor.with_rescaling(Rescaling::Twice)?;
        let seen = blog.preprocess(&white)?;
        assert!(seen.max_all()?.to_scalar::<f32>()? < -0.992);
        assert!(
            blog.to_images(&seen)?[0]
                .rgb()
                .iter()
                .all(|level| *level <= 1)
        );
        Ok(())
    }

    #[test]
    fn pictures_come_back_from_pixel_values() -> Result<()> {
        let processor = ImageProcessor::new(ImageProcessorConfig::vit(16))?;
        let image = Image::from_rgb(RgbImage::from_fn(16, 16, |x, y| {
            Rgb([x as u8 * 16, y as u8 * 16, 77])
        }))?;
        assert_eq!(
            processor.to_images(&processor.preprocess(&image)?)?,
            [image]
        );
        Ok(())
    }

    #[test]
    fn bad_batches_and_shapes_say_what_to_do() -> Result<()> {
        let processor = ImageProcessor::new(ImageProcessorConfig::vit(16))?;
        assert!(processor.preprocess_batch(&[]).is_err());
        assert!(
            processor
                .to_images(&Tensor::zeros((3, 4, 4), DType::F32, &Device::Cpu)?)
                .is_err()
        );
        let keep = ImageProcessor::new(ImageProcessorConfig {
            resize: Resize::Keep,
            ..ImageProcessorConfig::vit(16)
        })?;
        let mixed = [Image::filled(3, 4, [0; 3])?, Image::filled(4, 3, [0; 3])?];
        assert!(
            keep.preprocess_batch(&mixed)
                .is_err_and(|error| error.to_string().contains("set a size"))
        );
        let thread = ImageProcessorConfig {
            resize: Resize::ShortestEdge(8000),
            ..ImageProcessorConfig::vit(16)
        };
        let thin = Image::filled(1, 9000, [0; 3])?;
        assert!(ImageProcessor::new(thread)?.preprocess(&thin).is_err());
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_size_becomes_the_wanted_size(
            from in (1_u32..70, 1_u32..70), to in (1_u32..50, 1_u32..50), bicubic: bool, level: u8, crop in proptest::option::of((1_u32..40, 1_u32..40)),
        ) {
            let config = ImageProcessorConfig {
                resize: Resize::Exact { height: to.0, width: to.1 },
                resample: if bicubic { Resample::Bicubic } else { Resample::Bilinear },
                ..ImageProcessorConfig::vit(1)
            };
            let picture = Image::filled(from.0, from.1, [level; 3])?;
            let processor = ImageProcessor::new(config.clone())?;
            let resized = processor.resized(&picture)?;
            prop_assert_eq!((resized.height(), resized.width()), to);
            prop_assert!(resized.rgb().iter().all(|found| *found == level), "one colour stays one colour");
            if let Some(crop) = crop {
                let cropped = ImageProcessor::new(ImageProcessorConfig { center_crop: Some(crop), ..config })?;
                let values = cropped.preprocess(&picture)?;
                prop_assert_eq!(values.dims(), &[1, 3, crop.0 as usize, crop.1 as usize]);
            }
        }

        #[test]
        fn no_bytes_make_the_decoder_or_the_config_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), kind in 0_usize..6) {
            let heads: [&[u8]; 6] = [b"", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"\xff\xd8\xff\xe0\0\x10JFIF\0", b"BM", b"GIF89a", b"RIFF\x20\0\0\0WEBPVP8 "];
            let file = [heads[kind], &bytes].concat();
            let _ = Image::from_bytes(&file, Default::default());
            let _ = read(&String::from_utf8_lossy(&bytes));
        }
    }
}
