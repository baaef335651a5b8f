"""The programs, what each needs installed, and what a reader of the programs knows to be wrong in some.

Those whose name ends in ``_mistake`` have a mistake that is typical for the library, most of them from public reports;
the lines of which one is to be changed end in ``# cause``.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROGRAMS = Path(__file__).parent / "programs"
_PROJECT = Path(__file__).parents[2] / "pyproject.toml"
_EXTRAS = ("libraries", "few-libraries")

NEEDS: dict[str, tuple[str, ...]] = {
    "accelerate_loop": ("accelerate",),
    "backpack_variance": ("backpack-for-pytorch",),
    "captum_attributions": ("captum",),
    "diffusers_denoiser": ("diffusers",),
    "e3nn_forces": ("e3nn",),
    "geometric_nodes": ("torch-geometric",),
    "geoopt_ball": ("geoopt",),
    "gpytorch_regression": ("gpytorch",),
    "kornia_augment": ("kornia",),
    "laplace_last_layer": ("laplace-torch",),
    "lightning_automatic": ("lightning",),
    "lightning_manual": ("lightning",),
    "opacus_private": ("opacus",),
    "peft_lora": ("peft", "transformers"),
    "pyro_svi": ("pyro-ppl",),
    "pytorch_optimizer_sam": ("pytorch-optimizer",),
    "schedulefree_loop": ("schedulefree",),
    "skorch_net": ("skorch",),
    "snntorch_leaky": ("snntorch",),
    "tensordict_module": ("tensordict",),
    "torchdiffeq_spiral": ("torchdiffeq",),
    "torchopt_meta": ("torchopt",),
    "torchrl_policy": ("torchrl", "tensordict"),
    "transformers_plain": ("transformers",),
    "transformers_trainer": ("transformers", "accelerate"),
    "vector_quantize": ("vector-quantize-pytorch",),
}
"""By the program without a mistake: what it needs, by the names of the distributions."""


@dataclass(frozen=True)
class Program:
    """One program."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def needs(self) -> tuple[str, ...]:
        return NEEDS[self.name.removesuffix("_mistake")]

    @property
    def is_healthy(self) -> bool:
        return not self.name.endswith("_mistake")

    @property
    def causes(self) -> set[int]:
        """The lines of which one is to be changed."""
        lines = self.path.read_text().splitlines()
        return {number for number, line in enumerate(lines, 1) if line.endswith("# cause")}

    def missing(self) -> str:
        """What of it is not installed in the version that ``pyproject.toml`` names; empty where all is."""
        wanted = pinned()
        return ", ".join(f"{name}=={wanted[name]}" for name in self.needs if _installed(name) != wanted[name])


def programs() -> list[Program]:
    """Every program, by name."""
    return [Program(path) for path in sorted(PROGRAMS.glob("*.py"))]


def pinned() -> dict[str, str]:
    """The versions of the extras in ``pyproject.toml``."""
    extras = tomllib.loads(_PROJECT.read_text())["project"]["optional-dependencies"]
    pins = (one.partition("==") for extra in _EXTRAS for one in extras[extra])
    return {name: number for name, _, number in pins if number}


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
