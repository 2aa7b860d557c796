//! What a GPU computes, checked without one: every operation that has a kernel of the CPU alone has a composed form too, and the two agree,
//! forward and backward, and where nothing is differentiated.

use super::*;
use crate::nn::testing::{assert_close, check_gradient, random};
use crate::nn::{Attention, Rotary};
use crate::{Error, Result};
use candle_core::{Device, Tensor, Var};
use std::collections::BTreeSet;
use std::path::Path;

/// Operations whose composed form another test compares, or that a GPU refuses by name.
const ELSEWHERE: [&str; 3] = [
    "linear_in_blocks", // refused on a GPU; see in_blocks.rs
    "adamw_moment",     // the step below
    "adamw_change",
];

type Run = Box<dyn Fn(&[Tensor]) -> Result<Tensor>>;

/// An operation by the name it has for candle, what is differentiated, and the operation.
fn cases() -> Result<Vec<(&'static str, Vec<Tensor>, Run)>> {
    let x = random(&[2, 5, 12], 1.0, 1);
    let (w, b) = (random(&[7, 12], 1.0, 2), random(&[7], 1.0, 3));
    let (scale, shift) = (random(&[12], 1.0, 4), random(&[12], 1.0, 5));
    let (frozen_w, frozen_b) = (w.clone(), b.clone());
    let (frozen_scale, frozen_shift) = (scale.clone(), shift.clone());
    let mut cases: Vec<(&'static str, Vec<Tensor>, Run)> = vec![
        (
            "frozen_linear",
            vec![x.clone()],
            Box::new(move |a| linear(&a[0], &frozen_w, Some(&frozen_b))),
        ),
        (
            "trainable_linear",
            vec![x.clone(), w.clone(), b],
            Box::new(|a| linear(&a[0], &a[1], Some(&a[2]))),
        ),
        (
            "trainable_linear",
            vec![x.clone(), w],
            Box::new(|a| linear(&a[0], &a[1], None)),
        ),
        (
            "lora",
            vec![x.clone(), random(&[3, 12], 1.0, 6), random(&[7, 3], 1.0, 7)],
            Box::new(|a| lora(&a[0], (&a[1], &a[2]), 0.5)),
        ),
        (
            "layer_norm",
            vec![x.clone()],
            Box::new({
                let scale = frozen_scale.clone();
                move |a| layer_norm(&a[0], &scale, &frozen_shift, 1e-5)
            }),
        ),
        (
            "layer_norm",
            vec![x.clone(), scale.clone(), shift],
            Box::new(|a| layer_norm(&a[0], &a[1], &a[2], 1e-5)),
        ),
        (
            "rms_norm",
            vec![x.clone()],
            Box::new(move |a| rms_norm(&a[0], &frozen_scale, 1e-5)),
        ),
        (
            "rms_norm",
            vec![x.clone(), scale],
            Box::new(|a| rms_norm(&a[0], &a[1], 1e-5)),
        ),
        ("softmax", vec![x.clone()], Box::new(|a| softmax(&a[0]))),
        ("gelu", vec![x.clone()], Box::new(|a| gelu(&a[0]))),
        ("swiglu", vec![x.clone()], Box::new(|a| swiglu(&a[0]))),
        (
            "cross_entropy",
            vec![random(&[4, 9], 2.0, 8)],
            Box::new(|a| cross_entropy(&a[0], &[8, 0, 3, 3])),
        ),
    ];
    // Whole heads and a part of each; places for all sequences and for each its own.
    let places = [vec![0u32, 1, 2, 3, 9], vec![4, 5, 6, 7, 8]];
    for (frequencies, places) in [
        (&[1.0, 0.1][..], &places[..1]),
        (&[1.0, 0.1], &places),
        (&[1.0], &places),
    ] {
        let rotary = Rotary::new(frequencies, places, 1.1)?;
        cases.push((
            "rotary",
            vec![x.clone()],
            Box::new(move |a| rotate(&a[0], &rotary, 4)),
        ));
    }
    // The second sequence's first two keys are padding, so its first two queries see nothing.
    let mask = Tensor::new(&[[1u8, 1, 1, 1, 1], [0, 0, 1, 1, 1]], &Device::Cpu)?;
    let window = Attention {
        sliding_window: Some(2),
        ..Attention::causal(4, 2, 3)
    };
    for (form, queries, mask) in [
        (Attention::bidirectional(4, 3), 5, None),
        (Attention::bidirectional(4, 3), 5, Some(mask.clone())),
        (Attention::causal(4, 2, 3), 5, None),
        (Attention::causal(4, 2, 3), 5, Some(mask.clone())),
        (Attention::causal(4, 1, 3), 1, None),
        (window.clone(), 5, Some(mask.clone())),
        (window.clone(), 1, None),
    ] {
        let key = form.kv_heads * form.head_dim;
        let inputs = vec![
            random(&[2, queries, 12], 1.0, 9),
            random(&[2, 5, key], 1.0, 10),
            random(&[2, 5, key], 1.0, 11),
        ];
        cases.push((
            "attention",
            inputs,
            Box::new(move |a| attention(&form, &a[0], &a[1], &a[2], mask.as_ref())),
        ));
    }
    for (form, mask) in [(Attention::causal(2, 1, 4), None), (window, Some(mask))] {
        let d = form.head_dim;
        let frequencies: Vec<f32> = (0..d / 2).map(|i| 0.5f32.powi(i as i32)).collect();
        let rotary = Rotary::new(&frequencies, &places, 1.0)?;
        let width = (form.heads + 2 * form.kv_heads) * d;
        cases.push((
            "rotary_attention",
            vec![random(&[2, 5, width], 1.0, 12)],
            Box::new(move |a| rotary_attention(&form, &a[0], &rotary, mask.as_ref())),
        ));
    }
    Ok(cases)
}

#[test]
fn the_composed_form_is_the_fused_one_with_and_without_gradients() -> Result<()> {
    for (_, inputs, run) in cases()? {
        let fused = run(&inputs)?;
        assert_close(&with_composed_ops(|| run(&inputs))?, &fused, 4e-6);
        // What is differentiated may be composed otherwise.
        let vars = inputs.iter().map(Var::from_tensor);
        let vars = vars.collect::<candle_core::Result<Vec<_>>>()?;
        let tracked: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
        assert_close(&with_composed_ops(|| run(&tracked))?, &fused, 4e-6);
        check_gradient(&inputs, &run, |a| with_composed_ops(|| run(a)), 2e-5)?;
    }
    Ok(())
}

/// As [`crate::train::AdamW`] chooses between the two, by dtype and device.
#[test]
fn steps_of_adamw_are_the_same_in_both_forms() -> Result<()> {
    use crate::nn::Parameter;
    use crate::train::{AdamW, AdamWConfig, Gradients};
    let after = |composed: bool| -> Result<Tensor> {
        let var = Var::from_tensor(&random(&[5, 7], 1.0, 1))?;
        let parameters = [Parameter::new("w", &var)];
        let mut adamw = AdamW::new(AdamWConfig::default())?;
        for _ in 0..3 {
            let loss = var.as_tensor().sqr()?.sum_all()?;
            let gradients = Gradients::of(&loss, &parameters)?;
            match composed {
                true => with_composed_ops(|| adamw.step(&parameters, &gradients))?,
                false => adamw.step(&parameters, &gradients)?,
            }
        }
        Ok(var.as_tensor().clone())
    };
    assert_close(&after(true)?, &after(false)?, 1e-6);
    Ok(())
}

/// The names of operations in a file that have no kernel of a GPU.
fn of_the_cpu_alone(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let marks = ["CustomOp1 for ", "CustomOp2 for ", "CustomOp3 for "];
    let marks = marks
        .into_iter()
        .chain(["InplaceOp1 for ", "InplaceOp2 for ", "InplaceOp3 for "]);
    for mark in marks {
        for (at, _) in text.match_indices(mark) {
            let block = &text[at..];
            let block = &block[..block.find("\n}\n").unwrap_or(block.len())];
            if block.contains("fn cuda_fwd") {
                continue;
            }
            let name = block.split_once("fn name(").and_then(|(_, rest)| {
                let (_, rest) = rest.split_once('"')?;
                Some(rest.split_once('"')?.0.to_owned())
            });
            found.push(name.unwrap_or_else(|| format!("without a name: {}", &block[..60])));
        }
    }
    found
}

fn sources(folder: &Path, found: &mut Vec<std::path::PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        match path.is_dir() {
            true => sources(&path, found)?,
            false if path.extension().is_some_and(|ending| ending == "rs") => found.push(path),
            false => {}
        }
    }
    Ok(())
}

#[test]
fn every_operation_runs_on_a_gpu_or_has_a_composed_form_that_is_tested() -> Result<()> {
    let io = |source| Error::Io {
        path: "src".into(),
        source,
    };
    let mut files = Vec::new();
    sources(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut files,
    )
    .map_err(io)?;
    let mut alone = BTreeSet::new();
    for file in files {
        let text = std::fs::read_to_string(&file).map_err(io)?;
        if file
            .file_name()
            .is_some_and(|name| name == "composed_tests.rs")
        {
            continue;
        }
        alone.extend(of_the_cpu_alone(&text));
    }
    let tested: BTreeSet<String> = cases()?
        .iter()
        .map(|(name, ..)| (*name).to_owned())
        .collect();
    let untested: Vec<&String> = alone
        .iter()
        .filter(|name| !tested.contains(*name) && !ELSEWHERE.contains(&name.as_str()))
        .collect();
    assert!(
        untested.is_empty(),
        "{untested:?} have no kernel of a GPU, and no case here that compares their composed form"
    );
    for name in ELSEWHERE {
        assert!(alone.contains(name), "{name} is listed, and there is none");
    }
    Ok(())
}

#[test]
fn an_operation_without_a_kernel_of_a_gpu_is_found() {
    let text = "impl CustomOp1 for A {\n    fn name(&self) -> &'static str {\n        \"a\"\n    }\n}\n\
                impl candle_core::InplaceOp2 for B {\n    fn name(&self) -> &'static str { \"b\" }\n    fn cuda_fwd() {}\n}\n";
    assert_eq!(of_the_cpu_alone(text), ["a"]);
}
