/* A backward pass of the usual kind: from one tensor, by one thread, at which nothing is looked at but the gradients of
 * the leaves. See recorder/state/backward_passes.py, gradient_looks.py and passes_in_flight.py, whose rules these are. */
#include "core.h"

#include <math.h>

/* Whether a pass is looked at by its number: see is_due; -1 for an error. */
static int
is_due(long long number)
{
    if (number < FIRST_PASSES) {
        return 1;
    }
    long long power = 1;
    while (power <= number / 2) {
        power *= 2;
    }
    return number > 7 && number - power < IN_A_ROW;
}

/* Whether a loss can be seen to be finite, or is none that is read: see is_bad_number. Else Python looks at it. */
static int
is_unremarkable(PyObject *root)
{
    PyObject *count = ask_of(&ask_numel, root);
    long long numel = count == NULL ? -1 : PyLong_AsLongLong(count);
    Py_XDECREF(count);
    if (numel != 1) {
        return !PyErr_Occurred();
    }
    PyObject *is_cpu = ask_of(&ask_is_cpu, root), *layout = ask_of(&ask_tensor_layout, root), *value = NULL;
    int is_read = is_cpu == Py_True && layout == the_strided, is_fine = is_cpu != NULL && layout != NULL && !is_read;
    Py_XDECREF(is_cpu);
    Py_XDECREF(layout);
    if (is_read && (value = ask_of(&ask_item, root)) != NULL) {
        is_fine = PyFloat_CheckExact(value) && isfinite(PyFloat_AS_DOUBLE(value));
        Py_DECREF(value);
    }
    return is_fine;
}

/* The types of a node and of those behind it; a new reference. */
static PyObject *
kind_of(PyObject *node)
{
    static PyObject *name;
    if (name == NULL && (name = PyUnicode_InternFromString("next_functions")) == NULL) {
        return NULL;
    }
    PyObject *edges = PyObject_GetAttr(node, name);
    if (edges == NULL || !PyTuple_CheckExact(edges)) {
        Py_XDECREF(edges);
        return NULL;
    }
    Py_ssize_t count = PyTuple_GET_SIZE(edges);
    PyObject *kind = PyTuple_New(count + 1);
    for (Py_ssize_t place = 0; kind != NULL && place <= count; place++) {
        PyObject *edge = place ? PyTuple_GET_ITEM(edges, place - 1) : NULL;
        PyObject *type = (PyObject *)Py_TYPE(edge == NULL ? node : PyTuple_GET_ITEM(edge, 0));
        Py_INCREF(type);
        PyTuple_SET_ITEM(kind, place, type);
    }
    Py_DECREF(edges);
    return kind;
}

/* Whether so many passes from such nodes were looked at that no more are: see GradientLooks._is_rare. */
static int
is_common(Core *core, PyObject *root)
{
    PyObject *node = ask_of(&ask_grad_fn, root);
    PyObject *kind = node == NULL || node == Py_None ? NULL : kind_of(node);
    Py_XDECREF(node);
    PyObject *count = kind == NULL ? NULL : PyDict_GetItemWithError(core->kinds, kind);
    Py_XDECREF(kind);
    return count != NULL && PyLong_AsLong(count) == FIRST_OF_KIND;
}

static int
is_off(Ask *ask, PyObject *usual)
{
    PyObject *answer = ask_for(ask);
    int is_it = answer == NULL ? 0 : usual != NULL ? answer == usual : PyObject_IsTrue(answer) == 0;
    Py_XDECREF(answer);
    return is_it;
}

/* Whether nothing but the gradients is to be looked at. */
static int
is_not_looked_at(Core *core, PyObject *root, long long *number)
{
    *number = number_in(core->looks, GradientLooks_passes);
    return *number >= 0 && !is_due(*number) && is_off(&ask_dispatch_modes, NULL) && is_off(&ask_profiler, NULL) &&
           is_off(&ask_functorch, Py_None) && is_common(core, root) && is_unremarkable(root);
}

/* An option of a pass that is truth or falsehood, by name or by its place; NULL where it is something else. */
static PyObject *
option(PyObject *args, PyObject *kwargs, const char *name, Py_ssize_t place, PyObject *left_out)
{
    PyObject *value = kwargs == NULL ? NULL : PyDict_GetItemString(kwargs, name);
    if (value == NULL) {
        value = place < PyTuple_GET_SIZE(args) ? PyTuple_GET_ITEM(args, place) : left_out;
    }
    return value == Py_None ? left_out : PyBool_Check(value) ? value : NULL;
}

/* Whether this pass would be the only one, of the only thread that makes nodes. */
static int
is_alone(Core *core, PyObject *thread)
{
    return PyDict_GET_SIZE(core->of_threads) == 1 && PyList_GET_SIZE(core->running) == 0 &&
           number_in(core->observer, Observer_thread) == PyLong_AsLongLong(thread);
}

static int
begin(Core *core, PyObject *args, PyObject *kwargs, PyObject *thread, Pass *pass)
{
    int failed;
    if (core->is_asked_more || !PyTuple_GET_SIZE(args) || !is_alone(core, thread) ||
        PyObject_IsTrue(core->foreign) != 0) {
        return 0;
    }
    PyObject *root = PyTuple_GET_ITEM(args, 0);
    if (Py_TYPE(root) != (PyTypeObject *)the_Tensor || (PyList_GET_SIZE(core->dead) && bury(core) < 0)) {
        return 0;
    }
    pass->seen = known_by_id(core->tensors, root, &failed);
    Py_XINCREF(pass->seen);
    if (pass->seen == NULL || Py_TYPE(pass->seen) != (PyTypeObject *)the_Seen) {
        return 0;
    }
    pass->node = SLOT(pass->seen, Seen_node);
    Py_XINCREF(pass->node);
    pass->create = option(args, kwargs, "create_graph", 3, Py_False);
    pass->retain = pass->create == NULL ? NULL : option(args, kwargs, "retain_graph", 2, pass->create);
    long long number;
    if (pass->node == NULL || PyLong_AsLong(pass->node) == NONE || pass->retain == NULL || !is_not_looked_at(core, root, &number)) {
        return 0;
    }
    PyObject *leaves = PyDict_Keys(SLOT(core->identity, Identity_leaves));
    pass->before = leaves == NULL ? NULL : many_before(core, leaves);
    Py_XDECREF(leaves);
    pass->running = pass->before == NULL ? NULL : PyObject_CallFunctionObjArgs(the_RunningPass, thread, Py_None, NULL);
    /* Nothing was changed so far; from here on the pass is under way. */
    return pass->running != NULL && set_number(core->looks, GradientLooks_passes, number + 1) == 0 &&
           PyList_Append(core->running, pass->running) == 0;
}

/* 1: it is begun; 0: that is for Python to do (an error may be set). The lock is held. */
int
begin_pass(Core *core, PyObject *args, PyObject *kwargs, PyObject *thread, Pass *pass)
{
    int is_begun = begin(core, args, kwargs, thread, pass);
    if (!is_begun) {
        clear_pass(pass);
    }
    return is_begun;
}

void
clear_pass(Pass *pass)
{
    Py_CLEAR(pass->seen);
    Py_CLEAR(pass->node);
    Py_CLEAR(pass->running);
    Py_CLEAR(pass->before);
}

/* The same as Python knows it, which is to finish it; a new reference. */
PyObject *
pass_for_python(Core *core, Pass *pass)
{
    static PyObject *name;
    if (name == NULL && (name = PyUnicode_InternFromString("under_way")) == NULL) {
        return NULL;
    }
    PyObject *arguments[] = {core->passes,  pass->seen,   pass->node,   pass->retain,
                             pass->create, pass->running, pass->before};
    return PyObject_VectorcallMethod(name, arguments, 7, NULL);
}

/* Whether no other pass was begun meanwhile. */
static int
was_alone(Core *core, Pass *pass)
{
    PyObject *beside = SLOT(pass->running, RunningPass_beside);
    return PyList_GET_SIZE(core->running) == 1 && PyList_GET_ITEM(core->running, 0) == pass->running &&
           beside != NULL && PyAnySet_Check(beside) && PySet_GET_SIZE(beside) == 0 &&
           SLOT(pass->running, RunningPass_is_beside_any) == Py_False;
}

/* Write what it did, as its op; -1 for an error. */
int
finish_pass(Core *core, Pass *pass, PyObject *op, PyObject *result, PyObject *span)
{
    if (!was_alone(core, pass)) {
        static PyObject *name;
        PyObject *known = pass_for_python(core, pass), *done = NULL;
        if (known != NULL && (name != NULL || (name = PyUnicode_InternFromString("finish")) != NULL)) {
            PyObject *arguments[] = {known, op, result, span};
            done = PyObject_VectorcallMethod(name, arguments, 4, NULL);
        }
        Py_XDECREF(known);
        Py_XDECREF(done);
        return done == NULL ? -1 : 0;
    }
    if (PyList_SetSlice(core->running, 0, 1, NULL) < 0) {
        return -1;
    }
    PyObject *row[] = {op, SLOT(pass->seen, Seen_row), pass->node, pass->retain, pass->create};
    PyObject *leaves = add_row(core->backward_rows, row, 5) < 0 ? NULL : PyDict_Keys(pass->before);
    PyObject *given = leaves == NULL ? NULL : many_after(core, leaves, pass->before, op, 0);
    Py_XDECREF(leaves);
    Py_XDECREF(given); /* looked at in other passes */
    return given == NULL ? -1 : 0;
}
