"""What the picture of a pack shows: counts of ``images.parquet``, and a few images of each root.

Images of a root are of as many entities as there are. Of those of an entity the first in the order
of keys is taken, which digests decide: the same ones each time, and nobody's choice. As shards are
in that order, few of them are read.
"""

from __future__ import annotations

import tarfile
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any, Final

from download.joining import connect, count, view
from download.pack.picture import SAMPLES, Host, Packed, Root
from etl.errors import UserError

#: Opens a shard by the name of its file, where they stand elsewhere than the tables.
Open = Callable[[str], AbstractContextManager[IO[bytes]]]

OUTCOMES: Final = ("ok", "permanent", "transient", "refused")

_ROOTS: Final = """
SELECT root, count(*)
FROM (SELECT unnest(list_distinct(roots)) AS root FROM images)
GROUP BY root
"""

# The first entity of an image stands for it: it is the one of the first candidate.
_SAMPLES: Final = """
WITH first AS (
    SELECT root, min({'key': key, 'shard': shard}) AS image
    FROM (
        SELECT unnest(list_distinct(roots)) AS root, entities[1] AS entity, key, shard FROM images
    )
    GROUP BY root, entity
)
SELECT root, image.key, image.shard
FROM (SELECT *, row_number() OVER (PARTITION BY root ORDER BY image) AS place FROM first)
WHERE place <= $most
ORDER BY root, place
"""

_SIDES: Final = """
SELECT least(original_width, original_height) AS side, count(*) FROM images
GROUP BY side HAVING side > 0
"""

_ENTITIES: Final = "SELECT count(*) FROM (SELECT DISTINCT unnest(entities) FROM images)"
_SHARDS: Final = "SELECT count(*) FROM (SELECT DISTINCT shard FROM images)"


def read(
    shards: Path,
    names: Mapping[str, str | None],
    hosts: Sequence[Host],
    size: int,
    open_shard: Open | None = None,
) -> Packed:
    """What there is to draw of a folder of shards.

    ``names`` are the roots in the recipe's order, ``size`` the pixels of the shorter side that
    images were made for.

    Raises UserError where a table or a shard can't be read.
    """
    with (
        tempfile.TemporaryDirectory(prefix="sparqless-picture-") as work,
        connect(Path(work)) as database,
    ):
        view(database, "images", shards / "images.parquet")
        by_root = dict(database.execute(_ROOTS).fetchall())
        sides: Counter[int] = Counter()
        for side, number in database.execute(_SIDES).fetchall():
            sides[1 << (side.bit_length() - 1)] += number
        images = count(database, "SELECT count(*) FROM images")
        entities, tars = count(database, _ENTITIES), count(database, _SHARDS)
        chosen = database.execute(_SAMPLES, {"most": SAMPLES}).fetchall()
    wanted = ((key, shard) for _, key, shard in chosen)
    jpegs = read_jpegs(wanted, open_shard or (lambda name: (shards / name).open("rb")))
    samples: defaultdict[str, list[bytes]] = defaultdict(list)
    for root, key, _ in chosen:
        samples[root].append(jpegs[key])
    ordered = dict.fromkeys((*names, *sorted(by_root)))
    roots = [Root(id_, names.get(id_), by_root.get(id_, 0), samples[id_]) for id_ in ordered]
    return Packed(images, entities, tars, hosts, sides, size, roots)


def read_jpegs(wanted: Iterable[tuple[str, str]], open_shard: Open) -> dict[str, bytes]:
    """The JPEGs of keys, each with its shard, such as ``train-000012``.

    Raises UserError where a shard isn't there, is broken or lacks the key.
    """
    by_shard: defaultdict[str, set[str]] = defaultdict(set)
    for key, shard in wanted:
        by_shard[f"{shard}.tar"].add(key)
    found: dict[str, bytes] = {}
    for name, keys in by_shard.items():
        found |= _read_shard(name, keys, open_shard)
    return found


def _read_shard(name: str, keys: Iterable[str], open_shard: Open) -> dict[str, bytes]:
    left = {f"{key}.jpg": key for key in keys}
    found = {}
    try:
        with open_shard(name) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                jpeg = tar.extractfile(member) if member.name in left else None
                if jpeg is not None:
                    found[left.pop(member.name)] = jpeg.read()
                if not left:
                    return found
    except (OSError, tarfile.TarError) as error:
        raise UserError(f"{name} can't be read ({error}): pack again.") from error
    raise UserError(f"{name} has no {min(left)}, which images.parquet names: pack again.")


def as_hosts(rows: Iterable[Mapping[str, Any]]) -> list[Host]:
    """Hosts as a manifest lists them: ``{"host": …, "ok": …, "permanent": …}``; what lacks is 0."""
    return [
        Host(str(row["host"]), {name: int(row.get(name, 0)) for name in OUTCOMES}) for row in rows
    ]
