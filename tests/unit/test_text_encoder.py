"""Cleaning, the vocabulary, and the encoder's own promises (its numbers are compared in test_parity_networks)."""

from __future__ import annotations

import builtins
import math
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch.utils.flop_counter import FlopCounterMode

from sorano.models.wan.config import TextEncoderConfig
from sorano.models.wan.text_encoder import (
    TextEncoder,
    TextTokens,
    Tokenizer,
    build_tokenizer,
    clean_prompt,
    position_buckets,
)

CAPTIONS = ["A red BALL, rolls left!", "一个红色的球", "", "a purple ball"]


def test_prompts_are_cleaned_as_diffusers_cleans_them() -> None:
    assert clean_prompt("  a\u00a0red \n\t ball &amp;amp; a cube ") == "a red ball & a cube"
    assert clean_prompt("a ball that\u2019s \u201cred\u201d") == 'a ball that\'s "red"'


def test_cleaning_without_ftfy_still_unescapes_and_joins(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "ftfy":
            raise ModuleNotFoundError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    assert clean_prompt(" a  red ball &lt;3 ") == "a red ball <3"


def test_ids_begin_with_the_special_tokens_and_follow_the_list() -> None:
    tokenizer = build_tokenizer(["red ball", "ball", "球", "left-of"])
    expected = ["<pad>", "</s>", "<unk>", "red", "ball", "球", "left", "-", "of"]
    assert [tokenizer.fast.id_to_token(i) for i in range(len(tokenizer))] == expected


def test_words_are_lower_case_and_chinese_is_read_by_character() -> None:
    tokenizer = tiny.tokenizer()
    english, chinese, empty, unknown = tokenizer.encode(CAPTIONS)
    words = [tokenizer.fast.id_to_token(i) for i in english]
    assert words == ["a", "red", "ball", "<unk>", "rolls", "left", "<unk>", "</s>"]  # no punctuation in the list
    assert [tokenizer.fast.id_to_token(i) for i in chinese] == ["一", "个", "红", "色", "的", "球", "</s>"]
    assert empty == [1]
    assert unknown[1] == 2


def test_a_long_prompt_is_cut_and_keeps_its_end() -> None:
    tokenizer = build_tokenizer(tiny.WORDS, max_length=5)
    assert tokenizer.encode(["a red ball rolls left"]) == [[3, 4, 5, 6, 1]]


def test_a_saved_vocabulary_gives_the_same_ids_here_and_in_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer = tiny.tokenizer()
    tokenizer.save(tmp_path)
    stock = transformers.PreTrainedTokenizerFast.from_pretrained(tmp_path)
    again = Tokenizer.from_file(tmp_path / "tokenizer.json")
    expected = tokenizer.encode(CAPTIONS)
    assert again.encode(CAPTIONS) == expected
    padded = stock(CAPTIONS, padding="max_length", max_length=12, truncation=True)
    assert padded.input_ids == [ids + [0] * (12 - len(ids)) for ids in expected]
    assert [sum(mask) for mask in padded.attention_mask] == [len(ids) for ids in expected]
    cut = stock(CAPTIONS, max_length=3, truncation=True).input_ids
    assert cut == build_tokenizer(tiny.WORDS, max_length=3).encode(CAPTIONS)


def test_an_encoding_ends_in_zeros_and_does_not_depend_on_its_batch() -> None:
    encoder, ids = tiny.text_encoder(), tiny.tokenizer().encode(CAPTIONS)
    together = encoder.encode(ids)
    assert together.lengths_B.tolist() == [len(prompt) for prompt in ids]
    assert together.text_BSD.shape == (4, max(map(len, ids)) + 1, 32)
    for row, prompt in enumerate(ids):
        alone = encoder.encode([prompt]).text_BSD[0]
        assert not together.text_BSD[row, len(prompt) :].any()
        assert not alone[len(prompt) :].any()
        assert tiny.error(together.text_BSD[row, : len(prompt)], alone[: len(prompt)]) < 1e-5


def test_the_empty_caption_is_the_encoding_of_its_end_token() -> None:
    empty = tiny.text_encoder().encode(tiny.tokenizer().encode([""]))
    assert empty.lengths_B.tolist() == [1]
    assert empty.text_BSD[0, 0].any()


def test_the_bias_counts_the_padding() -> None:
    bias = tiny.text((7, 4)).bias(total=512)
    assert bias[0].tolist() == [0.0] * 7 + [pytest.approx(math.log(505))]
    assert bias[1].tolist() == [0.0] * 4 + [pytest.approx(math.log(508)), -math.inf, -math.inf, -math.inf]
    assert tiny.text((3,)).bias(total=3)[0].tolist() == [0.0] * 3 + [-math.inf]  # nothing is padded


def test_batches_of_texts_join_and_split() -> None:
    long, short = tiny.text((7,)), tiny.text((4, 2), seed=5)
    joined = TextTokens.cat([long, short])
    assert joined.lengths_B.tolist() == [7, 4, 2]
    assert joined.text_BSD.shape[1] == 8
    assert torch.equal(joined[1:].text_BSD[:, :5], short.text_BSD)
    assert joined.to(torch.bfloat16).text_BSD.dtype == torch.bfloat16


def test_bfloat16_products_stay_near_float32() -> None:
    encoder, ids = tiny.text_encoder(), tiny.tokenizer().encode(CAPTIONS)
    expected = encoder.encode(ids).text_BSD
    found = encoder.encode(ids, torch.bfloat16).text_BSD
    assert found.dtype == torch.bfloat16
    assert tiny.error(found.float(), expected) < 0.1


def test_gradients_reach_every_weight() -> None:
    encoder = TextEncoder(tiny.TEXT_ENCODER)
    encoder.encode([[3, 4, 5, 1], [6, 1]]).text_BSD.square().sum().backward()
    assert [n for n, w in encoder.named_parameters() if w.grad is None or not w.grad.any()] == []


def test_position_buckets_are_exact_when_near_and_capped_when_far() -> None:
    buckets = position_buckets(200, 32, 128)
    assert buckets[5, 5] == 0
    assert [int(buckets[10, 10 - d]) for d in range(8)] == list(range(8))
    assert [int(buckets[10, 10 + d]) for d in range(1, 8)] == [16 + d for d in range(1, 8)]
    assert buckets[199, 0] == 15 and buckets[0, 199] == 31
    assert len(buckets.unique()) == 31  # 16 would be "0 tokens ahead"


def test_costs_are_counted_exactly() -> None:
    config, encoder = tiny.TEXT_ENCODER, tiny.text_encoder()
    assert config.parameters() == sum(weight.numel() for weight in encoder.parameters())
    with FlopCounterMode(display=False) as counter:
        encoder(torch.ones(3, 9, dtype=torch.long))
    assert counter.get_total_flops() == config.flops(9, batch=3)
    assert round(TextEncoderConfig().parameters() / 1e9, 2) == 5.68  # UMT5-XXL's encoder


def test_heads_start_by_looking_back_and_ahead() -> None:
    """What comes before a word and what comes after it both matter; heads that look both ways alike learn that late."""
    encoder = TextEncoder(tiny.TEXT_ENCODER)
    size = 12
    buckets = position_buckets(size, tiny.TEXT_ENCODER.relative_attention_num_buckets, 128)
    bias_SSN = encoder.encoder.block[0].attend.SelfAttention.relative_attention_bias(buckets)
    back, ahead = bias_SSN[..., 0].softmax(-1), bias_SSN[..., 1].softmax(-1)
    middle = size // 2
    assert back[middle, : middle + 1].sum() > 0.9
    assert ahead[middle, middle + 1 :].sum() > 0.9
