//! How the parts of a language model show themselves.

use super::pass::Tokens;
use super::{
    ChatMessage, ChatOptions, Decoder, DecoderConfig, GgufType, KvCache, LlmInput, LlmProcessor,
    LogitsAt, NewToken,
};
use super::{DecoderLayer, LlmOutput, Mlp, Norm, RopeScaling, SelfAttention, SideBySide};
use crate::display::facts::{debug_by_facts, shown_by_facts, shown_by_fields};
use crate::display::{Facts, MimeBundle, Render, limits, number};
use crate::nn::{Linear, Network, show};

impl Decoder {
    fn title(&self) -> String {
        let c = &self.config;
        let family = c.family().map_or("Decoder", |family| family.name);
        format!(
            "{family}: {} layers, {} wide, {} heads, {} tokens known, context of {}",
            c.num_hidden_layers,
            c.hidden_size,
            c.num_attention_heads,
            number::count(c.vocab_size as u64),
            number::count(c.max_position_embeddings as u64)
        )
    }

    fn facts(&self) -> Facts {
        Facts::new(self.title()).fact("parameters", show::parameters(&self.named_parameters()))
    }
}

impl Render for Decoder {
    fn render(&self) -> MimeBundle {
        show::network(self.title(), &self.named_parameters()).render()
    }
}

impl DecoderLayer {
    fn title(&self) -> String {
        format!("DecoderLayer {}", self.name())
    }
}

impl SelfAttention {
    fn title(&self) -> String {
        format!("SelfAttention, {:?}", self.form())
    }
}

impl Mlp {
    fn title(&self) -> String {
        let gated = if self.gated { ", gated" } else { "" };
        format!("Mlp: {:?}{gated}", self.activation)
    }
}

impl SideBySide {
    fn title(&self) -> String {
        let names: Vec<&str> = self.linears().iter().map(Linear::name).collect();
        format!("SideBySide {}", names.join(" │ "))
    }
}

impl Norm {
    fn title(&self) -> String {
        let kind = match self {
            Self::Rms(_) => "RMSNorm",
            Self::RmsPlusOne(_) => "RMSNorm by 1 + weight",
            Self::Layer(_) => "LayerNorm",
            Self::Absent => "none: vectors pass as they are",
        };
        format!("Norm: {kind}")
    }
}

/// A block of a model: its parts with their parameters.
macro_rules! shown_by_parts {
    ($($type:ty),+ $(,)?) => {$(
        impl $type {
            fn facts(&self) -> Facts {
                let parameters = show::parameters(&self.named_parameters());
                Facts::new(self.title()).fact("parameters", parameters)
            }
        }

        impl Render for $type {
            fn render(&self) -> MimeBundle {
                show::block(self.title(), &self.named_parameters()).render()
            }
        }
    )+};
}

shown_by_parts!(DecoderLayer, SelfAttention, Mlp, SideBySide, Norm);
debug_by_facts!(Decoder, DecoderLayer, SelfAttention, Mlp, SideBySide, Norm);

impl LlmInput {
    fn facts(&self) -> Facts {
        let (name, tokens) = match &self.tokens {
            Tokens::Ids(ids) => ("token ids", ids),
            Tokens::Embeds(embeds) => ("embeddings", embeds),
        };
        Facts::new("LlmInput: what goes into a forward pass")
            .fact(name, show::shape(tokens))
            .fact_if(
                "attention mask",
                self.attention_mask.as_ref().map(show::shape),
            )
            .fact(
                "logits at",
                limits::shortened(&format!("{:?}", self.logits_at), 80),
            )
            .hint("call vlm.llm.forward(&input)? to run it")
    }
}

impl LlmOutput {
    fn facts(&self) -> Facts {
        let several = |tensors: &[candle_core::Tensor]| {
            let first = tensors.first()?;
            Some(format!("{} × {}", tensors.len(), show::shape(first)))
        };
        Facts::new("LlmOutput: what comes out of a forward pass")
            .fact_if("logits", self.logits.as_ref().map(show::shape))
            .fact("last_hidden_state", show::shape(&self.last_hidden_state))
            .fact_if("hidden_states", several(&self.hidden_states))
            .fact_if("attentions", several(&self.attentions))
    }
}

impl KvCache {
    fn facts(&self) -> Facts {
        Facts::new("KvCache")
            .fact("tokens", format!("{} of {}", self.len(), self.capacity()))
            .fact("layers", self.layers())
            .fact("sequences", self.batch())
            .fact("memory", number::bytes(self.bytes() as u64))
    }
}

impl LlmProcessor {
    fn facts(&self) -> Facts {
        let named = |id: Option<u32>| id.map(|id| format!("{} ({id})", self.token(id)));
        let ends = self
            .eos_ids()
            .iter()
            .map(|id| format!("{} ({id})", self.token(*id)));
        let template = self.chat_template().map(|text| {
            let characters = number::count(text.chars().count() as u64);
            format!(
                "{characters} characters: {}",
                limits::shortened(&text.replace('\n', "⏎"), 60)
            )
        });
        Facts::new("LlmProcessor: text ↔ token ids")
            .fact("entries", number::count(self.vocab_size() as u64))
            .fact_if("beginning of sequence", named(self.bos_id()))
            .fact("ends of a text", ends.collect::<Vec<_>>().join(", "))
            .fact_if("padding", named(self.pad_id()))
            .fact("chat template", template.unwrap_or_else(|| "none".into()))
            .hint("`.encode(text)?` gives ids, `.decode(&ids)?` text, `.token(id)` one token")
    }
}

shown_by_facts!(LlmInput, LlmOutput, KvCache, LlmProcessor);
shown_by_fields!(
    DecoderConfig,
    GgufType,
    RopeScaling,
    LogitsAt,
    NewToken,
    ChatMessage,
    ChatOptions
);
