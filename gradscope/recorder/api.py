"""``gradscope.record()``: a recording without a command line."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from gradscope.frames.own_packages import NO_PACKAGES, is_own
from gradscope.recorder.session import Recorder
from gradscope.recording import Recording


@contextmanager
def record(*, values: bool = False, max_ops: int | None = None, every_op: bool = False) -> Iterator[Recording]:
    """Record what autograd does in the block, in this thread and in the threads started in it.

    The user's code is the caller's file, and what lies beside it and in its project. The recording is complete when the
    block ends, also when it ends by an exception. Blocks may be nested, and used in several threads at once: each sees
    the ops of its own thread and of the threads that were started while it was open.

    Args:
        values: Record the printed values of small CPU tensors.
        max_ops: Keep at most so many single ops.
        every_op: Keep them all up to there. Without, what comes again alike is counted, and not kept, from 12 MB
            (some 80,000 ops) on.

    Example:
        >>> with gradscope.record() as recording:  # doctest: +SKIP
        ...     loss = model(x).sum()
        ...     loss.backward()
        >>> len(recording.ops)  # doctest: +SKIP
        2
    """
    frame = sys._getframe(2)
    while frame.f_code.co_filename == contextlib.__file__ and frame.f_back is not None:  # an ExitStack of the user's
        frame = frame.f_back
    with recorded_from(frame, values=values, max_ops=max_ops, every_op=every_op) as recording:
        yield recording


@contextmanager
def recorded_from(
    frame: FrameType, *, values: bool = False, max_ops: int | None = None, every_op: bool = False
) -> Iterator[Recording]:
    """Record a block that is in the middle of a frame's code; see :func:`record`."""
    filename = frame.f_code.co_filename
    folder = str(Path(filename).parent)

    def is_user(name: str) -> bool:
        return name == filename or is_own(name, folder, NO_PACKAGES)

    recorder = Recorder(is_user=is_user, values=values, max_ops=max_ops, every_op=every_op, begun_at=frame)
    recorder.recording.info.kind = "api"
    recorder.recording.info.target = filename
    recorder.start()
    outcome = recorder.recording.info.outcome
    try:
        yield recorder.recording
        outcome.kind = "ok"
    except BaseException as error:
        outcome.kind, outcome.error_type, outcome.message = "exception", type(error).__qualname__, str(error)
        raise
    finally:
        recorder.stop(frame.f_locals)
