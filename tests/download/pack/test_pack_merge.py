"""What becomes of every file, against a plain twin that goes through them one by one."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from download.pack.decode import DECODED, FOLDER, table_file
from download.pack.likeness import LENGTH
from download.pack.merge import Match, Pictures, first_of_same, load, merge, save
from download.pack.splits import NONE, SPLITS, by_content
from etl.tables import write_table


class Made(NamedTuple):
    """A file: None for one that is broken."""

    pixels: int | None
    area: int
    cluster: int  # of its pixels: the first file with the same pixels says
    link: int  # of its cluster
    earlier: int
    against: bool


made = st.builds(
    Made,
    st.none() | st.integers(0, 12),
    st.integers(1, 3),
    st.integers(0, 6),
    st.integers(0, 3),
    st.sampled_from([NONE, NONE, 0, 1, 2]),
    st.integers(0, 5).map(lambda n: n == 0),
)


def digest(number: int) -> bytes:
    return hashlib.sha256(b"%d" % number).digest()


def write(work: Path, files: list[Made]) -> None:
    (work / FOLDER).mkdir()
    for task in range(-(-len(files) // 3)):
        rows = [
            {"reason": "broken"}
            if file.pixels is None
            else {
                "original_width": file.area,
                "original_height": 10,
                "pixels": digest(file.pixels),
                "likeness": bytes([file.pixels]) * LENGTH,
            }
            for file in files[task * 3 : task * 3 + 3]
        ]
        write_table(table_file(work, task), pa.Table.from_pylist(rows, DECODED))


def labels_of(files: list[Made]) -> tuple[dict[int, int], dict[int, int]]:
    """Pixels → cluster and link, as the first file with these pixels says; a cluster has the link
    of its first file."""
    cluster: dict[int, int] = {}
    link: dict[int, int] = {}
    for file in files:
        if file.pixels is not None and file.pixels not in cluster:
            cluster[file.pixels] = file.cluster
            link.setdefault(file.cluster, file.link)
    return cluster, {pixels: link[cluster[pixels]] for pixels in cluster}


def run(work: Path, files: list[Made], digests: np.ndarray) -> Any:
    cluster, link = labels_of(files)

    def clusters(likenesses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        pixels = likenesses[:, 0].tolist()
        assert len({*pixels}) == len(pixels)  # of equal pictures one is compared
        found = []
        for known in (cluster, link):
            names = [known[one] for one in pixels]
            found.append(np.array([names.index(name) for name in names], np.int64))
        return found[0], found[1]

    def against(pictures: Pictures) -> list[Match]:
        return [Match(n, f"eval-{n}", "sha256") for n in pictures.file.tolist() if files[n].against]

    earlier = np.array([file.earlier for file in files], np.int8)
    tasks = -(-len(files) // 3)
    return merge(work, tasks, digests, earlier, (0.3, 0.3), clusters, against)


@given(st.lists(made, min_size=1, max_size=14))
def test_fates_are_those_of_a_plain_twin(files: list[Made]) -> None:
    digests = np.frombuffer(b"".join(sorted(map(digest, range(len(files))))), np.uint8)
    digests = digests.reshape(-1, 32)
    cluster, link = labels_of(files)
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), files)
        fates = run(Path(folder), files, digests)
        save(fates, Path(folder))
        kept = load(Path(folder))
    assert kept is not None
    assert all(np.array_equal(getattr(kept, n), getattr(fates, n)) for n in ("image", "split"))
    assert (kept.detail, kept.matched) == (fates.detail, fates.matched)

    good = [n for n, file in enumerate(files) if file.pixels is not None]
    bad = {cluster[files[n].pixels] for n in good if files[n].against}
    live = [n for n in good if cluster[files[n].pixels] not in bad]
    for n, file in enumerate(files):
        reason = None if fates.image[n] >= 0 else fates.reasons[fates.reason[n]]
        if file.pixels is None:
            assert reason == "broken"
        elif n not in live:
            assert reason == "against"
        else:
            assert reason in (None, "other_split")
    split_of: dict[int, int] = {}
    for name in {link[files[n].pixels] for n in live}:
        group = [n for n in live if link[files[n].pixels] == name]
        stood = max(files[n].earlier for n in group)
        split_of[name] = (
            stood if stood != NONE else int(by_content(digests[group[:1]], 0.3, 0.3)[0])
        )
    images: dict[int, list[int]] = {}
    for n in live:
        won = split_of[link[files[n].pixels]]
        if files[n].earlier not in (NONE, won):
            assert (fates.image[n], fates.detail[n]) == (-1, SPLITS[files[n].earlier])
            continue
        assert fates.split[fates.image[n]] == won
        images.setdefault(cluster[files[n].pixels], []).append(n)
    best = {name: max(some, key=lambda n: (files[n].area, -n)) for name, some in images.items()}
    assert fates.file.tolist() == sorted(best.values())
    for name, some in images.items():
        assert {int(fates.file[fates.image[n]]) for n in some} == {best[name]}
    assert sum(fates.merged.values()) == sum(map(len, images.values())) - len(images)


@given(st.lists(st.binary(min_size=16, max_size=16) | st.sampled_from([b"a" * 16, b"b" * 16])))
def test_the_first_of_what_is_the_same(rows: list[bytes]) -> None:
    array = np.frombuffer(b"".join(rows), np.uint8).reshape(-1, 16)
    assert first_of_same(array).tolist() == [rows.index(row) for row in rows]
