"""The C functions of a packaged llama.cpp, called through ctypes.

The PyPI package xllamacpp carries all of llama.cpp in one shared object that
exports the functions of `llama.h`. Its own Python interface is a server, so
this module declares the few structures and functions that are needed to decode
and to move the state of a sequence. They are those of build b11549: `load`
compares the defaults that the library fills in with the ones known from that
build, and refuses a library whose structures lie differently.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import pathlib
from typing import Any, Dict, List, Tuple

PACKAGE = "xllamacpp"
PINNED_VERSION = "2026.10.11549"

_i32, _u32, _f32 = ctypes.c_int32, ctypes.c_uint32, ctypes.c_float
_ptr, _size, _bool, _str = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_bool, ctypes.c_char_p

_LOG_ERROR = 4
_LogCallback = ctypes.CFUNCTYPE(None, ctypes.c_int, _str, _ptr)
_errors: List[str] = [""]


def _remember(level: int, text: bytes, _: object) -> None:
    if level == _LOG_ERROR:
        _errors[0] = text.decode(errors="replace").strip()


# llama.cpp has one log for the whole process, and calls this as long as it
# lives; so this one thing is global here too.
_on_log = _LogCallback(_remember)


def last_error() -> str:
    """What llama.cpp last logged as an error in this process; empty if nothing."""
    return _errors[0]


class ModelParams(ctypes.Structure):
    """`struct llama_model_params`."""

    _fields_ = [
        ("devices", _ptr),
        ("tensor_buft_overrides", _ptr),
        ("n_gpu_layers", _i32),
        ("split_mode", _i32),
        ("load_mode", _i32),
        ("lazy_mode", _i32),
        ("main_gpu", _i32),
        ("tensor_split", _ptr),
        ("progress_callback", _ptr),
        ("progress_callback_user_data", _ptr),
        ("kv_overrides", _ptr),
        ("vocab_only", _bool),
        ("check_tensors", _bool),
        ("use_extra_bufts", _bool),
        ("no_host", _bool),
        ("no_alloc", _bool),
        ("load_mtp", _bool),
    ]


class ContextParams(ctypes.Structure):
    """`struct llama_context_params`."""

    _fields_ = [
        ("n_ctx", _u32),
        ("n_batch", _u32),
        ("n_ubatch", _u32),
        ("n_seq_max", _u32),
        ("n_rs_seq", _u32),
        ("n_outputs_max", _u32),
        ("n_outputs_max_per_seq", _u32),
        ("n_threads", _i32),
        ("n_threads_batch", _i32),
        ("ctx_type", _i32),
        ("rope_scaling_type", _i32),
        ("pooling_type", _i32),
        ("attention_type", _i32),
        ("flash_attn_type", _i32),
        ("rope_freq_base", _f32),
        ("rope_freq_scale", _f32),
        ("yarn_ext_factor", _f32),
        ("yarn_attn_factor", _f32),
        ("yarn_beta_fast", _f32),
        ("yarn_beta_slow", _f32),
        ("yarn_orig_ctx", _u32),
        ("defrag_thold", _f32),
        ("cb_eval", _ptr),
        ("cb_eval_user_data", _ptr),
        ("type_k", _i32),
        ("type_v", _i32),
        ("moe_cache_size", _size),
        ("abort_callback", _ptr),
        ("abort_callback_data", _ptr),
        ("embeddings", _bool),
        ("offload_kqv", _bool),
        ("no_perf", _bool),
        ("op_offload", _bool),
        ("swa_full", _bool),
        ("kv_unified", _bool),
        ("samplers", _ptr),
        ("n_samplers", _size),
        ("ctx_other", _ptr),
    ]


class Batch(ctypes.Structure):
    """`struct llama_batch`: arrays of n_tokens; seq_id is an array of arrays."""

    _fields_ = [
        ("n_tokens", _i32),
        ("token", ctypes.POINTER(_i32)),
        ("embd", ctypes.POINTER(_f32)),
        ("pos", ctypes.POINTER(_i32)),
        ("n_seq_id", ctypes.POINTER(_i32)),
        ("seq_id", ctypes.POINTER(ctypes.POINTER(_i32))),
        ("logits", ctypes.POINTER(ctypes.c_int8)),
    ]


_FUNCTIONS: Dict[str, Tuple[Any, ...]] = {
    "ggml_version": (_str,),
    "ggml_commit": (_str,),
    "llama_backend_init": (None,),
    "llama_log_set": (None, _LogCallback, _ptr),
    "llama_print_system_info": (_str,),
    "llama_model_default_params": (ModelParams,),
    "llama_context_default_params": (ContextParams,),
    "llama_model_load_from_file": (_ptr, _str, ModelParams),
    "llama_model_free": (None, _ptr),
    "llama_model_get_vocab": (_ptr, _ptr),
    "llama_model_desc": (_i32, _ptr, _str, _size),
    "llama_model_n_layer": (_i32, _ptr),
    "llama_model_n_head_kv": (_i32, _ptr),
    "llama_model_n_swa": (_i32, _ptr),
    "llama_init_from_model": (_ptr, _ptr, ContextParams),
    "llama_free": (None, _ptr),
    "llama_n_ctx": (_u32, _ptr),
    "llama_n_batch": (_u32, _ptr),
    "llama_n_ubatch": (_u32, _ptr),
    "llama_n_seq_max": (_u32, _ptr),
    "llama_vocab_n_tokens": (_i32, _ptr),
    "llama_tokenize": (_i32, _ptr, _str, _i32, _ptr, _i32, _bool, _bool),
    "llama_batch_init": (Batch, _i32, _i32, _i32),
    "llama_batch_free": (None, Batch),
    "llama_decode": (_i32, _ptr, Batch),
    "llama_synchronize": (None, _ptr),
    "llama_get_logits_ith": (_ptr, _ptr, _i32),
    "llama_get_memory": (_ptr, _ptr),
    "llama_memory_clear": (None, _ptr, _bool),
    "llama_memory_seq_cp": (None, _ptr, _i32, _i32, _i32, _i32),
    "llama_memory_seq_rm": (_bool, _ptr, _i32, _i32, _i32),
    "llama_state_seq_get_size": (_size, _ptr, _i32),
    "llama_state_seq_get_data": (_size, _ptr, _ptr, _size, _i32),
    "llama_state_seq_set_data": (_size, _ptr, _ptr, _size, _i32),
    "llama_state_seq_save_file": (_size, _ptr, _str, _i32, _ptr, _size),
    "llama_state_seq_load_file": (_size, _ptr, _str, _i32, _ptr, _size, _ptr),
}

# What b11549 fills in. Fields near the front, in the middle and at the end of
# each structure, so that a field added anywhere shows.
_MODEL_DEFAULTS: Dict[str, object] = {
    "n_gpu_layers": -1,
    "split_mode": 1,
    "use_extra_bufts": True,
    "no_host": False,
    "load_mtp": False,
}
_CONTEXT_DEFAULTS: Dict[str, object] = {
    "n_ctx": 512,
    "n_batch": 2048,
    "n_ubatch": 512,
    "n_seq_max": 1,
    "n_outputs_max_per_seq": 1,
    "flash_attn_type": -1,
    "yarn_beta_slow": -1.0,
    "type_k": 1,
    "type_v": 1,
    "offload_kqv": True,
    "swa_full": True,
    "kv_unified": False,
    "n_samplers": 0,
    "ctx_other": None,
}


def load() -> Tuple[Any, str]:
    """Loads the packaged library and silences its log.

    Returns: the library with all functions declared, and its version in words,
    for a fingerprint.

    Raises:
      RuntimeError: the package is missing, is another version than the pinned
        one, or its structures differ from those declared here.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise RuntimeError(f"the package {PACKAGE} {PINNED_VERSION} is not installed")
    version = importlib.metadata.version(PACKAGE)
    if version != PINNED_VERSION:
        raise RuntimeError(
            f"{PACKAGE} is {version}; its structures are known for {PINNED_VERSION} only"
        )
    library = ctypes.CDLL(str(pathlib.Path(spec.origin).with_name(f"{PACKAGE}.abi3.so")))
    for name, (result, *arguments) in _FUNCTIONS.items():
        function = getattr(library, name, None)
        if function is None:
            raise RuntimeError(f"{PACKAGE} {version} does not export {name}")
        function.restype, function.argtypes = result, arguments
    _check(library.llama_model_default_params(), _MODEL_DEFAULTS)
    _check(library.llama_context_default_params(), _CONTEXT_DEFAULTS)
    library.llama_log_set(_on_log, None)
    library.llama_backend_init()
    ggml = f"{library.ggml_version().decode()}-{library.ggml_commit().decode()}"
    return library, f"{PACKAGE} {version}, ggml {ggml}"


def _check(params: ctypes.Structure, defaults: Dict[str, object]) -> None:
    for name, value in defaults.items():
        if getattr(params, name) != value:
            raise RuntimeError(
                f"{type(params).__name__}.{name} is {getattr(params, name)!r} by default, not "
                f"{value!r}: the library's structures are not those of the pinned build"
            )
