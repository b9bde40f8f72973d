"""An exported model → a repository of the Hugging Face hub, for who is logged in there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etl.errors import UserError
from etl.manifest import MANIFEST, read_manifest
from etl.verify import verify
from training.cards import CARDS, EXPORTED, STEP


@dataclass(frozen=True)
class Pushed:
    """What was put there, name → bytes, and the commit's address; "" where nothing was."""

    files: dict[str, int]
    commit: str = ""


def files_of(folder: Path) -> dict[str, int]:
    """What is pushed: name → bytes. Cards may have been edited since, nothing else.

    Raises UserError where the folder is no export, or isn't what was written.
    """
    manifest = read_manifest(folder, STEP)
    names = sorted([*manifest["outputs"], MANIFEST])
    wrong = [
        check.name
        for check in verify(folder)
        if check.problem and not (check.name in CARDS and (folder / check.name).is_file())
    ]
    if wrong:
        raise UserError(
            f"{folder} is not what was written ({', '.join(wrong)}): write it again with "
            "`sparqless export model`."
        )
    return {name: (folder / name).stat().st_size for name in names}


def push(
    folder: Path,
    repo: str,
    *,
    private: bool = False,
    message: str = "",
    dry_run: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Pushed:
    """Puts an export into a repository, which is made where there is none.

    A new one is public unless ``private``; what an earlier push put there and this export lacks is
    removed. ``dry_run`` asks nobody. The token is that of ``hf auth login``, or HF_TOKEN;
    HF_ENDPOINT names another hub.

    Raises UserError where nobody is logged in, the name can't be one, the repository is there
    already and public where ``private`` is wanted, or the hub refuses.
    """
    files = files_of(folder)
    if dry_run:
        return Pushed(files)
    import huggingface_hub
    from huggingface_hub import errors

    token = huggingface_hub.get_token()
    if not token:
        raise UserError(
            "nobody is logged in to the hub: run `hf auth login`, or set HF_TOKEN to a token "
            "that may write."
        )
    hub = huggingface_hub.HfApi(token=token)
    try:
        made = hub.create_repo(repo, private=private or None, exist_ok=True)
        info = hub.model_info(made.repo_id)
        if private and not info.private:
            raise UserError(
                f"{made} is there already, and public: make it private in its settings, name "
                "another --repo, or leave --private out."
            )
        say(f"{made} is {'private' if info.private else 'public'}.")
        there = {file.rfilename for file in info.siblings or ()}
        gone = sorted((EXPORTED & there) - {*files}) if MANIFEST in there else []
        if gone:
            say(f"Removing there what this export lacks: {', '.join(gone)}.")
        found: Any = hub.upload_folder(
            repo_id=made.repo_id,
            folder_path=folder,
            allow_patterns=[_literally(name) for name in files],
            delete_patterns=gone or None,
            commit_message=message or f"A model exported by sparqless ({folder.resolve().name})",
        )
    except errors.HFValidationError as error:
        raise UserError(f"--repo {repo!r} can't be a name there: {error}") from error
    except errors.HfHubHTTPError as error:
        raise UserError(f"{hub.endpoint} refused {repo}: {_said(error)}.") from error
    # the last is of the client below, and what is raised where nobody answers
    except (OSError, ValueError, errors.HTTPError) as error:  # type: ignore[attr-defined]
        raise UserError(f"{hub.endpoint} can't be pushed to: {_said(error)}.") from error
    return Pushed(files, str(found.commit_url))


def _literally(name: str) -> str:
    """A name as a pattern of fnmatch."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def _said(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")[:300] or type(error).__name__
