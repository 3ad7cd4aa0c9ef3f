"""Settings that trade speed, memory and repeatability: precision, recomputation, compiling, micro-batches."""

from __future__ import annotations

import functools
import logging
import os
import statistics
import time
from dataclasses import replace
from typing import Any

import torch

from multitask_bert.config.schema import BatchingConfig, TrainerConfig
from multitask_bert.model.multitask import MultiTaskModel
from multitask_bert.utils.ranks import this_run

log = logging.getLogger(__name__)

AUTOCAST = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
WORTH_A_WARNING = 2.0  # times as slow
FAST_BF16 = 1.5  # times as fast as fp32, from which it pays: casts of weights and activations take back a part
NUM_PRODUCTS = 20  # of each precision that are measured
SHARE_OF_MEMORY = 0.5  # of what is free, that the activations of one forward pass may take


def accelerate(model: MultiTaskModel, config: TrainerConfig) -> None:
    """Apply `precision`, `tf32`, `gradient_checkpointing` and `compile` to the model; parameters stay fp32."""
    backbone: Any = model.encoder.backbone
    model.autocast = AUTOCAST[config.precision]
    if model.autocast is not None and next(model.parameters()).device.type == "cpu":
        warn_if_slower(config.precision)
    set_product_precision(tf32=config.tf32)
    if config.gradient_checkpointing:
        enable = getattr(backbone, "activation_checkpointing_enable", None) or backbone.gradient_checkpointing_enable
        enable({"use_reentrant": False})
    if config.gradient_checkpointing or config.compile:
        model.encoder.skips_unread = False  # the tokens come from a context that recomputed layers would not see
    if config.compile:
        backbone.compile(dynamic=True)


def warn_if_slower(precision: str) -> None:
    """Warn if 16-bit products are slow here: a processor without instructions for them takes many times as long."""
    dtype = AUTOCAST[precision]
    assert dtype is not None
    ratio = _seconds_of_product(dtype) / _seconds_of_product(torch.float32)
    if ratio > WORTH_A_WARNING:
        log.warning(
            "trainer.precision=%s: this processor takes %.0f times as long for it as for fp32; "
            "set trainer.precision=fp32",
            precision, ratio,
        )  # fmt: skip


def precision_here(device: torch.device, *, tf32: bool) -> tuple[str, str]:
    """What `trainer.precision=auto` stands for on this device, the same for all processes of a run; and why."""
    set_product_precision(tf32=tf32)
    speedup = this_run().smallest(round(100 * speedup_of_bf16(device, tf32=tf32))) / 100
    precision = "bf16" if speedup >= FAST_BF16 else "fp32"
    of_whom = f", in the slowest of {this_run().size} processes" if this_run().size > 1 else ""
    other = "tf32" if tf32 else "fp32"
    return precision, (
        f"on this {device.type}, products in bf16 are {speedup:g} times as fast as in {other}{of_whom} "
        f"(bf16 is taken from {FAST_BF16:g} times on)"
    )


@functools.cache
def speedup_of_bf16(device: torch.device, *, tf32: bool) -> float:
    """How many times as fast as in fp32 a product of the size of an encoder's is in bf16; 0 where there is no bf16.

    Measured, since the flags of a processor do not tell: some with AVX512-BF16 take longer for bf16 than for fp32.
    `tf32`: whether fp32 is computed in tf32 now.
    """
    rows, columns = (4096, 4096) if device.type == "cuda" else (256, 768)
    seconds: dict[torch.dtype, list[float]] = {torch.float32: [], torch.bfloat16: []}
    try:
        for _ in range(NUM_PRODUCTS):  # in turn, so that other programs on this machine slow down both
            for dtype, of_dtype in seconds.items():
                left = torch.ones(rows, columns, dtype=dtype, device=device)
                right = torch.ones(columns, columns, dtype=dtype, device=device)
                float(left[0, 0])  # waits for the device
                began = time.perf_counter()
                float(torch.nn.functional.linear(left, right)[0, 0])
                of_dtype.append(time.perf_counter() - began)
    except (RuntimeError, TypeError):  # the device has no such type
        return 0.0
    whole, half = seconds[torch.float32], seconds[torch.bfloat16]
    # By two measures, of which each may be wrong on a busy machine: a wrong bf16 costs more than a wrong fp32.
    return min(min(whole) / min(half), statistics.median(one / other for one, other in zip(whole, half, strict=True)))


def set_product_precision(*, tf32: bool) -> None:
    """Let products in fp32 be computed in tf32, on CUDA devices that have it, or not."""
    torch.set_float32_matmul_precision("high" if tf32 else "highest")


def be_deterministic(wanted: bool | None, device: torch.device) -> None:
    """Use only algorithms that give the same bits each time, from now on; None: on a CPU only, where they cost nothing.

    Later, torch raises a RuntimeError where an operation has no such algorithm.
    """
    is_on = device.type == "cpu" if wanted is None else wanted
    if is_on and device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS is first used
    torch.use_deterministic_algorithms(is_on)
    torch.backends.cudnn.deterministic = is_on
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # for bugs that we test for


def empty_cache(device: torch.device) -> None:
    """Release the GPU memory that torch caches."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def fit_batching(
    batching: BatchingConfig, model: MultiTaskModel, device: torch.device, *, is_compiled: bool = False
) -> BatchingConfig:
    """The batching with a layout that this encoder supports, and with micro-batches that fit into memory."""
    layout = batching.layout
    if layout == "packed" and is_compiled:
        log.warning(
            "batching.layout=packed: with trainer.compile=true batches stay padded: each packed one has a new shape"
        )
        layout = "padded"
    elif layout == "packed" and not model.encoder.can_pack:
        family = model.encoder.config.model_type
        log.warning(
            "batching.layout=packed: batches for encoders of type %s stay padded: they have attention of their own",
            family,
        )
        layout = "padded"
    tokens = batching.micro_batch_tokens or tokens_that_fit(model, device, max_length=batching.max_length)
    return replace(batching, layout=layout, micro_batch_tokens=this_run().smallest(tokens))


def tokens_that_fit(model: MultiTaskModel, device: torch.device, *, max_length: int) -> int:
    """The number of tokens, padding included, whose activations take half of the free memory, by formula, not by trial.

    It is a power of two, so that a little more or less memory does not change the micro-batches, for which dropout
    would draw other numbers. Per token and layer, 34 H + 5 A S bytes in 16 bits and twice that in 32, for width H, A
    attention heads and texts of S tokens (Korthikanti et al. 2022, "Reducing Activation Recomputation in Large
    Transformer Models", eq. 1).
    """
    config = model.encoder.config
    per_layer = 34 * config.hidden_size + 5 * config.num_attention_heads * max_length
    bytes_per_token = config.num_hidden_layers * per_layer * (2 if model.autocast is None else 1)
    num_tokens = int(SHARE_OF_MEMORY * _free_bytes(device) / bytes_per_token)
    return max(max_length, 1 << (num_tokens.bit_length() - 1) if num_tokens else 0)


def _seconds_of_product(dtype: torch.dtype) -> float:
    """Seconds that a product of 256 by 256 by 256 takes: the fastest of three."""
    matrix = torch.ones(256, 256, dtype=dtype)
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        torch.mm(matrix, matrix)
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        empty_cache(device)  # memory cached by an earlier training in this process would count as used
        return int(torch.cuda.mem_get_info(device)[0])
    import psutil

    return int(psutil.virtual_memory().available) // this_run().local_size
