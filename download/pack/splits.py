"""Which split an image belongs to: decided by its content, and kept once it is decided.

Content alone: the last eight bytes of the SHA-256 of the original file, as a number from 0 to 1.
The lowest fractions are val, the highest test, all between them train, so that a larger share
takes from train alone and nothing goes from val to test. Nothing else about the file plays a
part: not its place in a table, not how many files there are.

Pictures that look alike are one image, and their lowest SHA-256 decides for all. A file that is
found later may become the lowest; whoever has trained on the earlier set gives that
(``--splits-from``), and what stood in a split stays there: ``splits.parquet`` remembers every file
that ever did, also while it is in no image.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from download.joining import connect, literally, record_batches, view
from etl.errors import UserError
from etl.tables import TableWriter

#: Splits by their codes. Where two are bridged the higher one wins: see :func:`settled`.
SPLITS: Final = ("train", "val", "test")
TRAIN, VAL, TEST = range(3)
NONE: Final = -1  # in no split so far

#: What ``--val`` and ``--test`` are where nobody gives them. A hundredth of EntityNet's 33 million
#: images would be more than its evaluation uses (5,000), and of a small set still some hundred.
SHARE: Final = 0.01

#: Why a file is left out that stood in another split than its image does: in dropped.parquet,
#: with that split as its detail.
OTHER_SPLIT: Final = "other_split"

SPLITS_FILE: Final = "splits.parquet"

#: A row for each file that stands in a split, or stood there in shards of before, by sha256.
STANDING: Final = pa.schema([("sha256", pa.string()), ("split", pa.string())])

Codes = npt.NDArray[np.int8]
Ids = npt.NDArray[np.int64]
Digests = npt.NDArray[np.uint8]  # (n, 32): SHA-256


def check_shares(val: float, test: float) -> None:
    """Raises UserError for shares that don't leave anything to be shared."""
    if not (0 <= val < 1 and 0 <= test < 1 and val + test <= 1):
        raise UserError(
            f"--val {val:g} and --test {test:g} are shares of all images: from 0 to 1, and not "
            "more than 1 together."
        )


def by_content(digests: Digests, val: float, test: float) -> Codes:
    """The splits of files by their SHA-256; shares from 0 to 1."""
    last = np.ascontiguousarray(digests[:, 24:32]).view(">u8").ravel()
    fraction = (last >> 11) / 2.0**53  # as many bits as a float64 holds, or 1 would be among them
    found = np.full(len(digests), TRAIN, np.int8)
    found[fraction < val] = VAL
    found[fraction >= 1 - test] = TEST
    return found


def settled(image: Ids, earlier: Codes, new: Codes) -> tuple[Codes, npt.NDArray[np.bool_]]:
    """The split of each image, and which files are left out of theirs.

    ``image`` (n,) is the image of each file, 0 to k - 1, ``earlier`` (n,) the split in which the
    file stood, :data:`NONE` where in none; ``new`` (k,) is the split of images of which no file
    stood anywhere. An image whose files stood in several splits belongs to the one that is held
    out (test, then val), and those from the other splits are left out: else they would move.
    """
    won = np.full(len(new), NONE, np.int8)
    np.maximum.at(won, image, earlier)
    left_out = (earlier != NONE) & (earlier != won[image])
    return np.where(won == NONE, new, won).astype(np.int8), left_out


def stood(earlier: Path, bodies: Path, work: Path) -> Codes:
    """The split in which each file stood in shards of before, :data:`NONE` where in none.

    ``earlier`` is their SPLITS_FILE, ``bodies`` a table with the files' ``sha256``.
    """
    with connect(work) as database:
        view(database, "earlier", earlier)
        split = np.full(pq.read_metadata(bodies).num_rows, NONE, np.int8)
        for batch in record_batches(database, _STOOD, {"bodies": literally(bodies)}):
            codes = pc.index_in(batch.column("split"), pa.array(SPLITS))
            split[batch.column("row").to_numpy()] = codes.to_numpy(zero_copy_only=False)
    return split


_STOOD: Final = """
    SELECT b.file_row_number AS row, e.split
    FROM read_parquet($bodies, hive_partitioning = false, file_row_number = true) b
         JOIN earlier e ON e.sha256 = lower(hex(b.sha256))
    ORDER BY row
"""


def write_splits(digests: Digests, split: Codes, earlier: Path | None, work: Path) -> None:
    """Writes SPLITS_FILE into ``work``.

    ``digests`` (n, 32) are the SHA-256s of files, ``split`` (n,) where they stand, :data:`NONE` for
    those that are in no image. These keep the split that they have in ``earlier``, a SPLITS_FILE of
    shards of before, and so does what isn't among the files any more: it may come back.
    """
    with connect(work) as database, TableWriter(work / SPLITS_FILE, STANDING) as writer:
        now = pa.RecordBatchReader.from_batches(STANDING, _standing(digests, split))
        database.register("now", now)
        if earlier is None:
            database.register("earlier", STANDING.empty_table())
        else:
            view(database, "earlier", earlier)
        for batch in record_batches(database, _SPLITS):
            writer.write(pa.table(batch).cast(STANDING))


_SPLITS: Final = """
    SELECT sha256, coalesce(now.split, earlier.split) AS split
    FROM now FULL JOIN earlier USING (sha256) ORDER BY sha256
"""

_AT_A_TIME: Final = 1 << 16


def _standing(digests: Digests, split: Codes) -> Iterator[pa.RecordBatch]:
    stands = np.flatnonzero(split != NONE)
    for start in range(0, len(stands), _AT_A_TIME):
        some = stands[start : start + _AT_A_TIME]
        sha256 = pa.array([digest.tobytes().hex() for digest in digests[some]], pa.string())
        names = pa.array(SPLITS).take(pa.array(split[some]))
        yield pa.record_batch([sha256, names], schema=STANDING)
