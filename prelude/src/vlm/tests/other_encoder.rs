//! Another encoder than the model's own, by its hidden states.

use super::*;
use crate::vision::Tower;

#[test]
fn a_tower_feeds_the_language_model_through_a_projector_of_its_width() -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/towers/siglip");
    let tower = Tower::load(folder, DType::F32, &Device::Cpu)?;
    let side = tower.config.image_size;
    let pixels = crate::nn::testing::random(&[2, 3, side, side], 1.0, 1);
    let hidden = tower.encode(&pixels)?.detach(); // [2, P, D_image]
    let positions = tower.positions().count();

    let mut parts = parts()?;
    let wider = ViTConfig::new(32, 8, 24, 32, 2, 2);
    parts.image_encoder = Vit::new_random(&wider, 1, &Device::Cpu)?;
    let vlm = Vlm::new(parts, shrunk(VlmSettings::corrected()), 3)?;
    assert!(matches!(vlm.image_tokens(&hidden), Err(Error::Input(_))));
    let vlm = vlm.for_encoder(&tower, 5)?;
    stir(&vlm)?;
    assert_eq!(vlm.image_tokens(&hidden)?.dims(), [2, positions, WIDTH]);
    let loss = vlm.full_sequence_loss(&hidden, &captions())?;
    let grads = loss.loss.backward()?;
    for parameter in vlm.trainable_parameters() {
        assert!(grads.get(&parameter.tensor).is_some(), "{}", parameter.name);
    }
    let texts = vlm.generate_from(&hidden).max_new_tokens(4).run_all()?;
    let alone = vlm
        .generate_from(&hidden.narrow(0, 1, 1)?)
        .max_new_tokens(4)
        .run()?;
    assert_eq!(texts[1].ids, alone.ids);

    // The model's own encoder, run by hand, is no different from pixel values.
    let own = super::vlm(VlmSettings::corrected())?;
    let pixels = own.image_processor.preprocess_batch(&pictures(2)?)?;
    let hidden = own.image_encoder.encode(&pixels)?;
    let both = [&pixels, &hidden].map(|input| own.full_sequence_loss(input, &captions())?.value());
    let [from_pixels, from_hidden] = both;
    assert_eq!(from_pixels?, from_hidden?);
    assert!(matches!(
        own.image_tokens(&pixels.flatten_all()?),
        Err(Error::Input(_))
    ));
    Ok(())
}
