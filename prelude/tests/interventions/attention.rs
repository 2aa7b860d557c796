//! Queries, keys, values and the weights of attention: read, and changed, against attention that is computed by hand.

use crate::{DECODERS, Outcome, bits, decoder, difference, ids, logits, scaled, towers, vit};
use glassbox_prelude::language::LlmInput;
use glassbox_prelude::prelude::*;
use std::ops::Range;

/// `[B, T, heads·d]` as `[B, heads, T, d]`, each head as often as queries share it.
fn by_head(x: &Tensor, heads: usize, times: usize) -> Result<Tensor> {
    let (batch, tokens, width) = x.dims3()?;
    let x = x
        .reshape((batch, tokens, heads, width / heads))?
        .transpose(1, 2)?; // [B, heads, T, d]
    let copies = (0..heads).flat_map(|head| std::iter::repeat_n(head, times));
    let parts = copies.map(|head| x.narrow(1, head, 1));
    Ok(Tensor::cat(&parts.collect::<candle_core::Result<Vec<_>>>()?, 1)?.contiguous()?)
}

/// softmax(q kᵀ / √d) by exponentials, with the keys that a query sees.
fn softmax_by_hand(q: &Tensor, k: &Tensor, sees: impl Fn(usize) -> Range<usize>) -> Result<Tensor> {
    let (batch, heads, queries, d) = q.dims4()?;
    let keys = k.dim(2)?;
    let scores = (q.matmul(&k.t()?.contiguous()?)? / (d as f64).sqrt())?;
    let scores = scores
        .to_dtype(DType::F64)?
        .flatten_all()?
        .to_vec1::<f64>()?;
    let mut weights = vec![0.0; scores.len()];
    for row in 0..batch * heads * queries {
        let seen = sees(row % queries);
        let at = |key: usize| row * keys + key;
        let sum: f64 = seen.clone().map(|key| scores[at(key)].exp()).sum();
        for key in seen {
            weights[at(key)] = scores[at(key)].exp() / sum;
        }
    }
    let weights = Tensor::from_vec(weights, (batch, heads, queries, keys), &Device::Cpu)?;
    Ok(weights.to_dtype(DType::F32)?)
}

/// The weights times the values, `[B, T, H·d]`.
fn mixed_by_hand(weights: &Tensor, values: &Tensor) -> Result<Tensor> {
    let mixed = weights.matmul(values)?.transpose(1, 2)?; // [B, T, H, d]
    let (batch, tokens, heads, d) = mixed.dims4()?;
    Ok(mixed.reshape((batch, tokens, heads * d))?)
}

#[test]
fn weights_of_every_family_are_the_softmax_of_queries_and_keys() -> Outcome {
    for family in DECODERS {
        let llm = decoder(family)?;
        let ids = ids(&llm)?;
        let (plain, seen) = Activations::read(&["*"], || logits(&llm, &ids))?;
        assert_eq!(bits(&plain)?, bits(&logits(&llm, &ids)?)?, "{family}");
        let output = llm.forward(&LlmInput::ids(&ids).with_attentions())?;
        for (i, layer) in llm.layers.iter().enumerate() {
            let form = layer.self_attn.form();
            let read = |part: &str| seen.get(&format!("llm/layers[{i}]/{part}"));
            let q = by_head(&read("rotated_queries")?, form.heads, 1)?;
            let times = form.heads / form.kv_heads;
            let k = by_head(&read("rotated_keys")?, form.kv_heads, times)?;
            let v = by_head(&read("values")?, form.kv_heads, times)?;
            let weights = read("attention_weights")?;
            let sees = |query: usize| {
                let first = form
                    .sliding_window
                    .map(|window| (query + 1).saturating_sub(window));
                first.unwrap_or_default()..query + 1
            };
            let by_hand = softmax_by_hand(&q, &k, sees)?;
            assert!(difference(&weights, &by_hand)? < 1e-5, "{family} {i}");
            assert!(difference(&weights, &output.attentions[i])? < 1e-6);
            let mixed = mixed_by_hand(&by_hand, &v)?;
            assert!(difference(&read("heads")?, &mixed)? < 1e-4, "{family} {i}");
            // Turned by nothing at the first token, and elsewhere by something.
            let (before, after) = (read("queries")?, read("rotated_queries")?);
            let first = |x: &Tensor| x.narrow(1, 0, 1);
            let scale = after.abs()?.max_all()?.to_scalar::<f32>()?;
            assert!(
                difference(&first(&before)?, &first(&after)?)? < 0.6 * scale,
                "{family}"
            );
            assert!(difference(&before, &after)? > 1e-4, "{family}");
        }
    }
    Ok(())
}

#[test]
fn each_token_sees_itself_when_all_but_the_diagonal_is_zeroed() -> Outcome {
    for family in DECODERS {
        let llm = decoder(family)?;
        let ids = ids(&llm)?;
        let (layers, tokens) = (llm.layers.len(), 9);
        // Weights of 1 on the diagonal: each head puts together its own value.
        let eye = Tensor::eye(tokens, DType::F32, &Device::Cpu)?;
        let alone = Edits::new()
            .map("llm/layers[*]/attention_weights", |weights| {
                Ok(weights.ones_like()?)
            })
            .map("llm/layers[*]/attention_weights", move |weights| {
                Ok(weights.broadcast_mul(&eye)?)
            });
        let (edited, seen) = alone.read(&["llm/layers[*]/*"], || logits(&llm, &ids))?;
        for i in 0..layers {
            let form = llm.layers[i].self_attn.form();
            let values = seen.get(&format!("llm/layers[{i}]/values"))?;
            let own =
                by_head(&values, form.kv_heads, form.heads / form.kv_heads)?.transpose(1, 2)?;
            let own = own.reshape((2, tokens, form.heads * form.head_dim))?;
            let heads = seen.get(&format!("llm/layers[{i}]/heads"))?;
            assert!(difference(&heads, &own)? < 1e-6, "{family} {i}");
        }
        // Positions apart, a token in a sequence is a sequence of one token: no other has a say.
        let mut other = ids.to_vec2::<u32>()?;
        other[0][2] = (other[0][2] + 1) % llm.config.vocab_size as u32;
        let other = Tensor::new(other, &Device::Cpu)?;
        let changed = alone.run(|| logits(&llm, &other))?;
        for token in (0..tokens).filter(|token| *token != 2) {
            let at = |x: &Tensor| x.narrow(1, token, 1);
            assert!(
                difference(&at(&edited)?, &at(&changed)?)? < 1e-6,
                "{family}: {token}"
            );
        }
        assert!(difference(&edited, &changed)? > 1e-6, "{family}");
        // The same by one site for each place.
        let mut by_site = Edits::new();
        let one = Tensor::new(1f32, &Device::Cpu)?;
        for i in 0..layers {
            by_site = by_site.zero(Site::attention_weights("llm", i));
            for token in 0..tokens {
                let site = Site::attention_weights("llm", i);
                by_site = by_site.replace(site.token(token).at_keys([token]), &one);
            }
        }
        let by_site = by_site.run(|| logits(&llm, &ids))?;
        assert!(difference(&by_site, &edited)? < 1e-6, "{family}");
    }
    Ok(())
}

#[test]
fn edits_of_queries_keys_and_values_are_edits_of_their_weights() -> Outcome {
    for family in DECODERS {
        let llm = decoder(family)?;
        let ids = ids(&llm)?;
        let plain = logits(&llm, &ids)?;
        // Behind a norm of each head a scale of the weights is lost.
        let normed = matches!(family, "qwen3" | "gemma3" | "gemma3_as_published");
        let form = llm.layers[1].self_attn.form().clone();
        let (query, key) = (form.heads * form.head_dim, form.kv_heads * form.head_dim);
        for (name, rows, normed) in [
            ("queries", 0..query, normed),
            ("keys", query..query + key, normed),
            ("values", query + key..query + 2 * key, false),
        ] {
            let site = format!("llm/layers[1]/{name}");
            let edited = Edits::new()
                .scale(site.as_str(), 1.7)
                .run(|| logits(&llm, &ids))?;
            assert!(difference(&edited, &plain)? > 1e-6, "{family}: {name}");
            if normed {
                continue;
            }
            let mut by_hand = llm.clone();
            let linears = by_hand.layers[1].self_attn.qkv_proj.linears_mut();
            match linears {
                [packed] => scale_rows(packed, rows, 1.7)?,
                several => {
                    let at = ["queries", "keys", "values"]
                        .iter()
                        .position(|part| *part == name);
                    scaled(&mut several[at.ok_or("a part")?], 1.7)?;
                }
            }
            let by_hand = logits(&by_hand, &ids)?;
            assert!(difference(&edited, &by_hand)? < 1e-4, "{family}: {name}");
        }
        // The other row's queries, keys and values are the other row's attention.
        let others = ids.flip(&[0])?;
        let name = "llm/layers[0]/heads";
        let (_, other) = Activations::read(&["llm/layers[0]/*"], || logits(&llm, &others))?;
        let patch = ["queries", "keys", "values"]
            .iter()
            .fold(Edits::new(), |edits, part| {
                edits.patch(format!("llm/layers[0]/{part}"), &other)
            });
        let (_, seen) = patch.read(&[name], || logits(&llm, &ids))?;
        assert_eq!(
            bits(&seen.get(name)?)?,
            bits(&other.get(name)?)?,
            "{family}"
        );
        let weights = Edits::new()
            .patch("llm/layers[0]/attention_weights", &other)
            .patch("llm/layers[0]/values", &other);
        let (_, seen) = weights.read(&[name], || logits(&llm, &ids))?;
        assert!(
            difference(&seen.get(name)?, &other.get(name)?)? < 1e-5,
            "{family}"
        );
    }
    Ok(())
}

/// Some rows of a linear layer's weight and bias times a number.
fn scale_rows(linear: &mut Linear, rows: Range<usize>, factor: f64) -> Result<()> {
    let change = |weight: &Weight| -> Result<Weight> {
        let values = weight.tensor();
        let part = (values.narrow(0, rows.start, rows.len())? * factor)?;
        let mut ranges: Vec<Range<usize>> = values.dims().iter().map(|&size| 0..size).collect();
        ranges[0] = rows.clone();
        Ok(Weight::frozen(
            weight.name(),
            values.slice_assign(&ranges, &part)?,
        ))
    };
    linear.weight = change(&linear.weight)?;
    linear.bias = linear.bias.as_ref().map(change).transpose()?;
    Ok(())
}

#[test]
fn a_planted_edit_of_queries_is_the_edit_of_what_they_are_made_of() -> Outcome {
    // Llama has queries W x without bias or norm: W (x + d) = q + W d.
    let llm = decoder("llama")?;
    let ids = ids(&llm)?;
    let wq = llm.layers[0].self_attn.qkv_proj.linears()[0].clone();
    let direction = Tensor::rand(-1f32, 1.0, (1, llm.config.hidden_size), &Device::Cpu)?;
    let through = wq.forward(&direction)?; // [1, H·d]
    let (_, seen) = Activations::read(&["llm/layers[0]/queries"], || logits(&llm, &ids))?;
    let normed = llm.layers[0].before_attention.forward(&llm.embed(&ids)?)?; // [2, 9, D]
    let x = normed.broadcast_add(&direction)?;
    let queries = wq.forward(&x)?; // [2, 9, H·d]
    let added = seen.get("llm/layers[0]/queries")?.broadcast_add(&through)?;
    assert!(difference(&queries, &added)? < 1e-4);
    let replaced = Edits::new()
        .replace("llm/layers[0]/queries", &queries)
        .run(|| logits(&llm, &ids))?;
    let added = Edits::new()
        .add("llm/layers[0]/queries", &through.squeeze(0)?)
        .run(|| logits(&llm, &ids))?;
    assert!(difference(&replaced, &added)? < 1e-4);
    assert!(difference(&added, &logits(&llm, &ids)?)? > 1e-6);
    Ok(())
}

#[test]
fn what_is_seen_in_a_cache_is_edited_where_it_is_made() -> Outcome {
    for family in ["llama", "qwen3", "gemma3", "../llm"] {
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
        let name = "llm/layers[1]/attention_weights";
        for edits in [
            Edits::new(),
            Edits::new().zero(Site::keys("llm", 1).head(0).tokens([2, 5])),
            Edits::new().scale(Site::values("llm", 0).tokens_from(3), 2.0),
            Edits::new().scale("llm/layers[0]/rotated_queries", 0.5),
            Edits::new().scale("llm/layers[0]/rotated_keys", 0.5),
            Edits::new().zero(Site::attention_weights("llm", 1).at_keys([0]).head(1)),
            Edits::new().zero(Site::attention_weights("llm", 1).tokens([2, 7])),
        ] {
            let (whole, seen) = edits.read(&[name], || logits(&llm, &ids))?;
            let (parts, seen_in_parts) = edits.read(&[name], chunked)?;
            assert!(difference(&whole, &parts)? < 1e-4, "{family}: {edits:?}");
            let (whole, parts) = (seen.get(name)?, seen_in_parts.get(name)?);
            assert_eq!(whole.dims(), [2, llm.config.num_attention_heads, 9, 9]);
            assert!(difference(&whole, &parts)? < 1e-5, "{family}: {edits:?}");
            assert_eq!(seen_in_parts.heads(name)?, llm.config.num_attention_heads);
            assert_eq!(seen_in_parts.mean(name)?.dims(), [9]);
        }
    }
    Ok(())
}

fn encoder<M: Modality + Clone>(name: &str, model: &M, pixels: &Tensor) -> Outcome {
    let (_, seen) = Activations::read(&["*"], || model.encode(pixels))?;
    let maps = model.attentions(pixels)?;
    let read = |part: &str| seen.get(&format!("image_encoder/layers[0]/{part}"));
    let heads = maps[0].dim(1)?;
    let weights = read("attention_weights")?;
    let positions = weights.dim(2)?;
    let [q, k, v] = ["queries", "keys", "values"].map(|part| by_head(&read(part)?, heads, 1));
    let by_hand = softmax_by_hand(&q?, &k?, |_| 0..positions)?;
    assert!(difference(&weights, &by_hand)? < 1e-5, "{name}");
    assert!(difference(&weights, &maps[0])? < 1e-6, "{name}");
    assert!(
        difference(&read("heads")?, &mixed_by_hand(&by_hand, &v?)?)? < 1e-4,
        "{name}"
    );
    // Even weights: each position gets the mean of the values, whatever it asks.
    let even = Edits::new().map(
        "image_encoder/layers[0]/attention_weights",
        move |weights| Ok((weights.ones_like()? / positions as f64)?),
    );
    let (maps, seen) = even.read(&["image_encoder/layers[0]/*"], || model.attentions(pixels))?;
    let read = |part: &str| seen.get(&format!("image_encoder/layers[0]/{part}"));
    let mean = read("values")?.mean_keepdim(1)?; // [B, 1, D]
    let heads = read("heads")?;
    assert!(
        difference(&heads, &mean.broadcast_as(heads.shape())?)? < 1e-5,
        "{name}"
    );
    assert!(
        difference(&maps[0], &read("attention_weights")?)? == 0.0,
        "{name}"
    );
    // Queries that are 0 ask for everything alike.
    let none = Edits::new().zero(Site::queries("image_encoder", 0));
    let none = none.run(|| model.encode(pixels))?;
    let even = even.run(|| model.encode(pixels))?;
    assert!(difference(&none, &even)? < 1e-4, "{name}");
    assert!(difference(&none, &model.encode(pixels)?)? > 1e-7, "{name}");
    Ok(())
}

#[test]
fn queries_keys_and_weights_of_every_encoder() -> Outcome {
    let fixture = vit()?;
    encoder(fixture.name, &fixture.model, &fixture.pixels)?;
    for fixture in towers()? {
        encoder(fixture.name, &fixture.model, &fixture.pixels)?;
    }
    Ok(())
}

#[test]
fn what_attention_does_not_have_is_refused_by_name() -> Outcome {
    let llm = decoder("qwen2")?;
    let ids = ids(&llm)?;
    let run = |edits: Edits| edits.run(|| logits(&llm, &ids)).err();
    let typo = run(Edits::new().zero("llm/layers[1]/attention_weight"));
    assert!(
        matches!(&typo, Some(Error::NoSuchActivation { nearest, .. })
            if nearest.contains(&"llm/layers[1]/attention_weights".to_owned())),
        "{typo:?}"
    );
    let kv_heads = llm.config.kv_heads();
    for (edits, says) in [
        (
            Edits::new().zero(Site::keys("llm", 0).head(kv_heads)),
            "head",
        ),
        (
            Edits::new().zero(Site::attention_weights("llm", 0).head(99)),
            "head 99",
        ),
        (
            Edits::new().zero(Site::attention_weights("llm", 0).at_keys([9])),
            "key 9",
        ),
        (
            Edits::new().zero(Site::attention_weights("llm", 0).token(9)),
            "token 9",
        ),
        (
            Edits::new().zero(Site::queries("llm", 0).at_keys([1])),
            "keys to choose from",
        ),
        (
            Edits::new().zero(Site::mlp("llm", 0).head(1)),
            "attention_weights",
        ),
    ] {
        let refused = run(edits)
            .map(|error| error.to_string())
            .unwrap_or_default();
        assert!(refused.contains(says), "{says}: {refused}");
    }
    let wide = Tensor::ones((9, 8), DType::F32, &Device::Cpu)?;
    let refused = run(Edits::new().replace("llm/layers[0]/attention_weights", &wide));
    assert!(
        matches!(refused, Some(Error::ActivationShape { .. })),
        "{refused:?}"
    );
    Ok(())
}
