/* Where a call comes from: see recorder/places/callers.py, whose rules these are. */
#include "core.h"

static int
instruction_of(PyFrameObject *frame)
{
#if PY_VERSION_HEX >= 0x030B0000
    return PyFrame_GetLasti(frame);
#else
    PyObject *lasti = PyObject_GetAttrString((PyObject *)frame, "f_lasti");
    int found = lasti == NULL ? -1 : (int)PyLong_AsLong(lasti);
    Py_XDECREF(lasti);
    PyErr_Clear();
    return found;
#endif
}

/* What a table knows by the id of code and an instruction in it; borrowed. */
static PyObject *
known_at(PyObject *table, PyObject *code, int lasti)
{
    PyObject *key = Py_BuildValue("(Ni)", PyLong_FromVoidPtr(code), lasti);
    if (key == NULL) {
        PyErr_Clear();
        return NULL;
    }
    PyObject *found = PyDict_GetItemWithError(table, key);
    Py_DECREF(key);
    if (found == NULL) {
        PyErr_Clear();
    }
    return found;
}

PyObject *
place_of(Core *core, PyFrameObject *frame, PyCodeObject *code)
{
    int lasti = instruction_of(frame);
    size_t at = (((size_t)code >> 4) * 31 + (size_t)lasti) % PLACES;
    KnownPlace *known = &core->known_places[at];
    if (known->code == (PyObject *)code && known->lasti == lasti) {
        return known->place;
    }
    PyObject *place = known_at(core->places, (PyObject *)code, lasti);
    Py_XINCREF(place);
    if (place == NULL) {
        PyObject *name = PyUnicode_InternFromString("new_place");
        place = name == NULL ? NULL : PyObject_CallMethodOneArg(core->observer, name, (PyObject *)frame);
        Py_XDECREF(name);
    }
    if (place == NULL || Py_TYPE(place) != (PyTypeObject *)the_CallPlace) {
        Py_XDECREF(place);
        return NULL;
    }
    /* Calls made through a frame of Python's may have warned: that is known to the caller's module from here on. */
    PyObject *shared = PyObject_CallFunctionObjArgs(the_share_warnings, SLOT(place, CallPlace_call), frame, NULL);
    if (shared == NULL) {
        Py_DECREF(place);
        return NULL;
    }
    Py_DECREF(shared);
    known->code = (PyObject *)code;
    known->lasti = lasti;
    Py_XSETREF(known->place, place);
    return place;
}

/* Whose code it is; borrowed, NULL where it was not met before. */
static PyObject *
owner_of(Core *core, PyObject *code)
{
    KnownOwner *known = &core->known_owners[((size_t)code >> 4) % OWNERS];
    if (known->code == code) {
        return known->owner;
    }
    int failed;
    PyObject *owner = known_by_id(core->owners, code, &failed);
    if (owner == NULL) {
        PyErr_Clear();
        return NULL;
    }
    known->code = code;
    known->owner = owner;
    return owner;
}

static int
is_in(PyObject *set, PyObject *code)
{
    int found = PySet_Contains(set, code);
    if (found < 0) {
        PyErr_Clear();
    }
    return found != 0;
}

/* The site of the user's frame that a frame is, or, where it walks, of the first above it without a library between. */
PyObject *
site_around(Core *core, PyFrameObject *frame, int walks)
{
    PyFrameObject *current = frame;
    PyObject *site = NULL;
    Py_INCREF(current);
    while (current != NULL) {
        PyCodeObject *code = PyFrame_GetCode(current);
        PyObject *owner = owner_of(core, (PyObject *)code);
        Py_DECREF(code); /* the frame holds it */
        if (owner == the_owner_user) {
            site = known_at(core->sites, (PyObject *)code, instruction_of(current));
        }
        if (owner == NULL || owner == the_owner_user || owner == the_owner_library || !walks) {
            break;
        }
        PyFrameObject *outer = PyFrame_GetBack(current);
        Py_DECREF(current);
        current = outer;
    }
    Py_XDECREF(current);
    return site == NULL || Py_TYPE(site) == (PyTypeObject *)the_Site ? site : NULL;
}

/* The usual ways to a call of torch's own Python: a module was called by the user's code. */
PyObject *
user_site(Core *core, PyFrameObject *frame, PyFrameObject **user)
{
    PyFrameObject *current = frame;
    PyObject *innermost = NULL, *outermost = NULL, *site = NULL; /* code of torch's */
    Py_INCREF(current);
    while (current != NULL) {
        PyCodeObject *code = PyFrame_GetCode(current);
        PyObject *owner = owner_of(core, (PyObject *)code);
        Py_DECREF(code); /* the frame holds it */
        if (owner == NULL || owner == the_owner_library) {
            break;
        }
        if (owner == the_owner_user) {
            site = known_at(core->sites, (PyObject *)code, instruction_of(current));
            break;
        }
        if (owner == the_owner_torch) {
            innermost = innermost == NULL ? (PyObject *)code : innermost;
            outermost = (PyObject *)code;
        }
        PyFrameObject *outer = PyFrame_GetBack(current);
        Py_DECREF(current);
        current = outer;
    }
    if (site != NULL && (Py_TYPE(site) != (PyTypeObject *)the_Site ||
                         (innermost != NULL && (is_in(the_sets_mode, innermost) || !is_in(the_module_calls, outermost))))) {
        site = NULL;
    }
    if (site != NULL) {
        *user = current;
    }
    else {
        Py_XDECREF(current);
    }
    return site;
}
