/* Asking torch, through what it gives to Python: the functions behind its attributes and methods are called directly,
 * where looking them up anew each time would cost as much as the answer. */
#include "core.h"

static int
prepare_function(Ask *ask, PyCFunction function, int flags)
{
    if (flags == METH_NOARGS) {
        ask->plain = function;
    }
    else if (flags == (METH_VARARGS | METH_KEYWORDS)) {
        ask->with_keywords = (PyCFunctionWithKeywords)(void (*)(void))function;
    }
    return 0;
}

int
prepare_ask(Ask *ask, PyObject *callable)
{
    Py_INCREF(callable);
    Py_XSETREF(ask->callable, callable);
    ask->self = NULL;
    ask->plain = NULL;
    ask->with_keywords = NULL;
    ask->get = NULL;
    if (Py_IS_TYPE(callable, &PyGetSetDescr_Type)) {
        PyGetSetDef *definition = ((PyGetSetDescrObject *)callable)->d_getset;
        ask->get = definition->get;
        ask->closure = definition->closure;
        if (ask->get == NULL) {
            PyErr_SetString(PyExc_TypeError, "an attribute that cannot be read");
            return -1;
        }
        return 0;
    }
    if (Py_IS_TYPE(callable, &PyMethodDescr_Type)) {
        PyMethodDef *definition = ((PyMethodDescrObject *)callable)->d_method;
        return prepare_function(ask, definition->ml_meth, definition->ml_flags);
    }
    if (PyCFunction_CheckExact(callable)) {
        ask->self = PyCFunction_GET_SELF(callable);
        return prepare_function(ask, PyCFunction_GET_FUNCTION(callable), PyCFunction_GET_FLAGS(callable));
    }
    return 0;
}

PyObject *
ask_of(Ask *ask, PyObject *object)
{
    if (ask->get != NULL) {
        return ask->get(object, ask->closure);
    }
    if (ask->plain != NULL) {
        return ask->plain(object, NULL);
    }
    if (ask->with_keywords != NULL) {
        return ask->with_keywords(object, NO_ARGUMENTS, NULL);
    }
    return PyObject_CallOneArg(ask->callable, object);
}

PyObject *
ask_for(Ask *ask)
{
    if (ask->plain != NULL) {
        return ask->plain(ask->self, NULL);
    }
    if (ask->with_keywords != NULL) {
        return ask->with_keywords(ask->self, NO_ARGUMENTS, NULL);
    }
    return PyObject_CallNoArgs(ask->callable);
}

int
saved_hooks_in_force(void)
{
    PyObject *hooks = PyObject_CallOneArg(the_innermost_saved_hooks, Py_True);
    if (hooks == NULL) {
        return -1;
    }
    int found = hooks != Py_None;
    Py_DECREF(hooks);
    return found;
}

/* Whether the error that is set was raised into the program at this moment, by a handler of its signals: that passes
 * through Python, and leaves a traceback. */
static int
is_programs(void)
{
    PyObject *kind, *value, *trace, *answer = NULL;
    PyErr_Fetch(&kind, &value, &trace);
    if (trace != NULL) {
        PyErr_NormalizeException(&kind, &value, &trace);
        if (trace != NULL) {
            PyException_SetTraceback(value, trace);
        }
        answer = PyObject_CallOneArg(the_is_programs, value);
        if (answer == NULL) { /* another one came meanwhile */
            Py_XDECREF(kind);
            Py_XDECREF(value);
            Py_XDECREF(trace);
            return 1;
        }
    }
    int is_it = answer == Py_True;
    Py_XDECREF(answer);
    PyErr_Restore(kind, value, trace);
    return is_it;
}

int
handed_over(void)
{
    if (PyErr_ExceptionMatches(PyExc_Exception) && !PyErr_ExceptionMatches(PyExc_MemoryError) && !is_programs()) {
        PyErr_Clear();
        return 1;
    }
    return 0;
}
