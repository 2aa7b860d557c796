//! Writes one page with every display of the prelude, to be looked at in a browser or in JupyterLab.
//!
//! `cargo run --release -p glassbox-prelude --example gallery -- gallery.html` (add `dark` for a dark page), or with a
//! name that ends in `.ipynb` a notebook whose outputs are the displays.

use std::path::PathBuf;

use glassbox_prelude::Result;
use glassbox_prelude::display::html::escape;
use glassbox_prelude::display::{
    Cell, GridItem, Histogram, ImageGrid, LinePlot, LineStyle, LivePlot, MimeBundle, ModelPart,
    ModelTable, NextTokenTable, Progress, Render, SegmentKind, Table, TensorView, TokenStrip,
};
use glassbox_prelude::inspect::{
    EmbeddingPca, Expected, GradientLedger, LogitLens, LoraSpectrum, PatchHeat, StageTrace,
    TokenLossMap, attention_rollout,
};
use glassbox_prelude::nn::LoraConfig;
use glassbox_prelude::prelude::{
    DType, Decoder, DecoderConfig, Device, Difference, Example, LlmInput, Network, ProjectorKind,
    Runs, Scores, Sweep, Tensor, Trainer, TrainerSettings, Vlm, VlmSettings,
};
use glassbox_prelude::serde_json::json;
use glassbox_prelude::vision::Image;

/// Sections of the page: a heading and a display.
struct Page(Vec<(String, MimeBundle)>);

impl Page {
    fn add<T: Render + ?Sized>(&mut self, heading: &str, value: &T) {
        self.0.push((heading.to_owned(), value.render()));
    }

    fn html(&self, dark: bool) -> String {
        let colors = if dark {
            "background:#111111;color:#e0e0e0"
        } else {
            "background:#ffffff;color:#212121"
        };
        let mut page = format!(
            "<!doctype html><meta charset=utf-8><body style=\"font-family:sans-serif;{colors};margin:16px\">"
        );
        for (heading, bundle) in &self.0 {
            page.push_str(&format!(
                "<h3>{}</h3>{}<details><summary>text</summary><pre>{}</pre></details>",
                escape(heading),
                bundle.html().unwrap_or("no HTML"),
                escape(bundle.plain())
            ));
        }
        page
    }

    fn notebook(&self) -> String {
        let cells = self.0.iter().enumerate().map(|(index, (heading, bundle))| {
            json!({
                "cell_type": "code", "id": format!("cell-{index}"), "execution_count": index + 1,
                "metadata": {}, "source": format!("// {heading}"),
                "outputs": [{"output_type": "display_data", "metadata": {}, "data": bundle.data()}],
            })
        });
        json!({
            "cells": cells.collect::<Vec<_>>(), "nbformat": 4, "nbformat_minor": 5,
            "metadata": {"kernelspec": {"display_name": "Glassbox", "language": "rust", "name": "glassbox"}},
        })
        .to_string()
    }
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let path = PathBuf::from(arguments.next().unwrap_or_else(|| "gallery.html".into()));
    let dark = arguments.next().is_some_and(|theme| theme == "dark");
    let mut page = Page(Vec::new());
    general(&mut page);
    running(&mut page)?;
    runs(&mut page)?;
    pictures(&mut page)?;
    tensors(&mut page)?;
    stages(&mut page)?;
    instruments(&mut page)?;
    let text = if path
        .extension()
        .is_some_and(|extension| extension == "ipynb")
    {
        page.notebook()
    } else {
        page.html(dark)
    };
    std::fs::write(&path, text).map_err(|source| glassbox_prelude::Error::Io { path, source })
}

fn general(page: &mut Page) {
    page.add(
        "table",
        &Table::new(["name", "value", "state"])
            .title("a table")
            .row(["<weight>".into(), 1234567_usize.into(), Cell::good("right")])
            .row([
                Cell::code("layers.0.w"),
                0.000123.into(),
                Cell::bad("no gradient"),
            ])
            .total(["all".into(), 12.5.into()])
            .note("a note below"),
    );
    let noisy =
        |step: u32| 0.4 + 3.0 / (1.0 + f64::from(step) * 0.05) + f64::from(step * 7919 % 13) * 0.03;
    let train: Vec<(f64, f64)> = (0..200)
        .map(|step| (f64::from(step), noisy(step)))
        .collect();
    let validation: Vec<(f64, f64)> = (0..=200)
        .step_by(40)
        .map(|step| (f64::from(step), noisy(step) + 0.1))
        .collect();
    page.add(
        "line plot",
        &LinePlot::new("loss of the run")
            .axes("step", "loss")
            .styled_line("training", train.clone(), LineStyle::Faint)
            .line(
                "training",
                train.iter().map(|(x, y)| (*x, y * 0.97)).collect(),
            )
            .styled_line("validation", validation, LineStyle::Marked),
    );
    page.add(
        "logarithmic",
        &LinePlot::new("gradient norm")
            .log_y()
            .axes("step", "norm")
            .line(
                "all",
                train.iter().map(|(x, y)| (*x, (-y * 3.0).exp())).collect(),
            ),
    );
}

fn running(page: &mut Page) -> Result<()> {
    let plot = LivePlot::new("projector + LoRA", 300);
    for step in 0..180 {
        let noise = f64::from(step * 7919 % 13) * 0.05;
        plot.step(
            step as usize,
            0.3 + 3.0 / (1.0 + f64::from(step) * 0.05) + noise,
            64,
        );
        if step % 60 == 0 {
            plot.validation(step as usize, 0.5 + 3.0 / (1.0 + f64::from(step) * 0.05));
        }
    }
    page.add("live plot, running", &plot);
    for step in 0..180_usize {
        let share = step as f64 / 300.0;
        let noise = (step * 7919 % 13) as f64 * 0.02;
        plot.panel("learning rate", "", step, 0.003 * (1.0 - share));
        for (part, size) in [("projector", 0.8), ("llm_lora", 0.4), ("vectors", 0.05)] {
            plot.panel(
                "gradient's length",
                part,
                step,
                size / (1.0 + share * 9.0) + noise * size,
            );
        }
        plot.panel("tokens a second", "", step, 3000.0 + 900.0 * noise);
        plot.panel(
            "waited for data, %",
            "",
            step,
            20.0 / (1.0 + step as f64) + noise,
        );
    }
    plot.note("memory", "1.2 GB");
    let star = Image::filled(96, 64, [200, 40, 40])?;
    let square = Image::filled(64, 64, [40, 60, 200])?;
    let said = [
        (star, "a red square above a small blue circle"),
        (square, "a blue square"),
    ];
    let said = said
        .iter()
        .map(|(image, text)| GridItem::new(image).prediction(*text));
    plot.pictures(
        "what the model says after step 180",
        ImageGrid::new(said.collect()),
    );
    plot.finish("stopped by hand: held-out accuracy 71%");
    page.add("live plot, stopped", &plot);
    let bar = Progress::new("download", 40);
    bar.set(13);
    bar.message("model.safetensors");
    page.add("progress", &bar);
    bar.set(40);
    bar.finish("checked");
    page.add("progress, finished", &bar);
    Ok(())
}

/// Histograms, a sweep, and runs of which two are compared.
fn runs(page: &mut Page) -> Result<()> {
    let bell = |shift: f32, width: f32| {
        let draws = (0..4000_u32).map(move |at| {
            let sum: u32 = (0..6)
                .map(|k| (at * 2_654_435 + k * 40_503 * at) % 1000)
                .sum();
            (sum as f32 / 1000.0 - 3.0) * width + shift
        });
        draws.collect::<Vec<f32>>()
    };
    let plot = Histogram::new("weights of the projector")
        .axis("value")
        .values("before", &bell(0.0, 0.5))
        .values("after", &bell(0.4, 0.9));
    page.add("histogram", &plot);

    let folder = std::env::temp_dir().join(format!("gallery-runs-{}", std::process::id()));
    let set: Vec<Example> = [
        ([200, 30, 40], "a red square"),
        ([20, 30, 240], "a blue square"),
    ]
    .into_iter()
    .map(|(colour, caption)| Ok(Example::new(&Image::filled(64, 64, colour)?, caption)))
    .collect::<Result<_>>()?;
    let sweep = Sweep::grid(folder.join("sweep"))
        .over("learning_rate", [0.001, 0.003, 0.01])?
        .over(
            "projector",
            [ProjectorKind::Linear, ProjectorKind::Mlp2xGelu],
        )?
        .seeds(2);
    let report = sweep.run(|trial| {
        let learning_rate: f64 = trial.get("learning_rate")?;
        let projector: ProjectorKind = trial.get("projector")?;
        if learning_rate == 0.01 && projector == ProjectorKind::Linear {
            return Err(glassbox_prelude::Error::Input("the loss is NaN".into()));
        }
        let settings = VlmSettings {
            projector,
            ..VlmSettings::tiny()
        };
        let vlm = Vlm::tiny(&Device::Cpu)?.with_settings(settings, trial.seed())?;
        let mut trainer = Trainer::new(TrainerSettings {
            learning_rate,
            steps: 30,
            batch_size: 2,
            validate_every: 10,
            seed: trial.seed(),
            quiet: true,
            run: Some(trial.folder().to_path_buf()),
            ..TrainerSettings::tour()
        })?;
        let report = trainer.fit(&vlm, &set, &set)?;
        Ok(Scores::new()
            .lower("training loss", report.loss)
            .higher("steps a second", 30.0 / report.seconds))
    })?;
    page.add("sweep", &report);
    let runs = Runs::open(&folder)?;
    page.add("runs", &runs);
    page.add("curves of runs", &runs.curves());
    let (first, last) = (&runs.all()[0], &runs.all()[runs.all().len() - 1]);
    page.add("difference of two runs", &Difference::new(first, last));
    std::fs::remove_dir_all(folder).ok();
    Ok(())
}

fn pictures(page: &mut Page) -> Result<()> {
    let items = [
        (
            [200, 40, 40],
            "a red square",
            "a red square above a blue circle",
            true,
            false,
        ),
        (
            [40, 90, 200],
            "two blue circles and a rather long prediction that has to wrap",
            "two blue circles",
            true,
            true,
        ),
        ([240, 200, 40], "", "a yellow triangle", false, false),
    ];
    let items =
        items
            .into_iter()
            .enumerate()
            .map(|(index, (colour, said, right, shape, count))| {
                let picture = Image::filled(64, 64, colour)?;
                Ok(GridItem::new(&picture)
                    .title(format!("val {index}"))
                    .prediction(said)
                    .reference(right)
                    .mark("colour", shape)
                    .mark("shape", shape)
                    .mark("count", count))
            });
    let items = items.collect::<Result<Vec<_>>>()?;
    page.add(
        "image grid",
        &ImageGrid::new(items).title("held-out pictures"),
    );
    Ok(())
}

fn tensors(page: &mut Page) -> Result<()> {
    let device = Device::Cpu;
    page.add("scalar", &Tensor::new(3.25f32, &device)?);
    page.add("vector", &Tensor::arange(-20f32, 20.0, &device)?);
    page.add("long vector", &Tensor::randn(0f32, 1.0, 3072, &device)?);
    page.add(
        "small matrix with NaN",
        &Tensor::new(
            &[[1f32, -2.0, f32::NAN], [0.5, f32::INFINITY, 4.0]],
            &device,
        )?,
    );
    let tokens = ["<s>", "a", "red", "cat"];
    let attention = candle_nn_softmax(&Tensor::randn(0f32, 1.0, (4, 4), &device)?)?;
    page.add(
        "labelled matrix",
        &TensorView::new(&attention)
            .title("attention")
            .axes(&["query", "key"])
            .labels(0, tokens)
            .labels(1, tokens),
    );
    page.add(
        "matrix",
        &Tensor::randn(0f32, 1.0, (64, 192), &device)?.to_dtype(DType::BF16)?,
    );
    page.add(
        "pixels",
        &TensorView::new(&Tensor::randn(0f32, 1.0, (1, 3, 56, 56), &device)?)
            .axes(&["B", "channel", "y", "x"]),
    );
    page.add(
        "five dimensions",
        &TensorView::new(&Tensor::randn(0f32, 1.0, (2, 3, 5, 12, 12), &device)?)
            .axes(&["a", "b", "c"]),
    );
    page.add("ids", &Tensor::new(&[[1u32, 32007, 450, 29871]], &device)?);
    page.add("empty", &Tensor::zeros((0, 4), DType::F32, &device)?);
    Ok(())
}

fn candle_nn_softmax(logits: &Tensor) -> Result<Tensor> {
    Ok(glassbox_prelude::candle_nn::ops::softmax_last_dim(logits)?)
}

fn stages(page: &mut Page) -> Result<()> {
    let device = Device::Cpu;
    let vectors = |tokens: usize| Tensor::randn(0f32, 1.0, (1, tokens, 64), &device);
    let strip = TokenStrip::new()
        .title("what the language model reads")
        .embedded(SegmentKind::Start, ["<|imstart|>"], &vectors(1)?)?
        .embedded(SegmentKind::Image, [""; 0], &vectors(197)?)?
        .embedded(SegmentKind::End, ["<|imend|>"], &vectors(1)?)?
        .embedded(
            SegmentKind::Query,
            ["▁This", "▁image", "▁contains", ":"],
            &vectors(4)?,
        )?
        .embedded(SegmentKind::Prefix, ["▁a", "▁red", "▁square"], &vectors(3)?)?
        .segment(SegmentKind::Target, ["▁above"], vec![]);
    page.add("token strip", &strip);
    let logits = (Tensor::randn(0f32, 2.0, 512, &device)? * 1.5)?;
    let text = |id: u32| format!("▁w<{id}>");
    page.add(
        "next token",
        &NextTokenTable::from_logits(&logits, 8, Some(77), &text)?.title("after “a red square”"),
    );
    let parts = [
        ("image_encoder", 86_389_248, false, DType::F32),
        ("projector", 11_802_624, true, DType::F32),
        ("llm", 3_821_079_552, false, DType::BF16),
    ];
    let parts = parts.map(|(name, count, trainable, dtype)| {
        let mut part = ModelPart::new(name);
        part.add(count, dtype, &device, trainable);
        part
    });
    page.add("model table", &ModelTable::new("Vlm", parts.into()));
    Ok(())
}

/// What `inspect` shows, on a small random language model.
fn instruments(page: &mut Page) -> Result<()> {
    let device = Device::Cpu;
    let config: DecoderConfig = glassbox_prelude::serde_json::from_str(
        r#"{"model_type": "phi3", "vocab_size": 60, "hidden_size": 32, "intermediate_size": 64,
            "num_hidden_layers": 4, "num_attention_heads": 4}"#,
    )
    .map_err(|error| glassbox_prelude::Error::Config(error.to_string()))?;
    let mut llm = Decoder::new_random(&config, 7, &device)?;
    let mut trace = StageTrace::new("a forward pass");
    let pixels = Tensor::randn(0f32, 0.5, (1, 3, 32, 32), &device)?;
    trace.record(
        "pixel_values",
        &["B", "C", "H", "W"],
        &pixels,
        None,
        Some(Expected::PIXELS),
    )?;
    let twice = ((pixels / 255.0)? - 1.0)?;
    trace.record(
        "scaled twice",
        &["B", "C", "H", "W"],
        &twice,
        None,
        Some(Expected::PIXELS),
    )?;
    let ids = trace.run("ids", &["B", "T"], || {
        Ok(Tensor::new(&[[1u32, 5, 9, 33, 2, 17]], &device)?)
    })?;
    let output = llm.forward(&LlmInput::ids(&ids).with_hidden_states().with_attentions())?;
    for (index, hidden) in output.hidden_states.iter().enumerate() {
        let name = format!("llm/hidden_states/{index}");
        trace.record(
            &name,
            &["B", "T", "D"],
            hidden,
            None,
            Some(Expected::HIDDEN),
        )?;
    }
    trace.record("logits", &["B", "T", "V"], output.logits()?, None, None)?;
    page.add("stage trace", &trace);

    llm.set_trainable(false)?;
    llm.add_lora(&LoraConfig::new(4, 8.0, &["down_proj"]), 3)?;
    let loss = llm
        .forward(&LlmInput::ids(&ids))?
        .logits()?
        .sqr()?
        .mean_all()?;
    page.add(
        "gradient ledger",
        &GradientLedger::of(&loss, &llm.named_parameters())?,
    );
    llm.set_lora_trainable(false)?;
    let weight = glassbox_prelude::candle_core::Var::new(1f32, &device)?;
    let loss = (loss.detach() * weight.as_tensor())?;
    page.add(
        "gradient ledger, frozen LoRA",
        &GradientLedger::of(&loss, &llm.named_parameters())?,
    );
    llm.set_lora_trainable(true)?;
    for layer in &mut llm.layers {
        if let Some(lora) = &mut layer.mlp.down_proj.lora {
            let moved = Tensor::randn(0f32, 0.02, lora.b.tensor().dims(), &device)?;
            lora.b.set(&moved)?;
        }
    }
    page.add("LoRA spectrum", &LoraSpectrum::of(&llm)?);

    let words = ["▁a", "▁red", "▁square", "▁above", "▁a", "▁blue", "▁circle"];
    let map = TokenLossMap::new(words)
        .row("its picture", vec![0.1, 0.2, 0.3, 1.2, 0.1, 0.4, 0.2])?
        .row("black picture", vec![0.1, 2.5, 1.9, 1.4, 0.1, 2.9, 2.2])?
        .row("another picture", vec![0.2, 5.5, 3.9, 1.1, 0.1, 6.9, 4.2])?;
    page.add("token losses", &map);
    let tokens: Vec<String> = words[..6].iter().map(|word| (*word).to_owned()).collect();
    page.add(
        "logit lens",
        &LogitLens::of(&llm, &output.hidden_states, &tokens, &|id| format!("w{id}"))?,
    );

    let picture = Image::filled(64, 64, [60, 140, 60])?;
    let logits = (Tensor::randn(0f32, 1.0, (1, 4, 65, 65), &device)? * 3.0)?;
    let attention = candle_nn_softmax(&logits)?;
    let rolled = attention_rollout(&[attention.clone(), attention])?;
    page.add(
        "attention",
        &vec![
            PatchHeat::attention("rollout from CLS", &picture, &rolled, 0)?,
            PatchHeat::attention("rollout from patch 12", &picture, &rolled, 12)?,
        ],
    );
    let vectors = Tensor::randn(0f32, 1.0, (12, 32), &device)?;
    let labels: Vec<String> = (0..12).map(|index| format!("w{index}")).collect();
    let groups: Vec<String> = (0..12)
        .map(|index| {
            if index < 6 {
                "image".into()
            } else {
                "text".into()
            }
        })
        .collect();
    page.add(
        "embedding PCA",
        &EmbeddingPca::of(&vectors, &labels, &groups)?,
    );
    Ok(())
}
