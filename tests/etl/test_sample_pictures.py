"""Pictures of the sample's addresses: drawn, marked, and answered for without a network."""

from __future__ import annotations

import http.client
import io
import json
import re
import sys
import tomllib
from itertools import combinations
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.csv as csv
import pytest
from PIL import Image, ImageChops, ImageStat

from download.commons import addresses, load
from etl.sample import pictures
from etl.sample.drawing import FORMATS, drawing, encoded, page, scene
from etl.sample.files import read_files
from etl.sample.pictures import Answer, answer, serving
from etl.sample.table import FOLDER, read_items
from tests.console import ROOT, start

HOSTS = FOLDER / "commons.toml"
COMMONS = load(HOSTS)
LIST = FOLDER / "addresses.tsv"
SOURCES = (FOLDER / "SOURCES.md").read_text("utf-8")

FILES = {file.name: file for file in read_files() if "older" not in file.quirks}
ODD = {"blank", "cut", "disallowed", "error-page", "no-file", "no-thumbnail", "noai"}


def asked(url: str) -> Answer:
    parts = urlsplit(url)
    assert parts.scheme == "http"
    return answer(parts.netloc, parts.path)


def image(found: Answer) -> Image.Image:
    """The picture, decoded."""
    assert found.status == 200
    opened = Image.open(io.BytesIO(found.body))
    opened.load()
    assert opened.format is not None
    assert found.headers["Content-Type"] == Image.MIME[opened.format]
    return opened


def difference(a: Image.Image, b: Image.Image) -> float:
    """How far apart two pictures are, seen from afar: mean of 0 to 255."""
    small = [picture.convert("RGB").resize((24, 24), Image.Resampling.BOX) for picture in (a, b)]
    return sum(ImageStat.Stat(ImageChops.difference(*small)).mean) / 3


# --- drawing ---


def test_a_name_gives_one_picture_at_all_sizes_and_two_names_give_two() -> None:
    names = [f"Sample – dog {n}.jpg" for n in range(1, 13)]
    drawn = [scene(name, 500, 375) for name in names]
    for name, picture in zip(names, drawn, strict=True):
        assert scene(name, 500, 375).tobytes() == picture.tobytes()
        assert difference(picture, scene(name, 2000, 1500)) < 12
    assert min(difference(a, b) for a, b in combinations(drawn, 2)) > 30


def test_every_picture_carries_its_name_in_letters_with_a_rim() -> None:
    for made in (scene, page, drawing):
        picture = made("Sample dog.jpg", 500, 375).convert("RGB")
        strip = picture.crop((0, 350, 300, 375))
        assert (255, 255, 255) in strip.get_flattened_data()  # the letters
        assert (0, 0, 0) in strip.get_flattened_data()  # their rims


@pytest.mark.parametrize("size", [(1, 1), (20, 1), (3, 90), (60, 40), (1025, 7)])
def test_a_picture_has_the_size_that_was_asked_for(size: tuple[int, int]) -> None:
    for made in (scene, page, drawing):
        assert made("Sample x.jpg", *size).size == size


@pytest.mark.parametrize("ending", FORMATS)
def test_a_file_is_of_the_type_that_its_name_says(ending: str) -> None:
    opened = Image.open(io.BytesIO(encoded(scene("Sample x", 40, 30), ending)))
    assert (opened.format, opened.size) == (FORMATS[ending], (40, 30))


# --- files of Commons ---


def test_the_sample_is_where_nobody_is_and_has_the_widths_of_wikimedia() -> None:
    shipped = load()
    assert (COMMONS.widths, COMMONS.abbreviate_over) == (shipped.widths, shipped.abbreviate_over)
    for base in (COMMONS.originals, COMMONS.thumbnails):
        assert re.fullmatch(r"http://[a-z]+\.sample\.test/.*", base)


@pytest.mark.parametrize("shorter_side", [100, 256])
def test_every_address_of_a_file_is_answered_by_its_picture(shorter_side: int) -> None:
    commons = load(HOSTS, shorter_side)
    shown = 0
    for file in FILES.values():
        known = addresses(commons, file.name, file.width, file.height)
        if known is None or not file.width or file.quirks & ODD:
            continue
        picture = image(asked(known.url))
        thumbnail = re.search(r"/(?:[a-z0-9]+-)*([0-9]+)px-", known.url)
        width = int(thumbnail[1]) if thumbnail else file.width
        assert picture.size == (width, max(width * file.height // file.width, 1))
        shown += 1
    assert shown > 300


def test_drawings_have_no_ground_and_books_are_white() -> None:
    assert image(thumbnail("Sample – dog drawn.svg", 500)).mode == "RGBA"
    assert ImageStat.Stat(image(thumbnail("Sample – atlas.pdf", 500)).convert("L")).median == [255]


def thumbnail(name: str, width: int) -> Answer:
    """The thumbnail for a shorter side that wants this width."""
    file = FILES[name]
    known = addresses(COMMONS, name, file.width, file.height)
    assert known is not None
    return asked(re.sub(r"[0-9]+px", f"{width}px", known.url))


def original(name: str) -> Answer:
    known = addresses(COMMONS, name)
    assert known is not None
    return asked(known.fallback_urls[0])


def test_files_answer_as_the_web_does() -> None:
    by_quirk = {quirk: f.name for f in FILES.values() for quirk in f.quirks & ODD}
    assert set(by_quirk) == ODD
    assert thumbnail(by_quirk["no-file"], 250).status == 404
    assert original(by_quirk["no-file"]).status == 404
    assert thumbnail(by_quirk["no-thumbnail"], 250).status == 404
    assert image(original(by_quirk["no-thumbnail"])).format == "WEBP"
    page = thumbnail(by_quirk["error-page"], 250)
    assert (page.status, page.body[:15]) == (200, b"<!DOCTYPE html>")
    assert thumbnail(by_quirk["noai"], 250).headers["X-Robots-Tag"] == "noai"
    colours = image(thumbnail(by_quirk["blank"], 250)).convert("RGB").getcolors()
    assert colours is not None
    assert len(colours) == 1
    with pytest.raises(OSError, match="truncated"):
        image(thumbnail(by_quirk["cut"], 250))


def test_a_thumbnail_as_wide_as_its_original_is_refused() -> None:
    assert thumbnail("Sample – dog of 330 pixels.jpg", 250).status == 200
    refused = re.sub("/commons/", "/commons/thumb/", addresses_of("Sample – tiny dog 1.jpg"))
    assert asked(f"{refused.replace('files', 'thumbnails')}/120px-A.jpg").status == 400


def addresses_of(name: str) -> str:
    known = addresses(COMMONS, name, FILES[name].width, FILES[name].height)
    assert known is not None
    return known.url


def test_real_files_have_no_invented_picture() -> None:
    real = {
        claim.value.text
        for item in read_items()
        for claim in item.claims
        if not item.made_up and claim.property == "P18" and claim.value.text
    }
    assert real
    for name in real:
        known = addresses(COMMONS, name)
        assert known is not None
        assert {asked(url).status for url in (known.url, *known.fallback_urls)} == {404}


def test_robots_are_told_what_to_leave() -> None:
    protego = pytest.importorskip("protego")
    (left,) = (file.name for file in FILES.values() if "disallowed" in file.quirks)
    for url in (thumbnail_url(left), original_url(left)):
        host = urlsplit(url).netloc
        rules = protego.Protego.parse(answer(host, "/robots.txt").body.decode())
        assert not rules.can_fetch(url, "sparqless")
        assert rules.can_fetch(url.replace("nobody", "somebody"), "sparqless")


def thumbnail_url(name: str) -> str:
    known = addresses(COMMONS, name)
    assert known is not None
    return known.url


def original_url(name: str) -> str:
    known = addresses(COMMONS, name)
    assert known is not None
    return known.fallback_urls[0]


# --- the list of addresses ---


def listed() -> list[tuple[dict[str, str], list[str]]]:
    """Rows of the list, with their addresses."""
    table = csv.read_csv(LIST, parse_options=csv.ParseOptions(delimiter="\t"))
    rows = table.cast(pa.schema([(name, pa.string()) for name in table.column_names])).to_pylist()
    cells = [row["urls"] for row in rows]
    urls = [json.loads(cell) if cell.startswith("[") else [cell] for cell in cells]
    return list(zip(rows, urls, strict=True))


def test_the_list_is_of_entities_of_the_sample_on_hosts_that_nobody_has() -> None:
    items = {item.id for item in read_items()}
    for row, urls in listed():
        assert row["entity"] in items
        for url in (*urls, row["page_url"]):
            host, path = urlsplit(url).netloc, unquote(urlsplit(url).path)
            assert host.endswith(".test")
            assert path.rpartition("/")[2].startswith("Sample")


def test_every_kind_of_answer_is_in_use_and_explained() -> None:
    hows = {urlsplit(url).path.split("/")[1] for _, urls in listed() for url in urls}
    hosts = {urlsplit(url).netloc for _, urls in listed() for url in urls}
    section = SOURCES.split("## Pictures")[1].split("\n## ")[0]
    explained = set(re.findall(r"`/([a-z]+)/`", section))
    assert hows == explained
    assert hosts | {"files.sample.test", "thumbnails.sample.test"} == set(
        re.findall(r"`([a-z.]+\.test)`", section)
    )


def elsewhere(how: str, name: str, host: str = "museum.test") -> Answer:
    return answer(host, f"/{how}/{name}")


def test_other_hosts_answer_as_the_web_does() -> None:
    plain = image(elsewhere("pictures", "Sample%20a.jpg"))
    assert plain.size in [(800, 600), (600, 800)]
    turned = image(elsewhere("turned", "Sample%20a.jpg"))
    assert (turned.size, turned.getexif()[0x0112]) == (plain.size[::-1], 6)
    upright = turned.transpose(Image.Transpose.ROTATE_270)
    assert difference(plain, upright) < 5
    assert image(elsewhere("print", "Sample%20a.jpg")).mode == "CMYK"
    deep = image(elsewhere("deep", "Sample%20a.png"))
    assert deep.mode.startswith("I")
    mean = deep.convert("F").resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))
    gray = ImageStat.Stat(image(elsewhere("pictures", "Sample%20a.png")).convert("L")).mean[0]
    assert mean == pytest.approx(257 * gray, rel=0.01)
    assert elsewhere("noai", "Sample%20a.jpg").headers["X-Robots-Tag"] == "noai, noimageai"
    assert elsewhere("reserved", "Sample%20a.jpg").headers["tdm-reservation"] == "1"
    assert elsewhere("gone", "Sample%20a.jpg").status == 410
    assert elsewhere("members", "Sample%20a.jpg").status == 403
    assert elsewhere("trap", "Sample%20a.jpg").headers["Location"].startswith("http://169.254.")
    moved = elsewhere("moved", "Sample%20a.jpg").headers["Location"]
    assert image(asked(moved)).size == plain.size
    assert elsewhere("pictures", "Sample.jpg", "busy.test").headers["Retry-After"] == "86400"
    for how, name in (
        ("pictures", "Dog.jpg"),
        ("pictures", "Sample.exe"),
        ("unheard", "Sample.jpg"),
    ):
        assert elsewhere(how, name).status == 404


def test_a_small_copy_shows_what_the_file_shows() -> None:
    name = "Sample – dog 7.jpg"
    copy = image(elsewhere("small", name))
    assert max(copy.size) == 400
    assert difference(copy, image(thumbnail(name, 500))) < 5


# --- the wrapper ---


def test_a_command_is_led_to_the_pictures(tmp_path: Path) -> None:
    with serving() as options:
        given = list(zip(options[::2], options[1::2], strict=True))
        led = dict(value.split(":", 1) for name, value in given if name == "--resolve")
        allowed = {value for name, value in given if name == "--allow-host"}
        assert {name for name, _ in given} == {"--manners", "--resolve", "--allow-host"}
        assert set(led) - allowed == {"inside.test"}
        address, port = led["museum.test"].split(":")
        assert address == "127.0.0.1"
        asked = http.client.HTTPConnection(address, int(port), timeout=30)
        for how, status in (("pictures", 200), ("gone", 410)):  # on one connection
            asked.request("GET", f"/{how}/Sample.jpg", headers={"Host": "museum.test"})
            reply = asked.getresponse()
            assert (reply.status, len(reply.read()) > 0) == (status, status == 200)
        asked.close()
        down = http.client.HTTPConnection(*led["down.test"].split(":"), timeout=30)
        with pytest.raises(ConnectionRefusedError):
            down.request("GET", "/")
        assert all(led[host] == led["museum.test"] for host in led if host[0] not in "di")


def test_others_than_the_samples_hosts_are_treated_as_ever() -> None:
    """Somebody may put a list of real addresses beside the sample's."""
    with serving() as options:
        for name, value in zip(options[2::2], options[3::2], strict=True):
            assert name in ("--resolve", "--allow-host")
            assert value.split(":")[0].endswith(".test")
        manners = tomllib.loads(Path(options[1]).read_text("utf-8"))
    assert set(manners) == {"group"}
    assert all(group.endswith(".test") for group in manners["group"])


def test_the_commands_exit_code_and_options_are_its_own(tmp_path: Path) -> None:
    code = "import json, sys; print(json.dumps(sys.argv[1:])); sys.exit(7)"
    wrapper = [sys.executable, "-m", "etl.sample.pictures"]
    done = start([*wrapper, sys.executable, "-c", code, "fetch", "--images", "x y"], ROOT)
    assert (done.returncode, done.stderr) == (7, "")
    arguments = json.loads(done.stdout)
    assert arguments[:4] == ["fetch", "--images", "x y", "--manners"]
    assert start(wrapper, ROOT).returncode == 2


def test_a_command_that_is_killed_fails(tmp_path: Path) -> None:
    code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    done = start([sys.executable, "-m", "etl.sample.pictures", sys.executable, "-c", code], ROOT)
    assert done.returncode == 128 + 9


def test_hosts_are_said_once() -> None:
    assert urlsplit(COMMONS.originals).netloc == pictures.FILES
    assert urlsplit(COMMONS.thumbnails).netloc == pictures.THUMBNAILS
