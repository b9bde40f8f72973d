"""An exported model → a repository of the Hugging Face hub, for who is logged in there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from etl.errors import UserError
from etl.manifest import MANIFEST, check_whole, read_manifest
from etl.verify import verify
from training.export import STEP


def files_of(folder: Path) -> dict[str, int]:
    """What is pushed: name → bytes.

    Raises UserError where the folder is no export, or isn't what was written.
    """
    manifest = read_manifest(folder, STEP)
    check_whole(folder, manifest, "write it again with `sparqless export model`")
    wrong = [check.name for check in verify(folder) if check.problem]
    if wrong:
        raise UserError(
            f"{folder} is not what was written ({', '.join(wrong)}): write it again with "
            "`sparqless export model`."
        )
    names = sorted([*manifest["outputs"], MANIFEST])
    return {name: (folder / name).stat().st_size for name in names}


def push(
    folder: Path,
    repo: str,
    *,
    private: bool = False,
    message: str = "",
    say: Callable[[str], None] = lambda _: None,
) -> str:
    """Puts an export into a repository, which is made where there is none; the commit's address.

    The token is that of ``hf auth login``, or HF_TOKEN; HF_ENDPOINT names another hub.

    Raises UserError where nobody is logged in, the name can't be one, or the hub refuses.
    """
    import huggingface_hub
    from huggingface_hub import errors

    files = files_of(folder)
    token = huggingface_hub.get_token()
    if not token:
        raise UserError(
            "nobody is logged in to the hub: run `hf auth login`, or set HF_TOKEN to a token "
            "that may write."
        )
    hub = huggingface_hub.HfApi(token=token)
    try:
        made = hub.create_repo(repo, private=private or None, exist_ok=True)
        say(str(made))
        found: Any = hub.upload_folder(
            repo_id=made.repo_id,
            folder_path=folder,
            allow_patterns=[_literally(name) for name in files],
            commit_message=message or f"A model exported by sparqless ({folder.resolve().name})",
        )
    except errors.HFValidationError as error:
        raise UserError(f"--repo {repo!r} can't be a name there: {error}") from error
    except errors.HfHubHTTPError as error:
        raise UserError(f"{hub.endpoint} refused {repo}: {_said(error)}.") from error
    # the last is of the client below, and what is raised where nobody answers
    except (OSError, ValueError, errors.HTTPError) as error:  # type: ignore[attr-defined]
        raise UserError(f"{hub.endpoint} can't be pushed to: {_said(error)}.") from error
    return str(found.commit_url)


def _literally(name: str) -> str:
    """A name as a pattern of fnmatch."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def _said(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")[:300] or type(error).__name__
