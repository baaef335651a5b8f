/* What one call changed: see Observer.observe in recorder/calls/observer.py, whose rules these are. */
#include "core.h"

/* The modes in force, as OpFlag; -1: saved-tensor hooks are among them, or an error is set. */
long
modes_in_force(void)
{
    Ask *asks[] = {&ask_is_grad_enabled, &ask_is_inference_mode, &ask_is_any_autocast};
    long bits[] = {GRAD, INFERENCE, AUTOCAST}, flags = 0;
    for (int place = 0; place < 3; place++) {
        PyObject *answer = ask_for(asks[place]);
        if (answer == NULL) {
            return -1;
        }
        flags |= answer == Py_True ? bits[place] : 0;
        Py_DECREF(answer);
    }
    return saved_hooks_in_force() ? -1 : flags;
}

static PyObject *
call_observer(Core *core, PyObject **name, const char *text, PyObject *first, PyObject *second, PyObject *third)
{
    if (*name == NULL && (*name = PyUnicode_InternFromString(text)) == NULL) {
        return NULL;
    }
    PyObject *arguments[] = {core->observer, first, second, third};
    size_t count = 1;
    while (count < 4 && arguments[count] != NULL) {
        count++;
    }
    return PyObject_VectorcallMethod(*name, arguments, count, NULL);
}

/* What is known of an op's inputs, looked up once: before its row is there, and for its row. */
#define LOOKED_UP 8
typedef struct {
    PyObject *seen[LOOKED_UP]; /* borrowed: nothing is buried in between */
} Known;

/* Whether a tensor came to be tracked since an op made it without grad mode, as what a Function's forward gives does;
 * -1 for an error. */
static int
came_to_be_tracked(PyObject *seen, PyObject *tensor)
{
    if (Py_TYPE(seen) != (PyTypeObject *)the_Seen || SLOT(seen, Seen_requires_grad) != Py_None ||
        Py_TYPE(tensor) != (PyTypeObject *)the_Tensor) {
        return 0;
    }
    PyObject *answer = ask_of(&ask_requires_grad, tensor);
    int is_tracked = answer == NULL ? -1 : answer == Py_True;
    Py_XDECREF(answer);
    return is_tracked;
}

/* Look an op's inputs up; whether one of them came to be tracked unseen, which Python enters; -1 for an error. */
static int
look_up_inputs(Core *core, PyObject *inputs, Known *known)
{
    int failed, found = 0;
    for (Py_ssize_t place = 0; !found && place < PyTuple_GET_SIZE(inputs); place++) {
        PyObject *value = PyTuple_GET_ITEM(inputs, place);
        PyObject *seen = known_by_id(core->tensors, value, &failed);
        if (failed) {
            return -1;
        }
        if (place < LOOKED_UP) {
            known->seen[place] = seen;
        }
        if (seen != NULL) {
            found = came_to_be_tracked(seen, value);
        }
        else if (PyList_CheckExact(value) || PyTuple_CheckExact(value)) { /* torch.stack(outputs) */
            PyObject **items = PySequence_Fast_ITEMS(value);
            for (Py_ssize_t item = 0; !found && item < PySequence_Fast_GET_SIZE(value); item++) {
                if (Py_TYPE(items[item]) != (PyTypeObject *)the_Tensor) {
                    break;
                }
                seen = known_by_id(core->tensors, items[item], &failed);
                if (failed) {
                    return -1;
                }
                found = seen == NULL ? 0 : came_to_be_tracked(seen, items[item]);
            }
        }
    }
    return found;
}

/* An input, and what is known of it. */
static int
note_input(Core *core, PyObject *value, PyObject *seen, PyObject *op)
{
    static PyObject *name;
    if (seen != NULL) {
        PyObject *values[] = {op, SLOT(seen, Seen_row)};
        return add_row(core->uses, values, 2);
    }
    if (holds_none(value)) {
        return 0;
    }
    PyObject *noted = call_observer(core, &name, "_inputs", value, op, Py_False);
    Py_XDECREF(noted);
    return noted == NULL ? -1 : 0;
}

static int
note_result(Core *core, PyObject *tensor, PyObject *op, long flags, PyObject *since, PyObject *inputs)
{
    int failed;
    PyObject *seen = known_by_id(core->tensors, tensor, &failed);
    if (failed) {
        return -1;
    }
    if (seen != NULL) {
        PyObject *values[] = {op, SLOT(seen, Seen_row)};
        return add_row(core->results, values, 2);
    }
    seen = enter_tensor(core, tensor, op, since, 1, 0, inputs);
    if (seen == NULL) {
        return -1;
    }
    if (!(flags & (GRAD | INFERENCE)) && Py_TYPE(seen) == (PyTypeObject *)the_Seen &&
        SLOT(seen, Seen_requires_grad) == Py_False) {
        set_slot(seen, Seen_requires_grad, Py_None);
        set_slot(core->identity, Identity_has_unsure, Py_True);
    }
    Py_DECREF(seen);
    return 0;
}

/* Returns how many tensors there are, -1 for an error. */
static Py_ssize_t
note_results(Core *core, PyObject *result, PyObject *op, long flags, PyObject *since, PyObject *inputs)
{
    if (Py_TYPE(result) == (PyTypeObject *)the_Tensor || Py_TYPE(result) == (PyTypeObject *)the_Parameter) {
        return note_result(core, result, op, flags, since, inputs) < 0 ? -1 : 1;
    }
    if (holds_none(result)) {
        return 0;
    }
    PyObject *tensors = PyObject_CallOneArg(the_tensors_in, result);
    if (tensors == NULL) {
        return -1;
    }
    Py_ssize_t count = PyList_GET_SIZE(tensors);
    for (Py_ssize_t place = 0; place < count; place++) {
        if (note_result(core, PyList_GET_ITEM(tensors, place), op, flags, since, inputs) < 0) {
            count = -1;
        }
    }
    Py_DECREF(tensors);
    return count;
}

/* The arguments by position, and then by name; a new reference. */
static PyObject *
inputs_of(PyObject *args, PyObject *kwargs)
{
    if (kwargs == NULL) {
        Py_INCREF(args);
        return args;
    }
    PyObject *values = PyDict_Values(kwargs), *named = values == NULL ? NULL : PyList_AsTuple(values);
    PyObject *inputs = named == NULL ? NULL : PySequence_Concat(args, named);
    Py_XDECREF(values);
    Py_XDECREF(named);
    return inputs;
}

/* What is done at the end: rows are moved on, where that is due. */
static int
settle(Core *core)
{
    static PyObject *name, *is_old;
    long long flush_at = number_in(core->tape, Tape_flush_at);
    int is_due = PyList_GET_SIZE(core->ops) >= flush_at;
    if (!is_due && SLOT(core->tape, Tape_on_flush) != Py_None) {
        if (is_old == NULL && (is_old = PyUnicode_InternFromString("is_old")) == NULL) {
            return -1;
        }
        PyObject *old = PyObject_CallMethodNoArgs(core->tape, is_old);
        is_due = old == Py_True;
        Py_XDECREF(old);
    }
    if (PyErr_Occurred()) {
        return -1;
    }
    if (!is_due) {
        return 0;
    }
    PyObject *done = call_observer(core, &name, "_settle", NULL, NULL, NULL);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* Whether the call is of the usual kind, and under which modes. */
static Outcome
is_usual(Core *core, PyObject *site, PyObject *thread, long *flags)
{
    static PyObject *name;
    if (name == NULL && (name = PyUnicode_InternFromString("observe")) == NULL) {
        return FAILED;
    }
    if (core->is_asked_more || SLOT(core->observer, Observer_values) != Py_None ||
        PySet_GET_SIZE(core->hooked) || PyDict_Contains(core->observer_names, name)) {
        return LEFT;
    }
    if (number_in(core->observer, Observer_thread) != PyLong_AsLongLong(thread)) {
        return LEFT;
    }
    long long before = number_in(site, Site_seen);
    if (before < FULL_MATCHES || !(before & (before - 1)) || SLOT(site, Site_meets_unseen) != Py_False) {
        return LEFT; /* names are looked for */
    }
    *flags = modes_in_force();
    if (*flags < 0) {
        if (PyErr_Occurred() && !handed_over()) {
            return FAILED;
        }
        return LEFT;
    }
    return DONE;
}

static int
add_version(PyObject *versions, PyObject *tensor)
{
    if (Py_TYPE(tensor) != (PyTypeObject *)the_Tensor && Py_TYPE(tensor) != (PyTypeObject *)the_Parameter) {
        return -1;
    }
    PyObject *version = ask_of(&ask_version, tensor);
    if (version == NULL) {
        return -1; /* an inference tensor has none */
    }
    PyObject *pair = PyTuple_Pack(2, tensor, version);
    Py_DECREF(version);
    int failed = pair == NULL || PyList_Append(versions, pair) < 0;
    Py_XDECREF(pair);
    return failed ? -1 : 0;
}

static int
add_versions(PyObject *versions, PyObject *value)
{
    if (Py_TYPE(value) == (PyTypeObject *)the_Tensor || Py_TYPE(value) == (PyTypeObject *)the_Parameter) {
        return add_version(versions, value);
    }
    if (holds_none(value)) {
        return 0;
    }
    PyObject *tensors = PyObject_CallOneArg(the_tensors_in, value);
    int failed = tensors == NULL;
    for (Py_ssize_t place = 0; !failed && place < PyList_GET_SIZE(tensors); place++) {
        failed = add_version(versions, PyList_GET_ITEM(tensors, place)) < 0;
    }
    Py_XDECREF(tensors);
    return failed ? -1 : 0;
}

PyObject *
versions_before(PyObject *args, PyObject *kwargs)
{
    PyObject *versions = PyList_New(0), *inputs = inputs_of(args, kwargs);
    int failed = versions == NULL || inputs == NULL;
    for (Py_ssize_t place = 0; !failed && place < PyTuple_GET_SIZE(inputs); place++) {
        failed = add_versions(versions, PyTuple_GET_ITEM(inputs, place)) < 0;
    }
    Py_XDECREF(inputs);
    if (failed) {
        Py_CLEAR(versions);
    }
    return versions;
}

/* A call that has returned, as far as its changes go. */
typedef struct {
    PyObject *info, *args, *kwargs, *before, *since;
    long flags; /* the modes in force */
} Given;

/* What a call wrote past the version counters, as Uncounted.by_call tells; a new reference. */
static PyObject *
written_uncounted(PyObject *uncounted, PyObject *args, PyObject *kwargs)
{
    static PyObject *name;
    if (uncounted == Py_None) {
        Py_RETURN_NONE;
    }
    if (name == NULL && (name = PyUnicode_InternFromString("by_call")) == NULL) {
        return NULL;
    }
    PyObject *named = kwargs == NULL ? PyDict_New() : Py_NewRef(kwargs);
    if (named == NULL) {
        return NULL;
    }
    PyObject *arguments[] = {uncounted, args, named};
    PyObject *written = PyObject_VectorcallMethod(name, arguments, 3, NULL);
    Py_DECREF(named);
    return written;
}

/* Whether a call has changed one of its tensors, which is noted then; -1 for an error. */
static int
note_changes(Core *core, const Given *given, PyObject *op, PyObject *result)
{
    static PyObject *name;
    PyObject *before = given->before, *uncounted = SLOT(given->info, Function_uncounted);
    int changed = uncounted != Py_None;
    for (Py_ssize_t place = 0; !changed && place < PyList_GET_SIZE(before); place++) {
        PyObject *pair = PyList_GET_ITEM(before, place);
        PyObject *version = ask_of(&ask_version, PyTuple_GET_ITEM(pair, 0));
        if (version == NULL) {
            return -1;
        }
        changed = PyLong_AsLongLong(version) != PyLong_AsLongLong(PyTuple_GET_ITEM(pair, 1));
        Py_DECREF(version);
    }
    if (!changed) {
        return 0;
    }
    if (name == NULL && (name = PyUnicode_InternFromString("_changes")) == NULL) {
        return -1;
    }
    PyObject *written = written_uncounted(uncounted, given->args, given->kwargs);
    if (written == NULL) {
        return -1;
    }
    PyObject *arguments[] = {core->observer, given->info, op, before, given->since, Py_True, result, written};
    PyObject *found = PyObject_VectorcallMethod(name, arguments, 8, NULL);
    Py_DECREF(written);
    changed = found == NULL ? -1 : PyObject_IsTrue(found);
    Py_XDECREF(found);
    return changed;
}

static int
note_call(
    Core *core, const Given *given, PyObject *site, PyObject *op, Pass *pass, PyObject *inputs, const Known *known,
    PyObject *result)
{
    int failed = 0;
    for (Py_ssize_t place = 0; place < PyTuple_GET_SIZE(inputs); place++) {
        PyObject *value = PyTuple_GET_ITEM(inputs, place);
        PyObject *seen = place < LOOKED_UP ? known->seen[place] : known_by_id(core->tensors, value, &failed);
        if (failed || note_input(core, value, seen, op) < 0) {
            return -1;
        }
    }
    Py_ssize_t touched = note_results(core, result, op, given->flags, given->since, inputs);
    if (touched < 0) {
        return -1;
    }
    if (given->before != NULL) {
        int changed = note_changes(core, given, op, result);
        if (changed < 0) {
            return -1;
        }
        touched += changed;
    }
    if (pass != NULL && finish_pass(core, pass, op, result, SLOT(site, Site_span)) < 0) {
        return -1;
    }
    if (!touched && number_in(given->info, Function_kind) == CALL) {
        static PyObject *name;
        PyObject *done = call_observer(core, &name, "_withdraw", op, NULL, NULL);
        Py_XDECREF(done);
        return done == NULL ? -1 : 0;
    }
    return settle(core);
}

Outcome
observe(
    Core *core, PyObject *info, PyObject *site, long below, PyObject *args, PyObject *kwargs, PyObject *result,
    PyObject *before, Pass *pass, PyObject *since, PyObject *thread)
{
    long flags = 0;
    Outcome outcome = is_usual(core, site, thread, &flags);
    if (outcome != DONE) {
        return outcome;
    }
    if (PyList_GET_SIZE(core->dead) && bury(core) < 0) {
        return FAILED;
    }
    Known known;
    PyObject *inputs = inputs_of(args, kwargs);
    int is_news = inputs == NULL ? -1 : look_up_inputs(core, inputs, &known);
    if (is_news || set_number(site, Site_seen, number_in(site, Site_seen) + 1) < 0) {
        Py_XDECREF(inputs);
        return is_news == 1 ? LEFT : FAILED;
    }
    PyObject *op = SLOT(core->tape, Tape_op_count), *number = PyLong_FromLong(flags | below);
    Py_INCREF(op);
    Given given = {.info = info, .args = args, .kwargs = kwargs, .before = before, .since = since, .flags = flags};
    outcome = FAILED;
    if (number != NULL && inputs != NULL) {
        PyObject *row[] = {SLOT(info, Function_text), SLOT(info, Function_kind), SLOT(site, Site_span),
                           SLOT(site, Site_inner),    thread,                    number,
                           ONE};
        if (add_row(core->ops, row, 7) == 0 &&
            set_number(core->tape, Tape_op_count, PyLong_AsLongLong(op) + 1) == 0 &&
            note_call(core, &given, site, op, pass, inputs, &known, result) == 0) {
            outcome = DONE;
        }
    }
    Py_DECREF(op);
    Py_XDECREF(number);
    Py_XDECREF(inputs);
    return outcome;
}
