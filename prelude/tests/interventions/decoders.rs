//! Every family: names, no-ops to the bit, and edits against weights that were edited by hand.

use crate::{
    DECODERS, Outcome, bits, decoder, difference, ids, logits, scaled, unfused, without_columns,
};
use glassbox_prelude::language::LlmInput;
use glassbox_prelude::prelude::*;

#[test]
fn every_activation_of_every_family_has_a_name_and_a_no_op_changes_no_bit() -> Outcome {
    for family in DECODERS {
        let llm = decoder(family)?;
        let ids = ids(&llm)?;
        let (plain, seen) = Activations::read(&["*"], || logits(&llm, &ids))?;
        assert_eq!(
            bits(&plain)?,
            bits(&logits(&llm, &ids)?)?,
            "{family}: reading"
        );
        let (layers, width) = (llm.layers.len(), llm.config.hidden_size);
        let parts = [
            "queries",
            "keys",
            "values",
            "rotated_queries",
            "rotated_keys",
            "attention_weights",
            "heads",
            "attention",
            "middle",
            "neurons",
            "mlp",
        ];
        let of_layer = |i: usize| {
            let parts = parts
                .iter()
                .map(move |part| format!("llm/layers[{i}]/{part}"));
            std::iter::once(format!("llm/hidden_states[{i}]")).chain(parts)
        };
        let mut wanted = vec!["inputs_embeds".to_owned()];
        wanted.extend((0..layers).flat_map(of_layer));
        wanted.push(format!("llm/hidden_states[{layers}]"));
        wanted.extend(["last_hidden_state".to_owned(), "logits".to_owned()]);
        assert_eq!(seen.names().collect::<Vec<_>>(), wanted, "{family}");
        let out = llm.forward(&LlmInput::ids(&ids).with_hidden_states())?;
        for (i, hidden) in out.hidden_states.iter().enumerate() {
            let read = seen.get(&format!("llm/hidden_states[{i}]"))?;
            assert_eq!(bits(&read)?, bits(hidden)?, "{family} {i}");
            assert_eq!(read.dims(), [2, 9, width]);
        }
        for name in &wanted {
            for edits in [
                Edits::new().patch(name.as_str(), &seen),
                Edits::new().scale(name.as_str(), 1.0),
                Edits::new().replace(name.as_str(), &seen.get(name)?),
                Edits::new().patch(Site::new(name).tokens([0, 3, 4, 8]).row(1), &seen),
            ] {
                let made = edits.run(|| logits(&llm, &ids))?;
                if unfused(name) {
                    assert!(difference(&made, &plain)? < 1e-5, "{family}: {name}");
                    continue;
                }
                assert_eq!(bits(&made)?, bits(&plain)?, "{family}: {name}");
            }
        }
        let changed = Edits::new()
            .zero("llm/layers[*]/attention")
            .run(|| logits(&llm, &ids))?;
        assert!(difference(&changed, &plain)? > 1e-4, "{family}");
    }
    Ok(())
}

#[test]
fn edits_are_what_edited_weights_are() -> Outcome {
    for family in DECODERS {
        let llm = decoder(family)?;
        let ids = ids(&llm)?;
        let plain = logits(&llm, &ids)?;
        let last = llm.layers.len() - 1;
        let form = llm.layers[0].self_attn.form().clone();
        for (layer, head) in [(0, 0), (last, form.heads - 1), (0, form.heads / 2)] {
            let mut by_hand = llm.clone();
            let columns = head * form.head_dim..(head + 1) * form.head_dim;
            without_columns(&mut by_hand.layers[layer].self_attn.o_proj, columns)?;
            let edited = Edits::new()
                .zero(Site::heads("llm", layer).head(head))
                .run(|| logits(&llm, &ids))?;
            let by_hand = logits(&by_hand, &ids)?;
            assert!(
                difference(&edited, &by_hand)? < 1e-5,
                "{family} {layer} {head}"
            );
            assert!(
                difference(&edited, &plain)? > 1e-6,
                "{family} {layer} {head}: nothing happened"
            );
        }
        // Neurons scaled are the columns of the next matrix scaled; embeddings replaced are other embeddings.
        let mut by_hand = llm.clone();
        let down = &mut by_hand.layers[last].mlp.down_proj;
        let bias = down.bias.clone();
        scaled(down, 2.5)?;
        down.bias = bias;
        let edited = Edits::new()
            .scale(format!("llm/layers[{last}]/neurons"), 2.5)
            .run(|| logits(&llm, &ids))?;
        assert!(
            difference(&edited, &logits(&by_hand, &ids)?)? < 1e-4,
            "{family}: neurons"
        );
        let embeds = Tensor::rand(-1f32, 1.0, (2, 9, llm.config.hidden_size), &Device::Cpu)?;
        let edited = Edits::new()
            .replace("inputs_embeds", &embeds)
            .run(|| logits(&llm, &ids))?;
        let other = llm.forward(&LlmInput::embeds(&embeds))?.logits()?.clone();
        assert_eq!(bits(&edited)?, bits(&other)?, "{family}: embeddings");
        // What stands at one token changes nothing before it.
        let late = Edits::new()
            .zero(Site::hidden_states("llm", 1).token(6))
            .run(|| logits(&llm, &ids))?;
        assert_eq!(
            bits(&late.narrow(1, 0, 6)?)?,
            bits(&plain.narrow(1, 0, 6)?)?,
            "{family}"
        );
        assert!(difference(&late, &plain)? > 1e-6, "{family}");
        // Everything of the other run at the last residual is the other run.
        let others = ids.flip(&[0])?;
        let (other, seen) = Activations::read(&["llm/hidden_states[*]"], || logits(&llm, &others))?;
        for layer in [0, last + 1] {
            let patch = Edits::new().patch(Site::hidden_states("llm", layer), &seen);
            assert_eq!(
                bits(&patch.run(|| logits(&llm, &ids))?)?,
                bits(&other)?,
                "{family} {layer}"
            );
        }
    }
    Ok(())
}

#[test]
fn a_pass_with_a_cache_is_edited_where_its_tokens_are() -> Outcome {
    for family in DECODERS {
        let llm = decoder(family)?;
        let ids = ids(&llm)?;
        let chunked = || -> Result<Tensor> {
            let cache = llm.new_cache(2, 9)?;
            let parts = [(0, 5), (5, 1), (6, 3)].map(|(start, length)| {
                let input = LlmInput::ids(&ids.narrow(1, start, length)?).cache(&cache);
                Ok(llm.forward(&input)?.logits()?.clone())
            });
            let parts = parts.into_iter().collect::<Result<Vec<_>>>()?;
            Ok(Tensor::cat(&parts, 1)?)
        };
        let direction = Tensor::rand(-1f32, 1.0, llm.config.hidden_size, &Device::Cpu)?;
        for edits in [
            Edits::new().zero(Site::heads("llm", 1).head(0).tokens([2, 5, 8])),
            Edits::new().add(Site::hidden_states("llm", 1).tokens_from(4), &direction),
            Edits::new().scale("llm/layers[0]/mlp", 0.5),
        ] {
            let (whole, seen) = edits.read(&["llm/hidden_states[1]"], || logits(&llm, &ids))?;
            let (parts, seen_in_parts) = edits.read(&["llm/hidden_states[1]"], chunked)?;
            assert!(difference(&whole, &parts)? < 1e-4, "{family}");
            let name = "llm/hidden_states[1]";
            assert!(
                difference(&seen.get(name)?, &seen_in_parts.get(name)?)? < 1e-4,
                "{family}"
            );
        }
        // A token that stands in the cache already is in no pass any more.
        let cache = llm.new_cache(2, 9)?;
        llm.forward(&LlmInput::ids(&ids.narrow(1, 0, 5)?).cache(&cache))?;
        let next = LlmInput::ids(&ids.narrow(1, 5, 1)?).cache(&cache);
        let refused = Edits::new()
            .zero(Site::hidden_states("llm", 0).token(3))
            .run(|| llm.forward(&next));
        match refused.err() {
            Some(Error::NotInPass { what, has, .. }) => {
                assert_eq!(what, "token 3");
                assert!(has.contains("computed for token 5"), "{has}");
            }
            other => return Err(format!("{family}: {other:?}").into()),
        }
    }
    Ok(())
}
