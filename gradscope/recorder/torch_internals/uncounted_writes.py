"""Which functions of torch write into memory and leave the version counter as it is.

Autograd compares version counters to see that a saved tensor was written; what is listed here it cannot see. Measured
(torch 2.13.0, CPU): every operator in ``op_db`` as a function, a method, in place and with ``out=``; every module in
``module_db``, training and not; every optimizer; what torch's schemas call mutable. The rest of what was found to write
is counted: ``instance_norm``, ``embedding(max_norm=)``, spectral norms, the averages of ``swa_utils``,
``all_gather``. A test measures each row again; others look through ``op_db`` (``out=`` as well) and ``module_db`` for
what is not in the table.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from torch.optim import Optimizer

Argument = tuple[int, str]
"""Position and name."""

MAYBE, CERTAINLY, SAME_VALUES = 0, 1, 2
"""Whether a write took place, as :attr:`gradscope.recording.rows.Field.WRITTEN` says it."""


class Uncounted(NamedTuple):
    """What one function writes without raising a version counter."""

    written: tuple[Argument, ...]
    """The arguments (tensors, or lists of them) that it writes."""
    only_if: Argument | None = None
    """The argument that must be true for it to write; always, where there is none."""
    defaults_to: bool = False
    """What that argument is if it is left out."""
    is_skippable: bool = False
    """It writes nothing where the tensor ``found_inf`` is not zero."""
    share: Argument | None = None
    """The number by which new values count in what it writes: with zero, it writes those that are there."""

    def by_call(self, args: Any, kwargs: Any) -> list[tuple[Any, int]]:
        """The arguments that a call with these writes (a tensor, a list, None), each with how certain that is."""
        if self.only_if is not None and not _argument(self.only_if, args, kwargs, self.defaults_to):
            return []
        certainty = took_place(kwargs.get("found_inf")) if self.is_skippable else CERTAINLY
        if certainty is None:
            return []
        share = None if self.share is None else _argument(self.share, args, kwargs, None)
        if type(share) in (int, float) and share == 0:
            certainty = SAME_VALUES
        return [(_argument(argument, args, kwargs, None), certainty) for argument in self.written]


def _argument(argument: Argument, args: Any, kwargs: Any, default: Any) -> Any:
    position, name = argument
    return args[position] if position < len(args) else kwargs.get(name, default)


def took_place(found_inf: Any) -> int | None:
    """Whether a step that may be skipped took place: None where it did not, MAYBE where asking would stop a device."""
    if found_inf is None:
        return CERTAINLY
    if found_inf.device.type != "cpu":
        return MAYBE
    return None if found_inf.item() else CERTAINLY


def updated_by_step(optimizer: Optimizer) -> Iterator[tuple[Any, int]]:
    """The parameters that a step of a fused optimizer has written, each with MAYBE or CERTAINLY.

    To be asked before ``GradScaler.step`` is over: it takes ``found_inf`` away from the optimizer then.
    """
    groups = [group for group in optimizer.param_groups if group.get("fused")]
    certainty = took_place(getattr(optimizer, "found_inf", None)) if groups else None
    if certainty is not None:
        for parameter in (parameter for group in groups for parameter in group["params"]):
            if parameter.grad is not None:
                yield parameter, certainty


_STATISTICS = ((3, "running_mean"), (4, "running_var"))
_MOMENTUM = (6, "momentum")
_WHEN_TRAINING = Uncounted(_STATISTICS, only_if=(5, "training"), share=_MOMENTUM)

UNCOUNTED = {
    "F.batch_norm": Uncounted(((1, "running_mean"), (2, "running_var")), only_if=(5, "training"), share=_MOMENTUM),
    "torch.batch_norm": _WHEN_TRAINING,
    "torch.native_batch_norm": _WHEN_TRAINING,
    "torch._native_batch_norm_legit": _WHEN_TRAINING,
    "torch._batch_norm_impl_index": _WHEN_TRAINING,
    "torch.cudnn_batch_norm": _WHEN_TRAINING,
    "torch.miopen_batch_norm": _WHEN_TRAINING,
    "torch.ops.aten._batch_norm_with_update": Uncounted(_STATISTICS),
    "torch.batch_norm_update_stats": Uncounted(((1, "running_mean"), (2, "running_var"))),
    "torch.batch_norm_gather_stats": Uncounted(_STATISTICS),
    "torch.batch_norm_gather_stats_with_counts": Uncounted(_STATISTICS),
    "torch.fused_moving_avg_obs_fake_quant": Uncounted(
        ((3, "running_min"), (4, "running_max"), (5, "scale"), (6, "zero_point"))
    ),
    "torch.kron": Uncounted(((2, "out"),)),
    "F.rrelu_with_noise": Uncounted(((1, "noise"),), only_if=(4, "training")),
    "torch._cummax_helper": Uncounted(((1, "values"), (2, "indices"))),
    "torch._cummin_helper": Uncounted(((1, "values"), (2, "indices"))),
    "torch._amp_foreach_non_finite_check_and_unscale_": Uncounted(((0, "self"),)),
    "torch._fused_sgd_": Uncounted(((0, "self"), (2, "momentum_buffer_list")), is_skippable=True),
    "torch._fused_adam_": Uncounted(
        ((0, "self"), (2, "exp_avgs"), (3, "exp_avg_sqs"), (4, "max_exp_avg_sqs")), is_skippable=True
    ),
    "torch._fused_adamw_": Uncounted(
        ((0, "self"), (2, "exp_avgs"), (3, "exp_avg_sqs"), (4, "max_exp_avg_sqs")), is_skippable=True
    ),
    "torch._fused_adagrad_": Uncounted(((0, "self"), (2, "state_sums")), is_skippable=True),
}
"""By the name that :func:`gradscope.recorder.calls.torch_functions.describe` gives a function."""
