"""What goes wrong, in the words of the person at the keyboard."""

from __future__ import annotations

import errno

_DISK_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


class UserError(Exception):
    """Something the person at the keyboard can mend.

    The message is one or two plain sentences: what is wrong, where (file, offset, line), and
    what to do about it. ``cli.main`` prints it on standard error and exits with 1.
    """


def is_disk_full(error: OSError) -> bool:
    """Whether a write failed for want of room: the disk, a quota, or a limit on a file's size.

    Arrow's errors carry the system's number in their text only.
    """
    text = str(error).lower()
    return error.errno in _DISK_FULL or "no space left" in text or "file too large" in text
