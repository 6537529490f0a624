"""Bucket configuration as the engine uses it: which store, which physical bucket, which limits. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from perdure.durable.effects import BucketAddress, Scope
from perdure.durable.feeds import FeedBounds
from perdure.keyvalue.bucket import AccessDenied, LimitExceeded, NoSuchBucket

DEFAULT_MAX_KEY_BYTES = 1024
DEFAULT_MAX_VALUE_BYTES = 16 << 20

UNNAMED = "default"
"""The bucket that a guest gets which opens one without a name, as guests of hosts with a single store do."""

CLAIMS = "\x1fvacancies"
"""Ends the name of the bucket that holds the claims of a cache's vacancies; no guest opens one of such a name."""

PROMISES = "\x1fpromises"
"""The private bucket, at the home store, that holds an instance's promises; no guest opens one of this name."""

ATTEMPTS = "\x1fattempts"
"""The private bucket, at the home store, that counts attempts to go on with a call; no guest opens it either."""


DEPARTED = "\x1fdeparted"
"""The bucket of the Worker, at the home store, that says what deleted instances have left at other providers."""


RUNNING = "\x1frunning"
"""The bucket of the Worker, at the home store, that says which components its hosts run."""


@dataclass(frozen=True, slots=True)
class CachePolicy:
    """Which bucket the first generations' `cache` is, and for how long a vacancy is one caller's alone."""

    bucket: str = "cache"
    lease_ms: int = 10_000


@dataclass(frozen=True, slots=True)
class BucketLimits:
    """What a provider takes at most; None: no bound of its own. `effects`, `bytes`: of all that is applied together,
    where each effect counts its key, its value and `overhead` bytes. A bound of `bytes` comes with `value_bytes`."""

    key_bytes: int | None = None
    value_bytes: int | None = None
    effects: int | None = None
    bytes: int | None = None
    overhead: int = 0

    @property
    def together(self) -> bool:
        """Whether there is a bound on what is applied together."""
        return self.effects is not None or self.bytes is not None

    def exceeded(self, effects: int, size: int) -> bool:
        """Whether so many effects, with so many bytes of keys and values, are too much to be applied together."""
        total = size + effects * self.overhead
        return (self.effects is not None and effects > self.effects) or (self.bytes is not None and total > self.bytes)


@dataclass(frozen=True, slots=True)
class WatchPolicy:
    """Which instance is told of a bucket's changes, and how many may wait for it."""

    instance: str
    bounds: FeedBounds = FeedBounds()


@dataclass(frozen=True, slots=True)
class BucketPolicy:
    """One bucket of the manifest. `physical` is its name in the store; `ttl_ms` None: values stay. `limits`: the
    provider's, those of single keys and values being in `max_key_bytes` and `max_value_bytes` already. `max_keys` None:
    any number."""

    name: str
    provider: str
    scope: Scope = Scope.WORKER
    read_only: bool = False
    ttl_ms: int | None = None
    max_key_bytes: int = DEFAULT_MAX_KEY_BYTES
    max_value_bytes: int = DEFAULT_MAX_VALUE_BYTES
    physical: str | None = None
    limits: BucketLimits = field(default_factory=BucketLimits)
    max_keys: int | None = None
    watch: WatchPolicy | None = None

    def address(self, instance: str) -> BucketAddress:
        """The bucket as `instance` sees it."""
        private = instance if self.scope is Scope.INSTANCE else None
        return BucketAddress(self.scope, self.physical or self.name, private)

    def check_key(self, key: str) -> None:
        """Raises `LimitExceeded`."""
        size = len(key.encode("utf-8", "surrogatepass"))
        if size > self.max_key_bytes:
            raise LimitExceeded(f"a key of {size} bytes; bucket {self.name!r} allows {self.max_key_bytes}")

    def check_write(self, key: str, value: bytes) -> None:
        """Raises `AccessDenied`, `LimitExceeded`."""
        if self.read_only:
            raise AccessDenied(f"bucket {self.name!r} is ReadOnly for this Worker")
        self.check_key(key)
        if len(value) > self.max_value_bytes:
            raise LimitExceeded(
                f"a value of {len(value):,} bytes; bucket {self.name!r} allows {self.max_value_bytes:,}"
            )


class BucketCatalog:
    """The buckets a Worker may open. `home`: the provider of undeclared ones and of the journal."""

    def __init__(
        self,
        policies: tuple[BucketPolicy, ...],
        *,
        home: str,
        undeclared: bool,
        cache: CachePolicy = CachePolicy(),
    ) -> None:
        self.home = home
        self.cache = cache
        self._undeclared = undeclared
        self._policies = {policy.name: policy for policy in policies}
        # An undeclared bucket is at home, shared by the instances; it must be no way around another one's settings.
        self._taken = {
            policy.physical: policy.name
            for policy in policies
            if policy.physical is not None and policy.provider == home and policy.scope is Scope.WORKER
        }

    @property
    def largest_value(self) -> int:
        """Bytes that the roomiest bucket takes as one value."""
        undeclared = [DEFAULT_MAX_VALUE_BYTES] if self._undeclared else []
        return max([policy.max_value_bytes for policy in self._policies.values()] + undeclared, default=0)

    def find(self, name: str) -> BucketPolicy:
        """Raises `NoSuchBucket` in words for the guest's author."""
        policy = self._policies.get(name)
        if policy is not None:
            return policy
        if not self._undeclared:
            known = ", ".join(sorted(self._policies)) or "none"
            raise NoSuchBucket(
                f"bucket {name!r} is not declared in spec.keyValue.buckets ({known}) and undeclaredBuckets is Deny"
            )
        if not name or len(name.encode()) > DEFAULT_MAX_KEY_BYTES:
            raise NoSuchBucket(f"a bucket's name must have 1 to {DEFAULT_MAX_KEY_BYTES} bytes")
        if name.endswith(CLAIMS):
            raise NoSuchBucket(f"bucket {name!r} is where a cache keeps its vacancies")
        if name == PROMISES:
            raise NoSuchBucket(f"bucket {name!r} is where promises are kept")
        if name == ATTEMPTS:
            raise NoSuchBucket(f"bucket {name!r} is where attempts are counted")
        if name == DEPARTED:
            raise NoSuchBucket(f"bucket {name!r} is where deletions of instances are kept")
        if name == RUNNING:
            raise NoSuchBucket(f"bucket {name!r} is where hosts say what they run")
        if name in self._taken:
            raise NoSuchBucket(f"bucket {name!r} is where bucket {self._taken[name]!r} is kept (physicalName)")
        return BucketPolicy(name, self.home)

    def private_elsewhere(self, instance: str) -> dict[str, list[BucketAddress]]:
        """The instance's private buckets by provider; those of the home store, and those it cannot write, left out."""
        found: dict[str, list[BucketAddress]] = {}
        for policy in self._policies.values():
            if policy.scope is Scope.INSTANCE and policy.provider != self.home and not policy.read_only:
                found.setdefault(policy.provider, []).append(policy.address(instance))
        return found

    def watched(self) -> list[tuple[BucketPolicy, WatchPolicy]]:
        """The buckets whose changes an instance is told of."""
        return [(policy, policy.watch) for policy in self._policies.values() if policy.watch is not None]

    def providers(self) -> set[str]:
        """Every provider that some bucket, or the journal, needs."""
        return {self.home, *(policy.provider for policy in self._policies.values())}
