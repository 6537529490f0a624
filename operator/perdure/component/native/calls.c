/* Entries into the guest: one asynchronous call of wasmtime's, its first poll and, mostly, its end. */
#include "crossing.h"

enum { MOST_SLICES = 4 }; /* allocator.py: slices after which many allocations let the event loop turn */

/* 1: it has ended, as `out` tells; 0: `*future` is to be polled on; -1: an exception. */
static int enter(State *self, void *core, Val *args, size_t nargs, Val *results, size_t nresults, void **out,
                 void **future)
{
    *future = wasmtime.call_async(self->context, core, args, nargs, results, nresults, out, out + 1);
    self->depth++;
    int returned = crossing_poll(self, *future);
    self->depth--;
    if (returned != 0)
        wasmtime.future_delete(*future);
    return returned;
}

/* The same, and it has succeeded: raises what ended it otherwise (Instance.check). */
static int succeed(State *self, void *core, Arrays *arrays, Val *args, size_t nargs, size_t nresults, void **future)
{
    int returned = enter(self, core, args, nargs, arrays->results, nresults, arrays->out, future);
    if (returned == 1 &&
        (arrays->out[0] != NULL || arrays->out[1] != NULL || there(self->failure) || there(self->lowering))) {
        PyObject *none = PyObject_CallMethod((PyObject *)self, "check", "O", arrays->owner);
        Py_XDECREF(none);
        return none == NULL ? -1 : 1;
    }
    return returned;
}

PyObject *state_poll(PyObject *self, PyObject *future)
{
    void *address = PyLong_AsVoidPtr(future);
    if (address == NULL && PyErr_Occurred())
        return NULL;
    int returned = crossing_poll((State *)self, address);
    return returned < 0 ? NULL : PyBool_FromLong(returned);
}

PyObject *state_enter(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    uintptr_t given[6];
    if (count != 6) {
        PyErr_SetString(PyExc_TypeError, "enter takes core, args, nargs, results, nresults, out");
        return NULL;
    }
    for (int i = 0; i < 6; i++)
        given[i] = (uintptr_t)PyLong_AsVoidPtr(args[i]);
    if (PyErr_Occurred())
        return NULL;
    void *future;
    int returned = enter((State *)self, (void *)given[0], (Val *)given[1], given[2], (Val *)given[3], given[4],
                         (void **)given[5], &future);
    if (returned < 0)
        return NULL;
    return returned ? PyLong_FromLong(0) : PyLong_FromVoidPtr(future);
}

/* It could not be carried to its end: `left` tells the generators of instance.py where to go on. Takes `value`. */
static PyObject *not_finished(State *self, int stage, void *future, PyObject *value)
{
    PyObject *left = Py_BuildValue("(iKN)", stage, (unsigned long long)(uintptr_t)future, value);
    if (left == NULL) { /* out of memory: nobody else knows of it */
        if (future != NULL)
            wasmtime.future_delete(future);
        return NULL;
    }
    Py_XSETREF(self->left, left);
    return Py_NewRef(unfinished);
}

/* As allocator.py: run `lowering` with the guest's allocator. 1: done; 0: `*future`, or NULL for a turn of the event loop,
 * comes first; -1: an exception. */
static int lower(State *self, void *realloc, PyObject *lowering, void **future)
{
    PyObject *sent = Py_NewRef(Py_None);
    for (;;) {
        PyObject *asked;
        PySendResult status = PyIter_Send(lowering, sent, &asked);
        Py_DECREF(sent);
        if (status != PYGEN_NEXT) {
            Py_XDECREF(asked);
            return status == PYGEN_RETURN ? 1 : -1;
        }
        unsigned int wanted[4];
        int parsed = PyArg_ParseTuple(asked, "IIII", &wanted[0], &wanted[1], &wanted[2], &wanted[3]);
        Py_DECREF(asked);
        if (!parsed)
            return -1;
        for (int i = 0; i < 4; i++) {
            self->reallocation.args[i].kind = KIND_I32;
            self->reallocation.args[i].of.i32 = (int32_t)wanted[i];
        }
        self->may_leave = 0;
        int returned = succeed(self, realloc, &self->reallocation, self->reallocation.args, 4, 1, future);
        if (returned != 1)
            return returned;
        self->may_leave = 1;
        if (self->activity->ticks - self->activity->turn > MOST_SLICES) {
            *future = NULL;
            return 0;
        }
        sent = PyLong_FromUnsignedLong((uint32_t)self->reallocation.results[0].of.i32);
        if (sent == NULL)
            return -1;
    }
}

/* An export that `call_at_once` can call: see reference.State.offer. */
typedef struct {
    PyObject_HEAD
    void *core, *post_return, *realloc;
    size_t params, results;
    PyObject *lower, *lift, *cx;
} Offer;

static int offer_traverse(PyObject *object, visitproc visit, void *arg)
{
    Py_VISIT(((Offer *)object)->lower);
    Py_VISIT(((Offer *)object)->lift);
    Py_VISIT(((Offer *)object)->cx);
    return 0;
}

static int offer_clear(PyObject *object)
{
    Py_CLEAR(((Offer *)object)->cx);
    return 0;
}

static void offer_dealloc(PyObject *object)
{
    PyObject_GC_UnTrack(object);
    offer_clear(object);
    Py_CLEAR(((Offer *)object)->lower);
    Py_CLEAR(((Offer *)object)->lift);
    PyObject_GC_Del(object);
}

PyTypeObject OfferType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "perdure.component._crossing.Offer",
    .tp_basicsize = sizeof(Offer),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_dealloc = offer_dealloc,
    .tp_traverse = offer_traverse,
    .tp_clear = offer_clear,
};

PyObject *state_offer(PyObject *self, PyObject *args)
{
    PyObject *path, *lower, *lift, *cx;
    unsigned long long core, params, results, post_return, realloc;
    if (!PyArg_ParseTuple(args, "UKKKKKOOO", &path, &core, &params, &results, &post_return, &realloc, &lower, &lift,
                          &cx))
        return NULL;
    Offer *made = PyObject_GC_New(Offer, &OfferType);
    if (made == NULL)
        return NULL;
    made->core = (void *)(uintptr_t)core;
    made->post_return = (void *)(uintptr_t)post_return;
    made->realloc = (void *)(uintptr_t)realloc;
    made->params = params;
    made->results = results;
    made->lower = Py_NewRef(lower);
    made->lift = Py_NewRef(lift);
    made->cx = Py_NewRef(cx);
    PyObject_GC_Track((PyObject *)made);
    int failed = PyDict_SetItem(((State *)self)->offered, path, (PyObject *)made);
    Py_DECREF(made);
    if (failed < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* 1: the arguments are lowered; 0: `*future` first, for what `*lowering` needs; -1: an exception. */
static int lower_arguments(State *self, Offer *offer, PyObject *values, PyObject **lowering, void **future)
{
    PyObject *given[] = {offer->cx, self->arrays.args_address, values};
    *lowering = PyObject_Vectorcall(offer->lower, given, 3, NULL);
    if (*lowering == NULL)
        return -1;
    return *lowering == Py_None ? 1 : lower(self, offer->realloc, *lowering, future);
}

/* From the core function on. NULL: an exception; `unfinished`: `left` says where to go on. */
static PyObject *run(State *self, Offer *offer)
{
    void *future;
    int returned =
        succeed(self, offer->core, &self->arrays, self->arrays.args, offer->params, offer->results, &future);
    if (returned != 1)
        return returned < 0 ? NULL : not_finished(self, RUNNING, future, Py_NewRef(Py_None));
    PyObject *value;
    if (offer->lift == Py_None) {
        value = Py_NewRef(Py_None);
    } else {
        PyObject *given[] = {offer->cx, self->arrays.results_address};
        value = PyObject_Vectorcall(offer->lift, given, 2, NULL);
    }
    if (value == NULL || offer->post_return == NULL)
        return value;
    self->may_leave = 0;
    returned =
        succeed(self, offer->post_return, &self->arrays, (Val *)self->arrays.results, offer->results, 0, &future);
    if (returned == 0)
        return not_finished(self, CLEANING, future, value);
    self->may_leave = 1;
    if (returned < 0)
        Py_CLEAR(value);
    return value;
}

static PyObject *call(State *self, Offer *offer, PyObject *args)
{
    if (offer->lower == Py_None)
        return run(self, offer);
    PyObject *lowering = NULL, *value = NULL;
    void *future;
    int lowered = lower_arguments(self, offer, args, &lowering, &future);
    if (lowered == 1)
        value = run(self, offer);
    else if (lowered == 0)
        value = not_finished(self, LOWERING, future, Py_NewRef(lowering));
    else
        self->misfit = 1;
    Py_XDECREF(lowering);
    return value;
}

/* call_at_once(path, args). While a call is not over its instance stays busy, and is not usable. */
PyObject *state_call_at_once(PyObject *object, PyObject *const *args, Py_ssize_t count)
{
    State *self = (State *)object;
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "call_at_once takes path, args");
        return NULL;
    }
    PyObject *found = self->offered == NULL ? NULL : PyDict_GetItemWithError(self->offered, args[0]);
    if (found == NULL && PyErr_Occurred())
        return NULL;
    Offer *offer = (Offer *)found;
    if (offer == NULL || !Py_IS_TYPE(found, &OfferType) || self->busy || !self->usable || offer->cx == NULL ||
        !(PyTuple_CheckExact(args[1]) || PyList_CheckExact(args[1])) ||
        (offer->lower == Py_None && PySequence_Fast_GET_SIZE(args[1]) != 0)) {
        Py_XSETREF(self->left, Py_NewRef(Py_None));
        return Py_NewRef(unfinished);
    }
    self->busy = 1;
    self->usable = self->misfit = 0;
    self->activity->turn = self->activity->ticks;
    Py_INCREF(offer);
    PyObject *value = call(self, offer, args[1]);
    Py_DECREF(offer);
    if (value != unfinished) {
        self->busy = 0;
        self->usable = value != NULL;
    }
    return value;
}
