//! What every Glassbox cell sees.
//!
//! # Layout
//! One module per stage of the work; `prelude` is what `use glassbox_prelude::prelude::*;` brings into a cell.

pub mod bench;
pub mod cell;
pub mod data;
pub mod device;
pub mod display;
pub mod error;
pub mod evaluate;
mod files;
pub mod hub;
pub mod inspect;
pub mod language;
pub mod lora;
pub mod nn;
mod notes;
pub mod projector;
mod read_only;
pub mod session;
pub mod train;
pub mod variables;
pub mod vision;
pub mod vlm;
pub mod widgets;

pub use error::{Error, Result};
pub use read_only::ReadOnly;

pub use candle_core;
pub use candle_nn;
pub use image;
pub use plotters;
pub use rand;
pub use rand_chacha;
pub use serde_json;
pub use tokenizers;

/// What a cell sees without naming a path, by stage: `?prelude` in a cell shows the comments as headings, and the names below each.
pub mod prelude {
    // Embedding: a picture becomes vectors of the language model's width.
    pub use crate::projector::{Projector, ProjectorConfig, ProjectorKind};
    pub use crate::vision::{
        AlphaPolicy, Encoder, Image, ImageProcessor, ImageProcessorConfig, Modality, Positions,
        Rescaling, Stages, Tower, ViTConfig, VisionFeature, Vit, VitLayer, VitOutput,
    };

    // Language model: tokens, the decoder, and its cache.
    pub use crate::language::{
        ChatMessage, ChatOptions, KvCache, LlmProcessor, LogitsAt, Phi3, Phi3Config, Phi3Input,
        Phi3Layer, Phi3Output,
    };

    // Concatenation: one sequence of picture, query and text.
    pub use crate::vlm::{
        BosPlacement, CaptionBatch, PromptStyle, PromptVectors, Query, Sequence, VlmInput,
    };

    // Loss: how wrong the next words are, and at which places that is asked.
    pub use crate::vlm::{LossOutput, Targets};

    // Generation: words one after the other.
    pub use crate::vlm::{Beam, EarlyStopping, Generate, Generation, Sampling, Stopped};

    // Model: the parts together, how they are set up, and loading them from folders and the hub.
    pub use crate::vlm::{AdapterTraining, BaseModels, Preset, Vlm, VlmParts, VlmSettings};

    // Layers: what the networks are made of, with LoRA.
    pub use crate::nn::{
        Checkpoint, Init, LayerNorm, Linear, Lora, LoraConfig, LoraPatterns, LoraTargets, Network,
        Parameter, Part, PartMut, RmsNorm, Weight, cross_entropy_rows, gelu, softmax, swiglu,
    };

    // Training: the trainer, its settings, and its report.
    pub use crate::train::{
        AdamW, AdamWConfig, Example, Gradients, LossKind, Schedule, StepRecord, TrainReport,
        Trainer, TrainerConfig, TrainingSet, Unreadable,
    };

    // Evaluation: what a trained model gets right.
    pub use crate::evaluate::{AttributeReport, attribute_accuracy};

    // Data: pictures with captions, drawn or from COCO.
    pub use crate::data::{
        CocoCaptions, CocoFinding, CocoReport, QuestionAnswer, QuestionFormat, Sample, Scene,
        SceneAttributes, Shapes, ShapesConfig, Split,
    };

    // Inspection: what happens inside a model.
    pub use crate::inspect::{
        EmbeddingPca, Expected, GradientLedger, LedgerState, LogitLens, LoraSpectrum, PatchHeat,
        StageTrace, TokenLossMap, attention_rollout, caption_attention, caption_ledger,
        caption_lens, caption_losses, caption_occlusion, encoder_attention, occlusion,
        token_attention, token_losses, trace_caption,
    };

    // Display: tables, plots, pictures and progress.
    pub use crate::display::{
        Cell, DisplayHandle, EvcxrDisplay, Facts, Figure, GridItem, ImageGrid, LinePlot, LineStyle,
        LivePlot, MimeBundle, ModelTable, NextTokenTable, Progress, Render, SegmentKind, Table,
        TensorView, TokenStrip, clear_output, display, display_live, progress,
    };

    // Widgets: controls that a person moves.
    pub use crate::widgets::{Button, Control, Select, Slider, interact};

    // Session: errors, questions to the person at the notebook, and interrupts.
    pub use crate::error::{Error, Result};
    pub use crate::session::{check_interrupt, input, input_password, interrupted};

    // Tensors and random numbers: candle and rand.
    pub use crate::device::DeviceChoice;
    pub use candle_core::{D, DType, Device, IndexOp, Tensor};
    pub use rand::{Rng, SeedableRng};
    pub use rand_chacha::ChaCha8Rng;
}
