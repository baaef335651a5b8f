"""Small programs on which ``python`` and ``gradscope run --quiet`` must not differ; name -> source."""

from __future__ import annotations

PLAIN = {
    "arguments": "import sys; print(sys.argv, sys.path[0], sys.orig_argv[1:]); print(sys.argv[1:])",
    "module_attributes": """
        import sys
        print({name: value for name, value in globals().items() if name not in ('__builtins__', '__loader__', 'sys')})
        print(type(__loader__), type(__builtins__), sys.modules['__main__'].__dict__ is globals(), list(globals()))
        print(sys.getrecursionlimit() >= 1000, [type(finder) for finder in sys.meta_path if 'gradscope' in repr(finder)][1:])
        """,
    "main_check": """
        def main():
            print('main', __name__)
        if __name__ == '__main__':
            main()
        """,
    "import_beside": "import beside; print(beside.VALUE, beside.__file__)",
    "shadows_a_library": "import rich; print(rich.VALUE)",
    "shadows_the_standard_library": "import colorsys; print(colorsys.VALUE)",
    "library_not_imported": "import sys; print([name for name in ('typer', 'rich', 'torch') if name in sys.modules])",
    "pickle": """
        import pickle
        class Point:
            def __init__(self, x): self.x = x
        print(pickle.loads(pickle.dumps(Point(3))).x, pickle.dumps(Point))
        """,
    "traceback": """
        def outer(x):
            return inner(x) + 1
        def inner(x):
            return 1 / x
        print('before')
        outer(0)
        """,
    "chained": """
        def f():
            try:
                {}['missing']
            except KeyError as error:
                raise ValueError('second') from error
        try:
            f()
        except ValueError:
            [][1]
        """,
    "printed_traceback": """
        import traceback, logging, sys
        def f():
            raise RuntimeError('in f')
        try:
            f()
        except RuntimeError:
            traceback.print_exc()
            logging.exception('logged')
            print(traceback.format_exc())
        traceback.print_stack()
        print(traceback.format_stack(), file=sys.stderr)
        print([entry.name for entry in traceback.extract_stack()])
        """,
    "own_syntax_error": "exec('a b')",
    "import_syntax_error": "import broken_beside",
    "import_raises": "import raises_beside",
    "missing_import": "import no_such_module_anywhere",
    "exit_none": "import sys; print('x'); sys.exit()",
    "exit_zero": "raise SystemExit(0)",
    "exit_number": "import sys; sys.exit(7)",
    "exit_negative": "import sys; sys.exit(-1)",
    "exit_large": "import sys; sys.exit(256 + 3)",
    "exit_huge": "import sys; sys.exit(2 ** 70)",
    "exit_true": "import sys; sys.exit(True)",
    "exit_text": "import sys; print('out'); sys.exit('a message')",
    "exit_object": "import sys; sys.exit([1, 2])",
    "exit_in_function": "def f():\n    exit(4)\nf()",
    "interrupt": "print('x'); raise KeyboardInterrupt",
    "interrupt_signal": "import os, signal, time; os.kill(os.getpid(), signal.SIGINT); time.sleep(600)",
    "interrupt_subclass": "class Mine(KeyboardInterrupt): pass\nraise Mine('x')",
    "terminated": "import os, signal, time; print('lost'); os.kill(os.getpid(), signal.SIGTERM); time.sleep(600)",
    "hung_up": "import os, signal, time; os.kill(os.getpid(), signal.SIGHUP); time.sleep(600)",
    "killed": "import os, signal, time; os.kill(os.getpid(), signal.SIGKILL); time.sleep(600)",
    "aborted": "import os; os.abort()",
    "own_signal_handler": """
        import os, signal, sys, time
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(f'handled {number}'))
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(600)
        """,
    "end_of_input": "input()",
    "value_error": "raise ValueError('x')",
    "exception_group": """
        import sys
        if sys.version_info >= (3, 11):
            raise ExceptionGroup('many', [ValueError(1), TypeError(2)])
        """,
    "excepthook": """
        import sys
        sys.excepthook = lambda kind, error, trace: print('hook', kind, error, trace.tb_frame.f_code.co_name, trace.tb_next)
        raise ValueError('x')
        """,
    "excepthook_raises": """
        import sys
        def hook(kind, error, trace):
            raise TypeError('in the hook')
        sys.excepthook = hook
        raise ValueError('x')
        """,
    "excepthook_exits": """
        import sys
        sys.excepthook = lambda *details: sys.exit(9)
        raise ValueError('x')
        """,
    "warnings": """
        import warnings
        def f():
            warnings.warn('first')
            warnings.warn('caller', stacklevel=2)
            warnings.warn('beyond', stacklevel=3)
            warnings.warn('far beyond', DeprecationWarning, stacklevel=9)
        for _ in range(2):
            f()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            warnings.warn('caught', stacklevel=2)
        print([str(item.message) for item in caught])
        """,
    "syntax_warning": "x = 1\nprint(x is 1)",
    "atexit": """
        import atexit
        atexit.register(print, 'first registered')
        @atexit.register
        def fails():
            1 / 0
        atexit.register(print, 'last registered')
        print('end')
        """,
    "atexit_after_error": "import atexit; atexit.register(print, 'bye')\nraise ValueError('x')",
    "threads": """
        import threading, time
        def work():
            time.sleep(0.2)
            print('worker ends')
        threading.Thread(target=work).start()
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
        print('main ends')
        """,
    "thread_error": """
        import threading
        def work():
            raise ValueError('in a thread')
        thread = threading.Thread(target=work, name='worker')
        thread.start()
        thread.join()
        """,
    "executor": """
        from concurrent.futures import ThreadPoolExecutor
        pool = ThreadPoolExecutor(2)
        print(sorted(pool.map(abs, [-1, -2])))
        """,
    "exit_at_once": "import os, sys; print('lost'); sys.stderr.write('kept'); os._exit(5)",
    "fork": """
        import os, sys, atexit
        atexit.register(print, 'exit function')
        sys.stdout.flush()
        child = os.fork()
        if child:
            os.waitpid(child, 0)
        print('parent' if child else 'child')
        if not child:
            raise ValueError('in the child')
        """,
    "fork_exit": """
        import os
        child = os.fork()
        if not child:
            os._exit(3)
        print(os.WEXITSTATUS(os.waitpid(child, 0)[1]))
        """,
    "fork_terminated": """
        import os, signal, time
        child = os.fork()
        if not child:
            time.sleep(60)
        os.kill(child, signal.SIGTERM)
        print(os.WTERMSIG(os.waitpid(child, 0)[1]))
        """,
    "spawn": """
        import multiprocessing
        def work(x):
            return x + 1
        if __name__ == '__main__':
            with multiprocessing.get_context('spawn').Pool(1) as pool:
                print(pool.map(work, [1, 2]))
        """,
    "fork_pool": """
        import multiprocessing
        def work(x):
            return x + 1
        if __name__ == '__main__':
            with multiprocessing.get_context('fork').Pool(1) as pool:
                print(pool.map(work, [1, 2]))
        """,
    "child_process": "import subprocess; subprocess.run(['echo', 'from a child'], check=True)",
    "long_output": "for i in range(200_000):\n    print('0123456789' * 5)",
    "closes_stdout": "import sys; print('x'); sys.stdout.close()",
    "closes_descriptor": "import os; os.close(1); print('x')",
    "replaces_stdout": "import io, sys; sys.stdout = io.StringIO(); print('x')",
    "first_descriptor": "print(open('beside.py').fileno())",
    "finalizer": """
        class Loud:
            def __del__(self): print('deleted')
        loud = Loud()
        print('end')
        """,
    "finalizer_with_globals": """
        import json
        class Loud:
            def __del__(self): print(json.dumps(VALUE))
        VALUE = [1]
        loud = Loud()
        """,
    "exit_object_that_raises": """
        import sys
        class Bad:
            def __str__(self): raise ValueError
        sys.exit(Bad())
        """,
    "exit_at_once_wrongly": "import os\ntry: os._exit('a')\nexcept TypeError as error: print(error, error.__context__)\nos._exit(5)",
    "recursion": "def f(n):\n    return f(n + 1)\nf(0)",
    "recursion_depth": """
        def f(n):
            try:
                return f(n + 1)
            except RecursionError:
                return n
        print(f(0))
        """,
    "recursion_limit": """
        import sys
        def f(n):
            try:
                return f(n + 1)
            except RecursionError:
                return n
        print(sys.getrecursionlimit())
        for limit in (500, 2000):
            sys.setrecursionlimit(limit)
            print(sys.getrecursionlimit(), f(0))
        for wrong in (1, 0, "many", 2**31, 2**31 - 5):
            try:
                print(sys.setrecursionlimit(wrong))
            except (RecursionError, ValueError, TypeError, OverflowError) as error:
                print(type(error), error)
        """,
    "syntax_error": "x = (1,\nprint(x\n",
    "indentation_error": "def f():\n    return 1\n  x = 2\n",
    "empty": "",
    "only_comment": "# nothing",
    "latin1": "# -*- coding: latin-1 -*-\nprint('caf\xe9', ascii('caf\xe9'))",
    "future": "from __future__ import annotations\ndef f(x: Unknown): pass\nprint(f.__annotations__)",
    "future_does_not_leak": "def f(x: int): pass\nprint(f.__annotations__)",
    "inspect_source": "import inspect\ndef f():\n    return 1\nprint(inspect.getsource(f))",
    "standard_input": "import sys; print(sys.stdin.read())",
    "stderr_order": "import sys; print('1'); sys.stderr.write('2\\n'); print('3'); raise ValueError(4)",
    "annotations": "x: int = 1\nprint(__annotations__)",
    "environment": "import os; print([name for name in os.environ if 'GRADSCOPE' in name])",
    "hooks_in_place": """
        import sys, signal
        print(sys.excepthook is sys.__excepthook__, sys.displayhook is sys.__displayhook__, sys.gettrace(), sys.getprofile())
        print(signal.getsignal(signal.SIGINT) is signal.default_int_handler, sys.stdout is sys.__stdout__)
        """,
    "asyncio": """
        import asyncio
        async def main():
            await asyncio.sleep(0)
            raise ValueError('x')
        asyncio.run(main())
        """,
}

BESIDE = {
    "beside.py": "VALUE = 42\n",
    "colorsys.py": "VALUE = 'the colorsys beside'\n",
    "rich.py": "VALUE = 'the rich beside'\n",
    "broken_beside.py": "def (:\n",
    "raises_beside.py": "def f():\n    raise LookupError('in an import')\nf()\n",
    "package/__init__.py": "import sys\nprint('package', sys.argv)\n",
    "package/__main__.py": (
        "from package.part import VALUE\nimport sys\n"
        "print(VALUE, __name__, __package__, __spec__.name, sys.argv)\n1 / 0\n"
    ),
    "package/part.py": "VALUE = 'part'\nif __name__ == '__main__':\n    import sys\n    print(sys.argv, __file__)\n",
    "folder/__main__.py": "import sys\nimport inside\nprint(sys.argv, sys.path[0], __file__, __package__, __spec__)\n",
    "folder/inside.py": "",
}

WITH_TORCH = {
    "torch_printed_errors": """
        import os
        os.environ['OMP_NUM_THREADS'] = '3'
        import io, logging, sys, threading, traceback, warnings
        import torch
        import torch.nn.functional as F
        from torch import nn
        print(torch.get_num_threads())

        def attempt(function, *args):
            try:
                function(*args)
            except Exception as error:
                traceback.print_exc()
                print(repr(error), [entry.name for entry in traceback.extract_tb(error.__traceback__)])

        x = torch.ones(2, 3, requires_grad=True)
        def twice():
            y = (x * x).sum()
            y.backward()
            y.backward()
        def hook_raises():
            y = x * 2
            def hook(grad):
                traceback.print_stack()
                raise LookupError('in the hook')
            y.register_hook(hook)
            y.sum().backward()
        class Broken(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                return x.clone()
            @staticmethod
            def backward(ctx, grad):
                return grad[0, 100]
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = nn.Linear(4, 2)
            def forward(self, x):
                return F.relu(self.layer(x))
        class Tensor2(torch.Tensor):
            pass
        attempt(torch.matmul, x, x)
        attempt(lambda: x + torch.ones(7))
        attempt(lambda: x @ 'text')
        attempt(lambda: 'text' * x[0])
        attempt(lambda: x ** 'text')
        attempt(lambda: x.data.view(7))
        attempt(lambda: F.linear(x, torch.ones(5, 5)))
        attempt(lambda: F.dropout(x, 3.0))
        attempt(lambda: torch.einsum('ij,jk', x, x))
        attempt(lambda: torch.stack([x, torch.ones(1)]))
        attempt(lambda: x.add_(1))
        attempt(lambda: (x * 1).requires_grad_(False))
        attempt(lambda: x.item())
        attempt(lambda: x.numpy())
        attempt(lambda: bool(x))
        attempt(lambda: x.nope)
        attempt(lambda: torch.ones(3).as_subclass(Tensor2).view(9))
        attempt(lambda: torch.autograd.grad(x.sum(), torch.ones(2)))
        attempt(twice)
        attempt(hook_raises)
        attempt(lambda: Broken.apply(x).sum().backward())
        attempt(Net(), x)
        attempt(lambda: torch.optim.SGD([x], lr=-1))
        attempt(lambda: nn.Linear(4, 2).load_state_dict({}))
        def in_thread():
            torch.ones(2) + torch.ones(3)
        thread = threading.Thread(target=in_thread, name='worker')
        thread.start()
        thread.join()
        for _ in range(2):
            print((x * 2).grad)
        torch.ones(2, 2).T.T
        torch.ones(2).mT if False else None
        torch.range(0, 2)
        warnings.warn('mine', stacklevel=2)
        buffer = io.BytesIO()
        torch.save(Net(), buffer)
        buffer.seek(0)
        print(torch.load(buffer, weights_only=False), Net, Net.__module__)
        torch.manual_seed(0)
        print(torch.rand(3), x, (x * 2).grad_fn is not None)
        def last():
            F.linear(x, torch.ones(5, 5))
        last()
        """,
    "torch_workers": """
        import torch
        from torch.utils.data import DataLoader, Dataset
        class Squares(Dataset):
            def __len__(self): return 4
            def __getitem__(self, i): return torch.tensor(float(i)) ** 2
        if __name__ == '__main__':
            torch.manual_seed(0)
            for context in ('fork', 'spawn'):
                for batch in DataLoader(Squares(), batch_size=2, num_workers=1, multiprocessing_context=context):
                    print(batch)
        """,
    "torch_exit_in_hook": """
        import os, sys, torch
        x = torch.ones(2, requires_grad=True)
        y = x * 2
        def hook(grad):
            sys.stderr.write('leaving\\n')
            os._exit(9)
        y.register_hook(hook)
        y.sum().backward()
        """,
    "torch_signal_in_hook": """
        import os, signal, torch
        x = torch.ones(2, requires_grad=True)
        y = x * 2
        y.register_hook(lambda grad: os.kill(os.getpid(), signal.SIGTERM))
        y.sum().backward()
        for _ in range(1000):
            x * 2
        """,
    "torch_fork": """
        import os, sys, torch
        x = torch.ones(2, requires_grad=True)
        child = os.fork()
        if child:
            os.waitpid(child, 0)
        print('parent' if child else 'child', (x * 2).sum())
        sys.stdout.flush()
        if not child:
            x.nope
        """,
    "torch_missing_on_purpose": "import sys\nsys.modules['torch'] = None\nimport torch",
    "torch_import_fails": "import os\nos.environ['X'] = '1'\nimport sys\nsys.path.insert(0, 'fake')\nimport torch",
}
BESIDE["fake/torch/__init__.py"] = "from torch import part\n"
BESIDE["fake/torch/part.py"] = "def f():\n    raise ImportError('cannot load')\nf()\n"
