/* One call of a torch function, as torch hands it to the mode: see recorder/calls/function_mode.py, whose rules these
 * are. No frame of ours stands between the program's and the call, so warnings and tracebacks are what they are
 * without us. */
#include "core.h"

static PyObject *record_name, *raised_name, *failed_name, *acquire_name, *release_name, *out_name;

static int
have_names(void)
{
    if (out_name != NULL) {
        return 0;
    }
    record_name = PyUnicode_InternFromString("_record");
    raised_name = PyUnicode_InternFromString("_raised");
    failed_name = PyUnicode_InternFromString("_failed");
    acquire_name = PyUnicode_InternFromString("acquire");
    release_name = PyUnicode_InternFromString("release");
    out_name = PyUnicode_InternFromString("out");
    return record_name && raised_name && failed_name && acquire_name && release_name && out_name ? 0 : -1;
}

/* A call, and what is known of it before it is made. */
typedef struct {
    PyObject *mode, *func, *args, *kwargs; /* the last is NULL where there is none */
    Core *core;
    PyObject *info, *site, *since;
    PyObject *place;  /* through which it is called, NULL where it is called directly */
    PyObject *before; /* its tensors and their versions, as Observer.before gives them; NULL: it changes none */
    Pass pass;        /* that it is, if that is begun */
    PyFrameObject *user;
    long below;
} Call;

static void
clear_call(Call *call)
{
    Py_CLEAR(call->info);
    Py_CLEAR(call->site);
    Py_CLEAR(call->since);
    Py_CLEAR(call->place);
    Py_CLEAR(call->before);
    Py_CLEAR(call->user);
    clear_pass(&call->pass);
}

/* Whether the call was handed over by torch's own Python as it was made: the frame of its caller is left then. */
static int
skip_torch(Call *call, PyFrameObject **frame, PyObject *code)
{
    PyFrameObject *asking = PyFrame_GetBack(*frame);
    if (asking == NULL) {
        return 0;
    }
    PyCodeObject *asked_by = PyFrame_GetCode(asking);
    Py_ssize_t given = PyTuple_GET_SIZE(call->args) + (call->kwargs == NULL ? 0 : PyDict_GET_SIZE(call->kwargs));
    long parameters = PyLong_AsLong(SLOT(call->info, Function_parameters));
    int is_same = (PyObject *)asked_by == code ? parameters == -1 || parameters == given
                                               : (PyObject *)asked_by == SLOT(call->info, Function_asked_by);
    Py_DECREF(asked_by);
    PyFrameObject *outer = is_same ? PyFrame_GetBack(asking) : NULL;
    Py_DECREF(asking);
    Py_DECREF(*frame);
    *frame = outer;
    return outer != NULL;
}

/* Where the call comes from; 0: it is for Python to find out (an error may be set). */
static int
find_place(Call *call)
{
    PyFrameObject *frame = PyEval_GetFrame();
    if (frame == NULL) {
        return 0;
    }
    Py_INCREF(frame);
    PyCodeObject *code = PyFrame_GetCode(frame);
    int is_through = (PyObject *)code == the_handle_code;
    Py_DECREF(code);
    if (is_through && !skip_torch(call, &frame, SLOT(call->info, Function_code))) {
        Py_XDECREF(frame);
        return 0;
    }
    code = PyFrame_GetCode(frame);
    PyObject *place = place_of(call->core, frame, code);
    Py_DECREF(code);
    int is_found = place != NULL && SLOT(place, CallPlace_is_recorder) == Py_False &&
                   SLOT(place, CallPlace_is_mode) == Py_False;
    if (is_found) {
        PyObject *site = SLOT(place, CallPlace_site);
        call->below = 0;
        if (site == Py_None) {
            long kind = PyLong_AsLong(SLOT(call->info, Function_kind));
            call->below = BELOW;
            site = kind == READ_GRAD || kind == EXPORT ? NULL : user_site(call->core, frame, &call->user);
        }
        else {
            call->user = frame;
            Py_INCREF(frame);
        }
        is_found = site != NULL;
        if (is_found) {
            Py_INCREF(site);
            call->site = site;
            if (is_through) {
                Py_INCREF(place);
                call->place = place;
            }
        }
    }
    Py_DECREF(frame);
    return is_found;
}

/* Take the observer's lock; a new reference to it: a fork puts another in its place. */
static PyObject *
take_lock(Call *call)
{
    PyObject *lock = SLOT(call->core->observer, Observer_lock);
    Py_INCREF(lock);
    PyObject *done = PyObject_CallMethodNoArgs(lock, acquire_name);
    if (done == NULL) {
        Py_CLEAR(lock);
    }
    Py_XDECREF(done);
    return lock;
}

/* Leave it; an error that is set remains. */
static void
leave_lock(PyObject *lock)
{
    PyObject *kind, *value, *trace;
    PyErr_Fetch(&kind, &value, &trace);
    PyObject *done = PyObject_CallMethodNoArgs(lock, release_name);
    if (done == NULL) {
        PyErr_Clear();
    }
    Py_XDECREF(done);
    PyErr_Restore(kind, value, trace);
    Py_DECREF(lock);
}

static int
begin_with_lock(Call *call)
{
    PyObject *lock = take_lock(call);
    if (lock == NULL) {
        return 0;
    }
    PyObject *thread = SLOT(call->mode, RecorderMode_thread);
    int is_begun = begin_pass(call->core, call->args, call->kwargs, thread, &call->pass);
    leave_lock(lock);
    return is_begun;
}

/* Whether it is a call of the usual kind, of which all is known that must be known before (where not, an error may be
 * set). */
static int
is_usual(Call *call)
{
    PyObject *observer = call->core->observer;
    if (SLOT(call->info, Function_ignored) != Py_False || SLOT(call->mode, RecorderMode_muted) != Py_False ||
        SLOT(observer, Observer_muted) != Py_False || SLOT(observer, Observer_full) != Py_False) {
        return 0;
    }
    if (call->kwargs != NULL && PyDict_Contains(call->kwargs, out_name)) {
        return 0;
    }
    int mutates = SLOT(call->info, Function_mutates) != Py_False;
    long kind = PyLong_AsLong(SLOT(call->info, Function_kind));
    if (mutates && kind != BACKWARD && (kind != CALL || SLOT(call->info, Function_shares) != Py_False)) {
        return 0;
    }
    PyObject *tracing = ask_for(&ask_tracing_state);
    int is_traced = tracing != Py_None;
    Py_XDECREF(tracing);
    if (is_traced || !find_place(call)) {
        return 0;
    }
    if (kind == BACKWARD) {
        return begin_with_lock(call);
    }
    if (mutates) {
        call->before = versions_before(call->args, call->kwargs);
        return call->before != NULL;
    }
    return 1;
}

/* What Python is to know of what was before; a new reference. */
static PyObject *
before_for_python(Call *call)
{
    if (call->pass.running != NULL) {
        return pass_for_python(call->core, &call->pass);
    }
    PyObject *before = call->before == NULL ? Py_None : call->before;
    Py_INCREF(before);
    return before;
}

static PyObject *
call_torch(Call *call)
{
    if (call->place == NULL) {
        return PyObject_Call(call->func, call->args, call->kwargs);
    }
    PyObject *arguments[] = {call->func, call->args, call->kwargs == NULL ? Py_None : call->kwargs};
    return PyObject_Vectorcall(SLOT(call->place, CallPlace_call), arguments, 3, NULL);
}

/* Take the error that is set, with its traceback in its place; a new reference. */
static PyObject *
take_error(void)
{
    PyObject *kind, *value, *trace;
    PyErr_Fetch(&kind, &value, &trace);
    PyErr_NormalizeException(&kind, &value, &trace);
    if (trace != NULL) {
        PyException_SetTraceback(value, trace);
    }
    Py_XDECREF(kind);
    Py_XDECREF(trace);
    return value;
}

static void
raise_error(PyObject *error)
{
    PyObject *kind = (PyObject *)Py_TYPE(error);
    Py_INCREF(kind);
    PyErr_Restore(kind, error, PyException_GetTraceback(error));
}

/* The call has raised: that is recorded, and raised again. */
static PyObject *
record_error(Call *call)
{
    PyObject *error = take_error();
    PyObject *below = PyLong_FromLong(call->below), *before = before_for_python(call), *noted = NULL;
    if (below != NULL && before != NULL) {
        PyObject *arguments[] = {
            call->mode, call->info, call->site, (PyObject *)call->user, below, call->args,
            call->kwargs == NULL ? Py_None : call->kwargs, before, error,
            call->place == NULL ? Py_False : Py_True};
        noted = PyObject_VectorcallMethod(raised_name, arguments, 10, NULL);
    }
    Py_XDECREF(below);
    Py_XDECREF(before);
    if (noted == NULL) {
        Py_DECREF(error);
        return NULL;
    }
    Py_DECREF(noted);
    raise_error(error);
    return NULL;
}

/* The recorder's own error: it is kept, and does not reach the program. */
static int
keep_error(Call *call)
{
    PyObject *error = take_error();
    PyObject *arguments[] = {call->mode, call->info, error};
    PyObject *kept = PyObject_VectorcallMethod(failed_name, arguments, 3, NULL);
    Py_DECREF(error);
    Py_XDECREF(kept);
    return kept == NULL ? -1 : 0;
}

static int
record_in_python(Call *call, PyObject *result)
{
    PyObject *below = PyLong_FromLong(call->below), *before = before_for_python(call), *noted = NULL;
    if (below != NULL && before != NULL) {
        PyObject *arguments[] = {
            call->mode, call->info, call->site, (PyObject *)call->user, below, call->args,
            call->kwargs == NULL ? Py_None : call->kwargs, result, before, call->since};
        noted = PyObject_VectorcallMethod(record_name, arguments, 10, NULL);
    }
    Py_XDECREF(below);
    Py_XDECREF(before);
    Py_XDECREF(noted);
    return noted == NULL ? -1 : 0;
}

static int
record(Call *call, PyObject *result)
{
    PyObject *lock = take_lock(call);
    Outcome outcome = FAILED;
    if (lock != NULL) {
        Pass *pass = call->pass.running == NULL ? NULL : &call->pass;
        outcome = observe(
            call->core, call->info, call->site, call->below, call->args, call->kwargs, result, call->before, pass,
            call->since, SLOT(call->mode, RecorderMode_thread));
        leave_lock(lock);
    }
    if (outcome == LEFT) {
        return record_in_python(call, result);
    }
    return outcome == FAILED ? keep_error(call) : 0;
}

static PyObject *
leave_to_python(PyObject *mode, PyObject *const *argv, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *stack[8];
    Py_ssize_t count = nargs + (kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames));
    if (count > 7) {
        PyErr_SetString(PyExc_TypeError, "__torch_function__ takes four arguments");
        return NULL;
    }
    stack[0] = mode;
    for (Py_ssize_t place = 0; place < count; place++) {
        stack[place + 1] = argv[place];
    }
    return PyObject_Vectorcall(the_python_handle, stack, nargs + 1, kwnames);
}

static int
begin(Call *call, PyObject *const *argv, Py_ssize_t nargs, PyObject *kwnames)
{
    if (kwnames != NULL || (nargs != 3 && nargs != 4) || Py_TYPE(call->mode) != (PyTypeObject *)the_RecorderMode) {
        return 0;
    }
    PyObject *core = SLOT(call->mode, RecorderMode_core);
    if (core == NULL || !Py_IS_TYPE(core, &CoreType)) {
        return 0;
    }
    call->core = (Core *)core;
    call->func = argv[0];
    call->args = argv[2];
    call->kwargs = nargs == 4 && argv[3] != Py_None ? argv[3] : NULL;
    if (!PyTuple_CheckExact(call->args) || (call->kwargs != NULL && !PyDict_CheckExact(call->kwargs))) {
        return 0;
    }
    if (call->kwargs != NULL && !PyDict_GET_SIZE(call->kwargs)) {
        call->kwargs = NULL;
    }
    call->info = PyDict_GetItemWithError(call->core->functions, call->func);
    Py_XINCREF(call->info);
    return call->info != NULL && Py_TYPE(call->info) == (PyTypeObject *)the_Function;
}

static PyObject *
handle(PyObject *mode, PyObject *const *argv, Py_ssize_t nargs, PyObject *kwnames)
{
    Call call = {.mode = mode};
    PyObject *result = NULL;
    int is_ours = begin(&call, argv, nargs, kwnames);
    if (is_ours && SLOT(call.info, Function_ignored) == Py_True && SLOT(call.info, Function_code) == Py_None) {
        result = call_torch(&call); /* torch's C++ hands over what it was asked for */
        clear_call(&call);
        return result;
    }
    if (!is_ours || have_names() < 0 || (call.since = ask_for(&ask_sequence_number)) == NULL || !is_usual(&call)) {
        clear_call(&call);
        if (PyErr_Occurred() && !handed_over()) {
            return NULL;
        }
        return leave_to_python(mode, argv, nargs, kwnames);
    }
    PyObject *core = (PyObject *)call.core;
    Py_INCREF(core);
    result = call_torch(&call);
    if (result == NULL) {
        record_error(&call);
    }
    else if (record(&call, result) < 0) {
        Py_CLEAR(result);
    }
    clear_call(&call);
    Py_DECREF(core);
    return result;
}

PyMethodDef handle_method = {
    "__torch_function__", (PyCFunction)(void (*)(void))handle, METH_FASTCALL | METH_KEYWORDS,
    "Hand a call of a torch function to the observer."};
