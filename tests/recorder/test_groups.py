"""One call into torch's own Python that ran many ops: what went into it from outside, each tensor once."""

from tests.analysis.building import recorded
from tests.recorder.reading import op_named, tensor_called


def test_everything_that_went_in_is_an_input_once() -> None:
    recording = recorded("""
    import torch
    from torch.distributions import Normal
    mean, spread = torch.zeros(3, requires_grad=True), torch.ones(3, requires_grad=True)
    value = torch.ones(3)
    dist = Normal(mean, spread, validate_args=False)
    logp = dist.log_prob(value)
    """)
    op, row = op_named(recording, "distributions.Normal.log_prob")
    uses = recording.uses
    taken = [tensor for at, tensor in zip(uses.column("op"), uses.column("tensor"), strict=True) if at == op]
    outside = [tensor for tensor in taken if recording.tensors.column("op")[tensor] != op]
    assert row.calls > 5
    assert taken == outside
    assert len(taken) == len(set(taken))
    assert tensor_called(recording, "value") in taken
    assert {recording.tensors[tensor].op for tensor in taken} < set(range(op))


def test_a_call_that_runs_an_op_a_thousand_times_adds_no_thousand_inputs() -> None:
    recording = recorded("""
    import torch
    parameters = [torch.ones(2, requires_grad=True) for _ in range(40)]
    for parameter in parameters:
        parameter.grad = torch.ones(2)
    torch.nn.utils.clip_grad_norm_(parameters, 1.0, foreach=False)
    """)
    op, row = op_named(recording, "nn.utils.clip_grad_norm_")
    assert row.calls >= 80
    assert sum(at == op for at in recording.uses.column("op")) <= 80
