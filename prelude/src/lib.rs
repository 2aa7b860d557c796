//! What every Glassbox cell sees.
//!
//! # Layout
//! One module per stage of the work; `prelude` is what `use glassbox_prelude::prelude::*;` brings into a cell.

#[doc(hidden)]
pub mod bench;
#[doc(hidden)]
pub mod cell;
mod config_fields;
pub mod data;
pub mod device;
pub mod display;
pub mod edits;
pub mod error;
pub mod evaluate;
mod files;
mod fnv;
pub mod headless;
pub mod hub;
pub mod inspect;
pub mod language;
pub mod lora;
mod memory;
pub mod nn;
mod notes;
pub mod parallel;
pub mod projector;
mod read_only;
pub mod runs;
pub mod senses;
pub mod session;
#[doc(hidden)]
pub mod trail;
pub mod train;
#[doc(hidden)]
pub mod variables;
pub mod vision;
pub mod vlm;
pub mod widgets;

pub use error::{Error, Result};
pub use read_only::ReadOnly;

pub use candle_core;
pub use candle_nn;
#[cfg(feature = "candle-transformers")]
pub use candle_transformers;
pub use image;
pub use plotters;
pub use rand;
pub use rand_chacha;
pub use serde_json;
pub use tokenizers;

/// What a cell sees without naming a path, by stage: `?prelude` in a cell shows the comments as headings, and the names below each.
pub mod prelude {
    // Embedding: a picture becomes vectors of the language model's width.
    pub use crate::projector::{
        AnyresMlp, AveragePool, LinearProjector, Mlp2x, PixelShuffle, Projection, Projector,
        ProjectorConfig, ProjectorKind, Resampler,
    };
    pub use crate::vision::{
        AlphaPolicy, Encoder, Image, ImageProcessor, ImageProcessorConfig, Modality, Positions,
        Rescaling, Stages, TilePiece, Tiles, Tiling, Tower, ViTConfig, VisionFeature, Vit,
        VitLayer, VitOutput,
    };

    // Other senses: molecules, spectra, graphs and fields as inputs.
    pub use crate::senses::{
        Atom, Bond, BondOrder, BondStereo, Drawing, Element, FlowEncoder, FlowField, FlowGaps,
        Graph, GraphEdge, GraphEncoder, GraphKind, GraphWidths, MessagePassing, Minimol, Molecule,
        OrganicMolecule, SdfRecord, SocialGraph, Spectrum, SpectrumEncoder, SpectrumKind,
        SpectrumReads,
    };

    // Language model: tokens, the decoder, and its cache.
    pub use crate::language::{
        ChatMessage, ChatOptions, Decoder, DecoderConfig, DecoderLayer, GgufExport, GgufFile,
        GgufType, KvCache, LlmInput, LlmOutput, LlmProcessor, LogitsAt, Norm,
    };

    // Concatenation: one sequence of picture, query and text.
    pub use crate::nn::{AttentionRule, Sight, Visibility};
    pub use crate::vlm::{
        BosPlacement, CaptionBatch, GapOrder, Infilling, InputPiece, NamedEncoder, Piece, Prompt,
        PromptBatch, PromptPart, PromptStyle, PromptVectors, PromptWords, Query, Seen, Segments,
        Sequence, TargetPiece, Turn, VlmInput,
    };

    // Loss: how wrong the next words are, and at which places that is asked.
    pub use crate::vlm::{LossOutput, Targets};

    // Generation: words one after the other.
    pub use crate::vlm::{Beam, EarlyStopping, Generate, Generation, Sampling, Stopped};

    // Model: the parts together, how they are set up, and loading them from folders and the hub.
    pub use crate::vlm::{
        AdapterTraining, BaseModels, EncoderFrom, OtherEncoder, Preset, Pretrained, Published, Vlm,
        VlmParts, VlmSettings,
    };

    // Layers: what the networks are made of, with LoRA.
    pub use crate::nn::{
        BlockType, Blocks, Checkpoint, Init, LayerNorm, Linear, Lora, LoraConfig, LoraPatterns,
        LoraTargets, Network, Parameter, Part, PartMut, Quantize, RmsNorm, Role, VlmPart, Weight,
        cross_entropy_rows, gelu, log_softmax, softmax, swiglu,
    };
    pub use crate::parts;

    // Training: the trainer, its settings, and its report.
    pub use crate::train::{
        AdamW, AdamWConfig, BestBy, CaptionRecord, CheckpointSettings, EarlyStop, Example,
        FailedSave, FeatureSettings, Gradients, KeptPictures, LossAverage, LossKind, NotFinite,
        OptimizerKind, PartSettings, PictureFile, PlannedPart, Rates, RunCheckpoint, Schedule,
        ScheduleFree, SettingDifference, StepRecord, StepView, TooLong, TrainPlan, TrainReport,
        TrainStage, TrainedPart, Trainer, TrainerConfig, TrainerSettings, TrainingSet, Unreadable,
        run_checkpoints,
    };

    // Runs: what is left of training, tables and curves of many runs, sweeps over settings, and the file that `glassbox train` runs.
    pub use crate::headless::{
        DataConfig, EvaluateConfig, HandedOver, JobState, JobStatus, Launch, ModelConfig, Resume,
        RunConfig, Scored, SlurmJob, SweepDraft, SweepFolder,
    };
    pub use crate::runs::{Difference, History, Run, Runs, Scores, Sweep, SweepReport, Trial};

    // Several machines: what more of them would bring.
    pub use crate::parallel::{Link, ScalingPlan, StepTime};

    // Evaluation: what a trained model gets right.
    pub use crate::evaluate::{
        Answer, AnswerReport, Answered, AttributeAccuracy, AttributeReport, Bleu, ByKind,
        Calibration, CaptionTokenizer, CiderD, Condition, Evaluation, Evaluator, ExactMatch,
        MeteorExact, Metric, Perplexity, Reliability, RougeL, RoundingCost, Score, SetText,
        SetTexts, VqaAccuracy, YesNo, answer_accuracy, attribute_accuracy, evaluate, generate_set,
        rounding_cost,
    };

    // Data: pictures with captions, drawn or from COCO.
    pub use crate::data::{
        Captions, CocoCaptions, CocoFinding, CocoReport, Conversation, Conversations, Instances,
        Lesson, LessonKind, Lessons, LlmTeacher, NamedBox, Prior, QuestionAnswer, QuestionFormat,
        QuestionTemplates, Questions, Sample, Scene, SceneAttributes, Shapes, ShapesConfig, Sheet,
        Split, Teacher, TeacherPrompts, TemplateTeacher, TextLines,
    };

    // Inspection: what happens inside a model.
    pub use crate::inspect::{
        Ablation, Direction, EmbeddingPca, Expected, GradientLedger, HeadAblation, InputAttention,
        IntegratedGradients, LedgerState, LogitAttribution, LogitLens, LoraSpectrum, PatchHeat,
        PatchingMap, StageTrace, SteeringTable, TokenLossMap, attention_rollout, caption_attention,
        caption_ledger, caption_lens, caption_losses, caption_occlusion, encoder_attention,
        encoder_attention_in_tiles, encoder_head_ablation, head_ablation, image_token_ablation,
        input_attention, integrated_gradients, occlusion, patching_map, patching_map_of,
        prompt_attention, prompt_attribution, prompt_head_ablation, prompt_integrated_gradients,
        prompt_ledger, prompt_lens, prompt_losses, prompt_occlusion, steer, steering_direction,
        token_attention, token_losses, trace_caption, trace_prompt,
    };

    // Interventions: activations read and changed while a model runs.
    pub use crate::edits::{Activations, Edits, Site, activation};

    // Display: tables, plots, pictures and progress.
    pub use crate::display::{
        Cell, DisplayHandle, EvcxrDisplay, Facts, Figure, GridItem, Histogram, ImageGrid, LinePlot,
        LineStyle, LivePlot, MimeBundle, ModelTable, NextTokenTable, Progress, Render, SegmentKind,
        Table, TensorView, TokenStrip, clear_output, display, display_live, progress,
    };

    // Widgets: controls that a person moves.
    pub use crate::widgets::{Button, Control, Select, Slider, interact};

    // Session: errors, questions to the person at the notebook, and interrupts.
    pub use crate::error::{Error, Result};
    pub use crate::session::{check_interrupt, input, input_password, interrupted, stopping_takes};

    // Tensors and random numbers: candle and rand.
    pub use crate::device::DeviceChoice;
    pub use candle_core::{D, DType, Device, IndexOp, Tensor};
    pub use rand::{Rng, SeedableRng};
    pub use rand_chacha::ChaCha8Rng;
}
