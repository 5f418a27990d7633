"""Read and write the list of a folder's modules, modules.json, and the config of a Router."""

import ast
import pathlib
from typing import Any

from jsbert.checks import check_value, shown, typed
from jsbert.config import Router
from jsbert.json_files import has_file, inside, read_json, write_json
from jsbert.modules import MODULES

ROUTERS = ("Router", "Asym")
"""The new and the old name of the module with routes."""

TRUNK = ("Transformer", "StaticEmbedding", "WeightedLayerPooling", "Pooling")
"""The modules in front of those in `modules.MODULES`."""

SCORE = "LogitScore"
"""The module behind the Transformer of a cross-encoder that is a causal language model."""

Modules = list[tuple[str, pathlib.Path]]
"""[(the last segment of the type, the folder)], in the order of computation."""


def read_modules(folder: pathlib.Path) -> Modules | None:
    """Read a folder's modules.json. None if there is none.

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
    """A description of the supported lists of modules, for messages."""
    return (
        f"supported: Transformer, Pooling, then any of {', '.join(MODULES)}; a "
        "WeightedLayerPooling between the first "
        "two; a StaticEmbedding in place of these; and one Router, each of whose routes is such a "
        "list, with what stands before and behind the Router"
    )


def write_modules(folder: pathlib.Path, modules: list[tuple[str, str]]) -> None:
    """Write modules.json. `modules` are (kind, name of its folder)."""
    entries = [
        {"idx": i, "name": str(i), "path": path, "type": _type(kind)}
        for i, (kind, path) in enumerate(modules)
    ]
    write_json(folder / "modules.json", entries)


def find_router(modules: Modules) -> Router | None:
    """The Router among the modules; None if there is none. The target of a route is the list of all
    modules that a text passes on that route, those before and behind the Router included.

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
    """Write the config of a Router. The targets are lists of (kind, name of its folder)."""
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
    # The modules of each route.
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

    # The default route, and the tasks whose route has another name.
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
    """{task: route} from {"(task, modality)": route}. A mapping for the modality "text" wins over
    one for None, which is for all modalities."""
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
    supported = (*TRUNK, *MODULES, *ROUTERS, SCORE)
    if package.partition(".")[0] != "sentence_transformers" or kind not in supported:
        raise ValueError(
            f"{file}: unsupported module {name!r}; of sentence_transformers: {', '.join(supported)}"
        )
    return kind


def _type(kind):
    return f"sentence_transformers.models.{kind}"
