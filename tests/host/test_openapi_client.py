"""A client that a generator makes of `GET /openapi.json` works against a real host."""

from __future__ import annotations

import asyncio
import base64
import importlib
import json
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from support.guests import COMPILED, guest
from support.hosts import EXAMPLE, local_host

BLUE = base64.b64encode(b"blue").decode()
# What the generator does not know it leaves out; every such body has JSON, or bytes, beside it.
UNKNOWN = ("Unsupported content type application/cbor", "Unsupported content type text/plain")


class Made:
    """A generated package and a client of it."""

    def __init__(self, package: str, url: str) -> None:
        self._package = package
        self.client = importlib.import_module(f"{package}.client").Client(base_url=url)

    def model(self, name: str) -> Any:
        return getattr(importlib.import_module(f"{self._package}.models"), name)

    async def call(self, operation: str, *args: object, **named: object) -> Any:
        module = importlib.import_module(f"{self._package}.api.{operation}")
        return await module.asyncio_detailed(*args, client=self.client, **named)


def generated(document: dict[str, Any], directory: Path) -> str:
    """The name of the package, which can be imported from `directory`."""
    package = f"client_{uuid.uuid4().hex}"
    source, config = directory / f"{package}.json", directory / f"{package}.yaml"
    source.write_text(json.dumps(document))
    config.write_text("post_hooks: []\n")
    command = [
        sys.executable,
        "-m",
        "openapi_python_client",
        "generate",
        "--path",
        str(source),
        "--config",
        str(config),
    ]
    made = subprocess.run(
        [*command, "--meta", "none", "--output-path", str(directory / package)], capture_output=True, text=True
    )
    assert made.returncode == 0, made.stdout + made.stderr
    said = made.stdout + made.stderr
    warnings = said.count("WARNING") + said.count("Unable to process") + said.count("will not be generated")
    assert warnings == sum(said.count(words) for words in UNKNOWN), said
    return package


@pytest.fixture
def importable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("client_"):
            del sys.modules[name]


@asynccontextmanager
async def client_of(component: Path, directory: Path) -> AsyncIterator[Made]:
    async with local_host(component, directory / "data", cache=COMPILED) as (host, client):
        _, document = await client.get("/openapi.json")
        assert isinstance(document, dict)
        package = await asyncio.to_thread(generated, document, directory)
        operations = sum(1 for path in document["paths"].values() for method in path if method != "parameters")
        files = [path for path in (directory / package / "api").rglob("*.py") if path.name != "__init__.py"]
        assert len(files) == operations
        made = Made(package, host.url)
        async with made.client:
            yield made


async def test_the_key_value_example(importable: Path) -> None:
    async with client_of(EXAMPLE, importable) as made:
        api = "golemexamplesapi.golem_examples_api_"
        arguments = made.model("GolemExamplesApiSetArguments")(bucket="b", key="k", value=BLUE)
        for replayed in (None, "true"):
            reply = await made.call(api + "set", "alice", body=arguments, idempotency_key="one")
            assert (reply.status_code, reply.parsed) == (200, None)
            assert reply.headers.get("Idempotency-Replayed") == replayed
        assert (await made.call(api + "get", "alice", body=["b", "k"])).parsed == BLUE
        assert (await made.call(api + "get", "bob", body=["b", "none"])).parsed is None
        assert (await made.call(api + "calls", "alice")).parsed == 2
        assert (await made.call("worker.list_keys", "b")).parsed.keys == ["k"]
        assert (await made.call("worker.read_value", "b", "k")).parsed.payload.read() == b"blue"

        other = made.model("GolemExamplesApiSetArguments")(bucket="b", key="k", value="AAAA")
        reply = await made.call(api + "set", "alice", body=other, idempotency_key="one")
        problem = reply.parsed
        assert isinstance(problem, made.model("Problem"))
        assert (reply.status_code, problem.code, problem.retryable) == (409, "idempotency-conflict", False)
        reply = await made.call(api + "set", "alice", body=["b", "k", "not base64"])
        assert (reply.status_code, reply.parsed.code, reply.parsed.parameter) == (422, "type-mismatch", "value")

        reply = await made.call(api + "get", "alice", body=["b", "k"], prefer="respond-async", idempotency_key="later")
        assert (reply.status_code, reply.parsed.state.value) == (202, "pending")
        seen = (await made.call("worker.show_invocation", "alice", "later", prefer="wait=30")).parsed
        assert (seen.state.value, seen.result) == ("succeeded", BLUE)
        shown = (await made.call("worker.show_instance", "alice")).parsed
        assert shown.name == "alice" and shown.state.value == "Active"


async def test_records_variants_and_options(importable: Path) -> None:
    async with client_of(guest("values"), importable) as made:
        echo = "perdurevaluesecho.perdure_values_echo_via_"
        point = made.model("PerdureValuesEchoPoint")(x=-3, y=0.5, label="here")
        reply = await made.call(echo + "point", "i", body=[point])
        assert reply.status_code == 200 and reply.parsed == point
        empty = made.model("PerdureValuesEchoShapeType0").EMPTY
        for shape in (empty, made.model("PerdureValuesEchoShapeType2")(polygon=[point])):
            assert (await made.call(echo + "shape", "i", body=[shape])).parsed == shape
        for option in (None, made.model("PerdureValuesEchoViaOptionJsonBodyType0ItemType0")(some=7)):
            reply = await made.call(echo + "option", "i", body=[option])
            assert (reply.parsed and reply.parsed.to_dict()) == (option and option.to_dict())
        colour = made.model("PerdureValuesEchoColour").GREEN
        failed = made.model("PerdureValuesEchoViaResultJsonBodyType0ItemType1")(err=colour)
        assert (await made.call(echo + "result", "i", body=[failed])).parsed.err == colour
        chosen = list(made.model("PerdureValuesEchoAccessItem"))[1:3]
        assert (await made.call(echo + "access", "i", body=[chosen])).parsed == chosen
        for function, value in [
            ("u64", 2**64 - 1), ("f64", -0.25), ("char", "ж"), ("bytes", BLUE), ("nested", [[None, "x"], []]),
            ("tuple", [1, "b", 2.5]), ("numbers", [0, 2**63]),
        ]:  # fmt: skip
            assert (await made.call(echo + function, "i", body=[value])).parsed == value
        arguments = made.model("PerdureValuesEchoViaManyArguments")(a=1, b="b", c=[2], d=0.5, e=None, f=point)
        assert (await made.call(echo + "many", "i", body=arguments)).status_code == 200


def test_what_a_generator_does_not_take_is_seen(tmp_path: Path) -> None:
    """Negative control: a header that is a time, which this generator leaves out with its whole operation."""
    answer = {"200": {"description": "fine"}}
    header = {"name": "When", "in": "header", "schema": {"type": "string", "format": "date-time"}}
    paths = {"/a": {"get": {"operationId": "a", "parameters": [header], "responses": answer}}}
    with pytest.raises(AssertionError, match="is not allowed in header"):
        generated({"openapi": "3.1.0", "info": {"title": "t", "version": "1"}, "paths": paths}, tmp_path)
