"""Which columns of a log hold users, items, times and weights: those named, else those usually called so."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ..errors import DataError, UserError, unknown

USUAL = {
    "user": "user userid uid username customer customerid visitor visitorid member memberid account accountid client "
    "clientid reviewer reviewerid profile profileid player playerid person personid session sessionid",
    "item": "item itemid iid parentasin product productid asin sku skuid article articleid movie movieid track trackid "
    "song songid artist artistid book bookid isbn video videoid news newsid business businessid game gameid "
    "content contentid stockcode listingid placeid adid",
    "time": "timestamp time ts datetime date unix unixtime unixtimestamp unixreviewtime utctimestamp timestampms "
    "timems eventtime eventdate createdat created occurredat invoicedate orderdate purchasedate reviewtime tdat",
    "weight": "weight rating ratings score stars overall quantity count",
}
NAMES = {role: names.split() for role, names in USUAL.items()}  # the first that is there is taken
Named = dict[str, str | int | None]  # role -> what the user called it


def plain(name: str) -> str:
    """A column's name without RecBole's type, case and punctuation: "user_id:token" is userid."""
    return re.sub(r"[^a-z0-9]", "", name.partition(":")[0].lower())


def chosen(where: str, columns: Sequence[str], named: Named, places: dict[str, str] | None = None) -> dict[str, str]:
    """role -> column, of those roles that have one.

    places: the columns of a file without a header. A time named "" is not looked for. Weights are looked for only where
    they are named, an empty name among them. Raises UserError on a column that is not there, DataError without users
    or items.
    """
    out = {}
    for role, given in named.items():
        if given:
            if str(given) not in columns:
                raise UserError(f"data.{role}: {where} has no such column: {unknown('column', str(given), columns)}")
            out[role] = str(given)
        elif (role == "time" and given == "") or (role == "weight" and given is None):
            continue
        elif found := usual(role, columns) if places is None else places.get(role):
            out[role] = found
        elif role in ("user", "item"):
            raise DataError(
                f"no column of {where} is known to hold {role}s: say data.{role}=NAME; "
                f"its columns are {', '.join(columns)}"
            )
    if out["user"] == out["item"]:
        raise UserError(f"users and items cannot both be column '{out['user']}' of {where}")
    return out


def decoded(column: Any) -> Any:
    """A column without its dictionary; polars' text, which comes as views, as plain text."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        return pa.DictionaryArray.from_arrays(column.indices, decoded(column.dictionary)).dictionary_decode()
    return column.cast(pa.large_string()) if str(column.type) == "string_view" else column


def usual(role: str, columns: Sequence[str]) -> str | None:
    """The column that bears one of the usual names of a role; None where none does."""
    known = {plain(column): column for column in reversed(columns)}
    return next((known[name] for name in NAMES[role] if name in known), None)
