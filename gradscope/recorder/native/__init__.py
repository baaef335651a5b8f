"""The hot path in C: an option, built where there is a compiler; see :mod:`gradscope.recorder.calls.core`."""
