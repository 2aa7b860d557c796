//! ViT and every tower: names, no-ops to the bit, and edits against weights that were edited by hand.

use crate::{Fixture, Outcome, bits, difference, towers, unfused, vit, without_columns};
use glassbox_prelude::prelude::*;

fn check<M: Modality + Clone>(fixture: &Fixture<M>) -> Outcome {
    let Fixture {
        name,
        model,
        pixels,
    } = fixture;
    let depth = model.attentions(pixels)?.len();
    let (plain, seen) = Activations::read(&["*"], || model.encode(pixels))?;
    assert_eq!(
        bits(&plain)?,
        bits(&model.encode(pixels)?)?,
        "{name}: reading"
    );
    let names: Vec<String> = seen.names().map(ToOwned::to_owned).collect();
    let layers = names.iter().filter(|name| name.ends_with("/heads")).count();
    assert!(layers > 0 && layers <= depth, "{names:?}");
    for part in [
        "patch_embeddings",
        "hidden_states[0]",
        "layers[0]/attention",
        "layers[0]/middle",
        "layers[0]/neurons",
        "layers[0]/mlp",
    ] {
        let wanted = format!("image_encoder/{part}");
        assert!(names.contains(&wanted), "{name} lacks {wanted}: {names:?}");
    }
    for (stage, tensor) in model.stages(pixels)?.named {
        if let Ok(read) = seen.get(&format!("image_encoder/{stage}")) {
            assert_eq!(bits(&read)?, bits(&tensor)?, "{name}: {stage}");
        }
    }
    let positions = model.positions();
    for point in &names {
        for edits in [
            Edits::new().patch(point.as_str(), &seen),
            Edits::new().replace(point.as_str(), &seen.get(point)?),
            Edits::new().patch(Site::new(point).tokens([0, 2]).row(1), &seen),
        ] {
            let made = edits.run(|| model.encode(pixels))?;
            if unfused(point) {
                assert!(difference(&made, &plain)? < 1e-5, "{name}: {point}");
                continue;
            }
            assert_eq!(bits(&made)?, bits(&plain)?, "{name}: {point}");
        }
    }
    // A patch that is zeroed in one picture changes nothing in the other.
    let one = Edits::new()
        .zero(
            Site::hidden_states("image_encoder", 0)
                .token(positions.count() - 1)
                .row(1),
        )
        .run(|| model.encode(pixels))?;
    assert_eq!(bits(&one.get(0)?)?, bits(&plain.get(0)?)?, "{name}");
    assert!(difference(&one, &plain)? > 1e-6, "{name}");
    // All that one picture is, put into the other's run.
    let swapped = pixels.flip(&[0])?;
    let (other, seen) = Activations::read(&["image_encoder/hidden_states[1]"], || {
        model.encode(&swapped)
    })?;
    let patched = Edits::new()
        .patch("image_encoder/hidden_states[1]", &seen)
        .run(|| model.encode(pixels))?;
    assert_eq!(bits(&patched)?, bits(&other)?, "{name}");
    let refused = Edits::new()
        .zero("image_encoder/hidden_states[99]")
        .run(|| model.encode(pixels));
    assert!(
        matches!(refused.err(), Some(Error::NoSuchActivation { nearest, .. }) if nearest[0].contains("hidden_states"))
    );
    heads_by_hand(fixture)
}

/// Each head zeroed against the columns of the output projection zeroed, by the weights' names.
fn heads_by_hand<M: Modality + Clone>(fixture: &Fixture<M>) -> Outcome {
    let Fixture {
        name,
        model,
        pixels,
    } = fixture;
    let heads = model.attentions(pixels)?[0].dim(1)?;
    let width = model.dim() / heads;
    for head in 0..heads {
        let mut by_hand = model.clone();
        let mut found = 0;
        by_hand.visit_mut(&mut |part| {
            if let PartMut::Linear(linear) = part
                && is_first_output(linear.name())
            {
                found += 1;
                without_columns(linear, head * width..(head + 1) * width)?;
            }
            Ok(())
        })?;
        assert_eq!(found, 1, "{name}");
        let edited = Edits::new()
            .zero(Site::heads("image_encoder", 0).head(head))
            .run(|| model.encode(pixels))?;
        assert!(
            difference(&edited, &by_hand.encode(pixels)?)? < 1e-5,
            "{name} {head}"
        );
        assert!(
            difference(&edited, &model.encode(pixels)?)? > 1e-7,
            "{name} {head}: nothing happened"
        );
    }
    Ok(())
}

/// The output projection of the first layer's attention, as the encoders call it.
fn is_first_output(name: &str) -> bool {
    let first = name.contains("layer.0.") || name.contains("layers.0.");
    first && (name.ends_with("attention.output.dense") || name.ends_with("out_proj"))
}

#[test]
fn vit_is_edited_by_name() -> Outcome {
    let mut fixture = vit()?;
    check(&fixture)?;
    // The feature behind the final norm, and a scale by hand.
    fixture.model = fixture.model.with_feature(VisionFeature::LastHiddenState)?;
    check(&fixture)?;
    let mut by_hand = fixture.model.clone();
    crate::scaled(&mut by_hand.layers[0].output, 3.0)?;
    let edited = Edits::new()
        .scale(Site::mlp("image_encoder", 0), 3.0)
        .run(|| fixture.model.encode(&fixture.pixels))?;
    assert!(difference(&edited, &by_hand.encode(&fixture.pixels)?)? < 1e-4);
    Ok(())
}

#[test]
fn every_tower_is_edited_by_name() -> Outcome {
    for mut fixture in towers()? {
        check(&fixture)?;
        fixture.model = fixture.model.with_feature(VisionFeature::LastHiddenState)?;
        check(&fixture)?;
    }
    Ok(())
}
