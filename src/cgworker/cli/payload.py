"""Read JSON from flags, files and stdin, read claims, durations and commands, and write files."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

from attrs import frozen

from cgworker.cli.options import Flag
from cgworker.errors import InvalidRequest, UsageError
from cgworker.private import check_writable, replace_private
from cgworker.wire.converter import ANSWERS, dumps, loads, structure_plain
from cgworker.wire.refs import ClaimToken


@frozen(kw_only=True)
class PayloadFlags:
    """The flags that name the payload; exactly one of them is given."""

    payload_file: Annotated[
        str | None, Flag("--payload-file", metavar="FILE", help="A file with the payload's JSON.")
    ] = None
    payload_json: Annotated[
        str | None, Flag("--payload-json", metavar="JSON", help="The payload itself.")
    ] = None
    payload_stdin: Annotated[bool, Flag("--payload-stdin", help="Read the payload from standard input.")] = (
        False
    )

    @property
    def is_given(self) -> bool:
        """Whether any of the flags is given."""
        return self.payload_stdin or self.payload_file is not None or self.payload_json is not None

    def read(self) -> Any:
        """Read the payload.

        Raises:
            UsageError: no flag is given, or more than one.
            ValueError: the payload is not JSON.
            OSError: the file cannot be read.
        """
        given = (self.payload_file is not None, self.payload_json is not None, self.payload_stdin)
        if sum(given) != 1:
            raise UsageError("give exactly one of --payload-file, --payload-json and --payload-stdin")
        if self.payload_file is not None:
            return read_json(self.payload_file)
        if self.payload_json is not None:
            return parse_json(self.payload_json)
        return parse_json(sys.stdin.buffer.read())


def read_json(path: str) -> Any:
    """Read a JSON file.

    Args:
        path: the file; `~` is the home folder.

    Raises:
        ValueError: the content is not JSON.
        OSError: the file cannot be read.
    """
    return parse_json(Path(path).expanduser().read_bytes())


def parse_json(data: bytes | str) -> Any:
    """Parse JSON without losing digits of numbers.

    Args:
        data: the text; bytes are UTF-8.

    Raises:
        json.JSONDecodeError: the text is not JSON; the message of Python's parser names the place.
        ValueError: the text is not UTF-8, or has NaN or Infinity, which are not JSON.
    """
    text = data if isinstance(data, str) else data.decode()
    try:
        return loads(text)
    except json.JSONDecodeError:
        json.loads(text, parse_constant=_refuse_constant)
        raise


def _refuse_constant(name: str) -> None:
    raise ValueError(f"Out of range float values are not JSON compliant: {float(name)}")


def check_place(path: str | None) -> None:
    """Check that a file can be written, before the command does what the file is to record.

    Args:
        path: the file; None needs no check.

    Raises:
        OSError: its folder cannot be made or written.
    """
    if path is not None:
        check_writable(Path(path).expanduser().parent)


def write_json_file(path: str, value: Any, *, pretty: bool = False) -> None:
    """Write a JSON file atomically with mode 0600, since it may hold a secret.

    Args:
        path: the file; `~` is the home folder.
        value: the value.
        pretty: indent the text and sort its keys.

    Raises:
        OSError: the file cannot be written.
    """
    text = dumps(value, sort_keys=pretty).decode()
    if pretty:
        text = json.dumps(json.loads(text), indent=2, sort_keys=True, ensure_ascii=False)
    replace_private(Path(path).expanduser(), text + "\n")


def read_claim(path: str) -> ClaimToken:
    """Read a claim from a file, which may hold the envelope that `cg worker claim next` prints.

    Args:
        path: the file; `~` is the home folder.

    Raises:
        ValueError: the content is not JSON, or no claim.
        OSError: the file cannot be read.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise ValueError("claim file must contain a JSON object")
    if value.keys() & {"ok", "result", "error"}:
        result = value.get("result")
        value = result.get("claim") if isinstance(result, dict) else None
        if not isinstance(value, dict):
            raise ValueError("claim file envelope must contain result.claim as an object")
    try:
        claim: ClaimToken = structure_plain(ClaimToken, value)
    except InvalidRequest as broken:
        faults = "; ".join(f"{'.'.join(map(str, each['loc'][1:]))}: {each['msg']}" for each in broken.faults)
        raise ValueError(f"invalid claim file: {faults}") from broken
    return claim


def bare(claim: ClaimToken) -> dict[str, Any]:
    """Write a claim as JSON with the fields of the protocol alone, for other clients to read."""
    written: dict[str, Any] = ANSWERS.unstructure(claim, ClaimToken)
    return written


_DURATION = re.compile(r"([0-9]+)([smhd])\Z")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def read_duration(text: str, flag: str) -> int:
    """Read a duration with a unit: 3600s, 60m, 24h, 7d.

    A number without a unit is refused: 30 could mean days, and some commands cannot be undone.

    Args:
        text: the value of the flag.
        flag: the flag, for the message of a failure.

    Returns:
        Seconds.

    Raises:
        UsageError: the text is no duration, or zero.
    """
    match = _DURATION.match(text.strip())
    if match is None:
        raise UsageError(f"{flag} must be a duration like 24h, 60m, or 3600s")
    seconds = int(match[1]) * _SECONDS[match[2]]
    if seconds <= 0:
        raise UsageError(f"{flag} must be greater than zero")
    return seconds


def split_command(words: str) -> tuple[str, ...]:
    """Split the value of `--command`, which holds the rest of the line as one quoted word.

    Args:
        words: the value, quoted as `shlex.join` does.

    Returns:
        The command and its arguments.
    """
    return tuple(shlex.split(words))
