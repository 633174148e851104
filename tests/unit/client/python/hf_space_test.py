"""Spaces from Hugging Face configs, as the models publish them."""

import json

import pytest

from mnemod import DType, Durability, GroupKind, RopePairing, Space
from mnemod.hf_space import ConfigError

LLAMA = {
    "model_type": "llama", "num_hidden_layers": 32, "hidden_size": 4096,
    "num_attention_heads": 32, "num_key_value_heads": 8, "torch_dtype": "bfloat16",
    "rope_theta": 500000.0,
    "rope_scaling": {"rope_type": "llama3", "factor": 8.0},
}  # fmt: skip
GEMMA3 = {
    "model_type": "gemma3_text", "num_hidden_layers": 18, "hidden_size": 640,
    "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 256, "sliding_window": 512,
    "rope_theta": 1000000.0, "rope_local_base_freq": 10000.0, "torch_dtype": "bfloat16",
}  # fmt: skip


def space_of(config, **options):
    return Space.from_hf_config(config, name="m", weights_digest="sha256:0", **options)


def test_llama_3(tmp_path):
    space = space_of(LLAMA, tokens_per_block=16, durability=Durability.SYNC)
    (group,) = space.groups
    assert (group.kind, group.layers, group.kv_heads) == (GroupKind.FULL, 32, 8)
    assert (group.k_dimension, group.dtype) == (128, DType.BF16)
    assert space.part_bytes() == 16 * 131072
    assert (group.rope.scaling_kind, group.rope.scaling_factor) == ("llama3", 8.0)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(LLAMA))
    assert space_of(file, tokens_per_block=16, durability=Durability.SYNC) == space


def test_a_folder_gives_the_digest_of_its_weights(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    with pytest.raises(ConfigError, match="weights_digest"):
        Space.from_hf_config(tmp_path, name="m")
    (tmp_path / "model-1.safetensors").write_bytes(b"1")
    first = Space.from_hf_config(tmp_path, name="m").fingerprint.weights_digest
    (tmp_path / "model-1.safetensors").write_bytes(b"2")
    second = Space.from_hf_config(tmp_path, name="m").fingerprint.weights_digest
    assert first.startswith("sha256:") and first != second
    with pytest.raises(ConfigError, match="weights_digest"):
        Space.from_hf_config(LLAMA, name="m")


def test_qwen_2_has_a_window_only_where_it_uses_one():
    qwen = {**LLAMA, "model_type": "qwen2", "sliding_window": 4096, "max_window_layers": 28}
    (group,) = space_of({**qwen, "use_sliding_window": False}).groups
    assert group.kind is GroupKind.FULL
    full, window = space_of({**qwen, "use_sliding_window": True}).groups
    assert full.layers == 28 and window.layer_indexes == (28, 29, 30, 31)


def test_mistral_has_a_window_in_every_layer():
    (group,) = space_of({**LLAMA, "model_type": "mistral", "sliding_window": 4096}).groups
    assert (group.kind, group.window_tokens) == (GroupKind.WINDOW, 4096)
    (group,) = space_of({**LLAMA, "model_type": "mistral", "sliding_window": None}).groups
    assert group.kind is GroupKind.FULL


@pytest.mark.parametrize(
    "extra",
    [
        {"sliding_window_pattern": 6},
        {},
        {"layer_types": (["sliding_attention"] * 5 + ["full_attention"]) * 3},
    ],
)
def test_gemma_3_in_each_of_its_spellings(extra):
    window, full = space_of({**GEMMA3, **extra}).groups
    assert (window.window_tokens, window.layers) == (512, 15)
    assert full.layer_indexes == (5, 11, 17)
    assert (window.rope.theta, full.rope.theta) == (10000.0, 1000000.0)
    wrapped = space_of({"model_type": "gemma3", "text_config": {**GEMMA3, **extra}})
    assert wrapped.groups == (window, full)


def test_gemma_2_alternates():
    gemma = {**GEMMA3, "model_type": "gemma2", "num_hidden_layers": 4}
    window, full = space_of(gemma).groups
    assert (window.layer_indexes, full.layer_indexes) == ((0, 2), (1, 3))


def test_deepseek_keeps_a_latent_on_every_rank():
    config = {
        "model_type": "deepseek_v3", "num_hidden_layers": 61, "hidden_size": 7168,
        "num_attention_heads": 128, "num_key_value_heads": 128, "kv_lora_rank": 512,
        "qk_rope_head_dim": 64, "v_head_dim": 128, "rope_theta": 10000,
        "quantization_config": {"quant_method": "fp8"},
    }  # fmt: skip
    space = space_of(config, tokens_per_block=64, tensor_parallel_size=8, dtype=DType.FP8_E4M3)
    (group,) = space.groups
    assert (group.kind, group.k_dimension, group.v_dimension) == (GroupKind.LATENT, 576, 0)
    assert group.tensor_parallel_size == 1 and group.rope.pairing is RopePairing.INTERLEAVED
    assert space.part_bytes() == 61 * 64 * 576
    assert space.fingerprint.quantization == "fp8"


def test_jamba_and_qwen_3_next_have_state_groups():
    jamba = {
        "model_type": "jamba", "num_hidden_layers": 8, "hidden_size": 64,
        "num_attention_heads": 4, "num_key_value_heads": 2, "attn_layer_period": 8,
        "attn_layer_offset": 4, "mamba_d_state": 16, "mamba_d_conv": 4, "mamba_expand": 2,
    }  # fmt: skip
    state, full = space_of(jamba).groups
    assert (state.kind, state.layers, full.layer_indexes) == (GroupKind.STATE, 7, (4,))
    assert state.fixed_bytes == (3 * 128 + 128 * 16) * 2
    assert space_of(jamba, state_bytes_per_layer=5000).groups[0].fixed_bytes == 5000
    qwen = {
        **LLAMA, "model_type": "qwen3_next", "num_hidden_layers": 8,
        "layer_types": (["linear_attention"] * 3 + ["full_attention"]) * 2,
        "linear_num_key_heads": 2, "linear_key_head_dim": 8, "linear_num_value_heads": 4,
        "linear_value_head_dim": 8, "linear_conv_kernel_dim": 4,
    }  # fmt: skip
    state, full = space_of(qwen).groups
    assert state.fixed_bytes == (3 * (2 * 16 + 32) + 32 * 8) * 2
    assert full.layer_indexes == (3, 7)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"num_hidden_layers": None}, "num_hidden_layers is None"),
        ({"num_hidden_layers": 10**7}, "0 to 4096"),
        ({"num_attention_heads": 0}, "num_attention_heads is 0"),
        ({"num_key_value_heads": "8"}, "num_key_value_heads"),
        ({"layer_types": ["full_attention"]}, "a list of 32"),
        ({"layer_types": ["magic"] * 32}, r"layer_types\[0\]"),
        ({"torch_dtype": "int4"}, "torch_dtype"),
        ({"layer_types": ["mamba"] * 32}, "state_bytes_per_layer"),
    ],
)
def test_a_field_out_of_its_range_is_named(change, words):
    with pytest.raises(ConfigError, match=words):
        space_of({**LLAMA, **change})


def test_a_file_that_is_no_config_is_refused(tmp_path):
    path = tmp_path / "config.json"
    for text in ("", "[1]", "{"):
        path.write_text(text)
        with pytest.raises(ConfigError):
            space_of(path)
