"""The error tree of Perdure: every error that crosses a package boundary.

PerdureError
├── BadRequest                     400 bad-request
│   └── TypeMismatch               422 type-mismatch
├── NoSuchFunction                 404 no-such-function
├── NoSuchInstance                 404 no-such-instance
├── NoSuchBucket                   404 no-such-bucket
├── NoSuchKey                      404 no-such-key
├── WriteDenied                    403 access-denied
├── BucketFull                     409 bucket-full
├── PreconditionFailed             412 precondition-failed
├── NoSuchPromise                  404 no-such-promise
├── PromiseCompleted               409 promise-completed
├── Suspended                      503 waiting
├── IdempotencyConflict            409 idempotency-conflict
├── NotAcceptable                  406 not-acceptable
├── TooLarge                       413 too-large
├── UnsupportedMediaType           415 unsupported-media-type
├── Overloaded                     429 overloaded
├── GuestTrapped                   500 guest-trapped
├── AsyncCallFailed                500 call-failed
├── Quarantined                    503 quarantined
│   └── ReplayDiverged             503 quarantined
├── Interrupted                    409 interrupted
├── InvocationCancelled            409 cancelled
├── NotCancellable                 409 not-cancellable
├── NoSuchInvocation               404 no-such-invocation
├── ProviderUnavailable            503 provider-unavailable
│   ├── LostWrites                 503 lost-writes
│   └── FeedFull                   503 feed-full
├── InvocationTimeout              504 timeout
├── Fenced                         503 fenced            (internal: retried by the host)
├── Overtaken                      503 overtaken
├── ManifestError                  400 bad-manifest
├── ComponentError                 400 component-invalid
│   └── ComponentUnsupported       400 component-unsupported
├── SnapshotRefused                409 snapshot-refused
├── SnapshotError                  500 snapshot-unusable
└── InternalError                  500 internal
    └── ResultMismatch             500 internal

`code` is stable and is what clients match on; `detail` is for people and never holds a secret.
This module imports nothing of Perdure.
"""

from __future__ import annotations

from typing import ClassVar, Literal

Cause = Literal["no-answer", "credentials", "tls", "unsuitable", "refused"]
"""Why a store cannot be used: it is silent, does not know us, one side does not trust the other's certificate, its
settings do not fit, or it says no for some other reason."""


class PerdureError(Exception):
    """Base of all errors. `retryable`: the same request may succeed later without a change."""

    code: ClassVar[str] = "internal"
    http_status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail

    def not_again(self) -> None:
        """The same request might do once more what is done already, or may be."""
        self.retryable = False  # type: ignore[misc]  # Of this one, not of its kind.


class InternalError(PerdureError):
    """A defect of Perdure itself."""


class ResultMismatch(InternalError):
    """A host function gave something else than its type says; why, is the cause. `function`: `interface.name`, as the
    component imports it. What was given is not told: it may be anybody's."""

    def __init__(self, function: str, kind: str) -> None:
        super().__init__(f"what the host function {function} gave does not fit the type of its result ({kind})")
        self.function = function


class BadRequest(PerdureError):
    """The request is not well formed; `detail` names the part and what would be right."""

    code = "bad-request"
    http_status = 400


class TypeMismatch(BadRequest):
    """A value does not fit the WIT type. `parameter` is its path, e.g. `value[3].name`."""

    code = "type-mismatch"
    http_status = 422

    def __init__(self, detail: str, *, parameter: str) -> None:
        super().__init__(detail)
        self.parameter = parameter


class NoSuchFunction(PerdureError):
    """The component exports no such function, or the short name is ambiguous."""

    code = "no-such-function"
    http_status = 404


class NoSuchInstance(PerdureError):
    """No invocation has created this instance."""

    code = "no-such-instance"
    http_status = 404


class NoSuchBucket(PerdureError):
    """The Worker has no such bucket: it is not declared, and `undeclaredBuckets` is Deny."""

    code = "no-such-bucket"
    http_status = 404


class NoSuchKey(PerdureError):
    """The bucket has no such key, or its time to live is over."""

    code = "no-such-key"
    http_status = 404


class WriteDenied(PerdureError):
    """The bucket is ReadOnly for this Worker."""

    code = "access-denied"
    http_status = 403


class BucketFull(PerdureError):
    """The bucket has as many keys as it may (`maxKeys`)."""

    code = "bucket-full"
    http_status = 409


class PreconditionFailed(PerdureError):
    """The key does not hold what `If-Match` or `If-None-Match` says."""

    code = "precondition-failed"
    http_status = 412


class NoSuchPromise(PerdureError):
    """No guest made this promise, its instance was deleted, or its completion is past `durability.resultRetention`."""

    code = "no-such-promise"
    http_status = 404


class PromiseCompleted(PerdureError):
    """The promise was completed before, with something else."""

    code = "promise-completed"
    http_status = 409


class Suspended(PerdureError):
    """The instance is in the middle of an asynchronous call that waits; it takes no other call. `until`: the promise
    that it waits for, or the instant, in milliseconds since 1970."""

    code = "waiting"
    http_status = 503
    retryable = True

    def __init__(self, detail: str, *, until: str | int) -> None:
        super().__init__(detail)
        self.until = until


class IdempotencyConflict(PerdureError):
    """The idempotency key was used with another function or other arguments."""

    code = "idempotency-conflict"
    http_status = 409


class TooLarge(PerdureError):
    """A body, key or value is over its configured bound."""

    code = "too-large"
    http_status = 413


class NotAcceptable(PerdureError):
    """The `Accept` header takes none of the formats that there are."""

    code = "not-acceptable"
    http_status = 406


class UnsupportedMediaType(PerdureError):
    """The `Content-Type` of the body is none that is read here."""

    code = "unsupported-media-type"
    http_status = 415


class Overloaded(PerdureError):
    """A bounded queue is full. `retry_after` in seconds."""

    code = "overloaded"
    http_status = 429
    retryable = True

    def __init__(self, detail: str, *, retry_after: float = 1.0) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class GuestTrapped(PerdureError):
    """The guest trapped; its buffered effects were discarded.

    `trap`: a stable kind such as `unreachable`, `memory-out-of-bounds`, `stack-overflow`, `canonical-abi`,
    `out-of-memory`; `frames`: wasm function names, innermost first; `stderr`: the tail of what the guest printed.
    """

    code = "guest-trapped"
    http_status = 500

    def __init__(self, detail: str, *, trap: str = "trap", frames: tuple[str, ...] = (), stderr: str = "") -> None:
        super().__init__(detail)
        self.trap = trap
        self.frames = frames
        self.stderr = stderr
        # Parts of the call that earlier gates made durable; they stay.
        self.parts = 0


class AsyncCallFailed(PerdureError):
    """The result stored under this key is a failure: an asynchronous call was given up, or a synchronous one failed
    behind a gate. `cause`: its error's code."""

    code = "call-failed"

    def __init__(self, detail: str, *, cause: str) -> None:
        super().__init__(detail)
        self.cause = cause


class Quarantined(PerdureError):
    """The instance cannot be replayed and waits for an operator's decision.

    `lasting` False: another host, or this one later, may be able to; nothing is noted in the store.
    """

    code = "quarantined"
    http_status = 503

    def __init__(self, detail: str, *, lasting: bool = True) -> None:
        super().__init__(detail)
        self.lasting = lasting


class ReplayDiverged(Quarantined):
    """Replay met another call than the journal holds; both sides are named in `detail`."""


class Interrupted(PerdureError):
    """Somebody interrupted the instance; it runs again after `resume`."""

    code = "interrupted"
    http_status = 409


class InvocationCancelled(PerdureError):
    """The pending call was cancelled before anything of it was durable."""

    code = "cancelled"
    http_status = 409


class NotCancellable(PerdureError):
    """The call has begun, or has ended: it cannot be cancelled any more."""

    code = "not-cancellable"
    http_status = 409


class NoSuchInvocation(PerdureError):
    """No call is known under this key: it was never accepted, or its result is past its retention."""

    code = "no-such-invocation"
    http_status = 404


class ProviderUnavailable(PerdureError):
    """The store did not answer, or refuses writes. `retry_after` in seconds. `doubtful`: whether the call was carried
    out is not known. `untouched`: it is certain that nothing of what was asked for was carried out, or will be."""

    code = "provider-unavailable"
    http_status = 503
    retryable = True
    untouched: bool = False

    def __init__(
        self, detail: str, *, retry_after: float = 1.0, cause: Cause = "refused", doubtful: bool = False
    ) -> None:
        super().__init__(detail)
        self.retry_after = retry_after
        self.cause = cause
        self.doubtful = doubtful

    def within(self, *, key: bool) -> ProviderUnavailable:
        """The same of a call of which something is durable: whoever opens its instance carries it to its end. One
        without a key must not be sent again."""
        again = "ask again with the same Idempotency-Key" if key else "without a key it would be another if sent again"
        return self._told(
            f"{self.detail}. What this call did so far is durable, and it goes on when the provider answers: {again}",
            key=key,
        )

    def in_doubt(self, *, key: bool) -> ProviderUnavailable:
        """The same of a call that may have been carried out. One without a key must not be sent again."""
        again = "repeat it with the same Idempotency-Key" if key else "without a key it would be another if sent again"
        return self._told(f"{self.detail}. This call may have been carried out: {again}", key=key)

    def _told(self, detail: str, *, key: bool) -> ProviderUnavailable:
        found = type(self)(detail, retry_after=self.retry_after, cause=self.cause)
        if not key:
            found.not_again()
        return found


class LostWrites(ProviderUnavailable):
    """The store holds less than it acknowledged: a failover to a replica that lagged behind, or an old backup."""

    code = "lost-writes"
    untouched = True


class FeedFull(ProviderUnavailable):
    """A bucket that is watched takes no changes until some of those that wait have been told; nothing was applied."""

    code = "feed-full"
    untouched = True


class Fenced(PerdureError):
    """Another host has claimed the instance since: this host's copy is void.

    `doubtful`: whether the commit that was refused had been applied before is not known.
    """

    code = "fenced"
    http_status = 503
    retryable = True

    def __init__(self, detail: str, *, doubtful: bool = False) -> None:
        super().__init__(detail)
        self.doubtful = doubtful


class Overtaken(PerdureError):
    """The instance was taken over in the middle of a call without a key: it is not begun again, for something of it is
    durable, or may be."""

    code = "overtaken"
    http_status = 503


class HostLeaving(Fenced):
    """This host is ending and takes no more calls from its peers: they run them themselves."""


class InvocationTimeout(PerdureError):
    """The invocation ran past its limit; its buffered effects were discarded."""

    code = "timeout"
    http_status = 504
    retryable = True

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        # As of `GuestTrapped`.
        self.parts = 0

    def leaves(self, parts: int) -> None:
        """Earlier gates made so many parts durable: the same request again would do them again."""
        self.parts = parts
        self.not_again()


class ManifestError(PerdureError):
    """A manifest is wrong. `field` is the dotted path, e.g. `spec.keyValue.buckets[0].ttl`."""

    code = "bad-manifest"
    http_status = 400

    def __init__(self, detail: str, *, field: str = "") -> None:
        super().__init__(f"{field}: {detail}" if field else detail)
        self.field = field


class ComponentError(PerdureError):
    """The bytes are not a component that can be run: garbage, a core module, a wrong digest."""

    code = "component-invalid"
    http_status = 400


class ComponentUnsupported(ComponentError):
    """A valid component uses a feature that Perdure does not support; `feature` names it."""

    code = "component-unsupported"

    def __init__(self, detail: str, *, feature: str) -> None:
        super().__init__(detail)
        self.feature = feature


class SnapshotRefused(PerdureError):
    """The instance, or every instance of its component, cannot be captured; it is as it was.

    `reason`: a stable kind: `tables-changed`, `segments-dropped`, `gc-objects`, `unknown-instruction`,
    `start-dependent`, `call-in-progress`, `trapped`, `live-borrow`, `host-resource`, `no-memory`.
    """

    code = "snapshot-refused"
    http_status = 409

    def __init__(self, detail: str, *, reason: str) -> None:
        super().__init__(detail)
        self.reason = reason


class SnapshotError(PerdureError):
    """A snapshot cannot be restored.

    `reason`: a stable kind: `truncated`, `not-a-snapshot`, `format-version`, `checksum`, `component`, `layout`,
    `initial-image`, `parent`, `malformed`, `limit`, `host-resource`.
    """

    code = "snapshot-unusable"
    http_status = 500

    def __init__(self, detail: str, *, reason: str) -> None:
        super().__init__(detail)
        self.reason = reason
