"""What a device could compute at best."""

import time

import pytest
import torch

from tunesmith.training.peak import device_peak, known_peak


@pytest.mark.parametrize(
    ("name", "precision", "tera"),
    [
        ("NVIDIA A100-SXM4-80GB", "bf16", 312),
        ("NVIDIA A100 80GB PCIe", "tf32", 156),
        ("NVIDIA H100 80GB HBM3", "bf16", 989.4),
        ("NVIDIA H100 PCIe", "bf16", 756),
        ("NVIDIA H100 NVL", "bf16", 835.5),
        ("NVIDIA H200", "fp16", 989.4),
        ("NVIDIA H200 NVL", "bf16", 835.5),
        ("NVIDIA GH200 480GB", "bf16", 989.4),
        ("NVIDIA B200", "bf16", 2250),
        ("NVIDIA L4", "bf16", 121),
        ("NVIDIA L40S", "bf16", 362),
        ("NVIDIA A10", "fp32", 31.2),
        ("NVIDIA A10G", "bf16", None),
        ("Tesla V100-SXM2-16GB", "fp16", 125),
        ("Tesla V100-SXM2-16GB", "bf16", None),
        ("Tesla T4", "fp16", 65),
        ("NVIDIA GeForce RTX 4090", "bf16", 165.2),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "bf16", None),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", "bf16", None),
        ("AMD Instinct MI300X", "bf16", None),
    ],
)
def test_the_makers_figure_is_found_by_name(name: str, precision: str, tera: float | None) -> None:
    assert known_peak(name, precision) == (None if tera is None else pytest.approx(tera * 1e12))


def test_a_cpu_is_measured_in_less_than_half_a_second() -> None:
    started = time.perf_counter()
    peak = device_peak(torch.device("cpu"), "fp32")
    assert time.perf_counter() - started < 0.5
    assert peak.measured
    assert 1e9 < peak.flops_per_second < 1e14
