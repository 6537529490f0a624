"""Which host is stopped where, and how: the description of one run, as text and back. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """`how`: `kill` (SIGKILL), `stop` (SIGSTOP until another host has the instance, then SIGCONT) or `restart` (the
    store's servers are killed and started again meanwhile), at the `count`-th time that `point` is reached."""

    point: str
    count: int
    how: str = "kill"

    @classmethod
    def of(cls, text: str) -> Fault | None:
        """`home.commit.after:2:stop`, or `-` for none."""
        if text == "-":
            return None
        point, count, how = text.split(":")
        return cls(point, int(count), how)

    def __str__(self) -> str:
        return f"{self.point}:{self.count}:{self.how}"


@dataclass(frozen=True, slots=True)
class Setting:
    """Where a scenario runs: the kind of the home store, the commit mode, the seed of the scenario's values. `mutant`:
    what is wrong on purpose. `guest`: whose scenario it is. `foreign`: the kind of the other store. `memory`: `Instance`,
    or `Invocation`, where each call begins with a new one."""

    home: str
    mode: str
    seed: int
    mutant: str = ""
    guest: str = "ledger"
    foreign: str = "redis"
    memory: str = "Instance"

    def __str__(self) -> str:
        new = ", new memory" if self.memory == "Invocation" else ""
        return f"{self.guest} on {self.home}, {self.foreign}, {self.mode}{new}"


@dataclass(frozen=True, slots=True)
class Schedule:
    """`faults`: the first host's, the second one's …; a host beyond them, and one that has None, lives."""

    setting: Setting
    faults: tuple[Fault | None, ...] = ()

    @property
    def number(self) -> int:
        """Of faults."""
        return sum(fault is not None for fault in self.faults)

    @property
    def command(self) -> str:
        """What runs it again."""
        setting = self.setting
        words = ["python tests/faults/replay.py", f"--home {setting.home} --mode {setting.mode} --seed {setting.seed}"]
        words += [f"--mutant {setting.mutant}"] if setting.mutant else []
        words += [f"--guest {setting.guest}"] if setting.guest != "ledger" else []
        words += [f"--foreign {setting.foreign}"] if setting.foreign != "redis" else []
        words += [f"--memory {setting.memory}"] if setting.memory != "Instance" else []
        return " ".join([*words, *("-" if fault is None else str(fault) for fault in self.faults)])
