"""What a device could compute at best, which is what a run's speed is held against."""

import logging
import re
import time
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator

log = logging.getLogger(__name__)

_TERA = 1e12
_PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
_UNKNOWN = 0.0
_PEAKS = (
    (r"B200\b", 75, 1125, 2250, 2250),
    (r"(GH200|H200)\b(?! NVL)", 67, 494.7, 989.4, 989.4),
    (r"H100\b.*(HBM3|SXM)", 67, 494.7, 989.4, 989.4),
    (r"H(100|200) NVL\b", 60, 417.5, 835.5, 835.5),
    (r"H100 PCIe\b", 51, 378, 756, 756),
    (r"A100\b", 19.5, 156, 312, 312),
    (r"A40\b", 37.4, 74.8, 149.7, 149.7),
    (r"A30\b", 10.3, 82, 165, 165),
    (r"A10\b", 31.2, 62.5, 125, 125),
    (r"L40S\b", 91.6, 183, 362, 362),
    (r"L40\b", 90.5, 90.5, 181, 181),
    (r"L4\b", 30.3, 60, 121, 121),
    (r"RTX 6000 Ada\b", 91.1, 182.1, 364.2, 364.2),
    (r"RTX A6000\b", 38.7, 77.4, 154.8, 154.8),
    (r"RTX 4090$", 82.6, 82.6, 165.2, 165.2),
    (r"RTX 3090$", 35.6, 35.6, 71, 71),
    (r"T4\b", 8.1, _UNKNOWN, _UNKNOWN, 65),
    (r"V100S-PCIE\b", 16.4, _UNKNOWN, _UNKNOWN, 130),
    (r"V100-SXM2\b", 15.7, _UNKNOWN, _UNKNOWN, 125),
    (r"V100-PCIE\b", 14, _UNKNOWN, _UNKNOWN, 112),
)
"""Name of the device (a pattern), then TFLOP/s in fp32, tf32, bf16 and fp16 with sums in fp32, without sparsity, from
NVIDIA's data sheets and, of RTX cards, the white papers of their architectures; figures with sparsity are halved."""

_BUDGET_S = 0.05
_TRIES = 3
_SIZES = (512, 1024, 2048, 4096, 8192)


@dataclass(frozen=True)
class Peak:
    """Of one device."""

    flops_per_second: float
    measured: bool
    """Whether it is what a matrix product reached, for want of a figure of the maker."""


def known_peak(name: str, precision: str) -> float | None:
    """The maker's figure for a device, in FLOP/s; None for one that is not known, or is a part of a GPU (MIG).

    Args:
        name: as torch.cuda.get_device_name says it.
        precision: of the matrix products: fp32, tf32, bf16 or fp16.
    """
    if "MIG" in name:
        return None
    for pattern, *figures in _PEAKS:
        if re.search(rf"\b{pattern}", name):
            return _TERA * figures[_PRECISIONS.index(precision)] or None
    return None


def device_peak(device: torch.device, precision: str) -> Peak:
    """What a device reaches at best in a precision."""
    known = known_peak(torch.cuda.get_device_name(device), precision) if device.type == "cuda" else None
    return Peak(measured_peak(device, precision), True) if known is None else Peak(known, False)


def measured_peak(device: torch.device, precision: str) -> float:
    """FLOP/s of the fastest of some matrix products, of growing size for as long as another fits into 0.05 s: one of
    some milliseconds is disturbed less by what else runs on the machine than a long one."""
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)
    best, until = 0.0, time.perf_counter() + _BUDGET_S
    for size in _SIZES:
        left = torch.ones(size, size, dtype=dtype, device=device)
        _seconds_of(left)  # the first one loads what the others find there
        seconds = min(_seconds_of(left) for _ in range(_TRIES))
        best = max(best, 2 * size**3 / seconds)
        if time.perf_counter() + (1 + _TRIES) * 8 * seconds > until:
            break
    return best


def _seconds_of(left: torch.Tensor) -> float:
    wait: Any = torch.cuda.synchronize if left.is_cuda else lambda: None
    wait()
    started = time.perf_counter()
    torch.mm(left, left)
    wait()
    return time.perf_counter() - started


def peak_of_all(accelerator: Accelerator, precision: str) -> float:
    """What all workers' devices reach together, in FLOP/s; every worker must call this, and measures at the same time
    as the others, with whom it may share a machine."""
    mine = device_peak(accelerator.device, precision)
    total = torch.tensor(mine.flops_per_second, dtype=torch.float64, device=accelerator.device)
    if accelerator.num_processes > 1:
        dist.all_reduce(total)
    if accelerator.is_main_process:
        source = "measured with a matrix product" if mine.measured else "the maker's figure"
        log.info("peak of all devices in %s: %.4g TFLOP/s (%s)", precision, float(total) / _TERA, source)
    return float(total)
