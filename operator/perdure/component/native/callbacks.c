/* Calls out of the guest. They come on the guest's own fiber, without the GIL, and return: no Python frame is ever on a
 * fiber that is suspended, and no exception goes through a frame of wasmtime's. */
#include "crossing.h"

/* Of this thread: whose guest is being polled; its Python state meanwhile; whether the GIL was kept since the guest runs
 * nothing but a trampoline of ours before it calls again or switches out. */
static _Thread_local struct {
    State *current;
    PyThreadState *state;
    bool kept;
} thread;

static inline void take_gil(void)
{
    if (!thread.kept)
        PyEval_RestoreThread(thread.state);
    thread.kept = false;
}

/* Take the exception that is set, whole. */
PyObject *crossing_take_exception(void)
{
#if PY_VERSION_HEX >= 0x030C0000
    return PyErr_GetRaisedException();
#else
    PyObject *type, *error, *trace;
    PyErr_Fetch(&type, &error, &trace);
    PyErr_NormalizeException(&type, &error, &trace);
    if (error != NULL && trace != NULL)
        PyException_SetTraceback(error, trace);
    Py_XDECREF(type);
    Py_XDECREF(trace);
    return error;
#endif
}

/* As fiber.trapped: a new trap for the exception that is set, which is kept for the driver. */
static void *trapped(State *self)
{
    PyObject *error = crossing_take_exception();
    if (error == NULL)
        error = Py_NewRef(PyExc_SystemError);
    const char *name = strrchr(Py_TYPE(error)->tp_name, '.');
    name = name == NULL ? Py_TYPE(error)->tp_name : name + 1;
    void *trap = wasmtime.trap_new(name, strlen(name));
    Py_XSETREF(self->failure, error);
    return trap;
}

/* wasmtime has called while nothing is polled, which it never should. */
static void *outside(void)
{
    static const char said[] = "the host was called outside a call";
    return wasmtime.trap_new(said, sizeof said - 1);
}

/* 1: the guest returned; 0: it was suspended; -1: an exception, and it did not run. */
int crossing_poll(State *self, void *future)
{
    Activity *activity = self->activity;
    State *before = thread.current;
    if (activity->parked) {
        PyObject *done = PyObject_CallMethod(self->engine, "wake", NULL);
        if (done == NULL)
            return -1;
        Py_DECREF(done);
    }
    activity->running++;
    activity->ran = 1;
    thread.current = self;
    thread.kept = self->answered;
    if (!thread.kept)
        thread.state = PyEval_SaveThread();
    bool returned = wasmtime.future_poll(future);
    take_gil();
    thread.current = before;
    activity->running--;
    return returned;
}

static void ask(State *self, Raw *values, uint32_t alignment, uint32_t size)
{
    self->may_leave = 0;
    values[0].u32 = ALLOCATE;
    values[1].u32 = values[2].u32 = 0;
    values[3].u32 = alignment;
    values[4].u32 = size;
}

static int settle(State *self, Raw *values, PyObject *left);

/* A call of a coroutine (crossing.Waiting, which is taken): its first step, upon which it may be done. */
static int started(State *self, Raw *values, PyObject *call)
{
    PyObject *coroutine = PyTuple_GET_ITEM(call, 0), *end = PyTuple_GET_ITEM(call, 1), *given;
    PySendResult status = PyIter_Send(coroutine, Py_None, &given);
    if (status == PYGEN_NEXT) {
        Py_XSETREF(self->coroutine, Py_NewRef(coroutine));
        Py_XSETREF(self->wanted, given);
        Py_XSETREF(self->waiting, call);
        /* Now, not when the trampoline calls `wait`: a slice may end before that, and the coroutine meanwhile. */
        self->answered = 0;
        values[0].u32 = WAITS;
        return 0;
    }
    PyObject *left = NULL;
    if (status == PYGEN_RETURN) {
        PyObject *address = PyLong_FromVoidPtr(values);
        PyObject *arguments[] = {PyTuple_GET_ITEM(call, 2), address, PyTuple_GET_ITEM(call, 3), given};
        if (address != NULL)
            left = PyObject_Vectorcall(end, arguments, 4, NULL);
        Py_XDECREF(address);
        Py_DECREF(given);
    }
    Py_DECREF(call);
    return settle(self, values, left);
}

/* What an import has left to do (crossing.settle), if anything. Takes `left`; -1: an exception. */
static int settle(State *self, Raw *values, PyObject *left)
{
    if (left == NULL)
        return -1;
    if (left == Py_None) {
        Py_DECREF(left);
        return 0;
    }
    if (PyTuple_CheckExact(left) && PyTuple_GET_SIZE(left) == 6) {
        unsigned long alignment = PyLong_AsUnsignedLong(PyTuple_GET_ITEM(left, 1));
        unsigned long size = PyLong_AsUnsignedLong(PyTuple_GET_ITEM(left, 2));
        if (PyErr_Occurred() || size > UINT32_MAX) {
            if (!PyErr_Occurred())
                PyErr_SetString(PyExc_OverflowError, "more bytes than a guest's memory has");
            Py_DECREF(left);
            return -1;
        }
        Py_XSETREF(self->lowering, left);
        ask(self, values, (uint32_t)alignment, (uint32_t)size);
        return 0;
    }
    if (PyTuple_CheckExact(left) && PyTuple_GET_SIZE(left) == 4)
        return started(self, values, left);
    PyObject *done = PyObject_CallFunction(helpers.settle, "OKO", self, (unsigned long long)(uintptr_t)values, left);
    Py_DECREF(left);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

static int begun(State *self, size_t number, Raw *values)
{
    if (!self->may_leave) {
        PyObject *leaves = PyObject_CallFunction(helpers.check_may_leave, "OK", self, (unsigned long long)number);
        if (leaves == NULL)
            return -1;
        Py_DECREF(leaves);
    }
    if (number >= (size_t)PyTuple_GET_SIZE(self->begins)) {
        PyErr_SetString(PyExc_IndexError, "no such import");
        return -1;
    }
    PyObject *address = PyLong_FromVoidPtr(values);
    if (address == NULL)
        return -1;
    PyObject *given[] = {(PyObject *)self, address};
    PyObject *left = PyObject_Vectorcall(PyTuple_GET_ITEM(self->begins, (Py_ssize_t)number), given, 2, NULL);
    Py_DECREF(address);
    return settle(self, values, left);
}

/* `memory.at` where it finds what it does nearly always: the address, or 0. The memory's size may have grown since. */
static uintptr_t within(PyObject *memory, uint32_t pointer, uint64_t size, uint32_t alignment)
{
    static PyObject *base_name, *size_name;
    if (base_name == NULL && (base_name = PyUnicode_InternFromString("base")) == NULL)
        return 0;
    if (size_name == NULL && (size_name = PyUnicode_InternFromString("size")) == NULL)
        return 0;
    PyObject *base = PyObject_GetAttr(memory, base_name), *extent = PyObject_GetAttr(memory, size_name);
    uintptr_t found = 0;
    if (base != NULL && extent != NULL && (pointer & (alignment - 1)) == 0) {
        uint64_t bytes = PyLong_AsUnsignedLongLong(extent);
        uintptr_t start = (uintptr_t)PyLong_AsUnsignedLongLong(base);
        if (!PyErr_Occurred() && (uint64_t)pointer + size <= bytes)
            found = start + pointer;
    }
    Py_XDECREF(base);
    Py_XDECREF(extent);
    PyErr_Clear();
    return found;
}

/* Put a placement where the guest's allocator said. 1: done; 0: it is not of the common kind. */
static int placed(PyObject *placement, uint32_t pointer)
{
    PyObject *data = PyTuple_GET_ITEM(placement, 3);
    if (!PyBytes_CheckExact(data))
        return 0;
    unsigned long alignment = PyLong_AsUnsignedLong(PyTuple_GET_ITEM(placement, 1));
    unsigned long size = PyLong_AsUnsignedLong(PyTuple_GET_ITEM(placement, 2));
    unsigned long long address = PyLong_AsUnsignedLongLong(PyTuple_GET_ITEM(placement, 4));
    unsigned long length = PyLong_AsUnsignedLong(PyTuple_GET_ITEM(placement, 5));
    if (PyErr_Occurred() || size != (unsigned long)PyBytes_GET_SIZE(data) || length > UINT32_MAX) {
        PyErr_Clear();
        return 0;
    }
    uintptr_t start = within(PyTuple_GET_ITEM(placement, 0), pointer, size, (uint32_t)alignment);
    if (start == 0)
        return 0;
    memcpy((void *)start, PyBytes_AS_STRING(data), size);
    uint32_t slice[2] = {pointer, (uint32_t)length};
    memcpy((void *)(uintptr_t)address, slice, sizeof slice);
    return 1;
}

static int proceed(State *self, Raw *values)
{
    if (PyTuple_CheckExact(self->lowering) && placed(self->lowering, values[0].u32)) {
        Py_SETREF(self->lowering, Py_NewRef(Py_None));
        self->may_leave = 1;
        values[0].u32 = FINISHED;
        return 0;
    }
    PyObject *lowering = Py_NewRef(self->lowering);
    PyObject *done =
        PyObject_CallFunction(helpers.proceed, "OKO", self, (unsigned long long)(uintptr_t)values, lowering);
    Py_DECREF(lowering);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* What the call waited for is over: `end(cx, values, pointer, value)` of a coroutine, or `outcome(values)` of steps. */
static int finish(State *self, Raw *values)
{
    PyObject *address = PyLong_FromVoidPtr(values), *left = NULL;
    if (address == NULL)
        return -1;
    if (self->answered) {
        PyObject *call = self->waiting, *value = self->value;
        self->answered = 0;
        self->waiting = self->value = NULL;
        PyObject *given[] = {PyTuple_GET_ITEM(call, 2), address, PyTuple_GET_ITEM(call, 3), value};
        left = PyObject_Vectorcall(PyTuple_GET_ITEM(call, 1), given, 4, NULL);
        Py_DECREF(call);
        Py_DECREF(value);
    } else if (there(self->outcome)) {
        PyObject *outcome = self->outcome;
        self->outcome = Py_NewRef(Py_None);
        left = PyObject_CallOneArg(outcome, address);
        Py_DECREF(outcome);
    } else {
        PyErr_SetString(PyExc_RuntimeError, "the guest goes on though nothing has ended");
    }
    Py_DECREF(address);
    return settle(self, values, left);
}

void *crossing_begin(void *number, void *caller, Raw *values, size_t count)
{
    State *self = thread.current;
    (void)caller, (void)count;
    if (self == NULL)
        return outside();
    take_gil();
    void *trap = begun(self, (size_t)(uintptr_t)number, values) < 0 ? trapped(self) : NULL;
    thread.kept = trap == NULL && values[0].u32 == WAITS && there(self->coroutine);
    if (!thread.kept)
        thread.state = PyEval_SaveThread();
    return trap;
}

void *crossing_next(void *env, void *caller, Raw *values, size_t count)
{
    State *self = thread.current;
    (void)env, (void)caller, (void)count;
    if (self == NULL)
        return outside();
    take_gil();
    int failed = there(self->lowering) ? proceed(self, values) : finish(self, values);
    void *trap = failed ? trapped(self) : NULL;
    thread.state = PyEval_SaveThread();
    return trap;
}

/* wasmtime asks whether what a fiber waits for is there; so it does without the GIL. */
static bool is_answered(void *flag) { return *(const volatile uint8_t *)flag != 0; }

static bool is_over(void *env)
{
    (void)env;
    return true;
}

/* The same of a fiber whose steps are to be taken: fiber.go_on. */
static bool goes_on(void *level)
{
    State *self = thread.current;
    if (self == NULL)
        return true;
    take_gil();
    PyObject *over = PyObject_CallFunction(helpers.go_on, "OK", self, (unsigned long long)(uintptr_t)level);
    bool done = over != Py_False;
    if (over == NULL) /* It writes traps itself; this one comes with the guest's next call. */
        Py_XSETREF(self->failure, crossing_take_exception());
    Py_XDECREF(over);
    thread.state = PyEval_SaveThread();
    return done;
}

void crossing_wait(void *env, void *caller, const Val *args, size_t nargs, Val *results, size_t nresults, void **trap,
                   Continuation *continuation)
{
    State *self = thread.current;
    (void)env, (void)caller, (void)args, (void)nargs, (void)results, (void)nresults;
    *continuation = (Continuation){is_over, NULL, NULL};
    if (self == NULL) {
        *trap = outside();
        return;
    }
    if (!there(self->waits)) {
        *continuation = (Continuation){is_answered, &self->answered, NULL};
        return;
    }
    take_gil();
    PyObject *level = PyObject_CallFunction(helpers.begin_waiting, "OK", self, (unsigned long long)(uintptr_t)trap);
    if (level == NULL)
        *trap = trapped(self);
    else if (level != Py_None)
        *continuation = (Continuation){goes_on, PyLong_AsVoidPtr(level), NULL};
    Py_XDECREF(level);
    thread.state = PyEval_SaveThread();
}
