"""Which split an image belongs to: decided by its content, and kept once it is decided.

Content alone: the last eight bytes of the SHA-256 of the original file, as a number from 0 to 1.
The lowest fractions are val, the highest test, all between them train, so that a larger share
takes from train alone and nothing goes from val to test. Nothing else about the file plays a
part: not its place in a table, not how many files there are.

Pictures that look alike are one image, and their lowest SHA-256 decides for all. A file that is
found later may become the lowest; whoever has trained on the earlier set gives that
(``--splits-from``), and what stood in a split stays there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from download.joining import connect, literally, record_batches, view
from etl.errors import UserError

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


def stood(shards: Path, bodies: Path, work: Path) -> Codes:
    """The split in which each file stood in shards of before, :data:`NONE` where in none.

    ``shards`` is their directory, ``bodies`` a table with the files' ``sha256``. What was left out
    there for its split stands in that.
    """
    with connect(work) as database:
        view(database, "images", shards / "images.parquet")
        view(database, "dropped", shards / "dropped.parquet")
        split = np.full(pq.read_metadata(bodies).num_rows, NONE, np.int8)
        parameters = {"bodies": literally(bodies), "reason": OTHER_SPLIT}
        for batch in record_batches(database, _STOOD, parameters):
            codes = pc.index_in(batch.column("split"), pa.array(SPLITS))
            split[batch.column("row").to_numpy()] = codes.to_numpy(zero_copy_only=False)
    return split


_STOOD: Final = """
    WITH earlier AS (
        SELECT unnest(files).sha256 AS sha256, split FROM images
        UNION ALL
        SELECT sha256, detail AS split FROM dropped WHERE reason = $reason
    )
    SELECT DISTINCT b.file_row_number AS row, e.split
    FROM read_parquet($bodies, hive_partitioning = false, file_row_number = true) b
         JOIN earlier e ON e.sha256 = lower(hex(b.sha256))
    ORDER BY row, split
"""
