"""GGUF headers: geometry of known models, and hostile files."""

import hashlib
import random
import struct

import pytest

from mnemod import DType, GroupKind, Layout, RopePairing, Space
from mnemod.gguf import GgufError, Tensor, parse_metadata, parse_tensors

KINDS = {bool: 7, int: 4, float: 6, str: 8}


def string(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def value(item):
    if isinstance(item, str):
        return string(item)
    return struct.pack({bool: "<?", int: "<I", float: "<f"}[type(item)], item)


def entry(key, item):
    if isinstance(item, (list, tuple)):
        body = struct.pack("<IIQ", 9, KINDS[type(item[0])], len(item)) + b"".join(map(value, item))
        return string(key) + body
    return string(key) + struct.pack("<I", KINDS[type(item)]) + value(item)


def gguf(arch, **fields):
    entries = {"general.architecture": arch, "general.file_type": 15}
    entries.update({f"{arch}.{name}": item for name, item in fields.items()})
    entries["tokenizer.ggml.tokens"] = [str(i) for i in range(100)]
    body = b"".join(entry(key, item) for key, item in entries.items())
    return b"GGUF" + struct.pack("<IQQ", 3, 0, len(entries)) + body + b"weights"


LLAMA = {
    "block_count": 30, "embedding_length": 576, "attention.head_count": 9,
    "attention.head_count_kv": 3, "rope.dimension_count": 64, "rope.freq_base": 100000.0,
}  # fmt: skip
GEMMA = {
    "block_count": 18, "embedding_length": 640, "attention.head_count": 4,
    "attention.head_count_kv": 1, "attention.key_length": 256, "attention.value_length": 256,
    "attention.sliding_window": 512, "rope.freq_base": 1000000.0,
}  # fmt: skip


def space_of(tmp_path, arch, fields, **options):
    path = tmp_path / "model.gguf"
    path.write_bytes(gguf(arch, **fields))
    return Space.from_gguf(path, name="m", **options)


def test_a_llama_is_one_full_group(tmp_path):
    space = space_of(tmp_path, "llama", LLAMA, tokens_per_block=256, state_format="engine 1")
    (group,) = space.groups
    assert (group.kind, group.layers, group.kv_heads) == (GroupKind.FULL, 30, 3)
    assert (group.k_dimension, group.v_dimension, group.dtype) == (64, 64, DType.F16)
    assert space.part_bytes() == 256 * 30 * 2 * 3 * 64 * 2 == 5_898_240
    assert (group.rope.theta, group.rope.pairing) == (100000.0, RopePairing.INTERLEAVED)
    digest = hashlib.sha256((tmp_path / "model.gguf").read_bytes()).hexdigest()
    assert space.fingerprint.weights_digest == f"sha256:{digest}"
    assert (space.fingerprint.quantization, space.fingerprint.kv_cache_dtype) == ("Q4_K_M", "f16")


def test_gemma_3_has_a_window_in_five_layers_of_six(tmp_path):
    window, full = space_of(tmp_path, "gemma3", GEMMA).groups
    assert (window.kind, window.window_tokens, window.layers) == (GroupKind.WINDOW, 512, 15)
    assert full.kind is GroupKind.FULL and full.layer_indexes == (5, 11, 17)
    assert (window.rope.theta, full.rope.theta) == (10000.0, 1000000.0)


def test_a_window_may_be_told_layer_by_layer(tmp_path):
    fields = {**GEMMA, "attention.sliding_window_pattern": [i < 10 for i in range(18)]}
    window, full = space_of(tmp_path, "newarch", fields).groups
    assert window.layer_indexes == tuple(range(10)) and full.layers == 8


def test_a_window_that_the_engine_ignores_is_ignored(tmp_path):
    (group,) = space_of(tmp_path, "llama", {**LLAMA, "attention.sliding_window": 4096}).groups
    assert group.kind is GroupKind.FULL


def test_deepseek_keeps_a_latent_without_v(tmp_path):
    fields = {
        "block_count": 27, "embedding_length": 2048, "attention.head_count": 16,
        "attention.kv_lora_rank": 512, "rope.dimension_count": 64, "attention.key_length": 576,
    }  # fmt: skip
    (group,) = space_of(tmp_path, "deepseek2", fields, tensor_parallel_size=8).groups
    assert (group.kind, group.kv_heads, group.k_dimension) == (GroupKind.LATENT, 1, 576)
    assert (group.v_dimension, group.tensor_parallel_size) == (0, 1)


def test_a_mamba_hybrid_has_a_state_group(tmp_path):
    fields = {
        "block_count": 8, "embedding_length": 64, "attention.head_count": 4,
        "attention.head_count_kv": [0, 0, 0, 2, 0, 0, 0, 2], "ssm.conv_kernel": 4,
        "ssm.inner_size": 128, "ssm.state_size": 16, "ssm.group_count": 1,
    }  # fmt: skip
    state, full = space_of(tmp_path, "granitehybrid", fields).groups
    assert (state.kind, state.layer_indexes) == (GroupKind.STATE, (0, 1, 2, 4, 5, 6))
    assert state.fixed_bytes == (3 * (128 + 2 * 16) + 16 * 128) * 4
    assert (full.kind, full.layer_indexes) == (GroupKind.FULL, (3, 7))


def test_heads_are_split_over_ranks_or_refused(tmp_path):
    fields = {**LLAMA, "attention.head_count_kv": 8}
    space = space_of(tmp_path, "llama", fields, tensor_parallel_size=4, layout=Layout.KV_MAJOR)
    assert space.part_bytes() == 256 * 30 * 2 * 2 * 64 * 2
    with pytest.raises(ValueError, match="8 KV heads"):
        space_of(tmp_path, "llama", fields, tensor_parallel_size=3)


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"block_count": 0}, "block_count is 0; 1 to 4096"),
        ({"block_count": 10**6}, "block_count"),
        ({"block_count": "x"}, "block_count is 'x'"),
        ({"embedding_length": 0}, "embedding_length"),
        ({"attention.head_count_kv": [1, 2]}, "one for each of 30 layers"),
        ({"attention.key_length": 10**6}, "key_length"),
    ],
)
def test_an_entry_out_of_its_range_is_named(tmp_path, fields, words):
    with pytest.raises(GgufError, match=words):
        space_of(tmp_path, "llama", {**LLAMA, **fields})


@pytest.mark.parametrize(
    "data, words",
    [
        (b"", "left"),
        (b"GGML" + bytes(100), "not a GGUF"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "version 1"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1 << 60), "at most 65536"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1 << 63), "at most 65535"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + string("k") + struct.pack("<I", 13), "type 13"),
        (
            b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + string("k") + struct.pack("<IIQ", 9, 4, 1 << 62),
            "are left in the file",
        ),
        (
            b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + string("k") + struct.pack("<IIQ", 9, 8, 1 << 62),
            "elements in a file",
        ),
        (
            b"GGUF"
            + struct.pack("<IQQ", 3, 0, 1)
            + string("k")
            + struct.pack("<I", 9)
            + struct.pack("<IQ", 9, 1) * 50,
            "deep",
        ),
    ],
)
def test_a_file_that_lies_is_refused(data, words):
    with pytest.raises(GgufError, match=words):
        parse_metadata(data)


def test_every_cut_and_every_flip_ends_in_an_error_or_an_answer():
    whole = gguf("llama", **LLAMA)
    header = whole[: -len(b"weights")]
    for end in range(len(header)):
        with pytest.raises(GgufError):
            parse_metadata(header[:end])
    source = random.Random(11)
    for _ in range(3000):
        damaged = bytearray(whole)
        damaged[source.randrange(len(damaged))] ^= 1 << source.randrange(8)
        try:
            parse_metadata(bytes(damaged))
        except GgufError:
            pass


def with_tensors(*tensors, count=None, metadata=b"", entries=0):
    table = b"".join(
        string(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)
        for name, dims, kind, offset in tensors
    )
    count = len(tensors) if count is None else count
    return b"GGUF" + struct.pack("<IQQ", 3, count, entries) + metadata + table


def test_tensors_lie_behind_the_header_at_its_alignment():
    data = with_tensors(("a", (4, 3), 0, 0), ("b", (32,), 8, 64))
    base = -(-len(data) // 32) * 32
    assert parse_tensors(data) == [
        Tensor("a", (3, 4), 0, base),
        Tensor("b", (32,), 8, base + 64),
    ]
    aligned = with_tensors(
        ("a", (4,), 0, 0), metadata=entry("general.alignment", 4096), entries=1
    )
    assert parse_tensors(aligned)[0].offset == 4096


@pytest.mark.parametrize(
    "data, words",
    [
        (with_tensors(count=1 << 50), "tensor count is"),
        (with_tensors(("a", (1,) * 5, 0, 0)), "5 dimensions"),
        (with_tensors(("a", (4,), 0, 0))[:-1], "left"),
        (with_tensors(metadata=entry("general.alignment", 0), entries=1), "alignment is 0"),
    ],
)
def test_a_table_of_tensors_that_lies_is_refused(data, words):
    with pytest.raises(GgufError, match=words):
        parse_tensors(data)
