/* Rows that are pending, in lists, and numbers in slots. */
#include "core.h"

/* A row is there as a whole or not at all. Most fit into the room that the list has to spare, which its public layout
 * tells: they are put there at once. */
int
add_row(PyObject *rows, PyObject *const *values, Py_ssize_t width)
{
    Py_ssize_t before = PyList_GET_SIZE(rows);
    PyListObject *list = (PyListObject *)rows;
    if (width <= list->allocated - before) {
        for (Py_ssize_t place = 0; place < width; place++) {
            Py_INCREF(values[place]);
            list->ob_item[before + place] = values[place];
        }
        Py_SET_SIZE(list, before + width);
        return 0;
    }
    for (Py_ssize_t place = 0; place < width; place++) {
        if (PyList_Append(rows, values[place]) < 0) {
            PyObject *kind, *value, *trace;
            PyErr_Fetch(&kind, &value, &trace);
            if (PyList_SetSlice(rows, before, PyList_GET_SIZE(rows), NULL) < 0) {
                PyErr_Clear();
            }
            PyErr_Restore(kind, value, trace);
            return -1;
        }
    }
    return 0;
}

void
set_slot(PyObject *object, Py_ssize_t offset, PyObject *value)
{
    PyObject *before = SLOT(object, offset);
    Py_INCREF(value);
    SLOT(object, offset) = value;
    Py_XDECREF(before);
}

long long
number_in(PyObject *object, Py_ssize_t offset)
{
    PyObject *value = SLOT(object, offset);
    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError, "a slot that is not set");
        return -1;
    }
    return PyLong_AsLongLong(value);
}

int
set_number(PyObject *object, Py_ssize_t offset, long long value)
{
    PyObject *number = PyLong_FromLongLong(value);
    if (number == NULL) {
        return -1;
    }
    PyObject *before = SLOT(object, offset);
    SLOT(object, offset) = number;
    Py_XDECREF(before);
    return 0;
}

/* Ids that were asked for last, by a part of them: memory comes back, and a dictionary finds the very int that is its
 * key without comparing. */
#define IDS 8192
static struct {
    void *object;
    PyObject *id;
} ids[IDS];

/* The id of an object, as Python's id() gives it; a new reference. */
PyObject *
id_of(void *object)
{
    size_t at = ((size_t)object >> 4) % IDS;
    if (ids[at].object != object || ids[at].id == NULL) {
        PyObject *id = PyLong_FromVoidPtr(object);
        if (id == NULL) {
            return NULL;
        }
        ids[at].object = object;
        Py_XSETREF(ids[at].id, id);
    }
    Py_INCREF(ids[at].id);
    return ids[at].id;
}

PyObject *
known_by_id(PyObject *known, PyObject *object, int *failed)
{
    PyObject *key = id_of(object);
    if (key == NULL) {
        *failed = 1;
        return NULL;
    }
    PyObject *found = PyDict_GetItemWithError(known, key);
    Py_DECREF(key);
    *failed = found == NULL && PyErr_Occurred() != NULL;
    return found;
}

static int
is_boring(PyObject *value)
{
    PyTypeObject *kind = Py_TYPE(value);
    return Py_IS_TYPE((PyObject *)kind, &PyType_Type) && PySet_Contains(the_boring, (PyObject *)kind) == 1;
}

int
holds_none(PyObject *value)
{
    if (!PyTuple_CheckExact(value)) {
        return is_boring(value);
    }
    Py_ssize_t count = PyTuple_GET_SIZE(value); /* (a stride, a padding) */
    for (Py_ssize_t place = 0; place < count; place++) {
        if (!is_boring(PyTuple_GET_ITEM(value, place))) {
            return 0;
        }
    }
    return 1;
}
