"""Every network by name, once with a small encoder: what ``benchmarks/networks.py`` tries with all of them."""

from __future__ import annotations

import pytest

from benchmarks.networks import ALLOWED, cell, measured, pairs, table
from edgeseg.builder.networks import architecture_names
from edgeseg.errors import SpecError

SMALL = {
    **dict.fromkeys(architecture_names(), "mobilenet_v2"),
    "manet": "resnet18",  # 7 times smaller
    "dpt": "tu-vit_tiny_patch16_224",
}
PAIRS = (*SMALL.items(), ("pspnet", "efficientnet-b0"), ("linknet", "timm-tf_efficientnet_lite0"))


@pytest.mark.parametrize(("architecture", "encoder"), PAIRS, ids="-".join)
def test_it_builds_trains_a_step_exports_and_equals_onnx_runtime(architecture: str, encoder: str) -> None:
    row = measured(architecture, encoder)
    assert row["difference"] <= ALLOWED and row["nodes"] > 30


def test_what_cannot_be_is_a_line_of_the_table() -> None:
    with pytest.raises(SpecError, match="unetplusplus cannot be built with mit_b0"):
        measured("unetplusplus", "mit_b0")
    assert {("dpt", "tu-vit_tiny_patch16_224"), ("upernet", "efficientnet-b4")} <= set(pairs())
    rows = [
        {"architecture": "unet", "encoder": "a", "difference": 2e-4},
        {"architecture": "fpn", "encoder": "a", "failed": "no such thing"},
    ]
    shown = table(rows)
    assert "| a | **2e-04** | no |" in shown and "- fpn with a: no such thing" in shown and cell(None) == ""
