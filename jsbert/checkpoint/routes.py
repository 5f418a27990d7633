"""Which modules a folder has, in what order, and by which routes: modules.json and a Router's
config, both ways."""

import ast
import pathlib
from typing import Any

from jsbert.checks import check_value, shown, typed
from jsbert.config import Router
from jsbert.json_files import has_file, inside, read_json, write_json
from jsbert.modules import MODULES

ROUTERS = ("Router", "Asym")
"""The names of the module that has routes."""

TRUNK = ("Transformer", "StaticEmbedding", "WeightedLayerPooling", "Pooling")
"""The modules in front of those in `modules.MODULES`."""

Modules = list[tuple[str, pathlib.Path]]
"""Modules in the order in which they compute: the last segment of the type, and the folder."""


def read_modules(folder: pathlib.Path) -> Modules | None:
    """The modules in a folder's modules.json; None without it.

    Raises:
        OSError, ValueError: for a folder that is not there, and for modules that are not supported.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {str(folder)!r}")
    file = folder / "modules.json"
    if not has_file(file):
        return None
    modules = []
    for entry in read_json(file, list):
        if (
            not isinstance(entry, dict)
            or not isinstance(entry.get("type"), str)
            or "path" not in entry
        ):
            raise ValueError(
                f"{file}: an entry is {shown(entry)}; each needs a 'type' and a 'path'"
            )
        modules.append((_kind(entry["type"], file), inside(folder, entry["path"], where=file)))
    if not modules:
        raise ValueError(f"{file}: modules []; {supported_order()}")
    return modules


def supported_order() -> str:
    """What a list of modules can be, for messages."""
    return (
        f"supported: Transformer, Pooling, then any of {', '.join(MODULES)}; a "
        "WeightedLayerPooling between the first "
        "two; a StaticEmbedding in place of these; and one Router, each of whose routes is such a "
        "list, with what stands before and behind the Router"
    )


def write_modules(folder: pathlib.Path, modules: list[tuple[str, str]]) -> None:
    """Writes modules.json for kinds and their folders' names."""
    entries = [
        {"idx": i, "name": str(i), "path": path, "type": _type(kind)}
        for i, (kind, path) in enumerate(modules)
    ]
    write_json(folder / "modules.json", entries)


def find_router(modules: Modules) -> Router | None:
    """The Router among the modules, its routes leading to all the modules of a route, from the
    first to the last.

    Raises:
        OSError, ValueError: for a Router's config that is missing or wrong, or asks for what is not
            supported.
    """
    places = [place for place, (kind, _) in enumerate(modules) if kind in ROUTERS]
    if not places:
        return None
    if len(places) > 1:
        raise ValueError(f"{modules[places[1]][1]}: a second Router; one is supported")
    before, (_, folder), behind = modules[: places[0]], modules[places[0]], modules[places[0] + 1 :]
    return _read_router(folder).map(lambda route: [*before, *route, *behind])


def write_router(folder: pathlib.Path, router: Router) -> None:
    """Writes the config of a Router whose routes lead to lists of kinds and their folders'
    names."""
    types = {path: _type(kind) for _, route in router.routes for kind, path in route}
    parameters: dict[str, Any] = {
        "default_route": router.default,
        "allow_empty_key": router.default is not None,
    }
    if router.tasks:  # a key that older versions do not know
        parameters["route_mappings"] = {str((task, None)): name for task, name in router.tasks}
    structure = {name: [path for _, path in route] for name, route in router.routes}
    values = {"types": types, "structure": structure, "parameters": parameters}
    write_json(folder / "router_config.json", values)


def _read_router(folder):
    file = folder / "router_config.json"
    file = (
        file if has_file(file) else folder / "config.json"
    )  # its name before sentence-transformers 5
    values = read_json(file)
    types, structure = (typed(values, name, dict, where=file) for name in ("types", "structure"))
    kinds = {name: _kind(typed(types, name, str, where=file), file) for name in types}
    routes = {}
    for name in structure:
        names = typed(structure, name, list[str], where=file)
        unknown = [path for path in names if path not in kinds]
        if unknown:
            raise ValueError(
                f"{file}: the route {name!r} is {names}; the modules are {sorted(kinds)}"
            )
        routes[name] = [(kinds[path], inside(folder, path, where=file)) for path in names]
    nested = [name for name, kind in kinds.items() if kind in ROUTERS]
    if not routes or nested:
        problem = f"the Router {nested[0]!r} inside a Router" if nested else "no routes"
        raise ValueError(f"{file}: {problem}; {supported_order()}")

    parameters = typed(values, "parameters", dict, {}, where=file)
    unknown = sorted(parameters.keys() - {"default_route", "allow_empty_key", "route_mappings"})
    if unknown:
        raise ValueError(f"{file}: unknown parameters {unknown}")
    default = typed(parameters, "default_route", str, None, where=file)
    if default is None and typed(parameters, "allow_empty_key", bool, True, where=file):
        default = next(iter(routes))
    tasks = _tasks(typed(parameters, "route_mappings", dict[str, str], {}, where=file), file)
    for name in filter(None, [default, *tasks.values()]):
        if name not in routes:
            raise ValueError(f"{file}: no route {name!r}; the routes are {sorted(routes)}")
    return Router(tuple(routes.items()), default, tuple(tasks.items()))


def _tasks(mappings, file):
    """{task: route} of {"(task, modality)": route}, as they are for texts."""
    found = {}
    for key, route in mappings.items():
        try:
            task, modality = ast.literal_eval(key)
            check_value(task, str | None, name="the task")
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            raise ValueError(
                f"{file}: the route mapping {key!r} is not of the form \"('task', 'modality')\""
            ) from None
        if modality not in (None, "text"):
            raise ValueError(
                f"{file}: the route mapping {key!r} is for {modality!r}; only 'text' is supported"
            )
        if modality == "text" or task not in found:
            found[task] = route
    return found


def _kind(name, file):
    package, _, kind = name.rpartition(".")
    supported = (*TRUNK, *MODULES, *ROUTERS)
    if package.partition(".")[0] != "sentence_transformers" or kind not in supported:
        raise ValueError(
            f"{file}: unsupported module {name!r}; of sentence_transformers: {', '.join(supported)}"
        )
    return kind


def _type(kind):
    return f"sentence_transformers.models.{kind}"
