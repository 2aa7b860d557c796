//! Another encoder than a ViT: what goes where, and what is refused.

use super::*;
use crate::vision::Tower;

fn tower() -> Result<Tower> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/towers/siglip");
    Tower::load(folder, DType::F32, &Device::Cpu)
}

#[test]
fn a_tower_takes_the_vits_place() -> Result<()> {
    let tower = tower()?;
    let with_vit = vlm(VlmSettings::corrected())?;
    let vlm = with_vit.for_encoder(tower.clone(), 5)?;
    stir(&vlm)?;
    let pixels = vlm.image_processor.preprocess_batch(&pictures(2)?)?;
    assert_eq!(pixels.dims()[2..], [tower.config.image_size; 2]);
    let positions = tower.positions().count();
    assert_eq!(vlm.image_tokens(&pixels)?.dims(), [2, positions, WIDTH]);
    assert_eq!(vlm.image_encoder.kind(), "siglip_vision_model");
    assert!(vlm.image_encoder.vit().is_err());
    assert!(vlm.image_encoder.get::<Tower>().is_some());
    assert_eq!(vlm.settings.vision_feature, tower.feature);
    // The model that it came from still has its ViT.
    assert!(with_vit.image_encoder.vit().is_ok() && with_vit.settings.vit_lora.is_some());
    let table = vlm.table();
    let part = &table.parts()[0];
    assert_eq!(part.name, "image_encoder (siglip_vision_model)");
    assert!(part.trainable == 0 && part.parameters > 0);
    Ok(())
}

#[test]
fn hidden_states_pass_for_what_they_came_from() -> Result<()> {
    let own = vlm(VlmSettings::corrected())?;
    let pixels = own.image_processor.preprocess_batch(&pictures(2)?)?;
    let hidden = own.image_encoder.encode(&pixels)?;
    let both = [&pixels, &hidden].map(|input| own.full_sequence_loss(input, &captions())?.value());
    let [from_pixels, from_hidden] = both;
    assert_eq!(from_pixels?, from_hidden?);
    for other in [pixels.flatten_all()?, pixels.unsqueeze(0)?] {
        assert!(matches!(own.image_tokens(&other), Err(Error::Input(_))));
    }
    let narrow = hidden.narrow(2, 0, 5)?;
    assert!(matches!(own.image_tokens(&narrow), Err(Error::Input(_))));
    Ok(())
}

#[test]
fn lora_of_a_vit_on_a_tower_says_what_to_do() -> Result<()> {
    let mut parts = parts()?;
    parts.image_encoder = tower()?.into();
    let error = Vlm::new(parts.clone(), shrunk(VlmSettings::corrected()), 1).unwrap_err();
    let message = error.to_string();
    assert!(
        message.contains("siglip_vision_model")
            && message.contains("q_proj")
            && message.contains("vit_lora: None"),
        "{message}"
    );
    // LoRA on layers that it has trains like a ViT's.
    let settings = VlmSettings {
        vit_lora: Some(LoraConfig::new(2, 4.0, &["fc1"])),
        ..shrunk(VlmSettings::corrected())
    };
    let vlm = Vlm::new(parts, settings, 1)?;
    let adapters = vlm.trainable_parameters().into_iter();
    let adapters = adapters.filter(|p| p.name.starts_with("image_encoder."));
    assert_eq!(adapters.count(), 2 * 2);
    Ok(())
}

#[test]
fn a_projector_that_needs_a_grid_is_refused_where_there_is_none() -> Result<()> {
    let settings = VlmSettings {
        projector: ProjectorKind::PixelShuffle { factor: 3 },
        ..shrunk(VlmSettings::corrected())
    };
    let error = Vlm::new(parts()?, settings, 1).unwrap_err();
    assert!(
        matches!(&error, Error::Config(text) if text.contains("4 × 4")),
        "{error}"
    );
    Ok(())
}
