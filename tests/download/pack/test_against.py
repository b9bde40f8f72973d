"""What stands in an evaluation set is found in every form that such sets come in, and named."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from benchmarks.look_alikes import CHANGES, drawn
from download.pack import likeness
from download.pack.against import References, matches, read, write
from download.pack.image import ImageOptions, Picture, encode
from etl.errors import UserError

OPTIONS = ImageOptions()


def png(picture: Image.Image) -> bytes:
    data = io.BytesIO()
    picture.save(data, "PNG")
    return data.getvalue()


def jpeg(picture: Image.Image) -> bytes:
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=70)
    return data.getvalue()


ORIGINAL = drawn("landscape", 1, 0)
OTHER = drawn("landscape", 1, 1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An evaluation set of two pictures and what lies beside them."""
    made = tmp_path / "val" / "n01"
    made.mkdir(parents=True)
    (made / "a.JPEG").write_bytes(jpeg(drawn("flower", 1, 0)))
    (made / "b.png").write_bytes(png(ORIGINAL))
    (made / "labels.txt").write_text("no image")
    return tmp_path / "val"


def found(references: References, *files: bytes) -> list[tuple[int, str, str]]:
    """Row, the reference's last name, kind."""
    made = [encode(file, OPTIONS) for file in files]
    pictures = [picture for picture in made if isinstance(picture, Picture)]
    assert len(pictures) == len(files)
    rows = matches(
        references,
        [hashlib.sha256(file).digest() for file in files],
        [picture.pixels for picture in pictures],
        likeness.likenesses(picture.likeness for picture in pictures),
    )
    return [(match.row, Path(match.reference).name, match.kind) for match in rows]


def test_a_match_is_told_by_its_surest_kind(folder: Path) -> None:
    references = read([folder], OPTIONS)
    lossless = io.BytesIO()
    ORIGINAL.save(lossless, "TIFF")
    files = [
        png(OTHER),
        png(ORIGINAL),
        lossless.getvalue(),
        jpeg(CHANGES["crop 5 %"](ORIGINAL, np.random.default_rng(0))),
        jpeg(ImageOps.mirror(ORIGINAL)),
    ]
    assert found(references, *files) == [
        (1, "b.png", "sha256"),
        (2, "b.png", "pixels"),
        (3, "b.png", "likeness"),
        (4, "b.png", "mirrored"),
    ]


def test_a_tar_and_a_tar_in_a_directory(tmp_path: Path) -> None:
    path = tmp_path / "val.tar"
    with tarfile.open(path, "w") as tar:
        for name, body in (("0001.jpg", jpeg(ORIGINAL)), ("0001.json", b"{}")):
            member = tarfile.TarInfo(name)
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))
    for place in (path, tmp_path):
        references = read([place], OPTIONS)
        assert references.names == [f"{path}/0001.jpg"]
        assert found(references, jpeg(ORIGINAL)) == [(0, "0001.jpg", "sha256")]


def test_kept_references_are_a_place(folder: Path, tmp_path: Path) -> None:
    references = read([folder], OPTIONS)
    write(references, tmp_path / "val.parquet")
    again = read([tmp_path / "val.parquet"], OPTIONS)
    assert again.table.equals(references.table)


def test_hashes_as_sha256sum_prints_them(tmp_path: Path) -> None:
    body, digest = png(ORIGINAL), hashlib.sha256(png(ORIGINAL)).hexdigest()
    path = tmp_path / "hashes.txt"
    path.write_text(f"{digest}  val/b.png\n\n{'0' * 64}\n")
    references = read([path], OPTIONS)
    assert references.names == ["val/b.png", "0" * 64]
    assert found(references, body, png(OTHER)) == [(0, "b.png", "sha256")]
    path.write_text(digest.upper() + "\r\n", encoding="utf-8-sig")  # as Windows' editors do
    assert found(read([path], OPTIONS), body) == [(0, digest, "sha256")]


def test_a_picture_in_two_sets_is_told_once(folder: Path, tmp_path: Path) -> None:
    second = tmp_path / "second"
    second.mkdir()
    (second / "c.png").write_bytes(png(ORIGINAL))
    references = read([folder, second], OPTIONS)
    assert found(references, png(ORIGINAL)) == [(0, "b.png", "sha256")]


def test_what_the_data_set_would_drop_is_a_reference_all_the_same(tmp_path: Path) -> None:
    small, plain = Image.effect_noise((40, 400), 80), Image.new("RGB", (300, 300), "white")
    (tmp_path / "small.png").write_bytes(png(small))
    (tmp_path / "white.png").write_bytes(png(plain))
    references = read([tmp_path], OPTIONS)
    assert references.unread == {}
    assert references.table["pixels"].null_count == 0


def test_broken_references_are_named_and_compared_by_their_bytes(folder: Path) -> None:
    broken = folder / "z.jpg"
    broken.write_bytes(jpeg(ORIGINAL)[:2000])
    references = read([folder], OPTIONS)
    assert references.unread == {str(broken): "broken"}
    digest = hashlib.sha256(broken.read_bytes()).digest()
    nothing = np.zeros((1, likeness.LENGTH), np.uint8)
    assert [match.kind for match in matches(references, [digest], [b""], nothing)] == ["sha256"]


def tar_gz() -> bytes:
    out, noise = io.BytesIO(), np.random.default_rng(0).bytes(100_000)
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name in ("a.jpg", "b.jpg"):
            member = tarfile.TarInfo(name)
            member.size = len(noise)
            tar.addfile(member, io.BytesIO(noise.hex().encode()))
    return out.getvalue()


CUT = tar_gz()[:50_000]
DAMAGED = CUT[:30_000] + b"\xff" * 10_000 + CUT[40_000:]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("missing", None, "no such file"),
        ("empty", b"", "no images and no hashes"),
        ("hashes.txt", b"abc\n", "line 1: 'abc' is no SHA-256"),
        ("hashes.txt", b"z" * 64, "line 1"),
        ("hashes", b"\xff\xfe\x00", "neither images, nor a table, nor a text"),
        ("val.tar", b"no tar" * 200, r"not a whole tar \(file could not be opened successfully\)"),
        ("val.tar.gz", CUT, "not a whole tar"),
        ("val.tar.gz", DAMAGED, "not a whole tar"),
        ("val.parquet", b"no parquet", "no table of references"),
    ],
)
def test_says_what_is_wrong_with_a_place(
    name: str, content: bytes | None, told: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=told) as error:
        read([path], OPTIONS)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_an_empty_directory_has_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no images and no hashes"):
        read([tmp_path], OPTIONS)
