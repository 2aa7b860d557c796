//! What values show of themselves as the last expression of a cell: real compiler, real prelude.
//!
//! Every public type of the prelude is listed here with an expression; a type that is added to the prelude and not to the list
//! fails the first test.

mod session_support;

use std::collections::BTreeSet;
use std::path::Path;

use glassbox::session::{Display, Event};
use session_support::TestSession;

/// What a value may show of itself unasked.
const LINES: usize = 62;
const CHARACTERS: usize = 4_100;

/// Types that no cell holds: what generated code and the wire are made of, and controls, which show themselves in a browser.
const NOT_VALUES: [&str; 18] = [
    "Failed",
    "Candidate",
    "Surroundings",
    "Summary",
    "Seen",
    "Kind",
    "Model",
    "Button",
    "Select",
    "Slider",
    "Progress",
    "LivePlot",
    "ReadOnly",
    // Only a beam search makes them.
    "Hypothesis",
    // Of private modules: what chat templates and tokenizers are read with.
    "Dict",
    "Files",
    "Json",
    "Special",
];

/// What the expressions are made of.
const SETUP: &str = r###"
use glassbox_prelude as gp;
use gp::data::shapes::{AttributeScore, CaptionOrder, Colour, Relation, Shape, Size};
let device = Device::Cpu;
let vlm = Vlm::tiny(&device)?;
let shapes = Shapes::new(ShapesConfig::default())?;
let sample = shapes.sample(Split::Train, 0)?;
let image = sample.image.clone();
let scene = shapes.scene(Split::Train, 0);
let caption = sample.captions[0].clone();
let pixels = vlm.image_processor.preprocess(&image)?;
let batch = vlm.caption_batch(&pixels, &[caption.clone()])?;
let sequence = vlm.concatenate(&vlm.image_tokens(&pixels)?, &Query::Vector, &[])?;
let loss = vlm.full_sequence_loss_of(&batch)?;
let gradients = Gradients::of(&loss.loss, &vlm.trainable_parameters())?;
let vit = vlm.image_encoder.vit()?.clone();
let layer = vlm.llm.layers[0].clone();
let tensor = Tensor::arange(0f32, 600.0, &device)?.reshape((20, 30))?;
let trainer = Trainer::new(TrainerConfig::tour())?;
let record = StepRecord { step: 1, loss: 2.0, rate: 1e-3, norm: 0.5, tokens: 100, seconds: 0.1, validation_loss: None, unreadable: 0 };
let score = gp::data::shapes::score("two red circles", "two red circles");
let perceiver = Projector::new(ProjectorConfig { kind: ProjectorKind::perceiver_resampler(4), input: 32, output: 64 }, 0, &device)?;
let tower_config = gp::vision::TowerConfig::from_json(
    r##"{"model_type": "siglip_vision_model", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 2, "image_size": 32, "patch_size": 8}"##, "config.json".as_ref())?;
let tower = Tower::from_checkpoint(&tower_config, &Checkpoint::random(0, DType::F32, &device))?;
"###;

/// Each type with an expression of it.
const VALUES: &[(&str, &str)] = &[
    ("AdamW", "AdamW::new(AdamWConfig::default())?"),
    ("AdamWConfig", "AdamWConfig::default()"),
    ("AdapterTraining", "AdapterTraining::Frozen"),
    ("AlphaPolicy", "AlphaPolicy::default()"),
    ("Activation", "gp::vision::towers::Activation::Gelu"),
    ("Attention", "gp::nn::Attention::causal(4, 2, 16)"),
    (
        "AttributeReport",
        "AttributeReport { predictions: vec![gp::evaluate::attributes::Prediction { image: image.clone(), prediction: \"a\".into(), reference: \"b\".into(), score }; 50], unreadable: Vec::new() }",
    ),
    ("AttributeScore", "score"),
    ("BaseModels", "BaseModels::new(\"a/b\", \"c/d\")"),
    (
        "Beam",
        "Beam { ids: vec![1, 2], text: \"a star\".into(), score: -0.5 }",
    ),
    ("BeamSearch", "gp::vlm::BeamSearch::default()"),
    (
        "Benchmark",
        "gp::bench::Benchmark { seconds: vec![0.1; 50], runs_per_batch: 3 }",
    ),
    ("BosPlacement", "BosPlacement::Once"),
    (
        "CachedModel",
        "gp::hub::CachedModel::new(\"/tmp\".as_ref(), \"a/b\", \"main\")?",
    ),
    ("CaptionBatch", "batch"),
    ("CaptionOrder", "CaptionOrder::Fixed"),
    ("Cell", "Cell::good(\"yes\")"),
    ("ChatMessage", "ChatMessage::user(\"x\".repeat(9000))"),
    ("ChatOptions", "gp::language::ChatOptions::default()"),
    ("Checkpoint", "Checkpoint::random(0, DType::F32, &device)"),
    ("CocoCaptions", "coco"),
    (
        "CocoFinding",
        "CocoFinding { kind: \"missing pictures\".into(), count: 1, example: \"a.jpg\".into() }",
    ),
    ("CocoReport", "coco.report()"),
    ("Colour", "Colour::Red"),
    ("DecodeOptions", "gp::vision::DecodeOptions::default()"),
    ("DisplayHandle", "display_live(&tensor)"),
    (
        "DownloadProgress",
        "gp::hub::DownloadProgress { model: \"a/b\".into(), file: \"c\".into(), file_number: 1, file_count: 2, bytes: 3, total_bytes: 4 }",
    ),
    ("EarlyStopping", "EarlyStopping::default()"),
    ("Embedding", "vlm.llm.embed_tokens"),
    (
        "EmbeddingPca",
        "EmbeddingPca::of(&tensor, &(0..20).map(|n| n.to_string()).collect::<Vec<_>>(), &vec![String::from(\"a\"); 20])?",
    ),
    ("Encoder", "vlm.image_encoder"),
    ("Error", "Error::Input(\"too short\".into())"),
    (
        "Example",
        "gp::train::TrainingSet::example(&coco, &vlm, 0)?",
    ),
    ("ExifPolicy", "gp::vision::ExifPolicy::default()"),
    ("Expected", "Expected::PIXELS"),
    ("Facts", "Facts::new(\"a\").fact(\"b\", 1)"),
    (
        "Figure",
        "LinePlot::new(\"a\").values(\"b\", &[1.0, 2.0]).figure()?",
    ),
    ("Generate", "vlm.generate(&image)?"),
    (
        "Generation",
        "vlm.generate(&image)?.max_new_tokens(3).run()?",
    ),
    ("GradientLedger", "caption_ledger(&vlm, &image, &caption)?"),
    ("Gradients", "gradients"),
    ("Grid", "gp::display::heat::Grid::new(2, 3, vec![1.0; 6])?"),
    ("GridItem", "GridItem::new(&image)"),
    ("Group", "scene.groups().remove(0)"),
    (
        "HubError",
        "gp::hub::CachedModel::new(\"/tmp\".as_ref(), \"../b\", \"main\").unwrap_err()",
    ),
    ("HubOptions", "gp::hub::HubOptions::from_env()"),
    ("Image", "image"),
    (
        "ImageGrid",
        "ImageGrid::new(vec![GridItem::new(&image).title(\"x\"); 64])",
    ),
    ("ImageProcessor", "vlm.image_processor"),
    (
        "ImageProcessorConfig",
        "vlm.image_processor.config().clone()",
    ),
    ("Init", "Init::Normal(0.02)"),
    ("KvCache", "vlm.llm.new_cache(1, 64)?"),
    ("LayerNorm", "vit.layernorm"),
    (
        "LayerSpectrum",
        "LoraSpectrum::of(&vlm.llm)?.layers()[0].clone()",
    ),
    (
        "LedgerEntry",
        "caption_ledger(&vlm, &image, &caption)?.entries()[0].clone()",
    ),
    ("LedgerState", "LedgerState::Trains"),
    (
        "LinePlot",
        "LinePlot::new(\"a\").values(\"b\", &[1.0, 2.0])",
    ),
    ("LineStyle", "LineStyle::Marked"),
    ("Linear", "layer.qkv_proj"),
    ("LlmProcessor", "vlm.llm_processor"),
    ("LogitLens", "caption_lens(&vlm, &image, &caption)?"),
    ("LogitsAt", "LogitsAt::Chosen(vec![(0, 1); 5000])"),
    ("Lora", "layer.qkv_proj.lora.clone()"),
    ("LoraConfig", "LoraConfig::blog_llm()"),
    ("LoraPatterns", "LoraConfig::blog_llm().rank_pattern"),
    ("LoraTargets", "LoraConfig::blog_llm().target_modules"),
    ("LoraSpectrum", "LoraSpectrum::of(&vlm.llm)?"),
    ("LossKind", "LossKind::FullSequence"),
    ("LossOutput", "loss"),
    ("MimeBundle", "image.render()"),
    ("ModelPart", "vlm.table().parts()[0].clone()"),
    ("ModelTable", "vlm.table()"),
    (
        "NewToken",
        "gp::language::NewToken { id: 1, pieces: vec![2] }",
    ),
    ("NextToken", "loss.next_tokens(0)?.top()[0].clone()"),
    ("NextTokenTable", "loss.next_tokens(0)?"),
    ("Object", "scene.objects[0].clone()"),
    ("Parameter", "vlm.trainable_parameters().remove(0)"),
    ("Part", "Part::Linear(&layer.qkv_proj)"),
    ("PartMut", "PartMut::Linear(&mut layer.qkv_proj.clone())"),
    ("PatchHeat", "encoder_attention(&vlm, &image)?"),
    ("Perceiver", "perceiver.perceiver.clone()"),
    (
        "PerceiverConfig",
        "perceiver.perceiver.as_ref().map(|p| p.config)",
    ),
    (
        "PerceiverLayer",
        "perceiver.perceiver.as_ref().map(|p| p.layers[0].clone())",
    ),
    ("Phi3", "vlm.llm"),
    ("Phi3Config", "vlm.llm.config.clone()"),
    ("Phi3Input", "Phi3Input::embeds(&sequence.inputs_embeds)"),
    ("Phi3Layer", "layer"),
    (
        "Phi3Output",
        "vlm.llm.forward(&Phi3Input::embeds(&sequence.inputs_embeds).with_hidden_states().with_attentions())?",
    ),
    ("PixelBox", "scene.objects[0].pixel_box(64)"),
    ("Positions", "vlm.image_encoder.positions()"),
    (
        "Prediction",
        "gp::evaluate::attributes::Prediction { image: image.clone(), prediction: \"a\".into(), reference: \"b\".into(), score }",
    ),
    ("Preset", "Preset::tiny()"),
    ("ProgressIter", "progress(\"a\", 0..5)"),
    ("Projector", "vlm.projector"),
    (
        "ProjectorConfig",
        "ProjectorConfig { ..*vlm.projector.config }",
    ),
    ("ProjectorKind", "ProjectorKind::Linear"),
    (
        "Prompt",
        "gp::vlm::prompt::Prompt::new(&vlm.llm_processor, &vlm.settings)?",
    ),
    ("PromptStyle", "PromptStyle::Plain"),
    ("PromptVectors", "PromptVectors::Trained"),
    ("Query", "vlm.query(\"how many?\")?"),
    ("QuestionAnswer", "shapes.questions(Split::Train, 0)"),
    ("QuestionFormat", "QuestionFormat::default()"),
    ("Relation", "Relation::LeftOf"),
    ("Resample", "gp::vision::Resample::Bilinear"),
    ("Rescaling", "Rescaling::Once"),
    ("Resize", "gp::vision::Resize::ShortestEdge(3)"),
    ("RmsNorm", "vlm.llm.norm"),
    ("RopeScaling", "gp::language::RopeScaling::default()"),
    (
        "Rotary",
        "gp::nn::Rotary::new(&[1.0; 8], &[(0..900).collect()], 1.0)?",
    ),
    ("Sample", "sample"),
    ("Samples", "coco.samples(0, 0)"),
    ("Sampling", "Sampling::default()"),
    ("Scale", "gp::display::heat::Scale::of(&[1.0, 2.0])"),
    ("Scene", "scene"),
    ("SceneAttributes", "SceneAttributes::from_caption(&caption)"),
    ("Schedule", "Schedule::Constant"),
    ("SegmentKind", "SegmentKind::Image"),
    ("Sequence", "sequence"),
    ("Shape", "Shape::Star"),
    ("Shapes", "shapes"),
    ("ShapesConfig", "ShapesConfig::default()"),
    ("Size", "Size::Small"),
    ("Split", "Split::Train"),
    ("StageTrace", "trace_caption(&vlm, &image, &caption)?"),
    ("Stages", "vlm.image_encoder.stages(&pixels)?"),
    (
        "Statistics",
        "gp::display::tensor::Statistics::of(&tensor)?",
    ),
    ("StepRecord", "vec![record; 700]"),
    ("Stopped", "Stopped::Eos"),
    (
        "Table",
        "{ let mut table = Table::new([\"a\", \"b\"]); for n in 0..3000usize { table.push(vec![n.into(), n.into()]); } table }",
    ),
    ("Targets", "Targets::Middle"),
    ("TaskType", "gp::lora::TaskType::CausalLm"),
    ("TensorView", "TensorView::new(&tensor)"),
    (
        "Throttle",
        "gp::display::live::Throttle::new(std::time::Duration::from_secs(1))",
    ),
    ("Token", "gp::hub::Token::new(\"secret\")"),
    ("TokenLossMap", "loss.token_losses(0)?"),
    (
        "TokenRows",
        "gp::nn::TokenRows::new(\"rows\", &[3], &Tensor::zeros((1, 4), DType::F32, &device)?, 9)?",
    ),
    ("TokenStrip", "sequence.strip(0)?"),
    ("Tower", "tower"),
    ("TowerConfig", "tower_config"),
    (
        "TrainReport",
        "TrainReport { steps: 1, samples: 2, seconds: 3.0, tokens: 4, loss: 5.0, validation: None, new_steps: 1, unreadable: Vec::new() }",
    ),
    ("Trainer", "trainer"),
    ("TrainerConfig", "TrainerConfig::tour()"),
    (
        "Unreadable",
        "Unreadable { held_out: false, position: 3, why: \"cut off\".into() }",
    ),
    ("Variables", "gp::variables::Variables::new()"),
    ("ViTConfig", "vit.config.clone()"),
    ("VisionFeature", "VisionFeature::default()"),
    ("Vit", "vit"),
    ("VitLayer", "vit.layers[0].clone()"),
    ("VitOutput", "vit.forward(&pixels)?"),
    ("Vlm", "vlm"),
    ("VlmParts", "VlmParts::tiny(&device)?"),
    ("VlmSettings", "vlm.settings"),
    ("Weight", "layer.qkv_proj.weight"),
];

/// The types that stand at the left margin of the prelude's files: `pub struct Name`, `pub enum Name`.
fn public_types(folder: &Path, found: &mut BTreeSet<String>) {
    let entries = std::fs::read_dir(folder).expect("the prelude's sources");
    for path in entries.map(|entry| entry.expect("an entry").path()) {
        if path.is_dir() {
            public_types(&path, found);
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a source file");
        let code = text
            .split("#[cfg(test)]\nmod tests {")
            .next()
            .unwrap_or(&text);
        for line in code.lines() {
            let rest = ["pub struct ", "pub enum "]
                .iter()
                .find_map(|start| line.strip_prefix(start));
            if let Some(rest) = rest {
                let name: String = rest.chars().take_while(|c| c.is_alphanumeric()).collect();
                found.insert(name);
            }
        }
    }
}

#[test]
fn every_public_type_of_the_prelude_is_listed() {
    let mut found = BTreeSet::new();
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("prelude/src");
    public_types(&sources, &mut found);
    let listed: BTreeSet<String> = VALUES
        .iter()
        .map(|(name, _)| *name)
        .chain(NOT_VALUES)
        .map(str::to_owned)
        .collect();
    let missing: Vec<&String> = found.difference(&listed).collect();
    assert!(
        missing.is_empty(),
        "add to VALUES how they show themselves: {missing:?}"
    );
    let gone: Vec<&String> = listed.difference(&found).collect();
    assert!(gone.is_empty(), "not in the prelude any more: {gone:?}");
}

fn result(session: &mut TestSession, code: &str) -> Display {
    let run = session.run(code);
    assert!(
        run.outcome.status.is_ok(),
        "{code}: {:?}",
        run.outcome.status
    );
    let results = run.events.into_iter().filter_map(|event| match event {
        Event::Result(display) => Some(display),
        _ => None,
    });
    let mut results: Vec<Display> = results.collect();
    assert_eq!(results.len(), 1, "{code} shows one result");
    results.remove(0)
}

fn text(display: &Display) -> String {
    display.plain().unwrap_or_default().to_owned()
}

fn html(display: &Display) -> String {
    let html = display.data.get("text/html");
    html.and_then(serde_json::Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

fn setup(session: &mut TestSession) {
    let run = session.run(SETUP);
    assert!(run.outcome.status.is_ok(), "{:?}", run.outcome.status);
}

#[test]
fn every_type_shows_a_screen_at_most_and_no_wall_of_debug() {
    let mut session = TestSession::start();
    setup(&mut session);
    let folder = tempfile::tempdir().expect("a folder");
    let run = session.run(&format!(
        "shapes.write_coco({:?}, 8, 4)?;
         let coco = CocoCaptions::open({:?}, Split::Train)?;",
        folder.path(),
        folder.path()
    ));
    assert!(run.outcome.status.is_ok(), "{:?}", run.outcome.status);
    let mut walls = Vec::new();
    for (name, expression) in VALUES {
        let run = session.run(expression);
        let shown = run.events.iter().find_map(|event| match event {
            Event::Result(display) => Some(text(display)),
            _ => None,
        });
        match shown {
            None => walls.push(format!("{name}: {:?}", run.outcome.status)),
            Some(text) => {
                let (lines, characters) = (text.lines().count(), text.chars().count());
                if lines > LINES || characters > CHARACTERS || text.is_empty() {
                    walls.push(format!("{name}: {lines} lines, {characters} characters"));
                }
                // The `{:?}` of a structure is for programmers of the prelude.
                if text.contains("Weight {") || text.contains("Some(Var") {
                    walls.push(format!("{name}: {text}"));
                }
            }
        }
    }
    assert!(walls.is_empty(), "{}", walls.join("\n"));
}

#[test]
fn debug_text_of_models_is_short_too() {
    let mut session = TestSession::start();
    setup(&mut session);
    let names = [
        "vlm",
        "vlm.llm",
        "vlm.image_encoder",
        "vlm.projector",
        "vlm.llm_processor",
        "vlm.settings",
        "vit",
        "layer",
        "tower",
        "trainer",
        "batch",
        "sequence",
        "loss",
        "gradients",
        "perceiver",
        "vlm.generate(&image)?",
        "image.render()",
        "sample",
        "VlmParts::tiny(&device)?",
        "vlm.named_parameters()[0]",
        "trace_caption(&vlm, &image, &caption)?",
    ];
    let lines = names.map(|name| format!("println!(\"{{}}\", format!(\"{{:?}}\", {name}).len());"));
    let run = session.run(&lines.join("\n"));
    assert!(run.outcome.status.is_ok(), "{:?}", run.outcome.status);
    let printed: String = run
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Stream { text, .. } => Some(text.as_str()),
            _ => None,
        })
        .collect();
    let lengths: Vec<usize> = printed
        .lines()
        .map(|line| line.parse().expect("a length"))
        .collect();
    assert_eq!(lengths.len(), names.len());
    for (name, length) in names.iter().zip(lengths) {
        assert!(length < 2_000, "{name}: {length}");
    }
}

#[test]
fn a_result_shows_its_value_and_asks_for_the_question_mark() {
    let mut session = TestSession::start();
    let shown = result(&mut session, "Vlm::tiny(&Device::Cpu)");
    assert!(
        text(&shown).starts_with("Vlm, settings “tiny”"),
        "{}",
        text(&shown)
    );
    assert!(text(&shown).contains("add `?`") && html(&shown).contains("add `?`"));
    let failed = text(&result(
        &mut session,
        "Phi3::load(\"/no/such/folder\", DType::F32, &Device::Cpu)",
    ));
    assert!(
        failed.starts_with("Err: ") && failed.contains("/no/such/folder"),
        "{failed}"
    );
    assert!(
        failed.contains("add `?`") && !failed.contains("Io {"),
        "{failed}"
    );
    for (code, value) in [
        ("\"5\".parse::<i32>()", "5"),
        (
            "std::fs::read_to_string(\"/no/such/file\")",
            "Err: No such file",
        ),
        ("Ok::<(), std::io::Error>(())", "Ok(())"),
        (
            "#[derive(Debug)] struct Mine(u8);\nOk::<Mine, String>(Mine(3))",
            "Mine(3)",
        ),
        (
            "#[derive(Debug)] struct Bad;\nErr::<u8, Bad>(Bad)",
            "Err: Bad",
        ),
    ] {
        let shown = text(&result(&mut session, code));
        assert!(
            shown.starts_with(value) && shown.contains("add `?`"),
            "{code}: {shown}"
        );
    }
}

#[test]
fn tensors_and_pictures_show_themselves_inside_of_other_values() {
    let mut session = TestSession::start();
    setup(&mut session);
    for code in [
        "&tensor",
        "Some(tensor.clone())",
        "Box::new(tensor.clone())",
        "std::sync::Arc::new(tensor.clone())",
        "vec![tensor.clone(), tensor.clone()]",
        "(tensor.clone(), tensor.clone())",
        "[tensor.clone(), tensor.clone()]",
        "std::collections::HashMap::from([(\"a\", tensor.clone())])",
        "Some(image.clone())",
        "vec![image.clone(); 3]",
        "(1, String::from(\"two\"), image.clone())",
        "candle_core::Var::from_tensor(&tensor)?",
        "tensor.sin()",
        "&image",
    ] {
        let shown = result(&mut session, code);
        assert!(
            html(&shown).contains("data:image/png"),
            "{code}: {}",
            text(&shown)
        );
    }
    let many = text(&result(&mut session, "vec![tensor.clone(); 500]"));
    assert!(
        many.ends_with("… and 488 more") && many.lines().count() <= LINES,
        "{many}"
    );
}

#[test]
fn plain_values_look_as_before_and_long_ones_are_cut() {
    let mut session = TestSession::start();
    for (code, expected) in [
        ("2 + 2", "4"),
        ("1.5 * 2.0", "3.0"),
        ("vec![1, 2]", "[1, 2]"),
        ("(1, \"a\", 'b', None::<u8>)", "(1, \"a\", 'b', None)"),
        (
            "std::collections::BTreeMap::from([(\"k\", vec![0.5])])",
            "{\"k\": [0.5]}",
        ),
        ("String::from(\"é\\n\")", "\"é\\n\""),
        ("1..4", "1..4"),
        ("-3..4", "-3..4"),
        (
            "#[derive(Debug)] struct P { x: i32 }\nvec![P { x: 1 }]",
            "[P { x: 1 }]",
        ),
        ("[Some(1), None]", "[Some(1), None]"),
        ("&&5", "5"),
    ] {
        assert_eq!(text(&result(&mut session, code)), expected, "{code}");
    }
    for code in [
        "(0..1_000_000).collect::<Vec<u64>>()",
        "\"x\".repeat(100_000)",
        "#[derive(Debug, Clone)] struct Q(u64);\nvec![Q(7); 1_000_000]",
        "format!(\"{}\", \"line\\n\".repeat(5_000)).lines().map(String::from).collect::<Vec<_>>()",
    ] {
        let shown = text(&result(&mut session, code));
        assert!(
            shown.chars().count() <= CHARACTERS,
            "{code}: {}",
            shown.chars().count()
        );
        assert!(
            shown.contains("more") || shown.contains("cut here"),
            "{code}: {shown}"
        );
    }
    // A type that shows itself in evcxr's own way still does.
    let own = "struct Own;\nimpl Own { fn evcxr_display(&self) { println!(\"EVCXR_BEGIN_CONTENT text/plain\\nown\\nEVCXR_END_CONTENT\"); } }\nOwn";
    assert!(text(&result(&mut session, own)).contains("own"));
}

#[test]
fn what_streams_is_shown_once() {
    let mut session = TestSession::start();
    setup(&mut session);
    let run = session.run("let made = vlm.generate(&image)?.max_new_tokens(8).stream()?;");
    assert!(run.outcome.status.is_ok());
    let later = text(&result(&mut session, "made"));
    let run = session.run("vlm.generate(&image)?.max_new_tokens(8).stream()?");
    let mut printed = String::new();
    let mut shown = String::new();
    for event in &run.events {
        match event {
            Event::Stream { text, .. } => printed += text,
            Event::Result(display) => shown = text(display),
            _ => {}
        }
    }
    assert_eq!(
        printed.trim(),
        later.trim(),
        "a later cell shows the text again"
    );
    assert!(
        !later.is_empty() && !shown.contains(later.trim()),
        "{shown}"
    );
    assert!(shown.contains("tokens"), "{shown}");
}

#[test]
fn clones_do_not_train_each_other() {
    let mut session = TestSession::start();
    setup(&mut session);
    let code = r#"
        let sum = |vlm: &Vlm| -> Result<f32> {
            let mut sum = 0.0;
            for p in vlm.trainable_parameters() { sum += p.tensor.abs()?.sum_all()?.to_scalar::<f32>()?; }
            Ok(sum)
        };
        let before = sum(&vlm)?;
        for mut model in [vlm.clone(), vlm.copy()?, vlm.for_encoder(vit.clone(), 1)?] {
            let weight = &mut model.projector.fc1.weight;
            weight.set(&weight.tensor().zeros_like()?)?;
            for p in model.trainable_parameters() { if let Some(var) = &p.var { var.set(&p.tensor.zeros_like()?)?; } }
        }
        assert_eq!(sum(&vlm)?, before);
        let shared = vlm.share();
        for p in shared.trainable_parameters() { if let Some(var) = &p.var { var.set(&p.tensor.zeros_like()?)?; } }
        assert_eq!(sum(&vlm)?, 0.0);
        println!("done");
    "#;
    let run = session.run(code);
    assert!(run.outcome.status.is_ok(), "{:?}", run.outcome.status);
}

#[test]
fn a_setting_that_would_do_nothing_does_not_compile() {
    let mut session = TestSession::start();
    setup(&mut session);
    for code in [
        "let mut m = vlm.clone(); m.settings.adapters = AdapterTraining::Frozen;",
        "let mut m = vlm.clone(); m.llm.config.rms_norm_eps = 1.0;",
        "let mut m = vit.clone(); m.config.layer_norm_eps = 1.0;",
        "let mut m = vlm.clone(); m.projector.config.input = 3;",
    ] {
        let run = session.run(code);
        let error = run.outcome.status.expect_err(code);
        assert!(
            error.traceback.join("\n").contains("ReadOnly"),
            "{code}: {error}"
        );
    }
}
