"""The columns of a recording, each declared once: its name, what it holds and how wide it is, and what it means.

Every value is an integer; text is interned in ``Recording.strings``. A column named for another table (``op``,
``tensor``, ``storage``, ``node``, ``span``, ``layout``) holds a row id of that table, or ``NONE`` (-1). A column of
text (``func``, ``name``, ``attr``, ``text`` …) holds an index into the strings. The marks are those of
:mod:`gradscope.recording.column_marks`.
"""

# Types are evaluated here: a named tuple would compile each that is left as text, and every command would wait for it.

from enum import IntEnum, IntFlag
from typing import Annotated, NamedTuple

from gradscope.recording.column_marks import LATE, AnyOf, ByKind, Number, OneOf, RowOf, Text

_Number = Annotated[int, Number("i")]
_Large = Annotated[int, Number("q")]
_Truth = Annotated[int, Number("b")]
_Text = Annotated[int, Text()]
_Op = Annotated[int, RowOf("ops")]
_OpOrEnd = Annotated[int, RowOf("ops", or_end=True)]
_Died = Annotated[int, RowOf("ops", optional=True, or_end=True), LATE]
_MaybeSpan = Annotated[int, RowOf("spans", optional=True)]
_Tensor = Annotated[int, RowOf("tensors")]
_MaybeTensor = Annotated[int, RowOf("tensors", optional=True)]
_MaybeStorage = Annotated[int, RowOf("storages", optional=True)]
_Layout = Annotated[int, RowOf("layouts")]
_Node = Annotated[int, RowOf("nodes")]
_MaybeNode = Annotated[int, RowOf("nodes", optional=True)]


class OpKind(IntEnum):
    """What sort of call an op is."""

    CALL = 0
    """An ordinary call: ``Tensor.mul``, ``torch.ones``, ``F.linear``, a read of ``Tensor.data``."""
    BACKWARD = 1
    """``Tensor.backward`` or ``torch.autograd.backward``: gradients go into ``.grad``."""
    GRAD = 2
    """``torch.autograd.grad``: gradients are returned."""
    MODE = 3
    """Grad mode is set: ``torch.no_grad.__enter__``, ``torch.set_grad_enabled`` …"""
    SET = 4
    """An attribute is set: ``requires_grad_``, ``Tensor.requires_grad.__set__``, ``Tensor.data.__set__``."""
    READ_GRAD = 5
    """``.grad`` is read."""
    EXPORT = 6
    """Values leave torch: ``item``, ``tolist``, ``numpy``, ``bool(t)``, ``float(t)``."""
    STEP = 7
    """One step of an optimizer of torch's own, whole."""
    GROUP = 8
    """One call into torch's own Python that ran many ops: a module's initialisation, gradient clipping …"""
    COLLECTIVE = 9
    """A call that other processes take part in: ``dist.all_reduce``, ``dist.send`` …"""


class OpFlag(IntFlag):
    """The modes in force when the op was called, and how it ended."""

    GRAD = 1
    """Grad mode was on."""
    INFERENCE = 2
    """Inference mode was on."""
    AUTOCAST = 4
    """Autocast was on for the op's device."""
    RAISED = 8
    """The op raised (see ``errors``)."""
    HOOKED = 16
    """Saved-tensor hooks were in force: what the op saved was not read, so as not to run them."""
    MADE = 32
    """The op was seen only by its result (a custom ``autograd.Function``, ``torch.from_numpy`` …)."""
    BELOW = 64
    """Not the user's code made the call, but torch's or a library's below it: one call of the user's makes several."""
    CONTINUED = 128
    """A call into torch's own Python made it that has an op before: it runs code of the user's, or a backward pass."""


class EventKind(IntEnum):
    """What sort of thing happened at torch's Python API that is no call of a torch function."""

    OPTIMIZER = 0
    """Parameters were given to an optimizer, as one of its groups: when it was made, or later. The detail has the class
    (``optimizer``), the group's ``settings``, and the line that ``called`` the function that did it. Where the group is
    the dictionary of another optimizer: by which its settings were ``filled_by``, and the numbers that this one was
    made with ``in_vain``, as others were there."""
    GRAD_SCALER = 1
    """A ``GradScaler`` scaled a loss (the tensor is the result), divided the gradients of an optimizer by the scale,
    began the step of one, or was asked for the scale."""
    CHECKPOINT = 2
    """``torch.utils.checkpoint.checkpoint`` (not reentrant) began to run a function (``begins``), or was done. The
    lines of the same file that ``called`` the function in which that was, the innermost first."""
    FUNCTION = 3
    """A node of a custom ``autograd.Function`` of the user's was first seen: the span is the first line of its
    ``backward``, its decorators included; the detail has the ``node`` type's name."""
    GRADIENTS = 4
    """Gradients were looked at after a backward pass: the subject is the op of the pass, the tensors are those that got
    one. The detail has the smallest and the largest value (both NaN where there is a NaN) of the ``roots`` and, as
    ``ranges``, of the gradients in order; None where nothing is known. Their 2-norms are the ``norms``; ``zeros`` are
    the positions of leaves whose gradient is zero and which hold nothing but zeros as well; ``alike`` are positions of
    leaves, with the dimension along which they and their gradients have the same values throughout (CPU only)."""
    VALUES = 5
    """Values were looked at before a backward pass (the subject is its op): of what nodes ``keep`` (node, attribute,
    smallest, largest value), of their ``derivatives`` for a gradient of ones (node, smallest, largest, and the value
    that the node keeps where it is not finite, or None), and of the tensors, as ``ranges``. Of nodes that give zeros
    for an argument that they were called with (``by_argument``): the places of the inputs (none: all). Of nodes that
    were given what is not zero and gave zeros alone to a node behind them, the places of these nodes (``vanished``;
    None where that was not asked), and of those that made a gradient zero by giving it in float16 how large it was, the
    sign aside (``underflown``). Of look-ups in embeddings with a padding index that occurred (``padding``) the node,
    how often it did, of how many indices, how many of these differ, and how often it stood between others. With
    ``--nan`` also the ``nodes`` that were given what is finite and gave what is not; and of an op (the subject) that a
    NaN or an infinity was ``born`` in it: the smallest and the largest value of its result."""
    HOOK = 6
    """A hook of the user's was registered on a tensor (the tensor) or a module (its own parameters). The subject is one
    for all that a line registers of the same code; the detail has the kind of ``hook``, its ``function``, the span of
    its first line (``place``), how many of that code were ``there`` on the same object, the number of the module
    (``on``), and how many frames dynamo had ``compiled`` before, if any."""
    HOOK_RUNS = 7
    """What the hooks of one subject on tensors did up to the end: how often they ran, were ``removed``, ``returned`` a
    gradient, wrote it ``in_place``, and of those ``looked`` at gave zeros for what was not (``zeroed``), and how often
    they gave a tensor ``again`` that a run before had made and given, if they then gave no other; of the first error
    that one ``raised`` the ``message`` and the ``line``. The tensors are leaves whose gradients were looked at
    around it; the ``effects`` on each: of so many ``elements``, those that were made zero and stayed so (``zeroed``),
    made zero ``at_times`` only, of the zeroed ones those that hold another value than zero (``valued``) and those that
    ``moved`` between the first look and the last; of each of the ``looks`` how many were not zero before, were made
    smaller, were made as small as the largest is then, and the 2-norms before and after; how many ``repeats``
    of the first gradient, which it left as it was, were all others that it made of another one. Of hooks on modules
    that were registered when frames had been ``compiled``: how many had been at the end, and how many hooks were
    ``removed``. Where each look found that the hook had ``taken`` the gradient away: of each leaf how many looks did,
    and how many of its elements moved between the first and the last."""
    LEARNING_RATE = 8
    """An optimizer was about to step, and which of its groups had a learning rate of ``zero``, or that the rate is next
    to nothing (``tiny``, beside that of the ``first`` step), had changed or was not known; or a ``scheduler`` of it was
    ``made`` (with the ``one`` rate that all of several groups have then, and the number of steps ``of`` which it
    counts), or stepped for the ``first`` time, or did so before the optimizer (``early``). Or a loaded state put other
    groups in the place of some that the program keeps (``regrouped``), and a ``rate`` was written into one of these
    since (``stray``). Or the rate of one group changed again and again, while others' ``stays`` (``uneven``), or all
    have changed by now (``even``). Or a scheduler that was made for some steps (``of``) had made them (a cosine: four
    times as many; ``over``), with the ``rates`` then and that of the ``first`` step. Or a scheduler set ``rates`` of
    some ``groups`` in place of those that were ``written`` by hand (``overwritten``, twice at most), so many ``steps``
    after one had set them before, which found other rates than the step before ``moves`` times, and where ``made`` when
    it was that. The subject is the optimizer's."""
    TRAINING_MODE = 9
    """``train()`` or ``eval()`` was called on a module; its parameters are with the first such event of a module.
    ``through`` has the spans of the functions around, the innermost first, where there is more than one."""
    MEMORY_CHANGED = 10
    """Bytes of a storage (the subject) that others than torch can write were found to be others than when they were
    looked at before: when ``since`` ops had been seen, at the op ``after``. Of ``bytes`` each is the first one of a
    stretch, and the one after its last. The tensor is one that is on the storage."""
    STEP = 11
    """An optimizer's step began that is recorded op by op: it runs a closure, hooks, or is an optimizer of others."""
    REENTRANT_CHECKPOINT = 14
    """``torch.utils.checkpoint.checkpoint`` with ``use_reentrant=True`` began to run a function (``begins``), or was
    done; ``requires_grad`` says whether a tensor among its arguments did; ``called`` as in ``CHECKPOINT``."""
    REPEATED_MODULE = 15
    """An ``nn.ModuleList`` or ``nn.Sequential`` (``list``) was made that holds one module several ``times``, or
    a module was added to one that held it before; the tensors are its parameters."""
    RECOMPUTED = 35
    """A ``function`` was called inside backward passes, by a checkpointed function that ran again, or ``within`` the
    backward of a Function of the program's, or ``hooks``; ``draws`` says of a Function's that it drew random numbers.
    Noted at the end, once for each place of such calls; the subject is their number."""
    SNIPPET = 16
    """A part of a transcript, page or notebook has run, which the program's file has from ``line`` to ``end_line``:
    what the page has as ``shown`` below it, what it ``printed``, and the ``error_type``, ``message`` and ``error_line``
    of what it raised (empty, empty, 0: nothing). The subject is the program's file (index into files)."""
    RAISED = 30
    """A call (the subject is its op) raised, for the first time on this way: the spans at which the user's functions
    were that it went ``through``, the innermost first."""
    DIRECT_FORWARD = 31
    """The user's code called ``forward`` of a ``module`` (the subject is its number) without calling the module; noted
    once for a module and a place."""
    REFUSED = 32
    """A ``call`` that is no torch function raised (``error``, ``message``): the making of an optimizer, a hook that was
    to be registered. The tensors are those that it was given; ``through`` is as in ``RAISED``."""
    FROZEN = 33
    """requires_grad of a tensor was switched off at the op (the subject), for the first time on this way: ``through``
    is as in ``RAISED``."""

    ARRAYS = 20
    """NumPy arrays that calls at one place gave (``numpy()``): of each, in ``arrays``, the op that gave it, and the
    number of ops seen when it was gone, or -1; the tensors are those on whose memory they are, in the same order."""

    LOADED = 60
    """A state was loaded into a ``module`` without ``strict``, and of its ``keys`` (their number) some were ``missing``
    and others ``unexpected``; the tensors are those of the missing ones, as far as they are the module's."""

    HOOK_THERE = 21
    """A hook on a result of an operation was still there at the end: it was ``registered`` when so many ops had been
    seen. The subject is that of its ``HOOK``; the tensors are the result, then those that the hook refers to, by
    ``names`` (empty: an argument that was bound)."""

    FACTOR = 72
    """A call (the subject is its op) that needs no gradients was given the plain number that it multiplies or divides
    ``by``, or by which its second operand counts (``alpha``, the weight of ``lerp``). Noted of the first runs of an
    instruction, then ever more rarely. Or scaled_dot_product_attention was given the share that it ``drops``, whether
    gradients are needed or not; noted after each ``train()`` and ``eval()`` anew."""

    OPTIMIZER_STATE = 73
    """``state_dict()`` of an optimizer was ``taken``, or one that is still the same object was ``loaded`` into it (the
    ``call``): by its ``number``. Of what is loaded so many tensors are the optimizer's ``own``. Or so many tensors
    of what was loaded are ``shared``: another optimizer (``from``) has them, too. Or so many of the optimizer's
    parameters (``mixed``, the tensors) hold the values that those of other places had when the state was taken. The
    subject is the optimizer's."""

    AFTER_LIMIT = 61
    """Noted at the end: how many backward ``passes`` began after ``--max-ops`` was reached, and how many of them from a
    loss that was ``not_finite``. The first of these was called at the span; the subject is its number among the passes
    of the run, from 1 on (0: there was none). ``resident`` is what the process held of memory, in bytes, before the
    first of these passes, the second, the fourth … and at the end (0: not known)."""

    COLLECTIVE = 65
    """What was special of a collective (the subject is its op): the ranks of its ``group`` where these are not all, the
    rank that it came from (``src``) or went to (``dst``) and its ``tag`` where that is not 0, how it reduced (``op``)
    where that is not the sum, whether it was ``async``."""
    COLLECTIVE_WAITS = 66
    """A collective had been called and had not returned when the recording ended (``at_end``). As others may let the
    process wait until it is killed, some are noted where they begin, too: they have not returned if the recording has
    no end and no op of their thread stands after them. Its ``name``, the ``shape`` and ``dtype`` of its first tensor,
    when it began (``at``, as ``time.time()``), and what ``COLLECTIVE`` has."""

    DDP_FORWARD = 67
    """The forward of a ``DistributedDataParallel`` (its number is the subject) began whose pass ``averages`` gradients,
    or does not (``no_sync``), other than the one before; the tensors are its parameters, with the first, as is whether
    it ``finds_unused`` ones and ``ignores`` others. None is noted after one that ``is_last``."""

    REPLICA = 74
    """An optimizer (its number is the subject) of a process among several was about to make its ``step`` 1, 2, 4, 8 …:
    the 2-norms of its parameters (the tensors) and of their ``gradients``, None where there is none or it was not
    looked at. What is spread over the processes (DTensor) is not among them."""

    SHALLOW_COPY = 82
    """``copy.copy`` was called on a ``module`` (its class; the subject is its number): the copy holds the module's own
    parameters. They are the tensors of the first such event of a module."""

    DDP_BUFFERS = 83
    """The forward of a ``DistributedDataParallel`` was about to send the buffers of its model from one process to all
    others, which must then be in a forward, too."""

    WRITTEN_AGAIN = 91
    """An op (the subject) wrote memory that is not torch's through a tensor (the only one) that had been put on it at
    the span, or by the ``op``, when its bytes were still as other ops had left them: those ``before``, through a tensor
    that was put on it earlier. So many ``times`` in a row it was put there."""

    INSIDE_PASS = 96
    """Calls of a ``function`` inside backward passes, in hooks of the program's, ``wrote`` the tensors, or ``cleared``
    or ``set`` their ``.grad`` (what they ``did``), each so many ``times``. Noted at the end, once for each place; the
    subject is the span of the call that began the passes."""
    PACKED = 131
    """Of the tensors that a pack ``function`` of saved-tensor hooks was given (``packed``) so many were ``mixed_up``:
    what came back for them was put away for another one. Of those ``compared`` by some of their values so many were
    ``lost``: ``off`` by up to so much of their size, or, ``bad``, no longer finite. Noted at the end for each place
    that puts hooks in force (the span) and each such function, if there are any; the function's first line is the span
    ``place``."""
    RERUN_STATE = 121
    """What checkpointed functions found of state that is no tensor, when backward ran them again; noted at the end for
    each place that calls checkpoint. The class of an object (empty: a file's own names), an attribute, and pairs of
    whole numbers that it was at first and then: of those that they found otherwise than at first and changed again
    (``own``), had changed at first only (``entered``), or had not changed (``outside``); lists and tensors with a graph
    that they put there again and that were ``left`` there until a function ran next."""
    ROUNDED_AWAY = 140
    """Steps of an optimizer (the subject) were looked at that changed next to nothing of the parameters in half
    precision that had a gradient (the tensors): ``lost``, or a later one did. Of each the first elements were, or the
    ``whole``. The one that changed most ``moved`` so many values ``of`` those that had a gradient other than zero.
    ``rate`` is the highest of any of its groups at these steps, of which a scheduler had so many at half of its
    ``full`` rate and more."""
    SEEDED = 150
    """``torch.manual_seed`` was called with a ``seed``; whether the generator (of the CPU) was found in the very state
    ``again`` in which the call before, at the same place and with the same seed, had found it. ``through`` is as in
    ``TRAINING_MODE``. Noted of the first calls of a place."""
    TABLE_MADE = 160
    """``nn.Embedding.from_pretrained`` (``EmbeddingBag``) made a module; its weight is the tensor."""
    LEFT_OUT_KEYS = 170
    """``functional_call`` was given tensors under ``keys`` that are no names of the module (``count`` keys ``of`` all),
    which it left out; they have the shapes of parameters of it that were given no value, by their ``names``. Of both
    the first are kept; the tensors are those left out (none within ``vmap``). Noted of a module's first calls."""
    POLE = 180
    """A call (the subject is its op) whose node keeps a value ``at`` which its derivative is infinite: a root or
    a logarithm of 0, acos of 1. On the CPU, of small tensors; the first of a recording."""
    DERIVATIVE = 190
    """What the backward of a custom Function of the user's (its ``node`` type's name) returned for ``arguments``
    differs from autograd's derivative of the calls that its forward made, called again on copies of small tensors: by
    ``position``, what it is times autograd's, at the ``least`` and at the ``most``."""


class Op(NamedTuple):
    """One call seen at torch's Python API, put down to the innermost user frame; a pass to the caller of a function
    that does no more than call backward for it."""

    func: _Text
    """Text: ``Tensor.mul``, ``F.linear``, ``Tensor.requires_grad.__set__``."""
    kind: Annotated[int, OneOf(OpKind)]
    """:class:`OpKind`"""
    span: _MaybeSpan
    """Where the user's code made the call; NONE when no user frame was on the stack."""
    inner: _MaybeSpan
    """Span of the innermost frame outside torch where that is not the user's (a third-party package), else NONE."""
    thread: Annotated[int, Number("H")]
    """0 is the thread that started the recording, then in order of appearance."""
    flags: Annotated[int, AnyOf(OpFlag), LATE]
    """:class:`OpFlag`"""
    calls: Annotated[_Number, LATE]
    """How many calls the row stands for: 1, or the number of inner ops of a GROUP or updates of a STEP."""


class Span(NamedTuple):
    """An exact range of source text."""

    file: Annotated[int, RowOf("files")]
    """Index into ``Recording.files``."""
    line: _Number
    end_line: _Number
    col: _Number
    """0-based, in UTF-8 bytes like the AST; -1 when unknown (Python 3.10 knows some lines only)."""
    end_col: _Number
    stmt_line: _Number
    """First line of the statement around it (a compound statement counts with its header only)."""
    stmt_end_line: _Number
    function: _Text
    """Text: qualified name of the function, ``<module>`` at top level."""


class Use(NamedTuple):
    """A tensor that went into an op, in the order of the arguments (nested lists and dicts flattened)."""

    op: _Op
    tensor: _Tensor


class Result(NamedTuple):
    """A tensor that came out of an op though it existed before: in-place ops, ``.grad`` reads."""

    op: _Op
    tensor: _Tensor


class TensorFlag(IntFlag):
    """What was true of a tensor when it was first seen."""

    REQUIRES_GRAD = 1
    LEAF = 2
    VIEW = 4
    """Autograd knows it as a view of its base (``_is_view()``)."""
    INFERENCE = 8
    """An inference tensor: no version counter, unusable in autograd."""
    PARAMETER = 16
    """An ``nn.Parameter``."""
    EXTERNAL = 32
    """Not made by an op that was seen: it first appeared as an input, a result or a module's parameter."""
    NO_STORAGE = 64
    """Without storage of its own that can be asked for (sparse, functorch wrapper, nested …)."""
    SUBCLASS = 128
    """A tensor subclass other than ``nn.Parameter``; its name is in the layout."""
    NO_VERSION = 256
    """It has no version counter that can be read."""
    GRADIENT = 512
    """First seen as the ``.grad`` of another tensor."""


class Tensor(NamedTuple):
    """One tensor object, as it was when first seen; what changed later is in ``changes``."""

    op: _OpOrEnd
    """The op that made it or, with EXTERNAL, the op before which it was first seen (the number of ops at the end of
    the run for one found only then)."""
    storage: _MaybeStorage
    layout: _Layout
    node: _MaybeNode
    """Its ``grad_fn``; NONE for a leaf."""
    flags: Annotated[int, AnyOf(TensorFlag)]
    """:class:`TensorFlag`"""
    died: _Died
    """The first op at whose start it was gone, or NONE: alive at the end."""


class Layout(NamedTuple):
    """Shape, dtype and the like, shared by many tensors."""

    shape: _Text
    """Text: ``(2, 3)``; ``()`` for a scalar."""
    stride: _Text
    """Text: ``(3, 1)``, in elements; empty where the tensor has none."""
    dtype: _Text
    """Text without ``torch.``: ``float32``."""
    device: _Text
    """Text: ``cpu``, ``cuda:0``, ``meta``."""
    type_name: _Text
    """Text: ``Tensor``, ``Parameter``, or the subclass."""
    form: _Text
    """Text: ``strided``, ``sparse_coo``, ``jagged`` … (``Tensor.layout``)."""
    nbytes: _Large
    """Bytes of the elements it shows: numel times itemsize; of a sparse one, of its values and their indices."""


class Alias(NamedTuple):
    """A tensor that is on the storage of one that was seen before it."""

    tensor: _Tensor
    base: _Tensor
    """The tensor it was made from (an input of the op), or else the first one seen on the storage that lived
    (if any did)."""
    offset: _Large
    """``storage_offset()``, in elements."""
    shares_version: _Truth
    """1 when both were measured to share one version counter, 0 when measured not to, -1 not measured."""


class Storage(NamedTuple):
    """The memory block under one or more tensors."""

    op: _OpOrEnd
    """The op at which it was first seen."""
    nbytes: _Large
    data_ptr: Annotated[int, Number("Q")]
    """Its address; 0 for meta and empty storages. Reused after a free: only an id tells two storages apart."""
    died: _Died
    """The first op at whose start it was freed, or NONE."""
    external: _Truth
    """1 when it existed before it was seen, so it was not allocated by that op."""


class Node(NamedTuple):
    """One autograd graph node."""

    op: _OpOrEnd
    """The op that made it (or at which it was first seen)."""
    name: _Text
    """Text: ``MulBackward0``, ``AccumulateGrad``."""
    variable: _MaybeTensor
    """The leaf (a tensor) that an ``AccumulateGrad`` accumulates into, else NONE."""


class Edge(NamedTuple):
    """``node.next_functions`` in order; ``next`` is NONE for an input that did not require grad."""

    node: _Node
    next: _MaybeNode


class Saved(NamedTuple):
    """One tensor that a node keeps for backward."""

    node: _Node
    attr: _Text
    """Text: ``self``, ``other``, ``result`` (a ``_saved_…`` attribute), or ``saved_tensors``, ``ctx.name``."""
    storage: _MaybeStorage
    tensor: _MaybeTensor
    """The tensor object that is kept, where it is one that was seen, else NONE (same storage, another object)."""
    nbytes: _Large
    """Bytes of the elements; the storage that is kept alive may be larger."""


class Field(IntEnum):
    """What a change is about."""

    VERSION = 0
    """Version counter, before and after. A row at a tensor's own birth: it was first seen at that version."""
    REQUIRES_GRAD = 1
    GRAD_FN = 2
    """Node ids (NONE: none)."""
    LEAF = 3
    STORAGE = 4
    """``t.data = …`` or ``set_``: storage ids."""
    LAYOUT = 5
    """``resize_``, ``t_``, ``t.data = …``: layout ids."""
    GRAD = 6
    """``.grad`` was set by the program, or found to be another at the end: tensor ids (NONE: None)."""
    OFFSET = 7
    """``storage_offset()``, in elements, was found to be another at the end: ``set_``, ``t.data = …``."""
    WRITTEN = 8
    """Its memory was written and the version counter does not show it (a fused optimizer, running statistics). Before:
    NONE. After: 1; 0 where it is not known whether the write took place: the device decided, and was not asked; 2
    where it put the values there that were there (running statistics, with a momentum of zero)."""


_BeforeOrAfter = Annotated[
    int,
    ByKind(
        "field",
        {
            Field.GRAD_FN: RowOf("nodes", optional=True),
            Field.STORAGE: RowOf("storages", optional=True),
            Field.LAYOUT: RowOf("layouts"),
            Field.GRAD: RowOf("tensors", optional=True),
        },
    ),
]


class Change(NamedTuple):
    """Something about a tensor that differed after an op from before it."""

    op: _OpOrEnd
    tensor: _Tensor
    field: Annotated[int, OneOf(Field)]
    """:class:`Field`"""
    before: _BeforeOrAfter
    after: _BeforeOrAfter


class GradOutcome(IntEnum):
    """What a backward pass did to the ``.grad`` of a tensor."""

    CREATED = 0
    """It was None and is a tensor now."""
    ACCUMULATED = 1
    """It was added to, in place or not."""
    UNTOUCHED = 2
    """It required grad and was there before, and stayed as it was."""
    MISSING = 3
    """It required grad, and its ``.grad`` is None after the pass."""


class Gradient(NamedTuple):
    """What one backward pass did for one leaf (or one tensor that retains its grad).

    A leaf that was frozen since (``requires_grad_(False)``) has a row as well: ``changes`` say so.
    """

    op: _Op
    tensor: _Tensor
    outcome: Annotated[int, OneOf(GradOutcome)]
    """:class:`GradOutcome`"""
    grad: _MaybeTensor
    """The gradient (a tensor), or NONE."""
    nbytes: _Large
    """Bytes newly allocated for the gradient: 0 when it was accumulated in place."""


class Backward(NamedTuple):
    """A root of a backward pass (one row a root; autograd.grad as well)."""

    op: _Op
    root: _Tensor
    """The tensor that the pass started from."""
    node: _MaybeNode
    """Its ``grad_fn`` then."""
    retain_graph: _Truth
    create_graph: _Truth


class BindingKind(IntEnum):
    """How a name was seen to hold a tensor."""

    LOAD = 0
    """The statement of the op reads it."""
    STORE = 1
    """The statement of the op stores it: seen at the frame's next op, or at the end."""
    MEMBER = 2
    """Part of an object that a name holds: ``model.fc.weight``, ``params[0]``, ``batch['x']``."""


class Binding(NamedTuple):
    """A name in the user's code that was seen, by identity, to hold a tensor."""

    name: _Text
    """Text: ``b``, ``model.fc.weight``, ``self.weight``."""
    tensor: _Tensor
    op: _OpOrEnd
    """The op whose statement names it (for STORE: the last op of the storing statement); the number of ops for names
    found at the end of the run."""
    span: _MaybeSpan
    """A span of that statement, or NONE for names found at the end of the run."""
    kind: Annotated[int, OneOf(BindingKind)]
    """:class:`BindingKind`"""


class Error(NamedTuple):
    """An op that raised."""

    op: _Op
    type_name: _Text
    message: _Text


class Value(NamedTuple):
    """A small CPU tensor's printed value after an op (only with ``--values``)."""

    op: _Op
    tensor: _Tensor
    text: _Text


class FingerprintKind(IntEnum):
    """What a fingerprint is of."""

    RESULT = 0
    """A tensor that an op gave or changed, as it was then."""
    INPUT = 1
    """A tensor that an op was given and that no op before it gave: where a run starts from."""
    GRADIENT = 2
    """The gradient that a leaf (``row``) has after a pass."""
    NODE = 3
    """What a node gave in a pass; one row for each of its inputs, in order."""


_Fingerprinted = Annotated[
    int,
    ByKind("kind", {kind: RowOf("nodes" if kind is FingerprintKind.NODE else "tensors") for kind in FingerprintKind}),
]


class Fingerprint(NamedTuple):
    """By what two runs are compared (only with ``--fingerprints``)."""

    op: _Op
    kind: Annotated[int, OneOf(FingerprintKind)]
    """:class:`FingerprintKind`"""
    row: _Fingerprinted
    """The tensor, or the node."""
    digest: _Large
    """Of all bits; each element's place counts."""
    norm: _Large
    """The 2-norm: the bits of a double, as a signed number."""
    bad: _Large
    """Elements that are NaN or infinite."""


class Watch(NamedTuple):
    """What a watched expression gave after a statement."""

    expression: _Text
    """Text, as the user wrote it."""
    op: _OpOrEnd
    """The number of ops seen when it was evaluated."""
    line: _Number
    """The line of the statement after which it was evaluated."""
    file: Annotated[int, RowOf("files", optional=True)]
    text: _Text
    """``repr`` of the value (or of the error, see ``failed``), cut to one line."""
    tensor: _MaybeTensor
    """The tensor that it gave, else NONE."""
    failed: _Truth
    """1 when it raised."""


class Memory(NamedTuple):
    """The device allocator's own figures, after an op (CUDA only; CPU has no such figures)."""

    op: _OpOrEnd
    device: _Text
    """Text: ``cuda:0``"""
    allocated: _Large
    peak: _Large


class SpanCount(NamedTuple):
    """How often a span ran, and what it cost, where ``--max-ops`` left single ops out."""

    span: _MaybeSpan
    func: _Text
    left_out: _Number
    """Ops of this span and function that were left out."""


class Alike(NamedTuple):
    """An op that stands for others: they were recorded, were like it in every respect, and were taken out.

    Only addresses and version counters differed. They came after it, and before what differs from them.
    """

    op: _Op
    times: _Number
    """How many others it stands for."""


class AlikeStorage(NamedTuple):
    """A storage that lived at the end and stands for others that did, which were taken out with their ops."""

    storage: Annotated[int, RowOf("storages")]
    times: _Number
    """How many others it stands for."""


class Event(NamedTuple):
    """Something at torch's Python API that is no call of a torch function, put down to the user's line."""

    op: _OpOrEnd
    """The number of ops seen before it."""
    kind: Annotated[int, OneOf(EventKind)]
    """:class:`EventKind`"""
    span: _MaybeSpan
    """Where the user's code was; NONE when no user frame was on the stack."""
    thread: Annotated[int, Number("H")]
    subject: _Number
    """Which object it is about: a number that events of one kind about the same object share."""
    detail: _Text
    """Text: a JSON object whose keys depend on the kind."""


class EventTensor(NamedTuple):
    """A tensor that an event is about, in order."""

    event: Annotated[int, RowOf("events")]
    tensor: _Tensor


class Module(NamedTuple):
    """A module that was seen at work, or is part of one."""

    op: _Op
    """The first op that was seen to run in it, or in the module that it was found with."""
    parent: Annotated[int, RowOf("modules", optional=True), LATE]
    """The module that it is part of."""
    name: Annotated[int, Text(), LATE]
    """What the parent calls it: ``0``, ``q_proj``; empty for one that a wrapper stands for (``module`` of DDP), and
    for one that is part of no other."""
    kind: _Text
    """Text: the name of its class."""
    span: Annotated[int, RowOf("spans", optional=True), LATE]
    """Where the user's code called it, itself or through a library, when it was first met; NONE: it was not called."""


class ModuleTensor(NamedTuple):
    """A parameter of a module's own."""

    module: Annotated[int, RowOf("modules")]
    tensor: _Tensor
    name: _Text
    """Text: ``weight``"""


class ModuleOp(NamedTuple):
    """An op that ran in a module. Ops are looked at as long as instructions or modules are new: the first pass through
    each model, and some of the next."""

    op: _Op
    module: Annotated[int, RowOf("modules")]
    """The innermost module."""
