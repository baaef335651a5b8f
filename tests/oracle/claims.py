"""What a report claims of a program, each claim beside what torch says."""

from __future__ import annotations

import ast
import re
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import pairwise
from typing import Any

import torch

from .answer_checks import checked_answers
from .claim import Claim, equal
from .naming import DEPTH, Path, path_of
from .number_checks import checked_numbers
from .reruns import roots_change, with_values_as_saved, without_cuts
from .witness import Moment, Pass, State, Witness, walk

MANY_PASSES = 8
"""Passes from one line of which all are looked into."""
ALIKE = 3
"""Leaves of one pass for which the same reason is tried: each trial is a run of the program or more."""

_SOME_RUNS = re.compile(r"requires_grad in ([\d,]+) of ([\d,]+) runs")
_INSIDE = "ran inside backward ("
_RUNS_AGAIN = re.compile(r"([\d,]+) of ([\d,]+) runs inside backward")
_CHOICE = ".argmax("
"""What comes of an index may stay as it is for most values: a root that did not change with some says nothing then."""
_REGION = re.compile(r"\btorch\.(no_grad|inference_mode|set_grad_enabled)\(")
_MAY_WRITE_THE_SAME = re.compile(r"(F|torch)\.batch_norm|\w+\.step")
"""Calls that write past the version counter: statistics of zeros, or a step by a gradient of zeros, change nothing."""

_OF_VALUES = ("gradient-always-zero", "layer-died")
"""Codes of what may come of the values with which a healthy program begins; each has a check of its own."""


def _shares_memory(tensor: torch.Tensor, one: Pass) -> bool:
    """Whether another leaf that has a name lies on a tensor's memory."""
    storage = tensor.untyped_storage()._cdata
    return any(
        other is not tensor and other.is_leaf and other.untyped_storage()._cdata == storage
        for other in one.names.values()
    )


class Judge:
    """Compares a report (as JSON types) with what a witness saw.

    Args:
        source: The program.
        report: What gradscope says of it.
        healthy: Whether the program does only what it means to: no problem and no warning is due.
    """

    def __init__(self, source: str, report: dict[str, Any], healthy: bool = False) -> None:
        self._source = source
        self._report = report
        self._healthy = healthy
        self.seen = Witness(source)
        self._uncut: dict[frozenset[int], Witness] = {}
        nodes = list(ast.walk(ast.parse(source)))
        statements = [node for node in nodes if isinstance(node, ast.stmt)]
        self._simple = {node.lineno for node in statements if not hasattr(node, "body")}
        """Lines of statements that hold no others."""
        begins = Counter(node.lineno for node in statements)
        self._crowded = {line for line, count in begins.items() if count > 1}
        """Lines on which several statements begin: what is said there may be of any of them."""
        given = [one for one in statements if isinstance(getattr(one, "value", None), ast.Lambda)]
        self._returns = {node.lineno for node in statements if isinstance(node, ast.Return) or node in given}
        """Lines whose result has its name in another frame, later."""
        inner = [node for node in nodes if isinstance(node, (ast.ListComp, ast.DictComp, ast.GeneratorExp, ast.Lambda))]
        self._inner_names = {
            name.id if isinstance(name, ast.Name) else name.arg
            for node in inner
            for name in ast.walk(node)
            if isinstance(name, ast.arg) or (isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store))
        }
        """Names of comprehensions and lambdas, whose frames the witness does not see."""

    def claims(self) -> Iterator[Claim]:
        """Every claim of the report that this oracle understands."""
        yield from self._end()
        yield from self._passes()
        yield from self._rows()
        yield from self._cuts()
        yield from self._writes()
        yield from self._shared_memory()
        yield from self._graphs()
        yield from self._memory()
        yield from self._answers()
        yield from checked_answers(self.seen, self._report["answers"])
        yield from checked_numbers(
            self.seen, self._report, {line for line in self._simple - self._crowded if self._ended(line)}
        )

    # ---- the run

    def _end(self) -> Iterator[Claim]:
        error, run = self.seen.error, self._report["run"]
        yield equal("faults", 0, "what went wrong in gradscope", self._report["faults"], [])
        yield equal("outcome", 0, "the error", run["error_type"], type(error).__name__ if error else "")
        for row in self._report["errors"]:
            if error is not None and row["place"]["line"] == self.seen.error_line:
                yield equal("error", row["place"]["line"], "the message", row["message"], str(error))

    # ---- backward passes

    def _passes_at(self, line: int) -> list[tuple[int, Pass]]:
        return [(position, one) for position, one in enumerate(self.seen.passes) if one.line == line]

    def _passes(self) -> Iterator[Claim]:
        for row in self._report["backwards"]:
            line = row["place"]["line"]
            passes = self._passes_at(line)
            yield equal("pass-executions", line, "number of passes", row["executions"], len(passes))
            if not passes:
                continue
            position, last = passes[-1]
            yield equal("pass-error", line, "the error", row["error"], last.error)
            for name in row["roots"]:
                if (tensor := last.names.get(path_of(name) or ())) is not None:
                    is_root = any(tensor is root for root in last.roots) or tensor.grad_fn in last.edges
                    yield equal("root", line, f"{name} is a root", True, is_root)
            whys: dict[tuple[str, int], dict[Path, torch.Tensor]] = defaultdict(dict)
            newest = {gradient["name"]: gradient for gradient in row["gradients"]}
            for gradient in newest.values():  # (those before it of one name are of earlier runs)
                yield from self._gradient(gradient, last)
                path = path_of(gradient["name"])
                tensor = self._tensor(path, last.names)
                if tensor is None or path is None or gradient["shape"] != str(tuple(tensor.shape)):
                    continue
                if gradient["why"] and last.kind == "backward" and outcome(last, tensor) == gradient["outcome"]:
                    whys[gradient["why"], gradient["cut_line"]][path] = tensor
            for (why, cut_line), tensors in whys.items():
                yield from self._why(why, cut_line, tensors, position, last)

    def _gradient(self, row: dict[str, Any], one: Pass) -> Iterator[Claim]:
        path = path_of(row["name"])
        tensor = self._tensor(path, one.names)
        if tensor is None or path is None:
            return
        name = row["name"]
        shape = str(tuple(tensor.shape))
        yield equal("gradient-shape", one.line, f"the shape of {name}", row["shape"], shape)
        if row["shape"] != shape:
            return  # another tensor than the one that is meant
        yield equal("gradient-leaf", one.line, f"{name} is a leaf", row["is_leaf"], tensor.is_leaf)
        if id(tensor) not in one.grad_before or one.kind != "backward":
            return
        if one.error and outcome(one, tensor) == "missing" and row["executions"] < len(self._passes_at(one.line)):
            return  # it raised before it got to what is called so by now: the row is of an earlier run's leaf
        yield equal("gradient", one.line, f"what the pass did for {name}", row["outcome"], outcome(one, tensor))

    def _why(
        self, why: str, cut_line: int, tensors: dict[Path, torch.Tensor], position: int, one: Pass
    ) -> Iterator[Claim]:
        """Why a pass gave some leaves no gradient."""
        if "no call was seen to use it" in why:
            yield from self._unused(why, tensors, position, one)
            return
        for path, tensor in list(tensors.items())[: ALIKE if cut_line else None]:
            said = f"{'.'.join(path)} got no gradient: {why}"
            led = id(tensor) in one.led_to
            where = f"the graph {'leads' if led else 'does not lead'} to it"
            if "not looked into" in why:
                passes = len(self._passes_at(one.line))
                held = "passes of this line are" in why and passes > MANY_PASSES
                yield Claim("why-not-looked", one.line, said, held, f"{passes} passes")
                continue
            is_asked_for = any(tensor is given for given in one.inputs)
            if led and one.inputs and not is_asked_for and "input" not in why:
                yield Claim("why-inputs", one.line, said, False, "inputs= asked for others only")
                continue
            if "only the copy that line" in why:
                copied = "deepcopy(" in self._source.split("\n")[cut_line - 1]
                moment = self._named_after(tensor, self._copied_at(cut_line, one))
                changes = moment is not None and roots_change(self._source, position, one, dict([moment]))
                truth = "its values change the root" if changes else where
                yield Claim("why-copy", one.line, said, copied and not led and not changes, truth)
            elif cut_line:
                named = frozenset(map(int, re.findall(r"\bline (\d+)", why))) or {cut_line}
                held, truth = self._is_cut_in_any(frozenset(named), path, tensor, position, one)
                yield Claim("why-cut", one.line, said, held and not led, truth)
            elif "no call on the way cut the graph" in why:
                yield Claim("why-no-cut", one.line, said, led, where)
            elif re.search(
                r"gave it no gradient \(None\)|backward returns None for it|backward computes its gradient", why
            ):
                yield Claim("why-none", one.line, said, led, where)
            elif found := re.search(r"did not require grad when line (\d+) used it", why):
                moments = (before.state(tensor) for before, _ in self.seen.moments.get(int(found[1]), ()))
                states = {state.requires_grad for state in moments if state is not None}
                truth = f"requires_grad was {states}" if states else "unknown"
                yield Claim("why-not-yet", one.line, said, False in states if states else None, truth)
            elif "was asked for the gradient of" in why:
                others = bool(one.inputs) and not any(tensor is given for given in one.inputs)
                yield Claim(
                    "why-inputs", one.line, said, others, f"inputs= {'asked' if one.inputs else 'is not given'}"
                )
            elif found := re.search(r"in ([\d,]+) of ([\d,]+) passes here, not in the last", why):
                passes = [other for _, other in self._passes_at(one.line) if other.kind == "backward"]
                got = sum(id(tensor) in other.received for other in passes)
                said_of = tuple(int(number.replace(",", "")) for number in found.groups())
                held = id(tensor) not in one.received and said_of[1] >= len(passes) and said_of[0] == got
                yield Claim("why-last", one.line, said, held, f"it got one in {got} of {len(passes)}")
            elif why == "the last pass here raised":
                yield Claim("why-raised", one.line, said, bool(one.error), f"its error is {one.error!r}")
            elif "but no way from there" in why:
                yield Claim("why-no-way", one.line, said, not led, where)
            else:
                yield Claim("why-unread", one.line, said, None, "a sentence that the oracle does not know")

    def _unused(self, why: str, tensors: dict[Path, torch.Tensor], position: int, one: Pass) -> Iterator[Claim]:
        """That the root was not made from some leaves: all are changed in one run, each alone only if that shows."""
        since = {
            path: self._named_after(tensor, self._settled(tensor, position, one)) for path, tensor in tensors.items()
        }
        known = dict(moment for moment in since.values() if moment is not None)
        together = roots_change(self._source, position, one, known)
        for path, tensor in tensors.items():
            said, moment = f"{'.'.join(path)} got no gradient: {why}", since[path]
            changes = together
            if together:
                changes = None if moment is None else roots_change(self._source, position, one, dict([moment]))
            truth = "its values change the root" if changes else "its values do not change the root"
            held = None if changes is None else not changes and id(tensor) not in one.led_to
            if changes and id(tensor) not in one.led_to and _shares_memory(tensor, one):
                held = None  # (what was changed is the other's values as well)
            yield Claim("why-unused", one.line, said, held, truth)

    def _settled(self, tensor: torch.Tensor, position: int, one: Pass) -> int:
        """From when on a tensor's values count for a pass.

        What was copied into a parameter before is that parameter's own: it counts from the last time that any
        parameter changed, or the last backward pass began.
        """
        changes = [at for at, _ in self.seen.changed_at[id(tensor)] if at < one.number]
        passes = [other.number for other in self.seen.passes[:position] if other.kind == "backward"]
        return max([*changes, *passes, *(at for at in self._parameters_changed_at if at < one.number)], default=0)

    def _copied_at(self, line: int, one: Pass) -> int:
        """When a line had last made its copy before a pass: from then on the original's values count by other ways."""
        done = [after.number for _, after in self.seen.moments[line] if after.number < one.number]
        return max(done, default=one.number)

    def _named_after(self, tensor: torch.Tensor, at: int) -> tuple[Path, int] | None:
        """A name that leads to a tensor at the first statement after a moment, and when that was."""
        for moment in self.seen.begun[bisect_right(self.seen.begun, at, key=lambda moment: moment.number) :]:
            for path, held in moment.names.items():
                if held is tensor:
                    return path, moment.number
        return None

    @cached_property
    def _parameters_changed_at(self) -> list[int]:
        return [
            at
            for changes in self.seen.changed_at.values()
            for at, path in changes
            if len(path) > 1 and self.seen.ever[path] and any(one.is_leaf for one in self.seen.ever[path].values())
        ]

    def _depends(self, tensor: torch.Tensor, position: int, one: Pass) -> bool | None:
        """Whether the root of a pass depends on the values that a tensor had at any time."""
        changes = [at for at, _ in self.seen.changed_at[id(tensor)] if at < one.number]
        tried = {*changes[:1], *changes[-1:], self._settled(tensor, position, one)}
        named = [found for at in tried if (found := self._named_after(tensor, at)) is not None]
        found = [roots_change(self._source, position, one, dict([moment])) for moment in named]
        return any(found) if found and None not in found else None

    def _is_cut_in_any(
        self, named: frozenset[int], path: Path, tensor: torch.Tensor, position: int, one: Pass
    ) -> tuple[bool | None, str]:
        """Whether lines cut a leaf off the root of any of the last passes of a line, as one line may serve several
        models: of a leaf that none of them reached the reason is one that was found in any."""
        held, truth = self._is_cut_by(named, path, tensor, position, one)
        passes = self._passes_at(one.line)[-MANY_PASSES:]
        for at, other in reversed(passes):
            if held is not False:
                break
            if other is not one and other.kind == "backward" and other.names.get(path) is tensor:
                held, _ = self._is_cut_by(named, path, tensor, at, other)
        return held, truth

    def _is_cut_by(
        self, named: frozenset[int], path: Path, tensor: torch.Tensor, position: int, one: Pass
    ) -> tuple[bool | None, str]:
        """Whether the graph would lead from the root to the leaf if some lines cut nothing, and does not without them.

        There may be other cuts on the way: these are left out too, one alone or all. A region's is not refuted by those
        that lie in it.
        """
        regions = {number for number, line in enumerate(self.seen.lines, 1) if _REGION.search(line)}
        others = ({row["place"]["line"] for row in self._report["cuts"]} | regions) - named
        tried = [frozenset[int](), frozenset(others), *(frozenset([line]) for line in sorted(others))]
        arrives_anyway = False
        for kept_out in tried:
            if self._leads_to(path, position, one, kept_out | named):
                if not kept_out or not self._leads_to(path, position, one, kept_out):
                    return True, "without it the gradient arrives"
                arrives_anyway = True
        if arrives_anyway:
            truth = f"with {sorted(named)} as they are, the gradient arrives all the same"
            return False if named.isdisjoint(regions) else None, truth
        if _CHOICE not in self._source and self._depends(tensor, position, one) is False:
            return False, "the root does not depend on it"
        return None, "without it the gradient does not arrive either"

    def _leads_to(self, path: Path, position: int, one: Pass, uncut: Iterable[int]) -> bool:
        lines = frozenset(uncut)
        run = self._uncut.get(lines)
        if run is None:
            run = self._uncut[lines] = without_cuts(self._source, lines)
        if len(run.passes) <= position or run.passes[position].line != one.line:
            return False
        other = run.passes[position]
        tensor = other.names.get(path)
        return tensor is not None and id(tensor) in other.led_to

    # ---- lines

    def _tensor(self, path: Path | None, names: dict[Path, torch.Tensor]) -> torch.Tensor | None:
        """The tensor of a name: as it was then, or the only one that ever had it."""
        if path is None:
            return None
        if path in names:
            return names[path]
        ever = self.seen.ever.get(path, {})
        return next(iter(ever.values())) if len(ever) == 1 else None

    def _ended(self, line: int) -> bool:
        return (
            line in self._simple - self._returns
            and line in self.seen.after
            and self.seen.ended[line] == self.seen.runs[line] - self.seen.runs_in_passes[line]
        )

    def _state_after(self, name: str, line: int) -> State | None:
        path = path_of(name)
        if path is None or not self._ended(line):
            return None
        after = self.seen.after[line]
        return after.state(after.names.get(path))

    def _rows(self) -> Iterator[Claim]:
        rows = self._report["lines"]
        alike = Counter((row["line"], row["name"]) for row in rows)
        changed = Counter(row["line"] for row in rows if row["kind"] != "made")
        for row in rows:
            line, name = row["line"], row["name"]
            may_be_skipped = row["kind"] == "step" and "scaler" in self.seen.lines[line - 1]
            is_counted = row["executions"] or not any(note.startswith(_INSIDE) for note in row["notes"])  # (0: unknown)
            if row["end_line"] == line and line in self._simple and not may_be_skipped and is_counted:
                yield self._executions("executions", line, f"{row['op']} ran", row["executions"])
            path = path_of(name)
            if row["kind"] not in ("made", "changed", "cut") or path is None or row["requires_grad"] is None:
                continue
            # A row tells of its last run; one of several rows for a name, of the last among some of the runs.
            moments = [after for _, after in self.seen.moments[line]]
            if again := [found for note in row["notes"] if (found := _RUNS_AGAIN.match(note))]:
                said, total = (int(number.replace(",", "")) for number in again[0].groups())
                truth = self.seen.runs_in_passes[line], self.seen.runs[line]
                said_so = f"{said} of {total} runs were in backward passes"
                yield Claim("runs-again", line, said_so, (said, total) == truth, str(truth))
            if not self._ended(line) or (alike[line, name] == 1 and path not in moments[-1].names):
                continue
            states = [moment.states[id(moment.names[path])] for moment in moments if path in moment.names]
            if tracked := [found for note in row["notes"] if (found := _SOME_RUNS.fullmatch(note))]:
                # it tells of the last of the runs that autograd followed
                states = [state for state in states if state.requires_grad]
                said, runs = (int(number.replace(",", "")) for number in tracked[0].groups())
                truth = f"it did after {len(states)} of {len(moments)}"
                held = (said, runs) == (len(states), len(moments))
                yield Claim("row-some-runs", line, f"{name} required grad in {said} of {runs} runs", held, truth)
            if states:  # (a loop over several tensors has a row for each, with a name of that tensor)
                is_only = alike[line, name] == 1 and (row["kind"] == "made" or changed[line] == 1)
                is_only = is_only and line not in self._crowded
                yield from self._row(row, states[-1:] if is_only else states)
                yield from self._names(row, line, moments[-1:] if is_only else moments)

    def _row(self, row: dict[str, Any], states: list[State]) -> Iterator[Claim]:
        keys = ["shape", "dtype", "requires_grad", "is_leaf", "grad_fn"] + ["version"] * (row["version"] is not None)
        said = [row[key] for key in keys]
        best = max(states, key=lambda state: sum(getattr(state, key) == row[key] for key in keys))
        for key, value in zip(keys, said, strict=True):
            yield equal(f"row-{key}", row["line"], f"{key} of {row['name']}", value, getattr(best, key))

    def _executions(self, kind: str, line: int, what: str, said: int) -> Claim:
        """How often something ran: as often as its statement."""
        runs = list(self.seen.runs_at[line].values()) or [0]
        truth = " and ".join(map(str, runs))
        return Claim(kind, line, f"{what} {said} times", said in runs, f"the statement ran {truth} times")

    def _names(self, row: dict[str, Any], line: int, moments: list[Moment]) -> Iterator[Claim]:
        """That some tensor which had the row's name then had each of its other names at some time."""
        shown = path_of(row["name"]) or ()
        tensors = {id(moment.names[shown]) for moment in moments if shown in moment.names}
        known = {path[0] for path in self.seen.ever} - self._inner_names
        for name in row["names"] if tensors else ():
            path = path_of(name)
            if path is not None and path[0] in known and len(path) <= DEPTH:
                held = not tensors.isdisjoint(self.seen.ever.get(path, {}))
                yield Claim("names", line, f"{row['name']} is also {name}", held, "that was the name of others only")

    def _cuts(self) -> Iterator[Claim]:
        for row in self._report["cuts"]:
            line = row["place"]["line"]
            if line in self._simple:
                runs = self.seen.runs[line]
                said = f"it was cut ({row['kind']}) {row['executions']} times"
                yield Claim(
                    "cut-executions", line, said, 0 < row["executions"] <= runs, f"the statement ran {runs} times"
                )
            state = self._state_after(row["output"], line)
            is_cut_in_all = row["executions"] >= self.seen.runs[line]  # else the state is maybe that of another run
            if state is not None and row["output"] != row["input"] and is_cut_in_all:
                tracked = state.requires_grad and not state.is_leaf  # (a leaf that is to be a new start of the graph)
                yield equal("cut-output", line, f"{row['output']} has a way back", False, tracked)
            path = path_of(row["input"]) or ()
            taken = [
                before.states[id(before.names[path])] for before, _ in self.seen.moments[line] if path in before.names
            ]
            if taken:  # the cut is in some of the runs
                tracked = any(state.requires_grad for state in taken)
                yield equal("cut-input", line, f"{row['input']} requires grad", True, tracked)

    def _writes(self) -> Iterator[Claim]:
        for row in self._report["inplace_writes"]:
            line, name = row["place"]["line"], row["name"]
            path = path_of(name)
            if path is None or not self._ended(line):
                continue
            # (A tensor's best name is maybe one that it got after the write: ``noisy = jitter(h)``.)
            states = [
                (before.state(tensor), after.state(tensor), after)
                for before, after in self.seen.moments[line]
                for tensor in self.seen.ever.get(path, {}).values()
            ]
            runs = [(then, now, after) for then, now, after in states if then is not None and now is not None]
            if not runs:
                continue
            wrote = [
                (then, now, after)
                for then, now, after in runs
                if then.values != now.values or then.version != now.version
            ]
            held = bool(wrote) or (None if _MAY_WRITE_THE_SAME.fullmatch(row["op"]) else False)
            yield Claim("write", line, f"{row['op']} wrote into {name}", held, "its bytes are what they were")
            if row["version_after"] is not None and wrote:
                said = row["version_after"]
                held = any(then.version <= said <= now.version for then, now, _ in wrote if now.version is not None)
                versions = [(then.version, now.version) for then, now, _ in wrote]
                yield Claim("write-version", line, f"version of {name} is {said}", held, str(versions))
            for other in row["seen_by"]:
                there = [(now, after.state(after.names.get(path_of(other) or ()))) for _, now, after in wrote]
                shared = [now.storage == state.storage for now, state in there if state is not None]
                if shared:
                    yield Claim("write-seen-by", line, f"{other} shares memory with {name}", any(shared), "it does not")
        yield from self._unseen_writes()

    def _unseen_writes(self) -> Iterator[Claim]:
        """Optimizer steps: how many parameters they changed, which are those with a gradient."""
        for row in self._report["lines"]:
            found = [re.match(r"wrote ([\d,]+) parameters? in place", note) for note in row["notes"]]
            if row["kind"] != "step" or not any(found) or not self._ended(row["line"]):
                continue
            before, after = self.seen.moments[row["line"]][-1]
            changed = {
                state.storage
                for key, state in after.states.items()
                if (then := before.states.get(key)) and then.grad is not None and then.values != state.values
            }
            said = next(int(match[1].replace(",", "")) for match in found if match)
            yield Claim(
                "step-changed",
                row["line"],
                f"{row['op']} changed {said} parameters",
                said >= len(changed),
                str(len(changed)),
            )

    def _shared_memory(self) -> Iterator[Claim]:
        for group in self._report["alias_groups"]:
            members = [(member, self.seen.ever.get(path_of(member["name"]) or (), {})) for member in group["members"]]
            known = [(member, list(ever.values())) for member, ever in members if ever]
            for (member, tensors), (other, others) in pairwise(known):
                storages = {tensor.untyped_storage()._cdata for tensor in tensors}
                held = any(tensor.untyped_storage()._cdata in storages for tensor in others)
                yield Claim(
                    "shared-memory",
                    member["line"],
                    f"{member['name']} and {other['name']} share memory",
                    held,
                    "they never did",
                )

    def _graphs(self) -> Iterator[Claim]:
        for graph in self._report["graphs"]:
            passes = self._passes_at(graph["line"])
            if passes and len(passes[-1][1].roots) + len(passes[-1][1].edges) == 1:
                last = passes[-1][1]
                yield equal(
                    "graph-nodes", graph["line"], f"nodes behind {graph['root']}", graph["nodes"], len(last.walked)
                )
                for name in graph["leaves"]:
                    tensor = self._tensor(path_of(name), last.names)
                    if tensor is not None:
                        yield equal(
                            "graph-leaf", graph["line"], f"{name} is a leaf of it", True, id(tensor) in last.led_to
                        )

    def _memory(self) -> Iterator[Claim]:
        memory = self._report["memory"]
        if not memory["hooked_ops"] and not self.seen.has_wrappers:
            yield equal("saved-bytes", 0, "saved for backward", memory["saved_bytes"], self.seen.saved_bytes)

    # ---- answers

    def _answers(self) -> Iterator[Claim]:
        for answer in self._report["answers"]:
            line = answer["place"]["line"] if answer["place"] else 0
            said = f"{answer['text']} [{answer['code']}]"
            if self._healthy and answer["severity"] != "note":
                diverges = answer["code"] == "gradient-not-finite" and not all(map(_is_finite, self.seen.passes))
                is_of_values = answer["code"] in _OF_VALUES  # (a layer that died is no mistake of the program's)
                yield Claim(
                    "alarm", line, said, diverges or (None if is_of_values else False), "the program is healthy"
                )
            path = path_of(answer["tensor"])
            if path is None:
                continue
            if answer["code"].startswith("grad-none"):
                yield from self._grad_none(answer["code"], said, line, path)
            elif (check := getattr(self, "_" + answer["code"].replace("-", "_"), None)) is not None:
                yield from check(said, line, path)
        yield from self._wrong_gradients()

    def _grad_none(self, code: str, said: str, line: int, path: Path) -> Iterator[Claim]:
        before = self.seen.before.get(line)
        tensor = before.names.get(path) if before else None
        state = before.state(tensor) if before else None
        if before is None or state is None or line not in self._simple:
            return
        passes = [one for one in self.seen.passes if one.number <= before.number and one.kind == "backward"]
        truths = {
            "grad-none-untracked": not state.requires_grad,
            "grad-none-non-leaf": state.requires_grad and not state.is_leaf,
            "grad-none-no-backward": not passes,
            "grad-none-cleared": any(id(tensor) in one.received for one in passes),
            "grad-none-unreached": bool(passes) and id(tensor) not in passes[-1].received,
        }
        is_none = f"grad {'is' if state.grad is None else 'is not'} None"
        truth = f"{is_none}, requires_grad {state.requires_grad}, is_leaf {state.is_leaf}"
        yield Claim("answer-grad-none", line, said, state.grad is None and truths.get(code, True), truth)

    def _leaf_unreached(self, said: str, line: int, path: Path) -> Iterator[Claim]:
        passes = self._passes_at(line)
        if passes and (tensor := self._tensor(path, passes[-1][1].names)) is not None:
            received = any(id(tensor) in one.received for _, one in passes)
            yield Claim(
                "answer-unreached", line, said, not received, f"it {'got' if received else 'did not get'} one there"
            )

    def _frozen(self, said: str, line: int, path: Path) -> Iterator[Claim]:
        passes = self._passes_at(line)
        if passes and (tensor := passes[-1][1].names.get(path)) is not None:
            wanted = passes[-1][1].wanted[id(tensor)]
            yield Claim("answer-frozen", line, said, not wanted, f"requires_grad was {wanted}")

    def _backward_no_grad(self, said: str, line: int, path: Path) -> Iterator[Claim]:
        failed = [(at, one) for at, one in enumerate(self.seen.passes) if "does not require grad" in one.error]
        if not failed:
            yield Claim("answer-no-grad", line, said, False, "no pass failed so")
            return
        position, one = failed[-1]
        lines = [int(number) for number in re.findall(r"(?:at|of|and) line (\d+)", said.partition("was cut")[2])]
        if not lines:
            return
        run = without_cuts(self._source, set(lines))
        if len(run.passes) > position:
            held = any(root.requires_grad for root in run.passes[position].roots)
            yield Claim(
                "answer-no-grad",
                one.line,
                said,
                held or None,
                f"without the cuts the root {'requires' if held else 'does not require'} grad",
            )

    def _backward_reached_nothing(self, said: str, line: int, path: Path) -> Iterator[Claim]:
        passes = self._passes_at(line)
        if passes:
            one = passes[-1][1]
            held = one.led_to <= set(map(id, one.roots))
            yield Claim("answer-reached-nothing", line, said, held, f"the graph leads to {len(one.led_to)} leaves")

    def _never_stepped(self, said: str, line: int, path: Path) -> Iterator[Claim]:
        passes = self._passes_at(line)
        if passes and (tensor := self._tensor(path, passes[-1][1].names)) is not None:
            first = next((one.number for one in self.seen.passes if id(tensor) in one.received), None)
            changes = [at for at, _ in self.seen.changed_at[id(tensor)] if first is not None and at > first]
            yield Claim(
                "answer-never-stepped",
                line,
                said,
                first is not None and not changes,
                f"its values changed {len(changes)} times",
            )

    def _graph_carried_along(self, said: str, line: int, path: Path) -> Iterator[Claim]:
        """The nodes are those of the last tensor of that name."""
        tensors = list(self.seen.ever.get(path, {}).values())
        if tensors and (found := re.search(r"\(([\d,]+) nodes", said)):
            leaves, nodes = walk(tensors[-1:])
            truth = len(nodes) - len(leaves)
            yield Claim("answer-carried", line, said, int(found[1].replace(",", "")) == truth, f"{truth} nodes")

    def _inplace_error(self, said: str, line: int, path: Path) -> Iterator[Claim]:
        held = any("modified by an inplace operation" in one.error for one in self.seen.passes)
        yield Claim("answer-inplace-error", line, said, held, "no pass failed so")

    def _graph_used_twice(self, said: str, line: int, path: Path) -> Iterator[Claim]:
        held = any("second time" in one.error for one in self.seen.passes)
        yield Claim("answer-used-twice", line, said, held, "no pass failed so")

    @cached_property
    def _wrong_passes(self) -> set[int]:
        """Lines with passes that gave other gradients than the values at the time of the forward give."""
        is_other = "create_graph" in self._source or self.seen.has_own_inside  # (to which a copied leaf is no leaf)
        if is_other or any(one.error for one in self.seen.passes):
            return set()
        true = with_values_as_saved(self._source)
        wrong = set()
        for one, other in zip(self.seen.passes, true.passes, strict=False):
            for path, tensor in one.names.items():
                twin = other.names.get(path)
                mine, its = one.gradients.get(id(tensor)), other.gradients.get(id(twin))
                if mine is not None and its is not None and not torch.allclose(mine, its, equal_nan=True):
                    wrong.add(one.line)
            if wrong:
                break  # what follows is computed from these gradients
        return wrong

    def _wrong_gradients(self) -> Iterator[Claim]:
        told = {row["backward_line"] for row in self._report["inplace_writes"] if row["effect"] == "silently_wrong"}
        for answer in self._report["answers"]:
            if answer["code"] == "gradient-silently-wrong":
                told.update(map(int, re.findall(r"the gradient of the backward at line (\d+)", answer["text"])))
        for line in told:
            yield Claim(
                "silently-wrong", line, "its gradient is silently wrong", line in self._wrong_passes, "it is right"
            )
        for line in self._wrong_passes - told:
            yield Claim("silently-wrong-missed", line, "nothing", False, "its gradient is silently wrong")


def _is_finite(one: Pass) -> bool:
    return all(bool(value.isfinite().all()) for value in (*one.values, *one.gradients.values()))


def outcome(one: Pass, tensor: torch.Tensor) -> str:
    """What a pass did for a tensor, in the report's words."""
    before, after = one.grad_before.get(id(tensor)), one.grad_after.get(id(tensor))
    received = id(tensor) in one.received if tensor.is_leaf else after is not before
    if received:
        return "created" if before is None else "accumulated"
    return "missing" if before is None else "untouched"
