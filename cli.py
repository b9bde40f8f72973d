"""The command line: parse, call one function of a stage, print. Run ``sparqless --help``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from signal import SIGTERM
from typing import Any, Final, Literal, TypeVar

import click
import ujson

from etl.errors import UserError, is_disk_full

#: Exit code of a run that was told to stop and can go on: "try again" (EX_TEMPFAIL, sysexits.h).
_STOPPED: Final = 75

_Command = TypeVar("_Command", bound=Callable[..., Any])


class _InOrder(click.Group):
    """Lists commands in the order of the work, not of the alphabet."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


class _Commands(_InOrder):
    """Turns what a user can mend into one sentence and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as error:
            raise click.ClickException(str(error)) from error
        except KeyboardInterrupt:
            click.echo("\nStopped. Run the same command again to go on.", err=True)
            ctx.exit(130)
        except BrokenPipeError:
            sys.stderr.close()  # the reader (head, less) has left: nothing to say to anybody
            ctx.exit(0)
        except OSError as error:
            if is_disk_full(error):
                raise click.ClickException(
                    f"the disk (or a file size limit) is full ({error}); make room and run the "
                    "same command again."
                ) from error
            where = f"{error.filename}: " if error.filename else ""
            raise click.ClickException(f"{where}{error.strerror or error}") from error


def _path(name: str, what: str, **more: Any) -> Callable[[_Command], _Command]:
    return click.option(name, type=click.Path(path_type=Path), help=what, **more)


_store = _path("--store", "Directory of the store.", required=True)
_graph = _path("--graph", "Directory of a data set.", required=True)
_images = _path("--images", "Directory of images.", required=True)


def _cores() -> int:
    from etl.engine import default_workers  # multiprocessing, of which few commands have a use

    return default_workers()


_workers = click.option(
    "--workers",
    type=click.IntRange(1),
    default=_cores,
    show_default="cores",
    help="Processes to work with.",
)
_max_rejects = click.option(
    "--max-rejects",
    type=click.IntRange(0),
    default=100,
    show_default=True,
    help="Unreadable lines of a dump to put up with.",
)
_allow_damage = click.option(
    "--allow-damage", is_flag=True, help="Go on with what can be read of a broken dump."
)
_engine = click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Where to work: in --workers processes here, or on a Ray cluster.",
)
_ray_address = click.option(
    "--ray-address",
    metavar="ADDRESS",
    help="auto, local, HOST:PORT or ray://HOST:PORT.  [auto]",
)
_contact = click.option("--contact", help="E-mail or URL sent with downloads.  [sparqless.toml]")
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_quiet = click.option("--quiet", is_flag=True, help="No progress and no table.")
_recipe = click.option(
    "--recipe", default="entitynet", show_default=True, help="A shipped recipe or a .toml file."
)


def _check_engine(engine: str, ray_address: str | None) -> None:
    if engine == "local" and ray_address:
        raise UserError("--ray-address is for a cluster; add --engine ray.")


def _limit(default: int, least: int = 1) -> Callable[[_Command], _Command]:
    return click.option(
        "--limit", type=click.IntRange(least), default=default, show_default=True, help="At most."
    )


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Every command explains itself: sparqless COMMAND --help",
)
@click.version_option(package_name="sparqless")
def cli() -> None:
    """Wikidata's hierarchies from a dump, without an endpoint.

    \b
    Example:
      sparqless sample --out data/sample/dump.json.gz
      sparqless etl data/sample/dump.json.gz --store data/sample/store
      sparqless graph --store data/sample/store --out data/sample/graph/entitynet
    """


@cli.command()
@_path("--out", "File to write: .json, .json.gz, .json.bz2 or .json.zst.", required=True)
def sample(out: Path) -> None:
    """Write the small Wikidata that ships with sparqless as a dump.

    \b
    Beside it two dumps of a small Wikimedia Commons, in which to look for images:
    commons-mediainfo.json.gz and commonswiki-image.sql.gz.

    \b
    Example:
      sparqless sample --out data/sample/dump.json.gz
    """
    from etl.sample import write_dump
    from etl.sample.commons import write_commons

    write_dump(out)
    for path in (out, *write_commons(out.parent)):
        click.echo(path)


@cli.command(name="etl")
@click.argument("dumps", nargs=-1, required=True, metavar="DUMP...")
@_store
@click.option(
    "--languages",
    metavar="CODES",
    help="Languages to keep, comma-separated.  [en,en-gb,en-ca,en-us,mul]",
)
@_path("--properties", "File that lists the properties to keep.  [the shipped list]")
@click.option(
    "--keep",
    type=click.Choice(["properties", "full"]),
    default="properties",
    show_default=True,
    help="full: the whole of every entity as well.",
)
@click.option("--recipe", help="Check first that the store will do for this recipe.")
@_path("--update-from", "An older store: what the dump hasn't changed is taken from it.")
@_path("--redirects", "Dump of MediaWiki's table redirect (.sql.gz): ids that were merged.")
@_path("--pages", "Dump of its table page, which --redirects needs.")
@_workers
@_engine
@_ray_address
@click.option(
    "--runs",
    metavar="LOCATION",
    help="Where nodes of a cluster put what they read, such as s3://bucket/runs.  [the store]",
)
@_path("--keep-dump", "Directory to also keep a dump in that is read from the network.")
@_contact
@click.option("--limit", type=click.IntRange(1), help="Only the first N entities, for a look.")
@click.option("--dry-run", is_flag=True, help="Say what it would take, and do nothing.")
@click.option("--fresh", is_flag=True, help="Remove what stands in --store and start over.")
@_max_rejects
@click.option(
    "--max-line",
    type=click.IntRange(1),
    default=64,
    show_default=True,
    metavar="MB",
    help="Longest line to read.",
)
@_allow_damage
@click.option("--slice-size", type=click.IntRange(1), metavar="BYTES", hidden=True)
@_quiet
@_json
def etl_command(
    dumps: tuple[str, ...],
    store: Path,
    languages: str | None,
    properties: Path | None,
    keep: str,
    recipe: str | None,
    update_from: Path | None,
    redirects: Path | None,
    pages: Path | None,
    workers: int,
    engine: str,
    ray_address: str | None,
    runs: str | None,
    keep_dump: Path | None,
    contact: str | None,
    limit: int | None,
    dry_run: bool,
    fresh: bool,
    max_rejects: int,
    max_line: int,
    allow_damage: bool,
    slice_size: int | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Read a Wikidata JSON dump into a store.

    DUMP is a file (.json, .gz, .bz2, .zst), a quoted glob, a directory of parts, an http(s) or
    s3:// address, which is read while it comes, or - for standard input. A killed run goes on
    where it stopped when the same command is run again.

    \b
    Example:
      sparqless etl data/sample/dump.json.gz --store data/sample/store
    """
    from etl.cluster import Cluster
    from etl.estimate import Estimate, estimate
    from etl.ingest import ingest, is_finished
    from etl.kept import DEFAULT_LANGUAGES, Kept, parse_languages, read_properties
    from etl.plan import Options
    from etl.report import expectation, rows, warnings
    from graph.recipe import check_store, load

    kept = Kept(
        parse_languages(languages) if languages is not None else DEFAULT_LANGUAGES,
        read_properties(properties),
        full=keep == "full",
    )
    if recipe is not None:
        check_store(load(recipe), {"kept": kept.as_json()})
    if engine == "local" and (ray_address or runs):
        raise UserError("--ray-address and --runs are for a cluster; add --engine ray.")
    options = Options(
        kept=kept,
        workers=workers,
        cluster=Cluster(ray_address or "auto", runs or "") if engine == "ray" else None,
        limit=limit or 0,
        max_line=max_line * 1_000_000,
        max_rejects=max_rejects,
        allow_damage=allow_damage,
        fresh=fresh,
        slice_bytes=slice_size or 0,
        keep_dump=keep_dump,
        update_from=update_from,
        redirects=redirects,
        pages=pages,
        contact=contact,
        quiet=quiet,
    )
    if dry_run:
        expected = estimate(dumps, store, options)
        if expected is None:
            raise UserError("--dry-run can't look into standard input; give a file.")
        if as_json:
            _print_json(_fields(expected))
        else:
            click.echo(expectation(expected))
        return
    stood = is_finished(store) and not fresh

    def announce(expected: Estimate) -> None:
        if not quiet:
            click.echo(expectation(expected), err=True)

    manifest = ingest(dumps, store, options, announce)
    for warning in warnings(store, manifest):
        click.echo(f"Warning: {warning}", err=True)
    if as_json:
        found = {"store": str(store), **manifest["counts"], "damage": manifest["damage"]}
        found |= {part: manifest[part] for part in ("update", "redirects") if part in manifest}
        _print_json({**found, "seconds": 0 if stood else manifest["seconds"]["all"]})
        return
    if not quiet:
        _table(rows(store, manifest, stood=stood))


def _fields(struct: Any) -> dict[str, Any]:
    return {name: getattr(struct, name) for name in struct.__struct_fields__}


def _print_json(data: Any) -> None:
    click.echo(ujson.dumps(data, ensure_ascii=False, escape_forward_slashes=False))


def _table(rows: Iterable[tuple[str, str, str]]) -> None:
    lines = list(rows)
    first, second = (max(len(row[n]) for row in lines) for n in (0, 1))
    for name, figure, remark in lines:
        click.echo(f"{name:<{first}}  {figure:>{second}}  {remark}".rstrip())


@cli.command(name="graph")
@_store
@_recipe
@_path("--out", "Directory to write the data set to.", required=True)
@click.option("--strict", is_flag=True, help="Take warnings (a root that is missing) as errors.")
@click.option("--fresh", is_flag=True, help="Build all anew, also what hasn't changed.")
@_quiet
@_json
def graph_command(
    store: Path, recipe: str, out: Path, strict: bool, fresh: bool, quiet: bool, as_json: bool
) -> None:
    """Evaluate a recipe over a store: entities, attributes, queries.

    Only what a change of the store, the recipe or a model's answers concerns is built again.

    \b
    Example:
      sparqless graph --store data/sample/store --recipe world --out data/sample/graph/world
    """
    from graph.build import build
    from graph.recipe import load
    from graph.report import rows

    manifest = build(store, load(recipe), out, strict=strict, fresh=fresh, quiet=quiet)
    if as_json:
        found = {"out": str(out), **manifest["counts"], "warnings": manifest["warnings"]}
        _print_json({**found, "seconds": manifest["seconds"]["all"]})
        return
    for warning in manifest["warnings"]:
        click.echo(f"Warning: {warning}", err=True)
    if not quiet:
        _table(rows(store, out, manifest))


@cli.group(cls=_InOrder)
def enrich() -> None:
    """Ask a language model for natural types, visuality or attributes.

    Any server will do that speaks OpenAI's chat completions: vLLM, llama.cpp, Ollama, a paid one.
    What it answers stands in the data set's directory, for the next `sparqless graph`.

    \b
    Example:
      sparqless enrich types --graph data/sample/graph/entitynet --store data/sample/store \
--model Qwen/Qwen2.5-7B-Instruct --dry-run
    """


def _enrich_options(command: _Command) -> _Command:
    for option in reversed(
        [
            _graph,
            _store,
            click.option(
                "--endpoint",
                metavar="URL",
                help="Such as http://localhost:8000/v1; without a path, /v1.  [sparqless.toml]",
            ),
            click.option(
                "--model", metavar="NAME", help="As the server names it.  [sparqless.toml]"
            ),
            click.option(
                "--key-env",
                metavar="NAME",
                help="Environment variable with the key.  [OPENAI_API_KEY, where it is set]",
            ),
            click.option(
                "--concurrency",
                type=click.IntRange(1, 256),
                default=8,
                show_default=True,
                help="Requests at once.",
            ),
            click.option(
                "--rate",
                type=click.FloatRange(0),
                default=0.0,
                metavar="R",
                help="Requests a second, at most.  [no limit]",
            ),
            click.option(
                "--batch",
                type=click.IntRange(1, 100),
                default=1,
                show_default=True,
                help="Entities a request: fewer tokens, and answers that may colour each other.",
            ),
            click.option(
                "--limit",
                type=click.IntRange(1),
                metavar="N",
                help="Only the N best known that there is something to ask about.",
            ),
            click.option(
                "--parameters",
                metavar="JSON",
                help="Fields of a request to set, null to leave one out, as "
                """'{"seed": null}'.  [temperature 0, seed 42, max_tokens]""",
            ),
            click.option(
                "--timeout",
                type=click.FloatRange(0, min_open=True),
                default=300.0,
                show_default=True,
                metavar="SECONDS",
                help="How long to wait for an answer.",
            ),
            click.option(
                "--price-in",
                type=click.FloatRange(0),
                default=0.0,
                metavar="PRICE",
                help="Of a million tokens read.",
            ),
            click.option(
                "--price-out",
                type=click.FloatRange(0),
                default=0.0,
                metavar="PRICE",
                help="Of a million tokens written.",
            ),
            click.option(
                "--max-failures",
                type=click.IntRange(0),
                default=100,
                show_default=True,
                help="Entities without a usable answer to put up with.",
            ),
            click.option(
                "--dry-run",
                is_flag=True,
                help="Print prompts and an estimate; send nothing.",
            ),
            _quiet,
            _json,
        ]
    ):
        command = option(command)
    return command


def _enrich(
    task: str,
    *,
    graph: Path,
    store: Path,
    endpoint: str | None,
    model: str | None,
    key_env: str | None,
    timeout: float,
    parameters: str | None,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    **more: Any,
) -> None:
    from etl.config import file_of, key_from, required
    from graph.enrich.asking import Options, parsed_parameters
    from graph.enrich.client import server_at
    from graph.enrich.report import as_plain, described, rows, warning
    from graph.enrich.run import enrich, estimate
    from graph.enrich.sources import sources

    options = Options(
        model=required("model", model, "Qwen/Qwen2.5-7B-Instruct"),
        parameters=parsed_parameters(parameters),
        quiet=quiet,
        **more,
    )
    if dry_run:
        with sources(graph, store) as (candidates, hints):
            expected = estimate(graph, task, options, candidates, hints)
        if as_json:
            _print_json(as_plain(expected))
            return
        for line in described(expected, options):
            click.echo(line)
        return
    key, named = key_from(key_env)
    address = required("endpoint", endpoint, "http://localhost:8000/v1")
    server = server_at(address, key, named=named, timeout=timeout)
    if endpoint is None and not quiet:  # a directory of somebody else's may have such a file
        click.echo(f"Asking {server.host}, the endpoint of {file_of('endpoint')}.", err=True)

    def say(text: str) -> None:
        click.echo(text, err=True)

    with sources(graph, store) as (candidates, hints):
        summary = enrich(graph, task, server, options, candidates, hints, say=say)
    if remark := warning(summary):
        click.echo(f"Warning: {remark}", err=True)
    if as_json:
        _print_json(as_plain(summary))
    elif not quiet:
        _table(rows(summary, options))


@enrich.command(name="types")
@_enrich_options
def enrich_types(**options: Any) -> None:
    """Have a model choose natural types among the classes above.

    \b
    Example:
      sparqless enrich types --graph data/sample/graph/entitynet --store data/sample/store \
--model Qwen/Qwen2.5-7B-Instruct --dry-run
    """
    _enrich("types", **options)


@enrich.command(name="visuality")
@_enrich_options
def enrich_visuality(**options: Any) -> None:
    """Have a model say what a photograph can show.

    \b
    Example:
      sparqless enrich visuality --graph data/sample/graph/entitynet --store data/sample/store \
--model llama3.1:8b --batch 10 --dry-run
    """
    _enrich("visuality", **options)


@enrich.command(name="attributes")
@_enrich_options
def enrich_attributes(**options: Any) -> None:
    """Have a model list what can be seen, with a query for each.

    Entities that are known not to be visual are left out.

    \b
    Example:
      sparqless enrich attributes --graph data/sample/graph/entitynet --store data/sample/store \
--model gpt-4o-mini --price-in 0.15 --price-out 0.60 --limit 500 --dry-run
    """
    _enrich("attributes", **options)


@cli.group(cls=_InOrder)
def images() -> None:
    """Find images of entities, fetch them, pack them into shards.

    \b
    Example:
      sparqless images find --graph data/sample/graph/entitynet --source commons-p18 \
--out data/sample/images/entitynet
    """


class _WithSources(click.Command):
    """Has the options of all sources, which are looked for when somebody asks."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        from download.sources import options

        files = [
            click.Option(
                [f"--{option.name}"],
                multiple=option.several,
                metavar="FILE",
                help=f"{option.what}  [{', '.join(names)}]",
            )
            for option, names in options()
        ]
        own = super().get_params(ctx)
        return [*own[:-1], *files, own[-1]]  # --help stays the last


@images.command(name="find", cls=_WithSources)
@_graph
@click.option(
    "--source",
    "names",
    required=True,
    metavar="NAME[,NAME]",
    help="Where to look; `sparqless images sources` lists them.",
)
@_path("--out", "Directory of images to write to.", required=True)
@_path("--store", "The data set's store: subclasses, merged ids, creators' names.")
@_path("--commons", "File of Wikimedia's hosts and widths.  [download/commons.toml]")
@click.option(
    "--shorter-side",
    type=click.IntRange(1),
    default=256,
    show_default=True,
    metavar="PIXELS",
    help="What thumbnails should have, or more.",
)
@_workers
@_max_rejects
@_allow_damage
@click.option("--fresh", is_flag=True, help="Run all sources, also what hasn't changed.")
@_quiet
@_json
def images_find(
    graph: Path,
    names: str,
    out: Path,
    store: Path | None,
    commons: Path | None,
    shorter_side: int,
    workers: int,
    max_rejects: int,
    allow_damage: bool,
    fresh: bool,
    quiet: bool,
    as_json: bool,
    **given: str | tuple[str, ...] | None,
) -> None:
    """Find where images of the entities are, in files alone.

    Writes URLs with licences, creators, captions and sizes, the best of each entity first.

    Sources are run one by one, and what all of them found is united. A source that lacks its file
    says so, and the others finish.

    \b
    Example:
      sparqless images find --graph data/sample/graph/entitynet --source commons-p18 \
--out data/sample/images/entitynet
      sparqless images find --graph data/sample/graph/entitynet --store data/sample/store \
--source commons-p18,commons-depicts,commons-sizes,commons-credits \
--mediainfo data/sample/commons-mediainfo.json.gz --image data/sample/commonswiki-image.sql.gz \
--out data/sample/images/entitynet
    """
    from download.find import Options, find
    from download.report import rows

    options = Options(
        sources=tuple(name.strip() for name in names.split(",") if name.strip()),
        given={
            name.replace("_", "-"): (value,) if isinstance(value, str) else tuple(value or ())
            for name, value in given.items()
        },
        store=store,
        commons=commons,
        shorter_side=shorter_side,
        workers=workers,
        max_rejects=max_rejects,
        allow_damage=allow_damage,
        fresh=fresh,
        quiet=quiet,
    )
    manifest = find(graph, out, options)
    if as_json:
        found = {name: manifest[name] for name in ("counts", "failed", "left_out", "warnings")}
        _print_json({"out": str(out), **found, "seconds": manifest["seconds"]["all"]})
    else:
        for warning in manifest["warnings"]:
            click.echo(f"Warning: {warning}", err=True)
        if not quiet:
            _table(rows(out, manifest))
    if manifest["failed"]:
        raise UserError("\n".join(f"{name}: {why}" for name, why in manifest["failed"].items()))


@images.command(name="count")
@_images
@click.option(
    "--at-least",
    metavar="N,N,…",
    default="1,10,100",
    show_default=True,
    help="Count the entities with so many images.",
)
@_path("--picture", "File to draw to: .svg, .png, .jpg or .pdf.")
@_quiet
@_json
def images_count(
    images: Path, at_least: str, picture: Path | None, quiet: bool, as_json: bool
) -> None:
    """Count what was found, before an image is downloaded.

    By source and root: entities, those with at least so many images, images, distinct files, and
    the median of those that have any; where a source keeps to a cap, before it, too. In a pipe a
    line is source, before or after the cap, root, name, then these figures, with tabs between
    them. --json also has licences, types and the histogram of each.

    \b
    Example:
      sparqless images count --images data/sample/images/entitynet
      sparqless images count --images data/sample/images/entitynet --picture images.svg
    """
    from download.count import count, steps_of
    from download.count_picture import draw
    from download.count_report import as_lines, as_plain, lines, terminal
    from download.figures import format_of

    if picture is not None:
        format_of(picture)  # before the work
    found = count(images, steps_of(at_least), quiet=quiet)
    if picture is not None:
        draw(found, picture)
    if as_json:
        _print_json(as_plain(found))
    elif not quiet:
        width, blocks = terminal(sys.stdout)
        for line in lines(found, width, blocks=blocks) if width else as_lines(found):
            click.echo(line)


@images.command(name="fetch")
@_images
@_contact
@click.option(
    "--retry",
    type=click.Choice(["transient", "permanent", "refused"]),
    multiple=True,
    help="Ask again for what ended so in an earlier run.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Ask nobody; say how much there is to ask for, of which hosts, how long it takes at "
    "least, and how much disk.",
)
@click.option(
    "--limit",
    type=click.IntRange(1),
    metavar="URLS",
    help="A first look: only the best URLs, of all hosts; the next run goes on from there.",
)
@click.option(
    "--tries",
    type=click.IntRange(1),
    default=4,
    show_default=True,
    help="Attempts at a URL in one run.",
)
@click.option(
    "--connections",
    type=click.IntRange(1),
    default=256,
    show_default=True,
    help="Requests under way at most; --manners says how many to one host.",
)
@_path("--manners", "File of how hosts are asked.  [download/fetch/manners.toml]")
@click.option(
    "--max-bytes",
    type=click.IntRange(1),
    default=64,
    show_default=True,
    metavar="MIB",
    help="Largest file to fetch.",
)
@click.option(
    "--deadline",
    type=click.FloatRange(1),
    default=120,
    show_default=True,
    metavar="SECONDS",
    help="Longest time for a file.",
)
@click.option(
    "--resolve",
    multiple=True,
    metavar="HOST:ADDR[:PORT]",
    help="Address of a host, in place of the DNS's; *.HOST for all below it.",
)
@click.option(
    "--allow-host",
    multiple=True,
    metavar="HOST",
    help="A host (*.HOST, an address) that may be on a private network.",
)
@_path("--ca-file", "Certificates to trust besides the system's.")
@_workers
@_engine
@_ray_address
@_quiet
@_json
def images_fetch(
    images: Path,
    contact: str | None,
    retry: tuple[str, ...],
    dry_run: bool,
    limit: int | None,
    tries: int,
    connections: int,
    manners: Path | None,
    max_bytes: int,
    deadline: float,
    resolve: tuple[str, ...],
    allow_host: tuple[str, ...],
    ca_file: Path | None,
    workers: int,
    engine: Literal["local", "ray"],
    ray_address: str | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Fetch what was found: politely, safely, each URL once.

    Asks no host more often than it likes (robots.txt, Retry-After, --manners), goes to no private
    address, and stores nothing but images. --dry-run says before how long it will take. A killed
    run goes on where it stopped when the same command is run again; what failed for now is asked
    for again with --retry transient.

    \b
    Example:
      sparqless images fetch --images data/sample/images/entitynet --dry-run
      sparqless images fetch --images data/sample/images/entitynet --contact you@example.org
    """
    from download.fetch.forecast import announcement
    from download.fetch.forecast import lines as forecast_lines
    from download.fetch.http import Limits
    from download.fetch.report import finished_run, lines
    from download.fetch.run import Options, fetch, foresee

    _check_engine(engine, ray_address)
    options = Options(
        contact=contact,
        retry=retry,
        limit=limit or 0,
        workers=workers,
        tries=tries,
        connections=connections,
        manners=manners,
        limits=Limits(max_bytes=max_bytes << 20, deadline=deadline),
        resolve=resolve,
        allow_host=allow_host,
        ca_file=ca_file,
        engine=engine,
        ray_address=ray_address or "auto",
        quiet=quiet,
    )
    if dry_run:
        foreseen = foresee(images, options)
        if as_json:
            _print_json({"images": str(images), **foreseen})
        elif not quiet:
            for line in forecast_lines(foreseen):
                click.echo(line)
        return

    def announce(foreseen: dict[str, Any]) -> None:
        if not quiet:
            click.echo(announcement(foreseen), err=True)

    before = finished_run(images)
    manifest = fetch(images, options, announce)
    if as_json:
        found = {name: manifest[name] for name in ("counts", "hosts", "seconds")}
        _print_json({"images": str(images), **found})
    elif not quiet:
        for line in lines(images, manifest, before):
            click.echo(line)


@images.command(name="pack")
@_images
@click.option(
    "--out", required=True, metavar="DIR", help="Directory of shards, or s3://… and the like."
)
@_path("--graph", "The data set; without it KEY.json lacks texts of queries and natural types.")
@click.option(
    "--size",
    type=click.IntRange(16, 4096),
    default=256,
    show_default=True,
    metavar="PIXELS",
    help="The shorter side; nothing is enlarged.",
)
@click.option(
    "--quality",
    type=click.IntRange(1, 95),
    default=95,
    show_default=True,
    help="Of the JPEGs that are written.",
)
@click.option(
    "--min-side",
    type=click.IntRange(1),
    default=64,
    show_default=True,
    metavar="PIXELS",
    help="Least shorter side of an original.",
)
@click.option(
    "--max-aspect",
    type=click.FloatRange(1),
    default=8,
    show_default=True,
    help="Longer side over shorter, at most.",
)
@click.option("--keep-blank", is_flag=True, help="Keep pictures of one colour.")
@click.option("--keep-text", is_flag=True, help="Keep pages of text.")
@click.option(
    "--against",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="DIR|FILE",
    help="Drop what also stands in these: folders or shards of images, hashes.",
)
@click.option(
    "--val",
    type=click.FloatRange(0, 1),
    default=0.01,
    show_default=True,
    help="Share of the images that is for validation.",
)
@click.option(
    "--test",
    type=click.FloatRange(0, 1),
    default=0.01,
    show_default=True,
    help="Share of the images that is for tests.",
)
@_path("--splits-from", "Earlier shards, whose images stay in their splits.")
@click.option(
    "--shard-count",
    type=click.IntRange(1),
    default=10_000,
    show_default=True,
    help="Images of a shard, at most.",
)
@click.option(
    "--shard-size",
    type=click.IntRange(1),
    default=1000,
    show_default=True,
    metavar="MB",
    help="Size of a shard, at most.",
)
@click.option("--unfinished", is_flag=True, help="Pack what a fetch that goes on has got so far.")
@_path("--picture", "File to draw to: .png, .jpg, .svg or .pdf.")
@_workers
@_engine
@_ray_address
@click.option("--fresh", is_flag=True, help="Decode all anew, also what stands there.")
@_quiet
@_json
def images_pack(
    images: Path,
    out: str,
    graph: Path | None,
    size: int,
    quality: int,
    min_side: int,
    max_aspect: float,
    keep_blank: bool,
    keep_text: bool,
    against: tuple[Path, ...],
    val: float,
    test: float,
    splits_from: Path | None,
    shard_count: int,
    shard_size: int,
    unfinished: bool,
    picture: Path | None,
    workers: int,
    engine: str,
    ray_address: str | None,
    fresh: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Pack what was fetched into webdataset shards.

    Decodes each file once, drops what is of no use, unites what looks the same, keeps it together
    in one of train, val and test, and writes who made each image and under which licence. Equal
    files and options give equal bytes.

    \b
    Example:
      sparqless images pack --images data/sample/images/entitynet \
--out data/sample/images/entitynet/shards
    """
    from download.figures import format_of
    from download.pack.image import ImageOptions
    from download.pack.report import draw_pack, rows
    from download.pack.run import Options, pack
    from etl.cluster import Cluster

    if picture is not None:
        format_of(picture)  # before the work
    _check_engine(engine, ray_address)
    options = Options(
        image=ImageOptions(
            size=size,
            quality=quality,
            min_side=min_side,
            max_aspect=max_aspect,
            drop_blank=not keep_blank,
            drop_text=not keep_text,
        ),
        val=val,
        test=test,
        splits_from=splits_from,
        against=against,
        graph=graph,
        shard_count=shard_count,
        shard_size=shard_size * 1_000_000,
        unfinished=unfinished,
        workers=workers,
        cluster=Cluster(ray_address or "auto") if engine == "ray" else None,
        fresh=fresh,
        quiet=quiet,
    )
    manifest = pack(images, out, options)
    if picture is not None:
        draw_pack(images, out, manifest, picture)
    if as_json:
        found = {name: manifest[name] for name in ("counts", "warnings", "seconds")}
        _print_json({"out": out, **found})
        return
    for warning in manifest["warnings"]:
        click.echo(f"Warning: {warning}", err=True)
    if not quiet:
        _table(rows(out, manifest))


@images.command(name="sources")
@_json
def images_sources(as_json: bool) -> None:
    """List the sources of images, and the files they want.

    \b
    Example:
      sparqless images sources --json
    """
    from download.report import described_sources
    from download.sources import sources

    found = sources()
    if as_json:
        _print_json(
            [
                {"name": s.name, "what": s.what, "options": [o.name for o in s.options]}
                for s in found.values()
            ]
        )
        return
    for line in described_sources(found.values()):
        click.echo(line)


_changes = click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="KEY=VALUE",
    help="Another value in CONFIG, such as train.lr=1e-3.",
)


@cli.command(name="texts")
@click.argument("key", metavar="KEY")
@_graph
@_path("--images", "Directory of images, or of their shards, for the key of an image.")
@_limit(30)
@click.option(
    "--draw",
    type=click.IntRange(1),
    metavar="N",
    help="Print instead what is drawn in N epochs, one by one.",
)
@click.option(
    "--epoch", type=click.IntRange(0), default=0, show_default=True, help="The first of these."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of what is drawn.")
@click.option(
    "--config",
    default="vit-b-32",
    show_default=True,
    metavar="CONFIG",
    help="A run's options of texts: a shipped config or a .toml file, such as RUN/config.toml.",
)
@_changes
@_json
def texts_command(
    key: str,
    graph: Path,
    images: Path | None,
    limit: int,
    draw: int | None,
    epoch: int,
    seed: int,
    config: str,
    changes: tuple[str, ...],
    as_json: bool,
) -> None:
    """Show what an image is told to be in training, and how likely.

    KEY is that of an image in images.parquet, the id of an entity or the hash of a query. Each text
    comes with its probability and where it is from; docs/texts.md explains these. A config's filter
    of images isn't looked at.

    \b
    Example:
      sparqless texts Q144 --graph data/sample/graph/entitynet
      sparqless texts Q144 --graph data/sample/graph/entitynet --draw 5 --seed 1
      sparqless texts Q144 --graph data/sample/graph/entitynet --set text.noun_names=0.9
    """
    from training.config import load
    from training.given import text_table
    from training.text_show import as_plain, lines, show

    options = text_table(load(config, changes).text).options
    shown = show(key, graph, images, options, draw=draw or 0, epoch=epoch, seed=seed)
    if as_json:
        _print_json(as_plain(shown, limit))
        return
    for line in lines(shown, limit):
        click.echo(line)


def _shards(*, required: bool) -> Callable[[Any], Any]:
    return click.option(
        "--images",
        required=required,
        metavar="DIR",
        help="Directory of images, or of their shards: here, or s3://… and the like.",
    )


@cli.command(name="train")
@click.argument("config", metavar="CONFIG")
@_shards(required=True)
@_graph
@_path("--out", "Directory of the run.", required=True)
@_changes
@click.option("--fresh", is_flag=True, help="Remove the run that stands in --out and start over.")
@_quiet
@_json
def train_command(
    config: str,
    images: str,
    graph: Path,
    out: Path,
    changes: tuple[str, ...],
    fresh: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Train CLIP on images and their texts.

    CONFIG is tiny, vit-b-32, vit-b-16 or a .toml file of your own. A run that was stopped goes on
    where it was when the same command is run again. SIGTERM and Ctrl-C save first; the exit code
    of SIGTERM then is 75. For several GPUs or nodes: torchrun --no-python … sparqless train …

    \b
    Example:
      sparqless train tiny --images data/sample/images/entitynet \
--graph data/sample/graph/entitynet --out data/runs/tiny --set train.batch=16 --set train.epochs=2
    """
    from training.config import load

    settings = load(config, changes)
    try:
        from training.inputs import Shards
        from training.meanwhile import judge_of
        from training.report import rows
        from training.train import train
    except ModuleNotFoundError as error:
        raise _lacking_torch(error) from error
    warn = _silent if quiet else _warn
    source = Shards(settings, images, graph, quiet=quiet, warn=warn)
    judge = judge_of(source, settings.evaluate, warn)
    ended = train(settings, source, out, judge=judge, fresh=fresh, quiet=quiet, warn=warn)
    if as_json and ended.is_first:
        found = {"out": str(out), "state": ended.how, "step": ended.step, "steps": ended.steps}
        _print_json({**found, "checkpoint": str(ended.checkpoint), "metrics": ended.metrics})
    elif ended.is_first and not quiet:
        _table(rows(out, ended))
    if ended.how == "stopped":
        _leave(ended.signal)


@cli.command(name="ablate")
@click.argument("config", metavar="CONFIG")
@_shards(required=True)
@_graph
@_path("--out", "Directory of the runs.", required=True)
@_changes
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True, help="Of each mix.")
@click.option(
    "--templates",
    default="openai",
    show_default=True,
    metavar="WHICH",
    help="Sentences for a name, as of `sparqless evaluate`.",
)
@click.option("--fresh", is_flag=True, help="Remove the runs that stand in --out and start over.")
@_quiet
@_json
def ablate_command(
    config: str,
    images: str,
    graph: Path,
    out: Path,
    changes: tuple[str, ...],
    seeds: int,
    templates: str,
    fresh: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Train on alt texts, the graph's, and both; say which is better.

    EntityNet's ablation on images of your own: each mix with each seed, evaluated on what is held
    out, in a table and a picture. It goes on where it was when the same command is run again, and
    takes in what `sparqless evaluate --run OUT/mix-seed-0 …` has added to every run since.

    \b
    Example:
      sparqless ablate tiny --images data/sample/images/entitynet \
--graph data/sample/graph/entitynet --out data/runs/mixes --seeds 1 --set train.steps=2
    """
    try:
        from training.ablation import Ablation, ablate, table
    except ModuleNotFoundError as error:
        raise _lacking_torch(error) from error
    asked = Ablation(config, images, graph, out, changes, seeds, templates, fresh, quiet)
    first = not quiet and os.environ.get("RANK", "0") == "0"
    say = partial(click.echo, err=True) if first else _silent
    ended, found = ablate(asked, _silent if quiet else _warn, say)
    if ended.is_first and as_json:
        _print_json({"state": ended.how, "rows": [row._asdict() for row in found]})
    elif ended.is_first and found and not quiet:
        click.echo("\n".join(table(found, seeds)))
    if ended.signal:
        say("Stopped. Run the same command again to go on.")
    _leave(ended.signal)


def _leave(number: int) -> None:
    """Ends the command by the signal that has stopped its training, if one has."""
    if number:
        click.get_current_context().exit(_STOPPED if number == SIGTERM else 130)


def _warn(sentence: str) -> None:
    click.echo(f"Warning: {sentence}", err=True)


def _silent(_: str) -> None:
    return


def _lacking_torch(error: ModuleNotFoundError) -> Exception:
    """What to say where the libraries of the extra `train` aren't there."""
    name = (error.name or "").partition(".")[0]
    if name not in ("torch", "torchvision", "open_clip", "safetensors", "huggingface_hub"):
        return error
    return UserError(
        f"training needs {name}, which isn't installed: install torch and torchvision as torch's "
        "own instructions say for your machine, then the extra: pip install -e '.[train]'."
    )


_run = _path("--run", "Directory of a training run.")


@cli.command(name="evaluate")
@_run
@click.option(
    "--model",
    metavar="MODEL",
    help="Instead of a run: a directory in open_clip's layout, a name of its models, a config.",
)
@_path("--weights", "The weights of a model that is given by its name: .safetensors or .pt.")
@click.option(
    "--pretrained-tag",
    default="",
    metavar="TAG",
    help="What open_clip calls these weights (openai, …): sets pixels and activation as they want.",
)
@_shards(required=False)
@click.option(
    "--split",
    "splits",
    multiple=True,
    type=click.Choice(["val", "test", "train"]),
    help="Of the images; may be repeated.  [val, test]",
)
@_path("--folders", "Instead: a directory with one of images for each class.")
@_path("--graph", "Data set: names of classes, their roots, and what is above them.")
@_path("--store", "The store of the data set, for accuracy by taxon rank.")
@click.option(
    "--classes",
    default="shown",
    show_default=True,
    metavar="WHICH",
    help="To choose from: shown (on any image), all (of --graph), or a .txt, .csv or .json.",
)
@click.option(
    "--templates",
    default="openai",
    show_default=True,
    metavar="WHICH",
    help="Sentences for a name: openai (the 80 for ImageNet), none, or a file.",
)
@click.option(
    "--names",
    type=click.Choice(["name", "all", "synonyms"]),
    default="name",
    show_default=True,
    help="Ask by a class's name, the mean of all its names, or that of the others.",
)
@click.option("--types", is_flag=True, help='Add the natural type: "…, a type of mammal.".')
@click.option(
    "--texts",
    type=click.IntRange(0),
    default=5,
    show_default=True,
    help="Texts of an image for retrieval, at most; 0: no retrieval.",
)
@click.option(
    "--limit",
    type=click.IntRange(1),
    metavar="N",
    help="The first N images of each, by digest.  [all]",
)
@click.option("--batch", type=click.IntRange(1), default=256, show_default=True, help="Images.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, …")
@click.option(
    "--precision", type=click.Choice(["fp32", "bf16"]), default="fp32", show_default=True,
    help="What the network works in.",
)  # fmt: skip
@_path("--picture", "File for a picture of what was taken for what: .svg, .png, .jpg or .pdf.")
@click.option("--name", help="What the run keeps the results as.  [the images and templates]")
@_path("--out", "File for the results, beside the run's own.")
@_workers
@_quiet
@_json
def evaluate_command(
    run: Path | None,
    model: str | None,
    weights: Path | None,
    pretrained_tag: str,
    images: str | None,
    splits: tuple[str, ...],
    folders: Path | None,
    graph: Path | None,
    store: Path | None,
    classes: str,
    templates: str,
    names: Literal["name", "all", "synonyms"],
    types: bool,
    texts: int,
    limit: int | None,
    batch: int,
    device: str,
    precision: str,
    picture: Path | None,
    name: str | None,
    out: Path | None,
    workers: int,
    quiet: bool,
    as_json: bool,
) -> None:
    """Say how good a model is: zero-shot classification and retrieval.

    On what is held out of the shards (val and test), or on images in directories, as ImageNet has
    them. Ties count against the model; of texts or classes that read the same each is right.

    \b
    Example:
      sparqless evaluate --run data/runs/tiny --images data/sample/images/entitynet \
--graph data/sample/graph/entitynet --split train
    """
    try:
        from training.evaluate import HELD_OUT, Options
        from training.evaluation_report import Saving, evaluate_and_keep, rows
    except ModuleNotFoundError as error:
        raise _lacking_torch(error) from error
    options = Options(
        shards=images,
        folders=folders,
        splits=splits or HELD_OUT,
        graph=graph,
        store=store,
        classes=classes,
        templates=templates,
        names=names,
        types=types,
        texts=texts,
        limit=limit or 0,
        workers=workers,
        quiet=quiet,
    )
    saving = Saving(run=run, name=name, out=out, picture=picture)
    found = evaluate_and_keep(
        model,
        weights,
        options,
        saving,
        tag=pretrained_tag,
        device=device,
        precision=precision,
        batch=batch,
    )
    if as_json:
        _print_json(found.as_json())
        return
    for warning in found.warnings:
        click.echo(f"Warning: {warning}", err=True)
    if not quiet:
        _table(rows(found))


@cli.command()
@click.argument("entity_id", metavar="ID")
@_path("--store", "Directory of the store; asks the rules, one by one.")
@click.option("--recipe", help="Whose rules.  [entitynet, or the data set's own]")
@_path("--graph", "Directory of a data set; asks what was built. With --store, why not, too.")
@_json
def explain(
    entity_id: str, store: Path | None, recipe: str | None, graph: Path | None, as_json: bool
) -> None:
    """Say why an item belongs to a root, or which rule kept it out.

    \b
    Example:
      sparqless explain Q144 --store data/sample/store --recipe world
      sparqless explain Q144 --store data/sample/store --graph data/sample/graph/entitynet
    """
    from graph.explain import explain as explain_rules
    from graph.explain import explain_built
    from graph.recipe import load
    from graph.report import as_plain, described

    if graph is not None and recipe is not None:
        raise UserError("--graph has a recipe of its own; give --recipe with --store alone.")
    if graph is not None:
        found = explain_built(graph, entity_id, store)
    elif store is not None:
        found = explain_rules(store, load(recipe or "entitynet"), entity_id)
    else:
        raise UserError("give --store, --graph or both.")
    if as_json:
        _print_json(as_plain(found))
        return
    for line in described(found):
        click.echo(line)


@cli.command(name="diff")
@click.argument("a", type=click.Path(path_type=Path), metavar="A")
@click.argument("b", type=click.Path(path_type=Path), metavar="B")
@_path("--store-a", "The store of A: says for sure why what came was not there.")
@_path("--store-b", "The store of B: says for sure why what went is gone.")
@_limit(20)
@_json
def diff_command(
    a: Path, b: Path, store_a: Path | None, store_b: Path | None, limit: int, as_json: bool
) -> None:
    """Compare two data sets: what came, went or changed, and why.

    Up to --limit changes of a kind and root are listed. With --json, a line for every change, then
    one for the counts.

    \b
    Example:
      sparqless graph --store data/sample/store --recipe living --out data/sample/graph/living
      sparqless diff data/sample/graph/entitynet data/sample/graph/living
    """
    from graph.diff import described, diff, plain

    stores = (store_a, store_b)
    if as_json:
        for change in plain(a, b, stores=stores):
            _print_json(change)
        return
    for line in described(diff(a, b, stores=stores, limit=limit)):
        click.echo(line)


@cli.command()
@_graph
@click.option("--kind", help="Findings of this kind only, such as cycle_subclass.")
@_limit(20, least=0)  # the counts alone
@_json
def quality(graph: Path, kind: str | None, limit: int, as_json: bool) -> None:
    """Count what looks wrong with a data set, and show the worst.

    Cycles, classes that are instances of their superclasses, taxa with several parents, roots
    inside others, names in common and more: all of it is in quality.parquet, explained in
    docs/quality.md. What touches the data set comes first.

    \b
    Example:
      sparqless quality --graph data/sample/graph/entitynet
      sparqless quality --graph data/sample/graph/entitynet --kind cycle_subclass --json
    """
    from graph.read_quality import as_plain, lines, read_quality

    found = read_quality(graph, kind, limit)
    if as_json:
        _print_json(as_plain(found))
        return
    for line in lines(found):
        click.echo(line)


@cli.group()
def export() -> None:
    """Write a data set, shards or a model for other programs.

    \b
    Example:
      sparqless export entitynet --graph data/sample/graph/entitynet --out data/sample/entitynet
    """


@export.command(name="entitynet")
@_graph
@_path("--out", "Directory to write to.", required=True)
@_json
def export_entitynet_command(graph: Path, out: Path, as_json: bool) -> None:
    """Write a data set in the layout of EntityNet's release.

    \b
    Example:
      sparqless export entitynet --graph data/sample/graph/entitynet --out data/sample/entitynet
    """
    from graph.entitynet import export_entitynet

    counts = export_entitynet(graph, out)["counts"]
    if as_json:
        _print_json({"out": str(out), **counts})
        return
    if counts["queries"] is None:
        click.echo(f"Warning: {graph} has no queries; entities were exported alone.", err=True)
    _table((name, f"{n:,}", "") for name, n in counts.items() if n is not None)


@export.command(name="shards")
@_path("--shards", "Directory of shards.", required=True)
@_path("--out", "Directory to write to.", required=True)
@_workers
@_quiet
@_json
def export_shards_command(
    shards: Path, out: Path, workers: int, quiet: bool, as_json: bool
) -> None:
    """Write shards in EntityNet's layout.

    Tars of images alone, with a JSON of metadata beside each: what its own loader reads.

    \b
    Example:
      sparqless export shards --shards data/sample/images/entitynet/shards \
--out data/entitynet-images
    """
    from download.pack.export import export_shards

    manifest = export_shards(shards, out, workers=workers, quiet=quiet)
    if as_json:
        _print_json({"out": str(out), "counts": manifest["counts"]})
    elif not quiet:
        _table((split, f"{n:,}", "images") for split, n in manifest["counts"].items())


@export.command(name="model")
@_path("--run", "Directory of a finished training run.", required=True)
@_path("--out", "Directory to write to.", required=True)
@_path("--images", "The images that it was trained on, or their shards, for the cards.")
@_path("--graph", "The data set that it was trained on, for the cards.")
@click.option("--name", default="", help="What the card calls it.  [the name of --out]")
@click.option("--licence", default="", metavar="ID", help="Of the model, such as apache-2.0.")
@_json
def export_model_command(
    run: Path,
    out: Path,
    images: Path | None,
    graph: Path | None,
    name: str,
    licence: str,
    as_json: bool,
) -> None:
    """Write a run's model for others, with cards of it and of its data.

    In open_clip's layout: it loads with open_clip.create_model_from_pretrained("local-dir:OUT"),
    and `sparqless push` puts it on a hub. Cards say what manifests do.

    \b
    Example:
      sparqless export model --run data/runs/tiny --out data/models/tiny \
--images data/sample/images/entitynet --graph data/sample/graph/entitynet
    """
    try:
        from training.export import export_model
        from training.vision import WHY_NOT
    except ModuleNotFoundError as error:
        raise _lacking_torch(error) from error
    found = export_model(run, out, name=name, shards=images, graph=graph, licence=licence)
    if WHY_NOT:
        click.echo(f"Warning: {WHY_NOT}", err=True)
    outputs = found["outputs"]
    if as_json:
        _print_json({"out": str(out), "outputs": outputs})
        return
    _table((file, f"{made['bytes']:,}", "bytes") for file, made in outputs.items())


@export.command(name="table")
@_graph
@click.option(
    "--table",
    required=True,
    type=click.Choice(["entities", "memberships", "hierarchy", "attributes", "queries", "quality"]),
    help="Which one.",
)
@click.option(
    "--format",
    "format_",
    default="jsonl",
    show_default=True,
    type=click.Choice(["jsonl", "csv", "graphml"]),
    help="csv guards cells that look like formulas; graphml is for the hierarchy.",
)
@click.option(
    "--out",
    required=True,
    metavar="FILE",
    help="File to write, folders and all; - for standard output.",
)
def export_table_command(graph: Path, table: str, format_: str, out: str) -> None:
    """Write a table of a data set as JSON lines, CSV or GraphML.

    \b
    Example:
      sparqless export table --graph data/sample/graph/entitynet --table entities --out -
    """
    from graph.export import export_table, write_table

    if out == "-":
        # whatever the locale says, and with newlines as they are written
        with open(1, "w", encoding="utf-8", newline="", closefd=False) as stdout:
            done = write_table(graph, table, format_, stdout)
    else:
        done = export_table(graph, table, format_, Path(out))
        click.echo(f"{out}: {done.rows:,} {'elements' if format_ == 'graphml' else 'rows'}")
    if done.guarded:
        click.echo(
            f"{done.guarded:,} cells begin as a formula would and got an apostrophe in front; "
            "jsonl has them as they are.",
            err=True,
        )


@cli.command(name="push")
@click.argument("directory", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--repo", required=True, metavar="NAME", help="Repository: you/name, or name alone.")
@click.option("--private", is_flag=True, help="If it is made, make it private.  [public]")
@click.option("--message", default="", help="Of the commit.")
@click.option("--dry-run", is_flag=True, help="Say what would be put there, and do nothing.")
@_json
def push_command(
    directory: Path, repo: str, private: bool, message: str, dry_run: bool, as_json: bool
) -> None:
    """Put an exported model on the Hugging Face hub.

    DIR is what `sparqless export model` wrote. Log in first (`hf auth login`, or HF_TOKEN);
    HF_ENDPOINT names another hub.

    \b
    Example:
      sparqless push data/models/tiny --repo you/tiny --dry-run
    """
    from training.push import push

    def say(line: str) -> None:
        click.echo(line, err=True)

    try:
        done = push(directory, repo, private=private, message=message, dry_run=dry_run, say=say)
    except ModuleNotFoundError as error:
        raise _lacking_torch(error) from error
    if as_json:
        _print_json({"repo": repo, "files": done.files, "commit": done.commit})
        return
    _table((name, f"{size:,}", "bytes") for name, size in done.files.items())
    click.echo(done.commit or f"Nothing was put into {repo}: leave --dry-run out.")


@cli.command(name="gaps")
@_store
@_recipe
@click.option(
    "--min-sitelinks",
    type=click.IntRange(0),
    default=10,
    show_default=True,
    help="Fewer, and an item isn't popular.",
)
@_limit(20)
@click.option(
    "--all", "everything", is_flag=True, help="Set nothing aside, find no class too general."
)
@_json
def gaps_command(
    store: Path, recipe: str, min_sitelinks: int, limit: int, everything: bool, as_json: bool
) -> None:
    """Find popular items that match no root, by the class above them.

    \b
    Example:
      sparqless gaps --store data/sample/store --recipe living --limit 5
    """
    from dataclasses import asdict

    from graph.gaps import described, gaps
    from graph.recipe import load

    found = gaps(
        store,
        load(recipe),
        min_sitelinks=min_sitelinks,
        limit=limit,
        everything=everything,
        quiet=as_json,
    )
    if as_json:
        _print_json(asdict(found))
        return
    for line in described(found):
        click.echo(line)


@cli.command()
@click.argument("entity_id", metavar="ID")
@click.option("--path", required=True, help="A SPARQL property path, such as P279* or ^P31.")
@_store
@click.option("--names", is_flag=True, help="Print a tab and the label after each id.")
@_json
def closure(entity_id: str, path: str, store: Path, names: bool, as_json: bool) -> None:
    """Print every x with `x PATH ID`, as the query service would.

    \b
    Example:
      sparqless closure Q729 --path 'P279*' --store data/sample/store
    """
    from etl.show import labels
    from graph.closure import closure as find

    found = find(store, entity_id, path)
    if found.target != entity_id:
        click.echo(f"{entity_id} was merged into {found.target}.", err=True)
    if not found.target_known:
        click.echo(f"Warning: {found.target} itself is not in {store}.", err=True)
    if as_json and names:
        _print_json([{"id": id_, "label": label} for id_, label in labels(store, found)])
    elif as_json:
        _print_json(list(found))
    elif names:
        for id_, label in labels(store, found):
            click.echo(f"{id_}\t{label}")
    else:
        for id_ in found:
            click.echo(id_)


@cli.command()
@click.argument("entity_id", metavar="ID")
@_store
@_json
def entity(entity_id: str, store: Path, as_json: bool) -> None:
    """Print what a store holds of one item or property.

    \b
    Example:
      sparqless entity Q144 --store data/sample/store
    """
    from etl.show import as_plain, described, find
    from etl.store import EntityStore

    with EntityStore(store) as opened:
        record = find(opened, entity_id)
        if as_json:
            _print_json(as_plain(record, entity_id))
            return
        for line in described(record, opened, entity_id):
            click.echo(line)


@cli.command()
@click.argument("text")
@_store
@click.option(
    "--prefix",
    is_flag=True,
    help="Names that begin with TEXT, too; a space at its end ends the word.",
)
@click.option(
    "--language", "languages", multiple=True, metavar="CODE", help="Names in this language only."
)
@_limit(20)
@_json
def find(
    text: str, store: Path, prefix: bool, languages: tuple[str, ...], limit: int, as_json: bool
) -> None:
    """Look up entities by label or alias, whatever their case.

    In a pipe a line is id, label, description, sitelinks and, where the label is another, the
    name that matched, with tabs between them.

    \b
    Example:
      sparqless find dog --store data/sample/store
    """
    from dataclasses import asdict
    from shutil import get_terminal_size

    from etl.find import find as look_up
    from etl.find import lines, note

    answer = look_up(store, text, prefix=prefix, languages=languages, limit=limit)
    if as_json:
        _print_json([asdict(found) for found in answer.found])
    else:
        width = get_terminal_size().columns if sys.stdout.isatty() else 0
        for line in lines(answer, width):
            click.echo(line)
    remark = note(answer)
    if remark:
        click.echo(remark, err=True)
    if not answer.found:
        how = "begins with" if prefix else "is"
        raise UserError(
            f"no name in {store} {how} {text!r}; "
            + ("try a shorter beginning." if prefix else "--prefix finds what begins so.")
        )


@cli.command()
@click.argument("directory", type=click.Path(path_type=Path), metavar="DIR")
@_json
def verify(directory: Path, as_json: bool) -> None:
    """Check that a directory still is what was written.

    \b
    Example:
      sparqless verify data/sample/store
    """
    from etl.verify import verify as check

    checks = check(directory)
    wrong = [c for c in checks if c.problem]
    if as_json:
        _print_json([_fields(c) for c in checks])
    else:
        for c in checks:
            click.echo(f"{c.name}: {c.problem or 'ok'}")
    if wrong:
        raise UserError(
            f"{directory} is not what was written: {', '.join(c.name for c in wrong)}. Copy it "
            "again, or make it again from the step before."
        )


def main() -> None:
    """Entry point of the console command."""
    cli(prog_name="sparqless")


if __name__ == "__main__":
    main()
