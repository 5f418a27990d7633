"""The folder of an embedded corpus while it is written. A shard is whole or not there, and a run
that was killed goes on.

    run.json        what the run is, and where its shards begin; while shards are missing
    shards.jsonl    a line for each shard that is there; while shards are missing
    shard-*         the shards
    manifest.json   what the run was, and its shards; once all of them are there
"""

import contextlib
import json
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Num

from jsbert.corpus.readers import Piece
from jsbert.files import leftovers, sha256, staged_file, sync
from jsbert.json_files import read_json, read_json_if_there
from jsbert.lazy import import_pyarrow

MANIFEST, RUN, LOG, LOCK = "manifest.json", "run.json", "shards.jsonl", ".lock"

FORM = 1
"""Counts the forms that the folder has had."""

GROUP = 8192
"""Rows of a row group: what a reader has in memory at a time."""

Format = Literal["parquet", "npy"]
FORMATS: tuple[str, ...] = get_args(Format)


class Shard(NamedTuple):
    """A shard that is there.

    Attributes:
        number: which shard, from 0.
        rows: the rows that have a vector.
        bad_rows: the rows that were left out.
        first_bad: what is wrong with the first of these.
        dim: the dimensions of a vector before it is coded.
        files: for each file its bytes and its sha256.
    """

    number: int
    rows: int
    bad_rows: int
    first_bad: str | None
    dim: int
    files: dict[str, tuple[int, str]]


def write_shard(
    folder: pathlib.Path,
    number: int,
    ids: Sequence[int] | Sequence[str],
    vectors: Num[np.ndarray, "rows width"],
    texts: Sequence[str] | None,
    *,
    id_type: type,
    format: Format,
) -> dict[str, tuple[int, str]]:
    """Write the files of a shard; each is whole or not there. Return their bytes and sha256.

    "parquet" gives one file with the columns id, text (unless `texts` is None) and embedding.
    "npy" gives a file of the vectors alone, and a parquet file of the other columns.

    Raises:
        OSError: if the disk is full or the folder cannot be written.
    """
    arrow, parquet = import_pyarrow()
    columns = {"id": arrow.array(ids, arrow.int64() if id_type is int else arrow.string())}
    if texts is not None:
        columns["text"] = arrow.array(texts, arrow.large_string())
    if format == "parquet":
        flat = arrow.array(np.ascontiguousarray(vectors).reshape(-1))
        columns["embedding"] = arrow.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
    table = arrow.table(columns)
    stem = f"shard-{number:06d}"
    files: dict[str, tuple[int, str]] = {}
    if format == "npy":
        files |= _written(folder / f"{stem}.npy", lambda file: np.save(file, vectors))
    # Vectors hardly shrink.
    packed = {name: "zstd" for name in columns if name != "embedding"}
    packed |= {"embedding.list.element": "none"} if "embedding" in columns else {}
    return files | _written(
        folder / f"{stem}.parquet",
        lambda file: parquet.write_table(
            table, file, row_group_size=GROUP, use_dictionary=False, compression=packed
        ),
    )


def _written(path: pathlib.Path, write: Callable[[Any], None]) -> dict[str, tuple[int, str]]:
    with _named(path):
        with staged_file(path) as staging:
            with staging.open("wb") as file:
                write(file)
            sync(staging)
            facts = staging.stat().st_size, sha256(staging)
        sync(path.parent)
    return {path.name: facts}


@contextlib.contextmanager
def _named(path: pathlib.Path) -> Iterator[None]:
    """Give an OSError that names no file, such as that of a full disk, the name of this one."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None


def problem(folder: pathlib.Path, shard: Shard, *, checksums: bool) -> str | None:
    """Return what is wrong with the files of a shard, or None. Without `checksums` only their sizes
    are compared."""
    for name, (num_bytes, digest) in shard.files.items():
        path = folder / name
        if not path.is_file():
            return f"{path} is missing"
        if path.stat().st_size != num_bytes:
            return f"{path} has {path.stat().st_size:,} bytes, not {num_bytes:,}"
        if checksums and sha256(path) != digest:
            return f"{path} has another checksum than when it was written"
    return None


def read_manifest(folder: pathlib.Path) -> tuple[dict[str, Any], list[Shard]]:
    """Return what a finished folder is, and its shards.

    Raises:
        FileNotFoundError: if there is no manifest; the message says how much is there.
        ValueError: if the manifest is broken.
    """
    file = folder / MANIFEST
    if not file.is_file():
        if (folder / RUN).is_file():
            shards = read_json(folder / RUN)["shards"]
            raise FileNotFoundError(
                f"{folder} is not finished: {len(_read_log(folder))} of {len(shards)} shards are "
                "there; run `jsbert embed` again with the same inputs and options"
            )
        raise FileNotFoundError(f"{folder}: no {MANIFEST}; is this a folder of `jsbert embed`?")
    manifest = read_json(file)
    if manifest.get("form") != FORM:
        raise ValueError(
            f"{file}: form {manifest.get('form')!r}, and this version of jsbert reads {FORM}; "
            "open it with the version that wrote it"
        )
    return manifest, [_shard(entry) for entry in manifest.pop("shards")]


class Run:
    """A run that writes into a folder; make it with `claimed`.

    Attributes:
        shards: the pieces of each shard.
        done: the shards that are there, by their numbers.
        problems: what was wrong with shards that have to be computed again.
    """

    def __init__(
        self, folder: pathlib.Path, description: dict[str, Any], shards: list[list[Piece]]
    ):
        self.folder, self.shards = folder, shards
        self._description = description
        self.done: dict[int, Shard] = {}
        self.problems: list[str] = []

    @property
    def missing(self) -> list[int]:
        """The numbers of the shards that are not there, ascending."""
        return [number for number in range(len(self.shards)) if number not in self.done]

    def add(self, shard: Shard) -> None:
        """Note a shard whose files are there."""
        line = json.dumps(shard._asdict(), ensure_ascii=False) + "\n"
        with _named(self.folder / LOG):
            with (self.folder / LOG).open("ab") as file:
                file.write(line.encode())
            sync(self.folder / LOG)
        self.done[shard.number] = shard

    def finish(self) -> None:
        """Write the manifest in place of the notes of the run.

        Raises:
            ValueError: if no row of the corpus could be used.
        """
        shards = [self.done[number] for number in range(len(self.shards))]
        rows = sum(shard.rows for shard in shards)
        if not rows:
            raise ValueError(f"none of the rows can be used; the first: {shards[0].first_bad}")
        manifest = self._description | {
            "dim": shards[0].dim,
            "rows": rows,
            "bad_rows": sum(shard.bad_rows for shard in shards),
            "shards": [shard._asdict() for shard in shards],
        }
        _write_durably(self.folder / MANIFEST, _in_lines(manifest))
        for name in (RUN, LOG):
            (self.folder / name).unlink(missing_ok=True)


@contextlib.contextmanager
def claimed(
    folder: pathlib.Path,
    description: dict[str, Any],
    notes: dict[str, str],
    plan: Callable[[], list[list[Piece]]],
    *,
    checksums: bool = False,
) -> Iterator[Run]:
    """Yield the run of a folder, new or the one that was stopped. No other run can enter the folder
    until the block ends.

    Args:
        folder: it is made if it does not exist.
        description: what must be the same for a run to go on.
        notes: what else the manifest says, as it was when the run began.
        plan: gives the pieces of the shards; called unless the folder has them.
        checksums: read all shards that are there, and compare their checksums.

    Raises:
        OSError: if the folder cannot be written, or another run is in it.
        ValueError: if the folder has another run, or other files.
    """
    from filelock import FileLock, Timeout

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK, timeout=0)
        lock.acquire()
    except Timeout:
        raise BlockingIOError(
            f"another run writes into {folder}; wait for its end, or give another folder"
        ) from None
    except FileExistsError:
        raise NotADirectoryError(f"{folder} is a file; give a folder") from None
    except OSError as error:
        raise OSError(f"{folder} cannot be written to: {error.strerror}") from None
    try:
        yield _open_run(folder, json.loads(json.dumps(description)), notes, plan, checksums)
    finally:
        lock.release()


def _open_run(folder, description, notes, plan, checksums):
    description = {"form": FORM} | description
    # Remove what a killed run has left half-written.
    notes_left = [path for name in (MANIFEST, RUN) for path in leftovers(folder / name)]
    for path in [*folder.glob(".shard-*"), *notes_left]:
        path.unlink()
    earlier = read_json_if_there(folder / MANIFEST)
    is_finished = bool(earlier)
    earlier = earlier or read_json_if_there(folder / RUN)
    if is_finished:
        entries = [_shard(entry) for entry in earlier["shards"]]
    else:
        entries = _read_log(folder, mends=True)
    if not entries:  # a run without a shard is no loss
        if not earlier:
            _check_only_ours(folder)
        run = Run(folder, description | notes, plan())
        (folder / LOG).unlink(missing_ok=True)
        _write_run(run)
        return run
    _check_same(folder, earlier, description)
    # Shards whose files are gone or changed are computed again.
    kept = {key: earlier[key] for key in (*description, *notes)}
    run = Run(folder, kept, [])
    for shard in entries:
        if wrong := problem(folder, shard, checksums=checksums):
            run.problems.append(wrong)
        else:
            run.done[shard.number] = shard
    if not is_finished:
        run.shards = [[Piece(*piece) for piece in pieces] for pieces in earlier["shards"]]
        return run
    if not run.problems:
        run.shards = [[] for _ in entries]
        return run
    # A finished folder becomes an unfinished one. The notes come first: a run that is killed here
    # still finds one of the two.
    run.shards = plan()
    shards, run.done = run.done, {}
    (folder / LOG).unlink(missing_ok=True)
    for shard in shards.values():
        run.add(shard)
    _write_run(run)
    (folder / MANIFEST).unlink()
    return run


def _write_run(run):
    _write_durably(run.folder / RUN, _in_lines(run._description | {"shards": run.shards}))


def _write_durably(path, text):
    with _named(path):
        with staged_file(path) as staging:
            staging.write_text(text, encoding="utf8")
            sync(staging)
        sync(path.parent)


def _in_lines(values: dict[str, Any]) -> str:
    """Return json with a line for each shard."""
    shards = ",\n".join("  " + json.dumps(shard, ensure_ascii=False) for shard in values["shards"])
    head = json.dumps({**values, "shards": []}, indent=2, ensure_ascii=False)
    return head.removesuffix("[]\n}") + f"[\n{shards}\n]}}\n"


def _read_log(folder, mends=False):
    """The shards in the log. A line that was not written to its end does not count; with `mends` it
    is cut off."""
    path = folder / LOG
    if not path.is_file():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if mends and whole != content:
        with path.open("r+b") as file:
            file.truncate(len(whole))
    found = {}
    for line in whole.splitlines():
        shard = _shard(json.loads(line))
        found[shard.number] = shard  # a shard that was computed again has two lines
    return list(found.values())


def _shard(values):
    shard = Shard(**values)
    return shard._replace(files={name: tuple(facts) for name, facts in shard.files.items()})


def _check_only_ours(folder):
    """Raise ValueError unless the folder is new."""
    others = [path.name for path in folder.iterdir() if not path.name.startswith(".")]
    if others:
        raise ValueError(
            f"{folder} holds {others[0]} and no run of `jsbert embed`; give a new or empty folder"
        )


def _check_same(folder, earlier, description):
    """Raise ValueError if a folder's run is not the one that `description` describes."""
    known = {key: earlier.get(key) for key in description}
    differing = list(_differences(known, description))
    if differing:
        raise ValueError(
            f"{folder} holds another run: {'; '.join(differing[:5])}; give the same again, or "
            "another folder"
        )


def _differences(earlier, now, name=""):
    """Yield what differs between two descriptions. A key that one of them lacks is None there."""
    if isinstance(now, dict) and isinstance(earlier, dict):
        for key in {**earlier, **now}:
            yield from _differences(earlier.get(key), now.get(key), f"{name} {key}".strip())
    elif isinstance(now, list) and isinstance(earlier, list) and name == "inputs":
        before, after = ({one["name"]: one for one in side} for side in (earlier, now))
        for one in [*before, *(key for key in after if key not in before)]:
            if one not in after:
                yield f"the input {one} is missing now"
            elif one not in before:
                yield f"the input {one} is new"
            elif before[one] != after[one]:
                yield f"the input {one} has changed since"
        if earlier != now and list(before) != list(after) and set(before) == set(after):
            yield "the inputs have another order"
    elif earlier != now:
        yield f"{name} was {_short(earlier)} and is {_short(now)} now"


def _short(value):
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
