"""Every diagnosis, in the order in which answers of one severity are given. Nothing else lists them.

A diagnosis is imported where a recording has what it looks at, or where all are asked for: else a report of a few lines
would spend most of its time on importing rules about what did not happen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from gradscope.recording.flags import EXTERNAL, PARAMETER
from gradscope.recording.rows import EventKind, Field, OpFlag, OpKind

if TYPE_CHECKING:
    from gradscope.analysis.diagnoses.diagnosis import Diagnosis
    from gradscope.recording import Recording


_OF_GRAPHS = frozenset((Field.REQUIRES_GRAD, Field.GRAD_FN, Field.LEAF, Field.GRAD))
"""What of a tensor changes though its memory stays as it is."""


class Entry(NamedTuple):
    """A file, in one of the rooms beside this one, that holds one diagnosis or several."""

    module: str
    may_find: Callable[[Recording], bool]
    """Whether a recording has what the file's diagnoses look at; where not, they find nothing."""


def _anything(_: Recording) -> bool:
    return True


def _an_error(recording: Recording) -> bool:
    return bool(recording.errors) or recording.info.outcome.kind == "exception"


def _an_error_or_refusal(recording: Recording) -> bool:
    return _an_error(recording) or EventKind.REFUSED in recording.events.column("kind")


def _a_pass(recording: Recording) -> bool:
    return len(recording.backwards) > 0


def _a_pass_for_results(recording: Recording) -> bool:
    return OpKind.GRAD in recording.ops.column("kind")


def _asks_or_raises(recording: Recording) -> bool:
    return _an_error_or_refusal(recording) or _a_pass_for_results(recording)


def _a_step(recording: Recording) -> bool:
    return OpKind.STEP in recording.ops.column("kind")


def _a_step_under_autocast(recording: Recording) -> bool:
    kinds, flags = (recording.ops.column(name) for name in ("kind", "flags"))
    return any(kind == OpKind.STEP and flags[op] & OpFlag.AUTOCAST for op, kind in enumerate(kinds))


def _a_mode_or_a_step(recording: Recording) -> bool:
    return _a_step(recording) or EventKind.TRAINING_MODE in recording.events.column("kind")


def _steps_alone(recording: Recording) -> bool:
    has_pass = OpKind.BACKWARD in recording.ops.column("kind")
    return EventKind.OPTIMIZER in recording.events.column("kind") and not has_pass


def _looks_up_states(recording: Recording) -> bool:
    return _a_step(recording) and any(
        file.is_user and ".state." in file.text and "param_groups" in file.text for file in recording.files
    )


def _steps_of_lbfgs(recording: Recording) -> bool:
    return "optim.LBFGS.step" in recording.strings


def _a_call_again(recording: Recording) -> bool:
    spans = recording.ops.column("span")
    return len(set(spans)) < len(spans)


def _a_function_of_the_users(recording: Recording) -> bool:
    return any(file.is_user and "Function" in file.text for file in recording.files)


def _hooks_of_the_users(recording: Recording) -> bool:
    return any(file.is_user and "saved_tensors_hooks" in file.text for file in recording.files)


def _packs(recording: Recording) -> bool:
    return _hooks_of_the_users(recording) or _an_event(EventKind.PACKED)(recording)


def _caches_of_functools(recording: Recording) -> bool:
    return any(file.is_user and "functools" in file.text and "cache" in file.text for file in recording.files)


def _loads_a_state(recording: Recording) -> bool:
    return "nn.Module.load_state_dict" in recording.strings


def _conditional_hooks(recording: Recording) -> bool:
    return _a_pass(recording) and any(file.is_user and ".register_hook" in file.text for file in recording.files)


def _norms_and_steps(recording: Recording) -> bool:
    return "F.batch_norm" in recording.strings and _several_passes(recording) and _a_step(recording)


def _norms_or_own_buffers(recording: Recording) -> bool:
    is_own = _a_step(recording) and any(file.is_user and "register_buffer" in file.text for file in recording.files)
    return is_own or _a_pass_and_a_call("F.batch_norm")(recording)


def _hooks_on_tensors_or_nodes(recording: Recording) -> bool:
    on_nodes = any(file.is_user and "grad_fn" in file.text and "hook" in file.text for file in recording.files)
    return EventKind.HOOK in recording.events.column("kind") or (_a_pass(recording) and on_nodes)


def _clips_or_hooks(recording: Recording) -> bool:
    is_hooked = EventKind.HOOK in recording.events.column("kind") and _a_pass(recording)
    return is_hooked or _a_pass_and_a_call("nn.utils.clip_grad", "clamp_", "clip_")(recording)


def _hooks_that_keep(recording: Recording) -> bool:
    return any(file.is_user and "_hook" in file.text and ".pop" in file.text for file in recording.files)


def _applies_a_function(recording: Recording) -> bool:
    return any(file.is_user and ".apply" in file.text and "Function" in file.text for file in recording.files)


def _a_gradient_of_a_function(recording: Recording) -> bool:
    is_asked_for = any(
        name in recording.strings for name in ("torch.grad_impl", "torch.grad_and_value_impl", "torch.vmap_impl")
    )
    return is_asked_for or EventKind.LEFT_OUT_KEYS in recording.events.column("kind")


def _a_write(recording: Recording) -> bool:
    """Whether anything was written in place, or put on other memory, after it was made; a step writes what it steps."""
    tensors, allocated_at = recording.tensors, recording.storages.column("op")
    made_at, flags, storages = (tensors.column(name) for name in ("op", "flags", "storage"))
    columns = (recording.changes.column(name) for name in ("op", "tensor", "field"))
    for op, tensor, field in zip(*columns, strict=True):
        is_new = op == made_at[tensor] and not flags[tensor] & EXTERNAL and storages[tensor] >= 0
        is_birth = field == Field.VERSION and is_new and allocated_at[storages[tensor]] == op  # on memory of its own
        if not is_birth and field not in _OF_GRAPHS:
            return True
    return False


def _a_write_or_arrays(recording: Recording) -> bool:
    is_shared = EventKind.MEMORY_CHANGED in recording.events.column("kind")
    return _a_write(recording) or is_shared or sum(recording.storages.column("external")) > 1


def _a_pass_and_a_write(recording: Recording) -> bool:
    return _a_pass(recording) and _a_write(recording)


def _several_passes(recording: Recording) -> bool:
    return len(recording.backwards) > 1


def _several_looks_at_gradients(recording: Recording) -> bool:
    return recording.events.column("kind").count(EventKind.GRADIENTS) > 1


def _a_pass_and_parameters(recording: Recording) -> bool:
    return _a_pass(recording) and any(flags & PARAMETER for flags in recording.tensors.column("flags"))


def _a_call(*names: str) -> Callable[[Recording], bool]:
    """Whether there is a function in whose name one of some words stands: ``.exp``."""
    return lambda recording: any(name in text for text in recording.strings for name in names)


def _a_pass_and_a_call(*names: str) -> Callable[[Recording], bool]:
    is_called = _a_call(*names)
    return lambda recording: _a_pass(recording) and is_called(recording)


def _names_in_a_step(recording: Recording) -> bool:
    texts = [file.text for file in recording.files if file.is_user] if _a_step(recording) else []
    return any("named_" in text or "state_dict" in text for text in texts)


def _several_threads(recording: Recording) -> bool:
    return len(recording.backwards) > 0 and len(recording.threads) > 1


def _gradients_asked_for(recording: Recording) -> bool:
    return OpKind.GRAD in recording.ops.column("kind")


def _a_loaded_state(recording: Recording) -> bool:
    return "nn.Module.load_state_dict" in recording.strings


def _complex_values(recording: Recording) -> bool:
    return any(recording.text(layout.dtype).startswith("complex") for layout in recording.layouts)


def _a_collective(recording: Recording) -> bool:
    return OpKind.COLLECTIVE in recording.ops.column("kind")


def _a_wrapped_module(recording: Recording) -> bool:
    return any("DistributedDataParallel" in text for text in recording.strings)


def _an_event(*kinds: EventKind) -> Callable[[Recording], bool]:
    return lambda recording: not set(kinds).isdisjoint(recording.events.column("kind"))


_ENTRIES = (
    Entry("errors.backward_no_grad", _an_error),
    Entry("errors.snippet_raised", _an_event(EventKind.SNIPPET)),
    Entry("errors.graph_used_twice", _an_error),
    Entry("errors.inplace_error", _an_error),
    Entry("errors.inplace_refused", _an_error),
    Entry("errors.inference_tensor", _an_error),
    Entry("errors.deepcopy_of_result", _an_error),
    Entry("errors.ddp_unused_parameters", _an_error),
    Entry("errors.hook_raised", _an_error),
    Entry("errors.backward_not_scalar", _an_error),
    Entry("errors.asked_for_gradient", _asks_or_raises),
    Entry("errors.gradient_does_not_fit", _an_error),
    Entry("errors.cannot_require_grad", _an_error),
    Entry("errors.tracked_refused", _an_error),
    Entry("errors.integers_refused", _an_error),
    Entry("errors.scaler_refused", _an_error),
    Entry("errors.scheduler_refused", _an_error),
    Entry("errors.no_second_derivative", _an_error),
    Entry("errors.no_derivative", _an_error),
    Entry("errors.compiled_backward", _an_error),
    Entry("errors.refused_by_autograd", _an_error_or_refusal),
    Entry("gradients.gradient_silently_wrong", _a_pass),
    Entry("gradients.stale_result", _a_step),
    Entry("modules.ddp_bypassed", _a_wrapped_module),
    Entry("losses.gathered_without_gradient", _a_collective),
    Entry("modules.ddp_not_averaged", _an_event(EventKind.DDP_FORWARD)),
    Entry("modules.checkpoint_draws_anew", _an_event(EventKind.CHECKPOINT, EventKind.RECOMPUTED)),
    Entry("modules.checkpoint_runs_otherwise", _an_event(EventKind.CHECKPOINT, EventKind.REENTRANT_CHECKPOINT)),
    Entry("modules.checkpoint_reads_late", _an_event(EventKind.CHECKPOINT, EventKind.REENTRANT_CHECKPOINT)),
    Entry("gradients.gradient_counted_twice", _an_event(EventKind.FUNCTION)),
    Entry("gradients.gradient_not_finite", _an_event(EventKind.GRADIENTS)),
    Entry("modules.forward_called_directly", _a_function_of_the_users),
    Entry("modules.backward_of_module", _a_pass),
    Entry("optimizers.order.nan_left_in_gradients", _several_looks_at_gradients),
    Entry("gradients.zero_factors", _several_looks_at_gradients),
    Entry("gradients.divided_by_itself", _several_passes),
    Entry("gradients.sum_of_normalized", _several_passes),
    Entry("gradients.units_alike", _several_looks_at_gradients),
    Entry("gradients.straight_through_reversed", _a_pass),
    Entry("gradients.estimate_subtracted", _a_pass),
    Entry("gradients.overflow_in_half", _an_event(EventKind.VALUES)),
    Entry("gradients.underflow_in_half", _several_looks_at_gradients),
    Entry("gradients.gradient_always_zero", _an_event(EventKind.GRADIENTS)),
    Entry("gradients.mask_reversed", _a_pass_and_a_call("attention", "masked_fill", "softmax")),
    Entry("gradients.mask_leaves_nothing_out", _a_pass_and_a_call("attention", "softmax")),
    Entry("gradients.gradient_vanishes", _several_looks_at_gradients),
    Entry("optimizers.weights.layer_died", _several_looks_at_gradients),
    Entry("gradients.grad_none", _anything),
    Entry("gradients.grad_of_other_view", _a_pass),
    Entry("gradients.imaginary_part_lost", _complex_values),
    Entry("gradients.backward_reached_nothing", _a_pass),
    Entry("gradients.term_without_gradient", _a_pass),
    Entry("gradients.no_grad_in_other_thread", _several_threads),
    Entry("losses.probabilities_as_logits", _a_pass_and_a_call("F.")),
    Entry("losses.labels_without_sign", _a_pass_and_a_call("_loss")),
    Entry("losses.logits_cut_off", _a_pass_and_a_call("relu")),
    Entry("losses.term_not_used", _several_passes),
    Entry("losses.loss_of_last_round", _a_step),
    Entry("losses.term_for_others", _a_step),
    Entry("losses.factor_always_zero", _an_event(EventKind.VALUES)),
    Entry("losses.paired_by_broadcast", _a_pass),
    Entry("losses.weighted_after_mean", _a_pass),
    Entry("losses.norm_of_parts", _gradients_asked_for),
    Entry("losses.target_with_gradient", _a_pass),
    Entry("losses.teacher_trained", _a_step),
    Entry("losses.target_never_updated", _a_step),
    Entry("losses.advantage_with_gradient", _a_pass_and_a_call("log_prob", "softmax", "cross_entropy", "nll_loss")),
    Entry("losses.score_of_tracked_sample", _a_pass_and_a_call(".log_prob")),
    Entry("losses.ratio_without_gradient", _a_pass_and_a_call(".exp")),
    Entry("losses.weight_as_number", _a_pass),
    Entry("losses.distance_to_copy", _a_pass),
    Entry("losses.multiplier_trains_factor", _a_step),
    Entry("gradients.sample_without_gradient", _a_pass),
    Entry("gradients.term_counted_twice", _a_pass),
    Entry("gradients.gradients_taken_again", _several_passes),
    Entry("gradients.leaf_unreached", _a_pass),
    Entry("modules.layer_left_out", _an_event(EventKind.OPTIMIZER)),
    Entry("modules.repeated_module", _an_event(EventKind.REPEATED_MODULE, EventKind.OPTIMIZER)),
    Entry("gradients.gradient_of_summed_columns", _gradients_asked_for),
    Entry("gradients.step_from_detached_weights", _gradients_asked_for),
    Entry("gradients.graph_ends_at_step", _a_step),
    Entry("gradients.derivative_without_graph", _gradients_asked_for),
    Entry("gradients.function_of_other_parameters", _a_gradient_of_a_function),
    Entry("gradients.function_without_node", _a_function_of_the_users),
    Entry("gradients.marked_non_differentiable", _a_function_of_the_users),
    Entry("gradients.apply_dropped", _applies_a_function),
    Entry("gradients.written_backward", _an_event(EventKind.FUNCTION)),
    Entry("gradients.derivative_differs", _an_event(EventKind.FUNCTION)),
    Entry("gradients.constant_in_second_derivative", _an_event(EventKind.FUNCTION)),
    Entry("gradients.second_derivative_zero", _a_pass_for_results),
    Entry("gradients.kept_gradient_overwritten", _an_event(EventKind.FUNCTION)),
    Entry("gradients.gradient_of_last_round", _an_event(EventKind.RECOMPUTED)),
    Entry("gradients.state_shared_by_calls", _an_event(EventKind.FUNCTION)),
    Entry("gradients.backward_reduction", _an_event(EventKind.FUNCTION)),
    Entry("modules.frozen", _a_pass),
    Entry("modules.attribute_ignored", _anything),
    Entry("modules.method_not_called", _anything),
    Entry("modules.context_not_entered", _anything),
    Entry("modules.result_dropped", _anything),
    Entry("modules.state_not_loaded", _an_event(EventKind.LOADED)),
    Entry("modules.loaded_then_initialized", _a_loaded_state),
    Entry("modules.left_out_of_state", _loads_a_state),
    Entry("modules.norm_learns_twice", _norms_and_steps),
    Entry("modules.norm_of_several_layers", _norms_and_steps),
    Entry("modules.frozen_in_vain", _a_pass),
    Entry("modules.last_step_is_padding", _a_pass_and_a_call("pad_packed_sequence")),
    Entry("modules.padding_is_an_item", _an_event(EventKind.VALUES)),
    Entry("modules.frozen_rows_rescaled", _a_pass_and_a_call("F.embedding")),
    Entry("modules.nothing_frozen", _a_pass_and_parameters),
    Entry("modules.freezing_undone", _a_pass_and_parameters),
    Entry("modules.unfrozen_in_vain", _a_pass_and_parameters),
    Entry("modules.frozen_by_beginning", _a_pass_and_parameters),
    Entry("modules.layer_made_anew", _a_pass_and_parameters),
    Entry("hooks.hook_writes_shared_gradient", _an_event(EventKind.HOOK)),
    Entry("hooks.hook_changes_gradient", _an_event(EventKind.HOOK_RUNS)),
    Entry("hooks.hook_takes_parameter", _an_event(EventKind.HOOK_RUNS)),
    Entry("hooks.hook_registered_again", _an_event(EventKind.HOOK)),
    Entry("hooks.hook_zeroes_gradient", _hooks_on_tensors_or_nodes),
    Entry("hooks.hook_not_copied", _an_event(EventKind.HOOK)),
    Entry("hooks.hook_never_ran", _an_event(EventKind.HOOK)),
    Entry("hooks.hook_gives_kept", _an_event(EventKind.HOOK)),
    Entry("hooks.hook_reads_late", _an_event(EventKind.HOOK)),
    Entry("hooks.hook_not_registered", _conditional_hooks),
    Entry("hooks.hook_not_compiled", _an_event(EventKind.HOOK)),
    Entry("hooks.hook_returns_nothing", _an_event(EventKind.HOOK)),
    Entry("hooks.hook_output_overwritten", _an_event(EventKind.HOOK)),
    Entry("hooks.hook_keeps_last_call", _an_event(EventKind.HOOK)),
    Entry("hooks.hook_keeps_its_tensor", _an_event(EventKind.HOOK_THERE)),
    Entry("hooks.forward_past_hooks", _an_event(EventKind.DIRECT_FORWARD)),
    Entry("modules.left_frozen", _an_event(EventKind.FROZEN)),
    Entry("modules.saved_when_frozen", _an_event(EventKind.FROZEN)),
    Entry("modules.frozen_with_another", _an_event(EventKind.FROZEN)),
    Entry("modules.frozen_with_new", _an_event(EventKind.FROZEN)),
    Entry("modules.new_layer_frozen", _an_event(EventKind.FROZEN)),
    Entry("modules.adapters_frozen", _an_event(EventKind.OPTIMIZER)),
    Entry("modules.zeros_not_learned", _an_event(EventKind.OPTIMIZER)),
    Entry("modules.copied_while_frozen", _an_event(EventKind.FROZEN)),
    Entry("optimizers.members.parameter_replaced", _an_event(EventKind.OPTIMIZER)),
    Entry("modules.tie_broken", _a_pass_and_parameters),
    Entry("optimizers.members.never_stepped", _a_step),
    Entry("optimizers.order.step_without_backward", _steps_alone),
    Entry("optimizers.order.closure_without_backward", _steps_of_lbfgs),
    Entry("optimizers.order.step_never_made", _an_event(EventKind.OPTIMIZER)),
    Entry("optimizers.weights.update_lost", _a_pass),
    Entry("optimizers.order.cleared_before_step", _a_pass_and_a_write),
    Entry("optimizers.order.gradient_kept_by_reference", _a_pass),
    Entry("optimizers.order.accumulation_cleared", _a_pass_and_a_write),
    Entry("optimizers.order.remainder_left", _a_pass_and_a_write),
    Entry("optimizers.order.divided_for_nothing", _a_pass_and_a_write),
    Entry("optimizers.order.old_gradients_applied", _a_step),
    Entry("losses.gradients_of_other_loss", _a_pass_and_a_write),
    Entry("losses.loss_reaches_other", _a_step),
    Entry("losses.derivative_left", _a_step),
    Entry("optimizers.learning_rates.learning_rate", _an_event(EventKind.LEARNING_RATE)),
    Entry("optimizers.learning_rates.scheduler_per_batch", _an_event(EventKind.LEARNING_RATE)),
    Entry("optimizers.learning_rates.scheduler_in_vain", _an_event(EventKind.LEARNING_RATE)),
    Entry("optimizers.learning_rates.schedule_begins_anew", _an_event(EventKind.LEARNING_RATE)),
    Entry("optimizers.learning_rates.one_rate_for_all", _an_event(EventKind.LEARNING_RATE)),
    Entry("optimizers.learning_rates.rate_of_lost_group", _an_event(EventKind.LEARNING_RATE)),
    Entry("optimizers.learning_rates.rate_written_over", _an_event(EventKind.LEARNING_RATE)),
    Entry("optimizers.learning_rates.rate_of_one_group", _an_event(EventKind.LEARNING_RATE)),
    Entry("optimizers.learning_rates.rate_as_factor", _an_event(EventKind.LEARNING_RATE)),
    Entry("optimizers.learning_rates.setting_ignored", _an_event(EventKind.OPTIMIZER, EventKind.LEARNING_RATE)),
    Entry("optimizers.half_precision.update_rounded_away", _an_event(EventKind.OPTIMIZER)),
    Entry("optimizers.members.held_untracked", _an_event(EventKind.OPTIMIZER)),
    Entry("optimizers.members.held_by_two", _an_event(EventKind.OPTIMIZER)),
    Entry("optimizers.members.held_twice", _an_event(EventKind.OPTIMIZER)),
    Entry("optimizers.members.groups_of_another", _an_event(EventKind.OPTIMIZER)),
    Entry("optimizers.members.compared_whole", _an_event(EventKind.OPTIMIZER)),
    Entry("optimizers.members.mask_is_trained", _a_step),
    Entry("optimizers.members.iterator_used_up", _a_pass),
    Entry("optimizers.weights.weights_overwritten", _a_pass_and_a_write),
    Entry("optimizers.weights.average_left_in_model", _a_step),
    Entry("optimizers.half_precision.stale_casts", _a_step_under_autocast),
    Entry("optimizers.half_precision.masters_before_load", _a_step),
    Entry("optimizers.half_precision.scaled_again", _an_event(EventKind.FACTOR, EventKind.GRAD_SCALER)),
    Entry("optimizers.weights.average_reversed", _an_event(EventKind.FACTOR)),
    Entry("optimizers.weights.average_skipped", _names_in_a_step),
    Entry("optimizers.weights.average_of_left", _a_step),
    Entry("optimizers.weights.average_trained", _an_event(EventKind.OPTIMIZER)),
    Entry("optimizers.weights.average_without_statistics", _norms_or_own_buffers),
    Entry("optimizers.order.gradient_views_lost", _a_pass_and_a_write),
    Entry("optimizers.order.clipped_in_vain", _a_pass_and_a_call("nn.utils.clip_grad")),
    Entry("optimizers.order.clipped_while_accumulating", _clips_or_hooks),
    Entry("optimizers.order.clipped_in_some_rounds", _a_pass_and_a_call("nn.utils.clip_grad_norm")),
    Entry("modules.mode_of_module", _a_mode_or_a_step),
    Entry("modules.copy_runs_original", _a_call("__deepcopy__")),
    Entry("modules.average_in_evaluation", _an_event(EventKind.TRAINING_MODE)),
    Entry("modules.draws_repeat", _an_event(EventKind.SEEDED)),
    Entry("modules.mode_not_handed_on", _an_event(EventKind.TRAINING_MODE)),
    Entry("modules.frozen_norms", _a_mode_or_a_step),
    Entry("modules.frozen_norm_by_batch", _a_mode_or_a_step),
    Entry("modules.dropout_in_evaluation", _an_event(EventKind.TRAINING_MODE)),
    Entry("modules.evaluation_setting_kept", _an_event(EventKind.TRAINING_MODE)),
    Entry("modules.evaluated_in_training", _an_event(EventKind.TRAINING_MODE)),
    Entry("modules.evaluation_without_eval", _a_pass_and_a_call("F.dropout", "F.batch_norm", "_dropout")),
    Entry("optimizers.order.gradients_applied_again", _a_pass_and_a_write),
    Entry("optimizers.order.gradients_left_in_weights", _a_pass_and_a_write),
    Entry("optimizers.members.steps_without_gradients", _an_event(EventKind.OPTIMIZER)),
    Entry("optimizers.order.gradient_applied_twice", _a_pass_and_a_write),
    Entry("optimizers.order.gradient_given_once", _a_pass_and_a_write),
    Entry("optimizers.order.replaced_before_step", _a_step),
    Entry("optimizers.members.made_anew", _an_event(EventKind.OPTIMIZER)),
    Entry("optimizers.half_precision.scaled_gradients", _an_event(EventKind.GRAD_SCALER)),
    Entry("optimizers.half_precision.scales_mixed", _an_event(EventKind.GRAD_SCALER)),
    Entry("optimizers.weights.zeroed_gradients", _an_event(EventKind.OPTIMIZER)),
    Entry("optimizers.weights.moved_without_gradient", _an_event(EventKind.OPTIMIZER)),
    Entry("memory.graph_carried_along", _a_call_again),
    Entry("memory.graph_kept_after_pass", _several_passes),
    Entry("memory.memory_kept_by_graph", _a_call_again),
    Entry("memory.gradient_cycle", _a_pass),
    Entry("memory.output_kept_by_ctx", _an_event(EventKind.FUNCTION)),
    Entry("memory.packed_and_kept", _hooks_of_the_users),
    Entry("memory.cached_by_tensor", _caches_of_functools),
    Entry("gradients.packed_mixed_up", _an_event(EventKind.PACKED)),
    Entry("gradients.packed_values_lost", _packs),
    Entry("memory.block_kept_by_view", _a_call_again),
    Entry("memory.kept_for_no_backward", _hooks_that_keep),
    Entry("memory.kept_and_never_read", _several_passes),
    Entry("memory.evaluated_with_graph", _a_pass),
    Entry("memory.saved_in_vain", _anything),
    Entry("sharing.snapshot_shares_memory", _a_write_or_arrays),
    Entry("sharing.loaded_from_itself", _a_step),
    Entry("sharing.copied_onto_itself", _a_step),
    Entry("sharing.loaded_without_copy", _a_step),
    Entry("sharing.optimizer_state_kept", _an_event(EventKind.OPTIMIZER_STATE)),
    Entry("sharing.optimizer_state_shared", _an_event(EventKind.OPTIMIZER_STATE)),
    Entry("optimizers.members.state_mixed_up", _an_event(EventKind.OPTIMIZER_STATE)),
    Entry("optimizers.members.state_left_behind", _looks_up_states),
    Entry("sharing.one_tensor_two_names", _a_write),
    Entry("sharing.tied_by_data", _a_step),
    Entry("sharing.steps_change_data", _a_step),
    Entry("sharing.memory_assigned", _a_step),
    Entry("sharing.kept_again", _a_write),
    Entry("sharing.list_item_overwritten", _a_pass_and_a_write),
    Entry("sharing.sum_left_in_weights", _a_write),
    Entry("modules.skip_path_overwritten", _a_write),
    Entry("sharing.write_into_expanded", _a_write),
    Entry("sharing.reads_what_it_writes", _a_write),
    Entry("sharing.repeated_index_write", _a_call("Tensor.__setitem__", "scatter", "index_copy")),
    Entry("sharing.data_written_again", _a_write),
    Entry("sharing.argument_written", _a_write),
    Entry("sharing.default_argument_written", _a_write),
    Entry("sharing.write_lost", _a_write),
    Entry("modules.checkpoint_updates_twice", _an_event(EventKind.CHECKPOINT, EventKind.RECOMPUTED)),
    Entry("sharing.write_through_alias", _a_write),
)


@cache
def every_diagnosis() -> tuple[Diagnosis, ...]:
    """All of the catalogue."""
    return tuple(known for entry in _ENTRIES for known in _diagnoses(entry))


def diagnoses_for(recording: Recording) -> Iterator[Diagnosis]:
    """Those that may find something in a recording."""
    for entry in _ENTRIES:
        if entry.may_find(recording):
            yield from _diagnoses(entry)


def diagnosis(code: str) -> Diagnosis | None:
    """The diagnosis of a code, or None."""
    return next((known for known in every_diagnosis() if known.code == code), None)


def _diagnoses(entry: Entry) -> tuple[Diagnosis, ...]:
    module = import_module(f"gradscope.analysis.diagnoses.{entry.module}")
    several: tuple[Diagnosis, ...] = getattr(module, "DIAGNOSES", ())
    return several or (module.DIAGNOSIS,)
