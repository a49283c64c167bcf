"""Ways to spoil a file: each takes a `random.Random` and the bytes of a sound file, and returns others."""

from __future__ import annotations

import gzip
import json
import re
import struct
from collections.abc import Callable
from random import Random
from typing import Any

from safetensors.torch import load

from distill_cli.runs.training_checkpoint import checksum

Mutation = Callable[[Random, bytes], bytes]

HUGE = (b"99999999999", b"4294967296", b"2147483648", b"1e308", b"-1e39", b"9" * 400, b"1e-320", b"-9223372036854775809")
NOT_FINITE = (b"nan", b"NaN", b"inf", b"-inf", b"Infinity", b"1e999")
ODD_TEXT = (
    b"",
    b" ",
    b"\x00",
    b"-1",
    b"0",
    b"'",
    b'"',
    b'"""',
    b"=1+1",
    b"<script>",
    b"\xff",
    "é".encode("latin-1"),
    b"0x10",
    b"1_0",
    b"1,2",
)
ESCAPES = (b"../escaped", b"../../escaped", b"/proc/self/mem", b"..", b"a/../../escaped", b"/dev/zero", b"escaped\x00.hea")
NUMBER = re.compile(rb"-?\d+(?:\.\d+)?")
WORD = re.compile(rb"[^\s,]+")
MEGABYTE = 1 << 20


# --- any file --------------------------------------------------------------------------------------------------------


def flip_bits(draw: Random, data: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(draw.choice((1, 3, 20)) if out else 0):
        out[draw.randrange(len(out))] ^= 1 << draw.randrange(8)
    return bytes(out)


def truncate(draw: Random, data: bytes) -> bytes:
    return data[: draw.randrange(len(data) or 1)]


def empty(draw: Random, data: bytes) -> bytes:
    return b""


def noise(draw: Random, data: bytes) -> bytes:
    return draw.randbytes(draw.choice((1, 8, 200, len(data) or 1)))


def insert_bytes(draw: Random, data: bytes) -> bytes:
    at = draw.randrange(len(data) + 1)
    return data[:at] + draw.randbytes(draw.choice((1, 4, 64))) + data[at:]


def drop_bytes(draw: Random, data: bytes) -> bytes:
    at = draw.randrange(len(data) or 1)
    return data[:at] + data[at + draw.choice((1, 4, 64)) :]


def append_bytes(draw: Random, data: bytes) -> bytes:
    return data + draw.choice((b"\x00", b"\n", b"\xff" * 100, b"\x00" * 100_000, data))


def begin_with_noise(draw: Random, data: bytes) -> bytes:
    size = min(len(data), draw.choice((4, 8, 16, 64)))
    return draw.randbytes(size) + data[size:]


ANY: tuple[Mutation, ...] = (
    flip_bits,
    truncate,
    empty,
    noise,
    insert_bytes,
    drop_bytes,
    append_bytes,
    begin_with_noise,
)


# --- text ------------------------------------------------------------------------------------------------------------


def drop_lines(draw: Random, data: bytes) -> bytes:
    lines = data.splitlines(keepends=True)
    for _ in range(draw.choice((1, 2, len(lines) // 2))):
        if lines:
            lines.pop(draw.randrange(len(lines)))
    return b"".join(lines)


def duplicate_lines(draw: Random, data: bytes) -> bytes:
    lines = data.splitlines(keepends=True)
    for _ in range(draw.choice((1, 3))):
        at = draw.randrange(len(lines))
        lines[at:at] = [lines[at]] * draw.choice((1, 2, 50))
    return b"".join(lines)


def shuffle_lines(draw: Random, data: bytes) -> bytes:
    lines = data.splitlines(keepends=True)
    draw.shuffle(lines)
    return b"".join(lines)


def keep_first_lines(draw: Random, data: bytes) -> bytes:
    return b"".join(data.splitlines(keepends=True)[: draw.choice((1, 2, 3, 4, 5, 8))])


def _replaced(draw: Random, data: bytes, what: re.Pattern[bytes], by: bytes) -> bytes:
    found = list(what.finditer(data))
    # The first line is a header in most formats: it is hit as often as all others.
    first = [m for m in found if m.start() < (data.find(b"\n") % (len(data) + 1))]
    if not found:
        return data + by
    hit = draw.choice(first if first and draw.random() < 0.5 else found)
    return data[: hit.start()] + by + data[hit.end() :]


def huge_number(draw: Random, data: bytes) -> bytes:
    return _replaced(draw, data, NUMBER, draw.choice(HUGE))


def not_finite(draw: Random, data: bytes) -> bytes:
    return _replaced(draw, data, NUMBER, draw.choice(NOT_FINITE))


def odd_text(draw: Random, data: bytes) -> bytes:
    return _replaced(draw, data, WORD if draw.random() < 0.5 else NUMBER, draw.choice(ODD_TEXT))


def long_word(draw: Random, data: bytes) -> bytes:
    return _replaced(draw, data, WORD, draw.choice((b"x", b"9", b"(")) * draw.choice((300, 200_000)))


def escaping_name(draw: Random, data: bytes) -> bytes:
    return _replaced(draw, data, WORD, draw.choice(ESCAPES))


def wrong_encoding(draw: Random, data: bytes) -> bytes:
    text = data.decode("latin-1")
    return draw.choice(
        (text.encode("utf-16"), text.encode("utf-32"), b"\xff\xfe" + data, b"\x1f\x8b" + data, gzip.compress(data))
    )


def other_ends_of_lines(draw: Random, data: bytes) -> bytes:
    return data.replace(b"\n", draw.choice((b"\r", b"\r\n", b"\n\n", b"\x0b", b"\x00", b"")))


def other_separator(draw: Random, data: bytes) -> bytes:
    return data.replace(draw.choice((b",", b" ")), draw.choice((b";", b"\t", b",,", b" ")))


TEXT: tuple[Mutation, ...] = (
    *ANY,
    drop_lines,
    duplicate_lines,
    shuffle_lines,
    keep_first_lines,
    huge_number,
    huge_number,
    not_finite,
    not_finite,
    odd_text,
    odd_text,
    long_word,
    escaping_name,
    escaping_name,
    wrong_encoding,
    other_ends_of_lines,
    other_separator,
)


# --- idx -------------------------------------------------------------------------------------------------------------


def promised_size(draw: Random, data: bytes) -> bytes:
    """One of the big-endian sizes of an idx header, which follow the magic number."""
    place = 4 + 4 * draw.randrange(max(1, data[3] if len(data) > 3 else 1))
    size = draw.choice((0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 20, 60_000, 4096))
    return data[:place] + struct.pack(">I", size) + data[place + 4 :]


def promised_sizes(draw: Random, data: bytes) -> bytes:
    sizes = max(1, data[3] if len(data) > 3 else 1)
    return data[:4] + struct.pack(">I", draw.choice((0xFFFFFFFF, 65536, 0, 1000))) * sizes + data[4 + 4 * sizes :]


def other_magic(draw: Random, data: bytes) -> bytes:
    return struct.pack(">I", draw.choice((2049, 2051, 2052, 0, 0x0D03, 0xFFFFFFFF, 0x08FF))) + data[4:]


def bad_label(draw: Random, data: bytes) -> bytes:
    return data[:-1] + bytes([draw.choice((10, 255))])


IDX: tuple[Mutation, ...] = (*ANY, promised_size, promised_size, promised_size, promised_sizes, other_magic, bad_label)


def in_gzip(mutation: Mutation) -> Mutation:
    """Spoil what is packed, and pack it again."""

    def spoil(draw: Random, data: bytes) -> bytes:
        return gzip.compress(mutation(draw, gzip.decompress(data)), mtime=0)

    spoil.__name__ = f"{mutation.__name__} in gzip"
    return spoil


def gzip_bomb(draw: Random, data: bytes) -> bytes:
    """A header that promises a lot, and a few hundred kilobytes that unpack to all of it."""
    plain, megabytes = gzip.decompress(data), draw.choice((100, 300))
    shape = struct.pack(">I", megabytes * MEGABYTE) if plain[3] == 1 else struct.pack(">III", megabytes, 1024, 1024)
    return gzip.compress(plain[:4] + shape + bytes(megabytes * MEGABYTE), compresslevel=1, mtime=0)


def two_members(draw: Random, data: bytes) -> bytes:
    return data + data


IDX_GZIP: tuple[Mutation, ...] = (*ANY, *(in_gzip(m) for m in IDX), gzip_bomb, two_members)


# --- safetensors -----------------------------------------------------------------------------------------------------


def _header(data: bytes) -> tuple[dict[str, Any], bytes]:
    size = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def _file(header: Any, body: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def header_length(draw: Random, data: bytes) -> bytes:
    size = draw.choice((0, 1, 2**31, 2**63, 2**64 - 1, len(data), len(data) - 8, 100_000_000, 1_000))
    return struct.pack("<Q", size) + data[8:]


def _a_tensor(draw: Random, header: dict[str, Any]) -> dict[str, Any]:
    return header[draw.choice([name for name in header if name != "__metadata__"])]


def tensor_shape(draw: Random, data: bytes) -> bytes:
    header, body = _header(data)
    about = _a_tensor(draw, header)
    shapes = [2**40], [2**62, 4], [0], [-1], [], [1] * 1000, ["3"], None, [1, *about["shape"]], [1e9], [2**64]
    about["shape"] = draw.choice(shapes)
    return _file(header, body)


def tensor_type(draw: Random, data: bytes) -> bytes:
    header, body = _header(data)
    _a_tensor(draw, header)["dtype"] = draw.choice(("F64", "I32", "U8", "BF16", "BOOL", "F8_E4M3", "object", None, 3, "I64"))
    return _file(header, body)


def tensor_place(draw: Random, data: bytes) -> bytes:
    header, body = _header(data)
    about = _a_tensor(draw, header)
    places = [0, 2**40], [2**63, 2**63 + 4], [8, 0], [-4, 0], [0], None, [0, 4], ["0", "4"]
    about["data_offsets"] = draw.choice(places)
    return _file(header, body)


def tensor_name(draw: Random, data: bytes) -> bytes:
    header, body = _header(data)
    old = draw.choice([name for name in header if name != "__metadata__"])
    name = draw.choice(
        ("../../escaped", "", "network", "é" * 50, "a\nb", "__class__", old.upper(), "x" * 5000, "preprocessing.mean\x00")
    )
    return _file({name if key == old else key: value for key, value in header.items()}, body)


def tensor_dropped(draw: Random, data: bytes) -> bytes:
    header, body = _header(data)
    header.pop(draw.choice(list(header)))
    return _file(header, body)


def tensor_values(draw: Random, data: bytes) -> bytes:
    """Numbers that are not finite, or huge, in the first weights."""
    header, body = _header(data)
    value = struct.pack("<f", draw.choice((float("nan"), float("inf"), 3e38, -1e30)))
    about = _a_tensor(draw, header)
    begin, end = about["data_offsets"]
    return _file(header, body[:begin] + value * ((end - begin) // 4) + body[begin + 4 * ((end - begin) // 4) :])


def whole_header(draw: Random, data: bytes) -> bytes:
    _, body = _header(data)
    texts = (
        b"{}",
        b"[]",
        b"null",
        b"{",
        b"[" * 50_000,
        b'{"a": {}}',
        b'{"__metadata__": {"state": 3}}',
        b"\xff" * 20,
        b'{"a": 1}' + b" " * 9,
    )
    return _file(draw.choice(texts), body)


def metadata(draw: Random, data: bytes) -> bytes:
    """The texts beside the tensors: of a training state its JSON, of training rows their groups and source."""
    header, body = _header(data)
    about = header.setdefault("__metadata__", {})
    if not about or draw.random() < 0.2:
        header["__metadata__"] = draw.choice(
            ({}, {"state": "{}"}, {"groups": "[" * 20_000}, {"a": 3}, None, [], {"groups": "{}"})
        )
        return _file(header, body)
    key = draw.choice(list(about))
    text = about[key].encode()
    spoiled = draw.choice((huge_number, not_finite, odd_text, flip_bits, truncate, empty, long_word, _json_value))(draw, text)
    about[key] = spoiled.decode("latin-1")
    if key == "state":  # as somebody would who means harm
        about["digest"] = checksum(about[key], load(_file(header, body)))
    return _file(header, body)


def _json_value(draw: Random, text: bytes) -> bytes:
    """One value of JSON for one of another kind."""
    found = list(re.finditer(rb"(?<=[:\[,] )(?:true|false|null|-?\d[\d.e+-]*|\"[^\"]*\"|\{\"tensor\": \"\d+\"\})", text))
    if not found:
        return text
    hit = draw.choice(found)
    by = draw.choice(
        (
            b"null",
            b"true",
            b"-1",
            b"1e999",
            b"NaN",
            b'"x"',
            b"[]",
            b"{}",
            b'{"tensor": "0"}',
            b'{"tensor": "none"}',
            b"[[]]",
            b"7",
            b"2000000000",
            b"0.5",
        )
    )
    return text[: hit.start()] + by + text[hit.end() :]


SAFETENSORS: tuple[Mutation, ...] = (
    flip_bits,
    truncate,
    empty,
    noise,
    insert_bytes,
    append_bytes,
    header_length,
    tensor_shape,
    tensor_type,
    tensor_place,
    tensor_name,
    tensor_dropped,
    tensor_values,
    whole_header,
    metadata,
    metadata,
    metadata,
)


# --- override lines --------------------------------------------------------------------------------------------------

VALUES = (
    "",
    "null",
    "-1",
    "0",
    "1",
    "2",
    "0.5",
    "1e-9",
    "nan",
    "inf",
    "-inf",
    "true",
    "abc",
    "[]",
    "[1,2]",
    "{}",
    "{a: 1}",
    "[[1],[2]]",
    "${seed}",
    "${nothing}",
    "${oc.env:HOME}",
    "${oc.decode:1}",
    "../escaped",
    "/dev/null/x",
    "é",
    "'",
    '"',
    "${",
    "a b",
    "a,b",
    "x" * 5000,
    "[" * 300,
    "1e400",
    "\\",
    "%s",
    "0x10",
    "=",
    "None",
    "[nan]",
    "{_target_: os.system}",
    "os.system",
    "\x7f",
    "a=b",
    "~",
    "+",
    "*",
)
HUGE_VALUES = ("1_000", "1e308", "4294967296", "9" * 40, "-9223372036854775809", "[4294967296]")
# A run that is asked to be long or large is neither a hang nor a fault: these keys get no large numbers.
EFFORT = re.compile(
    r"(epochs|steps|every|batch|resamples|max_gb|max_device_gb|seed|members|views|size|pretrain|rows|threads|n_.*|interval)"
)
PREFIXES = ("", "", "", "", "", "+", "++", "~")


def override(draw: Random, keys: list[str], choices: dict[str, list[str]]) -> str:
    """Return one word for the command line: a key with a value, a choice, or nonsense."""
    kind = draw.random()
    if kind < 0.2:
        group = draw.choice(sorted(choices))
        option = draw.choice([*choices[group], "nothing", "", "../escaped", "null"])
        return f"{draw.choice(PREFIXES)}{group}={option}"
    if kind < 0.3:
        return "".join(draw.choice("abz=+~.@{}[]()$,:'\"\\/ é-_019%#!") for _ in range(draw.randrange(1, 25))).lstrip("-") or "="
    key = draw.choice(keys)
    values = VALUES if EFFORT.search(key) else VALUES + HUGE_VALUES
    if kind < 0.45:
        at = draw.randrange(len(key))
        key = (
            draw.choice((key[:at] + key[at + 1 :], key[:at] + draw.choice("xé.@/") + key[at:], f"{key}.more", key.upper())) or "x"
        )
    prefix = draw.choice(PREFIXES)
    return f"{prefix}{key}" if prefix == "~" else f"{prefix}{key}={draw.choice(values)}"
