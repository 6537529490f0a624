/* Driving steps from the event loop, as reference.State.driven: an awaitable that gives the event loop what the host's
 * coroutine gives, and polls the guest in between. */
#include "crossing.h"

#include <structmember.h>

/* `future`: what the steps wait for, where they said it: it is polled without them. `begun`: it was awaited. */
typedef struct {
    PyObject_HEAD
    State *state;
    PyObject *steps;
    void *future;
    bool begun;
} Drive;

/* A future's address, as steps yield it; anything else is no matter. */
static void *future_of(PyObject *yielded)
{
    if (!PyLong_CheckExact(yielded))
        return NULL;
    void *future = PyLong_AsVoidPtr(yielded);
    PyErr_Clear();
    return future;
}

/* What the event loop gets: what the coroutine wants of it, or a turn. */
static PySendResult wait(Drive *self, PyObject **result)
{
    *result = Py_NewRef(there(self->state->coroutine) ? self->state->wanted : Py_None);
    return PYGEN_NEXT;
}

/* The event loop has had its turn, and what the guest waited for, if it is a coroutine, is there. */
static PySendResult advance(Drive *self, PyObject **result)
{
    self->state->activity->turn = self->state->activity->ticks;
    PyObject *sent = Py_None, *yielded;
    if (self->future != NULL) {
        int returned = crossing_poll(self->state, self->future);
        if (returned == 0)
            return wait(self, result);
        if (returned < 0)
            return PYGEN_ERROR;
        self->future = NULL;
        sent = Py_True;
    }
    PySendResult status = PyIter_Send(self->steps, sent, &yielded);
    if (status != PYGEN_NEXT) {
        *result = yielded;
        return status;
    }
    self->future = future_of(yielded);
    Py_DECREF(yielded);
    return wait(self, result);
}

static PySendResult drive_send(PyObject *object, PyObject *sent, PyObject **result)
{
    Drive *self = (Drive *)object;
    *result = NULL;
    if (!self->begun) {
        self->begun = true;
        return wait(self, result);
    }
    if (there(self->state->coroutine)) {
        PyObject *coroutine = Py_NewRef(self->state->coroutine);
        PySendResult status = PyIter_Send(coroutine, sent, result);
        Py_DECREF(coroutine);
        if (status != PYGEN_RETURN)
            return status;
        state_resume(self->state, *result);
        Py_CLEAR(*result);
    }
    return advance(self, result);
}

/* As a generator's: NULL with StopIteration at the end. */
static PyObject *given(PySendResult status, PyObject *result)
{
    if (status == PYGEN_RETURN) {
        PyObject *end = PyObject_CallOneArg(PyExc_StopIteration, result);
        Py_CLEAR(result);
        if (end != NULL) {
            PyErr_SetObject(PyExc_StopIteration, end);
            Py_DECREF(end);
        }
    }
    return result;
}

static PyObject *drive_next(PyObject *object)
{
    PyObject *result;
    PySendResult status = drive_send(object, Py_None, &result);
    return given(status, result);
}

static PyObject *drive_send_method(PyObject *object, PyObject *sent)
{
    PyObject *result;
    PySendResult status = drive_send(object, sent, &result);
    return given(status, result);
}

/* What a coroutine that was thrown into returned, if that is how it ended. NULL: another exception. */
static PyObject *returned_value(void)
{
    if (!PyErr_ExceptionMatches(PyExc_StopIteration))
        return NULL;
    PyObject *end = crossing_take_exception(), *value = NULL;
    if (end != NULL)
        value = PyObject_GetAttrString(end, "value");
    Py_XDECREF(end);
    return value;
}

static PyObject *drive_throw(PyObject *object, PyObject *args)
{
    Drive *self = (Drive *)object;
    if (!there(self->state->coroutine)) {
        PyObject *type, *error = NULL, *trace = NULL;
        if (!PyArg_ParseTuple(args, "O|OO", &type, &error, &trace))
            return NULL;
        if (PyExceptionInstance_Check(type))
            PyErr_SetObject((PyObject *)Py_TYPE(type), type);
        else
            PyErr_SetObject(type, error);
        return NULL;
    }
    PyObject *coroutine = Py_NewRef(self->state->coroutine), *throw = PyObject_GetAttrString(coroutine, "throw");
    PyObject *result = throw == NULL ? NULL : PyObject_Call(throw, args, NULL);
    Py_XDECREF(throw);
    Py_DECREF(coroutine);
    if (result != NULL || (result = returned_value()) == NULL)
        return result;
    state_resume(self->state, result);
    Py_DECREF(result);
    PySendResult status = advance(self, &result);
    return given(status, result);
}

static int drive_traverse(PyObject *object, visitproc visit, void *arg)
{
    Py_VISIT(((Drive *)object)->state);
    Py_VISIT(((Drive *)object)->steps);
    return 0;
}

static void drive_dealloc(PyObject *object)
{
    PyObject_GC_UnTrack(object);
    Py_CLEAR(((Drive *)object)->state);
    Py_CLEAR(((Drive *)object)->steps);
    PyObject_GC_Del(object);
}

/* driven(steps, yielded): `yielded` is what the first step, which was taken, gave. */
PyObject *state_driven(PyObject *state, PyObject *const *args, Py_ssize_t count)
{
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "driven takes steps, yielded");
        return NULL;
    }
    Drive *made = PyObject_GC_New(Drive, &DriveType);
    if (made == NULL)
        return NULL;
    made->state = (State *)Py_NewRef(state);
    made->steps = Py_NewRef(args[0]);
    made->future = future_of(args[1]);
    made->begun = false;
    PyObject_GC_Track((PyObject *)made);
    return (PyObject *)made;
}

static PyMethodDef drive_methods[] = {
    {"send", drive_send_method, METH_O, NULL},
    {"throw", drive_throw, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyAsyncMethods drive_async = {.am_await = PyObject_SelfIter, .am_send = drive_send};

PyTypeObject DriveType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "perdure.component._crossing.Drive",
    .tp_basicsize = sizeof(Drive),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_dealloc = drive_dealloc,
    .tp_traverse = drive_traverse,
    .tp_as_async = &drive_async,
    .tp_iter = PyObject_SelfIter,
    .tp_iternext = drive_next,
    .tp_methods = drive_methods,
};
