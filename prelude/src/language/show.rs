//! How the parts of a language model show themselves.

use super::phi3::Tokens;
use super::{
    ChatMessage, ChatOptions, KvCache, LlmProcessor, LogitsAt, NewToken, Phi3, Phi3Config,
    Phi3Input,
};
use super::{Phi3Layer, Phi3Output, RopeScaling};
use crate::display::facts::{debug_by_facts, shown_by_facts, shown_by_fields};
use crate::display::{Facts, MimeBundle, Render, limits, number};
use crate::nn::{Network, Parameter, show};

impl Phi3 {
    fn title(&self) -> String {
        let c = &self.config;
        format!(
            "Phi3: {} layers, {} wide, {} heads, {} tokens known, context of {}",
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

impl Render for Phi3 {
    fn render(&self) -> MimeBundle {
        show::network(self.title(), &self.named_parameters()).render()
    }
}

impl Phi3Layer {
    fn parameters(&self) -> Vec<Parameter> {
        let mut all = vec![self.input_layernorm.weight.parameter()];
        all.extend(self.qkv_proj.parameters());
        all.extend(self.o_proj.parameters());
        all.push(self.post_attention_layernorm.weight.parameter());
        all.extend(self.gate_up_proj.parameters());
        all.extend(self.down_proj.parameters());
        all
    }

    fn title(&self) -> String {
        let name = self.qkv_proj.name();
        let name = name.strip_suffix(".self_attn.qkv_proj").unwrap_or(name);
        format!("Phi3Layer {name}")
    }

    fn facts(&self) -> Facts {
        Facts::new(self.title()).fact("parameters", show::parameters(&self.parameters()))
    }
}

impl Render for Phi3Layer {
    fn render(&self) -> MimeBundle {
        show::block(self.title(), &self.parameters()).render()
    }
}

debug_by_facts!(Phi3, Phi3Layer);

impl Phi3Input {
    fn facts(&self) -> Facts {
        let (name, tokens) = match &self.tokens {
            Tokens::Ids(ids) => ("token ids", ids),
            Tokens::Embeds(embeds) => ("embeddings", embeds),
        };
        Facts::new("Phi3Input: what goes into a forward pass")
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

impl Phi3Output {
    fn facts(&self) -> Facts {
        let several = |tensors: &[candle_core::Tensor]| {
            let first = tensors.first()?;
            Some(format!("{} × {}", tensors.len(), show::shape(first)))
        };
        Facts::new("Phi3Output: what comes out of a forward pass")
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

shown_by_facts!(Phi3Input, Phi3Output, KvCache, LlmProcessor);
shown_by_fields!(
    Phi3Config,
    RopeScaling,
    LogitsAt,
    NewToken,
    ChatMessage,
    ChatOptions
);
