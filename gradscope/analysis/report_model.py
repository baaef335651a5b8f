"""The report: what the analyses found in one recording, and all that a renderer needs.

Named tuples of JSON types (text, numbers, booleans, None, tuples): five times quicker to import than dataclasses, as
``gradscope report`` is to answer at once; types are evaluated here, as each that is left as text costs a compilation.
:mod:`gradscope.report.json_values` makes JSON of them. Sizes are bytes.
Lines are 1-based; 0 where there is none (a call from no user code). A name is what the program calls a tensor; one
that no name was seen to hold is called by what made it: ``<y.detach()>``, ``<pow>``.
"""

from typing import Literal, NamedTuple

RowKind = Literal["made", "changed", "cut", "export", "mode", "backward", "step", "read", "error", "call"]
"""What a line did, the most telling first: an ``error`` that was raised, a ``cut`` of the graph, a tensor ``made`` or
``changed``, a ``backward`` pass, an optimizer's ``step``, a grad ``mode`` set, ``.grad`` ``read``, values taken out
of torch (``export``), or only a ``call``."""

CutKind = Literal[
    "detach",
    "data",
    "no_grad",
    "inference_mode",
    "export",
    "new_tensor",
    "not_differentiable",
    "requires_grad_false",
    "no_gradient_defined",
]
"""``not_differentiable``: an integer or boolean result; ``no_gradient_defined``: any other op whose result autograd
does not track; ``new_tensor``: a new tensor was made from another's values (``torch.tensor(t)``)."""

GradientOutcome = Literal["created", "accumulated", "untouched", "missing"]

WriteEffect = Literal["none", "raised", "would_raise", "silently_wrong", "would_be_silently_wrong", "unknown"]
"""What an in-place write did to a later backward pass: it ``raised`` or its gradient is ``silently_wrong`` (the write
went past autograd's version counter); ``would_``: no backward pass went through the saved tensor (yet)."""


Severity = Literal["problem", "warning", "note"]
"""``problem``: something failed or is wrong; ``warning``: it may not be what was meant; ``note``: worth knowing."""

CauseRole = Literal["cut", "made", "saved", "write", "set", "cleared", "backward", "step", "used", "returned"]
"""What a line did: it ``cut`` the graph, ``made`` a tensor, ``saved`` memory for backward, made an in-place ``write``,
``set`` requires_grad, ``cleared`` a gradient, ran a ``backward`` pass or an optimizer's ``step``, ``used`` a tensor,
``returned`` what a Function's backward gave."""


class Place(NamedTuple):
    """Where in the user's code something happened."""

    file: str
    line: int
    end_line: int
    function: str
    """Qualified name of the function; ``<module>`` at top level."""
    source: str
    """Source text of the lines, as it was run."""


class LineRow(NamedTuple):
    """What one statement did to one tensor. Executions in a loop are one row: it describes the last one."""

    file: str
    line: int
    end_line: int
    function: str
    source: str
    kind: RowKind
    op: str
    """The call that made or changed the tensor: ``Tensor.detach``."""
    executions: int
    """How often the statement ran; 0 where that is not known, of one that ran inside backward passes only."""
    name: str
    """Best name of the tensor; empty for a row about no tensor."""
    names: tuple[str, ...]
    """Every name the tensor was seen under, the best first."""
    temporaries: int
    """Tensors that the statement made on the way and that nothing kept (a run of it, on the average)."""
    shape: str
    dtype: str
    device: str
    type_name: str
    requires_grad: bool | None
    requires_grad_before: bool | None
    """Where the line changed it; else None."""
    requires_grad_why: str
    """What set or changed it: ``requires_grad=True``, ``from a``, ``detach``, ``no_grad`` …"""
    is_leaf: bool | None
    grad_fn: str
    """Name of the node; empty for none."""
    storage: str
    """Letter of the memory block: A, B, …, Z, AA; empty for a row about no tensor and for tensors without storage."""
    alias_of: str
    """Name of the tensor with whose memory it shares; empty for memory of its own."""
    offset: int
    """Elements from the start of the memory block."""
    version: int | None
    """Version counter after the line; None where there is none."""
    version_before: int | None
    """Where the line changed it; else None."""
    allocated_bytes: int
    """Newly allocated for tensors by all executions of the row, temporaries included."""
    saved_bytes: int
    """Kept for backward by all executions of the row; each memory block counts once in the run, where first saved."""
    saved: tuple[str, ...]
    """Names of what the row's node saved: ``self=a``, ``result``."""
    live_bytes: int
    """Bytes of all tensors' memory that was in use after the row's last execution."""
    modes: tuple[str, ...]
    """``no_grad``, ``inference_mode``, ``autocast`` in force."""
    notes: tuple[str, ...]
    """Further facts in words, the most important first."""
    value: str
    """Printed value (only with ``--values``)."""
    first_op: int
    last_op: int


class OpRow(NamedTuple):
    """One single call (only with ``--ops``)."""

    op: int
    func: str
    file: str
    line: int
    function: str
    thread: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    shape: str
    dtype: str
    requires_grad: bool | None
    grad_fn: str
    allocated_bytes: int
    modes: tuple[str, ...]
    error: str


class AliasMember(NamedTuple):
    """One tensor on a shared memory block."""

    name: str
    line: int
    """Where it was made; where no call was seen that made it, where it was first seen."""
    op: str
    """The call that made it; empty where none was seen."""
    shape: str
    stride: str
    offset: int
    """In elements."""
    first_byte: int
    end_byte: int
    """The bytes it spans are first_byte up to, not including, end_byte of the block."""
    base: str
    """The tensor it was made from; empty for the first on the block."""
    version_group: int
    """Members with the same number share one version counter; 0: it was not compared with another's."""
    overlaps: tuple[str, ...]
    """Members whose byte ranges overlap with it."""


class AliasGroup(NamedTuple):
    """Tensors on one memory block."""

    storage: str
    nbytes: int
    device: str
    count: int  # type: ignore[assignment]  # not the method of tuples
    """Memory blocks with the same members: more than 1 in loops (the last is described)."""
    members: tuple[AliasMember, ...]
    version_groups: int
    """Different version counters on the block: with more than 1 autograd cannot see every write."""


class SavedTensor(NamedTuple):
    """What a node keeps for backward."""

    attr: str
    """``self``, ``other``, ``result`` …"""
    name: str
    """Best name of a tensor on that memory; may be empty."""
    nbytes: int


class GraphRow(NamedTuple):
    """One row of a graph's tree, parents before children."""

    node: int
    """Id of the node in the recording; -1 for a row that stands for folded nodes."""
    parent: int
    """Index of the parent's row in the graph's rows; -1 for the root."""
    depth: int
    name: str
    """``MulBackward0``."""
    tensor: str
    """Name of the tensor whose grad_fn it is, or of the leaf; may be empty."""
    line: int
    """Where it was made; 0 where unknown."""
    is_leaf: bool
    saved: tuple[SavedTensor, ...]
    repeated: bool
    """It has more than one consumer and stands, with what is below, at an earlier row."""
    folded: int
    """Nodes that this row stands for: a long chain, or what did not fit."""
    summary: str
    """For folded nodes: which."""
    untracked_inputs: int
    """Inputs of the node that did not require grad."""


class Graph(NamedTuple):
    """The graph behind one root: what a backward pass walked or would walk."""

    root: str
    line: int
    """Of the backward pass; 0 where there was none."""
    executions: int
    """Backward passes at that line (the last is described)."""
    nodes: int
    depth: int
    """Nodes on the longest path."""
    leaves: tuple[str, ...]
    saved_bytes: int
    """Kept for backward by the nodes, each memory block once."""
    rows: tuple[GraphRow, ...]


class GradientRow(NamedTuple):
    """What backward passes at one line did for one leaf (or a tensor that retains its grad)."""

    name: str
    shape: str
    is_leaf: bool
    is_parameter: bool
    outcome: GradientOutcome
    """Of the last pass."""
    executions: int
    nbytes: int
    """Newly allocated for its gradient by all passes."""
    why: str
    """For ``missing`` and ``untouched``: why, as far as the recording tells."""
    cut_line: int
    """Where the path from it to the root was cut; 0 where it was not, or is unknown."""
    received: int = 0
    """Passes that gave it a gradient; 1 where all that was seen of it is that code inside a pass took it."""


class BackwardPass(NamedTuple):
    """Backward passes from one place."""

    place: Place
    op: str
    """``Tensor.backward``, ``torch.autograd.grad``."""
    executions: int
    roots: tuple[str, ...]
    retain_graph: bool
    create_graph: bool
    error: str
    """Message when the last pass raised, else empty."""
    received: int
    """Tensors whose gradient was created or accumulated in the last pass, or taken by code that ran inside it."""
    unreached: int
    """Tensors that required grad and received none in the last pass, but for those whose gradient a pass that ran
    inside it returns (``autograd.grad`` in a hook)."""
    allocated_bytes: int
    """Newly allocated for gradients by all passes."""
    gradients: tuple[GradientRow, ...]


class GradientNorms(NamedTuple):
    """How large a leaf's gradients were after the backward passes that were looked at: the first, then ever fewer."""

    name: str
    shape: str
    is_parameter: bool
    measure: Literal["norm", "largest"]
    """What ``sizes`` are: 2-norms or, in older recordings, the largest element without its sign."""
    passes: tuple[int, ...]
    """The passes, numbered from 1 in the order of the run."""
    sizes: tuple[float, ...]
    """Of the gradient after each of those passes, with what had been in it before."""
    least: float | None
    """The smallest that is finite; None where none is."""
    most: float | None
    zero: int
    """Passes after which it was zero throughout."""
    not_finite: int


class Cut(NamedTuple):
    """An op with an input that autograd tracked and an output that it does not."""

    place: Place
    inner: Place | None
    """The place inside a third-party package, where it was cut in there."""
    kind: CutKind
    op: str
    executions: int
    input: str
    output: str
    """Empty for values that left torch."""
    on_path: bool
    """It lies between a leaf that missed its gradient (or a root that did not require grad) and the root."""
    by_library: bool = False
    """A third-party package made it for itself: nothing of what it cut off comes out of the package without a graph,
    and it is not ``on_path``. The screen leaves these out."""


class InplaceWrite(NamedTuple):
    """An op that changed memory in place."""

    place: Place
    op: str
    executions: int
    name: str
    """The tensor through which it was written."""
    storage: str
    version_before: int | None
    """None for a step, and for a write past the version counter."""
    version_after: int | None
    seen_by: tuple[str, ...]
    """Other tensors on the same memory whose values changed with it."""
    past_autograd: bool
    """It raised no counter, or not that of the tensors that autograd tracks: autograd cannot notice."""
    saved_as: str
    """What a node had saved of that memory before: ``self of MulBackward0``; empty for nothing."""
    saved_line: int
    effect: WriteEffect
    backward_line: int
    """Of the backward pass that was affected; 0 for none."""
    by_library: bool = False
    """A third-party package wrote through a tensor that it made for itself. The screen leaves these out unless a
    backward pass was affected."""
    tensors: int = 1
    """How many it wrote; of those of an optimizer's step only one is named."""


class ModeChange(NamedTuple):
    """A place that set grad mode, or a stretch of lines seen to run in another mode."""

    place: Place
    mode: str
    """``no_grad``, ``enable_grad``, ``inference_mode``, ``autocast``."""
    entered: bool
    executions: int


class LineMemory(NamedTuple):
    """What one statement cost."""

    place: Place
    executions: int
    allocated_bytes: int
    saved_bytes: int
    peak_live_bytes: int
    """The most that was in use while it ran."""


class DeviceMemory(NamedTuple):
    """What a device's own allocator reported (CUDA only)."""

    device: str
    allocated_bytes: int
    peak_bytes: int


class MemoryReport(NamedTuple):
    """Tensor memory over the run, computed from the first and last op at which each memory block was seen."""

    allocated_bytes: int
    """Allocated over the whole run."""
    live_bytes: int
    """In use at the end."""
    peak_bytes: int
    """The most in use at one time, of the tensors that were seen: what operators, backward passes and optimizer steps
    allocate and drop again is not in it."""
    peak_place: Place | None
    saved_bytes: int
    """Kept for backward over the whole run, each memory block once."""
    hooked_ops: int
    """Ops that made graph nodes of a kind that saves tensors under saved-tensor hooks (activation checkpointing): what
    these saved is not in saved_bytes."""
    saved_leaf_bytes: int
    """Part of saved_bytes that is the memory of leaves (parameters, inputs), which costs nothing extra."""
    gradient_bytes: int
    """Newly allocated for ``.grad`` by backward passes."""
    step_bytes: int
    """Newly allocated by optimizer steps (their state)."""
    lines: tuple[LineMemory, ...]
    devices: tuple[DeviceMemory, ...]


class WatchRow(NamedTuple):
    """What a watched expression gave, consecutive equal results as one row."""

    expression: str
    place: Place
    text: str
    name: str
    failed: bool
    executions: int


class RaisedError(NamedTuple):
    """An op that raised."""

    place: Place
    op: str
    error_type: str
    message: str
    executions: int


class Cause(NamedTuple):
    """A line of the user's code to which an answer leads."""

    file: str
    line: int
    end_line: int
    columns: tuple[int, ...]
    """The first column of the call, 0-based in UTF-8 bytes, and the one after its last; empty where unknown."""
    function: str
    """Qualified name of the function; ``<module>`` at top level."""
    source: str
    """Source text of the lines, as it was run."""
    role: CauseRole


class Evidence(NamedTuple):
    """A recorded row that an answer rests on."""

    table: str
    """Name of a table of the recording: ``ops``, ``tensors``, ``changes``, ``gradients`` …"""
    row: int


class Answer(NamedTuple):
    """A plain sentence that answers what people ask, derived from recorded rows."""

    code: str
    """Permanent: ``grad-none-non-leaf``, ``inplace-error`` … ``gradscope explain CODE`` says what it means."""
    severity: Severity
    text: str
    place: Place | None
    tensor: str
    """The first of the tensors that it is about."""
    subject: str
    """What it is about: a name, or several as the sentence lists them."""
    causes: tuple[Cause, ...]
    """The line to change first, then those that contribute."""
    evidence: tuple[Evidence, ...]
    advice: str
    """What to do about it, where a rule knows; it is part of the text."""


SuppressedBy = Literal["selection", "comment", "baseline"]
"""``selection``: ``--select`` or ``--ignore``; ``comment``: ``# gradscope: ignore``."""


class SuppressedAnswer(NamedTuple):
    """An answer that is not given."""

    by: SuppressedBy
    answer: Answer


class LeftOut(NamedTuple):
    """Calls that ``--max-ops`` left out."""

    place: Place
    op: str
    count: int  # type: ignore[assignment]  # not the method of tuples


class AfterLimit(NamedTuple):
    """What is known of a run from the op on at which ``--max-ops`` was reached, beside the calls that it left out."""

    passes: int = 0
    """Backward passes that began."""
    not_finite: int = 0
    """Those of them whose loss was a NaN or an infinity (on the CPU; on a device it is not read)."""
    first_not_finite: int = 0
    """Number of the first of these among all backward passes of the run, from 1 on; 0: there was none."""
    first_place: Place | None = None
    """Where that one was called."""
    new_lines: tuple[LeftOut, ...] = ()
    """Calls of lines that did not run before."""
    grew_bytes: int = 0
    """By how much the process's resident memory grew, where it did so by much and still at the end; else 0."""


class RunFacts(NamedTuple):
    """What was run and how it ended."""

    target: str
    kind: str
    title: str
    outcome: str
    exit_code: int | None
    error_type: str
    error_message: str
    error_place: Place | None
    duration_ns: int
    started_at: str
    torch: str
    python: str
    gradscope: str
    host: str
    rank: int
    """Of several processes that a launcher started: which."""
    local_rank: int
    world_size: int
    """How many they were; 1 where it was alone."""
    child: str
    """Of a process that the program started: which (``1``, ``1.2`` for the second that this one started); empty: the
    program itself."""
    children: int
    """Processes that it was seen to start."""
    children_followed: bool
    """Whether they were recorded, too, each in a file of its own."""
    last_place: Place | None
    """Where the last operation was called that was recorded."""


class Summary(NamedTuple):
    """Counts over the whole run."""

    ops: int
    lines: int
    """Statements that made at least one op."""
    tensors: int
    nodes: int
    backwards: int
    leaves_with_gradient: int
    leaves_without_gradient: int
    """Leaves that required grad, were there in a backward pass and never received a gradient."""
    cuts: int
    """Lines, each once, however many of its calls cut and however often it ran (``cuts`` of a report has them call by
    call); exports are not counted, nor what a third-party package cut for itself."""
    exports: int
    """The same of values that left torch."""
    inplace_writes: int
    alias_groups: int
    errors: int
    faults: int
    """Errors inside the recorder itself."""
    left_out: int
    """Ops that ``--max-ops`` left out."""
    alike: int
    """Of the ops those that were like others in every respect: counted, and not kept."""
    threads: int
    backwards_inside: int = 0
    """Backward passes that hooks and the backward of Functions began inside these; they have no rows of their own."""


class ModuleRow(NamedTuple):
    """A module with all that is part of it, or several siblings of one structure; parents come before what is part of
    them."""

    depth: int
    name: str
    """``model`` for an outermost one, else what the one above calls it: ``attn``, ``0-11`` for siblings."""
    kind: str
    """Its class; of a wrapper with what it stands for: ``DistributedDataParallel(Net)``."""
    modules: int
    """Of how many modules the row is, those at the same place of siblings above counted each."""
    places: tuple[Place, ...]
    """Lines of the user's that called it, itself or through a library."""
    calls: int
    """Ops of the pass through the model that was looked at."""
    trainable: int
    """Elements of parameters that require grad, when the run is over."""
    frozen: int
    """Elements of the others."""
    trainable_tensors: int
    with_gradient: int
    """Of these: how many were given a gradient."""
    parameter_bytes: int
    gradient_bytes: int
    """Newly allocated for gradients by one pass."""
    saved_bytes: int
    """Kept for backward by that pass."""
    allocated_bytes: int
    """Newly allocated by that pass."""


class Report(NamedTuple):
    """All that the analyses found in one recording."""

    run: RunFacts
    summary: Summary
    answers: tuple[Answer, ...]
    lines: tuple[LineRow, ...]
    ops: tuple[OpRow, ...]
    alias_groups: tuple[AliasGroup, ...]
    graphs: tuple[Graph, ...]
    backwards: tuple[BackwardPass, ...]
    cuts: tuple[Cut, ...]
    inplace_writes: tuple[InplaceWrite, ...]
    modes: tuple[ModeChange, ...]
    memory: MemoryReport
    watches: tuple[WatchRow, ...]
    errors: tuple[RaisedError, ...]
    faults: tuple[str, ...]
    """Tracebacks of errors inside the recorder."""
    left_out: tuple[LeftOut, ...]
    suppressed: tuple[SuppressedAnswer, ...] = ()
    """Answers that were held back, as was asked for."""
    remarks: tuple[str, ...] = ()
    """What could not be done as it was asked for."""
    gradient_norms: tuple[GradientNorms, ...] = ()
    """Where they were asked for (``--gradients``)."""
    after_limit: AfterLimit = AfterLimit()
    modules: tuple[ModuleRow, ...] = ()
    """The modules that were at work, as trees."""
