/* The weak references of recorder/state/identity.py, kept out of the garbage collector's way.
 *
 * There is one for every tensor and storage that lives, beside a tensor of the program's. Counted as the interpreter
 * counts, they would make it look for garbage several times as often as the program alone does, and visit them each time
 * (a third of the time of a loop of small ops). They are in no circle: what they lead to is numbers, the list of the
 * dead and each other, and from there nothing leads on. So they are not counted, and in none of the collector's lists:
 * each is a list by itself, from which the collector can move it where it has to (it does so with references whose
 * tensor is garbage, to call them). */
#include "core.h"

/* What stands before an object that the collector may visit, the same in all versions that are named here. */
typedef struct {
    uintptr_t next, prev;
} Head;

#if PY_VERSION_HEX >= 0x03090000 && PY_VERSION_HEX < 0x030E0000 && !defined(Py_DEBUG) && !defined(Py_TRACE_REFS)
#define KNOWS_THE_COLLECTOR 1
#else
#define KNOWS_THE_COLLECTOR 0
#endif

#ifndef Py_TPFLAGS_MANAGED_DICT
#define Py_TPFLAGS_MANAGED_DICT 0
#endif
#ifndef Py_TPFLAGS_MANAGED_WEAKREF
#define Py_TPFLAGS_MANAGED_WEAKREF 0
#endif

static PyObject *
new_uncounted(PyTypeObject *type, Py_ssize_t count)
{
    (void)count;
    Head *head = PyObject_Calloc(1, sizeof(Head) + (size_t)type->tp_basicsize);
    if (head == NULL) {
        return PyErr_NoMemory();
    }
    head->next = head->prev = (uintptr_t)head;
    return PyObject_Init((PyObject *)(head + 1), type);
}

/* One that is freed has been taken out of the list that it was in. */
static void
free_uncounted(void *object)
{
    PyObject_Free((Head *)object - 1);
}

/* Of references of a type that is asked for with its first object: those of another shape stay as they are. */
void
keep_uncounted(PyTypeObject *type)
{
    unsigned long unusual = Py_TPFLAGS_MANAGED_DICT | Py_TPFLAGS_MANAGED_WEAKREF;
    if (KNOWS_THE_COLLECTOR && PyType_IS_GC(type) && !PyType_HasFeature(type, unusual) && type->tp_itemsize == 0 &&
        type->tp_dictoffset == 0 && type->tp_alloc == PyType_GenericAlloc && type->tp_free == PyObject_GC_Del) {
        type->tp_alloc = new_uncounted;
        type->tp_free = free_uncounted;
    }
}
