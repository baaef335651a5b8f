"""Every diagnosis, in the order in which answers of one severity are given. Nothing else lists them."""

from __future__ import annotations

from gradscope.analysis.diagnoses import (
    backward_no_grad,
    backward_not_scalar,
    backward_reached_nothing,
    block_kept_by_view,
    checkpoint_draws_anew,
    checkpoint_updates_twice,
    deepcopy_of_result,
    frozen,
    function_without_node,
    grad_none,
    grad_of_other_view,
    gradient_counted_twice,
    gradient_silently_wrong,
    gradients_applied_again,
    graph_carried_along,
    graph_used_twice,
    imaginary_part_lost,
    inference_tensor,
    inplace_error,
    inplace_refused,
    iterator_used_up,
    leaf_unreached,
    loaded_from_itself,
    memory_kept_by_graph,
    never_stepped,
    no_second_derivative,
    saved_in_vain,
    scaled_gradients,
    snapshot_shares_memory,
    write_through_alias,
    zeroed_gradients,
)
from gradscope.analysis.diagnoses.diagnosis import Diagnosis

CATALOGUE: tuple[Diagnosis, ...] = (
    backward_no_grad.DIAGNOSIS,
    graph_used_twice.DIAGNOSIS,
    inplace_error.DIAGNOSIS,
    inplace_refused.DIAGNOSIS,
    inference_tensor.DIAGNOSIS,
    deepcopy_of_result.DIAGNOSIS,
    backward_not_scalar.DIAGNOSIS,
    no_second_derivative.DIAGNOSIS,
    gradient_silently_wrong.DIAGNOSIS,
    checkpoint_draws_anew.DIAGNOSIS,
    gradient_counted_twice.DIAGNOSIS,
    *grad_none.DIAGNOSES,
    grad_of_other_view.DIAGNOSIS,
    imaginary_part_lost.DIAGNOSIS,
    backward_reached_nothing.DIAGNOSIS,
    leaf_unreached.DIAGNOSIS,
    function_without_node.DIAGNOSIS,
    frozen.DIAGNOSIS,
    never_stepped.DIAGNOSIS,
    iterator_used_up.DIAGNOSIS,
    gradients_applied_again.DIAGNOSIS,
    scaled_gradients.DIAGNOSIS,
    zeroed_gradients.DIAGNOSIS,
    graph_carried_along.DIAGNOSIS,
    memory_kept_by_graph.DIAGNOSIS,
    block_kept_by_view.DIAGNOSIS,
    saved_in_vain.DIAGNOSIS,
    snapshot_shares_memory.DIAGNOSIS,
    loaded_from_itself.DIAGNOSIS,
    checkpoint_updates_twice.DIAGNOSIS,
    write_through_alias.DIAGNOSIS,
)


def diagnosis(code: str) -> Diagnosis | None:
    """The diagnosis of a code, or None."""
    return next((known for known in CATALOGUE if known.code == code), None)
