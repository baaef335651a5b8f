/* Calls that are looked at around the whole, an optimizer's step and zero_grad: see WholeCalls.observe_step and
 * observe_cleared in recorder/calls/whole_calls.py, whose rules these are. The lock is held. */
#include "core.h"

/* Where a call was made, and under which modes. */
typedef struct {
    PyObject *site; /* borrowed: sites are kept */
    long flags;
} Made;

/* Whether all of the call is known that is written of it; LEFT where Python must look. Nothing is changed yet. */
static Outcome
is_usual(Core *core, PyObject *thread, PyObject *frame, int walks, Made *made)
{
    if (core->is_asked_more || SLOT(core->observer, Observer_full) != Py_False || !PyFrame_Check(frame) ||
        number_in(core->observer, Observer_thread) != PyLong_AsLongLong(thread)) {
        return LEFT;
    }
    made->site = site_around(core, (PyFrameObject *)frame, walks);
    if (made->site == NULL) {
        return LEFT;
    }
    long long before = number_in(made->site, Site_seen);
    if (before < FULL_MATCHES || !(before & (before - 1))) {
        return LEFT; /* names are looked for */
    }
    made->flags = modes_in_force();
    return made->flags < 0 ? LEFT : DONE;
}

/* Errors of ours on the way here are the Python's to meet again. */
static Outcome
left_or_failed(void)
{
    return PyErr_Occurred() && !handed_over() ? FAILED : LEFT;
}

static int
flush_if_due(Core *core)
{
    long long flush_at = number_in(core->tape, Tape_flush_at);
    if (PyList_GET_SIZE(core->ops) < flush_at) {
        return flush_at == -1 && PyErr_Occurred() ? -1 : 0;
    }
    PyObject *done = PyObject_CallMethod(core->observer, "_flush", NULL);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

static int
note_all_changes(Core *core, PyObject *op, long field, PyObject *changes)
{
    PyObject *number = PyLong_FromLong(field), *enter = PyObject_GetAttrString(core->observer, "_inputs");
    PyObject *noted = number == NULL || enter == NULL ? NULL : many_note_changes(core, op, number, changes, enter);
    Py_XDECREF(number);
    Py_XDECREF(enter);
    Py_XDECREF(noted);
    return noted == NULL ? -1 : 0;
}

/* One row for the call, with what it changed: see CallRows._whole_call. */
static int
write_call(
    Core *core, Made *made, PyObject *text, long kind, long field, PyObject *changes, PyObject *states,
    PyObject *thread)
{
    PyObject *op = SLOT(core->tape, Tape_op_count), *numbers[3];
    long long next = PyLong_AsLongLong(op);
    numbers[0] = PyLong_FromLong(kind);
    numbers[1] = PyLong_FromLong(made->flags);
    numbers[2] = PyLong_FromSsize_t(PyList_GET_SIZE(changes));
    int failed = !numbers[0] || !numbers[1] || !numbers[2] || (next == -1 && PyErr_Occurred());
    Py_INCREF(op);
    if (!failed) {
        PyObject *row[] = {text,       numbers[0], SLOT(made->site, Site_span), SLOT(made->site, Site_inner), thread,
                           numbers[1], numbers[2]};
        failed = add_row(core->ops, row, 7) < 0 || set_number(core->tape, Tape_op_count, next + 1) < 0 ||
                 note_all_changes(core, op, field, changes) < 0 || flush_if_due(core) < 0;
    }
    if (!failed && states != NULL) {
        PyObject *entered = many_enter_new(core, states, op);
        Py_XDECREF(entered);
        failed = entered == NULL;
    }
    if (!failed) {
        failed = set_number(made->site, Site_seen, number_in(made->site, Site_seen) + 1) < 0;
    }
    for (int place = 0; place < 3; place++) {
        Py_XDECREF(numbers[place]);
    }
    Py_DECREF(op);
    return failed ? -1 : 0;
}

Outcome
whole_step(Core *core, PyObject *text, PyObject *versions, PyObject *states, PyObject *thread, PyObject *frame)
{
    Made made;
    if (is_usual(core, thread, frame, 1, &made) != DONE) {
        return left_or_failed();
    }
    PyObject *updated = bury(core) < 0 ? NULL : many_updated(core, versions);
    int failed =
        updated == NULL || write_call(core, &made, text, STEP, VERSION_FIELD, updated, states, thread) < 0;
    Py_XDECREF(updated);
    return failed ? FAILED : DONE;
}

/* What was cleared, with what the gradient was before and is now; a new reference. */
static PyObject *
changes_of(Core *core, PyObject *held)
{
    PyObject *cleared = many_cleared(core, held);
    for (Py_ssize_t place = 0; cleared != NULL && place < PyList_GET_SIZE(cleared); place++) {
        PyObject *pair = PyList_GET_ITEM(cleared, place);
        PyObject *change = PyTuple_Pack(3, PyTuple_GET_ITEM(pair, 0), PyTuple_GET_ITEM(pair, 1), NONE_ROW);
        if (change == NULL) {
            Py_CLEAR(cleared);
        }
        else {
            PyList_SetItem(cleared, place, change);
        }
    }
    return cleared;
}

Outcome
whole_cleared(Core *core, PyObject *text, PyObject *held, PyObject *thread, PyObject *frame)
{
    Made made;
    if (is_usual(core, thread, frame, 0, &made) != DONE) {
        return left_or_failed();
    }
    PyObject *changes = bury(core) < 0 ? NULL : changes_of(core, held);
    int failed = changes == NULL || write_call(core, &made, text, GROUP, GRAD_FIELD, changes, NULL, thread) < 0;
    Py_XDECREF(changes);
    return failed ? FAILED : DONE;
}
