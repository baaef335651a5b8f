"""What autograd can raise (torch 2.13 to 2.15), and who explains it: a diagnosis, a sentence here, or torch itself.

Texts are parts of torch's messages: of its Python (``torch/autograd``, ``torch/utils/checkpoint.py``, ``torch/optim``)
and of its C++ (``torch/csrc/autograd``, what derivatives check). The first entry whose text is in a message is its own.
What only says that torch itself has a bug ("INTERNAL ASSERT FAILED") or that the call's arguments are malformed (a
string where a tensor belongs) is not listed.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class Where(Enum):
    """The line that one changes first."""

    HERE = 1
    """The one that raised."""
    MADE = 2
    """The one that made what the call was given, then the one that raised."""
    FORWARD = 3
    """The one of the operation whose gradient is missing; ``looks_for`` has its names."""
    HOOK = 4
    """The one that registered a hook."""
    CHECKPOINT = 5
    """The one that calls ``checkpoint``."""
    FUNCTION = 6
    """One in a custom Function: that which has ``looks_for`` in its source."""
    TEXT = 7
    """The only one of the program that has ``looks_for`` in its source."""
    NODE = 8
    """The one of the operation whose node the message names."""
    ITERATOR = 9
    """The one that makes the iterator which the call is given: it was gone through before."""
    CLOSURE = 10
    """The function that an optimizer's step is given, which returns nothing; else the message is another's."""


class Explained(NamedTuple):
    """A message for which there is a sentence here."""

    text: str
    why: str
    """What is wrong, to follow a colon."""
    advice: str
    where: Where = Where.HERE
    looks_for: tuple[str, ...] = ()


BY_DIAGNOSES: dict[str, tuple[str, ...]] = {
    "a view of a leaf Variable that requires grad is being used in an in-place": ("inplace-refused",),
    "a leaf Variable that requires grad is being used in an in-place": ("inplace-refused",),
    "A view was created in no_grad mode": ("inplace-refused",),
    "A view was created in inference mode": ("inplace-refused",),
    "function that returns multiple views": ("inplace-refused",),
    "This view was created inside a custom Function": ("inplace-refused",),
    "refers to a single memory location": ("inplace-refused",),
    "has been modified by an inplace operation": ("inplace-error",),
    "backward through the graph a second time": ("graph-used-twice",),
    "does not require grad and does not have a grad_fn": ("backward-no-grad",),
    "grad can be implicitly created only for": ("backward-not-scalar",),
    "appears to not have been used in the graph": ("asked-for-gradient", "grad-of-other-view"),
    "of the differentiated Tensors does not require grad": ("asked-for-gradient",),
    "cannot register a hook on a tensor that doesn't require gradient": ("asked-for-gradient",),
    "can't retain_grad on Tensor that has requires_grad=False": ("asked-for-gradient",),
    "Mismatch in shape: grad_output[": ("gradient-does-not-fit",),
    "attempting to assign a gradient": ("gradient-does-not-fit",),
    "returned an invalid gradient": ("gradient-does-not-fit",),
    "returned an incorrect number of gradients": ("gradient-does-not-fit",),
    "returned a gradient different than None": ("gradient-does-not-fit",),
    "nly Tensors of floating point": ("cannot-require-grad",),
    "you can only change requires_grad flags of leaf variables": ("cannot-require-grad",),
    "Only Tensors created explicitly by the user": ("deepcopy-of-result",),
    "numpy() on Tensor that requires grad": ("tracked-refused",),
    "arguments don't support automatic differentiation": ("tracked-refused",),
    "Inference tensors cannot be saved for backward": ("inference-tensor",),
    "Inplace update to inference tensor outside InferenceMode": ("inference-tensor",),
    "Setting requires_grad=True on inference tensor": ("inference-tensor",),
    "_backward is not implemented": ("no-second-derivative",),
    "floor_divide is not implemented": ("no-derivative",),
    "does not currently support double backward": ("compiled-backward",),
    "compiled with non-empty donated buffers": ("compiled-backward",),
}
"""Messages that diagnoses of their own explain, by the codes of these."""

EXPLAINED: tuple[Explained, ...] = (
    Explained(
        "saved tensor that has been detached in-place",
        "detach_() took the graph from a tensor that the pass needs",
        "Use the result of detach(), which leaves the tensor itself as it is.",
        Where.FORWARD,
        ("Tensor.detach_",),
    ),
    Explained(
        "a leaf Variable that requires grad has been used in an in-place operation",
        "its forward writes its input (mark_dirty), and the input is a leaf that requires grad",
        "Hand over a clone() of the leaf, or write a new tensor in forward.",
    ),
    Explained(
        "cannot resize variables that require grad",
        "a tensor that requires grad cannot change its shape in place",
        "Make a new tensor of the shape (new_zeros, cat, a slice), and a new parameter of it.",
    ),
    Explained(
        "data set to a tensor that requires gradients must be floating point",
        "a tensor that requires grad was to get values that are no floating point numbers",
        "Convert them first: values.to(tensor.dtype).",
        Where.MADE,
    ),
    Explained(
        "post accumulate grad hooks cannot be registered on non-leaf tensors",
        "such a hook runs when .grad of a leaf is filled, and this is a result of an operation",
        "Use register_hook, or register it on the leaf.",
    ),
    Explained(
        "but hook returned",
        "a hook gave something other than a tensor or None for its gradient",
        "Return the new gradient, or nothing.",
        Where.HOOK,
    ),
    Explained(
        "has changed the size of value",
        "a hook gave a gradient of another shape than it was given",
        "Return one of the shape of the gradient.",
        Where.HOOK,
    ),
    Explained(
        "has changed the type of value",
        "a hook gave a gradient of another dtype or device than it was given",
        "Return one like the gradient: result.to(grad).",
        Where.HOOK,
    ),
    Explained(
        "can't replace a None gradient with a non-None value",
        "a hook gave a gradient where there was none",
        "Return None for what the hook is given None for.",
        Where.HOOK,
    ),
    Explained(
        "Backward hook returned an invalid number of grad_input",
        "a full backward hook gave another number of gradients than the module has inputs",
        "Return one for each positional input of the module, in a tuple, or nothing.",
        Where.HOOK,
    ),
    Explained(
        "assigned grad expected to be a Tensor or None",
        ".grad was to be something other than a tensor",
        "Make it a tensor: torch.full_like(parameter, value).",
    ),
    Explained(
        "`inputs` argument to `",
        "it was asked for the gradients of nothing at all",
        "Is the list of inputs an iterator (parameters(), a generator) that was gone through before? Make it a list.",
        Where.ITERATOR,
    ),
    Explained(
        "backward() called inside a functorch transform",
        "inside torch.func.grad, vjp or vmap gradients do not go into .grad",
        "Return the loss, and let torch.func.grad compute its gradient.",
    ),
    Explained(
        "You are attempting to call Tensor.requires_grad_() (or perhaps using",
        "inside torch.func transforms requires_grad does not say what is differentiated",
        "Make the tensor an argument of the function, and name it in argnums.",
    ),
    Explained(
        "Expected f(*args) to return a",
        "torch.func.grad differentiates functions that return one number as a tensor",
        "Return a tensor without dimensions (sum(), mean(), no item()), or use jacrev for several values.",
    ),
    Explained(
        "save_for_backward can only save variables",
        "its forward hands save_for_backward something other than a tensor",
        "Keep plain values as attributes: ctx.factor = factor.",
        Where.FUNCTION,
        ("save_for_backward(",),
    ),
    Explained(
        "Some elements marked as dirty during the forward method were not returned",
        "its forward marks a tensor as written in place and does not return that one",
        "Return the tensor that was written, or do not write it.",
        Where.FUNCTION,
        ("mark_dirty(",),
    ),
    Explained(
        "Only input Tensors should be given to ctx.mark_dirty",
        "its forward marks as written in place what is none of its inputs",
        "Leave mark_dirty out: what forward makes is new.",
        Where.FUNCTION,
        ("mark_dirty(",),
    ),
    Explained(
        "You must implement either the backward or vjp method",
        "a custom Function has no backward",
        "Write one: it gets the gradient of each result, and returns one for each argument of forward.",
        Where.TEXT,
        ("Function):",),
    ),
    Explained(
        "You must implement the forward function for custom",
        "a custom Function has no forward",
        "Write one as a static method, with ctx as its first argument.",
        Where.TEXT,
        ("Function):",),
    ),
    Explained(
        "Legacy autograd function with non-static forward",
        "the Function's forward and backward are no static methods",
        "Put @staticmethod above both, give them ctx as first argument, and call Function.apply.",
        Where.TEXT,
        ("Function):",),
    ),
    Explained(
        "trying to differentiate twice a function that was marked with @once_differentiable",
        "the backward of a custom Function is marked as one that cannot be differentiated itself",
        "Take the mark away, if its backward uses torch functions only.",
        Where.TEXT,
        ("once_differentiable",),
    ),
    Explained(
        "The QR decomposition is not differentiable when mode='complete'",
        "the complete QR of a matrix with more rows than columns has no derivative",
        "Use mode='reduced'.",
        Where.FORWARD,
        ("linalg.qr", "linalg_qr", "torch.qr", "Tensor.qr"),
    ),
    Explained(
        "The derivative of linalg.qr depends on Q",
        "mode='r' leaves out Q, which the gradient needs",
        "Use mode='reduced'.",
        Where.FORWARD,
        ("linalg.qr", "linalg_qr", "torch.qr", "Tensor.qr"),
    ),
    Explained(
        "specified up to multiplication by e^{i phi}",
        "the loss depends on the phase of singular vectors or eigenvectors, which is arbitrary",
        "Compute the loss from what does not depend on it: singular values, or products of a vector with itself.",
        Where.FORWARD,
        ("svd", "eig"),
    ),
    Explained(
        "scale_grad_by_freq not supported with sparse gradients",
        "an embedding was made with both scale_grad_by_freq and sparse",
        "Leave one of them out.",
        Where.TEXT,
        ("scale_grad_by_freq",),
    ),
    Explained(
        "does not support sparse gradients",
        "an embedding with sparse=True gives gradients that this optimizer cannot apply",
        "Use SparseAdam or SGD for it, or leave sparse=True out.",
        Where.TEXT,
        ("sparse=True",),
    ),
    Explained(
        "When use_reentrant=True, torch.utils.checkpoint is incompatible with .grad()",
        "a checkpoint with use_reentrant=True runs a backward of its own, which autograd.grad and inputs= do not allow",
        "Call checkpoint with use_reentrant=False.",
        Where.CHECKPOINT,
    ),
    Explained(
        "A different number of tensors was saved during the original forward and recomputation",
        "the checkpointed function did something else when it was run again",
        "It must do the same both times: nothing that counts its calls, caches, or depends on a mode or on chance.",
        Where.CHECKPOINT,
    ),
    Explained(
        "Recomputed values for the following tensors have different metadata",
        "the checkpointed function gave tensors of another shape or dtype when it was run again",
        "It must do the same both times: the same batch, autocast, and train() or eval().",
        Where.CHECKPOINT,
    ),
    Explained(
        "trying to save more tensors during recomputation",
        "the checkpointed function saved more when it was run again than at first",
        "It must do the same both times, also where it was run without gradients before.",
        Where.CHECKPOINT,
    ),
    Explained(
        "none of output has requires_grad=True, this checkpoint() is not necessary",
        "nothing that the checkpointed function computes requires grad",
        "Give it an input that requires grad, or call checkpoint with use_reentrant=False.",
        Where.CHECKPOINT,
    ),
    Explained(
        "saved tensor unpack_hook expected to be a Tensor",
        "the second of a pair of saved_tensors_hooks gave something other than a tensor",
        "It has to turn what the first one gave back into the tensor.",
        Where.TEXT,
        ("saved_tensors_hooks(",),
    ),
    Explained(
        "A saved tensor pack hook is modifying its input in place",
        "the first of a pair of saved_tensors_hooks writes the tensor that it is to keep",
        "Let it make a new one.",
        Where.TEXT,
        ("saved_tensors_hooks(",),
    ),
    Explained(
        "returned nan values in its",
        "anomaly mode found the first NaN of the backward pass in the gradient of this operation",
        "Keep its input away from where the derivative is infinite or undefined (clamp, eps, where on the input).",
        Where.NODE,
    ),
    Explained(
        "can't optimize a non-leaf Tensor",
        "it was given the result of an operation, which no optimizer can change",
        "Give it the leaf that the result was made from, or make the result a leaf: detach().requires_grad_().",
        Where.MADE,
    ),
    Explained(
        "float() argument must be a string or a real number, not 'NoneType'",
        "the optimizer asks its closure for the loss, and the closure returns nothing",
        "End it with: return loss.",
        Where.CLOSURE,
    ),
    Explained(
        "optimizer got an empty parameter list",
        "it was given no parameters",
        "Is the argument an iterator that was gone through before (make it a list), does a choice by names match none, "
        "or does the module keep its layers in a plain list?",
        Where.ITERATOR,
    ),
    Explained(
        "params argument given to the optimizer should be an iterable",
        "it was given a tensor in place of a list of tensors",
        "Put it into a list: [tensor].",
    ),
    Explained(
        "optimizer can only optimize Tensors",
        "it was given something other than tensors",
        "Give it parameters: model.parameters(), or a list of tensors.",
    ),
    Explained(
        "some parameters appear in more than one parameter group",
        "a parameter is in two of its groups",
        "Leave it out of one: filter by identity (id), as == compares values.",
    ),
    Explained(
        "(torch.nn.Parameter or None",
        "a parameter of a module was to become a plain tensor",
        "Wrap it (nn.Parameter(…)) if it is to be trained anew, or write into the parameter under no_grad: copy_().",
    ),
    Explained(
        "Cannot use both regular backward hooks and full backward hooks",
        "the module has a hook of the old kind (register_backward_hook) already",
        "Use register_full_backward_hook for both.",
        Where.TEXT,
        (".register_backward_hook(",),
    ),
    Explained(
        "on Variable that requires grad. Use var.detach()",
        "map_ and apply_ run Python on each element, which autograd does not follow",
        "Use detach() where no gradient is to come back, or torch's own functions.",
    ),
    Explained(
        "is not infinitely differentiable",
        "a second derivative was asked for of a pooling that has only one",
        "Call it with return_indices=True, whose backward can be differentiated.",
        Where.FORWARD,
        ("max_pool",),
    ),
    Explained(
        "In-place leakyReLu backward calculation is triggered with a negative slope",
        "a leaky ReLU in place cannot be undone with a negative slope",
        "Use inplace=False.",
        Where.FORWARD,
        ("leaky_relu",),
    ),
)
"""Messages for which there is a sentence here, the more special texts first."""

SAYS_ITSELF: tuple[str, ...] = (
    "Expected allow_unused to be True or not passed when materialize_grads=True",
    "`grad_tensors` and `grad_variables` (deprecated) arguments both passed",
    "gradients can be either Tensors or None",
    "of gradients tuple is not a Tensor or None",
    "of gradients tuple is None, but the corresponding",
    "of tensors tuple is neither a Tensor nor a GradientEdge",
    "For complex Tensors, both grad_output and output are required to have the same dtype",
    "If `is_grads_batched=True`, we interpret the first dimension",
    "Batched grads are not supported with",
    "materialize_grads cannot be used when the given input is a GradientEdge",
    "Please call autograd.grad() outside torch.vmap",
    "A leaf node was passed to _will_engine_execute_node",
    "should only be called during the backward pass",
    "Final callbacks can only be installed during backward pass",
    "Unable to handle autograd's threading in combination with fork-based multiprocessing",
    "leaf variable has been moved into the graph interior",
    "saved_tensors can only be accessed once when clear_saved_tensors_on_access=True",
    "Calling register_hooks on a saved tensor",
    "Invalid index, no hook at position",
    "Inference tensors do not track version counter",
    "Cannot set version_counter for inference tensor",
    "on a tensor that does not have a version counter",
    "grad_dtype can only be",
    "because there is already a gradient with dtype",
    "requires_grad must be a bool",
    "Implementing both 'backward' and 'vjp' for a custom Function is not allowed",
    "You must implement the jvp function for custom autograd.Function",
    "must override the setup_context staticmethod",
    "mark_non_differentiable only accepts variable arguments",
    "save_for_forward expects all arguments to be tensors",
    "PyTorch reserves the",
    "Function's jvp returned",
    "must either override the vmap staticmethod or set generate_vmap_rule=True",
    "is not differentiable with respect to argument",
    "which does not have a derivative implemented is forbidden",
    "an autograd kernel was not registered to the Autograd key(s)",
    "Trying to use forward AD with",
    "forward AD level",
    "Trying to create a dual Tensor for forward AD but no level exists",
    "forward grad",
    "Nested forward mode AD is not supported",
    "allowed in strict mode",
    "when running in strict mode",
    "The vector v can only be None if",
    "function given to h",
    "GradcheckError",
    "Unpack is being triggered for a tensor that was already unpacked once",
    "encountered during backward but not found in storage",
    "Tensor cached during selective activation checkpoint has been mutated",
    "You are only allowed to backward once on any region computed under selective activation checkpoint",
    "has been marked as ready twice",
    "Expected to have finished reduction in the prior iteration",
    "weight_decay option is not compatible with sparse gradients",
    "LBFGS.step() missing 1 required positional argument",
    "must match the size of tensor",
)
"""Messages that name the line's own fault, or that come from what only their author can change."""


def explained(message: str) -> Explained | None:
    """The sentence for a message; None where a diagnosis of its own explains it, or torch does, or it is unknown."""
    if any(text in message for text in BY_DIAGNOSES):
        return None
    return next((one for one in EXPLAINED if one.text in message), None)
