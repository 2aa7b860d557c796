//! Samples that are of no use: too long for the context, a loss that is no number, none at all.

use glassbox_prelude::candle_core::{DType, Device, Tensor};
use glassbox_prelude::train::{Example, NotFinite, TooLong, Trainer, TrainerSettings};
use glassbox_prelude::vision::Image;
use glassbox_prelude::vlm::Vlm;
use glassbox_prelude::{Error, Result};

use super::{alone, folder, settings, squares, values};

/// Eight squares, of which the one at 5 has a caption of 400 words.
fn with_a_long_one() -> Result<Vec<Example>> {
    let mut set = squares(8)?;
    let image = Image::filled(64, 64, [9; 3])?;
    set[5] = Example::new(&image, "a red star and ".repeat(100));
    Ok(set)
}

#[test]
fn a_sample_longer_than_the_context_is_named_cut_or_left_out() -> Result<()> {
    let _alone = alone();
    let (set, held_out) = (with_a_long_one()?, squares(2)?);
    let run = |too_long| -> Result<_> {
        let vlm = Vlm::tiny(&Device::Cpu)?;
        let mut trainer = Trainer::new(TrainerSettings {
            too_long,
            batch_size: 4,
            ..settings(4) // two epochs
        })?;
        let report = trainer.fit(&vlm, &set, &held_out)?;
        let last = trainer.records().last().cloned().expect("steps were made");
        Ok((report, last))
    };
    let error = run(TooLong::Refuse).map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::ContextOverflow { .. }), "{error}");
    assert!(error.to_string().contains("training example 5"), "{error}");

    let (report, last) = run(TooLong::Cut)?;
    assert_eq!(
        (report.steps, report.cut, last.cut),
        (4, 2, 2),
        "once an epoch"
    );
    assert!(report.unreadable.is_empty());

    let (report, last) = run(TooLong::LeaveOut)?;
    assert_eq!((report.steps, report.cut, last.unreadable), (4, 0, 1));
    assert!(
        report.unreadable[0].lasting && report.unreadable[0].why.contains("training example 5")
    );
    Ok(())
}

#[test]
fn max_tokens_cuts_to_its_length_and_refuses_what_has_no_target_left() -> Result<()> {
    let _alone = alone();
    let (vlm, set) = (Vlm::tiny(&Device::Cpu)?, squares(4)?);
    let prompt = set[1].prompt(&vlm, Some(0))?; // the longest
    let length = vlm.sequence(&[prompt])?.lengths[0];
    let short = |max_tokens| TrainerSettings {
        max_tokens: Some(max_tokens),
        too_long: TooLong::Cut,
        batch_size: 4,
        ..settings(1)
    };
    let mut trainer = Trainer::new(short(length - 1))?;
    trainer.fit(&vlm, &set, &set)?;
    assert_eq!(trainer.records()[0].cut, 1);
    let error = Trainer::new(short(5))?
        .fit(&vlm, &set, &set)
        .map(|_| ())
        .unwrap_err();
    assert!(
        matches!(error, Error::ContextOverflow { context: 5, .. }),
        "{error}"
    );
    Ok(())
}

/// Eight inputs that are prepared, of which the one at 3 is all NaN.
fn with_a_nan() -> Result<Vec<(Tensor, Vec<String>)>> {
    let vlm = Vlm::tiny(&Device::Cpu)?;
    (0..8)
        .map(|at| {
            let image = Image::filled(64, 64, [at * 30, 30, 9])?;
            let pixels = vlm.image_processor.preprocess(&image)?;
            let pixels = match at {
                3 => Tensor::full(f32::NAN, pixels.dims(), &Device::Cpu)?.to_dtype(DType::F32)?,
                _ => pixels,
            };
            Ok((pixels, vec!["a red star".to_owned()]))
        })
        .collect()
}

#[test]
fn a_loss_that_is_no_number_names_its_sample_and_takes_no_step() -> Result<()> {
    let _alone = alone();
    let (set, held_out) = (with_a_nan()?, squares(2)?);
    let vlm = super::dropping()?;
    let mut trainer = Trainer::new(TrainerSettings {
        batch_size: 4,
        accumulate: 2,
        ..settings(1) // all eight
    })?;
    let before = values(&vlm)?;
    let error = trainer.fit(&vlm, &set, &held_out).map(|_| ()).unwrap_err();
    let Error::NotFinite { step, samples, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(
        (*step, &samples[..]),
        (1, &["training example 3".to_owned()][..])
    );
    assert_eq!(values(&vlm)?, before);
    assert_eq!(trainer.step(), 0);

    // Left out, the step is made with another, and a run that goes on leaves it out as well.
    let leave_out = TrainerSettings {
        not_finite: NotFinite::LeaveOut,
        ..settings(8)
    };
    let vlm = super::dropping()?;
    let mut trainer = Trainer::new(leave_out.clone())?;
    let report = trainer.fit(&vlm, &set, &held_out)?;
    assert_eq!((report.steps, report.unreadable.len()), (8, 1));
    assert_eq!(report.unreadable[0].position, 3);
    let folder = folder()?;
    let (other, place) = (super::dropping()?, folder.path().join("half"));
    let mut half = Trainer::new(TrainerSettings {
        steps: 5,
        ..leave_out.clone()
    })?;
    half.fit(&other, &set, &held_out)?;
    half.save(&place, &other)?;
    let third = super::dropping()?;
    let mut rest = Trainer::new(leave_out)?;
    rest.load(&place, &third)?;
    rest.fit(&third, &set, &held_out)?;
    assert_eq!(values(&third)?, values(&vlm)?);
    Ok(())
}

#[test]
fn sets_without_a_usable_sample_are_a_typed_error() -> Result<()> {
    let _alone = alone();
    let (vlm, set) = (Vlm::tiny(&Device::Cpu)?, squares(2)?);
    let none: Vec<Example> = Vec::new();
    for (train, held_out, named) in [
        (&none, &set, "the training set"),
        (&set, &none, "the held-out set"),
    ] {
        let error = Trainer::new(settings(1))?
            .fit(&vlm, train, held_out)
            .map(|_| ())
            .unwrap_err();
        assert!(
            matches!(&error, Error::NoSamples { set, .. } if set == named),
            "{error}"
        );
    }
    Ok(())
}
