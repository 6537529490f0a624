"""What `about.py` found, as JSON with stable names: `perdure inspect --output json`, `GET /v1/component`. Pure."""

from __future__ import annotations

from perdure.component.about import About, Tool
from perdure.component.interfaces import Function, Interface, TypeDefinition, World
from perdure.component.types import EnumType, FlagsType, RecordType, ResourceType, VariantType
from perdure.component.wit_json import Json
from perdure.component.wit_world import definition_text, function_text, type_text


def world_json(world: World) -> dict[str, Json]:
    """Types and signatures are WIT text; a named type is called by its name and defined under `types`."""
    return {
        "docs": world.docs,
        "packageDocs": dict(world.packages),
        "imports": [interface_json(world, interface) for interface in world.imports],
        "exports": [interface_json(world, interface) for interface in world.exports],
    }


def interface_json(world: World, interface: Interface) -> dict[str, Json]:
    """`name` is "" for the items of the world itself; `package` and `version` are null where there is none."""
    return {
        "name": interface.name,
        "package": interface.package,
        "version": interface.version,
        "docs": interface.docs,
        "types": [_type_json(world, interface, definition) for definition in interface.types],
        "functions": [function_json(world, interface, func) for func in interface.functions],
    }


def function_json(world: World, interface: Interface, func: Function) -> dict[str, Json]:
    """`name` as in the component; `params` include a method's `self`; `unsupported` names a feature or is null."""
    params: list[Json] = []
    result: str | None = None
    if func.type is not None:
        params = [{"name": name, "type": type_text(world, interface, kind)} for name, kind in func.type.params]
        result = None if func.type.result is None else type_text(world, interface, func.type.result)
    return {
        "name": func.name,
        "kind": func.kind,
        "resource": func.resource,
        "signature": function_text(world, interface, func) if func.type is not None else None,
        "params": params,
        "result": result,
        "unsupported": func.unsupported or None,
        "docs": func.docs,
    }


def toolchain_json(about: About) -> dict[str, Json]:
    """Lists of `{"name", "versions"}`."""

    def tools(found: tuple[Tool, ...]) -> list[Json]:
        return [{"name": tool.name, "versions": list(tool.versions)} for tool in found]

    chain = about.toolchain
    return {"languages": tools(chain.languages), "tools": tools(chain.tools), "sdks": tools(chain.sdks)}


def memory_json(about: About) -> dict[str, Json]:
    """Sizes in bytes and pages as the core modules declare them; `maximumPages` null: no limit of its own."""
    return {
        "initialBytes": sum(memory.minimum * memory.page for memory in about.memories),
        "memories": [
            {
                "module": module.name,
                "minimumPages": memory.minimum,
                "maximumPages": memory.maximum,
                "pageBytes": memory.page,
                "addressBits": memory.addresses,
                "shared": memory.shared,
            }
            for module in about.modules
            for memory in module.memories
        ],
    }


def modules_json(about: About) -> list[Json]:
    """The core modules, in the binary's order; `name` is "" where nothing names one."""
    return [{"name": module.name, "size": module.size} for module in about.modules]


def _type_json(world: World, interface: Interface, definition: TypeDefinition) -> dict[str, Json]:
    same_as = definition.same_as
    return {
        "name": definition.name,
        "kind": _kind(definition),
        "definition": None if same_as is not None else definition_text(world, interface, definition),
        "sameAs": None if same_as is None else {"interface": same_as.interface, "name": same_as.name},
        "unsupported": definition.unsupported or None,
        "docs": definition.docs,
        "items": dict(definition.items),
    }


def _kind(definition: TypeDefinition) -> str:
    match definition.type:
        case None:
            return "unsupported"
        case RecordType():
            return "record"
        case VariantType():
            return "variant"
        case EnumType():
            return "enum"
        case FlagsType():
            return "flags"
        case ResourceType():
            return "resource"
        case _:
            return "type"
