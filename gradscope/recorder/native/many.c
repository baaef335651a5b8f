/* What is asked of many tensors at once, around a backward pass, an optimizer's step and zero_grad: see
 * recorder/state/many_tensors.py, whose rules these are. */
#include "core.h"

static int
is_plain(PyObject *tensor)
{
    return Py_TYPE(tensor) == (PyTypeObject *)the_Tensor || Py_TYPE(tensor) == (PyTypeObject *)the_Parameter;
}

/* Whether the error that is set is one that torch refuses an answer with; it is forgotten then. */
static int
is_refusal(void)
{
    if (!PyErr_ExceptionMatches(PyExc_RuntimeError)) {
        return 0;
    }
    PyErr_Clear();
    return 1;
}

static PyObject *
none(void)
{
    Py_RETURN_NONE;
}

/* The .grad of a tensor, where it may be asked for; a new reference, None for none. */
static PyObject *
gradient_of(PyObject *tensor)
{
    if (tensor == Py_None) {
        return none();
    }
    if (!is_plain(tensor)) {
        return PyObject_CallOneArg(the_grad_of, tensor);
    }
    PyObject *has_one = ask_of(&ask_is_leaf, tensor);
    if (has_one == Py_False) {
        Py_DECREF(has_one);
        has_one = ask_of(&ask_retains_grad, tensor);
    }
    PyObject *gradient = NULL;
    if (has_one == Py_True) {
        gradient = ask_of(&ask_grad, tensor);
    }
    else if (has_one != NULL) {
        gradient = none();
    }
    Py_XDECREF(has_one);
    return gradient == NULL && is_refusal() ? none() : gradient;
}

/* The .grad of what a weak reference leads to; a new reference. */
static PyObject *
gradient_behind(PyObject *reference)
{
    Py_INCREF(reference);
    PyObject *tensor = PyObject_CallNoArgs(reference);
    Py_DECREF(reference);
    PyObject *gradient = tensor == NULL ? NULL : gradient_of(tensor);
    Py_XDECREF(tensor);
    return gradient;
}

static PyObject *
version_of(PyObject *tensor)
{
    if (!is_plain(tensor)) {
        return PyObject_CallOneArg(the_version_of, tensor);
    }
    PyObject *version = ask_of(&ask_version, tensor);
    return version == NULL && is_refusal() ? PyLong_FromLong(NONE) : version;
}

static PyObject *
written_version_of(PyObject *gradient)
{
    return is_plain(gradient) ? version_of(gradient) : PyObject_CallOneArg(the_written_version_of, gradient);
}

/* Append a tuple of what is given (its references are taken) to a list, if all of it is there. */
static int
append_tuple(PyObject *list, PyObject *first, PyObject *second, PyObject *third)
{
    int width = third == NULL ? 2 : 3;
    PyObject *tuple = first == NULL || second == NULL ? NULL : PyTuple_New(width);
    if (tuple == NULL) {
        Py_XDECREF(first);
        Py_XDECREF(second);
        Py_XDECREF(third);
        return -1;
    }
    PyTuple_SET_ITEM(tuple, 0, first);
    PyTuple_SET_ITEM(tuple, 1, second);
    if (third != NULL) {
        PyTuple_SET_ITEM(tuple, 2, third);
    }
    int failed = PyList_Append(list, tuple);
    Py_DECREF(tuple);
    return failed;
}

static PyObject *
given(PyObject *object)
{
    Py_INCREF(object);
    return object;
}

/* Item of a list that others may change meanwhile; a new reference, NULL at its end. */
static PyObject *
item_of(PyObject *list, Py_ssize_t place)
{
    return place < PyList_GET_SIZE(list) ? given(PyList_GET_ITEM(list, place)) : NULL;
}

static int
is_list(PyObject *object)
{
    if (PyList_CheckExact(object)) {
        return 1;
    }
    PyErr_SetString(PyExc_TypeError, "takes a list");
    return 0;
}

/* The parts of a tuple of so many, borrowed. */
static int
parts_of(PyObject *tuple, Py_ssize_t width, PyObject **parts)
{
    if (!PyTuple_CheckExact(tuple) || PyTuple_GET_SIZE(tuple) != width) {
        PyErr_SetString(PyExc_TypeError, "takes tuples of another length");
        return -1;
    }
    for (Py_ssize_t place = 0; place < width; place++) {
        parts[place] = PyTuple_GET_ITEM(tuple, place);
    }
    return 0;
}

/* A list that a function has made of each item of another; NULL where one failed. */
static PyObject *
list_of(Core *core, PyObject *items, int (*add)(Core *, PyObject *list, PyObject *item))
{
    if (!is_list(items)) {
        return NULL;
    }
    PyObject *found = PyList_New(0), *item;
    for (Py_ssize_t place = 0; found != NULL && (item = item_of(items, place)) != NULL; place++) {
        if (add(core, found, item) < 0) {
            Py_CLEAR(found);
        }
        Py_DECREF(item);
    }
    return found;
}

static int
add_version(Core *core, PyObject *list, PyObject *tensor)
{
    (void)core;
    return append_tuple(list, given(tensor), version_of(tensor), NULL);
}

PyObject *
many_versions(Core *core, PyObject *tensors)
{
    return list_of(core, tensors, add_version);
}

static int
add_updated(Core *core, PyObject *list, PyObject *pair)
{
    (void)core;
    PyObject *parts[2];
    if (parts_of(pair, 2, parts) < 0) {
        return -1;
    }
    PyObject *now = version_of(parts[0]);
    int is_same = now == NULL ? -1 : PyObject_RichCompareBool(now, parts[1], Py_EQ);
    if (is_same) {
        Py_XDECREF(now);
        return is_same < 0 ? -1 : 0;
    }
    return append_tuple(list, given(parts[0]), given(parts[1]), now);
}

PyObject *
many_updated(Core *core, PyObject *versions)
{
    return list_of(core, versions, add_updated);
}

static int
add_held(Core *core, PyObject *list, PyObject *parameter)
{
    PyObject *gradient = gradient_of(parameter);
    if (gradient == NULL || gradient == Py_None) {
        Py_XDECREF(gradient);
        return gradient == NULL ? -1 : 0;
    }
    int failed;
    PyObject *seen = known_by_id(core->tensors, gradient, &failed);
    Py_DECREF(gradient);
    return failed ? -1 : append_tuple(list, given(parameter), given(seen == NULL ? NONE_ROW : SLOT(seen, Seen_row)), NULL);
}

PyObject *
many_held(Core *core, PyObject *parameters)
{
    return list_of(core, parameters, add_held);
}

static int
add_cleared(Core *core, PyObject *list, PyObject *pair)
{
    (void)core;
    PyObject *parts[2];
    PyObject *gradient = parts_of(pair, 2, parts) < 0 ? NULL : gradient_of(parts[0]);
    Py_XDECREF(gradient); /* only whether there is one is asked */
    return gradient == NULL ? -1 : gradient == Py_None ? PyList_Append(list, pair) : 0;
}

PyObject *
many_cleared(Core *core, PyObject *held)
{
    return list_of(core, held, add_cleared);
}

/* A weak reference to a leaf's gradient and its version, None and 0 where it has none; a new reference. */
static PyObject *
state_of(Core *core, PyObject *gradient)
{
    if (gradient == Py_None) {
        return PyTuple_Pack(2, Py_None, ZERO);
    }
    int failed;
    PyObject *known = known_by_id(core->tensors, gradient, &failed), *version = NULL, *state = NULL;
    PyObject *reference = failed ? NULL : known != NULL ? given(known) : PyWeakref_NewRef(gradient, NULL);
    if (reference != NULL && (version = written_version_of(gradient)) != NULL) {
        state = PyTuple_Pack(2, reference, version);
    }
    Py_XDECREF(reference);
    Py_XDECREF(version);
    return state;
}

PyObject *
many_before(Core *core, PyObject *rows)
{
    if (!is_list(rows)) {
        return NULL;
    }
    PyObject *found = PyDict_New(), *row;
    int failed = found == NULL;
    for (Py_ssize_t place = 0; !failed && (row = item_of(rows, place)) != NULL; place++) {
        PyObject *leaf = PyDict_GetItemWithError(SLOT(core->identity, Identity_leaves), row);
        if (leaf == NULL && !PyErr_Occurred()) {
            PyErr_SetObject(PyExc_KeyError, row);
        }
        PyObject *gradient = leaf == NULL ? NULL : gradient_behind(leaf);
        PyObject *state = gradient == NULL ? NULL : state_of(core, gradient);
        failed = state == NULL || PyDict_SetItem(found, row, state) < 0;
        Py_XDECREF(gradient);
        Py_XDECREF(state);
        Py_DECREF(row);
    }
    if (failed) {
        Py_CLEAR(found);
    }
    return found;
}

/* What is known of a gradient, which is entered where it is new; a new reference. */
static PyObject *
seen_gradient(Core *core, PyObject *gradient, PyObject *op, int *is_new)
{
    static PyObject *name;
    int failed;
    PyObject *seen = known_by_id(core->tensors, gradient, &failed);
    *is_new = seen == NULL;
    if (seen != NULL || failed) {
        Py_XINCREF(seen);
        return seen;
    }
    PyObject *follows = Py_TYPE(gradient) == (PyTypeObject *)the_Tensor ? ask_of(&ask_requires_grad, gradient) : NULL;
    if (follows == Py_True || follows == Py_False) {
        long flags = follows == Py_True ? GRADIENT : GRADIENT | LEAF;
        Py_DECREF(follows);
        seen = add_tensor(core, gradient, op, NONE_ROW, flags, NO_ARGUMENTS);
    }
    else if (follows == NULL && PyErr_Occurred()) {
        return NULL;
    }
    else {
        Py_XDECREF(follows);
        if (name == NULL && (name = PyUnicode_InternFromString("_enter_gradient")) == NULL) {
            return NULL;
        }
        PyObject *arguments[] = {core->many, gradient, op};
        seen = PyObject_VectorcallMethod(name, arguments, 3, NULL);
    }
    if (seen != NULL && Py_TYPE(seen) != (PyTypeObject *)the_Seen) {
        PyErr_SetString(PyExc_TypeError, "a gradient was entered as something else");
        Py_CLEAR(seen);
    }
    return seen;
}

/* What became of a leaf's gradient, which had a state before; -1 for an error. */
static long
outcome_of(PyObject *gradient, PyObject *before)
{
    PyObject *parts[2];
    if (parts_of(before, 2, parts) < 0) {
        return -1;
    }
    if (parts[0] == Py_None) {
        return CREATED;
    }
    PyObject *was = PyObject_CallNoArgs(parts[0]);
    if (was != gradient) {
        Py_XDECREF(was);
        return was == NULL ? -1 : ACCUMULATED;
    }
    Py_DECREF(was); /* the leaf holds it */
    PyObject *version = written_version_of(gradient);
    int is_same = version == NULL ? -1 : PyObject_RichCompareBool(version, parts[1], Py_EQ);
    Py_XDECREF(version);
    return is_same < 0 ? -1 : is_same ? UNTOUCHED : ACCUMULATED;
}

static int
note_outcome(Core *core, PyObject *row, PyObject *before, PyObject *op, int raised, PyObject *got)
{
    PyObject *leaf = PyDict_GetItemWithError(SLOT(core->identity, Identity_leaves), row), *seen = NULL;
    if (leaf == NULL && PyErr_Occurred()) {
        return -1;
    }
    PyObject *gradient = leaf == NULL ? none() : gradient_behind(leaf);
    if (gradient == NULL) {
        return -1;
    }
    long outcome = MISSING;
    int is_new = 0, failed = 0;
    if (gradient != Py_None) {
        seen = seen_gradient(core, gradient, op, &is_new);
        outcome = seen == NULL ? -1 : outcome_of(gradient, before);
    }
    PyObject *number = outcome < 0 ? NULL : PyLong_FromLong(outcome);
    int is_given = outcome == CREATED || outcome == ACCUMULATED;
    failed = number == NULL || (is_given && append_tuple(got, given(row), given(gradient), NULL) < 0);
    if (!failed && (is_given || !raised)) {
        int allocates = outcome == CREATED || (outcome == ACCUMULATED && is_new);
        PyObject *values[] = {
            op, row, number, seen == NULL ? NONE_ROW : SLOT(seen, Seen_row), allocates ? SLOT(seen, Seen_nbytes) : ZERO};
        failed = add_row(core->gradient_rows, values, 5) < 0;
    }
    Py_XDECREF(number);
    Py_XDECREF(seen);
    Py_DECREF(gradient);
    return failed ? -1 : 0;
}

PyObject *
many_after(Core *core, PyObject *rows, PyObject *before, PyObject *op, int raised)
{
    if (!is_list(rows)) {
        return NULL;
    }
    PyObject *got = PyList_New(0), *row;
    int failed = got == NULL;
    for (Py_ssize_t place = 0; !failed && (row = item_of(rows, place)) != NULL; place++) {
        PyObject *state = PyObject_GetItem(before, row);
        failed = state == NULL || note_outcome(core, row, state, op, raised, got) < 0;
        Py_XDECREF(state);
        Py_DECREF(row);
    }
    if (failed) {
        Py_CLEAR(got);
    }
    return got;
}

static int
note_change(Core *core, PyObject *op, PyObject *field, PyObject *change, PyObject *enter)
{
    PyObject *parts[3];
    int failed;
    if (parts_of(change, 3, parts) < 0) {
        return -1;
    }
    PyObject *seen = known_by_id(core->tensors, parts[0], &failed);
    if (seen != NULL) {
        PyObject *use[] = {op, SLOT(seen, Seen_row)};
        failed = add_row(core->uses, use, 2) < 0;
    }
    else if (!failed) {
        PyObject *done = PyObject_CallFunctionObjArgs(enter, parts[0], op, Py_False, NULL);
        Py_XDECREF(done);
        seen = done == NULL ? NULL : known_by_id(core->tensors, parts[0], &failed);
        if (seen == NULL && !PyErr_Occurred()) {
            PyErr_SetString(PyExc_KeyError, "a tensor that was entered is not known");
        }
        failed = seen == NULL;
    }
    if (failed) {
        return -1;
    }
    PyObject *row[] = {op, SLOT(seen, Seen_row), field, parts[1], parts[2]};
    return add_row(core->changes, row, 5);
}

PyObject *
many_note_changes(Core *core, PyObject *op, PyObject *field, PyObject *changes, PyObject *enter)
{
    if (!is_list(changes)) {
        return NULL;
    }
    PyObject *change;
    int failed = 0;
    for (Py_ssize_t place = 0; !failed && (change = item_of(changes, place)) != NULL; place++) {
        failed = note_change(core, op, field, change, enter) < 0;
        Py_DECREF(change);
    }
    return failed ? NULL : none();
}

/* Enter the tensors among some values that are not known yet. */
static int
enter_values(Core *core, PyObject *values, PyObject *op)
{
    for (Py_ssize_t place = 0; place < PyList_GET_SIZE(values); place++) {
        PyObject *value = PyList_GET_ITEM(values, place);
        int failed;
        if (known_by_id(core->tensors, value, &failed) != NULL) {
            continue;
        }
        int is_one = failed ? -1 : is_plain(value) ? 1 : PyObject_IsInstance(value, the_Tensor);
        if (is_one > 0) {
            PyObject *seen = enter_tensor(core, value, op, ZERO, 0, 0, NO_ARGUMENTS);
            is_one = seen == NULL ? -1 : 1;
            Py_XDECREF(seen);
        }
        if (is_one < 0) {
            return -1;
        }
    }
    return 0;
}

PyObject *
many_enter_new(Core *core, PyObject *states, PyObject *op)
{
    PyObject *held = PySequence_List(states);
    int failed = held == NULL;
    for (Py_ssize_t place = 0; !failed && place < PyList_GET_SIZE(held); place++) {
        PyObject *state = PyList_GET_ITEM(held, place);
        if (PyDict_Check(state)) {
            PyObject *values = PyDict_Values(state);
            failed = values == NULL || enter_values(core, values, op) < 0;
            Py_XDECREF(values);
        }
    }
    Py_XDECREF(held);
    return failed ? NULL : none();
}
