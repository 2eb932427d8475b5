"""Files by path or URL: listed, measured and read in pieces. URLs go through fsspec, paths need nothing.

    "s3://bucket/laion/{00000..00999}.tar" -> [File(url, size, mark), ...] -> read(url, start, stop)

What a network does not give is asked for again three times, after growing waits, before it counts.
"""

from __future__ import annotations

import glob
import os
import re
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any, NamedTuple, TypeVar

from ..errors import DataError, UserError

WAITS = (1.0, 4.0, 16.0)  # seconds
ASKING = 16  # threads that wait for answers
AHEAD = 8 * 2**20  # bytes that reading in order fetches at once
SUFFIXES = (".tar", ".parquet")
PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "hf": "huggingface_hub", "http": "aiohttp", "https": "aiohttp"}
MARKS = ("ETag", "etag", "blob_id", "LastModified", "last_modified", "mtime", "updated", "created")
LASTING = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, ImportError, ValueError)
T = TypeVar("T")


class File(NamedTuple):
    """A path or URL, its bytes, and what changes when it is written anew: a time or an ETag."""

    url: str
    size: int
    mark: str


def is_url(path: str) -> bool:
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", path) is not None


def is_pattern(path: str) -> bool:
    """Whether a path means several files: {000..999}, {a,b} or *."""
    return not os.path.exists(path) and re.search(r"\*|\{[^{}]*(\.\.|,)[^{}]*\}", path) is not None


def list_files(pattern: str) -> tuple[list[File], dict[str, str]]:
    """The files that a path, URL, folder or pattern means, sorted, and the reason for each that is not there.

    Raises DataError when there are none or they cannot be listed, UserError without the package that reads them.
    """
    try:
        found, missing = _list(pattern)
    except UserError:
        raise
    except Exception as error:  # every file system has errors of its own
        raise DataError(f"cannot list '{pattern}': {reason(error)}") from None
    if not found and missing:
        url, why = min(missing.items())
        more = f", as all {len(missing):,} of '{pattern}'" if len(missing) > 1 else ""
        raise DataError(f"cannot read '{url}': {why}{more}")
    if not found:
        raise DataError(
            f"nothing is there: '{pattern}'; give .tar or .parquet files, not compressed, or a folder of them"
        )
    return sorted(set(found)), missing


def read(url: str, start: int, stop: int) -> bytes:
    """Bytes of a file; fewer where it ends early. Raises OSError and what its file system raises."""
    if not is_url(url):
        with open(url, "rb") as file:
            file.seek(start)
            return file.read(stop - start)
    fs, path = file_system(url)
    data = patiently(lambda: fs.cat_file(path, start, stop))
    return data[start:stop] if len(data) > stop - start else data  # a server that knows no ranges sends all


def open_file(url: str) -> IO[bytes]:
    """The file, to be read mostly in order."""
    if not is_url(url):
        return open(url, "rb")
    fs, path = file_system(url)
    return patiently(lambda: fs.open(path, "rb", block_size=AHEAD, cache_type="readahead"))


def patiently(call: Callable[[], T]) -> T:
    """`call()`, again after each of WAITS while it fails for a reason that may pass."""
    for wait in WAITS:
        try:
            return call()
        except Exception as error:
            if _lasts(_real(error)):
                raise
            time.sleep(wait)
    return call()


def _real(error: BaseException) -> BaseException:
    """What a file system hides behind "not found": that it was not reached, say."""
    cause = error.__cause__
    hidden = isinstance(cause, OSError | TimeoutError) or hasattr(cause, "status")
    return cause if isinstance(error, FileNotFoundError) and cause and hidden else error


def _lasts(error: BaseException) -> bool:
    """Whether asking again is in vain: a file that is not there, a request that is refused."""
    status = getattr(error, "status", 0)
    refused = isinstance(status, int) and 400 <= status < 500 and status != 429
    return refused or isinstance(error, LASTING) or "Credential" in type(error).__name__


def reason(error: BaseException) -> str:
    """In a few words."""
    error = _real(error)
    status = getattr(error, "status", 0)
    if isinstance(error, FileNotFoundError) or status == 404:
        return "no such file"
    if isinstance(error, PermissionError) or status in (401, 403):
        return "no permission"
    words = " ".join((getattr(error, "strerror", None) or str(error)).split()) or type(error).__name__
    words = re.sub(r"^\[Errno -?\d+\] ", "", words)
    return words if words[:2].isupper() else words[0].lower() + words[1:]


def file_system(url: str) -> tuple[Any, str]:
    """fsspec's file system for a URL (one a process: it keeps them), and the path there."""
    kind = url.partition("://")[0].lower()
    package = PACKAGES.get(kind, "")
    try:
        from fsspec.core import url_to_fs

        return url_to_fs(url)
    except ImportError:
        needed = " ".join(["fsspec", package]).strip()
        raise UserError(f"reading {kind}:// needs a package that is not installed: pip install {needed}") from None
    except ValueError as error:
        if "protocol" not in str(error).lower():
            raise
        raise UserError(f"cannot read '{url}': fsspec knows no {kind}://, but {', '.join(PACKAGES)}") from None


def expand(pattern: str) -> list[str]:
    """a{08..10}.tar -> a08.tar a09.tar a10.tar; {a,b} alike, as a shell does."""
    group = re.search(r"\{([^{}]*)\}", pattern)
    if not group:
        return [pattern]
    ends = re.fullmatch(r"(\d+)\.\.(\d+)", group[1])
    options: Iterable[str] = group[1].split(",")
    if ends:
        options = (f"{i:0{len(ends[1])}}" for i in range(int(ends[1]), int(ends[2]) + 1))
    elif "," not in group[1]:
        raise UserError(f"cannot make files of '{pattern}': write {{000..999}} or {{a,b}}")
    return [one for option in options for one in expand(pattern[: group.start()] + option + pattern[group.end() :])]


def _list(pattern: str) -> tuple[list[File], dict[str, str]]:
    found: list[File] = []
    exact: list[str] = []
    for path in expand(pattern) if is_url(pattern) or is_pattern(pattern) else [pattern]:
        if "*" in path and not os.path.exists(path):
            found += _matching(path)
        elif path.partition("?")[0].lower().endswith(SUFFIXES) and not os.path.isdir(path):
            exact.append(path)
        else:
            found += _below(path)
    there, missing = _stat(exact + [file.url for file in found if file.size < 0])
    return [file for file in found if file.size >= 0] + there, missing


def _matching(pattern: str) -> list[File]:
    if not is_url(pattern):
        return [_local(path) for path in glob.glob(pattern) if path.lower().endswith(SUFFIXES)]
    fs, path = file_system(pattern)
    return _files(fs, patiently(lambda: fs.glob(path, detail=True)))


def _below(folder: str) -> list[File]:
    if not is_url(folder):
        paths = glob.glob(os.path.join(glob.escape(folder), "**"), recursive=True)
        return [_local(path) for path in paths if path.lower().endswith(SUFFIXES) and os.path.isfile(path)]
    fs, path = file_system(folder)
    if not patiently(lambda: fs.exists(path)):
        patiently(lambda: fs.info(path))  # says why: a server out of reach has no files either
        raise FileNotFoundError(folder)
    return _files(fs, patiently(lambda: fs.find(path, detail=True)))


def _stat(urls: list[str]) -> tuple[list[File], dict[str, str]]:
    """The files of these names; of many in one folder its list is asked for once, where its file system has lists."""
    known: dict[str, File] = {}
    listed = [url for url in urls if is_url(url) and not url.startswith("http")]
    for folder in {url.rpartition("/")[0] for url in listed} if len(listed) > ASKING else ():
        known |= {file.url: file for file in _listed(folder)}
    missing: dict[str, str] = {}

    def one(url: str) -> File | None:
        try:
            if not is_url(url):
                return _local(url)
            fs, path = file_system(url)
            info = known.get(fs.unstrip_protocol(path)) or _file(url, patiently(lambda: fs.info(path)))
            if info.size < 0:
                raise OSError("its server does not tell its size")
            return info._replace(url=url)
        except UserError:
            raise
        except Exception as error:
            missing[url] = reason(error)
            return None

    with ThreadPoolExecutor(ASKING) as pool:
        found = list(pool.map(one, urls))
    return [file for file in found if file], missing


def _listed(folder: str) -> list[File]:
    fs, path = file_system(folder)
    found = _files(fs, {info["name"]: info for info in patiently(lambda: fs.ls(path, detail=True))})
    return [file for file in found if file.size >= 0]


def _local(path: str) -> File:
    state = os.stat(path)
    return File(os.path.abspath(path), state.st_size, str(state.st_mtime_ns))


def _files(fs: Any, infos: dict[str, dict]) -> list[File]:
    found = [(fs.unstrip_protocol(name), info) for name, info in infos.items() if info.get("type") == "file"]
    return [_file(url, info) for url, info in found if url.partition("?")[0].lower().endswith(SUFFIXES)]


def _file(url: str, info: dict) -> File:
    """Of size -1 where it is not told, as by a web page that lists files."""
    size = info.get("size")
    return File(url, -1 if size is None else int(size), " ".join(str(info[m]) for m in MARKS if info.get(m)))
