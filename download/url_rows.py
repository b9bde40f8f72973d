"""Rows of a list of addresses → rows that can be used, checked column by column.

Lists come from anywhere. What makes a row useless is counted with a reason and the first place;
what is only said of the image (sizes, texts, who made it) is left out where it is no good.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from download.candidates import IMAGE
from download.commons import Commons, file_of, form_of
from download.url_files import Batch
from etl.merged_ids import Redirects
from graph.ontology import Ids, among

_STRINGS: Final = pa.list_(pa.string())

#: Rows as they wait to be joined. ``entity`` is null where the hashes are still to be looked up.
ROWS: Final = pa.schema(
    [
        ("row", pa.int64()),  # its place in all lists, from 0
        ("entity", pa.int64()),
        ("hashes", _STRINGS),
        ("url", pa.string()),  # null where there is a file
        *(column for column in IMAGE if column[0] != "score"),
        ("score", pa.float64()),  # the user's own
    ]
)

#: Bytes of an address: RFC 9110, section 4.1, asks for at least 8,000 octets to be supported.
LONGEST_URL: Final = 8_000
MOST_URLS: Final = 20  # addresses of one row, hashes likewise
MOST_TEXTS: Final = 100
LONGEST_TEXT: Final = 5_000  # characters; what is longer is cut
LONGEST_NAME: Final = 1_000  # characters of a licence, a creator, a key

NO_ENTITY: Final = "neither an entity such as Q144 nor the hash of a query"
ENTITIES: Final = "several entities in one row"
NO_URL: Final = "no address"
NOT_HTTP: Final = "an address that begins neither with http:// nor with https://"
LONG_URL: Final = f"an address of more than {LONGEST_URL:,} bytes"
CREDENTIALS: Final = "an address with a user's name or password"
CONTROL: Final = "an address with control characters"
NO_HOST: Final = "an address without a host"

_CONTROL: Final = r"[\x00-\x1f\x7f\x{80}-\x{9f}]"
_HTTP: Final = r"^(?i:https?)://"
_USER: Final = r"^[^:]+://[^/?#]*@"
#: The backslash is a slash to browsers and none to others, who would ask another host.
_NO_HOST: Final = r"^[^:]+://(?:[^/?#]*[\\ \"<>^`{|}]|[:/?#]|$)"
_QID: Final = r"^(?:<?https?://www\.wikidata\.org/entity/|wd:)?(Q[1-9][0-9]{0,17})>?$"
_WHOLE_NUMBER: Final = r"^[0-9]{1,18}(?:\.0{1,6})?$"
_NUMBER: Final = r"^[+-]?(?:[0-9]{1,30}(?:\.[0-9]{0,30})?|\.[0-9]{1,30})(?:[eE][+-]?[0-9]{1,2})?$"
_SHA1: Final = r"^[0-9a-f]{40}$"
_MIME: Final = r"^[a-z]{1,20}/[a-z0-9.+-]{1,100}$"


@dataclass
class Tally:
    """What became of the rows so far."""

    rows: int = 0
    bad: Counter[str] = field(default_factory=Counter)  # reason → rows
    first: dict[str, str] = field(default_factory=dict)  # reason → place
    not_wanted: int = 0
    no_pictures: int = 0
    left_out: Counter[str] = field(default_factory=Counter)  # column → values that say nothing

    def refuse(self, reason: str, place: str) -> None:
        self.bad[reason] += 1
        self.first.setdefault(reason, place)


@dataclass(frozen=True)
class Wanted:
    """The entities that images are wanted of, ascending, and the ids that were merged into them.

    A list may be of an earlier day than the data set.
    """

    entities: Ids
    merged: Redirects


@dataclass(frozen=True)
class _Flat:
    """The values of a column and the rows (n,), ascending, that they belong to; no nulls."""

    rows: npt.NDArray[np.int64]
    values: pa.Array

    def where(self, mask: npt.NDArray[np.bool_]) -> _Flat:
        return _Flat(self.rows[mask], self.values.filter(pa.array(mask)))

    def places(self) -> npt.NDArray[np.int64]:
        """The place of each value among those of its row, from 0."""
        return np.arange(len(self.rows)) - np.searchsorted(self.rows, self.rows)

    def lists(self, count: int) -> pa.Array:
        offsets = np.searchsorted(self.rows, np.arange(count + 1))
        return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), self.values)

    def spread(self, count: int) -> pa.Array:
        """The first value of each row, null where there is none."""
        at = np.searchsorted(self.rows, np.arange(count))
        has = np.zeros(count, bool)
        has[self.rows] = True
        return self.values.take(pa.array(np.where(has, at, 0), mask=~has))


def usable(
    batch: Batch,
    start: int,
    unit: str,
    wanted: Wanted,
    commons: Commons,
    tally: Tally,
) -> pa.Table:
    """The rows of a batch that can be used, columns ROWS; ``start`` is the number of its first.

    Rows of entities that are not ``wanted`` are left out. ``unit`` says where a row stands:
    "list.csv, line".
    """
    count = len(batch.places)
    tally.rows += count + len(batch.broken)
    for place, reason in batch.broken:
        tally.refuse(reason, f"{unit} {place:,}")
    rows = _Rows(batch.columns, count, commons, tally)
    entity, hashes, reasons = rows.names(wanted.merged)
    url, at, fallbacks = rows.addresses(reasons)
    for i in np.flatnonzero(reasons != ""):
        tally.refuse(str(reasons[i]), f"{unit} {batch.places[i]:,}")
    kept = (reasons == "") & rows.are_wanted(entity, wanted.entities, reasons)
    file, is_picture = rows.files(url, kept)
    tally.no_pictures += int((kept & ~is_picture).sum())
    kept &= is_picture
    known = {
        "row": pa.array(start + np.arange(count)),
        "entity": entity,
        "hashes": hashes,
        "url": pc.if_else(pc.is_null(file), url, pa.scalar(None, pa.string())),
        "fallback_urls": fallbacks,
        "file": file,
        **rows.described(at),
    }
    table = pa.table([known[column.name].cast(column.type) for column in ROWS], schema=ROWS)
    return table.filter(pa.array(kept))


class _Rows:
    """The columns of a batch, and what is made of them; n = ``count`` rows."""

    def __init__(
        self, columns: Mapping[str, pa.Array], count: int, commons: Commons, tally: Tally
    ) -> None:
        self._columns = columns
        self._count = count
        self._commons = commons
        self._tally = tally

    # --- which entity ---

    def names(self, merged: Redirects) -> tuple[pa.Array, pa.Array, npt.NDArray[Any]]:
        """Numbers of entities (null: look the hashes up), hashes, and why a row has neither."""
        found = self._texts("entity")
        values = pc.replace_substring_regex(found.values, _QID, r"\1")
        right = _mask(pc.match_substring_regex(values, "^Q[1-9][0-9]{0,17}$"))
        flat = _Flat(found.rows, values).where(right)
        numbers = pc.cast(pc.utf8_slice_codeunits(flat.values, 1), pa.int64())
        numbers = pa.array(merged.followed(numbers.to_numpy(zero_copy_only=False)))
        entity = _Flat(flat.rows, numbers).spread(self._count)
        hashes = self._texts("query_hashes")
        short = _mask(pc.less_equal(pc.binary_length(hashes.values), 200))
        hashes = hashes.where(short & (hashes.places() < MOST_URLS))
        named = np.zeros(self._count, bool)
        named[flat.rows] = True
        # An entity that is none is no reason to look the row's hashes up instead.
        bad = np.zeros(self._count, bool)
        bad[found.rows] = True
        named[hashes.rows[~bad[hashes.rows]]] = True
        reasons = np.where(named, "", NO_ENTITY).astype(object)
        reasons[np.bincount(found.rows, minlength=self._count) > 1] = ENTITIES
        return entity, hashes.lists(self._count), reasons

    def are_wanted(
        self, entity: pa.Array, wanted: Ids, reasons: npt.NDArray[Any]
    ) -> npt.NDArray[np.bool_]:
        numbers = entity.fill_null(-1).to_numpy(zero_copy_only=False)
        are: npt.NDArray[np.bool_] = among(numbers, wanted) | (numbers < 0)  # by their hashes
        self._tally.not_wanted += int((~are & (reasons == "")).sum())
        return are

    # --- where it is ---

    def addresses(
        self, reasons: npt.NDArray[Any]
    ) -> tuple[pa.Array, npt.NDArray[np.int64], pa.Array]:
        """The first address of each row that can be used, its place in the row, and the others.

        Rows without one get a reason, that of their first.
        """
        found = self._texts("urls")
        values = pc.replace_substring_regex(found.values, "#.*$", "")  # never sent to a server
        why = _refusals(values)
        values = pc.replace_substring(values, " ", "%20")  # as browsers do
        first = np.searchsorted(found.rows, np.arange(self._count))
        has = np.zeros(self._count, bool)
        has[found.rows] = True
        places = found.places()
        right = (why == "") & (places < MOST_URLS)
        usable = np.zeros(self._count, bool)
        usable[found.rows[right]] = True
        for i in np.flatnonzero(~usable & (reasons == "")):
            reasons[i] = why[first[i]] if has[i] else NO_URL
        flat = _Flat(found.rows, values).where(right)
        at = np.zeros(self._count, np.int64)
        is_first = flat.places() == 0
        at[flat.rows[is_first]] = places[right][is_first]
        fallbacks = flat.where(~is_first).lists(self._count)
        return flat.spread(self._count), at, fallbacks

    def files(
        self, url: pa.Array, kept: npt.NDArray[np.bool_]
    ) -> tuple[pa.Array, npt.NDArray[np.bool_]]:
        """The files of Commons that addresses mean, and whether there is a picture to fetch."""
        bases = (self._commons.originals, self._commons.thumbnails)
        hosts = {urlsplit(base).hostname or "" for base in bases}
        hosts |= {"commons.wikimedia.org", "commons.m.wikimedia.org", "upload.wikimedia.org"}
        hosts.add("thumb.wikimedia.org")
        pattern = f"^[^:]+://(?i:{'|'.join(map(re.escape, sorted(hosts)))})[:/]"
        likely = _mask(pc.match_substring_regex(url, pattern).fill_null(False)) & kept
        files: dict[int, str] = {}
        is_picture = np.ones(self._count, bool)
        for i in np.flatnonzero(likely):
            file = file_of(url[int(i)].as_py(), self._commons)
            if file is not None:
                files[int(i)] = file
                is_picture[i] = form_of(file) is not None
        if not files:
            return pa.nulls(self._count, pa.string()), is_picture
        return pa.array([files.get(i) for i in range(self._count)], pa.string()), is_picture

    # --- what is said of it ---

    def described(self, at: npt.NDArray[np.int64]) -> dict[str, pa.Array]:
        """Columns about the image; ``at``: which of a row's addresses is meant."""
        texts, langs = self._with_languages()
        limit = np.iinfo(np.int32).max
        return {
            "texts": texts,
            "text_langs": langs,
            "width": self._numbers("width", at, limit),
            "height": self._numbers("height", at, limit),
            "bytes": self._numbers("bytes", at, np.iinfo(np.int64).max),
            "score": self._scores(),
            "sha1": self._matching("sha1", _SHA1),
            "mime": self._matching("mime", _MIME),
            "page_url": self._page(at),
            "licence": self._name("licence"),
            "creator": self._name("creator"),
            "source_id": self._name("source_id"),
        }

    def _with_languages(self) -> tuple[pa.Array, pa.Array]:
        """Texts with their languages: a list beside theirs, or one for all of a row."""
        texts = self._texts("texts", keep_empty=True)
        langs = self._texts("text_langs", keep_empty=True)
        many, few = (np.bincount(f.rows, minlength=self._count) for f in (texts, langs))
        first = np.searchsorted(langs.rows, np.arange(self._count))
        start = np.searchsorted(texts.rows, np.arange(self._count))
        place = np.arange(len(texts.rows)) - start[texts.rows]
        parallel = (few == many)[texts.rows]
        known = parallel | (few == 1)[texts.rows]
        at = first[texts.rows] + np.where(parallel, place, 0)
        lang = langs.values.take(pa.array(np.where(known, at, 0), mask=~known))
        usual = pc.match_substring_regex(lang, r"^[A-Za-z]{2,8}(?:-[A-Za-z0-9]{1,8})*$")
        lang = pc.if_else(usual, lang, pa.scalar(None, pa.string()))
        kept = _mask(pc.not_equal(texts.values, "")) & (place < MOST_TEXTS)
        cut = pc.utf8_slice_codeunits(texts.values, 0, LONGEST_TEXT)
        rows = texts.rows[kept]
        mask = pa.array(kept)
        return (
            _Flat(rows, cut.filter(mask)).lists(self._count),
            _Flat(rows, lang.filter(mask)).lists(self._count),
        )

    def _numbers(self, what: str, at: npt.NDArray[np.int64], most: int) -> pa.Array:
        """Whole numbers from 1 to ``most``; 0 says that it isn't known."""
        flat = self._beside_address(what, at)
        values = flat.values
        if pa.types.is_string(values.type):
            right = _mask(pc.match_substring_regex(values, _WHOLE_NUMBER))
            digits = pc.replace_substring_regex(values.filter(pa.array(right)), r"\..*$", "")
            numbers = pc.cast(digits, pa.int64()).to_numpy(zero_copy_only=False)
        else:
            as_float = pc.cast(values, pa.float64(), safe=False).to_numpy(zero_copy_only=False)
            whole = np.isfinite(as_float) & (np.floor(as_float) == as_float)
            right = whole & (as_float >= 0) & (as_float < 2.0**63)
            numbers = pc.cast(values.filter(pa.array(right)), pa.int64()).to_numpy(
                zero_copy_only=False
            )
        fits = numbers <= most
        self._tally.left_out[what] += int((~right).sum() + (~fits).sum())
        rows = flat.rows[right]
        told = fits & (numbers > 0)
        return _Flat(rows[told], pa.array(numbers[told])).spread(self._count)

    def _beside_address(self, what: str, at: npt.NDArray[np.int64]) -> _Flat:
        """Of lists that run beside the addresses', as EntityNet's, the value of the used one."""
        flat = _flat(self._columns.get(what), trim=True)
        one = np.bincount(flat.rows, minlength=self._count) == 1
        return flat.where((flat.places() == at[flat.rows]) | one[flat.rows])

    def _scores(self) -> pa.Array:
        flat = _flat(self._columns.get("score"), trim=True)
        flat = flat.where(flat.places() == 0)
        values = flat.values
        if pa.types.is_string(values.type):
            right = _mask(pc.match_substring_regex(values, _NUMBER))
            flat = flat.where(right)
            self._tally.left_out["score"] += int((~right).sum())
        numbers = pc.cast(flat.values, pa.float64(), safe=False)
        right = _mask(pc.is_finite(numbers))
        self._tally.left_out["score"] += int((~right).sum())
        return _Flat(flat.rows, numbers).where(right).spread(self._count)

    def _matching(self, what: str, pattern: str) -> pa.Array:
        flat = self._texts(what)
        flat = flat.where(flat.places() == 0)
        lower = pc.utf8_lower(flat.values)
        right = _mask(pc.match_substring_regex(lower, pattern))
        self._tally.left_out[what] += int((~right).sum())
        return _Flat(flat.rows, lower).where(right).spread(self._count)

    def _page(self, at: npt.NDArray[np.int64]) -> pa.Array:
        flat = self._beside_address("page_url", at)
        flat = _Flat(flat.rows, pc.cast(flat.values, pa.string()))
        right = _refusals(flat.values) == ""
        self._tally.left_out["page_url"] += int((~right).sum())
        return flat.where(right).spread(self._count)

    def _name(self, what: str) -> pa.Array:
        flat = self._texts(what)
        flat = flat.where(flat.places() == 0)
        cut = pc.utf8_slice_codeunits(flat.values, 0, LONGEST_NAME)
        return _Flat(flat.rows, cut).spread(self._count)

    def _texts(self, what: str, *, keep_empty: bool = False) -> _Flat:
        """Text on one line, without spaces around it; addresses keep their control characters."""
        flat = _flat(self._columns.get(what), trim=True, keep_empty=keep_empty)
        values = pc.cast(flat.values, pa.string())
        if what != "urls":
            values = pc.replace_substring_regex(values, r"[\x00-\x1f\x7f]+", " ")
        return _Flat(flat.rows, values)


def _flat(column: pa.Array | None, *, trim: bool, keep_empty: bool = False) -> _Flat:
    if column is None:
        return _Flat(np.empty(0, np.int64), pa.array([], pa.string()))
    if pa.types.is_list(column.type):
        rows = pc.list_parent_indices(column).to_numpy(zero_copy_only=False).astype(np.int64)
        values = pc.list_flatten(column)
    else:
        rows, values = np.arange(len(column)), column
    if pa.types.is_null(values.type):
        values = values.cast(pa.string())
    if pa.types.is_string(values.type):
        values = pc.utf8_trim_whitespace(values) if trim else values
        if keep_empty:
            values = values.fill_null("")
        else:
            values = pc.if_else(pc.equal(values, ""), pa.scalar(None, pa.string()), values)
    present = _mask(pc.is_valid(values))
    return _Flat(rows[present], values.filter(pa.array(present)))


def _refusals(urls: pa.Array) -> npt.NDArray[Any]:
    """Why each address can't be used, "" where it can; the reason that is looked for first."""

    def like(pattern: str) -> npt.NDArray[np.bool_]:
        return _mask(pc.match_substring_regex(urls, pattern))

    why = np.full(len(urls), "", object)
    for reason, wrong in (
        (CONTROL, like(_CONTROL)),
        (NOT_HTTP, ~like(_HTTP)),
        (LONG_URL, _mask(pc.greater(pc.binary_length(urls), LONGEST_URL))),
        (CREDENTIALS, like(_USER)),
        (NO_HOST, like(_NO_HOST)),
    ):
        why[wrong & (why == "")] = reason
    return why


def _mask(values: pa.Array) -> npt.NDArray[np.bool_]:
    return np.asarray(values.to_numpy(zero_copy_only=False), dtype=bool)
