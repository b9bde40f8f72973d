"""Who made each image, and under which licence it may be used: attribution.parquet.

Creative Commons' licences but CC0 ask whoever passes an image on for its title, author, source and
licence (creativecommons.org, "Best practices for attribution"; CC BY 4.0, section 3(a)(1)). The
file on Commons is the title, the page the source.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Final

import pyarrow as pa

from download.licences import licences

#: A row for each image, by key. Null is what isn't known.
ATTRIBUTION: Final = pa.schema(
    [
        ("key", pa.string()),
        ("split", pa.string()),
        ("shard", pa.string()),
        ("file", pa.string()),
        ("creator", pa.string()),
        ("licence", pa.string()),
        ("licence_urls", pa.list_(pa.string())),  # of several licences one may be chosen
        ("page_url", pa.string()),
        ("url", pa.string()),
    ]
)


@lru_cache(10_000)  # lists of one's own may say anything
def licence_urls(licence: str) -> tuple[str, ...]:
    """Where the text of a licence is, or of each in "A or B"; what has none has no entry."""
    return tuple(_addresses()[name] for name in licence.split(" or ") if name in _addresses())


@cache
def _addresses() -> dict[str, str]:
    return {licence.name: licence.url for licence in licences().values() if licence.url}


def attribution(images: pa.Table) -> pa.Table:
    """The rows of some rows of images.parquet."""
    urls = [licence_urls(licence or "") for licence in images["licence"].to_pylist()]
    made = {"licence_urls": pa.array(urls, ATTRIBUTION.field("licence_urls").type)}
    columns = [made[name] if name in made else images[name] for name in ATTRIBUTION.names]
    return pa.table(columns, schema=ATTRIBUTION)
