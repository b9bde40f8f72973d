"""Names of Commons' files and the addresses that Wikimedia publishes for them.

The published addresses were copied from public code and pages in which people had put them, as
Commons' API or a file's page had given them; none was made by the code under test. A file's own
page is https://commons.wikimedia.org/wiki/File: and its name.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from download import commons as module
from download.commons import (
    FORMS,
    SHIPPED,
    Addresses,
    Commons,
    addresses,
    file_of,
    load,
    normal_name,
    original_url,
    page_url,
    thumbnail_url,
)
from etl.errors import UserError

UPLOAD = "https://upload.wikimedia.org/wikipedia/commons"
COMMONS = load()

# A name, and what stands below .../commons/thumb/ in the address of a thumbnail.
PUBLISHED = [
    # A quotation mark.
    (
        '"The School of Athens" by Raffaello Sanzio da Urbino.jpg',
        "4/49/%22The_School_of_Athens%22_by_Raffaello_Sanzio_da_Urbino.jpg/"
        "500px-%22The_School_of_Athens%22_by_Raffaello_Sanzio_da_Urbino.jpg",
    ),
    # An apostrophe.
    (
        "Tape Measure 25' Klein Tools.jpg",
        "0/03/Tape_Measure_25%27_Klein_Tools.jpg/330px-Tape_Measure_25%27_Klein_Tools.jpg",
    ),
    # A question mark.
    ("Do U No De Wei?.jpg", "d/df/Do_U_No_De_Wei%3F.jpg/500px-Do_U_No_De_Wei%3F.jpg"),
    # An ampersand, in an SVG.
    (
        "Internet Connectivity Distribution & Core.svg",
        "3/36/Internet_Connectivity_Distribution_%26_Core.svg/"
        "500px-Internet_Connectivity_Distribution_%26_Core.svg.png",
    ),
    # Plus signs.
    (
        "ISO C++ Logo.svg",
        "1/18/ISO_C%2B%2B_Logo.svg/1822px-ISO_C%2B%2B_Logo.svg.png",
    ),
    # A percent sign.
    ("Cercle noir 100%.svg", "4/40/Cercle_noir_100%25.svg/330px-Cercle_noir_100%25.svg.png"),
    # Brackets, commas, an exclamation mark, a curly apostrophe; a TIFF of one page.
    (
        "Hip, Hip, Hurrah! Artists’ Party, Skagen (Peder Severin Krøyer)"
        " - Gothenburg Museum of Art - F 62.tif",
        "4/44/Hip%2C_Hip%2C_Hurrah%21_Artists%E2%80%99_Party%2C_Skagen_%28Peder_Severin_Kr%C3%B8yer"
        "%29_-_Gothenburg_Museum_of_Art_-_F_62.tif/lossy-page1-589px-Hip%2C_Hip%2C_Hurrah%21_Artists"
        "%E2%80%99_Party%2C_Skagen_%28Peder_Severin_Kr%C3%B8yer%29_-_Gothenburg_Museum_of_Art_-_F_62"
        ".tif.jpg",
    ),
    # A TIFF by its long ending.
    (
        "SIPI Jelly Beans 4.1.07.tiff",
        "b/b6/SIPI_Jelly_Beans_4.1.07.tiff/lossy-page1-256px-SIPI_Jelly_Beans_4.1.07.tiff.jpg",
    ),
    # Japanese.
    (
        "シーボルト 川原慶賀筆.jpg",
        "0/08/%E3%82%B7%E3%83%BC%E3%83%9C%E3%83%AB%E3%83%88_%E5%B7%9D%E5%8E%9F%E6%85%B6%E8%B3%80"
        "%E7%AD%86.jpg/250px-%E3%82%B7%E3%83%BC%E3%83%9C%E3%83%AB%E3%83%88_%E5%B7%9D%E5%8E%9F%E6%85"
        "%B6%E8%B3%80%E7%AD%86.jpg",
    ),
    # Emoji.
    (
        "🇵🇹 🇪🇺 Universidad de Coímbra (Portugal, 23-10-2019) (49587625078).jpg",
        "d/d5/%F0%9F%87%B5%F0%9F%87%B9_%F0%9F%87%AA%F0%9F%87%BA_Universidad_de_Co%C3%ADmbra_%28Portu"
        "gal%2C_23-10-2019%29_%2849587625078%29.jpg/1920px-%F0%9F%87%B5%F0%9F%87%B9_%F0%9F%87%AA%F0"
        "%9F%87%BA_Universidad_de_Co%C3%ADmbra_%28Portugal%2C_23-10-2019%29_%2849587625078%29.jpg",
    ),
    # An ending in capitals, and a name that begins with a hyphen.
    (
        "Tratados de Córdoba.JPG",
        "f/fa/Tratados_de_C%C3%B3rdoba.JPG/1280px-Tratados_de_C%C3%B3rdoba.JPG",
    ),
    (
        "-TravelTuesday with My Public Lands (24446462030).jpg",
        "6/67/-TravelTuesday_with_My_Public_Lands_%2824446462030%29.jpg/"
        "1280px--TravelTuesday_with_My_Public_Lands_%2824446462030%29.jpg",
    ),
    # A GIF; a WebP as Commons' API has named it since thumb.wikimedia.org (utm_campaign=imageinfo).
    (
        "Digital rain animation big letters clear.gif",
        "7/7e/Digital_rain_animation_big_letters_clear.gif/"
        "250px-Digital_rain_animation_big_letters_clear.gif",
    ),
    (
        "Cost of rent by County.webp",
        "1/1c/Cost_of_rent_by_County.webp/960px-Cost_of_rent_by_County.webp",
    ),
    # DjVu: the first page.
    (
        "Ivan Ohienko Bible.djvu",
        "f/f9/Ivan_Ohienko_Bible.djvu/page1-500px-Ivan_Ohienko_Bible.djvu.jpg",
    ),
    # GIMP.
    (
        "Box Art Not Available.xcf",
        "c/cd/Box_Art_Not_Available.xcf/250px-Box_Art_Not_Available.xcf.png",
    ),
    # Frames of videos.
    (
        "Bénard cells convection.ogv",
        "3/37/B%C3%A9nard_cells_convection.ogv/640px--B%C3%A9nard_cells_convection.ogv.jpg",
    ),
    ("Sintel movie 4K.webm", "f/f1/Sintel_movie_4K.webm/960px--Sintel_movie_4K.webm.jpg"),
    # Over 160 bytes: a JPEG whose ending is in capitals, a PDF.
    (
        "US Navy 040618-N-6817C-090 Director Rob Cohen visits with Commanding Officer, USS Abraham"
        " Lincoln (CVN 72), Capt. Kendall L. Card, on the bridge after the completion of filming,"
        " the upcoming motion picture Stealth (cropped).JPG",
        "4/41/US_Navy_040618-N-6817C-090_Director_Rob_Cohen_visits_with_Commanding_Officer%2C_USS_Abr"
        "aham_Lincoln_%28CVN_72%29%2C_Capt._Kendall_L._Card%2C_on_the_bridge_after_the_completion_of"
        "_filming%2C_the_upcoming_motion_picture_Stealth_%28cropped%29.JPG/220px-thumbnail.jpg",
    ),
    (
        "Foreign agriculture -weekly magazine of the United States Department of Agriculture,"
        " Foreign Agricultural Service, U.S. Department of Agriculture (IA CAT10252662567).pdf",
        "f/f9/Foreign_agriculture_-weekly_magazine_of_the_United_States_Department_of_Agriculture%2C_"
        "Foreign_Agricultural_Service%2C_U.S._Department_of_Agriculture_%28IA_CAT10252662567%29.pdf/"
        "page1-960px-thumbnail.pdf.jpg",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("file", "path"), PUBLISHED, ids=[path[:40] for _, path in PUBLISHED])
def test_addresses_are_those_that_people_publish(file, path):
    width = int(
        path.rsplit("/", 1)[1].split("px-")[0].removeprefix("lossy-").removeprefix("page1-")
    )
    assert thumbnail_url(COMMONS, file, width) == f"{UPLOAD}/thumb/{path}"
    assert original_url(COMMONS, file) == f"{UPLOAD}/{path.rsplit('/', 1)[0]}"
    assert file_of(f"{UPLOAD}/thumb/{path}", COMMONS) == file
    assert file_of(f"https://thumb.wikimedia.org/wikipedia/commons/thumb/{path}", COMMONS) == file
    assert file_of(f"{UPLOAD}/{path.rsplit('/', 1)[0]}", COMMONS) == file


# Thumbnails by Wikimedia's own tests of Thumbor, which names them as the wikis do
# (operations-software-thumbor-plugins, tests/integration/test_types.py).
@pytest.mark.parametrize(
    ("file", "width", "last"),
    [
        ("Christophe Henner - June 2016.JPG", 400, "400px-Christophe_Henner_-_June_2016.JPG"),
        ("Il cavallarizzo.djvu", 400, "page1-400px-Il_cavallarizzo.djvu.jpg"),
        ("Television.svg", 200, "200px-Television.svg.png"),
        ("Internationalisation.pdf", 400, "page1-400px-Internationalisation.pdf.jpg"),
        ("Janus.xcf", 400, "400px-Janus.xcf.png"),
        ("0729.tiff", 400, "lossy-page1-400px-0729.tiff.jpg"),
        ("Lejeune.TIF", 300, "lossy-page1-300px-Lejeune.TIF.jpg"),
        ("All that jazz.tif", 400, "lossy-page1-400px-All_that_jazz.tif.jpg"),  # of several pages
        ("1Mcolors.png", 400, "400px-1Mcolors.png"),
        ("Jokie.gif", 300, "300px-Jokie.gif"),
    ],
)
def test_thumbnails_are_named_by_their_type(file, width, last):
    assert thumbnail_url(COMMONS, file, width).rsplit("/", 1)[1] == last


def test_a_name_of_160_bytes_is_not_abbreviated_and_one_of_161_is():
    longest = "é" * 78 + ".jpg"
    assert len(longest.encode()) == 160
    assert thumbnail_url(COMMONS, longest, 500).endswith("/500px-" + "%C3%A9" * 78 + ".jpg")
    assert thumbnail_url(COMMONS, "A" + longest, 500).endswith(".jpg/500px-thumbnail.jpg")


@pytest.mark.parametrize(
    ("extension", "last"),
    [
        (".TIFF", "lossy-page1-500px-thumbnail.tiff.jpg"),
        (".svg", "500px-thumbnail.svg.png"),
        (".ogv", "500px--thumbnail.ogv.jpg"),
        (".webp", "500px-thumbnail.webp"),
    ],
)
def test_an_abbreviated_name_keeps_its_ending(extension, last):
    assert thumbnail_url(COMMONS, "X" * 160 + extension, 500).rsplit("/", 1)[1] == last


# --- which size -----------------------------------------------------------------------------------


def chosen(file: str, width: int | None = None, height: int | None = None, **settings: object):
    """Return what is asked for: ("thumbnail", pixels) or ("original", None), and the ways out."""
    found = addresses(replace(COMMONS, **settings), file, width, height)
    kinds = []
    for url in (found.url, *found.fallback_urls):
        last = url.rsplit("/", 1)[1]
        wide = last.split("px-")[0].rsplit("-", 1)[-1]
        kinds.append(int(wide) if "/thumb/" in url else "original")
    return kinds


def test_the_smallest_thumbnail_that_is_large_enough():
    assert chosen("A.jpg", 4000, 3000) == [500]  # 342 wide would do; 330 has 248 pixels of height
    assert chosen("A.jpg", 3000, 4000) == [330]  # a portrait's shorter side is its width
    assert chosen("A.jpg", 4000, 4000) == [330]
    assert chosen("A.jpg", 4000, 3104) == [330]  # 330 × 256.08
    assert chosen("A.jpg", 4000, 3000, shorter_side=512) == [960]


def test_a_very_wide_image_has_the_largest_thumbnail():
    assert chosen("A.jpg", 40_000, 100) == [3840]


def test_the_original_where_no_thumbnail_is_narrower():
    assert chosen("A.jpg", 500, 375) == ["original"]
    assert chosen("A.jpg", 501, 375) == [500]
    assert chosen("A.png", 16, 16) == ["original"]
    assert chosen("A.webp", 400, 300) == ["original"]


def test_the_original_is_the_way_out_where_the_width_is_unknown():
    assert chosen("A.jpg") == [500, "original"]  # 16:9 needs 456
    assert chosen("A.jpg", None, 900) == [500, "original"]
    assert chosen("A.jpg", 0, 0) == [500, "original"]
    assert chosen("A.jpg", 4000) == [500]
    assert chosen("A.jpg", 480) == ["original"]


def test_an_svg_is_always_a_thumbnail():
    assert chosen("A.svg") == [500]
    assert chosen("A.svg", 20, 20) == [330]
    assert chosen("A.svg", 20_000, 100) == [3840]


def test_what_is_no_picture_by_itself_has_the_widest_thumbnail_below_its_width():
    # MediaWiki, ImagePageTest::provideMakeSizeLink: an 80x60 XCF asked for a step above is served
    # one step down (T432193).
    small = {"widths": (50, 100)}
    assert chosen("80x60-Greyscale.xcf", 80, 60, **small) == [50]
    for name in ("A.pdf", "A.djvu", "A.stl", "A.webm"):
        assert chosen(name, 400, 300) == [330]
        assert chosen(name, 330, 330) == [250]
        assert chosen(name, 10, 10) == [20]
        assert chosen(name) == [500]


def test_a_tiff_has_its_original_as_the_way_out():
    assert chosen("A.tif", 5000, 5000) == [330, "original"]
    assert chosen("A.tiff", 300, 300) == [250, "original"]
    assert chosen("A.TIF") == [500, "original"]


@pytest.mark.parametrize("name", ["A.ogg", "A.oga", "A.mp3", "A.mid", "A.wav", "A.opus", "A", "A."])
def test_sound_has_no_picture(name):
    assert addresses(COMMONS, name) is None
    assert thumbnail_url(COMMONS, name, 250) is None


@given(
    st.sampled_from(sorted(FORMS)),
    st.one_of(st.none(), st.integers(1, 100_000)),
    st.one_of(st.none(), st.integers(1, 100_000)),
    st.integers(1, 5000),
)
def test_only_widths_that_are_served_are_asked_for(extension, width, height, shorter):
    for kind in chosen(f"A.{extension}", width, height, shorter_side=shorter):
        assert kind == "original" or kind in COMMONS.widths
        if extension != "svg" and kind != "original" and width is not None:
            assert kind < width or width <= COMMONS.widths[0]


# --- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("File:foo_bar.jpg", "Foo bar.jpg"),
        ("image: foo  bar.jpg ", "Foo bar.jpg"),
        ("_File_:_Foo_.jpg", "Foo .jpg"),
        ("eBay logo.svg", "EBay logo.svg"),  # https://commons.wikimedia.org/wiki/File:EBay_logo.svg
        ("Foo\u00a0\u3000bar.jpg", "Foo bar.jpg"),
        ("\u200eFoo.jpg\u200e", "Foo.jpg"),  # as copied from a page: marks of direction
        ("Cafe\u0301.jpg", "Café.jpg"),  # titles are in Unicode's form C
        ("AT&T.svg", "AT&T.svg"),
        ("100 %.svg", "100 %.svg"),
        ("File talk.jpg", "File talk.jpg"),
        ("A" * 236 + ".jpg", "A" * 236 + ".jpg"),
    ],
)
def test_names_are_written_as_wikidata_writes_them(text, name):
    assert normal_name(text) == name
    assert normal_name(name) == name


# MediaWiki's LanguageTest::provideUcfirst, and mediawiki-config's UcfirstOverrides.php.
@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("alice", "Alice"), ("århus", "Århus"), ("ვიკიპედია", "ვიკიპედია"), ("жук", "Жук"),
        ("ß", "ß"), ("ŉ", "ŉ"), ("ǆ", "Ǆ"), ("ǅ", "ǅ"), ("ǰ", "ǰ"), ("և", "և"), ("ﬁ", "ﬁ"),
        ("ᾀ", "ᾈ"), ("ᾼ", "ᾼ"), ("ᾳ", "ᾼ"), ("ᾲ", "ᾲ"), ("ⅳ", "ⅳ"), ("ⓐ", "ⓐ"),
        ("\ua7b9", "\ua7b9"),
        ("\U00016e60", "\U00016e60"), ("ÿ", "Ÿ"), ("ı", "I"), ("𐐨", "𐐀"),
    ],
)  # fmt: skip
def test_the_first_letter_is_raised_as_wikimedia_does_it(text, name):
    assert normal_name(f"{text}.jpg") == f"{name}.jpg"


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "File:", "File: _", ".", "..", "a/b.jpg", "a\\b.jpg", "a:b.jpg", "a#b.jpg",
        "a<b.jpg", "a>b.jpg", "a[b.jpg", "a]b.jpg",
        "a{b.jpg", "a}b.jpg", "a|b.jpg", "a\nb.jpg", "a\x7fb.jpg",
        "a\x00.jpg", "a%20b.jpg", "a&amp;b.jpg", "a~~~.jpg", "a\ufffd.jpg",
        "A" * 237 + ".jpg", "é" * 119 + ".jpg",
    ],
)  # fmt: skip
def test_what_no_file_is_called_is_refused(text):
    # Wikibase's ValidatorBuildersTest refuses the same in P18; 240 bytes: UploadBase::getTitle.
    assert normal_name(text) is None


names = (
    st.tuples(st.text(min_size=1, max_size=120), st.sampled_from(sorted(FORMS)))
    .map(lambda pair: normal_name(".".join(pair)))
    .filter(lambda name: name is not None)
)


@given(names)
@example("A .jpg")
@example("%A.jpg")
def test_an_address_leads_back_to_its_file(file):
    url = original_url(COMMONS, file)
    assert set(url) <= set(map(chr, range(0x21, 0x7F)))
    parts = urlsplit(url)
    assert (parts.query, parts.fragment) == ("", "")
    name = file.replace(" ", "_")
    digest = hashlib.md5(name.encode()).hexdigest()
    assert unquote(parts.path) == f"/wikipedia/commons/{digest[0]}/{digest[0:2]}/{name}"
    assert file_of(url, COMMONS) == file
    assert file_of(page_url(file), COMMONS) == file
    for width in COMMONS.widths:
        thumbnail = thumbnail_url(COMMONS, file, width)
        assert thumbnail.isascii()
        assert file_of(thumbnail, COMMONS) == file


@given(st.text(max_size=60))
@example("a\ud800.jpg")
def test_any_text_is_a_name_for_good_or_none(text):
    name = normal_name(text)
    assert name is None or (normal_name(name) == name and 0 < len(name.encode()) <= 240)


# --- addresses that others wrote ------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        f"{UPLOAD}/1/1b/EBay_logo.svg",
        f"{UPLOAD}/1/1b/EBay_logo.svg?20231231",
        "http://upload.wikimedia.org/wikipedia/commons/1/1b/EBay_logo.svg",
        "HTTPS://UPLOAD.wikimedia.org:443/wikipedia/commons/1/1b/EBay%20logo.svg",
        f"{UPLOAD}/thumb/1/1b/EBay_logo.svg/250px-EBay_logo.svg.png",
        "https://thumb.wikimedia.org/wikipedia/commons/thumb/1/1b/EBay_logo.svg/langfr-250px-EBay_logo"
        ".svg.png?utm_source=fr.wikipedia.org&utm_campaign=parser&utm_content=thumbnail",
        "https://commons.wikimedia.org/wiki/File:EBay_logo.svg",
        "https://commons.wikimedia.org/wiki/File:eBay_logo.svg#filelinks",
        "https://commons.m.wikimedia.org/wiki/Image:EBay_logo.svg",
        "https://commons.wikimedia.org/wiki/Special:FilePath/eBay_logo.svg?width=300",
        "http://commons.wikimedia.org/wiki/Special:FilePath/EBay%20logo.svg",
        "https://commons.wikimedia.org/wiki/Special:Redirect/file/EBay_logo.svg",
        "https://commons.wikimedia.org/w/index.php?title=File:EBay_logo.svg&action=history",
        "https://commons.wikimedia.org/w/index.php?title=Special:FilePath/EBay+logo.svg",
    ],
)
def test_addresses_of_a_file_mean_it(url):
    assert file_of(url, COMMONS) == "EBay logo.svg"


@pytest.mark.parametrize(
    "url",
    [
        "", "EBay_logo.svg", "/wiki/File:EBay_logo.svg", "//commons.wikimedia.org/wiki/File:A.svg",
        "file://commons.wikimedia.org/wiki/File:A.svg", "ftp://commons.wikimedia.org/wiki/File:A.svg",
        "https://[commons.wikimedia.org/wiki/File:A.svg", "https://commons.wikimedia.org:x/wiki/File:A",
        "https://commons.wikimedia.org:8443/wiki/File:A.svg",
        "https://commons.wikimedia.org.example/wiki/File:A.svg",
        "https://example.org/https://commons.wikimedia.org/wiki/File:A.svg",
        "https://en.wikipedia.org/wiki/File:EBay_logo.svg",  # may be a file of that wiki alone
        "https://commons.wikimedia.org/wiki/EBay_logo.svg", "https://commons.wikimedia.org/wiki/File:",
        "https://commons.wikimedia.org/wiki/Category:A", "https://commons.wikimedia.org/wiki/Special:Random",
        "https://commons.wikimedia.org/w/index.php", "https://commons.wikimedia.org/wiki/File:%FF.jpg",
        f"{UPLOAD}/1/1c/EBay_logo.svg",  # another file's directory
        f"{UPLOAD}/archive/1/1b/20180101000000%21EBay_logo.svg",  # an old version
        f"{UPLOAD}/transcoded/1/1b/EBay_logo.svg/EBay_logo.svg.480p.webm",
        f"{UPLOAD}/1/1b/..%2F..%2FEBay_logo.svg", f"{UPLOAD}/", f"{UPLOAD}x/1/1b/EBay_logo.svg",
        "https://upload.wikimedia.org/wikipedia/en/1/1b/EBay_logo.svg",
    ],
)  # fmt: skip
def test_other_addresses_mean_no_file(url):
    assert file_of(url, COMMONS) is None


@given(
    st.text(max_size=80), st.sampled_from(["", f"{UPLOAD}/", "https://commons.wikimedia.org/wiki/"])
)
def test_no_address_is_an_error(text, before):
    found = file_of(before + text, COMMONS)
    assert found is None or normal_name(found) == found


def test_pages_are_written_as_mediawiki_writes_them():
    # https://commons.wikimedia.org/wiki/File:Hip,_Hip,_Hurrah!_..., and wfUrlencode's list
    page = "https://commons.wikimedia.org/wiki/File:"
    assert page_url("Do U No De Wei?.jpg") == f"{page}Do_U_No_De_Wei%3F.jpg"
    assert page_url("A, (b)! @*$;~.jpg") == f"{page}A,_(b)!_@*$;~.jpg"
    assert page_url("A'b\"&+=%.jpg") == f"{page}A%27b%22%26%2B%3D%25.jpg"


# --- hosts and widths -----------------------------------------------------------------------------


def written(folder, **changed):
    keys = {
        "originals": '"https://upload.wikimedia.org/wikipedia/commons"',
        "thumbnails": '"https://thumb.wikimedia.org/wikipedia/commons/thumb"',
        "widths": "[250, 500]",
        "abbreviate_over": "160",
    } | changed
    file = folder / "mine.toml"
    file.write_text("".join(f"{key} = {value}\n" for key, value in keys.items() if value), "utf-8")
    return file


def test_hosts_and_widths_of_ones_own(tmp_path):
    mine = load(written(tmp_path, originals='"https://mirror.example/c/"'), shorter_side=100)
    assert mine == Commons(
        "https://mirror.example/c",
        "https://thumb.wikimedia.org/wikipedia/commons/thumb",
        (250, 500),
        160,
        100,
    )
    # The directory of Foo.jpg: operations-puppet, upload-frontend.inc.vcl.erb.
    assert addresses(mine, "Foo.jpg") == Addresses(
        "https://thumb.wikimedia.org/wikipedia/commons/thumb/0/06/Foo.jpg/250px-Foo.jpg",
        ("https://mirror.example/c/0/06/Foo.jpg",),
    )
    assert file_of("https://mirror.example/c/1/1b/EBay_logo.svg", mine) == "EBay logo.svg"
    assert file_of("https://mirror.example/c/1/1b/EBay_logo.svg", COMMONS) is None


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"widths": None}, "widths is missing"),
        ({"wdiths": "1"}, "unknown key 'wdiths'"),
        ({"shorter_side": "1"}, "unknown key 'shorter_side'"),
        ({"originals": '"http://upload.wikimedia.org"'}, "originals is 'http://upload"),
        ({"originals": '"https://upload.wikimedia.org/?a=b"'}, "originals is"),
        ({"originals": '"https://upload.wikimedia.org/?"'}, "originals is"),
        ({"originals": '"https://me@upload.wikimedia.org/"'}, "originals is"),
        ({"thumbnails": '"https://[/"'}, "thumbnails is"),
        ({"thumbnails": "1"}, "thumbnails is 1"),
        ({"widths": "[]"}, "widths must be"),
        ({"widths": "[500, 250]"}, "widths must be"),
        ({"widths": "[250, 250]"}, "widths must be"),
        ({"widths": "[0, 250]"}, "widths must be"),
        ({"widths": "[true, 250]"}, "widths must be"),
        ({"widths": "[250.0]"}, "widths must be"),
        ({"widths": '"250"'}, "widths must be"),
        ({"abbreviate_over": "0"}, "abbreviate_over is 0"),
        ({"abbreviate_over": "true"}, "abbreviate_over is True"),
        ({"abbreviate_over": "[["}, "is not a TOML file"),
    ],
)
def test_a_file_of_hosts_that_is_wrong_is_refused(tmp_path, changed, says):
    file = written(tmp_path, **changed)
    with pytest.raises(UserError) as error:
        load(file)
    assert str(file) in str(error.value)
    assert says in str(error.value)


def test_a_file_of_hosts_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"can't be read: No such file"):
        load(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b"\xff")
    with pytest.raises(UserError, match="not a TOML file"):
        load(tmp_path / "latin.toml")


def test_the_shipped_file_is_right():
    assert load(SHIPPED) == load() == COMMONS
    assert COMMONS.shorter_side == module.SHORTER_SIDE
