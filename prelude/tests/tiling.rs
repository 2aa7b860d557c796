//! Large pictures in tiles, to the bit: against checksums of what transformers' processors on Pillow make of computed pictures, and
//! against the packing of LLaVA's own models. `scripts/fixtures/tiling.py` makes the figures.

#[path = "published/computed.rs"]
mod computed;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use computed::{checksum, picture};
use glassbox_prelude::candle_core::{Var, safetensors};
use glassbox_prelude::prelude::*;
use glassbox_prelude::vision::{Anyres, GridSplit, NanoSplit, Resample};
use proptest::prelude::*;
use serde_json::{Value, json};

type Outcome = std::result::Result<(), Box<dyn std::error::Error>>;

const FILE: &str = "preprocessor_config.json";

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/fixtures/tiling")
        .join(name)
}

fn fixtures() -> std::result::Result<Vec<Value>, Box<dyn std::error::Error>> {
    let text = std::fs::read_to_string(fixture("cases.json"))?;
    Ok(serde_json::from_str(&text)?)
}

fn number(value: &Value) -> usize {
    value.as_u64().unwrap_or_default() as usize
}

fn read(processor: &Value) -> Result<Tiling> {
    Tiling::from_json(&processor.to_string(), FILE.as_ref())
}

fn split(tiling: &Tiling) -> &GridSplit {
    match tiling {
        Tiling::Split(way) => way,
        _ => panic!("another way"),
    }
}

fn anyres(tiling: &Tiling) -> &Anyres {
    match tiling {
        Tiling::Anyres(way) => way,
        _ => panic!("another way"),
    }
}

#[test]
fn tiles_and_the_text_around_them_are_the_references_to_the_bit() -> Outcome {
    let mut compared = 0;
    for fixture in fixtures()? {
        let name = fixture["name"].as_str().unwrap_or_default();
        let tiling = read(&fixture["processor"])?;
        for case in fixture["cases"].as_array().into_iter().flatten() {
            let (width, height) = (number(&case["width"]), number(&case["height"]));
            let image = picture(width as u32, height as u32)?;
            let tiles = tiling.tile(&image)?;
            let at = format!("{name}, {width}×{height}");
            assert_eq!(json!(tiles.pixel_values.dims()), case["shape"], "{at}");
            assert_eq!(tiles.count(), tiles.pixel_values.dim(0)?, "{at}");
            assert_eq!(
                json!(checksum(&tiles.pixel_values)?),
                case["checksum"],
                "{at}"
            );
            if let Some(text) = case["text"].as_str() {
                let grid = (number(&case["rows"]), number(&case["columns"]));
                assert_eq!((tiles.rows, tiles.columns), grid, "{at}");
                assert_eq!(tiles.overview, Some(tiles.count() - 1));
                assert_eq!(split(&tiling).text(&tiles, 2), text, "{at}");
            } else {
                assert_eq!(tiles.overview, Some(0));
                let most = name.contains("onevision").then_some(2);
                let size = (height as u32, width as u32);
                let tokens = anyres(&tiling).tokens(size, 3, most)?;
                assert_eq!(tokens, number(&case["tokens"]), "{at}");
            }
            if let Some(wanted) = case["one_of_several"].as_str() {
                let alone = anyres(&tiling).one_of_several(&image)?;
                assert_eq!(alone.count(), 1);
                assert_eq!(checksum(&alone.pixel_values)?, wanted, "{at}");
            }
            compared += 1;
        }
    }
    assert_eq!(compared, 64);
    Ok(())
}

#[test]
fn hidden_states_of_tiles_are_packed_as_llavas_models_do() -> Outcome {
    let tensors: HashMap<String, Tensor> =
        safetensors::load(fixture("packed.safetensors"), &Device::Cpu)?;
    let newline = &tensors["newline"];
    for (name, most) in [("llava_next", None), ("llava_onevision", Some(2))] {
        let fixtures = fixtures()?;
        let fixture = fixtures.iter().find(|one| one["name"] == name);
        let fixture = fixture.ok_or("no such fixture")?;
        let tiling = read(&fixture["processor"])?;
        let cases = fixture["cases"].as_array().into_iter().flatten();
        for (index, case) in cases.enumerate() {
            let (width, height) = (number(&case["width"]), number(&case["height"]));
            let tiles = tiling.tile(&picture(width as u32, height as u32)?)?;
            let hidden = Var::from_tensor(&tensors[&format!("{name}.{index}.hidden")])?;
            for (line, wanted) in [(Some(newline), "packed"), (None, "plain")] {
                let wanted = &tensors[&format!("{name}.{index}.{wanted}")];
                let packed = anyres(&tiling).pack(hidden.as_tensor(), &tiles, line, most)?;
                assert_eq!(packed.dims(), wanted.dims(), "{name}, {width}×{height}");
                let worst = (&packed - wanted)?.abs()?.max_all()?.to_scalar::<f32>()?;
                let allowed = if most.is_some() { 1e-6 } else { 0.0 };
                assert!(worst <= allowed, "{name}, {width}×{height}: {worst}");
                // A projector before it trains.
                let gradients = packed.sqr()?.sum_all()?.backward()?;
                let gradient = gradients.get(hidden.as_tensor()).ok_or("no gradient")?;
                assert!(gradient.abs()?.sum_all()?.to_scalar::<f32>()? > 0.0);
            }
        }
    }
    Ok(())
}

#[test]
fn hidden_states_that_do_not_fit_the_tiles_are_refused() -> Outcome {
    let fixtures = fixtures()?;
    let next = fixtures.iter().find(|one| one["name"] == "llava_next");
    let tiling = read(&next.ok_or("no such fixture")?["processor"])?;
    let way = anyres(&tiling);
    let tiles = way.tile(&picture(64, 48)?)?;
    let zeros = |dims: &[usize]| Tensor::zeros(dims, DType::F32, &Device::Cpu);
    let good = zeros(&[5, 9, 4])?;
    assert_eq!(tiles.count(), 5);
    assert!(way.pack(&good, &tiles, None, None).is_ok());
    // Hidden states, length of the newline vector, limit, and what is said of them.
    type Misfit = (&'static [usize], Option<usize>, Option<usize>, &'static str);
    let cases: [Misfit; 5] = [
        (&[4, 9, 4], None, None, "5 tiles"),
        (&[5, 10, 4], None, None, "class token"),
        (&[5, 9], None, None, "[N, P, D]"),
        (&[5, 9, 4], Some(3), None, "must be [4]"),
        (&[5, 9, 4], None, Some(0), "at least 1"),
    ];
    for (hidden, line, most, words) in cases {
        let line = line.map(|width| zeros(&[width])).transpose()?;
        let message = way.pack(&zeros(hidden)?, &tiles, line.as_ref(), most);
        let message = message.map(|_| ()).unwrap_err().to_string();
        assert!(message.contains(words), "{message}");
    }
    assert!(way.tokens((48, 64), 0, None).is_err());
    Ok(())
}

#[test]
fn a_picture_in_tiles_shows_itself_as_the_grid() -> Outcome {
    let file = json!({
        "image_processor_type": "SmolVLMImageProcessor", "size": {"longest_edge": 96},
        "max_image_size": {"longest_edge": 32},
    });
    let tiling = read(&file)?;
    let tiles = tiling.tile(&picture(96, 64)?)?;
    assert_eq!((tiles.rows, tiles.columns, tiles.overview), (2, 3, Some(6)));
    let places: Vec<_> = (0..8).map(|tile| tiles.place(tile)).collect();
    assert_eq!(places[4], Some((1, 1)));
    assert_eq!((places[6], places[7]), (None, None));
    let shown = tiles.picture()?;
    // The whole, and three columns; two rows; 32 pixels each with gaps of 4.
    assert_eq!((shown.width(), shown.height()), (4 * 36 - 4, 2 * 36 - 4));
    // What is in the grid is the picture, with gaps.
    let sized = picture(96, 64)?;
    for (x, y) in [(0, 0), (31, 31), (40, 10), (95, 63)] {
        let at = (36 + x + x / 32 * 4, y + y / 32 * 4);
        let (found, wanted) = (
            shown.rgb().get_pixel(at.0, at.1),
            sized.rgb().get_pixel(x, y),
        );
        assert_eq!(found, wanted, "{x}, {y}");
    }
    let rendered = tiles.render();
    assert!(rendered.plain().contains("2 rows × 3 columns"));
    assert!(rendered.get("image/png").is_some() && rendered.html().is_some());
    assert!(format!("{tiling:?}").contains("Idefics3"));
    // One tile alone, and LLaVA's with the whole in front.
    let alone = split(&tiling).clone().with_cutting(false);
    assert_eq!(alone.tile(&sized)?.count(), 1);
    let pieces = alone.pieces(&alone.tile(&sized)?);
    assert_eq!(pieces.len(), 3);
    assert_eq!(pieces[1], TilePiece::Tile(0));
    Ok(())
}

fn refused(file: &Value) -> String {
    match read(file) {
        Ok(_) => format!("{file} was read"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn every_field_of_a_processor_is_read_or_refused_by_name() {
    let idefics3 = json!({
        "image_processor_type": "Idefics3ImageProcessor", "size": {"longest_edge": 96}, "max_image_size": {"longest_edge": 32},
        "do_image_splitting": true, "do_resize": true, "resample": 1, "do_rescale": true, "rescale_factor": 0.00392,
        "do_normalize": true, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "do_pad": true,
        "do_convert_rgb": true,
    });
    let llava = json!({
        "image_processor_type": "LlavaNextImageProcessor", "size": {"shortest_edge": 24}, "crop_size": {"height": 24, "width": 24},
        "image_grid_pinpoints": [[24, 48], [48, 24]], "do_center_crop": true, "resample": 3,
    });
    assert!(read(&idefics3).is_ok() && read(&llava).is_ok());
    let cases = [
        (&idefics3, "sharpen", json!(true), "sharpen"),
        (
            &llava,
            "aspect_ratio_setting",
            json!("square"),
            "aspect_ratio_setting",
        ),
        (
            &idefics3,
            "size",
            json!({"longest_edge": 0}),
            "out of range",
        ),
        (
            &idefics3,
            "size",
            json!({"shortest_edge": 9}),
            "longest_edge",
        ),
        (
            &idefics3,
            "size",
            json!({"longest_edge": 9, "odd": 1}),
            "odd",
        ),
        (
            &idefics3,
            "max_image_size",
            json!({"height": 3, "width": 4}),
            "max_image_size",
        ),
        (&idefics3, "resample", json!(0), "resample 0"),
        (&idefics3, "image_std", json!([0, 1, 1]), "image_std"),
        (&idefics3, "image_mean", json!([1, 1]), "image_mean"),
        (&idefics3, "do_resize", json!("yes"), "do_resize"),
        (
            &idefics3,
            "image_grid_pinpoints",
            json!([[32, 32]]),
            "two ways",
        ),
        (
            &idefics3,
            "do_flip_channel_order",
            json!(true),
            "do_flip_channel_order",
        ),
        (&llava, "image_grid_pinpoints", json!([]), "empty"),
        (&llava, "image_grid_pinpoints", json!([[24, 50]]), "24×50"),
        (&llava, "image_grid_pinpoints", json!([[0, 24]]), "0×24"),
        (
            &llava,
            "image_grid_pinpoints",
            json!([[24]]),
            "image_grid_pinpoints",
        ),
        (
            &llava,
            "image_grid_pinpoints",
            json!("many"),
            "image_grid_pinpoints",
        ),
        (
            &llava,
            "crop_size",
            json!({"shortest_edge": 24}),
            "crop_size",
        ),
        (&llava, "size", json!({"longest_edge": 24}), "shortest_edge"),
        (&llava, "crop_pct", json!(0.9), "crop_pct"),
    ];
    for (file, field, value, words) in cases {
        let mut file = file.clone();
        file[field] = value;
        let message = refused(&file);
        assert!(
            message.contains(words) && message.contains(FILE),
            "{field}: {message}"
        );
    }
    for (file, words) in [
        (json!({"size": 24}), "cuts no pictures"),
        (json!([]), "no JSON object"),
        (
            json!({"do_image_splitting": true, "max_image_size": {"longest_edge": 9}}),
            "size is missing",
        ),
    ] {
        assert!(refused(&file).contains(words), "{}", refused(&file));
    }
    // The other way round: a processor of tiles is none for one picture.
    for file in [&idefics3, &llava] {
        let message = ImageProcessorConfig::from_json(&file.to_string(), FILE.as_ref());
        let message = message.map(|_| ()).unwrap_err().to_string();
        assert!(message.contains("Tiling::from_file"), "{message}");
    }
}

#[test]
fn an_image_processors_fields_are_read_or_refused_too() {
    let read = |file: Value| ImageProcessorConfig::from_json(&file.to_string(), FILE.as_ref());
    for (file, words) in [
        (json!({"size": 8, "crop_pct": 0.875}), "crop_pct"),
        (
            json!({"size": {"shortest_edge": 8, "longest_edge": 20}}),
            "nothing besides",
        ),
        (
            json!({"size": 8, "max_num_patches": 256, "patch_size": 16}),
            "max_num_patches, patch_size",
        ),
        (
            json!({"size": {"height": 8, "width": 9}, "image_processor_type": "LlavaImageProcessor", "do_pad": true}),
            "squares",
        ),
    ] {
        let message = read(file).map(|_| ()).unwrap_err().to_string();
        assert!(message.contains(words), "{message}");
    }
    // What a file leaves out is what its class takes.
    let clip = read(json!({"image_processor_type": "CLIPImageProcessorFast"})).expect("defaults");
    assert_eq!(clip.output_size(), Some((224, 224)));
    assert_eq!(clip.resample, Resample::Bicubic);
    assert_eq!(clip.normalize.map(|(mean, _)| mean[0]), Some(0.48145466));
    let one = read(json!({"size": 8, "image_mean": 0.25})).expect("a mean for all");
    assert_eq!(one.normalize.map(|(mean, _)| mean), Some([0.25; 3]));
}

#[test]
fn pictures_of_any_shape_become_few_tiles_or_an_error() -> Outcome {
    let huge = json!({
        "image_processor_type": "Idefics3ImageProcessor", "size": {"longest_edge": 4096}, "max_image_size": {"longest_edge": 1},
        "do_resize": false,
    });
    // A thread of 1×5000 in tiles of one pixel is small; the square of a large picture is not.
    let tiles = read(&huge)?.tile(&picture(1, 5000)?)?;
    assert_eq!((tiles.rows, tiles.columns), (5000, 1));
    let wide = json!({
        "image_processor_type": "Idefics3ImageProcessor", "size": {"longest_edge": 8000}, "max_image_size": {"longest_edge": 4000},
        "do_resize": false,
    });
    let error = read(&wide)?
        .tile(&picture(9000, 3)?)
        .map(|_| ())
        .unwrap_err();
    assert!(matches!(error, Error::Input(_)), "{error}");
    assert!(
        error.to_string().contains("4 tiles of 4000×4000"),
        "{error}"
    );
    let next = json!({"image_processor_type": "LlavaOnevisionImageProcessor"});
    let way = read(&next)?;
    // No size keeps any of its pixels: the smallest will do, as in the reference.
    assert_eq!(way.tile(&picture(9000, 1)?)?.count(), 2);
    let error = anyres(&way).one_of_several(&picture(9000, 1)?);
    assert!(
        error
            .map(|_| ())
            .unwrap_err()
            .to_string()
            .contains("shrink it first")
    );
    Ok(())
}

fn cases() -> u32 {
    std::env::var("GLASSBOX_FUZZ_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(300)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn any_picture_and_any_setting_gives_whole_tiles_or_an_error(
        size in (1_u32..70, 1_u32..70), thin in 0_u8..4, longest in 0_u32..300, tile in 0_u32..50, do_resize: bool, cut: bool,
        pinpoints in proptest::collection::vec((0_u32..5, 0_u32..5), 0..4),
    ) {
        let (width, height) = match thin {
            0 => (size.0 * 50, 1),
            1 => (1, size.1 * 50),
            _ => size,
        };
        let image = picture(width, height)?;
        let files = [
            json!({
                "image_processor_type": "Idefics3ImageProcessor", "size": {"longest_edge": longest},
                "max_image_size": {"longest_edge": tile}, "do_resize": do_resize, "do_image_splitting": cut,
            }),
            json!({
                "image_processor_type": "LlavaOnevisionImageProcessor", "size": {"height": tile, "width": tile},
                "do_resize": do_resize,
                "image_grid_pinpoints": pinpoints.iter().map(|(h, w)| [h * tile, w * tile]).collect::<Vec<_>>(),
            }),
        ];
        for file in files {
            let Ok(tiling) = read(&file) else { continue };
            match tiling.tile(&image) {
                Ok(tiles) => {
                    let side = tile as usize;
                    prop_assert_eq!(tiles.pixel_values.dims(), &[tiles.count(), 3, side, side]);
                    let shown = tiles.picture()?;
                    prop_assert!(shown.width() <= 4000 && shown.height() <= 4000);
                }
                Err(error) => prop_assert!(matches!(error, Error::Input(_)), "{}", error),
            }
        }
    }
}

#[test]
fn nanovlms_tiles_are_those_of_its_own_code() -> Outcome {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/nanovlm");
    let mut compared = 0;
    for name in ["tiles", "global", "longest"] {
        let config: Value = serde_json::from_str(&std::fs::read_to_string(
            folder.join(name).join("config.json"),
        )?)?;
        let cases: Value = serde_json::from_str(&std::fs::read_to_string(
            folder.join(name).join("cases.json"),
        )?)?;
        let wanted =
            safetensors::load(folder.join(name).join("expected.safetensors"), &Device::Cpu)?;
        let way = NanoSplit::new(
            number(&config["vit_img_size"]) as u32,
            number(&config["max_img_size"]) as u32,
            config["resize_to_max_side_len"] == true,
            serde_json::from_value(config["vlm_extra_tokens"].clone())?,
        )?;
        for case in cases["cases"].as_array().into_iter().flatten() {
            let key = format!("{}.pixel_values", case["name"].as_str().unwrap_or_default());
            let Some(wanted) = wanted.get(&key) else {
                continue;
            };
            let mut tiles = Vec::new();
            for size in case["pictures"].as_array().into_iter().flatten() {
                let image = picture(number(&size[0]) as u32, number(&size[1]) as u32)?;
                tiles.push(way.tile(&image)?.pixel_values);
            }
            let found = Tensor::cat(&tiles, 0)?;
            let at = format!("{name}, {}", case["name"]);
            assert_eq!(found.dims(), wanted.dims(), "{at}");
            let worst = (&found - wanted)?.abs()?.max_all()?.to_scalar::<f32>()?;
            assert!(worst <= 2e-7, "{at}: {worst}");
            compared += 1;
        }
    }
    assert_eq!(compared, 6);
    Ok(())
}
